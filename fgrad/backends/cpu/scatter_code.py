"""The code of scatters that take updates in order, each straight to where it goes.

That is the result, or memory of the same form in which sums are kept in a wider type (`Target`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import NamedTuple

import numpy as np

from fgrad.backends.cpu import ops
from fgrad.backends.cpu.routines import Write, affine
from fgrad.backends.cpu.scatter_form import CHECK, CLIP, Axis, Batch, Number, Scatter
from fgrad.backends.cpu.text import Builder, Variable, spell
from fgrad.compile.plan import contiguous

HEAD = 64  # bytes of scratch memory before the sums: the first one tells of windows that miss
CHUNK = 1 << 14  # numbers that a unit copies
WINDOW, BATCH = "window", "batch"

Read = Callable[[str, int], str]
Place = str | int


class Split(NamedTuple):
    """How the windows are shared among units of work: no two of them write one element.

    Attributes:
        by: WINDOW: ranges of the outermost axis of a window; BATCH: ranges of an axis along which
            the result is walked.
        units: The number of units.
        size: The length of a range.
        length: That of the axis.
        axis: BATCH, which axis.
    """

    by: str
    units: int
    size: int
    length: int
    axis: int = 0


# ---------------------------------------------------------------------------------- numbers


def read(b: Builder, n: Number, pointer: str, lanes: int, wide: str = "") -> str:
    """Numbers from memory as they are computed with, or as an LLVM type that is wider."""
    raw = b.emit(f"load {spell(n.scalar, lanes)}, ptr {pointer}, align {n.align}", n.scalar, lanes)
    if n.name == "bfloat16":
        raw = ops.widen_bfloat16(b, raw)
    elif n.name == "float16":
        raw = b.cast("fpext", raw, "float")
    return b.cast("fpext", raw, wide) if wide and b.scalar(raw) != wide else raw


def write(b: Builder, n: Number, x: str, pointer: str) -> None:
    """Numbers to memory, from what they are computed in or a wider type."""
    if b.scalar(x) == "double" and n.scalar != "double":
        x = b.cast("fptrunc", x, "float")
    if n.name == "bfloat16":
        x = ops.narrow_bfloat16(b, x)
    elif n.name == "float16":
        x = b.cast("fptrunc", x, "half")
    b.effect(f"store {b.type_of(x)} {x}, ptr {pointer}, align {n.align}")


def combined(b: Builder, c: Scatter, x: str, y: str) -> str:
    """What an element becomes."""
    if c.op == "set":
        return y
    dtype = np.dtype("f8" if b.scalar(x) == "double" else c.number.computed)
    return ops.emit(b, c.op, (x, y), (dtype, dtype), dtype)


# ------------------------------------------------------------------------------------ loops


@contextmanager
def windows(
    b: Builder, c: Scatter, many: Place, carried: Sequence[Variable] = (),
    only: tuple[int, Place, Place] | None = None,
) -> Iterator[tuple[Place, Place, Place]]:  # fmt: skip
    """Code that runs for each window in order: offsets of its index vector, updates and result.

    Args:
        b: Where instructions go.
        c: The scatter.
        many: The length of the first axis.
        carried: Variables that the code changes.
        only: An axis of the batch, and the range of it that is walked.
    """
    axes = (c.first, *c.batch)
    terms: list[tuple[Place, Batch]] = []
    with ExitStack() as stack:
        for i, axis in enumerate(axes):
            lo: Place = 0
            hi: Place = axis.size if i else many
            if only is not None and only[0] == i:
                _, lo, hi = only
            terms.append((stack.enter_context(b.loop(lo, hi, carried=carried)), axis))
        yield (
            affine(b, *((k, a.indices) for k, a in terms)),
            affine(b, *((k, a.updates) for k, a in terms)),
            affine(b, *((k, a.result) for k, a in terms)),
        )


def start(b: Builder, c: Scatter, indices: str, at: Place, base: Place) -> tuple[Place, str | None]:
    """Where a window begins in the result, and whether it fits; None where it always does."""
    valid = None
    terms: list[tuple[Place, int]] = [(base, 1)]
    for column in c.columns:
        k = _index(b, c, b.offset(indices, affine(b, (at, 1), (column.at, 1)), c.integer[0]))
        if c.mode == CLIP:
            k = b.call("smin", b.call("smax", k, 0), max(column.limit, 0))
        else:
            fits = b.icmp("ule", k, column.limit) if column.limit >= 0 else b.icmp("ne", k, k)
            valid = fits if valid is None else b.binary("and", valid, fits)
        if column.limit > 0:
            terms.append((k, column.stride))
    return affine(b, *terms), valid


def _index(b: Builder, c: Scatter, place: str) -> str:
    scalar, signed = c.integer
    k = b.emit(f"load {scalar}, ptr {place}", scalar, 1)
    if scalar == "i64" and not signed and c.mode == CLIP:
        k = b.call("umin", k, 2**63 - 1)  # it must not become negative
    return b.resize(k, "i64", signed)


def missed(b: Builder, c: Scatter, valid: str | None, scratch: str) -> None:
    """Tell of a window that does not fit, where that is an error."""
    if c.mode == CHECK and valid is not None:
        with b.when(b.binary("xor", valid, True), rare=True):
            b.effect(f"store i8 1, ptr {scratch}")


def _elements(
    b: Builder, axes: Sequence[Axis], at: tuple[Place, Place], lanes: int,
    only: tuple[Place, Place] | None, each: Callable[[Place, Place, int], None],
) -> None:  # fmt: skip
    """Code for the elements of a window, a vector at a time where they lie side by side.

    Args:
        b: Where instructions go.
        axes: The axes of the window.
        at: Offsets in the result and in the updates.
        lanes: Numbers in a vector.
        only: The range of the outermost axis that is walked: vectors are not cut.
        each: Writes the code, from both offsets and the number of lanes.
    """
    to, of = at
    if not axes:
        each(to, of, 1)
        return
    *outer, last = axes
    with ExitStack() as stack:
        terms: list[tuple[Place, Axis]] = []
        for i, axis in enumerate(outer):
            ends: tuple[Place, Place] = only if only is not None and not i else (0, axis.size)
            terms.append((stack.enter_context(b.loop(*ends)), axis))
        to = affine(b, (to, 1), *((k, a.result) for k, a in terms))
        of = affine(b, (of, 1), *((k, a.updates) for k, a in terms))
        wide = lanes if last.result == last.updates == 1 else 1
        lo: Place = 0
        hi: Place = last.size
        if only is not None and not outer:
            lo, hi = only
        whole, rest = last.size // wide * wide, last.size % wide
        stop = b.call("smin", hi, whole) if isinstance(hi, str) else whole
        with b.loop(lo, stop, wide) as k:
            each(affine(b, (to, 1), (k, last.result)), affine(b, (of, 1), (k, last.updates)), wide)
        if rest:
            with b.when(b.icmp("eq", hi, last.size)) if isinstance(hi, str) else ExitStack():
                each(affine(b, (to, 1), (whole, 1)), affine(b, (of, 1), (whole, 1)), rest)


# ----------------------------------------------------------------------------------- phases


def updates(c: Scatter, split: Split | None, wide: str, lanes: int) -> Write:
    """Take the updates in order; `wide` is the LLVM type of sums apart from the result, or ''."""

    def code(b: Builder, args: list[str], many: str) -> None:
        _, indices, source, out, *scratch = args
        goal = b.offset(scratch[0], HEAD, "i8") if wide else out
        with b.loop("%lo", "%hi") as unit:
            only, part = _range(b, split, unit)
            with windows(b, c, many, only=only) as (at, of, base):
                to, valid = start(b, c, indices, at, base)
                missed(b, c, valid, scratch[0] if scratch else "")
                with b.when(valid) if valid is not None else ExitStack():
                    combine_window(b, c, (goal, source), (to, of), (wide, lanes, part))

    return code


def _range(
    b: Builder, split: Split | None, unit: str
) -> tuple[tuple[int, str, str] | None, tuple[str, str] | None]:
    """What a unit walks: an axis of the batch and its range; the range of a window's first axis."""
    if split is None:
        return None, None
    first = b.binary("mul", unit, split.size)
    stop = b.call("smin", b.binary("add", first, split.size), b.named(split.length, "i64"))
    if split.by == BATCH:
        return (split.axis, first, stop), None
    return None, (first, stop)


