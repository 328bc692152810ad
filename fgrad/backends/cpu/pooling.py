"""The pullback of pooling by maxima as one pass: each window finds its element and adds to it.

That is of windows that lie side by side in the last two axes, which are taken a vector at a time:
each element is in one window, so nothing is summed. Kernels compute the others. A unit of work is
one plane, the last two axes of the operand.
"""

from math import prod
from typing import NamedTuple

from fgrad.backends.cpu.routines import (
    SCALARS,
    Phase,
    Routine,
    Write,
    affine,
    digits,
    load,
    places,
    store,
)
from fgrad.backends.cpu.text import Builder
from fgrad.compile.plan import Library
from fgrad.core.ir import Eqn, Literal

Ints = tuple[int, ...]
_PLACES = 32  # of a window that is written out
_TILED = 4  # columns of a window that is taken a vector at a time


class Pool(NamedTuple):
    """A scatter to selected elements.

    Attributes:
        scalar: The type.
        lanes: Values in a vector.
        better: The comparison by which an element is selected before the one so far.
        lead: Sizes of the axes before a plane.
        size, positions: Of planes of operand and source.
        window: Of the last two axes.
        source, operand: Strides of all axes, in elements.
    """

    scalar: str
    lanes: int
    better: str
    lead: Ints
    size: Ints
    positions: Ints
    window: Ints
    source: Ints
    operand: Ints

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4 if self.scalar == "float" else 8


def is_tiled(eqn: Eqn) -> bool:
    """Whether the windows of `select_and_scatter_add` lie side by side, none over the edge."""
    p, (ct, x) = eqn.params, (a.aval for a in eqn.inputs)
    window = p["window_dimensions"]
    rank = len(window)
    return (
        rank >= 2
        and ct.dtype == x.dtype
        and x.dtype in SCALARS
        and not any(isinstance(a, Literal) for a in eqn.inputs)
        and prod(ct.shape) > 0
        and window == p["window_strides"]
        and prod(window) == prod(window[-2:]) <= _PLACES
        and window[-1] <= _TILED
        and all(q * k <= n for q, k, n in zip(ct.shape, window, x.shape, strict=True))
        and p["padding"] == ((0, 0),) * rank
        and p["base_dilation"] == p["window_dilation"] == (1,) * rank
    )


def routine_of(step: Library, vector_bytes: int, _registers: int) -> Routine | None:
    """The routine of `select_and_scatter_add`; None where windows overlap or lie apart."""
    found = places(step)
    if found is None or not is_tiled(step.eqn):
        return None
    ct, x, _ = found
    dtype, p = step.eqn.inputs[0].aval.dtype, step.eqn.params
    pool = Pool(
        SCALARS[dtype], vector_bytes // dtype.itemsize,
        "ugt" if p["select"] == "ge" else "ult",
        x.shape[:-2], x.shape[-2:], ct.shape[-2:], p["window_dimensions"][-2:],
        ct.strides, x.strides,
    )  # fmt: skip
    units = prod(pool.lead)
    ns = 0.2 * prod(ct.shape) * prod(pool.window)
    return Routine(("pool", *pool), (_planes(pool),), (Phase(0, units, ns),), 3, pool.lanes)


def _planes(c: Pool) -> Write:

    def write(b: Builder, args: list[str], _first: str) -> None:
        with b.loop("%lo", "%hi") as unit:
            at = digits(b, unit, *c.lead[1:]) if c.lead else []
            ct, x = (
                b.offset(pointer, affine(b, *zip(at, strides[:-2], strict=True)), c.scalar)
                for pointer, strides in zip(args[:2], (c.source, c.operand), strict=True)
            )
            out = b.offset(args[2], affine(b, (unit, prod(c.size))), c.scalar)
            _tiles(b, c, ct, x, out)

    return write


def _clear(b: Builder, c: Pool, place: str, count: int) -> None:
    if count:
        b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                 [place, "0", str(count * c.itemsize), "false"])  # fmt: skip


def _tiles(b: Builder, c: Pool, ct: str, x: str, out: str) -> None:
    (rows, columns), (height, width) = c.positions, c.window
    full, rest = divmod(columns, c.lanes)
    used = columns * width
    with b.loop(0, rows) as p:
        source = b.offset(ct, affine(b, (p, c.source[-2])), c.scalar)
        lines = [
            (
                b.offset(x, affine(b, (p, height * c.operand[-2]), (k, c.operand[-2])), c.scalar),
                b.offset(out, affine(b, (p, height * c.size[1]), (k, c.size[1])), c.scalar),
            )
            for k in range(height)
        ]
        with b.loop(0, full) as q:
            _tile(b, c, (source, lines), q, c.lanes)
        if rest:
            _tile(b, c, (source, lines), b.named(full, "i64"), rest)
        for _, line in lines:
            _clear(b, c, b.offset(line, used, c.scalar), c.size[1] - used)
    left = rows * height * c.size[1]
    _clear(b, c, b.offset(out, left, c.scalar), prod(c.size) - left)


def _tile(b: Builder, c: Pool, at: tuple[str, list[tuple[str, str]]], q: str, kept: int) -> None:
    """A vector of windows."""
    source, lines = at
    width, lanes = c.window[1], c.lanes
    start = affine(b, (q, lanes * width))
    values = []
    for line, _ in lines:
        row = load(b, b.offset(line, start, c.scalar), c.scalar, lanes * width, width * kept)
        values += [_every(b, c, row, k) for k in range(width)]
    best, number = values[0], b.named("zeroinitializer", _integer(c), lanes)
    for i, v in enumerate(values[1:], 1):
        # NaN is selected before any number, and the first of equals.
        take = b.binary("and", b.fcmp(c.better, v, best), b.fcmp("ord", best, best))
        best, number = b.select(take, v, best), b.select(take, i, number)
    ct = load(b, b.offset(source, affine(b, (q, lanes)), c.scalar), c.scalar, lanes, kept)
    ct = b.binary("fadd", ct, 0.0)  # as a sum from 0: -0 becomes 0
    for k, (_, line) in enumerate(lines):
        parts = [b.select(b.icmp("eq", number, k * width + i), ct, 0.0) for i in range(width)]
        goal = b.offset(line, start, c.scalar)
        store(b, _woven(b, c, parts), goal, width * kept)


def _integer(c: Pool) -> str:
    return "i32" if c.scalar == "float" else "i64"


def _every(b: Builder, c: Pool, row: str, first: int) -> str:
    """Every so many elements of a row of windows, from one on."""
    width = c.window[1]
    if width == 1:
        return row
    return _shuffled(b, row, row, [first + i * width for i in range(c.lanes)])


def _woven(b: Builder, c: Pool, parts: list[str]) -> str:
    """The elements of vectors in turn."""
    whole = parts[0]
    for k, part in enumerate(parts[1:], 1):
        have = k * c.lanes
        wide = part if k == 1 else _shuffled(
            b, part, part, [min(i, c.lanes - 1) for i in range(have)]
        )  # fmt: skip
        whole = _shuffled(b, whole, wide, list(range(have + c.lanes)))
    n = len(parts)
    if n == 1:
        return whole
    return _shuffled(b, whole, whole, [i % n * c.lanes + i // n for i in range(n * c.lanes)])


def _shuffled(b: Builder, x: str, y: str, order: list[int]) -> str:
    scalar, kind = b.scalar(x), b.type_of(x)
    mask = ", ".join(f"i32 {i}" for i in order)
    return b.emit(
        f"shufflevector {kind} {x}, {kind} {y}, <{len(order)} x i32> <{mask}>", scalar, len(order)
    )
