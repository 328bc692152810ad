"""Index arithmetic of `gather` and `scatter`: dimension numbers, modes, bounds and targets.

Both operations move windows of an operand. `start_indices`, ``[batch…, k]``, holds one window
start for each batch position; the dimension numbers say which operand axis each of its k entries
indexes, which axes of the result (or of the updates) are window axes, and which axes of the
operand and of the indices are batched together. They are those of XLA's Gather and Scatter.
"""

import enum
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fgrad.core.config import config
from fgrad.core.errors import AxisError, IndexOutOfBoundsError, ShapeError

__all__ = ["GatherDimensionNumbers", "GatherScatterMode", "ScatterDimensionNumbers"]

Ints = tuple[int, ...]
_HIGHEST = np.uint64(np.iinfo(np.intp).max)  # an unsigned index beyond it must not become negative


class _DimensionNumbers:
    """Named tuples of axes; equal and hashed by their contents."""

    __slots__: tuple[str, ...] = ()

    def _key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._key()


class GatherDimensionNumbers(_DimensionNumbers):
    """Which axes of a gather are what.

    Args:
        offset_dims: The axes of the result that are window axes, increasing.
        collapsed_slice_dims: Operand axes of window length 1 that leave the result.
        start_index_map: For each entry of an index vector, the operand axis that it indexes.
        operand_batching_dims: Operand axes that are walked together with axes of the indices.
        start_indices_batching_dims: Those axes of the indices, in the same order.
    """

    __slots__ = (
        "collapsed_slice_dims",
        "offset_dims",
        "operand_batching_dims",
        "start_index_map",
        "start_indices_batching_dims",
    )

    def __init__(
        self,
        offset_dims: Sequence[int],
        collapsed_slice_dims: Sequence[int],
        start_index_map: Sequence[int],
        operand_batching_dims: Sequence[int] = (),
        start_indices_batching_dims: Sequence[int] = (),
    ) -> None:
        self.offset_dims = tuple(offset_dims)
        self.collapsed_slice_dims = tuple(collapsed_slice_dims)
        self.start_index_map = tuple(start_index_map)
        self.operand_batching_dims = tuple(operand_batching_dims)
        self.start_indices_batching_dims = tuple(start_indices_batching_dims)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.offset_dims,
            self.collapsed_slice_dims,
            self.start_index_map,
            self.operand_batching_dims,
            self.start_indices_batching_dims,
        )

    def as_scatter(self) -> "ScatterDimensionNumbers":
        """The scatter that writes where this gather reads."""
        return ScatterDimensionNumbers(*self.__reduce__()[1])


class ScatterDimensionNumbers(_DimensionNumbers):
    """Which axes of a scatter are what.

    Args:
        update_window_dims: The axes of the updates that are window axes, increasing.
        inserted_window_dims: Operand axes of window length 1 that the updates lack.
        scatter_dims_to_operand_dims: For each entry of an index vector, the operand axis that it
            indexes.
        operand_batching_dims: Operand axes that are walked together with axes of the indices.
        scatter_indices_batching_dims: Those axes of the indices, in the same order.
    """

    __slots__ = (
        "inserted_window_dims",
        "operand_batching_dims",
        "scatter_dims_to_operand_dims",
        "scatter_indices_batching_dims",
        "update_window_dims",
    )

    def __init__(
        self,
        update_window_dims: Sequence[int],
        inserted_window_dims: Sequence[int],
        scatter_dims_to_operand_dims: Sequence[int],
        operand_batching_dims: Sequence[int] = (),
        scatter_indices_batching_dims: Sequence[int] = (),
    ) -> None:
        self.update_window_dims = tuple(update_window_dims)
        self.inserted_window_dims = tuple(inserted_window_dims)
        self.scatter_dims_to_operand_dims = tuple(scatter_dims_to_operand_dims)
        self.operand_batching_dims = tuple(operand_batching_dims)
        self.scatter_indices_batching_dims = tuple(scatter_indices_batching_dims)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.update_window_dims,
            self.inserted_window_dims,
            self.scatter_dims_to_operand_dims,
            self.operand_batching_dims,
            self.scatter_indices_batching_dims,
        )

    def as_gather(self) -> GatherDimensionNumbers:
        """The gather that reads where this scatter writes."""
        return GatherDimensionNumbers(*self.__reduce__()[1])


