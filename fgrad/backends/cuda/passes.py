"""The order in which a kernel's instructions run: passes over the row, and what each computes.

A value varies with the row alone (ROW), with the row and its axes but the last (SEGMENT), or with
all axes (LANE). `Reduce` ends a pass. What a pass needs it computes once more, from loads on; but
a load or a costly value that an earlier pass has had may be kept, if there is room for a row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fgrad.compile.kernel import (
    CONVERSIONS,
    Accumulate,
    Bound,
    Compute,
    Fold,
    Index,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
    stages,
    uses,
)

ROW, SEGMENT, LANE = 0, 1, 2

# What costs about as much as an access to memory at hand, or less.
_CHEAP = frozenset(
    {"add", "sub", "mul", "neg", "abs", "sign", "min", "max", "floor", "ceil", "rint", "trunc"}
    | {"copysign", "eq", "ne", "lt", "le", "gt", "ge", "isfinite", "isnan", "and", "or", "xor"}
    | {"not", "shl", "shr", "sar", "popcount", "clz", "select", *CONVERSIONS}
)


@dataclass(slots=True)
class Pass:
    """One pass over the row.

    Attributes:
        before: Row values to compute ahead of it.
        body: Values to compute for each segment or element, in order.
        reduces: The `Reduce` that take their argument from it.
        accumulates: The `Accumulate` of values that vary within the row.
        folds: The `Fold` that run in it.
        stores: The `Store` of values that vary within the row, or to places that do.
        keeps: Values of the body that later passes read.
    """

    before: list[int] = field(default_factory=list)
    body: list[int] = field(default_factory=list)
    reduces: list[int] = field(default_factory=list)
    accumulates: list[int] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    stores: list[int] = field(default_factory=list)
    keeps: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Passes:
    """When the instructions of a kernel run.

    Attributes:
        level: For each instruction ROW, SEGMENT or LANE.
        passes: At least one.
        after: Row values to compute after the last pass.
        stores: `Store` of row values.
        accumulates: `Accumulate` of row values.
        kept: For each value that is kept, the passes that have it first and last.
    """

    level: list[int]
    passes: list[Pass]
    after: list[int]
    stores: list[int]
    accumulates: list[int]
    kept: dict[int, tuple[int, int]]


def levels(kernel: Kernel) -> list[int]:
    """For each instruction, how far its value varies; of stores, that and the place's."""
    first, last = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
    level: list[int] = []
    for instr in kernel.body:
        found = ROW
        match instr:
            case Load(map=m, bounds=bounds):
                parts: tuple[Map | Bound, ...] = (m, *bounds)
                found = max(map_level(part, kernel, level) for part in parts)
            case Index(axis=axis):
                found = ROW if axis < first else LANE if axis == last else SEGMENT
            case Compute(args=args):
                found = max(level[a] for a in args)
            case Store(arg=arg, map=m) | Accumulate(arg=arg, map=m):
                found = max(level[arg], map_level(m, kernel, level))
            case Fold():
                found = SEGMENT
            case Scan():
                found = LANE
        level.append(found)
    return level


def map_level(m: Map | Bound, kernel: Kernel, level: list[int]) -> int:
    """How far a map varies."""
    found = max((level[v] for v, _ in m.indirect), default=ROW)
    if m.strides[-1]:
        return LANE
    return max(found, SEGMENT) if any(m.strides[len(kernel.outer) :]) else found


def passes_of(kernel: Kernel, *, keep: bool) -> Passes:
    """Divide a kernel into passes.

    Args:
        kernel: What to divide.
        keep: Whether there is room for rows of values; if not, everything is computed again.
    """
    level, stage = levels(kernel), stages(kernel)
    plan = Passes(level, [Pass() for _ in range(_count(kernel, level, stage))], [], [], [], {})
    for i, instr in enumerate(kernel.body):
        _place(plan, i, instr, stage)
    ready: set[int] = set()
    for number, p in enumerate(plan.passes):
        roots = _roots(kernel, p)
        if keep and number == 0:  # all loads at once, so that they wait for memory together
            later = (r for q in plan.passes[1:] for r in _roots(kernel, q))
            roots |= {v for v in _needed(kernel, later, level, lambda _: False)
                      if isinstance(kernel.body[v], Load) and level[v] == LANE
                      and not stage[v] and _is_worth_keeping(kernel, v)}  # fmt: skip
        p.body = _needed(kernel, roots, level, ready.__contains__)
        for v in p.body:
            if v in ready:
                plan.kept[v] = (plan.kept.get(v, (_home(plan, v), 0))[0], number)
        p.body = [v for v in p.body if v not in ready]
        if keep:
            ready |= {v for v in p.body if level[v] == LANE and _is_worth_keeping(kernel, v)}
    for v, (home, _) in plan.kept.items():
        plan.passes[home].keeps.append(v)
    return plan


def totals(kernel: Kernel, plan: Passes, number: int) -> Pass | None:
    """A pass that reduces what the scans of a pass scan; None if there are none."""
    scans = [v for v in plan.passes[number].body if isinstance(kernel.body[v], Scan)]
    if not scans:
        return None
    args = {a for v in scans for a in uses(kernel.body[v])}
    return Pass(body=_needed(kernel, args, plan.level, lambda _: False), reduces=scans)


def _count(kernel: Kernel, level: list[int], stage: list[int]) -> int:
    """The number of passes: the last is the last that has anything to do within the row."""
    found = 0
    for i, instr in enumerate(kernel.body):
        if isinstance(instr, Reduce):
            found = max(found, stage[i] - 1)
        elif isinstance(instr, Store | Accumulate | Fold) and level[i] != ROW:
            found = max(found, stage[i])
    return found + 1


def _place(plan: Passes, i: int, instr: object, stage: list[int]) -> None:
    level, passes = plan.level, plan.passes
    if isinstance(instr, Reduce):
        passes[stage[i] - 1].reduces.append(i)
    elif isinstance(instr, Fold):
        passes[stage[i]].folds.append(i)
    elif isinstance(instr, Store):
        (plan.stores if level[i] == ROW else passes[stage[i]].stores).append(i)
    elif isinstance(instr, Accumulate):
        (plan.accumulates if level[i] == ROW else passes[stage[i]].accumulates).append(i)
    elif level[i] == ROW:
        (passes[stage[i]].before if stage[i] < len(passes) else plan.after).append(i)
    # A reduced value is known ahead of the pass after; what else is full comes as it is needed.


def _home(plan: Passes, v: int) -> int:
    return next(n for n, p in enumerate(plan.passes) if v in p.body)


def _is_worth_keeping(kernel: Kernel, v: int) -> bool:
    """Whether a value should be kept: not what is cheap, or the same for all rows and near."""
    instr = kernel.body[v]
    if isinstance(instr, Load):
        first = len(kernel.outer)
        return not first or any(instr.map.strides[:first]) or bool(instr.map.indirect)
    return isinstance(instr, Scan) or (isinstance(instr, Compute) and instr.op not in _CHEAP)


def _roots(kernel: Kernel, p: Pass) -> set[int]:
    found: set[int] = set()
    for i in (*p.reduces, *p.accumulates, *p.folds, *p.stores):
        found.update(uses(kernel.body[i]))
    return found


def _needed(
    kernel: Kernel, roots: Iterable[int], level: list[int], ready: Callable[[int], bool]
) -> list[int]:
    """The values below `roots` that vary within a row, in order; it stops at what is ready."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        v = todo.pop()
        if v in found or level[v] == ROW:
            continue
        found.add(v)
        if not ready(v):
            todo += uses(kernel.body[v])
    return sorted(found)
