"""The order in which a kernel's instructions run: passes over the row, and what each computes.

A value varies with the row alone (ROW), with the row and its axes but the last (SEGMENT), or with
all axes (LANE). The first two are scalars; the third is a vector along the last axis.

Each pass computes what its results need once more, from loads and cheap operations on. Where a
later pass needs a costly value too, that value, or the one that is left of it, is kept in a buffer
of the length of a row. Stores of costly values run as soon as these are there; others in the last
pass, or after it. A store whose value is there before the last pass overwrites nothing that is
read (see `Kernel.operands`).
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fgrad.compile.kernel import (
    CONVERSIONS,
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
    stages,
    uses,
)

ROW, SEGMENT, LANE = 0, 1, 2
THIS_ROW, NEXT_ROW, FURTHER_ON = "this row", "next row", "further on"

# The cost of an operation, relative to an addition; what costs more than KEEP is kept.
_COSTS = {"div": 4, "rem": 12, "sqrt": 4, "nextafter": 8}
_ELEMENTARY = 20
_CHEAP = frozenset(
    {"add", "sub", "mul", "neg", "abs", "sign", "min", "max", "floor", "ceil", "rint", "trunc"}
    | {"copysign", "eq", "ne", "lt", "le", "gt", "ge", "isfinite", "isnan", "and", "or", "xor"}
    | {"not", "shl", "shr", "sar", "popcount", "clz", "select", *CONVERSIONS}
)
KEEP = 16
_BUFFER = 4  # of writing a value to a buffer and reading it
_MUCH = 12


@dataclass(slots=True)
class Pass:
    """One pass over the row.

    Attributes:
        before: Row values to compute ahead of it.
        body: Values to compute for each segment or element, in order.
        reduces: The `Reduce` that take their argument from it.
        accumulates: The `Accumulate` of full values that run in it.
        folds: The `Fold` that run in it.
        stores: The `Store` that run in it.
        keep: Values to write to their buffers.
        front: Values to compute for a stretch of the row before the others, in a loop of their own.
        split: Those of them that the others read, and the front writes to a buffer.
        rest: What remains of the body.
        ahead: Loads whose elements to bring into the caches, each with where they lie: at the
            same place of this row or of the next, or further on.
    """

    before: list[int] = field(default_factory=list)
    body: list[int] = field(default_factory=list)
    reduces: list[int] = field(default_factory=list)
    accumulates: list[int] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    stores: list[int] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    front: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)
    ahead: list[tuple[int, str]] = field(default_factory=list)

    def roots(self, kernel: Kernel) -> set[int]:
        """The values that its results need."""
        found: set[int] = set()
        for i in (*self.reduces, *self.accumulates, *self.folds, *self.stores):
            found.update(uses(kernel.body[i]))
        return found


@dataclass(slots=True)
class Schedule:
    """When the instructions of a kernel run.

    Attributes:
        level: For each instruction ROW, SEGMENT or LANE.
        passes: At least one.
        after: Row values to compute after the last pass.
        ending: `Store` and `Accumulate` of row values, which end a row.
        kept: The values that have a buffer, in order.
        homes: For some of them a `Store` whose place can serve as the buffer: their own, or one
            of the last pass, unless that overwrites what is read.
        cost: For each instruction the work for one element, from loads and kept values on.
    """

    level: list[int]
    passes: list[Pass]
    after: list[int]
    ending: list[int]
    kept: list[int]
    homes: dict[int, int]
    cost: list[int]


def dtype_of(kernel: Kernel, value: int) -> DType:
    """The dtype of a value."""
    dtype: DType = kernel.body[value].dtype  # type: ignore[union-attr]
    return dtype


def map_level(m: Map | Bound, first: int, level: list[int]) -> int:
    """How far a map varies; `first` is the number of outer axes."""
    found = max((level[v] for v, _ in m.indirect), default=ROW)
    if m.strides[-1]:
        return LANE
    return max(found, SEGMENT) if any(m.strides[first:]) else found


def _levels(kernel: Kernel) -> list[int]:
    first, last = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
    level: list[int] = []
    for instr in kernel.body:
        found = ROW
        match instr:
            case Load(map=m, bounds=bounds):
                parts: tuple[Map | Bound, ...] = (m, *bounds)
                found = max(map_level(part, first, level) for part in parts)
            case Index(axis=axis):
                found = ROW if axis < first else LANE if axis == last else SEGMENT
            case Compute(args=args):
                found = max(level[a] for a in args)
            case Store(arg=arg, map=m) | Accumulate(arg=arg, map=m):
                found = max(level[arg], map_level(m, first, level))
            case Fold():
                found = SEGMENT
            case Scan():
                found = LANE
        level.append(found)
    return level


def _costs(kernel: Kernel, level: list[int]) -> tuple[list[int], set[int], set[int]]:
    """The cost of each value from costly ones on, these, and what is made of them."""
    costs: list[int] = []
    costly: set[int] = set()
    after: set[int] = set()
    for i, instr in enumerate(kernel.body):
        cost = 0
        match instr:
            case Compute(op=op, args=args) if level[i] != ROW:
                cost = _own_cost(op) + sum(1 if a in costly else costs[a] for a in set(args))
            case Load(map=m) if level[i] != ROW:
                cost = 1 + sum(costs[v] for v, _ in m.indirect)
            case Scan(args=args):
                cost = KEEP + sum(costs[a] for a in args)
                costly.add(i)
        if cost > KEEP and level[i] == LANE and isinstance(instr, Compute):
            costly.add(i)
        if i in costly or (level[i] == LANE and not after.isdisjoint(uses(instr))):
            after.add(i)
        costs.append(cost)
    return costs, costly, after


def _own_cost(op: str) -> int:
    return 1 if op in _CHEAP else _COSTS.get(op, _ELEMENTARY)


def _needed(kernel: Kernel, roots: Iterable[int], level: list[int], ready: set[int]) -> list[int]:
    """The values below `roots` that vary within a row, in order; it stops at what is ready."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        v = todo.pop()
        if v in found or level[v] == ROW:
            continue
        found.add(v)
        if v not in ready:
            todo += uses(kernel.body[v])
    return sorted(found)


