"""The function under construction: its builder, its arguments, and the values at hand."""

from collections.abc import Sequence
from typing import Any

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.ops import SHIFTS, scalar_of
from fgrad.backends.cpu.schedule import LANE, Schedule, dtype_of
from fgrad.backends.cpu.text import Builder, number
from fgrad.compile.kernel import Accumulate, Compute, Const, Fold, Kernel, Reduce, Scan, Store


class Frame:
    """One function of a kernel.

    Attributes:
        kernel: What it computes.
        plan: In which order.
        b: Where instructions go.
        index: The position along each axis but the last, where it is known.
        scalars: Values of the row and of the segment.
        spread: The same in all lanes, for those that vectors meet.
        vectors: Values of the current elements.
        streams: Whether large results are written past the caches.
    """

    def __init__(self, kernel: Kernel, plan: Schedule, words: dict[layout.Key, int], b: Builder):
        self.kernel, self.plan, self.words, self.b = kernel, plan, words, b
        self.index: dict[int, str] = {}
        self.scalars: dict[int, str] = {}
        self.spread: dict[int, str] = {}
        self.vectors: dict[int, str] = {}
        self.head: list[str] = []
        self.streams = layout.streams(kernel)
        self._given: dict[layout.Key, str] = {}
        self._met = _met_by_vectors(kernel, plan)

    # What the caller gives; it is read once, at the start of the function

    def word(self, *key: object) -> str:
        """A word of the argument block, as an i64."""
        return self._read(key, "i64", self.words[key])

    def pointer(self, operand: int) -> str:
        """The address of element 0 of an operand."""
        return self._read(("operand", operand), "ptr", operand)

    def memory(self, *key: object) -> str:
        """The address in a word."""
        return self._read((*key, "address"), "ptr", self.words[key])

    def _read(self, key: layout.Key, scalar: str, at: int) -> str:
        name = self._given.get(key)
        if name is None:
            name = f"%w{len(self._given)}"
            self.head.append(f"  {name}p = getelementptr i64, ptr %args, i64 {at}")
            self.head.append(f"  {name} = load {scalar}, ptr {name}p, align 8")
            self.b.types[name] = (scalar, 1)
            self._given[key] = name
        return name

    def local(self, key: layout.Key, scalar: str, count: int) -> str:
        """The address of memory on the stack, the same whenever it is asked for."""
        if key not in self._given:
            name = self._given[key] = f"%w{len(self._given)}"
            self.head.append(f"  {name} = alloca [{count} x {scalar}], align 64")
            self.b.types[name] = ("ptr", 1)
        return self._given[key]

    def number(self, i: int) -> str:
        """The number of an instruction: that of a `Const`, or the fill of a `Load`."""
        instr = self.kernel.body[i]
        dtype = dtype_of(self.kernel, i)
        value = instr.value if isinstance(instr, Const) else instr.fill  # type: ignore[union-attr]
        scalar, known = scalar_of(dtype), layout.special(value, dtype)
        key = ("number", i, "value")
        if known is None:
            return self._read(key, scalar, self.words["number", i])
        if key not in self._given:
            name = f"%w{len(self._given)}"
            self.head.append(f"  {name} = bitcast {scalar} {number(known, scalar)} to {scalar}")
            self.b.types[name] = (scalar, 1)
            self._given[key] = name
        return self._given[key]

    # Values

    def set_scalar(self, i: int, name: str) -> None:
        """Take note of a value of the row or segment."""
        self.scalars[i] = name
        if i in self._met:
            self.spread[i] = self.b.splat(name)

    def value(self, i: int) -> str:
        """A value as it is: a vector if it varies along the last axis."""
        return self.vectors[i] if self.plan.level[i] == LANE else self.scalars[i]

    def vector(self, i: int) -> str:
        """A value in all lanes."""
        if self.plan.level[i] == LANE:
            return self.vectors[i]
        return self.spread.get(i) or self.b.splat(self.scalars[i])

    def values(self, ids: Sequence[int], level: int) -> list[str]:
        """Values as operands of an instruction of some level."""
        return [self.vector(i) if level == LANE else self.scalars[i] for i in ids]

    def operands(self, instr: Compute, level: int) -> list[Any]:
        """The operands of an instruction.

        As numbers: the known number of bits of a shift, and 0 in place of a value where a
        condition fails, for which processors have masks.
        """
        found: list[Any] = [*self.values(instr.args, level)]
        last = self.kernel.body[instr.args[-1]]
        if instr.op in SHIFTS and isinstance(last, Const) and last.dtype.kind == "u":
            known = layout.special(last.value, last.dtype)
            if known is not None:
                found[-1] = int(known)
        if instr.op == "select" and isinstance(last, Const):
            zero = layout.special(last.value, last.dtype) == 0
            found[-1] = 0 if zero else found[-1]
        return found


def _met_by_vectors(kernel: Kernel, plan: Schedule) -> set[int]:
    found: set[int] = set()
    for i, instr in enumerate(kernel.body):
        if isinstance(instr, Reduce | Fold):
            found.add(instr.arg)
        elif plan.level[i] == LANE:
            match instr:
                case Compute(args=args) | Scan(args=args):
                    found.update(args)
                case Store(arg=arg) | Accumulate(arg=arg):
                    found.add(arg)
    return {v for v in found if plan.level[v] != LANE}
