"""Stack in a scan only what somebody reads."""

from fgrad.core.ir import Atom, Eqn, Jaxpr
from fgrad.core.transforms.jaxprs import dce


def trim(jaxpr: Jaxpr) -> Jaxpr:
    """Without stacked results of scans that nobody reads, and what their bodies compute for them.

    The forward pass of a derivative stacks residuals, some of which may not be needed in the end.
    """
    read: set[Atom] = set(jaxpr.outvars)
    eqns: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.primitive.name == "scan":
            eqn = _trimmed(eqn, read)
        read.update(eqn.inputs)
        eqns.append(eqn)
    if all(a is b for a, b in zip(reversed(eqns), jaxpr.eqns, strict=True)):
        return jaxpr
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns[::-1], jaxpr.outvars)


def _trimmed(eqn: Eqn, read: set[Atom]) -> Eqn:
    n, body = eqn.params["num_carry"], eqn.params["jaxpr"]
    stays = [i < n or v in read for i, v in enumerate(eqn.outputs)]
    if all(stays):
        return eqn
    return eqn.replace(
        params={**eqn.params, "jaxpr": dce(body, stays)},
        outputs=tuple(v for v, s in zip(eqn.outputs, stays, strict=True) if s),
    )
