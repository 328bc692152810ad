"""Operators of arrays. What is of one dtype goes to its primitive at once.

Each binary operator has a fast path (two arrays of one dtype, or an array and a Python number
that takes the array's dtype) and a slow one, the ufunc of the same name, which promotes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.config import config
from fgrad.core.dtype_kinds import BF16, F16, NATIVE
from fgrad.core.errors import ImmutableArrayError
from fgrad.core.evaluate import WEAK, ArrayImpl, is_buffer
from fgrad.core.primitive import Primitive, primitive
from fgrad.core.tracing import Array, state
from fgrad.numpy import bitwise, rounding, ufuncs

# Numbers of the dtypes that an operator takes as they are; the others go the slow way.
_INTEGERS = NATIVE["i"] | NATIVE["u"]
_FLOATS = NATIVE["f"] | {F16.num, BF16.num}
_INEXACT = _FLOATS | NATIVE["c"]
_NUMBERS = _INEXACT | _INTEGERS
_BITS = NATIVE["b"] | _INTEGERS
_ORDERED = NATIVE["b"] | _FLOATS | _INTEGERS
_ALL = NATIVE["b"] | _NUMBERS
# Which array dtypes a Python number takes on directly.
_TAKEN = {int: _NUMBERS, float: _INEXACT, complex: NATIVE["c"]}

_ACCEPTED = (Array, bool, int, float, complex, np.ndarray, np.generic)


def acceptable(y: Any) -> bool:
    """Whether `y` may stand beside an array; otherwise Python asks `y` itself."""
    return isinstance(y, _ACCEPTED) or is_buffer(y) or hasattr(y, "__fgrad_array__")


def _binary(
    prim: Primitive, slow: Callable[[Any, Any], Any], takes: frozenset[int]
) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The operator and its reflected twin."""

    def operator(x: Any, y: Any) -> Any:
        dtype = x.dtype
        number = dtype.num
        if isinstance(y, Array):
            if (
                y.dtype is dtype
                and number in takes
                and (config.numpy_rank_promotion == "allow" or x.ndim == y.ndim)
            ):
                return state.trace.process(prim, (x, y), {})
        elif number in takes:
            taken = _TAKEN.get(type(y))
            if taken is not None and number in taken and _fits(y, number):
                return state.trace.process(prim, (x, _number(y, x, dtype)), {})
        if not acceptable(y):
            return NotImplemented
        return slow(x, y)

    def reflected(x: Any, y: Any) -> Any:
        dtype = x.dtype
        number = dtype.num
        if number in takes:
            taken = _TAKEN.get(type(y))
            if taken is not None and number in taken and _fits(y, number):
                return state.trace.process(prim, (_number(y, x, dtype), x), {})
        if not acceptable(y):
            return NotImplemented
        return slow(y, x)

    return operator, reflected


def _number(y: Any, x: Any, dtype: np.dtype[Any]) -> ArrayImpl:
    """A Python number in the dtype of `x`; weak only where `x` is, so that the result is as `x`."""
    return ArrayImpl(np.asarray(y, dtype), WEAK if x.weak_type else 0)


def _fits(y: Any, number: int) -> bool:
    """Whether the number surely fits; the slow way checks the others and says what is wrong."""
    return type(y) is not int or 0 <= y <= 127 or (-128 <= y < 0 and number not in NATIVE["u"])


def _slow(
    function: Callable[[Any, Any], Any],
) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    def operator(x: Any, y: Any) -> Any:
        return function(x, y) if acceptable(y) else NotImplemented

    def reflected(x: Any, y: Any) -> Any:
        return function(y, x) if acceptable(y) else NotImplemented

    return operator, reflected


def _set_item(x: Any, index: Any, new: Any) -> None:
    raise ImmutableArrayError(
        f"arrays are immutable, so x[...] = y is not possible for this {x.aval}; use "
        f"x = x.at[index].set(y), or .add, .multiply, .min, .max, which return a new array"
    )


def _round(x: Any, digits: int | None = None) -> Any:
    """As of a Python number: integers where no digits are asked for."""
    out = rounding.round(x, digits or 0)
    return out if digits is not None else convert_element_type(out, dtypes.default_int())


def _members() -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, prim, slow, takes in (
        ("add", "add", ufuncs.add, _NUMBERS),
        ("sub", "sub", ufuncs.subtract, _NUMBERS),
        ("mul", "mul", ufuncs.multiply, _NUMBERS),
        ("truediv", "div", ufuncs.true_divide, _INEXACT),
        ("and", "and", bitwise.bitwise_and, _BITS),
        ("or", "or", bitwise.bitwise_or, _BITS),
        ("xor", "xor", bitwise.bitwise_xor, _BITS),
        ("eq", "eq", bitwise.equal, _ALL),
        ("ne", "ne", bitwise.not_equal, _ALL),
        ("lt", "lt", bitwise.less, _ORDERED),
        ("le", "le", bitwise.less_equal, _ORDERED),
        ("gt", "gt", bitwise.greater, _ORDERED),
        ("ge", "ge", bitwise.greater_equal, _ORDERED),
    ):
        operator, reflected = _binary(primitive(prim), slow, takes)
        members[f"__{name}__"] = operator
        if name not in ("eq", "ne", "lt", "le", "gt", "ge"):
            members[f"__r{name}__"] = reflected
    for name, slow in (
        ("floordiv", ufuncs.floor_divide),
        ("mod", ufuncs.remainder),
        ("divmod", ufuncs.divmod),
        ("pow", ufuncs.power),
        ("lshift", bitwise.left_shift),
        ("rshift", bitwise.right_shift),
    ):
        members[f"__{name}__"], members[f"__r{name}__"] = _slow(slow)
    return members


MEMBERS: dict[str, Any] = {
    **_members(),
    "__neg__": ufuncs.negative,
    "__pos__": ufuncs.positive,
    "__abs__": ufuncs.abs,
    "__invert__": bitwise.invert,
    "__round__": _round,
    "__setitem__": _set_item,
}
