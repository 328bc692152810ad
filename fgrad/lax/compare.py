"""Comparisons, element by element: their results are bool, and they have no derivative."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core.evaluate import as_value
from fgrad.core.primitive import ANY as EVERY
from fgrad.core.primitive import FLOATS, REAL, Absent, Operand, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.kinds import ANY, BITS, FLOAT, pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec

__all__ = [
    "eq",
    "eq_p",
    "ge",
    "ge_p",
    "gt",
    "gt_p",
    "is_finite",
    "is_finite_p",
    "le",
    "le_p",
    "lt",
    "lt_p",
    "ne",
    "ne_p",
]

_BOOL = np.dtype(bool)
_NONE = Absent("a truth value has no derivative")
_ORDERED = BITS + FLOAT


def _comparison(
    name: str, sign: str, eager: Callable[..., Any], accepts: str, reference: Any
) -> Primitive:
    """A comparison; operands are drawn among few values, so that ties occur."""
    return pointwise(
        name,
        "x y",
        doc=f"Whether x {sign} y.",
        eager=eager,
        derivs=_NONE,
        scalar=f"x {sign} y",
        accepts=accepts,
        result=lambda _dtype: _BOOL,
        spec=pair_spec(
            reference,
            Operand(-2, 2),
            Operand(-2, 2),
            dtypes=EVERY if accepts == ANY else (*REAL, "bool"),
            ulps=0.0,
            wrong="" if accepts == ANY else "c64[2]",
            order=0,
        ),
    )


eq_p = _comparison("eq", "==", lambda _xp, x, y: x == y, ANY, np.equal)
ne_p = _comparison("ne", "!=", lambda _xp, x, y: x != y, ANY, np.not_equal)
lt_p = _comparison("lt", "<", lambda _xp, x, y: x < y, _ORDERED, np.less)
le_p = _comparison("le", "<=", lambda _xp, x, y: x <= y, _ORDERED, np.less_equal)
gt_p = _comparison("gt", ">", lambda _xp, x, y: x > y, _ORDERED, np.greater)
ge_p = _comparison("ge", ">=", lambda _xp, x, y: x >= y, _ORDERED, np.greater_equal)

is_finite_p = pointwise(
    "is_finite",
    "x",
    doc="Whether x is neither infinite nor NaN.",
    eager=lambda xp, x: xp.isfinite(x),
    derivs=_NONE,
    scalar="isfinite(x)",
    accepts=FLOAT,
    result=lambda _dtype: _BOOL,
    spec=unary_spec(np.isfinite, dtypes=FLOATS, ulps=0.0, order=0),
)


def eq(x: Any, y: Any) -> Value:
    """Whether ``x`` equals ``y``, element by element; NaN equals nothing.

    Args:
        x: ``[...]``, any one dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> eq(np.array([1, 2]), np.array([1, 3]))
        Array([ True, False], dtype=bool)
    """
    return bind(eq_p, *operands(x, y))


def ne(x: Any, y: Any) -> Value:
    """Whether ``x`` differs from ``y``, element by element; NaN differs from everything.

    Args:
        x: ``[...]``, any one dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> ne(np.array([1, 2]), np.array([1, 3]))
        Array([False,  True], dtype=bool)
    """
    return bind(ne_p, *operands(x, y))


def lt(x: Any, y: Any) -> Value:
    """Whether ``x`` is less than ``y``, element by element; False beside a NaN.

    Args:
        x: ``[...]``, one real or bool dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> lt(np.array([1, 2]), np.array([1, 3]))
        Array([False,  True], dtype=bool)
    """
    return bind(lt_p, *operands(x, y))


def le(x: Any, y: Any) -> Value:
    """Whether ``x`` is at most ``y``, element by element; False beside a NaN.

    Args:
        x: ``[...]``, one real or bool dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> le(np.array([1, 4]), np.array([1, 3]))
        Array([ True, False], dtype=bool)
    """
    return bind(le_p, *operands(x, y))


def gt(x: Any, y: Any) -> Value:
    """Whether ``x`` is greater than ``y``, element by element; False beside a NaN.

    Args:
        x: ``[...]``, one real or bool dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> gt(np.array([1, 4]), np.array([1, 3]))
        Array([False,  True], dtype=bool)
    """
    return bind(gt_p, *operands(x, y))


def ge(x: Any, y: Any) -> Value:
    """Whether ``x`` is at least ``y``, element by element; False beside a NaN.

    Args:
        x: ``[...]``, one real or bool dtype.
        y: The same dtype, a shape that broadcasts with that of `x`; or a number.

    Returns:
        bool, of the broadcast shape.

    Example:
        >>> ge(np.array([1, 2]), np.array([1, 3]))
        Array([ True, False], dtype=bool)
    """
    return bind(ge_p, *operands(x, y))


def is_finite(x: Any) -> Value:
    """Whether each element of ``x`` (``[...]``, float) is neither infinite nor NaN.

    Example:
        >>> is_finite(np.array([1.0, np.inf, np.nan]))
        Array([ True, False, False], dtype=bool)
    """
    return bind(is_finite_p, as_value(x))