def _split(kernel: Kernel, p: Pass, level: list[int], ready: set[int]) -> None:
    """Divide a pass with elementary functions and much else besides.

    A processor looks ahead over some hundred instructions. If one element takes as many, each of
    which waits for the one before, too few elements are under way at a time. What is made of a
    scan is not among the first: its state goes from element to element once.
    """
    body = [v for v in p.body if level[v] == LANE and v not in ready]
    scanned: set[int] = set()
    for v in body:
        if isinstance(kernel.body[v], Scan) or not scanned.isdisjoint(uses(kernel.body[v])):
            scanned.add(v)
    split = {v for v in body if isinstance(instr := kernel.body[v], Compute)
             and _own_cost(instr.op) >= _ELEMENTARY} - scanned  # fmt: skip
    if not split:
        return
    rest = _needed(kernel, {*p.roots(kernel), *p.keep}, level, ready | split)
    if _work(kernel, rest, level, ready | split) < _MUCH:
        return
    p.split = sorted(split.intersection(rest))
    p.front = [v for v in _needed(kernel, p.split, level, ready) if level[v] == LANE]
    p.rest = rest


def _needed_later(
    kernel: Kernel, passes: list[Pass], level: list[int], ready: set[int]
) -> set[int]:
    found: set[int] = set()
    for later in passes:
        found.update(_needed(kernel, later.roots(kernel), level, ready))
    return found


def _worth_keeping(
    kernel: Kernel, p: Pass, kept: set[int], costly: set[int], costs: list[int],
    again: Callable[[set[int]], set[int]],
) -> list[int]:  # fmt: skip
    """The values of a pass that later passes should read from buffers.

    In place of a costly value that is needed only for another of the same pass, that one; also
    where an earlier pass has kept it, if what lies between costs more than a buffer.
    """
    needed = again(kept | costly)
    found = costly & needed
    for v in sorted(found):
        for w in reversed(p.body):
            if w <= v:
                break
            pays = v not in kept or costs[w] >= _BUFFER
            if pays and w in needed and isinstance(kernel.body[w], Compute):
                instead = found - {v} | {w}
                if v not in again((kept | instead) - {v}):
                    found = instead
                    break
    return sorted(found - kept)


