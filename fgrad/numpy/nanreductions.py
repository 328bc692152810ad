"""Reductions that ignore NaN."""

import math
from collections.abc import Callable
from typing import Any

from fgrad.core import dtypes
from fgrad.core.basis import select_n
from fgrad.core.primitive import Value
from fgrad.numpy import bitwise
from fgrad.numpy.elementary import isnan
from fgrad.numpy.promotion import number, value
from fgrad.numpy.reductions import all, max, mean, min, prod, std, sum, var

__all__ = [
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
]


def _without_nan(x: Value, neutral: Any) -> tuple[Value, Value]:
    """`x` with NaN replaced, and where it was."""
    missing = isnan(x)
    if not dtypes.is_inexact(x.dtype):
        return x, missing
    return select_n(missing, x, number(neutral, x.dtype, weak=False)), missing


def nansum(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    initial: Any = None, where: Any = None,
) -> Value:  # fmt: skip
    """`sum`, with NaN counted as 0."""
    x, _ = _without_nan(value(a, "nansum", "a"), 0)
    return sum(x, axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    initial: Any = None, where: Any = None,
) -> Value:  # fmt: skip
    """`prod`, with NaN counted as 1."""
    x, _ = _without_nan(value(a, "nanprod", "a"), 1)
    return prod(x, axis, dtype, out, keepdims, initial, where)


def _nan_extremum(name: str, extremum: Any, neutral: Callable[[Any], Any], doc: str) -> Any:
    def found(
        a: Any, axis: Any = None, out: None = None, keepdims: bool = False,
        initial: Any = None, where: Any = None,
    ) -> Value:  # fmt: skip
        x = value(a, name, "a")
        if not dtypes.is_float(x.dtype):
            return extremum(x, axis, out, keepdims, initial, where)
        filled, missing = _without_nan(x, neutral(x.dtype))
        best = extremum(filled, axis, out, keepdims, initial, where)
        return select_n(
            all(missing, axis, keepdims=keepdims, where=where), best,
            number(math.nan, x.dtype, weak=False),
        )  # fmt: skip

    found.__name__ = found.__qualname__ = name
    found.__doc__ = doc
    return found


nanmax = _nan_extremum("nanmax", max, dtypes.lowest, "`max`, ignoring NaN; NaN where all are NaN.")
nanmin = _nan_extremum("nanmin", min, dtypes.highest, "`min`, ignoring NaN; NaN where all are NaN.")


def _present(x: Value, where: Any) -> Value:
    present = bitwise.logical_not(isnan(x))
    return present if where is None else bitwise.logical_and(present, where)


def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    where: Any = None,
) -> Value:  # fmt: skip
    """`mean`, ignoring NaN."""
    x = value(a, "nanmean", "a")
    return mean(x, axis, dtype, out, keepdims, where=_present(x, where))


def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0,
    keepdims: bool = False, where: Any = None,
) -> Value:  # fmt: skip
    """`var`, ignoring NaN."""
    x = value(a, "nanvar", "a")
    return var(x, axis, dtype, out, ddof, keepdims, where=_present(x, where))


def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0,
    keepdims: bool = False, where: Any = None,
) -> Value:  # fmt: skip
    """`std`, ignoring NaN."""
    x = value(a, "nanstd", "a")
    return std(x, axis, dtype, out, ddof, keepdims, where=_present(x, where))
