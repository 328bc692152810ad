"""Loops along the last axis of a row, in vectors with a masked rest; and counters of axes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.maps import Step
from fgrad.backends.cpu.text import Builder, Operand, Variable

Body = Callable[[Step, int], None]


def along(
    b: Builder,
    first: Operand,
    stop: str,
    body: Body,
    *,
    unroll: int = 1,
    carried: Sequence[Variable] = (),
) -> None:
    """Run `body` for all positions from first on, a vector at a time.

    Args:
        b: Where instructions go.
        first: The first position, an i64.
        stop: The position after the last, not below `first`.
        body: Called with the step and its number within a turn of the loop, to emit its code.
        unroll: The steps of a turn of the main loop: a power of 2.
        carried: The variables that it changes.
    """
    main = whole(b, first, stop, b.width * unroll)
    with b.loop(first, main, b.width * unroll, carried) as at:
        turn(b, at, body, unroll)
    rest(b, main, stop, body, carried)


def whole(b: Builder, first: Operand, stop: str, size: int) -> str:
    """Where the last turn of `size` positions ends; `size` is a power of 2."""
    if size == 1:
        return stop
    if first == 0:
        return b.binary("and", stop, -size)
    return b.binary("add", b.binary("and", b.binary("sub", stop, first), -size), first)


def turn(b: Builder, at: str, body: Body, unroll: int, *, abreast: bool = False) -> None:
    """The steps of one turn of the main loop.

    Args:
        b: Where instructions go.
        at: The position of the first.
        body: Called with the step and its number, to emit its code.
        unroll: How many.
        abreast: Whether they take turns, an instruction each, which is for steps that do not
            depend on each other: a processor that waits for one goes on with another, and does not
            have to look so far ahead for it.
    """
    places = [at if k == 0 else b.binary("add", at, k * b.width) for k in range(unroll)]
    start, block = len(b.lines), b.block
    ends = []
    for k, place in enumerate(places):
        body(Step(place, None), k)
        ends.append(len(b.lines))
    if not abreast or b.block != block:
        return
    steps = [b.lines[first:end] for first, end in itertools.pairwise([start, *ends])]
    if len({len(lines) for lines in steps}) == 1:
        b.lines[start:] = [line for each in zip(*steps, strict=True) for line in each]


def rest(b: Builder, first: str, stop: str, body: Body, carried: Sequence[Variable]) -> None:
    """The steps after the main loop, of which the last is short."""
    if first == stop:
        return
    with b.loop(first, stop, b.width, carried) as at:
        if b.width == 1:
            body(Step(at, None), 0)
        else:
            left = b.resize(b.binary("sub", stop, at), "i32", True)
            mask = b.emit(f"icmp ugt {b.vector('i32')} {b.splat(left)}, {b.iota('i32')}", "i1")
            body(Step(at, mask), 0)


class Counter:
    """Positions along several axes, which advance like the digits of a number.

    Args:
        b: Where instructions go.
        sizes: The sizes of the axes.
    """

    def __init__(self, b: Builder, sizes: Sequence[str]) -> None:
        self.b, self.sizes = b, sizes
        self.digits = [b.variable(0, "i64") for _ in sizes]

    def set(self, position: str) -> None:
        """Go to a position in row-major order; no size is 0."""
        b, rest_ = self.b, position
        for digit, size in reversed(list(zip(self.digits[1:], self.sizes[1:], strict=True))):
            quotient = b.binary("udiv", rest_, size)
            digit.value = b.binary("sub", rest_, b.binary("mul", quotient, size))
            rest_ = quotient
        if self.digits:
            self.digits[0].value = rest_

    def advance(self) -> None:
        """Go to the next position."""
        b = self.b
        carry: str | None = None
        for k in reversed(range(len(self.digits))):
            digit, size = self.digits[k], self.sizes[k]
            step: Operand = 1 if carry is None else b.cast("zext", carry, "i64")
            following = b.binary("add", digit.value, step)
            if k == 0:
                digit.value = following
            else:
                carry = b.icmp("eq", following, size)
                digit.value = b.select(carry, 0, following)


@contextmanager
def segments(f: Frame, carried: Sequence[Variable] = ()) -> Iterator[str]:
    """The loop over all axes of a row but the last.

    Gives the number of elements before the segment, an i64; empty text where a row is a segment.
    """
    b, first = f.b, len(f.kernel.outer)
    last = first + len(f.kernel.inner) - 1
    if first == last:
        yield ""
        return
    sizes = [f.word("size", axis) for axis in range(first, last)]
    total = sizes[0]
    for size in sizes[1:]:
        total = b.binary("mul", total, size)
    counter = Counter(b, sizes)
    with b.loop(0, total, 1, [*counter.digits, *carried]) as segment:
        for axis, digit in zip(range(first, last), counter.digits, strict=True):
            f.index[axis] = digit.value
        yield b.binary("mul", segment, f.word("size", last))
        counter.advance()
