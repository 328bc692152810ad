"""What a compiled program consists of: its kernels, steps, memory and cost, as plain data."""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

from fgrad.api.execution import Runnable
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.memory import Memory
from fgrad.compile.plan import Library, Loop, Plan, launches_of, writes_of
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Eqn, Jaxpr, Var, subjaxprs
from fgrad.core.primitive import Lowering


class KernelInfo(NamedTuple):
    """A kernel of a program.

    Attributes:
        name: Made of the equations fused in it.
        loops: The kernel in the loop IR.
        source: The code handed to the target's compiler.
        grid: The number of units that may run in parallel.
        flops: Operations; an elementary function counts as one.
        bytes: Bytes read and written.
        equations: The equations fused in it.
        lines: The user's lines that asked for them.
    """

    name: str
    loops: str
    source: str
    grid: int
    flops: int
    bytes: int
    equations: tuple[Eqn, ...]
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        # Without the source: it has hundreds of lines.
        where = "".join(f"\n  at {line}" for line in self.lines)
        return f"{self.loops}\n  {self.flops:,} operations, {self.bytes:,} bytes{where}"


class StepInfo(NamedTuple):
    """A step of a program.

    Attributes:
        kind: 'kernel' (also an equation with machine code of its own, such as a scatter),
            'library' (an eager rule, such as a matrix product), 'loop' (its steps run without
            Python) or 'host' (a function of the user, or a loop with a step that only Python can
            run).
        name: Of the kernel or the primitive.
        buffers: The types of what it writes.
        lines: The user's lines that asked for it.
        flops: Operations, as far as they are known (see `Lowered.cost_analysis`).
        bytes: Bytes read and written.
        equations: The equations that it computes.
        steps: Of a loop: the steps of its programs.
        reason: Of a loop that Python runs: why.
        launches: How many kernels it launches; of a loop: in its programs, each counted once.
    """

    kind: str
    name: str
    buffers: tuple[str, ...]
    lines: tuple[str, ...]
    flops: int
    bytes: int
    equations: tuple[Eqn, ...]
    steps: "tuple[StepInfo, ...]" = ()
    reason: str = ""
    launches: int = 0

    def __repr__(self) -> str:
        # A line for the step, then the user's lines and the steps of a loop, indented.
        head = f"{self.kind} {self.name} writes {', '.join(self.buffers) or 'nothing'}: "
        notes = [f"at {line}" for line in self.lines]
        notes += [self.reason] if self.reason else []
        notes += [line for step in self.steps for line in repr(step).splitlines()]
        cost = f"{self.flops:,} operations, {self.bytes:,} bytes"
        return "\n  ".join([head + cost, *notes])


def kernels_of(program: Runnable) -> list[KernelInfo]:
    """The kernels of a program, in order; none where NumPy runs it."""
    plan = _plan(program)
    if plan is None:
        return []
    return list(_kernels(program.jaxpr, plan, _compiler(program)))


def _kernels(jaxpr: Jaxpr, plan: Plan, compiler: Any) -> Iterator[KernelInfo]:
    """The kernels of a plan and of its loops."""
    for step in plan.steps:
        for launch in launches_of(step):
            kernel = launch.kernel
            eqns, price = _fused(jaxpr, kernel), cost(kernel)
            yield KernelInfo(
                kernel.name, str(kernel), compiler.text_of(kernel), compiler.grid_of(kernel),
                price.flops, price.bytes, eqns, _lines(eqns),
            )  # fmt: skip
        if isinstance(step, Loop):
            for inner, body in zip(step.jaxprs, step.plans, strict=True):
                yield from _kernels(inner, body, compiler)


def loops_of(program: Runnable) -> list[str]:
    """For each step of a program its loop IR, empty for those that have no kernels."""
    plan = _plan(program)
    if plan is None:
        return [""] * len(program.jaxpr.eqns)
    return [
        "\n".join(map(str, s.plans if isinstance(s, Loop) else (x.kernel for x in launches_of(s))))
        for s in plan.steps
    ]


def schedule_of(program: Runnable) -> list[StepInfo]:
    """The steps of a program, in order."""
    plan = _plan(program)
    if plan is None:
        return [_called(e) for e in program.jaxpr.eqns]
    return _steps(program.jaxpr, plan, _compiler(program))


def _steps(jaxpr: Jaxpr, plan: Plan, compiler: Any) -> list[StepInfo]:
    found = []
    for step in plan.steps:
        if isinstance(step, Loop):
            found.append(_loop(step, compiler))
        elif isinstance(step, Library):
            info = _called(step.eqn)
            kind = "kernel" if compiler.has_own_code(step) else info.kind
            found.append(info._replace(kind=kind, launches=compiler.count_launches(step)))
        else:
            kernels = [launch.kernel for launch in launches_of(step)]
            written = [plan.buffers[b] for b in sorted(writes_of(step))]
            types = tuple(f"{b.dtype.name}{list(b.shape)}" for b in written)
            eqns = tuple(eqn for kernel in kernels for eqn in _fused(jaxpr, kernel))
            prices = [cost(kernel) for kernel in kernels]
            flops, moved = sum(p.flops for p in prices), sum(p.bytes for p in prices)
            info = StepInfo("kernel", kernels[0].name, types, _lines(eqns), flops, moved, eqns)
            found.append(info._replace(launches=compiler.count_launches(step)))
    return found


