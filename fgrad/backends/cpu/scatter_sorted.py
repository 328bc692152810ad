"""The code of scatters that sort their updates by where they go, and combine those of one row.

Each row is read and written once, and its sum is kept in registers meanwhile, in a wider type or
with what rounding has cost. Sorting is stable, by digits: updates of a row stay in order.

Memory: the words of `HEAD`, two lists of entries, and where the entries of each row begin, with
one for each update of a row; then a table of counts. An entry is the number of the row in the
upper half of a word, and the place of its update in the lower half.
"""

from contextlib import ExitStack
from typing import NamedTuple

from fgrad.backends.cpu.routines import Write, affine
from fgrad.backends.cpu.scatter_code import (
    HEAD,
    Place,
    combined,
    missed,
    read,
    start,
    windows,
    write,
)
from fgrad.backends.cpu.scatter_form import Axis, Scatter
from fgrad.backends.cpu.text import Builder, Variable

UNITS = 64  # ranges of rows
_TURN = 4  # vectors of a row whose sums are in registers
_DIGIT, _FEW_DIGIT = 11, 6  # bits by which entries are sorted at a time, at most
_FEW = 256  # entries for which many counts are not worth their time
_FOUND, _GROUPS = 1, 2  # words of `HEAD`: the number of entries and of rows


class Order(NamedTuple):
    """How entries are sorted.

    Attributes:
        passes: How often.
        bits: Of a digit.
    """

    passes: int
    bits: int


