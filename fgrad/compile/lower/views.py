"""Views as index maps: where each element of a view lies in its operand.

`down` follows a layout (see `axes`) from a view to its operand, for planning; `index_of` follows
the index itself, for code. An index is one `Affine` for each axis, over the axes of the kernel.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from fgrad.compile.kernel import Bound
from fgrad.compile.lower.axes import Layout, groups, regrouped
from fgrad.compile.plan import contiguous
from fgrad.core.ir import Eqn, Var


class Affine(NamedTuple):
    """``offset + Σ strides[a]·index[a] + Σ stride·value``, over the axes of a kernel."""

    offset: int
    strides: tuple[int, ...]
    indirect: tuple[tuple[int, int], ...] = ()

    def plus(self, offset: int) -> "Affine":
        """With another offset."""
        return Affine(self.offset + offset, self.strides, self.indirect)

    def times(self, factor: int) -> "Affine":
        """All of it multiplied."""
        if factor == 1:
            return self
        return Affine(
            self.offset * factor,
            tuple(s * factor for s in self.strides),
            tuple((v, s * factor) for v, s in self.indirect),
        )


Index = Sequence[Affine]


PARTS = ("real", "imag")  # views of every second float of a complex operand


class Inexpressible(Exception):
    """An index that is not affine in the axes of the kernel."""


def total(index: Index, strides: Sequence[int], axes: int) -> Affine:
    """The element of a buffer with those strides."""
    offset, moves = 0, [0] * axes
    indirect: tuple[tuple[int, int], ...] = ()
    for part, stride in zip(index, strides, strict=True):
        offset += part.offset * stride
        for a, s in enumerate(part.strides):
            if s:
                moves[a] += s * stride
        indirect += tuple((v, s * stride) for v, s in part.indirect)
    return Affine(offset, tuple(moves), indirect)


# ------------------------------------------------------------------------------- layouts


def down(eqn: Eqn, out: int, layout: Layout) -> Layout | None:
    """The layout of the operand of a view, from that of its result number `out`.

    None where the atoms do not tell: the operand has to be in memory then, in its own order.
    """
    kind, p = eqn.primitive.lower.data, eqn.params  # type: ignore[union-attr]
    old, new = eqn.outputs[out].aval.shape, eqn.inputs[0].aval.shape
    if kind == "broadcast":
        return [
            layout[d] if n != 1 else [] for d, n in zip(p["broadcast_dimensions"], new, strict=True)
        ]
    if kind == "transpose":
        back: Layout = [None] * len(new)
        for i, q in enumerate(p["permutation"]):
            back[q] = layout[i]
        return back
    if kind == "reshape":
        return regrouped(layout, old, new)
    if kind in ("copy", "identity", *PARTS):
        return layout
    if kind == "rev":
        return [None if i in p["dimensions"] and n != 1 else a
                for i, (a, n) in enumerate(zip(layout, new, strict=True))]  # fmt: skip
    if kind == "pad":
        config = p["padding_config"]
        return [None if any(c) else a for a, c in zip(layout, config, strict=True)]
    if kind in ("slice", "split", "dynamic_slice"):
        return [a if m == n else None for a, m, n in zip(layout, old, new, strict=True)]
    raise AssertionError(kind)


# ------------------------------------------------------------------------------- indices


class Step(NamedTuple):
    """One step down a view: the index in the operand, and where it lies inside of it."""

    at: Index
    bounds: tuple[Bound, ...] = ()


def index_of(
    eqn: Eqn, out: int, index: Index, sizes: Sequence[int], start: Callable[[int, int], int]
) -> Step:
    """The index in the operand of a view, from the index in its result number `out`.

    Args:
        eqn: The view.
        out: Which result.
        index: The index in it.
        sizes: The axes of the kernel.
        start: Gives, for operand i of the equation and a limit, the computed value that is operand
            i between 0 and that limit.

    Raises:
        Inexpressible: It is not affine in the axes of the kernel.
    """
    kind, p = eqn.primitive.lower.data, eqn.params  # type: ignore[union-attr]
    old, new = eqn.outputs[out].aval.shape, eqn.inputs[0].aval.shape
    zero = Affine(0, (0,) * len(sizes))
    if kind == "broadcast":
        return Step([zero if n == 1 else index[d]
                     for d, n in zip(p["broadcast_dimensions"], new, strict=True)])  # fmt: skip
    if kind == "transpose":
        back = [zero] * len(new)
        for i, q in enumerate(p["permutation"]):
            back[q] = index[i]
        return Step(back)
    if kind == "reshape":
        return Step(reshaped(index, old, new, sizes))
    if kind in ("copy", "identity"):
        return Step(index)
    assert kind not in PARTS, "they lie between the elements of the operand"
    if kind == "rev":
        return Step([i.times(-1).plus(n - 1) if a in p["dimensions"] else i
                     for a, (i, n) in enumerate(zip(index, new, strict=True))])  # fmt: skip
    if kind == "slice":
        spans = zip(index, p["start_indices"], p["strides"], strict=True)
        return Step([i.times(step).plus(first) for i, first, step in spans])
    if kind == "split":
        first = list(accumulate((0, *p["sizes"])))[out]
        return Step([i.plus(first) if a == p["axis"] else i for a, i in enumerate(index)])
    if kind == "pad":
        return _padded(index, old, new, p["padding_config"])
    assert kind == "dynamic_slice", kind
    moved = []
    for a, (part, m, n) in enumerate(zip(index, old, new, strict=True)):
        # A slice of a whole axis can only start at 0.
        extra = () if m == n else ((start(a + 1, n - m), 1),)
        moved.append(Affine(part.offset, part.strides, (*part.indirect, *extra)))
    return Step(moved)


def is_regular(eqn: Eqn) -> bool:
    """Whether a view is an index map at all."""
    kind, p = eqn.primitive.lower.data, eqn.params  # type: ignore[union-attr]
    if kind == "pad":
        shape = eqn.inputs[0].aval.shape
        return all(not c[2] or n <= 1 for c, n in zip(p["padding_config"], shape, strict=True))
    if kind == "gather":  # others are composed of one that moves starts inside
        clips = p["mode"].value == "clip"
        return clips and eqn.inputs[0].aval.size > 0 and eqn.outputs[0].aval.size > 0
    return kind in _KINDS


_KINDS = frozenset({
    "broadcast", "copy", "dynamic_slice", "identity", "iota", "reshape", "rev", "slice", "split",
    "transpose",
})  # fmt: skip


def _padded(
    index: Index, old: Sequence[int], new: Sequence[int], config: Sequence[tuple[int, int, int]]
) -> Step:
    moved, bounds = [], []
    for i, m, n, (lo, _hi, _interior) in zip(index, old, new, config, strict=True):
        at = i.plus(-lo)
        moved.append(at)
        if lo > 0 or m - lo > n:
            bounds.append(Bound(n, at.offset, at.strides, at.indirect))
    return Step(moved, tuple(bounds))


def reshaped(
    index: Index, old: Sequence[int], new: Sequence[int], sizes: Sequence[int]
) -> list[Affine]:
    """The index under another shape of the same elements."""
    out: list[Affine] = []
    zero = Affine(0, (0,) * len(sizes))
    for mine, other in groups(old, new):
        wide = [i for i in mine if old[i] != 1]
        target = [j for j in other if new[j] != 1]
        if len(wide) == len(target) == 1:
            out += [index[wide[0]] if j == target[0] else zero for j in other]
            continue
        if not target:
            out += [zero for _ in other]
            continue
        shape = [old[i] for i in mine]
        place = total([index[i] for i in mine], contiguous(tuple(shape)), len(sizes))
        if len(target) == 1:
            out += [place if j == target[0] else zero for j in other]
            continue
        out += _unravelled(place, [new[j] for j in other], sizes)
    return out


def _unravelled(place: Affine, shape: list[int], sizes: Sequence[int]) -> list[Affine]:
    """The index, under a shape, of the element with a row-major number."""
    strides = contiguous(tuple(shape))
    if 0 in shape:
        return [Affine(0, (0,) * len(sizes))] * len(shape)  # there is no element to find
    if place.offset or place.indirect:
        raise Inexpressible
    moves = [[0] * len(sizes) for _ in shape]
    reach = [0] * len(shape)
    for a, s in enumerate(place.strides):
        if not s or sizes[a] <= 1:
            continue
        for j, stride in enumerate(strides):
            if shape[j] > 1 and s > 0 and s % stride == 0 and s // stride < shape[j]:
                moves[j][a] = s // stride
                reach[j] += (s // stride) * (sizes[a] - 1)
                break
        else:
            raise Inexpressible
    if any(r >= n for r, n in zip(reach, shape, strict=True)):
        raise Inexpressible
    return [Affine(0, tuple(m)) for m in moves]


def operand_of(eqn: Eqn) -> Var:
    """The value that a view shows."""
    return eqn.inputs[0]  # type: ignore[return-value]
