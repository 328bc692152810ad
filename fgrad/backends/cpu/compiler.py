"""From a jaxpr to an `Executable`: lowering, machine code for its kernels, and their launches."""

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fgrad.backends.cpu import layout, sequence
from fgrad.backends.cpu.assemble import assemble
from fgrad.backends.cpu.checked import checked_launch, checked_loop, checked_rule
from fgrad.backends.cpu.engine import Code, engine
from fgrad.backends.cpu.executable import Executable, Loaded
from fgrad.backends.cpu.functions import Functions, Launcher, functions
from fgrad.backends.cpu.ledger import Ledger
from fgrad.backends.cpu.nested import rule_of
from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.pool import thread_count
from fgrad.backends.cpu.products import product_of
from fgrad.backends.cpu.render import Function, module, render
from fgrad.backends.cpu.routine_table import has_routine, routine_of
from fgrad.backends.cpu.routines import Routine, function
from fgrad.backends.cpu.scalar_loops import ScalarLoop, scalar_loops
from fgrad.backends.cpu.schedule import schedule
from fgrad.backends.cpu.sequence import kernels_of, prepared, routines_of, runs_compiled
from fgrad.backends.cpu.target import Target, host
from fgrad.backends.cpu.together import Part, scratch_of
from fgrad.backends.cpu.writing import Codes
from fgrad.compile import passes
from fgrad.compile.batch import batched_alike
from fgrad.compile.collector import paused
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.lower import lower
from fgrad.compile.plan import Library, Loop, Plan, Step, launches_of
from fgrad.compile.replay import replays
from fgrad.core.config import config
from fgrad.core.ir import Eqn, Jaxpr


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
        state = _state(jaxpr, donated)
        key = config.trace_key(), passes.PASSES, lower
        found = replays.plan(jaxpr, key, state, _built, (layout.structure, schedule))
        plan = batched_alike(prepared(found.plan), found.notes)
        loaded = load(found.optimized, plan)
        if os.environ.get("FGRAD_NUM_THREADS"):
            import_module("fgrad.backends.cpu.budget").share_budget(plan.steps)
        return Executable(
            found.optimized, plan, loaded, functions().ready, donated, mark,
            replayed=found.replayed,
        )  # fmt: skip


def _built(jaxpr: Jaxpr) -> tuple[Jaxpr, Plan]:
    """A program after all passes, and its plan before library steps are prepared for this CPU."""
    optimized = passes.optimize(jaxpr)
    return optimized, lower(optimized, supports, has_routine)


def _state(jaxpr: Jaxpr, donated: Collection[int]) -> Collection[int]:
    """Inputs that are rather of the same shapes next time: those that results replace."""
    if donated:
        return donated
    types = {(a.shape, a.dtype) for a in jaxpr.out_avals}
    return [i for i, a in enumerate(jaxpr.in_avals) if a.shape and (a.shape, a.dtype) in types]


def load(optimized: Callable[[], Jaxpr], plan: Plan) -> list[Loaded | None]:
    """A function for each launch of a plan, loop and routine; None for its other steps.

    With `config.check` each judges what it has written, and products have such functions too.
    """
    steps = plan.steps
    loops = {i for i, s in enumerate(steps) if runs_compiled(s)}
    source = engine()
    target = source.target
    scalars = {id(step): found for step, found in scalar_loops(plan)}
    alone = () if config.check else scalars.keys()  # a check runs them step by step, too
    names = {kernel: name_of(kernel, target) for kernel in kernels_of(plan, alone)}
    kernels = {name: kernel for kernel, name in names.items()}
    routines = [routine_of(step, target) for step in steps]
    functions_of = {_name(("steps", found.text)): found for found in scalars.values()}
    parts_of = {n: (r, k) for r in routines_of(plan, target) for k, n in enumerate(_names(r))}

    def texts(names: Sequence[str]) -> list[str]:
        return _texts(
            {n: kernels[n] for n in names if n in kernels},
            target.vector_bytes,
            {n: parts_of[n] for n in names if n in parts_of},
            [functions_of[n].function(n) for n in names if n in functions_of],
            modules=min(2, thread_count()),
        )

    codes = source.load([*kernels, *parts_of, *functions_of], texts)
    made = functions()
    found: list[Loaded | None] = []
    for i, step in enumerate(steps):
        if i in loops:
            assert isinstance(step, Loop)
            found.append(_loop(step, codes, scalars, made, i))
            continue
        launches = launches_of(step)
        if not launches:
            assert isinstance(step, Library)
            found.append(_library(step, routines[i], codes, made, i))
            continue
        inside = [launch.kernel for launch in launches]
        owners = [codes[names[kernel]] for kernel in inside]
        parts = [_part(k, names[k], code) for k, code in zip(inside, owners, strict=True)]
        spin = i + 1 < len(steps) and bool(launches_of(steps[i + 1]))
        call, scratch = _launched(inside, parts, made, spin)
        if config.check:
            call = checked_launch(call, plan, optimized(), i)
        found.append(Loaded(call, made.scratch_bytes(scratch), owners))
    return _guarded(found, plan, optimized()) if config.check else found


def _guarded(found: list[Loaded | None], plan: Plan, jaxpr: Jaxpr) -> list[Loaded | None]:
    """The same functions, which first look whether memory holds what was written there."""
    ledger = Ledger(plan, jaxpr)
    return [
        f if f is None else f._replace(call=ledger.guarded(f.call, i)) for i, f in enumerate(found)
    ]


