"""Reductions of segments, under the names of ``jax.ops``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad import numpy as fnp
from fgrad.core import dtypes
from fgrad.core.errors import ConcretizationTypeError, DtypeError, ShapeError
from fgrad.core.primitive import Value
from fgrad.core.tracing import Tracer

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]

Mode = str | lax.GatherScatterMode | None


def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Value:
    """Sum the rows of an array that belong to the same segment.

    Args:
        data: ``[n, …]``, numbers; of booleans the sum is their "or".
        segment_ids: ``[n]``, integers: the segment of each row, in any order.
        num_segments: The number of segments; ``max(segment_ids) + 1`` where it is left out, which
            needs concrete `segment_ids`.
        indices_are_sorted: A promise that `segment_ids` does not fall.
        unique_indices: A promise that no segment has two rows.
        mode: What happens to rows of a segment that is not in ``[0, num_segments)``: 'drop' leaves
            them out, as JAX does; by default they are an error (see `lax.GatherScatterMode`).

    Returns:
        ``[num_segments, …]`` in the dtype of `data`; 0 for segments without rows.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: `segment_ids` are no integers.
        IndexOutOfBoundsError: A segment does not exist, in the default mode.
        ConcretizationTypeError: `num_segments` is left out and `segment_ids` is traced.

    Numerics:
        As `lax.scatter_add`: deterministic, and compiled sums of short floats are rounded once.

    Source:
        JAX, ``jax.ops.segment_sum``.

    Example:
        >>> segment_sum(np.array([1.0, 2.0, 4.0], "f"), np.array([0, 2, 0]))
        Array([5., 0., 2.], dtype=float32)
        >>> segment_sum(np.array([1.0, 2.0, 4.0], "f"), np.array([0, 3, 0]), 2, mode="drop")
        Array([5., 0.], dtype=float32)
    """
    promises = (indices_are_sorted, unique_indices)
    return _reduced("segment_sum", lax.scatter_add, data, segment_ids, num_segments, promises, mode)


def segment_prod(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Value:
    """Multiply the rows of an array that belong to the same segment; see `segment_sum`.

    Returns:
        ``[num_segments, …]`` in the dtype of `data`; 1 for segments without rows. Of booleans the
        product is their "and".

    Source:
        JAX, ``jax.ops.segment_prod``.

    Example:
        >>> segment_prod(np.array([3.0, 2.0, 4.0], "f"), np.array([0, 2, 0]))
        Array([12.,  1.,  2.], dtype=float32)
    """
    promises = (indices_are_sorted, unique_indices)
    return _reduced(
        "segment_prod", lax.scatter_mul, data, segment_ids, num_segments, promises, mode
    )


def segment_max(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Value:
    """The greatest of the rows of an array that belong to the same segment; see `segment_sum`.

    Returns:
        ``[num_segments, …]`` in the dtype of `data`; for segments without rows -∞, or the least
        integer.

    Source:
        JAX, ``jax.ops.segment_max``.

    Example:
        >>> segment_max(np.array([3.0, 2.0, 4.0], "f"), np.array([0, 2, 0]))
        Array([  4., -inf,   2.], dtype=float32)
    """
    promises = (indices_are_sorted, unique_indices)
    return _reduced("segment_max", lax.scatter_max, data, segment_ids, num_segments, promises, mode)


def segment_min(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Value:
    """The least of the rows of an array that belong to the same segment; see `segment_sum`.

    Returns:
        ``[num_segments, …]`` in the dtype of `data`; for segments without rows ∞, or the greatest
        integer.

    Source:
        JAX, ``jax.ops.segment_min``.

    Example:
        >>> segment_min(np.array([3, 2, 4], "i4"), np.array([0, 1, 0]))
        Array([3, 2], dtype=int32)
    """
    promises = (indices_are_sorted, unique_indices)
    return _reduced("segment_min", lax.scatter_min, data, segment_ids, num_segments, promises, mode)


_OF_BOOLEANS = {lax.scatter_add: lax.scatter_max, lax.scatter_mul: lax.scatter_min}


def _reduced(
    name: str, scatter: Callable[..., Value], data: Any, segment_ids: Any,
    num_segments: int | None, promises: tuple[bool, bool], mode: Mode,
) -> Value:  # fmt: skip
    """Combine rows by a scatter into what it leaves as it is."""
    x, ids = fnp.asarray(data), fnp.asarray(segment_ids)
    if not dtypes.is_integer(ids.dtype):
        raise DtypeError(f"{name}: segment_ids must be integers, got {ids.aval}; use astype")
    if ids.ndim != 1 or x.ndim < 1 or x.shape[0] != ids.shape[0]:
        raise ShapeError(
            f"{name}: segment_ids must be one integer for each row of data, which is {x.aval}; "
            f"got {ids.aval}"
        )
    count = _count(name, ids) if num_segments is None else int(num_segments)
    if count < 0:
        raise ShapeError(f"{name}: num_segments must not be negative, got {count}")
    if x.dtype.kind == "b":
        rows = fnp.astype(x, np.uint8)
        scatter = _OF_BOOLEANS.get(scatter, scatter)
        # Segments without rows hold the least or the greatest integer.
        return _reduced(name, scatter, rows, ids, count, promises, mode) != 0
    start = fnp.full((count, *x.shape[1:]), _identity(scatter, x.dtype), x.dtype)
    numbers = lax.ScatterDimensionNumbers(tuple(range(1, x.ndim)), (0,), (0,))
    return scatter(
        start, ids[:, None], x, numbers,
        indices_are_sorted=promises[0], unique_indices=promises[1], mode=mode,
    )  # fmt: skip


def _count(name: str, ids: Value) -> int:
    known: Any = ids.concrete() if isinstance(ids, Tracer) else ids
    if known is None:
        raise ConcretizationTypeError(
            f"{name} needs the greatest of segment_ids for the shape of its result, and a tracer "
            f"({ids.aval}) has no value; pass num_segments"
        )
    return int(known._data.max()) + 1 if ids.size else 0


def _identity(scatter: Callable[..., Value], dtype: Any) -> Any:
    if scatter in (lax.scatter_add, lax.scatter_mul):
        return 0 if scatter is lax.scatter_add else 1
    if dtypes.is_inexact(dtype):
        return -np.inf if scatter is lax.scatter_max else np.inf
    limits = np.iinfo(dtype)
    return limits.min if scatter is lax.scatter_max else limits.max
