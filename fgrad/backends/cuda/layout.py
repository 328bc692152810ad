"""What the functions of a kernel are given, and what decides which code they are.

A kernel is one function or several, launched one after the other (`launches`), each::

    extern "C" __global__ void NAME<suffix>(T0* p0, …, void* scratch, const NAME_words w)

with a pointer for each operand, to its element 0, which lies at a multiple of 16 bytes; a pointer
to `scratch_bytes` of memory, whose contents do not matter, at a multiple of 16 bytes too (null if
that is 0); and `words(kernel)`, a structure of 64-bit integers passed by value. Blocks and grids
have one axis.

The words of a kernel are the sizes of its axes, then what follows from sizes (how rows are divided
among blocks, where partial results lie), then, for each instruction, the offset, strides and
indirect strides of its map and bounds, and the bits of its number. Offsets of 0 and strides of 0 or
1 are part of the code instead. The code depends on `key` alone: kernels of one key differ in words
and in numbers of blocks, and one launch can do the work of several (`batches`).
"""

import struct
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

from fgrad.backends.cuda.axes import tidy
from fgrad.backends.cuda.forms import (
    COLUMNS,
    FLAT,
    ROWS,
    THREADS,
    TILED,
    WARP,
    accumulates,
    accumulator,
    chunks,
    combiners,
    form_of,
    partials,
    passes,
    ranges,
    rows_per_team,
    span,
)
from fgrad.backends.cuda.passes import ROW, totals
from fgrad.backends.cuda.types import number_bits, special
from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Bound,
    Compute,
    Const,
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

COMBINE, BATCH = "_combine", "_batch"
ALIGNMENT = 16  # bytes, of operands and of scratch memory

PARAMETER_BYTES = 32_764  # that a launch may be given, since CUDA 12.1

Key = tuple[Any, ...]


class Function(NamedTuple):
    """A function of a kernel to launch.

    Attributes:
        suffix: What follows the kernel's name in its own.
        grid: The number of blocks.
        block: The threads of each.
        shared: The bytes of dynamic shared memory of each.
    """

    suffix: str
    grid: int
    block: int
    shared: int


@remembered
def launches(kernel: Kernel) -> tuple[Function, ...]:
    """The functions to launch for a kernel, in order; none if there is nothing to compute."""
    return tuple(f for f in _functions(tidy(kernel)) if f.grid)


