"""The record of a primitive operation: every rule that any transform needs, in one place.

A *value* below is an `Array` or a tracer. A tangent or cotangent may be ``None``: it is zero, and
nothing is computed for it. Rules of a primitive with one result take and return it bare; those of
a primitive with ``multiple_results`` use lists.

========== ==================================================================================
abstract   ``(*avals, **params) -> aval`` (or a list): the types; raises the user-facing error
eager      ``(xp, *arrays, **params) -> array``: computes on NumPy or CuPy buffers through `xp`
jvp        ``(primals, tangents, **params) -> (out, tangent)``
transpose  ``(ct, *args, **params) -> cts``: for linear primitives; a linear operand arrives as
           `Unknown`, the others as values; one cotangent (or None) an operand
vjp        a `Pullback`: how reverse mode saves residuals and pulls a cotangent back
batch      ``(axis, args, dims, **params) -> (out, dim)``: `dims` holds the mapped axis of each
           operand, or None; `axis` is the `MappedAxis`
lower      a `Lowering`: how the compiler renders it
simplify   ``(args, params) -> value or None``: an exact algebraic identity, or None
reach      ``(flags, **params) -> flags``: of a primitive that holds programs and is linear in some
           operands, which results depend on the flagged operands; None: all do
========== ==================================================================================
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from fgrad.core.errors import RuleError

Value = Any  # an Array or a Tracer; precise types would hide nothing but cost readability


class Absent:
    """A rule that is not there, and why; never an oversight."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Absent({self.reason!r})"


class Unknown:
    """Stands for a linear operand in a transpose rule: its type is known, its value is not."""

    __slots__ = ("aval",)

    def __init__(self, aval: Any) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Unknown({self.aval})"


class MappedAxis:
    """The axis that `vmap` maps: its name (or None) and its size; `tag` tells its trace."""

    __slots__ = ("name", "size", "tag")

    def __init__(self, name: Any, size: int, tag: object) -> None:
        self.name = name
        self.size = size
        self.tag = tag


OUT = -1
NOTHING = -1000


def TYPE(i: int) -> int:
    """In a `Pullback`'s selection: the type of operand i, not its value."""
    return -2 - i


def SHAPE(i: int) -> int:
    """In a `Pullback`'s selection: the shape of operand i."""
    return -500 - i


class Pullback:
    """Reverse mode of a primitive, in two halves.

    ``forward(needed, primals, params) -> (out, residuals)`` computes the result and what must be
    kept (a tuple; entries that are not values are static). ``backward(needed, residuals, ct,
    params) -> cts`` gives a cotangent, or None, for each operand; only those flagged in the tuple
    of bools `needed` are used. ``select(needed)``, where given, replaces `forward`: the residuals
    are a choice among the operands (their index), the result (`OUT`), the type of operand i
    (``TYPE(i)``), its shape (``SHAPE(i)``) and None (`NOTHING`).
    """

    __slots__ = ("backward", "forward", "select")

    def __init__(
        self,
        forward: Callable[..., tuple[Any, tuple[Any, ...]]] | None,
        backward: Callable[..., Sequence[Any]],
        select: Callable[[tuple[bool, ...]], tuple[int, ...]] | None = None,
    ) -> None:
        self.forward = forward
        self.backward = backward
        self.select = select


