"""The dtypes of fgrad by name and by kind, and the defaults of Python scalars."""

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from fgrad.core.config import config
from fgrad.core.errors import DtypeError

__all__ = [
    "DType",
    "BOOL",
    "SIGNED",
    "UNSIGNED",
    "FLOAT8",
    "BF16",
    "F16",
    "F32",
    "F64",
    "C64",
    "C128",
    "I32",
    "I64",
    "U64",
    "ALL",
    "KINDS",
    "NATIVE",
    "CANONICAL",
    "EXTENDED",
    "PYTHON_DEFAULTS",
    "PYTHON_SCALARS",
    "supported_names",
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
]

DTypeLike: TypeAlias = Any
DType: TypeAlias = "np.dtype[Any]"

bool_ = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64 = np.float16, np.float32, np.float64
complex64, complex128 = np.complex64, np.complex128
bfloat16 = ml_dtypes.bfloat16
float8_e3m4 = ml_dtypes.float8_e3m4
float8_e4m3 = ml_dtypes.float8_e4m3
float8_e4m3b11fnuz = ml_dtypes.float8_e4m3b11fnuz
float8_e4m3fn = ml_dtypes.float8_e4m3fn
float8_e4m3fnuz = ml_dtypes.float8_e4m3fnuz
float8_e5m2 = ml_dtypes.float8_e5m2
float8_e5m2fnuz = ml_dtypes.float8_e5m2fnuz
float8_e8m0fnu = ml_dtypes.float8_e8m0fnu

