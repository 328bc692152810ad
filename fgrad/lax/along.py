"""Dynamic slices along one axis, whole along the others."""

from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.primitive import Value
from fgrad.lax.dynamic import dynamic_slice, dynamic_update_slice
from fgrad.lax.shape import canonical_axis, squeeze, value

__all__ = [
    "dynamic_index_in_dim",
    "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim",
    "dynamic_update_slice_in_dim",
]


def _along(x: Value, axis: int, index: Any) -> list[Any]:
    starts: list[Any] = [np.int32(0)] * x.ndim
    starts[axis] = index
    return starts


def dynamic_slice_in_dim(
    operand: Any,
    start_index: Any,
    slice_size: int,
    axis: int = 0,
    *,
    allow_negative_indices: bool = True,
) -> Value:
    """`dynamic_slice` along one axis, whole along the others.

    Example:
        >>> dynamic_slice_in_dim(np.arange(5, dtype=np.float32), -2, 2)
        Array([3., 4.], dtype=float32)
    """
    x = value(operand)
    axis = canonical_axis("dynamic_slice_in_dim", axis, x.ndim)
    sizes = (*x.shape[:axis], slice_size, *x.shape[axis + 1 :])
    starts = _along(x, axis, start_index)
    return dynamic_slice(x, starts, sizes, allow_negative_indices=allow_negative_indices)


def dynamic_index_in_dim(
    operand: Any,
    index: Any,
    axis: int = 0,
    keepdims: bool = True,
    *,
    allow_negative_indices: bool = True,
) -> Value:
    """The part of an array at a computed index of one axis, which stays with length 1 or goes.

    Example:
        >>> dynamic_index_in_dim(np.arange(5, dtype=np.float32), 2, keepdims=False)
        Array(2., dtype=float32)
    """
    x = value(operand)
    axis = canonical_axis("dynamic_index_in_dim", axis, x.ndim)
    out = dynamic_slice_in_dim(x, index, 1, axis, allow_negative_indices=allow_negative_indices)
    return out if keepdims else squeeze(out, (axis,))


def dynamic_update_slice_in_dim(
    operand: Any, update: Any, start_index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Value:
    """`dynamic_update_slice` along one axis; `update` is whole along the others.

    Example:
        >>> ones = np.ones(2, np.float32)
        >>> dynamic_update_slice_in_dim(np.zeros(3, np.float32), ones, 1, 0)
        Array([0., 1., 1.], dtype=float32)
    """
    x = value(operand)
    axis = canonical_axis("dynamic_update_slice_in_dim", axis, x.ndim)
    starts = _along(x, axis, start_index)
    return dynamic_update_slice(x, update, starts, allow_negative_indices=allow_negative_indices)


def dynamic_update_index_in_dim(
    operand: Any, update: Any, index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Value:
    """Overwrite the part of an array at a computed index of one axis; `update` may lack that axis.

    Example:
        >>> dynamic_update_index_in_dim(np.zeros(3, np.float32), np.float32(7), 1, 0)
        Array([0., 7., 0.], dtype=float32)
    """
    x, u = value(operand), value(update)
    axis = canonical_axis("dynamic_update_index_in_dim", axis, x.ndim)
    if u.ndim != x.ndim:
        u = basis.reshape(u, (*u.shape[:axis], 1, *u.shape[axis:]))
    return dynamic_update_slice_in_dim(
        x, u, index, axis, allow_negative_indices=allow_negative_indices
    )
