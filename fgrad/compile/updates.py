"""Boxes overwritten in arrays (`dynamic_update_slice`) as kernels: in place where that is possible.

The result of an update is a copy of its operand, and a `Patch` that overwrites the box. Where the
operand is a carry that becomes the result, and nothing else needs the old carry, the copy goes;
and so where kernels make the operand for the update alone, or where memory is planned so that the
result lies where its operand was (`is_idle`). Other equations that a backend runs in place, such
as scatters, change a carry in place, too (`Updated`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np

from fgrad.compile.kernel import COMPUTED, Compute, Const, Instr, Kernel, Load, Map, Operand, Store
from fgrad.compile.loops import fixed_steps
from fgrad.compile.plan import (
    TEMP,
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
from fgrad.core import dtypes
from fgrad.core.ir import Literal

_LONG, _FLOAT = np.dtype(np.int64), np.dtype(np.float32)
_STORED = frozenset((*COMPUTED, np.dtype(np.float16), np.dtype(dtypes.bfloat16)))


def is_update(step: Step, buffers: Sequence[Buffer]) -> TypeGuard[Library]:
    """Whether a step overwrites a box of an array, in a dtype that kernels can move."""
    if type(step) is not Library or step.eqn.primitive.name != "dynamic_update_slice":
        return False
    views = isinstance(step.inputs[0], View) and isinstance(step.inputs[1], View)
    return views and _part(buffers[step.outputs[0]].dtype) in _STORED


def _box(step: Library) -> tuple[int, ...]:
    return step.eqn.inputs[1].aval.shape


def _part(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What a kernel moves of elements of a dtype: the floats, two of them, of complex ones."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def _walk(
    shape: Sequence[int], read: Sequence[int], written: Sequence[int], dtype: np.dtype[Any]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sizes and both strides of as few axes as can be, in what a kernel moves; at least one."""
    axes = list(zip(shape, read, written, strict=True))
    if dtype.kind == "c":
        axes = [*((n, 2 * r, 2 * w) for n, r, w in axes), (2, 1, 1)]
    found: list[tuple[int, int, int]] = []
    for n, r, w in axes:
        if found and found[-1][1:] == (r * n, w * n):
            found[-1] = (found[-1][0] * n, r, w)
        elif n != 1:
            found.append((n, r, w))
    sizes, reads, writes = zip(*found or [(1, 1, 1)], strict=True)
    return sizes, reads, writes


