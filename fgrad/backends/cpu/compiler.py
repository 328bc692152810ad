"""From a jaxpr to an `Executable`: lowering, machine code for its kernels, and their launches."""

import functools
import hashlib
from collections.abc import Sequence

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.executable import Executable, Loaded
from fgrad.backends.cpu.functions import Functions, functions
from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.render import module, render
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Launch, Plan
from fgrad.core.ir import Jaxpr


def compile_program(jaxpr: Jaxpr) -> Executable:
    """The executable of a closed program.

    Args:
        jaxpr: The program, before the passes.

    Raises:
        CompilationError: The code of a kernel is rejected.
    """
    jaxpr = optimize(jaxpr)
    plan = lower(jaxpr, supports)
    made = functions()
    return Executable(jaxpr, plan, load(plan, made), made.ready)


def load(plan: Plan, made: Functions) -> list[Loaded | None]:
    """A function for each launch of a plan; None for its other steps."""
    steps = plan.steps
    kernels = {
        name_of(step.kernel, made): step.kernel for step in steps if isinstance(step, Launch)
    }
    width = made.engine.target.vector_bytes

    def text(names: Sequence[str]) -> str:
        return module(
            [render(kernels[n], n, layout.lanes(kernels[n], width)) for n in names], 8 * width
        )

    codes = made.engine.load(list(kernels), text)
    found: list[Loaded | None] = []
    for i, step in enumerate(steps):
        if not isinstance(step, Launch):
            found.append(None)
            continue
        kernel = step.kernel
        name = name_of(kernel, made)
        address = codes[name].addresses
        second = layout.combine_units(kernel)
        scratch = layout.scratch(kernel)
        call = made.launch(
            address[name], layout.words(kernel), len(kernel.operands), layout.units(kernel),
            cost_ns=cost(kernel).ns,
            combine=(address[f"{name}_combine"], second) if layout.accumulates(kernel) else None,
            scratch=scratch,
            spin=i + 1 < len(steps) and isinstance(steps[i + 1], Launch),
        )  # fmt: skip
        found.append(Loaded(call, made.scratch_bytes(scratch), codes[name]))
    return found


def name_of(kernel: Kernel, made: Functions) -> str:
    """The name of a kernel's function, which stands for all that its code depends on."""
    lanes = layout.lanes(kernel, made.engine.target.vector_bytes)
    return _name((layout.structure(kernel), lanes))


@functools.lru_cache(maxsize=4096)
def _name(key: object) -> str:
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:40]
