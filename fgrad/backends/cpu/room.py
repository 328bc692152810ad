"""Where what a loop needs lies in its frame: temporaries of its plans, and places of its state."""

from collections.abc import Collection
from typing import NamedTuple

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.backends.cpu.routines import Routine
from fgrad.backends.cpu.target import Target
from fgrad.compile.loops import fixed_steps, groups_of, places
from fgrad.compile.memory import ALIGNMENT, plan_memory
from fgrad.compile.plan import Buffer, Launch, Loop, Plan, View, writes_of
from fgrad.core.ir import Literal


class Room:
    """The memory of a plan in a loop.

    Attributes:
        memory: Where its temporaries lie.
        loops: The memory of its own loops, by step.
        routines: Of its steps.
        first: The steps that run once, before the loop that the plan is part of.
        kept: Where what these write lies, by buffer, in the memory of that loop.
    """

    def __init__(
        self, plan: Plan, threads: int, target: Target, first: Collection[int] = ()
    ) -> None:
        self.first = first
        self.kept: dict[int, int] = {b: 0 for i in first for b in writes_of(plan.steps[i])}
        self.loops: dict[int, LoopRoom] = {}
        self.routines: dict[int, Routine] = {}
        scratch: dict[int, int] = {}
        for i, step in enumerate(plan.steps):
            if isinstance(step, Launch):
                scratch[i] = layout.scratch_bytes(step.kernel, threads)
            elif isinstance(step, Loop):
                self.loops[i] = LoopRoom(step, threads, target)
                scratch[i] = self.loops[i].bytes
            elif (routine := routine_of(step, target)) is not None:
                self.routines[i] = routine
                scratch[i] = routine.scratch_bytes
        over = [i for i, routine in self.routines.items() if routine.over]
        self.memory = plan_memory(plan, scratch=scratch, elsewhere=self.kept, over=over)

    @property
    def offsets(self) -> dict[int, int]:
        """Where each temporary lies, in the memory of the loop that the plan is part of."""
        return {**self.memory.offsets, **self.kept}


class LoopRoom:
    """The memory of a loop: that of its plans, which never run at once, and of its state.

    Attributes:
        plans: The memory of each plan; all begin at 0.
        rings: For each buffer of the body that becomes a carry, where its places lie. One of
            them is the result of the loop, where that is possible.
        owner: For each such buffer the carry whose result is one of the places, or None.
        updated: The carries that steps update in place, and their sizes.
        flag: Where the condition is written.
        bytes: The size of all.
    """

    def __init__(self, loop: Loop, threads: int, target: Target) -> None:
        self.plans = [
            Room(p, threads, target, first)
            for p, first in zip(loop.plans, self._fixed(loop), strict=True)
        ]
        self.bytes: int = max(aligned(r.memory.arena_bytes) for r in self.plans)
        self.rings: dict[int, list[int]] = {}
        self.owner: dict[int, int | None] = {}
        self.updated: dict[int, int] = {}
        self.flag = self._take(1)
        for plan, room in zip(loop.plans, self.plans, strict=True):
            for b in room.kept:
                room.kept[b] = self._take(plan.buffers[b].nbytes)
        if loop.eqn.primitive.name == "cond":
            return
        body = loop.plans[-1]
        _, consts, carries, _ = groups_of(loop, range(len(loop.inputs)))
        for k in range(len(carries)):
            if len(consts) + k in body.updated:
                self.updated[k] = body.buffers[len(consts) + k].nbytes
        for b, count in places(body, len(consts), len(carries)).items():
            shown = [k for k in range(len(carries)) if body.results[k] == b]
            own = shown[0] if len(shown) == 1 and count == 2 else None
            size = body.buffers[b].nbytes
            self.rings[b] = [self._take(size) for _ in range(count - (own is not None))]
            self.owner[b] = own

    @staticmethod
    def _fixed(loop: Loop) -> list[list[int]]:
        """For each plan the steps that run once."""
        if loop.eqn.primitive.name == "cond":
            return [[] for _ in loop.plans]
        before, consts, _, _ = map(len, groups_of(loop, loop.inputs))
        numbers = [before, consts] if len(loop.plans) == 2 else [consts]
        return [fixed_steps(p, range(n)) for p, n in zip(loop.plans, numbers, strict=True)]

    def _take(self, size: int) -> int:
        place = self.bytes
        self.bytes += aligned(size)
        return place


class State(NamedTuple):
    """The state of a loop.

    Attributes:
        words: They point to the carries.
        rings: For each buffer of the body that becomes a carry, words that point to its places:
            the first is written next.
    """

    words: list[int]
    rings: dict[int, list[int]]


def aligned(size: int) -> int:
    """A number of bytes, up to the next cache line."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def bytes_of(r: int | Literal, plan: Plan) -> int:
    """The size of a result of a plan."""
    if isinstance(r, Literal):
        return int(r.aval.size * r.aval.dtype.itemsize)
    return plan.buffers[r].nbytes


def row_bytes(a: View | Literal, row: Buffer) -> int:
    """The bytes from one row of a stacked input to the next."""
    return row.nbytes if isinstance(a, Literal) else a.strides[0] * row.dtype.itemsize