float0: DType = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents and cotangents of integer and boolean values: no bits, only a shape."""

BOOL: DType = np.dtype(bool)
SIGNED: tuple[DType, ...] = tuple(map(np.dtype, (int8, int16, int32, int64)))
UNSIGNED: tuple[DType, ...] = tuple(map(np.dtype, (uint8, uint16, uint32, uint64)))
FLOAT8: tuple[DType, ...] = tuple(
    map(
        np.dtype,
        (
            float8_e3m4,
            float8_e4m3,
            float8_e4m3b11fnuz,
            float8_e4m3fn,
            float8_e4m3fnuz,
            float8_e5m2,
            float8_e5m2fnuz,
            float8_e8m0fnu,
        ),
    )
)
BF16, F16, F32, F64 = map(np.dtype, (bfloat16, float16, float32, float64))
C64, C128 = np.dtype(complex64), np.dtype(complex128)
I32, I64, U64 = np.dtype(int32), np.dtype(int64), np.dtype(uint64)

ALL: tuple[DType, ...] = (
    BOOL,
    *UNSIGNED,
    *SIGNED,
    *FLOAT8,
    F16,
    BF16,
    F32,
    F64,
    C64,
    C128,
)

# Every table is keyed by dtype and by scalar type, which do not hash alike.
KINDS: dict[Any, str] = {}
for _d in ALL:
    _kind = (
        "b"
        if _d == BOOL
        else "i"
        if _d in SIGNED
        else "u"
        if _d in UNSIGNED
        else "c"
        if _d.kind == "c"
        else "f"
    )
    KINDS[_d] = KINDS[_d.type] = _kind
KINDS[float0] = "0"

# By kind, the numbers (`dtype.num`) of the dtypes that NumPy computes in: all but the 8- and 16-bit
# floats. Characters do not tell dtypes apart: 'L' is uint64, and float8_e4m3b11fnuz.
NATIVE: dict[str, frozenset[int]] = {
    kind: frozenset(np.dtype(c).num for c in chars)
    for kind, chars in {"b": "?", "i": "bhilq", "u": "BHILQ", "f": "fd", "c": "FD"}.items()
}

CANONICAL: dict[Any, DType] = {key: np.dtype(key) for key in KINDS}
CANONICAL.update({d.name: d for d in ALL})
CANONICAL["float0"] = float0

EXTENDED = frozenset((BF16, *FLOAT8))


# --- defaults and normal form ---------------------------------------------------------------------


def default_int() -> DType:
    """Return the dtype of Python integers: int32, or int64 under ``enable_x64``."""
    return I64 if config.enable_x64 else I32


def default_float() -> DType:
    """Return the dtype of Python floats: float32, or float64 under ``enable_x64``."""
    return F64 if config.enable_x64 else F32


def default_complex() -> DType:
    """Return the dtype of Python complex numbers: complex64, or complex128 under ``enable_x64``."""
    return C128 if config.enable_x64 else C64


# Python's types, and their names as strings, mean the default of their kind.
PYTHON_DEFAULTS: dict[Any, Any] = {
    bool: lambda: BOOL,
    int: default_int,
    float: default_float,
    complex: default_complex,
    "int": default_int,
    "float": default_float,
    "complex": default_complex,
}
PYTHON_SCALARS = frozenset((bool, int, float, complex))


def dtype(spec: DTypeLike) -> DType:
    """Return the NumPy dtype that ``spec`` names, in native byte order.

    Explicit dtypes stay as they are, whatever ``enable_x64`` says; the Python types int, float and
    complex mean the default dtypes.

    Args:
        spec: A dtype, scalar type, Python type or name such as ``"bfloat16"``.

    Returns:
        One of the supported dtypes.

    Raises:
        DtypeError: ``spec`` is no dtype, or one that fgrad does not support.

    Example:
        >>> dtype(float), dtype(np.float64), dtype("int8")
        (dtype('float32'), dtype('float64'), dtype('int8'))
    """
    try:
        found = CANONICAL.get(spec)
    except TypeError:  # unhashable, such as a list that describes a structured dtype
        found = None
    if found is not None:
        return found
    return _slow_dtype(spec)


def _slow_dtype(spec: DTypeLike) -> DType:
    if isinstance(spec, type | str) and spec in PYTHON_DEFAULTS:
        default: DType = PYTHON_DEFAULTS[spec]()
        return default
    if spec is None:
        raise DtypeError("None is not a dtype; leave dtype out to get the default")
    try:
        raw = np.dtype(spec)
    except TypeError as error:
        raise DtypeError(f"{spec!r} is not a dtype; supported are {supported_names()}") from error
    found = CANONICAL.get(raw.newbyteorder("="))
    if found is None:
        raise DtypeError(f"dtype {raw} is not supported; supported are {supported_names()}")
    return found


def supported_names() -> str:
    """Return the names of all dtypes that arrays can have, for messages."""
    return ", ".join(d.name for d in ALL)


def is_supported(spec: DTypeLike) -> bool:
    """Return whether :func:`dtype` accepts ``spec``."""
    try:
        dtype(spec)
    except DtypeError:
        return False
    return True


# --- kinds ----------------------------------------------------------------------------------------


def _kind_of(spec: DTypeLike) -> str:
    try:
        return KINDS[spec]
    except (KeyError, TypeError):
        return KINDS[dtype(spec)] if is_supported(spec) else "?"


def is_bool(spec: DTypeLike) -> bool:
    """Return whether the dtype is bool."""
    return _kind_of(spec) == "b"


def is_integer(spec: DTypeLike) -> bool:
    """Return whether the dtype is a signed or unsigned integer; bool is not."""
    return _kind_of(spec) in "iu"


def is_signed(spec: DTypeLike) -> bool:
    """Return whether values of the dtype can be negative: signed integer, float or complex."""
    return _kind_of(spec) in "ifc"


def is_float(spec: DTypeLike) -> bool:
    """Return whether the dtype is a real float; bfloat16 and the float8 family are."""
    return _kind_of(spec) == "f"


def is_complex(spec: DTypeLike) -> bool:
    """Return whether the dtype is complex64 or complex128."""
    return _kind_of(spec) == "c"


def is_inexact(spec: DTypeLike) -> bool:
    """Return whether the dtype is real or complex floating point, hence differentiable."""
    return _kind_of(spec) in "fc"


# --- names -----------------------------------------------------------------------------------

_SHORT: dict[Any, str] = {BOOL: "b", BF16: "bf16", float0: "float0"}
_SHORT.update({d: f"f8_{d.name.removeprefix('float8_')}" for d in FLOAT8})
for _d in ALL:
    _SHORT.setdefault(_d, f"{KINDS[_d]}{8 * _d.itemsize}")


def short_name(spec: DTypeLike) -> str:
    """Return the short name used in programs and messages.

    Example:
        >>> short_name(np.float32), short_name(bool), short_name(float8_e4m3fn)
        ('f32', 'b', 'f8_e4m3fn')
    """
    try:
        return _SHORT[spec]
    except (KeyError, TypeError):
        # Also names dtypes that are not supported, for the messages that refuse them.
        raw = CANONICAL.get(np.dtype(spec))
        return str(np.dtype(spec)) if raw is None else _SHORT[raw]
