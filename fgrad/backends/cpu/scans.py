"""Scans: the reduction of the elements up to each, along a row or for each of its columns.

Along a row a vector is scanned in ⌈log₂ lanes⌉ steps, each of which combines every lane with the
one a power of two before it; then what the vectors before it came to is added. For each column the
state lies in scratch memory, a value for each position along the last axis.

Sums of floats longer than a chain of `layout.FLUSH` carry the rounding error of each addition along
(the two-sum of `reduction`), so an element errs by (2 + log₂ lanes)·u times the sum of the
magnitudes up to it at most. Shorter ones, and products of floats, are computed in order.
"""

from collections.abc import Sequence

from fgrad.backends.cpu import layout, ops
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.loops import along
from fgrad.backends.cpu.maps import Step
from fgrad.backends.cpu.memory import Address, load, store, stored_scalar
from fgrad.backends.cpu.reduction import two_sum
from fgrad.backends.cpu.text import Builder, Operand, Variable
from fgrad.compile.interpret import identity
from fgrad.compile.kernel import Scan

_LOG_2 = 0.6931471805599453


def running(f: Frame, i: int, first: Operand) -> "Running":
    """The state of a `Scan`.

    Args:
        f: The function.
        i: The position of the instruction.
        first: Where the last axis begins.
    """
    instr = f.kernel.body[i]
    assert isinstance(instr, Scan)
    if instr.monoid == "logaddexp" and not instr.free:
        return _LogSums(f, i, instr, first)
    return Running(f, i, instr, first)


class Running:
    """The state of one `Scan`: variables, or of each column places in memory."""

    def __init__(self, f: Frame, i: int, instr: Scan, first: Operand) -> None:
        self.f, self.i, self.first = f, i, first
        self.args, self.monoid, self.dtype = instr.args, instr.monoid, instr.dtype
        self.scalar = ops.scalar_of(self.dtype)
        self.free, self.compensated = instr.free, layout.compensates(f.kernel, i)
        self.neutral = self._neutral()
        real = self.dtype.kind == "f"
        ordered = "mul" in self.monoid or (self.monoid == "add" and not self.compensated)
        self.one_by_one = real and ordered and not self.free
        self.state: list[Variable] = []
        if not self.free:
            lanes = 1 if self.one_by_one else f.b.width
            self.state = [f.b.variable(x, self.scalar, lanes) for x in self.neutral]

    def _neutral(self) -> list[float]:
        """The state before the first element."""
        monoid = self.monoid.partition("_")[0]
        one = identity(monoid, self.dtype).item()
        if self.dtype.kind == "f" and monoid == "add":
            one = -0.0  # -0 + x is x, whatever the sign of a zero
        return [one, 0.0] if len(self.args) == 2 else [one] * (1 + self.compensated)

    def start(self, stop: str) -> None:
        """Begin a row, of which the code walks the last axis up to `stop`."""
        if not self.free:
            return
        f, b = self.f, self.f.b
        back = b.binary("sub", 0, b.named(self.first, "i64"))
        self.places = []
        for k in range(len(self.neutral)):
            place = b.offset(f.memory("scratch"), f.word("state", self.i, k), "i8")
            self.places.append(b.offset(place, back, self.scalar))

        def clear(step: Step, _: int) -> None:
            for place, x in zip(self.places, self.neutral, strict=True):
                self._write(place, step, b.named(x, self.scalar, b.width))

        along(b, self.first, stop, clear)

    def at(self, step: Step) -> str:
        """The values of the current elements."""
        b, values = self.f.b, [self.f.vector(a) for a in self.args]
        if self.free:
            old = [self._read(place, step) for place in self.places]
            new = self._next(old, values)
            for place, x in zip(self.places, new, strict=True):
                self._write(place, step, x)
            return self._result(new)
        if step.mask is not None:
            rest = self.neutral[: len(values)]
            values = [b.select(step.mask, v, x) for v, x in zip(values, rest, strict=True)]
        return self._one_by_one(values) if self.one_by_one else self._along(values[0])

    def _one_by_one(self, values: Sequence[str]) -> str:
        b, found = self.f.b, "poison"
        kind = b.vector(self.scalar)
        for k in range(b.width):
            one = [
                b.emit(f"extractelement {kind} {v}, i64 {k}", self.scalar, 1) if b.width > 1 else v
                for v in values
            ]
            new = self._next([v.value for v in self.state], one)
            for v, x in zip(self.state, new, strict=True):
                v.value = x
            x = self._result(new)
            if b.width == 1:
                return x
            found = b.emit(f"insertelement {kind} {found}, {self.scalar} {x}, i64 {k}", self.scalar)
        return found

    def _along(self, value: str) -> str:
        value = self._prefixes(value, self.monoid, self.neutral[0])
        old = [v.value for v in self.state]
        for v, x in zip(self.state, self._next(old, [_last(self.f.b, value)]), strict=True):
            v.value = x
        return self._op(self.monoid, self._result(old), value)

    def _prefixes(self, value: str, monoid: str, neutral: float) -> str:
        """A vector scanned by itself."""
        for distance in _distances(self.f.b):
            value = self._op(monoid, _moved(self.f.b, value, distance, neutral), value)
        return value

    def _next(self, state: Sequence[str], values: Sequence[str]) -> list[str]:
        """The state after one more element."""
        b = self.f.b
        if len(values) == 2:
            (re, im), (x, y) = state, values
            products = [b.binary("fmul", p, q) for p, q in ((re, x), (im, y), (re, y), (im, x))]
            return [b.binary("fsub", *products[:2]), b.binary("fadd", *products[2:])]
        if self.compensated:
            total, error = two_sum(b, state[0], values[0])
            return [total, b.binary("fadd", state[1], error)]
        return [self._op(self.monoid, state[0], values[0])]

    def _result(self, state: Sequence[str]) -> str:
        """What a state amounts to; where a sum is infinite or NaN, its error is NaN."""
        if not self.compensated:
            return state[self.monoid == "mul_im"]
        b, (total, carry) = self.f.b, state
        return b.select(b.fcmp("one", carry, 0.0), b.binary("fadd", total, carry), total)

    def _op(self, name: str, *args: str) -> str:
        if name == "logaddexp":
            x, y = args
            less = self._op("neg", self._op("abs", self._op("sub", x, y)))
            more = self._op("log1p", self._op("exp", less))
            found = self._op("add", self._op("max", x, y), more)
            # Equal infinities have no difference.
            b = self.f.b
            return b.select(b.fcmp("oeq", x, y), b.binary("fadd", x, _LOG_2), found)
        return ops.emit(self.f.b, name, args, [self.dtype] * len(args), self.dtype)

    def _read(self, address: str, step: Step) -> str:
        place = self.f.b.offset(address, step.at, stored_scalar(self.dtype))
        return load(self.f.b, self.dtype, Address(place), step.mask)

    def _write(self, address: str, step: Step, value: str) -> None:
        place = self.f.b.offset(address, step.at, stored_scalar(self.dtype))
        store(self.f.b, self.dtype, Address(place), value, step.mask)


