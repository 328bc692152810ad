"""`cond` and `switch`: run one of several functions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.errors import ArgumentError
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Jaxpr, Var
from fgrad.core.primitive import Value
from fgrad.core.promotion import promote
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.flat import name_of
from fgrad.lax.compare import ne
from fgrad.lax.control.checks import concrete, function, scalar_of
from fgrad.lax.control.cond import cond_p
from fgrad.lax.control.programs import Staged, check_like, program, run_inner, stage_body
from fgrad.lax.extrema import clamp

Fun = Callable[..., Any]


def cond(pred: Any, true_fun: Fun, false_fun: Fun, *operands: Any) -> Any:
    """``true_fun(*operands)`` where `pred` holds, else ``false_fun(*operands)``.

    With a concrete predicate only the chosen function runs, at once, under the transforms around.
    With a traced one both are staged; one runs. Under `vmap` with a mapped predicate each function
    runs if any lane takes it, and lanes that do not take it add nothing to derivatives.

    Args:
        pred: Scalar, bool or a number (true where it is not 0).
        true_fun: Function of the operands.
        false_fun: Function of the same operands, with results of the same tree, shapes and dtypes.
        *operands: Arrays or trees of arrays.

    Returns:
        What the chosen function returns.

    Raises:
        ShapeError: `pred` is no scalar, or the results differ in shape.
        DtypeError: `pred` is complex, or the results differ in dtype.
        TreeError: The results differ in structure.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.cond(True, lambda x: x * 2.0, lambda x: x, np.float32(3))
        Array(6., dtype=float32)
    """
    function(true_fun, "cond: true_fun")
    function(false_fun, "cond: false_fun")
    pred = scalar_of(pred, "cond: the predicate", "biuf", "bool")
    known = concrete(pred)
    if known is not None:
        return _run(true_fun if known else false_fun, operands)
    with entering():
        if pred.dtype.kind != "b":
            pred = ne(pred, 0)
        index = basis.convert_element_type(pred, np.int32)
        return _bind(index, (false_fun, true_fun), operands, ("false_fun", "true_fun"))


def switch(index: Any, branches: Sequence[Fun], *operands: Any) -> Any:
    """``branches[index](*operands)``; an index outside of the branches is clamped.

    Args:
        index: Scalar integer.
        branches: Functions of the same operands, with results of the same tree, shapes and dtypes.
        *operands: Arrays or trees of arrays.

    Returns:
        What the chosen function returns.

    Raises:
        ArgumentError: There is no branch.
        DtypeError: `index` is no integer, or the results differ in dtype.
        ShapeError: `index` is no scalar, or the results differ in shape.
        TreeError: The results differ in structure.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.switch(5, [lambda x: x, lambda x: x * 2.0], np.float32(3))
        Array(6., dtype=float32)
    """
    branches = tuple(branches)
    if not branches:
        raise ArgumentError("switch needs at least one branch, got an empty sequence")
    for branch in branches:
        function(branch, "switch: each branch")
    index = scalar_of(index, "switch: the index", "iu", "integer")
    known = concrete(index)
    if len(branches) == 1 or known is not None:
        return _run(branches[min(max(known or 0, 0), len(branches) - 1)], operands)
    with entering():
        index = clamp(0, index, len(branches) - 1)
        index = basis.convert_element_type(index, np.int32)
        names = [f"branch {i}" for i in range(len(branches))]
        return _bind(index, branches, operands, names)


def _run(fun: Fun, operands: Any) -> Any:
    """Run a branch at once; as in a staged one, operands and results are arrays."""
    return trees.tree_map(as_value, fun(*trees.tree_map(as_value, operands)))


def _bind(index: Value, funs: Sequence[Fun], operands: Any, names: Sequence[str]) -> Any:
    leaves, tree = trees.flatten(operands)
    values = [as_value(x) for x in leaves]
    avals = [v.aval for v in values]
    staged = [
        stage_body(f, tree, avals, f"{name} of cond ({name_of(f)})")
        for f, name in zip(funs, names, strict=True)
    ]
    uses = staged[0].jaxpr.key_uses
    if uses is not None:
        uses.call_one_of([(s.jaxpr.key_uses, [*s.consts, *values]) for s in staged], names)
    jaxprs = _same_outputs(staged, names)
    consts = list({id(c): c for s in staged for c in s.consts}.values())
    position = {id(c): i for i, c in enumerate(consts)}
    closed = tuple(
        _with_consts(j, [position[id(c)] for c in s.consts], [c.aval for c in consts])
        for j, s in zip(jaxprs, staged, strict=True)
    )
    outs = bind(cond_p, index, *consts, *values, branches=closed)
    return trees.unflatten(staged[0].out_tree, outs)


def _with_consts(jaxpr: Jaxpr, own: Sequence[int], avals: Sequence[Any]) -> Jaxpr:
    """The program with the constants of all branches as its first inputs."""
    fresh = [Var(a) for a in avals]
    for v, i in zip(jaxpr.invars, own, strict=False):
        fresh[i] = v
    return Jaxpr((*fresh, *jaxpr.invars[len(own) :]), (), jaxpr.eqns, jaxpr.outvars)


def _same_outputs(staged: Sequence[Staged], names: Sequence[str]) -> list[Jaxpr]:
    """The programs with outputs of one type: weakly typed ones give way; others must agree."""
    first = staged[0]
    if all(s.out_tree == first.out_tree for s in staged):
        rows = zip(*(s.out_avals for s in staged), strict=True)
        wanted = [_common(list(row)) for row in rows]
        programs = [_converted(s.jaxpr, wanted) for s in staged]
    else:
        programs = [s.jaxpr for s in staged]
    for s, p, name in zip(staged[1:], programs[1:], names[1:], strict=True):
        check_like(
            f"the result of {name}: the result of {names[0]}", first.out_tree,
            programs[0].out_avals, s.out_tree, p.out_avals,
            "make all branches return the same",
        )  # fmt: skip
    return programs


def _common(avals: list[Any]) -> tuple[Any, bool] | None:
    """Dtype and weakness that weakly typed outputs take; None where no type is common."""
    strong = {a.dtype for a in avals if not a.weak_type}
    if len(strong) > 1:
        return None
    dtype, weak = promote(*((a.dtype, a.weak_type) for a in avals))
    if strong and dtype not in strong:
        return None
    return dtype, weak


def _converted(jaxpr: Jaxpr, wanted: Sequence[tuple[Any, bool] | None]) -> Jaxpr:
    if all(w is None or w == (a.dtype, a.weak_type) for a, w in
           zip(jaxpr.out_avals, wanted, strict=True)):  # fmt: skip
        return jaxpr

    def run(*args: Value) -> list[Value]:
        return [
            y if w is None or not y.weak_type
            else basis.convert_element_type(y, w[0], weak_type=w[1])
            for y, w in zip(run_inner(jaxpr, *args), wanted, strict=True)
        ]  # fmt: skip

    return program(jaxpr, ("converted", tuple(wanted)), run, jaxpr.in_avals)
