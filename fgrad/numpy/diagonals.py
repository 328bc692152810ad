"""Diagonals of matrices, taken and put."""

import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.errors import ImmutableArrayError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import reductions, shaping
from fgrad.numpy.promotion import stated, value

__all__ = [
    "diag",
    "diagflat",
    "diagonal",
    "fill_diagonal",
    "trace",
]


def last_diagonal(x: Value) -> Value:
    """The diagonal of the last two axes (of one length): a strided slice of them flattened."""
    n = x.shape[-1]
    flat = basis.reshape(x, (*x.shape[:-2], n * n))
    return flat if n == 0 else lax.slice_in_dim(flat, 0, n * n, n + 1, axis=flat.ndim - 1)


def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None
) -> Value:
    """The sum along a diagonal."""
    del out
    return reductions.sum(diagonal(a, offset, axis1, axis2), -1, dtype)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """A diagonal of the plane of two axes, as the last axis."""
    x = value(a, "diagonal", "a")
    if x.ndim < 2:
        raise ShapeError(f"diagonal: a needs at least 2 axes, got {x.aval}")
    i, j = ax.several("diagonal", (axis1, axis2), x.ndim)
    x = shaping.moveaxis(x, (i, j), (-2, -1))
    rows, columns = x.shape[-2:]
    top, left = max(-offset, 0), max(offset, 0)
    n = max(min(rows - top, columns - left), 0)
    x = lax.slice_in_dim(x, min(top, rows), min(top, rows) + n, axis=x.ndim - 2)
    x = lax.slice_in_dim(x, min(left, columns), min(left, columns) + n, axis=x.ndim - 1)
    return last_diagonal(x)


def diag(v: Any, k: int = 0) -> Value:
    """A vector as the k-th diagonal of a matrix, or the k-th diagonal of a matrix."""
    x = value(v, "diag", "v")
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag: v must have 1 or 2 axes, got {x.aval}")
    n = x.size
    if n == 0:
        return lax.full((abs(k), abs(k)), 0, x.dtype)
    # Column j of n rows of length n + 1, flattened, runs along the diagonal.
    zero = basis.scalar(0, x.dtype)
    rows = lax.pad(basis.reshape(x, (n, 1)), zero, [(0, 0, 0), (0, n, 0)])
    square = basis.reshape(lax.slice_in_dim(basis.reshape(rows, (n * (n + 1),)), 0, n * n, axis=0),
                           (n, n))  # fmt: skip
    width = ((max(-k, 0), max(k, 0), 0), (max(k, 0), max(-k, 0), 0))
    return lax.pad(square, zero, width) if k else square


def diagflat(v: Any, k: int = 0) -> Value:
    """All elements as the k-th diagonal of a matrix."""
    return diag(shaping.ravel(v), k)


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = True) -> Value:
    """The array with `val` on its main diagonal; ``inplace=False`` is required as in JAX.

    Raises:
        ShapeError: The axes have different lengths.
    """
    x = value(a, "fill_diagonal", "a")
    if inplace:
        raise ImmutableArrayError(
            "fill_diagonal: arrays are immutable; pass inplace=False, use the result"
        )
    if wrap or x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ShapeError(f"fill_diagonal: needs at least 2 axes of one length, got {x.aval}")
    n = min(x.shape)
    step = 1 + sum(math.prod(x.shape[i + 1 :]) for i in range(x.ndim - 1))
    new = stated(val, x.dtype)
    mask = np.zeros(x.size, bool)
    mask[: n * step : step][:n] = True
    source = np.zeros(x.size, np.int32)
    source[mask] = np.arange(n)
    row = basis.broadcast_to(new, (n,)) if new.ndim < 2 else shaping.ravel(new)
    return basis.select_n(
        value(mask.reshape(x.shape)), x,
        basis.reshape(shaping.take_rows(row, source, 0), x.shape),
    )  # fmt: skip
