"""``x[index]``: a plan of slices, integer arrays and new axes by NumPy's rules, then its steps.

Masks must be concrete: they become integer arrays. Static integers and slices are taken first, as
views; what is left are integer arrays, which are gathered together in one step.
"""

import builtins
import operator
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import (
    ArgumentError,
    DtypeError,
    FgradError,
    IndexOutOfBoundsError,
    NonConcreteBooleanIndexError,
    ShapeError,
)
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.lax.index import GatherScatterMode
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import number, value

Slice = builtins.slice


class Plan:
    """What an index asks of an array, axis by axis.

    Attributes:
        shape: Of the array indexed, with an axis of length 1 for each 0-d mask.
        entries: For each axis of `shape` an integer, a (start, length, step) triple or an integer
            array (a value); None stands between them for each new axis.
        parted: Whether a ``...`` that stands for no axis parts the index arrays.
    """

    __slots__ = ("entries", "parted", "shape")

    def __init__(self, shape: tuple[int, ...], entries: list[Any]) -> None:
        self.shape = shape
        self.entries = entries
        self.parted = False

    def front(self) -> bool:
        """Whether the axes of index arrays go first: a slice, new axis or ... parts them."""
        places = [i for i, e in enumerate(self.entries) if isinstance(e, int | Array)]
        return self.parted or places[-1] - places[0] + 1 != len(places)

    def arrays(self) -> list[tuple[int, Value]]:
        """Axes (of the array indexed) with integer arrays, and these."""
        axes = [e for e in self.entries if e is not None]
        return [(i, e) for i, e in enumerate(axes) if isinstance(e, Array)]


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, bool | np.bool_) or getattr(entry, "dtype", None) == np.bool_


def _array_entry(x: Value, entry: Any) -> Any:
    """An entry that is neither slice, None nor Ellipsis: an integer, a mask or an array."""
    if isinstance(entry, bool | np.bool_):
        return np.asarray(entry)
    if isinstance(entry, int | np.integer):
        return operator.index(entry)
    if isinstance(entry, list | tuple):
        if any(isinstance(e, Array) for e in entry):
            raise DtypeError(
                f"indexing {x.aval} with a {type(entry).__name__} that holds arrays; stack them "
                f"with fgrad.numpy.stack, or use a tuple of index arrays"
            )
        entry = np.asarray(entry)
        if not entry.size:
            entry = entry.astype(np.int32)
    elif not isinstance(entry, Array | np.ndarray | np.generic):
        if not hasattr(entry, "__index__"):
            raise DtypeError(
                f"indexing {x.aval} with {type(entry).__name__} {entry!r:.60}; an index is made "
                f"of integers, slices, None, ..., and integer or boolean arrays"
            )
        return operator.index(entry)
    found = value(entry)
    if found.dtype.kind not in "iub":
        raise DtypeError(
            f"indexing {x.aval} with an array {found.aval}; index arrays hold integers or "
            f"booleans: convert with .astype(int)"
        )
    if found.dtype.kind == "b":
        known = found.concrete()
        if known is None:
            raise NonConcreteBooleanIndexError(
                f"indexing {x.aval} with a traced mask {found.aval}: the shape of the result would "
                f"depend on its values; use fgrad.numpy.where(mask, x, other), nonzero(mask, "
                f"size=n), or keep the mask concrete"
            )
        return host(known)
    if found.ndim == 0 and type(found) is ArrayImpl:
        return int(host(found))
    return found


def plan(x: Value, index: Any, mode: Any = None) -> Plan:
    """The plan of ``x[index]``.

    Args:
        x: The array.
        index: See `get`.
        mode: Where it does not raise, a static integer outside its axis is left to the gather.

    Raises:
        IndexOutOfBoundsError: A static integer lies outside its axis, or there are too many.
        NonConcreteBooleanIndexError: A mask is traced.
        DtypeError: An entry is no index.
    """
    given = list(index) if isinstance(index, tuple) else [index]
    items: list[Any] = [
        e if e is None or e is Ellipsis or isinstance(e, Slice) else _array_entry(x, e)
        for e in given
    ]
    if sum(e is Ellipsis for e in items) > 1:
        raise IndexOutOfBoundsError(f"indexing {x.aval}: only one ... can stand in an index")
    used = sum(_axes_of(e) for e in items)
    if used > x.ndim:
        raise IndexOutOfBoundsError(
            f"indexing {x.aval}: too many indices: it has {x.ndim} axes, and {used} were indexed"
        )
    if Ellipsis not in [e for e in items if not isinstance(e, Array | np.ndarray)]:
        items.append(Ellipsis)
    at = next(i for i, e in enumerate(items) if e is Ellipsis)
    pointed = [isinstance(e, int | Array | np.ndarray) for e in items]
    items[at : at + 1] = [Slice(None)] * (x.ndim - used)
    raises = GatherScatterMode.from_any(mode) is GatherScatterMode.RAISE
    found = _planned(x, items, raises)
    found.parted = any(pointed[:at]) and any(pointed[at + 1 :])
    return found


