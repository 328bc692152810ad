"""A program as steps over buffers: what an executable runs, in order.

::

    Buffer    shape, dtype, role: 'input', 'temp' (the plan's own) or 'result' (handed out)
    View      part of a buffer: offset and strides in elements
    Launch    a fused kernel over whole buffers
    Batch     launches that do not depend on each other, run together
    Library   one equation by its primitive's eager rule: products, factorisations, …
    Patch     a kernel that overwrites part of a buffer
    Added     a product that is added to what its buffer holds
    Updated   an equation that changes an input of the plan in place
    Loop      a scan, a while loop or a choice of branches, whose programs are plans themselves
    Plan      inputs, buffers, steps, results

Every buffer is contiguous in row-major order. Each element is written once, before any element of
the buffer is read; several launches may write the parts of a concatenation. Views are how
transposes, slices and broadcasts reach a step without a copy.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np

from fgrad.compile.kernel import Kernel, Store
from fgrad.compile.verifier import check_kernel
from fgrad.core.ir import Eqn, Jaxpr, Literal, Var

INPUT, TEMP, RESULT = "input", "temp", "result"


@dataclass(frozen=True, slots=True)
class Buffer:
    """A block of memory that holds one array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    role: str

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class View:
    """Elements ``offset + Σ strides[a]·index[a]`` of a buffer, as an array of `shape`."""

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel; `buffers` names one buffer for each of its operands.

    Of a complex buffer the operand is the floats that it holds, real and imaginary parts in turn.
    """

    kernel: Kernel
    buffers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Patch(Launch):
    """A kernel that overwrites part of what its last buffer holds."""


@dataclass(frozen=True, slots=True)
class Library:
    """An equation that is no kernel.

    Attributes:
        eqn: The equation; `index` is its position in the program.
        inputs: A view or a literal for each operand.
        outputs: A buffer for each result.
    """

    eqn: Eqn
    index: int
    inputs: tuple[View | Literal, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Launches that run together: none reads or writes the elements that another one writes."""

    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True)
class Loop(Library):
    """A scan, a while loop or a choice of branches; its eager rule computes the same.

    Rows of its operands are contiguous: those of stacked inputs of a scan may lie apart.

    Attributes:
        jaxprs: The programs that its plans came from, after all passes.
        plans: Of a scan the body, of a while loop the condition and the body, of a choice the
            branches.
    """

    jaxprs: tuple[Jaxpr, ...]
    plans: tuple["Plan", ...]


@dataclass(frozen=True, slots=True)
class Added(Library):
    """A matrix product that is added to an input of the plan, which must be updated in place."""


@dataclass(frozen=True, slots=True)
class Updated(Library):
    """An equation whose result takes the place of its first operand, an input of the plan."""


Step = Launch | Batch | Library


def is_check(step: Step) -> TypeGuard[Library]:
    """Whether a step raises where an index lies outside, and does nothing else.

    Its first operand is a truth value; unless it holds, the step is done.
    """
    return type(step) is Library and step.eqn.primitive.name == "check_bounds"


@dataclass(frozen=True, slots=True)
class Plan:
    """A program as steps.

    Attributes:
        buffers: All of them; the first are the inputs, one each.
        steps: In an order in which every buffer is written before it is read.
        results: For each result a buffer of role 'result', an input, or a literal.
        updated: Inputs that steps change: those after them read the new value.
        values: For each buffer the variable of the program that it holds, or None; those that come
            after them are the plan's own.
    """

    inputs: int
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    results: tuple[int | Literal, ...]
    updated: frozenset[int] = frozenset()
    values: tuple[Var | None, ...] = ()

    def __str__(self) -> str:
        return show(self)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of an array in row-major order."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def whole(buffer: int, shape: tuple[int, ...]) -> View:
    """The view of all of a buffer."""
    return View(buffer, 0, shape, contiguous(shape))


def launches_of(step: Step) -> tuple[Launch, ...]:
    """The launches of a step; none if it is a library's."""
    if isinstance(step, Launch):
        return (step,)
    return step.launches if isinstance(step, Batch) else ()


def equations_of(jaxpr: Jaxpr, step: Step) -> list[Eqn]:
    """The equations of the program of a plan that a step computes."""
    if isinstance(step, Library):
        return [jaxpr.eqns[step.index] if is_check(step) else step.eqn]
    return [jaxpr.eqns[i] for launch in launches_of(step) for i in launch.kernel.eqns]


