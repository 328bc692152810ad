"""From a `Loop` of a plan to a tape (see `tape`): where its state lies, and its instructions."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu import gemm, layout
from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.pool import SPIN
from fgrad.backends.cpu.room import LoopRoom, Room, State, aligned, bytes_of, row_bytes
from fgrad.backends.cpu.scalar_loops import ScalarLoop
from fgrad.backends.cpu.tape import POLL_NS, Assembled, Frame, Op
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.loops import groups_of
from fgrad.compile.plan import Launch, Library, Loop, Plan, View, is_check
from fgrad.compile.updates import is_idle
from fgrad.core.ir import Literal
from fgrad.lax.control.while_walk import KEPT

_STEP_NS = 5.0  # what an instruction takes beside its work
Addresses = Callable[[Kernel], tuple[int, int]]
Scalars = Callable[[Loop], tuple[ScalarLoop, int] | None]


class _Time(NamedTuple):
    """How long something takes, in nanoseconds: all of it, and what loops in it do not count."""

    total: float
    own: float


def assemble(loop: Loop, addresses: Addresses, scalars: Scalars, made: Functions) -> Assembled:
    """The tape of a loop whose plans are `sequence.prepared`.

    Its operands are the pointers to the loop's inputs, then to its outputs.

    Args:
        loop: The loop.
        addresses: The code of a kernel, and of what combines its parts.
        scalars: What a loop over single numbers is, and its code; None of other loops.
        made: What makes functions.
    """
    room = LoopRoom(loop, made.workers.threads)
    writer = _Writer(addresses, scalars, made)
    count = len(loop.inputs)
    words = [writer.word() for _ in range(count + len(loop.outputs))]
    time = writer.loop(loop, room, 0, words[:count], words[count:])
    return writer.finish(room.bytes, time.total)


def assemble_product(step: Library, plan: Plan, made: Functions) -> Assembled:
    """The tape of one product of a plan that is `sequence.prepared`.

    Its operands are the pointers to the buffers that it reads, then to the one that it writes.
    """
    writer = _Writer(lambda _: (0, 0), lambda _: None, made)
    places = [v.buffer for v in step.inputs if isinstance(v, View)] + list(step.outputs)
    given = [writer.word() for _ in places]
    time = writer.product(step, plan, dict(zip(places, given, strict=True)))
    return writer.finish(0, time.total)


class _Writer:
    """Writes instructions and the words that they name."""

    def __init__(self, addresses: Addresses, scalars: Scalars, made: Functions) -> None:
        self.addresses, self.scalars, self.made = addresses, scalars, made
        self.code: list[int] = []
        self.image: list[int] = [POLL_NS] * Frame.OPERANDS
        self.moving: list[int] = []
        self.keep: list[Any] = []
        self.most_moves, self.checks = 0, False
        self.move_places: list[int] = []  # where the instructions say which words they may use

    def finish(self, room: int, ns: float) -> Assembled:
        """The tape, once all is written."""
        self.code.append(Op.END)
        temporary = len(self.image)
        self.image += [0] * self.most_moves
        for place in self.move_places:
            self.code[place] = temporary
        first = aligned(8 * len(self.image))
        for word in self.moving:
            self.image[word] += first
        code, image, moving = (np.array(x, np.int64) for x in (self.code, self.image, self.moving))
        return Assembled(code, image, moving, first + room, ns, self.checks, self.keep)

    # ------------------------------------------------------------------------------ words

    def word(self, value: int = 0) -> int:
        """A word of the frame."""
        self.image.append(value)
        return len(self.image) - 1

    def place(self, offset: int) -> int:
        """A word that points to memory of the frame."""
        word = self.word(offset)
        self.moving.append(word)
        return word

    def constant(self, literal: Literal) -> int:
        """A word that points to a constant."""
        array = np.array(literal.value, literal.aval.dtype, order="C")
        self.keep.append(array)
        return self.word(array.ctypes.data)

    # ------------------------------------------------------------------------ instructions

    def copy(self, to: int, source: int, nbytes: int) -> None:
        if nbytes and to != source:
            self.code += [Op.COPY, to, source, nbytes]

    def move(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Set words to what other words are, all at once."""
        pairs = [(a, b) for a, b in pairs if a != b]
        if pairs:
            self.most_moves = max(self.most_moves, len(pairs))
            self.move_places.append(len(self.code) + 2)
            self.code += [Op.MOVE, len(pairs), 0, *(w for pair in pairs for w in pair)]

    def add(self, word: int, number: int) -> None:
        if number:
            self.code += [Op.ADD, word, number]

    # ------------------------------------------------------------------------------- plans

    def plan(self, plan: Plan, room: Room, base: int, words: dict[int, int]) -> _Time:
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
                time = _Time(_STEP_NS, _STEP_NS)
            else:
                assert isinstance(step, Library)
                time = self.product(step, plan, words)
            total, own = total + time.total, own + time.own
        return _Time(total, own)

    def before(self, plan: Plan, room: Room, base: int, consts: Sequence[int]) -> None:
        """The steps of a loop's plan that run once; `consts` point to its first inputs."""
        words = dict(enumerate(consts))
        for i in room.first:
            step = plan.steps[i]
            assert isinstance(step, Launch)
            self.launch(step, words, base, room.offsets, room.memory.scratch.get(i, 0))

    def operand(self, a: View | Literal, plan: Plan, words: dict[int, int]) -> int:
        """The word that points to an operand of a loop."""
        if isinstance(a, Literal):
            return self.constant(a)
        if not a.offset:
            return words[a.buffer]
        word = self.word()
        self.move([(word, words[a.buffer])])
        self.add(word, a.offset * plan.buffers[a.buffer].dtype.itemsize)
        return word

    def launch(
        self, step: Launch, words: dict[int, int], base: int, offsets: Mapping[int, int],
        scratch: int,
    ) -> _Time:  # fmt: skip
        kernel, made = step.kernel, self.made
        own = layout.words(kernel)
        args = len(self.image)
        pairs: list[int] = []
        for i, b in enumerate(step.buffers):
            if b in offsets:
                self.place(base + offsets[b])
            else:
                self.word()
                pairs += [i, words[b]]
        need = layout.scratch(kernel)
        for k, value in enumerate(own):
            if k < 2 and made.scratch_bytes(need):
                self.place(base + scratch + (need.shared_bytes if k else 0))
            else:
                self.word(value)
        price, units = cost(kernel).ns, layout.units(kernel)
        chunk = made.chunk(units, price)
        if chunk:
            made.workers.start()
        (address, combine), n = self.addresses(kernel), len(step.buffers)
        self.code += [
            Op.LAUNCH, 13 + len(pairs), address, args, units, chunk, combine,
            layout.combine_units(kernel), SPIN, n + len(own), n + 1, need.thread_bytes,
            len(pairs) // 2, *pairs,
        ]  # fmt: skip
        return _Time(price + _STEP_NS, price + _STEP_NS)

    def product(self, step: Library, plan: Plan, words: dict[int, int]) -> _Time:
        code, ns = gemm.instruction(step, plan.buffers, words, self.keep)
        self.code += code
        return _Time(ns + _STEP_NS, ns + _STEP_NS)

    # ------------------------------------------------------------------------------- loops

    def loop(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> _Time:
        """A loop whose operands and results `ins` and `outs` point to; how long it takes."""
        kind = {
            "scan": self.scan, "while": self.while_, "while_saved": self.while_, "cond": self.cond,
        }  # fmt: skip
        found = self.scalars(loop)
        if found is not None:
            return self.steps(loop, *found, ins, outs)
        return kind[loop.eqn.primitive.name](loop, room, base, ins, outs)

    def steps(
        self, loop: Loop, found: ScalarLoop, address: int, ins: Sequence[int], outs: Sequence[int]
    ) -> _Time:
        """A loop over single numbers, which is one function."""
        body, length = loop.plans[-1], loop.eqn.params.get("length")
        before, consts, init, xs = groups_of(loop, ins)
        n = len(init)
        for k in range(n):
            self.copy(outs[k], init[k], body.buffers[len(consts) + k].nbytes)
        if length == 0:
            return _Time(_STEP_NS, _STEP_NS)
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
        return _Time(inf if length is None else found.ns * length, _STEP_NS)

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
    ) -> _Time:
        params, body = loop.eqn.params, loop.plans[0]
        length = params["length"]
        _, consts, init, xs = groups_of(loop, ins)
        n = len(init)
        if not length:
            for k in range(n):
                self.copy(outs[k], init[k], body.buffers[len(consts) + k].nbytes)
            return _Time(_STEP_NS, _STEP_NS)
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
        more = _STEP_NS * len(rows)
        self.code += [Op.NEXT, counter, top, int(time.own + more) + 1]
        self.end(body, state, outs)
        return _Time((time.total + more) * length, _STEP_NS)

    def while_(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> _Time:
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
        return _Time(inf, _STEP_NS)

    def cond(
        self, loop: Loop, room: LoopRoom, base: int, ins: Sequence[int], outs: Sequence[int]
    ) -> _Time:
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
        return _Time(total + _STEP_NS, own + _STEP_NS)

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
    ) -> _Time:  # fmt: skip
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
        more = _STEP_NS * (2 + len(pairs) + len(rows))
        return _Time(time.total + more, time.own + more)

    def end(self, body: Plan, state: State, outs: Sequence[int]) -> None:
        """Have the carries in the results."""
        for out, word, r in zip(outs, state.words, body.results, strict=False):
            self.copy(out, word, bytes_of(r, body))
