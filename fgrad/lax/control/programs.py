"""What the control-flow primitives share: programs staged from bodies, and programs rearranged."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError, TreeError
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.primitive import Primitive, Value
from fgrad.core.program import compiled_inside, run_program
from fgrad.core.promotion import promote
from fgrad.core.tracing import bind
from fgrad.core.transforms.flat import FlatCall
from fgrad.core.transforms.jaxprs import dce, derived, reachable, stage_derived
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed
from fgrad.core.tree_registry import keystr

Fun = Callable[..., Any]
Values = Sequence[Value]
Flags = tuple[bool, ...]


class Staged:
    """A user's function as a program.

    Attributes:
        jaxpr: Its constants are leading inputs.
        consts: Their values.
        out_tree: Structure of what the function returned.
    """

    __slots__ = ("consts", "jaxpr", "out_tree")

    def __init__(self, jaxpr: Jaxpr, consts: list[Value], out_tree: Any) -> None:
        self.jaxpr = jaxpr
        self.consts = consts
        self.out_tree = out_tree

    @property
    def out_avals(self) -> list[ShapedArray]:
        """Types of what the function returned, flat."""
        return self.jaxpr.out_avals


def stage_body(
    fun: Fun, tree: Any, avals: Sequence[ShapedArray], words: str,
    fit: Callable[[list[Value]], list[Value]] | None = None,
) -> Staged:  # fmt: skip
    """Stage ``fun(*args)``, where `tree` is the structure of its tuple of arguments.

    Args:
        fun: The user's function.
        tree: Structure of the arguments.
        avals: Types of their leaves.
        words: How messages call the transform.
        fit: Applied to the flat outputs while the program is still open.
    """
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {})

    def run(*flat: Value) -> list[Value]:
        outs = [as_value(x) for x in call(*flat)]
        return outs if fit is None else fit(outs)

    jaxpr, consts = stage_closed(run, avals, words)
    return Staged(jaxpr, consts, call.out_tree)


def strengthened(outs: Sequence[Value], like: Sequence[ShapedArray]) -> list[Value]:
    """Weakly typed outputs made strong where `like` is strong and of the same dtype."""
    return [
        basis.convert_element_type(y, a.dtype)
        if y.weak_type and not a.weak_type and y.dtype == a.dtype
        else y
        for y, a in zip(outs, like, strict=True)
    ]


def promoted(values: Values, outs: Sequence[ShapedArray]) -> list[Value] | None:
    """Weakly typed values in the types that come back for them; None where nothing changes."""
    changed = False
    result = []
    for x, a in zip(values, outs, strict=True):
        if x.weak_type and (not a.weak_type or a.dtype != x.dtype) and x.shape == a.shape:
            dtype, weak = promote((x.dtype, True), (a.dtype, a.weak_type))
            if (dtype, weak) != (x.dtype, True):
                x = basis.convert_element_type(x, dtype, weak_type=weak)
                changed = True
        result.append(x)
    return result if changed else None


def check_like(
    what: str, tree: Any, avals: Sequence[ShapedArray], got_tree: Any,
    got: Sequence[ShapedArray], advice: str,
) -> None:  # fmt: skip
    """Raise unless a result has the structure and the types of what it must be like.

    Args:
        what: Both sides in words, as "the carry of scan that the body returns: the input carry".
        tree: The structure that is wanted.
        avals: The types that are wanted.
        got_tree: The structure at hand.
        got: The types at hand.
        advice: What to do.
    """
    subject, _, wanted = what.partition(": ")
    if tree != got_tree:
        raise TreeError(
            f"{subject} must be a tree like {wanted}: got {got_tree}, wanted {tree}; {advice}"
        )
    for (path, _), a, b in zip(paths_of(tree), avals, got, strict=True):
        place = f" at {path}" if path else ""
        if a.shape != b.shape:
            raise ShapeError(
                f"{subject} must have the shapes of {wanted}{place}: got {b}, wanted {a}; {advice}"
            )
        if a.dtype != b.dtype:
            raise DtypeError(
                f"{subject} must have the dtypes of {wanted}{place}: got {b}, wanted {a}; convert "
                f"it with astype, or {advice}"
            )


def paths_of(tree: Any) -> list[tuple[str, int]]:
    """The path of each leaf of a structure, as text."""
    numbered = trees.unflatten(tree, range(tree.num_leaves))
    return [(keystr(path), i) for path, i in trees.flatten_with_path(numbered)[0]]


# -------------------------------------------------------------------------- programs from programs


def rearranged(jaxpr: Jaxpr, inputs: Sequence[int], outputs: Sequence[int]) -> Jaxpr:
    """The program with its inputs in another order, and a choice of its outputs."""

    def make() -> Jaxpr:
        outs = [jaxpr.outvars[i] for i in outputs]
        return dce(Jaxpr([jaxpr.invars[i] for i in inputs], (), jaxpr.eqns, outs))

    key = ("rearranged", tuple(inputs), tuple(outputs))
    made: Jaxpr = derived(jaxpr, key, make)
    return made


def program(owner: Jaxpr, key: tuple[Any, ...], run: Any, avals: Sequence[ShapedArray]) -> Jaxpr:
    """The closed program of `run`, kept on `owner`."""
    full = ("program of", *key, tuple(avals))
    made: Jaxpr = derived(owner, full, lambda: dce(stage_derived(run, avals)))
    return made


def run_inner(jaxpr: Jaxpr, *args: Value) -> list[Value]:
    """Write a closed program into the one that is being staged."""
    return eval_jaxpr(jaxpr, (), *args)


# Steps from which on an eager loop runs compiled: that takes about a millisecond to prepare.
LONG = 256


def run_alone(
    prim: Primitive, owner: Jaxpr, args: Sequence[Any], params: dict[str, Any]
) -> list[Any]:
    """Run one equation on NumPy arrays as a compiled program of its own, kept on `owner`."""
    avals = [ShapedArray(x.shape, x.dtype) for x in args]
    key = ("alone", prim, *sorted(params.items()))
    jaxpr = program(owner, key, lambda *values: bind(prim, *values, **params), avals)
    with compiled_inside():
        return run_program(jaxpr, np, args)


def with_unused(jaxpr: Jaxpr, avals: Sequence[ShapedArray]) -> Jaxpr:
    """The program with more inputs at its end, which it ignores."""
    made: Jaxpr = derived(
        jaxpr,
        ("unused", tuple(avals)),
        lambda: Jaxpr((*jaxpr.invars, *map(Var, avals)), (), jaxpr.eqns, jaxpr.outvars),
    )
    return made


def without_debug(jaxpr: Jaxpr) -> Jaxpr:
    """The program without equations that only debug: for recomputation, which prints nothing."""
    if "debug" not in jaxpr.effects:
        return jaxpr

    def clean(value: Any) -> Any:
        if isinstance(value, Jaxpr):
            return without_debug(value)
        if isinstance(value, tuple) and any(isinstance(v, Jaxpr) for v in value):
            return tuple(clean(v) for v in value)
        return value

    def make() -> Jaxpr:
        eqns = [
            e.replace(params={k: clean(v) for k, v in e.params.items()})
            for e in jaxpr.eqns
            if "debug" not in e.primitive.effects
        ]
        return Jaxpr(jaxpr.invars, (), eqns, jaxpr.outvars)

    made: Jaxpr = derived(jaxpr, ("without debug",), make)
    return made


def needed_equations(jaxpr: Jaxpr, outs: Sequence[Atom]) -> list[Eqn]:
    """The equations that these variables depend on."""
    live = {v for v in outs if isinstance(v, Var)}
    eqns: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in live for v in eqn.outputs):
            eqns.append(eqn)
            live.update(v for v in eqn.inputs if isinstance(v, Var))
    return eqns[::-1]


def varying(jaxpr: Jaxpr, sources: Sequence[bool]) -> set[Var]:
    """The variables that depend on a flagged input, or on an effect."""
    live = {v for v, s in zip(jaxpr.invars, sources, strict=True) if s}
    for eqn in jaxpr.eqns:
        if eqn.effects or any(isinstance(a, Var) and a in live for a in eqn.inputs):
            live.update(eqn.outputs)
    return live


def carry_fixpoint(
    jaxpr: Jaxpr, before: Flags, carry: Sequence[bool], after: Flags, avals: Sequence[ShapedArray]
) -> Flags:
    """Which carries depend on flagged inputs after any number of steps; integers never do.

    The program takes constants (`before`), the carry and per-step inputs (`after`); the first of
    its outputs are the carry.
    """
    flags = tuple(carry)
    while True:
        reached = reachable(jaxpr, (*before, *flags, *after))
        grown = tuple(
            f or (r and is_inexact(a)) for f, r, a in zip(flags, reached, avals, strict=False)
        )
        if grown == flags:
            return flags
        flags = grown


def carry_reached(jaxpr: Jaxpr, before: Flags, carry: Sequence[bool], after: Flags) -> Flags:
    """Which outputs depend on flagged inputs after any number of steps: integers too.

    As in `carry_fixpoint`, the first of the outputs are the carry.
    """
    flags = tuple(carry)
    while True:
        reached = reachable(jaxpr, (*before, *flags, *after))
        grown = tuple(f or r for f, r in zip(flags, reached, strict=False))
        if grown == flags:
            return (*flags, *reached[len(flags) :])
        flags = grown


def is_inexact(aval: Any) -> bool:
    """Whether values of the type have derivatives."""
    return dtypes.is_inexact(aval.dtype)


def tangent_flags(primals: Values, tangents: Sequence[Value | None]) -> Flags:
    """Which operands carry a tangent; those of integers have none."""
    return tuple(t is not None and is_inexact(p) for p, t in zip(primals, tangents, strict=True))


def given(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The flagged values."""
    return [v for v, f in zip(values, flags, strict=True) if f]


def spread(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The values at the flagged places, None elsewhere."""
    left = iter(values)
    return [next(left) if f else None for f in flags]


def is_constant(jaxpr: Jaxpr) -> bool:
    """Whether no output depends on an input or an effect."""
    if jaxpr.effects:
        return False
    live = varying(jaxpr, [True] * len(jaxpr.invars))
    return all(isinstance(v, Literal) or v not in live for v in jaxpr.outvars)
