"""Reductions over windows as pointwise operations on views, for compilers.

A small window is unrolled: its places are strided slices of the padded operand, which one kernel
combines. A large one is reduced axis by axis, and along an axis in ⌈log₁₆ k⌉ steps: each makes of
the results for a length those for sixteen times that length.
"""

from collections.abc import Callable, Iterator, Sequence
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.primitive import Value
from fgrad.core.tracing import bind
from fgrad.lax import extrema
from fgrad.lax.arithmetic import add
from fgrad.lax.conv_shapes import dilated
from fgrad.lax.reduce import reduce_max, reduce_min, reduce_or
from fgrad.lax.slicing import pad, slice_in_dim
from fgrad.lax.slicing import slice as slice_
from fgrad.lax.window_shapes import Ints, window_shape

RADIX = 16  # places that are combined by one kernel


class Monoid(NamedTuple):
    """How windows are reduced.

    Attributes:
        pair: Of two values.
        over: Over axes.
        identity: The number that stands in the padding.
        idempotent: Whether windows may overlap.
    """

    pair: Callable[[Value, Value], Value]
    over: Callable[[Value, tuple[int, ...]], Value]
    identity: Any
    idempotent: bool


class Sliding(NamedTuple):
    """A window on one axis, of which so many `positions` are wanted."""

    length: int
    stride: int
    dilation: int
    positions: int


def sums(x: Value, **params: Any) -> Value:
    """Of `reduce_window_sum`; 16-bit floats are summed in float32 and rounded once."""
    w = basis.wide(x.dtype)
    wide = x if w is None else basis.convert_element_type(x, w)
    out = reduce(wide, Monoid(add, basis.reduce_sum, 0, idempotent=False), **params)
    return out if w is None else basis.convert_element_type(out, x.dtype)


def maximum(x: Value, **params: Any) -> Value:
    """Of `reduce_window_max`."""
    m = Monoid(extrema.max, reduce_max, dtypes.lowest(x.dtype), idempotent=True)
    return reduce(x, m, **params)


def minimum(x: Value, **params: Any) -> Value:
    """Of `reduce_window_min`."""
    m = Monoid(extrema.min, reduce_min, dtypes.highest(x.dtype), idempotent=True)
    return reduce(x, m, **params)


def reduce(x: Value, m: Monoid, **params: Any) -> Value:
    """The reduction of `x` over each position of the window."""
    shape = window_shape("reduce_window", x.aval, **params)
    if not prod(shape) or not prod(x.shape):
        return basis.broadcast_in_dim(basis.scalar(m.identity, x.dtype), shape, ())
    axes = windows_of(shape, params)
    x = padded(x, m.identity, params)
    if prod(params["window_dimensions"]) <= RADIX:
        return fold(m.pair, list(places(x, axes)))
    for axis, window in enumerate(axes):
        x = _reduce_axis(x, axis, window, m)
    return x


def windows_of(shape: Ints, params: dict[str, Any]) -> list[Sliding]:
    """The window on each axis, with that many positions."""
    names = ("window_dimensions", "window_strides", "window_dilation")
    return [Sliding(*one) for one in zip(*(params[k] for k in names), shape, strict=True)]


def padded(x: Value, fill: Any, params: dict[str, Any]) -> Value:
    """The operand dilated and padded."""
    spread = zip(params["padding"], params["base_dilation"], strict=True)
    config = [(lo, hi, e - 1) for (lo, hi), e in spread]
    if not any(map(any, config)):
        return x
    return stored(pad(x, basis.scalar(fill, x.dtype), config))


def stored(x: Value) -> Value:
    """The same value, in memory of its own: loads without bounds are worth a copy."""
    # The sum over no axes; unlike `basis.reduce_sum`, `bind` writes it down.
    return reduce_or(x, ()) if x.dtype.kind == "b" else bind(basis.reduce_sum_p, x, axes=())


def fold(pair: Callable[[Any, Any], Any], values: Sequence[Any]) -> Any:
    """Combine values in their order, neighbours first."""
    while len(values) > 1:
        pairs = [pair(*values[i : i + 2]) for i in range(0, len(values) - 1, 2)]
        values = [*pairs, *values[2 * len(pairs) :]]
    return values[0]


def places(x: Value, axes: Sequence[Sliding]) -> Iterator[Value]:
    """For each place of the window, in row-major order, what lies there at all positions."""
    for k in np.ndindex(*(w.length for w in axes)):
        start = tuple(i * w.dilation for i, w in zip(k, axes, strict=True))
        limit = tuple(
            b + (w.positions - 1) * w.stride + 1 for b, w in zip(start, axes, strict=True)
        )
        yield slice_(x, start, limit, tuple(w.stride for w in axes))


def _reduce_axis(x: Value, axis: int, w: Sliding, m: Monoid) -> Value:
    """Reduce over a window on one axis of a padded operand."""
    span = dilated(w.length, w.dilation)
    if w.length <= RADIX:
        return fold(m.pair, [_shifted(x, axis, k, w) for k in range(w.length)])
    if w.stride >= span:  # the windows lie apart
        rows = _rows(x, axis, w.stride, w.positions, m.identity)
        return m.over(slice_in_dim(rows, 0, span, w.dilation, axis + 1), (axis + 1,))
    part = gcd(w.length, w.stride)
    if part > 1 and w.dilation == 1:  # the windows consist of parts that lie apart
        count = (w.positions - 1) * (w.stride // part) + w.length // part
        x = m.over(_rows(x, axis, part, count, m.identity), (axis + 1,))
        return _reduce_axis(x, axis, Sliding(w.length // part, w.stride // part, 1, w.positions), m)
    return _lengthened(x, axis, w, m)


def _shifted(x: Value, axis: int, place: int, w: Sliding) -> Value:
    start = place * w.dilation
    return slice_in_dim(x, start, start + (w.positions - 1) * w.stride + 1, w.stride, axis)


def _rows(x: Value, axis: int, length: int, count: int, fill: Any) -> Value:
    """An axis as `count` rows of that length."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (0, count * length - x.shape[axis], 0)
    x = pad(x, basis.scalar(fill, x.dtype), config)
    return basis.reshape(x, (*x.shape[:axis], count, length, *x.shape[axis + 1 :]))


def _lengthened(x: Value, axis: int, w: Sliding, m: Monoid) -> Value:
    """Reduce over a long window by way of windows whose lengths are powers of `RADIX`."""
    parts: list[Value] = []
    length = 1
    while True:
        last = length * RADIX > w.length
        if last and m.idempotent:
            starts = [*range(0, w.length - length, length), w.length - length]
        elif m.idempotent:
            starts = []
        else:  # as many as the next power leaves over, behind those
            end = w.length - w.length % length
            starts = list(range(end - end % (length * RADIX), end, length))
        parts = [_shifted(x, axis, start, w) for start in starts] + parts
        if last:
            return fold(m.pair, parts)
        count = x.shape[axis] - (RADIX - 1) * length * w.dilation
        x = _reduce_axis(x, axis, Sliding(RADIX, 1, length * w.dilation, count), m)
        length *= RADIX
