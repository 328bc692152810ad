"""Equations whose programs are lowered with the program around them: scan, while, cond.

`while_saved` is `while` that also keeps carries on the way (see `lax.control.while_prims`).
"""

from collections.abc import Sequence

from fgrad.compile.plan import contiguous
from fgrad.core.ir import Eqn, Jaxpr


def programs_of(eqn: Eqn) -> tuple[Jaxpr, ...]:
    """The programs of a loop or choice, as in `Loop.plans`; none of other equations.

    Functions of the user may be called in them; such loops keep their eager rule.
    """
    if eqn.effects:
        return ()
    params = eqn.params
    match eqn.primitive.name:
        case "scan":
            return (params["jaxpr"],)
        case "while" | "while_saved":
            return params["cond"], params["body"]
        case "cond":
            return tuple(params["branches"])
    return ()


def can_read(eqn: Eqn, operand: int, strides: Sequence[int]) -> bool:
    """Whether an equation can read an operand as it lies in memory.

    Loops pass pointers on to kernels, which take contiguous arrays; the rows of a scan's stacked
    inputs may lie apart. Code for pooling goes over rows. Others read any strides.
    """
    if eqn.primitive.name == "select_and_scatter_add":
        return not strides or strides[-1] == 1
    if not programs_of(eqn):
        return True
    shape = eqn.inputs[operand].aval.shape
    if eqn.primitive.name == "scan":
        stacked = operand >= eqn.params["num_consts"] + eqn.params["num_carry"]
        shape, strides = (shape[1:], strides[1:]) if stacked else (shape, strides)
    dense = contiguous(shape)
    return all(n == 1 or s == d for n, s, d in zip(shape, strides, dense, strict=True))
