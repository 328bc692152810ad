"""Distinct elements, and operations on arrays as sets.

Shapes depend on values, so arrays must be concrete unless ``size`` is given.
"""

from typing import Any, NamedTuple

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ConcretizationTypeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import (
    bitwise,
    indexing,
    joining,
    positions,
    reductions,
    selection,
    shaping,
    sorting,
)
from fgrad.numpy.elementary import isnan
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import number, promote, value


class UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Any
    counts: Any


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Any
    inverse_indices: Any


def unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None, *, equal_nan: bool = True, size: int | None = None,
    fill_value: Any = None, sorted: bool = True,
) -> Any:  # fmt: skip
    """The sorted distinct elements (or slices along an axis).

    Args:
        ar: The array.
        return_index: Whether to return where each occurs first.
        return_inverse: Whether to return which one each element is.
        return_counts: Whether to return how often each occurs.
        axis: The axis of the slices; None flattens.
        equal_nan: Whether all NaN count as one.
        size: The static number of results; needed where `ar` is traced. Fewer are filled up.
        fill_value: What fills up; the least element where None.
        sorted: Ignored: they are sorted.

    Raises:
        ConcretizationTypeError: `ar` is traced and there is no `size`.
    """
    del sorted
    x = value(ar, "unique", "ar")
    shape = x.shape
    if axis is None:
        x, place = shaping.ravel(x), 0
    else:
        place = ax.one("unique", axis, x.ndim)
        x = basis.moveaxis(x, place, 0)
    n = x.shape[0]
    if n == 0 or x.size == 0:
        count = 0 if size is None else size
        empty = lax.full((0,), 0, dtypes.default_int())
        found = [x if size is None else lax.full((count, *x.shape[1:]), 0, x.dtype), empty,
                 empty, empty]  # fmt: skip
    else:
        found = _unique(x, equal_nan, size, fill_value)
    found[0] = basis.moveaxis(found[0], 0, place) if axis is not None else found[0]
    if axis is None:
        found[2] = basis.reshape(found[2], shape)
    wanted = (True, return_index, return_inverse, return_counts)
    out = tuple(f for f, w in zip(found, wanted, strict=True) if w)
    return out if len(out) > 1 else out[0]


