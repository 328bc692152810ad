"""The loop IR: what one fused kernel computes, for no machine in particular.

A kernel walks over rows. `outer` are the axes that tell rows apart, and may run in parallel;
`inner` are the axes of a row. Its body is a list of instructions in single-assignment form; an
instruction is named by its position. A value is *full*, one for each element of the row, or *row*,
one for each row. `Reduce` makes a row value of a full one: what needs it takes another pass over
the row, so a body is a sequence of passes (`stages`)::

    Load(operand, map, bounds, fill)       an element of an operand, or `fill` outside of `bounds`
    Const(value) · Index(axis)             a number · the position along an axis
    Compute(op, args)                      an operation of `core.scalar.OPS`, or 'convert', …
    Reduce(monoid, arg)                    over `inner`
    Scan(monoid, arg, free)                the reduction of the elements up to each, over `inner`
    Store(operand, map, arg)               to an element of an operand
    Accumulate(operand, map, monoid, arg)  over the outer axes from `kept` on
    Fold(operand, map, monoid, arg)        over the last inner axis

An index map is affine: element ``offset + Σ strides[a]·index[a]`` of the operand, counted from
its start in elements, over the outer and then the inner axes; `indirect` adds ``stride·value``
for computed values. Views (transpose, broadcast, slice, reverse, pad, gather) are maps; none is a
copy.

Computation takes place in bool, integers, float32 and float64. Operands of other floats are
widened by `Load` and rounded by `Store`; where a program rounds an intermediate value, the body
says so ('round_bfloat16', …).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np

DType = np.dtype[Any]
T = TypeVar("T")
FULL, ROW = "full", "row"

# Beside `OPS`: 'convert' to the instruction's dtype (float to integer truncates, clamps, and makes
# NaN 0), 'bitcast' to it, and rounding of a float32 to what a narrower float can hold.
CONVERSIONS = ("convert", "bitcast", "round_bfloat16", "round_float16")
MONOIDS = ("add", "mul", "max", "min", "and", "or", "xor")
# The parts of a complex product are scans of two values each: its real and imaginary factors.
SCANS = ("add", "mul", "max", "min", "logaddexp", "mul_re", "mul_im")
COMPUTED = tuple(np.dtype(t) for t in ("?", "b", "h", "i", "q", "B", "H", "I", "Q", "f", "d"))


@dataclass(frozen=True, slots=True)
class Map:
    """An affine index map.

    Attributes:
        offset: The element of the operand at index 0 of all axes.
        strides: Elements per step along each axis, outer axes first.
        indirect: Pairs (value, stride): adds ``stride·value``.
    """

    offset: int
    strides: tuple[int, ...]
    indirect: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition on an index: ``0 <= offset + Σ strides[a]·index[a] + Σ stride·value < size``."""

    size: int
    offset: int
    strides: tuple[int, ...]
    indirect: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """An element of an operand; `fill` where a bound does not hold."""

    operand: int
    map: Map
    dtype: DType
    bounds: tuple[Bound, ...] = ()
    fill: Any = 0


@dataclass(frozen=True, slots=True)
class Const:
    """A number."""

    value: Any
    dtype: DType


@dataclass(frozen=True, slots=True)
class Index:
    """The position along an axis (outer axes first)."""

    axis: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Compute:
    """A scalar operation; `dtype` is that of the result."""

    op: str
    args: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Reduce:
    """A value of each row from one of each element."""

    monoid: str
    arg: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Scan:
    """For each element, the reduction of those up to it, in row-major order of the inner axes.

    It belongs to the pass of its operand: what needs it takes no other pass. Products of floats
    are multiplied one after the other, since another order may leave the range of numbers.

    Attributes:
        monoid: One of `SCANS`.
        args: The elements; of complex ones the real and the imaginary parts.
        dtype: Theirs.
        free: Whether the last inner axis is left out: there is a scan for each position along it.
    """

    monoid: str
    args: tuple[int, ...]
    dtype: DType
    free: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """Write to an operand; a row value is written once a row."""

    operand: int
    map: Map
    arg: int


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Reduce over the outer axes from `Kernel.kept` on, into an operand.

    The map has stride 0 along those axes. A full value gives a result for each element of a row,
    a row value one in all.
    """

    operand: int
    map: Map
    monoid: str
    arg: int


@dataclass(frozen=True, slots=True)
class Fold:
    """Reduce over the last inner axis, into an operand: a result for each segment of a row.

    The map has stride 0 along that axis.
    """

    operand: int
    map: Map
    monoid: str
    arg: int


MAPPED = (Load, Store, Accumulate, Fold)  # they have an operand and a map
Instr = Load | Const | Index | Compute | Reduce | Scan | Store | Accumulate | Fold


@dataclass(frozen=True, slots=True)
class Operand:
    """A buffer that the kernel reads or writes; `dtype` is that of its elements in memory."""

    dtype: DType
    written: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One fused loop nest; kernels are compared by identity.

    Attributes:
        name: For people.
        outer: Sizes of the axes that tell rows apart.
        inner: Sizes of the axes of a row; the last is the one that vectorises.
        operands: What it reads and writes. No two share memory, except that a store of the last
            pass may overwrite the very element that a load has read, in a buffer that starts at
            the same address.
        body: The instructions, each after what it uses.
        kept: How many leading outer axes `Accumulate` keeps.
        eqns: The positions, in the program, of the equations that are fused here.
        memo: What was found out about it (see `remembered`), whatever its name and equations.
    """

    name: str
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    operands: tuple[Operand, ...]
    body: tuple[Instr, ...]
    kept: int = 0
    eqns: tuple[int, ...] = ()
    memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def of(self, name: str, eqns: tuple[int, ...]) -> "Kernel":
        """The same kernel for other equations; what is found out about one is known of both."""
        other = Kernel(name, self.outer, self.inner, self.operands, self.body, self.kept, eqns)
        object.__setattr__(other, "memo", self.memo)
        return other

    @property
    def rows(self) -> int:
        """The number of rows."""
        return prod(self.outer)

    @property
    def length(self) -> int:
        """The number of elements of a row."""
        return prod(self.inner)

    def __str__(self) -> str:
        return show(self)