def _functions(kernel: Kernel) -> list[Function]:
    found = []
    form = form_of(kernel)
    if form.scheme == TILED:
        found.append(Function("", _tiles(kernel), THREADS, 0))
        return found
    if form.scheme == ROWS:
        grid = blocks(kernel) * ranges(kernel)
    else:
        grid = -(-groups(kernel) * ranges(kernel) // THREADS)
    for position in range(len(steps(kernel))):
        found.append(Function(step_suffix(position), grid, form.threads, 0))  # noqa: PERF401
    if accumulates(kernel):
        grid = sum(map(_combining, [kernel] * len(accumulates(kernel)), accumulates(kernel)))
        found.append(Function(COMBINE, grid, WARP * combiners(kernel), 0))
    return found


def _tiles(kernel: Kernel) -> int:
    form, end = form_of(kernel), len(kernel.outer) + len(kernel.inner) - 1
    return prod(-(-n // form.side) if axis in (form.axis, end) else n
                for axis, n in enumerate((*kernel.outer, *kernel.inner)))  # fmt: skip


class Step(NamedTuple):
    """What a function of a kernel does.

    Attributes:
        number: The pass that it runs; after the last one: what follows it.
        totals: Whether it only reduces what that pass scans.
    """

    number: int
    totals: bool = False


def steps(kernel: Kernel) -> list[Step]:
    """What the functions that compute rows do: the one everything, or each a pass."""
    form, plan = form_of(kernel), passes(kernel)
    if not form.split:
        return [Step(0)]
    found = []
    for number in range(len(plan.passes)):
        if totals(kernel, plan, number):
            found.append(Step(number, totals=True))
        found.append(Step(number))
    if plan.passes[-1].reduces:
        found.append(Step(len(plan.passes)))
    return found


def step_suffix(position: int) -> str:
    """The suffix of one of the functions that compute rows."""
    return f"_{position}" if position else ""


def groups(kernel: Kernel) -> int:
    """The threads of a kernel of form 'flat' or 'columns' that have something to do."""
    form = form_of(kernel)
    rows = kernel.rows if form.scheme == COLUMNS else kernel.rows * prod(kernel.inner[:-1])
    return rows * -(-kernel.inner[-1] // form.lanes)


def blocks(kernel: Kernel) -> int:
    """The blocks of a kernel of form 'rows', not counting those that share a row."""
    return chunks(kernel) * (prod(kernel.outer[: kernel.kept]) if accumulates(kernel) else 1)


def _combining(kernel: Kernel, i: int) -> int:
    """The blocks that add up the partial results of an `Accumulate`, `WARP` results each."""
    return prod(kernel.outer[: kernel.kept]) * -(-partial_size(kernel, i) // WARP)


def partial_size(kernel: Kernel, i: int) -> int:
    """The results of an `Accumulate` for one kept index."""
    return 1 if passes(kernel).level[i] == ROW else kernel.length


@remembered
def scratch_bytes(kernel: Kernel) -> int:
    """The bytes of memory that a launch needs beside its operands."""
    kernel = tidy(kernel)
    return sum(size for _, size in _scratch(kernel))


def _scratch(kernel: Kernel) -> Iterator[tuple[str, int]]:
    """What lies in scratch memory: partial results, each with its size in bytes."""
    units = partials(kernel) * prod(kernel.outer[: kernel.kept])
    for i in accumulates(kernel):
        count = units * partial_size(kernel, i)
        yield f"at{i}", _aligned(count * accumulator(kernel, i).itemsize)
    if form_of(kernel).split:
        columns = form_of(kernel).scheme == COLUMNS
        results = groups(kernel) * form_of(kernel).lanes if columns else kernel.rows
        for i, instr in enumerate(kernel.body):
            if isinstance(instr, Reduce | Scan):
                count = results * ranges(kernel)
                yield f"at{i}", _aligned(count * accumulator(kernel, i).itemsize)


def _offsets(kernel: Kernel) -> Iterator[tuple[str, int]]:
    """Where in scratch memory what lies."""
    offset = 0
    for name, size in _scratch(kernel):
        yield name, offset
        offset += size


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


# Words


@remembered
def words(kernel: Kernel) -> bytes:
    """The structure of words that the functions of a kernel are given."""
    values = list(fields(kernel).values())
    return struct.pack(f"<{len(values)}q", *values)


@remembered
def fields(kernel: Kernel) -> dict[str, int]:
    """The words of a kernel by name, in order."""
    kernel = tidy(kernel)
    found: dict[str, int] = {}
    for axis, size in enumerate((*kernel.outer, *kernel.inner)):
        found[f"n{axis}"] = size
    form = form_of(kernel)
    if form.scheme in (FLAT, COLUMNS):
        found["groups"] = groups(kernel)
        found["across"] = -(-kernel.inner[-1] // form.lanes)
        found["segments"] = prod(kernel.inner[:-1])
        found["ranges"] = ranges(kernel)
        found["span"] = span(kernel)
        found.update(_offsets(kernel))
    elif form.scheme == ROWS:
        kept = kernel.kept if accumulates(kernel) else 0
        found["rows"] = prod(kernel.outer[kept:])
        found["length"] = kernel.length
        found["chunks"] = chunks(kernel)
        found["per"] = rows_per_team(kernel)
        found["ranges"] = ranges(kernel)
        found["span"] = span(kernel)
        found.update(_offsets(kernel))
        if accumulates(kernel):
            found["kept"] = prod(kernel.outer[:kept])
            found["partials"] = partials(kernel)
        if form.segments:
            found["segments"] = prod(kernel.inner[:-1])
    for i, instr in enumerate(kernel.body):
        found.update(_instruction(i, instr))
    return found


def _instruction(i: int, instr: Any) -> Iterator[tuple[str, int]]:
    if isinstance(instr, MAPPED):
        yield from _map_words(f"m{i}", instr.map)
    if isinstance(instr, Load):
        for k, bound in enumerate(instr.bounds):
            yield f"b{i}_{k}_size", bound.size
            yield from _map_words(f"b{i}_{k}", bound)
        if instr.bounds and special(instr.fill, instr.dtype) is None:
            yield f"c{i}", number_bits(instr.fill, instr.dtype)
    if isinstance(instr, Const) and special(instr.value, instr.dtype) is None:
        yield f"c{i}", number_bits(instr.value, instr.dtype)


def _map_words(name: str, m: Map | Bound) -> Iterator[tuple[str, int]]:
    if m.offset:
        yield f"{name}_o", m.offset
    for axis, (s, kind) in enumerate(zip(m.strides, stride_classes(m), strict=True)):
        if kind > 1:
            yield f"{name}_{axis}", s
    for k, (_, s) in enumerate(m.indirect):
        yield f"{name}_v{k}", s


def stride_classes(m: Map | Bound) -> tuple[int, ...]:
    """For each axis 0 or 1, if that is the stride, or 2."""
    return tuple(s if s in (0, 1) else 2 for s in m.strides)


# Several kernels at once


def batches(kernels: Sequence[Kernel], limit: int = PARAMETER_BYTES) -> list[list[int]]:
    """Which kernels can be launched together: positions in groups, some of one kernel alone.

    Args:
        kernels: Kernels none of which needs another's results.
        limit: The most bytes of parameters of a launch.
    """
    found: dict[Hashable, list[list[int]]] = {}
    for i, kernel in enumerate(kernels):
        groups = found.setdefault(key(kernel), [])
        if not groups or _parameter_bytes(kernel, len(groups[-1]) + 1) > limit:
            groups.append([])
        groups[-1].append(i)
    return [group for groups in found.values() for group in groups]


def _parameter_bytes(kernel: Kernel, count: int) -> int:
    each = 8 * len(kernel.operands) + len(words(kernel)) + 8
    starts = 8 * len(_functions(tidy(kernel))) * (count + 1)
    return count * each + starts + 8


def batch_launches(kernels: Sequence[Kernel]) -> tuple[Function, ...]:
    """The functions of `code.batch_source` to launch for kernels of one key, in order.

    A function has two parameters: a structure of pointers, those to the operands of each kernel one
    after the other and then the one to scratch memory; and `batch_words`.
    """
    found = []
    for members in zip(*(_functions(tidy(k)) for k in kernels), strict=True):
        first = members[0]
        grid = sum(f.grid for f in members)
        found.append(first._replace(suffix=BATCH + first.suffix, grid=grid))
    return tuple(f for f in found if f.grid)


def batch_words(kernels: Sequence[Kernel]) -> bytes:
    """The words that the functions of a batch are given."""
    values: list[int] = []
    for members in zip(*(_functions(tidy(k)) for k in kernels), strict=True):
        values += accumulate((f.grid for f in members), initial=0)
    offsets = list(accumulate((scratch_bytes(k) for k in kernels), initial=0))
    values += offsets[:-1]
    return struct.pack(f"<{len(values)}q", *values) + b"".join(map(words, kernels))


def batch_scratch_bytes(kernels: Sequence[Kernel]) -> int:
    """The bytes of memory that a batch needs beside its operands."""
    return sum(map(scratch_bytes, kernels))


# Which code


@remembered
def key(kernel: Kernel) -> Hashable:
    """What the code of a kernel depends on."""
    kernel = tidy(kernel)
    operands = tuple((op.dtype.name, op.written) for op in kernel.operands)
    body = tuple(_shape(instr) for instr in kernel.body)
    sums = (kernel.kept, combiners(kernel)) if accumulates(kernel) else ()
    return (len(kernel.outer), len(kernel.inner), sums, form_of(kernel), operands, body)


def _shape(instr: Any) -> Key:
    match instr:
        case Load(operand=o, map=m, dtype=dtype, bounds=bounds, fill=fill):
            parts = tuple(_map_class(bound) for bound in bounds)
            number = special(fill, dtype) if bounds else ""
            return ("load", o, _map_class(m), dtype.num, parts, number)
        case Const(value=value, dtype=dtype):
            return ("const", dtype.num, special(value, dtype))
        case Index(axis=axis, dtype=dtype):
            return ("index", axis, dtype.num)
        case Compute(op=op, args=args, dtype=dtype):
            return (op, args, dtype.num)
        case Reduce(monoid=monoid, arg=arg):
            return ("reduce", monoid, arg)
        case Scan(monoid=monoid, args=args, free=free):
            return ("scan", monoid, args, free)
        case Store(operand=o, map=m, arg=arg):
            return ("store", o, _map_class(m), arg)
        case Accumulate() | Fold():
            kind = type(instr).__name__
            return (kind, instr.operand, _map_class(instr.map), instr.monoid,
                    instr.arg)  # fmt: skip
    raise AssertionError(instr)


def _map_class(m: Map | Bound) -> Key:
    return (bool(m.offset), stride_classes(m), tuple(v for v, _ in m.indirect))
