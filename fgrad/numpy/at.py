"""``x.at[index]``: copies of an array with some elements changed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import DtypeError, IndexOutOfBoundsError, ShapeError
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import indexing, ufuncs
from fgrad.numpy.promotion import NUMBERS, number, pair, value

Ints = tuple[int, ...]


class IndexUpdate:
    """What ``x.at`` is; index it to say which elements."""

    __slots__ = ("array",)

    def __init__(self, array: Value) -> None:
        self.array = array

    def __getitem__(self, index: Any) -> "IndexedArray":
        return IndexedArray(self.array, index)

    def __repr__(self) -> str:
        return f"IndexUpdate({self.array!r})"


class _Target:
    """Where the elements lie, as a scatter: index columns, window sizes and the layout of updates.

    Attributes:
        shape: Of the result of indexing, which updates broadcast to.
        plain: That shape without new axes.
        flipped: Axes of `plain` that negative steps reverse.
        order: Axes of `plain`, batch axes first, then the windows.
        index: The index columns, ``[*batch, number of axes]``.
        operand_shape: Of the operand of the scatter.
        dims: Its dimension numbers.
    """

    __slots__ = ("dims", "flipped", "index", "operand_shape", "order", "plain", "shape")

    def __init__(self, x: Value, index: Any, mode: Any, *, wrapped: bool) -> None:
        p = indexing.plan(x, index, mode)
        self.operand_shape = p.shape
        entries = p.entries
        axes = [e for e in entries if e is not None]
        arrays = p.arrays()
        batch = np.broadcast_shapes(*(a.shape for _, a in arrays)) if arrays else ()
        strided = [
            i for i, e in enumerate(axes) if isinstance(e, tuple) and abs(e[2]) != 1 and e[1] > 1
        ]
        windows = [i for i, e in enumerate(axes) if isinstance(e, tuple) and i not in strided]
        self._lay_out(p, axes, batch, strided, windows)
        self.index = _index_columns(p.shape, axes, batch, strided, wrapped=wrapped)
        pointed = tuple(i for i, e in enumerate(axes) if not _whole(e, p.shape[i]))
        rank = len(batch) + len(strided)
        self.dims = lax.ScatterDimensionNumbers(
            update_window_dims=tuple(range(rank, rank + len(windows))),
            inserted_window_dims=tuple(i for i in range(len(axes)) if i not in windows),
            scatter_dims_to_operand_dims=pointed,
        )

    def _lay_out(
        self, p: indexing.Plan, axes: list[Any], batch: Ints, strided: list[int],
        windows: list[int],
    ) -> None:  # fmt: skip
        """Find the axes of the result and where each goes in the updates."""
        labels: list[Any] = []  # None: a new axis; ("b", k): batch axis k; i: axis i's slice
        axis = 0
        placed = False
        entries = p.entries
        advanced = any(isinstance(e, Array) for e in entries)
        group: list[Any] = [("b", k) for k in range(len(batch))]
        if advanced and p.front():
            labels.extend(group)
            placed = True
        for e in entries:
            if e is None:
                labels.append(None)
                continue
            if isinstance(e, tuple):
                labels.append(axis)
            elif advanced and not placed:
                labels.extend(group)
                placed = True
            axis += 1
        lengths = {**dict(zip(group, batch, strict=True)),
                   **{i: axes[i][1] for i in (*strided, *windows)}}  # fmt: skip
        self.shape = tuple(1 if k is None else lengths[k] for k in labels)
        kept = [k for k in labels if k is not None]
        self.plain = tuple(lengths[k] for k in kept)
        self.flipped = tuple(
            d for d, k in enumerate(kept) if isinstance(k, int) and axes[k][2] == -1
        )
        self.order = tuple(kept.index(k) for k in (*group, *strided, *windows))

    def updates(self, y: Value) -> Value:
        """Updates of the result's shape, laid out for the scatter."""
        y = basis.reshape(basis.broadcast_to(y, self.shape), self.plain)
        if self.flipped:
            y = lax.rev(y, self.flipped)
        return basis.transpose(y, self.order)


def _whole(e: Any, n: int) -> bool:
    """Whether an entry is the whole axis, in either direction."""
    return isinstance(e, tuple) and e[1] == n and (n <= 1 or abs(e[2]) == 1)


def _start(e: tuple[int, int, int]) -> int:
    """The least index of a slice with step 1 or -1."""
    start, length, step = e
    if length == 0:
        return 0
    return start if step > 0 else start + (length - 1) * step


def _index_columns(
    shape: Ints, axes: list[Any], batch: Ints, strided: list[int], *, wrapped: bool
) -> Value:
    """One column for each axis that is not whole; strided slices add batch axes of their own."""
    rank = len(batch) + len(strided)
    full = (*batch, *(axes[i][1] for i in strided))
    found: list[Value] = []
    lengths: list[int] = []
    for i, e in enumerate(axes):
        if _whole(e, shape[i]):
            continue
        lengths.append(shape[i])
        if isinstance(e, Array):
            if shape[i] == 0 and e.size:
                raise IndexOutOfBoundsError(f"indexing: axis {i} of length 0 has no elements")
            tail = (1,) * len(strided)
            lead = (1,) * (len(batch) - e.ndim)
            found.append(basis.reshape(e, (*lead, *e.shape, *tail)))
        elif i in strided:
            line = np.arange(e[1], dtype=np.int32) * e[2] + e[0]
            place = len(batch) + strided.index(i)
            found.append(value(line.reshape(tuple(-1 if d == place else 1 for d in range(rank)))))
        else:
            found.append(value(np.asarray(e if isinstance(e, int) else _start(e), np.int32)))
    if not found:
        return value(np.zeros((*full, 0), np.int32))
    out = indexing.columns(found, lengths, wrapped=wrapped)
    return basis.broadcast_to(out, (*full, len(found))) if out.shape[:-1] != full else out


