"""What a compiled program consists of: its kernels, steps, memory and cost, as plain data."""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from fgrad.api.execution import Runnable
from fgrad.compile.cost import cost
from fgrad.compile.memory import Memory
from fgrad.compile.plan import Launch, Loop, Plan, Step
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Eqn, Jaxpr
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
        kind: 'kernel', 'library' (an eager rule, such as a matrix product), 'loop' (its steps run
            without Python) or 'host' (a function of the user, or a loop with a step that only
            Python can run).
        name: Of the kernel or the primitive.
        buffers: The types of what it writes.
        lines: The user's lines that asked for it.
        steps: Of a loop: the steps of its programs.
        reason: Of a loop that Python runs: why.
    """

    kind: str
    name: str
    buffers: tuple[str, ...]
    lines: tuple[str, ...]
    steps: "tuple[StepInfo, ...]" = ()
    reason: str = ""


def kernels_of(program: Runnable) -> list[KernelInfo]:
    """The kernels of a program, in order; none where NumPy runs it."""
    plan = _plan(program)
    if plan is None:
        return []
    return list(_kernels(program.jaxpr, plan, import_module("fgrad.backends.cpu.compiler")))


def _kernels(jaxpr: Jaxpr, plan: Plan, compiler: Any) -> Iterator[KernelInfo]:
    """The kernels of a plan and of its loops."""
    for step in plan.steps:
        if isinstance(step, Launch):
            kernel = step.kernel
            eqns = tuple(jaxpr.eqns[i] for i in kernel.eqns)
            price = cost(kernel)
            yield KernelInfo(
                kernel.name, str(kernel), compiler.text_of(kernel), compiler.grid_of(kernel),
                price.flops, price.bytes, eqns, _lines(eqns),
            )  # fmt: skip
        elif isinstance(step, Loop):
            for inner, body in zip(step.jaxprs, step.plans, strict=True):
                yield from _kernels(inner, body, compiler)


def schedule_of(program: Runnable) -> list[StepInfo]:
    """The steps of a program, in order."""
    plan = _plan(program)
    if plan is None:
        return [
            StepInfo(_kind(e), e.primitive.name, tuple(str(v.aval) for v in e.outputs), _lines([e]))
            for e in program.jaxpr.eqns
        ]
    return [_step(step, program.jaxpr, plan) for step in plan.steps]


def _step(step: Step, jaxpr: Jaxpr, plan: Plan) -> StepInfo:
    if isinstance(step, Launch):
        pairs = zip(step.buffers, step.kernel.operands, strict=True)
        written = [plan.buffers[b] for b, operand in pairs if operand.written]
        types = tuple(f"{b.dtype.name}{list(b.shape)}" for b in written)
        eqns = [jaxpr.eqns[i] for i in step.kernel.eqns]
        return StepInfo("kernel", step.kernel.name, types, _lines(eqns))
    eqn = step.eqn
    types = tuple(str(v.aval) for v in eqn.outputs)
    if not isinstance(step, Loop):
        return StepInfo(_kind(eqn), eqn.primitive.name, types, _lines([eqn]))
    inner = tuple(
        _step(s, body, own)
        for body, own in zip(step.jaxprs, step.plans, strict=True)
        for s in own.steps
    )
    culprit = import_module("fgrad.backends.cpu.sequence").obstacle_of(step)
    reason = ""
    if culprit is not None:
        reason = f"only Python can run {culprit.primitive.name}, asked for at {culprit.source}"
    kind = "host" if reason else "loop"
    return StepInfo(kind, eqn.primitive.name, types, _lines([eqn]), inner, reason)


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
    """Operations and bytes of all steps together; see `_cost`."""
    plan = _plan(program)
    flops, moved = _cost(plan) if plan is not None else (0, 0)
    return {"flops": flops, "bytes accessed": moved}


def _cost(plan: Plan) -> tuple[int, int]:
    """Operations and bytes of a plan; a while loop counts as one step of it."""
    flops = moved = 0
    for step in plan.steps:
        if isinstance(step, Launch):
            price = cost(step.kernel)
            flops, moved = flops + price.flops, moved + price.bytes
        elif isinstance(step, Loop):
            costs = [_cost(inner) for inner in step.plans]
            one = (
                max(costs)
                if step.eqn.primitive.name == "cond"
                else map(sum, zip(*costs, strict=True))
            )
            work, traffic = one
            times = step.eqn.params.get("length", 1)
            flops, moved = flops + times * work, moved + times * traffic
        else:
            flops += _product_flops(step.eqn)
            reads = sum(_size(a) for a in step.eqn.inputs)
            moved += reads + sum(_size(v) for v in step.eqn.outputs)
    return flops, moved


def _plan(program: Runnable) -> Plan | None:
    return getattr(program, "plan", None)


def _kind(eqn: Eqn) -> str:
    lower = eqn.primitive.lower
    host = isinstance(lower, Lowering) and lower.kind == "host"
    return "host" if host or eqn.primitive.effects else "library"


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
