"""From a jaxpr to an `Executable`: lowering, machine code for its kernels, and their launches."""

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.assemble import assemble
from fgrad.backends.cpu.engine import Code
from fgrad.backends.cpu.executable import Executable, Loaded
from fgrad.backends.cpu.functions import Functions, Launcher, functions
from fgrad.backends.cpu.nested import rule_of
from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.render import module, render
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.backends.cpu.routines import Routine, function
from fgrad.backends.cpu.sequence import kernels_of, prepared, routines_of, runs_compiled
from fgrad.backends.cpu.target import host
from fgrad.backends.cpu.together import Part, scratch_of
from fgrad.compile.batch import batched
from fgrad.compile.bounds import fault
from fgrad.compile.collector import paused
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Library, Loop, Plan, launches_of
from fgrad.core.config import config
from fgrad.core.errors import KernelMismatchError
from fgrad.core.ir import Jaxpr


def compile_program(
    jaxpr: Jaxpr, donated: Collection[int] = (), mark: Callable[[], object] | None = None
) -> Executable:
    """The executable of a closed program.

    Args:
        jaxpr: The program, before the passes.
        donated: Inputs whose memory results may take over.
        mark: Called before the first step and after each; None: nothing is measured.

    Raises:
        CompilationError: The code of a kernel is rejected.
    """
    with paused():
        jaxpr = optimize(jaxpr)
        plan = batched(prepared(lower(jaxpr, supports)))
        made = functions()
        loaded = load(jaxpr, plan, made)
        if os.environ.get("FGRAD_NUM_THREADS"):
            import_module("fgrad.backends.cpu.budget").share_budget(plan.steps)
        return Executable(jaxpr, plan, loaded, made.ready, donated, mark)


def load(jaxpr: Jaxpr, plan: Plan, made: Functions) -> list[Loaded | None]:
    """A function for each launch of a plan; None for its other steps.

    With `config.check` each compares what its kernel has written with what that means.
    """
    steps = plan.steps
    # With `config.check` loops stay with Python, and their kernels are checked one by one.
    loops = set() if config.check else {i for i, s in enumerate(steps) if runs_compiled(s)}
    names = {kernel: name_of(kernel, made) for kernel in kernels_of(plan)}
    kernels = {name: kernel for kernel, name in names.items()}
    target = made.engine.target
    routines = [routine_of(step, target) for step in steps]
    parts_of = {n: (r, k) for r in routines_of(plan, target) for k, n in enumerate(_names(r))}

    def text(names: Sequence[str]) -> str:
        return _text(
            {n: kernels[n] for n in names if n in kernels},
            target.vector_bytes,
            {n: parts_of[n] for n in names if n in parts_of},
        )

    codes = made.engine.load([*kernels, *parts_of], text)
    found: list[Loaded | None] = []
    for i, step in enumerate(steps):
        if i in loops:
            assert isinstance(step, Loop)
            found.append(_loop(step, codes, made))
            continue
        launches = launches_of(step)
        if not launches:
            routine = routines[i]
            assert isinstance(step, Library)
            found.append(None if routine is None else _sequence(routine, step, codes, made))
            continue
        inside = [launch.kernel for launch in launches]
        owners = [codes[names[kernel]] for kernel in inside]
        parts = [_part(k, names[k], code) for k, code in zip(inside, owners, strict=True)]
        spin = i + 1 < len(steps) and bool(launches_of(steps[i + 1]))
        call, scratch = _launched(inside, parts, made, spin)
        if config.check:
            call = functools.partial(_checked, call, inside, [_told(jaxpr, k) for k in inside])
        found.append(Loaded(call, made.scratch_bytes(scratch), owners))
    return found


def _loop(step: Loop, codes: Mapping[str, Code], made: Functions) -> Loaded:
    """A loop as one function."""
    used: list[Any] = []

    def addresses(kernel: Kernel) -> tuple[int, int]:
        name = name_of(kernel, made)
        code = codes[name]
        used.append(code)
        return code.addresses[name], code.addresses.get(f"{name}_combine", 0)

    def parts(routine: Routine) -> list[int]:
        names = _names(routine)
        used.extend(codes[name] for name in names)
        return [codes[name].addresses[name] for name in names]

    tape = assemble(step, addresses, parts, made)
    call = made.loop(tape)
    return Loaded(_raising(call, step) if tape.checked else call, tape.bytes, (used, tape))


