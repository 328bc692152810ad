"""Comparison within tolerances, properties of arrays and dtypes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import bitwise, reductions, ufuncs
from fgrad.numpy.creation import asarray
from fgrad.numpy.elementary import isnan
from fgrad.numpy.promotion import promote_numeric, value

__all__ = [
    "allclose",
    "array_equal",
    "array_equiv",
    "can_cast",
    "isclose",
    "iscomplex",
    "iscomplexobj",
    "isdtype",
    "isreal",
    "isrealobj",
    "isscalar",
    "iterable",
]

_BOOL = np.dtype(bool)


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Value:
    """Whether ``|a - b| ≤ atol + rtol · |b|``; infinities are close to themselves.

    Args:
        a: Any shape.
        b: The reference.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        equal_nan: Whether NaN is close to NaN.
    """
    x, y = promote_numeric("isclose", a, b)
    same = lax.eq(x, y)
    if not dtypes.is_inexact(x.dtype):
        size = ufuncs.abs(y)
        gap = lax.sub(lax.max(x, y), lax.min(x, y))
        limit = ufuncs.add(atol, ufuncs.multiply(rtol, size))
        return lax.bitwise_or(same, bitwise.less_equal(gap, limit))
    gap, size = lax.abs(lax.sub(x, y)), lax.abs(y)
    limit = ufuncs.add(atol, ufuncs.multiply(rtol, size))
    finite = lax.bitwise_and(_finite(x), _finite(y))
    close = lax.bitwise_or(same, lax.bitwise_and(finite, bitwise.less_equal(gap, limit)))
    if equal_nan:
        close = lax.bitwise_or(close, lax.bitwise_and(isnan(x), isnan(y)))
    return close


def _finite(x: Value) -> Value:
    if x.dtype.kind == "c":
        return lax.bitwise_and(lax.is_finite(lax.real(x)), lax.is_finite(lax.imag(x)))
    return lax.is_finite(x)


def allclose(
    a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False
) -> Value:
    """Whether all elements are close; see `isclose`."""
    return reductions.all(isclose(asarray(a), asarray(b), rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Value:
    """Whether shapes and all elements are equal."""
    x, y = asarray(a1), asarray(a2)
    if x.shape != y.shape:
        return value(np.asarray(False))
    same = bitwise.equal(x, y)
    if equal_nan:
        same = lax.bitwise_or(same, lax.bitwise_and(isnan(x), isnan(y)))
    return reductions.all(same)


def array_equiv(a1: Any, a2: Any) -> Value:
    """Whether the arrays broadcast together and all elements are then equal."""
    x, y = asarray(a1), asarray(a2)
    try:
        lax.broadcast_shapes(x.shape, y.shape)
    except (ShapeError, ValueError):
        return value(np.asarray(False))
    return reductions.all(bitwise.equal(x, y))


def iscomplex(x: Any) -> Value:
    """Whether the imaginary part is nonzero."""
    imaginary = ufuncs.imag(x)
    return lax.ne(imaginary, ufuncs.zero_like(imaginary))


def isreal(x: Any) -> Value:
    """Whether the imaginary part is zero."""
    imaginary = ufuncs.imag(x)
    return lax.eq(imaginary, ufuncs.zero_like(imaginary))


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return dtypes.is_complex(dtypes.pair_of(asarray(x) if isinstance(x, list | tuple) else x)[0])


def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


def isscalar(element: Any) -> bool:
    """Whether a number or an array without axes."""
    if isinstance(element, bool | int | float | complex | np.generic):
        return True
    return hasattr(element, "dtype") and getattr(element, "ndim", None) == 0


def iterable(y: Any) -> bool:
    """Whether it can be iterated over."""
    return getattr(y, "ndim", 1) > 0 and hasattr(y, "__iter__")


_KINDS: dict[str, Callable[[Any], Any]] = {
    "bool": dtypes.is_bool,
    "signed integer": lambda d: dtypes.is_integer(d) and dtypes.is_signed(d),
    "unsigned integer": lambda d: dtypes.is_integer(d) and not dtypes.is_signed(d),
    "integral": dtypes.is_integer,
    "real floating": dtypes.is_float,
    "complex floating": dtypes.is_complex,
    "numeric": lambda d: dtypes.is_integer(d) or dtypes.is_inexact(d),
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, a name of the array API standard, or a tuple of these.

    Example:
        >>> isdtype(np.float32, "real floating")
        True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return bool(_KINDS[kind](dtypes.dtype(dtype)))
    if isinstance(kind, str) and not dtypes.is_supported(kind):
        raise ArgumentError(f"isdtype: {kind!r} is neither a dtype nor one of {', '.join(_KINDS)}")
    return bool(dtypes.dtype(dtype) == dtypes.dtype(kind))


def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    """Whether values of one dtype fit another, by NumPy's rules."""
    source = from_ if isinstance(from_, type) else getattr(from_, "dtype", from_)
    if dtypes.is_supported(source) and dtypes.is_supported(to) and casting == "safe":
        a, b = dtypes.dtype(source), dtypes.dtype(to)
        if a.kind == "V" or b.kind == "V":
            return bool(a == b or (dtypes.is_float(a) and dtypes.promote_types(a, b) == b))
    return np.can_cast(source, to, casting)  # type: ignore[arg-type]