def _loop(step: Loop, compiler: Any) -> StepInfo:
    """A loop; operations are those of all steps of a scan, of one step of a while loop."""
    pairs = zip(step.jaxprs, step.plans, strict=True)
    programs = [_steps(jaxpr, plan, compiler) for jaxpr, plan in pairs]
    flops = [sum(s.flops for s in steps) for steps in programs]
    moved = [sum(s.bytes for s in steps) for steps in programs]
    together = max if step.eqn.primitive.name == "cond" else sum
    times = step.eqn.params.get("length", 1)
    culprit = compiler.obstacle_of(step)
    reason = ""
    if culprit is not None:
        reason = f"only Python can run {culprit.primitive.name}, asked for at {culprit.source}"
    return _called(step.eqn)._replace(
        kind="host" if reason else "loop", flops=times * together(flops),
        bytes=times * together(moved), steps=tuple(chain(*programs)), reason=reason,
        launches=sum(s.launches for steps in programs for s in steps),
    )  # fmt: skip


def _fused(jaxpr: Jaxpr, kernel: Kernel) -> tuple[Eqn, ...]:
    return tuple(jaxpr.eqns[i] for i in kernel.eqns)


def _called(eqn: Eqn) -> StepInfo:
    """The step of an equation that is no kernel."""
    types = tuple(f"{v.aval.dtype.name}{list(v.aval.shape)}" for v in eqn.outputs)
    moved = sum(map(_size, (*eqn.inputs, *eqn.outputs)))
    return StepInfo(
        "host" if _calls_user(eqn) else "library", eqn.primitive.name, types, _lines([eqn]),
        _product_flops(eqn), moved, (eqn,),
    )  # fmt: skip


def memory_of(program: Runnable) -> Memory:
    """The memory that a call of a program takes.

    Raises:
        ArgumentError: NumPy runs the program, and allocates as it goes.
    """
    memory: Memory | None = getattr(program, "memory", None)
    if memory is None:
        raise ArgumentError(
            "the memory of a program is planned by the compiler, and config.cpu_compiler is "
            "'numpy' or llvmlite is not installed"
        )
    return memory


def cost_of(program: Runnable) -> dict[str, int]:
    """Operations and bytes of all steps together."""
    steps = schedule_of(program)
    return {
        "flops": sum(step.flops for step in steps),
        "bytes accessed": sum(step.bytes for step in steps),
    }


def widened_in(jaxpr: Jaxpr) -> tuple[str, ...]:
    """The places where narrower operands give a result of 64 bits (a complex number: of 128)."""
    found = []
    for eqn in jaxpr.eqns:
        inner = list(subjaxprs(eqn.params))
        given = [a.aval for a in eqn.inputs if isinstance(a, Var)]
        made = [v.aval for v in eqn.outputs]
        if inner:
            found += [line for program in inner for line in widened_in(program)]
        elif given and any(map(_is_wide, made)) and not any(map(_is_wide, given)):
            types = (", ".join(map(str, avals)) for avals in (given, made))
            found.append(f"{eqn.source}: {eqn.primitive.name} {' -> '.join(types)}")
    return tuple(dict.fromkeys(found))


def _is_wide(aval: ShapedArray) -> bool:
    dtype = aval.dtype
    return dtype.kind in "iufc" and dtype.itemsize >= (16 if dtype.kind == "c" else 8)


def _compiler(program: Runnable) -> Any:
    """The compiler that made a program, which knows its code."""
    return import_module(f"fgrad.backends.{getattr(program, 'backend', 'cpu')}.compiler")


def _plan(program: Runnable) -> Plan | None:
    return getattr(program, "plan", None)


def _calls_user(eqn: Eqn) -> bool:
    """Whether an equation, or one of a program that it runs, calls a function of the user."""
    lower = eqn.primitive.lower
    host = isinstance(lower, Lowering) and lower.kind == "host"
    if host or eqn.primitive.effects:
        return True
    return any(_calls_user(e) for program in subjaxprs(eqn.params) for e in program.eqns)


def _lines(eqns: Iterable[Eqn]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(e.source) for e in eqns if e.source is not None))


def _size(atom: Any) -> int:
    size: int = atom.aval.size * atom.aval.dtype.itemsize
    return size


def _product_flops(eqn: Eqn) -> int:
    """Two operations for each product that a contraction sums; other libraries do not tell."""
    if eqn.primitive.name != "dot_general":
        return 0
    (contracted, _), _ = eqn.params["dimension_numbers"]
    count: int = 2 * eqn.outputs[0].aval.size
    for axis in contracted:
        count *= eqn.inputs[0].aval.shape[axis]
    return count


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as lines of text with aligned columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)
