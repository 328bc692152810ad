"""Convolutions with few positions under a long window, as in the gradient of the filters.

A block of outputs x positions is in registers, each a vector of partial sums over the columns of
the window. Where its rows are shorter than vectors, all rows are one: the window is copied into
rows as long as those of the padded input, with zeros between.
"""

from math import prod

import numpy as np

from fgrad.backends.cpu import memory
from fgrad.backends.cpu.direct import fills, phases
from fgrad.backends.cpu.packing import Conv, Ints, Packed, pack, units, write_one
from fgrad.backends.cpu.routines import Phase, Routine, Write, affine, digits, load
from fgrad.backends.cpu.text import Builder, Variable

_FLAT = 512  # places of a window whose rows are walked as one


def is_reduced(c: Conv) -> bool:
    """Whether this form pays."""
    few = c.positions[2] <= 12 and prod(c.positions) < prod(c.window)
    return few and (fills(c.window[2], c.lanes) or _is_flat(c))


def _pitch(c: Conv) -> int:
    """The elements of a padded row of the input."""
    return c.window[2] + (c.positions[2] - 1) * c.steps[2]


def _is_flat(c: Conv) -> bool:
    length = c.window[1] * _pitch(c)
    useful = 3 * prod(c.window[1:]) > -(-length // c.lanes) * c.lanes
    short = not fills(c.window[2], c.lanes) and length <= _FLAT
    return short and c.dilation[1:] == (1, 1) and useful


class _Blocks:
    """How results are divided, and where the window is read."""

    def __init__(self, c: Conv) -> None:
        rows, columns = c.positions[1:]
        self.lines = max(r for r in range(1, rows + 1) if r == 1 or r * columns <= 9)
        self.outputs = max(min((c.registers - 8) // (self.lines * columns), c.outputs), 1)
        self.down, self.over = -(-rows // self.lines), -(-c.outputs // self.outputs)
        depth = (c.positions[0] - 1) * c.steps[0] + (c.window[0] - 1) * c.dilation[0] + 1
        self.flat = _is_flat(c)
        high = (self.down * self.lines - 1) * c.steps[1] + (c.window[1] - 1) * c.dilation[1] + 1
        if self.flat:
            self.to = Packed(depth, high + 1, 1, _pitch(c))
            self.window: Ints = (c.window[0], 1, c.window[1] * _pitch(c))
        else:
            vectors = -(-c.window[2] // c.lanes)
            width = vectors * c.lanes + (columns - 1) * c.steps[2] // c.dilation[2]
            self.to = Packed(depth, high, c.dilation[2], width)
            self.window = c.window
        self.packs = self.flat or c.w[4] != 1 or c.place != c.scalar
        self.copied = Packed(c.window[0], c.window[1], 1, _pitch(c) if self.flat else c.window[2])
        self.w = c.w
        if self.packs:
            plane = self.copied.plane
            self.w = (c.features * plane, plane, self.copied.slab, self.copied.row, 1)
        self.around = [
            r * c.steps[1] * self.to.row + self.to.column(q * c.steps[2])
            for r in range(self.lines) for q in range(columns)
        ]  # fmt: skip


def reduced(c: Conv, work: int) -> Routine:
    """The routine."""
    at = _Blocks(c)
    to = at.to
    parts, step = phases(c, to, c.positions[0] * c.groups * at.over * at.down, work)
    filters = step * c.features * c.groups * to.plane  # where the packed window begins
    outputs = c.groups * c.outputs
    codes = [pack(c, to), _written(c, at, step, filters)]
    size = filters * c.itemsize
    if at.packs:
        whole = c._replace(
            batch=outputs, groups=1, by_batch=False, size=c.window, low=(0, 0, 0), x=c.w
        )
        codes.append(pack(whole, at.copied, 1, filters))
        places = outputs * c.features * at.copied.plane
        count = units(whole, at.copied, outputs * c.features)
        parts.insert(0, Phase(2, count, 0.1 * places))
        size += places * c.itemsize
    return Routine(("reduced", step, *c), tuple(codes), tuple(parts), 4, c.lanes, size)


def _written(c: Conv, at: _Blocks, step: int, filters: int) -> Write:
    """What computes the results; the packed window begins at `filters`."""
    to, columns = at.to, c.positions[2]
    spots = [(r, q) for r in range(at.lines) for q in range(columns)]

    def write(b: Builder, args: list[str], first: str) -> None:
        window = b.offset(args[3], filters, c.scalar) if at.packs else args[1]
        with b.loop("%lo", "%hi") as unit:
            # Outputs outermost: a block of them is read for each batch element.
            g, o, n, d, p = digits(b, unit, at.over, step, c.positions[0], at.down)
            acc = [
                b.variable("zeroinitializer", c.scalar, c.lanes)
                for _ in range(len(spots) * at.outputs)
            ]
            every = [
                b.call("smin", affine(b, (o, at.outputs), (j, 1)), c.outputs - 1)
                for j in range(at.outputs)
            ]
            features = [affine(b, (g, c.outputs), (f, 1)) for f in every]
            plane = (g, c.batch * c.features), (n, c.features)
            if not c.by_batch:
                plane = (n, c.each), (g, c.features)
            x = b.offset(args[3], affine(
                b, *((k, s * to.plane) for k, s in plane), (d, c.steps[0] * to.slab),
                (p, at.lines * c.steps[1] * to.row),
            ), c.scalar)  # fmt: skip
            with (
                b.loop(0, c.features, 1, acc) as i, b.loop(0, at.window[0], 1, acc) as e,
                b.loop(0, at.window[1], 1, acc) as k,
            ):  # fmt: skip
                lines = [
                    b.offset(window, affine(
                        b, (f, at.w[0]), (i, at.w[1]), (e, at.w[2]), (k, at.w[3])
                    ), c.scalar)
                    for f in features
                ]  # fmt: skip
                place = affine(
                    b, (i, to.plane), (e, c.dilation[0] * to.slab), (k, c.dilation[1] * to.row)
                )
                _row(b, c, at, acc, b.offset(x, place, c.scalar), lines)
            batch = b.binary("add", first, n)
            for s, (r, q) in enumerate(spots):
                row = b.named(affine(b, (p, at.lines), (r, 1)), "i64")
                with b.when(b.icmp("slt", row, c.positions[1])):
                    for j, feature in enumerate(features):
                        _summed(b, c, acc[s * at.outputs + j].value, b.offset(args[2], affine(
                            b, (batch, c.out[0]), (feature, c.out[1]), (d, c.out[2]),
                            (row, c.out[3]), (q, c.out[4]),
                        ), c.place))  # fmt: skip

    return write


def _row(b: Builder, c: Conv, at: _Blocks, acc: list[Variable], x: str, lines: list[str]) -> None:
    """Add a row of the window."""
    length = at.window[2]

    def columns(place: str, first: str | int, kept: int) -> str:
        if not at.flat:
            return load(b, place, c.scalar, c.lanes, kept)
        # What stands between two rows of the window is met by zeros, so it must not be infinite.
        lanes = range(int(first), int(first) + c.lanes)
        flags = [f"i1 {'true' if k < length and k % _pitch(c) < c.window[2] else 'false'}"
                 for k in lanes]  # fmt: skip
        mask = b.emit(f"bitcast {b.vector('i1')} <{', '.join(flags)}> to {b.vector('i1')}", "i1")
        computing = np.dtype(np.float32 if c.scalar == "float" else np.float64)
        return memory.load(b, computing, memory.Address(place), mask)

    def turn(first: str | int, kept: int) -> None:
        ws = [load(b, b.offset(f, first, c.scalar), c.scalar, c.lanes, kept) for f in lines]
        origin = b.offset(x, first, c.scalar)
        for s, place in enumerate(at.around):
            v = columns(b.offset(origin, place, c.scalar), first, kept)
            for j, w in enumerate(ws):
                a = acc[s * len(ws) + j]
                a.value = b.call("fma", v, w, a.value)

    full = length // c.lanes * c.lanes
    if full > 4 * c.lanes and not at.flat:
        with b.loop(0, full, c.lanes, acc) as first:
            turn(first, c.lanes)
    else:
        for place in range(0, full, c.lanes):
            turn(place, c.lanes)
    if full < length:
        turn(full, length - full)


def _summed(b: Builder, c: Conv, x: str, place: str) -> None:
    """Write the sum of the lanes: halves are added to each other."""
    lanes = c.lanes
    while lanes > 1:
        kind, half = f"<{lanes} x {c.scalar}>", lanes // 2
        parts = []
        for first in (0, half):
            mask = ", ".join(f"i32 {first + i}" for i in range(half))
            parts.append(b.emit(
                f"shufflevector {kind} {x}, {kind} poison, <{half} x i32> <{mask}>",
                c.scalar, half,
            ))  # fmt: skip
        if half == 1:
            parts = [
                b.emit(f"extractelement <1 x {c.scalar}> {y}, i64 0", c.scalar, 1) for y in parts
            ]
        x = b.binary("fadd", *parts)
        lanes = half
    write_one(b, c, place, x)
