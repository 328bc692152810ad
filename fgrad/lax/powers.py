"""Powers and roots with a fixed exponent: squares, integer powers, reciprocals, roots."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, StaticArgumentError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import FLOATS, INEXACT, NUMERIC, Case, Invalid, Operand, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import div, mul
from fgrad.lax.kinds import FLOAT, kind_of, pointwise
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.operands import unary_spec

__all__ = [
    "cbrt",
    "cbrt_p",
    "integer_pow",
    "integer_pow_p",
    "reciprocal",
    "rsqrt",
    "rsqrt_p",
    "sqrt",
    "sqrt_p",
    "square",
    "square_p",
]

square_p = pointwise(
    "square",
    "x",
    doc="x².",
    eager=lambda _xp, x: x * x,
    derivs=(lambda x: mul(2, x),),
    scalar="x * x",
    accepts=NUMBERS,
    spec=unary_spec(np.square, dtypes=NUMERIC, ulps=2.0, wrong="b[2]"),
)


def square(x: Any) -> Value:
    """The square of each element of ``x`` (``[...]``, a number); same dtype.

    Example:
        >>> square(np.array([-2.0, 3.0]))
        Array([4., 9.], dtype=float64)
    """
    return bind(square_p, as_value(x))


def _integer_pow_check(x: ShapedArray, *, y: int) -> None:
    if y < 0 and kind_of(x.dtype) in "iu":
        raise DtypeError(
            f"integer_pow: integers have no negative powers, got {x} to the power {y}; convert it "
            f"to a float dtype with astype first"
        )


def _integer_pow_eager(xp: Any, x: Any, *, y: int) -> Any:
    if y < 0:
        if x.dtype.kind in "iu":
            raise ValueError("negative power")  # the check says it in full
        # The reciprocal first: x**-y may overflow where x**y does not underflow.
        x, y = 1 / x, -y
    if y == 0:
        return xp.ones(x.shape, x.dtype)
    if 3 < y < 2**24 and x.dtype.kind == "f":
        return xp.power(x, x.dtype.type(y))
    out = x
    for bit in bin(y)[3:]:  # square and multiply
        out = out * out
        if bit == "1":
            out = out * x
    return out


def _integer_pow_scalar(avals: Sequence[ShapedArray], params: dict[str, int]) -> str:
    y = params["y"]
    base, y = ("x", y) if y >= 0 else ("(1 / x)", -y)
    if 3 < y < 2**24 and kind_of(avals[0].dtype) == "f":
        return f"pow({base}, {float(y)})"
    out = base
    for bit in bin(y)[3:]:
        out = f"(({out}) * ({out}))" + (f" * {base}" if bit == "1" else "")
    return out if y else "1"


def _integer_pow_slope(x: Value, *, y: int) -> Value:
    return mul(y, integer_pow(x, y - 1)) if y else basis.scalar(0, x.dtype)


integer_pow_p = pointwise(
    "integer_pow",
    "x",
    doc="x to a static integer power.",
    eager=_integer_pow_eager,
    derivs=(_integer_pow_slope,),
    scalar=_integer_pow_scalar,
    accepts=NUMBERS,
    check=_integer_pow_check,
    simplify=lambda args, params: args[0] if params["y"] == 1 else None,
    spec=Spec(
        Operand(0.3, 2.0, generator="nonzero"),
        tuple(Case("...", {"y": y}, name=f"y={y}") for y in (0, 1, 2, 3, 7, -1, -2)),
        dtypes=INEXACT,
        reference=lambda x, *, y: np.power(x, float(y)),
        ulps=8.0,
        invalid=(
            Invalid(("b[2]",), DtypeError, "takes", y=2),
            Invalid(("i32[2]",), DtypeError, "negative powers", y=-1),
        ),
    ),
)


def integer_pow(x: Any, y: int) -> Value:
    """Each element of ``x`` to the static integer power ``y``; same dtype.

    ``x**0`` is 1, and its derivative 0, everywhere.

    Args:
        x: ``[...]``, a number.
        y: The exponent; not negative where `x` is of integer dtype.

    Raises:
        DtypeError: A negative power of integers.
        StaticArgumentError: `y` is no Python integer.

    Example:
        >>> integer_pow(np.array([2.0, 3.0]), -2)
        Array([0.25      , 0.11111111], dtype=float64)
    """
    try:
        y = operator.index(y)
    except TypeError:
        raise StaticArgumentError(
            f"integer_pow: the exponent must be a static integer, got {y!r}; use pow"
        ) from None
    if y == 2:
        return square(x)  # fewer equations in derivatives of high order
    return bind(integer_pow_p, as_value(x), y=y)


def reciprocal(x: Any) -> Value:
    """``1 / x`` for each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> reciprocal(np.array([2.0, 4.0]))
        Array([0.5 , 0.25], dtype=float64)
    """
    return integer_pow(x, -1)


sqrt_p = pointwise(
    "sqrt",
    "x",
    doc="The square root; NaN for negative reals.",
    eager=lambda xp, x: xp.sqrt(x),
    derivs=(lambda out: div(0.5, out),),
    scalar="sqrt(x)",
    spec=unary_spec(np.sqrt, 0.2, 4.0, ulps=1.0),
)

rsqrt_p = pointwise(
    "rsqrt",
    "x",
    doc="1 / √x.",
    eager=lambda xp, x: 1 / xp.sqrt(x),
    derivs=(lambda out: mul(-0.5, integer_pow(out, 3)),),
    scalar="1 / sqrt(x)",
    spec=unary_spec(lambda x: 1 / np.sqrt(x), 0.2, 4.0, ulps=2.0),
)

cbrt_p = pointwise(
    "cbrt",
    "x",
    doc="The real cube root.",
    eager=lambda xp, x: xp.cbrt(x),
    derivs=(lambda out: div(1 / 3, square(out)),),
    scalar="cbrt(x)",
    accepts=FLOAT,
    spec=unary_spec(np.cbrt, 0.2, 4.0, dtypes=FLOATS),
)


def sqrt(x: Any) -> Value:
    """The square root of each element of ``x`` (``[...]``, float or complex); same dtype.

    The derivative at 0 is infinite.

    Example:
        >>> sqrt(np.array([4.0, 9.0]))
        Array([2., 3.], dtype=float64)
    """
    return bind(sqrt_p, as_value(x))


def rsqrt(x: Any) -> Value:
    """``1 / √x`` for each element of ``x`` (``[...]``, float or complex); same dtype.

    Example:
        >>> rsqrt(np.array([4.0, 0.25]))
        Array([0.5, 2. ], dtype=float64)
    """
    return bind(rsqrt_p, as_value(x))


def cbrt(x: Any) -> Value:
    """The real cube root of each element of ``x`` (``[...]``, float); same dtype.

    Example:
        >>> cbrt(np.array([8.0, -27.0]))
        Array([ 2., -3.], dtype=float64)
    """
    return bind(cbrt_p, as_value(x))
