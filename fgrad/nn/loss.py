"""Losses of regression and margins, with the names of torch.nn.functional.

``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``.
"""

from typing import Any, Literal

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import ArgumentError, ShapeError

Value = Any
Reduction = Literal["mean", "sum", "none"]


def reduced(name: str, losses: Value, reduction: str) -> Value:
    """Combine the elements of a loss.

    Args:
        name: The loss, for the message.
        losses: ``[...]``, float.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Raises:
        ArgumentError: ``reduction`` is another word.

    Example:
        >>> import numpy as np
        >>> print(reduced("loss", np.array([1.0, 3.0]), "mean"))
        2.0
    """
    if reduction == "mean":
        return fnp.mean(losses)
    if reduction == "sum":
        return fnp.sum(losses)
    if reduction == "none":
        return losses
    message = f"{name}: reduction is 'mean', 'sum' or 'none', got {reduction!r}"
    raise ArgumentError(message)


def same_shape(name: str, prediction: Value, target: Value) -> tuple[Value, Value]:
    """Both as arrays of one shape: broadcasting a loss is a mistake more often than a wish.

    Args:
        name: The loss, for the message.
        prediction: ``[...]``.
        target: ``[...]``, the same shape.

    Returns:
        The two arrays.

    Raises:
        ShapeError: The shapes differ.

    Example:
        >>> import numpy as np
        >>> [x.shape for x in same_shape("loss", np.ones(3), np.zeros(3))]
        [(3,), (3,)]
    """
    prediction, target = fnp.asarray(prediction), fnp.asarray(target)
    if prediction.shape != target.shape:
        message = (
            f"{name}: prediction {list(prediction.shape)} and target {list(target.shape)} must "
            "have one shape; broadcast or reshape one of them"
        )
        raise ShapeError(message)
    return prediction, target


def mse_loss(prediction: Value, target: Value, reduction: Reduction = "mean") -> Value:
    """``(prediction - target)²``.

    Args:
        prediction: ``[...]``, float.
        target: ``[...]``, the same shape.
        reduction: How to combine the elements.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        2.0
    """
    prediction, target = same_shape("mse_loss", prediction, target)
    return reduced("mse_loss", fnp.square(prediction - target), reduction)


def l1_loss(prediction: Value, target: Value, reduction: Reduction = "mean") -> Value:
    """``|prediction - target|``, with derivative 0 where they are equal.

    Args:
        prediction: ``[...]``, float.
        target: ``[...]``, the same shape.
        reduction: How to combine the elements.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        1.0
    """
    prediction, target = same_shape("l1_loss", prediction, target)
    return reduced("l1_loss", fnp.abs(prediction - target), reduction)


def huber_loss(
    prediction: Value, target: Value, reduction: Reduction = "mean", delta: float = 1.0
) -> Value:
    """``d²/2`` where ``|d| < delta``, else ``delta · (|d| - delta/2)``, ``d`` the difference.

    Args:
        prediction: ``[...]``, float.
        target: ``[...]``, the same shape.
        reduction: How to combine the elements.
        delta: Positive; where the parabola becomes a line.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Raises:
        ArgumentError: ``delta`` is not positive.

    Source:
        Huber, *Robust Estimation of a Location Parameter*, 1964.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.huber_loss(np.array([0.0, 0.0]), np.array([1.0, 3.0]), reduction="none"))
        [0.5 2.5]
    """
    if delta <= 0:
        message = f"huber_loss: delta must be positive, got {delta}"
        raise ArgumentError(message)
    prediction, target = same_shape("huber_loss", prediction, target)
    return reduced("huber_loss", _huber(prediction - target, delta), reduction)


def _huber(difference: Value, delta: float) -> Value:
    size = fnp.abs(difference)
    parabola = 0.5 * difference * difference
    return fnp.where(size < delta, parabola, delta * (size - 0.5 * delta))


def smooth_l1_loss(
    prediction: Value, target: Value, reduction: Reduction = "mean", beta: float = 1.0
) -> Value:
    """``d²/(2·beta)`` where ``|d| < beta``, else ``|d| - beta/2``, ``d`` the difference.

    Args:
        prediction: ``[...]``, float.
        target: ``[...]``, the same shape.
        reduction: How to combine the elements.
        beta: Where the parabola becomes a line; 0 is ``l1_loss``.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Raises:
        ArgumentError: ``beta`` is negative.

    Source:
        Girshick, *Fast R-CNN*, arXiv:1504.08083.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.smooth_l1_loss(np.array([0.0, 0.0]), np.array([1.0, 3.0]), reduction="none"))
        [0.5 2.5]
    """
    if beta < 0:
        message = f"smooth_l1_loss: beta must not be negative, got {beta}"
        raise ArgumentError(message)
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    prediction, target = same_shape("smooth_l1_loss", prediction, target)
    return reduced("smooth_l1_loss", _huber(prediction - target, beta) / beta, reduction)


def hinge_loss(prediction: Value, target: Value, reduction: Reduction = "mean") -> Value:
    """``max(0, 1 - target · prediction)``, with derivative 0 at the margin.

    Args:
        prediction: ``[...]``, float.
        target: ``[...]``, -1 or 1.
        reduction: How to combine the elements.

    Returns:
        Scalar, or ``[...]`` for ``"none"``.

    Source:
        Cortes and Vapnik, *Support-Vector Networks*, 1995.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.hinge_loss(np.array([2.0, 0.5]), np.array([1.0, -1.0]), reduction="none"))
        [0.  1.5]
    """
    prediction, target = same_shape("hinge_loss", prediction, target)
    margin = 1 - target * prediction
    return reduced("hinge_loss", fnp.where(margin <= 0, fnp.zeros_like(margin), margin), reduction)


def cosine_similarity(x1: Value, x2: Value, axis: int = -1, eps: float = 1e-8) -> Value:
    """``x1 · x2 / (max(‖x1‖, eps) · max(‖x2‖, eps))`` along ``axis``.

    Args:
        x1: ``[..., n]``, float.
        x2: ``[..., n]``; both broadcast to each other.
        axis: Axis of the product.
        eps: Least norm.

    Returns:
        ``[...]``, in [-1, 1]; 0, with derivative 0 in the other vector's norm, for a zero vector.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.cosine_similarity(np.array([3.0, 0.0]), np.array([1.0, 0.0])))
        1.0
    """
    x1, x2 = fnp.asarray(x1), fnp.asarray(x2)
    product = fnp.sum(_unit(x1, axis, eps) * _unit(x2, axis, eps), axis=axis)
    return product.astype(fnp.promote_types(x1.dtype, x2.dtype))


def _unit(x: Value, axis: int, eps: float) -> Value:
    """``x`` over its norm, at least in float32: ``eps`` squared is no 16-bit number."""
    x = x.astype(fnp.promote_types(x.dtype, fnp.float32))
    square = fnp.sum(x * x, axis=axis, keepdims=True)
    short = square <= eps * eps
    scale = lax.rsqrt(fnp.where(short, fnp.ones_like(square), square))
    return x * fnp.where(short, fnp.full_like(scale, 1 / eps), scale)
