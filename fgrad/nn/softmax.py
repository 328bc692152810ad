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
    x: Value,
    axis: Axes = None,
    b: Value | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Value | None = None,
) -> Any:
    """``log Σ b · exp(x)`` along ``axis``, without overflow.

    Args:
        x: ``[..., n]``, float.
        axis: Axis or axes of the sum; None sums over all.
        b: Real factors that broadcast with ``x``, or None for ones; an element whose factor is 0
            does not count.
        keepdims: Keep the summed axes with size 1.
        return_sign: Return the sign of the sum too, and the logarithm of its absolute value.
        where: Booleans that broadcast to ``x``; where False an element does not count.

    Returns:
        ``[...]``, dtype of ``x``; −∞ for a row without an element. With ``return_sign`` the pair
        of it and of the sign (−1, 0 or 1); otherwise NaN where the sum is negative.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.logsumexp(np.full(4, 1000.0)).round(3))
        1001.386
        >>> value, sign = nn.logsumexp(np.zeros(2), b=np.array([1.0, -3.0]), return_sign=True)
        >>> print(value.round(3), sign)
        0.693 -1.0
    """
    x = fnp.asarray(x)
    if b is not None or return_sign:
        return _signed_logsumexp(x, axis, b, keepdims, return_sign, where)
    axes = _axes(x, axis)
    result = lax.logsumexp(_seen(x, where), axes)
    return result if keepdims else fnp.squeeze(result, axis=axes)


def _signed_logsumexp(
    x: Value, axis: Axes, b: Value | None, keepdims: bool, return_sign: bool, where: Value | None
) -> Any:
    if not fnp.issubdtype(x.dtype, fnp.floating):
        raise DtypeError(f"logsumexp takes float arrays, got {x.aval}; convert it with astype")
    factors = fnp.ones_like(x) if b is None else fnp.asarray(b).astype(x.dtype)
    x, factors = fnp.broadcast_arrays(x, factors)
    axes = _axes(x, axis)
    counts = factors != 0 if where is None else fnp.logical_and(factors != 0, where)
    seen = _seen(x, counts)
    top = lax.stop_gradient(fnp.max(seen, axis=axes, keepdims=True, initial=-fnp.inf))
    top = fnp.where(fnp.isfinite(top), top, fnp.zeros_like(top))
    total = fnp.sum(factors * fnp.exp(seen - top), axis=axes, keepdims=keepdims)
    top = top if keepdims else fnp.squeeze(top, axis=axes)
    if return_sign:
        return fnp.log(fnp.abs(total)) + top, fnp.sign(total)
    return fnp.log(total) + top


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


def one_hot(x: Value, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Value:
    """Ones at the given classes, zeros elsewhere.

    Args:
        x: ``[...]``, integer classes. A class outside [0, num_classes) gives zeros only.
        num_classes: Size of the new axis.
        dtype: dtype of the result; the default float where None.
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
    if x.dtype.itemsize < 4:  # which may not hold every class
        x = x.astype(fnp.int32)
    classes = fnp.arange(num_classes, dtype=x.dtype)
    classes = classes.reshape((num_classes,) + (1,) * (x.ndim - axis))
    return (fnp.expand_dims(x, axis) == classes).astype(dtype)
