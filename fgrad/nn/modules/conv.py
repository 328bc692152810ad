"""Convolution as a layer."""

import math
from typing import Any, Literal

from fgrad import random
from fgrad.core.errors import ArgumentError
from fgrad.nn.convolution import conv
from fgrad.nn.modules.base import Module, static
from fgrad.nn.modules.linear import uniform_within
from fgrad.nn.windows import Sizes, sizes

Value = Any
Padding = int | tuple[int, ...] | Literal["valid", "same"]


def _hashable(value: Sizes) -> int | tuple[int, ...]:
    """Sizes that a static field can hold: lists become tuples."""
    return value if isinstance(value, int) else tuple(value)


class Conv2d(Module):
    """Cross-correlation over two spatial axes, channels first.

    Args:
        key: Random key for the parameters.
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel_size: Size of the kernel; an integer, or one for each axis.
        stride: Step of the kernel, likewise.
        padding: Zeros on both sides, likewise, or ``"valid"`` or ``"same"``.
        dilation: Distance of the kernel's elements.
        groups: Groups of channels that are convolved apart; divides both numbers of channels.
        bias: Whether to add a bias.
        dtype: dtype of the parameters; the default float where None.

    Attributes:
        weight: ``[out_channels, in_channels / groups, height, width]``, uniform within 1/√n, n
            being the product of all sizes but the first.
        bias: ``[out_channels]``, likewise, or None.

    Raises:
        ArgumentError: ``groups`` does not divide the channels.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> layer = nn.Conv2d(fg.random.key(0), 3, 8, kernel_size=3, padding=1, stride=2)
        >>> layer(fg.numpy.ones((1, 3, 6, 6))).shape
        (1, 8, 3, 3)
    """

    stride: int | tuple[int, ...] = static()
    padding: Padding = static()
    dilation: int | tuple[int, ...] = static()
    groups: int = static()
    weight: Value
    bias: Value | None

    def __init__(
        self,
        key: Value,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | Literal["valid", "same"] = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            message = (
                f"Conv2d: groups must divide both numbers of channels, got in_channels="
                f"{in_channels}, out_channels={out_channels}, groups={groups}"
            )
            raise ArgumentError(message)
        kernel = sizes("Conv2d", "kernel_size", kernel_size, 2)
        weight_key, bias_key = random.split(key)
        fan_in = in_channels // groups * math.prod(kernel)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        shape = (out_channels, in_channels // groups, *kernel)
        self.stride, self.dilation = _hashable(stride), _hashable(dilation)
        self.padding = padding if isinstance(padding, str) else _hashable(padding)
        self.groups = groups
        self.weight = uniform_within(weight_key, bound, shape, dtype)
        self.bias = uniform_within(bias_key, bound, (out_channels,), dtype) if bias else None

    def __call__(self, x: Value) -> Value:
        """Apply the layer to ``[batch, in, height, width]``; returns ``[batch, out, …, …]``."""
        return conv(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
