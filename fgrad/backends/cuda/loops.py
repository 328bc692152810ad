"""Loops and choices as items of a tape.

Of a scan all steps are written out: each carry has two places, and the steps read one and write
the other. A long one is a loop on the device over an even number of steps, which find their rows
by a counter. The carries of a while loop have one place, that of its results; what a step cannot
write there at once is copied afterwards. A branch writes where the results of its choice lie.
"""

from collections.abc import Callable, Sequence

from fgrad.backends.cuda.parts import Frame, Parts, all_of, frame, nbytes
from fgrad.backends.cuda.rooms import LoopRoom, Room
from fgrad.backends.cuda.tape import (
    NOWHERE,
    Choice,
    Counted,
    Item,
    Place,
    While,
)
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import INPUT, Buffer, Loop
from fgrad.core.ir import Literal

Steps = Callable[[Room, int, Frame], list[Item]]
Moves = list[tuple[int, int, int]]


def loop_items(
    parts: Parts, steps: Steps, loop: Loop, room: LoopRoom, start: int,
    buffers: Sequence[Buffer], outer: Frame,
) -> list[Item]:  # fmt: skip
    """The items of a loop or choice.

    Args:
        parts: Makes items.
        steps: Makes those of a plan.
        loop: What is run.
        room: Its memory.
        start: Where that begins.
        buffers: The buffers of the plan around it.
        outer: Their addresses.
    """
    inputs = [parts.place(a, buffers, outer) for a in loop.inputs]
    outputs = [parts.place(all_of(b, buffers), buffers, outer) for b in loop.outputs]
    made = _Loop(parts, steps, loop, room, start, inputs, outputs)
    name = loop.eqn.primitive.name
    if name == "cond":
        return made.choice()
    return made.scan() if name == "scan" else made.loop(name == "while_saved")


