"""Order: sorting, searching, order statistics, counting and distinct values."""

from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import bitwise, indexing, joining, shaping, ufuncs
from fgrad.numpy.elementary import isnan
from fgrad.numpy.promotion import number, promote, promote_inexact, value

__all__ = [
    "argpartition",
    "argsort",
    "bincount",
    "digitize",
    "interp",
    "lexsort",
    "partition",
    "searchsorted",
    "sort",
    "sort_complex",
]


def _check_order(name: str, kind: Any, order: Any) -> None:
    if order is not None:
        raise DtypeError(f"{name}: order= is for structured arrays, which fgrad does not hold")
    if kind not in (None, "stable", "quicksort", "mergesort", "heapsort"):
        raise ArgumentError(f"{name}: kind {kind!r} is not known; sorting is stable")


def sort(
    a: Any, axis: int | None = -1, *, kind: Any = None, order: Any = None, stable: bool = True,
    descending: bool = False,
) -> Value:  # fmt: skip
    """Sorted along an axis, equal elements in their order; NaN comes last.

    Args:
        a: The array.
        axis: The axis; None flattens first.
        kind: Ignored: sorting is stable.
        order: Not supported.
        stable: Sorting is stable in either case.
        descending: Whether the greatest comes first.

    Example:
        >>> sort(np.array([3, 1, 2], np.int32))
        Array([1, 2, 3], dtype=int32)
    """
    del stable
    _check_order("sort", kind, order)
    x = value(a, "sort", "a")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("sort", axis, x.ndim)
    if descending:
        positions = argsort(x, place, descending=True)
        return _pick(x, positions, place)
    return lax.sort(x, dimension=place, is_stable=True)


def argsort(
    a: Any, axis: int | None = -1, *, kind: Any = None, order: Any = None, stable: bool = True,
    descending: bool = False,
) -> Value:  # fmt: skip
    """The positions that sort an axis; the arguments are those of `sort`."""
    del stable
    _check_order("argsort", kind, order)
    x = value(a, "argsort", "a")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("argsort", axis, x.ndim)
    kind_ = dtypes.default_int()
    if descending:  # sorted backwards, and read from the end: equal elements keep their order
        back = lax.rev(x, (place,))
        found = lax.rev(argsort(back, place), (place,))
        return lax.sub(number(x.shape[place] - 1, kind_, weak=False), found)
    positions = lax.broadcasted_iota(kind_, x.shape, place)
    keys = lax.stop_gradient(x)
    return lax.sort((keys, positions), dimension=place, is_stable=True, num_keys=1)[1]