def span(x: Value, s: Slice, n: int) -> tuple[int, int, int]:
    """Start, stop and step of a slice of an axis of length n."""
    try:
        return s.indices(n)
    except FgradError:
        raise
    except TypeError:
        raise DtypeError(
            f"indexing {x.aval}: the bounds of a slice are integers or None, got {s}"
        ) from None
    except ValueError:
        raise ArgumentError(f"indexing {x.aval}: the step of a slice must not be 0") from None


def _axes_of(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, np.ndarray) else 1


def _planned(x: Value, items: list[Any], raises: bool) -> Plan:
    shape: list[int] = []
    entries: list[Any] = []
    axis = 0
    for e in items:
        if e is None:
            entries.append(None)
            continue
        if isinstance(e, np.ndarray):
            if e.ndim == 0:
                # True or False alone: a new axis of length 1, kept or emptied.
                shape.append(1)
                entries.append(value(np.zeros(int(e), np.int32)))
                continue
            _check_mask(x, e, axis)
            shape.extend(e.shape)
            entries.extend(value(i.astype(np.int32)) for i in np.nonzero(e))
            axis += e.ndim
            continue
        n = x.shape[axis]
        shape.append(n)
        entries.append(_entry(x, e, axis, n, raises))
        axis += 1
    return Plan(tuple(shape), entries)


def _check_mask(x: Value, mask: np.ndarray[Any, Any], axis: int) -> None:
    covered = x.shape[axis : axis + mask.ndim]
    if mask.shape != covered:
        raise ShapeError(
            f"indexing {x.aval}: the mask has the shape {list(mask.shape)}, but the axes it covers "
            f"(from {axis}) have {list(covered)}"
        )


def _entry(x: Value, e: Any, axis: int, n: int, raises: bool) -> Any:
    if isinstance(e, Slice):
        start, stop, step = span(x, e, n)
        return start, len(range(start, stop, step)), step
    if isinstance(e, int):
        if -n <= e < n:
            return e % n
        if raises:
            raise IndexOutOfBoundsError(
                f"indexing {x.aval}: index {e} is out of bounds for axis {axis} of length {n}"
            )
        return value(np.asarray(e))
    return e


# --------------------------------------------------------------------------------------- steps


def take_static(x: Value, entries: list[Any]) -> Value:
    """Slices taken; integers leave an axis of length 1, arrays leave theirs whole."""
    starts: list[int] = []
    ends: list[int] = []
    strides: list[int] = []
    flipped: list[int] = []
    for axis, (e, n) in enumerate(zip(entries, x.shape, strict=True)):
        if isinstance(e, int):
            span = (e, e + 1, 1)
        elif isinstance(e, tuple):
            start, length, step = e
            if length == 0:
                span = (0, 0, 1)
            elif step > 0:
                span = (start, start + (length - 1) * step + 1, step)
            else:
                span = (start + (length - 1) * step, start + 1, -step)
                flipped.append(axis)
        else:
            span = (0, n, 1)
        for found, k in zip((starts, ends, strides), span, strict=True):
            found.append(k)
    if starts != [0] * x.ndim or tuple(ends) != x.shape or strides != [1] * x.ndim:
        x = lax.slice(x, starts, ends, strides)
    flipped = [axis for axis in flipped if x.shape[axis] > 1]
    return lax.rev(x, flipped) if flipped else x


def wrap(index: Value, n: int) -> Value:
    """Negative indices counted from the end; in the index dtype that reaches every element."""
    if index.dtype.itemsize < 4 or index.dtype == np.uint32:
        index = convert_element_type(index, np.int64 if index.dtype == np.uint32 else np.int32)
    if index.dtype.kind == "u":
        return index
    if type(index) is ArrayImpl and isinstance(index._data, np.ndarray):
        data = index._data
        if not data.size or data.min() >= 0:
            return index
        return ArrayImpl(np.where(data < 0, data + data.dtype.type(n), data))
    zero, length = (number(k, index.dtype, weak=False) for k in (0, n))
    return select_n(lax.lt(index, zero), index, lax.add(index, length))


def columns(indices: list[Value], lengths: list[int], *, wrapped: bool = True) -> Value:
    """Index arrays broadcast together and put side by side along a last axis."""
    try:
        shape = np.broadcast_shapes(*(i.shape for i in indices))
    except ValueError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise ShapeError(
            f"indexing: index arrays of shapes {shapes} do not broadcast together"
        ) from None
    if wrapped:
        indices = [wrap(i, n) for i, n in zip(indices, lengths, strict=True)]
    wide = np.int64 if any(i.dtype.itemsize == 8 for i in indices) else np.int32
    parts = []
    for i in indices:
        i = convert_element_type(i, wide)
        parts.append(basis.reshape(basis.broadcast_to(i, shape), (*shape, 1)))
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, len(shape))


