"""Views that library steps can read as they are: arrays with strides."""

from typing import NamedTuple

from fgrad.compile.lower.items import Equations
from fgrad.compile.lower.views import PARTS, Affine, Inexpressible, index_of, total
from fgrad.compile.plan import contiguous
from fgrad.core.ir import Var


class Strided(NamedTuple):
    """Elements ``offset + Σ strides[a]·index[a]`` of the memory of `base`."""

    base: Var
    offset: int
    strides: tuple[int, ...]


def strided(program: Equations, var: Var, *, floats: bool = False) -> Strided | None:
    """A value as an array with strides over what is in memory; None where it is no such thing.

    Args:
        program: The program.
        var: The value.
        floats: Whether memory of complex values may be read as the floats that it holds.
    """
    sizes = var.aval.shape
    n = len(sizes)
    index = [Affine(0, tuple(int(i == a) for i in range(n))) for a in range(n)]
    while True:
        view = None if var in program.stored else program.view_of(var)
        if view is None:
            program.keep(var)
            at = total(index, contiguous(var.aval.shape), n)
            return Strided(var, at.offset, at.strides)
        eqn, out = view
        below = eqn.inputs[0] if eqn.inputs else None
        kind = eqn.primitive.lower.data  # type: ignore[union-attr]
        if type(below) is Var and kind in PARTS and floats:
            at = total(index, contiguous(below.aval.shape), n).times(2)
            return Strided(below, at.offset + PARTS.index(kind), at.strides)
        if type(below) is not Var or kind in _MOVED:
            return None
        try:
            step = index_of(eqn, out, index, sizes, _no_start)
        except Inexpressible:
            if program.view_of(below) is not None and below not in program.stored:
                return None
            program.keep(below)
            at = total(index, contiguous(var.aval.shape), n)
            return Strided(below, at.offset, at.strides)
        if step.bounds:
            return None
        var, index = below, list(step.at)


_MOVED = ("dynamic_slice", "gather", *PARTS)


def _no_start(_operand: int, _limit: int) -> int:
    raise AssertionError("a dynamic slice has no static strides")
