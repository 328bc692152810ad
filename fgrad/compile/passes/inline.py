"""Put the equations of called programs in the place of the call."""

from typing import Any

from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.transforms.stage import called, within


def inline(jaxpr: Jaxpr) -> Jaxpr:
    """Without `jit` calls, and with functions that have derivative rules as plain equations.

    Differentiation is over when a program is compiled, so the rules have no more to say.
    """
    if all(called(e.primitive, e.params, ()) is None for e in jaxpr.eqns):
        return jaxpr
    eqns: list[Eqn] = []
    env: dict[Var, Atom] = {}
    _copy(jaxpr, env, eqns, None, None)
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns, [_read(env, v) for v in jaxpr.outvars])


def _read(env: dict[Var, Atom], atom: Atom) -> Atom:
    return atom if isinstance(atom, Literal) else env.get(atom, atom)


def _copy(
    jaxpr: Jaxpr, env: dict[Var, Atom], eqns: list[Eqn], phase: object, pullback: Any
) -> None:
    own_pass: dict[object, object] = {}  # a program inlined twice has two backward passes
    for eqn in jaxpr.eqns:
        inputs = tuple(_read(env, a) for a in eqn.inputs)
        own = eqn.phase if phase is None else phase if eqn.phase is None else (phase, eqn.phase)
        back = within(pullback, eqn.pullback)
        if back is not None and pullback is None:
            back = (own_pass.setdefault(back[0], object()), back[1])
        program = called(eqn.primitive, eqn.params, inputs)
        if program is not None:
            body, args = program
            inner: dict[Var, Atom] = dict(zip(body.invars, args, strict=True))
            _copy(body, inner, eqns, own, back)
            for v, out in zip(eqn.outputs, body.outvars, strict=True):
                env[v] = _read(inner, out)
            continue
        # A program may be inlined twice: each copy needs variables of its own.
        outputs = tuple(Var(v.aval) for v in eqn.outputs)
        env.update(zip(eqn.outputs, outputs, strict=True))
        eqns.append(eqn.replace(inputs=inputs, outputs=outputs, phase=own, pullback=back))
