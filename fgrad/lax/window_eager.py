"""Reductions over windows on NumPy and CuPy, by strided views.

A window is a box, so sums and extrema reduce one axis after the other: k₁ + k₂ passes in place of
k₁·k₂. The selected element of a window is found by going over the window's places in order.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgrad.lax.conv_eager import padded, window_view

Ints = Sequence[int]
Pads = Sequence[tuple[int, int]]

# Up to this length a window is reduced by adding shifted views; a longer one by ufunc.reduce,
# which sums pairwise.
UNROLLED = 16


def reduce(
    xp: Any, x: Any, op: Any, fill: Any, shape: Ints, *,
    window_dimensions: Ints, window_strides: Ints, padding: Pads, base_dilation: Ints,
    window_dilation: Ints,
) -> Any:  # fmt: skip
    """`op` over each position of the window; `fill` is its identity and stands in the padding."""
    if not np.prod(shape) or not x.size:
        return xp.full(tuple(shape), fill, x.dtype)
    untouched = x
    for axis in range(x.ndim):
        one = (
            window_dimensions[axis], window_strides[axis], padding[axis], base_dilation[axis],
            window_dilation[axis], shape[axis],
        )  # fmt: skip
        if one[:4] != (1, 1, (0, 0), 1):
            x = _reduce_axis(xp, x, op, fill, axis, *one)
    return x.copy() if x is untouched else x


def _reduce_axis(
    xp: Any, x: Any, op: Any, fill: Any, axis: int, k: int, stride: int, pads: tuple[int, int],
    base: int, dilation: int, length: int,
) -> Any:  # fmt: skip
    n = x.shape[axis]
    if base > 1 and stride == 1 and dilation == 1 and n < k:
        return _spread(xp, x, op, fill, axis, k, pads[0], base, length)
    x = xp.moveaxis(x, axis, -1)
    x = padded(xp, x, (pads,), (base,), fill)
    if k > UNROLLED:
        view = window_view(xp, x, (k,), (length,), (stride,), (dilation,))
        return xp.moveaxis(op.reduce(view, axis=-2, dtype=x.dtype), -1, axis)
    span = (length - 1) * stride + 1
    out = None
    for j in range(0, k * dilation, dilation):
        part = x[..., j : j + span : stride]
        if out is None:
            out = part
        elif j == dilation:
            out = op(out, part)
        else:
            op(out, part, out=out)
    return xp.moveaxis(out, -1, axis)


def _spread(
    xp: Any, x: Any, op: Any, fill: Any, axis: int, k: int, low: int, base: int, length: int
) -> Any:
    """Few elements far apart under a long window: each reaches one range of the result."""
    x = xp.moveaxis(x, axis, 0)
    out = xp.full((length, *x.shape[1:]), fill, x.dtype)
    for i in range(x.shape[0]):
        end = i * base + low + 1
        reach = out[max(end - k, 0) : max(min(end, length), 0)]
        op(reach, x[i], out=reach)
    return xp.moveaxis(out, 0, axis)


class _Places:
    """The places of a window: for each, a view of the padded operand at all positions."""

    __slots__ = ("parameters", "shape")

    def __init__(self, shape: Ints, parameters: dict[str, Any]) -> None:
        self.shape = shape
        self.parameters = parameters

    def pad(self, xp: Any, x: Any, fill: Any) -> Any:
        """The operand dilated and padded."""
        p = self.parameters
        return padded(xp, x, p["padding"], p["base_dilation"], fill)

    def __iter__(self) -> Iterator[tuple[slice, ...]]:
        p = self.parameters
        for k in np.ndindex(*p["window_dimensions"]):
            yield tuple(
                slice(j * d, j * d + (n - 1) * s + 1, s)
                for j, d, n, s in zip(
                    k, p["window_dilation"], self.shape, p["window_strides"], strict=True
                )
            )


def _selected(xp: Any, x: Any, select: str, places: _Places) -> Any:
    """The number of the place that each window selects; -1 where it holds padding alone."""
    values = places.pad(xp, x, 0)
    exists = places.pad(xp, xp.broadcast_to(xp.ones((), bool), x.shape), fill=False)
    better = xp.greater if select == "ge" else xp.less
    best: Any = None
    number: Any = None
    for i, at in enumerate(places):
        here, real = values[at], exists[at]
        if best is None:
            best, number = here.copy(), xp.where(real, 0, -1)
            continue
        # NaN is selected before any number, like the value of the maximum itself.
        ahead = better(here, best) | ((here != here) & (best == best))
        take = real & (ahead | (number < 0))
        best = xp.where(take, here, best)
        number = xp.where(take, i, number)
    return number


def gather(xp: Any, t: Any, x: Any, select: str, shape: Ints, **parameters: Any) -> Any:
    """Of each window, the element of `t` that `x` selects; 0 where there is none."""
    out = xp.zeros(tuple(shape), t.dtype)
    if not out.size or not x.size:
        return out
    places = _Places(shape, parameters)
    number = _selected(xp, x, select, places)
    values = places.pad(xp, t, 0)
    for i, at in enumerate(places):
        out = xp.where(number == i, values[at], out)
    return out


def scatter(xp: Any, ct: Any, x: Any, select: str, **parameters: Any) -> Any:
    """Add each element of `ct` to the place that its window of `x` selects."""
    if not ct.size or not x.size:
        return xp.zeros(x.shape, ct.dtype)
    places = _Places(ct.shape, parameters)
    number = _selected(xp, x, select, places)
    total = places.pad(xp, xp.broadcast_to(xp.zeros((), ct.dtype), x.shape), 0)
    total = xp.zeros(total.shape, ct.dtype)
    zero = xp.zeros((), ct.dtype)
    for i, at in enumerate(places):
        total[at] += xp.where(number == i, ct, zero)
    pads, base = parameters["padding"], parameters["base_dilation"]
    return _unpadded(xp, total, x.shape, pads, base)


def _unpadded(xp: Any, total: Any, shape: Ints, pads: Pads, base: Ints) -> Any:
    """The elements of an operand of that shape out of its padded form; 0 where they were cut."""
    out = xp.zeros(tuple(shape), total.dtype)
    source, target = [], []
    for n, m, (lo, _hi), d in zip(shape, total.shape, pads, base, strict=True):
        first = max(0, -(lo // d))
        end = min(n, (m - 1 - lo) // d + 1)
        if end <= first:
            return out
        target.append(slice(first, end))
        source.append(slice(lo + first * d, lo + (end - 1) * d + 1, d))
    out[tuple(target)] = total[tuple(source)]
    return out
