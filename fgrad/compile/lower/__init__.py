"""Lowering: a jaxpr becomes a plan of fused kernels and library steps, on any machine.

`program` says what each equation is; `partition` groups them into `cluster`s, whose values are laid
out over common `axes`; `kernels` writes the body of each, following `views` as index maps.
"""

import heapq

from fgrad.compile.kernel import Kernel
from fgrad.compile.lower.cluster import Cluster, Join, Library, Node
from fgrad.compile.lower.items import POINTWISE
from fgrad.compile.lower.kernels import kernel_of
from fgrad.compile.lower.nested import programs_of
from fgrad.compile.lower.partition import Partition
from fgrad.compile.lower.program import (
    Keeps,
    Program,
    ends,
    is_drawn,
    is_nothing_kept,
    is_plain,
)
from fgrad.compile.lower.scalars import Supports, is_cheap
from fgrad.compile.passes import optimize
from fgrad.compile.plan import (
    INPUT,
    RESULT,
    TEMP,
    Buffer,
    Launch,
    Loop,
    Plan,
    Step,
    View,
)
from fgrad.compile.plan import Library as LibraryStep
from fgrad.compile.updates import with_patches
from fgrad.core.errors import OutOfMemoryError
from fgrad.core.ir import Jaxpr, Literal, Var
from fgrad.core.transforms.jaxprs import derived

_MOST_BYTES = 2**63 - 1
_AGAIN = 4  # operations that are rather repeated than their result stored and read


def lower(jaxpr: Jaxpr, supports: Supports, keeps: Keeps = is_nothing_kept) -> Plan:
    """The plan of a closed program.

    Args:
        jaxpr: The program, after all passes; without constvars.
        supports: Whether the backend renders a scalar operation in a dtype; an equation with
            others is a step of its own, computed by its eager rule.
        keeps: Which equations the backend has code of its own for: they are steps, though other
            equations could take their place. Programs of loops have none.

    Returns:
        Kernels and library steps, in an order in which they can run.
    """
    return with_patches(_lowered(jaxpr, supports, keeps), 0, 0)


def _lowered(jaxpr: Jaxpr, supports: Supports, keeps: Keeps = is_nothing_kept) -> Plan:
    """A plan in which updates of boxes are library steps."""
    assert not jaxpr.constvars, "constants are inputs of a program to be lowered"
    planner = _Planner(Program(jaxpr, supports, keeps))
    plan = planner.plan()
    planner.partition.unlink()
    return plan


def planned(jaxpr: Jaxpr, supports: Supports) -> tuple[Jaxpr, Plan]:
    """The closed program of a loop after all passes, and its plan; made once.

    How updates of boxes take place is up to the loop: where its carries lie.
    """

    def make() -> tuple[Jaxpr, Plan]:
        optimized = optimize(jaxpr)
        return optimized, _lowered(optimized, supports)

    found: tuple[Jaxpr, Plan] = derived(jaxpr, ("planned", supports), make)
    return found


def _check_sizes(jaxpr: Jaxpr) -> None:
    """Raise unless the bytes of each value can be counted in 64 bits, as sizes of loops are."""
    for eqn in jaxpr.eqns:
        for v in eqn.outputs:
            if v.aval.nbytes > _MOST_BYTES:
                raise OutOfMemoryError(
                    f"{eqn.primitive.name} makes a {v.aval}, more than any memory holds, asked "
                    f"for at {eqn.source}; correct its shape"
                )