def combine_window(
    b: Builder, c: Scatter, arrays: tuple[str, str], at: tuple[Place, Place],
    how: tuple[str, int, tuple[Place, Place] | None],
) -> None:  # fmt: skip
    """Combine a window with its updates."""
    goal, source = arrays
    wide, lanes, part = how
    n = c.number
    kept = Number("", wide, 8, "") if wide else n

    def each(to: Place, of: Place, width: int) -> None:
        if c.pairs:
            _multiply(b, n, b.offset(goal, to, n.scalar), b.offset(source, of, n.scalar))
            return
        place = b.offset(goal, to, kept.scalar)
        y = read(b, n, b.offset(source, of, n.scalar), width, wide)
        write(
            b, kept, y if c.op == "set" else combined(b, c, read(b, kept, place, width), y), place
        )

    _elements(b, c.window, at, 1 if c.pairs else lanes, part, each)


def _multiply(b: Builder, n: Number, goal: str, source: str) -> None:
    """The product of two complex numbers."""
    places = [b.offset(goal, i, n.scalar) for i in range(2)]
    x, y = (read(b, n, p, 1) for p in places)
    u, v = (read(b, n, b.offset(source, i, n.scalar), 1) for i in range(2))
    real = b.binary("fsub", b.binary("fmul", x, u), b.binary("fmul", y, v))
    imaginary = b.binary("fadd", b.binary("fmul", x, v), b.binary("fmul", y, u))
    write(b, n, real, places[0])
    write(b, n, imaginary, places[1])


