"""What the pointwise families share: operands from Python numbers, and parts of their specs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import WEAK, ArrayImpl, as_value
from fgrad.core.primitive import FLOATS, INEXACT, Case, Invalid, Operand, Spec, Value
from fgrad.core.tracing import Array

__all__ = ["operands", "operands3"]

MISMATCH = (
    Invalid(("f32[2]", "f64[2]"), DtypeError, "one dtype"),
    Invalid(("f32[2]", "f32[3]"), ShapeError, "broadcast"),
)
PAIR = (Case("...,..."),)
_RANK: dict[type, int] = {int: 1, float: 2, complex: 3}


def like(x: Any, dtype: np.dtype[Any]) -> ArrayImpl:
    """A Python number as a weakly typed scalar of `dtype`.

    Raises:
        DtypeError: It is of a kind that `dtype` cannot hold, or out of its range.
    """
    kind = type(x)
    number = dtype.num
    if not (
        number in NATIVE["c"]
        or (number in NATIVE["f"] and kind is not complex)
        or (kind is int and number not in NATIVE["b"])
        or (kind is float and dtypes.is_float(dtype))
    ):
        raise DtypeError(
            f"the Python {kind.__name__} {x} and an array of {dtype} have no common dtype here; "
            f"convert the array with astype, or use fgrad.numpy, which promotes dtypes"
        )
    try:
        return ArrayImpl(np.asarray(x, dtype), WEAK)
    except OverflowError:
        raise DtypeError(
            f"the Python integer {x} does not fit the other operand's {dtype}"
        ) from None


def operands(x: Any, y: Any) -> tuple[Value, Value]:
    """Two values; a Python number takes the dtype of the other operand.

    Raises:
        DtypeError: One is no array, or a number that the other's dtype cannot hold.
    """
    if type(x) in _RANK:
        if type(y) in _RANK:
            wider = as_value(x if _RANK[type(x)] >= _RANK[type(y)] else y).dtype
            return like(x, wider), like(y, wider)
        y = as_value(y)
        return like(x, y.dtype), y
    x = x if isinstance(x, Array) else as_value(x)
    if type(y) in _RANK:
        return x, like(y, x.dtype)
    return x, y if isinstance(y, Array) else as_value(y)


def operands3(x: Any, y: Any, z: Any) -> tuple[Value, Value, Value]:
    """Three values; Python numbers take the dtype of the first operand that is none."""
    arrays = [v for v in (x, y, z) if type(v) not in _RANK]
    if not arrays:
        wider = as_value(max((x, y, z), key=lambda v: _RANK[type(v)])).dtype
        return like(x, wider), like(y, wider), like(z, wider)
    dtype = as_value(arrays[0]).dtype
    a, b, c = (like(v, dtype) if type(v) in _RANK else as_value(v) for v in (x, y, z))
    return a, b, c


def unary_spec(
    reference: Callable[..., Any],
    low: float = -2.0,
    high: float = 2.0,
    *,
    kinks: tuple[float, ...] = (),
    dtypes: Sequence[str] = INEXACT,
    ulps: float = 4.0,
    wrong: str = "i32[2]",
    cases: tuple[Case, ...] = (Case(),),
    order: int = 3,
) -> Spec:
    """The spec of a function of one operand; `wrong` is a type that it must refuse."""
    params = cases[0].params if isinstance(cases[0].params, dict) else {}
    invalid = (Invalid((wrong,), DtypeError, "takes", **params),) if wrong else ()
    return Spec(
        Operand(low, high, kinks=kinks),
        cases,
        dtypes=tuple(dtypes),
        reference=reference,
        ulps=ulps,
        invalid=invalid,
        order=order,
    )


def pair_spec(
    reference: Callable[..., Any],
    x: Operand = Operand(),  # noqa: B008 - immutable
    y: Operand = Operand(),  # noqa: B008 - immutable
    *,
    dtypes: Sequence[str] = FLOATS,
    ulps: float = 4.0,
    wrong: str = "b[2]",
    mismatch: tuple[Invalid, ...] = MISMATCH,
    order: int = 3,
) -> Spec:
    """The spec of a function of two operands that broadcast; `wrong` is a type it must refuse."""
    refused = (Invalid((wrong, wrong), DtypeError, "takes"),) if wrong else ()
    return Spec(
        (x, y),
        PAIR,
        dtypes=tuple(dtypes),
        reference=reference,
        ulps=ulps,
        invalid=mismatch + refused,
        order=order,
    )