def _pick(x: Value, positions: Value, axis: int) -> Value:
    index = tuple(
        positions if i == axis
        else np.arange(n, dtype=np.int32).reshape(tuple(-1 if j == i else 1 for j in range(x.ndim)))
        for i, n in enumerate(x.shape)
    )  # fmt: skip
    return indexing.get(x, index, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def lexsort(keys: Any, axis: int = -1) -> Value:
    """The positions that sort by several keys, the last one first."""
    parts = [value(k) for k in (joining._parts("lexsort", keys))]
    if not parts[0].ndim:
        return number(0, dtypes.default_int(), weak=False)
    place = ax.one("lexsort", axis, parts[0].ndim)
    positions = lax.broadcasted_iota(dtypes.default_int(), parts[0].shape, place)
    keys_ = [lax.stop_gradient(p) for p in reversed(parts)]
    return lax.sort((*keys_, positions), dimension=place, is_stable=True, num_keys=len(keys_))[-1]


def partition(a: Any, kth: Any, axis: int = -1) -> Value:
    """An axis rearranged so that element `kth` is in its sorted place: here, sorted."""
    x = value(a, "partition", "a")
    _check_kth("partition", kth, x.shape[ax.one("partition", axis, x.ndim)])
    return sort(x, axis)


def argpartition(a: Any, kth: Any, axis: int = -1) -> Value:
    """The positions that `partition` an axis."""
    x = value(a, "argpartition", "a")
    _check_kth("argpartition", kth, x.shape[ax.one("argpartition", axis, x.ndim)])
    return argsort(x, axis)


def _check_kth(name: str, kth: Any, n: int) -> None:
    if not -n <= integer(kth, f"{name}: kth") < n:
        raise ShapeError(f"{name}: kth={kth} lies outside an axis of length {n}")


def sort_complex(a: Any) -> Value:
    """Sorted by real part, then imaginary part, as complex numbers."""
    x = sort(value(a, "sort_complex", "a"))
    return convert_element_type(x, dtypes.to_complex(x.dtype))


def searchsorted(
    a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str = "scan"
) -> Value:
    """Where elements would be put into a sorted vector to keep it sorted.

    Args:
        a: ``[n]``, sorted.
        v: What to put, any shape.
        side: "left" of equal elements, or "right" of them.
        sorter: The positions that sort `a`, where it is not.
        method: Ignored: the result is the same.

    Returns:
        Positions 0 to n, of the shape of `v`.
    """
    del method
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    x, y = promote("searchsorted", a, v)
    if x.ndim != 1:
        raise ShapeError(f"searchsorted: a must be a vector, got {x.aval}")
    if sorter is not None:
        x = indexing.get(x, value(sorter))
    x, y = lax.stop_gradient(x), lax.stop_gradient(y)
    kind = dtypes.default_int()
    n = x.size
    low = lax.full(y.shape, 0, kind)
    if n == 0:
        return low
    below = _before_left if side == "left" else _before_right
    # Binary search on `count`, the number of elements before y: one more bit at each step.
    for bit in reversed(range(n.bit_length())):
        tried = lax.add(low, number(1 << bit, kind, weak=False))
        at = lax.min(tried, number(n, kind, weak=False))
        element = indexing.get(
            x, lax.sub(at, number(1, kind, weak=False)),
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )  # fmt: skip
        fits = lax.bitwise_and(lax.le(tried, number(n, kind, weak=False)), below(element, y))
        low = select_n(fits, low, tried)
    return low


def _before_left(x: Value, y: Value) -> Value:
    """Whether x sorts before y; NaN sorts last."""
    less = bitwise.less(x, y)
    if not dtypes.is_inexact(x.dtype):
        return less
    return lax.bitwise_or(less, lax.bitwise_and(isnan(y), lax.bitwise_not(isnan(x))))


def _before_right(x: Value, y: Value) -> Value:
    """Whether x sorts before y or is equal to it; NaN sorts last."""
    less = bitwise.less_equal(x, y)
    return lax.bitwise_or(less, isnan(y)) if dtypes.is_inexact(x.dtype) else less


def digitize(x: Any, bins: Any, right: bool = False, *, method: Any = None) -> Value:
    """The number of the bin of each element; bins are given by their edges, up or down."""
    del method
    v, edges = promote("digitize", x, bins)
    if edges.ndim != 1:
        raise ShapeError(f"digitize: bins must be a vector, got {edges.aval}")
    n = edges.size
    if n == 0:
        return lax.full(v.shape, 0, dtypes.default_int())
    side = "left" if right else "right"
    rising = searchsorted(edges, v, side)
    back = searchsorted(lax.rev(edges, (0,)), v, side)
    falling = lax.sub(number(n, back.dtype, weak=False), back)
    first, last = (lax.slice_in_dim(edges, i, i + 1, axis=0) for i in (0, n - 1))
    down = basis.reshape(bitwise.greater(first, last), ())
    return select_n(down, rising, falling)


# ---------------------------------------------------------------------- counting and functions


def bincount(
    x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None
) -> Value:
    """How often each number from 0 occurs, or the sum of its weights.

    Args:
        x: A vector of integers ≥ 0.
        weights: Of the shape of `x`.
        minlength: The least length of the result.
        length: The length of the result; needed where `x` is traced. Larger numbers are left out.
    """
    index = value(np.asarray(x) if isinstance(x, list | tuple) else x)
    if index.dtype.kind not in "iub" or index.ndim != 1:
        raise DtypeError(f"bincount takes a vector of integers, got {index.aval}")
    if length is None:
        known = index.concrete()
        if known is None:
            raise ShapeError("bincount: x is traced, so the length of the result must be given")
        data = np.asarray(known)
        if data.size and data.min() < 0:
            raise ArgumentError("bincount: x must not hold negative numbers")
        length = max(int(data.max()) + 1 if data.size else 0, minlength)
    if index.dtype.kind == "b":  # a mask otherwise
        index = basis.convert_element_type(index, np.int32)
    kind = dtypes.default_int() if weights is None else None
    add = number(1, kind, weak=False) if kind is not None else value(weights)
    start = lax.full((length,), 0, add.dtype)
    index = lax.max(index, ufuncs.zero_like(index)) if index.dtype.kind == "i" else index
    return start.at[index].add(add, mode="drop")


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Value:
    """Piecewise linear interpolation of the points ``(xp, fp)``.

    Args:
        x: Where to interpolate, any shape.
        xp: ``[n]``, increasing.
        fp: ``[n]``.
        left: Value below ``xp[0]``; ``fp[0]`` where None; "extrapolate" continues the line.
        right: Value above ``xp[-1]``; ``fp[-1]`` where None; "extrapolate" continues the line.
        period: Of x, which is then taken modulo it.
    """
    v, points, values = promote_inexact("interp", x, xp, fp)
    if points.ndim != 1 or points.shape != values.shape or not points.size:
        raise ShapeError(f"interp: xp and fp must be vectors of one length ≥ 1, got {points.aval} "
                         f"and {values.aval}")  # fmt: skip
    if period is not None:
        v, points, values = _periodic(v, points, values, period)
        left = right = None
    n = points.size
    if n == 1:
        out = basis.broadcast_to(basis.reshape(values, ()), v.shape)
    else:
        upper = lax.clamp(
            number(1, dtypes.default_int(), weak=False),
            searchsorted(points, v, "right"),
            number(n - 1, dtypes.default_int(), weak=False),
        )
        lower = lax.sub(upper, number(1, upper.dtype, weak=False))
        mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
        x0, x1, y0, y1 = (
            indexing.get(p, i, mode=mode) for p in (points, values) for i in (lower, upper)
        )
        width = lax.sub(x1, x0)
        flat = lax.eq(width, ufuncs.zero_like(width))
        slope = lax.div(lax.sub(y1, y0), select_n(flat, width, ufuncs.const(1, width)))
        line = lax.add(y0, lax.mul(lax.sub(v, x0), slope))
        out = select_n(flat, line, y0)
    x_first, y_first, x_last, y_last = (
        basis.reshape(lax.slice_in_dim(p, i, i + 1, axis=0), ())
        for i in (0, n - 1) for p in (points, values)
    )  # fmt: skip
    if left != "extrapolate":
        low = y_first if left is None else convert_element_type(value(left), out.dtype)
        out = select_n(lax.lt(v, x_first), out, low)
    if right != "extrapolate":
        high = y_last if right is None else convert_element_type(value(right), out.dtype)
        out = select_n(lax.gt(v, x_last), out, high)
    return out


def _periodic(v: Value, points: Value, values: Value, period: Any) -> tuple[Value, Value, Value]:
    (length,) = promote_inexact("interp", period)
    length = lax.abs(convert_element_type(length, v.dtype))
    v, points = ufuncs.remainder(v, length), ufuncs.remainder(points, length)
    order = argsort(points)
    points, values = indexing.get(points, order), indexing.get(values, order)
    n = points.size
    a, b, c, d = (
        lax.slice_in_dim(p, i, i + 1, axis=0) for i in (n - 1, 0) for p in (points, values)
    )
    points = lax.concatenate([lax.sub(a, length), points, lax.add(c, length)], 0)
    return v, points, lax.concatenate([b, values, d], 0)
