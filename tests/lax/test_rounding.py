import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import StaticArgumentError
from tests.lax.values import bare

HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994, 2.0**52 + 1])


def test_halves_round_away_from_zero_or_to_even():
    away = bare(lax.round(HALVES))
    even = bare(lax.round(HALVES, lax.RoundingMethod.TO_NEAREST_EVEN))
    assert away.tolist() == [-3, -2, -1, 1, 2, 3, 0, 2.0**52 + 1]
    assert even.tolist() == [-2, -2, 0, 0, 2, 2, 0, 2.0**52 + 1]


@pytest.mark.parametrize("f", [lax.round, lax.floor, lax.ceil])
def test_special_values_pass_and_zeros_keep_their_sign(f):
    out = bare(f(np.array([np.inf, -np.inf, np.nan, -0.0])))
    assert out[0] == np.inf
    assert out[1] == -np.inf
    assert np.isnan(out[2])
    assert np.signbit(out[3])


@pytest.mark.parametrize("f", [lax.round, lax.floor, lax.ceil])
def test_rounding_has_derivative_zero(f):
    assert float(bare(fg.grad(f)(np.float64(1.3)))) == 0.0


def test_an_unknown_rounding_method_is_refused():
    with pytest.raises(StaticArgumentError, match="rounding_method must be one of"):
        lax.round(HALVES, 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, bfloat16])
def test_nextafter_steps_in_the_dtype_of_its_operands(dtype):
    one = np.ones((), dtype)
    out = bare(lax.nextafter(one, one + one))
    word = f"u{out.dtype.itemsize}"
    assert out.dtype == dtype
    assert int(out.view(word)) == int(one.view(word)) + 1


def test_nextafter_moves_with_its_first_operand():
    x = np.float64(1.5)
    slopes = fg.grad(lax.nextafter, argnums=(0, 1))(x, x + 1)
    assert [float(bare(g)) for g in slopes] == [1.0, 0.0]
