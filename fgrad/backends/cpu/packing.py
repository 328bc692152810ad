"""Input and filters of a convolution, copied into the order in which its inner loops read them."""

from math import prod
from typing import NamedTuple

import numpy as np

from fgrad.backends.cpu import routines
from fgrad.backends.cpu.memory import Address, load, store, stored_scalar
from fgrad.backends.cpu.routines import Write, affine, digits, first_lanes
from fgrad.backends.cpu.text import Builder
from fgrad.core import dtypes

Ints = tuple[int, ...]


class Conv(NamedTuple):
    """A convolution; spatial parameters are triples, strides count elements.

    Attributes:
        dtype: The name of that of operands and result in memory.
        scalar: The type that computes.
        lanes: Values in a vector.
        registers: Vectors that may be in registers.
        groups: Each of them has features and outputs of its own; or, `by_batch`, part of the batch
            and outputs of its own.
        by_batch: Whether groups divide the batch.
        batch, features, outputs: Sizes, of a group.
        size, window, positions: Spatial sizes of input, window and result.
        steps: Of the window from one position to the next.
        dilation: From one place of the window to the next.
        low: Zeros before the input.
        x, w, out: Strides of batch (or output features), features, depth, rows and columns.
        w_at, out_at: Where the first element of w and of the result lies.
    """

    dtype: str
    scalar: str
    lanes: int
    registers: int
    groups: int
    by_batch: bool
    batch: int
    features: int
    outputs: int
    size: Ints
    window: Ints
    positions: Ints
    steps: Ints
    dilation: Ints
    low: Ints
    x: Ints
    w: Ints
    out: Ints
    w_at: int = 0
    out_at: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of a number that computes."""
        return 4 if self.scalar == "float" else 8

    @property
    def stored(self) -> np.dtype[np.generic]:
        """The dtype in memory."""
        return dtypes.dtype(self.dtype)

    @property
    def place(self) -> str:
        """The LLVM type of an element in memory."""
        return stored_scalar(self.stored)

    @property
    def each(self) -> int:
        """The features of all groups that a batch element has."""
        return self.features if self.by_batch else self.features * self.groups


class Packed(NamedTuple):
    """Rows of the padded input, their columns sorted by remainder modulo `parts`.

    Attributes:
        depth, rows: Of each batch element and feature.
        parts: Column ``q`` of part ``f`` is column ``q·parts + f`` of the padded input.
        columns: Of each part.
    """

    depth: int
    rows: int
    parts: int
    columns: int

    @property
    def row(self) -> int:
        """Elements of a row."""
        return self.parts * self.columns

    @property
    def slab(self) -> int:
        """Elements of all rows at one depth."""
        return self.rows * self.row

    @property
    def plane(self) -> int:
        """Elements of a batch element and feature."""
        return self.depth * self.slab

    def column(self, at: int) -> int:
        """Where a column of the padded input lies."""
        return at % self.parts * self.columns + at // self.parts


def read(b: Builder, c: Conv, pointer: str) -> str:
    """One number from memory."""
    with b.lanes(1):
        return load(b, c.stored, Address(pointer))


def write_one(b: Builder, c: Conv, pointer: str, value: str) -> None:
    """One number to memory."""
    with b.lanes(1):
        store(b, c.stored, Address(pointer), value)


def _clear(b: Builder, c: Conv, place: str, count: int) -> None:
    if count:
        b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                 [place, "0", str(count * c.itemsize), "false"])  # fmt: skip


def _copy(b: Builder, c: Conv, source: str, goal: str, count: int) -> None:
    """Numbers that lie side by side."""
    if c.place == c.scalar:
        b.invoke("memcpy.p0.p0.i64", "void", 1, ["ptr", "ptr", "i64", "i1"],
                 [goal, source, str(count * c.itemsize), "false"])  # fmt: skip
        return
    computing = np.dtype(np.float32)

    def vector(at: str, mask: str | None) -> None:
        x = load(b, c.stored, Address(b.offset(source, at, c.place)), mask)
        store(b, computing, Address(b.offset(goal, at, c.scalar)), x, mask)

    full = count // c.lanes * c.lanes
    with b.loop(0, full, c.lanes) as at:
        vector(at, None)
    if full < count:
        mask = b.emit(
            f"bitcast {b.vector('i1')} {first_lanes(c.lanes, count - full)} to {b.vector('i1')}",
            "i1",
        )
        vector(b.named(full, "i64"), mask)


def transposed(b: Builder, rows: list[str]) -> list[str]:
    """As many vectors as they have lanes: lane k of each as vector k, by perfect shuffles."""
    n = len(rows)
    for _ in range(n.bit_length() - 1):
        out = []
        for x, y in zip(rows[: n // 2], rows[n // 2 :], strict=True):
            for first in (0, n // 2):
                picks = [k for i in range(first, first + n // 2) for k in (i, n + i)]
                out.append(_shuffled(b, x, y, picks))
        rows = out
    return rows


def _shuffled(b: Builder, x: str, y: str, picks: list[int]) -> str:
    kind, mask = b.type_of(x), ", ".join(f"i32 {k}" for k in picks)
    text = f"shufflevector {kind} {x}, {kind} {y}, <{len(picks)} x i32> <{mask}>"
    return b.emit(text, b.scalar(x))


def _by_features(c: Conv, to: Packed) -> bool:
    """Whether features lie side by side, in whole vectors, so that blocks are transposed."""
    return c.x[1] == 1 and c.x[4] != 1 and c.each % c.lanes == 0 < c.each and to.parts == 1


def units(c: Conv, to: Packed, planes: int) -> int:
    """The units of work that `pack` has for some planes."""
    return planes // c.lanes if _by_features(c, to) else planes


def _turn(b: Builder, c: Conv, to: Packed, line: str, target: str) -> None:
    """A row of as many features as a vector has lanes."""
    first, stop = max(c.low[2], 0), min(c.size[2] + c.low[2], to.columns)
    first, stop = (first, stop) if stop > first else (0, 0)
    goals = [b.offset(target, k * to.plane, c.scalar) for k in range(c.lanes)]
    for goal in goals:
        _clear(b, c, goal, first)
        _clear(b, c, b.offset(goal, stop, c.scalar), to.columns - stop)
    origin = b.offset(line, (first - c.low[2]) * c.x[4], c.place)

    def block(at: str | int, count: int) -> None:
        places = [b.offset(origin, affine(b, (at, c.x[4]), (k, c.x[4])), c.place)
                  for k in range(count)]  # fmt: skip
        rows = [load(b, c.stored, Address(place)) for place in places]
        rows += [b.named("zeroinitializer", c.scalar, c.lanes)] * (c.lanes - count)
        for goal, row in zip(goals, transposed(b, rows), strict=True):
            routines.store(b, row, b.offset(goal, affine(b, (at, 1), (first, 1)), c.scalar), count)

    full = (stop - first) // c.lanes * c.lanes
    with b.loop(0, full, c.lanes) as at:
        block(at, c.lanes)
    if full < stop - first:
        block(full, stop - first - full)


def _fill(b: Builder, c: Conv, to: Packed, line: str, target: str) -> None:
    """A row of one feature."""
    step = to.parts * c.x[4]
    for f in range(to.parts):
        # Columns q with 0 <= q·parts + f - low < size.
        first = max(-((f - c.low[2]) // to.parts), 0)
        stop = min((c.size[2] - 1 + c.low[2] - f) // to.parts + 1, to.columns)
        first, stop = (first, stop) if stop > first else (0, 0)
        begin = f * to.columns
        _clear(b, c, b.offset(target, begin, c.scalar), first)
        _clear(b, c, b.offset(target, begin + stop, c.scalar), to.columns - stop)
        origin = b.offset(line, (first * to.parts + f - c.low[2]) * c.x[4], c.place)
        goal = b.offset(target, begin + first, c.scalar)
        if step == 1 and stop > first:
            _copy(b, c, origin, goal, stop - first)
        elif stop > first:
            with b.loop(0, stop - first) as q:
                x = read(b, c, b.offset(origin, affine(b, (q, step)), c.place))
                b.effect(f"store {c.scalar} {x}, ptr {b.offset(goal, q, c.scalar)}")


def pack(c: Conv, to: Packed, source: int = 0, start: int = 0) -> Write:
    """What writes the padded rows of the input from batch element `first` on.

    Args:
        c: Says where the input lies.
        to: The form that it gets.
        source: The argument that it is.
        start: Where in the scratch memory it begins.
    """
    group = c.lanes if _by_features(c, to) else 1

    def write(b: Builder, args: list[str], first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            n, i = digits(b, unit, c.each // group)
            origin = affine(b, (first, c.x[0]), (n, c.x[0]), (i, group * c.x[1]))
            origin = b.offset(args[source], origin, c.place)
            target = affine(b, (start, 1), (unit, group * to.plane))
            target = b.offset(args[3], target, c.scalar)
            with b.loop(0, to.depth) as d, b.loop(0, to.rows) as r:
                slab, row = b.binary("sub", d, c.low[0]), b.binary("sub", r, c.low[1])
                goal = b.offset(target, affine(b, (d, to.slab), (r, to.row)), c.scalar)
                inside = b.binary(
                    "and", b.icmp("ult", row, c.size[1]), b.icmp("ult", slab, c.size[0])
                )
                with b.when(inside):
                    line = b.offset(origin, affine(b, (slab, c.x[2]), (row, c.x[3])), c.place)
                    (_fill if group == 1 else _turn)(b, c, to, line, goal)
                with b.when(b.binary("xor", inside, "true")):
                    for k in range(group):
                        _clear(b, c, b.offset(goal, k * to.plane, c.scalar), to.row)

    return write


def pack_filters(c: Conv, o_block: int, start: int) -> Write:
    """Filters as [groups, blocks of outputs, features, window, output of a block]."""
    taps, blocks = prod(c.window), -(-c.outputs // o_block)

    def write(b: Builder, args: list[str], _first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            g, o, i = digits(b, unit, blocks, c.features)
            target = b.offset(args[3], affine(b, (start, 1), (unit, taps * o_block)), c.scalar)
            with (
                b.loop(0, c.window[0]) as d, b.loop(0, c.window[1]) as k,
                b.loop(0, c.window[2]) as tap,
            ):  # fmt: skip
                places = (d, c.window[1] * c.window[2]), (k, c.window[2]), (tap, 1)
                goal = affine(b, *((at, s * o_block) for at, s in places))
                goal = b.offset(target, goal, c.scalar)
                for j in range(o_block):
                    # A block that hangs over repeats the last filter, for results nobody stores.
                    output = b.call("smin", affine(b, (o, o_block), (j, 1)), c.outputs - 1)
                    x = read(b, c, b.offset(args[1], affine(
                        b, (g, c.outputs * c.w[0]), (output, c.w[0]), (i, c.w[1]), (d, c.w[2]),
                        (k, c.w[3]), (tap, c.w[4]), (c.w_at, 1),
                    ), c.place))  # fmt: skip
                    b.effect(f"store {c.scalar} {x}, ptr {b.offset(goal, j, c.scalar)}")

    return write
