"""Convolutions in one or two dimensions as register-blocked loops, without windows in memory.

The input is copied once into padded rows (and, under strides, columns sorted by remainder), so
that the inner loops read whole vectors. Two forms:

    direct   a block of output features x rows x vectors of columns in registers; each turn adds
             one place of the window of one input feature
    reduced  few positions under a long window, as in the gradient of the filters: a block of
             output features x positions in registers, each a vector of partial sums over columns

All other convolutions keep the rule that gathers windows and calls BLAS.
"""

from math import prod

from fgrad.backends.cpu.packing import Conv, Ints, Packed, pack, pack_filters
from fgrad.backends.cpu.routines import (
    SCALARS,
    Phase,
    Routine,
    affine,
    digits,
    load,
    places,
    store,
)
from fgrad.backends.cpu.text import Builder, Variable
from fgrad.compile.plan import Library, View

LEAST_WORK = 1 << 15  # products; below, compiling takes longer than many calls
_WINDOW = 16  # columns of a window that are written out
_FMA_NS = 0.17  # of a multiplication and addition of vectors
_PACKED_BYTES = 4 << 20  # of input that is packed at a time, to be read again from the cache


def routine_of(step: Library, vector_bytes: int, registers: int) -> Routine | None:
    """The routine of a convolution; None where the eager rule is the better one, or the only."""
    conv = _conv(step, vector_bytes, registers)
    if conv is None:
        return None
    work = conv.batch * conv.features * conv.outputs * prod(conv.window) * prod(conv.positions)
    if work < LEAST_WORK or prod(conv.window) == 1:
        return None
    if _fills(conv.positions[1], conv.lanes) and conv.window[1] <= _WINDOW and conv.out[3] == 1:
        return _direct(conv, work)
    few = conv.positions[1] <= 12 and prod(conv.positions) < prod(conv.window)
    if _fills(conv.window[1], conv.lanes) and few and conv.w[3] == 1:
        return _reduced(conv, work)
    return None


