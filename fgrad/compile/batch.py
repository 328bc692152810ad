"""Many small launches as one: kernels of the same form over different buffers run together.

The updates of an optimizer are one kernel a parameter, and so are the sums of squares of a global
norm. One by one each has to be called, and shared among threads, on its own; together all their
units are.
"""

from collections.abc import Hashable
from dataclasses import replace
from math import inf
from typing import Any

from fgrad.compile.cost import cost
from fgrad.compile.kernel import Accumulate, Kernel, Reduce, remembered
from fgrad.compile.memory import last_uses
from fgrad.compile.plan import TEMP, Batch, Launch, Patch, Plan, Step, reads_of, writes_of

_LONG_NS = 1e6  # a kernel that takes so long gains nothing


def batched_alike(plan: Plan, notes: dict[Hashable, Any]) -> Plan:
    """What `batched` gives for one of several plans: what it found out is not found out again.

    Where steps depend on each other as in a plan before, the same launches are put together.

    Args:
        plan: The plan.
        notes: Of the plans before.
    """
    links = tuple([
        s.buffers if isinstance(s, Launch) else (id(type(s)), tuple(sorted(reads_of(s))), s.outputs)
        for s in plan.steps if not isinstance(s, Batch)
    ])  # fmt: skip
    order = notes.get(("batched", links))
    if order is None:
        found = batched(plan)
        place = {id(s): i for i, s in enumerate(plan.steps)}
        notes["batched", links] = [
            [place[id(s)] for s in (step.launches if isinstance(step, Batch) else (step,))]
            for step in found.steps
        ]
        return found
    steps = [[plan.steps[i] for i in places] for places in order]
    return replace(
        plan,
        steps=tuple([s[0] if len(s) == 1 else Batch(tuple(s)) for s in steps]),
    )


def batched(plan: Plan, long_ns: float = _LONG_NS, *, shares: bool = False) -> Plan:
    """Put launches of one form together, at the place of the last of them.

    A launch is moved later only if nothing reads its results or changes what it reads in between,
    and launches of a form are put together only if no more memory is in use at once than before.

    Args:
        plan: The plan.
        long_ns: The cost from which a kernel gains nothing.
        shares: Whether those that store parts of one buffer may be put together, too.
    """
    found: dict[Hashable, list[int]] = {}
    for i, step in enumerate(plan.steps):
        if isinstance(step, Launch) and cost(step.kernel).ns < long_ns:
            found.setdefault(form(step.kernel), []).append(i)
    alike = [places for places in found.values() if len(places) > 1]
    if not alike:
        return plan
    readers: dict[int, float] = {}
    patched: dict[int, list[int]] = {}  # where buffers are overwritten in part
    for i, step in enumerate(plan.steps):
        for b in reads_of(step):
            readers.setdefault(b, i)
        if isinstance(step, Patch):
            patched.setdefault(step.buffers[-1], []).append(i)
    steps: list[Step | None] = list(plan.steps)
    most = _most(plan, steps)
    for places in alike:
        for group in _groups(plan, places, readers, patched):
            tried = list(steps)
            members = [plan.steps[i] for i in group]
            written = [b for m in members for b in writes_of(m)]
            if not shares and len(set(written)) < len(written):  # parts of one concatenation
                continue
            for i in group:
                tried[i] = None
            tried[group[-1]] = Batch(tuple(m for m in members if isinstance(m, Launch)))
            if _most(plan, tried) <= most:
                steps = tried
    rest = tuple(step for step in steps if step is not None)
    return replace(plan, steps=rest)


@remembered
def form(kernel: Kernel) -> Hashable:
    """What kernels that run together have in common: all but sizes, strides and numbers."""
    operands = tuple((op.dtype.num, op.written) for op in kernel.operands)
    body = tuple(
        (type(i).__name__, getattr(i, "op", None) or getattr(i, "monoid", None),
         getattr(i, "operand", None), getattr(i, "args", None) or getattr(i, "arg", None))
        for i in kernel.body
    )  # fmt: skip
    one = kernel.rows * kernel.length == 1
    whole = any(isinstance(i, Reduce | Accumulate) for i in kernel.body)
    # A reduction may have its row cut into pieces, a number of which is as good as another.
    axes = whole or (len(kernel.outer), len(kernel.inner))
    return (axes, one, operands, body)


def _groups(
    plan: Plan, places: list[int], readers: dict[int, float], patched: dict[int, list[int]]
) -> list[list[int]]:
    """Launches that can run where the last of them does, from the last one on; no single ones."""
    groups: list[list[int]] = []
    for i in reversed(places):
        step = plan.steps[i]
        ends = [readers.get(b, inf) for b in writes_of(step)]
        ends += [j for b in reads_of(step) for j in patched.get(b, ()) if j > i]
        first = min(ends, default=inf)
        if groups and first > groups[-1][-1]:
            groups[-1].insert(0, i)
        else:
            groups.append([i])
    return [g for g in groups if len(g) > 1]


def _most(plan: Plan, steps: list[Step | None]) -> int:
    """The most bytes of temporaries that are alive at once."""
    kept = tuple(s for s in steps if s is not None)
    last = last_uses(Plan(plan.inputs, plan.buffers, kept, plan.results))
    dying: dict[int, list[int]] = {}
    for b, i in last.items():
        dying.setdefault(i, []).append(b)
    alive = most = 0
    for i, step in enumerate(kept):
        alive += sum(_bytes(plan, b) for b in writes_of(step))
        most = max(most, alive)
        alive -= sum(_bytes(plan, b) for b in dying.get(i, ()))
    return most


def _bytes(plan: Plan, b: int) -> int:
    return plan.buffers[b].nbytes if plan.buffers[b].role == TEMP else 0
