"""Embedding lookup."""

from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError

Value = Any


def embedding(indices: Value, weight: Value, padding_idx: int | None = None) -> Value:
    """Rows of ``weight``.

    Args:
        indices: ``[...]``, integers in [0, rows); a negative one is out of bounds.
        weight: ``[rows, size]``, float.
        padding_idx: A row that gets no gradient, from -rows to rows - 1.

    Returns:
        ``[..., size]``.

    Raises:
        DtypeError: ``indices`` is not of an integer dtype.
        IndexOutOfBoundsError: An index is below 0 or beyond the last row.
        ShapeError: ``weight`` is not a matrix.
        ArgumentError: ``padding_idx`` is no row.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.embedding(np.array([1, 0]), np.array([[0.0, 0.5], [1.0, 1.5]])))
        [[1.  1.5]
         [0.  0.5]]
    """
    indices, weight = fnp.asarray(indices), fnp.asarray(weight)
    if not fnp.issubdtype(indices.dtype, fnp.integer):
        message = f"embedding needs integer indices, got {indices.dtype}{list(indices.shape)}"
        raise DtypeError(message)
    if weight.ndim != 2:
        message = f"embedding: weight must be [rows, size], got {list(weight.shape)}"
        raise ShapeError(message)
    rows = lax.take(weight, indices, 0)  # -1 is no row here, as in the rest of fgrad.lax
    if padding_idx is None:
        return rows
    if not -weight.shape[0] <= padding_idx < weight.shape[0]:
        message = f"embedding: padding_idx {padding_idx} is no row of weight {list(weight.shape)}"
        raise ArgumentError(message)
    is_padding = indices == padding_idx % weight.shape[0]
    return fnp.where(is_padding[..., None], lax.stop_gradient(rows), rows)