def _homes(kernel: Kernel, plan: Schedule) -> dict[int, int]:
    """For values with a buffer a `Store` whose place can serve as one."""
    lent: dict[int, int] = {}
    found: dict[int, int] = {}
    for p in plan.passes:
        for i in p.stores:
            store = kernel.body[i]
            assert isinstance(store, Store)
            if plan.level[i] == LANE and _is_dense(kernel, store):
                if p is plan.passes[-1]:
                    lent[i] = store.operand
                elif store.arg in p.keep:
                    found[store.arg] = i
    for v in plan.kept:
        for i, operand in lent.items():
            if v not in found and kernel.operands[operand].dtype == dtype_of(kernel, v):
                found[v] = i
                del lent[i]
                break
    return found


def _is_dense(kernel: Kernel, store: Store) -> bool:
    """Whether a store writes values as they are computed, each to an element of its own."""
    m, computed = store.map, dtype_of(kernel, store.arg)
    alone = m.strides[-1] == 1 and all(m.strides[len(kernel.outer) :]) and not m.indirect
    return alone and kernel.operands[store.operand].dtype == computed


@remembered
def schedule(kernel: Kernel) -> Schedule:
    """The order in which a kernel's instructions run."""
    level, stage = _levels(kernel), stages(kernel)
    costs, costly, after = _costs(kernel, level)
    count = 1 + max(
        (stage[i] - isinstance(instr, Reduce)
         for i, instr in enumerate(kernel.body)
         if isinstance(instr, Reduce)
         or (isinstance(instr, Store | Accumulate | Fold) and level[i] != ROW)),
        default=0,
    )  # fmt: skip
    passes = [Pass() for _ in range(count)]
    found = Schedule(level, passes, [], [], [], {}, costs)
    for i, instr in enumerate(kernel.body):
        early = isinstance(instr, Store) and instr.arg in after
        _place(found, i, instr, stage[i], early)
    kept: set[int] = set()
    for k, p in enumerate(passes):
        p.body = _needed(kernel, p.roots(kernel), level, kept)
        again = functools.partial(_needed_later, kernel, passes[k + 1 :], level)
        p.keep = _worth_keeping(kernel, p, kept, costly.intersection(p.body), costs, again)
        _split(kernel, p, level, kept)
        kept.update(p.keep)
    found.kept = sorted(kept)
    found.homes = _homes(kernel, found)
    _look_ahead(kernel, level, [p for p in passes if p.body])
    return found


def _look_ahead(kernel: Kernel, level: list[int], passes: list[Pass]) -> None:
    """Let the pass that computes most bring what passes read first into the caches.

    Short passes cannot: there are more lines on their way than a core can wait for at a time. The
    last pass has stores to wait for.
    """
    first = len(kernel.outer)
    if first == 0 or len(passes) < 2:
        return
    ready: set[int] = set()
    work = []
    for p in passes[:-1]:
        work.append(_work(kernel, p.body, level, ready))
        ready.update(p.keep)
    busy = work.index(max(work))
    seen: set[int] = set()
    for k, p in enumerate(passes):
        for i in p.body:
            load = kernel.body[i]
            if isinstance(load, Load) and load.operand not in seen and level[i] == LANE:
                seen.add(load.operand)
                if _follows(load, first):
                    where = NEXT_ROW if k < busy else FURTHER_ON if k == busy else THIS_ROW
                    passes[busy].ahead.append((i, where))


def _work(kernel: Kernel, values: Iterable[int], level: list[int], ready: set[int]) -> int:
    """What it costs to compute some values for each element."""
    body = [kernel.body[i] for i in values if level[i] == LANE and i not in ready]
    return sum(_own_cost(instr.op) for instr in body if isinstance(instr, Compute))


def _follows(load: Load, first: int) -> bool:
    """Whether a load reads memory in order, other memory in each row."""
    m = load.map
    return m.strides[-1] == 1 and m.strides[first - 1] != 0 and not m.indirect and not load.bounds


def _place(found: Schedule, i: int, instr: object, stage: int, early: bool) -> None:
    passes, row = found.passes, found.level[i] == ROW
    match instr:
        case Reduce():
            passes[stage - 1].reduces.append(i)
        case Store() | Accumulate() if row:
            found.ending.append(i)
        case Store():
            passes[stage if early else -1].stores.append(i)
        case Accumulate():
            passes[stage].accumulates.append(i)
        case Fold():
            passes[stage].folds.append(i)
        case Load() | Compute() | Index() if row:
            (passes[stage].before if stage < len(passes) else found.after).append(i)
        case Const():
            passes[0].before.append(i)
