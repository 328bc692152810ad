"""The code of sums of many single numbers into few places, by all threads.

Each part of the updates has sums of its own, which are added up in order. Parts depend on shapes
alone, and so do the results.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from fgrad.backends.cpu.routines import Write, affine
from fgrad.backends.cpu.scatter_code import (
    CHUNK,
    HEAD,
    Place,
    combine_window,
    missed,
    read,
    start,
    windows,
    write,
)
from fgrad.backends.cpu.scatter_form import Number, Scatter
from fgrad.backends.cpu.text import Builder

PARTS = 16  # of the updates
_RANGE_BITS = 13  # of the number of places in a range, at least
_RANGES = 1 << 10  # at most


class Sums(NamedTuple):
    """Sums of updates.

    Attributes:
        size: The numbers of the result.
        step: From one number of the operand to the next: 1, or 0 where it is one number.
        wide: The LLVM type of sums; '' for that of the elements.
    """

    size: int
    step: int
    wide: str


def scratch_bytes(c: Scatter, s: Sums) -> int:
    """The scratch memory that sums of all parts take."""
    return HEAD + PARTS * s.size * _sum(c, s).size


def _sum(c: Scatter, s: Sums) -> Number:
    """How sums lie in memory."""
    return Number("", s.wide, 8 if s.wide == "double" else 4, "") if s.wide else c.number


def sum_parts(c: Scatter, s: Sums, lanes: int) -> Write:
    """The sums of each part; a part is a unit of work."""
    n = _sum(c, s)

    def code(b: Builder, args: list[str], many: str) -> None:
        _, indices, source, _, scratch = args
        with b.loop("%lo", "%hi") as part:
            first = b.binary("mul", part, s.size)
            sums = b.offset(b.offset(scratch, HEAD, "i8"), first, n.scalar)
            whole = s.size // lanes * lanes
            for width, lo, hi in ((lanes, 0, whole), (1, whole, s.size)):
                # -0 is what changes no number that it is added to.
                zero = b.named(-0.0 if n.scalar in ("float", "double") else 0, n.scalar, width)
                with b.loop(lo, hi, width) as k:
                    b.effect(
                        f"store {b.type_of(zero)} {zero}, ptr {b.offset(sums, k, n.scalar)}, "
                        f"align {n.align}"
                    )
            with windows(b, c, many, only=_part(b, part, many)) as (at, of, base):
                to, valid = start(b, c, indices, at, base)
                missed(b, c, valid, scratch)
                with b.when(valid) if valid is not None else ExitStack():
                    combine_window(b, c, (sums, source), (to, of), (s.wide, lanes, None))

    return code


def _part(b: Builder, part: str, many: str) -> tuple[int, str, str]:
    """The windows of a part, along the first axis."""
    ends = (part, b.binary("add", part, 1))
    lo, hi = (b.binary("sdiv", b.binary("mul", k, many), PARTS) for k in ends)
    return 0, lo, hi


def add_parts(c: Scatter, s: Sums, lanes: int) -> Write:
    """The operand and the sums of all parts, added up; a unit is `CHUNK` numbers."""
    n = _sum(c, s)

    def code(b: Builder, args: list[str], _many: str) -> None:
        begin, _, _, out, scratch = args
        sums = b.offset(scratch, HEAD, "i8")

        def each(k: Place, width: int) -> None:
            total = _begin(b, c, s, (begin, k), width)
            for part in range(PARTS):
                place = b.offset(sums, affine(b, (k, 1), (part * s.size, 1)), n.scalar)
                y = read(b, n, place, width)
                total = b.binary("fadd" if _is_float(b, y) else "add", total, y)
            write(b, c.number, total, b.offset(out, k, c.number.scalar))

        with b.loop("%lo", "%hi") as unit:
            lo = b.binary("mul", unit, CHUNK)
            _vectors(b, lo, _least(b, b.binary("add", lo, CHUNK), s.size), lanes, each)

    return code


def _begin(b: Builder, c: Scatter, s: Sums, at: tuple[str, Place], width: int) -> str:
    """Numbers of the operand, as sums begin."""
    begin, k = at
    place = b.offset(begin, k if s.step else 0, c.number.scalar)
    x = read(b, c.number, place, width if s.step else 1, s.wide)
    with b.lanes(width):
        return b.splat(x)


def _is_float(b: Builder, x: str) -> bool:
    return b.scalar(x) in ("float", "double")


def _least(b: Builder, x: str, y: int) -> str:
    return b.call("smin", x, b.named(y, "i64"))


def _vectors(b: Builder, lo: str, hi: str, lanes: int, each: Callable[[Place, int], None]) -> None:
    rest = b.binary("srem", b.binary("sub", hi, lo), lanes)
    whole = b.binary("sub", hi, rest)
    for width, first, stop in ((lanes, lo, whole), (1, whole, hi)):
        with b.loop(first, stop, width) as k:
            each(k, width)
