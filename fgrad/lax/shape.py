"""Shapes and layouts: reshape, transpose, broadcast, squeeze, reverse, copy.

Nothing here computes, so every dtype is allowed and results are exact.
"""

import builtins
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integer, integers
from fgrad.core.basis import Dims, shift_axes
from fgrad.core.errors import AxisError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    ANY,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import Array, bind
from fgrad.lax.kinds import structural

__all__ = [
    "broadcast",
    "broadcast_in_dim",
    "broadcast_shapes",
    "broadcast_to_rank",
    "collapse",
    "copy",
    "copy_p",
    "expand_dims",
    "reshape",
    "rev",
    "rev_p",
    "squeeze",
    "transpose",
]

Ints = tuple[int, ...]


def value(x: Any) -> Value:
    """`x` as a value: arrays pass through."""
    return x if isinstance(x, Array) else as_value(x)


def scalar_like(x: Any, dtype: np.dtype[Any]) -> Value:
    """`x` as a value; a Python number takes `dtype` where its kind fits."""
    kinds = {bool: "b", int: "iufc", float: "fc", complex: "c"}.get(type(x), "")
    kind = "f" if dtypes.is_float(dtype) else dtype.kind
    return basis.scalar(x, dtype) if kind in kinds else value(x)


def canonical_axis(name: str, axis: int, ndim: int) -> int:
    """An axis as an index from 0, or an `AxisError` that names the operation."""
    axis = integer(axis, f"{name}: an axis")
    if not -ndim <= axis < ndim:
        raise AxisError(
            f"{name}: axis {axis} is out of range for an array of {ndim} axes; axes run from "
            f"{-ndim} to {ndim - 1}"
        )
    return axis % ndim


def canonical_axes(name: str, axes: Sequence[int], ndim: int) -> Ints:
    """Axes as increasing indices from 0, or an `AxisError`: out of range, or one named twice."""
    found = sorted(canonical_axis(name, a, ndim) for a in axes)
    if len(set(found)) != len(found):
        raise AxisError(f"{name}: axes {tuple(axes)} name one of the {ndim} axes twice")
    return tuple(found)


# -------------------------------------------------------------------------- views by the basis


def reshape(
    operand: Any, new_sizes: Sequence[int], dimensions: Sequence[int] | None = None
) -> Value:
    """The same elements, in row-major order, under another shape.

    Args:
        operand: Any shape and dtype.
        new_sizes: The new shape; its product is the size of `operand`.
        dimensions: The order in which the axes of `operand` are read, ``(0, 1, …)`` if left out.

    Returns:
        ``[*new_sizes]``, the dtype of `operand`.

    Raises:
        ShapeError: The sizes differ.

    Example:
        >>> reshape(np.arange(4, dtype=np.float32), (2, 2))
        Array([[0., 1.],
               [2., 3.]], dtype=float32)
    """
    x = value(operand)
    if dimensions is not None:
        x = transpose(x, dimensions)
    return basis.reshape(x, integers(new_sizes, "reshape: new_sizes"))


def transpose(operand: Any, permutation: Sequence[int]) -> Value:
    """Permute axes: axis i of the result is axis ``permutation[i]`` of the operand.

    Raises:
        AxisError: `permutation` does not name each axis once.

    Example:
        >>> transpose(np.array([[1, 2, 3]], np.float32), (1, 0)).shape
        (3, 1)
    """
    return basis.transpose(value(operand), integers(permutation, "transpose: permutation"))


def broadcast_in_dim(
    operand: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]
) -> Value:
    """Repeat an array along new axes, and along its axes of length 1.

    Args:
        operand: ``[n₀, n₁, …]``, any dtype.
        shape: The shape of the result.
        broadcast_dimensions: For each axis of `operand` the axis of the result that it becomes,
            increasing; its length there is the same, or was 1.

    Returns:
        ``[*shape]``, the dtype of `operand`.

    Raises:
        ShapeError: A length does not fit.
        AxisError: `broadcast_dimensions` do not increase or leave the result.

    Example:
        >>> broadcast_in_dim(np.array([1, 2], np.float32), (2, 3), (0,))
        Array([[1., 1., 1.],
               [2., 2., 2.]], dtype=float32)
    """
    dims = integers(broadcast_dimensions, "broadcast_in_dim: broadcast_dimensions")
    return basis.broadcast_in_dim(value(operand), integers(shape, "broadcast_in_dim: shape"), dims)


def broadcast(operand: Any, sizes: Sequence[int]) -> Value:
    """Repeat an array along new leading axes of the lengths `sizes`.

    Example:
        >>> broadcast(np.array([1, 2], np.float32), (2,))
        Array([[1., 2.],
               [1., 2.]], dtype=float32)
    """
    x = value(operand)
    k = len(sizes)
    return broadcast_in_dim(x, (*sizes, *x.shape), range(k, k + x.ndim))


def broadcast_to_rank(x: Any, rank: int) -> Value:
    """Add leading axes of length 1 until there are `rank` axes.

    Example:
        >>> broadcast_to_rank(np.zeros(3, np.float32), 3).shape
        (1, 1, 3)
    """
    x = value(x)
    if x.ndim > rank:
        raise ShapeError(f"broadcast_to_rank: {x.aval} has more than {rank} axes already")
    return basis.reshape(x, (1,) * (rank - x.ndim) + x.shape)


