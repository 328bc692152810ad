"""The code of scatters that sort their updates by where they go, and combine those of one row.

Each row is read and written once, and its sum is kept in registers meanwhile, in a wider type or
with what rounding has cost. Sorting is stable, by digits: updates of a row stay in order.

Memory: the words of `HEAD`, two lists of entries, and where the entries of each row begin, with
one for each update of a row; then a table of counts. An entry is the number of the row in the
upper half of a word, and in the lower half the place of its update, from the lowest one on.
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
_AHEAD, _LINES = 8, 16  # how many entries ahead updates are fetched, and how much of each
_TURN = 8  # vectors of a row whose sums are in registers
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


def lowest_of(c: Scatter) -> int:
    """The least offset of an update of a row: below 0 where a view of them runs backwards."""
    axes = [(a.size, a.updates) for a in (c.first, *c.batch)]
    axes += [(a.size, a.updates) for a in c.inner]
    return sum(min(0, (n - 1) * step) for n, step in axes)


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
            place = b.named(affine(b, (source, 1), (-lowest_of(c), 1)), "i64")
            entry = b.binary("or", b.binary("shl", row, 32), place)
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


def combine(c: Scatter, wide: str, lanes: int, zeros: int = 0) -> Write:
    """Combine the updates of each row.

    Args:
        c: The scatter.
        wide: The LLVM type that sums are kept in. Where that is no wider than the elements, a sum
            carries along what rounding has cost.
        lanes: Numbers in a vector.
        zeros: The number of rows of the result, where they lie one after the other and begin as
            zeros: then nobody else has written them. 0: they hold what they begin as.
    """
    o = order_of(c)

    def code(b: Builder, args: list[str], many: str) -> None:
        _, _, source, out, scratch = args
        source = b.offset(source, lowest_of(c), c.number.scalar)
        at = _lists(b, c, scratch, many)
        found, rows = (_load(b, at.head, w, "i64") for w in (_FOUND, _GROUPS))
        lists = _Sorted(at.second if o.passes % 2 else at.first, at.begins, found, rows)
        with b.loop("%lo", "%hi") as unit:
            first, stop = (
                b.binary("sdiv", b.binary("mul", k, rows), UNITS)
                for k in (unit, b.binary("add", unit, 1))
            )
            if zeros:
                _clear(b, c, lists, (out, unit, first, stop), zeros)
            with b.loop(first, stop) as group:
                lo, hi = (_begin(b, lists, g) for g in (group, b.binary("add", group, 1)))
                _fetch(b, c, lists, source, lo)
                row = _row_of(b, lists, lo)
                base = b.offset(out, b.binary("mul", row, max(c.grain, 1)), c.number.scalar)
                _row(b, c, (base, source, lists.entries), (lo, hi), (wide, lanes, bool(zeros)))

    return code


class _Sorted(NamedTuple):
    """Sorted entries, where those of each row begin, and how many there are of both."""

    entries: str
    begins: str
    found: str
    rows: str


def _begin(b: Builder, lists: _Sorted, group: str) -> str:
    """Where the entries of a row begin; after the last row, where all entries end."""
    # There the list holds anything: the table comes next.
    begin = b.cast("zext", _load(b, lists.begins, group, "i32"), "i64")
    return b.select(b.icmp("slt", group, lists.rows), begin, lists.found)


def _row_of(b: Builder, lists: _Sorted, i: str) -> str:
    return b.binary("lshr", _load(b, lists.entries, i, "i64"), 32)


def _clear(
    b: Builder, c: Scatter, lists: _Sorted, at: tuple[str, str, str, str], zeros: int
) -> None:
    """Set the rows of a unit, and those without updates after each, to zero, all at once."""
    out, unit, first, stop = at

    def clear(begin: Place, end: Place) -> None:
        place = b.offset(out, affine(b, (begin, c.grain)), c.number.scalar)
        size = b.binary("mul", b.binary("sub", b.named(end, "i64"), begin), c.grain * c.number.size)
        b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                 [place, "0", size, "false"])  # fmt: skip

    none = b.icmp("eq", lists.rows, 0)
    with b.when(b.binary("and", none, b.icmp("eq", unit, 0))):
        clear(0, zeros)
    with b.when(b.icmp("slt", first, stop)):
        begin = b.variable(0, "i64")
        with b.when(b.icmp("sgt", first, 0), carried=[begin]):
            begin.value = _row_of(b, lists, _begin(b, lists, first))
        end = b.variable(zeros, "i64")
        with b.when(b.icmp("slt", stop, lists.rows), carried=[end]):
            end.value = _row_of(b, lists, _begin(b, lists, stop))
        clear(begin.value, end.value)


def _fetch(b: Builder, c: Scatter, lists: _Sorted, source: str, i: str) -> None:
    """Have an update that comes soon brought to the caches: in this order they lie anywhere."""
    row = c.row[-1:]
    if not row or row[0].updates != 1:
        return
    soon = b.call("smin", b.binary("add", i, _AHEAD), b.binary("sub", lists.found, 1))
    of = b.binary("and", _load(b, lists.entries, soon, "i64"), 0xFFFFFFFF)
    line = 64 // c.number.size
    for k in range(0, min(row[0].size, _LINES * line), line):
        place = b.offset(source, affine(b, (of, 1), (k, 1)), c.number.scalar)
        b.invoke("prefetch.p0", "void", 1, ["ptr", "i32", "i32", "i32"], [place, "0", "3", "1"])


def _row(
    b: Builder, c: Scatter, arrays: tuple[str, str, str], span: tuple[str, str],
    how: tuple[str, int, bool],
) -> None:  # fmt: skip
    wide, most, zeros = how
    *outer, last = c.row or (Axis(1, 0, 0, True),)
    lanes = most if last.result == last.updates == 1 else 1
    with ExitStack() as stack:
        terms = [(stack.enter_context(b.loop(0, a.size)), a) for a in outer]

        def tile(k: Place, widths: list[int]) -> None:
            to = affine(b, (k, last.result), *((i, a.result) for i, a in terms))
            of = affine(b, (k, last.updates), *((i, a.updates) for i, a in terms))
            _tile(b, c, arrays, span, (to, of), (wide, widths, zeros))

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
    at: tuple[Place, Place], how: tuple[str, list[int], bool],
) -> None:  # fmt: skip
    """Combine some vectors of a row; the axis that they lie along has stride 1, or there is one."""
    base, source, entries = arrays
    wide, widths, zeros = how
    n, places = c.number, [sum(widths[:i]) for i in range(len(widths))]
    goals = [b.offset(base, affine(b, (at[0], 1), (p, 1)), n.scalar) for p in places]
    begin = [
        _zeros(b, wide, w) if zeros else read(b, n, goal, w, wide)
        for goal, w in zip(goals, widths, strict=True)
    ]
    sums = [Variable(x, wide, w) for x, w in zip(begin, widths, strict=True)]
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