def _raising(call: Launcher, step: Library) -> Launcher:
    """A function of a step's operands and results that runs its eager rule where `call` refuses."""
    rule, count = rule_of(step.eqn), len(step.inputs)

    def run(*arrays: Any) -> None:
        if call(*arrays) is False:
            found = rule(np, *arrays[:count], **step.eqn.params)
            results = found if step.eqn.primitive.multiple_results else [found]
            for out, x in zip(arrays[count:], results, strict=False):
                out[...] = x

    return run


def _launched(
    kernels: Sequence[Kernel], parts: Sequence[Part], made: Functions, spin: bool
) -> tuple[Launcher, tuple[int, int]]:
    """A function of the operands of some kernels, and the scratch memory that it needs."""
    ns = sum(cost(kernel).ns for kernel in kernels)
    scratch = scratch_of(parts)
    if len(parts) > 1:
        return made.launch_many(parts, cost_ns=ns, spin=spin), scratch
    (p,) = parts
    call = made.launch(
        p.kernel, p.words, p.operands, p.units,
        cost_ns=ns,
        combine=(p.combine, p.combine_units) if p.combine else None,
        scratch=scratch,
        spin=spin,
    )  # fmt: skip
    return call, scratch


def _names(routine: Routine) -> list[str]:
    """The names of the functions of a routine."""
    stem = _name(("routine", routine.key))
    return [f"{stem}_{k}" for k in range(len(routine.codes))]


def _sequence(
    routine: Routine, step: Library, codes: Mapping[str, Code], made: Functions
) -> Loaded:
    """A function that runs the phases of a routine on operands, results and scratch memory."""
    names = _names(routine)
    last = len(routine.phases) - 1
    calls = [
        made.launch(
            codes[names[phase.code]].addresses[names[phase.code]], [phase.first],
            routine.arguments, phase.units, cost_ns=phase.cost_ns, spin=k < last,
        )
        for k, phase in enumerate(routine.phases)
    ]  # fmt: skip

    def run(*arrays: Any) -> None:
        for call in calls:
            call(*arrays)

    call = run if last else calls[0]

    def checked(*arrays: Any) -> bool:
        fault = arrays[-1][:8].view(np.int64)
        fault[0] = 0
        call(*arrays)
        return not fault[0]

    owners = [codes[name] for name in names]
    final = _raising(checked, step) if routine.checked else call
    return Loaded(final, routine.scratch_bytes, owners, routine.over)


def _part(kernel: Kernel, name: str, code: Code) -> Part:
    scratch = layout.scratch(kernel)
    return Part(
        code.addresses[name],
        code.addresses[f"{name}_combine"] if layout.accumulates(kernel) else 0,
        len(kernel.operands),
        layout.words(kernel),
        layout.units(kernel),
        layout.combine_units(kernel),
        scratch.shared_bytes,
        scratch.thread_bytes,
    )


def _text(
    kernels: Mapping[str, Kernel], width: int, parts: Mapping[str, tuple[Routine, int]] = {}
) -> str:
    code = [render(kernel, n, layout.lanes(kernel, width)) for n, kernel in kernels.items()]
    code += [function(routine, k, n) for n, (routine, k) in parts.items()]
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


def _checked(call: Launcher, kernels: Sequence[Kernel], told: Sequence[str], *arrays: Any) -> None:
    ends = list(accumulate((len(k.operands) for k in kernels), initial=0))
    operands = (op for k in kernels for op in k.operands)
    flat = [a.reshape(-1).view(op.dtype) for a, op in zip(arrays, operands, strict=False)]
    before = [a.copy() for a in flat]
    call(*arrays)
    for kernel, text, (first, last) in zip(kernels, told, pairwise(ends), strict=True):
        found = fault(kernel, before[first:last], flat[first:last])
        if found is not None:
            raise KernelMismatchError(
                f"kernel {kernel.name} does not compute what it means; {found}; it fuses{text}"
            )


def name_of(kernel: Kernel, made: Functions) -> str:
    """The name of a kernel's function, which stands for all that its code depends on."""
    lanes = layout.lanes(kernel, made.engine.target.vector_bytes)
    return _name((layout.structure(kernel), lanes))


@functools.lru_cache(maxsize=4096)
def _name(key: object) -> str:
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:40]
