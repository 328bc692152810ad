"""Logic and bits, element by element: bool is one bit, an integer all of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Invalid, Operand, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.kinds import BITS, INTEGER, pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec

__all__ = [
    "and_p",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "clz",
    "clz_p",
    "not_p",
    "or_p",
    "population_count",
    "population_count_p",
    "shift_left",
    "shift_left_p",
    "shift_right_arithmetic",
    "shift_right_arithmetic_p",
    "shift_right_logical",
    "shift_right_logical_p",
    "xor_p",
]

_NONE = Absent("bits have no derivative")
_MISMATCH = (
    Invalid(("i32[2]", "i64[2]"), DtypeError, "one dtype"),
    Invalid(("i32[2]", "i32[3]"), ShapeError, "broadcast"),
)
_INTS = ("int32", "int64", "uint8")


def _logical(
    name: str, sign: str, eager: Callable[..., Any], reference: Any, neutral: Callable[[Any], int]
) -> Primitive:
    def simplify(args: Sequence[Value], _params: dict[str, Any]) -> Value | None:
        x, y = args
        if x.dtype.kind not in "biu":
            return None
        number = neutral(x.dtype)
        if name != "xor" and basis.is_same(x, y):
            return x
        return (
            x if basis.is_neutral(y, number, x) else y if basis.is_neutral(x, number, y) else None
        )

    return pointwise(
        name,
        "x y",
        doc=f"x {sign} y, bit by bit.",
        eager=eager,
        derivs=_NONE,
        scalar=f"x {sign} y",
        accepts=BITS,
        simplify=simplify,
        spec=pair_spec(
            reference,
            Operand(-100, 100),
            Operand(-100, 100),
            dtypes=(*_INTS, "bool"),
            ulps=0.0,
            wrong="f32[2]",
            mismatch=_MISMATCH,
            order=0,
        ),
    )


def _all_bits(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "b" else -1 if dtype.kind == "i" else int(np.iinfo(dtype).max)


and_p = _logical("and", "&", lambda _xp, x, y: x & y, np.bitwise_and, _all_bits)
or_p = _logical("or", "|", lambda _xp, x, y: x | y, np.bitwise_or, lambda _dtype: 0)
xor_p = _logical("xor", "^", lambda _xp, x, y: x ^ y, np.bitwise_xor, lambda _dtype: 0)

not_p: Primitive = pointwise(
    "not",
    "x",
    doc="Every bit of x inverted.",
    eager=lambda _xp, x: ~x,
    derivs=_NONE,
    scalar="~x",
    accepts=BITS,
    simplify=basis.undone(lambda: not_p),
    spec=unary_spec(
        np.invert, -100, 100, dtypes=(*_INTS, "bool"), ulps=0.0, wrong="f32[2]", order=0
    ),
)


def bitwise_and(x: Any, y: Any) -> Value:
    """``x & y``, bit by bit; operands of one integer dtype, or bool, broadcast.

    Example:
        >>> bitwise_and(np.array([5, 6]), 3)
        Array([1, 2], dtype=int64)
    """
    return bind(and_p, *operands(x, y))


def bitwise_or(x: Any, y: Any) -> Value:
    """``x | y``, bit by bit; operands of one integer dtype, or bool, broadcast.

    Example:
        >>> bitwise_or(np.array([5, 6]), 3)
        Array([7, 7], dtype=int64)
    """
    return bind(or_p, *operands(x, y))


def bitwise_xor(x: Any, y: Any) -> Value:
    """``x ^ y``, bit by bit; operands of one integer dtype, or bool, broadcast.

    Example:
        >>> bitwise_xor(np.array([5, 6]), 3)
        Array([6, 5], dtype=int64)
    """
    return bind(xor_p, *operands(x, y))


def bitwise_not(x: Any) -> Value:
    """Every bit of ``x`` (``[...]``, integer or bool) inverted.

    Example:
        >>> bitwise_not(np.array([True, False]))
        Array([False,  True], dtype=bool)
    """
    return bind(not_p, as_value(x))


# --------------------------------------------------------------------------------- shifts

# A shift by the width of the dtype or more, or by a negative count (great, read as unsigned),
# moves every bit out. NumPy's shifts do so; C, hence CuPy, leaves it undefined.


def _unsigned_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _unsigned(x: Any) -> Any:
    return x.view(_unsigned_dtype(x.dtype))


def _outside(x: Any, y: Any) -> Any:
    return _unsigned(y) >= 8 * x.dtype.itemsize


def _shift_left_eager(xp: Any, x: Any, y: Any) -> Any:
    if xp is np:
        return np.left_shift(x, y)
    outside = _outside(x, y)
    zero = xp.zeros((), x.dtype)
    return xp.where(outside, zero, xp.left_shift(x, xp.where(outside, zero, y)))


def _shift_logical_eager(xp: Any, x: Any, y: Any) -> Any:
    bits = _unsigned(x)
    if xp is np:
        return np.right_shift(bits, _unsigned(y)).view(x.dtype)
    outside = _outside(x, y)
    zero = xp.zeros((), bits.dtype)
    moved = xp.right_shift(bits, xp.where(outside, zero, _unsigned(y)))
    return xp.where(outside, zero, moved).view(x.dtype)


def _shift_arithmetic_eager(xp: Any, x: Any, y: Any) -> Any:
    if x.dtype.kind == "u":
        return _shift_logical_eager(xp, x, y)
    if xp is np:
        return np.right_shift(x, y)
    # Beyond the width, the last shift that is defined has the same result: the sign alone.
    last = x.dtype.type(8 * x.dtype.itemsize - 1)
    return xp.right_shift(x, xp.where(_outside(x, y), last, y))


def _shift(name: str, doc: str, eager: Callable[..., Any], scalar: str, sign: int) -> Primitive:
    def reference(x: Any, y: Any) -> Any:
        one = np.dtype(x.dtype)
        mask = (1 << (8 * one.itemsize)) - 1
        flat = np.broadcast_arrays(x, y)
        pairs = zip(flat[0].ravel().tolist(), flat[1].ravel().tolist(), strict=True)
        moved = [
            (a << b if sign > 0 else a >> b if sign == 0 else (a & mask) >> b) & mask
            for a, b in pairs
        ]
        bits = np.array(moved, _unsigned_dtype(one)).view(one)
        return bits.reshape(flat[0].shape)

    return pointwise(
        name,
        "x y",
        doc=doc,
        eager=eager,
        derivs=_NONE,
        scalar=scalar,
        accepts=INTEGER,
        simplify=lambda args, _params: args[0] if basis.is_neutral(args[1], 0, args[0]) else None,
        spec=pair_spec(
            reference,
            Operand(-100, 100),
            Operand(0, 70, generator="static"),
            dtypes=_INTS,
            ulps=0.0,
            wrong="f32[2]",
            mismatch=_MISMATCH,
            order=0,
        ),
    )


shift_left_p = _shift("shift_left", "The bits of x moved up by y.", _shift_left_eager, "x << y", 1)
shift_right_arithmetic_p = _shift(
    "shift_right_arithmetic",
    "The bits of x moved down by y; the sign fills in.",
    _shift_arithmetic_eager,
    "x >> y",
    0,
)
shift_right_logical_p = _shift(
    "shift_right_logical",
    "The bits of x moved down by y; zeros fill in.",
    _shift_logical_eager,
    "x >>> y",
    -1,
)


def shift_left(x: Any, y: Any) -> Value:
    """``x << y``: the bits of ``x`` moved up by ``y``; integers of one dtype, broadcasting.

    A count below 0 or of the dtype's width or more moves all of them out.

    Example:
        >>> shift_left(np.array([1, 3]), 2)
        Array([ 4, 12], dtype=int64)
    """
    return bind(shift_left_p, *operands(x, y))


def shift_right_arithmetic(x: Any, y: Any) -> Value:
    """``x >> y``, filled with the sign of ``x``; integers of one dtype, broadcasting.

    Example:
        >>> shift_right_arithmetic(np.array([-8, 8]), 2)
        Array([-2,  2], dtype=int64)
    """
    return bind(shift_right_arithmetic_p, *operands(x, y))


def shift_right_logical(x: Any, y: Any) -> Value:
    """``x >> y``, filled with zeros; integers of one dtype, broadcasting.

    Example:
        >>> shift_right_logical(np.array([-8, 8], np.int8), 2)
        Array([62,  2], dtype=int8)
    """
    return bind(shift_right_logical_p, *operands(x, y))


# --------------------------------------------------------------------------------- counts


def _count(xp: Any, bits: Any) -> Any:
    """Set bits of unsigned integers: sums of neighbouring fields, each step twice as wide."""
    kind = bits.dtype.type
    full = np.iinfo(bits.dtype).max
    width = 1
    while width < 8 * bits.dtype.itemsize:
        mask = kind(full // ((1 << width) + 1))
        bits = (bits & mask) + ((bits >> kind(width)) & mask)
        width *= 2
    return bits


def _population_eager(xp: Any, x: Any) -> Any:
    bits = _unsigned(x)
    if hasattr(xp, "bitwise_count"):
        return xp.bitwise_count(bits).astype(x.dtype)
    return _count(xp, bits).view(x.dtype)


def _clz_eager(xp: Any, x: Any) -> Any:
    bits = _unsigned(x)
    kind = bits.dtype.type
    step = 1
    while step < 8 * x.dtype.itemsize:  # set every bit below the highest
        bits = bits | (bits >> kind(step))
        step *= 2
    return _population_eager(xp, ~bits).astype(x.dtype)


def _per_element(count: Callable[[str], int]) -> Callable[..., Any]:
    def reference(x: Any) -> Any:
        width = 8 * x.dtype.itemsize
        texts = (format(v & ((1 << width) - 1), f"0{width}b") for v in x.ravel().tolist())
        return np.array([count(t) for t in texts], x.dtype).reshape(x.shape)

    return reference


population_count_p = pointwise(
    "population_count",
    "x",
    doc="How many bits of x are set.",
    eager=_population_eager,
    derivs=_NONE,
    scalar="popcount(x)",
    accepts=INTEGER,
    spec=unary_spec(
        _per_element(lambda t: t.count("1")),
        -100, 100, dtypes=_INTS, ulps=0.0, wrong="f32[2]", order=0,
    ),
)  # fmt: skip

clz_p = pointwise(
    "clz",
    "x",
    doc="How many zero bits stand above the highest bit set.",
    eager=_clz_eager,
    derivs=_NONE,
    scalar="clz(x)",
    accepts=INTEGER,
    spec=unary_spec(
        _per_element(lambda t: len(t) - len(t.lstrip("0"))),
        -100, 100, dtypes=_INTS, ulps=0.0, wrong="f32[2]", order=0,
    ),
)  # fmt: skip


def population_count(x: Any) -> Value:
    """How many bits of each element of ``x`` (``[...]``, integer) are set; same dtype.

    Example:
        >>> population_count(np.array([0, 7, -1], np.int8))
        Array([0, 3, 8], dtype=int8)
    """
    return bind(population_count_p, as_value(x))


def clz(x: Any) -> Value:
    """How many zero bits stand above the highest set bit of each element of ``x`` (integer).

    Example:
        >>> clz(np.array([0, 1, -1], np.int8))
        Array([8, 7, 0], dtype=int8)
    """
    return bind(clz_p, as_value(x))
