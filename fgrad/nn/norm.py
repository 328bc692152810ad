"""Normalisation: layer, root-mean-square, group and batch."""

import math
from collections.abc import Sequence
from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import AxisError, ShapeError
from fgrad.nn.activation import require_float

Value = Any
Axes = int | Sequence[int]


def _wide(x: Value) -> Value:
    """``x`` in the dtype of its statistics: at least float32."""
    return x.astype(fnp.float32) if x.dtype.itemsize < 4 else x


def _axes(name: str, x: Value, axis: Axes) -> tuple[int, ...]:
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(sorted(a + x.ndim if a < 0 else a for a in given))
    if len(set(axes)) < len(axes) or any(not 0 <= a < x.ndim for a in axes):
        message = f"{name}: axis {axis} does not fit x {list(x.shape)}"
        raise AxisError(message)
    return axes


def _affine(
    name: str, x: Value, weight: Value | None, bias: Value | None, axes: tuple[int, ...]
) -> Value:
    """``x · weight + bias``, where both have the sizes of ``axes`` of ``x``."""
    expected = tuple(x.shape[a] for a in axes)
    shape = tuple(size if a in axes else 1 for a, size in enumerate(x.shape))
    for label, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and tuple(fnp.shape(parameter)) != expected:
            message = (
                f"{name}: {label} must be {list(expected)}, as axes {list(axes)} of "
                f"x {list(x.shape)}; got {list(fnp.shape(parameter))}"
            )
            raise ShapeError(message)
    if weight is not None:
        x = x * fnp.reshape(weight, shape).astype(x.dtype)
    if bias is not None:
        x = x + fnp.reshape(bias, shape).astype(x.dtype)
    return x


def standardize(
    x: Value,
    axis: Axes = -1,
    mean: Value | None = None,
    variance: Value | None = None,
    epsilon: float = 1e-5,
    where: Value | None = None,
) -> Value:
    """``(x - mean) / √(variance + epsilon)``.

    Args:
        x: ``[..., n]``, float.
        axis: Axis or axes of the statistics.
        mean: Replaces the mean of ``x``; broadcasts to it.
        variance: Replaces the (biased) variance of ``x``; broadcasts to it.
        epsilon: Added to the variance.
        where: Booleans that broadcast to ``x``; where False an element does not count in the
            statistics.

    Returns:
        ``[..., n]``, dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.standardize(np.array([1.0, 3.0], np.float32), epsilon=0.0))
        [-1.  1.]
    """
    x = require_float("standardize", x)
    wide = _wide(x)
    axes = _axes("standardize", x, axis)
    if mean is None:
        mean = fnp.mean(wide, axis=axes, keepdims=True, where=where)
    centred = wide - mean
    if variance is None:
        variance = fnp.mean(centred * centred, axis=axes, keepdims=True, where=where)
    return (centred * lax.rsqrt(fnp.asarray(variance) + epsilon)).astype(x.dtype)


def layer_norm(
    x: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    axis: Axes = -1,
    eps: float = 1e-5,
) -> Value:
    """``weight · (x - μ) / √(σ² + eps) + bias``, with mean and (biased) variance along ``axis``.

    Args:
        x: ``[..., n]``, float.
        weight: ``[n]`` (the sizes of the axes), or None for ones.
        bias: ``[n]``, or None for zeros.
        axis: Axis or axes of the statistics.
        eps: Added to the variance, hence in units of x².

    Returns:
        ``[..., n]``, dtype of ``x``.

    Raises:
        ShapeError: ``weight`` or ``bias`` has another shape.
        AxisError: ``axis`` does not fit ``x``.

    Numerics:
        Computed in at least float32 and rounded once; the variance in a second pass.

    Source:
        Ba, Kiros and Hinton, *Layer Normalization*, arXiv:1607.06450, section 3.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.layer_norm(np.array([1.0, 3.0], np.float32), eps=0.0))
        [-1.  1.]
    """
    x = fnp.asarray(x)
    axes = _axes("layer_norm", x, axis)
    result = _affine("layer_norm", lax.normalize(_wide(x), axes, eps=eps), weight, bias, axes)
    return result.astype(x.dtype)


def rms_norm(x: Value, weight: Value | None = None, eps: float = 1e-6, axis: Axes = -1) -> Value:
    """``weight · x / √(mean(x²) + eps)`` along ``axis``.

    Args:
        x: ``[..., n]``, float.
        weight: ``[n]`` (the sizes of the axes), or None for ones.
        eps: Added to the mean square, hence in units of x².
        axis: Axis or axes of the mean.

    Returns:
        ``[..., n]``, dtype of ``x``.

    Raises:
        ShapeError: ``weight`` has another shape.
        AxisError: ``axis`` does not fit ``x``.

    Numerics:
        Computed in at least float32 and rounded once.

    Source:
        Zhang and Sennrich, *Root Mean Square Layer Normalization*, arXiv:1910.07467.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.rms_norm(np.array([3.0, -3.0], np.float32), eps=0.0))
        [ 1. -1.]
    """
    x = fnp.asarray(x)
    axes = _axes("rms_norm", x, axis)
    normalized = lax.normalize(_wide(x), axes, eps=eps, center=False)
    return _affine("rms_norm", normalized, weight, None, axes).astype(x.dtype)


