"""Which loops run without Python, and their plans made ready for it."""

from collections.abc import Iterator
from dataclasses import replace

from fgrad.backends.cpu import blas
from fgrad.compile.kernel import COMPUTED, Kernel, Load, Map, Operand, Store
from fgrad.compile.plan import TEMP, Buffer, Launch, Library, Loop, Plan, Step, View, contiguous
from fgrad.core.ir import Eqn


def obstacle(plan: Plan) -> Eqn | None:
    """The first equation in a plan that only Python can run, or None."""
    for step in plan.steps:
        if isinstance(step, Loop):
            found = obstacle_of(step)
            if found is not None:
                return found
        elif isinstance(step, Library) and not _is_product(step, plan):
            return step.eqn
    return None


def obstacle_of(loop: Loop) -> Eqn | None:
    """The first equation in the programs of a loop that only Python can run, or None."""
    return next(filter(None, map(obstacle, loop.plans)), None)


def runs_compiled(step: Step) -> bool:
    """Whether a step is a loop that runs without Python."""
    return isinstance(step, Loop) and obstacle_of(step) is None


def _is_product(step: Library, plan: Plan) -> bool:
    found = blas.product(step, plan.buffers)
    if found is None:
        return False
    readable = found.left is not None and found.right is not None
    return readable or plan.buffers[step.outputs[0]].dtype in COMPUTED


def prepared(plan: Plan) -> Plan:
    """A plan in whose compiled loops BLAS can read the operands of every product."""
    steps: list[Step] = []
    for step in plan.steps:
        if isinstance(step, Loop) and runs_compiled(step):
            step = replace(step, plans=tuple(_readable(prepared(p)) for p in step.plans))
        steps.append(step)
    return replace(plan, steps=tuple(steps))


def _readable(plan: Plan) -> Plan:
    """A plan with a kernel before each product that has to copy an operand for BLAS."""
    buffers = list(plan.buffers)
    steps: list[Step] = []
    for step in plan.steps:
        found = blas.product(step, buffers) if type(step) is Library else None
        if found is not None and (found.left is None or found.right is None):
            assert isinstance(step, Library)
            inputs = list(step.inputs)
            for i, (seen, axes) in enumerate(((found.left, found.left_axes),
                                              (found.right, found.right_axes))):  # fmt: skip
                view = inputs[i]
                if seen is None and isinstance(view, View):
                    launch, inputs[i] = _packed(view, axes, buffers)
                    steps.append(launch)
            step = replace(step, inputs=tuple(inputs))
        steps.append(step)
    return replace(plan, buffers=tuple(buffers), steps=tuple(steps))


def _packed(view: View, axes: tuple[int, ...], buffers: list[Buffer]) -> tuple[Launch, View]:
    """A copy of a view whose axes lie in an order, as a step and as a view of the same shape."""
    shape = tuple(view.shape[a] for a in axes)
    dense = contiguous(shape)
    dtype = buffers[view.buffer].dtype
    body = (
        Load(0, Map(view.offset, tuple(view.strides[a] for a in axes)), dtype),
        Store(1, Map(0, dense), 0),
    )
    operands = (Operand(dtype), Operand(dtype, written=True))
    kernel = Kernel("pack", shape[:-1], shape[-1:], operands, body)
    buffers.append(Buffer(shape, dtype, TEMP))
    strides = tuple(dense[axes.index(a)] for a in range(len(axes)))
    made = len(buffers) - 1
    return Launch(kernel, (view.buffer, made)), View(made, 0, view.shape, strides)


def kernels_of(plan: Plan) -> Iterator[Kernel]:
    """The kernels of a plan and of its compiled loops, in order."""
    for step in plan.steps:
        if isinstance(step, Launch):
            yield step.kernel
        elif isinstance(step, Loop) and runs_compiled(step):
            for inner in step.plans:
                yield from kernels_of(inner)
