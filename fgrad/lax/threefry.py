"""Random bits: threefry 2x32, a counter-based generator without state.

The i-th number of a key is a function of the key and i alone, so any shape is computed in any
order, in registers, and never stored for a backward pass.

Source:
    Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011. Counters
    and the assembly of words follow JAX with ``threefry_partitionable``, bit for bit.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.bits import bitwise_or, bitwise_xor, shift_left, shift_right_logical
from fgrad.lax.creation import iota
from fgrad.lax.joining import concatenate
from fgrad.lax.kinds import constant
from fgrad.lax.slicing import slice_in_dim

__all__ = ["random_bits", "random_fold_in", "random_split"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WIDTHS: dict[int, Any] = {
    8: np.dtype("u1"),
    16: np.dtype("u2"),
    32: np.dtype("u4"),
    64: np.dtype("u8"),
}
_REASON = "random bits are integers"
_COMPARED = {"reference": "tests/lax/test_threefry.py compares the bits with published ones"}
_KEYS = Operand(0, 2**31, dtype="uint32", generator="static")


def _threefry(xp: Any, k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    """Twenty rounds over counters (x0, x1), which are overwritten; all uint32, keys broadcast."""
    k2 = k0 ^ k1 ^ xp.uint32(_PARITY)
    keys = (k0, k1, k2)
    x0 += k0
    x1 += k1
    scratch = xp.empty_like(x1)
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x0 += x1
            xp.left_shift(x1, xp.uint32(r), out=scratch)
            x1 >>= xp.uint32(32 - r)
            x1 |= scratch
            x1 ^= x0
        x0 += keys[(i + 1) % 3]
        x1 += keys[(i + 2) % 3]
        x1 += xp.uint32(i + 1)
    return x0, x1


def _check_key(name: str, key: ShapedArray) -> None:
    if key.dtype != np.uint32:
        raise DtypeError(
            f"{name} needs a key of dtype uint32, got {key}; make one with fgrad.random.key(seed)"
        )
    if key.ndim == 0 or key.shape[-1] != 2:
        raise ShapeError(
            f"{name} needs a key of shape [..., 2], got {key}; make one with fgrad.random.key(seed)"
        )


def _counters(xp: Any, batch: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The flat index of each element as high and low words, once for each key."""
    n = prod(shape)
    full = (*batch, n)
    low = xp.empty(full, np.uint32)
    high = xp.zeros(full, np.uint32)
    low[...] = xp.arange(n, dtype=np.uint32) if n < 2**32 else (
        xp.arange(n, dtype=np.uint64) & np.uint64(0xFFFFFFFF)
    )  # fmt: skip
    if n >= 2**32:
        high[...] = xp.arange(n, dtype=np.uint64) >> np.uint64(32)
    return high, low


def _is_key(key: Any) -> bool:
    return bool(key.dtype == np.uint32 and key.ndim > 0 and key.shape[-1] == 2)


