"""Which loops run without Python, and their plans made ready for it."""

from collections.abc import Container, Iterator
from dataclasses import replace

from fgrad.backends.cpu import gemm
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.backends.cpu.routines import Routine
from fgrad.backends.cpu.target import Target
from fgrad.compile.kernel import COMPUTED, Compute, Kernel, Load, Store
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import (
    TEMP,
    Added,
    Buffer,
    Launch,
    Library,
    Loop,
    Plan,
    Step,
    View,
    contiguous,
    is_check,
    launches_of,
    reads_of,
    writes_of,
)
from fgrad.compile.updates import copied, is_update, with_patches
from fgrad.core.ir import Eqn


def obstacle(plan: Plan) -> Eqn | None:
    """The first equation in a plan that only Python can run, or None."""
    for step in plan.steps:
        if isinstance(step, Loop):
            found = obstacle_of(step)
            if found is not None:
                return found
        elif isinstance(step, Library) and not (
            _is_product(step, plan)
            or is_update(step, plan.buffers)
            or is_check(step)
            or routine_of(step) is not None
        ):
            return step.eqn
    return None


def obstacle_of(loop: Loop) -> Eqn | None:
    """The first equation in the programs of a loop that only Python can run, or None."""
    return next(filter(None, map(obstacle, loop.plans)), None)


def runs_compiled(step: Step) -> bool:
    """Whether a step is a loop that runs without Python."""
    return isinstance(step, Loop) and obstacle_of(step) is None


def _runs_over(step: Step) -> bool:
    """Whether a routine may write the result of a step where its first operand lies."""
    routine = routine_of(step)
    return routine is not None and routine.over


def _is_product(step: Library, plan: Plan) -> bool:
    found = gemm.product(step, plan.buffers)
    if found is None:
        return False
    readable = found.left is not None and found.right is not None
    return readable or plan.buffers[step.outputs[0]].dtype in COMPUTED


def prepared(plan: Plan) -> Plan:
    """A plan in whose compiled loops BLAS can read the operands of every product."""
    steps: list[Step] = []
    for step in plan.steps:
        if isinstance(step, Loop) and runs_compiled(step):
            step = replace(step, plans=tuple(_prepared_plans(step)))
        steps.append(step)
    return replace(plan, steps=tuple(steps))


def _prepared_plans(loop: Loop) -> Iterator[Plan]:
    if loop.eqn.primitive.name == "cond":
        for branch in loop.plans:
            yield with_patches(_readable(prepared(branch), 0), 0, 0)
        return
    before, consts, carries, _ = map(len, groups_of(loop, loop.inputs))
    for test in loop.plans[:-1]:
        yield with_patches(_readable(prepared(test), before), 0, 0)
    body = _readable(prepared(loop.plans[-1]), consts)
    body = with_patches(body, consts, carries, _runs_over)
    yield added(body, consts, carries)


def _readable(plan: Plan, fixed: int) -> Plan:
    """A plan with a kernel before each product that has to copy an operand.

    BLAS cannot read every view; and where the right operand of a small product stays the same in a
    loop, its rows are made contiguous once (see `small`).

    Args:
        plan: The plan.
        fixed: How many of its first inputs stay the same in the loop that it is part of.
    """
    buffers = list(plan.buffers)
    steps: list[Step] = []
    for step in plan.steps:
        found = gemm.product(step, buffers) if type(step) is Library else None
        if found is not None:
            assert isinstance(step, Library)
            x, y = step.inputs
            if found.left is None and isinstance(x, View):
                launch, x = _packed(x, found.left_axes, buffers)
                steps.append(launch)
            if isinstance(y, View) and (
                found.right is None
                or (
                    y.buffer < fixed
                    and found.right.flipped
                    and gemm.is_small(found, buffers[y.buffer].dtype)
                )
            ):
                launch, y = _packed(y, found.right_axes, buffers)
                steps.append(launch)
            step = replace(step, inputs=(x, y))
        steps.append(step)
    return replace(plan, buffers=tuple(buffers), steps=tuple(steps))


def _packed(view: View, axes: tuple[int, ...], buffers: list[Buffer]) -> tuple[Launch, View]:
    """A copy of a view whose axes lie in an order, as a step and as a view of the same shape."""
    shape = tuple(view.shape[a] for a in axes)
    dense = contiguous(shape)
    buffers.append(Buffer(shape, buffers[view.buffer].dtype, TEMP))
    made = len(buffers) - 1
    ordered = View(view.buffer, view.offset, shape, tuple(view.strides[a] for a in axes))
    strides = tuple(dense[axes.index(a)] for a in range(len(axes)))
    return copied(ordered, buffers, made), View(made, 0, view.shape, strides)


def added(body: Plan, consts: int, carries: int) -> Plan:
    """The body of a loop in which products are added to carries in place, where nothing else is.

    Args:
        body: The body.
        consts: How many of its inputs come before the carries.
        carries: How many carries there are: they are its first results.
    """
    steps, results = list(body.steps), list(body.results)
    readers: dict[int, list[int]] = {}
    makers: dict[int, int] = {}
    for i, step in enumerate(steps):
        makers.update(dict.fromkeys(writes_of(step), i))
        for b in reads_of(step):
            readers.setdefault(b, []).append(i)
    updated, gone = set(), set()
    for k in range(carries):
        carry, result = consts + k, results[k]
        if not isinstance(result, int) or results.count(result) > 1 or carry in results:
            continue
        if result in readers:
            continue
        at = makers.get(result)
        term = None if at is None else _term(steps[at], carry, result)
        if term is None or readers[term] != [at] or readers[carry] != [at]:
            continue
        source = steps[makers[term]] if term in makers else None
        product = type(source) is Library and _is_product(source, body)
        if product and body.buffers[term].shape == body.buffers[carry].shape:
            assert at is not None
            assert isinstance(source, Library)
            steps[makers[term]] = Added(source.eqn, source.index, source.inputs, (carry,))
            results[k] = carry
            updated.add(carry)
            gone.add(at)
    kept = tuple(s for i, s in enumerate(steps) if i not in gone)
    return replace(body, steps=kept, results=tuple(results), updated=body.updated | updated)


def _term(step: Step, carry: int, result: int) -> int | None:
    """What a kernel adds to a carry, if that is all it does: ``result = carry + term``."""
    if not isinstance(step, Launch) or len(step.buffers) != 3:
        return None
    match step.kernel.body:
        case (
            Load(operand=a, map=m),
            Load(operand=b, map=n),
            Compute("add", (0, 1) | (1, 0)),
            Store(operand=c, map=o, arg=2),
        ) if m == n == o:
            pair = {step.buffers[a], step.buffers[b]}
            if carry in pair and len(pair) == 2 and step.buffers[c] == result:
                return (pair - {carry}).pop()
    return None


def routines_of(plan: Plan, target: Target) -> Iterator[Routine]:
    """The routines of a plan and of its compiled loops, in order."""
    for step in plan.steps:
        if isinstance(step, Loop) and runs_compiled(step):
            for inner in step.plans:
                yield from routines_of(inner, target)
        found = routine_of(step, target)
        if found is not None:
            yield found


def kernels_of(plan: Plan, alone: Container[int] = ()) -> Iterator[Kernel]:
    """The kernels of a plan and of its compiled loops, in order.

    Args:
        plan: The plan.
        alone: The ids of loops that need no kernels.
    """
    for step in plan.steps:
        yield from (launch.kernel for launch in launches_of(step))
        if isinstance(step, Loop) and id(step) not in alone and runs_compiled(step):
            for inner in step.plans:
                yield from kernels_of(inner, alone)
