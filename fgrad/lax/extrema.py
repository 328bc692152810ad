"""The greater and the lesser of two values, and limits, element by element."""

from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import ANY, FLOATS, REAL, Case, Invalid, Operand, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax import kinds
from fgrad.lax.arithmetic import mul
from fgrad.lax.kinds import pointwise
from fgrad.lax.operands import operands, operands3, pair_spec

__all__ = [
    "clamp",
    "clamp_p",
    "max",
    "max_p",
    "min",
    "min_p",
    "unit_step",
    "unit_step_p",
]


def _step_eager(xp: Any, x: Any, y: Any) -> Any:
    # (x > y) + (x >= y) is 2, 1 or 0; it is 0 beside a NaN, which wins in max and min.
    twice = xp.add(x > y, x >= y, dtype=np.int8)
    return xp.multiply(twice, x.dtype.type(0.5), dtype=x.dtype)


unit_step_p = pointwise(
    "unit_step",
    "x y",
    doc="1 where x > y, a half where they are equal, 0 elsewhere: who wins, ties shared.",
    eager=_step_eager,
    derivs=(None, None),
    scalar="x > y ? 1 : x == y ? 0.5 : 0",
    accepts=kinds.INEXACT,
    spec=pair_spec(
        lambda x, y: np.heaviside(x - y, 0.5),
        Operand(-2.0, -0.1),
        Operand(0.1, 2.0),
        dtypes=FLOATS,
        ulps=0.0,
    ),
)


def unit_step(x: Any, y: Any) -> Value:
    """1 where ``x > y``, ½ where they are equal, 0 elsewhere and beside a NaN.

    It is the derivative of ``max(x, y)`` in `x`; its own derivative is zero.

    Example:
        >>> unit_step(np.array([1.0, 2.0, 3.0]), 2.0)
        Array([0. , 0.5, 1. ], dtype=float64)
    """
    return bind(unit_step_p, *operands(x, y))


def _extremum_scalar(numbers: str, truths: str) -> Any:
    return lambda avals, _params: truths if avals[0].dtype.kind == "b" else numbers


max_p = pointwise(
    "max",
    "x y",
    doc="The greater of x and y; NaN where either is.",
    eager=lambda xp, x, y: xp.maximum(x, y),
    derivs=(unit_step, lambda x, y: unit_step(y, x)),
    scalar=_extremum_scalar("max(x, y)", "x | y"),
    accepts=kinds.ANY,
    simplify=lambda args, _params: args[0] if basis.is_same(*args) else None,
    spec=pair_spec(
        np.maximum, Operand(generator="distinct"), Operand(generator="distinct"),
        dtypes=ANY, ulps=0.0, wrong="",
    ),
)  # fmt: skip

min_p = pointwise(
    "min",
    "x y",
    doc="The lesser of x and y; NaN where either is.",
    eager=lambda xp, x, y: xp.minimum(x, y),
    derivs=(lambda x, y: unit_step(y, x), unit_step),
    scalar=_extremum_scalar("min(x, y)", "x & y"),
    accepts=kinds.ANY,
    simplify=lambda args, _params: args[0] if basis.is_same(*args) else None,
    spec=pair_spec(
        np.minimum, Operand(generator="distinct"), Operand(generator="distinct"),
        dtypes=ANY, ulps=0.0, wrong="",
    ),
)  # fmt: skip


def max(x: Any, y: Any) -> Value:
    """The greater operand, element by element; NaN beside a NaN; ties share the derivative.

    Example:
        >>> max(np.array([1.0, 4.0]), 3.0)
        Array([3., 4.], dtype=float64)
    """
    return bind(max_p, *operands(x, y))


def min(x: Any, y: Any) -> Value:
    """The lesser operand, element by element; NaN beside a NaN; ties share the derivative.

    Example:
        >>> min(np.array([1.0, 4.0]), 3.0)
        Array([1., 3.], dtype=float64)
    """
    return bind(min_p, *operands(x, y))


# The factors are those of min(max(lo, x), hi).
clamp_p = pointwise(
    "clamp",
    "lo x hi",
    doc="x between the bounds lo and hi: min(max(x, lo), hi).",
    eager=lambda xp, lo, x, hi: xp.minimum(xp.maximum(x, lo), hi),
    derivs=(
        lambda lo, x, hi: mul(unit_step(lo, x), unit_step(hi, lo)),
        lambda lo, x, hi: mul(unit_step(x, lo), unit_step(hi, x)),
        lambda lo, x, hi: unit_step(max(lo, x), hi),
    ),
    scalar=_extremum_scalar("min(max(x, lo), hi)", "(x | lo) & hi"),
    accepts=kinds.BITS + kinds.FLOAT,
    decompose=lambda lo, x, hi: min(max(x, lo), hi),
    spec=Spec(
        (Operand(-1.0, -0.5), Operand(kinks=(-1.0, -0.5, 0.5, 1.0)), Operand(0.5, 1.0)),
        (Case("...,...,..."),),
        dtypes=REAL,
        reference=lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f64[2]", "f32[2]"), DtypeError, "one dtype"),
            Invalid(("c64[2]", "c64[2]", "c64[2]"), DtypeError, "takes"),
        ),
    ),
)


def clamp(min: Any, x: Any, max: Any) -> Value:
    """``x`` limited to the range from ``min`` to ``max``; the derivative is ½ at its edges.

    Args:
        min: The lower bound; ``[]`` or a shape that broadcasts with that of `x`.
        x: ``[...]``, real or bool.
        max: The upper bound; it prevails where it is below `min`.

    Returns:
        The broadcast shape, the dtype of `x`.

    Example:
        >>> clamp(0.0, np.array([-1.0, 0.5, 2.0]), 1.0)
        Array([0. , 0.5, 1. ], dtype=float64)
    """
    return bind(clamp_p, *operands3(min, x, max))
