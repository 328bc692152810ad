"""Accumulators: what `Reduce` and `Accumulate` add up to, in a fixed order.

Sums of floats have two levels. The first is plain: chains of at most 64 additions. The second takes
the sum of each chain and carries the rounding error of every addition along (the two-sum of Knuth,
The Art of Computer Programming 2, section 4.2.2, theorem B), so the error of a sum of n terms does
not exceed (64 + log2 n)·u times the sum of their magnitudes.
"""

from collections.abc import Sequence

from fgrad.backends.cpu import layout, ops
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.loops import Body, along
from fgrad.backends.cpu.maps import Step
from fgrad.backends.cpu.memory import Address, load, store, stored_scalar
from fgrad.backends.cpu.schedule import ROW, dtype_of
from fgrad.backends.cpu.text import Builder, Variable
from fgrad.compile.interpret import identity
from fgrad.compile.kernel import Accumulate, DType, Fold, Reduce


def two_sum(b: Builder, x: str, y: str) -> tuple[str, str]:
    """The rounded sum, and its rounding error."""
    total = b.binary("fadd", x, y)
    part = b.binary("fsub", total, x)
    missing = b.binary("fsub", x, b.binary("fsub", total, part))
    return total, b.binary("fadd", missing, b.binary("fsub", y, part))


def settled(b: Builder, total: str, carry: str) -> str:
    """A sum with its carried error; of an infinite or NaN sum the error means nothing."""
    finite = b.fcmp("olt", b.call("fabs", total), float("inf"))
    return b.select(finite, b.binary("fadd", total, carry), total)


