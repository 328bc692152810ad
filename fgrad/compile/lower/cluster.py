"""Clusters: equations that become one kernel, and when two of them may become one.

The *domain* of a cluster is the set of its atoms. A kernel has one way to divide it into rows:
`inner` are the atoms of a row. A reduction over exactly those gives a row value, which later
equations of the cluster may use; one over all others, or over others from some on, accumulates;
one over some of them, the fastest among these, is folded: a result for each part of a row.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from fgrad.compile.lower.axes import Atom, Layout, flat, leaves, matched, size_of
from fgrad.compile.lower.items import REDUCE, SCAN, Item
from fgrad.compile.lower.program import Access
from fgrad.compile.lower.strided import Strided
from fgrad.core.ir import Eqn, Literal, Var

_MEMBERS = 96  # of a cluster: the time to compile a kernel grows with its length
_READS = 40
_ALONE = 2**15  # elements that one thread may reduce
_SMALL = 4096  # elements: below, fewer kernels count more than the order of memory


class Cluster:
    """Equations over one domain.

    Attributes:
        items: The equations and the position of each in the program.
        layouts: Of each value made here, the atoms of its axes.
        walks: Of each value made here, the layout by which its equation is traversed: of a
            reduction that of its operand.
        reduced: Of each reduction, the atoms it reduces over.
        scanned: Of each scan, the atoms it runs along.
        backward: Whether scans run from the end; None: there are none.
        reads: The values of others that are read here, each with its layouts.
        joins: Concatenations whose parts are all made here, which store straight into them.
        memory: Those of them that are read from memory; the others are parts of these.
        domain: All atoms.
        size: The number of elements of the domain.
        largest: Of the walks, the first of those with most elements, and how many these are.
        inner: The atoms of a row, where an equation depends on them; else None.
        phase: The recomputation that it belongs to, or None.
        run: The backward pass that it belongs to, or None.
        mask: A bit for each node that it is or was merged with.
        up: A bit for each node that has to run before it.
        direct: The nodes that it reads from.
        after: Those that read from it.
    """

    def __init__(self, number: int, eqn: Eqn) -> None:
        self.items: list[tuple[int, Item]] = []
        self.layouts: dict[Var, Layout] = {}
        self.walks: dict[Var, Layout] = {}
        self.reduced: dict[Var, list[Atom]] = {}
        self.scanned: dict[Var, list[Atom]] = {}
        self.backward: bool | None = None
        self.reads: dict[Var, list[Layout | None]] = {}
        self.memory: set[Var] = set()
        self.joins: dict[Var, tuple[Var, ...]] = {}
        self.domain: list[Atom] = []
        self.size = 1
        self.largest: tuple[int, Layout] = (0, [])
        self.inner: list[Atom] | None = None
        self.phase = eqn.phase
        self.run = None if eqn.pullback is None else eqn.pullback[0]
        self.mask = 1 << number
        self.up = 0
        self.direct: set[Node] = set()
        self.after: set[Node] = set()
        self.last = 0

    def add(
        self, position: int, item: Item, var: Var, walk: Layout, found: Sequence[Access]
    ) -> None:
        """Put in the first equation."""
        self.items.append((position, item))
        self.last = position
        self.walks[var] = walk
        self.domain = flat(walk)
        self.size = size_of(self.domain)
        self.largest = (self.size, walk)
        self.layouts[var] = walk
        if item.form == REDUCE:
            axes = item.eqn.params["axes"]
            self.reduced[var] = [a for i in axes for a in leaves(walk[i] or ())]
            self.layouts[var] = [a for i, a in enumerate(walk) if i not in axes]
        if item.form == SCAN:
            self.inner = self.scanned[var] = list(walk[item.eqn.params["axis"]] or ())
            self.backward = item.eqn.params["reverse"]
        for base, layout, memory in found:
            self.reads.setdefault(base, []).append(layout)
            if memory:
                self.memory.add(base)

    def atoms(self) -> list[Atom]:
        """The domain by now."""
        return leaves(self.domain)


class Library:
    """An equation that is a step of its own."""

    def __init__(
        self, number: int, position: int, item: Item, inputs: Sequence[Literal | Strided]
    ) -> None:
        self.item = item
        self.inputs = inputs
        self.mask = 1 << number
        self.up = 0
        self.direct: set[Node] = set()
        self.after: set[Node] = set()
        self.last = position


class Join:
    """A concatenation whose parts are stored straight into it by more than one kernel."""

    def __init__(self, number: int, position: int, whole: Var, parts: Sequence[Var]) -> None:
        self.whole = whole
        self.parts = parts
        self.mask = 1 << number
        self.up = 0
        self.direct: set[Node] = set()
        self.after: set[Node] = set()
        self.last = position


Node = Cluster | Library | Join


class Merge:
    """The union of two clusters, if there is one.

    Attributes:
        possible: Whether they may be one kernel.
        refined: Whether atoms were split after they had been paired: it takes another attempt.
    """

    def __init__(self, a: Cluster, b: Cluster, *, related: bool) -> None:
        self.a, self.b = a, b
        self.same: dict[Atom, Atom] = {}  # atoms of b as atoms of a
        self.used: set[Atom] = set()
        self.inner: list[Atom] | None = None
        self.refined = False
        self.possible = (
            # Sizes of 0 would fit each other in more than one way, and nothing is gained.
            a.size > 0
            and b.size > 0
            and len(a.items) + len(b.items) <= _MEMBERS
            and len(a.reads) + len(b.reads) <= _READS
            and self._phases_agree(related)
            and self._bind_shared()
            and (self._is_pointwise() or self._divides(related))
        )

    def _phases_agree(self, related: bool) -> bool:
        # What recomputation feeds may join it; nothing pulls it forward.
        a, b = self.a, self.b
        if a.phase == b.phase:
            return True
        if a.run is not None and a.run is b.run:
            # Of one backward pass: what `mincut` repeats, in the phase (None, run), is cheap.
            return related or (a.phase or b.phase) == (None, a.run)
        return related and b.phase is None and len(b.items) == 1

    # ------------------------------------------------------------------------- atoms

    def _bind_shared(self) -> bool:
        """Pair the atoms of values that one makes and the other reads, and that both read."""
        a, b = self.a, self.b
        if not (a.joins.keys().isdisjoint(b.reads) and b.joins.keys().isdisjoint(a.reads)):
            return False
        for base, mine in b.reads.items():
            made = a.layouts.get(base)
            if made is not None and not all(self._bind(made, other) for other in mine):
                return False
        for base, theirs in a.reads.items():
            made = b.layouts.get(base)
            if made is not None and not all(self._bind(other, made) for other in theirs):
                return False
        both = [v for v in b.reads if v in a.reads]
        if len(both) > 1:  # by size, so that what is large is read in one pass
            both.sort(key=lambda v: -v.aval.size)
        for base in both:
            left, right = a.reads[base][0], b.reads[base][0]
            if left is not None and right is not None:
                self._bind(left, right)
        for p, q in self.same.items():
            if p.parts is not None or q.parts is not None:
                self.refined = True
        return not self.refined

    def _bind(self, left: Layout | None, right: Layout | None) -> bool:
        if left is None or right is None:
            return False
        pairs = matched(left, right)
        if pairs is None:
            return False
        new: dict[Atom, Atom] = {}
        for p, q in pairs:
            if p.parts is not None or q.parts is not None:
                p, q = _only(p), _only(q)
            if self.same.get(q, p) is not p or (p in self.used and q not in self.same):
                return False
            new[q] = p
        if len(new) > 1 and len(set(new.values())) < len(new):
            return False
        self.same.update(new)
        self.used.update(new.values())
        return True

    def _mine(self, atoms: Iterable[Atom]) -> list[Atom]:
        """Atoms of b as atoms of a, where they are."""
        return [self.same.get(q, q) for q in leaves(atoms)]

    # ----------------------------------------------------------------------- division

    def _is_pointwise(self) -> bool:
        """Whether both have the same atoms, and nothing is reduced or divided into rows."""
        a, b = self.a, self.b
        if a.reduced or b.reduced or a.inner is not None or b.inner is not None:
            return False
        return self.used.issuperset(a.atoms()) and all(q in self.same for q in b.atoms())

    def _divides(self, related: bool) -> bool:
        a, b = self.a, self.b
        left = a.atoms()
        right = [self.same.get(q, q) for q in b.atoms()]
        only_a = [p for p in left if p not in self.used]
        only_b = [q for q in right if q not in self.used]
        if (only_a or only_b) and (not related or (only_a and only_b)):
            return False
        inner = None if a.inner is None else leaves(a.inner)
        if b.inner is not None and not _agree(inner, inner := self._mine(b.inner)):
            return False
        for extra, whole, part in ((only_a, a, b), (only_b, b, a)):
            if extra:
                if not self._spreads(whole, part, extra) or not _agree(inner, extra):
                    return False
                inner = extra
        for base in b.reads.keys() & a.reduced.keys():
            if not a.reduced[base]:
                continue
            if not _is_row(a, base) or not _agree(inner, leaves(a.reduced[base])):
                return False
            inner = leaves(a.reduced[base])
        for base in a.reads.keys() & b.reduced.keys():
            if not b.reduced[base]:
                continue
            if not _is_row(b, base) or not _agree(inner, self._mine(b.reduced[base])):
                return False
            inner = self._mine(b.reduced[base])
        sets = [leaves(r) for r in a.reduced.values()]
        sets += [self._mine(r) for r in b.reduced.values()]
        self.inner = inner
        last = _fastest(a)
        small = a.size <= _SMALL
        sets = [s for s in sets if s]
        return self._scans_fit(inner, sets, bool(only_a or only_b)) and divisions(
            inner, sets, last and _only(last), small
        )

    def _scans_fit(
        self, inner: Sequence[Atom] | None, sets: Sequence[Sequence[Atom]], extra: bool
    ) -> bool:
        """Whether scans may share a kernel with the rest: they have one direction and whole rows.

        Along slow axes they share it with what is computed of each element alone.
        """
        a, b = self.a, self.b
        if a.backward is None and b.backward is None:
            return True
        if None not in (a.backward, b.backward) and a.backward != b.backward:
            return False
        row = frozenset(inner or ())
        ends = set(self._mine(last for last in (_fastest(a), _fastest(b)) if last))
        if not ends <= row and (sets or extra):
            return False
        return all(row <= s or not row & s for s in map(frozenset, sets))

    def _spreads(self, whole: Cluster, part: Cluster, extra: list[Atom]) -> bool:
        """Whether all of `part` can be row values of `whole`, whose rows are `extra`."""
        if part.inner is not None:
            return False
        if not part.domain:  # scalars, after a reduction over everything that one thread makes
            return len(whole.reduced) > 0 and size_of(extra) <= _ALONE
        last = _fastest(whole)
        if whole is self.b and last is not None:
            last = self.same.get(last, last)
        return last in extra or whole.size <= _SMALL

    def commit(self) -> Cluster:
        """Make b a part of a."""
        a, b = self.a, self.b
        for q, p in self.same.items():
            q.parts = (p,)
        in_order = a.items[-1][0] < b.items[0][0]
        a.items += b.items
        if not in_order:
            a.items.sort(key=itemgetter(0))
        a.layouts.update(b.layouts)
        a.walks.update(b.walks)
        a.reduced.update(b.reduced)
        a.scanned.update(b.scanned)
        a.backward = b.backward if a.backward is None else a.backward
        a.joins.update(b.joins)
        a.memory |= b.memory
        for base, layouts in b.reads.items():
            if base in a.layouts:
                a.memory.discard(base)
            else:
                a.reads.setdefault(base, []).extend(layouts)
        for base in b.layouts:
            if base in a.reads:
                del a.reads[base]
                a.memory.discard(base)
        a.domain = list(dict.fromkeys(leaves([*a.domain, *b.domain])))
        a.size = size_of(a.domain)
        if b.largest[0] > a.largest[0]:
            a.largest = b.largest
        a.inner = self.inner
        a.phase = b.phase if a.phase is None else a.phase
        a.run = a.run if a.run is b.run else None
        a.mask |= b.mask
        a.after |= b.after
        a.up = (a.up | b.up) & ~a.mask
        a.direct |= b.direct
        a.last = max(a.last, b.last)
        return a


def _only(atom: Atom) -> Atom:
    (one,) = leaves((atom,))
    return one


def _agree(a: Sequence[Atom] | None, b: Sequence[Atom]) -> bool:
    return a is None or set(a) == set(b)


def _fastest(cluster: Cluster) -> Atom | None:
    """The atom along which the largest value made or walked here is contiguous."""
    for axis in reversed(cluster.largest[1]):
        if axis:
            return leaves(axis)[-1]
    return None


def _is_row(cluster: Cluster, var: Var) -> bool:
    """Whether a reduction is along the rows of memory, so that its result is soon there."""
    walk = flat(cluster.walks[var])
    reduced = leaves(cluster.reduced[var])
    return not walk or walk[-1] in reduced or size_of(walk) <= _SMALL


def divisions(
    inner: Sequence[Atom] | None, sets: Sequence[Sequence[Atom]], last: Atom | None, small: bool
) -> bool:
    """Whether reductions over those sets of atoms fit in one kernel, and it reads rows of memory.

    Args:
        inner: The atoms of a row, if they are settled.
        sets: The atoms of each reduction.
        last: The fastest atom.
        small: Whether the order of memory counts less than the number of kernels.
    """
    distinct = {frozenset(s) for s in sets}
    if inner is None:
        if len(distinct) < 2:
            return True
        if len(distinct) > 2:
            return False
        one, two = sorted(distinct, key=len)
        if one < two:  # the row is the first, or what the second has beyond it
            return small or last is None or last in two
        return not one & two
    row = frozenset(inner)
    rest = set()
    for s in distinct:
        if s != row:
            if not s & row or row < s:
                rest.add(s - row)
            elif last not in s or last not in row:
                return False
    return len(rest) <= 1
