"""The equations of a program that is to be lowered, each with what it is to the compiler."""

from collections.abc import Sequence
from typing import NamedTuple

from fgrad.core.ir import Atom, Eqn, Var
from fgrad.core.scalar import Expr

POINTWISE, REDUCE, VIEW, LIBRARY = "pointwise", "reduce", "view", "library"
SCAN = "scan"
PAIR = "pair"  # a complex value, of which the parts are values of their own
RANDOM = "random"
JOIN = "join"  # a concatenation: its parts are stored straight into it


class Item(NamedTuple):
    """An equation and what it is.

    Attributes:
        eqn: The equation.
        origin: Its position in the program that was given.
        form: POINTWISE, REDUCE, SCAN, VIEW, JOIN, PAIR or LIBRARY.
        expr: Of POINTWISE: the scalar expression; of REDUCE and SCAN: the monoid.
        names: Of POINTWISE: the operands' names in it.
    """

    eqn: Eqn
    origin: int
    form: str
    expr: Expr = None
    names: Sequence[str] = ()


class Equations:
    """Equations in order, and what is known of their results.

    Attributes:
        items: One an equation.
        made: For each variable, the position of its equation and which result it is.
        renamed: Variables that were found to be other values.
        halves: Of complex values, the real and the imaginary part.
        pairs: Those of them that are not in memory unless somebody needs them there.
        floats: Of complex values that were looked up, the floats, along one more axis.
        stored: Views that are written to memory, because a step needs them there.
        pending: Those of them that nobody has taken care of yet.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.made: dict[Var, tuple[int, int]] = {}
        self.renamed: dict[Var, Atom] = {}
        self.halves: dict[Var, tuple[Atom, Atom]] = {}
        self.pairs: set[Var] = set()
        self.floats: dict[Var, Var] = {}
        self.stored: set[Var] = set()
        self.pending: list[Var] = []

    def read(self, atom: Atom) -> Atom:
        """The atom itself, or what it was found to be."""
        return self.renamed.get(atom, atom) if type(atom) is Var else atom

    def put(self, item: Item) -> None:
        """Take in an item."""
        for k, v in enumerate(item.eqn.outputs):
            self.made[v] = (len(self.items), k)
        self.items.append(item)

    def pair(self, eqn: Eqn, origin: int, *parts: tuple[Atom, Atom], view: bool = False) -> None:
        """Take in an equation with complex results, of which these are the parts."""
        self.halves.update(zip(eqn.outputs, parts, strict=True))
        self.pairs.update(eqn.outputs)
        self.put(Item(eqn, origin, VIEW if view else PAIR))

    def view_of(self, atom: Atom) -> tuple[Eqn, int] | None:
        """The equation that makes a view, and which of its results it is; None of other values."""
        made = self.made.get(atom) if type(atom) is Var else None
        if made is None:
            return None
        item = self.items[made[0]]
        return (item.eqn, made[1]) if item.form == VIEW else None

    def keep(self, atom: Atom) -> None:
        """Have a view, or a complex value that is known by its parts, written to memory."""
        absent = self.view_of(atom) is not None or atom in self.pairs
        if absent and atom not in self.stored:
            self.stored.add(atom)  # type: ignore[arg-type]
            self.pending.append(atom)  # type: ignore[arg-type]