class RowSum:
    """The accumulators of one `Reduce` or `Fold`.

    Args:
        f: The function.
        i: The position of the instruction.
        unroll: The number of accumulators.
    """

    def __init__(self, f: Frame, i: int, unroll: int) -> None:
        instr = f.kernel.body[i]
        assert isinstance(instr, Reduce | Fold)
        self.f, self.i, self.monoid, self.arg = f, i, instr.monoid, instr.arg
        self.result, self.dtype = dtype_of(f.kernel, instr.arg), layout.accumulator(f.kernel, i)
        self.scalar = ops.scalar_of(self.dtype)
        self.neutral = identity(self.monoid, self.dtype).item()
        self.zero = f.b.named(self.neutral, self.scalar, f.b.width)
        self.parts = [f.b.variable(self.zero, self.scalar, f.b.width) for _ in range(unroll)]
        self.wide: list[Variable] = []
        if layout.compensates(f.kernel, i):
            self.wide = [f.b.variable(0, self.scalar, f.b.width) for _ in range(2)]

    @property
    def carried(self) -> list[Variable]:
        """The variables that loops change."""
        return self.parts + self.wide

    def add(self, step: Step, k: int) -> None:
        """Take the current elements into accumulator k."""
        b, part = self.f.b, self.parts[k]
        value = ops.convert(b, self.f.vector(self.arg), self.result, self.dtype)
        if step.mask is not None:
            value = b.select(step.mask, value, self.neutral)
        part.value = self._combine(part.value, value)

    def flush(self) -> None:
        """End the chains of additions."""
        if not self.wide:
            return
        total, carry = self.wide
        self._fold(total, carry)
        for part in self.parts:
            part.value = self.zero

    def _fold(self, total: Variable, carry: Variable) -> None:
        b = self.f.b
        total.value, error = two_sum(b, total.value, self._together())
        carry.value = b.binary("fadd", carry.value, error)

    def finish(self) -> str:
        """The value of the row, a scalar."""
        b = self.f.b
        if not self.wide:
            return ops.convert(b, self._across(self._together()), self.dtype, self.result)
        self.flush()
        total, carry = (self._across(v.value) for v in self.wide)
        return settled(b, total, carry)

    def _together(self) -> str:
        values = [part.value for part in self.parts]
        while len(values) > 1:
            values = [self._combine(x, y) for x, y in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    def _across(self, x: str) -> str:
        """All lanes in one: halves upon halves."""
        b = self.f.b
        lanes = b.types[x][1]
        while lanes > 1:
            lanes //= 2
            low, high = (_part(b, x, start, lanes) for start in (0, lanes))
            x = self._combine(low, high)
        return x

    def _combine(self, x: str, y: str) -> str:
        return ops.emit(self.f.b, self.monoid, (x, y), (self.dtype, self.dtype), self.dtype)


def _part(b: Builder, x: str, start: int, lanes: int) -> str:
    scalar, kind = b.scalar(x), b.type_of(x)
    if lanes == 1:
        return b.emit(f"extractelement {kind} {x}, i64 {start}", scalar, 1)
    picks = ", ".join(f"i32 {start + k}" for k in range(lanes))
    text = f"shufflevector {kind} {x}, {kind} poison, <{lanes} x i32> <{picks}>"
    return b.emit(text, scalar, lanes)


class Partial:
    """The partial result of one `Accumulate` over a unit's rows, in memory.

    Args:
        f: The function.
        i: The position of the `Accumulate`.
    """

    def __init__(self, f: Frame, i: int) -> None:
        instr = f.kernel.body[i]
        assert isinstance(instr, Accumulate)
        self.f, self.i, self.monoid, self.arg = f, i, instr.monoid, instr.arg
        self.result: DType = dtype_of(f.kernel, instr.arg)
        self.dtype = layout.accumulator(f.kernel, i)
        self.scalar = stored_scalar(self.dtype)
        self.is_row = f.plan.level[i] == ROW
        self.compensated = layout.compensates(f.kernel, i)
        self.neutral = identity(self.monoid, self.dtype).item()

    def locate(self, unit: str) -> None:
        """Compute where the results of a unit lie."""
        f, b = self.f, self.f.b
        start = b.binary("mul", unit, f.word("unit_bytes"))
        start = b.binary("add", start, f.word("partial", self.i))
        self.address = b.offset(f.memory("partials"), start, "i8")
        if self.compensated:
            self.sum = b.offset(f.memory("scratch"), f.word("sum", self.i), "i8")
            self.carry = b.offset(f.memory("scratch"), f.word("carry", self.i), "i8")

    def clear(self, addresses: Sequence[str]) -> None:
        """Set all elements at some addresses to what changes nothing."""

        def body(step: Step, _: int) -> None:
            for address in addresses:
                self._write(address, step, self._neutral())

        self._each(body)

    def start(self) -> None:
        """Begin a unit."""
        self.clear([self.address, self.sum, self.carry] if self.compensated else [self.address])

    def _neutral(self) -> str:
        b = self.f.b
        return b.named(self.neutral, ops.scalar_of(self.dtype), b.width)

    def add(self, value: str, step: Step) -> None:
        """Take the current elements in."""
        b, kinds = self.f.b, (self.dtype, self.dtype)
        old = self._read(self.address, step)
        value = ops.convert(b, value, self.result, self.dtype)
        total = ops.emit(b, self.monoid, (old, value), kinds, self.dtype)
        self._write(self.address, step, total)

    def flush(self) -> None:
        """End the chains of additions."""

        def body(step: Step, _: int) -> None:
            b = self.f.b
            part = self._read(self.address, step)
            total, error = two_sum(b, self._read(self.sum, step), part)
            self._write(self.sum, step, total)
            carry = b.binary("fadd", self._read(self.carry, step), error)
            self._write(self.carry, step, carry)
            self._write(self.address, step, self._neutral())

        if self.compensated:
            self._each(body)

    def finish(self) -> None:
        """End a unit: the partial result is the sum of its chains."""

        def body(step: Step, _: int) -> None:
            b = self.f.b
            total, carry = self._read(self.sum, step), self._read(self.carry, step)
            self._write(self.address, step, settled(b, total, carry))

        if self.compensated:
            self._each(body)

    def _each(self, body: Body) -> None:
        f, b = self.f, self.f.b
        if self.is_row:
            with b.lanes(1):
                body(Step("0", None), 0)
        else:
            along(b, 0, length(f), body)

    def _read(self, address: str, step: Step) -> str:
        place = self.f.b.offset(address, step.at, self.scalar)
        return load(self.f.b, self.dtype, Address(place), step.mask)

    def _write(self, address: str, step: Step, value: str) -> None:
        place = self.f.b.offset(address, step.at, self.scalar)
        store(self.f.b, self.dtype, Address(place), value, step.mask)


def length(f: Frame) -> str:
    """The number of elements of a row."""
    first = len(f.kernel.outer)
    total = f.word("size", first)
    for axis in range(first + 1, first + len(f.kernel.inner)):
        total = f.b.binary("mul", total, f.word("size", axis))
    return total
