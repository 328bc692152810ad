"""Normalisations as layers."""

from collections.abc import Sequence
from typing import Any

import fgrad.numpy as fnp
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.nn.modules.base import Module, static
from fgrad.nn.norm import group_norm, layer_norm, rms_norm
from fgrad.numpy.creation import settled

Value = Any


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(normalized_shape, int):
        return (normalized_shape,)
    return tuple(normalized_shape)


def _last_axes(name: str, x: Value, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not shape or tuple(fnp.shape(x)[-len(shape) :]) != shape:
        message = (
            f"{name}: x must end with the normalized shape {list(shape)}, got {list(fnp.shape(x))}"
        )
        raise ShapeError(message)
    return tuple(range(-len(shape), 0))


class LayerNorm(Module):
    """Layer normalisation over the last axes; see ``fgrad.nn.layer_norm``.

    Args:
        normalized_shape: Sizes of the last axes, over which to normalise.
        eps: Added to the variance.
        elementwise_affine: Whether to have a weight and a bias.
        bias: Whether to have a bias.
        dtype: dtype of the parameters; the default float where None.

    Attributes:
        weight: ``normalized_shape``, ones, or None.
        bias: ``normalized_shape``, zeros, or None.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.LayerNorm(2, eps=0.0)(np.array([[1.0, 3.0]], np.float32)))
        [[-1.  1.]]
    """

    normalized_shape: tuple[int, ...] = static()
    eps: float = static()
    weight: Value | None
    bias: Value | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        shape = _shape(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight = settled(fnp.ones(shape, dtype)) if elementwise_affine else None
        self.bias = settled(fnp.zeros(shape, dtype)) if elementwise_affine and bias else None

    def __call__(self, x: Value) -> Value:
        """Normalise ``[..., *normalized_shape]``; shape and dtype are kept."""
        axes = _last_axes("LayerNorm", x, self.normalized_shape)
        return layer_norm(x, self.weight, self.bias, axis=axes, eps=self.eps)


class RMSNorm(Module):
    """Root-mean-square normalisation over the last axes; see ``fgrad.nn.rms_norm``.

    Args:
        normalized_shape: Sizes of the last axes, over which to normalise.
        eps: Added to the mean square; None takes the machine epsilon of the input's dtype.
        elementwise_affine: Whether to have a weight.
        dtype: dtype of the weight; the default float where None.

    Attributes:
        weight: ``normalized_shape``, ones, or None.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.RMSNorm(2, eps=0.0)(np.array([[3.0, -3.0]], np.float32)))
        [[ 1. -1.]]
    """

    normalized_shape: tuple[int, ...] = static()
    eps: float | None = static()
    weight: Value | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        shape = _shape(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight = settled(fnp.ones(shape, dtype)) if elementwise_affine else None

    def __call__(self, x: Value) -> Value:
        """Normalise ``[..., *normalized_shape]``; shape and dtype are kept."""
        axes = _last_axes("RMSNorm", x, self.normalized_shape)
        x = fnp.asarray(x)
        eps = float(fnp.finfo(x.dtype).eps) if self.eps is None else self.eps
        return rms_norm(x, self.weight, eps, axis=axes)


class GroupNorm(Module):
    """Normalisation over groups of channels; see ``fgrad.nn.group_norm``.

    Args:
        num_groups: Number of groups; divides the channels.
        num_channels: Size of axis 1 of the input.
        eps: Added to the variance.
        affine: Whether to have a weight and a bias for each channel.
        dtype: dtype of the parameters; the default float where None.

    Attributes:
        weight: ``[num_channels]``, ones, or None.
        bias: ``[num_channels]``, zeros, or None.

    Raises:
        ArgumentError: ``num_groups`` does not divide ``num_channels``.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> x = np.array([[1.0, 3.0, 10.0, 30.0]], np.float32)
        >>> print(nn.GroupNorm(2, 4, eps=0.0)(x))
        [[-1.  1. -1.  1.]]
    """

    num_groups: int = static()
    num_channels: int = static()
    eps: float = static()
    weight: Value | None
    bias: Value | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            message = f"GroupNorm: {num_groups} groups do not divide {num_channels} channels"
            raise ArgumentError(message)
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = settled(fnp.ones((num_channels,), dtype)) if affine else None
        self.bias = settled(fnp.zeros((num_channels,), dtype)) if affine else None

    def __call__(self, x: Value) -> Value:
        """Normalise ``[batch, num_channels, ...]``; shape and dtype are kept."""
        if fnp.ndim(x) < 2 or fnp.shape(x)[1] != self.num_channels:
            message = (
                f"GroupNorm: x must be [batch, {self.num_channels}, ...], got {list(fnp.shape(x))}"
            )
            raise ShapeError(message)
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