class IndexedArray:
    """Elements of an array, chosen by ``x.at[index]``; its methods return changed copies.

    Every method takes `indices_are_sorted` and `unique_indices` (promises that allow faster code),
    `mode` (what an index out of bounds does: None raises where it is known, "drop" or
    "fill" leaves it out, "clip" moves it to the edge, "promise_in_bounds" checks nothing) and
    `wrap_negative_indices`.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Value, index: Any) -> None:
        self.array = array
        self.index = index

    def __repr__(self) -> str:
        return f"IndexedArray({self.array!r}, {self.index!r})"

    def get(
        self, *, indices_are_sorted: bool = False, unique_indices: bool = False, mode: Any = None,
        fill_value: Any = None, wrap_negative_indices: bool = True,
    ) -> Value:  # fmt: skip
        """The elements: ``x[index]``, with the choice of `mode` and `fill_value`."""
        return indexing.get(
            self.array, self.index, mode=mode, fill_value=fill_value, sorted_=indices_are_sorted,
            unique=unique_indices, wrapped=wrap_negative_indices,
        )  # fmt: skip

    def set(self, values: Any, **options: Any) -> Value:
        """``x[index] = values``; where an element is named twice, one of its values wins.

        Example:
            >>> value(np.zeros(3, np.float32)).at[1].set(2.0)
            Array([0., 2., 0.], dtype=float32)
        """
        return self._scatter("set", lax.scatter, values, **options)

    def add(self, values: Any, **options: Any) -> Value:
        """``x[index] += values``; values of an element that is named twice add up."""
        return self._scatter("add", lax.scatter_add, values, **options)

    def subtract(self, values: Any, **options: Any) -> Value:
        """``x[index] -= values``."""
        return self._scatter("subtract", lax.scatter_sub, values, **options)

    def multiply(self, values: Any, **options: Any) -> Value:
        """``x[index] *= values``."""
        return self._scatter("multiply", lax.scatter_mul, values, **options)

    mul = multiply

    def divide(self, values: Any, **options: Any) -> Value:
        """``x[index] /= values``."""
        ones = IndexedArray(lax.full_like(self.array, 1), self.index)
        return ufuncs.divide(self.array, ones.multiply(values, **options))

    def power(self, values: Any, **options: Any) -> Value:
        """``x[index] **= values``."""
        ones = IndexedArray(lax.full_like(self.array, 1), self.index)
        return ufuncs.power(self.array, ones.multiply(values, **options))

    def min(self, values: Any, **options: Any) -> Value:
        """``x[index] = minimum(x[index], values)``."""
        return self._scatter("min", lax.scatter_min, values, **options)

    def max(self, values: Any, **options: Any) -> Value:
        """``x[index] = maximum(x[index], values)``."""
        return self._scatter("max", lax.scatter_max, values, **options)

    def apply(self, func: Callable[[Value], Value], **options: Any) -> Value:
        """``x[index] = func(x[index])``; `func` acts element by element, once for each."""
        return self.set(func(self.get(mode=options.get("mode"))), **options)

    def _scatter(
        self, name: str, scatter: Callable[..., Value], values: Any, *,
        indices_are_sorted: bool = False, unique_indices: bool = False, mode: Any = None,
        wrap_negative_indices: bool = True,
    ) -> Value:  # fmt: skip
        x = self.array
        y = _matching(name, values, x)
        target = _Target(x, self.index, mode, wrapped=wrap_negative_indices)
        try:
            fits = np.broadcast_shapes(y.shape, target.shape) == target.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"x.at[...].{name}: values {y.aval} do not broadcast to the elements chosen, "
                f"{list(target.shape)} of {x.aval}"
            )
        mode = lax.GatherScatterMode.from_any(mode, wrapped=wrap_negative_indices)
        out = scatter(
            basis.reshape(x, target.operand_shape), target.index, target.updates(y), target.dims,
            indices_are_sorted=indices_are_sorted, unique_indices=unique_indices, mode=mode,
        )  # fmt: skip
        return basis.reshape(out, x.shape)


def _matching(name: str, values: Any, x: Value) -> Value:
    """The values in the dtype of the array; what would lose its kind is refused."""
    given = values if type(values) in NUMBERS else value(values, f"x.at[...].{name}", "values")
    have, want = _rank(pair(given)[0]), _rank(x.dtype)
    if have > want:
        raise DtypeError(
            f"x.at[...].{name}: values of {pair(given)[0]} do not fit an array {x.aval}; convert "
            f"one of them with astype"
        )
    if type(given) in NUMBERS:
        return number(given, x.dtype, weak=False)
    return convert_element_type(given, x.dtype)


def _rank(dtype: np.dtype[Any]) -> int:
    return "buifc".index("f" if dtypes.is_float(dtype) else dtype.kind.replace("u", "i"))
