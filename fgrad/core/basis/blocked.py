"""Sums of float arrays without long chains of additions, along any axis.

NumPy adds pairwise along the inner axes of memory only.
"""

from typing import Any

import numpy as np

CHAIN = 64  # the longest chain of additions left to NumPy


_BLOCK = 32  # rows that are added one after the other before partial sums are added pairwise


def is_chained(x: Any, axes: tuple[int, ...]) -> bool:
    """Whether NumPy would add many numbers one after the other.

    It adds pairwise along the inner axes of memory, which merge into one loop; the rows of any
    other axis go into one accumulator, whose rounding error grows with their number.
    """
    shape = x.shape
    extent = 1
    for a in axes:
        extent *= shape[a]
    inner = axes == tuple(range(x.ndim - len(axes), x.ndim)) and x.flags.c_contiguous
    return extent > CHAIN and not inner


def blocked_sum(x: Any, axes: tuple[int, ...]) -> Any:
    """Sum so that no chain of additions is longer than about 64 + log₂ n."""
    # From the outer axes of memory to the inner; repeated rows (stride 0) count as outer.
    order = sorted(range(x.ndim), key=lambda a: -(abs(x.strides[a]) or x.size * x.itemsize))
    x = x.transpose(order)
    axes = tuple(i for i, a in enumerate(order) if a in axes)
    left = [a for i, a in enumerate(order) if i not in axes]
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    if x.flags.c_contiguous:
        x, axes = _merged(x, axes)
    # The inner axis of memory first: NumPy adds pairwise along it.
    for axis in reversed(axes):
        inner = axis == x.ndim - 1 and x.strides[axis]
        if inner or x.shape[axis] <= _BLOCK:
            x = np.add.reduce(x, axis, keepdims=True)
        else:
            x = _blocked_axis(x, axis)
    return x.reshape(kept).transpose(np.argsort(left))


def _merged(x: Any, axes: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """Neighbouring summed axes of a contiguous array as one."""
    shape: list[int] = []
    summed: list[int] = []
    for i, n in enumerate(x.shape):
        if i in axes and i - 1 in axes:
            shape[-1] *= n
        else:
            if i in axes:
                summed.append(len(shape))
            shape.append(n)
    return x.reshape(shape), tuple(summed)


def _blocked_axis(x: Any, axis: int) -> Any:
    """The sum along one axis, which stays with length 1: blocks first, then their sums pairwise."""
    before = (slice(None),) * axis
    blocks = x.shape[axis] // _BLOCK
    whole = x[(*before, slice(0, blocks * _BLOCK))]
    parts = whole.reshape((*x.shape[:axis], blocks, _BLOCK, *x.shape[axis + 1 :]))
    total = np.add.reduce(parts, axis + 1)
    while blocks > 1:
        half = blocks // 2
        pairs = total[(*before, slice(0, half))] + total[(*before, slice(half, 2 * half))]
        if blocks % 2:
            pairs[(*before, slice(0, 1))] += total[(*before, slice(blocks - 1, blocks))]
        total, blocks = pairs, half
    rest = x[(*before, slice(x.shape[axis] // _BLOCK * _BLOCK, None))]
    return total + np.add.reduce(rest, axis, keepdims=True)