def _fills(length: int, lanes: int) -> bool:
    """Whether vectors along an axis hold more numbers than not."""
    return 2 * length > -(-length // lanes) * lanes


def _conv(step: Library, vector_bytes: int, registers: int) -> Conv | None:
    p = step.eqn.params
    found = places(step)
    spatial = len(p["window_strides"])
    if found is None or spatial not in (1, 2) or any(e > 1 for e in p["lhs_dilation"]):
        return None
    if p["feature_group_count"] > 1 or p["batch_group_count"] > 1:
        return None
    d = p["dimension_numbers"]
    views = zip(found, (d.lhs_spec, d.rhs_spec, d.out_spec), strict=True)
    (xn, xs), (wn, ws), (on, os) = (_ordered(v, spec) for v, spec in views)
    one = (1,) * (2 - spatial)
    dtype = step.eqn.inputs[0].aval.dtype
    return Conv(
        SCALARS[dtype], vector_bytes // dtype.itemsize, registers,
        xn[0], xn[1], wn[0], xn[2:], wn[2:], on[2:],
        (*one, *p["window_strides"]), (*one, *p["rhs_dilation"]),
        (*(0,) * len(one), *(lo for lo, _ in p["padding"])), xs, ws, os,
    )  # fmt: skip


def _ordered(view: View, spec: Ints) -> tuple[Ints, Ints]:
    """Shape and strides in the order batch, features, rows, columns."""
    shape, strides = (tuple(x[i] for i in spec) for x in (view.shape, view.strides))
    if len(spec) == 3:
        return (*shape[:2], 1, shape[2]), (*strides[:2], 0, strides[2])
    return shape, strides


def _phases(c: Conv, to: Packed, each: int, work: int) -> tuple[list[Phase], int]:
    """Pack some batch elements and convolve them, then the next; and how many are packed at once.

    Args:
        c: The convolution.
        to: The form of packed input.
        each: Units of work of a batch element.
        work: All multiplications.
    """
    most = max(_PACKED_BYTES // (c.features * to.plane * c.itemsize), 1)
    step = max(n for n in range(1, min(most, c.batch) + 1) if c.batch % n == 0)
    phases = []
    for first in range(0, c.batch, step):
        phases.append(Phase(0, step * c.features, 0.1 * step * c.features * to.plane, first))
        phases.append(Phase(1, step * each, _FMA_NS * work / c.lanes * step / c.batch, first))
    return phases, step


# ------------------------------------------------------------------------------------ direct


def _blocking(c: Conv) -> tuple[int, int, int]:
    """Output features, rows and vectors of columns in registers at once: the least time.

    A turn takes a cycle for two multiplications or two loads, and some for the loop.
    """
    rows, vectors = c.positions[0], -(-c.positions[1] // c.lanes)
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


def _direct(c: Conv, work: int) -> Routine:
    o_block, rows, vectors = _blocking(c)
    blocks = -(-c.outputs // o_block), -(-c.positions[0] // rows)
    across = -(-c.positions[1] // (vectors * c.lanes))
    to = Packed(
        (blocks[1] * rows - 1) * c.steps[0] + (c.window[0] - 1) * c.dilation[0] + 1,
        c.steps[1],
        across * vectors * c.lanes + (c.window[1] - 1) * c.dilation[1] // c.steps[1],
    )
    phases, step = _phases(c, to, prod(blocks), work)
    filters = step * c.features * to.plane  # where the packed filters begin

    def block(b: Builder, args: list[str], first: str, at: tuple[str, str, str, int]) -> None:
        """All terms of a block of the result, from vector q of columns on."""
        n, o, p, q = at
        acc = _zeros(b, c, o_block * rows * vectors)
        x = b.offset(args[3], affine(
            b, (n, c.features * to.plane), (p, rows * c.steps[0] * to.row), (q, c.lanes)
        ), c.scalar)  # fmt: skip
        taps = prod(c.window)
        w = b.offset(args[3], affine(
            b, (filters, 1), (o, c.features * taps * o_block)
        ), c.scalar)  # fmt: skip
        with b.loop(0, c.features, 1, acc) as i, b.loop(0, c.window[0], 1, acc) as k:
            line = b.offset(x, affine(b, (i, to.plane), (k, c.dilation[0] * to.row)), c.scalar)
            by = b.offset(w, affine(
                b, (i, taps * o_block), (k, c.window[1] * o_block)
            ), c.scalar)  # fmt: skip
            for tap in range(c.window[1]):
                _terms(b, c, acc, [
                    b.offset(line, r * c.steps[0] * to.row + to.column(tap * c.dilation[1])
                             + v * c.lanes, c.scalar)
                    for r in range(rows) for v in range(vectors)
                ], b.offset(by, tap * o_block, c.scalar), o_block)  # fmt: skip
        _stored(b, c, acc, args[2], (b.binary("add", first, n), o, p, q), (o_block, rows, vectors))

    def write(b: Builder, args: list[str], first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            n, o, p = digits(b, unit, *blocks)
            for q in range(across):
                block(b, args, first, (n, o, p, q * vectors))

    places_of_filters = blocks[0] * o_block * c.features * prod(c.window)
    filters_first = Phase(2, blocks[0] * c.features, 1.0 * places_of_filters)
    codes = pack(c, to), write, pack_filters(c, o_block, filters)
    size = (filters + places_of_filters) * c.itemsize
    return Routine(("direct", step, *c), codes, (filters_first, *phases), 4, c.lanes, size)


def _zeros(b: Builder, c: Conv, count: int) -> list[Variable]:
    return [b.variable("zeroinitializer", c.scalar, c.lanes) for _ in range(count)]


def _terms(
    b: Builder, c: Conv, acc: list[Variable], columns: list[str], by: str, o_block: int
) -> None:
    """Add one place of the window: each vector of columns times each filter's number."""
    xs = [load(b, at, c.scalar, c.lanes) for at in columns]
    for j in range(o_block):
        w = b.emit(f"load {c.scalar}, ptr {b.offset(by, j, c.scalar)}", c.scalar, 1)
        w = b.splat(w)
        for k, x in enumerate(xs):
            a = acc[j * len(xs) + k]
            a.value = b.call("fma", x, w, a.value)


def _stored(
    b: Builder, c: Conv, acc: list[Variable], out: str, at: tuple[str, str, str, int],
    block: tuple[int, int, int],
) -> None:  # fmt: skip
    """Write a block, less what hangs over the result."""
    n, o, p, q = at
    o_block, rows, vectors = block
    for j in range(o_block):
        feature = affine(b, (o, o_block), (j, 1))
        for r in range(rows):
            row = affine(b, (p, rows), (r, 1))
            inside = b.binary(
                "and", b.icmp("slt", feature, c.outputs), b.icmp("slt", row, c.positions[0])
            )  # fmt: skip
            with b.when(inside):
                place = b.offset(out, affine(
                    b, (n, c.out[0]), (feature, c.out[1]), (row, c.out[2]), (q, c.lanes)
                ), c.scalar)  # fmt: skip
                for v in range(vectors):
                    kept = min(c.positions[1] - (q + v) * c.lanes, c.lanes)
                    if kept > 0:
                        x = acc[(j * rows + r) * vectors + v].value
                        store(b, x, b.offset(place, v * c.lanes, c.scalar), kept)


# ----------------------------------------------------------------------------------- reduced


def _reduced(c: Conv, work: int) -> Routine:
    rows, columns = c.positions
    most = c.registers - 8
    r_block = max(r for r in range(1, rows + 1) if r == 1 or r * columns <= 9)
    o_block = max(min(most // (r_block * columns), c.outputs), 1)
    vectors = -(-c.window[1] // c.lanes)
    p_blocks, o_blocks = -(-rows // r_block), -(-c.outputs // o_block)
    to = Packed(
        (p_blocks * r_block - 1) * c.steps[0] + (c.window[0] - 1) * c.dilation[0] + 1,
        c.dilation[1],
        vectors * c.lanes + (columns - 1) * c.steps[1] // c.dilation[1],
    )
    phases, step = _phases(c, to, o_blocks * p_blocks, work)
    spots = [(r, q) for r in range(r_block) for q in range(columns)]
    around = [r * c.steps[0] * to.row + to.column(q * c.steps[1]) for r, q in spots]

    def write(b: Builder, args: list[str], first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            # Filters outermost: a block of them is read for each batch element.
            o, n, p = digits(b, unit, step, p_blocks)
            acc = _zeros(b, c, len(spots) * o_block)
            features = [
                b.call("smin", affine(b, (o, o_block), (j, 1)), c.outputs - 1)
                for j in range(o_block)
            ]
            x = b.offset(args[3], affine(
                b, (n, c.features * to.plane), (p, r_block * c.steps[0] * to.row)
            ), c.scalar)  # fmt: skip
            with b.loop(0, c.features, 1, acc) as i:
                filters = [
                    b.offset(args[1], affine(b, (f, c.w[0]), (i, c.w[1])), c.scalar)
                    for f in features
                ]
                with b.loop(0, c.window[0], 1, acc) as k:
                    at = affine(b, (i, to.plane), (k, c.dilation[0] * to.row))
                    _row(b, c, acc, b.offset(x, at, c.scalar), filters, k, around)
            batch = b.binary("add", first, n)
            for s, (r, q) in enumerate(spots):
                row = affine(b, (p, r_block), (r, 1))
                with b.when(b.icmp("slt", row, rows)):
                    for j, feature in enumerate(features):
                        _summed(b, c, acc[s * o_block + j].value, b.offset(args[2], affine(
                            b, (batch, c.out[0]), (feature, c.out[1]), (row, c.out[2]),
                            (q, c.out[3]),
                        ), c.scalar))  # fmt: skip

    size = step * c.features * to.plane * c.itemsize
    return Routine(("reduced", step, *c), (pack(c, to), write), tuple(phases), 4, c.lanes, size)


def _row(
    b: Builder, c: Conv, acc: list[Variable], at: str, filters: list[str], k: str,
    around: list[int],
) -> None:  # fmt: skip
    """Add row `k` of the window; `around` is where the first column of each position lies."""
    for first in range(0, c.window[1], c.lanes):
        kept = min(c.window[1] - first, c.lanes)
        ws = [
            load(b, b.offset(f, affine(b, (k, c.w[2]), (first, 1)), c.scalar),
                 c.scalar, c.lanes, kept)
            for f in filters
        ]  # fmt: skip
        for s, place in enumerate(around):
            x = load(b, b.offset(at, place + first, c.scalar), c.scalar, c.lanes, kept)
            for j, w in enumerate(ws):
                a = acc[s * len(ws) + j]
                a.value = b.call("fma", x, w, a.value)


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
    b.effect(f"store {c.scalar} {x}, ptr {place}")
