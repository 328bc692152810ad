"""Trigonometric and hyperbolic functions, their inverses, and the plane: atan2, hypot."""

from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import FLOATS, Operand, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, div, mul, neg, sub
from fgrad.lax.compare import eq
from fgrad.lax.kinds import FLOAT, pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec
from fgrad.lax.powers import reciprocal, rsqrt, square

__all__ = [
    "acos",
    "acos_p",
    "acosh",
    "acosh_p",
    "asin",
    "asin_p",
    "asinh",
    "asinh_p",
    "atan",
    "atan2",
    "atan2_p",
    "atan_p",
    "atanh",
    "atanh_p",
    "cos",
    "cos_p",
    "cosh",
    "cosh_p",
    "hypot",
    "hypot_p",
    "one_minus_square_p",
    "sin",
    "sin_p",
    "sinh",
    "sinh_p",
    "tan",
    "tan_p",
    "tanh",
    "tanh_p",
]


def _squared(x: Any) -> tuple[Any, Any]:
    """Squares of doubles and their rounding errors, by halves of 26 digits (Dekker 1971)."""
    scaled = (2.0**27 + 1) * x
    high = scaled - (scaled - x)
    low, square = x - high, x * x
    return square, ((high * high - square) + 2 * high * low) + low * low


def _one_minus_square_reference(x: Any) -> Any:
    a, error = _squared(x.real)
    if x.dtype.kind != "c":
        return (1 - a) - error
    b, other = _squared(x.imag)
    return ((1 - a) + b) - (error - other) - 2j * x.real * x.imag


# 1 - x·x loses digits near |x| = 1; the product does not. It is a primitive because derivatives of
# tanh of high order are made of it: written as three, they would have several times the equations.
one_minus_square_p = pointwise(
    "one_minus_square",
    "x",
    doc="1 - x², without cancellation near |x| = 1.",
    eager=lambda _xp, x: (1 - x) * (x + 1),
    derivs=(lambda x: mul(x, -2),),
    scalar="(1 - x) * (x + 1)",
    spec=unary_spec(_one_minus_square_reference),
)


def _one_minus_square(x: Value) -> Value:
    return bind(one_minus_square_p, x)


def _asinh_slope(x: Value) -> Value:
    # A square would overflow for |x| > 1.8e19 in float32.
    if x.dtype.kind == "c":
        return rsqrt(add(square(x), 1))
    return reciprocal(hypot(x, 1))


sin_p = pointwise(
    "sin",
    "x",
    doc="The sine.",
    eager=lambda xp, x: xp.sin(x),
    derivs=(lambda x: cos(x),),
    scalar="sin(x)",
    spec=unary_spec(np.sin),
)

cos_p = pointwise(
    "cos",
    "x",
    doc="The cosine.",
    eager=lambda xp, x: xp.cos(x),
    derivs=(lambda x: neg(sin(x)),),
    scalar="cos(x)",
    spec=unary_spec(np.cos),
)

tan_p = pointwise(
    "tan",
    "x",
    doc="The tangent.",
    eager=lambda xp, x: xp.tan(x),
    derivs=(lambda out: add(square(out), 1),),
    scalar="tan(x)",
    spec=unary_spec(np.tan, -1.2, 1.2),
)

asin_p = pointwise(
    "asin",
    "x",
    doc="The inverse sine.",
    eager=lambda xp, x: xp.arcsin(x),
    derivs=(lambda x: rsqrt(_one_minus_square(x)),),
    scalar="asin(x)",
    spec=unary_spec(np.arcsin, -0.8, 0.8),
)

acos_p = pointwise(
    "acos",
    "x",
    doc="The inverse cosine.",
    eager=lambda xp, x: xp.arccos(x),
    derivs=(lambda x: neg(rsqrt(_one_minus_square(x))),),
    scalar="acos(x)",
    spec=unary_spec(np.arccos, -0.8, 0.8),
)

