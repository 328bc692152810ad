"""What the machine code of a kernel is given, and what decides which code that is.

The function of a kernel is ``void NAME(ptr args, i64 lo, i64 hi)``. `args` points to words of 8
bytes::

    one pointer for each operand, to its element 0
    words(kernel):
        PARTIALS   pointer to `shared_bytes` that all calls of a launch share, or 0
        SCRATCH    pointer to `thread_bytes` of this thread alone, or 0
        sizes of the outer, then of the inner axes
        with Accumulate: rows of a unit, units of a kept index, bytes of a unit's partials
        for each instruction: offset, strides and indirect strides of its map; size, offset,
            strides and indirect strides of each bound; the bits of its number
        byte offsets into the partials and into the scratch

The first two words are set by the caller; `scratch` says how many bytes it must provide. What the
words hold is free to change from call to call: the code depends on `structure` alone.

Units of work, of which ``[lo, hi)`` is a range: rows; or blocks of `BLOCK` elements where there is
a single axis and nothing is reduced; or, where scans leave out the last axis, blocks of `COLUMNS`
elements along it of a row; or, with `Accumulate`, blocks of rows. Units are independent,
and so are their results of how they are split among calls. With `Accumulate` a second function,
``NAME_combine``, then adds up the partial results; its units are the kept outer indices.
"""

from collections.abc import Hashable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu.schedule import LANE, ROW, Schedule, dtype_of, schedule
from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Bound,
    Compute,
    Const,
    DType,
    Fold,
    Index,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
    remembered,
)

BLOCK = 4096
TILE = 32  # rows, and elements of each, that are walked together where a kernel transposes
COLUMNS = 512  # elements of a row that a unit takes, if scans leave out the last axis
FLUSH = 64  # rows that one chain of additions covers
# Where a kernel reads and writes so much, what it has written first has left the caches before
# anything reads it: all is written past these.
STREAM_BYTES = 1 << 25
_ALIGNMENT = 64  # bytes: a cache line, and the widest vector

_ORDERED = Reduce | Scan | Accumulate | Fold  # what depends on which elements a row has

Key = tuple[Any, ...]


class Scratch(NamedTuple):
    """Memory that a launch needs beside its operands.

    Attributes:
        shared_bytes: Once for the launch; the word PARTIALS points to it.
        thread_bytes: For each thread; the word SCRATCH points to it.
    """

    shared_bytes: int
    thread_bytes: int


@remembered
def accumulates(kernel: Kernel) -> list[int]:
    """The positions of the `Accumulate` of a kernel."""
    return [i for i, instr in enumerate(kernel.body) if isinstance(instr, Accumulate)]


def is_blocked(kernel: Kernel, plan: Schedule) -> bool:
    """Whether units are blocks of the only axis."""
    if kernel.outer or len(kernel.inner) > 1 or plan.ending:
        return False
    return not any(isinstance(instr, _ORDERED) for instr in kernel.body)


def is_tiled(kernel: Kernel, plan: Schedule) -> bool:
    """Whether a kernel transposes: elements that are neighbours in memory lie in different rows.

    Then it walks over tiles of rows and columns, so that what one row brings into the caches is
    still there for the next.
    """
    if not kernel.outer or len(kernel.inner) > 1 or plan.ending:
        return False
    if any(isinstance(instr, _ORDERED) for instr in kernel.body):
        return False
    maps = [instr.map for instr in kernel.body if isinstance(instr, MAPPED)]
    return any(abs(m.strides[-1]) > 1 and abs(m.strides[-2]) == 1 for m in maps)


def is_by_column(kernel: Kernel) -> bool:
    """Whether scans leave out the last axis: units are blocks of `COLUMNS` along it."""
    return any(isinstance(instr, Scan) and instr.free for instr in kernel.body)


