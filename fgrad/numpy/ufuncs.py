"""Element by element: arithmetic, comparison, logic and bits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import select_n
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import Value
from fgrad.numpy.promotion import (
    number,
    operands,
    pair,
    promote,
    promote_inexact,
    promote_numeric,
    to,
    value,
)

__all__ = [
    "abs",
    "absolute",
    "add",
    "conj",
    "conjugate",
    "divide",
    "divmod",
    "fabs",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "imag",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "positive",
    "pow",
    "power",
    "real",
    "reciprocal",
    "remainder",
    "sign",
    "square",
    "subtract",
    "true_divide",
]

_BOOL = np.dtype(bool)


def truth(x: Any) -> Value:
    """``x != 0`` as booleans."""
    x = value(x)
    return x if x.dtype == _BOOL else lax.ne(x, number(0, x.dtype, weak=False))


def zero_like(x: Value) -> Value:
    """The scalar 0 of the dtype of `x`."""
    return number(0, x.dtype, weak=x.weak_type)


def const(c: float | complex, x: Value) -> Value:
    """The scalar `c` in the dtype of `x`."""
    return number(c, x.dtype, weak=x.weak_type)


# ------------------------------------------------------------------------------- arithmetic


def add(x1: Any, x2: Any, /) -> Value:
    """The sum; booleans add as logical or.

    Example:
        >>> add(np.float32(1.5), 2)
        Array(3.5, dtype=float32)
    """
    x, y = promote("add", x1, x2)
    return lax.bitwise_or(x, y) if x.dtype == _BOOL else lax.add(x, y)


def subtract(x1: Any, x2: Any, /) -> Value:
    """The difference ``x1 - x2``."""
    x, y = promote("subtract", x1, x2)
    if x.dtype == _BOOL:
        raise DtypeError(
            f"subtract: booleans have no difference ({x.aval} - {y.aval}); use bitwise_xor, or "
            f"convert to an integer dtype"
        )
    return lax.sub(x, y)


def multiply(x1: Any, x2: Any, /) -> Value:
    """The product; booleans multiply as logical and."""
    x, y = promote("multiply", x1, x2)
    return lax.bitwise_and(x, y) if x.dtype == _BOOL else lax.mul(x, y)


def true_divide(x1: Any, x2: Any, /) -> Value:
    """The quotient as a floating-point number.

    Example:
        >>> true_divide(np.int32(1), np.int32(2))
        Array(0.5, dtype=float32)
    """
    return lax.div(*promote_inexact("divide", x1, x2))


divide = true_divide


def _float_divmod(x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient and remainder as Python's floats have them: the remainder has the divisor's sign."""
    zero = zero_like(x)
    rem = lax.rem(x, y)
    other_sign = lax.bitwise_and(lax.ne(rem, zero), lax.ne(lax.lt(rem, zero), lax.lt(y, zero)))
    quotient = lax.div(lax.sub(x, rem), y)
    quotient = select_n(other_sign, quotient, lax.sub(quotient, const(1, x)))
    # (x - rem) / y is an integer up to rounding.
    whole = lax.round(quotient, lax.RoundingMethod.TO_NEAREST_EVEN)
    # By 0 it is infinite, or NaN; the derivative of a step function is 0 there too.
    whole = select_n(lax.eq(y, zero), whole, lax.stop_gradient(lax.div(x, y)))
    return whole, select_n(other_sign, rem, lax.add(rem, y))


def floor_divide(x1: Any, x2: Any, /) -> Value:
    """The greatest integer not above ``x1 / x2``, in the operands' dtype.

    Example:
        >>> floor_divide(np.int32(-7), 2)
        Array(-4, dtype=int32)
    """
    x, y = promote_numeric("floor_divide", x1, x2)
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"floor_divide: complex numbers have no order: {x.aval}, {y.aval}")
    if dtypes.is_inexact(x.dtype):
        return _float_divmod(x, y)[0]
    quotient = lax.div(x, y)
    if x.dtype.kind == "u":
        return quotient
    zero = zero_like(x)
    rem = lax.rem(x, y)
    down = lax.bitwise_and(lax.ne(rem, zero), lax.ne(lax.lt(rem, zero), lax.lt(y, zero)))
    return select_n(down, quotient, lax.sub(quotient, const(1, x)))


def remainder(x1: Any, x2: Any, /) -> Value:
    """The remainder of `floor_divide`; it has the sign of the divisor.

    Example:
        >>> remainder(np.float32(-1.0), 3)
        Array(2., dtype=float32)
    """
    x, y = promote_numeric("remainder", x1, x2)
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"remainder: complex numbers have no order: {x.aval}, {y.aval}")
    rem = _truncated_remainder(x, y)
    if x.dtype.kind == "u":
        return rem
    zero = zero_like(x)
    up = lax.bitwise_and(lax.ne(rem, zero), lax.ne(lax.lt(rem, zero), lax.lt(y, zero)))
    return select_n(up, rem, lax.add(rem, y))


mod = remainder


def fmod(x1: Any, x2: Any, /) -> Value:
    """The remainder of the division that truncates; it has the sign of the dividend."""
    return _truncated_remainder(*promote_numeric("fmod", x1, x2))


def _truncated_remainder(x: Value, y: Value) -> Value:
    """The remainder with the sign of x; of integers by 0 it is 0."""
    rem = lax.rem(x, y)
    if dtypes.is_inexact(x.dtype):
        return rem
    return select_n(lax.eq(y, zero_like(y)), rem, zero_like(rem))


def divmod(x1: Any, x2: Any, /) -> tuple[Value, Value]:
    """`floor_divide` and `remainder` together."""
    x, y = promote_numeric("divmod", x1, x2)
    if dtypes.is_float(x.dtype):
        return _float_divmod(x, y)
    return floor_divide(x, y), remainder(x, y)


