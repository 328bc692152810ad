"""Order statistics: medians, quantiles and percentiles."""

from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import indexing, reductions, ufuncs
from fgrad.numpy.elementary import isinf, isnan
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import NUMBERS, number, promote_inexact
from fgrad.numpy.sorting import sort

__all__ = [
    "median",
    "nanmedian",
    "nanpercentile",
    "nanquantile",
    "percentile",
    "quantile",
]


def median(
    a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    keepdims: bool = False,
) -> Value:  # fmt: skip
    """The middle of the sorted elements over axes, or the mean of the two in the middle."""
    del out, overwrite_input
    return quantile(a, 0.5, axis, keepdims=keepdims)


def percentile(
    a: Any, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Value:  # fmt: skip
    """`quantile`, with `q` in percent."""
    return quantile(a, _fractions(q), axis, out, overwrite_input, method, keepdims)


def _fractions(q: Any) -> Any:
    """Percent as fractions; those of Python numbers are Python's, which round less."""
    levels = _levels(q)
    return levels / 100.0 if type(levels) in NUMBERS else ufuncs.divide(levels, 100.0)


def _levels(q: Any) -> Any:
    return np.asarray(q) if isinstance(q, list | tuple) else q


def quantile(
    a: Any, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Value:  # fmt: skip
    """The values below which a part `q` of the elements lies; NaN where there is one.

    Args:
        a: The array.
        q: The parts, in [0, 1]; their axes come first in the result.
        axis: An axis, a tuple of them, or None for all.
        out: Not supported.
        overwrite_input: Ignored: arrays are immutable.
        method: Between two elements: "linear", "lower", "higher", "midpoint" or "nearest".
        keepdims: Keep the axes with length 1.
    """
    del out, overwrite_input
    return _quantile("quantile", a, q, axis, method, keepdims, ignore_nan=False)


def nanquantile(
    a: Any, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Value:  # fmt: skip
    """`quantile`, ignoring NaN."""
    del out, overwrite_input
    return _quantile("nanquantile", a, q, axis, method, keepdims, ignore_nan=True)


def nanpercentile(
    a: Any, q: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False,
) -> Value:  # fmt: skip
    """`percentile`, ignoring NaN."""
    return nanquantile(a, _fractions(q), axis, out, overwrite_input, method, keepdims)


def nanmedian(
    a: Any, axis: Any = None, out: None = None, overwrite_input: bool = False,
    keepdims: bool = False,
) -> Value:  # fmt: skip
    """`median`, ignoring NaN."""
    del out, overwrite_input
    return nanquantile(a, 0.5, axis, keepdims=keepdims)


def _quantile(
    name: str, a: Any, q: Any, axis: Any, method: str, keepdims: bool, *, ignore_nan: bool
) -> Value:
    if method not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ArgumentError(
            f"{name}: method {method!r} is not known; choose linear, lower, higher, midpoint or "
            f"nearest"
        )
    x, level = promote_inexact(name, *promote_inexact(name, a), _levels(q))
    known = level.concrete()
    if known is not None and not ((host(known) >= 0) & (host(known) <= 1)).all():
        raise ArgumentError(f"{name}: levels must lie in [0, 1], percentages in [0, 100]; got {q}")
    axes = ax.several(name, axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    rows = basis.transpose(x, (*rest, *axes))
    kept = tuple(x.shape[i] for i in rest)
    n = x.size // max(int(np.prod(kept, dtype=np.int64)), 1) if x.size else 0
    if n == 0:
        raise ShapeError(f"{name}: {x.aval} has no elements along axes {axes}")
    rows = basis.reshape(rows, (*kept, n))
    missing = isnan(rows)
    levels = basis.reshape(level, (*level.shape, *(1,) * len(kept)))
    if ignore_nan:
        present = reductions.sum(lax.bitwise_not(missing), -1)
        last = convert_element_type(lax.sub(present, number(1, present.dtype)), x.dtype)
        last = lax.max(last, ufuncs.const(0, last))
    else:
        last = number(float(n - 1), x.dtype, weak=False)
    place = lax.mul(levels, last)
    ordered = sort(rows, -1)
    out = _between(ordered, lax.stop_gradient(place), place, method)
    gone = reductions.all(missing, -1) if ignore_nan else reductions.any(missing, -1)
    out = select_n(gone, out, number(np.nan, out.dtype, weak=False))
    return basis.reshape(out, level.shape + ax.kept(x.shape, axes)) if keepdims else out


def _between(ordered: Value, fixed: Value, place: Value, method: str) -> Value:
    """Elements of sorted rows at fractional positions."""
    n = ordered.shape[-1]
    kind = np.int32

    def at(position: Value) -> Value:
        index = lax.clamp(np.int32(0), convert_element_type(position, kind), np.int32(n - 1))
        shape = lax.broadcast_shapes(index.shape, ordered.shape[:-1])
        index = basis.broadcast_to(index, shape)
        lead = ordered.ndim - 1
        others = tuple(
            np.arange(m, dtype=np.int32).reshape((-1,) + (1,) * (lead - 1 - i))
            for i, m in enumerate(ordered.shape[:-1])
        )
        return indexing.get(ordered, (*others, index), mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)

    low, high = lax.floor(fixed), lax.ceil(fixed)
    if method == "lower":
        return at(low)
    if method == "higher":
        return at(high)
    if method == "nearest":
        return at(lax.round(fixed, lax.RoundingMethod.TO_NEAREST_EVEN))
    a, b = at(low), at(high)
    if method == "midpoint":
        return lax.mul(lax.add(a, b), ufuncs.const(0.5, a))
    weight = lax.sub(place, low)
    # Between two equal infinities there is no difference. Equal numbers have one, which is 0 and
    # carries the derivatives of both.
    same = lax.bitwise_and(lax.eq(a, b), isinf(a))
    step = lax.mul(select_n(same, lax.sub(b, a), ufuncs.zero_like(a)), weight)
    return select_n(same, lax.add(a, step), a)