def _unique(x: Value, equal_nan: bool, size: int | None, fill: Any) -> list[Value]:
    n = x.shape[0]
    kind = dtypes.default_int()
    rows = basis.reshape(x, (n, x.size // n))
    keys = list(joining.unstack(rows, axis=1))
    order = sorting.lexsort(keys[::-1])
    at = indexing.get(rows, order)
    before = lax.slice_in_dim(at, 0, n - 1, axis=0)
    after = lax.slice_in_dim(at, 1, n, axis=0)
    differ = lax.ne(before, after)
    if equal_nan and dtypes.is_inexact(x.dtype):
        differ = lax.bitwise_and(
            differ, lax.bitwise_not(lax.bitwise_and(isnan(before), isnan(after)))
        )
    first = lax.concatenate([lax.full((1,), True), lax.reduce_or(differ, (1,))], 0)
    starts, count = _starts(first, n, size, kind)
    place = selection.where(bitwise.less(starts, n), starts, 0)
    positions = indexing.get(order, place)
    values = indexing.get(x, positions)
    ends = lax.concatenate([lax.slice_in_dim(starts, 1, count, axis=0),
                            lax.full((min(count, 1),), n, kind)], 0)  # fmt: skip
    counts = lax.sub(ends, starts)
    if size is not None:
        real = bitwise.less(starts, n)
        mask = basis.reshape(real, (count,) + (1,) * (x.ndim - 1))
        least = lax.slice_in_dim(values, 0, min(1, count), axis=0)
        filler = least if fill is None else convert_element_type(value(fill), x.dtype)
        values = select_n(mask, basis.broadcast_to(filler, values.shape), values)
    group = lax.sub(lax.cumsum(convert_element_type(first, kind), axis=0),
                    number(1, kind, weak=False))  # fmt: skip
    inverse = lax.full((n,), 0, kind).at[order].set(group)
    return [values, convert_element_type(positions, kind), inverse, counts]


def _starts(first: Value, n: int, size: int | None, kind: Any) -> tuple[Value, int]:
    """Where each group of equal rows begins, n where there is none."""
    if size is not None:
        return positions.nonzero(first, size=size, fill_value=n)[0], size
    known = first.concrete()
    if known is None:
        raise ConcretizationTypeError(
            "unique: how many elements of a traced array are distinct is not known while tracing; "
            "pass size="
        )
    where = np.flatnonzero(host(known)).astype(kind)
    return value(where), where.size


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAllResult:
    """Distinct elements, where each is first, which one each element is, how often it occurs."""
    return UniqueAllResult(
        *unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_counts(
    x: Any, /, *, size: int | None = None, fill_value: Any = None
) -> UniqueCountsResult:
    """Distinct elements, and how often each occurs."""
    return UniqueCountsResult(
        *unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_inverse(
    x: Any, /, *, size: int | None = None, fill_value: Any = None
) -> UniqueInverseResult:
    """Distinct elements, and which one each element is."""
    return UniqueInverseResult(
        *unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value)
    )


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Value:
    """Distinct elements."""
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False,
    *, method: Any = None,
) -> Value:  # fmt: skip
    """Whether each element is one of `test_elements`."""
    del assume_unique, method
    x, tests = promote("isin", element, test_elements)
    tests = shaping.ravel(tests)
    if tests.size == 0:
        found: Value = lax.full(x.shape, False)
    elif tests.size <= 32 or dtypes.is_complex(x.dtype):
        wide = basis.reshape(x, (*x.shape, 1))
        found = lax.reduce_or(lax.eq(wide, tests), (x.ndim,))
    else:
        tests = sorting.sort(tests)
        place = lax.min(sorting.searchsorted(tests, x),
                        number(tests.size - 1, dtypes.default_int(), weak=False))  # fmt: skip
        found = lax.eq(indexing.get(tests, place), x)
    return lax.bitwise_not(found) if invert else found


def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False, *,
    size: int | None = None, fill_value: Any = None,
) -> Any:  # fmt: skip
    """The sorted distinct elements that are in both arrays.

    Args:
        ar1: An array.
        ar2: An array.
        assume_unique: Ignored.
        return_indices: Whether to return where each occurs first in either array.
        size: The static number of results; needed where an array is traced.
        fill_value: What fills up; the least element where None.
    """
    del assume_unique
    x, y = (shaping.ravel(v) for v in promote("intersect1d", ar1, ar2))
    values, first = unique(x, return_index=True, size=None if size is None else x.size)
    if size is None:
        common = isin(values, y)
        chosen = positions.nonzero(common)[0]
        out, index1 = indexing.get(values, chosen), indexing.get(first, chosen)
    else:
        present = isin(values, y)
        # Filled-up repetitions of the least element count once.
        earlier = lax.concatenate([lax.full((1,), True), lax.ne(
            lax.slice_in_dim(values, 1, values.size, axis=0),
            lax.slice_in_dim(values, 0, values.size - 1, axis=0))], 0)  # fmt: skip
        chosen = positions.nonzero(lax.bitwise_and(present, earlier), size=size, fill_value=-1)[0]
        real = bitwise.greater_equal(chosen, 0)
        place = selection.where(real, chosen, 0)
        out, index1 = indexing.get(values, place), indexing.get(first, place)
        filler = reductions.min(out) if fill_value is None else convert_element_type(
            value(fill_value), out.dtype)  # fmt: skip
        out = select_n(real, filler, out)
    if not return_indices:
        return out
    values2, first2 = unique(y, return_index=True, size=None if size is None else y.size)
    index2 = indexing.get(first2, sorting.searchsorted(values2, out), mode="clip")
    return out, index1, index2


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Value:
    """The sorted distinct elements that are in either array."""
    x, y = (shaping.ravel(v) for v in promote("union1d", ar1, ar2))
    return unique(lax.concatenate([x, y], 0), size=size, fill_value=fill_value)


def setdiff1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None,
    fill_value: Any = None,
) -> Value:  # fmt: skip
    """The distinct elements of the first array that are not in the second."""
    x, y = (shaping.ravel(v) for v in promote("setdiff1d", ar1, ar2))
    if size is None:
        values = x if assume_unique else unique(x)
        return indexing.get(values, positions.nonzero(isin(values, y, invert=True))[0])
    values, counts = unique(x, return_counts=True, size=x.size)
    keep = lax.bitwise_and(isin(values, y, invert=True), bitwise.greater(counts, 0))
    chosen = positions.nonzero(keep, size=size, fill_value=-1)[0]
    out = indexing.get(values, selection.where(bitwise.less(chosen, 0), 0, chosen))
    fill = number(0, out.dtype) if fill_value is None else convert_element_type(
        value(fill_value), out.dtype)  # fmt: skip
    return select_n(bitwise.less(chosen, 0), out, fill)


def setxor1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None,
    fill_value: Any = None,
) -> Value:  # fmt: skip
    """The sorted distinct elements that are in exactly one of the arrays."""
    del assume_unique
    x, y = (shaping.ravel(v) for v in promote("setxor1d", ar1, ar2))
    first = setdiff1d(x, y, size=size, fill_value=fill_value)
    second = setdiff1d(y, x, size=size, fill_value=fill_value)
    return unique(lax.concatenate([first, second], 0), size=size, fill_value=fill_value)
