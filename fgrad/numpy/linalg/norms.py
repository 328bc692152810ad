"""Norms of vectors and matrices."""

import math
from typing import Any

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.primitive import Value
from fgrad.lax import linalg as decompositions
from fgrad.numpy import axes as ax
from fgrad.numpy import reductions, shaping, ufuncs
from fgrad.numpy.linalg.operands import matrix, squares
from fgrad.numpy.promotion import promote_inexact, value
from fgrad.numpy.reductions import safe_sqrt


def _moduli(x: Value) -> Value:
    return lax.abs(x) if dtypes.is_inexact(x.dtype) else ufuncs.abs(x)


def vector_norm_over(x: Value, order: Any, axes: Any, keepdims: bool) -> Value:
    """The norm of the vectors that lie along axes."""
    if order is None or order == 2:
        return safe_sqrt(reductions.sum(squares(x), axes, keepdims=keepdims))
    size = _moduli(x)
    if order == math.inf:
        return reductions.max(size, axes, keepdims=keepdims)
    if order == -math.inf:
        return reductions.min(size, axes, keepdims=keepdims)
    if order == 0:
        count = reductions.sum(ufuncs.truth(x), axes, keepdims=keepdims)
        return convert_element_type(count, size.dtype)
    if order == 1:
        return reductions.sum(size, axes, keepdims=keepdims)
    if order in ("fro", "nuc", "f"):
        raise ArgumentError(f"norm: order {order!r} is for matrices; vectors take a number")
    total = reductions.sum(ufuncs.power(size, order), axes, keepdims=keepdims)
    # In the dtype of the sum: a Python number would be divided in the default one.
    inverse = ufuncs.divide(1.0, convert_element_type(value(order), total.dtype))
    zero = lax.eq(total, ufuncs.zero_like(total))
    root = ufuncs.power(select_n(zero, total, ufuncs.const(1, total)), inverse)
    # A norm of 0 has the derivative 0; a negative order of it is 0 too.
    return select_n(zero, root, ufuncs.zero_like(root))


def matrix_norm_over(x: Value, order: Any, axes: tuple[int, int], keepdims: bool) -> Value:
    """The norm of the matrices that lie in a pair of axes."""
    row, column = axes
    if order in (None, "f", "fro"):
        return safe_sqrt(reductions.sum(squares(x), axes, keepdims=keepdims))
    if order in (1, -1, math.inf, -math.inf):
        inner, outer_ = (row, column) if order in (1, -1) else (column, row)
        sums = reductions.sum(_moduli(x), inner, keepdims=True)
        pick = reductions.max if order in (1, math.inf) else reductions.min
        found = pick(sums, outer_, keepdims=True)
        return found if keepdims else shaping.squeeze(found, axes)
    if order in (2, -2, "nuc"):
        moved = shaping.moveaxis(x, axes, (-2, -1))
        values = decompositions.svd(moved, compute_uv=False)
        if order == "nuc":
            found = reductions.sum(values, -1)
        else:
            found = (reductions.max if order == 2 else reductions.min)(values, -1)
        return basis.reshape(found, ax.kept(x.shape, axes)) if keepdims else found
    raise ArgumentError(
        f"norm: order {order!r} of a matrix is not known; choose 'fro', 'nuc', 1, -1, 2, -2, inf "
        f"or -inf"
    )


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    """The norm of vectors or matrices.

    Args:
        x: Any shape.
        ord: None (Euclidean, Frobenius), inf, -inf, 0, any number for vectors; "fro", "nuc", 1,
            -1, 2, -2, inf, -inf for matrices.
        axis: One axis: of vectors; two: of matrices; None: all, flattened unless `ord` is given.
        keepdims: Keep the axes with length 1.

    Derivatives:
        0 where the Euclidean, Frobenius or p-norm is 0.

    Example:
        >>> import numpy as np
        >>> norm(np.array([3.0, 4.0], np.float32))
        Array(5., dtype=float32)
    """
    (v,) = promote_inexact("norm", x)
    if axis is None and ord is None:
        return vector_norm_over(v, None, None, keepdims)
    axes = ax.several("norm", axis, v.ndim)
    if len(axes) == 1:
        return vector_norm_over(v, ord, axes, keepdims)
    if len(axes) == 2:
        return matrix_norm_over(v, ord, (axes[0], axes[1]), keepdims)
    raise ShapeError(
        f"norm: axis {axis} of {v.aval} must name one axis (vectors) or two (matrices)"
    )


def vector_norm(
    x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2
) -> Value:  # fmt: skip
    """The norm of vectors that lie along axes (all where None)."""
    (v,) = promote_inexact("vector_norm", x)
    return vector_norm_over(v, ord, ax.several("vector_norm", axis, v.ndim), keepdims)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Value:
    """The norm of matrices in the last two axes."""
    v = matrix("matrix_norm", x)
    return matrix_norm_over(v, ord, (v.ndim - 2, v.ndim - 1), keepdims)
