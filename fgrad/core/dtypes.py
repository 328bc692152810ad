"""Dtypes: names, kinds, defaults and the promotion lattice.

A *weak* type is the type of a Python scalar, or of a value made from Python scalars alone: its kind
counts, its width does not. ``(np.dtype, weak)`` is written as a pair throughout. Dtypes that the
user states are never narrowed; only defaults follow ``config.enable_x64``.

Source:
    The lattice is that of JAX's *Type promotion semantics* page; NumPy's agrees with it in part.
"""

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from fgrad.core.config import config
from fgrad.core.errors import DtypeError

__all__ = [
    "DTypeLike",
    "Pair",
    "bfloat16",
    "bool_",
    "complex64",
    "complex128",
    "default_complex",
    "default_float",
    "default_int",
    "dtype",
    "finfo",
    "float0",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_bool",
    "is_complex",
    "is_float",
    "is_inexact",
    "is_integer",
    "is_signed",
    "is_supported",
    "issubdtype",
    "pair_of",
    "promote",
    "promote_types",
    "real_dtype",
    "result_type",
    "scalar_pair",
    "short_name",
    "to_complex",
    "to_inexact",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

DTypeLike: TypeAlias = Any
Pair: TypeAlias = tuple["np.dtype[Any]", bool]
_DType: TypeAlias = "np.dtype[Any]"

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

float0: _DType = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents and cotangents of integer and boolean values: no bits, only a shape."""

_BOOL: _DType = np.dtype(bool)
_SIGNED: tuple[_DType, ...] = tuple(map(np.dtype, (int8, int16, int32, int64)))
_UNSIGNED: tuple[_DType, ...] = tuple(map(np.dtype, (uint8, uint16, uint32, uint64)))
_FLOAT8: tuple[_DType, ...] = tuple(
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
_BF16, _F16, _F32, _F64 = map(np.dtype, (bfloat16, float16, float32, float64))
_C64, _C128 = np.dtype(complex64), np.dtype(complex128)
_I32, _I64, _U64 = np.dtype(int32), np.dtype(int64), np.dtype(uint64)

_ALL: tuple[_DType, ...] = (
    _BOOL,
    *_UNSIGNED,
    *_SIGNED,
    *_FLOAT8,
    _F16,
    _BF16,
    _F32,
    _F64,
    _C64,
    _C128,
)

# Every table is keyed by dtype and by scalar type, which do not hash alike.
_KINDS: dict[Any, str] = {}
for _d in _ALL:
    _kind = (
        "b"
        if _d == _BOOL
        else "i"
        if _d in _SIGNED
        else "u"
        if _d in _UNSIGNED
        else "c"
        if _d.kind == "c"
        else "f"
    )
    _KINDS[_d] = _KINDS[_d.type] = _kind
_KINDS[float0] = "0"

_CANONICAL: dict[Any, _DType] = {key: np.dtype(key) for key in _KINDS}
_CANONICAL.update({d.name: d for d in _ALL})
_CANONICAL["float0"] = float0

_EXTENDED = frozenset((_BF16, *_FLOAT8))


# --- defaults and normal form ---------------------------------------------------------------------


def default_int() -> _DType:
    """Return the dtype of Python integers: int32, or int64 under ``enable_x64``."""
    return _I64 if config.enable_x64 else _I32


def default_float() -> _DType:
    """Return the dtype of Python floats: float32, or float64 under ``enable_x64``."""
    return _F64 if config.enable_x64 else _F32


def default_complex() -> _DType:
    """Return the dtype of Python complex numbers: complex64, or complex128 under ``enable_x64``."""
    return _C128 if config.enable_x64 else _C64


# Python's types, and their names as strings, mean the default of their kind.
_PYTHON_DEFAULTS: dict[Any, Any] = {
    bool: lambda: _BOOL,
    int: default_int,
    float: default_float,
    complex: default_complex,
    "int": default_int,
    "float": default_float,
    "complex": default_complex,
}
_PYTHON_SCALARS = frozenset((bool, int, float, complex))


def dtype(spec: DTypeLike) -> _DType:
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
        found = _CANONICAL.get(spec)
    except TypeError:  # unhashable, such as a list that describes a structured dtype
        found = None
    if found is not None:
        return found
    return _slow_dtype(spec)


def _slow_dtype(spec: DTypeLike) -> _DType:
    if isinstance(spec, type | str) and spec in _PYTHON_DEFAULTS:
        default: _DType = _PYTHON_DEFAULTS[spec]()
        return default
    if spec is None:
        raise DtypeError("None is not a dtype; leave dtype out to get the default")
    try:
        raw = np.dtype(spec)
    except TypeError as error:
        raise DtypeError(f"{spec!r} is not a dtype; supported are {_names()}") from error
    found = _CANONICAL.get(raw.newbyteorder("="))
    if found is None:
        raise DtypeError(f"dtype {raw} is not supported; supported are {_names()}")
    return found


def _names() -> str:
    return ", ".join(d.name for d in _ALL)


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
        return _KINDS[spec]
    except (KeyError, TypeError):
        return _KINDS[dtype(spec)] if is_supported(spec) else "?"


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


_ABSTRACT_FLOAT = (np.floating, np.inexact, np.number, np.generic)


def issubdtype(a: DTypeLike, b: DTypeLike) -> bool:
    """Return whether dtype ``a`` is ``b`` or of the abstract type ``b``.

    As ``numpy.issubdtype``, and bfloat16 and float8 types count as ``numpy.floating``.

    Example:
        >>> issubdtype(bfloat16, np.floating), issubdtype(np.int32, np.inexact)
        (True, False)
    """
    if isinstance(a, type) and issubclass(a, np.generic) and a not in _CANONICAL:
        # An abstract type: no extended dtype is above one.
        return b not in _KINDS and np.issubdtype(a, b)
    left = np.dtype(a)
    if left not in _EXTENDED:
        extended = not _is_abstract(b) and np.dtype(b) in _EXTENDED
        return not extended and np.issubdtype(left, b)
    return b in _ABSTRACT_FLOAT if _is_abstract(b) else left == np.dtype(b)


def _is_abstract(spec: DTypeLike) -> bool:
    return isinstance(spec, type) and issubclass(spec, np.generic) and spec not in _CANONICAL


# --- properties -----------------------------------------------------------------------------------

_SHORT: dict[Any, str] = {_BOOL: "b", _BF16: "bf16", float0: "float0"}
_SHORT.update({d: f"f8_{d.name.removeprefix('float8_')}" for d in _FLOAT8})
for _d in _ALL:
    _SHORT.setdefault(_d, f"{_KINDS[_d]}{8 * _d.itemsize}")


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
        raw = _CANONICAL.get(np.dtype(spec))
        return str(np.dtype(spec)) if raw is None else _SHORT[raw]


def to_inexact(spec: DTypeLike) -> _DType:
    """Return the dtype in which a function such as ``sin`` computes for an argument of ``spec``.

    Inexact dtypes stay, 64-bit integers become float64, other integers and bool float32.
    """
    d = dtype(spec)
    if is_inexact(d) or d == float0:
        return d
    return _F64 if d.itemsize == 8 else _F32


def real_dtype(spec: DTypeLike) -> _DType:
    """Return the dtype of the real part: float32 for complex64, the dtype itself if not complex."""
    d = dtype(spec)
    return _F32 if d == _C64 else _F64 if d == _C128 else d


def to_complex(spec: DTypeLike) -> _DType:
    """Return the complex dtype that holds values of ``spec``: complex128 for 64-bit dtypes."""
    d = to_inexact(spec)
    return d if is_complex(d) else _C128 if d == _F64 else _C64


def finfo(spec: DTypeLike) -> Any:
    """Return the machine limits of a float dtype; for a complex dtype, those of its real part.

    Raises:
        DtypeError: The dtype is not inexact.
    """
    if not is_inexact(spec):
        raise DtypeError(f"finfo needs a float or complex dtype, got {spec}; see iinfo")
    d = real_dtype(spec)
    return ml_dtypes.finfo(d) if d in _EXTENDED else np.finfo(d)


def iinfo(spec: DTypeLike) -> Any:
    """Return the limits of an integer dtype.

    Raises:
        DtypeError: The dtype is not an integer.
    """
    if not is_integer(spec):
        raise DtypeError(f"iinfo needs an integer dtype, got {spec}; see finfo")
    return np.iinfo(dtype(spec))


# --- promotion ------------------------------------------------------------------------------------

_Node: TypeAlias = Any  # a strong np.dtype, or "i", "f", "c": the weak types


def _lattice_edges() -> dict[_Node, tuple[_Node, ...]]:
    """Return, for each node, its direct upper neighbours."""
    u8, u16, u32, u64 = _UNSIGNED
    i8, i16, i32, i64 = _SIGNED
    return {
        _BOOL: ("i",),
        "i": (u8, i8),
        u8: (i16, u16),
        u16: (i32, u32),
        u32: (i64, u64),
        u64: ("f",),
        i8: (i16,),
        i16: (i32,),
        i32: (i64,),
        i64: ("f",),
        "f": (_BF16, _F16, *_FLOAT8, "c"),
        **{d: () for d in _FLOAT8},
        _BF16: (_F32,),
        _F16: (_F32,),
        _F32: (_F64, _C64),
        _F64: (_C128,),
        "c": (_C64,),
        _C64: (_C128,),
        _C128: (),
    }


def _strict_edges() -> dict[_Node, tuple[_Node, ...]]:
    edges: dict[_Node, tuple[_Node, ...]] = {d: () for d in _ALL}
    floats = tuple(d for d in _ALL if _KINDS[d] == "f")
    return edges | {"i": ("f", *_UNSIGNED, *_SIGNED), "f": ("c", *floats), "c": (_C64, _C128)}


def _upper_bounds(edges: dict[_Node, tuple[_Node, ...]]) -> dict[_Node, frozenset[_Node]]:
    """Return the reflexive transitive closure of ``edges``."""
    closed: dict[_Node, frozenset[_Node]] = {}

    def visit(node: _Node) -> frozenset[_Node]:
        if node not in closed:
            closed[node] = frozenset((node,)).union(*map(visit, edges[node]))
        return closed[node]

    for node in edges:
        visit(node)
    return closed


_UPPER = _upper_bounds(_lattice_edges())
_UPPER_STRICT = _upper_bounds(_strict_edges())


def _node(pair: Pair) -> _Node:
    """Return the lattice node of a pair; a weak bool is a strong bool."""
    d, weak = pair
    if not weak or d == _BOOL:
        return d
    kind = _KINDS[d]
    return "i" if kind == "u" else kind


def _join(nodes: set[_Node], strict: bool) -> _Node:
    """Return the least upper bound of lattice nodes."""
    upper = _UPPER_STRICT if strict else _UPPER
    if float0 in nodes:
        raise DtypeError(
            f"float0 promotes with no other dtype, got {_list(nodes)}: it marks the derivative of "
            "an integer or boolean value, which carries no numbers"
        )
    bounds = frozenset.intersection(*(upper[n] for n in nodes))
    least = [n for n in bounds if bounds <= upper[n]]
    if len(least) == 1:
        return least[0]
    if strict:
        raise DtypeError(
            f"dtypes {_list(nodes)} do not promote with numpy_dtype_promotion='strict'; convert "
            "one with .astype, or allow promotion with numpy_dtype_promotion('standard')"
        )
    raise DtypeError(
        f"dtypes {_list(nodes)} have no implicit promotion, as 8-bit floats promote only with "
        "themselves and with integers; convert one explicitly, as in x.astype('float32')"
    )


def _list(nodes: set[_Node]) -> str:
    weak = {"i": "Python int", "f": "Python float", "c": "Python complex"}
    return ", ".join(sorted(weak[n] if isinstance(n, str) else short_name(n) for n in nodes))


def _weak_width(kind: str, pairs: tuple[Pair, ...]) -> _DType:
    """Return the dtype for a result of weak ``kind``: the default one, or 64-bit if one entered.

    64-bit integers of both signs meet in a float, which must then be float64 whatever the default
    is: explicit 64-bit values are not narrowed. A weak operand of 64 bits is kept likewise.
    """
    narrow, wide = {"i": (_I32, _I64), "f": (_F32, _F64), "c": (_C64, _C128)}[kind]
    if config.enable_x64 or any(weak and d in (_I64, _F64, _C128) for d, weak in pairs):
        return wide
    mixed = kind == "f" and not any(weak and _KINDS[d] == "f" for d, weak in pairs)
    return wide if mixed else narrow


def _promote_uncached(pairs: tuple[Pair, ...], strict: bool) -> Pair:
    for d, _ in pairs:
        if d not in _KINDS:
            raise DtypeError(f"dtype {d} is not supported; supported are {_names()}")
    if all(d == pairs[0][0] for d, _ in pairs):
        d = pairs[0][0]
        return d, d != _BOOL and all(weak for _, weak in pairs)
    if not strict and all(weak for _, weak in pairs):
        # Of weak types alone, the widths count: weak int64 and weak float32 give weak float32.
        bound = _join({d for d, _ in pairs}, strict)
        return (_weak_width(bound, pairs) if isinstance(bound, str) else bound), bound != _BOOL
    bound = _join({_node(p) for p in pairs}, strict)
    if isinstance(bound, str):
        return _weak_width(bound, pairs), True
    return bound, False


# Filled as pairs meet: at most (number of dtypes × 2)² × 4 entries.
_promoted: dict[Any, Pair] = {}


def promote(*pairs: Pair) -> Pair:
    """Return the promoted ``(dtype, weak)`` of one or more such pairs.

    Args:
        pairs: ``(np.dtype, weak)``: weak for Python scalars and what is made of them alone.

    Raises:
        DtypeError: The dtypes have no implicit promotion.

    Example:
        >>> promote((np.dtype("bfloat16"), False), (np.dtype("float32"), True))
        (dtype(bfloat16), False)
    """
    key = (pairs, config.enable_x64, config.numpy_dtype_promotion)
    found = _promoted.get(key)
    if found is None:
        if not pairs:
            raise DtypeError("promote needs at least one operand, got none")
        found = _promote_uncached(pairs, config.numpy_dtype_promotion == "strict")
        if len(pairs) <= 2:
            _promoted[key] = found
    return found


def scalar_pair(kind: type) -> Pair:
    """Return the pair of a Python scalar type: strong bool, or the weak default dtype."""
    return _PYTHON_DEFAULTS[kind](), kind is not bool


def pair_of(value: Any) -> Pair:
    """Return the pair of an array, Python scalar, or dtype specification.

    Only exact Python ``bool``, ``int``, ``float`` and ``complex`` (values or types) are weak, and
    arrays whose ``weak_type`` says so; NumPy scalars are strong.
    """
    kind = type(value)
    if kind in _PYTHON_SCALARS:
        return scalar_pair(kind)
    if kind is type and value in _PYTHON_SCALARS:
        return scalar_pair(value)
    found = None if isinstance(value, type) else getattr(value, "dtype", None)
    if found is None:
        return dtype(value), False
    return dtype(found), bool(getattr(value, "weak_type", False))


def result_type(*args: Any) -> _DType:
    """Return the dtype to which arrays, scalars and dtypes promote together.

    Raises:
        DtypeError: There is no implicit promotion, or an argument has no dtype.

    Example:
        >>> result_type(np.int8(1), 1), result_type(np.int64, 1.5)
        (dtype('int8'), dtype('float32'))
    """
    return promote(*map(pair_of, args))[0]


def promote_types(a: DTypeLike, b: DTypeLike) -> _DType:
    """Return the dtype to which two dtypes promote; Python types count as weak."""
    return promote(pair_of(a), pair_of(b))[0]