class Copy(NamedTuple):
    """Numbers that are put in row-major order, or back.

    Attributes:
        source, goal: How they lie there.
        wide: The LLVM type that they become, or were; '' if they stay what they are.
        shape, strides: Of the source.
        back: Whether the source is scratch memory.
    """

    source: Number
    goal: Number
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def units(self) -> int:
        """The number of units of work."""
        return -(-prod(self.shape) // CHUNK) if self.flat else self.shape[0]

    @property
    def flat(self) -> bool:
        """Whether the source is one run of numbers, or one number."""
        return len(self.shape) == 1 and self.strides[0] in (0, 1)


def copy(c: Copy, lanes: int, pick: Callable[[list[str], Builder], tuple[str, str]]) -> Write:
    """Copy numbers; `pick` gives source and goal from the arguments."""

    def each(b: Builder, source: str, goal: str, of: Place, to: Place, width: int) -> None:
        # A number that is repeated is read once for each vector: it lies in the nearest cache.
        step = c.strides[-1]
        x = read(b, c.source, b.offset(source, of, c.source.scalar), width if step else 1)
        if b.scalar(x) != c.goal.scalar and c.goal.scalar == "double":
            x = b.cast("fpext", x, "double")
        with b.lanes(width):
            write(b, c.goal, b.splat(x), b.offset(goal, to, c.goal.scalar))

    def code(b: Builder, args: list[str], _first: str) -> None:
        source, goal = pick(args, b)
        moves = b.emit(f"icmp ne ptr {source}, {goal}", "i1", 1)  # else it is there already
        with b.when(moves), b.loop("%lo", "%hi") as unit:
            if not c.flat:
                _rows(b, c, lanes, unit, lambda of, to, n: each(b, source, goal, of, to, n))
                return
            first = b.binary("mul", unit, CHUNK)
            size = prod(c.shape)
            stop = b.call("smin", b.binary("add", first, CHUNK), b.named(size, "i64"))
            whole = b.binary("sub", stop, b.binary("srem", b.binary("sub", stop, first), lanes))
            with b.loop(first, whole, lanes) as k:
                each(b, source, goal, affine(b, (k, c.strides[0])), k, lanes)
            with b.loop(whole, stop) as k:
                each(b, source, goal, affine(b, (k, c.strides[0])), k, 1)

    return code


def _rows(
    b: Builder, c: Copy, lanes: int, unit: str, each: Callable[[Place, Place, int], None]
) -> None:
    dense = contiguous(c.shape)
    axes = [Axis(*a, True) for a in zip(c.shape, c.strides, dense, strict=True)][1:]
    if not axes or axes[-1].result not in (0, 1):
        lanes = 1
    at = affine(b, (unit, c.strides[0])), affine(b, (unit, dense[0]))
    _elements(b, axes, at, lanes, None, each)
