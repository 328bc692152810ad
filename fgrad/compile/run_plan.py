"""Runs a plan by NumPy: kernels by their meaning, library steps by eager rules. The oracle."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Kernel
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import Added, Library, Loop, Plan, View, launches_of
from fgrad.core.ir import Literal

Array = np.ndarray[Any, Any]
RunKernel = Callable[[Kernel, Sequence[Array]], None]
RunLibrary = Callable[[Library, Plan, Sequence[Array]], None]


def run_library(step: Library, _plan: Plan, memory: Sequence[Array]) -> None:
    """Run the eager rule of a step.

    Args:
        step: The step; no loop.
        memory: The buffers of the plan, flat; those of the results are written.
    """
    prim = step.eqn.primitive
    with np.errstate(all="ignore"):
        out = prim.eager(np, *(_operand(a, memory) for a in step.inputs), **step.eqn.params)
    _write(step, out if prim.multiple_results else (out,), memory)


def run_plan(
    plan: Plan,
    inputs: Sequence[Array],
    run: RunKernel = run_kernel,
    library: RunLibrary = run_library,
) -> list[Array]:
    """The results of a plan.

    Args:
        plan: What to run.
        inputs: One array an input.
        run: What runs kernels.
        library: What runs library steps that are no loops.
    """
    memory = [np.ascontiguousarray(x).reshape(-1) for x in inputs]
    for b in plan.updated:
        memory[b] = memory[b].copy()
    memory += [np.empty(b.size, b.dtype) for b in plan.buffers[len(inputs) :]]
    for step in plan.steps:
        for launch in launches_of(step):
            pairs = zip(launch.buffers, launch.kernel.operands, strict=True)
            run(launch.kernel, [memory[b].view(op.dtype) for b, op in pairs])
        if isinstance(step, Loop):
            found = run_loop(step, [_operand(a, memory) for a in step.inputs], run, library)
            _write(step, found, memory)
        elif isinstance(step, Library):
            library(step, plan, memory)
    return [
        np.asarray(r.value) if isinstance(r, Literal)
        else memory[r].reshape(plan.buffers[r].shape)
        for r in plan.results
    ]  # fmt: skip


def seen(view: View, memory: Sequence[Array] | Mapping[int, Array]) -> Array:
    """The array that a view shows."""
    data = memory[view.buffer]
    if not data.size:
        return np.empty(view.shape, data.dtype)
    strides = [s * data.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(data[view.offset :], view.shape, strides)


def _operand(a: View | Literal, memory: Sequence[Array]) -> Any:
    return a.value if isinstance(a, Literal) else seen(a, memory)


def _write(step: Library, results: Sequence[Any], memory: Sequence[Array]) -> None:
    for b, y in zip(step.outputs, results, strict=True):
        flat = np.asarray(y).reshape(-1)
        memory[b][:] = memory[b] + flat if isinstance(step, Added) else flat


def run_loop(
    step: Loop, args: Sequence[Any], run: RunKernel = run_kernel, library: RunLibrary = run_library
) -> list[Any]:
    """The results of a loop, by those of its plans.

    Args:
        step: The loop.
        args: Its operands.
        run: What runs kernels.
        library: What runs library steps that are no loops.
    """
    params, plans = step.eqn.params, step.plans
    if step.eqn.primitive.name == "cond":
        return list(run_plan(plans[int(args[0])], args[1:], run, library))
    before, consts, carry, xs = groups_of(step, args)
    if step.eqn.primitive.name == "while":
        while run_plan(plans[0], [*before, *carry], run, library)[0]:
            carry = run_plan(plans[1], [*consts, *carry], run, library)
        return list(carry)
    if step.eqn.primitive.name == "while_saved":
        return _run_saved(step, before, consts, carry, run, library)
    n, order = len(carry), range(params["length"])
    shapes = [(len(order), *a.shape) for a in step.jaxprs[0].out_avals[n:]]
    ys = [np.empty(s, a.dtype) for s, a in zip(shapes, step.jaxprs[0].out_avals[n:], strict=True)]
    for i in reversed(order) if params["reverse"] else order:
        outs = run_plan(plans[0], [*consts, *carry, *(x[i] for x in xs)], run, library)
        carry = outs[:n]
        for stacked, y in zip(ys, outs[n:], strict=True):
            stacked[i] = y
    return [*carry, *ys]


def _run_saved(
    step: Loop, before: Any, consts: Any, carry: Any, run: RunKernel, library: RunLibrary
) -> list[Any]:
    """The results of a while loop that keeps carries: rows of a stack at distances that double."""
    shapes = [v.aval for v in step.eqn.outputs[len(carry) : -1]]
    stacks = [np.zeros(a.shape, a.dtype) for a in shapes]
    spacing, steps = 1, 0
    while run_plan(step.plans[0], [*before, *carry], run, library)[0]:
        if steps % spacing == 0:
            if steps == spacing * shapes[0].shape[0]:
                spacing *= 2
                for s in stacks:
                    s[: len(s) // 2] = s[::2].copy()
            for s, x in zip(stacks, carry, strict=True):
                s[steps // spacing] = x
        carry = run_plan(step.plans[1], [*consts, *carry], run, library)
        steps += 1
    return [*carry, *stacks, np.int64(steps)]
