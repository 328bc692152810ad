"""Activation functions, element by element, with cheap derivatives of their own."""

import math
from typing import Any

import numpy as np

from fgrad.core.evaluate import as_value
from fgrad.core.primitive import FLOATS, REAL, Case, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import abs, add, mul, neg, sign, sub
from fgrad.lax.elementary import exp, log1p, logistic
from fgrad.lax.extrema import max
from fgrad.lax.kinds import FLOAT, INTEGER, pointwise
from fgrad.lax.operands import unary_spec
from fgrad.lax.powers import square
from fgrad.lax.special import erfc, library
from fgrad.lax.trigonometric import tanh

__all__ = [
    "gelu",
    "gelu_p",
    "log_sigmoid",
    "log_sigmoid_p",
    "relu",
    "relu_p",
    "silu",
    "silu_p",
    "softplus",
    "softplus_p",
]

relu_p = pointwise(
    "relu",
    "x",
    doc="max(x, 0), with derivative 0 at 0.",
    eager=lambda xp, x: xp.maximum(x, x.dtype.type(0)),
    derivs=(lambda out: sign(out),),  # the result is not negative: 0 or 1
    scalar="max(x, 0)",
    accepts=FLOAT + INTEGER,
    decompose=lambda x: max(x, 0),
    spec=unary_spec(lambda x: np.maximum(x, 0), kinks=(0.0,), dtypes=REAL, ulps=0.0, wrong="b[2]"),
)


def relu(x: Any) -> Value:
    """``max(x, 0)`` for each element of ``x`` (``[...]``, real); its derivative at 0 is 0.

    Example:
        >>> relu(np.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float64)
    """
    return bind(relu_p, as_value(x))


def _silu_slope(x: Value, out: Value) -> Value:
    # σ + x·σ·(1 - σ)
    s = logistic(x)
    return add(s, mul(out, sub(1, s)))


silu_p = pointwise(
    "silu",
    "x",
    doc="x · logistic(x).",
    eager=lambda xp, x: x / (1 + xp.exp(-x)),
    derivs=(_silu_slope,),
    scalar="x * (1 / (1 + exp(-x)))",  # the derivative shares the quotient
    accepts=FLOAT,
    decompose=lambda x: mul(x, logistic(x)),
    spec=unary_spec(lambda x: x / (1 + np.exp(-x)), dtypes=FLOATS),
)


def silu(x: Any) -> Value:
    """``x / (1 + exp(-x))``, also called swish, for each element of ``x`` (``[...]``, float).

    Source:
        Hendrycks and Gimpel, *Gaussian Error Linear Units*, arXiv:1606.08415.

    Example:
        >>> silu(np.array([0.0, 1.0]))
        Array([0.        , 0.73105858], dtype=float64)
    """
    return bind(silu_p, as_value(x))


_CUBIC = 0.044715
_SCALE = math.sqrt(2 / math.pi)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def _gelu_eager(xp: Any, x: Any, *, approximate: bool) -> Any:
    if approximate:
        inner = xp.tanh(x * (_SCALE + (_SCALE * _CUBIC) * (x * x)))
        return (0.5 * x) * (1 + inner)
    return x * library(xp).ndtr(x)


def _gelu_slope(x: Value, *, approximate: bool) -> Value:
    if not approximate:
        # Φ(x) + x·φ(x)
        normal = mul(0.5, erfc(mul(-math.sqrt(0.5), x)))
        return add(normal, mul(x, mul(_DENSITY, exp(mul(-0.5, square(x))))))
    # ½(1 + t)·(1 + x·(1 - t)·u'), with t = tanh u
    xx = square(x)
    t = tanh(mul(x, add(mul(_SCALE * _CUBIC, xx), _SCALE)))
    slope = add(mul(3 * _SCALE * _CUBIC, xx), _SCALE)
    return mul(mul(0.5, add(t, 1)), add(mul(mul(x, sub(1, t)), slope), 1))


