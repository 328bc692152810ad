"""The partition of a program into kernels and library steps: greedy, in program order.

Each equation starts as a cluster of its own and is merged with the clusters of what it reads, then
with clusters that read the same; never if that would make a cycle.
"""

from collections.abc import Iterator
from math import prod

import numpy as np

from fgrad.compile.lower.axes import Layout, fresh
from fgrad.compile.lower.cluster import Cluster, Join, Library, Merge, Node
from fgrad.compile.lower.complex import halves, is_complex
from fgrad.compile.lower.indexed import is_check
from fgrad.compile.lower.items import JOIN, LIBRARY, PAIR, POINTWISE, REDUCE, VIEW, Item
from fgrad.compile.lower.nested import can_read
from fgrad.compile.lower.program import Access, Program, accesses
from fgrad.compile.lower.strided import Strided, strided
from fgrad.compile.plan import contiguous
from fgrad.compile.sizes import Filled, is_sized
from fgrad.core.ir import Atom, Literal, Var
from fgrad.core.primitive import Lowering

_SIBLINGS = 3  # clusters looked at, among those that read the same value


class Partition:
    """The nodes of a program.

    Attributes:
        owner: The node that makes each variable.
        nodes: Of those that were created, what each is by now.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.owner: dict[Var, Node] = {}
        self.nodes: list[Node] = []
        self.readers: dict[Var, list[Node]] = {}
        self._effect: Node | None = None
        self._merged: dict[Node, Node] = {}
        for position, item in enumerate(program.items):
            if item.form == LIBRARY:
                self._library(position, item)
            elif item.form == JOIN:
                self._join(position, item)
            elif item.form not in (VIEW, PAIR):
                self._cluster(position, item)
        for atom in program.results:
            if type(atom) is Var:
                program.keep(atom)
        self._write_views()

    def find(self, node: Node) -> Node:
        """What a node is by now."""
        merged = self._merged
        while (into := merged.get(node)) is not None:
            node = into
        return node

    def alive(self) -> Iterator[Node]:
        """The nodes that were not merged into others."""
        return (n for n in self.nodes if n not in self._merged)

    def unlink(self) -> None:
        """Drop the edges between nodes, which hold each other in cycles."""
        for node in self.nodes:
            node.direct.clear()
            node.after.clear()

    def _write_views(self) -> None:
        """Give nodes to views that have to be in memory."""
        pending = self.program.pending
        while pending:
            var = pending.pop()
            if var not in self.owner:
                self._view(var)

    def _view(self, var: Var) -> None:
        program = self.program
        if var in program.pairs:
            self._pair(var)
            return
        position, out = program.made[var]
        item = program.items[position]
        walk = fresh(var.aval.shape)
        found: list[Access] = []
        below, layout = program.through(item.eqn, out, walk, found)
        program.trace(below, layout, found)
        self._start(position, item, var, walk, [a for a in found if a.base is not var])

    def _cluster(self, position: int, item: Item) -> None:
        eqn = item.eqn
        var = eqn.outputs[0]
        walk = fresh((eqn.inputs[0] if item.form == REDUCE else var).aval.shape)
        found = accesses(self.program, item, walk)
        self._start(position, item, var, walk, found)

    def _start(
        self, position: int, item: Item, var: Var, walk: Layout, found: list[Access]
    ) -> None:
        # The nodes of these come first: what they make is about to be read.
        missing = [a.base for a in found if a.base in self.program.stored]
        for base in missing:
            if base not in self.owner:
                self._view(base)
        me = Cluster(len(self.nodes), item.eqn)
        me.add(position, item, var, walk, found)
        self.nodes.append(me)
        self.owner[var] = me
        self._depend(me, [a.base for a in found])
        me = self._join_producers(me, found)
        me = self._join_siblings(me, found)
        for access in found:
            if access.layout is not None:
                self.readers.setdefault(access.base, []).append(me)

    def _join(self, position: int, item: Item) -> None:
        """Have the parts of a concatenation stored straight into it, by kernels that make them."""
        eqn, whole = item.eqn, item.eqn.outputs[0]
        pieces: list[tuple[Atom, int]] = []
        first = 0
        step = prod(whole.aval.shape[eqn.params["dimension"] + 1 :])
        for a in eqn.inputs:
            if is_complex(a):
                pair = halves(self.program, a, item.origin)
                pieces += [(part, 2 * first * step + k) for k, part in enumerate(pair)]
            else:
                pieces.append((a, first * step))
            first += a.aval.shape[eqn.params["dimension"]]
        self._store_parts(position, item, whole, pieces)

    def _pair(self, var: Var) -> None:
        """Have the parts of a complex value stored beside each other."""
        position, _ = self.program.made[var]
        pieces = [(part, k) for k, part in enumerate(self.program.halves[var])]
        if var in self.program.floats:
            pieces = [(self.program.floats[var], 0)]
        self._store_parts(position, self.program.items[position], var, pieces)

    def _store_parts(
        self, position: int, item: Item, whole: Var, pieces: list[tuple[Atom, int]]
    ) -> None:
        """Have parts stored into a whole, each from its first element on."""
        program, parts = self.program, []
        for a, first in pieces:
            if not a.aval.size and whole.aval.size:
                continue
            part = Var(a.aval)
            parts.append(part)
            program.parts[part] = (whole, first)
            copy = item.eqn.replace(inputs=(a,), outputs=(part,))
            self._cluster(position, Item(copy, item.origin, POINTWISE, "x", ("x",)))
        homes = {self.find(self.owner[p]) for p in parts}
        home = homes.pop()
        if not homes and isinstance(home, Cluster):
            home.joins[whole] = tuple(parts)
            self.owner[whole] = home
            return
        node = self.owner[whole] = Join(len(self.nodes), position, whole, parts)
        self.nodes.append(node)
        self._depend(node, parts)

    def _library(self, position: int, item: Item) -> None:
        program, eqn = self.program, item.eqn
        inputs: list[Literal | Strided] = []
        lower = eqn.primitive.lower
        may_be_filled = lower.filled if isinstance(lower, Lowering) else ()
        for i, a in enumerate(eqn.inputs):
            if isinstance(a, Literal):
                inputs.append(a)
                continue
            filled = _filled(program, a) if i in may_be_filled else None
            if filled is not None:
                inputs.append(filled)
                continue
            view = strided(program, a)
            if view is None or not can_read(eqn, i, view.strides):
                program.keep(a)
                view = Strided(a, 0, contiguous(a.aval.shape))
            inputs.append(view)
        self._write_views()
        node = Library(len(self.nodes), position, item, inputs)
        self.nodes.append(node)
        self.owner.update(dict.fromkeys(eqn.outputs, node))
        self._depend(node, [v.base for v in inputs if isinstance(v, Strided)])
        if eqn.effects or is_check(eqn):
            if self._effect is not None:
                self._link(node, self._effect)
            self._effect = node

    def _depend(self, node: Node, bases: list[Var]) -> None:
        for base in bases:
            owner = self.owner.get(base)
            if owner is not None:
                self._link(node, self.find(owner))

    def _link(self, node: Node, before: Node) -> None:
        node.direct.add(before)
        before.after.add(node)
        node.up |= before.up | before.mask

    # ------------------------------------------------------------------------ merging

    def _join_producers(self, me: Cluster, found: list[Access]) -> Cluster:
        owners = [self.find(self.owner[a.base]) for a in found if a.base in self.owner]
        for other in sorted(dict.fromkeys(owners), key=lambda n: -n.last):
            me = self._try(other, me, related=True)
        return me

    def _join_siblings(self, me: Cluster, found: list[Access]) -> Cluster:
        for base, layout, _ in found:
            if layout is None or base.aval.size < me.size:
                continue
            nodes = dict.fromkeys(map(self.find, reversed(self.readers.get(base, ()))))
            for other in list(nodes)[:_SIBLINGS]:
                me = self._try(other, me, related=False)
        return me

    def _try(self, other: Node, b: Cluster, *, related: bool) -> Cluster:
        """What `b` is after an attempt to merge it with another."""
        a = self.find(other)  # it may have been merged since it was listed
        if not isinstance(a, Cluster) or a is b or self._between(a, b):
            return b
        if b.after and self._between(b, a):  # else nothing needs `b`
            return b
        merge = Merge(a, b, related=related)
        while merge.refined:
            merge = Merge(a, b, related=related)
        if not merge.possible:
            return b
        before = a.up & b.up
        merge.commit()
        self._merged[b] = a
        a.direct = {n for n in map(self.find, a.direct) if n is not a}
        a.after = {n for n in map(self.find, a.after) if n is not a}
        if a.up & ~before:
            self._spread(a)
        return a

    def _between(self, first: Cluster, last: Cluster) -> bool:
        """Whether `last` needs something else that needs `first`."""
        for node in last.direct:
            node = self.find(node)
            if node is not first and node is not last and node.up & first.mask:
                return True
        return False

    def _spread(self, a: Cluster) -> None:
        """Tell the nodes after `a` what now comes before them."""
        known, waiting = a.up | a.mask, list(a.after)
        while waiting:
            node = self.find(waiting.pop())
            if known & ~node.up:
                node.up |= known
                waiting += node.after


def _filled(program: Program, atom: Atom) -> Literal | None:
    """An array that is the same number everywhere, as an array without memory; None for others."""
    aval, view = atom.aval, program.view_of(atom)
    while view is not None and view[0].primitive.lower.data in ("broadcast", "reshape"):  # type: ignore[union-attr]
        source = view[0].inputs[0]
        if isinstance(source, Literal):
            if is_sized(source.value, *aval.shape):
                return Literal(Filled(source.value), aval)
            value = np.asarray(source.value, aval.dtype)
            return Literal(np.broadcast_to(value, aval.shape), aval)
        view = program.view_of(source)
    return None
