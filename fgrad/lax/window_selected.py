"""The selected element of each window as pointwise operations on views, for compilers.

Of a small window the number of the selected place is found first: the greatest element, and of
equals the first. An element of the operand then receives from each window that reaches it, if that
selected its place; elements that different windows reach are computed apart. A large window is a
sequence of small ones, each over the elements that the one before selected.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.primitive import Value
from fgrad.lax.arithmetic import add, mul
from fgrad.lax.bits import bitwise_or
from fgrad.lax.compare import eq, ge, le, lt, ne
from fgrad.lax.joining import concatenate
from fgrad.lax.slicing import pad, slice_in_dim
from fgrad.lax.slicing import slice as slice_
from fgrad.lax.window_composed import (
    RADIX,
    Sliding,
    fold,
    padded,
    places,
    stored,
    windows_of,
)
from fgrad.lax.window_shapes import Ints, window_shape

_BOOL = np.dtype(np.bool_)
_NUMBER = np.dtype(np.int8)  # of a place of a small window; -1 of none


def gather(t: Value, x: Value, *, select: str, **params: Any) -> Value:
    """Of `select_and_gather_add`."""
    shape = window_shape("select_and_gather_add", x.aval, **params)
    if not prod(shape) or not prod(x.shape):
        return basis.broadcast_in_dim(basis.scalar(0, t.dtype), shape, ())
    t = padded(t, 0, params)
    for level, number in _numbers(x, select, shape, params):
        t = _chosen(number, t, level.axes)
    return t


def scatter(ct: Value, x: Value, *, select: str, **params: Any) -> Value:
    """Of `select_and_scatter_add`; 16-bit floats are summed in float32 and rounded once."""
    if not prod(ct.shape) or not prod(x.shape):
        return basis.broadcast_in_dim(basis.scalar(0, ct.dtype), x.shape, ())
    w = basis.wide(ct.dtype)
    out = ct if w is None else basis.convert_element_type(ct, w)
    levels = list(_numbers(x, select, ct.shape, params))
    lows, bases = [lo for lo, _ in params["padding"]], params["base_dilation"]
    for level, number in levels[:0:-1]:
        out = _Receivers(level.shape, level.axes).received(number, out)
    level, number = levels[0]
    out = _Receivers(x.shape, level.axes, lows, bases).received(number, out)
    return out if w is None else basis.convert_element_type(out, ct.dtype)


# ------------------------------------------------------------------------------- numbers


class _Level(NamedTuple):
    """A small window.

    Attributes:
        shape: Of the padded operand.
        axes: The window on each axis.
    """

    shape: Ints
    axes: list[Sliding]


def _levels(shape: Ints, axes: list[Sliding]) -> list[_Level]:
    """Small windows one after the other, in the place of one over a padded operand."""
    if prod(w.length for w in axes) <= RADIX:
        return [_Level(shape, axes)]
    levels: list[_Level] = []
    for axis in reversed(range(len(axes))):  # of equals, the first in row-major order is selected
        steps = _steps(axes[axis].length, axes[axis].stride, axes[axis].dilation)
        positions = [axes[axis].positions]
        for length, stride, dilation in reversed(steps[1:]):
            last = (positions[0] - 1) * stride + (length - 1) * dilation
            positions.insert(0, last + 1)
        for step, n in zip(steps, positions, strict=True):
            if step != (1, 1, 1) or n != shape[axis]:
                whole = [Sliding(1, 1, 1, m) for m in shape]
                levels.append(_Level(shape, [*whole[:axis], Sliding(*step, n), *whole[axis + 1 :]]))
                shape = (*shape[:axis], n, *shape[axis + 1 :])
    return levels


def _steps(length: int, stride: int, dilation: int) -> list[tuple[int, int, int]]:
    """Lengths, strides and dilations of small windows that together cover a large one.

    The last one goes over windows that overlap or touch each other.
    """
    if length <= RADIX:
        return [(length, stride, dilation)]
    common = gcd(length, stride)
    count = next((c for c in range(RADIX, 1, -1) if dilation == 1 and common % c == 0), RADIX)
    apart = length // count
    shared = gcd(stride, apart * dilation)
    first = _steps(length - (count - 1) * apart, shared, dilation)
    return [*first, (count, stride // shared, apart * dilation // shared)]


def _numbers(
    x: Value, select: str, shape: Ints, params: dict[str, Any]
) -> Iterator[tuple[_Level, Value]]:
    """Small windows, and of each the number of the place that every position selects.

    Where there is no element at any place, the number is -1.
    """
    last = (dtypes.lowest if select == "ge" else dtypes.highest)(x.dtype)
    value, real = padded(x, last, params), _real(x.shape, params)
    for level in _levels(value.shape, windows_of(shape, params)):
        value, number = _selected(list(places(value, level.axes)), ge if select == "ge" else le)
        if real is not None:
            # Padding is selected after all elements but those equal to it: of these the first.
            first, real = _first(real, level.axes)
            number = basis.select_n(eq(value, basis.scalar(last, x.dtype)), number, first)
        yield level, number


def _selected(values: Sequence[Value], keeps: Callable[..., Value]) -> tuple[Value, Value]:
    """The selected one of the places of a window, and its number."""
    numbers = [
        basis.broadcast_in_dim(basis.scalar(i, _NUMBER), values[0].shape, ())
        for i in range(len(values))
    ]

    def pair(a: tuple[Value, Value], b: tuple[Value, Value]) -> tuple[Value, Value]:
        (x, m), (y, n) = a, b
        keep = keeps(x, y)
        if dtypes.is_float(x.dtype):  # NaN is selected before any number
            keep = bitwise_or(keep, ne(x, x))
        return basis.select_n(keep, y, x), basis.select_n(keep, n, m)

    value, number = fold(pair, list(zip(values, numbers, strict=True)))
    return value, number


def _real(shape: Ints, params: dict[str, Any]) -> list[Value | None] | None:
    """Where on each axis of the padded operand there are elements; None where all are."""
    lines: list[Value | None] = []
    spread = zip(shape, params["padding"], params["base_dilation"], strict=True)
    for n, (low, high), base in spread:
        line = None
        if low > 0 or high > 0 or base > 1:
            everywhere = basis.broadcast_in_dim(basis.scalar(True, _BOOL), (n,), ())
            mine = {"padding": ((low, high),), "base_dilation": (base,)}
            line = padded(everywhere, False, mine)
        lines.append(line)
    return None if all(line is None for line in lines) else lines


def _first(
    real: Sequence[Value | None], axes: Sequence[Sliding]
) -> tuple[Value, list[Value | None]]:
    """The number of the first place with an element, or -1; and on each axis where there is one."""
    zero, none = basis.scalar(0, _NUMBER), basis.scalar(-1, _NUMBER)
    positions = tuple(w.positions for w in axes)
    total = basis.broadcast_in_dim(zero, positions, ())
    missing = basis.broadcast_in_dim(basis.scalar(False, _BOOL), positions, ())
    lines: list[Value | None] = []
    for axis, (line, w) in enumerate(zip(real, axes, strict=True)):
        if line is None:
            lines.append(None)
            continue
        found: Value = basis.broadcast_in_dim(none, (w.positions,), ())
        for k, there in reversed(list(enumerate(places(line, [w])))):
            found = basis.select_n(there, found, basis.scalar(k, _NUMBER))
        lines.append(stored(ge(found, zero)))
        step = prod(other.length for other in axes[axis + 1 :])
        number = stored(mul(found, basis.scalar(step, _NUMBER)))
        along = basis.broadcast_in_dim(number, positions, (axis,))
        missing = bitwise_or(missing, lt(along, zero))
        total = add(total, along)
    return basis.select_n(missing, total, none), lines


def _chosen(number: Value, t: Value, axes: Sequence[Sliding]) -> Value:
    """The elements at the places with those numbers."""
    out = basis.broadcast_in_dim(basis.scalar(0, t.dtype), number.shape, ())
    for i, here in enumerate(places(t, axes)):
        out = basis.select_n(eq(number, basis.scalar(i, _NUMBER)), out, here)
    return out


# ----------------------------------------------------------------------------- receivers


class _Sender(NamedTuple):
    """Of the elements i = r + step·j on an axis: what reaches them through a place of the window.

    Attributes:
        place: The place.
        first: The position of the window that reaches the first of them.
    """

    place: int
    first: int


class _Axis:
    """Which positions of the window reach the elements of an axis.

    Element i lies at place k of position p where i·base + low = p·stride + k·dilation: elements
    that differ by a multiple of `step` are reached through the same places, by positions that
    differ by multiples of `advance`.
    """

    def __init__(self, n: int, w: Sliding, low: int, base: int) -> None:
        k, stride, dilation, positions = w
        common = gcd(stride, base)
        self.length, self.step, self.advance = n, stride // common, base // common
        self.count = -(-n // self.step)
        self.senders = [
            [_Sender(j, (r * base + low - j * dilation) // stride)
             for j in range(k) if (r * base + low - j * dilation) % stride == 0]
            for r in range(self.step)
        ]  # fmt: skip
        starts = [s.first for found in self.senders for s in found] or [0]
        self.before = max(0, -min(starts))
        self.after = max(0, max(starts) + (self.count - 1) * self.advance + 1 - positions)


class _Receivers:
    """The elements of the operand, by the places of windows that reach them."""

    def __init__(
        self, shape: Ints, axes: Sequence[Sliding], lows: Sequence[int] = (),
        bases: Sequence[int] = (),
    ) -> None:  # fmt: skip
        rank = len(shape)
        given = (shape, axes, lows or (0,) * rank, bases or (1,) * rank)
        self.window = tuple(w.length for w in axes)
        self.axes = [_Axis(*one) for one in zip(*given, strict=True)]

    def received(self, number: Value, ct: Value) -> Value:
        """The sums over windows of what each element receives."""
        around = [(a.before, a.after, 0) for a in self.axes]
        if any(map(any, around)):
            number = pad(number, basis.scalar(-1, number.dtype), around)
            ct = stored(pad(ct, basis.scalar(0, ct.dtype), around))
        return self._interleaved(stored(number), ct, ())

    def _interleaved(self, number: Value, ct: Value, rest: Ints) -> Value:
        """Elements whose index leaves the given rests on the first axes, put together."""
        axis = len(rest)
        if axis == len(self.axes):
            return self._sum(number, ct, rest)
        mine = self.axes[axis]
        before = tuple(a.count for a in self.axes[: axis + 1])
        after = tuple(a.length for a in self.axes[axis + 1 :])
        parts = []
        for reached, group in groupby(range(mine.step), key=lambda r: bool(mine.senders[r])):
            rests = list(group)
            if reached:
                found = [self._interleaved(number, ct, (*rest, r)) for r in rests]
                parts += [basis.reshape(part, (*before, 1, *after)) for part in found]
            else:
                zero = basis.scalar(0, ct.dtype)
                parts.append(basis.broadcast_in_dim(zero, (*before, len(rests), *after), ()))
        whole = concatenate(parts, axis + 1) if len(parts) > 1 else parts[0]
        whole = basis.reshape(whole, (*before[:-1], mine.count * mine.step, *after))
        return slice_in_dim(whole, 0, mine.length, axis=axis)

    def _sum(self, number: Value, ct: Value, rest: Ints) -> Value:
        """What elements with those rests receive."""
        zero = basis.scalar(0, ct.dtype)
        found = []
        senders = [a.senders[r] for a, r in zip(self.axes, rest, strict=True)]
        for through in product(*senders):
            place = int(np.ravel_multi_index([s.place for s in through], self.window))
            start = tuple(s.first + a.before for s, a in zip(through, self.axes, strict=True))
            spans = [(a.count - 1) * a.advance + 1 for a in self.axes]
            limit = tuple(b + n for b, n in zip(start, spans, strict=True))
            steps = tuple(a.advance for a in self.axes)
            here = eq(slice_(number, start, limit, steps), basis.scalar(place, _NUMBER))
            found.append(basis.select_n(here, zero, slice_(ct, start, limit, steps)))
        return fold(add, found)
