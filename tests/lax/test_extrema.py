import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare


@pytest.mark.parametrize("f", [lax.max, lax.min])
def test_ties_share_the_derivative(f):
    assert [float(bare(g)) for g in fg.grad(f, argnums=(0, 1))(1.0, 1.0)] == [0.5, 0.5]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_equal_infinities_share_the_derivative(value):
    x = np.float64(value)
    assert [float(bare(g)) for g in fg.grad(lax.max, argnums=(0, 1))(x, x)] == [0.5, 0.5]


@pytest.mark.parametrize("f", [lax.max, lax.min])
def test_nan_wins(f):
    out = bare(f(np.array([np.nan, 1.0]), np.array([1.0, np.nan])))
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("x", "slopes"),
    [(-2.0, (1, 0, 0)), (-1.0, (0.5, 0.5, 0)), (0.0, (0, 1, 0)), (1.0, (0, 0.5, 0.5)),
     (2.0, (0, 0, 1))],
)  # fmt: skip
def test_clamp_shares_the_derivative_at_its_edges(x, slopes):
    found = fg.grad(lax.clamp, argnums=(0, 1, 2))(np.float64(-1), np.float64(x), np.float64(1))
    assert tuple(float(bare(g)) for g in found) == slopes


def test_the_upper_bound_prevails_and_the_shares_add_up_to_one():
    assert float(bare(lax.clamp(2.0, np.float64(5), 1.0))) == 1.0
    for lo, x, hi in [(1, 1, 1), (2, 0, 1), (2, 5, 1), (0, 0, 3)]:
        slopes = fg.grad(lax.clamp, argnums=(0, 1, 2))(*map(np.float64, (lo, x, hi)))
        assert sum(float(bare(g)) for g in slopes) == 1.0


def test_clamp_takes_python_bounds_and_integers():
    out = lax.clamp(0, np.array([-5, 5, 500], np.int16), 100)
    assert out.dtype == np.int16
    assert bare(out).tolist() == [0, 5, 100]


def test_clamp_equals_its_decomposition():
    x = np.linspace(-2, 2, 9)
    parts = lax.clamp_p.lower.decompose(np.float64(-1), x, np.float64(1))
    np.testing.assert_array_equal(bare(parts), bare(lax.clamp(-1.0, x, 1.0)))


def test_unit_step_is_a_half_at_ties_and_zero_beside_nan():
    x = np.array([1.0, 2.0, 3.0, np.nan, np.inf], np.float32)
    out = lax.unit_step(x, np.array([2, 2, 2, 2, np.inf], np.float32))
    assert out.dtype == np.float32
    assert bare(out).tolist() == [0, 0.5, 1, 0, 0.5]
