"""From a jaxpr to an `Executable` for NVIDIA GPUs."""

import functools
from collections.abc import Collection, Iterator
from importlib import import_module

from fgrad.backends.cuda.calls import KernelCall
from fgrad.backends.cuda.executable import Executable, Target
from fgrad.backends.cuda.module import CudaCode, name_of
from fgrad.backends.cuda.rooms import units_of
from fgrad.compile.batch import batched
from fgrad.compile.collector import paused
from fgrad.compile.kernel import Kernel
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Library, Loop, Plan, Step, is_check
from fgrad.compile.updates import is_update
from fgrad.core.errors import UnsupportedPrimitiveError
from fgrad.core.ir import Eqn, Jaxpr
from fgrad.core.primitive import Lowering

_LONG_NS = 2e7  # on one core of a CPU: a kernel that takes so long fills a GPU by itself


def compile_program(jaxpr: Jaxpr, donated: Collection[int] = ()) -> Executable:
    """The executable of a closed program.

    Args:
        jaxpr: The program, before the passes.
        donated: Inputs whose memory results may take over.

    Raises:
        UnsupportedPrimitiveError: Nothing computes an equation of it on the device.
    """
    return made_for(gpu(), jaxpr, donated)


def made_for(target: Target, jaxpr: Jaxpr, donated: Collection[int] = ()) -> Executable:
    """The executable of a closed program for a target."""
    with paused():
        jaxpr = optimize(jaxpr)
        plan = lower(jaxpr, target.supports, target.keeps)
        plan = batched(plan, _LONG_NS, shares=True)
        check_supported(plan, target)
        return Executable(jaxpr, plan, donated, target)


@functools.cache
def gpu() -> Target:
    """The GPUs of this machine, by CuPy."""
    prelude, library, device = (
        import_module(f"fgrad.backends.cuda.{n}") for n in ("prelude", "library", "cupy_device")
    )
    code = CudaCode(device.parameter_bytes())
    return Target(code, library.plan_of, device.device_of, prelude.supports, library.keeps)


def check_supported(plan: Plan, target: Target) -> None:
    """Raise unless there is code for all steps of a plan and its loops.

    Raises:
        UnsupportedPrimitiveError: There is none for one.
    """
    for step in unsupported(plan, target):
        eqn = step.eqn
        given = ", ".join(str(a.aval) for a in eqn.inputs)
        raise UnsupportedPrimitiveError(
            f"no code for CUDA computes {eqn.primitive.name}({given}), asked for at {eqn.source}; "
            f"keep it outside of jit, or run this program operation by operation with "
            f"fgrad.cuda_compiler('eager')"
        )


def unsupported(plan: Plan, target: Target) -> Iterator[Library]:
    """The steps of a plan and its loops that nothing computes on a device, in order."""
    for step in plan.steps:
        if isinstance(step, Loop):
            for inner in step.plans:
                yield from unsupported(inner, target)
        elif isinstance(step, Library) and not (
            is_check(step)
            or is_update(step, plan.buffers)
            or runs_on_host(step.eqn)
            or target.libraries(step) is not None
        ):
            yield step


def runs_on_host(eqn: Eqn) -> bool:
    """Whether the host runs an equation on arrays of the device, and waits for what it decides by.

    Functions of the user, and the way back over a while loop, which replays parts of it: each part
    is a compiled program.
    """
    lower = eqn.primitive.lower
    host = isinstance(lower, Lowering) and lower.kind == "host"
    return host or bool(eqn.effects) or eqn.primitive.name in ("while_pull", "steps_of_all")


def text_of(kernel: Kernel) -> str:
    """The CUDA C of a kernel, without the prelude."""
    code = gpu().code
    return code.source((kernel,), name_of(code.key(kernel)))


def grid_of(kernel: Kernel) -> int:
    """The blocks of the first function that is launched for a kernel."""
    return next((int(part.grid) for part in gpu().code.launches((kernel,))), 0)


def has_own_code(step: Library) -> bool:
    """Whether a step that is no fused kernel is computed by kernels of our own."""
    plan = None if is_check(step) else gpu().libraries(step)
    return is_check(step) or (
        plan is not None and all(isinstance(call, KernelCall) for call in plan.calls)
    )


def count_launches(step: Step) -> int:
    """How many kernels of our own a step launches."""
    target = gpu()
    if isinstance(step, Library):
        plan = None if is_check(step) else target.libraries(step)
        calls = () if plan is None else plan.calls
        return is_check(step) + sum(isinstance(call, KernelCall) for call in calls)
    code = target.code
    return sum(len(code.launches(unit)) for unit, _ in units_of(step, code.together))


def obstacle_of(loop: Loop) -> Eqn | None:
    """The first equation in the programs of a loop for which it runs on the host, or None."""
    target = gpu()
    for step in (step for plan in loop.plans for step in plan.steps):
        if isinstance(step, Loop):
            found = obstacle_of(step)
            if found is not None:
                return found
        elif isinstance(step, Library) and not (is_check(step)):
            plan = target.libraries(step)
            if runs_on_host(step.eqn) if plan is None else not plan.captures:
                return step.eqn
    return None
