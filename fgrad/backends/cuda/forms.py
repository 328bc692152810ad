"""Which shape the code of a kernel has: how its elements are divided among threads.

::

    flat      a thread computes neighbours along the last axis of some row; nothing is ordered
    tiled     a block computes a tile of two axes, since operands lie along the one or the other
    columns   the same, but walks over the other inner axes: scans that leave the last axis out
    rows      a team of threads computes a row, or a part of a long one, pass by pass

A form depends on sizes and maps alone, never on the device, so that sums have one order.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from fgrad.backends.cuda.passes import LANE, SEGMENT, Passes, levels, map_level, passes_of
from fgrad.backends.cuda.types import dtype_of
from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Bound,
    Fold,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
    remembered,
    uses,
)

FLAT, TILED, COLUMNS, ROWS = "flat", "tiled", "columns", "rows"
THREADS = 256  # of a block, unless a row takes more
MOST = 1024  # threads of a block
WARP = 32
CHAIN = 64  # additions that one accumulator takes before another takes over
BUSY = 1024  # threads that keep a multiprocessor busy
_BUSY = 132 * BUSY  # a large device
_ROOM = 40  # registers of a thread for values that are kept; there are 64, if `BUSY` threads fit
_LONG = 1 << 15  # elements of a row from which several blocks may share it
_STRETCH, _STRETCHES = 32, 64  # of scans that leave the last axis out: least length, most of them
_TILE = 16  # elements along two axes from which tiles pay
_STAGED = 4  # operands that go through a block's memory at most
_RANGES = 512  # blocks that share a row at most


@dataclass(frozen=True, slots=True)
class Form:
    """What code depends on beside the kernel's instructions.

    Attributes:
        scheme: 'flat', 'tiled', 'columns' or 'rows'.
        lanes: Neighbouring elements that a thread computes together.
        vectors: The instructions that access those of an operand at once.
        wide: Whether an index may need 64 bits.
        team: Threads of a row.
        teams: Rows that a block computes side by side.
        items: How many times `lanes` elements a thread has of a row (or of its block's range), all
            held in registers; 0 if it walks over the row, once for each pass.
        exact: Whether groups of lanes fill the row.
        split: Whether several blocks share a row, and each pass is a launch of its own; or whether
            several threads share what is scanned.
        segments: Whether parts of a team walk over segments of a row, since some are folded.
        part: The threads of such a part.
        axis: Of a tile the axis beside the last.
        side: Of a tile the elements along each of the two.
        staged: The loads of neighbours along `axis`.
    """

    scheme: str
    lanes: int
    vectors: tuple[int, ...]
    wide: bool
    team: int = 1
    teams: int = THREADS
    items: int = 0
    exact: bool = False
    split: bool = False
    segments: bool = False
    part: int = 1
    axis: int = 0
    side: int = 0
    staged: tuple[int, ...] = ()

    @property
    def threads(self) -> int:
        """The threads of a block."""
        return self.team * self.teams


@remembered
def form_of(kernel: Kernel) -> Form:
    """The form of a kernel."""
    wide = _is_wide(kernel)
    ordered = [i for i in kernel.body if isinstance(i, Reduce | Scan | Accumulate | Fold)]
    if not ordered and kernel.length and not _meets_itself(kernel):
        axis, staged = _transposed(kernel)
        if staged:
            narrow = all(_width(kernel, v) < 4 for v in staged)
            return Form(TILED, 1, (), wide, axis=axis, side=64 if narrow else 32, staged=staged)
        lanes, vectors = _lanes(kernel, tail=not kernel.outer and len(kernel.inner) == 1)
        items = _stretch(kernel, lanes)
        if items:
            exact = kernel.length % (THREADS * lanes * items) == 0
            return Form(ROWS, lanes, vectors, wide, THREADS, 1, items, exact)
        return Form(FLAT, lanes, vectors, wide, exact=kernel.inner[-1] % lanes == 0)
    lanes, vectors = _lanes(kernel, tail=False)
    if kernel.length and any(isinstance(i, Scan) and i.free for i in ordered):
        threads = kernel.rows * -(-kernel.inner[-1] // lanes)
        few = threads < _BUSY and prod(kernel.inner[:-1]) >= 2 * _STRETCH
        return Form(COLUMNS, lanes, vectors, wide, split=few and _is_splittable(kernel))
    return _rows(kernel, lanes, vectors, wide)


@remembered
def passes(kernel: Kernel) -> Passes:
    """The passes of a kernel in its form."""
    return passes_of(kernel, keep=form_of(kernel).items > 0)


@remembered
def accumulates(kernel: Kernel) -> list[int]:
    """The positions of the `Accumulate` of a kernel."""
    return [i for i, instr in enumerate(kernel.body) if isinstance(instr, Accumulate)]


def accumulator(kernel: Kernel, i: int) -> "np.dtype[np.generic]":
    """The dtype in which a `Reduce`, `Accumulate` or `Fold` collects, or the total of a `Scan`.

    Products of float32 collect in float64: in which order factors come must not decide whether
    part of the product leaves the range of numbers.
    """
    instr = kernel.body[i]
    if isinstance(instr, Scan):
        return instr.dtype
    assert isinstance(instr, Reduce | Accumulate | Fold)
    dtype = dtype_of(kernel, instr.arg)
    return np.dtype("d") if instr.monoid == "mul" and dtype == np.float32 else dtype


def ranges(kernel: Kernel) -> int:
    """The blocks that share a row; the stretches of a scan that leaves the last axis out."""
    form = form_of(kernel)
    if form.scheme == COLUMNS and form.split:
        threads = kernel.rows * -(-kernel.inner[-1] // form.lanes)
        most = prod(kernel.inner[:-1]) // _STRETCH
        return min(most, _STRETCHES, max(1, 2 * _BUSY // max(1, threads)))
    if form.scheme != ROWS:
        return 1
    if form.items:
        return max(1, -(-kernel.length // (form.team * form.lanes * form.items)))
    if not form.split:
        return 1
    step = form.team * form.lanes
    most = max(1, -(-kernel.length // (8 * step)))
    return min(most, _RANGES, max(1, 2 * _BUSY // (form.team * max(1, kernel.rows))))


def span(kernel: Kernel) -> int:
    """The elements of a row that one block has, or a stretch of each of its columns."""
    form = form_of(kernel)
    if form.scheme == COLUMNS:
        return -(-prod(kernel.inner[:-1]) // ranges(kernel))
    step = form.team * form.lanes * max(1, form.items)
    return step * -(-kernel.length // (step * ranges(kernel)))


def rows_per_team(kernel: Kernel) -> int:
    """The rows that a team accumulates one after the other."""
    if not accumulates(kernel):
        return 1
    form = form_of(kernel)
    several = 1 if any(isinstance(i, Reduce) for i in kernel.body) else 2
    blocks = several * _BUSY // form.threads
    return min(CHAIN, max(1, -(-kernel.rows * ranges(kernel) // (blocks * form.teams))))


def partials(kernel: Kernel) -> int:
    """The partial results that are added up for one kept index."""
    form = form_of(kernel)
    return chunks(kernel) * (1 if form.items else form.teams)


def combiners(kernel: Kernel) -> int:
    """The threads that share the partial results of one result: fewer if there are many results."""
    return 4 if prod(kernel.outer[: kernel.kept]) * kernel.length >= _LONG else WARP


def chunks(kernel: Kernel) -> int:
    """The blocks that share the rows of one kept index."""
    if not accumulates(kernel):
        return -(-kernel.rows // form_of(kernel).teams)
    rest = prod(kernel.outer[kernel.kept :])
    return -(-rest // (form_of(kernel).teams * rows_per_team(kernel)))


# How many lanes


def _lanes(kernel: Kernel, *, tail: bool) -> tuple[int, tuple[int, ...]]:
    """The elements that a thread should compute together, and which accesses are vectors then.

    As many as make 16 bytes of the widest operand that has an element for each. Without `tail` they
    must divide the last axis.
    """
    level = levels(kernel)
    size = kernel.inner[-1]
    steps = [i for i, instr in enumerate(kernel.body)
             if isinstance(instr, MAPPED) and instr.map.strides[-1] == 1]  # fmt: skip
    most = 4 if any(isinstance(i, Scan) for i in kernel.body) else 8
    for lanes in (n for n in (8, 4, 2) if n <= most):
        if size < lanes or (size % lanes and not tail):
            continue
        found = tuple(i for i in steps if _is_vector(kernel, i, lanes, level))
        widest = max(map(_width, [kernel] * len(found), found), default=16)
        all_over = [_width(kernel, i) for i in found if _is_everywhere(kernel, i)]
        if found and lanes * max(all_over, default=widest) <= 16:
            return lanes, found
    return 1, ()


def _width(kernel: Kernel, i: int) -> int:
    instr = kernel.body[i]
    assert isinstance(instr, MAPPED)
    return kernel.operands[instr.operand].dtype.itemsize


def _is_everywhere(kernel: Kernel, i: int) -> bool:
    """Whether an instruction accesses an element of its own at each index."""
    instr = kernel.body[i]
    assert isinstance(instr, MAPPED)
    sizes = (*kernel.outer, *kernel.inner)
    return all(s or n == 1 for s, n in zip(instr.map.strides, sizes, strict=True))


def _is_vector(kernel: Kernel, i: int, lanes: int, level: list[int]) -> bool:
    """Whether all places where a map starts are multiples of the vector."""
    instr = kernel.body[i]
    if isinstance(instr, Accumulate | Fold) or not isinstance(instr, MAPPED):
        return False
    bounds: tuple[Bound, ...] = instr.bounds if isinstance(instr, Load) else ()
    if any(map_level(b, kernel, level) == LANE for b in bounds):
        return False
    m, sizes = instr.map, (*kernel.outer, *kernel.inner)
    if any(level[v] == LANE for v, _ in m.indirect):
        return False
    steps = [s for s, n in zip(m.strides[:-1], sizes[:-1], strict=True) if n > 1]
    steps += [s for _, s in m.indirect]
    return m.offset % lanes == 0 and all(s % lanes == 0 for s in steps)


def _stretch(kernel: Kernel, lanes: int) -> int:
    """How many groups of lanes of one long row a thread should compute where nothing is ordered.

    What belongs to the row is then computed once for them. 0: rows are too short for that.
    """
    if not kernel.outer or len(kernel.inner) > 1:
        return 0
    groups = -(-kernel.length // lanes)
    for items in (4, 2):
        step = THREADS * items
        if -(-groups // step) * step <= groups + groups // 8:
            return items
    return 0


# Transposes


def _transposed(kernel: Kernel) -> tuple[int, tuple[int, ...]]:
    """An axis beside the last, and the loads whose elements are neighbours along it."""
    level = levels(kernel)
    sizes = (*kernel.outer, *kernel.inner)
    found: dict[int, list[int]] = {}
    for v, instr in enumerate(kernel.body):
        if isinstance(instr, Load) and level[v] == LANE and abs(instr.map.strides[-1]) > 1:
            for axis, step in enumerate(instr.map.strides[:-1]):
                plain = not instr.bounds and not instr.map.indirect
                if plain and abs(step) == 1 and min(sizes[axis], sizes[-1]) >= _TILE:
                    found.setdefault(axis, []).append(v)
    axis = max(found, key=lambda a: len(found[a]), default=0)
    return axis, tuple(found.get(axis, ())[:_STAGED])


# Indices


def extent(m: Map | Bound, sizes: tuple[int, ...]) -> int:
    """How far from 0 what a map adds up can be, indirect terms aside."""
    return abs(m.offset) + sum(abs(s) * max(0, n - 1)
                               for s, n in zip(m.strides, sizes, strict=True))  # fmt: skip


def _is_wide(kernel: Kernel) -> bool:
    sizes = (*kernel.outer, *kernel.inner)
    far = prod(sizes) + 2 * MOST * 16 * CHAIN
    for instr in kernel.body:
        if isinstance(instr, MAPPED):
            far = max(far, extent(instr.map, sizes))
        if isinstance(instr, Load):
            far = max(far, *(max(extent(b, sizes), b.size) for b in instr.bounds), 0)
    return far >= 2**31


def _meets_itself(kernel: Kernel) -> bool:
    """Whether a store may overwrite an element that other threads of a row still read.

    That is one for each segment, in the memory of a load of the same map.
    """
    level = levels(kernel)
    loads = [
        i.map for k, i in enumerate(kernel.body) if isinstance(i, Load) and level[k] == SEGMENT
    ]
    return any(isinstance(i, Store) and i.map.strides[-1] == 0 and i.map in loads
               for i in kernel.body)  # fmt: skip


# Teams


def _rows(kernel: Kernel, lanes: int, vectors: tuple[int, ...], wide: bool) -> Form:
    body, n = kernel.body, max(1, kernel.length)
    if any(isinstance(i, Fold) for i in body) or _meets_itself(kernel):
        ordered = any(isinstance(i, Scan) for i in body)  # over segments, one after the other
        team = 1 if ordered else min(256, _power(n))
        teams = THREADS // team if team <= WARP else 1
        part = min(WARP, team, _power(max(1, -(-kernel.inner[-1] // lanes))))
        return Form(ROWS, lanes, vectors, wide, team, teams, segments=True, part=part)
    reduces = any(isinstance(i, Reduce | Scan) for i in body)
    if not reduces:
        team = min(64, _power(-(-n // lanes)))
        exact = kernel.length > 0 and kernel.length % (team * lanes) == 0
        return Form(ROWS, lanes, vectors, wide, team, THREADS // team, 1, exact)
    held = _held(kernel)
    for team in (1 << k for k in range(11)):
        items = -(-n // (team * lanes))
        if items == 1 or _fits(kernel, team, items * lanes, held):
            teams = THREADS // team if team <= WARP else 1
            exact = kernel.length == team * lanes * items
            return Form(ROWS, lanes, vectors, wide, team, teams, items, exact)
    alone = not any(isinstance(i, Accumulate) for i in body) and _is_splittable(kernel)
    split = alone and n >= _LONG and kernel.rows * MOST < _BUSY
    # A row is read again in each pass: fewer rows at a time stay in the caches.
    return Form(ROWS, lanes, vectors, wide, 512 if split else MOST, 1, split=split)


def _is_splittable(kernel: Kernel) -> bool:
    """Whether the scans of a kernel can go on from reductions of what lies ahead.

    Products of floats cannot, whose order must stay, nor scans of scans.
    """
    above: set[int] = set()
    for v, instr in enumerate(kernel.body):
        scanned = not above.isdisjoint(uses(instr))
        if isinstance(instr, Scan):
            ordered = "mul" in instr.monoid and instr.dtype.kind == "f"
            if scanned or ordered:
                return False
        if scanned or isinstance(instr, Scan):
            above.add(v)
    return True


def _fits(kernel: Kernel, team: int, elements: int, held: int) -> bool:
    """Whether a team's threads should take that many elements of a row into registers each."""
    if team < WARP or (team < MOST and kernel.rows * team < _BUSY // 2):
        return False
    # A warp alone meets no barriers; from 512 threads on, more of them would leave no room.
    most = 32 if team == WARP or team >= 512 else 16
    return elements <= most and elements * held <= _ROOM


def _power(n: int) -> int:
    """The least power of two that is not less than a number."""
    return 1 << max(0, n - 1).bit_length()


def _held(kernel: Kernel) -> int:
    """The registers that one element of a row takes while a pass ends, and what accumulates."""
    plan = passes_of(kernel, keep=True)
    sums = sum(_registers(accumulator(kernel, i)) for p in plan.passes for i in p.accumulates)
    ends = range(len(plan.passes))
    most = max(sum(_registers(dtype_of(kernel, v)) for v, (home, last) in plan.kept.items()
                   if home <= end < last) for end in ends)  # fmt: skip
    return max(1, most + sums)


def _registers(dtype: "np.dtype[np.generic]") -> int:
    return 2 if dtype.itemsize == 8 else 1