atan_p = pointwise(
    "atan",
    "x",
    doc="The inverse tangent.",
    eager=lambda xp, x: xp.arctan(x),
    derivs=(lambda x: reciprocal(add(square(x), 1)),),
    scalar="atan(x)",
    spec=unary_spec(np.arctan, -0.8, 0.8),
)

sinh_p = pointwise(
    "sinh",
    "x",
    doc="The hyperbolic sine.",
    eager=lambda xp, x: xp.sinh(x),
    derivs=(lambda x: cosh(x),),
    scalar="sinh(x)",
    spec=unary_spec(np.sinh),
)

cosh_p = pointwise(
    "cosh",
    "x",
    doc="The hyperbolic cosine.",
    eager=lambda xp, x: xp.cosh(x),
    derivs=(lambda x: sinh(x),),
    scalar="cosh(x)",
    spec=unary_spec(np.cosh),
)

tanh_p = pointwise(
    "tanh",
    "x",
    doc="The hyperbolic tangent.",
    eager=lambda xp, x: xp.tanh(x),
    derivs=(lambda out: _one_minus_square(out),),
    scalar="tanh(x)",
    spec=unary_spec(np.tanh),
)

asinh_p = pointwise(
    "asinh",
    "x",
    doc="The inverse hyperbolic sine.",
    eager=lambda xp, x: xp.arcsinh(x),
    derivs=(_asinh_slope,),
    scalar="asinh(x)",
    spec=unary_spec(np.arcsinh, -0.8, 0.8),
)

acosh_p = pointwise(
    "acosh",
    "x",
    doc="The inverse hyperbolic cosine.",
    eager=lambda xp, x: xp.arccosh(x),
    derivs=(lambda x: mul(rsqrt(sub(x, 1)), rsqrt(add(x, 1))),),
    scalar="acosh(x)",
    spec=unary_spec(np.arccosh, 1.3, 4.0),
)

atanh_p = pointwise(
    "atanh",
    "x",
    doc="The inverse hyperbolic tangent.",
    eager=lambda xp, x: xp.arctanh(x),
    derivs=(lambda x: reciprocal(_one_minus_square(x)),),
    scalar="atanh(x)",
    spec=unary_spec(np.arctanh, -0.8, 0.8),
)


def sin(x: Any) -> Value:
    """The sine of each element of ``x`` (``[...]``, float or complex, radians); same dtype.

    Example:
        >>> sin(np.array([0.0, 0.5]))
        Array([0.        , 0.47942554], dtype=float64)
    """
    return bind(sin_p, as_value(x))


def cos(x: Any) -> Value:
    """The cosine of each element of ``x`` (``[...]``, float or complex, radians); same dtype.

    Example:
        >>> cos(np.array([0.0, 0.5]))
        Array([1.        , 0.87758256], dtype=float64)
    """
    return bind(cos_p, as_value(x))


def tan(x: Any) -> Value:
    """The tangent of each element of ``x`` (``[...]``, float or complex, radians); same dtype.

    Example:
        >>> tan(np.array([0.0, 0.5]))
        Array([0.        , 0.54630249], dtype=float64)
    """
    return bind(tan_p, as_value(x))


def asin(x: Any) -> Value:
    """The inverse sine, in radians, of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> asin(np.array([0.0, 0.5]))
        Array([0.        , 0.52359878], dtype=float64)
    """
    return bind(asin_p, as_value(x))


def acos(x: Any) -> Value:
    """The inverse cosine, in radians, of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> acos(np.array([1.0, 0.5]))
        Array([0.        , 1.04719755], dtype=float64)
    """
    return bind(acos_p, as_value(x))


def atan(x: Any) -> Value:
    """The inverse tangent, in radians, of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> atan(np.array([0.0, 0.5]))
        Array([0.        , 0.46364761], dtype=float64)
    """
    return bind(atan_p, as_value(x))