class GatherScatterMode(enum.Enum):
    """What happens to a window that does not lie inside the operand.

    Attributes:
        RAISE: The default: on the CPU eager code and compiled programs raise
            `IndexOutOfBoundsError`; elsewhere gather fills and scatter drops.
            Derivatives raise by themselves: a program may need them alone, without the value.
        RAISE_WRAPPED: RAISE, of indices to which the length of their axis was added where they were
            negative: what is reported is the index as it was given.
        CLIP: The start moves to the nearest at which the window fits.
        FILL_OR_DROP: Gather gives the fill value, scatter leaves the operand as it is.
        PROMISE_IN_BOUNDS: The caller vouches for the indices; on the CPU they are checked still.
    """

    RAISE = "raise"
    RAISE_WRAPPED = "raise_wrapped"
    CLIP = "clip"
    FILL_OR_DROP = "fill"
    PROMISE_IN_BOUNDS = "promise_in_bounds"

    @property
    def raises(self) -> bool:
        """Whether eager CPU code and compiled programs raise where a window does not fit."""
        return self in _RAISING

    @staticmethod
    def from_any(
        mode: "str | GatherScatterMode | None", *, wrapped: bool = False
    ) -> "GatherScatterMode":
        """The mode of that name; None means RAISE, or fill and drop where the config says 'jax'.

        Args:
            mode: A name or a mode.
            wrapped: Whether it is about indices that were counted from the end where negative.

        Example:
            >>> GatherScatterMode.from_any("drop")
            <GatherScatterMode.FILL_OR_DROP: 'fill'>
        """
        if isinstance(mode, GatherScatterMode):
            found = mode
        elif mode is None:
            raises = config.out_of_bounds == "raise"
            found = GatherScatterMode.RAISE if raises else GatherScatterMode.FILL_OR_DROP
        elif mode in _MODES:
            found = _MODES[mode]
        else:
            raise ShapeError(f"mode {mode!r} is unknown; choose one of {', '.join(_MODES)}")
        reports = wrapped and found is GatherScatterMode.RAISE
        return GatherScatterMode.RAISE_WRAPPED if reports else found


_RAISING = (
    GatherScatterMode.RAISE, GatherScatterMode.RAISE_WRAPPED, GatherScatterMode.PROMISE_IN_BOUNDS,
)  # fmt: skip
_MODES = {
    "raise": GatherScatterMode.RAISE,
    "clip": GatherScatterMode.CLIP,
    "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP,
    "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
}


class Plan:
    """What follows from the shapes and dimension numbers of a gather alone.

    Attributes:
        out_shape: Shape of the result (of the updates, for a scatter).
        batch_shape: Shape of the indices without their last axis.
        picked: Operand axes along which elements are picked by number; the others are whole.
        whole: Operand axes that the window covers from end to end.
        inner: Those of `picked` that are window axes of the result.
        order: The axes (batch…, inner…, whole…) as axes of the result.
        limits: Greatest valid start for each entry of an index vector.
    """

    __slots__ = (
        "batch_axes", "batch_shape", "dnums", "inner", "limits", "operand_shape", "order",
        "out_shape", "picked", "sizes", "whole",
    )  # fmt: skip

    def __init__(
        self, operand_shape: Ints, indices_shape: Ints, dnums: GatherDimensionNumbers, sizes: Ints
    ) -> None:
        self.operand_shape, self.dnums, self.sizes = operand_shape, dnums, sizes
        gone = {*dnums.collapsed_slice_dims, *dnums.operand_batching_dims}
        window = [d for d in range(len(sizes)) if d not in gone]
        place = dict(zip(window, dnums.offset_dims, strict=True))
        batch = self.batch_shape = indices_shape[:-1]
        rank = len(batch) + len(window)
        self.batch_axes = tuple(i for i in range(rank) if i not in dnums.offset_dims)
        whole = [d for d in window if sizes[d] == operand_shape[d]]
        self.whole = tuple(whole)
        self.picked = tuple(d for d in range(len(sizes)) if d not in whole)
        self.inner = tuple(d for d in self.picked if d not in gone)
        self.order = (*self.batch_axes, *(place[d] for d in (*self.inner, *whole)))
        lengths = dict(zip(self.batch_axes, batch, strict=True))
        lengths |= {place[d]: sizes[d] for d in window}
        self.out_shape = tuple(lengths[i] for i in range(rank))
        self.limits = tuple(
            operand_shape[d] - (1 if d in gone else sizes[d]) for d in dnums.start_index_map
        )


@lru_cache(maxsize=4096)
def plan(
    operand_shape: Ints, indices_shape: Ints, dnums: GatherDimensionNumbers, sizes: Ints
) -> Plan:
    """The plan of a gather, after its dimension numbers were checked; a pure function."""
    _check(operand_shape, indices_shape, dnums, sizes)
    return Plan(operand_shape, indices_shape, dnums, sizes)


