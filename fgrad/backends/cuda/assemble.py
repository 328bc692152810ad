"""From a plan to a tape: each buffer has an address, each launch and library step its place."""

from collections.abc import Callable, Collection, Sequence

from fgrad.backends.cuda.calls import KernelCall, LibraryPlan, addresses
from fgrad.backends.cuda.loops import loop_items
from fgrad.backends.cuda.parts import Frame, Parts, all_of, frame
from fgrad.backends.cuda.rooms import Room, rounded, units_of
from fgrad.backends.cuda.tape import (
    ARENA,
    FAULT,
    FIRST,
    NOWHERE,
    Call,
    Host,
    Item,
    Launch,
    address,
)
from fgrad.compile.plan import RESULT, Buffer, Library, Loop, View, is_check
from fgrad.compile.updates import is_idle
from fgrad.core.ir import Eqn, Literal

Libraries = Callable[[Library], LibraryPlan | None]


class Assembler:
    """Makes the tape of a program.

    Args:
        parts: Makes items.
        libraries: What computes a library step; None: the host does.
        report: The number by which a failed check is known.
    """

    def __init__(self, parts: Parts, libraries: Libraries, report: Callable[[Eqn], int]) -> None:
        self.parts, self.libraries, self.report = parts, libraries, report

    def steps(self, room: Room, start: int, at: Frame) -> list[Item]:
        """The items of all steps of a plan.

        Args:
            room: The plan and its memory.
            start: Where that begins.
            at: The addresses of its buffers.
        """
        buffers, places = room.plan.buffers, room.memory.places
        items: list[Item] = []
        for i, step in enumerate(room.plan.steps):
            scratch = rounded(start + room.memory.scratch.get(i, 0))
            if is_idle(step, places):
                continue
            if isinstance(step, Loop):
                loop = room.loops[i]
                items += loop_items(self.parts, self.steps, step, loop, scratch, buffers, at)
            elif is_check(step):
                failed = self.parts.place(step.inputs[0], buffers, at)
                pointers = [failed.address, address(FAULT)]
                items.append(self.parts.single("fgrad_check", pointers, self.report(step.eqn)))
            elif isinstance(step, Library):
                items += self.library(step, buffers, at, scratch)
            else:
                kernels = self.parts.kernels
                for unit, used in units_of(step, kernels.together):
                    size = rounded(kernels.scratch_bytes(unit))
                    where = scratch if size else NOWHERE
                    pointers = [at[b] for b in used]
                    items += self.parts.launches(unit, pointers, where, room.jaxpr)
                    scratch += size
        return items

    def library(
        self, step: Library, buffers: Sequence[Buffer], at: Frame, scratch: int
    ) -> list[Item]:
        """A library step, or a function of the user."""
        found = self.libraries(step)
        if found is None:
            inputs = tuple(self.parts.place(a, buffers, at) for a in step.inputs)
            outputs = (self.parts.place(all_of(b, buffers), buffers, at) for b in step.outputs)
            return [Host(step.eqn, inputs, tuple(outputs))]
        read = [
            at[a.buffer] if isinstance(a, View) else self.parts.constant(a).address
            for a in step.inputs
        ]
        written = [at[b] for b in step.outputs]
        workspace = scratch if found.workspace_bytes else NOWHERE
        items: list[Item] = []
        for call in found.calls:
            pointers = tuple(addresses(call, read, written, workspace))
            if isinstance(call, KernelCall):
                function = self.parts.kernels.function(call)
                given = (*pointers, workspace)
                items.append(Launch(function, given, call.words, eqns=(step.eqn,)))
            else:
                run = call.make()
                items.append(Call(run, pointers, found.captures, step.eqn))
        if found.check is not None:
            told = [workspace + found.check.bytes, address(FAULT)]
            items.append(self.parts.single("fgrad_check", told, self.report(step.eqn)))
        return items


class Assembled:
    """A program as a tape, and what a call has to bring.

    Args:
        room: The program and its memory.
        assembler: Makes its items.
        donated: Inputs whose memory results may take over.
        copied: Inputs that are copied to the arena first.

    Attributes:
        arena_bytes: The memory of temporaries, and of these copies.
        fresh: The types of the arrays that a call allocates.
        results: For each result the input that it is, or, behind all inputs, a fresh array.
        items: The tape.
    """

    def __init__(
        self, room: Room, assembler: Assembler, donated: Collection[int],
        copied: Collection[int] = (),
    ) -> None:  # fmt: skip
        plan, taken = room.plan, room.memory.taken
        given = returned(room, donated)
        self.fresh: list[Buffer] = []
        self.results: list[int] = []
        at = frame(room, address(ARENA), [address(FIRST + i) for i in range(plan.inputs)])
        first, self.arena_bytes = [], room.memory.arena_bytes
        for i in sorted(copied):
            place = address(ARENA, rounded(self.arena_bytes))
            self.arena_bytes = rounded(self.arena_bytes) + plan.buffers[i].nbytes
            first.append((place, at[i], plan.buffers[i].nbytes))
            at[i] = place
        made = {**taken, **{r: r for r in given}}
        moves = []
        for r in plan.results:
            if isinstance(r, int) and r in made:
                self.results.append(made[r])
                continue
            number = plan.inputs + len(self.fresh)
            place = address(FIRST + number)
            self.results.append(number)
            if isinstance(r, Literal):
                source = assembler.parts.constant(r).address
                buffer = Buffer(r.aval.shape, r.aval.dtype, RESULT)
            else:
                source, buffer = at[r], plan.buffers[r]
            self.fresh.append(buffer)
            if not isinstance(r, Literal) and buffer.role == RESULT:
                made[r] = number
                at[r] = place
            else:
                moves.append((place, source, buffer.nbytes))
        items = assembler.steps(room, address(ARENA), at)
        copies = assembler.parts.copies
        self.items = (*copies(first), *items, *copies(moves))


def returned(room: Room, donated: Collection[int]) -> set[int]:
    """The donated inputs that a program returns as they are."""
    return {r for r in donated if room.plan.results.count(r) == 1}
