"""The order in which a kernel's instructions run: passes over the row, and what each computes.

A value varies with the row alone (ROW), with the row and its axes but the last (SEGMENT), or with
all axes (LANE). The first two are scalars; the third is a vector along the last axis.

Each pass computes what its results need once more, from loads and cheap operations on. A costly
value that a later pass needs too is kept in a buffer of the length of a row. All stores run in the
last pass, or after it: a store may overwrite what a load has read, and every pass loads again.
"""

from collections.abc import Iterable
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
    Store,
    remembered,
    stages,
    uses,
)

ROW, SEGMENT, LANE = 0, 1, 2

# The cost of an operation, relative to an addition; what costs more than KEEP is kept.
_COSTS = {"div": 4, "rem": 12, "sqrt": 4, "nextafter": 8}
_ELEMENTARY = 20
_CHEAP = frozenset(
    {"add", "sub", "mul", "neg", "abs", "sign", "min", "max", "floor", "ceil", "rint", "trunc"}
    | {"copysign", "eq", "ne", "lt", "le", "gt", "ge", "isfinite", "isnan", "and", "or", "xor"}
    | {"not", "shl", "shr", "sar", "popcount", "clz", "select", *CONVERSIONS}
)
KEEP = 16


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
    """

    before: list[int] = field(default_factory=list)
    body: list[int] = field(default_factory=list)
    reduces: list[int] = field(default_factory=list)
    accumulates: list[int] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    stores: list[int] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)

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
        passes: At least one; the last has the stores.
        after: Row values to compute after the last pass.
        ending: `Store` and `Accumulate` of row values, which end a row.
        kept: The values that have a buffer, in order.
        cost: For each instruction the work for one element, from loads and kept values on.
    """

    level: list[int]
    passes: list[Pass]
    after: list[int]
    ending: list[int]
    kept: list[int]
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
        level.append(found)
    return level


def _costs(kernel: Kernel, level: list[int]) -> tuple[list[int], set[int]]:
    """The cost of each value with all that it needs, and those worth a buffer."""
    costs: list[int] = []
    costly: set[int] = set()
    for i, instr in enumerate(kernel.body):
        cost = 0
        match instr:
            case Compute(op=op, args=args) if level[i] != ROW:
                own = 1 if op in _CHEAP else _COSTS.get(op, _ELEMENTARY)
                cost = own + sum(1 if a in costly else costs[a] for a in set(args))
            case Load(map=m) if level[i] != ROW:
                cost = 1 + sum(costs[v] for v, _ in m.indirect)
        if cost > KEEP and level[i] == LANE and isinstance(instr, Compute):
            costly.add(i)
        costs.append(cost)
    return costs, costly


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


@remembered
def schedule(kernel: Kernel) -> Schedule:
    """The order in which a kernel's instructions run."""
    level, stage = _levels(kernel), stages(kernel)
    costs, costly = _costs(kernel, level)
    count = 1 + max(
        (stage[i] - isinstance(instr, Reduce)
         for i, instr in enumerate(kernel.body)
         if isinstance(instr, Reduce)
         or (isinstance(instr, Store | Accumulate | Fold) and level[i] != ROW)),
        default=0,
    )  # fmt: skip
    passes = [Pass() for _ in range(count)]
    found = Schedule(level, passes, [], [], [], costs)
    for i, instr in enumerate(kernel.body):
        _place(found, i, instr, stage[i])
    kept: set[int] = set()
    for k, p in enumerate(passes):
        p.body = _needed(kernel, p.roots(kernel), level, kept)
        at_hand = kept | costly.intersection(p.body)
        again: set[int] = set()
        for later in passes[k + 1 :]:
            again.update(_needed(kernel, later.roots(kernel), level, at_hand))
        p.keep = sorted(at_hand & again - kept)
        kept.update(p.keep)
    found.kept = sorted(kept)
    return found


def _place(found: Schedule, i: int, instr: object, stage: int) -> None:
    passes, row = found.passes, found.level[i] == ROW
    match instr:
        case Reduce():
            passes[stage - 1].reduces.append(i)
        case Store() | Accumulate() if row:
            found.ending.append(i)
        case Store():
            passes[-1].stores.append(i)
        case Accumulate():
            passes[stage].accumulates.append(i)
        case Fold():
            passes[stage].folds.append(i)
        case Load() | Compute() | Index() if row:
            (passes[stage].before if stage < len(passes) else found.after).append(i)
        case Const():
            passes[0].before.append(i)
