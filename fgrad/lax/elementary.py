"""Exponentials, logarithms and general powers, element by element."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import INEXACT, Operand, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, mul, sub
from fgrad.lax.compare import eq
from fgrad.lax.kinds import pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec
from fgrad.lax.powers import integer_pow, reciprocal

__all__ = [
    "exp",
    "exp2",
    "exp2_p",
    "exp_p",
    "expm1",
    "expm1_p",
    "log",
    "log1p",
    "log1p_p",
    "log_p",
    "logistic",
    "logistic_p",
    "pow",
    "pow_p",
]

_LN2 = math.log(2.0)


def _exp2_eager(xp: Any, x: Any) -> Any:
    # NumPy has no complex exp2.
    return xp.exp(x * x.real.dtype.type(_LN2)) if x.dtype.kind == "c" else xp.exp2(x)


def _log1p_eager(xp: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        return xp.log1p(x)
    # NumPy takes the logarithm of |1 + x|, which is near 1 where x is small.
    a, b = x.real, x.imag
    out = xp.empty(x.shape, x.dtype)
    out.imag = xp.arctan2(b, 1 + a)  # a complex sum would lose the sign of b = -0
    small = (xp.abs(a) < 0.5) & (xp.abs(b) < 0.5)
    near = xp.log1p(xp.where(small, a * (2 + a) + b * b, 0)) / 2
    out.real = xp.where(small, near, xp.log(1 + x).real)
    return out


def _logistic_eager(xp: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        return 1 / (1 + xp.exp(-x))
    # An infinite complex divisor gives NaN, not 0.
    negative = x.real < 0
    e = xp.exp(xp.where(negative, x, -x))
    return xp.where(negative, e, xp.ones((), x.dtype)) / (1 + e)


def _logistic_scalar(avals: Sequence[ShapedArray], _params: dict[str, Any]) -> str:
    if avals[0].dtype.kind == "c":
        return "n = x < 0; e = exp(n ? x : -x); (n ? e : 1) / (1 + e)"
    return "1 / (1 + exp(-x))"


exp_p = pointwise(
    "exp",
    "x",
    doc="e to the power x.",
    eager=lambda xp, x: xp.exp(x),
    derivs=(lambda out: out,),
    scalar="exp(x)",
    spec=unary_spec(np.exp),
)

exp2_p = pointwise(
    "exp2",
    "x",
    doc="2 to the power x.",
    eager=_exp2_eager,
    derivs=(lambda out: mul(_LN2, out),),
    scalar="exp2(x)",
    spec=unary_spec(lambda x: np.power(2.0, x)),
)

log_p = pointwise(
    "log",
    "x",
    doc="The natural logarithm.",
    eager=lambda xp, x: xp.log(x),
    derivs=(lambda x: reciprocal(x),),
    scalar="log(x)",
    spec=unary_spec(np.log, 0.2, 4.0),
)

expm1_p = pointwise(
    "expm1",
    "x",
    doc="exp(x) - 1, accurate near 0.",
    eager=lambda xp, x: xp.expm1(x),
    derivs=(lambda out: add(out, 1),),
    scalar="expm1(x)",
    spec=unary_spec(np.expm1),
)

log1p_p = pointwise(
    "log1p",
    "x",
    doc="log(1 + x), accurate near 0.",
    eager=_log1p_eager,
    derivs=(lambda x: reciprocal(add(x, 1)),),
    scalar="log1p(x)",
    spec=unary_spec(np.log1p, -0.7, 3.0),
)

logistic_p = pointwise(
    "logistic",
    "x",
    doc="1 / (1 + exp(-x)).",
    eager=_logistic_eager,
    derivs=(lambda out: mul(out, sub(1, out)),),
    scalar=_logistic_scalar,
    spec=unary_spec(lambda x: 1 / (1 + np.exp(-x))),
)


def exp(x: Any) -> Value:
    """``e`` to the power of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> exp(np.array([0.0, 1.0]))
        Array([1.        , 2.71828183], dtype=float64)
    """
    return bind(exp_p, as_value(x))


def exp2(x: Any) -> Value:
    """2 to the power of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> exp2(np.array([0.0, 3.0]))
        Array([1., 8.], dtype=float64)
    """
    return bind(exp2_p, as_value(x))


def log(x: Any) -> Value:
    """The natural logarithm of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> log(np.array([1.0, 2.0]))
        Array([0.        , 0.69314718], dtype=float64)
    """
    return bind(log_p, as_value(x))


def expm1(x: Any) -> Value:
    """``exp(x) - 1``, accurate near 0, for each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> expm1(np.array([0.0, 1e-10]))
        Array([0.e+00, 1.e-10], dtype=float64)
    """
    return bind(expm1_p, as_value(x))


def log1p(x: Any) -> Value:
    """``log(1 + x)``, accurate near 0, for each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> log1p(np.array([0.0, 1e-10]))
        Array([0.e+00, 1.e-10], dtype=float64)
    """
    return bind(log1p_p, as_value(x))


def logistic(x: Any) -> Value:
    """``1 / (1 + exp(-x))`` for each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> logistic(np.array([0.0, -1000.0]))
        Array([0.5, 0. ], dtype=float64)
    """
    return bind(logistic_p, as_value(x))


def _pow_slope_x(x: Value, y: Value) -> Value:
    # y·x**(y-1), exactly 0 where y is 0, even at x = 0; its own derivative in y is kept.
    return basis.linear_mul(y, pow(x, sub(y, 1)))


def _pow_slope_y(out: Value, x: Value) -> Value:
    # out·log(x), and 0 at x = 0.
    base = basis.select_n(eq(x, 0), x, basis.scalar(1, x.dtype))
    return basis.linear_mul(out, log(base), both=True)


pow_p = pointwise(
    "pow",
    "x y",
    doc="x to the power y.",
    eager=lambda xp, x, y: xp.power(x, y),
    derivs=(_pow_slope_x, _pow_slope_y),
    scalar="pow(x, y)",
    spec=pair_spec(np.power, Operand(0.3, 2.0), Operand(-2.0, 2.0), dtypes=INEXACT, wrong="i32[2]"),
)


def pow(x: Any, y: Any) -> Value:
    """``x`` to the power ``y``, element by element; operands broadcast.

    A Python integer as exponent means `integer_pow`.

    Args:
        x: ``[...]``, float or complex; any number where `y` is a Python integer.
        y: The same dtype, or integers.

    Returns:
        The broadcast shape, the dtype of `x`.

    Derivatives:
        y·x**(y-1) in x, 0 where y is 0; out·log(x) in y, 0 where x is 0.

    Example:
        >>> pow(np.array([4.0, 9.0]), 0.5)
        Array([2., 3.], dtype=float64)
    """
    if type(y) is int:
        return integer_pow(x, y)
    x, y = operands(x, y)
    if y.dtype.kind in "iu" and x.dtype.kind not in "iub":
        y = basis.convert_element_type(y, x.dtype)
    return bind(pow_p, x, y)
