"""Dtypes: names, kinds, defaults, limits and promotion; the module that others import.

A *weak* type is the type of a Python scalar, or of a value made from Python scalars alone: its kind
counts, its width does not. ``(np.dtype, weak)`` is written as a pair throughout. Dtypes that the
user states are never narrowed; only defaults follow ``config.enable_x64``.
"""

from typing import Any

import ml_dtypes
import numpy as np

from fgrad.core.dtype_kinds import (
    C64,
    C128,
    CANONICAL,
    EXTENDED,
    F32,
    F64,
    KINDS,
    DType,
    DTypeLike,
    bfloat16,
    bool_,
    complex64,
    complex128,
    default_complex,
    default_float,
    default_int,
    dtype,
    float0,
    float8_e3m4,
    float8_e4m3,
    float8_e4m3b11fnuz,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    is_bool,
    is_complex,
    is_float,
    is_inexact,
    is_integer,
    is_signed,
    is_supported,
    short_name,
    uint8,
    uint16,
    uint32,
    uint64,
)
from fgrad.core.errors import DtypeError
from fgrad.core.promotion import (
    Pair,
    pair_of,
    promote,
    promote_types,
    result_type,
    scalar_pair,
)

__all__ = [
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float0",
    "default_int",
    "default_float",
    "default_complex",
    "dtype",
    "is_supported",
    "is_bool",
    "is_integer",
    "is_signed",
    "is_float",
    "is_complex",
    "is_inexact",
    "short_name",
    "DTypeLike",
    "Pair",
    "promote",
    "promote_types",
    "pair_of",
    "result_type",
    "scalar_pair",
    "issubdtype",
    "to_inexact",
    "real_dtype",
    "to_complex",
    "finfo",
    "iinfo",
]

_ABSTRACT_FLOAT = (np.floating, np.inexact, np.number, np.generic)


def issubdtype(a: DTypeLike, b: DTypeLike) -> bool:
    """Return whether dtype ``a`` is ``b`` or of the abstract type ``b``.

    As ``numpy.issubdtype``, and bfloat16 and float8 types count as ``numpy.floating``.

    Example:
        >>> issubdtype(bfloat16, np.floating), issubdtype(np.int32, np.inexact)
        (True, False)
    """
    if isinstance(a, type) and issubclass(a, np.generic) and a not in CANONICAL:
        # An abstract type: no extended dtype is above one.
        return b not in KINDS and np.issubdtype(a, b)
    left = np.dtype(a)
    if left not in EXTENDED:
        extended = not _is_abstract(b) and np.dtype(b) in EXTENDED
        return not extended and np.issubdtype(left, b)
    return b in _ABSTRACT_FLOAT if _is_abstract(b) else left == np.dtype(b)


def _is_abstract(spec: DTypeLike) -> bool:
    return isinstance(spec, type) and issubclass(spec, np.generic) and spec not in CANONICAL


def to_inexact(spec: DTypeLike) -> DType:
    """Return the dtype in which a function such as ``sin`` computes for an argument of ``spec``.

    Inexact dtypes stay, 64-bit integers become float64, other integers and bool float32.
    """
    d = dtype(spec)
    if is_inexact(d) or d == float0:
        return d
    return F64 if d.itemsize == 8 else F32


def real_dtype(spec: DTypeLike) -> DType:
    """Return the dtype of the real part: float32 for complex64, the dtype itself if not complex."""
    d = dtype(spec)
    return F32 if d == C64 else F64 if d == C128 else d


def to_complex(spec: DTypeLike) -> DType:
    """Return the complex dtype that holds values of ``spec``: complex128 for 64-bit dtypes."""
    d = to_inexact(spec)
    return d if is_complex(d) else C128 if d == F64 else C64


def finfo(spec: DTypeLike) -> Any:
    """Return the machine limits of a float dtype; for a complex dtype, those of its real part.

    Raises:
        DtypeError: The dtype is not inexact.
    """
    if not is_inexact(spec):
        raise DtypeError(f"finfo needs a float or complex dtype, got {spec}; see iinfo")
    d = real_dtype(spec)
    limits: Any = ml_dtypes.finfo
    return limits(d) if d in EXTENDED else np.finfo(d)


def iinfo(spec: DTypeLike) -> Any:
    """Return the limits of an integer dtype.

    Raises:
        DtypeError: The dtype is not an integer.
    """
    if not is_integer(spec):
        raise DtypeError(f"iinfo needs an integer dtype, got {spec}; see finfo")
    return np.iinfo(dtype(spec))


def lowest(dtype: np.dtype[Any]) -> Any:
    """The least value of a real dtype, -∞ where there is one: the identity of a maximum."""
    if dtype.kind == "b":
        return False
    if is_integer(dtype):
        return int(np.iinfo(dtype).min)
    return _infinite(dtype, -np.inf, "min")


def highest(dtype: np.dtype[Any]) -> Any:
    """The greatest value of a real dtype, ∞ where there is one: the identity of a minimum."""
    if dtype.kind == "b":
        return True
    if is_integer(dtype):
        return int(np.iinfo(dtype).max)
    return _infinite(dtype, np.inf, "max")


def _infinite(dtype: np.dtype[Any], infinity: float, bound: str) -> Any:
    """An infinity, or, of an 8-bit float without any, the outermost number."""
    found = float(np.asarray(infinity).astype(dtype)) if dtype in EXTENDED else infinity
    return found if found == infinity else float(getattr(finfo(dtype), bound))
