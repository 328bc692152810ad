"""From a jaxpr to an `Executable`: lowering, machine code for its kernels, and their launches."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.executable import Executable, Loaded
from fgrad.backends.cpu.functions import Functions, Launcher, functions
from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.render import module, render
from fgrad.backends.cpu.target import host
from fgrad.compile.bounds import fault
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Launch, Plan
from fgrad.core.config import config
from fgrad.core.errors import KernelMismatchError
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
    return Executable(jaxpr, plan, load(jaxpr, plan, made), made.ready)


def load(jaxpr: Jaxpr, plan: Plan, made: Functions) -> list[Loaded | None]:
    """A function for each launch of a plan; None for its other steps.

    With `config.check` each compares what its kernel has written with what that means.
    """
    steps = plan.steps
    kernels = {
        name_of(step.kernel, made): step.kernel for step in steps if isinstance(step, Launch)
    }
    width = made.engine.target.vector_bytes

    def text(names: Sequence[str]) -> str:
        return _text({n: kernels[n] for n in names}, width)

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
        if config.check:
            call = functools.partial(_checked, call, kernel, _told(jaxpr, kernel))
        found.append(Loaded(call, made.scratch_bytes(scratch), codes[name]))
    return found


def _text(kernels: Mapping[str, Kernel], width: int) -> str:
    code = [render(kernel, n, layout.lanes(kernel, width)) for n, kernel in kernels.items()]
    return module(code, 8 * width)


def text_of(kernel: Kernel) -> str:
    """The LLVM text of a kernel for this machine."""
    return _text({"kernel": kernel}, host().vector_bytes)


def grid_of(kernel: Kernel) -> int:
    """The number of units of work that may run in parallel."""
    return layout.units(kernel)


def _told(jaxpr: Jaxpr, kernel: Kernel) -> str:
    """The equations of a kernel and where the user asked for them, a line each."""
    eqns = [jaxpr.eqns[i] for i in kernel.eqns]
    return "".join(f"\n  {e!r}  at {e.source}" for e in eqns)


def _checked(call: Launcher, kernel: Kernel, told: str, *arrays: Any) -> None:
    pairs = zip(arrays, kernel.operands, strict=False)
    flat = [a.reshape(-1).view(op.dtype) for a, op in pairs]
    before = [a.copy() for a in flat]
    call(*arrays)
    found = fault(kernel, before, flat)
    if found is not None:
        raise KernelMismatchError(
            f"kernel {kernel.name} does not compute what it means; {found}; it fuses{told}"
        )


def name_of(kernel: Kernel, made: Functions) -> str:
    """The name of a kernel's function, which stands for all that its code depends on."""
    lanes = layout.lanes(kernel, made.engine.target.vector_bytes)
    return _name((layout.structure(kernel), lanes))


@functools.lru_cache(maxsize=4096)
def _name(key: object) -> str:
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:40]
