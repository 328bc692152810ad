"""Runs the plans of library steps on the CPU: kernels through the emulation, libraries faked."""

from collections.abc import Callable

import numpy as np

from fgrad.backends.cuda.calls import ForeignCall, KernelCall, LibraryPlan, addresses
from fgrad.backends.cuda.prelude import with_prelude
from fgrad.compile.plan import Library, Plan
from fgrad.core.ir import Literal
from tests.shim import build

_ALIGNMENT = 256


def aligned(nbytes: int) -> np.ndarray:
    """Bytes that start where memory of a device would."""
    raw = np.full(nbytes + _ALIGNMENT, 0xA5, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + nbytes]


def copied(array: np.ndarray) -> np.ndarray:
    """A copy that starts where memory of a device would."""
    flat = aligned(max(array.nbytes, 1))[: array.nbytes].view(array.dtype)
    flat[:] = np.ascontiguousarray(array).reshape(-1)
    return flat


def execute(
    plan: LibraryPlan,
    inputs: list[np.ndarray],
    outputs: list[np.ndarray],
    foreign: Callable[[ForeignCall], None] | None = None,
) -> np.ndarray:
    """Run a plan on buffers, which are flat.

    Args:
        plan: What to run.
        inputs: One array an operand.
        outputs: One array a result.
        foreign: What makes a call of a library; None: there is none.

    Returns:
        The workspace.
    """
    workspace = aligned(max(plan.workspace_bytes, 1))
    bases = [[a.ctypes.data for a in arrays] for arrays in (inputs, outputs)]
    for call in plan.calls:
        pointers = addresses(call, *bases, workspace.ctypes.data)
        if isinstance(call, KernelCall):
            args = [*pointers, workspace.ctypes.data, call.words]
            shim = build(with_prelude(call.source))
            shim.run(call.name, call.grid, call.block, call.shared_bytes, args)
        else:
            assert foreign is not None, f"{call.name} is a call of a library"
            foreign(call)(0, pointers)
    return workspace


def library_of(rule: Callable, execute: Callable = execute) -> Callable:
    """What runs the library steps of a plan (see `run_plan`) as a rule says."""

    def run(step: Library, plan: Plan, memory: list[np.ndarray]) -> None:
        found = rule(step, plan.buffers)
        assert found is not None, f"{step.eqn.primitive.name} has no rule"
        inputs = [
            copied(np.asarray(a.value)) if isinstance(a, Literal) else copied(memory[a.buffer])
            for a in step.inputs
        ]
        outputs = [copied(memory[b]) for b in step.outputs]
        execute(found, inputs, outputs)
        for b, y in zip(step.outputs, outputs, strict=True):
            memory[b][:] = y

    return run
