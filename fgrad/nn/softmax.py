"""Functions that normalise or encode along an axis of classes."""

from collections.abc import Sequence
from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import ArgumentError, DtypeError

Value = Any
Axes = int | Sequence[int] | None


def _axes(x: Value, axis: Axes) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _seen(x: Value, where: Value | None) -> Value:
    """``x`` with −∞ where it does not count."""
    return x if where is None else fnp.where(where, x, -fnp.inf)


def softmax(x: Value, axis: Axes = -1, where: Value | None = None) -> Value:
    """``exp(x) / Σ exp(x)`` along ``axis``.

    Args:
        x: ``[..., n]``, float.
        axis: Axis or axes of the sum; None sums over all.
        where: Booleans that broadcast to ``x``; where False the result is 0 and does not count.

    Returns:
        ``[..., n]``, dtype of ``x``. Zeros where a whole row is masked.

    Numerics:
        Shifted by the maximum, so that it does not overflow.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.softmax(np.zeros(4, np.float32)))
        [0.25 0.25 0.25 0.25]
    """
    x = fnp.asarray(x)
    return lax.softmax(_seen(x, where), _axes(x, axis), masked=where is not None)


def logsumexp(
    x: Value, axis: Axes = None, *, keepdims: bool = False, where: Value | None = None
) -> Value:
    """``log Σ exp(x)`` along ``axis``, without overflow.

    Args:
        x: ``[..., n]``, float.
        axis: Axis or axes of the sum; None sums over all.
        keepdims: Keep the summed axes with size 1.
        where: Booleans that broadcast to ``x``; where False an element does not count.

    Returns:
        ``[...]``, dtype of ``x``; −∞ for a row without an element.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.logsumexp(np.full(4, 1000.0)).round(3))
        1001.386
    """
    x = fnp.asarray(x)
    axes = _axes(x, axis)
    result = lax.logsumexp(_seen(x, where), axes)
    return result if keepdims else fnp.squeeze(result, axis=axes)


def log_softmax(x: Value, axis: Axes = -1, where: Value | None = None) -> Value:
    """``x - log Σ exp(x)`` along ``axis``.

    Args:
        x: ``[..., n]``, float.
        axis: Axis or axes of the sum; None sums over all.
        where: Booleans that broadcast to ``x``; where False the result is −∞ and does not count.

    Returns:
        ``[..., n]``, dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.log_softmax(np.zeros(2, np.float32)).round(4))
        [-0.6931 -0.6931]
    """
    x = fnp.asarray(x)
    total = logsumexp(x, axis, keepdims=True, where=where)
    if where is None:
        return x - total
    # The outer select alone would leave -inf - -inf, whose derivative is NaN, in a masked row.
    difference = fnp.where(where, x, fnp.zeros_like(x)) - fnp.where(
        fnp.isinf(total), fnp.zeros_like(total), total
    )
    return fnp.where(where, difference, -fnp.inf)


def one_hot(x: Value, num_classes: int, *, dtype: Any = fnp.float32, axis: int = -1) -> Value:
    """Ones at the given classes, zeros elsewhere.

    Args:
        x: ``[...]``, integer classes. A class outside [0, num_classes) gives zeros only.
        num_classes: Size of the new axis.
        dtype: dtype of the result.
        axis: Where the new axis stands in the result.

    Returns:
        ``[..., num_classes]`` (for ``axis=-1``).

    Raises:
        DtypeError: ``x`` is not of an integer dtype.
        ArgumentError: ``num_classes`` is negative.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.one_hot(np.array([2, 0]), 3))
        [[0. 0. 1.]
         [1. 0. 0.]]
    """
    x = fnp.asarray(x)
    if not fnp.issubdtype(x.dtype, fnp.integer):
        message = f"one_hot needs integer classes, got {x.dtype}{list(x.shape)}"
        raise DtypeError(message)
    if num_classes < 0:
        message = f"one_hot: num_classes must not be negative, got {num_classes}"
        raise ArgumentError(message)
    axis = axis if axis >= 0 else axis + x.ndim + 1
    classes = fnp.arange(num_classes, dtype=x.dtype)
    classes = classes.reshape((num_classes,) + (1,) * (x.ndim - axis))
    return (fnp.expand_dims(x, axis) == classes).astype(dtype)
