"""Where what a loop needs lies in its frame: temporaries of its plans, and places of its state."""

from fgrad.backends.cpu import layout
from fgrad.compile.loops import groups_of, places
from fgrad.compile.memory import ALIGNMENT, plan_memory
from fgrad.compile.plan import Launch, Loop, Plan


class Room:
    """The memory of a plan in a loop.

    Attributes:
        memory: Where its temporaries lie.
        loops: The memory of its own loops, by step.
    """

    def __init__(self, plan: Plan, threads: int) -> None:
        self.loops: dict[int, LoopRoom] = {}
        scratch: dict[int, int] = {}
        for i, step in enumerate(plan.steps):
            if isinstance(step, Launch):
                scratch[i] = layout.scratch_bytes(step.kernel, threads)
            elif isinstance(step, Loop):
                self.loops[i] = LoopRoom(step, threads)
                scratch[i] = self.loops[i].bytes
        self.memory = plan_memory(plan, scratch=scratch)


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

    def __init__(self, loop: Loop, threads: int) -> None:
        self.plans = [Room(p, threads) for p in loop.plans]
        self.bytes: int = max(aligned(r.memory.arena_bytes) for r in self.plans)
        self.rings: dict[int, list[int]] = {}
        self.owner: dict[int, int | None] = {}
        self.updated: dict[int, int] = {}
        self.flag = self._take(1)
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

    def _take(self, size: int) -> int:
        place = self.bytes
        self.bytes += aligned(size)
        return place


def aligned(size: int) -> int:
    """A number of bytes, up to the next cache line."""
    return -(-size // ALIGNMENT) * ALIGNMENT