def sinh(x: Any) -> Value:
    """The hyperbolic sine of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> sinh(np.array([0.0, 0.5]))
        Array([0.        , 0.52109531], dtype=float64)
    """
    return bind(sinh_p, as_value(x))


def cosh(x: Any) -> Value:
    """The hyperbolic cosine of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> cosh(np.array([0.0, 0.5]))
        Array([1.        , 1.12762597], dtype=float64)
    """
    return bind(cosh_p, as_value(x))


def tanh(x: Any) -> Value:
    """The hyperbolic tangent of each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> tanh(np.array([0.0, 0.5]))
        Array([0.        , 0.46211716], dtype=float64)
    """
    return bind(tanh_p, as_value(x))


def asinh(x: Any) -> Value:
    """The inverse hyperbolic sine of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> asinh(np.array([0.0, 0.5]))
        Array([0.        , 0.48121183], dtype=float64)
    """
    return bind(asinh_p, as_value(x))


def acosh(x: Any) -> Value:
    """The inverse hyperbolic cosine of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> acosh(np.array([1.0, 2.0]))
        Array([0.       , 1.3169579], dtype=float64)
    """
    return bind(acosh_p, as_value(x))


def atanh(x: Any) -> Value:
    """The inverse hyperbolic tangent of each element of ``x`` (``[...]``, float or complex).

    Example:
        >>> atanh(np.array([0.0, 0.5]))
        Array([0.        , 0.54930614], dtype=float64)
    """
    return bind(atanh_p, as_value(x))


# ------------------------------------------------------------------------------ the plane


def _over(x: Value, r: Value) -> Value:
    """``x / r``, and x where r is 0."""
    return div(x, basis.select_n(eq(r, 0), r, basis.scalar(1, r.dtype)))


def _turn(side: Value, x: Value, y: Value) -> Value:
    """``side / (x² + y²)`` without overflow; 0 at the origin."""
    r = hypot(x, y)
    return _over(_over(side, r), r)


atan2_p = pointwise(
    "atan2",
    "x y",
    doc="The angle of the point with abscissa y and ordinate x.",
    eager=lambda xp, x, y: xp.arctan2(x, y),
    derivs=(lambda x, y: _turn(y, x, y), lambda x, y: neg(_turn(x, x, y))),
    scalar="atan2(x, y)",
    accepts=FLOAT,
    spec=pair_spec(np.arctan2, Operand(0.2, 2.0), Operand(0.2, 2.0), dtypes=FLOATS, wrong="c64[2]"),
)

hypot_p = pointwise(
    "hypot",
    "x y",
    doc="√(x² + y²), without overflow on the way.",
    eager=lambda xp, x, y: xp.hypot(x, y),
    derivs=(lambda out, x: _over(x, out), lambda out, y: _over(y, out)),
    scalar="hypot(x, y)",
    accepts=FLOAT,
    spec=pair_spec(np.hypot, Operand(0.2, 2.0), Operand(0.2, 2.0), dtypes=FLOATS, wrong="c64[2]"),
)


def atan2(x: Any, y: Any) -> Value:
    """The angle from the axis ``y > 0`` to the point, in radians; ``atan(x / y)`` with quadrant.

    Args:
        x: The ordinate; ``[...]``, float.
        y: The abscissa; the same dtype, a shape that broadcasts.

    Returns:
        Angles in [-π, π].

    Derivatives:
        y/(x² + y²) and -x/(x² + y²); both 0 at the origin.

    Example:
        >>> atan2(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
        Array([1.57079633, 0.        ], dtype=float64)
    """
    return bind(atan2_p, *operands(x, y))


def hypot(x: Any, y: Any) -> Value:
    """``√(x² + y²)`` without overflow, element by element; operands (float) broadcast.

    The derivative is 0 where both are 0.

    Example:
        >>> hypot(np.array([3.0]), 4.0)
        Array([5.], dtype=float64)
    """
    return bind(hypot_p, *operands(x, y))
