import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import DtypeError, StaticArgumentError
from tests.lax.values import bare


def _grad(f, x):
    return float(bare(fg.grad(f)(np.float64(x))))


def test_the_power_zero_has_derivative_zero_everywhere():
    for x in (0.0, 2.0, np.nan):
        assert _grad(lambda x: lax.integer_pow(x, 0), x) == 0.0
    assert bare(lax.integer_pow(np.array([np.nan, 0.0]), 0)).tolist() == [1.0, 1.0]


def test_square_root_at_zero_has_an_infinite_derivative():
    assert _grad(lax.sqrt, 0.0) == np.inf


def test_integer_powers_of_integers_wrap_and_have_no_negative_exponents():
    x = np.array([3, -3], np.int8)
    assert bare(lax.integer_pow(x, 5)).tolist() == [-13, 13]
    with pytest.raises(DtypeError, match="no negative powers"):
        lax.integer_pow(x, -1)
    with pytest.raises(StaticArgumentError, match="static integer"):
        lax.integer_pow(x, 0.5)


def test_great_odd_exponents_keep_the_sign():
    assert float(bare(lax.integer_pow(np.float32(-1), 2**24 + 1))) == -1.0


def test_negative_powers_do_not_overflow_on_the_way():
    assert float(bare(lax.integer_pow(np.float32(1e20), -2))) == pytest.approx(1e-40, rel=1e-4)


def test_complex_roots_keep_the_branch_of_numpy():
    z = np.array([-1 + 0j, -1 - 0.0j, 2j])
    np.testing.assert_array_equal(bare(lax.sqrt(z)), np.sqrt(z))


def test_powers_equal_products():
    x = np.linspace(-2, 2, 11)
    for y in (1, 2, 3, 6, 9):
        np.testing.assert_allclose(bare(lax.integer_pow(x, y)), x**y, rtol=1e-14)
    np.testing.assert_allclose(bare(lax.integer_pow(x[x != 0], -3)), x[x != 0] ** -3.0)