def _gelu_composed(x: Value, *, approximate: bool) -> Value:
    # erfc keeps the digits of the left tail, where 1 + erf would cancel.
    if approximate:
        t = tanh(mul(x, add(mul(_SCALE * _CUBIC, square(x)), _SCALE)))
        return mul(mul(0.5, x), add(t, 1))
    return mul(mul(0.5, x), erfc(mul(-math.sqrt(0.5), x)))


def _gelu_scalar(_avals: Any, params: dict[str, Any]) -> str:
    if params["approximate"]:
        return f"0.5 * x * (1 + tanh(x * ({_SCALE} + {_SCALE * _CUBIC} * (x * x))))"
    return f"0.5 * x * erfc(-{math.sqrt(0.5)} * x)"


def _gelu_reference(x: Any, *, approximate: bool) -> Any:
    if approximate:
        return x / (1 + np.exp(-2 * _SCALE * (x + _CUBIC * x**3)))
    return 0.5 * x * library(np).erfc(-x / np.sqrt(2))


gelu_p = pointwise(
    "gelu",
    "x",
    doc="x · Φ(x), Φ the normal distribution function, or its approximation by tanh.",
    eager=_gelu_eager,
    derivs=(_gelu_slope,),
    scalar=_gelu_scalar,
    accepts=FLOAT,
    decompose=_gelu_composed,
    spec=unary_spec(
        _gelu_reference,
        -1.5,
        1.5,
        dtypes=FLOATS,
        ulps=8.0,
        cases=(
            Case("...", {"approximate": True}, name="tanh"),
            Case("...", {"approximate": False}, name="erf"),
        ),
    ),
)


def gelu(x: Any, approximate: bool = True) -> Value:
    """The Gaussian error linear unit ``x·Φ(x)`` of each element of ``x`` (``[...]``, float).

    Args:
        x: ``[...]``, float.
        approximate: Whether to take ``½x(1 + tanh(√(2/π)(x + 0.044715x³)))`` instead of the exact
            form with erfc.

    Source:
        Hendrycks and Gimpel, *Gaussian Error Linear Units*, arXiv:1606.08415.

    Example:
        >>> gelu(np.array([0.0, 1.0]), approximate=False)
        Array([0.        , 0.84134475], dtype=float64)
    """
    return bind(gelu_p, as_value(x), approximate=bool(approximate))


def _softplus(x: Value) -> Value:
    return add(max(x, 0), log1p(exp(neg(abs(x)))))


softplus_p = pointwise(
    "softplus",
    "x",
    doc="log(1 + exp(x)), without overflow.",
    eager=lambda xp, x: xp.logaddexp(x, x.dtype.type(0)),
    derivs=(lambda x: logistic(x),),
    scalar="log1p(exp(-abs(x))) + max(x, 0)",
    accepts=FLOAT,
    decompose=_softplus,
    spec=unary_spec(lambda x: np.log1p(np.exp(x)), dtypes=FLOATS),
)

log_sigmoid_p = pointwise(
    "log_sigmoid",
    "x",
    doc="log(1 / (1 + exp(-x))), without overflow.",
    eager=lambda xp, x: -xp.logaddexp(-x, x.dtype.type(0)),
    derivs=(lambda x: logistic(neg(x)),),
    scalar="min(x, 0) - log1p(exp(-abs(x)))",
    accepts=FLOAT,
    decompose=lambda x: neg(_softplus(neg(x))),
    spec=unary_spec(lambda x: -np.log1p(np.exp(-x)), dtypes=FLOATS),
)


def softplus(x: Any) -> Value:
    """``log(1 + exp(x))``, without overflow, for each element of ``x`` (``[...]``, float).

    Example:
        >>> softplus(np.array([0.0, 1000.0]))
        Array([6.93147181e-01, 1.00000000e+03], dtype=float64)
    """
    return bind(softplus_p, as_value(x))


def log_sigmoid(x: Any) -> Value:
    """``-log(1 + exp(-x))``, without overflow, for each element of ``x`` (``[...]``, float).

    Example:
        >>> log_sigmoid(np.array([0.0, -1000.0]))
        Array([-6.93147181e-01, -1.00000000e+03], dtype=float64)
    """
    return bind(log_sigmoid_p, as_value(x))