class Lowering:
    """How the compiler renders a primitive: plain data, read by `fgrad.compile`.

    Attributes:
        kind: 'pointwise', 'reduce', 'scan', 'view', 'complex' (real, imag, conj, complex),
            'library', 'call', 'random' or 'host'.
        data: What the kind needs: an index map's name, a monoid's, a library's. Of 'pointwise' a
            scalar expression over the operands and the parameters (see `core.scalar`), or a
            function ``(avals, params) ->`` expression; `Absent` where `core.scalar.OPS` has none.
        decompose: ``(*args, **params) -> values``, in terms of other primitives, or None.
        operands: Of 'pointwise': the names of the operands in the expression, split by spaces;
            ``*x`` stands for the rest of them, ``x0 x1 …``.
        workspace: Of 'library': ``(operand avals, result avals, params) -> bytes`` that the eager
            rule takes beside operands and results while it runs; None where that is little.
        filled: Of 'library': the operands that need not be stored where they are one number in
            every place, as it reads them once.
        when: ``(avals, params) -> bool``: which calls are decomposed; None: all that need it.
    """

    __slots__ = ("data", "decompose", "filled", "kind", "operands", "when", "workspace")

    def __init__(
        self, kind: str, data: Any = None, decompose: Callable[..., Any] | None = None,
        operands: str = "x", workspace: Callable[..., int] | None = None,
        when: Callable[..., bool] | None = None, filled: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.kind = kind
        self.when = when
        self.data = data
        self.decompose = decompose
        self.operands = operands
        self.filled = filled
        self.workspace = workspace


class Operand:
    """What an operand of a primitive may hold, for the property suite.

    Args:
        low: Least value drawn.
        high: Greatest value drawn.
        kinks: Points where the derivative jumps; values are drawn away from them.
        dtype: 'same' (the dtype class under test), 'bool', 'int32', 'uint32', …: fixed.
        generator: 'uniform', 'distinct' (no ties), 'indices', 'nonzero', 'static' (drawn once, not
            differentiated), or of matrices: 'positive_definite', 'hermitian', 'well_conditioned',
            'diagonalizable', 'pivoted', 'triangular' (what each means: `fgrad.testing.matrices`).
        margin: Values stay at least this far from a kink.
    """

    __slots__ = ("dtype", "generator", "high", "kinks", "low", "margin")

    def __init__(
        self,
        low: float = -2.0,
        high: float = 2.0,
        *,
        kinks: tuple[float, ...] = (),
        dtype: str = "same",
        generator: str = "uniform",
        margin: float = 0.1,
    ) -> None:
        self.low, self.high, self.kinks = low, high, kinks
        self.dtype, self.generator, self.margin = dtype, generator, margin


class Case:
    """Shapes and parameters with which the property suite calls a primitive.

    Args:
        shapes: Dimension names a operand, operands split by commas: ``"b m k, b k n"``. A name
            stands for one size drawn from 0 to 4, an integer for itself, ``"..."`` for any shape
            (several operands with ``"..."``: a broadcastable set), an empty entry for a scalar.
        params: The parameters, or a function of the sizes ``{"b": 2, "m": 3, …}``.
        smallest: Least size drawn for a named dimension.
        name: Shown in the test's id.
    """

    __slots__ = ("name", "params", "shapes", "smallest")

    def __init__(
        self,
        shapes: str = "...",
        params: Mapping[str, Any] | Callable[[dict[str, int]], Mapping[str, Any]] | None = None,
        *,
        smallest: int = 0,
        name: str = "",
    ) -> None:
        self.shapes = shapes
        self.params = params if params is not None else {}
        self.smallest = smallest
        self.name = name or shapes


class Invalid:
    """A call that must fail: shapes and dtypes of the operands, parameters, the error it raises.

    Args:
        types: One string an operand, like ``"f32[2,3]"``.
        params: The parameters.
        error: The exception class.
        match: A regular expression that the message must contain.
    """

    __slots__ = ("error", "match", "params", "types")

    def __init__(
        self, types: tuple[str, ...], error: type[Exception], match: str, **params: Any
    ) -> None:
        self.types, self.error, self.match, self.params = types, error, match, params


FLOATS = ("float64", "float32", "float16", "bfloat16")
COMPLEXES = ("complex128", "complex64")
INTEGERS = ("int32", "int64", "uint8")
INEXACT = FLOATS + COMPLEXES
REAL = FLOATS + INTEGERS
NUMERIC = REAL + COMPLEXES
ANY = (*NUMERIC, "bool")


class Spec:
    """Plain data from which the property suite tests a primitive.

    Args:
        operands: One `Operand` an operand (a single one stands for all).
        cases: Shapes and parameters.
        dtypes: Names of the dtypes that 'same' operands take.
        reference: ``(*float64 arrays, **params) -> array``: an independent derivation in NumPy or
            SciPy. Complex inputs arrive as complex128, integers as they are.
        ulps: Bound on the error of the value, in units in the last place of the result's dtype,
            against `reference` at the rounded inputs; ``None`` for an accumulating primitive,
            which is judged by γ(d)·u·Σ|terms|.
        terms: For those: ``(*float64 arrays, **params) -> Σ|terms|``, same shape as the result
            (a list of them with several results).
        invalid: Calls that must raise.
        order: Highest derivative order that exists and is tested (0: not differentiable).
        observe: ``(results, **params) -> values``: what the operands determine of the results,
            where a library is free to choose signs, phases or an order. Laws that compare with a
            reference or with other operands judge this. None: the results themselves.
        skip: Groups of laws that do not apply, each with its reason: ``{"batching": "why"}``;
            'reference' and 'layouts' among 'values' can be skipped alone.
    """

    __slots__ = (
        "cases", "dtypes", "invalid", "observe", "operands", "order", "reference", "skip", "terms",
        "ulps",
    )  # fmt: skip

    def __init__(
        self,
        operands: Operand | tuple[Operand, ...] = Operand(),  # noqa: B008 - immutable
        cases: tuple[Case, ...] = (Case(),),
        *,
        dtypes: tuple[str, ...] = FLOATS,
        reference: Callable[..., Any] | None = None,
        ulps: float | None = 4.0,
        terms: Callable[..., Any] | None = None,
        invalid: tuple[Invalid, ...] = (),
        order: int = 3,
        observe: Callable[..., Any] | None = None,
        skip: Mapping[str, str] | None = None,
    ) -> None:
        self.operands, self.cases, self.dtypes = operands, cases, dtypes
        self.reference, self.ulps, self.terms = reference, ulps, terms
        self.invalid, self.order, self.skip = invalid, order, dict(skip or {})
        self.observe = observe


_registry: dict[str, "Primitive"] = {}
_RULES = ("abstract", "eager", "jvp", "transpose", "vjp", "batch", "lower", "simplify", "reach")


class Primitive:
    """One operation of the language, with all its rules; immutable once declared.

    Args:
        name: Unique; what a jaxpr prints.
        doc: One line: what it computes.
        linear: 'jointly' (in all `linear_in` operands together, like addition), 'each' (in each
            of them alone, like a product), or None.
        linear_in: Indices of the linear operands; all of them when None.
        multiple_results: Whether it returns a list.
        differentiable: False where every derivative is zero (comparisons, argmax, integers).
        effects: Names of its effects: ('debug',), ('io',); such equations are never removed.
        calls: Whether its parameters hold jaxprs that `eager` runs.
        commutative: Whether the order of its two operands does not matter, to the bit.

    Attributes:
        module: The module that declares it.
    """

    __slots__ = (
        "_sealed",
        "abstract",
        "batch",
        "calls",
        "commutative",
        "differentiable",
        "doc",
        "eager",
        "effects",
        "jvp",
        "linear",
        "linear_in",
        "lower",
        "module",
        "multiple_results",
        "name",
        "reach",
        "simplify",
        "spec",
        "transpose",
        "vjp",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        doc: str,
        *,
        abstract: Callable[..., Any],
        eager: Callable[..., Any],
        jvp: Callable[..., Any] | Absent,
        transpose: Callable[..., Any] | Absent,
        batch: Callable[..., Any] | Absent,
        lower: Lowering | Absent,
        vjp: Pullback | Absent = Absent("derived from jvp and transpose"),  # noqa: B008
        simplify: Callable[..., Any] | None = None,
        reach: Callable[..., Sequence[bool]] | None = None,
        spec: Spec | Absent = Absent(""),  # noqa: B008
        linear: str | None = None,
        linear_in: tuple[int, ...] | None = None,
        multiple_results: bool = False,
        differentiable: bool | Callable[..., bool] = True,
        effects: tuple[str, ...] = (),
        calls: bool = False,
        commutative: bool = False,
    ) -> None:
        if name in _registry:
            raise RuleError(f"primitive {name!r} is declared twice")
        self.name, self.doc = name, doc
        self.abstract, self.eager, self.jvp, self.transpose = abstract, eager, jvp, transpose
        self.vjp, self.batch, self.lower, self.simplify = vjp, batch, lower, simplify
        self.spec, self.linear, self.linear_in, self.reach = spec, linear, linear_in, reach
        self.multiple_results, self.differentiable = multiple_results, differentiable
        self.effects, self.calls, self.commutative = effects, calls, commutative
        self.module = _declaring_module()
        self._sealed = True
        _registry[name] = self

    def __setattr__(self, field: str, value: Any) -> None:
        if hasattr(self, "_sealed"):
            raise RuleError(f"primitive {self.name} is immutable: {field} is set at declaration")
        object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (_restored, (self.name, self.module))

    def rule(self, kind: str) -> Callable[..., Any]:
        """The rule of that kind; raises `RuleError` with the stated reason where it is absent."""
        found = getattr(self, kind)
        if isinstance(found, Absent):
            raise RuleError(f"{self.name} has no {kind} rule: {found.reason}")
        return found  # type: ignore[no-any-return]

    def card(self) -> str:
        """A table of the rules and where each is written."""
        cells = ((kind, getattr(self, kind)) for kind in _RULES)
        rows = "\n".join(f"  {kind:10} {_describe(rule)}" for kind, rule in cells)
        linear = f", linear {self.linear}" if self.linear else ""
        return f"{self.name}: {self.doc}{linear}\n{rows}"


def _declaring_module() -> str:
    """The module whose import declares a primitive: other processes find it there."""
    frame: Any = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame.f_globals["__name__"]  # type: ignore[no-any-return]


def _restored(name: str, module: str) -> "Primitive":
    """The primitive of that name, whose family may not be loaded yet."""
    if name not in _registry:
        import_module(module)
    return primitive(name)


def _describe(rule: Any) -> str:
    if rule is None:
        return "-"
    if isinstance(rule, Absent):
        return f"absent: {rule.reason}"
    if isinstance(rule, Pullback):
        return _describe(rule.backward)
    if isinstance(rule, Lowering):
        return rule.kind
    code = getattr(rule, "__code__", None)
    return f"{rule.__module__}:{code.co_firstlineno}" if code else repr(rule)


def all_primitives() -> Iterator[Primitive]:
    """Every declared primitive, in order of declaration."""
    yield from list(_registry.values())


def primitive(name: str) -> Primitive:
    """The primitive of that name; raises `RuleError` where there is none."""
    found = _registry.get(name)
    if found is None:
        raise RuleError(f"there is no primitive {name!r}")
    return found
