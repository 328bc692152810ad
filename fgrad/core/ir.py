"""The jaxpr: the one program representation that users see.

A jaxpr is a list of equations in single-assignment form over typed variables::

    Var      a typed name, written once
    Literal  a scalar constant
    Eqn      outputs = primitive[params] inputs, with the user's line and its phase
    Jaxpr    invars, constvars (closed-over arrays), eqns, outvars
    ClosedJaxpr   a jaxpr with the values of its constvars

Programs are immutable and compared by identity.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.primitive import Primitive
from fgrad.core.where import Where


class Var:
    """A typed variable. Identity is its name; the printer numbers it."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Var({self.aval})"


class Literal:
    """A constant: a scalar, or in programs derived from others an array.

    Attributes:
        value: The buffer.
        aval: Its type.
        key: Equal for equal constants.
    """

    __slots__ = ("aval", "key", "value")

    def __init__(self, value: Any, aval: ShapedArray) -> None:
        self.value = value
        self.aval = aval
        # Bits, not ==: 0.0 and -0.0 are two constants, and a NaN equals itself.
        same = id(value) if aval.shape else value.tobytes()
        self.key = (same, aval.dtype, aval.weak_type, aval.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return Literal, (self.value, self.aval)

    def __repr__(self) -> str:
        if self.aval.shape:
            return f"const:{self.aval}"
        if self.aval.dtype.kind == "b":
            text = str(bool(self.value))
        elif self.aval.dtype.kind == "V":
            text = str(float(self.value)) if self.aval.dtype.names is None else "0"
        else:
            text = str(self.value.item())
        return f"{text}:{self.aval}"


Atom = Var | Literal


class Eqn:
    """One equation.

    Attributes:
        primitive: What is applied.
        inputs: Atoms.
        outputs: Variables, one a result.
        params: Static parameters; values are hashable, sub-programs are `Jaxpr`s.
        source: The user's line that asked for it, or None.
        phase: None, or the identity of the recomputation (see `checkpoint`) that it belongs to.
            Equations of different phases are never merged.
        pullback: None, or of an equation of a backward pass, or of the linear half of `linearize`:
            the identity of that pass, and whether a rule of the user's asked for it. It tells the
            compiler what is forward and what is backward; an equation that both need stands in the
            forward part.
    """

    __slots__ = ("inputs", "outputs", "params", "phase", "primitive", "pullback", "source")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Atom, ...],
        outputs: tuple[Var, ...],
        params: Mapping[str, Any],
        source: Where | None = None,
        phase: object = None,
        pullback: tuple[object, bool] | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.outputs = outputs
        self.params = params
        self.source = source
        self.phase = phase
        self.pullback = pullback

    @property
    def effects(self) -> frozenset[str]:
        """Names of the effects of the primitive and of the programs in its parameters."""
        if not self.primitive.calls:
            return frozenset(self.primitive.effects)
        found = set(self.primitive.effects)
        for sub in subjaxprs(self.params):
            found |= sub.effects
        return frozenset(found)

    def replace(self, **changes: Any) -> "Eqn":
        """A copy with some fields changed."""
        other = Eqn(
            self.primitive, self.inputs, self.outputs, self.params, self.source, self.phase,
            self.pullback,
        )  # fmt: skip
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def reading(self, inputs: tuple[Atom, ...]) -> "Eqn":
        """The equation with these inputs: itself, where they are its own."""
        return self if all(map(is_, inputs, self.inputs)) else self.replace(inputs=inputs)

    def __repr__(self) -> str:
        return _Printer().eqn(self, "")


