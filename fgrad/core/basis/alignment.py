"""Operands, tangents and mapped axes brought to one shape."""

from collections.abc import Sequence
from typing import Any

from fgrad.core.avals import ShapedArray
from fgrad.core.basis.rules import (
    Dims,
    scalar,
)
from fgrad.core.basis.views import broadcast_in_dim, moveaxis, reduce_sum, reshape
from fgrad.core.primitive import (
    MappedAxis,
    Primitive,
    Value,
)
from fgrad.core.tracing import bind


def lead(x: Value, dim: int | None, size: int, rank: int | None = None) -> Value:
    """Move the mapped axis of `x` to the front; where there is none, broadcast one.

    With `rank`, axes of length 1 follow it so that the rest has that many axes.
    """
    if dim is None:
        return broadcast_in_dim(x, (size, *x.shape), tuple(range(1, x.ndim + 1)))
    x = moveaxis(x, dim, 0)
    if rank is not None and x.ndim - 1 < rank:
        x = reshape(x, (x.shape[0], *(1,) * (rank - x.ndim + 1), *x.shape[1:]))
    return x


def batch_pointwise(
    prim: Primitive, axis: MappedAxis, args: Sequence[Value], dims: Dims, params: dict[str, Any]
) -> tuple[Value, int]:
    """Batch a primitive that acts element by element: put the mapped axes in one place."""
    mapped = {(d, x.ndim) for x, d in zip(args, dims, strict=True) if d is not None}
    if len(mapped) == 1:
        d, ndim = next(iter(mapped))
        # Operands that are not mapped broadcast from the right, so they may reach up to axis d.
        if all(e is not None or x.ndim < ndim - d for x, e in zip(args, dims, strict=True)):
            return bind(prim, *args, **params), d
    rank = max(x.ndim - (d is not None) for x, d in zip(args, dims, strict=True))
    moved = [
        x if d is None else lead(x, d, axis.size, rank) for x, d in zip(args, dims, strict=True)
    ]
    return bind(prim, *moved, **params), 0


def unbroadcast(ct: Value, shape: tuple[int, ...]) -> Value:
    """Sum a cotangent over the axes along which an operand of `shape` was broadcast."""
    full = ct.shape
    if full == shape:
        return ct
    extra = len(full) - len(shape)
    axes = tuple(i for i, n in enumerate(full) if i < extra or (shape[i - extra] == 1 and n != 1))
    return reshape(reduce_sum(ct, axes), shape)


def broadcast_to(x: Value, shape: tuple[int, ...]) -> Value:
    """`x` broadcast to `shape` by NumPy's rule (axes align on the right)."""
    if x.shape == shape:
        return x
    extra = len(shape) - x.ndim
    return broadcast_in_dim(x, shape, tuple(range(extra, len(shape))))


def zeros(aval: ShapedArray) -> Value:
    """Zeros of a type."""
    return broadcast_in_dim(scalar(0, aval.dtype), aval.shape, ())


def instantiate(tangent: Value | None, like: Value) -> Value:
    """The tangent itself; zeros of the tangent type of `like` where it is None."""
    return zeros(like.aval.tangent()) if tangent is None else tangent