def _check(
    operand_shape: Ints, indices_shape: Ints, dnums: GatherDimensionNumbers, sizes: Ints
) -> None:
    n = len(operand_shape)
    collapsed, batching = dnums.collapsed_slice_dims, dnums.operand_batching_dims
    along = dnums.start_indices_batching_dims
    where = f"operand {list(operand_shape)}, indices {list(indices_shape)}, {dnums}"
    if not indices_shape or len(dnums.start_index_map) != indices_shape[-1]:
        raise ShapeError(
            f"the last axis of the indices must have one entry an indexed axis: {where}"
        )
    for axes, rank in (
        (collapsed, n),
        (batching, n),
        (dnums.start_index_map, n),
        ((*collapsed, *batching), n),
        ((*dnums.start_index_map, *batching), n),
        (along, len(indices_shape) - 1),
        (dnums.offset_dims, n - len(collapsed) - len(batching) + len(indices_shape) - 1),
    ):
        if len(set(axes)) != len(axes) or any(not 0 <= a < rank for a in axes):
            raise AxisError(f"axes {axes} must differ and lie within {rank} axes: {where}")
    if len(sizes) != n or any(not 0 <= s <= m for s, m in zip(sizes, operand_shape, strict=True)):
        raise ShapeError(f"window {list(sizes)} does not fit: {where}")
    if any(sizes[d] > 1 for d in (*collapsed, *batching)):
        raise ShapeError(
            f"window {list(sizes)} must be 1 along axes that leave the result: {where}"
        )
    if len(dnums.offset_dims) != n - len(collapsed) - len(batching):
        raise ShapeError(f"each window axis needs one axis of the result: {where}")
    if list(dnums.offset_dims) != sorted(dnums.offset_dims):
        raise AxisError(f"window axes {dnums.offset_dims} must increase: {where}")
    if len(along) != len(batching) or any(
        operand_shape[a] != indices_shape[b] for a, b in zip(batching, along, strict=True)
    ):
        raise ShapeError(f"batched axes of operand and indices must have equal lengths: {where}")


def locate(
    xp: Any, name: str, p: Plan, indices: Any, mode: GatherScatterMode
) -> tuple[list[Any], Any]:
    """The position along each picked axis, and which windows lie inside (None: all of them).

    Positions broadcast to ``[batch…, inner…]``; those of windows outside are moved inside.
    """
    dnums, sizes = p.dnums, p.sizes
    starts, valid = _bounded(xp, name, p, indices, mode)
    rank = len(p.batch_shape) + len(p.inner)
    found = []
    for d in p.picked:
        if d in dnums.operand_batching_dims:
            axis = dnums.start_indices_batching_dims[dnums.operand_batching_dims.index(d)]
            found.append(_along(xp, p.operand_shape[d], axis, rank))
            continue
        index: Any = None
        if d in dnums.start_index_map:
            index = starts[dnums.start_index_map.index(d)]
            index = index.reshape((*p.batch_shape, *(1,) * len(p.inner)))
        if d in p.inner and (index is None or sizes[d] != 1):
            offset = _along(xp, sizes[d], len(p.batch_shape) + p.inner.index(d), rank)
            index = offset if index is None else index + offset
        found.append(xp.zeros((1,) * rank, np.intp) if index is None else index)
    return found, valid


def _along(xp: Any, n: int, axis: int, rank: int) -> Any:
    return xp.arange(n).reshape([n if i == axis else 1 for i in range(rank)])


def _bounded(
    xp: Any, name: str, p: Plan, indices: Any, mode: GatherScatterMode
) -> tuple[list[Any], Any]:
    """The starts along each indexed axis, moved inside; which were inside (None: all)."""
    columns, valid = [], None
    on_host = xp is np
    for k, limit in enumerate(p.limits):
        given = indices[..., k]
        column = (xp.minimum(given, _HIGHEST) if given.dtype == np.uint64 else given).astype(
            np.intp
        )
        columns.append(column)
        if on_host and column.size and int(column.min()) >= 0 and int(column.max()) <= limit:
            continue
        inside = (column >= 0) & (column <= limit)
        if on_host and inside.all():
            continue
        if on_host and mode.raises:
            index = int(given[~inside].flat[0])
            if mode is GatherScatterMode.RAISE_WRAPPED and index < 0:
                index -= p.operand_shape[p.dnums.start_index_map[k]]
            raise _outside(name, p, k, index)
        columns[k] = xp.clip(column, 0, max(limit, 0))
        if mode is not GatherScatterMode.CLIP:
            valid = inside if valid is None else valid & inside
    return columns, valid


def _outside(name: str, p: Plan, k: int, index: int) -> IndexOutOfBoundsError:
    axis = p.dnums.start_index_map[k]
    length, size = p.operand_shape[axis], p.sizes[axis]
    window = f" with a window of {size}" if size > 1 else ""
    return IndexOutOfBoundsError(
        f"{name}: index {index}{window} is out of bounds for axis {axis} of length {length} of an "
        f"operand {list(p.operand_shape)}; correct it, or pass mode='clip', 'fill' or 'drop'"
    )


def flattened(xp: Any, p: Plan, positions: Sequence[Any]) -> Any:
    """Positions along the picked axes as one row-major number, ``[batch…, inner…]``."""
    flat: Any = None
    for d, position in zip(p.picked, positions, strict=True):
        flat = position if flat is None else flat * p.operand_shape[d] + position
    shape = (*p.batch_shape, *(p.sizes[d] for d in p.inner))
    return xp.zeros(shape, np.intp) if flat is None else xp.broadcast_to(flat, shape)


def rows_of(p: Plan) -> tuple[int, int]:
    """Number of picked places of the operand, and of elements at each."""
    shape = p.operand_shape
    return prod(shape[d] for d in p.picked), prod(shape[d] for d in p.whole)
