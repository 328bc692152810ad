"""Arithmetic, element by element: sums, products, quotients, remainders, powers, rounding."""

from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import NUMERIC, Case, Invalid, Operand, Spec, Value
from fgrad.core.tracing import Array, bind
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.kinds import pointwise

_MISMATCH = (
    Invalid(("f32[2]", "f64[2]"), DtypeError, "one dtype"),
    Invalid(("f32[2]", "f32[3]"), ShapeError, "broadcast"),
    Invalid(("b[2]", "b[2]"), DtypeError, "takes"),
)
_PAIR = (Case("...,..."),)


def operands(x: Any, y: Any) -> tuple[Value, Value]:
    """Two values; a Python number takes the dtype of the other operand."""
    if type(x) in (int, float, complex):
        y = as_value(y)
        return ArrayImpl(np.asarray(x, y.dtype)), y
    if type(y) in (int, float, complex):
        x = as_value(x)
        return x, ArrayImpl(np.asarray(y, x.dtype))
    return (
        x if isinstance(x, Array) else as_value(x),
        y if isinstance(y, Array) else as_value(y),
    )


add_p = pointwise(
    "add",
    "x y",
    doc="x + y.",
    eager=lambda _xp, x, y: x + y,
    derivs=(1, 1),
    scalar="x + y",
    accepts=NUMBERS,
    linear="jointly",
    spec=Spec(Operand(), _PAIR, dtypes=NUMERIC, reference=np.add, ulps=0.5, invalid=_MISMATCH),
)

sub_p = pointwise(
    "sub",
    "x y",
    doc="x - y.",
    eager=lambda _xp, x, y: x - y,
    derivs=(1, -1),
    scalar="x - y",
    accepts=NUMBERS,
    linear="jointly",
    spec=Spec(Operand(), _PAIR, dtypes=NUMERIC, reference=np.subtract, ulps=0.5, invalid=_MISMATCH),
)


def _mul_simplify(args: Any, _params: Any) -> Value | None:
    x, y = args
    if y.ndim == 0 and basis.literal(y) == 1 and not y.weak_type:
        return x
    if x.ndim == 0 and basis.literal(x) == 1 and not x.weak_type:
        return y
    return None


mul_p = pointwise(
    "mul",
    "x y",
    doc="x · y.",
    eager=lambda _xp, x, y: x * y,
    derivs=(lambda y: y, lambda x: x),
    scalar="x * y",
    accepts=NUMBERS,
    linear="each",
    simplify=_mul_simplify,
    spec=Spec(Operand(), _PAIR, dtypes=NUMERIC, reference=np.multiply, ulps=2.0, invalid=_MISMATCH),
)


def add(x: Any, y: Any) -> Value:
    """The sum ``x + y``, element by element; operands of one dtype broadcast.

    Example:
        >>> add(1.5, np.float32(2.0))
        Array(3.5, dtype=float32)
    """
    return bind(add_p, *operands(x, y))


def sub(x: Any, y: Any) -> Value:
    """The difference ``x - y``, element by element; operands of one dtype broadcast.

    Example:
        >>> sub(1.5, np.float32(2.0))
        Array(-0.5, dtype=float32)
    """
    return bind(sub_p, *operands(x, y))


def mul(x: Any, y: Any) -> Value:
    """The product ``x · y``, element by element; operands of one dtype broadcast.

    Example:
        >>> mul(1.5, np.float32(2.0))
        Array(3., dtype=float32)
    """
    return bind(mul_p, *operands(x, y))
