"""How much memory a plan takes in the arena, with the loops in it, before addresses are known."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from fgrad.compile import memory
from fgrad.compile.kernel import Kernel
from fgrad.compile.loops import groups_of
from fgrad.compile.memory import Memory, plan_memory
from fgrad.compile.plan import Buffer, Library, Loop, Plan, Step, View, is_check, launches_of
from fgrad.compile.updates import with_patches
from fgrad.core.ir import Jaxpr

ALIGNMENT = 256  # of what is placed here; cuBLASLt asks for it at most
WIDEST = 16  # bytes that a kernel moves at once, from a multiple of as many
MOST_UNROLLED = 4096  # launches of a scan that are written out


Unit = Sequence[Kernel]  # kernels that are launched together, or a single one
Together = Callable[[Unit], Sequence[Sequence[int]]]


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """A plan and where its temporaries lie, as offsets from its own start.

    Attributes:
        jaxpr: The program whose equations kernels name.
        plan: The plan.
        memory: Its memory; `scratch` holds the start of what a step needs.
        loops: For each loop of the plan, what is known about it.
    """

    jaxpr: Jaxpr
    plan: Plan
    memory: Memory
    loops: dict[int, "LoopRoom"]


@dataclass(frozen=True, slots=True, eq=False)
class LoopRoom:
    """A loop, and where in its scratch memory it keeps what.

    Attributes:
        rooms: Of its plans, which all start at offset 0: they do not run at the same time.
        in_place: Carries that the body overwrites.
        spare: For each carry, the offset of a second place for it.
        staged: For operands, and results counted behind them, that kernels cannot use where they
            lie, or whose rows a long scan finds by itself: the offset of a place of their own.
        state: The offset of 64 bytes for counters and flags.
        size: The bytes of it all.
        chunk: Of a long scan: how many steps are written out, a multiple of two, in a loop on the
            device. 0: all of them.
    """

    rooms: tuple[Room, ...]
    in_place: frozenset[int]
    spare: tuple[int, ...]
    staged: dict[int, int]
    state: int
    size: int
    chunk: int = 0


class Measure:
    """Finds rooms.

    Args:
        together: Which of some kernels, by position, are launched together.
        scratch_bytes: Of kernels that are.
        workspace_bytes: Of a library step.
    """

    def __init__(
        self,
        together: Together,
        scratch_bytes: Callable[[Unit], int],
        workspace_bytes: Callable[[Library], int],
    ) -> None:
        self._together = together
        self._scratch_bytes = scratch_bytes
        self._workspace_bytes = workspace_bytes

    def room(self, jaxpr: Jaxpr, plan: Plan, donated: Collection[int] = ()) -> Room:
        """The room of the plan of a program."""
        scratch: dict[int, int] = {}
        loops: dict[int, LoopRoom] = {}
        for i, step in enumerate(plan.steps):
            if isinstance(step, Loop):
                loops[i] = self.loop(step, plan.buffers)
                scratch[i] = loops[i].size
            elif isinstance(step, Library):
                scratch[i] = 0 if is_check(step) else self._workspace_bytes(step)
            else:
                units = units_of(step, self._together)
                scratch[i] = sum(rounded(self._scratch_bytes(kernels)) for kernels, _ in units)
            if scratch[i]:  # the memory plan knows a smaller alignment
                scratch[i] += ALIGNMENT - memory.ALIGNMENT
        return Room(jaxpr, plan, plan_memory(plan, scratch=scratch, donated=donated), loops)

    def loop(self, loop: Loop, buffers: Sequence[Buffer]) -> LoopRoom:
        """The room of a loop, whose operands are views of some buffers."""
        if loop.eqn.primitive.name == "cond":
            pairs = zip(loop.jaxprs, loop.plans, strict=True)
            rooms = tuple(self.room(j, with_patches(p, 0, 0)) for j, p in pairs)
            return self._placed(loop, buffers, rooms, 0, 0, 0)
        before, consts, carries, _ = map(len, groups_of(loop, loop.inputs))
        pairs = zip(loop.jaxprs[:-1], loop.plans[:-1], strict=True)
        tests = [self.room(j, with_patches(p, before, 0)) for j, p in pairs]
        jaxpr, body = loop.jaxprs[-1], with_patches(loop.plans[-1], consts, carries)
        if tests:
            rooms = (*tests, self._taking_over(jaxpr, body, consts, carries))
            return self._placed(loop, buffers, rooms, before + consts, carries, 0)
        times = loop.eqn.params["length"]
        chunk = 0
        if times * weight(body) > MOST_UNROLLED:  # an even number: carries have two places
            chunk = max(MOST_UNROLLED // 8 // weight(body), 1) * 2
        return self._placed(loop, buffers, (self.room(jaxpr, body),), consts, carries, chunk)

    def _placed(
        self, loop: Loop, buffers: Sequence[Buffer], rooms: tuple[Room, ...], first: int,
        carries: int, chunk: int,
    ) -> LoopRoom:  # fmt: skip
        """A loop's room, from those of its plans and where its carries stand among its operands."""
        place = rounded(max(room.memory.arena_bytes for room in rooms))
        spare, staged = [], {}
        scan = loop.eqn.primitive.name == "scan"
        for i, view in enumerate(loop.inputs):
            if first <= i < first + carries:
                spare.append(place)
                place += rounded(loop.eqn.inputs[i].aval.nbytes)
            elif isinstance(view, View):
                row = scan and i >= first + carries
                size = buffers[view.buffer].dtype.itemsize * prod(view.shape[row:])
                if (row and chunk) or not _is_aligned(view, buffers[view.buffer], row):
                    staged[i] = place
                    place += rounded(size)
        for j, b in enumerate(loop.outputs):
            row = scan and j >= carries
            size = buffers[b].nbytes // max(loop.eqn.params["length"], 1) if row else 0
            if row and (chunk or size % WIDEST):
                staged[len(loop.inputs) + j] = place
                place += rounded(size)
        body = rooms[-1]
        consts = body.plan.inputs - carries - (len(loop.inputs) - first - carries)
        taken = (*body.memory.taken.values(), *body.plan.updated)
        over = frozenset(k for k in range(carries) if consts + k in taken)
        return LoopRoom(rooms, over, tuple(spare), staged, place, place + 64, chunk)

    def _taking_over(self, jaxpr: Jaxpr, body: Plan, consts: int, carries: int) -> Room:
        """The room of a body whose carries become results in place, each its own."""
        free = {
            consts + k
            for k, r in enumerate(body.results[:carries])
            if isinstance(r, int) and body.results.count(r) == 1
        }
        while True:
            room = self.room(jaxpr, body, free)
            wrong = {a for r, a in room.memory.taken.items() if body.results.index(r) != a - consts}
            if not wrong:
                return room
            free -= wrong


