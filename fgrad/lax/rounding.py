"""Rounding to integers and to neighbouring floats, element by element."""

import enum
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.errors import StaticArgumentError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import FLOATS, Absent, Case, Operand, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.kinds import FLOAT, pointwise
from fgrad.lax.operands import operands, pair_spec, unary_spec

__all__ = [
    "RoundingMethod",
    "ceil",
    "ceil_p",
    "floor",
    "floor_p",
    "nextafter",
    "nextafter_p",
    "round",
    "round_p",
]

_STEPS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)  # where the functions jump


class RoundingMethod(enum.IntEnum):
    """How `round` treats a value halfway between two integers."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


floor_p: Primitive = pointwise(
    "floor",
    "x",
    doc="The greatest integer at most x.",
    eager=lambda xp, x: xp.floor(x),
    derivs=(None,),
    scalar="floor(x)",
    accepts=FLOAT,
    simplify=basis.idempotent(lambda: floor_p),
    spec=unary_spec(np.floor, kinks=_STEPS, dtypes=FLOATS, ulps=0.0),
)

ceil_p: Primitive = pointwise(
    "ceil",
    "x",
    doc="The least integer at least x.",
    eager=lambda xp, x: xp.ceil(x),
    derivs=(None,),
    scalar="ceil(x)",
    accepts=FLOAT,
    simplify=basis.idempotent(lambda: ceil_p),
    spec=unary_spec(np.ceil, kinks=_STEPS, dtypes=FLOATS, ulps=0.0),
)


def floor(x: Any) -> Value:
    """The greatest integer at most each element of ``x`` (``[...]``, float); its dtype stays.

    Example:
        >>> floor(np.array([-1.5, 1.5]))
        Array([-2.,  1.], dtype=float64)
    """
    return bind(floor_p, as_value(x))


def ceil(x: Any) -> Value:
    """The least integer at least each element of ``x`` (``[...]``, float); its dtype stays.

    Example:
        >>> ceil(np.array([-1.5, 1.5]))
        Array([-1.,  2.], dtype=float64)
    """
    return bind(ceil_p, as_value(x))


def _round_eager(xp: Any, x: Any, *, rounding_method: RoundingMethod) -> Any:
    if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
        return xp.rint(x)
    # Adding a half first would round 0.49999999999999994 up; the fraction is exact.
    whole = xp.trunc(x)
    away = xp.absolute(x - whole) >= 0.5
    return xp.copysign(xp.where(away, whole + xp.copysign(x.dtype.type(1), x), whole), x)


def _round_scalar(_avals: Any, params: dict[str, Any]) -> str:
    if params["rounding_method"] == RoundingMethod.TO_NEAREST_EVEN:
        return "rint(x)"
    return "copysign(abs(x - trunc(x)) >= 0.5 ? trunc(x) + copysign(1, x) : trunc(x), x)"


def _round_reference(x: Any, *, rounding_method: RoundingMethod) -> Any:
    if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
        return np.round(x)
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


round_p: Primitive = pointwise(
    "round",
    "x",
    doc="The nearest integer.",
    eager=_round_eager,
    derivs=(None,),
    scalar=_round_scalar,
    accepts=FLOAT,
    simplify=basis.idempotent(lambda: round_p),
    spec=unary_spec(
        _round_reference,
        kinks=_STEPS,
        dtypes=FLOATS,
        ulps=0.0,
        cases=tuple(Case("...", {"rounding_method": m}, name=m.name) for m in RoundingMethod),
    ),
)


def round(x: Any, rounding_method: RoundingMethod = RoundingMethod.AWAY_FROM_ZERO) -> Value:
    """The integer nearest to each element of ``x`` (``[...]``, float); its dtype stays.

    Args:
        x: ``[...]``, float.
        rounding_method: What becomes of values halfway between two integers.

    Raises:
        StaticArgumentError: `rounding_method` is no `RoundingMethod`.

    Example:
        >>> round(np.array([0.5, 1.5, 2.4]))
        Array([1., 2., 2.], dtype=float64)
        >>> round(np.array([0.5, 1.5, 2.4]), RoundingMethod.TO_NEAREST_EVEN)
        Array([0., 2., 2.], dtype=float64)
    """
    try:
        method = RoundingMethod(rounding_method)
    except ValueError:
        raise StaticArgumentError(
            f"round: rounding_method must be one of {', '.join(map(str, RoundingMethod))}, got "
            f"{rounding_method!r}"
        ) from None
    return bind(round_p, as_value(x), rounding_method=method)


def _nextafter_scalar(avals: Any, _params: Any) -> Any:
    if avals[0].dtype in (np.float32, np.float64):
        return "nextafter(x, y)"
    return Absent("kernels hold narrow floats as float32, whose neighbours are others")


nextafter_p = pointwise(
    "nextafter",
    "x y",
    doc="The float next to x in the direction of y.",
    eager=lambda xp, x, y: xp.nextafter(x, y),
    derivs=(1, None),  # the step is constant between two powers of 2
    scalar=_nextafter_scalar,
    accepts=FLOAT,
    widen=False,
    spec=pair_spec(
        np.nextafter, Operand(1.1, 1.9), Operand(2.0, 3.0), dtypes=("float64",), ulps=0.0
    ),
)


def nextafter(x1: Any, x2: Any) -> Value:
    """The float next to ``x1`` in the direction of ``x2``, in their own dtype; operands broadcast.

    Example:
        >>> nextafter(np.float32(1.0), np.float32(2.0)) == 1 + 2.0**-23
        Array(True, dtype=bool)
    """
    return bind(nextafter_p, *operands(x1, x2))
