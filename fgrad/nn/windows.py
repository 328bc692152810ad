"""What convolution and pooling share: reading sizes, strides and padding per spatial axis."""

from collections.abc import Sequence
from typing import Any

from fgrad.core.errors import ArgumentError, ShapeError

Value = Any
Sizes = int | Sequence[int]
Pairs = list[tuple[int, int]]


def sizes(function: str, name: str, value: Sizes, rank: int, least: int = 1) -> tuple[int, ...]:
    """One integer for each of ``rank`` spatial axes.

    Args:
        function: For the message.
        name: The argument's name, for the message.
        value: An integer for all axes, or one each.
        rank: Number of spatial axes.
        least: Smallest value allowed.

    Returns:
        ``rank`` integers.

    Raises:
        ArgumentError: There is another number of them, or one is too small.

    Example:
        >>> sizes("conv", "stride", 2, rank=3)
        (2, 2, 2)
    """
    result = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(result) != rank or any(size < least for size in result):
        message = (
            f"{function}: {name} must be an integer, or one for each of the {rank} spatial axes, "
            f"each at least {least}; got {value}"
        )
        raise ArgumentError(message)
    return result


def check_spatial(function: str, x: Value, rank: int) -> None:
    """Raise ``ShapeError`` unless ``x`` is ``[batch, channels, …]`` with ``rank`` spatial axes.

    Args:
        function: For the message.
        x: The array.
        rank: Number of spatial axes, at least 1.

    Raises:
        ShapeError: ``x`` has another number of axes.

    Example:
        >>> import numpy as np
        >>> check_spatial("conv", np.zeros((1, 3, 8, 8)), rank=2)
    """
    if rank < 1 or x.ndim != rank + 2:
        message = (
            f"{function}: x must be [batch, channels, …] with {rank} spatial axes, "
            f"got x {list(x.shape)}"
        )
        raise ShapeError(message)


def window_counts(
    length: int, window: int, stride: int, padding: int, *, ceil_mode: bool
) -> tuple[int, int]:
    """How many windows fit along an axis, and the padding on the right that they need.

    Args:
        length: Size of the axis.
        window: Size of the window, dilation included.
        stride: Distance of windows.
        padding: On the left, and at least on the right.
        ceil_mode: Let the last window hang over the right end, if it starts within the axis or
            its left padding.

    Returns:
        ``(count, right)``; ``right`` is negative where the last elements are in no window.

    Example:
        >>> window_counts(5, 2, 2, 0, ceil_mode=False), window_counts(5, 2, 2, 0, ceil_mode=True)
        ((2, -1), (3, 1))
    """
    room = length + 2 * padding - window
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= length + padding:
        count -= 1
    return count, (count - 1) * stride + window - length - padding
