"""Compute equal things once."""

from collections.abc import Mapping
from typing import Any

from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var


def cse(jaxpr: Jaxpr) -> Jaxpr:
    """Without pure equations that repeat an earlier one of the same phase."""
    seen: dict[Any, tuple[Var, ...]] = {}
    env: dict[Var, Atom] = {}
    eqns: list[Eqn] = []

    def read(atom: Atom) -> Atom:
        return atom if isinstance(atom, Literal) else env.get(atom, atom)

    for eqn in jaxpr.eqns:
        inputs = tuple(read(a) for a in eqn.inputs)
        key = _key(eqn, inputs)
        found = None if key is None else seen.get(key)
        if found is not None:
            env.update(zip(eqn.outputs, found, strict=True))
            continue
        if key is not None:
            seen[key] = eqn.outputs
        eqns.append(eqn.reading(inputs))
    if len(eqns) == len(jaxpr.eqns):
        return jaxpr
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns, [read(v) for v in jaxpr.outvars])


def _items(params: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(params.items()) if len(params) > 1 else params.items())


def _key(eqn: Eqn, inputs: tuple[Atom, ...]) -> Any:
    """Equal for equations that compute the same; None for those that may not be merged."""
    if eqn.effects:
        return None
    atoms = tuple(a.key if isinstance(a, Literal) else id(a) for a in inputs)
    key = (eqn.primitive, atoms, _items(eqn.params), eqn.phase)
    try:
        hash(key)
    except TypeError:
        return None
    return key
