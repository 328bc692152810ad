"""Input and filters of a convolution, copied into the order in which its inner loops read them."""

from math import prod
from typing import NamedTuple

from fgrad.backends.cpu.routines import Write, affine, digits
from fgrad.backends.cpu.text import Builder

Ints = tuple[int, ...]


class Conv(NamedTuple):
    """A convolution; spatial parameters are pairs, strides count elements.

    Attributes:
        scalar: The type.
        lanes: Values in a vector.
        registers: Vectors that may be in registers.
        batch, features, outputs: Sizes.
        size, window, positions: Spatial sizes of input, window and result.
        steps: Of the window from one position to the next.
        dilation: From one place of the window to the next.
        low: Zeros before the input.
        x, w, out: Strides of batch (or output features), features, rows and columns.
    """

    scalar: str
    lanes: int
    registers: int
    batch: int
    features: int
    outputs: int
    size: Ints
    window: Ints
    positions: Ints
    steps: Ints
    dilation: Ints
    low: Ints
    x: Ints
    w: Ints
    out: Ints

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4 if self.scalar == "float" else 8


class Packed(NamedTuple):
    """Rows of the padded input, their columns sorted by remainder modulo `parts`.

    Attributes:
        rows: Of each batch element and feature.
        parts: Column ``q`` of part ``f`` is column ``q·parts + f`` of the padded input.
        columns: Of each part.
    """

    rows: int
    parts: int
    columns: int

    @property
    def row(self) -> int:
        """Elements of a row."""
        return self.parts * self.columns

    @property
    def plane(self) -> int:
        """Elements of a batch element and feature."""
        return self.rows * self.row

    def column(self, at: int) -> int:
        """Where a column of the padded input lies."""
        return at % self.parts * self.columns + at // self.parts


def pack(c: Conv, to: Packed) -> Write:
    """What writes the padded rows of the input from batch element `first` on."""
    size = c.itemsize
    step = to.parts * c.x[3]

    def clear(b: Builder, place: str, count: int) -> None:
        if count:
            b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                     [place, "0", str(count * size), "false"])  # fmt: skip

    def fill(b: Builder, source: str, target: str) -> None:
        for f in range(to.parts):
            # Columns q with 0 <= q·parts + f - low < size.
            first = max(-((f - c.low[1]) // to.parts), 0)
            stop = min((c.size[1] - 1 + c.low[1] - f) // to.parts + 1, to.columns)
            first, stop = (first, stop) if stop > first else (0, 0)
            start = f * to.columns
            clear(b, b.offset(target, start, c.scalar), first)
            clear(b, b.offset(target, start + stop, c.scalar), to.columns - stop)
            begin = b.offset(source, (first * to.parts + f - c.low[1]) * c.x[3], c.scalar)
            goal = b.offset(target, start + first, c.scalar)
            if step == 1 and stop > first:
                b.invoke("memcpy.p0.p0.i64", "void", 1, ["ptr", "ptr", "i64", "i1"],
                         [goal, begin, str((stop - first) * size), "false"])  # fmt: skip
            elif stop > first:
                with b.loop(0, stop - first) as q:
                    at = b.offset(begin, affine(b, (q, step)), c.scalar)
                    x = b.emit(f"load {c.scalar}, ptr {at}", c.scalar, 1)
                    b.effect(f"store {c.scalar} {x}, ptr {b.offset(goal, q, c.scalar)}")

    def write(b: Builder, args: list[str], first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            n, i = digits(b, unit, c.features)
            source = affine(b, (first, c.x[0]), (n, c.x[0]), (i, c.x[1]))
            source = b.offset(args[0], source, c.scalar)
            target = b.offset(args[3], affine(b, (unit, to.plane)), c.scalar)
            with b.loop(0, to.rows) as r:
                row = b.binary("sub", r, c.low[0])
                goal = b.offset(target, affine(b, (r, to.row)), c.scalar)
                inside = b.icmp("ult", row, c.size[0])
                with b.when(inside):
                    fill(b, b.offset(source, affine(b, (row, c.x[2])), c.scalar), goal)
                with b.when(b.binary("xor", inside, "true")):
                    clear(b, goal, to.row)

    return write


def pack_filters(c: Conv, o_block: int, start: int) -> Write:
    """Filters as [blocks of output features, features, window, output feature of a block]."""
    taps = prod(c.window)

    def write(b: Builder, args: list[str], _first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            o, i = digits(b, unit, c.features)
            target = b.offset(args[3], affine(b, (start, 1), (unit, taps * o_block)), c.scalar)
            with b.loop(0, c.window[0]) as k, b.loop(0, c.window[1]) as tap:
                goal = affine(b, (k, c.window[1] * o_block), (tap, o_block))
                goal = b.offset(target, goal, c.scalar)
                for j in range(o_block):
                    # A block that hangs over repeats the last filter, for results nobody stores.
                    feature = b.call("smin", affine(b, (o, o_block), (j, 1)), c.outputs - 1)
                    source = b.offset(args[1], affine(
                        b, (feature, c.w[0]), (i, c.w[1]), (k, c.w[2]), (tap, c.w[3])
                    ), c.scalar)  # fmt: skip
                    x = b.emit(f"load {c.scalar}, ptr {source}", c.scalar, 1)
                    b.effect(f"store {c.scalar} {x}, ptr {b.offset(goal, j, c.scalar)}")

    return write
