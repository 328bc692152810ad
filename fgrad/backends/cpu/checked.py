"""Steps of a program that compare what they have computed with what they mean (`config.check`).

Kernels, also those of a batch, are judged by their meaning, and that by the eager rules of the
equations that they fuse; routines and products by the eager rule of their equation. A loop on a
tape is run a second time, step by step from Python, through the same kernels, products and
routines, each of which is judged; as they are the same, so are the results, to the bit. Other steps
run the eager rule itself.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from fgrad.backends.cpu.assemble import assemble_product
from fgrad.backends.cpu.functions import Functions, Launcher
from fgrad.compile.bounds import fault
from fgrad.compile.by_rules import ByRules
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Added, Library, Loop, Plan, View, is_check, launches_of
from fgrad.compile.rule_bounds import rule_fault, same_bits
from fgrad.compile.run_plan import run_loop, seen
from fgrad.core.errors import KernelMismatchError
from fgrad.core.ir import Eqn, Jaxpr

Array = Any


def checked_launch(call: Launcher, plan: Plan, jaxpr: Jaxpr, number: int) -> Launcher:
    """A function like `call`, which launches the kernels of a step, that judges them."""
    launches = launches_of(plan.steps[number])
    texts = [_told(jaxpr, launch.kernel) for launch in launches]
    rules = [ByRules(jaxpr, plan, launch) for launch in launches]
    kernels = [launch.kernel for launch in launches]
    return partial(_launch, call, kernels, texts, f"step {number}, ", rules)


def checked_rule(call: Launcher, eqn: Eqn, number: int) -> Launcher:
    """A function like `call`, which computes an equation, that judges it by the eager rule."""
    count, results = len(eqn.inputs), len(eqn.outputs)

    def run(*arrays: Array) -> None:
        before = [np.array(x) for x in arrays[:count]]
        call(*arrays)
        found = rule_fault(eqn, before, arrays[count : count + results])
        if found is not None:
            raise _mismatch(f"step {number}, {eqn.primitive.name},", found, _line(eqn))

    return run


def checked_loop(
    call: Launcher, step: Loop, launcher: Callable[[Kernel], Launcher],
    routine: Callable[[Library], Launcher | None], made: Functions, number: int,
) -> Launcher:  # fmt: skip
    """A function like `call`, which runs the tape of a loop, that judges it and its parts.

    Args:
        call: Takes the operands, the results, and the frame.
        step: The loop.
        launcher: Makes a function of the operands of a kernel.
        routine: Makes one of the operands and results of an equation that has a routine.
        made: What makes functions.
        number: The position of the step.
    """
    count, eqn = len(step.inputs), step.eqn
    where = f"step {number}, in {eqn.primitive.name}: "
    texts = {id(k): text for k, text in _kernels_of(step)}
    calls: dict[Kernel, Launcher] = {}

    def kernel(k: Kernel, operands: Sequence[Array]) -> None:
        if k not in calls:
            calls[k] = launcher(k)
        _launch(calls[k], [k], [texts[id(k)]], where, (), *operands)

    others: dict[int, Callable[..., None]] = {}

    def library(inner: Library, plan: Plan, memory: Sequence[Array]) -> None:
        if is_check(inner):
            return  # the tape has passed it
        if id(inner) not in others:
            found = routine(inner)
            others[id(inner)] = (
                _product(inner, plan, made, where)
                if found is None
                else _routine(inner, found, plan, where)
            )
        others[id(inner)](memory)

    def run(*arrays: Array) -> None:
        before = [np.array(x) for x in arrays[:count]]
        call(*arrays)  # raises where an index lies outside
        wanted = run_loop(step, before, kernel, library)
        for k, (y, want) in enumerate(zip(arrays[count:], wanted, strict=False)):
            found = same_bits(y, np.asarray(want).reshape(y.shape))
            if found is not None:
                raise _mismatch(
                    f"step {number}, {eqn.primitive.name},", f"result {k}, {found}", _line(eqn)
                )

    return run


def _launch(
    call: Launcher, kernels: Sequence[Kernel], texts: Sequence[str], where: str,
    rules: Sequence[ByRules], *arrays: Array,
) -> None:  # fmt: skip
    ends = list(accumulate((len(k.operands) for k in kernels), initial=0))
    operands = (op for k in kernels for op in k.operands)
    flat = [a.reshape(-1).view(op.dtype) for a, op in zip(arrays, operands, strict=False)]
    before = [a.copy() for a in flat]
    call(*arrays)
    for kernel, text, (first, last) in zip(kernels, texts, pairwise(ends), strict=True):
        found = fault(kernel, before[first:last], flat[first:last])
        if found is not None:
            raise _mismatch(f"{where}kernel {kernel.name}", found, text)
    for rule, text, (first, last) in zip(rules, texts, pairwise(ends), strict=False):
        wanted = rule.written(before[first:last], flat[first:last])
        if wanted is None:
            continue
        found = fault(rule.kernel, before[first:last], wanted, serial=True)
        if found is not None:
            raise KernelMismatchError(
                f"{where}kernel {rule.kernel.name} is not what its equations say (got: by their "
                f"rules, expected: by the kernel); {found}; its equations are{text}"
            )


def _product(step: Library, plan: Plan, made: Functions, where: str) -> Callable[..., None]:
    """A function of the buffers of a plan that runs a product as a tape does, and judges it."""
    tape = assemble_product(step, plan, made)
    call = made.loop(tape)
    views = [v for v in step.inputs if isinstance(v, View)]
    (out,) = step.outputs
    shape = step.eqn.outputs[0].aval.shape

    def run(memory: Sequence[Array]) -> None:
        operands = [seen(v, memory).copy() for v in views]
        base = memory[out].reshape(shape).copy() if isinstance(step, Added) else None
        call(*(memory[v.buffer] for v in views), memory[out], np.empty(tape.bytes, np.uint8))
        found = rule_fault(step.eqn, operands, [memory[out].reshape(shape)], base)
        if found is not None:
            raise _mismatch(f"{where}{step.eqn.primitive.name}", found, _line(step.eqn))

    return run


def _routine(step: Library, call: Launcher, plan: Plan, where: str) -> Callable[..., None]:
    """A function of the buffers of a plan that runs a routine, and judges it."""

    def run(memory: Sequence[Array]) -> None:
        operands = [
            seen(a, memory) if isinstance(a, View) else np.asarray(a.value, a.aval.dtype)
            for a in step.inputs
        ]
        before = [np.array(x) for x in operands]
        results = [memory[b].reshape(plan.buffers[b].shape) for b in step.outputs]
        call(*operands, *results)
        found = rule_fault(step.eqn, before, results)
        if found is not None:
            raise _mismatch(f"{where}{step.eqn.primitive.name}", found, _line(step.eqn))

    return run


def _kernels_of(loop: Loop) -> Iterator[tuple[Kernel, str]]:
    """The kernels of a loop and of those in it, each with what it fuses."""
    for jaxpr, plan in zip(loop.jaxprs, loop.plans, strict=True):
        for step in plan.steps:
            for launch in launches_of(step):
                yield launch.kernel, _told(jaxpr, launch.kernel)
            if isinstance(step, Loop):
                yield from _kernels_of(step)


def _told(jaxpr: Jaxpr, kernel: Kernel) -> str:
    """The equations of a kernel and where the user asked for them, a line each."""
    return "".join(_line(jaxpr.eqns[i]) for i in kernel.eqns)


def _line(eqn: Eqn) -> str:
    return f"\n  {eqn!r}  at {eqn.source}"


def _mismatch(what: str, found: str, equations: str) -> KernelMismatchError:
    return KernelMismatchError(
        f"{what} does not compute what it means; {found}; its equations are{equations}"
    )