def _words(xp: Any, key: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    if not _is_key(key):
        raise ValueError("types")  # the abstract rule says it in full
    batch = key.shape[:-1]
    high, low = _counters(xp, batch, shape)
    return _threefry(xp, key[..., 0, None].copy(), key[..., 1, None].copy(), high, low)


# ----------------------------------------------------------------------- one block, for compilers


def _rounds(_avals: Sequence[ShapedArray], params: dict[str, Any]) -> str:
    """The scalar expression of one of the two words; both are the same tree but for its root."""
    lines = [f"k2 = k0 ^ k1 ^ {_PARITY}", "a = high + k0", "b = low + k1"]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            lines += ["a = a + b", f"b = (b << {r} | b >>> {32 - r}) ^ a"]
        lines += [f"a = a + k{(i + 1) % 3}", f"b = b + k{(i + 2) % 3} + {i + 1}"]
    return "; ".join([*lines, "ab"[params["word"]]])


def _block_eager(xp: Any, k0: Any, k1: Any, high: Any, low: Any, *, word: int) -> Any:
    if any(x.dtype != np.uint32 for x in (k0, k1, high, low)):
        raise ValueError("types")  # the abstract rule says it in full
    full = np.broadcast_shapes(k0.shape, k1.shape, high.shape, low.shape)
    counters = [xp.array(xp.broadcast_to(x, full)) for x in (high, low)]
    return _threefry(xp, xp.asarray(k0), xp.asarray(k1), *counters)[word]


def _block_abstract(*args: ShapedArray, word: int) -> ShapedArray:
    assert word in (0, 1)
    for a in args:
        if a.dtype != np.uint32:
            raise DtypeError(
                f"threefry2x32 takes integers of dtype uint32, got {', '.join(map(str, args))}"
            )
    return ShapedArray(basis.broadcast_shapes("threefry2x32", args), args[0].dtype)


threefry2x32_p: Primitive = constant(
    "threefry2x32",
    doc="A word of the block that a key makes of a counter, element by element.",
    reason=_REASON,
    abstract=_block_abstract,
    eager=_block_eager,
    batch=lambda axis, args, dims, **params: basis.batch_pointwise(
        threefry2x32_p, axis, args, dims, params
    ),
    lower=Lowering("pointwise", _rounds, None, "k0 k1 high low"),
    spec=Spec(
        (_KEYS,) * 4,
        (Case("m, m, m, m", {"word": 0}), Case(", , m n, n", {"word": 1})),
        dtypes=("uint32",),
        order=0,
        skip=_COMPARED,
        invalid=(Invalid(("u32[]", "u32[]", "u32[]", "f32[]"), DtypeError, "uint32", word=0),),
    ),
)


def _halves(key: Value, rank: int) -> list[Value]:
    """The two words of each key, with `rank` axes of length 1 after those of the keys."""
    lead = key.shape[:-1]
    return [
        basis.reshape(slice_in_dim(key, w, w + 1, 1, key.ndim - 1), (*lead, *(1,) * rank))
        for w in (0, 1)
    ]


def _blocks(key: Value, shape: tuple[int, ...]) -> list[Value]:
    """Both words ``[..., *shape]`` of the blocks of each key."""
    n = prod(shape)
    if n >= 2**32:
        count = iota(np.uint64, n)
        high, low = (
            basis.convert_element_type(x, np.dtype(np.uint32))
            for x in (shift_right_logical(count, np.uint64(32)), count)
        )
        high = basis.reshape(high, shape)
    else:
        high, low = basis.scalar(0, np.dtype(np.uint32)), iota(np.uint32, n)
    low = basis.reshape(low, shape)
    halves = _halves(key, len(shape))
    return [bind(threefry2x32_p, *halves, high, low, word=w) for w in (0, 1)]


def _bits_composed(key: Value, *, shape: tuple[int, ...], bit_width: int) -> Value:
    first, second = _blocks(key, shape)
    word = _WIDTHS[bit_width]
    if bit_width < 64:
        return basis.convert_element_type(bitwise_xor(first, second), word)
    first, second = (basis.convert_element_type(x, word) for x in (first, second))
    return bitwise_or(shift_left(first, np.uint64(32)), second)


def _side_by_side(words: Sequence[Value]) -> Value:
    """Both words of each block as the last axis."""
    columns = [basis.reshape(w, (*w.shape, 1)) for w in words]
    return concatenate(columns, words[0].ndim)


# ------------------------------------------------------------------------------- the primitives


def _bits_eager(xp: Any, key: Any, *, shape: tuple[int, ...], bit_width: int) -> Any:
    a, b = _words(xp, key, shape)
    full = (*key.shape[:-1], *shape)
    if bit_width == 64:
        return ((a.astype(np.uint64) << np.uint64(32)) | b).reshape(full)
    a ^= b
    return a.astype(_WIDTHS[bit_width], copy=False).reshape(full)


def _bits_abstract(key: ShapedArray, *, shape: tuple[int, ...], bit_width: int) -> ShapedArray:
    _check_key("random_bits", key)
    if bit_width not in _WIDTHS:
        raise DtypeError(f"random_bits makes words of 8, 16, 32 or 64 bits, not {bit_width}")
    return ShapedArray((*key.shape[:-1], *shape), _WIDTHS[bit_width])


def _bits_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[Value, int]:
    assert dims[0] is not None
    return bind(random_bits_p, basis.moveaxis(args[0], dims[0], 0), **params), 0


random_bits_p = constant(
    "random_bits",
    doc="Random words of a key, one for each element.",
    reason=_REASON,
    abstract=_bits_abstract,
    eager=_bits_eager,
    batch=_bits_batch,
    lower=Lowering("random", None, _bits_composed),
    spec=Spec(
        _KEYS,
        (
            Case("2", {"shape": (3, 2), "bit_width": 32}),
            Case("m 2", {"shape": (5,), "bit_width": 64}),
            Case("2", {"shape": (), "bit_width": 8}, name="scalar"),
        ),
        dtypes=("uint32",),
        order=0,
        skip=_COMPARED,
        invalid=(
            Invalid(("f32[2]",), DtypeError, "uint32", shape=(2,), bit_width=32),
            Invalid(("u32[3]",), ShapeError, r"\.\.\., 2", shape=(2,), bit_width=32),
        ),
    ),
)


def random_bits(key: Any, shape: tuple[int, ...], bit_width: int = 32) -> Value:
    """Uniform random words.

    Args:
        key: ``[..., 2]`` uint32: one key, or several.
        shape: Words for each key.
        bit_width: 8, 16, 32 or 64.

    Returns:
        ``[..., *shape]``, unsigned integers of that width.

    Example:
        >>> random_bits(np.array([0, 42], np.uint32), (2,))
        Array([2098992034, 2919706841], dtype=uint32)
    """
    return bind(random_bits_p, as_value(key), shape=tuple(shape), bit_width=bit_width)


def _split_eager(xp: Any, key: Any, *, shape: tuple[int, ...]) -> Any:
    a, b = _words(xp, key, shape)
    return xp.stack([a, b], axis=-1).reshape((*key.shape[:-1], *shape, 2))


def _split_abstract(key: ShapedArray, *, shape: tuple[int, ...]) -> ShapedArray:
    _check_key("random_split", key)
    return ShapedArray((*key.shape[:-1], *shape, 2), key.dtype)


def _split_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[Value, int]:
    assert dims[0] is not None
    return bind(random_split_p, basis.moveaxis(args[0], dims[0], 0), **params), 0


random_split_p = constant(
    "random_split",
    doc="New keys from a key.",
    reason=_REASON,
    abstract=_split_abstract,
    eager=_split_eager,
    batch=_split_batch,
    lower=Lowering("random", None, lambda key, *, shape: _side_by_side(_blocks(key, shape))),
    spec=Spec(
        _KEYS,
        (Case("2", {"shape": (3,)}), Case("m 2", {"shape": (2, 2)})),
        dtypes=("uint32",),
        order=0,
        skip=_COMPARED,
        invalid=(Invalid(("u32[3]",), ShapeError, r"\.\.\., 2", shape=(2,)),),
    ),
)


def random_split(key: Any, shape: tuple[int, ...]) -> Value:
    """Keys ``[..., *shape, 2]`` made from ``key`` ``[..., 2]``."""
    return bind(random_split_p, as_value(key), shape=tuple(shape))


def _fold_eager(xp: Any, key: Any, data: Any) -> Any:
    if data.dtype != np.uint32 or not _is_key(key):
        raise ValueError("types")  # the abstract rule says it in full
    shape = np.broadcast_shapes(key.shape[:-1], data.shape)
    low = xp.empty(shape, np.uint32)
    low[...] = data
    high = xp.zeros(shape, np.uint32)
    a, b = _threefry(xp, key[..., 0].copy(), key[..., 1].copy(), high, low)
    return xp.stack([xp.asarray(a), xp.asarray(b)], axis=-1)


def _fold_abstract(key: ShapedArray, data: ShapedArray) -> ShapedArray:
    _check_key("random_fold_in", key)
    if data.dtype != np.uint32:
        raise DtypeError(f"random_fold_in takes uint32 data, got {data}")
    lead = ShapedArray(key.shape[:-1], key.dtype)
    return ShapedArray((*basis.broadcast_shapes("random_fold_in", (lead, data)), 2), key.dtype)


def _fold_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None]
) -> tuple[Value, int]:
    key, data = args
    rank = max(key.ndim - 1 - (dims[0] is not None), data.ndim - (dims[1] is not None))
    if dims[0] is not None:
        key = basis.lead(key, dims[0], axis.size, rank + 1)
    if dims[1] is not None:
        data = basis.lead(data, dims[1], axis.size, rank)
    return bind(random_fold_in_p, key, data), 0


def _fold_composed(key: Value, data: Value) -> Value:
    zero = basis.scalar(0, np.dtype(np.uint32))
    words = [bind(threefry2x32_p, *_halves(key, 0), zero, data, word=w) for w in (0, 1)]
    return _side_by_side(words)


random_fold_in_p = constant(
    "random_fold_in",
    doc="A key from a key and a number.",
    reason=_REASON,
    abstract=_fold_abstract,
    eager=_fold_eager,
    batch=_fold_batch,
    lower=Lowering("random", None, _fold_composed),
    spec=Spec(
        (_KEYS, _KEYS),
        (Case("2,"), Case("m 2, m")),
        dtypes=("uint32",),
        order=0,
        skip=_COMPARED,
        invalid=(
            Invalid(("u32[2]", "f32[]"), DtypeError, "uint32"),
            Invalid(("u32[2,2]", "u32[3]"), ShapeError, "broadcast"),
        ),
    ),
)


def random_fold_in(key: Any, data: Any) -> Value:
    """A key ``[..., 2]`` from ``key`` ``[..., 2]`` and uint32 ``data`` ``[...]``."""
    return bind(random_fold_in_p, as_value(key), as_value(data))
