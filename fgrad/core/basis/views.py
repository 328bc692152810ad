"""Broadcast and sum, transpose, reshape: the primitives that move elements.

Those that transpose into each other stand side by side: `broadcast_in_dim` and `reduce_sum`,
`transpose` and itself, `reshape` and itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.basis.blocked import CHAIN, blocked_sum, is_chained
from fgrad.core.basis.rules import (
    Avals,
    Dims,
    linear_jvp,
    linear_pullback,
    made_by,
    shift_axes,
    wide,
)
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import (
    ANY,
    NUMERIC,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind


def _broadcast_abstract(
    x: Avals, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> ShapedArray:
    dims = broadcast_dimensions
    if len(dims) != x.ndim:
        raise ShapeError(
            f"broadcast_in_dim: broadcast_dimensions {dims} must name one axis of the result for "
            f"each of the {x.ndim} axes of the operand {x}"
        )
    if list(dims) != sorted(set(dims)) or any(not 0 <= d < len(shape) for d in dims):
        raise AxisError(
            f"broadcast_in_dim: broadcast_dimensions {dims} must increase and lie within the "
            f"{len(shape)} axes of the result shape {list(shape)}"
        )
    for d, length in zip(dims, x.shape, strict=True):
        if length not in (1, shape[d]):
            raise ShapeError(
                f"broadcast_in_dim: axis of length {length} of the operand {x} does not fit axis "
                f"{d} of the result shape {list(shape)}; it must be 1 or {shape[d]}"
            )
    return ShapedArray(shape, x.dtype, x.weak_type)


def _broadcast_eager(
    xp: Any, x: Any, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> Any:
    strides = [0] * len(shape)
    for d, n, stride in zip(broadcast_dimensions, x.shape, x.strides, strict=True):
        strides[d] = 0 if n == 1 else stride
        if n not in (1, shape[d]):
            raise ValueError("shapes")  # the abstract rule says it in full
    if xp is np and x.flags.c_contiguous:
        # A view; an order of magnitude quicker to make than by numpy.broadcast_to.
        return np.ndarray(shape, x.dtype, buffer=x, strides=strides)
    inner = [1] * len(shape)
    for d, n in zip(broadcast_dimensions, x.shape, strict=True):
        inner[d] = n
    return xp.broadcast_to(x.reshape(inner), shape)


def _broadcast_transpose(
    ct: Value, x: Unknown, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> tuple[Value]:
    kept = {d: n for d, n in zip(broadcast_dimensions, x.aval.shape, strict=True) if n == shape[d]}
    summed = reduce_sum(ct, tuple(i for i in range(len(shape)) if i not in kept))
    return (reshape(summed, x.aval.shape),)


def _broadcast_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *,
    shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...],
) -> tuple[Value, int]:  # fmt: skip
    d = dims[0]
    assert d is not None
    x = moveaxis(args[0], d, 0)
    inner = (0, *(d + 1 for d in broadcast_dimensions))
    return broadcast_in_dim(x, (axis.size, *shape), inner), 0


def _broadcast_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    x, dims = args[0], params["broadcast_dimensions"]
    if x.shape == params["shape"] and dims == tuple(range(x.ndim)):
        return x
    found = made_by(x, broadcast_in_dim_p)
    if found is None:
        return None
    inner = found[1]["broadcast_dimensions"]
    return broadcast_in_dim(found[0][0], params["shape"], tuple(dims[i] for i in inner))


broadcast_in_dim_p: Primitive = Primitive(
    "broadcast_in_dim",
    "Repeat an array along new axes and axes of length 1.",
    abstract=_broadcast_abstract,
    eager=_broadcast_eager,
    jvp=lambda ps, ts, **params: linear_jvp(lambda: broadcast_in_dim_p, ps, ts, **params),
    transpose=_broadcast_transpose,
    vjp=linear_pullback(_broadcast_transpose),
    batch=_broadcast_batch,
    lower=Lowering("view", "broadcast"),
    simplify=_broadcast_simplify,
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", lambda s: {"shape": (s["m"], 3, s["n"]), "broadcast_dimensions": (0, 2)}),
            Case("1 n", lambda s: {"shape": (4, s["n"]), "broadcast_dimensions": (0, 1)}),
            Case("", {"shape": (2, 3), "broadcast_dimensions": ()}),
        ),
        dtypes=ANY,
        reference=lambda x, *, shape, broadcast_dimensions: np.broadcast_to(
            np.expand_dims(x, [i for i in range(len(shape)) if i not in broadcast_dimensions]),
            shape,
        ),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]",), ShapeError, "length 2", shape=(3,), broadcast_dimensions=(0,)),
            Invalid(("f32[2]",), AxisError, "within", shape=(2,), broadcast_dimensions=(1,)),
            Invalid(("f32[2]",), ShapeError, "one axis", shape=(2,), broadcast_dimensions=()),
        ),
    ),
)


def broadcast_in_dim(
    x: Value, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> Value:
    """`x` repeated to `shape`; its axis i becomes axis ``broadcast_dimensions[i]``."""
    shape, dims = tuple(shape), tuple(broadcast_dimensions)
    if x.shape == shape and dims == tuple(range(len(shape))):
        return x
    return bind(broadcast_in_dim_p, x, shape=shape, broadcast_dimensions=dims)


def reduced_aval(name: str, x: Avals, axes: tuple[int, ...]) -> ShapedArray:
    """The type of `x` without `axes`, or the `AxisError` of a reduction called `name`."""
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < x.ndim for a in axes):
        raise AxisError(
            f"{name}: axes {axes} must increase and lie within the {x.ndim} axes of the operand {x}"
        )
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return ShapedArray(shape, x.dtype, x.weak_type)


def _sum_abstract(x: Avals, *, axes: tuple[int, ...]) -> ShapedArray:
    if x.dtype.kind == "b":
        raise DtypeError(f"reduce_sum takes numbers, got {x}; convert it to an integer dtype first")
    return reduced_aval("reduce_sum", x, axes)


def _sum_eager(xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    if (axes and axes[-1] >= x.ndim) or x.dtype.kind == "b":
        raise ValueError("axes or dtype")  # the abstract rule says it in full
    w = wide(x.dtype)
    if w is not None:
        return _sum_eager(xp, x.astype(w), axes=axes).astype(x.dtype)
    if x.size > CHAIN and xp is np and x.dtype.kind in "fc" and is_chained(x, axes):
        return blocked_sum(x, axes)
    return xp.add.reduce(x, axes, x.dtype)


def _sum_transpose(ct: Value, x: Unknown, *, axes: tuple[int, ...]) -> tuple[Value]:
    shape = x.aval.shape
    return (broadcast_in_dim(ct, shape, tuple(i for i in range(len(shape)) if i not in axes)),)


def _sum_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axes: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    moved = shift_axes(axes, d)
    return reduce_sum(args[0], moved), d - sum(a < d for a in moved)


reduce_sum_p: Primitive = Primitive(
    "reduce_sum",
    "Sum over axes.",
    abstract=_sum_abstract,
    eager=_sum_eager,
    jvp=lambda ps, ts, **params: linear_jvp(lambda: reduce_sum_p, ps, ts, **params),
    transpose=_sum_transpose,
    vjp=linear_pullback(_sum_transpose),
    batch=_sum_batch,
    lower=Lowering("reduce", "+"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", {"axes": (0,)}),
            Case("m n k", {"axes": (0, 2)}),
            Case("m n", {"axes": ()}),
        ),
        dtypes=NUMERIC,
        reference=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
        ulps=None,
        terms=lambda x, *, axes: np.sum(np.abs(x), axis=axes),
        invalid=(
            Invalid(("f32[2]",), AxisError, "axes", axes=(1,)),
            Invalid(("b[2]",), DtypeError, "numbers", axes=(0,)),
        ),
    ),
)


def reduce_sum(x: Value, axes: tuple[int, ...]) -> Value:
    """The sum of `x` over `axes` (increasing, not negative), which are removed."""
    if not axes:
        return x
    return bind(reduce_sum_p, x, axes=tuple(axes))


def _transpose_abstract(x: Avals, *, permutation: tuple[int, ...]) -> ShapedArray:
    if sorted(permutation) != list(range(x.ndim)):
        raise AxisError(
            f"transpose: permutation {permutation} must hold each of the {x.ndim} axes of {x} once"
        )
    return ShapedArray(tuple(x.shape[p] for p in permutation), x.dtype, x.weak_type)


def _inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    inverse = [0] * len(permutation)
    for i, p in enumerate(permutation):
        inverse[p] = i
    return tuple(inverse)


def _transpose_transpose(ct: Value, _x: Unknown, *, permutation: tuple[int, ...]) -> tuple[Value]:
    return (transpose(ct, _inverse(permutation)),)


def _transpose_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, permutation: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    return transpose(args[0], (d, *shift_axes(permutation, d))), 0


def _transpose_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    found = made_by(args[0], transpose_p)
    if found is None:
        return None
    first = found[1]["permutation"]
    return transpose(found[0][0], tuple(first[i] for i in params["permutation"]))


transpose_p: Primitive = Primitive(
    "transpose",
    "Permute axes.",
    abstract=_transpose_abstract,
    eager=lambda _xp, x, *, permutation: x.transpose(permutation),
    jvp=lambda ps, ts, **params: linear_jvp(lambda: transpose_p, ps, ts, **params),
    transpose=_transpose_transpose,
    vjp=linear_pullback(_transpose_transpose),
    batch=_transpose_batch,
    lower=Lowering("view", "transpose"),
    simplify=_transpose_simplify,
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", {"permutation": (1, 0)}),
            Case("m n k", {"permutation": (2, 0, 1)}),
        ),
        dtypes=ANY,
        reference=lambda x, *, permutation: np.transpose(x, permutation),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2,3]",), AxisError, "permutation", permutation=(0, 0)),
            Invalid(("f32[2,3]",), AxisError, "permutation", permutation=(0,)),
        ),
    ),
)


def transpose(x: Value, permutation: tuple[int, ...]) -> Value:
    """`x` with its axes permuted: axis i of the result is axis ``permutation[i]`` of `x`."""
    permutation = tuple(permutation)
    if permutation == tuple(range(x.ndim)):
        return x
    return bind(transpose_p, x, permutation=permutation)


def moveaxis(x: Value, source: int, target: int) -> Value:
    """`x` with one axis moved."""
    if source == target:
        return x
    order = [i for i in range(x.ndim) if i != source]
    order.insert(target, source)
    return transpose(x, tuple(order))


def _reshape_abstract(x: Avals, *, new_sizes: tuple[int, ...]) -> ShapedArray:
    out = ShapedArray(new_sizes, x.dtype, x.weak_type)
    if out.size != x.size or any(n < 0 for n in new_sizes):
        raise ShapeError(
            f"reshape: {x} has {x.size} elements and cannot take the shape {list(new_sizes)}, "
            f"which has {out.size}"
        )
    return out


def _reshape_transpose(ct: Value, x: Unknown, *, new_sizes: tuple[int, ...]) -> tuple[Value]:
    return (reshape(ct, x.aval.shape),)


def _reshape_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, new_sizes: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    return reshape(moveaxis(args[0], d, 0), (axis.size, *new_sizes)), 0


def _reshape_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    found = made_by(args[0], reshape_p)
    return None if found is None else reshape(found[0][0], params["new_sizes"])


reshape_p: Primitive = Primitive(
    "reshape",
    "The same elements in row-major order under another shape.",
    abstract=_reshape_abstract,
    eager=lambda _xp, x, *, new_sizes: x.reshape(new_sizes),
    jvp=lambda ps, ts, **params: linear_jvp(lambda: reshape_p, ps, ts, **params),
    transpose=_reshape_transpose,
    vjp=linear_pullback(_reshape_transpose),
    batch=_reshape_batch,
    lower=Lowering("view", "reshape"),
    simplify=_reshape_simplify,
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", lambda s: {"new_sizes": (s["m"] * s["n"],)}),
            Case("m n", lambda s: {"new_sizes": (s["n"], 1, s["m"])}),
        ),
        dtypes=ANY,
        reference=lambda x, *, new_sizes: np.reshape(x, new_sizes),
        ulps=0.0,
        invalid=(Invalid(("f32[2,3]",), ShapeError, "6 elements", new_sizes=(5,)),),
    ),
)


def reshape(x: Value, new_sizes: tuple[int, ...]) -> Value:
    """`x` in row-major order under the shape `new_sizes` (no -1 here)."""
    new_sizes = tuple(new_sizes)
    if x.shape == new_sizes:
        return x
    return bind(reshape_p, x, new_sizes=new_sizes)