def _static(x: Value, index: Any) -> Value | None:
    """``x[index]`` for integers in bounds and rising slices alone; None for anything else."""
    items = index if type(index) is tuple else (index,)
    shape = x.shape
    if len(items) > len(shape):
        return None
    starts, ends, strides, kept = [], [], [], []
    for e, n in zip(items, shape, strict=False):
        if type(e) is int:
            if not -n <= e < n:
                return None
            start = e + n if e < 0 else e
            stop = start + 1
            step = 1
        elif type(e) is Slice:
            start, stop, step = span(x, e, n)
            if step < 0:
                return None
            stop = max(start, stop)
            kept.append((stop - start + step - 1) // step)
        else:
            return None
        starts.append(start)
        ends.append(stop)
        strides.append(step)
    rest = shape[len(items) :]
    out = lax.slice(x, (*starts, *[0] * len(rest)), (*ends, *rest), (*strides, *[1] * len(rest)))
    return basis.reshape(out, (*kept, *rest))


def get(
    x: Any, index: Any, *, mode: Any = None, fill_value: Any = None, sorted_: bool = False,
    unique: bool = False, wrapped: bool = True,
) -> Value:  # fmt: skip
    """``x[index]``.

    Args:
        x: The array.
        index: Integers, slices, None, Ellipsis, integer arrays, concrete masks; or a tuple.
        mode: What happens where an index is out of bounds; see `fgrad.lax.gather`.
        fill_value: What mode "fill" puts there.
        sorted_: Whether index arrays are known to be sorted.
        unique: Whether they are known to name each element once.
        wrapped: Whether negative indices count from the end.

    Raises:
        IndexOutOfBoundsError: An index known now is out of bounds, and no mode says otherwise.
    """
    found = _static(x, index)
    if found is not None:
        return found
    p = plan(x, index, mode)
    axes = [e for e in p.entries if e is not None]
    if len(p.shape) != x.ndim:
        x = basis.reshape(x, p.shape)
    x = take_static(x, axes)
    arrays = p.arrays()
    if not arrays:
        lengths = iter(x.shape)
        shape = []
        for e in p.entries:
            if e is None:
                shape.append(1)
                continue
            n = next(lengths)
            if not isinstance(e, int):
                shape.append(n)
        return basis.reshape(x, tuple(shape))
    return _gathered(x, p, arrays, mode, fill_value, sorted_, unique, wrapped)


def _gathered(
    x: Value, p: Plan, arrays: list[tuple[int, Value]], mode: Any, fill_value: Any,
    sorted_: bool, unique: bool, wrapped: bool,
) -> Value:  # fmt: skip
    # Integers have been taken: their axes go, and the numbers of the others move up.
    axes = [e for e in p.entries if e is not None]
    kept = [i for i, e in enumerate(axes) if not isinstance(e, int)]
    x = basis.reshape(x, tuple(x.shape[i] for i in kept))
    over = tuple(kept.index(i) for i, _ in arrays)
    index = columns([a for _, a in arrays], [x.shape[i] for i in over], wrapped=wrapped)
    batch = index.shape[:-1]
    if any(x.shape[i] == 0 for i in over) and index.size:
        raise IndexOutOfBoundsError(f"indexing: {x.aval} has no elements along axes {over}")
    before = _before(p.entries)
    place = 0 if p.front() else before
    rest = [i for i in range(x.ndim) if i not in over]
    out_rank = len(batch) + len(rest)
    # New axes are put in at the end; `place` counts only the axes that slices leave before.
    first = sum(e is not None for e in _leading(p.entries, place))
    offset = tuple(d for d in range(out_rank) if not first <= d < first + len(batch))
    dims = lax.GatherDimensionNumbers(
        offset_dims=offset, collapsed_slice_dims=over, start_index_map=over
    )
    sizes = tuple(min(1, n) if i in over else n for i, n in enumerate(x.shape))
    out = lax.gather(
        x, index, dims, sizes, mode=GatherScatterMode.from_any(mode, wrapped=wrapped),
        fill_value=fill_value, indices_are_sorted=sorted_, unique_indices=unique,
    )  # fmt: skip
    return basis.reshape(out, _with_new_axes(p.entries, out.shape, place, len(batch)))


def _leading(entries: list[Any], place: int) -> list[Any]:
    """The first `place` axes of the result, as entries: slices and None."""
    return [e for e in entries if not isinstance(e, int | Array)][:place]


def _before(entries: list[Any]) -> int:
    """How many axes of the result (new ones too) come before the first index array or integer."""
    return next(i for i, e in enumerate(entries) if isinstance(e, int | Array))


def _with_new_axes(
    entries: list[Any], shape: tuple[int, ...], place: int, batch: int
) -> tuple[int, ...]:
    plain = [e for e in entries if not isinstance(e, int | Array)]
    first = sum(e is not None for e in plain[:place])
    lengths = iter((*shape[:first], *shape[first + batch :]))
    out = [1 if e is None else next(lengths) for e in plain]
    return (*out[:place], *shape[first : first + batch], *out[place:])