class _Planner:
    """Puts the nodes of a partition in order and gives each value a buffer."""

    def __init__(self, program: Program) -> None:
        _check_sizes(program.jaxpr)
        self.program = program
        self.partition = Partition(program)
        self.results = {v for v in program.results if type(v) is Var}
        self.buffers = [Buffer(v.aval.shape, v.aval.dtype, INPUT) for v in program.jaxpr.invars]
        self.number = {v: i for i, v in enumerate(program.jaxpr.invars)}

    def plan(self) -> Plan:
        """The plan."""
        steps: list[Step] = []
        for step in self._written():
            if isinstance(step, Library):
                steps.append(self._library(step))
            else:
                kernel, order = step
                steps.append(Launch(kernel, tuple(map(self._buffer, order))))
        results = tuple(
            a if isinstance(a, Literal) else self._buffer(a) for a in self.program.results
        )
        inputs, values = len(self.program.jaxpr.invars), self._values()
        return Plan(inputs, tuple(self.buffers), tuple(steps), results, values=values)

    def _values(self) -> tuple[Var | None, ...]:
        """The variable of the jaxpr that each buffer holds."""
        found: list[Var | None] = [None] * len(self.buffers)
        jaxpr = self.program.jaxpr
        for v in (*jaxpr.invars, *(v for e in jaxpr.eqns for v in e.outputs)):
            atom = self.program.read(v)
            b = self.number.get(atom) if type(atom) is Var else None
            if b is not None and found[b] is None and self.buffers[b].shape == v.aval.shape:
                found[b] = v
        return tuple(found)

    def _written(self) -> list[Library | tuple[Kernel, list[Var]]]:
        """Library nodes, and kernels of those nodes that somebody needs, in order."""
        needed: set[Var] = set(self.results)
        out: list[Library | tuple[Kernel, list[Var]]] = []
        for node in reversed(self._ordered()):
            if isinstance(node, Library):
                needed.update(v.base for v in node.inputs if not isinstance(v, Literal))
                out.append(node)
                continue
            if isinstance(node, Join):
                if node.whole in needed:
                    needed.update(node.parts)
                continue
            mine = [v for v in node.layouts if v in needed]
            mine += [p for whole, parts in node.joins.items() if whole in needed for p in parts]
            if mine:
                kernels = kernel_of(
                    self.program, node, mine, lambda v: self._is_cheap_again(v, needed)
                )
                needed.update(v for _, order in kernels for v in order)
                out += reversed(kernels)
        return out[::-1]

    def _is_cheap_again(self, var: Var, needed: set[Var]) -> bool:
        """Whether a value takes a few operations on one array of its size that is in memory anyway.

        Or is made of random bits and few other numbers, however many operations that takes.
        Then a kernel that reads it computes it once more, and perhaps nobody has to store it.
        """
        program = self.program
        made = program.made.get(var)
        if made is None or var in needed:
            return False
        if is_drawn(program, var):
            return True
        item = program.items[made[0]]
        if item.form != POINTWISE or not is_cheap(item.expr, _AGAIN):
            return False
        large = 0
        for a in item.eqn.inputs:
            if not is_plain(program, a):
                return False
            for v in ends(program, a):
                if v not in needed and isinstance(self.partition.owner.get(v), Cluster | Join):
                    return False
            if a.aval.size * 2 > var.aval.size:
                large += a.aval.dtype.itemsize <= var.aval.dtype.itemsize or 2
        return large <= 1

    def _ordered(self) -> list[Node]:
        """The nodes, each after those it needs, else in program order."""
        find = self.partition.find
        nodes = list(self.partition.alive())
        after: dict[Node, list[Node]] = {n: [] for n in nodes}
        waits: dict[Node, int] = {}
        for n in nodes:
            before = {find(d) for d in n.direct} - {n}
            waits[n] = len(before)
            for d in before:
                after[d].append(n)
        numbers = {n: i for i, n in enumerate(nodes)}
        ready = [(n.last, numbers[n], n) for n in nodes if not waits[n]]
        heapq.heapify(ready)
        out: list[Node] = []
        while ready:
            node = heapq.heappop(ready)[2]
            out.append(node)
            for n in after[node]:
                waits[n] -= 1
                if not waits[n]:
                    heapq.heappush(ready, (n.last, numbers[n], n))
        assert len(out) == len(nodes), "the steps depend on each other"
        return out

    def _buffer(self, var: Var) -> int:
        found = self.number.get(var)
        if found is None:
            found = self.number[var] = len(self.buffers)
            role = RESULT if var in self.results else TEMP
            self.buffers.append(Buffer(var.aval.shape, var.aval.dtype, role))
        return found

    def _library(self, node: Library) -> LibraryStep:
        eqn = node.item.eqn
        pairs = zip(eqn.inputs, node.inputs, strict=True)
        inputs = tuple(
            v if isinstance(v, Literal)
            else View(self._buffer(v.base), v.offset, a.aval.shape, v.strides)
            for a, v in pairs
        )  # fmt: skip
        outputs = tuple(map(self._buffer, eqn.outputs))
        programs = programs_of(eqn)
        if not programs:
            return LibraryStep(eqn, node.item.origin, inputs, outputs)
        jaxprs, plans = zip(*(planned(p, self.program.supports) for p in programs), strict=True)
        return Loop(eqn, node.item.origin, inputs, outputs, jaxprs, plans)
