"""A program ready to be lowered: what each equation is, and what each view shows."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fgrad.compile.lower.axes import Layout
from fgrad.compile.lower.complex import is_complex, split
from fgrad.compile.lower.indexed import (
    columns_of,
    is_check,
    is_gather,
    joined,
    layout_of,
    look_up,
    traced_back,
)
from fgrad.compile.lower.items import (
    JOIN,
    LIBRARY,
    POINTWISE,
    RANDOM,
    REDUCE,
    SCAN,
    VIEW,
    Equations,
    Item,
)
from fgrad.compile.lower.scalars import (
    Supports,
    computed,
    expression,
    is_supported,
    part_dtype,
    scan_dtype,
    scans,
)
from fgrad.compile.lower.strided import Strided, strided
from fgrad.compile.lower.views import PARTS, Inexpressible, down, is_regular
from fgrad.compile.plan import contiguous
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.primitive import Absent, Lowering
from fgrad.core.transforms.jaxprs import stage_derived

_MONOIDS = {"+": "add", "*": "mul", "max": "max", "min": "min", "&": "and", "|": "or", "^": "xor"}


Keeps = Callable[[Eqn], bool]


def is_nothing_kept(_eqn: Eqn) -> bool:
    """That a backend has no code of its own for an equation that others can take the place of."""
    return False


class Access(NamedTuple):
    """A value that is read.

    Attributes:
        base: The value.
        layout: How it is walked; None where atoms do not tell.
        memory: Whether it is read from memory. Else it is a view, part of what is read there, and
            tells who walks that part alike.
    """

    base: Var
    layout: Layout | None
    memory: bool = True


class Program(Equations):
    """The equations of a jaxpr, classified; rows of composed primitives written out.

    Attributes:
        parts: For each part of a concatenation, the whole, and the part's first element in it.
        drawn: Of values that were asked for, whether they are made of random bits.
        keeps: The equations that are steps, though others could take their place.
        sources: Where the operands of gathers lie, by result.
    """

    def __init__(self, jaxpr: Jaxpr, supports: Supports, keeps: Keeps = is_nothing_kept) -> None:
        super().__init__()
        self.jaxpr, self.supports, self.keeps = jaxpr, supports, keeps
        self.parts: dict[Var, tuple[Var, int]] = {}
        self.drawn: dict[Var, bool] = {}
        self.sources: dict[Var, Strided] = {}
        for origin, eqn in enumerate(jaxpr.eqns):
            self.add(eqn, origin, supports)
        self.results = [self.read(a) for a in jaxpr.outvars]

    def add(self, eqn: Eqn, origin: int, supports: Supports) -> None:
        """Take in an equation, or what it is composed of."""
        if self.renamed:
            eqn = eqn.reading(tuple(map(self.read, eqn.inputs)))
        atoms = (*eqn.inputs, *eqn.outputs)
        composed = is_composed(eqn) and _holds(eqn.inputs) and not self.keeps(eqn)
        if (
            not (composed and is_gather(eqn))
            and any(map(is_complex, atoms))
            and split(self, eqn, origin, supports, lambda e: self.add(e, origin, supports))
        ):
            return
        if composed:
            self._expand(eqn, origin, supports)
            return
        item = classify(eqn, origin, supports)
        before = self._before(item)
        if before is not None:
            self.renamed[eqn.outputs[0]] = before
            return
        if is_check(eqn):
            item = item._replace(eqn=traced_back(self, eqn))
        elif item.form == VIEW and is_gather(eqn):
            look_up(self, eqn, origin)
            return
        self.put(item)

    def _before(self, item: Item) -> Atom | None:
        """The value that a view gives back: one that was reshaped, or joined to others."""
        eqn = item.eqn
        if item.form == VIEW and eqn.primitive.lower.data == "slice":  # type: ignore[union-attr]
            old, new = eqn.inputs[0].aval.shape, eqn.outputs[0].aval.shape
            cut = [i for i, (m, n) in enumerate(zip(old, new, strict=True)) if m != n]
            parts = joined(self, eqn.inputs[0], cut[0]) if len(cut) == 1 else None
            return (
                parts[eqn.params["start_indices"][cut[0]]] if parts and new[cut[0]] == 1 else None
            )
        return self._unreshaped(item)

    def _unreshaped(self, item: Item) -> Atom | None:
        """The value of which a reshape gives the shape back."""
        shape = item.eqn.outputs[0].aval.shape if item.eqn.outputs else ()
        while item.form == VIEW and item.eqn.primitive.lower.data == "reshape":  # type: ignore[union-attr]
            atom = item.eqn.inputs[0]
            if atom.aval.shape == shape:
                return atom
            made = self.made.get(atom) if type(atom) is Var else None
            if made is None:
                return None
            item = self.items[made[0]]
        return None

    def _expand(self, eqn: Eqn, origin: int, supports: Supports) -> None:
        """Put the equations that a primitive is composed of in its place."""
        avals = tuple(a.aval for a in eqn.inputs)
        body = _composed(eqn.primitive, avals, tuple(eqn.params.items()))
        env: dict[Var, Atom] = dict(zip(body.invars, eqn.inputs, strict=True))

        def read(a: Atom) -> Atom:
            return env[a] if type(a) is Var else a

        for inner in body.eqns:
            outputs = tuple(Var(v.aval) for v in inner.outputs)
            inputs = tuple(read(a) for a in inner.inputs)
            env.update(zip(inner.outputs, outputs, strict=True))
            new = inner.replace(
                inputs=inputs, outputs=outputs, source=eqn.source, phase=eqn.phase,
                pullback=eqn.pullback,
            )  # fmt: skip
            self.add(new, origin, supports)
        for v, out in zip(eqn.outputs, body.outvars, strict=True):
            self.renamed[v] = self.read(read(out))

    def trace(self, atom: Atom | None, layout: Layout | None, found: list[Access]) -> None:
        """Add what is read where `atom` is, through views, to `found`."""
        while True:
            if type(atom) is not Var:
                return
            view = None if atom in self.stored else self.view_of(atom)
            if view is None:
                found.append(Access(atom, layout))
                return
            atom, layout = self.through(*view, layout, found)

    def through(
        self, eqn: Eqn, out: int, layout: Layout | None, found: list[Access]
    ) -> tuple[Atom | None, Layout | None]:
        """The operand of a view and its layout; other operands are added to `found`."""
        if not eqn.inputs:
            return None, None
        if is_gather(eqn):
            if layout is not None and None not in layout:
                found.append(Access(eqn.outputs[out], layout, memory=False))
            for column in columns_of(eqn):
                self.trace(column, layout_of(eqn, column, layout), found)
            found.append(Access(self._source(eqn).base, None))
            return None, None
        for other in eqn.inputs[1:]:
            self.trace(other, [], found)
        operand = eqn.inputs[0]
        if layout is not None:
            above, layout = layout, down(eqn, out, layout)
            if (layout is None or None in layout) and None not in above:
                found.append(Access(eqn.outputs[out], above, memory=False))
        if layout is None:
            self.keep(operand)
        return operand, layout

    def _source(self, eqn: Eqn) -> Strided:
        """Where the operand of a gather lies, which is in memory from now on."""
        operand, out = eqn.inputs[0], eqn.outputs[0]
        assert type(operand) is Var
        found = self.sources.get(out)
        if found is None:
            found = strided(self, operand, floats=True)
            if found is None:
                self.keep(operand)
                found = Strided(operand, 0, contiguous(operand.aval.shape))
            self.sources[out] = found
        return found


@lru_cache(1024)
def _composed(prim: Any, avals: Any, params: Any) -> Jaxpr:
    def run(*args: Any) -> Any:
        out = prim.lower.decompose(*args, **dict(params))
        return out if prim.multiple_results else [out]

    return stage_derived(run, avals)


def _holds(atoms: Sequence[Atom]) -> bool:
    """Whether kernels can hold values of these dtypes, or their parts."""
    return all(computed(part_dtype(a.aval.dtype)) is not None for a in atoms)


def is_composed(eqn: Eqn) -> bool:
    """Whether other primitives take the place of an equation's."""
    lower = eqn.primitive.lower
    if not isinstance(lower, Lowering) or lower.decompose is None:
        return False
    if lower.when is not None:
        return lower.when([a.aval for a in eqn.inputs], eqn.params)
    if lower.kind == VIEW:
        return not is_regular(eqn)
    if lower.kind == REDUCE and lower.data in _MONOIDS:
        return is_complex(eqn.inputs[0])
    return lower.kind != POINTWISE or isinstance(expression(eqn), Absent)


