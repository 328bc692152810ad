"""Machine code of our own for equations that are no loop nests of the IR: code for one shape each.

A routine is a sequence of calls of functions ``(args, lo, hi)`` over units of work, as kernels are;
`args` points to the operands, the results, scratch memory and a number, in this order. Which
equations have one, and how its work is divided, depends on shapes, layouts and the machine, never
on threads.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu.render import Function
from fgrad.backends.cpu.text import Builder
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core.ir import Literal

SCALARS = {np.dtype("float32"): "float", np.dtype("float64"): "double"}


Write = Callable[[Builder, list[str], str], None]


class Phase(NamedTuple):
    """One call of a function of a routine.

    Attributes:
        code: Which function.
        units: The number of units of work.
        cost_ns: How long all of them take one thread, estimated.
        first: A number that the function is given.
    """

    code: int
    units: int
    cost_ns: float
    first: int = 0


class Routine(NamedTuple):
    """What runs in place of an eager rule.

    Attributes:
        key: All that the code depends on.
        codes: What writes the body of each function, from a builder, a pointer for each argument,
            and the name of the number `Phase.first`.
        phases: Run one after the other.
        arguments: The number of pointers that each takes.
        lanes: Values in a vector.
        scratch_bytes: The size of the scratch memory; 0: there is none.
        checked: Whether it may find that the eager rule must run, to raise an error: it then puts
            a number other than 0 into the first byte of its scratch memory.
        over: Whether its result may lie where its first operand does.
    """

    key: tuple[Any, ...]
    codes: tuple[Write, ...]
    phases: tuple[Phase, ...]
    arguments: int
    lanes: int
    scratch_bytes: int = 0
    checked: bool = False
    over: bool = False


def places(step: Library, more: Sequence[np.dtype[Any]] = ()) -> list[View] | None:
    """Where the operands lie and the results, all of one float dtype; None where they do not.

    The dtype is of `SCALARS` or one `more`.
    """
    dtypes = {a.aval.dtype for a in (*step.eqn.inputs, *step.eqn.outputs)}
    if len(dtypes) != 1 or not dtypes <= {*SCALARS, *more}:
        return None
    found = []
    for a in step.inputs:
        if isinstance(a, Literal):
            return None
        found.append(a)
    for b, v in zip(step.outputs, step.eqn.outputs, strict=True):
        found.append(View(b, 0, v.aval.shape, contiguous(v.aval.shape)))
    return found


def function(routine: Routine, code: int, name: str) -> Function:
    """The text of a function of a routine."""
    b = Builder(routine.lanes)
    b.types["%lo"] = b.types["%hi"] = ("i64", 1)
    pointers = []
    for i in range(routine.arguments):
        place = b.offset("%args", i, "ptr")
        pointers.append(b.emit(f"load ptr, ptr {place}", "ptr", 1))
    place = b.offset("%args", routine.arguments, "i64")
    first = b.emit(f"load i64, ptr {place}", "i64", 1)
    routine.codes[code](b, pointers, first)
    b.effect("ret void")
    head = f"define void @{name}(ptr noalias %args, i64 %lo, i64 %hi) #0 {{\nentry:\n"
    return Function(head + "\n".join(b.lines) + "\n}\n", b.globals)


# What routines say of memory and numbers


def load(b: Builder, pointer: str, scalar: str, lanes: int, kept: int | None = None) -> str:
    """A vector from memory of any alignment; of it the first `kept` lanes, zeros after them."""
    kind = f"<{lanes} x {scalar}>"
    align = 4 if scalar == "float" else 8
    if kept is None or kept == lanes:
        return b.emit(f"load {kind}, ptr {pointer}, align {align}", scalar, lanes)
    return b.invoke(
        f"masked.load.v{lanes}{'f32' if scalar == 'float' else 'f64'}.p0", scalar, lanes,
        ["ptr", "i32", f"<{lanes} x i1>", kind],
        [pointer, str(align), first_lanes(lanes, kept), "zeroinitializer"],
    )  # fmt: skip


def store(b: Builder, x: str, pointer: str, kept: int | None = None) -> None:
    """A vector to memory of any alignment, or its first `kept` lanes."""
    scalar, lanes = b.types[x]
    align = 4 if scalar == "float" else 8
    if kept is None or kept == lanes:
        b.effect(f"store {b.type_of(x)} {x}, ptr {pointer}, align {align}")
        return
    b.invoke(
        f"masked.store.v{lanes}{'f32' if scalar == 'float' else 'f64'}.p0", "void", lanes,
        [b.type_of(x), "ptr", "i32", f"<{lanes} x i1>"],
        [x, pointer, str(align), first_lanes(lanes, kept)],
    )  # fmt: skip


def first_lanes(lanes: int, kept: int) -> str:
    """The text of a mask."""
    return "<" + ", ".join(f"i1 {'true' if i < kept else 'false'}" for i in range(lanes)) + ">"


def affine(b: Builder, *terms: tuple[str | int, int]) -> str | int:
    """The sum of products of an index and a constant."""
    constant, total = 0, ""
    for index, factor in terms:
        if isinstance(index, int):
            constant += index * factor
        elif factor:
            term = index if factor == 1 else b.binary("mul", index, factor)
            total = b.binary("add", total, term) if total else term
    if not total:
        return constant
    return b.binary("add", total, constant) if constant else total


def digits(b: Builder, number: str, *sizes: int) -> list[str]:
    """A number in mixed radix; the last digit counts by one. The first has no limit."""
    found = []
    for n in reversed(sizes):
        rest = b.binary("udiv", number, n)
        found.append(b.binary("sub", number, b.binary("mul", rest, n)))
        number = rest
    return [number, *reversed(found)]
