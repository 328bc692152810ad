"""How the axes of a cluster are divided: into those that tell rows apart and those of a row."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fgrad.compile.lower.axes import Atom, Layout, flat, leaves, size_of, split
from fgrad.compile.lower.cluster import Cluster
from fgrad.compile.lower.items import Item
from fgrad.core.ir import Var

_LONG = 2**16  # elements that are reduced by several threads
_ROW = 512  # elements of their rows, at most: an accumulating thread takes 64 rows at least


class Rows(NamedTuple):
    """The axes of a kernel: kept outer ones, accumulated ones, those of a row.

    `free` are axes of a row that its scans leave out; they come last. `backward` are axes that are
    walked from their end.
    """

    kept: list[Atom]
    across: list[Atom]
    inner: list[Atom] | None
    free: Sequence[Atom] = ()
    backward: Sequence[Atom] = ()


def divided(cluster: Cluster, items: Mapping[Var, Item], needed: Collection[Var]) -> Rows:
    """The axes of a cluster's kernel.

    Args:
        cluster: The cluster.
        items: The equations of it that are computed, by their results.
        needed: The values that are stored.
    """
    walks = [cluster.walks[v] for v in items]
    domain = list(dict.fromkeys(a for w in walks for a in flat(w)))
    order = _order(cluster, domain, needed)
    reduced = {v: leaves(cluster.reduced[v]) for v in items if v in cluster.reduced}
    sets = list(dict.fromkeys(frozenset(r) for r in reduced.values() if r))
    inner = cluster.inner
    row = frozenset(order).intersection(leaves(inner or ()))
    scanned = next((leaves(cluster.scanned[v]) for v in items if v in cluster.scanned), None)
    if scanned is not None:
        whole = all(len(flat(w)) == len(order) for w in walks)
        rows = _of_scans(order, scanned, sets, whole)
        return rows._replace(backward=scanned) if cluster.backward else rows
    if not row and not sets:
        return Rows(order, [], None)
    if inner is None:
        row = _choose(order, sets)
        if len(row) == len(order) and size_of(order) > _LONG:
            row = _tail(order)
            order = leaves(order)
            sets = [frozenset(order)]
    across = frozenset[Atom]().union(*(s - row for s in sets if row <= s or not s & row))
    return Rows(
        [a for a in order if a not in row and a not in across],
        [a for a in order if a in across],
        [a for a in order if a in row],
    )


def _of_scans(
    order: list[Atom], row: list[Atom], sets: Sequence[frozenset[Atom]], whole: bool
) -> Rows:
    """Rows along the axes that are scanned, in their order.

    Where those are not the fastest, and nothing else depends on what a row is, the axes after them
    are part of a row too, so that it is walked in the order of memory.
    """
    across = frozenset[Atom]().union(*(s - set(row) for s in sets))
    free: list[Atom] = []
    if whole and not sets:
        after = 1 + max(order.index(a) for a in row)
        free = order[after:]
    return Rows(
        [a for a in order if a not in row and a not in across and a not in free],
        [a for a in order if a in across],
        row,
        free,
    )


def _order(cluster: Cluster, domain: list[Atom], needed: Collection[Var]) -> list[Atom]:
    """The atoms so that most of memory is walked in its own order."""
    weights: dict[Atom, int] = {}
    longest: dict[Atom, list[Atom]] = {}
    for var, layout in _arrays(cluster, needed):
        atoms = flat(layout)
        if atoms:
            last = atoms[-1]
            weights[last] = weights.get(last, 0) + var.aval.size
            if len(atoms) > len(longest.get(last, ())):
                longest[last] = atoms
    if not weights:
        return domain
    last = max(weights, key=lambda a: weights[a])
    end = [a for a in longest[last] if a in set(domain)]
    return [a for a in domain if a not in set(end)] + end


def _arrays(cluster: Cluster, needed: Collection[Var]) -> Iterable[tuple[Var, Layout]]:
    for var in needed:
        yield var, cluster.layouts[var]
    for var, layouts in cluster.reads.items():
        for layout in layouts:
            if layout is not None and None not in layout:
                yield var, layout


def _tail(order: list[Atom]) -> frozenset[Atom]:
    """A row for a reduction over everything: short enough that there are rows for all threads."""
    row: list[Atom] = []
    size = 1
    for a in reversed(order):
        most = _ROW // size
        part = next(d for d in range(min(most, a.size), 0, -1) if a.size % d == 0)
        if part < a.size:
            if part > 1:
                row.append(split(a, part)[1])
            break
        row.append(a)
        size *= part
    return frozenset(row or order)


def _choose(order: list[Atom], sets: Sequence[frozenset[Atom]]) -> frozenset[Atom]:
    """The atoms of a row, where nothing but the order of memory asks for any."""
    last = order[-1]
    if len(sets) == 1:
        (only,) = sets
        if last in only:
            return only
        row = []
        for a in reversed(order):
            if a in only:
                break
            row.append(a)
        return frozenset(row)
    one, two = sorted(sets, key=len)
    if last in two - one:
        return two - one
    return one
