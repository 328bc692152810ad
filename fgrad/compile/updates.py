"""Arrays of which loops change a part, in place where that is possible.

The result of an update is a copy of its operand in which something is changed: a box by a `Patch`
(`dynamic_update_slice`), or what an equation says that a backend can run in place (a scatter).
Where the operand is a carry that becomes the result, and nothing else needs the old carry, the
copy goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fgrad.compile.kernel import COMPUTED, Compute, Const, Instr, Kernel, Load, Map, Operand, Store
from fgrad.compile.plan import (
    Buffer,
    Launch,
    Library,
    Loop,
    Patch,
    Plan,
    Step,
    Updated,
    View,
    contiguous,
    reads_of,
    whole,
    writes_of,
)
from fgrad.core.ir import Literal

_LONG = np.dtype(np.int64)


def is_update(step: Step, buffers: Sequence[Buffer]) -> bool:
    """Whether a step overwrites a box of an array, in a dtype that kernels know."""
    if type(step) is not Library or step.eqn.primitive.name != "dynamic_update_slice":
        return False
    views = isinstance(step.inputs[0], View) and isinstance(step.inputs[1], View)
    return views and buffers[step.outputs[0]].dtype in COMPUTED and 0 not in _box(step)


def _box(step: Library) -> tuple[int, ...]:
    return step.eqn.inputs[1].aval.shape


def copied(view: View, buffers: Sequence[Buffer], to: int) -> Launch:
    """A kernel that copies a view to a contiguous buffer."""
    dtype = buffers[view.buffer].dtype
    shape, strides = view.shape or (1,), view.strides or (1,)
    body = (Load(0, Map(view.offset, strides), dtype), Store(1, Map(0, contiguous(shape)), 0))
    operands = (Operand(dtype), Operand(dtype, written=True))
    return Launch(Kernel("copy", shape[:-1], shape[-1:], operands, body), (view.buffer, to))


def patch(step: Library, buffers: Sequence[Buffer], to: int) -> Patch:
    """A kernel that overwrites the box of a step in a buffer."""
    update = step.inputs[1]
    assert isinstance(update, View)
    target, box = buffers[to], _box(step)
    shape, strides = box or (1,), update.strides or (1,)
    still = (0,) * len(shape)
    used = [update.buffer]
    operands = [Operand(target.dtype)]
    body: list[Instr] = [Load(0, Map(update.offset, strides), target.dtype)]
    indirect = []
    dense = contiguous(target.shape)
    for axis, start in enumerate(step.inputs[2:]):
        limit = target.shape[axis] - box[axis]
        if isinstance(start, Literal):
            at = min(max(int(start.value), 0), limit)
            body.append(Const(at, _LONG))
        else:
            dtype = buffers[start.buffer].dtype
            body.append(Load(len(used), Map(start.offset, still), dtype))
            if dtype.kind == "u":  # before the conversion, which would wrap
                body.append(Const(min(limit, int(np.iinfo(dtype).max)), dtype))
                body.append(Compute("min", (len(body) - 2, len(body) - 1), dtype))
            first = len(body) - 1
            body += [
                Compute("convert", (first,), _LONG),
                Const(0, _LONG),
                Compute("max", (first + 1, first + 2), _LONG),
                Const(limit, _LONG),
                Compute("min", (first + 3, first + 4), _LONG),
            ]
            used.append(start.buffer)
            operands.append(Operand(dtype))
        indirect.append((len(body) - 1, dense[axis]))
    body.append(Store(len(used), Map(0, dense or (1,), tuple(indirect)), 0))
    operands.append(Operand(target.dtype, written=True))
    kernel = Kernel("update", shape[:-1], shape[-1:], tuple(operands), tuple(body))
    return Patch(kernel, (*used, to))


def with_patches(
    plan: Plan, consts: int, carries: int, over: Callable[[Step], bool] = lambda _: False
) -> Plan:
    """A plan whose updates of boxes are kernels, and whose updates of carries are made in place.

    Args:
        plan: The body of a loop, or another program.
        consts: How many of its inputs come before the carries.
        carries: How many carries there are: they are its first results.
        over: Whether the result of a library step may lie where its first operand does.
    """
    same: dict[int, int] = {}  # results of updates that take place in a carry
    for k in range(carries):
        found = _in_place(plan, consts + k, plan.results[k], over)
        same.update(dict.fromkeys(found, consts + k))
    steps: list[Step] = []
    for step in plan.steps:
        if not is_update(step, plan.buffers):
            moved = _renamed(step, same)
            place = next((same[b] for b in writes_of(step) if b in same), None)
            if place is not None:
                assert isinstance(moved, Library)
                moved = Updated(moved.eqn, moved.index, moved.inputs, (place,))
            steps.append(moved)
            continue
        assert isinstance(step, Library)
        (out,) = step.outputs
        source, moved = step.inputs[0], _renamed(step, same)
        assert isinstance(source, View)
        assert isinstance(moved, Library)
        if out not in same:
            view = moved.inputs[0]
            assert isinstance(view, View)
            steps.append(copied(view, plan.buffers, out))
        steps.append(patch(moved, plan.buffers, same.get(out, out)))
    results = tuple(same.get(r, r) if isinstance(r, int) else r for r in plan.results)
    updated = plan.updated | frozenset(same.values())
    return replace(plan, steps=tuple(steps), results=results, updated=updated)


def _in_place(
    plan: Plan, carry: int, result: int | Literal, over: Callable[[Step], bool]
) -> list[int]:
    """The results of a chain of updates from a carry to what it becomes; none if it must be kept.

    Every other step that reads a version of the carry must come before the update that ends it.
    """
    makers = {b: i for i, step in enumerate(plan.steps) for b in writes_of(step)}
    if not isinstance(result, int) or plan.results.count(result) > 1:
        return []
    chain: list[int] = []
    at = result
    while at != carry:
        step = plan.steps[makers[at]] if at in makers else None
        if step is None or not (is_update(step, plan.buffers) or over(step)):
            return []
        assert isinstance(step, Library)
        source, *others = step.inputs
        if not isinstance(source, View):
            return []
        old = source.buffer
        read = [i for i, s in enumerate(plan.steps) if old in reads_of(s)]
        if (
            source != whole(old, plan.buffers[at].shape)
            or any(isinstance(v, View) and v.buffer == old for v in others)
            or max(read) > makers[at]
            or old in plan.results
        ):
            return []
        chain.append(at)
        at = old
    return chain


def _renamed(step: Step, same: dict[int, int]) -> Step:
    """A step that reads carries where it read what they have become."""
    if isinstance(step, Launch):
        return replace(step, buffers=tuple(same.get(b, b) for b in step.buffers))
    assert isinstance(step, Library | Loop)
    inputs = tuple(
        replace(v, buffer=same.get(v.buffer, v.buffer)) if isinstance(v, View) else v
        for v in step.inputs
    )
    return replace(step, inputs=inputs)
