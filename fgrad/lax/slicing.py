"""Slices and padding: the strided box of an array, and its transpose."""

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray, integers
from fgrad.core.basis import Dims
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import (
    ANY,
    TYPE,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.kinds import structural
from fgrad.lax.shape import Ints, canonical_axis, scalar_like, squeeze, value

__all__ = ["index_in_dim", "pad", "pad_p", "slice", "slice_in_dim", "slice_p"]

PaddingConfig = tuple[tuple[int, int, int], ...]


def _slice_ok(n: int, start: int, limit: int, stride: int) -> bool:
    return 0 <= start <= limit <= n and stride > 0


def _slice_abstract(
    x: ShapedArray, *, start_indices: Ints, limit_indices: Ints, strides: Ints
) -> ShapedArray:
    if not len(start_indices) == len(limit_indices) == len(strides) == x.ndim:
        raise ShapeError(
            f"slice: start_indices {start_indices}, limit_indices {limit_indices} and strides "
            f"{strides} need one entry for each of the {x.ndim} axes of {x}"
        )
    spans = zip(x.shape, start_indices, limit_indices, strides, strict=True)
    for i, (n, start, limit, stride) in enumerate(spans):
        if not _slice_ok(n, start, limit, stride):
            raise ShapeError(
                f"slice: {start}:{limit}:{stride} does not fit axis {i} of {x}; "
                f"0 <= start <= limit <= {n} and a positive stride are needed"
            )
    shape = tuple(
        -(-(limit - start) // stride)
        for start, limit, stride in zip(start_indices, limit_indices, strides, strict=True)
    )
    return ShapedArray(shape, x.dtype, x.weak_type)


def _slice_eager(
    _xp: Any, x: Any, *, start_indices: Ints, limit_indices: Ints, strides: Ints
) -> Any:
    spans = list(zip(start_indices, limit_indices, strides, strict=True))
    if len(spans) != x.ndim or not all(
        _slice_ok(n, *span) for n, span in zip(x.shape, spans, strict=True)
    ):
        raise ValueError("bounds")  # the abstract rule says it in full
    return x[tuple(builtins.slice(*span) for span in spans)]


def _slice_transpose(
    ct: Value, x: Unknown, *, start_indices: Ints, limit_indices: Ints, strides: Ints
) -> tuple[Value]:
    config = []
    spans = zip(x.aval.shape, ct.shape, start_indices, limit_indices, strides, strict=True)
    for n, k, start, _limit, stride in spans:
        # An empty slice leaves all n zeros to the low side.
        end = start + (k - 1) * stride + 1
        config.append((start, n - end, stride - 1) if k else (n, 0, 0))
    return (pad(ct, basis.scalar(0, ct.dtype), config),)


def _slice_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *,
    start_indices: Ints, limit_indices: Ints, strides: Ints,
) -> tuple[Value, int]:  # fmt: skip
    d = dims[0]
    assert d is not None
    spans = ((start_indices, 0), (limit_indices, axis.size), (strides, 1))
    return slice(args[0], *((*s[:d], new, *s[d:]) for s, new in spans)), d


slice_p: Primitive = structural(
    "slice",
    doc="Every stride-th element from start to limit (exclusive) along each axis.",
    abstract=_slice_abstract,
    eager=_slice_eager,
    transpose=_slice_transpose,
    batch=_slice_batch,
    lower=Lowering("view", "slice"),
    spec=Spec(
        cases=(
            Case(
                "m n",
                lambda s: {
                    "start_indices": (0, s["n"] // 2),
                    "limit_indices": (s["m"], s["n"]),
                    "strides": (2, 1),
                },
            ),
            Case("7", {"start_indices": (1,), "limit_indices": (6,), "strides": (3,)}),
            Case("5", {"start_indices": (2,), "limit_indices": (2,), "strides": (2,)}),
        ),
        dtypes=ANY,
        reference=lambda x, *, start_indices, limit_indices, strides: x[
            tuple(map(builtins.slice, start_indices, limit_indices, strides))
        ],
        ulps=0.0,
        invalid=(
            Invalid(
                ("f32[3]",), ShapeError, "fit axis 0",
                start_indices=(1,), limit_indices=(4,), strides=(1,),
            ),
            Invalid(
                ("f32[3]",), ShapeError, "stride",
                start_indices=(0,), limit_indices=(3,), strides=(0,),
            ),
            Invalid(
                ("f32[3]",), ShapeError, "one entry",
                start_indices=(), limit_indices=(), strides=(),
            ),
        ),
    ),
)  # fmt: skip


def slice(
    operand: Any,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Value:
    """Take a strided box out of an array.

    Args:
        operand: ``[n₀, n₁, …]``, any dtype.
        start_indices: First index on each axis.
        limit_indices: End of the range (exclusive) on each axis, at most its length.
        strides: Step on each axis, positive; all 1 where left out.

    Returns:
        ``[⌈(limit₀ - start₀) / stride₀⌉, …]``, the dtype of `operand`.

    Raises:
        ShapeError: A range leaves its axis, or an entry is missing.

    Example:
        >>> slice(np.arange(6, dtype=np.float32), (1,), (6,), (2,))
        Array([1., 3., 5.], dtype=float32)
    """
    x = value(operand)
    start = integers(start_indices, "slice: start_indices")
    limit = integers(limit_indices, "slice: limit_indices")
    steps = (1,) * len(start) if strides is None else integers(strides, "slice: strides")
    if limit == x.shape and not any(start) and steps == (1,) * x.ndim == (1,) * len(start):
        return x
    return bind(slice_p, x, start_indices=start, limit_indices=limit, strides=steps)


def slice_in_dim(
    operand: Any,
    start_index: int | None,
    limit_index: int | None,
    stride: int = 1,
    axis: int = 0,
) -> Value:
    """`slice` along one axis; negative indices count from its end, None means the whole side.

    Example:
        >>> slice_in_dim(np.arange(6, dtype=np.float32), -2, None)
        Array([4., 5.], dtype=float32)
    """
    x = value(operand)
    axis = canonical_axis("slice_in_dim", axis, x.ndim)
    n = x.shape[axis]
    start = 0 if start_index is None else start_index + n * (start_index < 0)
    limit = n if limit_index is None else limit_index + n * (limit_index < 0)
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], limits[axis], strides[axis] = start, limit, stride
    return slice(x, starts, limits, strides)


def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Value:
    """The part of an array at one static index of an axis, which stays with length 1 or goes.

    Raises:
        AxisError: The axis does not exist.
        ShapeError: The index lies outside of it.

    Example:
        >>> index_in_dim(np.arange(6, dtype=np.float32), -1)
        Array([5.], dtype=float32)
    """
    x = value(operand)
    axis = canonical_axis("index_in_dim", axis, x.ndim)
    n = x.shape[axis]
    if not -n <= index < n:
        raise ShapeError(f"index_in_dim: index {index} lies outside axis {axis} of {x.aval}")
    out = slice_in_dim(x, index % n, index % n + 1, 1, axis)
    return out if keepdims else squeeze(out, (axis,))


def _padded_lengths(shape: Ints, config: PaddingConfig) -> Ints:
    return tuple(
        lo + hi + n + max(n - 1, 0) * interior
        for n, (lo, hi, interior) in zip(shape, config, strict=True)
    )


def _pad_abstract(
    x: ShapedArray, fill: ShapedArray, *, padding_config: PaddingConfig
) -> ShapedArray:
    if x.dtype != fill.dtype:
        raise DtypeError(f"pad: operand {x} and padding_value {fill} need one dtype")
    if fill.ndim:
        raise ShapeError(f"pad: padding_value must be a scalar, got {fill}")
    if len(padding_config) != x.ndim:
        raise ShapeError(
            f"pad: padding_config {padding_config} needs one (low, high, interior) for each of "
            f"the {x.ndim} axes of {x}"
        )
    shape = _padded_lengths(x.shape, padding_config)
    if any(n < 0 for n in shape) or any(c[2] < 0 for c in padding_config):
        raise ShapeError(
            f"pad: padding_config {padding_config} gives {x} the shape {list(shape)}; lengths and "
            f"interior padding must not be negative"
        )
    return ShapedArray(shape, x.dtype, x.weak_type and fill.weak_type)


def _pad_eager(xp: Any, x: Any, fill: Any, *, padding_config: PaddingConfig) -> Any:
    shape = _padded_lengths(x.shape, padding_config)
    if x.dtype != fill.dtype or fill.ndim or any(c[2] < 0 for c in padding_config):
        raise ValueError("operands")
    out = xp.empty(shape, x.dtype)
    out[...] = fill
    source, target = [], []
    for n, length, (lo, _hi, interior) in zip(x.shape, shape, padding_config, strict=True):
        # Element j of the operand lands at lo + j·step, where that lies inside the result.
        step = interior + 1
        first = max(0, -(lo // step))
        end = min(n, (length - 1 - lo) // step + 1)
        if end <= first:
            return out
        source.append(builtins.slice(first, end))
        target.append(builtins.slice(lo + first * step, lo + (end - 1) * step + 1, step))
    out[tuple(target)] = x[tuple(source)]
    return out


def _is_padding(shape: Ints, config: PaddingConfig) -> Value:
    """A mask of the padded shape: True where the padding value stands."""
    inside = basis.zeros(ShapedArray(shape, np.dtype(bool)))
    return pad(inside, basis.scalar(True, np.dtype(bool)), config)


def _pad_pull(
    ct: Value, needed: Sequence[bool], shape: Ints, config: PaddingConfig
) -> tuple[Value | None, Value | None]:
    zero = basis.scalar(0, ct.dtype)
    ct_x = ct_fill = None
    if needed[0]:
        cut = pad(ct, zero, [(-lo, -hi, 0) for lo, hi, _ in config])
        ct_x = slice(cut, (0,) * len(shape), cut.shape, [c[2] + 1 for c in config])
    if needed[1]:
        # Summing all and subtracting the operand's part would cancel; the mask does not.
        outside = basis.select_n(_is_padding(shape, config), zero, ct)
        ct_fill = basis.reduce_sum(outside, tuple(range(ct.ndim)))
    return ct_x, ct_fill


def _pad_transpose(
    ct: Value, x: Any, fill: Any, *, padding_config: PaddingConfig
) -> tuple[Value | None, Value | None]:
    shape = x.aval.shape
    return _pad_pull(ct, [isinstance(a, Unknown) for a in (x, fill)], shape, padding_config)


def _pad_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, padding_config: PaddingConfig
) -> tuple[Value, Value | None]:
    (x, fill), (dx, dfill) = primals, tangents
    tangent = pad(basis.instantiate(dx, x), basis.instantiate(dfill, fill), padding_config)
    return pad(x, fill, padding_config), tangent


def _pad_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, padding_config: PaddingConfig
) -> tuple[Value, int]:
    x, fill = args
    d = dims[0]
    if dims[1] is None:
        assert d is not None
        return pad(x, fill, (*padding_config[:d], (0, 0, 0), *padding_config[d:])), d
    x = basis.lead(x, d, axis.size)
    padded = pad(x, basis.scalar(0, x.dtype), ((0, 0, 0), *padding_config))
    fills = basis.reshape(fill, (axis.size, *(1,) * (x.ndim - 1)))
    return basis.select_n(_is_padding(x.shape[1:], padding_config), padded, fills), 0


def _pad_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    x, fill = args
    config = params["padding_config"]
    if any(any(c) for c in config) or len(config) != x.ndim or fill.ndim or fill.dtype != x.dtype:
        return None
    return x if fill.weak_type or not x.weak_type else None


def _pad_composed(x: Value, fill: Value, *, padding_config: PaddingConfig) -> Value:
    """Padding between elements, as an axis that is padded at its end beside each axis."""
    pairs = [m for n in x.shape for m in (n, 1)]
    inside = [c for _, _, k in padding_config for c in ((0, 0, 0), (0, k, 0))]
    spread = pad(basis.reshape(x, tuple(pairs)), fill, inside)
    merged = tuple(n * (k + 1) for n, (_, _, k) in zip(x.shape, padding_config, strict=True))
    around = [(lo, hi - k, 0) for lo, hi, k in padding_config]
    return pad(basis.reshape(spread, merged), fill, around)


def _pad_reference(x: Any, fill: Any, *, padding_config: PaddingConfig) -> Any:
    for axis, (lo, hi, interior) in enumerate(padding_config):
        rows = []
        for i, row in enumerate(np.moveaxis(x, axis, 0)):
            rows += [np.full_like(row, fill)] * (interior if i else 0) + [row]
        shape = np.moveaxis(x, axis, 0).shape[1:]
        edge = np.full(shape, fill, x.dtype)
        rows = [edge] * max(lo, 0) + rows[max(-lo, 0) :] + [edge] * max(hi, 0)
        rows = rows[: len(rows) - max(-hi, 0)]
        x = np.moveaxis(np.stack(rows), 0, axis) if rows else np.moveaxis(
            np.zeros((0, *shape), x.dtype), 0, axis
        )  # fmt: skip
    return x


pad_p: Primitive = Primitive(
    "pad",
    "Add or remove elements before, after and between those of each axis.",
    abstract=_pad_abstract,
    eager=_pad_eager,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    vjp=Pullback(
        None,
        lambda needed, res, ct, params: _pad_pull(
            ct, needed, res[0].shape, params["padding_config"]
        ),
        lambda _needed: (TYPE(0), TYPE(1)),
    ),
    batch=_pad_batch,
    lower=Lowering("view", "pad", _pad_composed),
    simplify=_pad_simplify,
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n,", {"padding_config": ((1, 2, 0), (0, 1, 2))}),
            Case("4,", {"padding_config": ((-1, 2, 1),)}),
            Case("4,", {"padding_config": ((3, -2, 0),)}),
            Case("m,", {"padding_config": ((0, 0, 0),)}),
        ),
        dtypes=ANY,
        reference=_pad_reference,
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f64[]"), DtypeError, "one dtype", padding_config=((0, 0, 0),)),
            Invalid(("f32[2]", "f32[1]"), ShapeError, "scalar", padding_config=((0, 0, 0),)),
            Invalid(("f32[2]", "f32[]"), ShapeError, "each", padding_config=()),
            Invalid(("f32[2]", "f32[]"), ShapeError, "negative", padding_config=((-3, 0, 0),)),
            Invalid(("f32[2]", "f32[]"), ShapeError, "negative", padding_config=((0, 0, -1),)),
        ),
    ),
)


def pad(operand: Any, padding_value: Any, padding_config: Sequence[Sequence[int]]) -> Value:
    """Add or remove elements before, after and between those of each axis.

    Args:
        operand: ``[n₀, n₁, …]``, any dtype.
        padding_value: Scalar of the same dtype; differentiable.
        padding_config: ``(low, high, interior)`` an axis. Negative `low` and `high` remove
            elements, after `interior` ones were put between each two neighbours.

    Returns:
        ``[low₀ + high₀ + n₀ + max(n₀ - 1, 0)·interior₀, …]``, the dtype of `operand`.

    Raises:
        ShapeError: An entry is missing, or a length would be negative.
        DtypeError: `padding_value` has another dtype.

    Example:
        >>> pad(np.array([1.0, 2.0], np.float32), 0.0, [(1, 0, 2)])
        Array([0., 1., 0., 0., 2.], dtype=float32)
    """
    x = value(operand)
    config = tuple(integers(c, "pad: an entry of padding_config") for c in padding_config)
    return bind(pad_p, x, scalar_like(padding_value, x.dtype), padding_config=config)