def units_of(step: Step, together: Together) -> list[tuple[Unit, list[int]]]:
    """What is launched for a step: kernels, and their buffers one after the other."""
    launches = launches_of(step)
    if len(launches) == 1:
        return [((launches[0].kernel,), list(launches[0].buffers))]
    found: list[tuple[Unit, list[int]]] = []
    for group in together([launch.kernel for launch in launches]):
        members = [launches[i] for i in group]
        buffers = [b for launch in members for b in launch.buffers]
        found.append(([launch.kernel for launch in members], buffers))
    return found


def library_steps(room: Room) -> Iterator[Library]:
    """The library steps of a plan and its loops."""
    for i, step in enumerate(room.plan.steps):
        if i in room.loops:
            for inner in room.loops[i].rooms:
                yield from library_steps(inner)
        elif isinstance(step, Library) and not is_check(step):
            yield step


def weight(plan: Plan) -> int:
    """About how many launches a plan takes."""
    return (
        sum(
            1 + sum(map(weight, step.plans))
            if isinstance(step, Loop)
            else len(launches_of(step)) or 1
            for step in plan.steps
        )
        or 1
    )


def _is_aligned(view: View, buffer: Buffer, row: bool) -> bool:
    """Whether a view, or each of its rows, starts where kernels may read a buffer."""
    size = buffer.dtype.itemsize
    steps = (view.offset, view.strides[0]) if row else (view.offset,)
    return all(s * size % WIDEST == 0 for s in steps)


def rounded(size: int) -> int:
    """A size as a multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
