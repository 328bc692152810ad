"""LLVM IR as text: a builder of instructions on vectors of any width.

A value is the name of an SSA register, a `str`; the builder knows its type. A Python number is a
constant of the type of what it meets, and a scalar that meets a vector is spread over its lanes::

    b = Builder(16)
    y = b.call("fma", x, 2.0, b.binary("fmul", x, x))   # x: <16 x float>
    n = b.cast("fptosi", y, "i32")                      # <16 x i32>

No instruction has fast-math flags: each result is rounded once.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

Operand = str | int | float

_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
_SUFFIX = {"half": "f16", "float": "f32", "double": "f64", "ptr": "p0"}


def spell(scalar: str, lanes: int) -> str:
    """The type of `lanes` values of type `scalar`."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def mangle(scalar: str, lanes: int) -> str:
    """The same as part of an intrinsic's name."""
    text = _SUFFIX.get(scalar, scalar)
    return text if lanes == 1 else f"v{lanes}{text}"


def number(value: float, scalar: str) -> str:
    """The text of one number of type `scalar`; a float is rounded to it.

    Example:
        >>> number(0.1, "float"), number(0.1, "double"), number(3, "i32")
        ('0x3FB99999A0000000', '0x3FB999999999999A', '3')
    """
    if scalar == "i1":
        return "true" if value else "false"
    if scalar == "float":
        value = struct.unpack("<f", struct.pack("<f", value))[0]
    elif scalar != "double":
        return str(int(value))
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Variable:
    """A value that changes from one turn of a loop to the next.

    Attributes:
        value: Its value at this point of the code.
        scalar: The type of a lane.
        lanes: The number of lanes.
    """

    __slots__ = ("lanes", "scalar", "value")

    def __init__(self, value: str, scalar: str, lanes: int) -> None:
        self.value, self.scalar, self.lanes = value, scalar, lanes


