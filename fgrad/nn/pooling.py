"""Pooling of any spatial rank, channels first, with PyTorch's argument names and meaning."""

import functools
from typing import Any

import numpy as np

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.nn.windows import Pairs, Sizes, check_spatial, sizes, window_counts

Value = Any


def max_pool(
    x: Value,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Value:
    """The largest element of each window.

    Args:
        x: ``[batch, channels, …]``, float.
        kernel_size: Size of the window; an integer, or one for each spatial axis.
        stride: Distance of windows; ``kernel_size`` if None.
        padding: Implicit −∞ on both sides, at most half the window.
        dilation: Distance of the elements of a window.
        ceil_mode: Let the last window hang over the right end.

    Returns:
        ``[batch, channels, …]``, with ``⌊(n + 2·padding - dilation·(k - 1) - 1) / stride⌋ + 1``
        elements along each spatial axis (⌈⌉ with ``ceil_mode``).

    Raises:
        ShapeError: A window is larger than the padded axis.
        ArgumentError: An option has a value that makes no sense.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.max_pool(np.array([[[1.0, 7.0, 3.0, 2.0]]], np.float32), 2))
        [[[7. 3.]]]
    """
    x = _float("max_pool", x)
    rank = x.ndim - 2
    check_spatial("max_pool", x, rank)
    window, strides, paddings = _options("max_pool", kernel_size, stride, padding, rank)
    dilations = sizes("max_pool", "dilation", dilation, rank)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True))
    _, pairs = _placed("max_pool", x, reach, strides, paddings, ceil_mode=ceil_mode)
    return lax.reduce_window(
        x,
        dtypes.lowest(x.dtype),
        lax.max,
        (1, 1, *window),
        (1, 1, *strides),
        [(0, 0), (0, 0), *pairs],
        window_dilation=(1, 1, *dilations),
    )


def avg_pool(
    x: Value,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean of each window.

    Args:
        x: ``[batch, channels, …]``, float.
        kernel_size: Size of the window; an integer, or one for each spatial axis.
        stride: Distance of windows; ``kernel_size`` if None.
        padding: Implicit zeros on both sides, at most half the window.
        ceil_mode: Let the last window hang over the right end; what hangs over is not counted.
        count_include_pad: Count the zeros of the padding.
        divisor_override: Divide by this instead of the number of elements.

    Returns:
        ``[batch, channels, …]``, with ``⌊(n + 2·padding - k) / stride⌋ + 1`` elements along each
        spatial axis (⌈⌉ with ``ceil_mode``).

    Raises:
        ShapeError: A window is larger than the padded axis.
        ArgumentError: An option has a value that makes no sense.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.avg_pool(np.array([[[1.0, 7.0, 3.0, 2.0]]], np.float32), 2))
        [[[4.  2.5]]]
    """
    x = _float("avg_pool", x)
    rank = x.ndim - 2
    check_spatial("avg_pool", x, rank)
    window, strides, paddings = _options("avg_pool", kernel_size, stride, padding, rank)
    counts, pairs = _placed("avg_pool", x, window, strides, paddings, ceil_mode=ceil_mode)
    if divisor_override is not None and divisor_override == 0:
        message = "avg_pool: divisor_override must not be 0"
        raise ArgumentError(message)
    total = lax.reduce_window(
        x, 0.0, lax.add, (1, 1, *window), (1, 1, *strides), [(0, 0), (0, 0), *pairs]
    )
    if divisor_override is not None:
        return total / divisor_override
    elements = [
        _counted(count, k, s, p, length, include_padding=count_include_pad)
        for count, k, s, p, length in zip(
            counts, window, strides, paddings, x.shape[2:], strict=True
        )
    ]
    divisor = functools.reduce(np.multiply.outer, elements)
    return total / fnp.asarray(divisor.astype(np.float32)).astype(total.dtype)


def _float(name: str, x: Value) -> Value:
    x = fnp.asarray(x)
    if not fnp.issubdtype(x.dtype, fnp.floating):
        message = f"{name} needs a float array, got {x.dtype}{list(x.shape)}; convert x with astype"
        raise DtypeError(message)
    return x


def _options(
    name: str, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    window = sizes(name, "kernel_size", kernel_size, rank)
    strides = window if stride is None else sizes(name, "stride", stride, rank)
    paddings = sizes(name, "padding", padding, rank, least=0)
    if any(2 * p > k for p, k in zip(paddings, window, strict=True)):
        message = f"{name}: padding {paddings} must be at most half of kernel_size {window}"
        raise ArgumentError(message)
    return window, strides, paddings


def _placed(
    name: str,
    x: Value,
    reach: tuple[int, ...],
    strides: tuple[int, ...],
    paddings: tuple[int, ...],
    *,
    ceil_mode: bool,
) -> tuple[list[int], Pairs]:
    """The number of windows along each spatial axis, and the padding on both sides."""
    counts, pairs = [], []
    for length, r, s, p in zip(x.shape[2:], reach, strides, paddings, strict=True):
        count, right = window_counts(length, r, s, p, ceil_mode=ceil_mode)
        if length + 2 * p < r or count < 1:
            message = f"{name}: a window of {r} does not fit x {list(x.shape)} with padding {p}"
            raise ShapeError(message)
        counts.append(count)
        pairs.append((p, max(right, 0)))
    return counts, pairs


def _counted(
    count: int, window: int, stride: int, padding: int, length: int, *, include_padding: bool
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many elements each window along one axis counts."""
    start = np.arange(count) * stride - padding
    stop = np.minimum(start + window, length + padding)
    if not include_padding:
        start, stop = np.maximum(start, 0), np.minimum(stop, length)
    return stop - start
