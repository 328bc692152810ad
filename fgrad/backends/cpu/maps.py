"""Loads and stores: index maps as addresses, bounds as masks.

The part of a map that does not vary along the last axis is a scalar, computed once a row and once
a segment. Along the last axis a step of 1 is a vector in memory; any other, and computed indices,
are one element a lane.
"""

from typing import NamedTuple

import numpy as np

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.memory import (
    APART,
    PICKED,
    REVERSED,
    STEPPED,
    TOGETHER,
    Address,
    alignment,
    load,
    store,
    stored_scalar,
)
from fgrad.backends.cpu.ops import convert, scalar_of
from fgrad.backends.cpu.schedule import LANE, ROW, SEGMENT, dtype_of
from fgrad.backends.cpu.text import Operand
from fgrad.compile.kernel import MAPPED, Bound, Load, Map

_INT32, _INT64 = np.dtype("i"), np.dtype("q")


class Step(NamedTuple):
    """Where along the last axis the code is.

    Attributes:
        at: The position of the first lane.
        mask: The lanes that are within the row; None means all.
    """

    at: str
    mask: str | None


class Place:
    """One map or bound of an instruction, and how far its index is computed."""

    def __init__(self, frame: Frame, key: layout.Key, m: Map | Bound) -> None:
        self.frame, self.key, self.m = frame, key, m
        self.first = len(frame.kernel.outer)
        self.step, self.moves, _ = layout.map_class(m, self.first)
        level = frame.plan.level
        self.indirect = [(level[v], k, v) for k, (v, _) in enumerate(m.indirect)]
        self.varies = self.step != 0 or any(at == LANE for at, _, _ in self.indirect)
        self.base = ""

    def start_row(self) -> None:
        """Compute the part of the index that a row fixes."""
        f = self.frame
        total = f.word(*self.key, "offset")
        for axis in range(self.first):
            total = self._plus(total, f.index[axis], f.word(*self.key, axis))
        self.row = self._add_indirect(total, ROW)
        self.base = self.row

    def start_segment(self) -> None:
        """Compute the part of the index that a segment fixes."""
        f, total = self.frame, self.row
        if self.moves:
            for axis in range(self.first, self.first + len(f.kernel.inner) - 1):
                total = self._plus(total, f.index[axis], f.word(*self.key, axis))
        self.base = self._add_indirect(total, SEGMENT)

    def along(self, at: str) -> str:
        """What the index adds to `base` in each lane, from position `at` on."""
        f, b = self.frame, self.frame.b
        total = ""
        if self.step:
            places = b.splat(at) if b.width == 1 else b.binary("add", b.splat(at), b.iota("i64"))
            total = places if self.step == 1 else b.binary("mul", places, self.stride())
        for level, k, v in self.indirect:
            if level == LANE:
                part = convert(b, f.vectors[v], dtype_of(f.kernel, v), _INT64)
                if not self._is_unit(k):
                    part = b.binary("mul", part, f.word(*self.key, "indirect", k))
                total = b.binary("add", total, part) if total else part
        return total or b.named(0, "i64", b.width)

    def _is_unit(self, k: int) -> bool:
        return self.m.indirect[k][1] == 1

    def picked(self) -> str:
        """The index in each lane, i32 or i64, where it is a value beside what is fixed; or ''."""
        found = [(k, v) for level, k, v in self.indirect if level == LANE]
        if self.step or len(found) != 1 or not self._is_unit(found[0][0]):
            return ""
        f, v = self.frame, found[0][1]
        dtype = dtype_of(f.kernel, v)
        return f.vectors[v] if dtype == _INT32 else convert(f.b, f.vectors[v], dtype, _INT64)

    def stride(self) -> str:
        """The elements per step along the last axis."""
        return self.frame.word(*self.key, self.first + len(self.frame.kernel.inner) - 1)

    def _plus(self, total: str, index: str, stride: str) -> str:
        b = self.frame.b
        return b.binary("add", total, b.binary("mul", index, stride))

    def _add_indirect(self, total: str, level: int) -> str:
        f = self.frame
        for at, k, v in self.indirect:
            if at == level:
                value = convert(f.b, f.scalars[v], dtype_of(f.kernel, v), _INT64)
                total = self._plus(total, value, f.word(*self.key, "indirect", k))
        return total