def rows_per_block(kernel: Kernel) -> int:
    """The rows that one unit of a kernel with `Accumulate` covers; it depends on sizes alone."""
    return max(FLUSH, -(-prod(kernel.outer[kernel.kept :]) // 64))


def blocks(kernel: Kernel) -> int:
    """The units of one kept outer index."""
    return -(-prod(kernel.outer[kernel.kept :]) // rows_per_block(kernel))


@remembered
def units(kernel: Kernel) -> int:
    """The number of units of work."""
    if accumulates(kernel):
        return combine_units(kernel) * blocks(kernel)
    if is_by_column(kernel):
        return kernel.rows * -(-kernel.inner[-1] // COLUMNS)
    return -(-kernel.length // BLOCK) if is_blocked(kernel, schedule(kernel)) else kernel.rows


def combine_units(kernel: Kernel) -> int:
    """The number of units of ``NAME_combine``; 0 where there is no such function."""
    return prod(kernel.outer[: kernel.kept]) if accumulates(kernel) else 0


@remembered
def scratch(kernel: Kernel) -> Scratch:
    """The memory that a launch needs beside its operands."""
    offsets = _Offsets(kernel, schedule(kernel))
    return Scratch(offsets.unit_bytes * units(kernel) if offsets.unit_bytes else 0, offsets.bytes)


def scratch_bytes(kernel: Kernel, threads: int) -> int:
    """The bytes that a launch on `threads` threads needs beside its operands."""
    need = scratch(kernel)
    return need.shared_bytes + threads * need.thread_bytes


@remembered
def words(kernel: Kernel) -> list[int]:
    """The words that follow the pointers to operands, as signed integers."""
    return [value for _, value in _walk(kernel, schedule(kernel))]


def word_index(kernel: Kernel, plan: Schedule) -> dict[Key, int]:
    """Where each word stands in the argument block, by what it is."""
    first = len(kernel.operands)
    return {key: first + i for i, (key, _) in enumerate(_walk(kernel, plan))}


def number_bits(value: Any, dtype: DType) -> int:
    """The bits of a number, as a signed word."""
    return int.from_bytes(np.asarray(value).astype(dtype).tobytes().ljust(8, b"\0"), "little",
                          signed=True)  # fmt: skip


def special(value: Any, dtype: DType) -> float | None:
    """The number, if it is one that code may depend on.

    That is 0, 1, ±inf, nan, a truth value, or unsigned and small: a number of bits to shift by.
    """
    if dtype.kind == "b":
        return int(bool(value))
    if dtype.kind == "u" and value < 64:
        return int(value)
    bits = number_bits(value, dtype)
    candidates: tuple[float, ...] = (0, 1)
    if dtype.kind == "f":
        candidates = (0.0, 1.0, np.inf, -np.inf, np.nan)
    return next((c for c in candidates if number_bits(c, dtype) == bits), None)


class _Offsets:
    """Where partial results lie within a unit's, and values within a thread's scratch."""

    def __init__(self, kernel: Kernel, plan: Schedule) -> None:
        self.unit_bytes = self.bytes = 0
        self.found: list[tuple[Key, int]] = []
        for i in accumulates(kernel):
            count = 1 if plan.level[i] == ROW else kernel.length
            size = _aligned(count * accumulator(kernel, i).itemsize)
            self.found.append((("partial", i), self.unit_bytes))
            self.unit_bytes += size
            if compensates(kernel, i):
                self._private(("sum", i), size)
                self._private(("carry", i), size)
        for i, instr in enumerate(kernel.body):
            if isinstance(instr, Scan) and instr.free:
                size = _aligned(min(COLUMNS, kernel.inner[-1]) * instr.dtype.itemsize)
                for k in range(states(kernel, i)):
                    self._private(("state", i, k), size)
        for v in plan.kept:
            self._private(("kept", v), _aligned(kernel.length * dtype_of(kernel, v).itemsize))

    def _private(self, key: Key, size: int) -> None:
        self.found.append((key, self.bytes))
        self.bytes += size


def accumulator(kernel: Kernel, i: int) -> DType:
    """The dtype in which a `Reduce`, `Accumulate` or `Fold` collects.

    Products of float32 collect in float64: in which order factors come must not decide whether
    part of the product leaves the range of numbers.
    """
    instr = kernel.body[i]
    assert isinstance(instr, Reduce | Accumulate | Fold)
    dtype = dtype_of(kernel, instr.arg)
    return np.dtype("d") if instr.monoid == "mul" and dtype == np.float32 else dtype


def compensates(kernel: Kernel, i: int) -> bool:
    """Whether a reduction or accumulation adds floats, whose rounding errors it must carry."""
    instr = kernel.body[i]
    if isinstance(instr, Scan):
        sums = instr.monoid == "add" and instr.dtype.kind == "f"
        return sums and not is_short(kernel, instr)
    assert isinstance(instr, Reduce | Accumulate | Fold)
    return instr.monoid == "add" and dtype_of(kernel, instr.arg).kind == "f"


def states(kernel: Kernel, i: int) -> int:
    """The numbers that a `Scan` has to remember from one element to the next."""
    instr = kernel.body[i]
    assert isinstance(instr, Scan)
    return 2 if compensates(kernel, i) or len(instr.args) == 2 else 1


def is_short(kernel: Kernel, scan: Scan) -> bool:
    """Whether a scan is no longer than one chain of additions may be."""
    return prod(kernel.inner[:-1] if scan.free else kernel.inner) <= FLUSH


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _walk(kernel: Kernel, plan: Schedule) -> Iterator[tuple[Key, int]]:
    """All words in order, each with its key."""
    yield ("partials",), 0
    yield ("scratch",), 0
    for axis, size in enumerate((*kernel.outer, *kernel.inner)):
        yield ("size", axis), size
    offsets = _Offsets(kernel, plan)
    if accumulates(kernel):
        yield ("rows_per_block",), rows_per_block(kernel)
        yield ("blocks",), blocks(kernel)
        yield ("unit_bytes",), offsets.unit_bytes
    for i, instr in enumerate(kernel.body):
        match instr:
            case Load(map=m, bounds=bounds, fill=fill, dtype=dtype):
                yield from _map_words(("map", i), m)
                for k, bound in enumerate(bounds):
                    yield ("bound", i, k, "size"), bound.size
                    yield from _map_words(("bound", i, k), bound)
                if bounds:
                    yield ("number", i), number_bits(fill, dtype)
            case Store(map=m) | Accumulate(map=m) | Fold(map=m):
                yield from _map_words(("map", i), m)
            case Const(value=value, dtype=dtype):
                yield ("number", i), number_bits(value, dtype)
    yield from offsets.found


def _map_words(key: Key, m: Map | Bound) -> Iterator[tuple[Key, int]]:
    yield (*key, "offset"), m.offset
    for axis, stride in enumerate(m.strides):
        yield (*key, axis), stride
    for k, (_, stride) in enumerate(m.indirect):
        yield (*key, "indirect", k), stride


# Which code


@remembered
def structure(kernel: Kernel) -> Hashable:
    """What the code of a kernel depends on, beside the machine.

    Sizes, strides, offsets and ordinary numbers are not part of it: kernels that differ in these
    alone have the same code, on either side of `STREAM_BYTES`, if the same operands change from
    row to row.
    """
    first = len(kernel.outer)
    operands = tuple((op.dtype.name, op.written) for op in kernel.operands)
    body = tuple(
        ("scan", instr.monoid, instr.args, instr.free, is_short(kernel, instr))
        if isinstance(instr, Scan) else _shape(instr, first)
        for instr in kernel.body
    )  # fmt: skip
    kept = kernel.kept if accumulates(kernel) else 0
    plan = schedule(kernel)
    chosen = (tuple(tuple(p.ahead) for p in plan.passes), tuple(plan.homes.items()))
    tiled = is_tiled(kernel, plan)
    return (first, len(kernel.inner), kept, streams(kernel), tiled, chosen, operands, body)


def streams(kernel: Kernel) -> bool:
    """Whether a kernel reads and writes so much that its results bypass the caches."""
    written = sum(
        kernel.operands[instr.operand].dtype.itemsize
        for instr in kernel.body
        if isinstance(instr, Store) and instr.map.strides[-1] == 1
    )
    if not written:
        return False
    read: dict[int, int] = {}
    for instr in kernel.body:
        if isinstance(instr, Load):
            size = kernel.operands[instr.operand].dtype.itemsize * visited(kernel, instr.map)
            read[instr.operand] = max(read.get(instr.operand, 0), size)
    return kernel.rows * kernel.length * written + sum(read.values()) >= STREAM_BYTES


def visited(kernel: Kernel, m: Map) -> int:
    """The number of elements that a map visits, as far as computed indices do not repeat any."""
    sizes = (*kernel.outer, *kernel.inner)
    return prod(n for n, stride in zip(sizes, m.strides, strict=True) if stride or m.indirect)


def _shape(instr: Any, first: int) -> Key:
    match instr:
        case Load(operand=o, map=m, dtype=dtype, bounds=bounds, fill=fill):
            parts = tuple(map_class(bound, first) for bound in bounds)
            number = repr(special(fill, dtype)) if bounds else ""
            return ("load", o, map_class(m, first), dtype.num, parts, number)
        case Const(value=value, dtype=dtype):
            return ("const", dtype.num, repr(special(value, dtype)))
        case Index(axis=axis, dtype=dtype):
            return ("index", axis, dtype.num)
        case Compute(op=op, args=args, dtype=dtype):
            return (op, args, dtype.num)
        case Reduce(monoid=monoid, arg=arg):
            return ("reduce", monoid, arg)
        case Store(operand=o, map=m, arg=arg):
            return ("store", o, map_class(m, first), arg)
        case _:
            kind = type(instr).__name__  # Accumulate or Fold
            return (kind, instr.operand, map_class(instr.map, first), instr.monoid,
                    instr.arg)  # fmt: skip


def map_class(m: Map | Bound, first: int) -> Key:
    """What code depends on of a map: how it steps along the last axis, whether along others."""
    last = m.strides[-1]
    step = last if last in (-1, 0, 1) else 2
    return (step, any(m.strides[first:-1]), tuple((v, s == 1) for v, s in m.indirect))


def lanes(kernel: Kernel, vector_bytes: int) -> int:
    """The elements that vectors should have on a machine with vectors of `vector_bytes`.

    As many as fill a register with what the kernel computes in most: 32-bit values, or narrower or
    wider ones where it has no others. A vector of wider values takes several registers.
    """
    level = schedule(kernel).level
    sizes = {dtype_of(kernel, i).itemsize for i, instr in enumerate(kernel.body)
             if level[i] == LANE and isinstance(instr, Load | Index | Compute | Scan)}  # fmt: skip
    size = 4 if 4 in sizes or not sizes else max(sizes) if max(sizes) < 4 else 8
    return max(1, vector_bytes // size)
