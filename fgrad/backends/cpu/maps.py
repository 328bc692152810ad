"""Loads and stores: index maps as addresses, bounds as masks.

The part of a map that does not vary along the last axis is a scalar, computed once a row and once
a segment. Along the last axis a step of 1 is a vector in memory, any other a gather or a scatter.
"""

from typing import NamedTuple

import numpy as np

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.ops import convert, narrow_bfloat16, scalar_of, widen_bfloat16
from fgrad.backends.cpu.schedule import LANE, ROW, SEGMENT, dtype_of
from fgrad.backends.cpu.text import spell
from fgrad.compile.kernel import COMPUTED, Accumulate, Bound, DType, Load, Map, Store
from fgrad.core.errors import CompilationError

_INT64 = np.dtype("q")


class Step(NamedTuple):
    """Where along the last axis the code is.

    Attributes:
        at: The position of the first lane.
        mask: The lanes that are within the row; None means all.
    """

    at: str
    mask: str | None


def stored_scalar(dtype: DType) -> str:
    """The LLVM type of an element in memory."""
    if dtype.name in ("float16", "bfloat16", "bool"):
        return {"float16": "half", "bfloat16": "i16", "bool": "i8"}[dtype.name]
    if dtype not in COMPUTED:
        raise CompilationError(f"CPU code for {dtype.name} in memory: there is none")
    return scalar_of(dtype)


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
            axis = self.first + len(f.kernel.inner) - 1
            places = b.splat(at) if b.width == 1 else b.binary("add", b.splat(at), b.iota("i64"))
            stride = f.word(*self.key, axis)
            total = places if self.step == 1 else b.binary("mul", places, stride)
        for level, k, v in self.indirect:
            if level == LANE:
                value = convert(b, f.vectors[v], dtype_of(f.kernel, v), _INT64)
                part = b.binary("mul", value, f.word(*self.key, "indirect", k))
                total = b.binary("add", total, part) if total else part
        return total or b.named(0, "i64", b.width)

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
    """A `Load`, `Store` or `Accumulate` and the places of its map and bounds."""

    def __init__(self, frame: Frame, i: int) -> None:
        instr = frame.kernel.body[i]
        assert isinstance(instr, Load | Store | Accumulate)
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
            return load(f, self.dtype, address, None)
        found = b.variable(f.number(self.i), scalar_of(dtype_of(f.kernel, self.i)))
        with b.when(inside, [found]):
            found.value = load(f, self.dtype, address, None)
        b.types[found.value] = (found.scalar, 1)
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
        address, spaced = self._address(step)
        if b.width == 1:
            return self._guarded(address, inside)
        if inside is None:
            return load(f, self.dtype, address, step.mask, spaced)
        inside = b.splat(inside)
        mask = inside if step.mask is None else b.binary("and", inside, step.mask)
        return b.select(inside, load(f, self.dtype, address, mask, spaced), f.number(self.i))

    def _address(self, step: Step) -> tuple[str, bool]:
        """The address of the first lane, or of each; and which of both."""
        b, m = self.frame.b, self.map
        if m.step == 1 and not any(level == LANE for level, _, _ in m.indirect):
            return b.offset(self.address, step.at, self.scalar), False
        return b.offset(self.address, m.along(step.at), self.scalar), True

    def store_scalar(self, value: str) -> None:
        """Write a value that does not vary along the last axis."""
        store(self.frame, self.dtype, self.address, value, None)

    def store(self, value: str, step: Step) -> None:
        """Write the value of all lanes."""
        address, spaced = self._address(step)
        store(self.frame, self.dtype, address, value, step.mask, spaced)


def load(f: Frame, dtype: DType, address: str, mask: str | None, spaced: bool = False) -> str:
    """Read what an address, or the address of each lane, points to; as the type computed in.

    Lanes outside of the mask hold 0.
    """
    b, scalar = f.b, stored_scalar(dtype)
    lanes = b.types[address][1] if spaced else b.width
    if mask is None and not spaced:
        kind = spell(scalar, lanes)
        text = f"load {kind}, ptr {address}, align {dtype.itemsize}"
        raw = b.emit(text, scalar, lanes)
    elif lanes == 1:
        raw = b.emit(f"load {scalar}, ptr {address}, align {dtype.itemsize}", scalar, 1)
    else:
        raw = _masked_load(f, scalar, dtype.itemsize, address, mask, spaced)
    if dtype.name == "bool":
        return b.icmp("ne", raw, 0)
    if dtype.name == "bfloat16":
        return widen_bfloat16(b, raw)
    return b.cast("fpext", raw, "float") if scalar == "half" else raw


def _masked_load(
    f: Frame, scalar: str, size: int, address: str, mask: str | None, spaced: bool
) -> str:
    b = f.b
    kind, flags = b.vector(scalar), b.vector("i1")
    where = b.vector("ptr") if spaced else "ptr"
    name, suffix = ("gather", f".v{b.width}p0") if spaced else ("load", ".p0")
    function = f"@llvm.masked.{name}.v{b.width}{_suffix(scalar)}{suffix}"
    b.globals[function] = f"declare {kind} {function}({where}, i32, {flags}, {kind})"
    text = f"{where} {address}, i32 {size}, {flags} {mask or b.constant(1, 'i1')}"
    return b.emit(f"call {kind} {function}({text}, {kind} zeroinitializer)", scalar)


def store(
    f: Frame, dtype: DType, address: str, value: str, mask: str | None, spaced: bool = False
) -> None:
    """Write a value to an address, or to the address of each lane."""
    b, scalar = f.b, stored_scalar(dtype)
    if dtype.name == "bool":
        value = b.cast("zext", value, "i8")
    elif dtype.name == "bfloat16":
        value = narrow_bfloat16(b, value)
    elif scalar == "half":
        value = b.cast("fptrunc", value, "half")
    kind = b.type_of(value)
    if b.types[value][1] == 1 or (mask is None and not spaced):
        b.effect(f"store {kind} {value}, ptr {address}, align {dtype.itemsize}")
        return
    flags = b.vector("i1")
    where = b.vector("ptr") if spaced else "ptr"
    name, suffix = ("scatter", f".v{b.width}p0") if spaced else ("store", ".p0")
    function = f"@llvm.masked.{name}.v{b.width}{_suffix(scalar)}{suffix}"
    b.globals[function] = f"declare void {function}({kind}, {where}, i32, {flags})"
    text = f"{where} {address}, i32 {dtype.itemsize}, {flags} {mask or b.constant(1, 'i1')}"
    b.effect(f"call void {function}({kind} {value}, {text})")


def _suffix(scalar: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(scalar, scalar)