def broadcast_shapes(*shapes: Sequence[int]) -> Ints:
    """The shape to which arrays of these shapes broadcast together, by NumPy's rule.

    Raises:
        ShapeError: They do not.

    Example:
        >>> broadcast_shapes((2, 1), (3,))
        (2, 3)
    """
    avals = [ShapedArray(tuple(s), np.dtype(np.float32)) for s in shapes]
    return basis.broadcast_shapes("broadcast_shapes", avals) if avals else ()


def expand_dims(array: Any, dimensions: Sequence[int]) -> Value:
    """Insert axes of length 1 at the positions `dimensions` of the result.

    Raises:
        AxisError: A position is out of range or named twice.

    Example:
        >>> expand_dims(np.zeros((2, 3), np.float32), (0, -1)).shape
        (1, 2, 3, 1)
    """
    x = value(array)
    new = canonical_axes("expand_dims", dimensions, x.ndim + len(dimensions))
    lengths = iter(x.shape)
    shape = [1 if i in new else next(lengths) for i in range(x.ndim + len(new))]
    return basis.reshape(x, tuple(shape))


def squeeze(array: Any, dimensions: Sequence[int]) -> Value:
    """Remove the axes `dimensions`, each of length 1.

    Raises:
        AxisError: An axis is out of range or named twice.
        ShapeError: The length of one is not 1.

    Example:
        >>> squeeze(np.zeros((1, 2, 1), np.float32), (0, 2)).shape
        (2,)
    """
    x = value(array)
    gone = canonical_axes("squeeze", dimensions, x.ndim)
    if any(x.shape[i] != 1 for i in gone):
        raise ShapeError(f"squeeze: axes {gone} of {x.aval} need length 1 to be removed")
    return basis.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


def collapse(operand: Any, start_dimension: int, stop_dimension: int | None = None) -> Value:
    """Merge the axes from start to stop (exclusive; the last where None) into one.

    Example:
        >>> collapse(np.zeros((2, 3, 4), np.float32), 1).shape
        (2, 12)
    """
    x = value(operand)
    start, stop, _ = builtins.slice(start_dimension, stop_dimension).indices(x.ndim)
    if stop < start:
        raise AxisError(
            f"collapse: axes {start_dimension} to {stop_dimension} of {x.aval} are no range"
        )
    merged = prod(x.shape[start:stop])
    return basis.reshape(x, (*x.shape[:start], merged, *x.shape[stop:]))


# ----------------------------------------------------------------------------------- rev, copy


def _rev_abstract(x: ShapedArray, *, dimensions: Ints) -> ShapedArray:
    if list(dimensions) != sorted(set(dimensions)) or any(not 0 <= d < x.ndim for d in dimensions):
        raise AxisError(
            f"rev: dimensions {dimensions} must increase and lie within the {x.ndim} axes of {x}"
        )
    return x


def _rev_eager(_xp: Any, x: Any, *, dimensions: Ints) -> Any:
    if dimensions and dimensions[-1] >= x.ndim:
        raise ValueError("dimensions")
    whole, back = builtins.slice(None), builtins.slice(None, None, -1)
    return x[tuple(back if i in dimensions else whole for i in range(x.ndim))]


def _rev_transpose(ct: Value, _x: Unknown, *, dimensions: Ints) -> tuple[Value]:
    return (rev(ct, dimensions),)


def _rev_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, dimensions: Ints
) -> tuple[Value, int | None]:
    d = dims[0]
    assert d is not None
    return rev(args[0], shift_axes(dimensions, d)), d


rev_p: Primitive = structural(
    "rev",
    doc="Reverse the order of elements along axes.",
    abstract=_rev_abstract,
    eager=_rev_eager,
    transpose=_rev_transpose,
    batch=_rev_batch,
    lower=Lowering("view", "rev"),
    simplify=basis.undone(lambda: rev_p),
    spec=Spec(
        cases=(Case("m n", {"dimensions": (0,)}), Case("m n", {"dimensions": (0, 1)})),
        dtypes=ANY,
        reference=lambda x, *, dimensions: np.flip(x, dimensions),
        ulps=0.0,
        invalid=(Invalid(("f32[2]",), AxisError, "within", dimensions=(1,)),),
    ),
)


def rev(operand: Any, dimensions: Sequence[int]) -> Value:
    """Reverse the order of elements along the axes `dimensions`.

    Raises:
        AxisError: An axis is out of range or named twice.

    Example:
        >>> rev(np.array([1, 2, 3], np.float32), (0,))
        Array([3., 2., 1.], dtype=float32)
    """
    x = value(operand)
    axes = canonical_axes("rev", dimensions, x.ndim)
    return bind(rev_p, x, dimensions=axes) if axes else x


copy_p: Primitive = structural(
    "copy",
    doc="The same values in memory of their own.",
    abstract=lambda x: x,
    eager=lambda _xp, x: x.copy(),
    transpose=lambda ct, _x: (ct,),
    batch=lambda _axis, args, dims: (copy(args[0]), dims[0]),
    lower=Lowering("view", "copy"),
    spec=Spec(dtypes=ANY, reference=lambda x: x, ulps=0.0),
)


def copy(x: Any) -> Value:
    """The same values in memory of their own.

    Example:
        >>> copy(np.array([1, 2], np.float32))
        Array([1., 2.], dtype=float32)
    """
    return bind(copy_p, value(x))
