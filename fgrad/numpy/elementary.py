"""Element by element: exponentials, trigonometry and tests of floating-point numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import Value
from fgrad.numpy import bitwise, rounding, ufuncs
from fgrad.numpy.promotion import (
    NUMBERS,
    number,
    promote,
    promote_inexact,
    value,
)
from fgrad.numpy.ufuncs import const, zero_like

__all__ = [
    "acos",
    "acosh",
    "angle",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "clip",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "exp",
    "exp2",
    "expm1",
    "frexp",
    "heaviside",
    "hypot",
    "i0",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "ldexp",
    "log",
    "log10",
    "log1p",
    "log2",
    "logaddexp",
    "logaddexp2",
    "modf",
    "nan_to_num",
    "nextafter",
    "rad2deg",
    "radians",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "spacing",
    "sqrt",
    "tan",
    "tanh",
]

_BOOL = np.dtype(bool)


def _unary(name: str, doc: str, of: str = "") -> Callable[[Any], Value]:
    """A function that computes in floating point by the `lax` function of that name."""
    target = of or name

    def function(x: Any, /) -> Value:
        return getattr(lax, target)(*promote_inexact(name, x))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


exp = _unary("exp", "e to the power x.")
exp2 = _unary("exp2", "2 to the power x.")
expm1 = _unary("expm1", "``exp(x) - 1``, accurate near 0.")
log = _unary("log", "The natural logarithm; NaN below 0.")
log1p = _unary("log1p", "``log(1 + x)``, accurate near 0.")
sqrt = _unary("sqrt", "The square root; its derivative at 0 is infinite.")
cbrt = _unary("cbrt", "The real cube root.")
sin = _unary("sin", "The sine of an angle in radians.")
cos = _unary("cos", "The cosine of an angle in radians.")
tan = _unary("tan", "The tangent of an angle in radians.")
sinh = _unary("sinh", "The hyperbolic sine.")
cosh = _unary("cosh", "The hyperbolic cosine.")
tanh = _unary("tanh", "The hyperbolic tangent.")
arcsin = asin = _unary("arcsin", "The inverse sine, in radians.", "asin")
arccos = acos = _unary("arccos", "The inverse cosine, in radians.", "acos")
arctan = atan = _unary("arctan", "The inverse tangent, in radians.", "atan")
arcsinh = asinh = _unary("arcsinh", "The inverse hyperbolic sine.", "asinh")
arccosh = acosh = _unary("arccosh", "The inverse hyperbolic cosine.", "acosh")
arctanh = atanh = _unary("arctanh", "The inverse hyperbolic tangent.", "atanh")


def log2(x: Any, /) -> Value:
    """The logarithm to base 2."""
    (x,) = promote_inexact("log2", x)
    return _log_over(x, math.log(2))


def log10(x: Any, /) -> Value:
    """The logarithm to base 10."""
    (x,) = promote_inexact("log10", x)
    return _log_over(x, math.log(10))


def _log_over(x: Value, scale: float) -> Value:
    """``log(x) / scale``; both parts of a complex logarithm are divided, so that -∞ stays."""
    y = lax.log(x)
    if not dtypes.is_complex(x.dtype):
        return lax.div(y, const(scale, x))
    real, imag = lax.real(y), lax.imag(y)
    return lax.complex(lax.div(real, const(scale, real)), lax.div(imag, const(scale, imag)))


def arctan2(x1: Any, x2: Any, /) -> Value:
    """The angle of the point ``(x2, x1)``, from -π to π.

    Derivatives:
        0 at the origin.
    """
    x, y = promote_inexact("arctan2", x1, x2)
    _refuse_complex("arctan2", x)
    return lax.atan2(x, y)


atan2 = arctan2


def hypot(x1: Any, x2: Any, /) -> Value:
    """``sqrt(x1² + x2²)`` without overflow between.

    Derivatives:
        0 at the origin.
    """
    return lax.hypot(*promote_inexact("hypot", x1, x2))


def logaddexp(x1: Any, x2: Any, /) -> Value:
    """``log(exp(x1) + exp(x2))`` without overflow between."""
    x, y = promote_inexact("logaddexp", x1, x2)
    _refuse_complex("logaddexp", x)
    return _log_add(x, y)


def _log_add(x: Value, y: Value) -> Value:
    above = lax.ge(x, y)
    high, low = select_n(above, y, x), select_n(above, x, y)
    gap = lax.sub(low, high)
    # Two equal infinities have no difference, and their sum is the infinity itself.
    gap = select_n(lax.ne(gap, gap), gap, zero_like(gap))
    out = lax.add(high, lax.softplus(gap))
    return select_n(lax.bitwise_or(lax.ne(x, x), lax.ne(y, y)), out, lax.add(x, y))


def logaddexp2(x1: Any, x2: Any, /) -> Value:
    """``log2(2**x1 + 2**x2)`` without overflow between."""
    x, y = promote_inexact("logaddexp2", x1, x2)
    _refuse_complex("logaddexp2", x)
    ln2 = const(math.log(2), x)
    return lax.div(_log_add(lax.mul(x, ln2), lax.mul(y, ln2)), ln2)


def sinc(x: Any, /) -> Value:
    """``sin(πx) / (πx)``, 1 at 0."""
    (x,) = promote_inexact("sinc", x)
    t = lax.mul(const(math.pi, x), x)
    near = lax.lt(lax.abs(t), const(0.5, lax.abs(t)))
    # The quotient has no derivative at 0; its Taylor series has all, to 1e-19 for |t| < ½.
    square = lax.square(select_n(near, zero_like(t), t))
    series = const(0, x)
    for k in range(9, -1, -1):
        series = lax.add(lax.mul(series, square), const((-1) ** k / math.factorial(2 * k + 1), x))
    far = select_n(near, t, const(1, t))
    return select_n(near, lax.div(lax.sin(far), far), series)


def degrees(x: Any, /) -> Value:
    """Radians as degrees."""
    (x,) = promote_inexact("degrees", x)
    return lax.mul(x, const(180 / math.pi, x))


def radians(x: Any, /) -> Value:
    """Degrees as radians."""
    (x,) = promote_inexact("radians", x)
    return lax.mul(x, const(math.pi / 180, x))


rad2deg, deg2rad = degrees, radians


def angle(z: Any, deg: bool = False) -> Value:
    """The angle of complex numbers, in radians or degrees."""
    (z,) = promote_inexact("angle", z)
    phase = lax.atan2(ufuncs.imag(z), ufuncs.real(z))
    return degrees(phase) if deg else phase


def i0(x: Any, /) -> Value:
    """The modified Bessel function of the first kind, order 0."""
    (x,) = promote_inexact("i0", x)
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i0e(x))


def heaviside(x1: Any, x2: Any, /) -> Value:
    """0 below 0, `x2` at 0, 1 above 0."""
    x, y = promote_inexact("heaviside", x1, x2)
    zero = zero_like(x)
    step = select_n(lax.lt(x, zero), const(1, x), zero)
    step = select_n(lax.eq(x, zero), step, y)
    return select_n(lax.ne(x, x), step, x)


# --------------------------------------------------------------- parts and tests of a float


def _inexact_test(
    name: str, doc: str, test: Callable[[Value], Value], *, otherwise: bool
) -> Callable[[Any], Value]:
    """A predicate of floats; of complex numbers by their parts; constant for integers."""

    def predicate(x: Any, /) -> Value:
        x = value(x, name, "x")
        if dtypes.is_complex(x.dtype):
            join = lax.bitwise_and if otherwise else lax.bitwise_or
            return join(test(lax.real(x)), test(lax.imag(x)))
        if dtypes.is_inexact(x.dtype):
            return test(x)
        return lax.full_like(x, otherwise, dtype=_BOOL)

    predicate.__name__ = predicate.__qualname__ = name
    predicate.__doc__ = doc
    return predicate


isnan = _inexact_test("isnan", "Whether NaN.", lambda x: lax.ne(x, x), otherwise=False)
isinf = _inexact_test(
    "isinf",
    "Whether infinite.",
    lambda x: lax.eq(lax.abs(x), const(math.inf, x)),
    otherwise=False,
)
isfinite = _inexact_test(
    "isfinite", "Whether neither infinite nor NaN.", lambda x: lax.is_finite(x), otherwise=True
)


def isposinf(x: Any, /) -> Value:
    """Whether positive infinity."""
    return _signed_infinity("isposinf", x, math.inf)


def isneginf(x: Any, /) -> Value:
    """Whether negative infinity."""
    return _signed_infinity("isneginf", x, -math.inf)


def _signed_infinity(name: str, x: Any, which: float) -> Value:
    x = value(x, name, "x")
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"{name} is not defined for complex numbers, got {x.aval}")
    if not dtypes.is_inexact(x.dtype):
        return lax.full_like(x, False, dtype=_BOOL)
    return lax.eq(x, const(which, x))


def _refuse_complex(name: str, x: Value) -> None:
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"{name} takes real numbers, got {x.aval}")


def signbit(x: Any, /) -> Value:
    """Whether the sign bit is set: also of -0.0 and of NaN with a sign."""
    x = value(x, "signbit", "x")
    if x.dtype.kind in "bu":
        return lax.full_like(x, False, dtype=_BOOL)
    if x.dtype.kind == "i":
        return lax.lt(x, zero_like(x))
    _refuse_complex("signbit", x)
    x = lax.stop_gradient(x)
    bits = lax.bitcast_convert_type(x, np.dtype(f"int{8 * x.dtype.itemsize}"))
    return lax.lt(bits, zero_like(bits))


def copysign(x1: Any, x2: Any, /) -> Value:
    """The magnitude of `x1` with the sign of `x2`."""
    x, y = promote_inexact("copysign", x1, x2)
    size = lax.abs(x)
    return select_n(signbit(y), size, lax.neg(size))


def nextafter(x1: Any, x2: Any, /) -> Value:
    """The next floating-point number after `x1` towards `x2`."""
    return lax.nextafter(*promote_inexact("nextafter", x1, x2))


def spacing(x: Any, /) -> Value:
    """The distance to the next number away from zero."""
    (x,) = promote_inexact("spacing", x)
    _refuse_complex("spacing", x)
    x = lax.stop_gradient(x)
    away = select_n(signbit(x), const(math.inf, x), const(-math.inf, x))
    return lax.sub(lax.nextafter(x, away), x)


def modf(x: Any, /) -> tuple[Value, Value]:
    """The fractional and the integral part, both with the sign of `x`."""
    (x,) = promote_inexact("modf", x)
    whole = rounding.trunc(x)
    infinite = isinf(x)
    return select_n(infinite, lax.sub(x, whole), zero_like(x)), whole


def frexp(x: Any, /) -> tuple[Value, Value]:
    """Mantissa in ±[½, 1) and exponent (int32), so that ``x = mantissa · 2**exponent``."""
    (x,) = promote_inexact("frexp", x)
    _refuse_complex("frexp", x)
    info = dtypes.finfo(x.dtype)
    bits = np.dtype(f"int{8 * x.dtype.itemsize}")
    # Subnormal numbers are scaled into the normal range first.
    tiny = lax.lt(lax.abs(x), const(float(info.smallest_normal), x))
    scaled = select_n(tiny, x, lax.mul(x, const(2.0 ** (info.nmant + 1), x)))
    raw = lax.bitcast_convert_type(lax.stop_gradient(scaled), bits)
    mask = number((1 << info.iexp) - 1, bits, weak=False)
    shift = number(info.nmant, bits, weak=False)
    biased = lax.bitwise_and(lax.shift_right_logical(raw, shift), mask)
    bias = number(2 ** (info.iexp - 1) - 2, bits, weak=False)
    exponent = lax.sub(biased, bias)
    lower = lax.sub(exponent, number(info.nmant + 1, bits, weak=False))
    exponent = convert_element_type(select_n(tiny, exponent, lower), np.int32)
    special = lax.bitwise_or(lax.eq(x, zero_like(x)), lax.bitwise_not(lax.is_finite(x)))
    exponent = select_n(special, exponent, zero_like(exponent))
    return select_n(special, ldexp(x, lax.neg(exponent)), x), exponent


def ldexp(x1: Any, x2: Any, /) -> Value:
    """``x1 · 2**x2`` for an integer `x2`."""
    (x,) = promote_inexact("ldexp", x1)
    power = value(x2, "ldexp", "x2")
    if power.dtype.kind not in "iub":
        raise DtypeError(f"ldexp: x2 must be an integer, got {power.aval}")
    power = convert_element_type(power, np.int32)
    # In halves, so that neither factor overflows where the product does not.
    half = bitwise.right_shift(power, 1)
    for part in (half, lax.sub(power, half)):
        x = lax.mul(x, lax.exp2(convert_element_type(part, x.dtype)))
    return x


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Value:  # fmt: skip
    """NaN replaced by `nan`, infinities by `posinf` and `neginf` (default: the largest numbers)."""
    x = value(x, "nan_to_num", "x")
    if not dtypes.is_inexact(x.dtype):
        return x
    if dtypes.is_complex(x.dtype):
        parts = (nan_to_num(p, nan=nan, posinf=posinf, neginf=neginf)
                 for p in (lax.real(x), lax.imag(x)))  # fmt: skip
        return lax.complex(*parts)
    info = dtypes.finfo(x.dtype)
    for found, new in (
        (lax.ne(x, x), nan),
        (lax.eq(x, const(math.inf, x)), float(info.max) if posinf is None else posinf),
        (lax.eq(x, const(-math.inf, x)), float(info.min) if neginf is None else neginf),
    ):
        x = select_n(found, x, _in_dtype(new, x))
    return x


def _in_dtype(new: Any, x: Value) -> Value:
    """`new` in the dtype of `x`; a Python number directly."""
    return const(new, x) if type(new) in NUMBERS else convert_element_type(value(new), x.dtype)


def clip(
    arr: Any = None, /, min: Any = None, max: Any = None, *, a: Any = None
) -> Value:  # fmt: skip
    """Values limited to ``[min, max]``; either bound may be None.

    Derivatives:
        ½ at the bounds.
    """
    x = value(a if arr is None else arr, "clip", "arr")
    if min is None and max is None:
        return x
    if any(isinstance(b, complex) for b in (min, max)) or x.dtype.kind == "c":
        raise DtypeError(f"clip: complex numbers have no order, got {x.aval}")
    if min is not None:
        x = lax.max(*promote("clip", x, min))
    if max is not None:
        x = lax.min(*promote("clip", x, max))
    return x
