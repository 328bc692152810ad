"""Convolutions with a block of outputs x rows x vectors of columns in registers.

Each turn adds one place of the window of one input feature. Where rows are shorter than vectors
and the window moves by single elements, all rows are one: the padded rows lie one after the other,
and what comes out between two of them is not stored.
"""

from math import prod

from fgrad.backends.cpu import routines
from fgrad.backends.cpu.memory import Address, store
from fgrad.backends.cpu.packing import (
    Conv,
    Packed,
    pack,
    pack_filters,
    transposed,
    units,
    write_one,
)
from fgrad.backends.cpu.routines import Phase, Routine, affine, digits, load
from fgrad.backends.cpu.text import Builder, Variable

FMA_NS = 0.17  # of a multiplication and addition of vectors
_PACKED_BYTES = 4 << 20  # of input that is packed at a time, to be read again from the cache
_WINDOW = 16  # columns of a window that are written out
_FLAT = 1024  # positions of rows that are walked as one


def fills(length: int, lanes: int) -> bool:
    """Whether vectors along an axis hold more numbers than not."""
    return 2 * length > -(-length // lanes) * lanes


def phases(c: Conv, to: Packed, each: int, work: int) -> tuple[list[Phase], int]:
    """Pack some batch elements and convolve them, then the next; and how many are packed at once.

    Args:
        c: The convolution.
        to: The form of packed input.
        each: Units of work of a batch element.
        work: All multiplications.
    """
    if c.by_batch:
        step = c.batch
    else:
        most = max(_PACKED_BYTES // max(c.each * to.plane * c.itemsize, 1), 1)
        step = max(n for n in range(1, min(most, c.batch) + 1) if c.batch % n == 0)
    planes = step * c.features * c.groups
    found = []
    for first in range(0, c.batch, step):
        found.append(Phase(0, units(c, to, planes), 0.1 * planes * to.plane, first))
        found.append(Phase(1, step * each, FMA_NS * work / c.lanes * step / c.batch, first))
    return found, step


def is_direct(c: Conv) -> bool:
    """Whether this form pays."""
    if c.window[2] > _WINDOW:
        return False
    return fills(c.positions[2], c.lanes) or _is_flat(c)


def _pitch(c: Conv) -> int:
    """The elements of a padded row."""
    return c.positions[2] + (c.window[2] - 1) * c.dilation[2]


def _length(c: Conv) -> int:
    """From the first to the last position, if all rows are one."""
    return (c.positions[1] - 1) * _pitch(c) + c.positions[2]


def _is_flat(c: Conv) -> bool:
    length = _length(c)
    useful = 3 * prod(c.positions[1:]) > -(-length // c.lanes) * c.lanes
    return (
        not fills(c.positions[2], c.lanes) and c.steps[1:] == (1, 1) and length <= _FLAT and useful
    )


def _blocking(c: Conv, rows: int, columns: int) -> tuple[int, int, int]:
    """Outputs, rows and vectors of columns in registers at once: the least time.

    A turn takes a cycle for two multiplications or two loads, and some for the loop.
    """
    vectors = -(-columns // c.lanes)
    best: tuple[float, tuple[int, int, int]] = (float("inf"), (1, 1, 1))
    for o in range(1, min(c.outputs, 16) + 1):
        for r in range(1, min(rows, 8) + 1):
            for v in range(1, min(vectors, 8) + 1):
                if o * r * v + r * v + 1 > c.registers:
                    continue
                turns = -(-c.outputs // o) * -(-rows // r) * -(-vectors // v)
                time = turns * (max(o * r * v, o + r * v) / 2 + 1)
                best = min(best, (time, (o, r, v)))
    return best[1]


class _Blocks:
    """How the result is divided: `rows` x `columns` positions at each depth, in blocks."""

    def __init__(self, c: Conv) -> None:
        self.flat = _is_flat(c)
        self.rows, self.columns = (1, _length(c)) if self.flat else c.positions[1:]
        self.outputs, self.lines, self.vectors = _blocking(c, self.rows, self.columns)
        self.down = -(-self.rows // self.lines)
        self.over = -(-c.outputs // self.outputs)
        self.width = self.vectors * c.lanes
        across = -(-self.columns // self.width) * self.width
        depth = (c.positions[0] - 1) * c.steps[0] + (c.window[0] - 1) * c.dilation[0] + 1
        reach = (c.window[1] - 1) * c.dilation[1], (c.window[2] - 1) * c.dilation[2]
        if self.flat:
            pitch = _pitch(c)
            rows = -(-(across + reach[0] * pitch + reach[1]) // pitch)
            self.to = Packed(depth, rows, 1, pitch)
        else:
            rows = (self.down * self.lines - 1) * c.steps[1] + reach[0] + 1
            self.to = Packed(depth, rows, c.steps[2], across + reach[1] // c.steps[2])
        self.step_down = 0 if self.flat else self.lines * c.steps[1] * self.to.row


def direct(c: Conv, work: int) -> Routine:
    """The routine."""
    at = _Blocks(c)
    to = at.to
    each = c.positions[0] * c.groups * at.over * at.down
    parts, step = phases(c, to, each, work)
    filters = step * c.features * c.groups * to.plane  # where the packed filters begin

    def write(b: Builder, args: list[str], first: str) -> None:
        count = at.outputs * at.lines * at.width
        spare = (
            "" if c.out[4] == 1 else b.emit(f"alloca {c.scalar}, i64 {count}, align 64", "ptr", 1)
        )
        with b.loop("%lo", "%hi") as unit:
            n, d, g, o, p = digits(b, unit, c.positions[0], c.groups, at.over, at.down)
            plane = (g, c.batch * c.features), (n, c.features)
            if not c.by_batch:
                plane = (n, c.each), (g, c.features)
            x = b.offset(args[3], affine(
                b, *((k, s * to.plane) for k, s in plane), (d, c.steps[0] * to.slab),
                (p, at.step_down),
            ), c.scalar)  # fmt: skip
            w = b.offset(args[3], affine(
                b, (filters, 1), (g, at.over * c.features * prod(c.window) * at.outputs),
                (o, c.features * prod(c.window) * at.outputs),
            ), c.scalar)  # fmt: skip
            out = b.offset(args[2], affine(
                b, (first, c.out[0]), (n, c.out[0]), (g, c.outputs * c.out[1]), (d, c.out[2]),
                (c.out_at, 1),
            ), c.place)  # fmt: skip

            def block(q: str | int) -> None:
                acc = _sums(b, c, at, b.offset(x, q, c.scalar), w)
                _written(b, c, at, acc, out, (o, p, q), spare)

            full = 0 if at.flat else at.columns // at.width * at.width
            with b.loop(0, full, at.width) as q:
                block(q)
            for k in range(full, at.columns, at.width):
                block(k)

    count = c.groups * at.over * c.features
    places = count * at.outputs * prod(c.window)
    codes = pack(c, to), write, pack_filters(c, at.outputs, filters)
    size = (filters + places) * c.itemsize
    first = Phase(2, count, 1.0 * places)
    return Routine(("direct", step, *c), codes, (first, *parts), 4, c.lanes, size)


def _sums(b: Builder, c: Conv, at: _Blocks, x: str, w: str) -> list[Variable]:
    """All terms of a block of the result."""
    taps, to = prod(c.window), at.to
    acc = [
        b.variable("zeroinitializer", c.scalar, c.lanes)
        for _ in range(at.outputs * at.lines * at.vectors)
    ]
    with (
        b.loop(0, c.features, 1, acc) as i, b.loop(0, c.window[0], 1, acc) as d,
        b.loop(0, c.window[1], 1, acc) as k,
    ):  # fmt: skip
        line = b.offset(x, affine(
            b, (i, to.plane), (d, c.dilation[0] * to.slab), (k, c.dilation[1] * to.row)
        ), c.scalar)  # fmt: skip
        by = b.offset(w, affine(
            b, (i, taps * at.outputs), (d, c.window[1] * c.window[2] * at.outputs),
            (k, c.window[2] * at.outputs),
        ), c.scalar)  # fmt: skip
        for tap in range(c.window[2]):
            columns = [
                b.offset(line, r * c.steps[1] * to.row + to.column(tap * c.dilation[2])
                         + v * c.lanes, c.scalar)
                for r in range(at.lines) for v in range(at.vectors)
            ]  # fmt: skip
            _terms(b, c, acc, columns, b.offset(by, tap * at.outputs, c.scalar), at.outputs)
    return acc


def _written(
    b: Builder, c: Conv, at: _Blocks, acc: list[Variable], out: str,
    place: tuple[str, str, str | int], spare: str,
) -> None:  # fmt: skip
    """Write a block; `place` is of outputs, rows, columns, `spare` memory for one block."""
    if c.out[4] == 1:
        _stored(b, c, at, acc, out, place)
    elif _by_outputs(c, at):
        _turned(b, c, at, acc, out, place)
    else:
        _scattered(b, c, at, acc, out, place, spare)


def _terms(
    b: Builder, c: Conv, acc: list[Variable], columns: list[str], by: str, outputs: int
) -> None:
    """Add one place of the window: each vector of columns times each filter's number."""
    xs = [load(b, place, c.scalar, c.lanes) for place in columns]
    for j in range(outputs):
        w = b.emit(f"load {c.scalar}, ptr {b.offset(by, j, c.scalar)}", c.scalar, 1)
        w = b.splat(w)
        for k, x in enumerate(xs):
            a = acc[j * len(xs) + k]
            a.value = b.call("fma", x, w, a.value)


def _stored(
    b: Builder, c: Conv, at: _Blocks, acc: list[Variable], out: str,
    place: tuple[str, str, str | int],
) -> None:  # fmt: skip
    """Write a block, less what hangs over the result; `place` is of outputs, rows, columns."""
    o, p, q = place
    shift = q if isinstance(q, str) else 0
    for j in range(at.outputs):
        feature = affine(b, (o, at.outputs), (j, 1))
        for r in range(at.lines):
            row = affine(b, (p, at.lines), (r, 1))
            inside = b.binary(
                "and", b.icmp("slt", b.named(feature, "i64"), c.outputs),
                b.icmp("slt", b.named(row, "i64"), at.rows),
            )  # fmt: skip
            with b.when(inside):
                line = b.offset(out, affine(
                    b, (feature, c.out[1]), (row, 0 if at.flat else c.out[3]), (shift, 1)
                ), c.place)  # fmt: skip
                for v in range(at.vectors):
                    x = acc[(j * at.lines + r) * at.vectors + v].value
                    for k, column, lane, count in _runs(c, at, q, v * c.lanes, c.lanes):
                        goal = b.offset(line, k * c.out[3] + column - lane, c.place)
                        _lanes(b, c, x, goal, lane, count)


def _lanes(b: Builder, c: Conv, x: str, place: str, start: int, count: int) -> None:
    """Write some lanes that follow each other; lane 0 would be at `place`."""
    mask = None
    if count < c.lanes:
        inside = range(start, start + count)
        flags = ", ".join(f"i1 {'true' if k in inside else 'false'}" for k in range(c.lanes))
        kind = b.vector("i1")
        mask = b.emit(f"bitcast {kind} <{flags}> to {kind}", "i1")
    store(b, c.stored, Address(place), x, mask)


def _runs(
    c: Conv, at: _Blocks, q: str | int, first: int, count: int
) -> list[tuple[int, int, int, int]]:
    """The results among `count` positions from `first` on of a block at column q.

    Of each run that is in one row: the row, the column (from q on, if that is a name), which of
    the positions it begins with, and its length.
    """
    if isinstance(q, str):
        return [(0, first, 0, count)]
    found = []
    start, stop = q + first, min(q + first + count, at.columns)
    if not at.flat:
        return [(0, start, 0, stop - start)] if stop > start else []
    k = start
    while k < stop:
        row, column = divmod(k, _pitch(c))
        length = min(c.positions[2] - column, stop - k)
        if length > 0:
            found.append((row, column, k - start, length))
        k += _pitch(c) - column
    return found


def _by_outputs(c: Conv, at: _Blocks) -> bool:
    """Whether outputs lie side by side, in whole blocks, so that blocks are transposed."""
    return c.out[1] == 1 and c.outputs % at.outputs == 0 and at.outputs > 1 < c.lanes


def _turned(
    b: Builder, c: Conv, at: _Blocks, acc: list[Variable], out: str,
    place: tuple[str, str, str | int],
) -> None:  # fmt: skip
    """Write a block position by position, of each its outputs."""
    o, p, q = place
    down, shift = 0 if at.flat else c.out[3], q if isinstance(q, str) else 0
    nothing = b.named("zeroinitializer", c.scalar, c.lanes)
    for r in range(at.lines):
        row = affine(b, (p, at.lines), (r, 1))
        with b.when(b.icmp("slt", b.named(row, "i64"), at.rows)):
            line = affine(b, (o, at.outputs), (row, down), (shift, c.out[4]))
            line = b.offset(out, line, c.place)
            for v in range(at.vectors):
                for first in range(0, at.outputs, c.lanes):
                    count = min(c.lanes, at.outputs - first)
                    rows = [acc[((first + j) * at.lines + r) * at.vectors + v].value
                            for j in range(count)]  # fmt: skip
                    columns = transposed(b, rows + [nothing] * (c.lanes - count))
                    for above, column, lane, length in _runs(c, at, q, v * c.lanes, c.lanes):
                        for k in range(length):
                            goal = above * c.out[3] + (column + k) * c.out[4] + first
                            goal_at = b.offset(line, goal, c.place)
                            _lanes(b, c, columns[lane + k], goal_at, 0, count)


def _scattered(
    b: Builder, c: Conv, at: _Blocks, acc: list[Variable], out: str,
    place: tuple[str, str, str | int], spare: str,
) -> None:  # fmt: skip
    """Write a block whose columns do not lie side by side, one number after the other."""
    o, p, q = place
    for k, a in enumerate(acc):
        routines.store(b, a.value, b.offset(spare, k * c.lanes, c.scalar))
    outputs, lines = (
        b.call("smin", b.binary("sub", size, b.binary("mul", block, each)), each)
        for size, block, each in ((c.outputs, o, at.outputs), (at.rows, p, at.lines))
    )
    shift = q if isinstance(q, str) else 0
    down = 0 if at.flat else c.out[3]
    corner = b.offset(out, affine(
        b, (o, at.outputs * c.out[1]), (p, at.lines * down), (shift, c.out[4])
    ), c.place)  # fmt: skip
    with b.loop(0, outputs) as j, b.loop(0, lines) as r:
        line = b.offset(corner, affine(b, (j, c.out[1]), (r, down)), c.place)
        held = affine(b, (j, at.lines * at.width), (r, at.width))
        held = b.offset(spare, held, c.scalar)
        for row, column, start, count in _runs(c, at, q, 0, at.width):
            goal = b.offset(line, row * c.out[3] + column * c.out[4], c.place)
            with b.loop(start, start + count) as lane:
                x = b.emit(f"load {c.scalar}, ptr {b.offset(held, lane, c.scalar)}", c.scalar, 1)
                moved = affine(b, (lane, c.out[4]), (-start, c.out[4]))
                write_one(b, c, b.offset(goal, moved, c.place), x)