class _Loop:
    """Writes one loop."""

    def __init__(
        self, parts: Parts, steps: Steps, loop: Loop, room: LoopRoom, start: int,
        inputs: list[Place], outputs: list[Place],
    ) -> None:  # fmt: skip
        self.parts, self.steps, self.loop_step, self.room = parts, steps, loop, room
        self.start, self.inputs, self.outputs = start, inputs, outputs
        self.body = room.rooms[-1]
        self.state = start + room.state

    def staged(self, i: int) -> int:
        """The place of its own of an operand or result; `NOWHERE` if it has none."""
        offset = self.room.staged.get(i)
        return NOWHERE if offset is None else self.start + offset

    def aligned(self, numbers: Sequence[int]) -> tuple[list[int], list[Item]]:
        """The addresses of operands as kernels can use them, and the copies that takes."""
        found, moves = [], []
        for i in numbers:
            at = self.staged(i)
            if at != NOWHERE:
                moves.append((at, self.inputs[i].address, nbytes(self.inputs[i])))
            found.append(self.inputs[i].address if at == NOWHERE else at)
        return found, self.parts.copies(moves)

    # ------------------------------------------------------------------------------------- choices

    def choice(self) -> list[Item]:
        """One of several programs."""
        index, *_ = self.loop_step.inputs
        given, items = self.aligned(range(1, len(self.inputs)))
        branches = []
        for room in self.room.rooms:
            outs = [p.address for p in self.outputs]
            branches.append(tuple(self.run(room, given, outs)))
        if isinstance(index, Literal):
            return [*items, *branches[int(index.value)]]
        return [*items, Choice(tuple(branches), self.inputs[0].address)]

    def run(self, room: Room, given: Sequence[int], outs: Sequence[int]) -> list[Item]:
        """A plan from operands to results, which lie where no operand does that it returns."""
        at = frame(room, self.start, given)
        moves = place_results(self.parts, room, at, outs)
        return [*self.steps(room, self.start, at), *self.parts.copies(moves(at))]

    # ---------------------------------------------------------------------------------- while loops

    def loop(self, saved: bool) -> list[Item]:
        """A while loop, whose carries lie where its results do."""
        step, body = self.loop_step, self.body
        before, consts, carries, _ = map(list, groups_of(step, range(len(step.inputs))))
        fixed, items = self.aligned([*before, *consts])
        homes = [p.address for p in self.outputs[: len(carries)]]
        inits = [self.inputs[i] for i in carries]
        items += self.parts.copies(
            [(h, p.address, nbytes(p)) for h, p in zip(homes, inits, strict=True)]
        )
        test = self.run(self.room.rooms[0], [*fixed[: len(before)], *homes], [self.state])
        given = [*fixed[len(before) :], *homes]
        at = frame(body, self.start, given)
        spare = [self.start + offset for offset in self.room.spare]
        outs = [
            h if k in self.room.in_place or r == len(consts) + k else s
            for k, (h, s, r) in enumerate(zip(homes, spare, body.plan.results, strict=True))
        ]
        moves = place_results(self.parts, body, at, outs)
        back = [(h, o, nbytes(p)) for h, o, p in zip(homes, outs, inits, strict=True)]
        inner = [
            *self.steps(body, self.start, at),
            *self.parts.copies(moves(at)),
            *self.parts.copies(back),
        ]
        if saved:
            first, keep = self.saving(homes)
            items, inner = [*items, *first], [*keep, *inner]
        return [*items, While(tuple(test), tuple(inner), self.state)]

    def saving(self, homes: Sequence[int]) -> tuple[list[Item], list[Item]]:
        """What a loop that keeps carries does before it begins, and before each step."""
        parts, steps = self.parts, self.outputs[-1].address
        stacks, state = self.outputs[len(homes) : -1], self.state + 16
        first: list[Item] = [
            parts.spread("fgrad_clear", nbytes(s), [s.address], nbytes(s))
            for s in (*stacks, self.outputs[-1])
            if nbytes(s)
        ]
        first.append(parts.single("fgrad_set", [state], 1))
        kept = stacks[0].shape[0]
        rows = [nbytes(s) // kept for s in stacks]
        full = [(s.address, h, n) for s, h, n in zip(stacks, homes, rows, strict=True) if n]
        each: list[Item] = [
            parts.spread("fgrad_thin", 16 * n, [s, steps, state], kept, n) for s, _, n in full
        ]
        each.append(parts.single("fgrad_space", [steps, state], kept))
        each += [parts.spread("fgrad_keep", n, [s, h, steps, state], n) for s, h, n in full]
        each.append(parts.single("fgrad_count", [steps]))
        return first, each

    # ------------------------------------------------------------------------------------- scans

    def scan(self) -> list[Item]:
        """A scan."""
        params = self.loop_step.eqn.params
        n, carries = params["length"], params["num_carry"]
        consts, items = self.aligned(range(params["num_consts"]))
        walk = _Scan(self, consts, carries, n)
        items += self.parts.copies(walk.before())
        chunk = self.room.chunk
        done = 0
        if chunk and n >= chunk:
            counter, done = self.state, n - n % chunk
            items.append(self.parts.single("fgrad_set", [counter], 0))
            inner = [item for i in range(chunk) for item in walk.step(i, counter)]
            inner.append(self.parts.single("fgrad_count", [counter]))
            items.append(Counted(tuple(inner), counter, done // chunk))
        for i in range(done, n):
            items += walk.step(i, NOWHERE)
        return [*items, *self.parts.copies(walk.after())]


class _Scan:
    """The steps of a scan: where each reads and writes."""

    def __init__(self, loop: _Loop, consts: list[int], carries: int, length: int) -> None:
        self.loop, self.consts, self.length = loop, consts, length
        self.carries = carries
        first = len(consts)
        self.inits = loop.inputs[first : first + carries]
        self.xs = loop.inputs[first + carries :]
        self.ys = loop.outputs[carries:]
        results = loop.body.plan.results
        self.still = {
            k for k in range(carries) if results[k] == first + k and k not in loop.room.in_place
        }

    def home(self, k: int, i: int) -> int:
        """Where carry `k` is after step `i`; before the first step, that is step -1."""
        last, room = self.loop.outputs[k].address, self.loop.room
        if k in self.still:
            return self.inits[k].address
        if k in room.in_place or (self.length - 1 - i) % 2 == 0:
            return last
        if i < 0 and not self.is_moved(k):
            return self.inits[k].address
        return self.loop.start + room.spare[k]

    def is_moved(self, k: int) -> bool:
        """Whether a carry is copied to a place of its own before the first step."""
        room = self.loop.room
        return k in room.in_place or bool(room.chunk and self.length >= room.chunk)

    def first(self, k: int) -> int:
        """Where a carry is before the first step."""
        if k in self.still or not self.is_moved(k):
            return self.inits[k].address
        return self.home(k, -1)

    def before(self) -> Moves:
        """What is copied before the first step."""
        return [(self.first(k), p.address, nbytes(p)) for k, p in enumerate(self.inits)]

    def after(self) -> Moves:
        """What is copied after the last step: carries that never left their first place."""
        idle = range(self.carries) if not self.length else self.still
        return [(self.loop.outputs[k].address, self.first(k), nbytes(self.inits[k])) for k in idle]

    def step(self, i: int, counter: int) -> list[Item]:
        """The items of a step; with a counter, `i` is counted from what that says."""
        loop, parts, body = self.loop, self.loop.parts, self.loop.body
        carried = [self.first(k) if i == 0 else self.home(k, i - 1) for k in range(self.carries)]
        rows, fetched = self.fetched(i, counter)
        at = frame(body, loop.start, [*self.consts, *carried, *rows])
        outs = [self.home(k, i) for k in range(self.carries)]
        ends, stored = self.stored(i, counter)
        moves = place_results(parts, body, at, [*outs, *ends])
        made = loop.steps(body, loop.start, at)
        return [*fetched, *made, *parts.copies(moves(at)), *stored]

    def fetched(self, i: int, counter: int) -> tuple[list[int], list[Item]]:
        """Where the rows of stacked inputs are in a step, and what brings them there."""
        first = len(self.consts) + self.carries
        rows, moves, items = [], Moves(), list[Item]()
        for j, p in enumerate(self.xs):
            to, (step, begin) = self.loop.staged(first + j), self.row(i, p, counter)
            size = nbytes(p) // max(self.length, 1)
            if to == NOWHERE:
                rows.append(p.address + begin)
                continue
            rows.append(to)
            if counter == NOWHERE:
                moves.append((to, p.address + begin, size))
            elif size:
                pointers, numbers = [to, p.address, counter], (step, begin, size)
                items.append(self.loop.parts.spread("fgrad_row_out", size, pointers, *numbers))
        return rows, [*items, *self.loop.parts.copies(moves)]

    def stored(self, i: int, counter: int) -> tuple[list[int], list[Item]]:
        """Where rows of stacked results are made in a step, and what brings them to the stacks."""
        first = len(self.loop.inputs) + self.carries
        rows, moves, items = [], Moves(), list[Item]()
        for j, p in enumerate(self.ys):
            source, (step, begin) = self.loop.staged(first + j), self.row(i, p, counter)
            size = nbytes(p) // max(self.length, 1)
            if source == NOWHERE:
                rows.append(p.address + begin)
                continue
            rows.append(source)
            if counter == NOWHERE:
                moves.append((p.address + begin, source, size))
            elif size:
                pointers, numbers = [p.address, source, counter], (step, begin, size)
                items.append(self.loop.parts.spread("fgrad_row_in", size, pointers, *numbers))
        return rows, [*items, *self.loop.parts.copies(moves)]

    def row(self, i: int, p: Place, counter: int) -> tuple[int, int]:
        """Bytes between rows of two rounds, and from the start of a stack to the row of a step."""
        reverse = self.loop.loop_step.eqn.params["reverse"]
        at = self.length - 1 - i if reverse else i
        stride = p.strides[0]
        step = self.loop.room.chunk * stride if counter != NOWHERE else 0
        return -step if reverse else step, at * stride


def place_results(
    parts: Parts, room: Room, at: Frame, outs: Sequence[int]
) -> Callable[[Frame], Moves]:
    """Have a plan write its results where they are wanted, as far as it can.

    Args:
        parts: Makes items.
        room: The plan.
        at: The addresses of its buffers; those of results are filled in.
        outs: Where results are wanted.

    Returns:
        What says which copies are left, of results that are inputs, numbers, or wanted twice.
    """
    plan = room.plan
    for r, out in zip(plan.results, outs, strict=True):
        if isinstance(r, int) and plan.buffers[r].role != INPUT and at[r] == NOWHERE:
            at[r] = out

    def moves(at: Frame) -> Moves:
        found = []
        for r, out in zip(plan.results, outs, strict=True):
            if isinstance(r, Literal):
                number = parts.constant(r)
                found.append((out, number.address, nbytes(number)))
            else:
                found.append((out, at[r], plan.buffers[r].nbytes))
        return found

    return moves
