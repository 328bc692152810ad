"""The derivative of the incomplete gamma functions in their shape parameter."""

import numpy as np
import pytest
import scipy.special

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import RuleError
from fgrad.lax import incomplete_gamma

# From sums of 60 digits: a, x, and the derivative in a of log x at a fixed P(a, x).
EXACT = [
    (0.001, 1e-09, 20147.69392626168),
    (0.05, 1e-30, 1371.59415597043),
    (0.5, 0.4, 2.9664471648450568),
    (1.0, 2.0, 0.8158457311748504),
    (1.0, 1.0, 1.1735630272247268),
    (2.5, 3.6, 0.35433014290477244),
    (10.0, 4.0, 0.1552013617524962),
    (33.25, 60.0, 0.022176661337898917),
    (1000.0, 1000.0, 0.001000166683323806),
    (1000.0, 1150.0, 0.0009319014890751313),
    (30000.0, 29500.0, 3.361442337738039e-05),
]


@pytest.mark.parametrize(("a", "x", "slope"), EXACT)
def test_the_slope_of_quantiles_is_exact(a, x, slope):
    np.testing.assert_allclose(lax.gamma_quantile_slope(a, np.log(x)), slope, rtol=1e-12)
    found = lax.random_gamma_grad(np.float64(a), np.float64(x))
    np.testing.assert_allclose(found, slope * x, rtol=1e-12)


def test_slopes_equal_differences_of_quantiles():
    a, p = np.meshgrid(np.geomspace(0.05, 300, 12), np.linspace(0.02, 0.98, 9))
    h = 1e-3 * a
    at = lambda k: np.log(scipy.special.gammaincinv(a + k * h, p))  # noqa: E731
    want = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
    np.testing.assert_allclose(lax.gamma_quantile_slope(a, at(0)), want, rtol=1e-8)


def test_the_expansion_for_large_parameters_continues_the_sums():
    a = np.full(9, incomplete_gamma._LARGE)
    log_x = np.log(a + np.linspace(-6, 6, 9) * np.sqrt(a))
    want = np.where(
        np.exp(log_x) <= a + 1,
        incomplete_gamma._series(np, a, log_x),
        incomplete_gamma._fraction(np, a, log_x),
    )
    np.testing.assert_allclose(incomplete_gamma._expansion(np, a, log_x), want, rtol=3e-12)
    np.testing.assert_allclose(lax.gamma_quantile_slope(2 * a, np.log(2 * a)), 0.5 / a, rtol=1e-6)


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_the_derivative_in_the_shape_equals_differences(name):
    f, scipys = getattr(lax, name), {"igamma": "gammainc", "igammac": "gammaincc"}[name]
    a, x = np.meshgrid(np.geomspace(0.2, 50, 9), np.geomspace(0.05, 80, 9))
    h = 1e-3 * a
    at = lambda k: getattr(scipy.special, scipys)(a + k * h, x)  # noqa: E731
    want = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
    _, pushed = fg.jvp(lambda a: f(a, x), (a,), (np.ones_like(a),))
    np.testing.assert_allclose(pushed, want, rtol=1e-8, atol=1e-12)
    pulled = fg.grad(lambda a: fnp.sum(f(a, x)))(a)
    np.testing.assert_allclose(pulled, pushed, rtol=1e-13, atol=1e-300)
    # Once in each parameter, either way.
    mixed = fg.jvp(fg.grad(lambda x: fnp.sum(f(a, x))), (x,), (np.ones_like(x),))
    assert np.isfinite(mixed[1]).all()
    sign = 1 if name == "igamma" else -1
    density = np.exp((a - 1) * np.log(x) - x - scipy.special.gammaln(a))
    want = sign * density * (np.log(x) - scipy.special.psi(a))
    found = fg.jvp(lambda x: fg.grad(lambda a: fnp.sum(f(a, x)))(a), (x,), (np.ones_like(x),))[1]
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-13)
    found = fg.jvp(lambda a: fg.grad(lambda x: fnp.sum(f(a, x)))(x), (a,), (np.ones_like(a),))[1]
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-13)


def test_at_the_ends_the_derivative_is_zero_and_outside_it_is_nan():
    a = np.array([0.5, 2.0, 1e7])
    for x in (0.0, np.inf):
        np.testing.assert_array_equal(fg.grad(lambda a, x=x: fnp.sum(lax.igamma(a, x)))(a), 0)
    slopes = lax.gamma_quantile_slope(
        np.array([-1.0, 0.0, np.nan, 1.0, 1.0]), np.log([1, 1, 1, np.inf, np.nan])
    )
    np.testing.assert_array_equal(np.isnan(slopes), [True, True, True, False, True])
    assert float(lax.gamma_quantile_slope(2.0, np.float64(-1e4))) == pytest.approx(5e3, rel=1e-3)


def test_float32_is_rounded_once():
    a, x = np.float32([0.3, 2.0, 9.0]), np.float32([0.2, 3.0, 8.0])
    found = lax.random_gamma_grad(a, x)
    assert found.dtype == np.float32
    want = lax.random_gamma_grad(a.astype(np.float64), x.astype(np.float64))
    np.testing.assert_allclose(found, want, rtol=1e-6)
    np.testing.assert_allclose(
        lax.igamma_grad_a(a, x), fg.grad(lambda a: fnp.sum(lax.igamma(a, x)))(a), rtol=1e-6
    )


def test_a_second_derivative_in_the_shape_raises():
    with pytest.raises(RuleError, match="a first derivative in a, and no second"):
        fg.grad(fg.grad(lambda a: lax.igamma(a, 2.0)))(np.float64(1.5))


def test_many_elements_converge_each_at_its_own_time():
    """Rounding moves an element about after it has converged; it must not hold up the others."""
    generator = np.random.default_rng(0)
    a = np.exp(generator.uniform(0, 4.6, 20_000))
    log_x = np.log(a) + generator.standard_normal(a.size) * np.minimum(2, 5 / np.sqrt(a))
    together = np.asarray(lax.gamma_quantile_slope(a, log_x))
    alone = [float(lax.gamma_quantile_slope(a[i], log_x[i])) for i in range(0, a.size, 2000)]
    np.testing.assert_allclose(together[::2000], alone, rtol=1e-13)


def test_slope_far_from_the_mean_of_a_large_parameter():
    """There log P is about a·log x − x − log Γ(a + 1) − log(1 − x/a)."""
    a, log_x = np.float64(5e7), np.log(np.float64(1e4))
    slope = float(lax.gamma_quantile_slope(a, log_x))
    np.testing.assert_allclose(slope, (np.log(a) - log_x) / (a - 1e4), rtol=1e-3)
