"""The incomplete gamma functions, with their derivative in the shape parameter.

That derivative is taken of the quantile: how the number x at a probability P(a, x) moves with a,
relative to itself. It is neither tiny nor huge where P is 0 or 1 to all digits, and it is what the
derivative of a gamma draw needs. Those of P and Q follow by the chain rule.

Source:
    Moore, *Algorithm AS 187: derivatives of the incomplete gamma integral*, J. R. Stat. Soc. C
    31(3), 1982, for the sums, derived term by term; Figurnov, Mohamed and Mnih, *Implicit
    reparameterization gradients*, arXiv:1805.08498, for draws; Cornish and Fisher, *Moments and
    cumulants in the specification of distributions*, 1938, for large parameters.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.primitive import FLOATS, Absent, Operand, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import mul, neg, sub
from fgrad.lax.bits import bitwise_and
from fgrad.lax.compare import gt, is_finite
from fgrad.lax.elementary import exp, log
from fgrad.lax.kinds import FLOAT, pointwise
from fgrad.lax.operands import MISMATCH, PAIR, operands
from fgrad.lax.special import digamma, lgamma, library, special_function

__all__ = [
    "gamma_quantile_slope", "gamma_quantile_slope_p", "igamma", "igamma_grad_a", "igamma_p",
    "igammac", "igammac_p", "random_gamma_grad",
]  # fmt: skip

_LARGE = 1e6  # parameters above are served by an expansion whose relative error is below 1e-12
_ULPS = 100.0  # SciPy, and sums of that many terms, are right to so many units in float64
_CHECK = 8  # terms between two looks at whether all sums have converged


def _series(xp: Any, a: Any, log_x: Any) -> Any:
    """For x ≤ a + 1, from P(a, x) = x**a·exp(-x) / Γ(a + 1) · Σ xⁿ / ((a + 1)…(a + n))."""
    x = xp.exp(log_x)
    term, total = xp.ones_like(x), xp.ones_like(x)
    slope, slopes = xp.zeros_like(x), xp.zeros_like(x)
    n, done = 0, x != x
    while not bool(done.all()):
        for _ in range(_CHECK):
            n += 1
            ratio = x / (a + n)
            term = term * ratio
            slope = slope * ratio - term / (a + n)
            total = total + term
            slopes = slopes + slope
        done = done | ((term <= 1e-17 * total) & (-slope <= 1e-17 * total))
    return -(total * (log_x - library(xp).digamma(a + 1)) + slopes) / a


def _fraction(xp: Any, a: Any, log_x: Any) -> Any:
    """For x > a + 1, from Q(a, x) = x**a·exp(-x) / Γ(a) · F, F Legendre's continued fraction.

    Lentz' method in its modified form, c and d the ratios of neighbouring numerators and
    denominators; each step is derived in a along with its value.
    """
    x = xp.exp(log_x)
    b = x + 1 - a
    d = 1 / b
    d_slope = d * d
    total, slopes = d, d_slope
    c, c_slope = xp.full_like(x, np.inf), xp.zeros_like(x)
    n, done = 0, x != x  # an element that has converged once is done: rounding moves it about
    while not bool(done.all()):
        for _ in range(_CHECK):
            n += 1
            b = b + 2
            over = n * (a - n)
            c_slope = -1 + n / c - over * c_slope / (c * c)
            c = b + over / c
            d_slope = n * d + over * d_slope - 1
            d = 1 / (over * d + b)
            d_slope = -d_slope * d * d
            step, step_slope = c * d, c_slope * d + c * d_slope
            slopes = slopes * step + total * step_slope
            total = total * step
        settled = abs(total * step_slope) <= 1e-16 * abs(slopes)
        done = done | ((abs(step - 1) <= 4e-16) & settled)
    return total * (log_x - library(xp).digamma(a)) + slopes


def _expansion(xp: Any, a: Any, log_x: Any) -> Any:
    """For large a, from the quantile in powers of 1/√a: w is the normal quantile of P(a, x)."""
    x, s = xp.exp(log_x), xp.sqrt(a)
    z = (x - a) / s
    w = z
    for _ in range(8):  # each one wins more than two digits: w differs from z by (w² - 1) / 3√a
        w2 = w * w
        rest = (w2 - 1) / 3 + (w2 - 7) * w / (36 * s) - (3 * w2 * w2 + 7 * w2 - 16) / (810 * a)
        w = z - rest / s
    w2 = w * w
    moved = 1 + w / (2 * s) - (w2 - 7) * w / (72 * s * a)
    return (moved + (3 * w2 * w2 + 7 * w2 - 16) / (810 * a * a)) / x


def _slope_eager(xp: Any, a: Any, log_x: Any) -> Any:
    full = xp.broadcast_arrays(a.astype(np.float64), log_x.astype(np.float64))
    p, y = (x.reshape(-1) for x in full)
    out = xp.full(p.shape, np.nan)
    x = xp.exp(y)
    valid = (p > 0) & xp.isfinite(p) & (y == y)
    # Far from the mean the sums converge fast, and the expansion does not hold.
    near = abs(x - p) < xp.maximum(40 * xp.sqrt(p), p / 512)
    large = valid & (p > _LARGE) & near
    low = valid & ~large & (x <= p + 1)
    high = valid & ~large & (x > p + 1) & xp.isfinite(x)
    out[valid & (x == np.inf)] = 0.0
    for chosen, method in ((low, _series), (high, _fraction), (large, _expansion)):
        if bool(chosen.any()):
            out[chosen] = method(xp, p[chosen], y[chosen])
    return out.reshape(full[0].shape).astype(a.dtype)


gamma_quantile_slope_p: Primitive = pointwise(
    "gamma_quantile_slope",
    "a log_x",
    doc="The derivative in a of log x at a fixed P(a, x).",
    eager=_slope_eager,
    derivs=(
        Absent("gamma_quantile_slope has no derivative in its parameter a: incomplete gamma "
               "functions and gamma draws have a first derivative in a, and no second"),
        # Of -∂P/∂a / x·p, p the density: ∂p/∂a = p·(log x - ψ(a)), and x·p moves by (a - x)·x·p.
        lambda a, log_x, out: sub(
            mul(sub(exp(log_x), a), out), sub(log_x, digamma(a))
        ),
    ),
    scalar="gamma_quantile_slope(a, log_x)",
    accepts=FLOAT,
    spec=Spec(
        (Operand(0.5, 4.0, generator="static"), Operand(-1.5, 1.5)),
        PAIR,
        dtypes=FLOATS,
        ulps=_ULPS,
        invalid=MISMATCH,
        skip={"reference": "tests/lax/test_incomplete_gamma.py compares with SciPy's quantiles"},
    ),
)  # fmt: skip


def _density(a: Value, x: Value) -> Value:
    """``x**(a-1)·exp(-x) / Γ(a)``, the derivative of igamma in x."""
    return exp(sub(sub(mul(sub(a, 1), log(x)), x), lgamma(a)))


def _in_shape(a: Value, x: Value) -> Value:
    """The derivative of igamma in a; 0 at both ends, where P does not depend on a."""
    inside = bitwise_and(gt(x, 0), is_finite(x))
    safe = basis.select_n(inside, basis.broadcast_to(basis.scalar(1, x.dtype), x.shape), x)
    log_x = log(safe)
    slope = bind(gamma_quantile_slope_p, a, log_x)
    found = neg(mul(slope, exp(sub(sub(mul(a, log_x), safe), lgamma(a)))))
    inside = basis.broadcast_to(inside, found.shape)
    return basis.select_n(inside, basis.zeros(found.aval.strip_weak()), found)


def _reference(name: str) -> Callable[..., Any]:
    return lambda *args: getattr(library(np), name)(*args)


_SPEC = (Operand(0.5, 4.0, generator="static"), Operand(0.3, 4.0))

igamma_p = pointwise(
    "igamma",
    "a x",
    doc="The regularized lower incomplete gamma function P(a, x).",
    eager=special_function("gammainc"),
    derivs=(_in_shape, _density),
    scalar="igamma(a, x)",
    accepts=FLOAT,
    spec=Spec(
        _SPEC, PAIR, dtypes=FLOATS, reference=_reference("gammainc"), ulps=_ULPS, invalid=MISMATCH
    ),
)

igammac_p = pointwise(
    "igammac",
    "a x",
    doc="The regularized upper incomplete gamma function Q(a, x) = 1 - P(a, x).",
    eager=special_function("gammaincc"),
    derivs=(lambda a, x: neg(_in_shape(a, x)), lambda a, x: neg(_density(a, x))),
    scalar="igammac(a, x)",
    accepts=FLOAT,
    spec=Spec(
        _SPEC, PAIR, dtypes=FLOATS, reference=_reference("gammaincc"), ulps=_ULPS, invalid=MISMATCH
    ),
)


def igamma(a: Any, x: Any) -> Value:
    """The regularized lower incomplete gamma function P(a, x); operands (float) broadcast.

    Args:
        a: The shape parameter, above 0; derivatives of first order.
        x: Not below 0; derivatives of all orders. Both once each are a second order that exists.

    Example:
        >>> import numpy as np
        >>> igamma(1.0, np.array([0.0, 1.0]))
        Array([0.        , 0.63212056], dtype=float64)
    """
    return bind(igamma_p, *operands(a, x))


def igammac(a: Any, x: Any) -> Value:
    """The regularized upper incomplete gamma function ``1 - P(a, x)``; operands broadcast.

    Derivatives as of `igamma`.

    Example:
        >>> import numpy as np
        >>> igammac(1.0, np.array([0.0, 1.0]))
        Array([1.        , 0.36787944], dtype=float64)
    """
    return bind(igammac_p, *operands(a, x))


def igamma_grad_a(a: Any, x: Any) -> Value:
    """The derivative of ``igamma(a, x)`` in ``a``; operands (float) broadcast.

    Example:
        >>> import numpy as np
        >>> igamma_grad_a(1.0, np.array([0.0, 1.0])).round(8)
        Array([ 0.        , -0.43172971], dtype=float64)
    """
    return _in_shape(*operands(a, x))


def random_gamma_grad(a: Any, sample: Any) -> Value:
    """The derivative in ``a`` of a draw of the gamma distribution of shape ``a`` and rate 1.

    The draw keeps its probability ``igamma(a, sample)``; operands (float) broadcast.

    Example:
        >>> import numpy as np
        >>> random_gamma_grad(1.0, np.array([1.0])).round(8)
        Array([1.17356303], dtype=float64)
    """
    shape, x = operands(a, sample)
    return mul(gamma_quantile_slope(shape, log(x)), x)


def gamma_quantile_slope(a: Any, log_x: Any) -> Value:
    """The derivative in ``a`` of the logarithm of a gamma draw, from that logarithm.

    It stays exact where the draw itself underflows; operands (float) broadcast.

    Example:
        >>> import numpy as np
        >>> gamma_quantile_slope(1e-3, np.array([-2000.0])).round(3)
        Array([1999424.428], dtype=float64)
    """
    return bind(gamma_quantile_slope_p, *operands(a, log_x))