class Jaxpr:
    """A program: ``lambda constvars ; invars. let eqns in outvars``.

    Attributes:
        key_uses: The random keys that a call uses up, where the user's function was traced; its
            caller says so (see `transforms.key_uses`). None where there is none.
    """

    __slots__ = (
        "__weakref__", "_axis_names", "_effects", "_last_uses", "constvars", "derived", "eqns",
        "invars", "key_uses", "outvars",
    )  # fmt: skip

    def __init__(
        self,
        invars: Sequence[Var],
        constvars: Sequence[Var],
        eqns: Sequence[Eqn],
        outvars: Sequence[Atom],
    ) -> None:
        self.invars = tuple(invars)
        self.constvars = tuple(constvars)
        self.eqns = tuple(eqns)
        self.outvars = tuple(outvars)
        self.key_uses: Any = None
        self.derived: dict[Any, Any] = {}  # programs made from this one, see transforms.jaxprs
        self._axis_names: frozenset[Any] | None = None
        self._effects: frozenset[str] | None = None
        self._last_uses: tuple[tuple[Var, ...], ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Jaxpr, (self.invars, self.constvars, self.eqns, self.outvars)

    @property
    def in_avals(self) -> list[ShapedArray]:
        """Types of the inputs."""
        return [v.aval for v in self.invars]

    @property
    def out_avals(self) -> list[ShapedArray]:
        """Types of the outputs."""
        return [v.aval for v in self.outvars]

    @property
    def effects(self) -> frozenset[str]:
        """Names of the effects of all equations."""
        if self._effects is None:
            self._effects = frozenset().union(*(e.effects for e in self.eqns))
        return self._effects

    @property
    def axis_names(self) -> frozenset[Any]:
        """The named axes that collectives of the program speak of."""
        if self._axis_names is None:
            self._axis_names = frozenset().union(*(axis_names(e.params) for e in self.eqns))
        return self._axis_names

    @property
    def last_uses(self) -> tuple[tuple[Var, ...], ...]:
        """For each equation, the variables that nobody reads after it."""
        if self._last_uses is None:
            seen = {v for v in self.outvars if isinstance(v, Var)}
            uses: list[tuple[Var, ...]] = []
            for eqn in reversed(self.eqns):
                touched = [v for v in (*eqn.inputs, *eqn.outputs) if isinstance(v, Var)]
                dead = tuple(dict.fromkeys(v for v in touched if v not in seen))
                seen.update(dead)
                uses.append(dead)
            self._last_uses = tuple(reversed(uses))
        return self._last_uses

    def count(self) -> int:
        """The number of equations, those of sub-programs included."""
        return sum(1 + sum(s.count() for s in subjaxprs(e.params)) for e in self.eqns)

    def __str__(self) -> str:
        return _Printer().jaxpr(self, "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html(self)

    def as_dot(self) -> str:
        """The program as a graph in Graphviz's DOT language."""
        return _dot(self)


class ClosedJaxpr:
    """A program with the values of its constants.

    Attributes:
        jaxpr: The program.
        consts: The value of each of its `constvars`.
    """

    __slots__ = ("__weakref__", "consts", "jaxpr")

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> None:
        self.jaxpr = jaxpr
        self.consts = list(consts)

    in_avals = property(lambda self: self.jaxpr.in_avals, doc="Types of the inputs.")
    out_avals = property(lambda self: self.jaxpr.out_avals, doc="Types of the outputs.")
    eqns = property(lambda self: self.jaxpr.eqns, doc="The equations.")
    effects = property(
        lambda self: self.jaxpr.effects, doc="Names of the effects of all equations."
    )

    def __str__(self) -> str:
        return str(self.jaxpr)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _html(self.jaxpr)

    def as_dot(self) -> str:
        """The program as a graph in Graphviz's DOT language."""
        return self.jaxpr.as_dot()


def subjaxprs(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """The programs among parameters, also within tuples."""
    for value in params.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Jaxpr):
                yield item


def axis_names(params: Mapping[str, Any]) -> frozenset[Any]:
    """The named axes of a collective's parameters, or of the programs among parameters."""
    names = params.get("axis_name", ())
    own = names if isinstance(names, tuple) else (names,)
    return frozenset(own).union(*(j.axis_names for j in subjaxprs(params)))


def _letters(n: int) -> str:
    name = ""
    while True:
        name = chr(97 + n % 26) + name
        n = n // 26 - 1
        if n < 0:
            return name


class _Printer:
    """Names variables a, b, … in the order in which they are met."""

    def __init__(self) -> None:
        self.names: dict[Var, str] = {}

    def name(self, atom: Atom) -> str:
        if isinstance(atom, Literal):
            return repr(atom)
        if atom not in self.names:
            self.names[atom] = _letters(len(self.names))
        return self.names[atom]

    def typed(self, atom: Atom) -> str:
        return f"{self.name(atom)}:{atom.aval}"

    def params(self, params: Mapping[str, Any], indent: str) -> str:
        if not params:
            return ""
        cells = []
        for key in sorted(params):
            value = params[key]
            if isinstance(value, Jaxpr):
                cells.append(f"{key}={self.jaxpr(value, indent + '  ')}")
            elif isinstance(value, tuple) and any(isinstance(v, Jaxpr) for v in value):
                inner = " ".join(self.jaxpr(v, indent + "  ") for v in value)
                cells.append(f"{key}=({inner})")
            elif isinstance(value, np.dtype):
                cells.append(f"{key}={value.name}")
            else:
                cells.append(f"{key}={value}")
        if any("\n" in c for c in cells):
            inside = "".join(f"\n{indent}  {c}" for c in cells)
            return f"[{inside}\n{indent}]"
        return f"[{' '.join(cells)}]"

    def eqn(self, eqn: Eqn, indent: str) -> str:
        params = self.params(eqn.params, indent)
        inputs = " ".join(map(self.name, eqn.inputs))
        outputs = " ".join(map(self.typed, eqn.outputs)) or "_"
        return f"{outputs} = {eqn.primitive.name}{params} {inputs}".rstrip()

    def header(self, jaxpr: Jaxpr) -> str:
        consts = " ".join(map(self.typed, jaxpr.constvars))
        inputs = " ".join(map(self.typed, jaxpr.invars))
        return f"lambda {consts}; {inputs}.".replace("; .", ";.")

    def outs(self, jaxpr: Jaxpr) -> str:
        names = [self.name(v) for v in jaxpr.outvars]
        return f"({', '.join(names)}{',' if len(names) == 1 else ''})"

    def jaxpr(self, jaxpr: Jaxpr, indent: str) -> str:
        head = self.header(jaxpr)
        body = "".join(f"\n{indent}    {self.eqn(e, indent + '    ')}" for e in jaxpr.eqns)
        return f"{{ {head} let{body}\n{indent}  in {self.outs(jaxpr)} }}"


def equation_texts(jaxpr: Jaxpr) -> dict[Eqn, str]:
    """Each equation as the program prints it, with the names that variables have there."""
    printer = _Printer()
    printer.header(jaxpr)
    return {eqn: printer.eqn(eqn, "") for eqn in jaxpr.eqns}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _html(jaxpr: Jaxpr, printer: _Printer | None = None) -> str:
    """Collapsible rows: an equation a row, its user line beside it, sub-programs folded."""
    p = printer or _Printer()
    rows = [f"<div>{{ {_escaped(p.header(jaxpr))} let</div>"]
    for eqn in jaxpr.eqns:
        subs = list(subjaxprs(eqn.params))
        plain = {k: v for k, v in eqn.params.items() if not any(True for _ in subjaxprs({k: v}))}
        text = _escaped(p.eqn(eqn.replace(params=plain), ""))
        place = _escaped(str(eqn.source)) if eqn.source else ""
        line = f'<code>{text}</code> <span style="color:#888">{place}</span>'
        if subs:
            inner = "".join(_html(s, p) for s in subs)
            line = f"<details><summary>{line}</summary>{inner}</details>"
        rows.append(f'<div style="margin-left:2em">{line}</div>')
    rows.append(f"<div>in {_escaped(p.outs(jaxpr))} }}</div>")
    return f'<div style="font-family:monospace">{"".join(rows)}</div>'


def _dot(jaxpr: Jaxpr) -> str:
    p = _Printer()
    lines = ["digraph jaxpr {", "  rankdir=TB;"]
    source: dict[Var, str] = {}
    for v in (*jaxpr.constvars, *jaxpr.invars):
        source[v] = f"v{len(source)}"
        lines.append(f'  {source[v]} [shape=ellipse label="{p.typed(v)}"];')
    for i, eqn in enumerate(jaxpr.eqns):
        lines.append(f'  e{i} [shape=box label="{eqn.primitive.name}"];')
        lines += [
            f'  {source[atom]} -> e{i} [label="{p.typed(atom)}"];'
            for atom in eqn.inputs
            if isinstance(atom, Var)
        ]
        source.update(dict.fromkeys(eqn.outputs, f"e{i}"))
    for i, atom in enumerate(jaxpr.outvars):
        lines.append(f'  o{i} [shape=ellipse label="out {i}"];')
        if isinstance(atom, Var):
            lines.append(f'  {source[atom]} -> o{i} [label="{p.typed(atom)}"];')
    return "\n".join([*lines, "}"])
