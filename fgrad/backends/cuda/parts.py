"""What tapes are made of: launches of kernels, copies, and the places of views and numbers."""

import struct
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from fgrad.backends.cuda.calls import KernelCall
from fgrad.backends.cuda.device import Function
from fgrad.backends.cuda.rooms import ALIGNMENT, Room, Unit
from fgrad.backends.cuda.support import PAIRS, Support
from fgrad.backends.cuda.tape import CONSTANTS, NOWHERE, Item, Launch, Place, address
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Buffer, View, contiguous, whole
from fgrad.core.ir import Jaxpr, Literal

Frame = list[int]  # for each buffer of a plan, its address


class Kernels(Protocol):
    """Kernels that are loaded on a device."""

    def together(self, kernels: Sequence[Kernel]) -> Sequence[Sequence[int]]:
        """Which of some kernels, by position, are launched together."""

    def functions(self, unit: Unit) -> Sequence[Function]:
        """What is launched for kernels that are launched together, in order."""

    def function(self, call: KernelCall) -> Function:
        """What is launched for a kernel of a library step."""

    def words(self, unit: Unit) -> bytes:
        """The last argument of these."""

    def scratch_bytes(self, unit: Unit) -> int:
        """The scratch memory that they share."""


class Parts:
    """Makes items of tapes.

    Args:
        kernels: The code of kernels.
        support: The code of what is needed beside them.

    Attributes:
        constants: The bytes of the numbers that tapes refer to.
    """

    def __init__(self, kernels: Kernels, support: Support) -> None:
        self.kernels, self.support = kernels, support
        self.constants = bytearray()
        self._known: dict[Any, int] = {}

    def constant(self, literal: Literal) -> Place:
        """Where a number lies."""
        value = np.asarray(literal.value, literal.aval.dtype)
        content = value.tobytes()
        offset = self._known.get(content)
        if offset is None:
            offset = self._known[content] = len(self.constants)
            self.constants += content
            self.constants += bytes(-len(self.constants) % ALIGNMENT)
        return dense(address(CONSTANTS, offset), value.shape, value.dtype)

    def place(self, a: View | Literal, buffers: Sequence[Buffer], frame: Frame) -> Place:
        """Where an operand lies."""
        if isinstance(a, Literal):
            return self.constant(a)
        dtype = buffers[a.buffer].dtype
        strides = tuple(s * dtype.itemsize for s in a.strides)
        start = frame[a.buffer] + a.offset * dtype.itemsize
        return Place(start, a.shape, strides, dtype)

    def launches(
        self, unit: Unit, pointers: Sequence[int], scratch: int, jaxpr: Jaxpr
    ) -> list[Item]:
        """The launches of kernels that are launched together, which name equations of a program."""
        eqns = tuple(jaxpr.eqns[i] for kernel in unit for i in kernel.eqns)
        words = self.kernels.words(unit)
        return [
            Launch(function, (*pointers, scratch), words, len(unit) > 1, eqns)
            for function in self.kernels.functions(unit)
        ]

    def copies(self, moves: Iterable[tuple[int, int, int]]) -> list[Item]:
        """Copies that do not depend on each other.

        Args:
            moves: For each where to, where from, and how many bytes.
        """
        needed = [m for m in moves if m[2] and m[0] != m[1]]
        items: list[Item] = []
        for k in range(0, len(needed), PAIRS):
            group = needed[k : k + PAIRS]
            function = self.support.spread("fgrad_copy", max(m[2] for m in group), len(group))
            group += [(NOWHERE, NOWHERE, 0)] * (PAIRS - len(group))
            pointers = tuple(p for to, source, _ in group for p in (to, source))
            items.append(Launch(function, pointers, words(*(m[2] for m in group))))
        return items

    def single(self, name: str, pointers: Sequence[int], *numbers: int) -> Launch:
        """A launch of one thread."""
        return Launch(self.support.single(name), tuple(pointers), words(*numbers))

    def spread(self, name: str, count: int, pointers: Sequence[int], *numbers: int) -> Launch:
        """A launch whose threads share some bytes."""
        return Launch(self.support.spread(name, count), tuple(pointers), words(*numbers))


def words(*numbers: int) -> bytes:
    """Integers as the words of a launch."""
    return struct.pack(f"{len(numbers)}q", *numbers)


def dense(at: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Place:
    """A contiguous array at an address."""
    return Place(at, shape, tuple(s * dtype.itemsize for s in contiguous(shape)), dtype)


def nbytes(place: Place) -> int:
    """The bytes of the elements of an array."""
    return prod(place.shape) * place.dtype.itemsize


def frame(room: Room, start: int, given: Sequence[int]) -> Frame:
    """The addresses of the buffers of a plan.

    Args:
        room: The plan and its memory.
        start: Where that memory begins.
        given: The addresses of its inputs.

    Returns:
        The addresses; results are `NOWHERE` but for those in the place of an input.
    """
    found = [*given, *[NOWHERE] * (len(room.plan.buffers) - len(given))]
    for b, offset in room.memory.offsets.items():
        found[b] = start + offset
    for b, a in room.memory.taken.items():
        found[b] = found[a]
    return found


def all_of(b: int, buffers: Sequence[Buffer]) -> View:
    """The view of all of a buffer."""
    return whole(b, buffers[b].shape)
