"""Which equations have a routine (see `routines`)."""

from collections.abc import Callable

from fgrad.backends.cpu import convolution, pooling, scattering
from fgrad.backends.cpu.routines import Routine
from fgrad.backends.cpu.target import Target, host
from fgrad.compile.plan import Library, Loop, Step
from fgrad.core.ir import Eqn

_ROUTINES: dict[str, Callable[[Library, int, int], Routine | None]] = {
    "conv_general_dilated": convolution.routine_of,
    **dict.fromkeys(scattering.OPERATIONS, scattering.routine_of),
    "select_and_scatter_add": pooling.routine_of,
}


def routine_of(step: Step, target: Target | None = None) -> Routine | None:
    """What runs in place of the eager rule of a step, here or on a target; None: nothing does."""
    if not isinstance(step, Library) or isinstance(step, Loop):
        return None
    of = _ROUTINES.get(step.eqn.primitive.name)
    if of is None:
        return None
    target = target or host()
    return of(step, target.vector_bytes, target.registers)


def has_routine(eqn: Eqn) -> bool:
    """Whether an equation that others could take the place of has faster code of its own."""
    return eqn.primitive.name == "select_and_scatter_add" and pooling.is_tiled(eqn)
