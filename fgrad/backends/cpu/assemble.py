"""From a `Loop` of a plan to a tape (see `tape`): where its state lies, and its instructions."""

from collections.abc import Sequence
from math import inf

from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.room import LoopRoom, Room, State, bytes_of, row_bytes
from fgrad.backends.cpu.scalar_loops import ScalarLoop
from fgrad.backends.cpu.tape import Assembled, Op
from fgrad.backends.cpu.writing import STEP_NS, Codes, Time, Writer
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import Launch, Library, Loop, Plan, View, is_check
from fgrad.compile.updates import is_idle
from fgrad.core.ir import Literal
from fgrad.lax.control.while_walk import KEPT


def assemble(loop: Loop, codes: Codes, made: Functions) -> Assembled:
    """The tape of a loop whose plans are `sequence.prepared`.

    Its operands are the pointers to the loop's inputs, then to its outputs.
    """
    room = LoopRoom(loop, made.workers.threads, made.engine.target)
    writer = _Writer(codes, made)
    count = len(loop.inputs)
    words = [writer.word() for _ in range(count + len(loop.outputs))]
    time = writer.loop(loop, room, 0, words[:count], words[count:])
    return writer.finish(room.bytes, time.total)


def assemble_product(step: Library, plan: Plan, made: Functions) -> Assembled:
    """The tape of one product of a plan that is `sequence.prepared`.

    Its operands are the pointers to the buffers that it reads, then to the one that it writes.
    """
    writer = _Writer(Codes(lambda _: (0, 0), lambda _: (), lambda _: None), made)
    places = [v.buffer for v in step.inputs if isinstance(v, View)] + list(step.outputs)
    given = [writer.word() for _ in places]
    time = writer.product(step, plan, dict(zip(places, given, strict=True)))
    return writer.finish(0, time.total)