def remembered(function: Callable[[Kernel], T]) -> Callable[[Kernel], T]:
    """A function of the text of a kernel, computed once; nobody changes what it returns."""

    @functools.wraps(function)
    def known(kernel: Kernel) -> T:
        memo = kernel.memo
        if function not in memo:
            memo[function] = function(kernel)
        found: T = memo[function]
        return found

    return known


@remembered
def levels(kernel: Kernel) -> list[str]:
    """For each instruction, whether its value is 'full' or 'row'."""
    first = len(kernel.outer)
    found: list[str] = []

    def varies(m: Map | Bound) -> bool:
        moving = any(s for s in m.strides[first:])
        return moving or any(found[v] == FULL for v, _ in m.indirect)

    for instr in kernel.body:
        match instr:
            case Load(map=m, bounds=bounds):
                full = varies(m) or any(map(varies, bounds))
            case Index(axis=axis):
                full = axis >= first
            case Compute(args=args):
                full = any(found[a] == FULL for a in args)
            case Store(arg=arg, map=m):
                full = found[arg] == FULL or varies(m)
            case Accumulate(arg=arg):
                full = found[arg] == FULL
            case Fold() | Scan():
                full = True
            case Const() | Reduce():
                full = False
        found.append(FULL if full else ROW)
    return found


@remembered
def stages(kernel: Kernel) -> list[int]:
    """For each instruction, the number of passes over the row that must end before it can run."""
    found: list[int] = []
    for instr in kernel.body:
        needs = [found[a] for a in uses(instr)]
        stage = max(needs, default=0)
        if isinstance(instr, Reduce):
            stage += 1
        found.append(stage)
    return found


def uses(instr: Instr) -> tuple[int, ...]:
    """The values that an instruction reads."""
    match instr:
        case Load(map=m, bounds=bounds):
            parts: tuple[Map | Bound, ...] = (m, *bounds)
            return tuple(v for part in parts for v, _ in part.indirect)
        case Compute(args=args) | Scan(args=args):
            return args
        case Reduce(arg=arg) | Accumulate(arg=arg) | Fold(arg=arg):
            return (arg,)
        case Store(arg=arg, map=m):
            return (arg, *(v for v, _ in m.indirect))
        case Const() | Index():
            return ()


def show(kernel: Kernel) -> str:
    """A kernel as text, one instruction a line."""
    outer, inner = (", ".join(map(str, sizes)) for sizes in (kernel.outer, kernel.inner))
    lines = [f"kernel {kernel.name} outer[{outer}] inner[{inner}] kept {kernel.kept}"]
    for i, op in enumerate(kernel.operands):
        lines.append(f"  {'out' if op.written else 'in '} p{i}: {op.dtype.name}")
    first = len(kernel.outer)
    for i, instr in enumerate(kernel.body):
        lines.append(f"  {_show(i, instr, first)}")
    return "\n".join(lines)


def _show(i: int, instr: Instr, first: int) -> str:
    match instr:
        case Load(operand=o, map=m, bounds=bounds, fill=fill):
            guard = " and ".join(f"0 <= {_affine(b, first)} < {b.size}" for b in bounds)
            rest = f" if {guard} else {fill}" if guard else ""
            return f"%{i}:{instr.dtype.name} = p{o}[{_affine(m, first)}]{rest}"
        case Const(value=value):
            return f"%{i}:{instr.dtype.name} = {value}"
        case Index(axis=axis):
            return f"%{i}:{instr.dtype.name} = {_axis(axis, first)}"
        case Compute(op=op, args=args):
            return f"%{i}:{instr.dtype.name} = {op} {' '.join(f'%{a}' for a in args)}"
        case Reduce(monoid=monoid, arg=arg):
            return f"%{i}:{instr.dtype.name} = reduce {monoid} %{arg}"
        case Scan(monoid=monoid, args=args, free=free):
            found = f"scan {monoid} {' '.join(f'%{a}' for a in args)}"
            return f"%{i}:{instr.dtype.name} = {found}{' by column' if free else ''}"
        case Store(operand=o, map=m, arg=arg):
            return f"p{o}[{_affine(m, first)}] = %{arg}"
        case Accumulate(operand=o, map=m, monoid=monoid, arg=arg):
            return f"p{o}[{_affine(m, first)}] {monoid}= %{arg}"
        case Fold(operand=o, map=m, monoid=monoid, arg=arg):
            return f"p{o}[{_affine(m, first)}] = fold {monoid} %{arg}"


def _axis(axis: int, first: int) -> str:
    return f"i{axis}" if axis < first else f"j{axis - first}"


def _affine(m: Map | Bound, first: int) -> str:
    terms = [str(m.offset)] if m.offset else []
    for axis, s in enumerate(m.strides):
        if s:
            terms.append(_axis(axis, first) if s == 1 else f"{s}·{_axis(axis, first)}")
    terms += [f"{s}·%{v}" for v, s in m.indirect]
    return " + ".join(terms) or "0"