def _library(
    step: Library, routine: Routine | None, codes: Mapping[str, Code], made: Functions, number: int
) -> Loaded | None:
    """What computes a library step, if that is not for the executable to say."""
    found = None if routine is None else _sequence(routine, step, codes, made)
    if found is None and config.check and (product := product_of(step.eqn)) is not None:
        found = Loaded(product)
    if found is not None and config.check:
        found = found._replace(call=checked_rule(found.call, step.eqn, number))
    return found


def _loop(
    step: Loop, codes: Mapping[str, Code], scalars: Mapping[int, ScalarLoop], made: Functions,
    number: int,
) -> Loaded:  # fmt: skip
    """A loop as one function."""
    used: list[Any] = []

    def addresses(kernel: Kernel) -> tuple[int, int]:
        name = name_of(kernel, made.engine.target)
        code = codes[name]
        used.append(code)
        return code.addresses[name], code.addresses.get(f"{name}_combine", 0)

    def launcher(kernel: Kernel) -> Launcher:
        name = name_of(kernel, made.engine.target)
        call, scratch = _launched([kernel], [_part(kernel, name, codes[name])], made, False)
        size = made.scratch_bytes(scratch)
        return (lambda *a: call(*a, np.empty(size, np.uint8))) if size else call

    def steps(loop: Loop) -> tuple[ScalarLoop, int] | None:
        found = scalars.get(id(loop))
        if found is None:
            return None
        name = _name(("steps", found.text))
        used.append(codes[name])
        return found, codes[name].addresses[name]

    def parts(routine: Routine) -> list[int]:
        names = _names(routine)
        used.extend(codes[name] for name in names)
        return [codes[name].addresses[name] for name in names]

    def routine(inner: Library) -> Launcher | None:
        found = routine_of(inner, made.engine.target)
        if found is None:
            return None
        loaded = _sequence(found, inner, codes, made)
        size = loaded.scratch_bytes
        return (lambda *a: loaded.call(*a, np.empty(size, np.uint8))) if size else loaded.call

    tape = assemble(step, Codes(addresses, parts, steps), made)
    call = made.loop(tape)
    if tape.checks:
        call = functools.partial(_or_by_rule, call, step)
    if config.check:
        call = checked_loop(call, step, launcher, routine, made, number)
    return Loaded(call, tape.bytes, (used, tape))


def _or_by_rule(call: Launcher, step: Library, *arrays: Any) -> None:
    """Run a loop or routine; where a check in it fails its eager rule raises what there is to say.

    It has not changed what that depends on.
    """
    if not call(*arrays):
        return
    count = len(step.inputs)
    found = rule_of(step.eqn)(np, *arrays[:count], **step.eqn.params)
    results = found if step.eqn.primitive.multiple_results else [found]
    for out, y in zip(arrays[count:], results, strict=False):
        out[...] = y


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

    def checked(*arrays: Any) -> Any:
        fault = arrays[-1][:1]
        fault[0] = 0
        call(*arrays)
        return fault[0]

    owners = [codes[name] for name in names]
    final = functools.partial(_or_by_rule, checked, step) if routine.checked else call
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


def _texts(
    kernels: Mapping[str, Kernel], width: int, parts: Mapping[str, tuple[Routine, int]] = {},
    others: Sequence[Function] = (), modules: int = 1,
) -> list[str]:  # fmt: skip
    """The text of modules, of which each takes about as long to be compiled."""
    code = [render(kernel, n, layout.lanes(kernel, width)) for n, kernel in kernels.items()]
    code += [function(routine, k, n) for n, (routine, k) in parts.items()]
    code += others
    shares: list[list[Function]] = [[] for _ in range(min(modules, len(code)))]
    sizes = [0] * len(shares)
    for each in sorted(code, key=lambda f: -len(f.text)):
        least = sizes.index(min(sizes))
        shares[least].append(each)
        sizes[least] += len(each.text)
    return [module(share, 8 * width) for share in shares]


def text_of(kernel: Kernel) -> str:
    """The LLVM text of a kernel for this machine."""
    (text,) = _texts({"kernel": kernel}, host().vector_bytes)
    return text


def grid_of(kernel: Kernel) -> int:
    """The number of units of work that may run in parallel."""
    return layout.units(kernel)


def has_own_code(step: Library) -> bool:
    """Whether a step that is no kernel has machine code all the same."""
    return routine_of(step) is not None


def count_launches(step: Step) -> int:
    """How many kernels a step launches; a batch is launched as one."""
    own = isinstance(step, Library) and has_own_code(step)
    return int(own or bool(launches_of(step)))


def obstacle_of(loop: Loop) -> Eqn | None:
    """The first equation in the programs of a loop that only Python can run, or None."""
    return sequence.obstacle_of(loop)


def name_of(kernel: Kernel, target: Target) -> str:
    """The name of a kernel's function, which stands for all that its code depends on."""
    key = (name_of, target.vector_bytes)
    found: str | None = kernel.memo.get(key)
    if found is None:
        lanes = layout.lanes(kernel, target.vector_bytes)
        found = kernel.memo[key] = _name((layout.structure(kernel), lanes))
    return found


@functools.lru_cache(maxsize=4096)
def _name(key: object) -> str:
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:40]
