"""LLVM IR as text: a builder of instructions on vectors of any width.

A value is the name of an SSA register, a `str`; the builder knows its type. A Python number is a
constant of the type of what it meets, and a scalar that meets a vector is spread over its lanes::

    b = Builder(16)
    y = b.fma(x, 2.0, b.fmul(x, x))        # x: <16 x float>
    n = b.fptosi(b.rint(y), "i32")         # <16 x i32>

No instruction has fast-math flags: each result is rounded once, and `fma` is the only fusion.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

Operand = str | int | float
Type = tuple[str, int]  # element and lanes; one lane is a scalar

_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "half": 16, "float": 32, "double": 64}
_SUFFIX = {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}


def spell(element: str, lanes: int) -> str:
    """A type as LLVM writes it."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def suffix(element: str, lanes: int) -> str:
    """A type as it appears in the name of an overloaded intrinsic."""
    scalar = _SUFFIX.get(element, element)
    return scalar if lanes == 1 else f"v{lanes}{scalar}"


def literal(value: float, element: str) -> str:
    """A number as LLVM writes it, rounded to the type."""
    if element == "double":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if element == "float":  # written as the double that it equals
        try:
            single = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            single = float("inf") if value > 0 else float("-inf")
        return f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"
    if element == "i1":
        return "true" if value else "false"
    return str(int(value))


