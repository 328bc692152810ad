"""Indexing by arrays along some axes, written on `gather`."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.lax.gather import gather
from fgrad.lax.index import GatherDimensionNumbers, GatherScatterMode
from fgrad.lax.joining import concatenate
from fgrad.lax.shape import canonical_axes, canonical_axis, value

__all__ = ["index_take", "take", "take_along_axis"]


def take(
    operand: Any,
    indices: Any,
    axis: int,
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Value:
    """The parts of an array at given indices of one axis, as an embedding looks up rows.

    Args:
        operand: ``[before…, n, after…]``, any dtype.
        indices: Any shape, integers from 0 to n - 1.
        axis: The axis of length n.
        unique_indices: A promise that no index occurs twice.
        indices_are_sorted: A promise that they increase.
        mode: What happens to an index outside; see `GatherScatterMode`.
        fill_value: What stands for it in mode 'fill'; see `gather`.

    Returns:
        ``[before…, *indices.shape, after…]``.

    Raises:
        IndexOutOfBoundsError: An index lies outside, in the default mode, on the CPU.
        AxisError: The axis does not exist.

    Example:
        >>> import numpy as np
        >>> take(np.array([10, 20, 30], np.float32), np.array([2, 0]), 0)
        Array([30., 10.], dtype=float32)
    """
    x, index = value(operand), value(indices)
    axis = canonical_axis("take", axis, x.ndim)
    window = (*range(axis), *range(axis + index.ndim, x.ndim + index.ndim - 1))
    return gather(
        x,
        basis.reshape(index, (*index.shape, 1)),
        GatherDimensionNumbers(window, (axis,), (axis,)),
        tuple(min(1, n) if i == axis else n for i, n in enumerate(x.shape)),
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
        mode=mode,
        fill_value=fill_value,
    )


def take_along_axis(
    operand: Any,
    indices: Any,
    axis: int,
    *,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Value:
    """For each line along an axis, its elements at indices of its own.

    Args:
        operand: ``[…, n, …]``, any dtype.
        indices: ``[…, m, …]``: integers from 0 to n - 1; the other axes as in `operand`.
        axis: The axis of length n.
        unique_indices: A promise that no index occurs twice in a line.
        mode: What happens to an index outside; see `GatherScatterMode`.
        fill_value: What stands for it in mode 'fill'; see `gather`.

    Returns:
        ``[…, m, …]``, the dtype of `operand`.

    Raises:
        IndexOutOfBoundsError: An index lies outside, in the default mode, on the CPU.
        ShapeError: The other axes differ.

    Example:
        >>> import numpy as np
        >>> take_along_axis(np.array([[1, 2], [3, 4]], np.float32), np.array([[1], [0]]), 1)
        Array([[2.],
               [3.]], dtype=float32)
    """
    x, index = value(operand), value(indices)
    axis = canonical_axis("take_along_axis", axis, x.ndim)
    others = tuple(i for i in range(x.ndim) if i != axis)
    if index.ndim != x.ndim or any(x.shape[i] != index.shape[i] for i in others):
        raise ShapeError(
            f"take_along_axis: indices {index.aval} must have the shape of {x.aval} but for axis "
            f"{axis}; broadcast them"
        )
    return gather(
        x,
        basis.reshape(index, (*index.shape, 1)),
        GatherDimensionNumbers((), (axis,), (axis,), others, others),
        tuple(min(1, n) for n in x.shape),
        unique_indices=unique_indices,
        mode=mode,
        fill_value=fill_value,
    )


def index_take(
    src: Any,
    idxs: Sequence[Any],
    axes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Value:
    """The parts of an array at points of several axes.

    Args:
        src: Any shape and dtype.
        idxs: One integer array an axis; they broadcast to one shape.
        axes: The axes, increasing.
        unique_indices: A promise that no point occurs twice.
        indices_are_sorted: A promise that the points increase.
        mode: What happens to a point outside; see `GatherScatterMode`.
        fill_value: What stands for it in mode 'fill'; see `gather`.

    Returns:
        The broadcast shape of the indices, then the other axes of `src`.

    Raises:
        IndexOutOfBoundsError: A point lies outside, in the default mode, on the CPU.
        ShapeError: There is not one array an axis, or they do not broadcast.
        AxisError: An axis is out of range or named twice.

    Example:
        >>> import numpy as np
        >>> index_take(np.eye(2, dtype=np.float32), [np.array([0, 1]), np.array([1, 1])], (0, 1))
        Array([0., 1.], dtype=float32)
    """
    x = value(src)
    found = canonical_axes("index_take", axes, x.ndim)
    arrays = [value(i) for i in idxs]
    if len(arrays) != len(found) or not arrays:
        raise ShapeError(f"index_take: {len(arrays)} index arrays for the axes {tuple(axes)}")
    shape = basis.broadcast_shapes("index_take", [i.aval for i in arrays])
    points = [basis.reshape(basis.broadcast_to(i, shape), (*shape, 1)) for i in arrays]
    return gather(
        x,
        concatenate(points, len(shape)),
        GatherDimensionNumbers(range(len(shape), len(shape) + x.ndim - len(found)), found, found),
        tuple(min(1, n) if i in found else n for i, n in enumerate(x.shape)),
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
        mode=mode,
        fill_value=fill_value,
    )