class _Writer(Writer):
    """Writes plans and loops of them."""

    # ------------------------------------------------------------------------------- plans

    def plan(self, plan: Plan, room: Room, base: int, words: dict[int, int]) -> Time:
        """The steps of a plan, of which `words` point to inputs and results; how long they take."""
        memory, offsets = room.memory, room.offsets
        total = own = 0.0
        for b, offset in offsets.items():
            words[b] = self.place(base + offset)
        for i, step in enumerate(plan.steps):
            if i in room.first or is_idle(step, offsets):
                continue
            if isinstance(step, Launch):
                time = self.launch(step, words, base, offsets, memory.scratch.get(i, 0))
            elif isinstance(step, Loop):
                ins = [self.operand(a, plan, words) for a in step.inputs]
                outs = [words[b] for b in step.outputs]
                time = self.loop(step, room.loops[i], base + memory.scratch[i], ins, outs)
            elif is_check(step):
                self.code += [Op.CHECK, self.operand(step.inputs[0], plan, words)]
                self.checks = True
                time = Time(STEP_NS, STEP_NS)
            elif i in room.routines:
                assert isinstance(step, Library)
                scratch = base + memory.scratch.get(i, 0)
                time = self.routine(step, room.routines[i], plan, words, scratch)
            else:
                assert isinstance(step, Library)
                time = self.product(step, plan, words)
            total, own = total + time.total, own + time.own
        return Time(total, own)

    def before(self, plan: Plan, room: Room, base: int, consts: Sequence[int]) -> None:
        """The steps of a loop's plan that run once; `consts` point to its first inputs."""
        words = dict(enumerate(consts))
        for i in room.first:
            step = plan.steps[i]
            assert isinstance(step, Launch)
            self.launch(step, words, base, room.offsets, room.memory.scratch.get(i, 0))

    # ------------------------------------------------------------------------------- loops

    def loop(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> Time:
        """A loop whose operands and results `ins` and `outs` point to; how long it takes."""
        kind = {
            "scan": self.scan, "while": self.while_, "while_saved": self.while_, "cond": self.cond,
        }  # fmt: skip
        found = self.codes.scalars(loop)
        if found is not None:
            return self.steps(loop, *found, ins, outs)
        return kind[loop.eqn.primitive.name](loop, room, base, ins, outs)

    def steps(
        self, loop: Loop, found: ScalarLoop, address: int, ins: Sequence[int], outs: Sequence[int]
    ) -> Time:
        """A loop over single numbers, which is one function."""
        body, length = loop.plans[-1], loop.eqn.params.get("length")
        before, consts, init, xs = groups_of(loop, ins)
        n = len(init)
        for k in range(n):
            self.copy(outs[k], init[k], body.buffers[len(consts) + k].nbytes)
        if length == 0:
            return Time(STEP_NS, STEP_NS)
        pointers = [*before, *consts, *outs[:n], *xs, *outs[n:]]
        args = len(self.image)
        for value in (*[0] * len(pointers), *found.numbers):
            self.word(value)
        if length is not None:
            first = length - 1 if loop.eqn.params["reverse"] else 0
            self.code += [Op.SET, self.word(), first, Op.SET, self.word(), length]
            for size in self.row_sizes(loop):
                self.word(size)
        cost_ns = int(found.ns * found.limit) + 1
        self.code += [Op.STEPS, 7 + len(pointers), address, args, found.limit, cost_ns,
                      len(pointers), *pointers]  # fmt: skip
        return Time(inf if length is None else found.ns * length, STEP_NS)

    def row_sizes(self, loop: Loop) -> list[int]:
        """The bytes of a row of each stacked input of a scan, and of each stacked output."""
        body, (_, consts, init, xs) = loop.plans[0], groups_of(loop, loop.inputs)
        seen = body.buffers[len(consts) + len(init) : body.inputs]
        return [
            *(row_bytes(a, b) for a, b in zip(xs, seen, strict=True)),
            *(bytes_of(r, body) for r in body.results[len(init) :]),
        ]

    def scan(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> Time:
        params, body = loop.eqn.params, loop.plans[0]
        length = params["length"]
        _, consts, init, xs = groups_of(loop, ins)
        n = len(init)
        if not length:
            for k in range(n):
                self.copy(outs[k], init[k], body.buffers[len(consts) + k].nbytes)
            return Time(STEP_NS, STEP_NS)
        steps = self.row_sizes(loop)
        rows = [self.word() for _ in steps]
        state = self.begin(room, base, init, outs, last=length - 1)
        self.move([*zip(rows, [*xs, *outs[n:]], strict=True)])
        if params["reverse"]:
            for row, step in zip(rows, steps, strict=True):
                self.add(row, (length - 1) * step)
        counter = self.word()
        self.code += [Op.SET, counter, length]
        self.before(body, room.plans[0], base, consts)
        top = len(self.code)
        inputs = [*consts, *state.words, *rows[: len(xs)]]
        time = self.body(body, room.plans[0], base, inputs, state, rows[len(xs) :])
        for row, step in zip(rows, steps, strict=True):
            self.add(row, -step if params["reverse"] else step)
        more = STEP_NS * len(rows)
        self.code += [Op.NEXT, counter, top, int(time.own + more) + 1]
        self.end(body, state, outs)
        return Time((time.total + more) * length, STEP_NS)

    def while_(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> Time:
        test, body = loop.plans
        before, consts, init, _ = groups_of(loop, ins)
        state = self.begin(room, base, init, outs, last=0)
        stacks = outs[len(init) : -1]
        sizes = [bytes_of(r, body) for r in body.results]
        saved = loop.eqn.primitive.name == "while_saved"
        if saved:
            for word, size in zip(stacks, sizes, strict=True):
                self.code += [Op.ZERO, word, KEPT * size]
            self.code += [Op.ZERO, outs[-1], 8]
            spacing = self.word()
            self.code += [Op.SET, spacing, 1]
        self.before(test, room.plans[0], base, before)
        self.before(body, room.plans[1], base, consts)
        top = len(self.code)
        words = dict(enumerate([*before, *state.words]))
        (flag,) = test.results
        if isinstance(flag, int) and flag >= test.inputs:
            words[flag] = self.place(base + room.flag)
        ns = self.plan(test, room.plans[0], base, words).own
        self.code += [Op.UNLESS, self.result(flag, words), 0]
        leave = len(self.code) - 1
        if saved:
            self.code += [Op.SAVE, len(init), outs[-1], spacing, KEPT]
            self.code += [x for row in zip(stacks, state.words, sizes, strict=True) for x in row]
        ns += self.body(body, room.plans[1], base, [*consts, *state.words], state, ()).own
        self.code += [Op.JUMP, top, int(ns) + 1]
        self.code[leave] = len(self.code)
        self.end(body, state, outs)
        return Time(inf, STEP_NS)

    def cond(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> Time:
        n = len(loop.plans)
        table = len(self.code) + 3
        self.code += [Op.SWITCH, ins[0], n, *[0] * n]
        leaves, times = [], []
        for i, (branch, inner) in enumerate(zip(loop.plans, room.plans, strict=True)):
            self.code[table + i] = len(self.code)
            words = dict(enumerate(ins[1:]))
            for r, out in zip(branch.results, outs, strict=True):
                if isinstance(r, int):
                    words.setdefault(r, out)
            times.append(self.plan(branch, inner, base, words))
            for r, out in zip(branch.results, outs, strict=True):
                self.copy(out, self.result(r, words), bytes_of(r, branch))
            self.code += [Op.JUMP, 0, 0]
            leaves.append(len(self.code) - 2)
        for place in leaves:
            self.code[place] = len(self.code)
        total, own = (max(column) for column in zip(*times, strict=True))
        return Time(total + STEP_NS, own + STEP_NS)

    def result(self, r: int | Literal, words: dict[int, int]) -> int:
        """The word that points to a result of a plan."""
        return self.constant(r) if isinstance(r, Literal) else words[r]

    def begin(
        self, room: LoopRoom, base: int, init: Sequence[int], outs: Sequence[int], last: int
    ) -> State:
        """Words for the carries and the places they are written to; `last` is the last step."""
        state = State([self.word() for _ in init], {})
        pairs = []
        for k, (word, first) in enumerate(zip(state.words, init, strict=True)):
            stays = k in room.updated  # in the result, in place
            if stays:
                self.copy(outs[k], first, room.updated[k])
            pairs.append((word, outs[k] if stays else first))
        for b, offsets in room.rings.items():
            sources = [self.place(base + offset) for offset in offsets]
            own = room.owner[b]
            if own is not None:  # in a scan the last step writes to the result
                sources.insert(last % 2, outs[own])
            state.rings[b] = [self.word() for _ in sources]
            pairs += zip(state.rings[b], sources, strict=True)
        self.move(pairs)
        return state

    def body(
        self, body: Plan, room: Room, base: int, inputs: Sequence[int], state: State,
        rows: Sequence[int],
    ) -> Time:  # fmt: skip
        """One step: its plan, its stacked outputs, and how the state moves on."""
        n = len(state.words)
        words = dict(enumerate(inputs))
        for r, row in zip(body.results[n:], rows, strict=True):
            if isinstance(r, int):
                words.setdefault(r, row)
        for b, ring in state.rings.items():
            words[b] = ring[0]
        time = self.plan(body, room, base, words)
        for r, row in zip(body.results[n:], rows, strict=True):
            self.copy(row, self.result(r, words), bytes_of(r, body))
        pairs = [
            (word, self.result(r, words))
            for word, r in zip(state.words, body.results[:n], strict=True)
        ]
        for ring in state.rings.values():
            pairs += zip(ring, [*ring[1:], ring[0]], strict=True)
        self.move(pairs)
        more = STEP_NS * (2 + len(pairs) + len(rows))
        return Time(time.total + more, time.own + more)

    def end(self, body: Plan, state: State, outs: Sequence[int]) -> None:
        """Have the carries in the results."""
        for out, word, r in zip(outs, state.words, body.results, strict=False):
            self.copy(out, word, bytes_of(r, body))
