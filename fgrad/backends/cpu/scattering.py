"""Sums of rows by index, as the pullback of a lookup needs them: `scatter_add` of whole rows.

A unit of work is a range of rows of the result, which takes the updates of its own rows in order:
sums do not depend on threads. The number of updates is no part of the code.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu.routines import SCALARS, Phase, Routine, Write, load, store
from fgrad.backends.cpu.text import Builder
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core.ir import Literal
from fgrad.lax.index import GatherScatterMode

_RANGES = 16  # of rows: each looks at all indices
_TURN = 4  # vectors of a row that are written out


class Rows(NamedTuple):
    """Rows to be summed.

    Attributes:
        scalar: The type of their elements.
        lanes: Elements in a vector.
        height: The number of rows of the result.
        width: Elements of a row.
        integer: The type of the indices.
    """

    scalar: str
    lanes: int
    height: int
    width: int
    integer: str

    @property
    def ranges(self) -> int:
        """The number of units of work."""
        return min(_RANGES, self.height)

    @property
    def size(self) -> int:
        """The rows of a unit."""
        return -(-self.height // self.ranges)


def routine_of(step: Library, vector_bytes: int, _registers: int) -> Routine | None:
    """The routine of a `scatter_add`; None where it adds anything but whole rows of floats."""
    p, aval = step.eqn.params, step.eqn.outputs[0].aval
    start, indices, updates = step.inputs
    numbers = p["dimension_numbers"]
    if aval.dtype not in SCALARS or not isinstance(indices, View) or not isinstance(updates, View):
        return None
    batch = len(indices.shape) - 1  # axes of the updates before those of a row
    index = step.eqn.inputs[1].aval.dtype
    rows = (
        numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (0,)
        and not numbers.operand_batching_dims
        and numbers.update_window_dims == tuple(range(batch, len(updates.shape)))
        and updates.shape[batch:] == aval.shape[1:]
        and indices.shape[-1] == 1
        and p["mode"] is not GatherScatterMode.CLIP
        and index.name in ("int32", "int64")
    )
    lie = all(_lies(v) for v in (start, indices, updates) if isinstance(v, View))
    count, width = prod(aval.shape[:1]), prod(aval.shape[1:])
    many = prod(indices.shape)
    if not rows or not lie or not count * width * many:
        return None
    zero = isinstance(start, Literal) and start.aval.shape != () and _is_zero(start.value)
    if not (zero or isinstance(start, View)):
        return None
    form = Rows(
        SCALARS[aval.dtype], vector_bytes // aval.dtype.itemsize, count, width,
        f"i{8 * index.itemsize}",
    )  # fmt: skip
    ns = 0.1 * count * width + many * (0.5 * form.ranges + 0.2 * width)
    phase = Phase(0, form.ranges, ns, many)
    guard = _inside(count) if p["mode"].raises else None
    return Routine(
        ("scatter_add", *form, zero), (_ranges(form, zero),), (phase,), 4, form.lanes, guard=guard
    )


def _lies(v: View) -> bool:
    """Whether a view shows its elements as they lie in memory."""
    steps = zip(v.shape, v.strides, contiguous(v.shape), strict=True)
    return all(n == 1 or a == b for n, a, b in steps)


def _is_zero(value: Any) -> bool:
    if any(value.strides) or not value.size:
        return False
    return value.item(0) == 0 and not np.signbit(value.item(0))


def _inside(count: int) -> Any:
    """Whether all indices name rows."""

    def guard(_start: Any, indices: Any, *_rest: Any) -> bool:
        return bool(indices.min() >= 0 and indices.max() < count)

    return guard


def _ranges(c: Rows, zero: bool) -> Write:

    def write(b: Builder, args: list[str], many: str) -> None:
        start, indices, updates, out = args
        with b.loop("%lo", "%hi") as unit:
            first = b.binary("mul", unit, c.size)
            stop = b.call("smin", b.binary("add", first, c.size), b.named(c.height, "i64"))
            length = b.binary("sub", stop, first)
            with b.when(b.icmp("sgt", length, 0)):
                _begin(b, c, None if zero else start, out, (first, length))
                with b.loop(0, many) as k:
                    place = b.offset(indices, k, c.integer)
                    row = b.emit(f"load {c.integer}, ptr {place}", c.integer, 1)
                    if c.integer != "i64":
                        row = b.cast("sext", row, "i64")
                    mine = b.icmp("ult", b.binary("sub", row, first), length)
                    with b.when(mine):
                        _add(b, c, out, row, updates, k)

    return write


def _begin(b: Builder, c: Rows, start: str | None, out: str, rows: tuple[str, str]) -> None:
    """Set rows to zero, or to what they are added to."""
    first, length = rows
    itemsize = 4 if c.scalar == "float" else 8
    begin = b.binary("mul", first, c.width)
    size = b.binary("mul", length, c.width * itemsize)
    place = b.offset(out, begin, c.scalar)
    if start is None:
        b.invoke("memset.p0.i64", "void", 1, ["ptr", "i8", "i64", "i1"],
                 [place, "0", size, "false"])  # fmt: skip
    else:
        b.invoke("memcpy.p0.p0.i64", "void", 1, ["ptr", "ptr", "i64", "i1"],
                 [place, b.offset(start, begin, c.scalar), size, "false"])  # fmt: skip


def _add(b: Builder, c: Rows, out: str, row: str, updates: str, k: str) -> None:
    """Add an update to its row."""
    to = b.offset(out, b.binary("mul", row, c.width), c.scalar)
    of = b.offset(updates, b.binary("mul", k, c.width), c.scalar)

    def vector(at: str | int, kept: int) -> None:
        x, y = (
            load(b, b.offset(p, at, c.scalar), c.scalar, c.lanes, kept) for p in (to, of)
        )  # fmt: skip
        store(b, b.binary("fadd", x, y), b.offset(to, at, c.scalar), kept)

    turn = _TURN * c.lanes
    whole = c.width // turn * turn
    with b.loop(0, whole, turn) as at:
        for i in range(_TURN):
            vector(b.binary("add", at, i * c.lanes) if i else at, c.lanes)
    for left in range(whole, c.width, c.lanes):
        vector(left, min(c.lanes, c.width - left))
