"""What the kernel of a cluster depends on, with numbers in the places of values and atoms.

Equal blocks of a network have clusters of one signature; their kernels are written once.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fgrad.compile.lower.axes import Atom, Layout, leaves
from fgrad.compile.lower.cluster import Cluster
from fgrad.compile.lower.indexed import is_gather
from fgrad.compile.lower.items import VIEW, Item
from fgrad.compile.lower.program import Program
from fgrad.core.ir import Atom as Value
from fgrad.core.ir import Eqn, Var


def signature_of(
    program: Program, cluster: Cluster, needed: Sequence[Var], again: Callable[[Var], bool]
) -> "Signature | None":
    """The signature of a cluster; None where nothing tells it from others.

    Args:
        program: The program.
        cluster: The cluster.
        needed: Values made in it, in the order in which they are stored.
        again: Whether a value that others make is better computed once more than read.
    """
    found = Signature(program, cluster, needed, again)
    return found if found.complete else None


class Signature:
    """The signature of a cluster, of which some values are needed.

    Everything that is written into a kernel is found from the equations of the cluster, the views
    that they read through, and the equations that are rather computed again: each value met on
    that way is described once, in the order in which they are met.

    Attributes:
        key: Equal for clusters with the same kernel, but for its equations' positions.
        values: The value behind each number.
        keep: What must live as long as the key: it tells expressions apart by their identity.
        complete: Whether everything could be put in it.
    """

    def __init__(
        self,
        program: Program,
        cluster: Cluster,
        needed: Sequence[Var],
        again: Callable[[Var], bool],
    ) -> None:
        self.program, self.cluster, self.again = program, cluster, again
        self.complete = True
        self.values: list[Var] = []
        self.keep: list[Any] = []
        self.numbers: dict[Var, int] = {}
        self._atoms: dict[Atom, int] = {}
        self._words: list[Any] = []
        self._write(needed)
        self.key = (tuple(self._words), tuple(a.size for a in self._atoms))

    def _write(self, needed: Sequence[Var]) -> None:
        words, cluster = self._words, self.cluster
        words += (tuple(map(self._number, needed)), cluster.backward)
        for _, item in cluster.items:
            self._item(item)
        words.append(len(cluster.reads))
        for var, layouts in cluster.reads.items():
            words += (self._number(var), tuple(map(self._layout, layouts)))
        words.append(None if cluster.inner is None else self._numbers(cluster.inner))
        done = 0
        while done < len(self.values):
            self._describe(self.values[done])
            done += 1

    def _number(self, value: Value) -> Any:
        """The number of a variable; of a literal what tells it from others."""
        if type(value) is not Var:
            if value.aval.shape:
                self.complete = False
            return value.key  # type: ignore[union-attr]
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.values)
            self.values.append(value)
        return found

    def _item(self, item: Item) -> None:
        eqn, expr = item.eqn, item.expr
        if isinstance(expr, tuple):
            self.keep.append(expr)
            expr = id(expr)  # hashing a tree takes long where parts of it are shared
        self._words += (
            eqn.primitive, item.form, expr, tuple(item.names),
            tuple(map(self._number, eqn.inputs)), tuple(map(self._number, eqn.outputs)),
        )  # fmt: skip

    def _describe(self, var: Var) -> None:
        """Say what a value is: its type, where it lies, and what it is made of."""
        program, cluster, words = self.program, self.cluster, self._words
        view, memory = program.view_of(var), var in cluster.memory
        words += (var.aval.shape, var.aval.dtype, memory)
        part = program.parts.get(var)
        words.append(part and (self._number(part[0]), part[1]))
        if var in cluster.layouts:
            self._made(var)
        elif (view is None or memory) and self.again(var):
            self._item(program.items[program.made[var][0]])
        else:
            words.append(None)
        if view is not None:
            eqn, out = view
            words += (VIEW, eqn.primitive, out, self._params(eqn))
            words.append(tuple(map(self._number, eqn.inputs)))
            if is_gather(eqn):
                source = program.sources[eqn.outputs[0]]
                words += (self._number(source.base), source.offset, source.strides)

    def _params(self, eqn: Eqn) -> Any:
        found = tuple(eqn.params.items())
        try:
            hash(found)
        except TypeError:
            self.complete = False
            return None
        return found

    def _made(self, var: Var) -> None:
        cluster = self.cluster
        layout, walk = cluster.layouts[var], cluster.walks[var]
        found = self._layout(layout)
        self._words += (
            found,
            found if walk is layout else self._layout(walk),
            self._numbers(cluster.reduced[var]) if var in cluster.reduced else None,
            self._numbers(cluster.scanned[var]) if var in cluster.scanned else None,
        )

    def _layout(self, layout: Layout | None) -> Any:
        if layout is None:
            return None
        return tuple(None if axis is None else self._numbers(axis) for axis in layout)

    def _numbers(self, atoms: Iterable[Atom]) -> tuple[int, ...]:
        known = self._atoms
        return tuple(known.setdefault(a, len(known)) for a in leaves(atoms))
