"""Type promotion: the lattice of dtypes and weak Python scalars.

Source:
    The lattice is that of JAX's *Type promotion semantics* page; NumPy's agrees with it in part.
"""

from typing import Any, TypeAlias

from fgrad.core.config import config
from fgrad.core.dtype_kinds import (
    ALL,
    BF16,
    BOOL,
    C64,
    C128,
    F16,
    F32,
    F64,
    FLOAT8,
    I32,
    I64,
    KINDS,
    PYTHON_DEFAULTS,
    PYTHON_SCALARS,
    SIGNED,
    U64,
    UNSIGNED,
    DType,
    DTypeLike,
    dtype,
    float0,
    short_name,
    supported_names,
)
from fgrad.core.errors import DtypeError

__all__ = [
    "Pair",
    "promote",
    "promote_types",
    "pair_of",
    "result_type",
    "scalar_pair",
]

Pair: TypeAlias = tuple[DType, bool]

_Node: TypeAlias = Any  # a strong np.dtype, or "i", "f", "c": the weak types


def _lattice_edges() -> dict[_Node, tuple[_Node, ...]]:
    """Return, for each node, its direct upper neighbours."""
    u8, u16, u32, u64 = UNSIGNED
    i8, i16, i32, i64 = SIGNED
    return {
        BOOL: ("i",),
        "i": (u8, i8),
        u8: (i16, u16),
        u16: (i32, u32),
        u32: (i64, u64),
        u64: ("f",),
        i8: (i16,),
        i16: (i32,),
        i32: (i64,),
        i64: ("f",),
        "f": (BF16, F16, *FLOAT8, "c"),
        **dict.fromkeys(FLOAT8, ()),
        BF16: (F32,),
        F16: (F32,),
        F32: (F64, C64),
        F64: (C128,),
        "c": (C64,),
        C64: (C128,),
        C128: (),
    }


def _strict_edges() -> dict[_Node, tuple[_Node, ...]]:
    edges: dict[_Node, tuple[_Node, ...]] = dict.fromkeys(ALL, ())
    floats = tuple(d for d in ALL if KINDS[d] == "f")
    return edges | {"i": ("f", *UNSIGNED, *SIGNED), "f": ("c", *floats), "c": (C64, C128)}


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
    if not weak or d == BOOL:
        return d
    kind = KINDS[d]
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


# Each weak kind: its narrow and wide dtype, and the weak dtypes that make it wide.
_WIDTHS: dict[str, tuple[DType, DType, frozenset[DType]]] = {
    "i": (I32, I64, frozenset((I64,))),
    "f": (F32, F64, frozenset((F64,))),
    "c": (C64, C128, frozenset((F64, C128))),
}


def _weak_width(kind: str, pairs: tuple[Pair, ...]) -> DType:
    """Return the dtype for a result of weak ``kind``: the default one, or 64-bit if one entered.

    uint64 and signed integers meet in a float, which must then be float64 whatever the default is,
    as explicit 64-bit values are not narrowed. A weak operand of 64 bits is kept likewise.
    """
    narrow, wide, widening = _WIDTHS[kind]
    if config.enable_x64 or any(weak and d in widening for d, weak in pairs):
        return wide
    strong = {d for d, weak in pairs if not weak}
    return wide if U64 in strong and strong.intersection(SIGNED) else narrow


def _promote_uncached(pairs: tuple[Pair, ...], strict: bool) -> Pair:
    for d, _ in pairs:
        if d not in KINDS:
            raise DtypeError(f"dtype {d} is not supported; supported are {supported_names()}")
    if all(d == pairs[0][0] for d, _ in pairs):
        d = pairs[0][0]
        return d, d != BOOL and all(weak for _, weak in pairs)
    if not strict and all(weak for _, weak in pairs):
        # Of weak types alone, the widths count: weak int64 and weak float32 give weak float32.
        bound = _join({d for d, _ in pairs}, strict)
        return (_weak_width(bound, pairs) if isinstance(bound, str) else bound), bound != BOOL
    bound = _join({_node(p) for p in pairs}, strict)
    if isinstance(bound, str):
        return _weak_width(bound, pairs), True
    return bound, False


# Filled as pairs meet: pairs of one dtype alone, whose result no flag changes, and others with the
# flags; at most (number of dtypes × 2)² × 4 entries.
_promoted: dict[Any, Pair] = {}


def promote(*pairs: Pair) -> Pair:
    """Return the promoted ``(dtype, weak)`` of one or more such pairs.

    Args:
        pairs: ``(np.dtype, weak)``: weak for Python scalars and what is made of them alone.

    Raises:
        DtypeError: The dtypes have no implicit promotion.

    Example:
        >>> import numpy as np
        >>> promote((np.dtype("bfloat16"), False), (np.dtype("float32"), True))
        (dtype(bfloat16), False)
    """
    found = _promoted.get(pairs)
    if found is not None:
        return found
    strict = config.numpy_dtype_promotion == "strict"
    key = (pairs, config.enable_x64, strict)
    found = _promoted.get(key)
    if found is None:
        if not pairs:
            raise DtypeError("promote needs at least one operand, got none")
        found = _promote_uncached(pairs, strict)
        if len(pairs) <= 2:
            one_dtype = pairs[0][0] == pairs[-1][0]
            _promoted[pairs if one_dtype else key] = found
    return found


def scalar_pair(kind: type) -> Pair:
    """Return the pair of a Python scalar type: strong bool, or the weak default dtype."""
    return PYTHON_DEFAULTS[kind](), kind is not bool


def pair_of(value: Any) -> Pair:
    """Return the pair of an array, Python scalar, or dtype specification.

    Only exact Python ``bool``, ``int``, ``float`` and ``complex`` (values or types) are weak, and
    arrays whose ``weak_type`` says so; NumPy scalars are strong.
    """
    kind = type(value)
    if kind in PYTHON_SCALARS:
        return scalar_pair(kind)
    if kind is type and value in PYTHON_SCALARS:
        return scalar_pair(value)
    found = None if isinstance(value, type) else getattr(value, "dtype", None)
    if found is None:
        return dtype(value), False
    return dtype(found), bool(getattr(value, "weak_type", False))


def result_type(*args: Any) -> DType:
    """Return the dtype to which arrays, scalars and dtypes promote together.

    Raises:
        DtypeError: There is no implicit promotion, or an argument has no dtype.

    Example:
        >>> import numpy as np
        >>> result_type(np.int8(1), 1), result_type(np.int64, 1.5)
        (dtype('int8'), dtype('float32'))
    """
    return promote(*map(pair_of, args))[0]


def promote_types(a: DTypeLike, b: DTypeLike) -> DType:
    """Return the dtype to which two dtypes promote; Python types count as weak."""
    return promote(pair_of(a), pair_of(b))[0]
