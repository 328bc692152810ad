"""What the rules of many primitives share, and needs no primitive itself."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.avals import AnySize, ShapedArray
from fgrad.core.errors import ShapeError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import (
    TYPE,
    Primitive,
    Pullback,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind, state

Avals = ShapedArray


Dims = Sequence[int | None]


def linear_jvp(
    prim_of: Any, primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    """The jvp of a primitive with one linear operand: the same primitive on its tangent."""
    prim = prim_of()
    out = bind(prim, *primals, **params)
    if tangents[0] is None:
        return out, None
    return out, bind(prim, tangents[0], *primals[1:], **params)


def linear_pullback(transpose: Any) -> Pullback:
    """The pullback of a primitive linear in its only operand: nothing but a type is kept."""

    def select(_needed: tuple[bool, ...]) -> tuple[int, ...]:
        return (TYPE(0),)

    def backward(
        _needed: tuple[bool, ...], residuals: tuple[Any, ...], ct: Value, params: dict[str, Any]
    ) -> Sequence[Value | None]:
        return transpose(ct, Unknown(residuals[0]), **params)  # type: ignore[no-any-return]

    return Pullback(None, backward, select)


def broadcast_shapes(name: str, avals: Sequence[ShapedArray]) -> tuple[int, ...]:
    """NumPy's broadcast shape of operands, or a `ShapeError` that names `name`."""
    shape = avals[0].shape
    for a in avals[1:]:
        if a.shape != shape:
            break
    else:
        return shape
    ndim = max(len(a.shape) for a in avals)
    out = [1] * ndim
    for a in avals:
        for i, length in enumerate(a.shape, ndim - len(a.shape)):
            if length != 1:
                if out[i] not in (1, length):
                    shapes = ", ".join(map(str, avals))
                    raise ShapeError(
                        f"{name}: shapes do not broadcast together: {shapes} (axis {i - ndim} is "
                        f"{out[i]} and {length}); equal lengths or 1 are needed on each axis"
                    )
                out[i] = length
    return tuple(out)


def shift_axes(axes: tuple[int, ...], dim: int) -> tuple[int, ...]:
    """Axes of one batch element as axes of the batch whose mapped axis is `dim`."""
    return tuple(a + (a >= dim) for a in axes)


def scalar(value: float | complex | bool, dtype: np.dtype[Any]) -> Value:
    """A constant of that dtype without axes."""
    if isinstance(value, AnySize):
        return ArrayImpl(value.as_array(dtype))
    return ArrayImpl(np.zeros((), dtype) if is_zero_dtype(dtype) else np.asarray(value, dtype))


def literal(x: Value) -> Any:
    """The Python number of a concrete or literal scalar, or None."""
    if type(x) is ArrayImpl:
        data = x._data
    else:
        data = getattr(getattr(x, "atom", None), "value", None)
    if type(data) is np.ndarray and data.ndim == 0 and data.dtype.names is None:
        return data.item() if data.dtype.kind != "V" else float(data)
    return None


def made_by(x: Value, prim: Primitive) -> tuple[Sequence[Value], dict[str, Any]] | None:
    """Operands and parameters of the equation that made `x`, where that applied `prim`.

    Only the compiler's `simplify` looks back, and not from one phase into another; else None.
    """
    origins = getattr(getattr(x, "owner", None), "origins", None)
    if not origins:
        return None
    made = origins.get(x.atom)
    return (made[1], made[2]) if made and made[0] is prim and made[3] == state.phase else None


def is_elementwise(x: Value) -> bool:
    """Whether `x` is computed element by element, as far as the compiler's `simplify` sees."""
    origins = getattr(getattr(x, "owner", None), "origins", None)
    made = origins.get(x.atom) if origins else None
    return made is not None and getattr(made[0].lower, "kind", None) == "pointwise"


def undone(prim_of: Callable[[], Primitive]) -> Callable[..., Value | None]:
    """The `simplify` rule of an operation that undoes itself."""

    def simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
        found = made_by(args[0], prim_of())
        return found[0][0] if found is not None and found[1] == params else None

    return simplify


def idempotent(prim_of: Callable[[], Primitive]) -> Callable[..., Value | None]:
    """The `simplify` rule of an operation that leaves its own results as they are."""

    def simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
        found = made_by(args[0], prim_of())
        return args[0] if found is not None and found[1] == params else None

    return simplify


def is_same(x: Value, y: Value) -> bool:
    """Whether two values are one and the same, known without computing."""
    if x is y:
        return True
    atom = getattr(x, "atom", None)
    return atom is not None and atom is getattr(y, "atom", None)


def is_neutral(y: Value, number: float, x: Value) -> bool:
    """Whether y is the scalar `number`, its sign of zero included, and leaves the type of x."""
    if y.ndim or (x.weak_type and not y.weak_type):
        return False
    known = literal(y)
    return (
        known == number
        and type(known) is not complex
        and (type(known) is not float or math.copysign(1, known) == math.copysign(1, number))
    )


def is_compiling(x: Value) -> bool:
    """Whether the compiler's `simplify` is at work, which nobody sees who prints a program."""
    return getattr(getattr(x, "owner", None), "origins", None) is not None


def is_zero_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is that of the tangents of integers and booleans."""
    return dtype.names is not None


def wide(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype in which a 16-bit or 8-bit float computes, or None for the others."""
    # By number: the characters of the small floats repeat those of integers.
    return None if dtype.num < _FIRST_OTHER_DTYPE else _WIDE.get(dtype)


_FIRST_OTHER_DTYPE = 17  # bool, integers, float32 to complex of NumPy come before
_SMALL = (
    "float16", "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn",
    "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


_WIDE = {np.dtype(getattr(dtypes, name)): np.dtype(np.float32) for name in _SMALL}