class Builder:
    """Instructions of one function.

    Args:
        width: The lanes of its vectors; 1 gives scalar code.

    Attributes:
        entry: Lines that run once, before all others: storage, and what they need.
        lines: The other lines.
        types: The type of each name.
        declarations: The intrinsics in use, by name.
    """

    def __init__(self, width: int, declarations: dict[str, str] | None = None) -> None:
        self.width = width
        self.entry: list[str] = []
        self.lines: list[str] = []
        self.types: dict[str, Type] = {}
        self.declarations = {} if declarations is None else declarations
        self.count = 0

    # Names, types and constants

    def emit(self, text: str, element: str, lanes: int) -> str:
        """Append an instruction with a result, and name it."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        self.types[name] = (element, lanes)
        return name

    def line(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {text}")

    def type_of(self, x: str) -> str:
        """The type of a name, as text."""
        return spell(*self.types[x])

    def element(self, x: str) -> str:
        """The type of an element of a name."""
        return self.types[x][0]

    def constant(self, value: float, element: str, lanes: int | None = None) -> str:
        """The text of a constant, the same in all lanes; it stands where a name may stand."""
        lanes = self.width if lanes is None else lanes
        text = literal(value, element)
        return text if lanes == 1 else f"splat ({element} {text})"

    def splat(self, x: str) -> str:
        """A vector with a scalar in all lanes."""
        element, lanes = self.types[x]
        if lanes == self.width:
            return x
        kind, wide = spell(element, self.width), self.width
        one = self.emit(f"insertelement {kind} poison, {element} {x}, i64 0", element, wide)
        zeros = f"<{wide} x i32> zeroinitializer"
        return self.emit(f"shufflevector {kind} {one}, {kind} poison, {zeros}", element, wide)

    def iota(self, element: str) -> str:
        """The text of a constant with the number of each lane."""
        if self.width == 1:
            return literal(0, element)
        return "<" + ", ".join(f"{element} {literal(k, element)}" for k in range(self.width)) + ">"

    def _common(self, *args: Operand) -> Type:
        element, lanes = "", 1
        for x in args:
            found = self.types.get(x) if isinstance(x, str) else None
            if found is not None:
                element, lanes = found[0], max(lanes, found[1])
        return element, lanes

    def use(self, x: Operand, element: str, lanes: int) -> str:
        """An operand as text, of the given type."""
        if not isinstance(x, str):
            return self.constant(x, element, lanes)
        known = self.types.get(x)
        return self.splat(x) if known is not None and known[1] < lanes else x

    def _uses(self, args: Sequence[Operand]) -> tuple[list[str], str, int]:
        element, lanes = self._common(*args)
        return [self.use(x, element, lanes) for x in args], element, lanes

    def binary(self, op: str, x: Operand, y: Operand) -> str:
        """An instruction on two operands of one type, of which at least one is a name."""
        (x, y), element, lanes = self._uses((x, y))
        return self.emit(f"{op} {spell(element, lanes)} {x}, {y}", element, lanes)

    # Arithmetic

    def fadd(self, x: Operand, y: Operand) -> str:
        """The sum of floats."""
        return self.binary("fadd", x, y)

    def fsub(self, x: Operand, y: Operand) -> str:
        """The difference of floats."""
        return self.binary("fsub", x, y)

    def fmul(self, x: Operand, y: Operand) -> str:
        """The product of floats."""
        return self.binary("fmul", x, y)

    def fdiv(self, x: Operand, y: Operand) -> str:
        """The quotient of floats."""
        return self.binary("fdiv", x, y)

    def fneg(self, x: str) -> str:
        """A float with its sign flipped."""
        return self.emit(f"fneg {self.type_of(x)} {x}", *self.types[x])

    def fma(self, x: Operand, y: Operand, z: Operand) -> str:
        """``x·y + z``, rounded once."""
        return self.call("fma", x, y, z)

    def add(self, x: Operand, y: Operand) -> str:
        """The sum of integers; it wraps around, as all integer arithmetic here."""
        return self.binary("add", x, y)

    def sub(self, x: Operand, y: Operand) -> str:
        """The difference of integers."""
        return self.binary("sub", x, y)

    def mul(self, x: Operand, y: Operand) -> str:
        """The product of integers."""
        return self.binary("mul", x, y)

    def and_(self, x: Operand, y: Operand) -> str:
        """The bits that both integers have."""
        return self.binary("and", x, y)

    def or_(self, x: Operand, y: Operand) -> str:
        """The bits that either integer has."""
        return self.binary("or", x, y)

    def xor(self, x: Operand, y: Operand) -> str:
        """The bits that one of two integers has."""
        return self.binary("xor", x, y)

    def shl(self, x: Operand, y: Operand) -> str:
        """Bits moved up; undefined for y of the width or more, as the other shifts."""
        return self.binary("shl", x, y)

    def lshr(self, x: Operand, y: Operand) -> str:
        """Bits moved down, zeros from above."""
        return self.binary("lshr", x, y)

    def ashr(self, x: Operand, y: Operand) -> str:
        """Bits moved down, the sign from above."""
        return self.binary("ashr", x, y)

    # Comparison and choice

    def fcmp(self, predicate: str, x: Operand, y: Operand) -> str:
        """A comparison of floats: 'oeq', 'ult', 'uno', …"""
        (x, y), element, lanes = self._uses((x, y))
        return self.emit(f"fcmp {predicate} {spell(element, lanes)} {x}, {y}", "i1", lanes)

    def icmp(self, predicate: str, x: Operand, y: Operand) -> str:
        """A comparison of integers: 'eq', 'slt', 'ult', …"""
        (x, y), element, lanes = self._uses((x, y))
        return self.emit(f"icmp {predicate} {spell(element, lanes)} {x}, {y}", "i1", lanes)

    def select(self, which: str, x: Operand, y: Operand) -> str:
        """X where `which` is true, else y."""
        element, lanes = self._common(x, y)
        lanes = max(lanes, self.types[which][1])
        kind = spell(element, lanes)
        which, x, y = self.use(which, "i1", lanes), *(self.use(v, element, lanes) for v in (x, y))
        return self.emit(
            f"select {spell('i1', lanes)} {which}, {kind} {x}, {kind} {y}", element, lanes
        )

    # Conversion

    def cast(self, op: str, x: str, element: str) -> str:
        """A conversion instruction to another element type."""
        lanes = self.types[x][1]
        return self.emit(f"{op} {self.type_of(x)} {x} to {spell(element, lanes)}", element, lanes)

    def bitcast(self, x: str, element: str) -> str:
        """The same bits as another type of the same width."""
        return x if self.element(x) == element else self.cast("bitcast", x, element)

    def resize(self, x: str, element: str, signed: bool) -> str:
        """An integer as a narrower or wider one."""
        old, new = _BITS[self.element(x)], _BITS[element]
        if old == new:
            return x
        return self.cast("trunc" if new < old else "sext" if signed else "zext", x, element)

    def fptosi(self, x: str, element: str) -> str:
        """A float as a signed integer; undefined beyond its range."""
        return self.cast("fptosi", x, element)

    def sitofp(self, x: str, element: str) -> str:
        """A signed integer as a float."""
        return self.cast("sitofp", x, element)

    def fpext(self, x: str, element: str) -> str:
        """A float as a wider one."""
        return self.cast("fpext", x, element)

    def fptrunc(self, x: str, element: str) -> str:
        """A float rounded to a narrower one."""
        return self.cast("fptrunc", x, element)

    # Intrinsics

    def call(self, name: str, *args: Operand, flags: str = "") -> str:
        """An intrinsic ``llvm.name`` whose operands and result have one type.

        Args:
            name: Like 'fma', 'sqrt', 'fabs', 'copysign', 'rint'.
            *args: The operands.
            flags: Further operands, as text: ``"i1 false"``.
        """
        found, element, lanes = self._uses(args)
        kind = spell(element, lanes)
        full = f"llvm.{name}.{suffix(element, lanes)}"
        rest = [flags] if flags else []
        kinds = [kind] * len(found) + [f.split()[0] for f in rest]
        self.declarations[full] = f"declare {kind} @{full}({', '.join(kinds)})"
        text = ", ".join([f"{kind} {x}" for x in found] + rest)
        return self.emit(f"call {kind} @{full}({text})", element, lanes)

    def fabs(self, x: str) -> str:
        """The magnitude of a float."""
        return self.call("fabs", x)

    def sqrt(self, x: str) -> str:
        """The square root, rounded right."""
        return self.call("sqrt", x)

    def rint(self, x: str) -> str:
        """The nearest whole number, ties to even."""
        return self.call("rint", x)

    def copysign(self, x: Operand, y: Operand) -> str:
        """X with the sign of y."""
        return self.call("copysign", x, y)

    # Memory and control

    def offset(self, pointer: str, index: Operand, element: str) -> str:
        """The address of an element, or of one for each lane of `index`."""
        lanes = self.types[index][1] if isinstance(index, str) and index in self.types else 1
        kind = spell("i64", lanes)
        return self.emit(f"getelementptr {element}, ptr {pointer}, {kind} {index}", "ptr", lanes)

    def variable(self, element: str, lanes: int = 1) -> str:
        """Storage of one value that changes; the optimizer makes registers of it."""
        self.count += 1
        name = f"%s{self.count}"
        self.entry.append(f"  {name} = alloca {spell(element, lanes)}")
        self.types[name] = (element, lanes)
        return name

    def get(self, variable: str) -> str:
        """What a variable holds now."""
        element, lanes = self.types[variable]
        return self.emit(f"load {spell(element, lanes)}, ptr {variable}", element, lanes)

    def set(self, variable: str, x: Operand) -> None:
        """Give a variable a new value."""
        element, lanes = self.types[variable]
        self.line(f"store {spell(element, lanes)} {self.use(x, element, lanes)}, ptr {variable}")

    def label(self) -> str:
        """A new name of a block."""
        self.count += 1
        return f"b{self.count}"

    def begin(self, label: str) -> None:
        """Begin a block; the one before must have jumped."""
        self.lines.append(f"{label}:")

    @contextmanager
    def lanes(self, width: int) -> Iterator[None]:
        """Vectors of another width inside of the block: 1 for code on scalars."""
        old, self.width = self.width, width
        yield
        self.width = old

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Code that runs where a scalar condition holds."""
        inside, after = self.label(), self.label()
        self.line(f"br i1 {condition}, label %{inside}, label %{after}")
        self.begin(inside)
        yield
        self.line(f"br label %{after}")
        self.begin(after)

    @contextmanager
    def loop(self, start: Operand, stop: Operand, step: int = 1) -> Iterator[str]:
        """Code that runs for start, start + step, … while less than stop (of i64)."""
        body, after = self.label(), self.label()
        counter = self.variable("i64")
        self.set(counter, start)
        first = self._less(start, stop)
        self.line(f"br i1 {first}, label %{body}, label %{after}")
        self.begin(body)
        index = self.get(counter)
        yield index
        following = self.add(index, step)
        self.set(counter, following)
        self.line(f"br i1 {self._less(following, stop)}, label %{body}, label %{after}")
        self.begin(after)

    def _less(self, x: Operand, y: Operand) -> str:
        return self.emit(f"icmp slt i64 {x}, {y}", "i1", 1)
