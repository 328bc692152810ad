import sys

import numpy as np
import pytest
import scipy.special

import fgrad as fg
from fgrad import lax
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import RuleError
from tests.lax.values import bare

# name → SciPy's name and the range of the operand
UNARY = {
    "erf": ("erf", -4, 4),
    "erfc": ("erfc", -4, 8),
    "erf_inv": ("erfinv", -0.999, 0.999),
    "lgamma": ("gammaln", 0.05, 30),
    "digamma": ("psi", 0.05, 30),
    "bessel_i0e": ("i0e", -20, 20),
    "bessel_i1e": ("i1e", -20, 20),
}


def _ulps(out, exact):
    spacing = np.spacing(np.abs(exact.astype(out.dtype))).astype(np.float64)
    return np.max(np.abs(out.astype(np.float64) - exact) / spacing)


@pytest.mark.parametrize("name", UNARY)
def test_float32_values_are_rounded_once(name):
    scipys, low, high = UNARY[name]
    x = np.linspace(low, high, 501).astype(np.float32)
    out = bare(getattr(lax, name)(x))
    assert out.dtype == np.float32
    assert _ulps(out, getattr(scipy.special, scipys)(x.astype(np.float64))) <= 1.0


@pytest.mark.parametrize("name", ["igamma", "igammac", "zeta", "polygamma"])
def test_float32_values_of_two_operands_are_rounded_once(name):
    x = np.linspace(0.1, 6, 101).astype(np.float32)
    a = np.float32(3)
    out = bare(getattr(lax, name)(a, x))
    exact = bare(getattr(lax, name)(np.float64(a), x.astype(np.float64)))
    assert out.dtype == np.float32
    assert _ulps(out, exact) <= 1.0


def test_betainc_in_float32_is_rounded_once():
    x = np.linspace(0.01, 0.99, 101).astype(np.float32)
    out = bare(lax.betainc(2.5, 0.7, x))
    assert _ulps(out, scipy.special.betainc(2.5, float(np.float32(0.7)), x.astype(float))) <= 1.0


def _slope(f, x, h=1e-4):
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


@pytest.mark.parametrize("name", UNARY)
def test_derivatives_equal_differences_of_scipy(name):
    scipys, low, high = UNARY[name]
    x = np.linspace(max(low, -3) * 0.8 + 0.3, min(high, 3) * 0.8, 7)
    f = getattr(lax, name)
    _, tangent = fg.jvp(f, (x,), (np.ones_like(x),))
    expected = _slope(getattr(scipy.special, scipys), x)
    np.testing.assert_allclose(bare(tangent), expected, rtol=1e-8, atol=1e-9)


def test_zeta_is_differentiable_in_its_second_operand():
    q = np.linspace(0.5, 3, 5)
    _, tangent = fg.jvp(lambda q: lax.zeta(2.5, q), (q,), (np.ones_like(q),))
    np.testing.assert_allclose(
        bare(tangent), _slope(lambda q: scipy.special.zeta(2.5, q), q), rtol=1e-8
    )


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lax.polygamma, (1.0, 2.0)),
        (lax.zeta, (2.0, 2.0)),
        (lax.betainc, (1.5, 2.0, 0.5)),
    ],
)
def test_a_derivative_that_does_not_exist_here_raises(f, args):
    values = [np.float64(a) for a in args]
    with pytest.raises(RuleError, match="has no derivative in its"):
        fg.grad(f)(*values)
    with pytest.raises(RuleError, match="has no derivative in its"):
        fg.jvp(f, tuple(values), tuple(values))
    last = len(args) - 1
    assert np.isfinite(bare(fg.grad(f, argnums=last)(*values)))


def test_polygamma_of_order_zero_is_digamma():
    x = np.linspace(-1.7, 3, 9)
    np.testing.assert_allclose(bare(lax.polygamma(0.0, x)), scipy.special.psi(x), rtol=1e-14)


def test_lgamma_is_infinite_at_both_ends():
    assert bare(lax.lgamma(np.array([-np.inf, np.inf, 0.0, -1.0]))).tolist() == [np.inf] * 4


def test_small_floats_round_once():
    x = np.array([0.3, 1.1], bfloat16)
    out = bare(lax.erf(x))
    assert out.dtype == bfloat16
    assert (out == scipy.special.erf(x.astype(np.float64)).astype(bfloat16)).all()


def test_scipy_is_what_computes_on_the_cpu():
    lax.erf(1.0)
    assert "scipy.special" in sys.modules