def classify(eqn: Eqn, origin: int, supports: Supports) -> Item:
    """What an equation is to the compiler."""
    library = Item(eqn, origin, LIBRARY)
    lower = eqn.primitive.lower
    atoms = (*eqn.inputs, *eqn.outputs)
    if not isinstance(lower, Lowering) or eqn.effects:
        return library
    if any(type(a) is Literal and a.aval.shape for a in eqn.inputs):
        return library
    types = [computed(a.aval.dtype) for a in atoms]
    if any(t is None for t in types):  # not `None in`: float64 equals None
        return library
    if lower.kind == VIEW:
        if lower.data == "concatenate":
            return Item(eqn, origin, JOIN)
        return Item(eqn, origin, VIEW) if is_regular(eqn) else library
    if lower.kind == REDUCE and lower.data in _MONOIDS:
        if not eqn.params["axes"]:
            return Item(eqn, origin, POINTWISE, "x", ("x",))
        monoid = _MONOIDS[lower.data]
        if eqn.inputs[0].aval.dtype.kind == "b":
            monoid = {"max": "or", "min": "and"}.get(monoid, monoid)
        return Item(eqn, origin, REDUCE, monoid)
    if lower.kind != POINTWISE:
        return _scanned(library, supports) if lower.kind == SCAN else library
    scalar = expression(eqn)
    if isinstance(scalar, Absent):
        return library
    expr, names = scalar
    known: Any = dict(zip(names, types, strict=False))
    if not is_supported(expr, known, types[-1], supports):  # type: ignore[arg-type]
        return library
    return Item(eqn, origin, POINTWISE, expr, names)