def order_of(c: Scatter) -> Order:
    """How the updates of a scatter are sorted."""
    span = sum(col.limit * col.stride for col in c.columns if col.limit > 0)
    span += sum((a.size - 1) * a.result for a in c.inner)
    span += sum((b.size - 1) * b.result for b in (c.first, *c.batch))
    bits = (span // max(c.grain, 1)).bit_length()
    passes = -(-bits // (_DIGIT if entries_of(c) > _FEW else _FEW_DIGIT))
    return Order(passes, -(-bits // passes) if passes else 0)


def entries_of(c: Scatter) -> int:
    """The number of updates of rows."""
    return c.windows * _inner(c)


def scratch_bytes(c: Scatter) -> int:
    """The size of the scratch memory."""
    o = order_of(c)
    return HEAD + 20 * entries_of(c) + 4 * (o.passes << o.bits) + 8


def _inner(c: Scatter) -> int:
    n = 1
    for a in c.inner:
        n *= a.size
    return n


class _Lists(NamedTuple):
    """Where the lists lie."""

    head: str
    first: str
    second: str
    begins: str
    counts: str


def _lists(b: Builder, c: Scatter, head: str, many: str) -> _Lists:
    total = b.binary("mul", many, _inner(c) * c.windows // max(c.first.size, 1))
    first = b.offset(head, HEAD, "i8")
    second = b.offset(first, total, "i64")
    begins = b.offset(second, total, "i64")
    return _Lists(head, first, second, begins, b.offset(begins, total, "i32"))


# ---------------------------------------------------------------------------------- sorting


def sort(c: Scatter) -> Write:
    """List the updates, sort them, and find the rows; one unit of work."""
    o = order_of(c)

    def code(b: Builder, args: list[str], many: str) -> None:
        _, indices, _, _, scratch = args
        at = _lists(b, c, scratch, many)
        size = o.passes << o.bits
        if size:
            b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                     [at.counts, "0", str(4 * size), "false"])  # fmt: skip
        found = _list(b, c, o, (indices, scratch, many), at)
        old, new = at.first, at.second
        for p in range(o.passes):
            counts = b.offset(at.counts, p << o.bits, "i32")
            _sums(b, counts, 1 << o.bits)
            with b.loop(0, found) as i:
                entry = _load(b, old, i, "i64")
                place = b.offset(counts, _digit(b, o, entry, p), "i32")
                to = b.emit(f"load i32, ptr {place}", "i32", 1)
                b.effect(f"store i32 {b.binary('add', to, 1)}, ptr {place}")
                _store(b, new, b.cast("zext", to, "i64"), entry)
            old, new = new, old
        _find_rows(b, at, old, found)

    return code


def _list(b: Builder, c: Scatter, o: Order, given: tuple[str, str, str], at: _Lists) -> str:
    """Write the entries, and count their digits; the number of entries."""
    indices, scratch, many = given
    found = b.variable(0, "i64")
    grain = max(c.grain, 1)
    with windows(b, c, many, carried=[found]) as (k, of, base):
        to, valid = start(b, c, indices, k, base)
        missed(b, c, valid, scratch)
        with ExitStack() as stack:
            terms: list[tuple[Place, Axis]] = [
                (stack.enter_context(b.loop(0, a.size, carried=[found])), a) for a in c.inner
            ]
            goal = affine(b, (to, 1), *((i, a.result) for i, a in terms))
            source = affine(b, (of, 1), *((i, a.updates) for i, a in terms))
            row = b.binary("udiv", b.named(goal, "i64"), grain) if grain > 1 else goal
            row = b.named(row, "i64")
            entry = b.binary("or", b.binary("shl", row, 32), b.named(source, "i64"))
            counted = b.cast("zext", valid, "i64") if valid is not None else b.named(1, "i64")
            _store(b, at.first, found.value, entry)
            for p in range(o.passes):
                digit = _digit(b, o, entry, p)
                if valid is not None:
                    digit = b.select(valid, digit, 0)
                place = b.offset(at.counts, b.binary("add", digit, p << o.bits), "i32")
                old = b.emit(f"load i32, ptr {place}", "i32", 1)
                more = b.binary("add", old, b.cast("trunc", counted, "i32"))
                b.effect(f"store i32 {more}, ptr {place}")
            found.value = b.binary("add", found.value, counted)
    return found.value


def _digit(b: Builder, o: Order, entry: str, p: int) -> str:
    moved = b.binary("lshr", entry, 32 + p * o.bits)
    return b.binary("and", moved, (1 << o.bits) - 1)


def _sums(b: Builder, counts: str, size: int) -> None:
    """Turn counts into where the entries of each digit begin."""
    total = b.variable(0, "i32")
    with b.loop(0, size, carried=[total]) as i:
        place = b.offset(counts, i, "i32")
        count = b.emit(f"load i32, ptr {place}", "i32", 1)
        b.effect(f"store i32 {total.value}, ptr {place}")
        total.value = b.binary("add", total.value, count)


def _find_rows(b: Builder, at: _Lists, entries: str, found: str) -> None:
    """List where the entries of each row begin."""
    rows, before = b.variable(0, "i64"), b.variable(-1, "i64")
    with b.loop(0, found, carried=[rows, before]) as i:
        row = b.binary("lshr", _load(b, entries, i, "i64"), 32)
        place = b.offset(at.begins, rows.value, "i32")
        new = b.icmp("ne", row, before.value)
        with b.when(new):
            b.effect(f"store i32 {b.cast('trunc', i, 'i32')}, ptr {place}")
        rows.value = b.binary("add", rows.value, b.cast("zext", new, "i64"))
        before.value = row
    for word, value in ((_FOUND, found), (_GROUPS, rows.value)):
        _store(b, at.head, word, value)


def _load(b: Builder, base: str, i: Place, scalar: str) -> str:
    return b.emit(f"load {scalar}, ptr {b.offset(base, i, scalar)}", scalar, 1)


def _store(b: Builder, base: str, i: Place, value: str) -> None:
    scalar = b.scalar(value)
    b.effect(f"store {scalar} {value}, ptr {b.offset(base, i, scalar)}")


# ---------------------------------------------------------------------------------- summing


def combine(c: Scatter, wide: str, lanes: int) -> Write:
    """Combine the updates of each row; `wide` is the LLVM type that sums are kept in.

    Where that is no wider than the elements, a sum carries along what rounding has cost.
    """
    o = order_of(c)

    def code(b: Builder, args: list[str], many: str) -> None:
        _, _, source, out, scratch = args
        at = _lists(b, c, scratch, many)
        entries = at.second if o.passes % 2 else at.first
        found, rows = (_load(b, at.head, w, "i64") for w in (_FOUND, _GROUPS))
        with b.loop("%lo", "%hi") as unit:
            first, stop = (
                b.binary("sdiv", b.binary("mul", k, rows), UNITS)
                for k in (unit, b.binary("add", unit, 1))
            )
            with b.loop(first, stop) as row:
                lo = b.cast("zext", _load(b, at.begins, row, "i32"), "i64")
                after = b.binary("add", row, 1)
                last = b.icmp("eq", after, rows)
                # What follows the last one is memory of the table that comes next.
                hi = b.cast("zext", _load(b, at.begins, after, "i32"), "i64")
                hi = b.select(last, found, hi)
                number = b.binary("lshr", _load(b, entries, lo, "i64"), 32)
                base = b.offset(out, b.binary("mul", number, max(c.grain, 1)), c.number.scalar)
                _row(b, c, (base, source, entries), (lo, hi), (wide, lanes))

    return code


def _row(
    b: Builder, c: Scatter, arrays: tuple[str, str, str], span: tuple[str, str],
    how: tuple[str, int],
) -> None:  # fmt: skip
    *outer, last = c.row or (Axis(1, 0, 0, True),)
    lanes = how[1] if last.result == last.updates == 1 else 1
    with ExitStack() as stack:
        terms = [(stack.enter_context(b.loop(0, a.size)), a) for a in outer]

        def tile(k: Place, widths: list[int]) -> None:
            to = affine(b, (k, last.result), *((i, a.result) for i, a in terms))
            of = affine(b, (k, last.updates), *((i, a.updates) for i, a in terms))
            _tile(b, c, arrays, span, (to, of), (how[0], widths))

        turn = _TURN * lanes if lanes > 1 else 1
        whole = last.size // turn * turn
        if whole > turn:
            with b.loop(0, whole, turn) as k:
                tile(k, [lanes] * (turn // lanes))
        elif whole:
            tile(0, [lanes] * (turn // lanes))
        full, rest = divmod(last.size - whole, lanes)
        widths = [lanes] * full + [rest] * bool(rest)
        if widths:
            tile(whole, widths)


def _tile(
    b: Builder, c: Scatter, arrays: tuple[str, str, str], span: tuple[str, str],
    at: tuple[Place, Place], how: tuple[str, list[int]],
) -> None:  # fmt: skip
    """Combine some vectors of a row; the axis that they lie along has stride 1, or there is one."""
    base, source, entries = arrays
    wide, widths = how
    n, places = c.number, [sum(widths[:i]) for i in range(len(widths))]
    goals = [b.offset(base, affine(b, (at[0], 1), (p, 1)), n.scalar) for p in places]
    sums = [
        Variable(read(b, n, goal, w, wide), wide, w) for goal, w in zip(goals, widths, strict=True)
    ]
    exact = c.op != "add" or wide != ("double" if n.scalar == "double" else "")
    lost = [] if exact else [Variable(_zeros(b, wide, w), wide, w) for w in widths]
    with b.loop(*span, carried=[*sums, *lost]) as i:
        of = b.binary("and", _load(b, entries, i, "i64"), 0xFFFFFFFF)
        from_ = b.offset(source, affine(b, (of, 1), (at[1], 1)), n.scalar)
        for k, (p, w) in enumerate(zip(places, widths, strict=True)):
            y = read(b, n, b.offset(from_, p, n.scalar) if p else from_, w, wide)
            old = sums[k].value
            sums[k].value = combined(b, c, old, y)
            if lost:
                lost[k].value = b.binary("fadd", lost[k].value, _cost(b, old, y, sums[k].value))
    for k, goal in enumerate(goals):
        total = sums[k].value
        if lost:
            # An infinite sum has lost nothing that a number tells.
            total = b.select(
                b.fcmp("ord", lost[k].value, lost[k].value),
                b.binary("fadd", total, lost[k].value), total,
            )  # fmt: skip
        write(b, n, total, goal)


def _zeros(b: Builder, scalar: str, lanes: int) -> str:
    return b.named(0.0, scalar, lanes)


def _cost(b: Builder, x: str, y: str, total: str) -> str:
    """What rounding has taken from a sum."""
    part = b.binary("fsub", total, x)
    rest = b.binary("fsub", x, b.binary("fsub", total, part))
    return b.binary("fadd", rest, b.binary("fsub", y, part))
