"""Axes of kernels: the atoms that axes of values are made of.

Inside a kernel, each axis of a value is a list of *atoms*, the slowest first, so that transposes,
broadcasts and reshapes relabel and move nothing. An atom may be split in two where a reshape needs
it, or be found to be the same as another; `leaves` gives what it is by now.
"""

from collections.abc import Iterable, Sequence
from math import prod


class Atom:
    """An axis of a kernel, or part of one.

    Attributes:
        size: The number of positions along it.
        parts: What it was split into, or was found to be equal to; None where neither.
    """

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: tuple[Atom, ...] | None = None

    def __repr__(self) -> str:
        return f"<{self.size}>"


Axis = Sequence[Atom]
# None stands for an axis that is not traversed in order: part of it, backwards, by gathered rows.
Layout = list[list[Atom] | None]


def fresh(shape: Iterable[int]) -> Layout:
    """A layout of new atoms; axes of length 1 need none."""
    return [[Atom(n)] if n != 1 else [] for n in shape]


def leaves(atoms: Iterable[Atom]) -> list[Atom]:
    """What atoms are by now."""
    out: list[Atom] = []
    for a in atoms:
        parts = a.parts
        while parts is not None and len(parts) == 1:
            (a,) = parts
            parts = a.parts
        if parts is None:
            out.append(a)
        else:
            out += leaves(parts)
    return out


def flat(layout: Layout) -> list[Atom]:
    """All atoms of a layout, in its order."""
    return [a for axis in layout if axis for a in leaves(axis)]


def split(atom: Atom, inner: int) -> tuple[Atom, Atom]:
    """Split an atom so that the faster part has length `inner`."""
    atom.parts = (Atom(atom.size // inner), Atom(inner))
    return atom.parts


def take(atoms: list[Atom], size: int) -> list[Atom] | None:
    """Take atoms of that product off the end of a list; None where none fit."""
    taken: list[Atom] = []
    while size != 1:
        if not atoms:
            return None
        last = atoms.pop()
        if size and last.size and size % last.size == 0:
            taken.insert(0, last)
            size //= last.size
        elif size and last.size and last.size % size == 0:
            outer, inner = split(last, size)
            atoms.append(outer)
            taken.insert(0, inner)
            size = 1
        elif size == last.size:
            taken.insert(0, last)
            size = 1
        else:
            atoms.append(last)
            return None
    return taken


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Least runs of axes of two shapes of one size that hold equally many elements."""
    out: list[tuple[range, range]] = []
    i = j = 0
    if 0 in old:
        return [(range(len(old)), range(len(new)))]
    while i < len(old) or j < len(new):
        i0, j0, m, n = i, j, 1, 1
        if i < len(old):
            m, i = old[i], i + 1
        if j < len(new):
            n, j = new[j], j + 1
        while m != n:
            if m < n:
                m, i = m * old[i], i + 1
            else:
                n, j = n * new[j], j + 1
        out.append((range(i0, i), range(j0, j)))
    return out


def regrouped(layout: Layout, old: Sequence[int], new: Sequence[int]) -> Layout | None:
    """The layout of a reshaped value; None where its axes cannot be made of the same atoms."""
    out: Layout = []
    for mine, other in groups(old, new):
        wide = [i for i in mine if old[i] != 1]
        target = [j for j in other if new[j] != 1]
        if len(wide) == len(target) == 1:
            one = layout[wide[0]]
            out += [one if j == target[0] else [] for j in other]
            continue
        axes = [layout[i] for i in mine]
        if any(a is None for a in axes):
            return None
        atoms = flat(axes)
        parts: Layout = []
        for j in reversed(other):
            taken = take(atoms, new[j])
            if taken is None:
                return None
            parts.insert(0, taken)
        out += parts
    return out


def matched(a: Layout, b: Layout) -> list[tuple[Atom, Atom]] | None:
    """Pairs of equal atoms of two layouts of one value; None where they do not match."""
    out: list[tuple[Atom, Atom]] = []
    for x, y in zip(a, b, strict=True):
        if x is None or y is None:
            return None
        if len(x) == len(y) == 1:  # most axes are one atom
            (p,), (q,) = x, y
            if p.parts is None and q.parts is None and p.size == q.size:
                out.append((p, q))
                continue
        left, right = leaves(x), leaves(y)
        while left and right:
            p, q = left.pop(), right.pop()
            if p.size != q.size:
                big, small = (p, q) if p.size > q.size else (q, p)
                if not small.size or big.size % small.size:
                    return None
                outer, inner = split(big, small.size)
                (left if big is p else right).append(outer)
                p, q = (inner, q) if big is p else (p, inner)
            out.append((p, q))
        if left or right:
            return None
    return out


def size_of(atoms: Iterable[Atom]) -> int:
    """The number of positions of axes together."""
    return prod(a.size for a in atoms)
