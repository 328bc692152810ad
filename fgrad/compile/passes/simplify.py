"""Apply the exact algebraic identities that primitives state."""

from functools import partial

from fgrad.core.ir import Jaxpr
from fgrad.core.transforms.jaxprs import stage_derived
from fgrad.core.transforms.stage import eval_jaxpr


def simplify(jaxpr: Jaxpr) -> Jaxpr:
    """The program written again, each equation through its primitive's `simplify`.

    Unlike while a function is traced, identities of two equations apply too: the second is given
    up for an operand of the first, if both are of one phase.
    """
    if not any(e.primitive.simplify is not None for e in jaxpr.eqns):
        return jaxpr
    return stage_derived(partial(eval_jaxpr, jaxpr, ()), jaxpr.in_avals, look_back=True)
