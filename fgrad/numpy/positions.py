"""Positions: of nonzero elements, of triangles and diagonals, and their arithmetic."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.config import config
from fgrad.core.errors import (
    ConcretizationTypeError,
    IndexOutOfBoundsError,
    ShapeError,
)
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import bitwise, joining, shaping, ufuncs
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import number, operands, promote, value

__all__ = [
    "argwhere",
    "diag_indices",
    "diag_indices_from",
    "flatnonzero",
    "ix_",
    "nonzero",
    "ravel_multi_index",
    "tril_indices",
    "tril_indices_from",
    "triu_indices",
    "triu_indices_from",
    "unravel_index",
]


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Value, ...]:
    """The positions of nonzero elements, one array an axis.

    Args:
        a: At least one axis.
        size: The static number of positions: the first ones, then `fill_value`. It is needed
            where `a` is traced.
        fill_value: One number, or one an axis; 0 where None.

    Raises:
        ConcretizationTypeError: `a` is traced and there is no `size`.
    """
    x = value(a, "nonzero", "a")
    if not x.ndim:
        raise ShapeError("nonzero: a needs at least one axis; use atleast_1d")
    mask = ufuncs.truth(x)
    kind = dtypes.default_int()
    if size is None:
        known = mask.concrete()
        if known is None:
            raise ConcretizationTypeError(
                f"nonzero: how many elements of the traced {x.aval} are nonzero is not known while "
                f"tracing; pass size=, or use where(mask, x, other)"
            )
        return tuple(value(i.astype(kind)) for i in np.nonzero(host(known)))
    return _nonzero_sized(
        shaping.ravel(mask), x.shape, integer(size, "nonzero: size"), fill_value, kind
    )


def _nonzero_sized(
    mask: Value, shape: tuple[int, ...], size: int, fill: Any, kind: np.dtype[Any]
) -> tuple[Value, ...]:
    n = mask.size
    fills = [0 if fill is None else fill] * len(shape) if np.ndim(fill) == 0 else list(fill)
    if n == 0 or size == 0:
        return tuple(lax.full((size,), f, kind) for f in fills)
    # The k-th position is where the running count first exceeds k.
    count = lax.cumsum(convert_element_type(mask, kind), axis=0)
    slots = lax.broadcasted_iota(kind, (size,), 0)
    place = basis.reshape(lax.sub(count, number(1, kind, weak=False)), (n, 1))
    place = select_n(basis.reshape(mask, (n, 1)), number(size, kind, weak=False), place)
    flat = basis.scalar(0, kind)
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    flat = lax.scatter(lax.full((size,), 0, kind), place, lax.iota(kind, n), dims, mode="drop")
    total = lax.slice_in_dim(count, n - 1, n, axis=0)
    present = lax.lt(slots, total)
    found = unravel_index(flat, shape)
    return tuple(
        select_n(present, convert_element_type(value(f), kind), convert_element_type(i, kind))
        for f, i in zip(fills, found, strict=True)
    )


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Value:
    """The positions of nonzero elements of the flattened array."""
    return nonzero(shaping.ravel(a), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Value:
    """The positions of nonzero elements as rows."""
    x = value(a, "argwhere", "a")
    found = nonzero(shaping.atleast_1d(x), size=size, fill_value=fill_value)
    rows = joining.stack(found, 1)
    return rows if x.ndim else lax.slice_in_dim(rows, 0, 0, axis=1)


def unravel_index(indices: Any, shape: Any) -> tuple[Value, ...]:
    """Positions in the flattened array as positions along each axis; -1 is the last one.

    Raises:
        IndexOutOfBoundsError: A position is known and lies outside; traced ones are clamped.
    """
    lengths = ax.shape_of(shape, "unravel_index")
    rest = value(np.asarray(indices) if isinstance(indices, list | tuple) else indices)
    size, known = math.prod(lengths), rest.concrete()
    if known is not None and config.out_of_bounds == "raise":
        data = host(known)
        if data.size and not (data.min() >= -size and data.max() < size):
            raise IndexOutOfBoundsError(
                f"unravel_index: positions from {data.min()} to {data.max()} lie outside of an "
                f"array of {size} elements"
            )
    negative = bitwise.less(rest, 0)
    rest = select_n(negative, rest, ufuncs.add(rest, size)) if rest.dtype.kind == "i" else rest
    rest = ufuncs.maximum(ufuncs.minimum(rest, max(size - 1, 0)), 0)
    found = []
    for n in reversed(lengths):
        rest, part = ufuncs.divmod(rest, max(n, 1))
        found.append(part)
    return tuple(reversed(found))


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str = "raise", order: str = "C"
) -> Value:
    """Positions along each axis as positions in the flattened array.

    Args:
        multi_index: One integer array an axis.
        dims: The lengths of the axes.
        mode: "raise" (needs concrete positions), "wrap" or "clip".
        order: "C" or "F".
    """
    parts: list[Value] = operands("ravel_multi_index", list(multi_index))
    parts = promote("ravel_multi_index", *parts)
    lengths = ax.shape_of(dims, "ravel_multi_index")
    if len(parts) != len(lengths):
        raise ShapeError(f"ravel_multi_index: {len(parts)} indices do not fit {list(lengths)}")
    total: Value = number(0, parts[0].dtype)
    stride = 1
    axes = range(len(lengths)) if order == "F" else range(len(lengths) - 1, -1, -1)
    for i in axes:
        total = ufuncs.add(total, ufuncs.multiply(_inside(parts[i], lengths[i], mode), stride))
        stride *= lengths[i]
    return total


def _inside(index: Value, n: int, mode: str) -> Value:
    if mode == "wrap":
        return ufuncs.remainder(index, n)
    if mode == "clip":
        return ufuncs.maximum(ufuncs.minimum(index, n - 1), 0)
    known = index.concrete()
    if known is None:
        raise ConcretizationTypeError(
            "ravel_multi_index: mode='raise' needs to know the positions, which are traced; pass "
            "mode='clip' or 'wrap'"
        )
    data = host(known)
    if data.size and not (data.min() >= 0 and data.max() < n):
        raise IndexOutOfBoundsError(f"ravel_multi_index: positions lie outside 0 to {n - 1}")
    return index


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Value, Value]:
    """The positions at and below the k-th diagonal of an ``[n, m]`` matrix."""
    rows, columns = np.tril_indices(n, k, m)
    kind = dtypes.default_int()
    return value(rows.astype(kind)), value(columns.astype(kind))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Value, Value]:
    """The positions at and above the k-th diagonal of an ``[n, m]`` matrix."""
    rows, columns = np.triu_indices(n, k, m)
    kind = dtypes.default_int()
    return value(rows.astype(kind)), value(columns.astype(kind))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Value, Value]:
    """`tril_indices` for a matrix."""
    return tril_indices(*_sides("tril_indices_from", arr, k))


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Value, Value]:
    """`triu_indices` for a matrix."""
    return triu_indices(*_sides("triu_indices_from", arr, k))


def _sides(name: str, arr: Any, k: int) -> tuple[int, int, int]:
    shape = shaping.shape(arr)
    if len(shape) != 2:
        raise ShapeError(f"{name}: needs a matrix, got the shape {list(shape)}")
    return shape[0], k, shape[1]


def diag_indices(n: int, ndim: int = 2) -> tuple[Value, ...]:
    """The positions on the main diagonal of an array with equal axes."""
    return (lax.iota(dtypes.default_int(), n),) * ndim


def diag_indices_from(arr: Any) -> tuple[Value, ...]:
    """`diag_indices` for an array."""
    shape = shaping.shape(arr)
    if len(shape) < 2 or len(set(shape)) != 1:
        raise ShapeError(f"diag_indices_from: the axes must have one length, got {list(shape)}")
    return diag_indices(shape[0], len(shape))


def ix_(*args: Any) -> tuple[Value, ...]:
    """Vectors of positions as an open grid: indexing with it takes the outer product."""
    parts = [value(np.asarray(a) if isinstance(a, list | tuple) else a) for a in args]
    found = []
    for i, p in enumerate(parts):
        if p.ndim != 1:
            raise ShapeError(f"ix_ takes vectors, got {p.aval}")
        line = nonzero(p)[0] if p.dtype == np.bool_ else p
        found.append(
            basis.reshape(line, tuple(line.size if j == i else 1 for j in range(len(parts))))
        )
    return tuple(found)
