"""Runs a plan by NumPy: kernels by their meaning, library steps by eager rules. The oracle."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Library, Plan, View, launches_of
from fgrad.core.ir import Literal

Array = np.ndarray[Any, Any]


def run_plan(
    plan: Plan,
    inputs: Sequence[Array],
    run: Callable[[Kernel, Sequence[Array]], None] = run_kernel,
) -> list[Array]:
    """The results of a plan.

    Args:
        plan: What to run.
        inputs: One array an input.
        run: What runs kernels.
    """
    memory = [np.ascontiguousarray(x).reshape(-1) for x in inputs]
    memory += [np.empty(b.size, b.dtype) for b in plan.buffers[len(inputs) :]]
    for step in plan.steps:
        for launch in launches_of(step):
            pairs = zip(launch.buffers, launch.kernel.operands, strict=True)
            run(launch.kernel, [memory[b].view(op.dtype) for b, op in pairs])
        if isinstance(step, Library):
            _run_library(step, memory)
    return [
        np.asarray(r.value) if isinstance(r, Literal)
        else memory[r].reshape(plan.buffers[r].shape)
        for r in plan.results
    ]  # fmt: skip


def seen(view: View, memory: Sequence[Array]) -> Array:
    """The array that a view shows."""
    data = memory[view.buffer]
    if not data.size:
        return np.empty(view.shape, data.dtype)
    strides = [s * data.itemsize for s in view.strides]
    return np.lib.stride_tricks.as_strided(data[view.offset :], view.shape, strides)


def _run_library(step: Library, memory: Sequence[Array]) -> None:
    args = [a.value if isinstance(a, Literal) else seen(a, memory) for a in step.inputs]
    prim = step.eqn.primitive
    with np.errstate(all="ignore"):
        out = prim.eager(np, *args, **step.eqn.params)
    for b, y in zip(step.outputs, out if prim.multiple_results else (out,), strict=True):
        memory[b][:] = np.asarray(y).reshape(-1)