def copied(view: View, buffers: Sequence[Buffer], to: int, eqns: tuple[int, ...] = ()) -> Launch:
    """A kernel that copies a view to a contiguous buffer; `eqns` are the equations it is for."""
    dtype = buffers[view.buffer].dtype
    part = _part(dtype)
    sizes, read, written = _walk(view.shape, view.strides, contiguous(view.shape), dtype)
    offset = view.offset * (dtype.itemsize // part.itemsize)
    wide = part if part in COMPUTED else _FLOAT
    body = (Load(0, Map(offset, read), wide), Store(1, Map(0, written), 0))
    operands = (Operand(part), Operand(part, written=True))
    kernel = Kernel("copy", sizes[:-1], sizes[-1:], operands, body, 0, eqns)
    return Launch(kernel, (view.buffer, to))


def is_idle(step: Step, places: Mapping[int, int]) -> bool:
    """Whether a step copies what is there already.

    Args:
        step: The step.
        places: Where buffers lie, of those that are known.
    """
    if type(step) is not Launch or len(step.buffers) != 2:
        return False
    match step.kernel.body:
        case (Load(operand=0, map=m, bounds=()), Store(operand=1, map=n, arg=0)) if m == n:
            a, b = step.buffers
            one, other = (op.dtype for op in step.kernel.operands)
            return one == other and a in places and places[a] == places.get(b)
    return False


def patch(step: Library, buffers: Sequence[Buffer], to: int) -> Patch:
    """A kernel that overwrites the box of a step in a buffer."""
    update = step.inputs[1]
    assert isinstance(update, View)
    target, box = buffers[to], _box(step)
    part, dense = _part(target.dtype), contiguous(target.shape)
    scale = target.dtype.itemsize // part.itemsize
    sizes, read, written = _walk(box, update.strides, dense, target.dtype)
    still = (0,) * len(sizes)
    used, operands = [update.buffer], [Operand(part)]
    wide = part if part in COMPUTED else _FLOAT
    body: list[Instr] = [Load(0, Map(scale * update.offset, read), wide)]
    first = 0
    indirect = []
    for axis, start in enumerate(step.inputs[2:]):
        limit = target.shape[axis] - box[axis]
        if isinstance(start, Literal):
            first += scale * dense[axis] * min(max(int(start.value), 0), limit)
        elif limit:
            dtype = buffers[start.buffer].dtype
            body.append(Load(len(used), Map(start.offset, still), dtype))
            body += _clamped(len(body) - 1, limit, dtype)
            used.append(start.buffer)
            operands.append(Operand(dtype))
            indirect.append((len(body) - 1, scale * dense[axis]))
    body.append(Store(len(used), Map(first, written, tuple(indirect)), 0))
    operands.append(Operand(part, written=True))
    code, eqns = tuple(body), (step.index,)
    kernel = Kernel("update", sizes[:-1], sizes[-1:], tuple(operands), code, 0, eqns)
    return Patch(kernel, (*used, to))


def _clamped(value: int, limit: int, dtype: np.dtype[Any]) -> list[Instr]:
    """Instructions, behind an integer, that move it between 0 and a limit as an int64."""
    out: list[Instr] = []
    if dtype.kind == "u":  # before the conversion, which would wrap
        out.append(Const(min(limit, int(np.iinfo(dtype).max)), dtype))
        out.append(Compute("min", (value, value + 1), dtype))
    at = value + len(out)
    return [
        *out,
        Compute("convert", (at,), _LONG),
        Const(0, _LONG),
        Compute("max", (at + 1, at + 2), _LONG),
        Const(limit, _LONG),
        Compute("min", (at + 3, at + 4), _LONG),
    ]


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
    if not any(is_update(step, plan.buffers) or over(step) for step in plan.steps):
        return plan
    same: dict[int, int] = {}  # results of updates that take place in a carry
    for k in range(carries):
        found = _in_place(plan, consts + k, plan.results[k], over)
        same.update(dict.fromkeys(found, consts + k))
    updated = plan.updated | frozenset(same.values())
    once = {b for i in fixed_steps(plan, range(consts)) for b in writes_of(plan.steps[i])}
    same.update(_taken_over(plan, {*same, *once}))
    steps: list[Step] = []
    for step in plan.steps:
        moved = _renamed(step, same)
        if not is_update(step, plan.buffers):
            place = next((same[b] for b in writes_of(step) if b in same), None)
            if place is not None and type(moved) is Library:
                moved = Updated(moved.eqn, moved.index, moved.inputs, (place,))
            steps.append(moved)
            continue
        assert isinstance(moved, Library)
        source, update = moved.inputs[:2]
        assert isinstance(source, View)
        assert isinstance(update, View)
        out = _home(step.outputs[0], same)
        if source.buffer != out:
            kept = update if _box(step) == source.shape else source
            steps.append(copied(kept, plan.buffers, out, (step.index,)))
            if kept is update:
                continue
        if 0 not in _box(step):
            steps.append(patch(moved, plan.buffers, out))
    results = tuple(_home(r, same) if isinstance(r, int) else r for r in plan.results)
    return replace(plan, steps=tuple(steps), results=results, updated=updated)


def _home(buffer: int, same: Mapping[int, int]) -> int:
    """Where what is called a buffer is kept."""
    while buffer in same:
        buffer = same[buffer]
    return buffer


def _taken_over(plan: Plan, settled: set[int]) -> dict[int, int]:
    """Temporaries that can be made in the buffer of an update, which is the last to read them.

    Kernels make them; of what a library returns nobody knows to whom else it belongs. What is
    settled is left alone: what is made once, before a loop, must last.
    """
    makers: dict[int, list[Step]] = {}
    last: dict[int, int] = {}
    for i, step in enumerate(plan.steps):
        for b in writes_of(step):
            makers.setdefault(b, []).append(step)
        last.update(dict.fromkeys(reads_of(step), i))
    found: dict[int, int] = {}
    for i, step in enumerate(plan.steps):
        if not is_update(step, plan.buffers):
            continue
        (out,), (source, *others) = step.outputs, step.inputs
        assert isinstance(source, View)
        old = source.buffer
        if (
            plan.buffers[old].role == TEMP
            and not {old, out} & settled
            and source == whole(old, plan.buffers[out].shape)
            and last[old] == i
            and not any(isinstance(v, View) and v.buffer == old for v in others)
            and all(isinstance(m, Launch) or is_update(m, plan.buffers) for m in makers[old])
        ):
            found[old] = out
    return found


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


def _renamed(step: Step, same: Mapping[int, int]) -> Step:
    """A step that reads and writes what buffers are kept in."""
    if isinstance(step, Launch):
        return replace(step, buffers=tuple(_home(b, same) for b in step.buffers))
    assert isinstance(step, Library | Loop)
    inputs = tuple(
        replace(v, buffer=_home(v.buffer, same)) if isinstance(v, View) else v for v in step.inputs
    )
    return replace(step, inputs=inputs)
