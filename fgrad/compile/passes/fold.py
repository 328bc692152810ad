"""Compute scalars that depend on literals alone."""

from typing import Any

import numpy as np

from fgrad.compile.sizes import Number
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var


def fold(jaxpr: Jaxpr) -> Jaxpr:
    """Without equations over scalar literals that have scalar results.

    Arrays are never folded: a constant of any size would take memory for as long as the program
    lives.
    """
    env: dict[Var, Atom] = {}
    eqns: list[Eqn] = []

    def read(atom: Atom) -> Atom:
        return atom if isinstance(atom, Literal) else env.get(atom, atom)

    for eqn in jaxpr.eqns:
        inputs = tuple(read(a) for a in eqn.inputs)
        if _is_scalar(eqn, inputs):
            env[eqn.outputs[0]] = _evaluate(eqn, inputs)
        else:
            eqns.append(eqn.reading(inputs))
    if not env:
        return jaxpr
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns, [read(v) for v in jaxpr.outvars])


def _is_scalar(eqn: Eqn, inputs: tuple[Atom, ...]) -> bool:
    if not inputs or not all(isinstance(a, Literal) and a.aval.shape == () for a in inputs):
        return False
    prim = eqn.primitive
    if prim.multiple_results or prim.calls or eqn.effects:
        return False
    return eqn.outputs[0].aval.shape == ()


def _evaluate(eqn: Eqn, inputs: tuple[Atom, ...]) -> Literal:
    aval = eqn.outputs[0].aval
    values = [a.value for a in inputs if isinstance(a, Literal)]

    def compute(*values: Any) -> Any:
        with np.errstate(all="ignore"):
            out = np.asarray(eqn.primitive.eager(np, *values, **eqn.params))
        return out.astype(aval.dtype, copy=True)

    for x in values:
        if type(x) is Number:
            return Literal(x.sizes.applied(compute, values), aval)
    return Literal(compute(*values), aval)
