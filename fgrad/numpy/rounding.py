"""Element by element: rounding to integers and decimals."""

import builtins
from collections.abc import Callable
from typing import Any

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.basis import select_n
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import Value
from fgrad.numpy.promotion import (
    number,
    promote_inexact,
    value,
)
from fgrad.numpy.ufuncs import const, floor_divide, zero_like

__all__ = [
    "around",
    "ceil",
    "fix",
    "floor",
    "rint",
    "round",
    "trunc",
]


def floor(x: Any, /) -> Value:
    """The greatest integer not above; integers stay integers."""
    return _rounded(lax.floor, "floor", x)


def ceil(x: Any, /) -> Value:
    """The least integer not below; integers stay integers."""
    return _rounded(lax.ceil, "ceil", x)


def trunc(x: Any) -> Value:
    """The integer next towards zero; integers stay integers."""
    return _rounded(
        lambda v: select_n(lax.lt(v, zero_like(v)), lax.floor(v), lax.ceil(v)), "trunc", x
    )


fix = trunc


def rint(x: Any, /) -> Value:
    """The nearest integer as a float; halves go to the even one."""
    (x,) = promote_inexact("rint", x)
    return _round_even(x)


def _rounded(function: Callable[[Value], Value], name: str, x: Any) -> Value:
    x = value(x, name, "x")
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"{name} is not defined for complex numbers, got {x.aval}")
    return function(x) if dtypes.is_inexact(x.dtype) else x


def _round_even(x: Value) -> Value:
    if dtypes.is_complex(x.dtype):
        return lax.complex(_round_even(lax.real(x)), _round_even(lax.imag(x)))
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def round(a: Any, decimals: int = 0) -> Value:
    """Rounded to `decimals` decimal places; halves go to the even digit.

    Example:
        >>> import numpy as np
        >>> round(np.float32(2.345), 1)
        Array(2.3, dtype=float32)
    """
    x = value(a, "round", "a")
    if not dtypes.is_inexact(x.dtype):
        if decimals >= 0:
            return x
        factor = number(10 ** builtins.abs(decimals), x.dtype)
        half = lax.div(factor, const(2, x))
        base = floor_divide(x, factor)
        rest = lax.sub(x, lax.mul(base, factor))
        odd = lax.ne(lax.rem(base, const(2, x)), zero_like(x))
        up = lax.bitwise_or(lax.gt(rest, half), lax.bitwise_and(lax.eq(rest, half), odd))
        return lax.mul(select_n(up, base, lax.add(base, const(1, x))), factor)
    if decimals == 0:
        return _round_even(x)
    factor = const(10.0 ** builtins.abs(decimals), x)
    if decimals < 0:
        return lax.mul(_round_even(lax.div(x, factor)), factor)
    return lax.div(_round_even(lax.mul(x, factor)), factor)


around = round