def group_norm(
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    channel_axis: int = 1,
) -> Value:
    """Normalise each sample over groups of channels and all axes after axis 0.

    ``weight · (x - μ) / √(σ² + eps) + bias``, with mean and (biased) variance of each group, and
    weight and bias of each channel. ``groups=1`` takes all channels together; one group a channel
    is instance normalisation.

    Args:
        x: ``[batch, channels, ...]``, float.
        groups: Number of groups; divides the channels.
        weight: ``[channels]``, or None for ones.
        bias: ``[channels]``, or None for zeros.
        eps: Added to the variance.
        channel_axis: Axis of the channels, not 0.

    Returns:
        Shape and dtype of ``x``.

    Raises:
        ShapeError: ``groups`` does not divide the channels, or a parameter has another shape.
        AxisError: ``channel_axis`` does not fit ``x``, or is 0.

    Source:
        Wu and He, *Group Normalization*, arXiv:1803.08494.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> x = np.array([[1.0, 3.0, 10.0, 30.0]], np.float32)
        >>> print(nn.group_norm(x, groups=2, eps=0.0))
        [[-1.  1. -1.  1.]]
    """
    x = fnp.asarray(x)
    (axis,) = _axes("group_norm", x, channel_axis)
    if axis == 0:
        message = f"group_norm: axis 0 of x {list(x.shape)} is the batch, not the channels"
        raise AxisError(message)
    channels = x.shape[axis]
    if groups < 1 or channels % groups:
        message = f"group_norm: {groups} groups do not divide the {channels} channels of x"
        raise ShapeError(message)
    split = (*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])
    grouped = fnp.reshape(_wide(x), split)
    axes = tuple(a for a in range(1, len(split)) if a != axis)
    result = fnp.reshape(lax.normalize(grouped, axes, eps=eps), x.shape)
    return _affine("group_norm", result, weight, bias, (axis,)).astype(x.dtype)


def batch_norm(
    x: Value,
    running_mean: Value,
    running_var: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    channel_axis: int = 1,
) -> tuple[Value, Value, Value]:
    """Normalise each channel over the batch and all other axes.

    In training by the statistics of this batch, which also move the running ones by
    ``momentum``; otherwise by the running ones.

    Args:
        x: ``[batch, channels, ...]``, float.
        running_mean: ``[channels]``.
        running_var: ``[channels]``, of the unbiased variance.
        weight: ``[channels]``, or None for ones.
        bias: ``[channels]``, or None for zeros.
        training: Whether to use, and learn from, this batch. Static.
        momentum: Weight of this batch in the new running statistics.
        eps: Added to the variance.
        channel_axis: Axis of the channels.

    Returns:
        ``(y, new_running_mean, new_running_var)``; the statistics carry no derivative.

    Raises:
        ShapeError: A parameter is not ``[channels]``, or training sees one value a channel only.
        AxisError: ``channel_axis`` does not fit ``x``.

    Source:
        Ioffe and Szegedy, *Batch Normalization*, arXiv:1502.03167.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> x = np.array([[1.0], [3.0]], np.float32)
        >>> mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
        >>> y, mean, var = nn.batch_norm(x, mean, var, training=True, momentum=0.5, eps=0.0)
        >>> print(y.ravel(), mean, var)
        [-1.  1.] [1.] [1.5]
    """
    x = fnp.asarray(x)
    (axis,) = _axes("batch_norm", x, channel_axis)
    wide = _wide(x)
    others = tuple(a for a in range(x.ndim) if a != axis)
    shape = tuple(x.shape[axis] if a == axis else 1 for a in range(x.ndim))
    for label, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if tuple(fnp.shape(statistic)) != (x.shape[axis],):
            message = (
                f"batch_norm: {label} must be [{x.shape[axis]}], as axis {axis} of "
                f"x {list(x.shape)}; got {list(fnp.shape(statistic))}"
            )
            raise ShapeError(message)
    if training:
        count = math.prod(x.shape[a] for a in others)
        if count < 2:
            message = f"batch_norm: training needs two values a channel, got x {list(x.shape)}"
            raise ShapeError(message)
        mean = fnp.mean(wide, axis=others)
        centred = wide - mean.reshape(shape)
        variance = fnp.mean(centred * centred, axis=others)
        unbiased = variance * (count / (count - 1))
        running_mean = _moved(running_mean, mean, momentum)
        running_var = _moved(running_var, unbiased, momentum)
    else:
        centred = wide - fnp.reshape(running_mean, shape).astype(wide.dtype)
        variance = fnp.asarray(running_var).astype(wide.dtype)
    normalized = centred * lax.rsqrt(variance + eps).reshape(shape)
    y = _affine("batch_norm", normalized, weight, bias, (axis,)).astype(x.dtype)
    return y, running_mean, running_var


def _moved(running: Value, current: Value, momentum: float) -> Value:
    running = fnp.asarray(running)
    current = lax.stop_gradient(current).astype(running.dtype)
    return (1 - momentum) * running + momentum * current
