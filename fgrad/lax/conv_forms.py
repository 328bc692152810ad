"""Convolutions under shorter signatures, and the transposed one."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import (
    Value,
)
from fgrad.lax.arithmetic import operands
from fgrad.lax.conv import conv_general_dilated
from fgrad.lax.conv_shapes import conv_dimension_numbers, dilated, pick
from fgrad.lax.shape import rev

__all__ = ["conv", "conv_transpose", "conv_with_general_padding"]


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv_general_dilated` of ``[batch, features, *spatial]`` without dilation or groups.

    Example:
        >>> import numpy as np
        >>> conv(np.ones((1, 1, 4), np.float32), np.ones((1, 1, 3), np.float32), (1,), "SAME")
        Array([[[2., 3., 3., 2.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv_general_dilated` of ``[batch, features, *spatial]`` without groups.

    Example:
        >>> import numpy as np
        >>> x, w = np.ones((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
        >>> conv_with_general_padding(x, w, (1,), [(1, 1)], (2,), None)
        Array([[[1., 1., 1., 1.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _transposed_pads(k: int, s: int, padding: str) -> tuple[int, int]:
    """Padding under which the result of a strided convolution has its input's length again."""
    if padding == "SAME":
        total = k + s - 2
        before = k - 1 if s > k - 1 else -(-total // 2)
    else:
        total = k + s - 2 + max(k - s, 0)
        before = k - 1
    return before, total - before


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Transposed ("fractionally strided") convolution: `strides` enlarge the input.

    Args:
        lhs: The input.
        rhs: The window.
        strides: How far apart the elements of lhs are put on each spatial axis.
        padding: 'SAME' (lengths are multiplied by the strides), 'VALID' (nothing is cut), or
            pairs that pad the dilated lhs.
        rhs_dilation: Steps between the elements of rhs.
        dimension_numbers: Layouts, see `conv_dimension_numbers`; where None, features come last
            (``("NHWC", "HWIO", "NHWC")`` with as many spatial axes as there are).
        transpose_kernel: Reverse the window and swap its features, so that the result is the
            gradient of a convolution with `rhs`.
        precision: As in `dot_general`.
        preferred_element_type: As in `dot_general`.

    Returns:
        The result, in the layout asked for.

    Raises:
        ShapeError: Ranks, features or parameters do not fit.
        DtypeError: The dtypes differ.

    Example:
        >>> import numpy as np
        >>> x = np.float32([1, 2]).reshape(1, 2, 1)
        >>> conv_transpose(x, np.ones((2, 1, 1), np.float32), (2,), "SAME").shape
        (1, 4, 1)
    """
    lhs, rhs = operands(lhs, rhs)
    rank = lhs.ndim
    if dimension_numbers is None:
        inner = tuple(range(1, rank - 1))
        last = (0, rank - 1, *inner)
        dimension_numbers = (last, (rank - 1, rank - 2, *range(rank - 2)), last)
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (rank - 2)
    rhs_dilation = ones if rhs_dilation is None else tuple(rhs_dilation)
    if isinstance(padding, str):
        name = padding.upper()
        if name not in ("SAME", "VALID"):
            raise ShapeError(
                f"conv_transpose: padding={padding!r} must be 'SAME', 'VALID' or pairs"
            )
        window = pick(rhs.shape, numbers.rhs_spec)[2:]
        padding = [
            _transposed_pads(dilated(k, d), s, name)
            for k, d, s in zip(window, rhs_dilation, strides, strict=True)
        ]
    if transpose_kernel:
        o, i = numbers.rhs_spec[:2]
        rhs = rev(rhs, numbers.rhs_spec[2:])
        order = list(range(rank))
        order[o], order[i] = i, o
        rhs = basis.transpose(rhs, tuple(order))
    return conv_general_dilated(
        lhs, rhs, ones, padding, strides, rhs_dilation, numbers,
        precision=precision, preferred_element_type=preferred_element_type,
    )  # fmt: skip