def power(x1: Any, x2: Any, /) -> Value:
    """``x1`` to the power ``x2``; a Python integer exponent multiplies repeatedly.

    Raises:
        DtypeError: Integers to a negative Python integer.

    Example:
        >>> power(np.float32(3.0), 2)
        Array(9., dtype=float32)
    """
    if type(x2) is int:
        base = promote_numeric("power", x1)[0]
        if x2 < 0 and not dtypes.is_inexact(base.dtype):
            raise DtypeError(
                f"power: integers have no negative integer powers ({base.aval} ** {x2}); convert "
                f"the base to a float dtype"
            )
        return lax.integer_pow(base, x2)
    a, b = operands("power", (x1, x2))
    kind = pair(b)[0].kind
    # A float base keeps an integer exponent exact: no conversion of it, no derivative in it.
    if kind in "iu" and dtypes.is_inexact(pair(a)[0]):
        dtype, weak = dtypes.promote(pair(a), pair(b))
        return lax.pow(to(a, dtype, weak), value(b))
    base, exponent = promote_numeric("power", a, b)
    if dtypes.is_inexact(base.dtype):
        return lax.pow(base, exponent)
    return _integer_power(base, exponent)


pow = power


def _integer_power(base: Value, exponent: Value) -> Value:
    """Powers of integers by squaring, modulo 2 to the number of bits.

    A negative exponent gives the reciprocal, rounded towards 0.
    """
    one, zero = const(1, base), zero_like(base)
    bits = 8 * base.dtype.itemsize - (base.dtype.kind == "i")
    out, factor = one, base
    for bit in range(bits):
        taken = lax.ne(lax.bitwise_and(exponent, const(1 << bit, exponent)), zero)
        out = select_n(taken, out, lax.mul(out, factor))
        factor = lax.mul(factor, factor) if bit < bits - 1 else factor
    if base.dtype.kind == "u":
        return out
    odd = lax.ne(lax.bitwise_and(exponent, one), zero)
    unit = lax.eq(lax.abs(base), one)
    inverse = select_n(unit, zero, select_n(odd, one, base))
    return select_n(lax.lt(exponent, zero), out, inverse)


def float_power(x1: Any, x2: Any, /) -> Value:
    """`power` in floating point, of integers too."""
    return lax.pow(*promote_inexact("float_power", x1, x2))


def negative(x: Any, /) -> Value:
    """``-x``."""
    x = value(x, "negative", "x")
    if x.dtype == _BOOL:
        raise DtypeError(f"negative: {x.aval} has no negative; use logical_not or invert")
    return lax.neg(x)


def positive(x: Any, /) -> Value:
    """``+x``: x itself."""
    return value(x, "positive", "x")


def abs(x: Any, /) -> Value:
    """The absolute value; of complex numbers the modulus, a real number.

    Derivatives:
        0 at 0.
    """
    x = value(x, "abs", "x")
    return x if x.dtype.kind in "bu" else lax.abs(x)


absolute = abs


def fabs(x: Any, /) -> Value:
    """The absolute value, in floating point."""
    return lax.abs(*promote_inexact("fabs", x))


def sign(x: Any, /) -> Value:
    """-1, 0 or 1; of complex numbers ``x / |x|``."""
    x = value(x, "sign", "x")
    if x.dtype == _BOOL:
        raise DtypeError(f"sign is not defined for {x.aval}; convert to an integer dtype")
    return lax.sign(x)


def reciprocal(x: Any, /) -> Value:
    """``1 / x`` in floating point."""
    return lax.reciprocal(*promote_inexact("reciprocal", x))


def square(x: Any, /) -> Value:
    """``x · x``."""
    return lax.square(*promote_numeric("square", x))


def maximum(x1: Any, x2: Any, /) -> Value:
    """The greater of two; NaN where either is. At ties each side gets half of the derivative.

    Example:
        >>> maximum(np.float32(1.0), 2)
        Array(2., dtype=float32)
    """
    return lax.max(*promote("maximum", x1, x2))


def minimum(x1: Any, x2: Any, /) -> Value:
    """The lesser of two; NaN where either is. At ties each side gets half of the derivative."""
    return lax.min(*promote("minimum", x1, x2))


def _ignoring_nan(choose: Callable[..., Value], name: str, x1: Any, x2: Any) -> Value:
    x, y = promote(name, x1, x2)
    if not dtypes.is_inexact(x.dtype):
        return choose(x, y)
    return select_n(lax.ne(x, x), select_n(lax.ne(y, y), choose(x, y), x), y)


def fmax(x1: Any, x2: Any, /) -> Value:
    """The greater of two; the other one where one is NaN."""
    return _ignoring_nan(lax.max, "fmax", x1, x2)


def fmin(x1: Any, x2: Any, /) -> Value:
    """The lesser of two; the other one where one is NaN."""
    return _ignoring_nan(lax.min, "fmin", x1, x2)


def conjugate(x: Any, /) -> Value:
    """The complex conjugate; a real array itself."""
    x = value(x, "conjugate", "x")
    return lax.conj(x) if x.dtype.kind == "c" else x


conj = conjugate


def real(val: Any, /) -> Value:
    """The real part; a real array itself."""
    x = value(val, "real", "val")
    return lax.real(x) if x.dtype.kind == "c" else x


def imag(val: Any, /) -> Value:
    """The imaginary part; zeros for a real array."""
    x = value(val, "imag", "val")
    return lax.imag(x) if x.dtype.kind == "c" else basis.broadcast_to(zero_like(x), x.shape)