def reads_of(step: Step) -> set[int]:
    """The buffers that a step reads; a patch leaves part of what it writes as it was."""
    if isinstance(step, Patch):
        return set(step.buffers)
    if isinstance(step, Batch):
        return set[int]().union(*map(reads_of, step.launches))
    if isinstance(step, Library):
        return {v.buffer for v in step.inputs if isinstance(v, View)}
    pairs = zip(step.buffers, step.kernel.operands, strict=True)
    return {b for b, op in pairs if not op.written}


def writes_of(step: Step) -> set[int]:
    """The buffers that a step writes."""
    if isinstance(step, Batch):
        return set[int]().union(*map(writes_of, step.launches))
    if isinstance(step, Library):
        return set(step.outputs)
    pairs = zip(step.buffers, step.kernel.operands, strict=True)
    return {b for b, op in pairs if op.written}


def check_plan(plan: Plan) -> None:
    """Raise `AssertionError` unless a plan is well formed."""
    written = set(range(plan.inputs))
    read = set(written)
    filled = dict.fromkeys(written, 0)
    assert all(b.role == INPUT for b in plan.buffers[: plan.inputs]), "the inputs come first"
    for i, step in enumerate(plan.steps):
        for launch in launches_of(step):
            check_kernel(launch.kernel)
            for b, op in zip(launch.buffers, launch.kernel.operands, strict=True):
                stored = plan.buffers[b].dtype
                pairs = stored.kind == "c" and op.dtype == f"f{stored.itemsize // 2}"
                assert stored == op.dtype or pairs, f"step {i}: dtype of b{b}"
        for inner in step.plans if isinstance(step, Loop) else ():
            check_plan(inner)
        assert reads_of(step) <= written, f"step {i} reads what no step before it wrote"
        read |= reads_of(step)
        if isinstance(step, Added | Patch | Updated):  # in place
            again = (writes_of(step) & written) - plan.updated
            own = {b for b in again if plan.buffers[b].role != INPUT}
            again -= own if isinstance(step, Patch) else set()
            assert not again, f"step {i} writes a buffer a second time"
        else:
            assert not writes_of(step) & read, f"step {i} writes a buffer that was read"
            for b, size in _elements(step):
                filled[b] = filled.get(b, 0) + size
                enough = filled[b] <= plan.buffers[b].nbytes
                assert enough, f"step {i} writes elements a second time"
        written |= writes_of(step)
    for r in plan.results:
        if isinstance(r, int):
            assert r in written, f"result b{r} is never written"
            assert plan.buffers[r].role != TEMP, f"result b{r} belongs to the plan"


def _elements(step: Step) -> list[tuple[int, int]]:
    """Buffers and how many bytes of them a launch stores, one for each store."""
    found = []
    for launch in launches_of(step):
        kernel = launch.kernel
        sizes = (*kernel.outer, *kernel.inner)
        for i in kernel.body:
            if isinstance(i, Store) and not i.map.indirect:
                moving = (n for n, s in zip(sizes, i.map.strides, strict=True) if s)
                size = kernel.operands[i.operand].dtype.itemsize
                found.append((launch.buffers[i.operand], prod(moving) * size))
    return found


def show(plan: Plan) -> str:
    """A plan as text: its buffers and steps, kernels in full."""
    lines = [f"b{i}: {b.role} {b.dtype.name}{list(b.shape)}" for i, b in enumerate(plan.buffers)]
    for step in plan.steps:
        if isinstance(step, Batch):
            lines.append(f"batch of {len(step.launches)}")
        for launch in launches_of(step):
            kind = type(launch).__name__.lower()
            lines += [f"{kind} {' '.join(f'b{b}' for b in launch.buffers)}", str(launch.kernel)]
        if isinstance(step, Library):
            args = " ".join(f"b{v.buffer}" if isinstance(v, View) else str(v) for v in step.inputs)
            outs = " ".join(f"b{b}" for b in step.outputs)
            kind = type(step).__name__.lower()
            lines.append(f"{kind} {outs} = {step.eqn.primitive.name} {args}")
            for inner in step.plans if isinstance(step, Loop) else ():
                lines += [f"    {line}" for line in show(inner).splitlines()]
    results = " ".join(f"b{r}" if isinstance(r, int) else str(r) for r in plan.results)
    return "\n".join([*lines, f"results {results}"])
