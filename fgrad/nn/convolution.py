"""Convolution of any spatial rank, channels first, with PyTorch's argument names."""

from collections.abc import Sequence
from typing import Any, Literal

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.nn.windows import Pairs, Sizes, check_spatial, sizes

Value = Any


def conv(
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes | Literal["valid", "same"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    """Cross-correlation of ``x`` with ``weight``, over any number of spatial axes.

    Args:
        x: ``[batch, in, …]``, float.
        weight: ``[out, in / groups, …]``, with the sizes of the kernel.
        bias: ``[out]``, or None.
        stride: Step of the kernel; an integer, or one for each spatial axis.
        padding: Zeros on both sides; an integer, one for each spatial axis, ``"valid"`` (none) or
            ``"same"`` (the result has the sizes of ``x``; the odd zero goes to the right).
        dilation: Distance of the kernel's elements; an integer, or one for each spatial axis.
        groups: Number of groups of channels that are convolved apart.

    Returns:
        ``[batch, out, …]``, with ``⌊(n + 2·padding - dilation·(k - 1) - 1) / stride⌋ + 1``
        elements along each spatial axis.

    Raises:
        ShapeError: The shapes do not fit each other or ``groups``.
        ArgumentError: An option has a value that makes no sense.

    Source:
        Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*,
        arXiv:1603.07285.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> x = np.array([[[1.0, 2.0, 4.0, 8.0]]], np.float32)
        >>> print(nn.conv(x, np.array([[[-1.0, 1.0]]], np.float32)))
        [[[1. 2. 4.]]]
    """
    x, weight = _one_dtype(x, weight)
    rank = weight.ndim - 2
    check_spatial("conv", x, rank)
    strides = sizes("conv", "stride", stride, rank)
    dilations = sizes("conv", "dilation", dilation, rank)
    out, inner = weight.shape[:2]
    if groups < 1 or x.shape[1] != inner * groups or out % groups:
        message = (
            f"conv: x [batch, in, …] must have in = {inner * groups} on axis 1 for weight "
            f"[out, in / groups, …], with groups dividing out; got x {list(x.shape)}, weight "
            f"{list(weight.shape)}, groups={groups}"
        )
        raise ShapeError(message)
    pairs = _padding(padding, weight.shape[2:], strides, dilations)
    for axis, (low, high) in enumerate(pairs):
        reach = dilations[axis] * (weight.shape[2 + axis] - 1) + 1
        if x.shape[2 + axis] + low + high < reach:
            message = (
                f"conv: the kernel reaches over {reach} elements, more than spatial axis {axis} "
                f"of x {list(x.shape)} has with padding {(low, high)}"
            )
            raise ShapeError(message)
    y = lax.conv_general_dilated(
        x, weight, strides, pairs, rhs_dilation=dilations, feature_group_count=groups
    )
    return _with_bias("conv", y, bias)


def _one_dtype(x: Value, weight: Value) -> tuple[Value, Value]:
    """Both as arrays of the dtype to which they promote."""
    x, weight = fnp.asarray(x), fnp.asarray(weight)
    dtype = fnp.promote_types(x.dtype, weight.dtype)
    return x.astype(dtype), weight.astype(dtype)


def _padding(
    padding: Sizes | str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pairs:
    rank = len(kernel)
    if padding == "valid":
        return [(0, 0)] * rank
    if padding == "same":
        if any(s != 1 for s in strides):
            message = f"conv: padding='same' needs stride 1, got stride {tuple(strides)}"
            raise ArgumentError(message)
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        message = f"conv: padding is 'valid', 'same' or integers, got {padding!r}"
        raise ArgumentError(message)
    return [(p, p) for p in sizes("conv", "padding", padding, rank, least=0)]


def _with_bias(function: str, y: Value, bias: Value | None) -> Value:
    if bias is None:
        return y
    channels = y.shape[1]
    if tuple(fnp.shape(bias)) != (channels,):
        message = f"{function}: bias must be [{channels}], got {list(fnp.shape(bias))}"
        raise ShapeError(message)
    return y + fnp.reshape(bias, (channels,) + (1,) * (y.ndim - 2))


def conv_transpose(
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Value:
    """The transpose of ``conv`` in its first argument: it spreads each element over a kernel.

    Args:
        x: ``[batch, in, …]``, float.
        weight: ``[in, out / groups, …]``, with the sizes of the kernel.
        bias: ``[out]``, or None.
        stride: Distance of the elements of ``x`` in the result; an integer, or one for each
            spatial axis.
        padding: Elements cut off on both sides.
        output_padding: Elements added on the right, fewer than the stride or the dilation: of the
            sizes that ``conv`` with this stride maps to that of ``x``, the one to make.
        groups: Number of groups of channels that are convolved apart.
        dilation: Distance of the kernel's elements.

    Returns:
        ``[batch, out, …]``, with ``(n - 1)·stride - 2·padding + dilation·(k - 1) + 1 +
        output_padding`` elements along each spatial axis.

    Raises:
        ShapeError: The shapes do not fit each other or ``groups``.
        ArgumentError: An option has a value that makes no sense.

    Source:
        Dumoulin and Visin, *A guide to convolution arithmetic for deep learning*,
        arXiv:1603.07285, chapter 4.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> x = np.array([[[1.0, 5.0]]], np.float32)
        >>> print(nn.conv_transpose(x, np.ones((1, 1, 2), np.float32), stride=2))
        [[[1. 1. 5. 5.]]]
    """
    name = "conv_transpose"
    x, weight = _one_dtype(x, weight)
    rank = weight.ndim - 2
    check_spatial(name, x, rank)
    strides, dilations = (
        sizes(name, "stride", stride, rank),
        sizes(name, "dilation", dilation, rank),
    )
    paddings = sizes(name, "padding", padding, rank, least=0)
    extras = sizes(name, "output_padding", output_padding, rank, least=0)
    if any(e >= max(s, d) for e, s, d in zip(extras, strides, dilations, strict=True)):
        message = (
            f"conv_transpose: output_padding {extras} must be below stride {strides} or "
            f"dilation {dilations}"
        )
        raise ArgumentError(message)
    flipped = _transposed_kernel(x, weight, groups)
    reaches = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    pairs = [(r - p, r - p + e) for r, p, e in zip(reaches, paddings, extras, strict=True)]
    y = lax.conv_general_dilated(
        x,
        flipped,
        (1,) * rank,
        pairs,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        feature_group_count=groups,
    )
    return _with_bias(name, y, bias)


def _transposed_kernel(x: Value, weight: Value, groups: int) -> Value:
    """What the transpose of a convolution in x convolves the stretched x with.

    It is the kernel flipped, with its inputs and outputs exchanged.
    """
    inputs, outputs, kernel = weight.shape[0], weight.shape[1], weight.shape[2:]
    if groups < 1 or x.shape[1] != inputs or inputs % groups:
        raise ShapeError(
            f"conv_transpose: weight must be [in, out / groups, …] with groups dividing in, got "
            f"x {list(x.shape)}, weight {list(weight.shape)}, groups={groups}"
        )
    by_group = weight.reshape((groups, inputs // groups, outputs, *kernel))
    exchanged = fnp.swapaxes(by_group, 1, 2).reshape((groups * outputs, inputs // groups, *kernel))
    return fnp.flip(exchanged, axis=tuple(range(2, weight.ndim)))