def _scanned(item: Item, supports: Supports) -> Item:
    """What a scan is: there is nothing to it along an axis of one element."""
    eqn, monoid = item.eqn, item.eqn.primitive.lower.data  # type: ignore[union-attr]
    (x,) = eqn.inputs
    if x.aval.shape[eqn.params["axis"]] == 1:
        return Item(eqn, item.origin, POINTWISE, "x", ("x",))
    dtype = computed(x.aval.dtype)
    assert dtype is not None
    known = scans(monoid, scan_dtype(monoid, dtype), supports)
    return Item(eqn, item.origin, SCAN, monoid) if known else item


def ends(program: Program, atom: Atom) -> set[Var]:
    """The values in which views end."""
    out: set[Var] = set()
    waiting = [atom]
    while waiting:
        a = waiting.pop()
        view = program.view_of(a)
        if view is not None:
            waiting += view[0].inputs
        elif type(a) is Var:
            out.add(a)
    return out


def is_plain(program: Program, atom: Atom) -> bool:
    """Whether every view on the way to memory is affine at any index: there is no reshape."""
    while (view := program.view_of(atom)) is not None:
        eqn = view[0]
        if eqn.primitive.lower.data not in _PLAIN:  # type: ignore[union-attr]
            return False
        atom = eqn.inputs[0]
    return True


_PLAIN = frozenset(("broadcast", "transpose", "identity", "slice", "rev", *PARTS))
_FEW = 64  # a value is large beside one that has this many times fewer elements


def is_drawn(program: Program, var: Var) -> bool:
    """Whether a value is made of random bits, element by element, and of small values."""
    known, waiting = program.drawn, [var]  # no recursion: chains are as long as programs
    while waiting:
        v = waiting[-1]
        sources = None if v in known else _sources(program, v)
        if sources is not None:
            found = [known.get(s) for s in sources]
            if None in found and False not in found:
                waiting.append(sources[found.index(None)])
                continue
            known[v] = False not in found and (bool(sources) or _is_random(program, v))
        known.setdefault(waiting.pop(), False)
    return known[var]


def _is_random(program: Program, var: Var) -> bool:
    """Whether an equation that draws random bits makes a value."""
    item = program.items[program.made[var][0]]
    lower = program.jaxpr.eqns[item.origin].primitive.lower
    return isinstance(lower, Lowering) and lower.kind == RANDOM


def _sources(program: Program, var: Var) -> list[Var] | None:
    """The operands that are not small; None of what is not made element by element."""
    made = program.made.get(var)
    if made is None or program.items[made[0]].form != POINTWISE:
        return None
    try:
        read = [_element(program, a) for a in program.items[made[0]].eqn.inputs]
    except Inexpressible:
        return None
    return [v for v in read if v is not None and v.aval.size * _FEW > var.aval.size]


def _element(program: Program, atom: Atom) -> Var | None:
    """The value in which views end that show an element of it at any index; None of numbers."""
    while (view := program.view_of(atom)) is not None:
        eqn = view[0]
        if not eqn.inputs:
            return None
        below = eqn.inputs[0]
        if eqn.primitive.lower.data == "reshape":  # type: ignore[union-attr]
            source = program.view_of(below)
            wide = [[n for n in a.aval.shape if n != 1] for a in (atom, below)]
            if wide[0] != wide[1] and (source is None or source[0].inputs):  # no iota
                raise Inexpressible
        elif eqn.primitive.lower.data not in _PLAIN:  # type: ignore[union-attr]
            raise Inexpressible
        atom = below
    return atom if type(atom) is Var else None


def aligned(layout: Layout, shape: Sequence[int], full: Sequence[int]) -> Layout:
    """The layout of an operand that broadcasts to a shape, from that of the result."""
    extra = len(full) - len(shape)
    return [layout[i + extra] if n == full[i + extra] else [] for i, n in enumerate(shape)]


def accesses(program: Program, item: Item, layout: Layout) -> list[Access]:
    """What an equation reads, if its elements are traversed by a layout.

    The layout is that of the result, of a reduction that of its operand.
    """
    found: list[Access] = []
    eqn = item.eqn
    if item.form == REDUCE:
        program.trace(eqn.inputs[0], layout, found)
    else:
        full = eqn.outputs[0].aval.shape
        for a in eqn.inputs:
            if type(a) is Var:
                program.trace(a, aligned(layout, a.aval.shape, full), found)
    return found
