"""Element by element: comparison, logic and bits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.primitive import Value
from fgrad.numpy.promotion import (
    operands,
    promote,
    promote_numeric,
    value,
)
from fgrad.numpy.ufuncs import abs, truth

__all__ = [
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "invert",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "right_shift",
]


def _complex_order(
    strict: Callable[..., Value], last: Callable[..., Value], x: Value, y: Value
) -> Value:
    """NumPy's order of complex numbers: by real part, then by imaginary part."""
    a, b = lax.real(x), lax.real(y)
    return select_n(lax.eq(a, b), strict(a, b), last(lax.imag(x), lax.imag(y)))


def equal(x1: Any, x2: Any, /) -> Value:
    """``x1 == x2``, element by element."""
    return lax.eq(*promote("equal", x1, x2))


def not_equal(x1: Any, x2: Any, /) -> Value:
    """``x1 != x2``, element by element."""
    return lax.ne(*promote("not_equal", x1, x2))


def _ordering(name: str, strict: str, doc: str) -> Callable[[Any, Any], Value]:
    def compare(x1: Any, x2: Any, /) -> Value:
        x, y = promote(name, x1, x2)
        last = getattr(lax, {"less": "lt", "less_equal": "le", "greater": "gt"}.get(name, "ge"))
        if x.dtype.kind == "c":
            return _complex_order(getattr(lax, strict), last, x, y)
        return last(x, y)

    compare.__name__ = compare.__qualname__ = name
    compare.__doc__ = doc
    return compare


less = _ordering("less", "lt", "``x1 < x2``; complex numbers compare by real, then imaginary part.")
less_equal = _ordering("less_equal", "lt", "``x1 <= x2``, element by element.")
greater = _ordering("greater", "gt", "``x1 > x2``, element by element.")
greater_equal = _ordering("greater_equal", "gt", "``x1 >= x2``, element by element.")


# ----------------------------------------------------------------------------- logic and bits


def logical_and(x1: Any, x2: Any, /) -> Value:
    """Whether both are nonzero."""
    x, y = operands("logical_and", (x1, x2))
    return lax.bitwise_and(truth(x), truth(y))


def logical_or(x1: Any, x2: Any, /) -> Value:
    """Whether either is nonzero."""
    x, y = operands("logical_or", (x1, x2))
    return lax.bitwise_or(truth(x), truth(y))


def logical_xor(x1: Any, x2: Any, /) -> Value:
    """Whether exactly one is nonzero."""
    x, y = operands("logical_xor", (x1, x2))
    return lax.bitwise_xor(truth(x), truth(y))


def logical_not(x: Any, /) -> Value:
    """Whether zero."""
    return lax.bitwise_not(truth(value(x, "logical_not", "x")))


def bitwise_and(x1: Any, x2: Any, /) -> Value:
    """The bits set in both."""
    return lax.bitwise_and(*promote("bitwise_and", x1, x2))


def bitwise_or(x1: Any, x2: Any, /) -> Value:
    """The bits set in either."""
    return lax.bitwise_or(*promote("bitwise_or", x1, x2))


def bitwise_xor(x1: Any, x2: Any, /) -> Value:
    """The bits set in exactly one."""
    return lax.bitwise_xor(*promote("bitwise_xor", x1, x2))


def invert(x: Any, /) -> Value:
    """Every bit flipped; booleans negated."""
    return lax.bitwise_not(value(x, "invert", "x"))


bitwise_not = bitwise_invert = invert


def left_shift(x1: Any, x2: Any, /) -> Value:
    """``x1 · 2**x2`` on integers."""
    return lax.shift_left(*promote_numeric("left_shift", x1, x2))


def right_shift(x1: Any, x2: Any, /) -> Value:
    """``x1 / 2**x2`` rounded down, on integers."""
    x, y = promote_numeric("right_shift", x1, x2)
    shift = lax.shift_right_logical if x.dtype.kind == "u" else lax.shift_right_arithmetic
    return shift(x, y)


bitwise_left_shift, bitwise_right_shift = left_shift, right_shift


def bitwise_count(x: Any, /) -> Value:
    """The number of bits set in the absolute value, as uint8."""
    x = abs(value(x, "bitwise_count", "x"))
    return convert_element_type(x if x.dtype == np.bool_ else lax.population_count(x), np.uint8)