class Access:
    """A `Load`, `Store`, `Accumulate` or `Fold` and the places of its map and bounds."""

    def __init__(self, frame: Frame, i: int) -> None:
        instr = frame.kernel.body[i]
        assert isinstance(instr, MAPPED)
        self.frame, self.i, self.instr = frame, i, instr
        self.map = Place(frame, ("map", i), instr.map)
        bounds = instr.bounds if isinstance(instr, Load) else ()
        self.bounds = [Place(frame, ("bound", i, k), m) for k, m in enumerate(bounds)]
        self.dtype = frame.kernel.operands[instr.operand].dtype
        self.scalar = stored_scalar(self.dtype)

    def start_row(self) -> None:
        """Compute what the row fixes."""
        for place in (self.map, *self.bounds):
            place.start_row()

    def start_segment(self) -> None:
        """Compute what the segment fixes."""
        for place in (self.map, *self.bounds):
            place.start_segment()

    def finish_segment(self) -> None:
        """Compute the address and the fixed conditions, ahead of the loop along the last axis."""
        f = self.frame
        self.address = f.b.offset(f.pointer(self.instr.operand), self.map.base, self.scalar)
        self.inside = self._all([self._within(p, p.base) for p in self.bounds if not p.varies])

    def _within(self, place: Place, index: str) -> str:
        # As unsigned numbers, negative ones are beyond any size.
        return self.frame.b.icmp("ult", index, self.frame.word(*place.key, "size"))

    def _all(self, conditions: list[str]) -> str | None:
        found = None
        for c in conditions:
            found = c if found is None else self.frame.b.binary("and", found, c)
        return found

    def load_scalar(self) -> str:
        """The element of a load that does not vary along the last axis."""
        with self.frame.b.lanes(1):
            return self._guarded(self.address, self.inside)

    def _guarded(self, address: str, inside: str | None) -> str:
        f, b = self.frame, self.frame.b
        if inside is None:
            return load(b, self.dtype, Address(address))
        found = b.variable(f.number(self.i), scalar_of(dtype_of(f.kernel, self.i)))
        with b.when(inside, [found]):
            found.value = load(b, self.dtype, Address(address))
        return found.value

    def load(self, step: Step) -> str:
        """The elements of a load for all lanes."""
        f, b = self.frame, self.frame.b
        varying = [
            self._within(p, b.binary("add", p.along(step.at), p.base))
            for p in self.bounds
            if p.varies
        ]
        inside = self._all(varying + ([self.inside] if self.inside else []))
        address = self._address(step)
        if b.width == 1:
            return self._guarded(address.pointer, inside)
        if inside is None:
            return load(b, self.dtype, address, step.mask)
        inside = b.splat(inside)
        mask = inside if step.mask is None else b.binary("and", inside, step.mask)
        return b.select(inside, load(b, self.dtype, address, mask), f.number(self.i))

    def _address(self, step: Step) -> Address:
        """Where the elements of all lanes lie."""
        b, m = self.frame.b, self.map
        if b.width > 1 and (places := m.picked()):
            return Address(self.address, PICKED, places)
        if b.width == 1 or any(level == LANE for level, _, _ in m.indirect):
            pointer = b.offset(self.address, m.along(step.at), self.scalar)
            return Address(pointer, TOGETHER if b.width == 1 else APART)
        if m.step == 1:
            return Address(b.offset(self.address, step.at, self.scalar))
        if m.step == -1:
            back = b.binary("sub", 0, step.at)
            return Address(b.offset(self.address, back, self.scalar), REVERSED)
        stride = m.stride()
        first = b.binary("mul", step.at, stride)
        return Address(b.offset(self.address, first, self.scalar), STEPPED, stride)

    def store_scalar(self, value: str) -> None:
        """Write a value that does not vary along the last axis."""
        with self.frame.b.lanes(1):
            store(self.frame.b, self.dtype, Address(self.address), value)

    def store(self, value: str, step: Step, *, stream: bool = False) -> None:
        """Write the value of all lanes."""
        b = self.frame.b
        stream = stream and self.can_stream
        store(b, self.dtype, self._address(step), value, step.mask, stream=stream)

    @property
    def can_stream(self) -> bool:
        """Whether a vector of what it writes may bypass the caches, where it is aligned."""
        return (
            self.map.step == 1 and not self.map.indirect and alignment(self.frame.b, self.dtype) > 0
        )

    def is_aligned(self, first: Operand) -> str:
        """Whether position `first` of the segment is aligned, an i1."""
        b = self.frame.b
        start = b.cast("ptrtoint", b.offset(self.address, first, self.scalar), "i64")
        return b.icmp("eq", b.binary("and", start, alignment(b, self.dtype) - 1), 0)
