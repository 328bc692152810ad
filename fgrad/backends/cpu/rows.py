"""The code of one row: its passes, and the scalars between them."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from fgrad.backends.cpu import ops
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.layout import BLOCK
from fgrad.backends.cpu.loops import rest, segments, turn, whole
from fgrad.backends.cpu.maps import Access, Step
from fgrad.backends.cpu.memory import Address, load, prefetch, store, stored_scalar
from fgrad.backends.cpu.reduction import Partial, RowSum
from fgrad.backends.cpu.scans import running
from fgrad.backends.cpu.schedule import FURTHER_ON, LANE, NEXT_ROW, SEGMENT, Pass, dtype_of
from fgrad.backends.cpu.text import Operand, Variable
from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Compute,
    Const,
    DType,
    Index,
    Load,
    Scan,
    Store,
)

CHAIN = 28  # turns between two looks at the length of chains; see `_Pass.sums`
ABREAST = 2  # steps of a divided pass that are computed side by side
LONG = 32  # turns after which chains end
AHEAD_BYTES = 4096

_INT64 = np.dtype("q")


def row(f: Frame, partials: dict[int, Partial], first: Operand = 0, stop: str = "") -> None:
    """Emit the code of the row at ``f.index``; `first` and `stop` limit the last axis."""
    done: set[int] = set()
    for p in f.plan.passes:
        for i in p.before:
            scalar(f, i)
        if p.reduces or p.accumulates or p.folds or p.stores:
            _Pass(f, p, done, partials, first, stop).emit()
        done.update(p.keep)
    for i in f.plan.after:
        scalar(f, i)
    for i in f.plan.ending:
        instr = f.kernel.body[i]
        assert isinstance(instr, Store | Accumulate)
        with f.b.lanes(1):
            if isinstance(instr, Accumulate):
                partials[i].add(f.scalars[instr.arg], Step("0", None))
            else:
                _placed(f, i).store_scalar(f.scalars[instr.arg])


def _placed(f: Frame, i: int) -> Access:
    access = Access(f, i)
    access.start_row()
    access.finish_segment()
    return access


def scalar(f: Frame, i: int, access: Access | None = None) -> None:
    """Emit an instruction of one value for the row or segment."""
    with f.b.lanes(1):
        match f.kernel.body[i]:
            case Const():
                name = f.number(i)
            case Load():
                name = (access or _placed(f, i)).load_scalar()
            case Index(axis=axis, dtype=dtype):
                name = ops.convert(f.b, f.index[axis], _INT64, dtype)
            case Compute(op=op, args=args, dtype=dtype) as instr:
                name = ops.emit(f.b, op, f.operands(instr, SEGMENT), _kinds(f, args), dtype)
    f.set_scalar(i, name)


def _kinds(f: Frame, args: Sequence[int]) -> list[DType]:
    return [dtype_of(f.kernel, a) for a in args]


class _Pass:
    """One pass over the row."""

    def __init__(
        self, f: Frame, p: Pass, done: set[int], partials: dict[int, Partial],
        first: Operand, stop: str,
    ) -> None:  # fmt: skip
        self.f, self.p, self.done, self.partials = f, p, done, partials
        self.first, self.stop = first, stop
        self.axes = len(f.kernel.outer)
        self.last = self.axes + len(f.kernel.inner) - 1
        self.level = f.plan.level
        self.accesses = {
            i: Access(f, i)
            for i in (*p.body, *p.folds, *p.stores)
            if isinstance(f.kernel.body[i], MAPPED) and i not in done
        }
        self.unroll = self._unroll()
        self.rows = [RowSum(f, i, self.unroll) for i in p.reduces]
        self.folds = [RowSum(f, i, self.unroll) for i in p.folds]
        self.sums = self.rows + self.folds
        self.scans = {
            i: running(f, i, first)
            for i in p.body
            if isinstance(f.kernel.body[i], Scan) and i not in done
        }
        self.pending = f.b.variable(0, "i64")
        states = [v for s in self.scans.values() for v in s.state]
        self.carried = [*(v for s in self.sums for v in s.carried), *states]
        self.held = [*(v for s in self.rows for v in s.carried), *states]
        self.flushes = any(s.wide for s in self.sums)
        self.stream = False
        self.blocks: dict[int, str] = {}  # where values of the front lie, as if from position 0

    def _unroll(self) -> int:
        """Enough independent chains of additions, and of short code only: it takes time to make."""
        if self.p.split:
            return ABREAST
        work = sum(1 for i in self.p.body if self.level[i] == LANE)
        costly = any(self.f.plan.cost[i] >= 16 for i in self.p.body)
        if (self.p.reduces or self.p.folds) and work <= 2:
            return 4
        return 2 if work <= 6 and not costly else 1

    def emit(self) -> None:
        f = self.f
        for access in self.accesses.values():
            access.start_row()
        held, carried = self.held, self.carried
        if self.flushes:
            held, carried = [*held, self.pending], [*carried, self.pending]
        stop = self.stop or f.word("size", self.last)
        for scan in self.scans.values():
            scan.start(stop)
        with segments(f, held) as start:  # what is not held begins anew in each
            for i in self.p.body:
                if self.level[i] == SEGMENT:
                    self._start(i)
                    scalar(f, i, self.accesses.get(i))
            for i in self.accesses:
                if self.level[i] == LANE:
                    self._start(i)
            self.start = start
            self.ahead = [self._ahead(i, where) for i, where in self.p.ahead]
            self.buffers = {v: self._buffer(v) for v in (*self.p.keep, *self.done)}
            self._along(stop, carried)
            for i in self.p.stores:
                if self.level[i] == SEGMENT:
                    self._write(i, f.scalars[f.kernel.body[i].arg])  # type: ignore[union-attr]
            for total in self.folds:
                self._write(total.i, total.finish())
        for total in self.rows:
            f.set_scalar(total.i, total.finish())

    def _start(self, i: int) -> None:
        access = self.accesses.get(i)
        if access is not None:
            access.start_segment()
            access.finish_segment()

    def _write(self, i: int, value: str) -> None:
        """Store a value of the segment."""
        self._start(i)
        with self.f.b.lanes(1):
            self.accesses[i].store_scalar(value)

    def _along(self, stop: str, carried: Sequence[Variable]) -> None:
        b = self.f.b
        main = whole(b, self.first, stop, b.width * self.unroll)
        stores = [self.accesses[i] for i in self.p.stores if self.level[i] == LANE]
        streamed = [a for a in stores if self.f.streams and a.can_stream]
        if streamed:
            aligned = self._can_stream(streamed, stop)
            self.stream = True
            with b.when(aligned, carried):
                self._main(main, carried)
            self.stream = False
            with b.when(b.binary("xor", aligned, True), carried):
                self._main(main, carried)
        else:
            self._main(main, carried)
        rest(b, main, stop, self._step, self.carried)
        if self.flushes and self.last > self.axes:
            self._flush_if_long(self.unroll)

    def _can_stream(self, streamed: Sequence[Access], stop: str) -> str:
        """Whether vectors may bypass the caches, an i1: they are aligned, and were not just read.

        A short row must end at the end of a vector, too: parts of lines are slow to write.
        """
        b = self.f.b
        found = b.named(True, "i1")
        for access in streamed:
            found = b.binary("and", found, access.is_aligned(stop))
        found = b.binary("or", found, b.icmp("sge", b.binary("sub", stop, self.first), BLOCK))
        for access in streamed:
            found = b.binary("and", found, access.is_aligned(self.first))
        apart = self._apart(access.instr.operand for access in streamed)
        return b.binary("and", found, apart)

    def _main(self, main: str, carried: Sequence[Variable]) -> None:
        """The loop over whole turns."""
        b, size = self.f.b, self.f.b.width * self.unroll
        if not self.flushes and not self.p.split:
            with b.loop(self.first, main, size, carried) as at:
                turn(b, at, self._step, self.unroll)
            return
        with b.loop(self.first, main, size * CHAIN, carried) as chain:
            end = b.call("smin", b.binary("add", chain, size * CHAIN), main)
            if self.p.split:
                self._front(chain, end)
            with b.loop(chain, end, size, self.carried) as at:
                turn(b, at, self._step, self.unroll, abreast=bool(self.p.split) and not self.scans)
            self.blocks.clear()
            if self.flushes:
                turns = b.binary("lshr", b.binary("sub", end, chain), size.bit_length() - 1)
                self._flush_if_long(turns)

    def _front(self, first: str, stop: str) -> None:
        """The loop over the values to compute first, into buffers on the stack."""
        f, b = self.f, self.f.b
        places = {}
        for v in self.p.split:
            scalar = stored_scalar(dtype_of(f.kernel, v))
            place = f.local(("split", v), scalar, b.width * self.unroll * CHAIN)
            places[v] = b.offset(place, b.binary("sub", 0, first), scalar)

        def body(step: Step, _: int) -> None:
            f.vectors.clear()
            for i in self.p.front:
                f.vectors[i] = self._vector(i, step)
            for v, place in places.items():
                dtype = dtype_of(f.kernel, v)
                address = Address(b.offset(place, step.at, stored_scalar(dtype)))
                store(b, dtype, address, f.vectors[v])

        with b.loop(first, stop, b.width * self.unroll) as at:
            turn(b, at, body, self.unroll, abreast=True)
        self.blocks.update(places)

    def _flush_if_long(self, turns: Operand) -> None:
        b = self.f.b
        count = b.binary("add", self.pending.value, turns)
        self.pending.value = count
        changed = [v for s in self.sums if s.wide for v in s.carried]
        with b.when(b.icmp("sge", count, LONG), [*changed, self.pending]):
            for total in self.sums:
                total.flush()
            self.pending.value = b.named(0, "i64")

    def _buffer(self, v: int) -> str:
        """Where a kept value lies, or the part of it that belongs to the segment."""
        f, b = self.f, self.f.b
        place = b.offset(f.memory("scratch"), f.word("kept", v), "i8")
        if self.start:
            place = b.offset(place, self.start, stored_scalar(dtype_of(f.kernel, v)))
        home = f.plan.homes.get(v)
        if home is None or f.streams:
            return place
        access = self._access(home)
        apart = self._apart([access.instr.operand])
        return b.select(apart, access.address, place)

    def _access(self, i: int) -> Access:
        """An instruction with a map at the start of this segment."""
        access = Access(self.f, i)
        access.start_row()
        access.start_segment()
        access.finish_segment()
        return access

    def _apart(self, written: Iterable[int]) -> str:
        """Whether some written operands share memory with none that is read, an i1."""
        f, b = self.f, self.f.b
        found = b.named(True, "i1")
        read = {i.operand for i in f.kernel.body if isinstance(i, Load)}
        for target, o in itertools.product(sorted(set(written)), sorted(read)):
            found = b.binary("and", found, b.icmp("ne", f.pointer(target), f.pointer(o)))
        return found

    def _ahead(self, i: int, where: str) -> tuple[str, str]:
        """What will be read soon: its address in this segment, and the type of an element."""
        f, access = self.f, self._access(i)
        place = access.address
        if where == NEXT_ROW:
            place = f.b.offset(place, f.word("map", i, self.axes - 1), access.scalar)
        elif where == FURTHER_ON:
            place = f.b.offset(place, AHEAD_BYTES, "i8")
        return place, access.scalar

    def _step(self, step: Step, k: int) -> None:
        """The code of one vector of elements."""
        f, body = self.f, self.f.kernel.body
        if step.mask is None:
            for address, scalar in self.ahead:
                prefetch(f.b, f.b.offset(address, step.at, scalar))
        f.vectors.clear()
        for i in self.p.rest if self.blocks else self.p.body:
            if self.level[i] == LANE:
                f.vectors[i] = self._vector(i, step)
        for v in self.p.keep:
            if f.plan.homes.get(v) in self.p.stores and not f.streams:
                continue  # the store does it
            dtype = dtype_of(f.kernel, v)
            place = f.b.offset(self.buffers[v], step.at, stored_scalar(dtype))
            store(f.b, dtype, Address(place), f.vectors[v], step.mask)
        for total in self.sums:
            total.add(step, k)
        for i in self.p.accumulates:
            at = f.b.binary("add", step.at, self.start) if self.start else step.at
            self.partials[i].add(f.vector(self.partials[i].arg), Step(at, step.mask))
        for i in self.p.stores:
            instr = body[i]
            assert isinstance(instr, Store)
            if self.level[i] == LANE:
                self.accesses[i].store(f.vector(instr.arg), step, stream=self.stream)

    def _vector(self, i: int, step: Step) -> str:
        f, b = self.f, self.f.b
        if i in self.blocks or i in self.done:
            dtype = dtype_of(f.kernel, i)
            start = self.blocks.get(i) or self.buffers[i]
            place = b.offset(start, step.at, stored_scalar(dtype))
            return load(b, dtype, Address(place), step.mask)
        match f.kernel.body[i]:
            case Load():
                return self.accesses[i].load(step)
            case Index(dtype=dtype):
                kind = dtype if dtype.kind in "iu" else _INT64
                with b.lanes(1):
                    first = ops.convert(b, step.at, _INT64, kind)
                places = b.splat(first)
                if b.width > 1:
                    places = b.binary("add", places, b.iota(ops.scalar_of(kind)))
                return ops.convert(b, places, kind, dtype)
            case Compute(op=op, args=args, dtype=dtype) as instr:
                return ops.emit(b, op, f.operands(instr, LANE), _kinds(f, args), dtype)
            case Scan():
                return self.scans[i].at(step)
        raise AssertionError("no other instruction has a value for each element")