class Builder:
    """Collects instructions in vectors of `width` lanes; plain scalars where it is 1.

    Attributes:
        width: The number of lanes.
        lines: The instructions so far.
        block: The label of the block that instructions go to, for the `phi` of what follows.
        globals: Declarations and definitions that the instructions refer to, by name. Builders
            of one module share them.
        types: The type of a lane, and the number of lanes, of each name.
        control: In a builder of another language than LLVM IR: what it has for the functions of
            `vmath.branches` and `vmath.outlined`.
    """

    control: ClassVar[Any] = None
    __slots__ = ("_count", "block", "globals", "lines", "types", "width")

    def __init__(self, width: int, globals: dict[str, str] | None = None) -> None:
        self.width = width
        self.lines: list[str] = []
        self.block = "entry"
        self.globals: dict[str, str] = {} if globals is None else globals
        self.types: dict[str, tuple[str, int]] = {}
        self._count = 0

    # Names, types and constants

    def fresh(self, stem: str) -> str:
        """A name that is new in this function, without its sigil."""
        self._count += 1
        return f"{stem}{self._count}"

    def emit(self, instruction: str, scalar: str = "", lanes: int = 0) -> str:
        """Append an instruction that has a result.

        Args:
            instruction: Its text.
            scalar: The type of a lane of the result; without it the name has no known type.
            lanes: The lanes of the result; `width` unless given.

        Returns:
            The name of the result.
        """
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {instruction}")
        if scalar:
            self.types[name] = (scalar, lanes or self.width)
        return name

    def effect(self, instruction: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {instruction}")

    def start(self, label: str) -> None:
        """Begin a block; the last one must have ended in a branch."""
        self.lines.append(f"{label}:")
        self.block = label

    def vector(self, scalar: str) -> str:
        """The type of a value: `scalar` in each lane."""
        return scalar if self.width == 1 else f"<{self.width} x {scalar}>"

    def constant(self, value: float, scalar: str) -> str:
        """The text of a number of type `scalar`, in each lane."""
        text = number(value, scalar)
        return text if self.width == 1 else f"splat ({scalar} {text})"

    def named(self, value: Operand, scalar: str, lanes: int = 1) -> str:
        """A value as a name: a constant gets one."""
        if isinstance(value, str) and value in self.types:
            return value
        kind = spell(scalar, lanes)
        return self.emit(
            f"bitcast {kind} {self.use(value, scalar, lanes)} to {kind}", scalar, lanes
        )

    def type_of(self, x: str) -> str:
        """The type of a name, as text."""
        return spell(*self.types[x])

    def scalar(self, x: str) -> str:
        """The type of a lane of a name."""
        return self.types[x][0]

    def splat(self, x: str) -> str:
        """A vector with a scalar in all lanes."""
        scalar, lanes = self.types[x]
        if lanes == self.width:
            return x
        kind = self.vector(scalar)
        one = self.emit(f"insertelement {kind} poison, {scalar} {x}, i64 0", scalar)
        zeros = f"{self.vector('i32')} zeroinitializer"
        return self.emit(f"shufflevector {kind} {one}, {kind} poison, {zeros}", scalar)

    def iota(self, scalar: str) -> str:
        """The text of a constant with the number of each lane."""
        if self.width == 1:
            return "0"
        return "<" + ", ".join(f"{scalar} {k}" for k in range(self.width)) + ">"

    def use(self, x: Operand, scalar: str, lanes: int) -> str:
        """An operand as text, of the given type."""
        if not isinstance(x, str):
            text = number(x, scalar)
            return text if lanes == 1 else f"splat ({scalar} {text})"
        known = self.types.get(x)
        return self.splat(x) if known is not None and known[1] < lanes else x

    def _uses(self, args: Sequence[Operand]) -> tuple[list[str], str, int]:
        scalar, lanes = "", 1
        for x in args:
            found = self.types.get(x) if isinstance(x, str) else None
            if found is not None:
                scalar, lanes = found[0], max(lanes, found[1])
        return [self.use(x, scalar, lanes) for x in args], scalar, lanes

    # Instructions

    def binary(self, op: str, x: Operand, y: Operand) -> str:
        """An instruction on two operands of one type, of which at least one is a name."""
        (x, y), scalar, lanes = self._uses((x, y))
        return self.emit(f"{op} {spell(scalar, lanes)} {x}, {y}", scalar, lanes)

    def fcmp(self, predicate: str, x: Operand, y: Operand) -> str:
        """A comparison of floats: 'oeq', 'ult', 'uno' and so on."""
        (x, y), scalar, lanes = self._uses((x, y))
        return self.emit(f"fcmp {predicate} {spell(scalar, lanes)} {x}, {y}", "i1", lanes)

    def icmp(self, predicate: str, x: Operand, y: Operand) -> str:
        """A comparison of integers: 'eq', 'slt', 'ult' and so on."""
        (x, y), scalar, lanes = self._uses((x, y))
        return self.emit(f"icmp {predicate} {spell(scalar, lanes)} {x}, {y}", "i1", lanes)

    def select(self, which: str, x: Operand, y: Operand) -> str:
        """One of two values: x where `which` is true, else y."""
        (x, y), scalar, lanes = self._uses((x, y))
        wide = max(lanes, self.types[which][1])
        if wide > lanes:
            x, y = (self.use(v, scalar, wide) for v in (x, y))
        which, kind = self.use(which, "i1", wide), spell(scalar, wide)
        return self.emit(
            f"select {spell('i1', wide)} {which}, {kind} {x}, {kind} {y}", scalar, wide
        )

    def cast(self, op: str, x: str, scalar: str) -> str:
        """A conversion instruction: 'fpext', 'sitofp', 'trunc' and so on."""
        lanes = self.types[x][1]
        return self.emit(f"{op} {self.type_of(x)} {x} to {spell(scalar, lanes)}", scalar, lanes)

    def bitcast(self, x: str, scalar: str) -> str:
        """The same bits as another type of the same width."""
        return x if self.scalar(x) == scalar else self.cast("bitcast", x, scalar)

    def resize(self, x: str, scalar: str, signed: bool) -> str:
        """An integer as a narrower or wider one."""
        old, new = _BITS[self.scalar(x)], _BITS[scalar]
        if old == new:
            return x
        return self.cast("trunc" if new < old else "sext" if signed else "zext", x, scalar)

    # Instructions on values of `width` lanes, whose types the caller knows

    def operation(self, op: str, scalar: str, *operands: str) -> str:
        """An instruction whose operands and result have one type: 'fadd', 'fneg', 'shl'."""
        return self.emit(f"{op} {self.vector(scalar)} {', '.join(operands)}", scalar)

    def compare(self, op: str, scalar: str, x: str, y: str) -> str:
        """A comparison: 'fcmp olt', 'icmp eq' and so on."""
        return self.emit(f"{op} {self.vector(scalar)} {x}, {y}", "i1")

    def converted(self, op: str, old: str, new: str, x: str) -> str:
        """A conversion instruction from one scalar type to another."""
        return self.emit(f"{op} {self.vector(old)} {x} to {self.vector(new)}", new)

    def choose(self, scalar: str, which: str, x: str, y: str) -> str:
        """The value x where `which` is true, else y."""
        kind = self.vector(scalar)
        return self.emit(f"select {self.vector('i1')} {which}, {kind} {x}, {kind} {y}", scalar)

    def intrinsic(self, name: str, result: str, *operands: tuple[str, str]) -> str:
        """Call an intrinsic that is overloaded on its result.

        Args:
            name: Like ``"fma"``.
            result: The scalar type of the result.
            operands: Pairs (scalar type, operand).

        Returns:
            The name of the result.
        """
        types = [self.vector(scalar) for scalar, _ in operands]
        function = f"{name}.{mangle(result, self.width)}"
        return self.invoke(function, result, self.width, types, [x for _, x in operands])

    def call(self, name: str, *args: Operand, flag: str = "") -> str:
        """An intrinsic whose operands and result have one type.

        Args:
            name: Like 'fma', 'sqrt', 'fabs', 'copysign', 'rint'.
            *args: The operands.
            flag: One more operand, as text: ``"i1 false"``.
        """
        found, scalar, lanes = self._uses(args)
        types = [spell(scalar, lanes)] * len(found)
        if flag:
            kind, text = flag.split()
            types.append(kind)
            found.append(text)
        return self.invoke(f"{name}.{mangle(scalar, lanes)}", scalar, lanes, types, found)

    def invoke(
        self, name: str, result: str, lanes: int, types: Sequence[str], operands: Sequence[str]
    ) -> str:
        """An intrinsic by its full name after ``llvm.``; `result` is 'void' if it has none."""
        function, returned = f"@llvm.{name}", spell(result, lanes) if result != "void" else result
        self.globals[function] = f"declare {returned} {function}({', '.join(types)})"
        passed = ", ".join(f"{t} {x}" for t, x in zip(types, operands, strict=True))
        if result == "void":
            self.effect(f"call void {function}({passed})")
            return ""
        return self.emit(f"call {returned} {function}({passed})", result, lanes)

    def offset(self, pointer: str, index: Operand, scalar: str) -> str:
        """The address of an element, or of one for each lane of `index`."""
        lanes = self.types[index][1] if isinstance(index, str) and index in self.types else 1
        kind = spell("i64", lanes)
        return self.emit(f"getelementptr {scalar}, ptr {pointer}, {kind} {index}", "ptr", lanes)

    # Control

    def variable(self, value: Operand, scalar: str, lanes: int = 1) -> Variable:
        """A value that loops change."""
        return Variable(self.named(value, scalar, lanes), scalar, lanes)

    @contextmanager
    def lanes(self, width: int) -> Iterator[None]:
        """Vectors of another width inside of the block: 1 for code on scalars."""
        old, self.width = self.width, width
        yield
        self.width = old

    @contextmanager
    def when(
        self, condition: str, carried: Sequence[Variable] = (), *, rare: bool = False
    ) -> Iterator[None]:
        """Code that runs where a scalar condition holds.

        Args:
            condition: An i1.
            carried: The variables that the code changes.
            rare: Whether it hardly ever holds: the code then lies out of the way.
        """
        inside, after, before = self.fresh("then"), self.fresh("end"), self.block
        old = [v.value for v in carried]
        weights = ""
        if rare:
            self.globals["!1"] = '!1 = !{!"branch_weights", i32 1, i32 1048576}'
            weights = ", !prof !1"
        self.effect(f"br i1 {condition}, label %{inside}, label %{after}{weights}")
        self.start(inside)
        yield
        end = self.block
        self.effect(f"br label %{after}")
        self.start(after)
        self._join(carried, old, before, end)

    @contextmanager
    def loop(
        self, first: Operand, stop: Operand, step: int = 1, carried: Sequence[Variable] = ()
    ) -> Iterator[str]:
        """Code that runs for first, first + step, … while less than stop (all of i64).

        `carried` are the variables that a turn changes.
        """
        body, after, before = self.fresh("loop"), self.fresh("end"), self.block
        enter = self.emit(f"icmp slt i64 {first}, {stop}", "i1", 1)
        self.effect(f"br i1 {enter}, label %{body}, label %{after}")
        self.start(body)
        index = self.emit("", "i64", 1)
        at = len(self.lines) - 1
        old = [v.value for v in carried]
        for v in carried:
            v.value = self.emit("", v.scalar, v.lanes)
        names = [index, *(v.value for v in carried)]
        yield index
        following, end = self.binary("add", index, step), self.block
        values = zip([str(first), *old], [following, *(v.value for v in carried)], strict=True)
        for k, (name, (start, again)) in enumerate(zip(names, values, strict=True)):
            pairs = f"[ {start}, %{before} ], [ {again}, %{end} ]"
            self.lines[at + k] = f"  {name} = phi {self.type_of(name)} {pairs}"
        more = self.emit(f"icmp slt i64 {following}, {stop}", "i1", 1)
        self.effect(f"br i1 {more}, label %{body}, label %{after}")
        self.start(after)
        self._join(carried, old, before, end)

    def _join(self, carried: Sequence[Variable], old: list[str], before: str, end: str) -> None:
        for v, value in zip(carried, old, strict=True):
            if v.value != value:
                pairs = f"[ {value}, %{before} ], [ {v.value}, %{end} ]"
                v.value = self.emit(f"phi {spell(v.scalar, v.lanes)} {pairs}", v.scalar, v.lanes)
