"""The instructions of a tape for the steps of a plan, and the words that they name (see `tape`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu import gemm, layout
from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.pool import SPIN
from fgrad.backends.cpu.room import aligned
from fgrad.backends.cpu.routines import Routine
from fgrad.backends.cpu.scalar_loops import ScalarLoop
from fgrad.backends.cpu.tape import POLL_NS, Assembled, Frame, Op
from fgrad.compile.cost import cost
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Launch, Library, Loop, Plan, View
from fgrad.core.ir import Literal

STEP_NS = 5.0  # what an instruction takes beside its work


class Codes(NamedTuple):
    """Where machine code lies.

    Attributes:
        kernel: The code of a kernel, and of what combines its parts.
        routine: That of each function of a routine.
        scalars: What a loop over single numbers is, and its code; None of other loops.
    """

    kernel: Callable[[Kernel], tuple[int, int]]
    routine: Callable[[Routine], Sequence[int]]
    scalars: Callable[[Loop], tuple[ScalarLoop, int] | None]


class Time(NamedTuple):
    """How long something takes, in nanoseconds: all of it, and what loops in it do not count."""

    total: float
    own: float


class Writer:
    """Writes instructions and the words that they name."""

    def __init__(self, codes: Codes, made: Functions) -> None:
        self.codes, self.made = codes, made
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
        """Copy memory from where one word points to where another does."""
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
        """Add to a word."""
        if number:
            self.code += [Op.ADD, word, number]

    # ------------------------------------------------------------------------------- steps

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
    ) -> Time:  # fmt: skip
        """A kernel; `offsets` are those of temporaries, and `scratch` that of its own memory."""
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
        (address, combine), n = self.codes.kernel(kernel), len(step.buffers)
        self.code += [
            Op.LAUNCH, 13 + len(pairs), address, args, units, chunk, combine,
            layout.combine_units(kernel), SPIN, n + len(own), n + 1, need.thread_bytes,
            len(pairs) // 2, *pairs,
        ]  # fmt: skip
        return Time(price + STEP_NS, price + STEP_NS)

    def routine(
        self, step: Library, routine: Routine, plan: Plan, words: dict[int, int], scratch: int
    ) -> Time:
        """The phases of a routine, and where it may find an error, whether it has."""
        pointers = [self.spread(a, plan, words) for a in step.inputs]
        pointers += [words[b] for b in step.outputs]
        room = self.place(scratch) if routine.scratch_bytes else 0
        pointers += [room] * (len(pointers) < routine.arguments)
        if routine.checked:
            self.checks = True
            self.code += [Op.ZERO, room, 8]
        addresses, time = self.codes.routine(routine), 0.0
        for phase in routine.phases:
            chunk = self.made.chunk(phase.units, phase.cost_ns)
            if chunk:
                self.made.workers.start()
            args = len(self.image)
            for _ in pointers:
                self.word()
            self.word(phase.first)
            n = len(pointers)
            pairs = [x for pair in enumerate(pointers) for x in pair]
            self.code += [
                Op.LAUNCH, 13 + len(pairs), addresses[phase.code], args, phase.units, chunk, 0, 0,
                SPIN, n + 1, n, 0, n, *pairs,
            ]  # fmt: skip
            time += phase.cost_ns + STEP_NS
        if routine.checked:
            self.code += [Op.CHECK, room]
        return Time(time, time)

    def spread(self, a: View | Literal, plan: Plan, words: dict[int, int]) -> int:
        """The word that points to an operand of a routine, which knows its strides."""
        if isinstance(a, View):
            return self.operand(a, plan, words)
        array = np.asarray(a.value, a.aval.dtype)
        self.keep.append(array)
        return self.word(array.ctypes.data)

    def product(self, step: Library, plan: Plan, words: dict[int, int]) -> Time:
        """A matrix product."""
        code, ns = gemm.instruction(step, plan.buffers, words, self.keep)
        self.code += code
        return Time(ns + STEP_NS, ns + STEP_NS)