class _LogSums(Running):
    """Logarithms of sums of exponentials along a row: the greatest so far, m, and Σ exp(x - m).

    A vector in which no element is greater than those before it, as most are, takes one exponential
    and one logarithm; others an exponential for each step.
    """

    def _neutral(self) -> list[float]:
        return [float("-inf"), 0.0]

    def _along(self, value: str) -> str:
        b, (top, total) = self.f.b, self.state
        found = b.variable(0.0, self.scalar, b.width)
        greatest = _last(b, self._prefixes(value, "max", float("-inf")))
        finite = b.fcmp("olt", self._op("abs", top.value), float("inf"))
        same = b.binary("and", b.fcmp("ole", greatest, top.value), finite)
        if b.width > 1:
            same = b.emit(f"extractelement {b.vector('i1')} {same}, i64 0", "i1", 1)
        carried = [found, top, total]
        with b.when(same, carried):
            terms = self._op("exp", self._op("sub", value, top.value))
            sums = self._op("add", total.value, self._prefixes(terms, "add", -0.0))
            total.value = _last(b, sums)
            found.value = self._op("add", top.value, self._op("log", sums))
        with b.when(b.binary("xor", same, True), carried):
            pairs = value, b.named(1.0, self.scalar, b.width)
            for distance in _distances(b):
                moved = [
                    _moved(b, x, distance, y) for x, y in zip(pairs, self.neutral, strict=True)
                ]
                pairs = self._paired(moved, pairs)
            pairs = self._paired((top.value, total.value), pairs)
            top.value, total.value = (_last(b, x) for x in pairs)
            found.value = self._op("add", pairs[0], self._op("log", pairs[1]))
        return found.value

    def _paired(self, x: Sequence[str], y: Sequence[str]) -> tuple[str, str]:
        """The greater maximum, and the sums relative to it."""
        b, ((m, s), (n, t)) = self.f.b, (x, y)
        less = self._op("neg", self._op("abs", self._op("sub", m, n)))
        less = b.select(b.fcmp("oeq", m, n), 0.0, less)  # equal infinities have no difference
        factor, first = self._op("exp", less), b.fcmp("ogt", m, n)
        small = self._op("mul", b.select(first, t, s), factor)
        return self._op("max", m, n), self._op("add", b.select(first, s, t), small)


def _distances(b: Builder) -> list[int]:
    """Powers of two below the number of lanes."""
    return [1 << k for k in range(b.width.bit_length() - 1)]


def _moved(b: Builder, x: str, distance: int, fill: float) -> str:
    """Each lane's value in the lane so far after it; in the first lanes `fill`."""
    scalar, kind = b.scalar(x), b.type_of(x)
    picks = [b.width if k < distance else k - distance for k in range(b.width)]
    mask = ", ".join(f"i32 {k}" for k in picks)
    other = b.use(fill, scalar, b.width)
    return b.emit(f"shufflevector {kind} {x}, {kind} {other}, {b.vector('i32')} <{mask}>", scalar)


def _last(b: Builder, x: str) -> str:
    """The last lane, in all of them."""
    if b.width == 1:
        return x
    kind, mask = b.type_of(x), ", ".join([f"i32 {b.width - 1}"] * b.width)
    text = f"shufflevector {kind} {x}, {kind} poison, {b.vector('i32')} <{mask}>"
    return b.emit(text, b.scalar(x))
