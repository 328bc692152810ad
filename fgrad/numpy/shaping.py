"""Other shapes of the same elements: reshape, transpose, broadcast, flip, roll, repeat."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.avals import integer, integers
from fgrad.core.errors import AxisError, ShapeError
from fgrad.core.evaluate import check_unmasked
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy.promotion import value

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "ndim",
    "permute_dims",
    "ravel",
    "repeat",
    "reshape",
    "resize",
    "roll",
    "rollaxis",
    "rot90",
    "shape",
    "size",
    "squeeze",
    "swapaxes",
    "tile",
    "transpose",
]


def shape(a: Any) -> tuple[int, ...]:
    """The length of each axis."""
    return np.shape(a) if isinstance(a, list | tuple) else value(a).shape


def ndim(a: Any) -> int:
    """The number of axes."""
    return len(shape(a))


def size(a: Any, axis: Any = None) -> int:
    """The number of elements, in all or along axes."""
    lengths = shape(a)
    return math.prod(lengths[i] for i in ax.several("size", axis, len(lengths)))


def _full_shape(x: Value, wanted: Sequence[int]) -> tuple[int, ...]:
    """A shape in which -1 is replaced by the length that is left."""
    wanted = integers(wanted, "shape")
    if -1 not in wanted:
        return wanted
    rest = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) > 1 or rest == 0 or x.size % rest:
        raise ShapeError(
            f"reshape: {x.aval} has {x.size} elements and cannot take the shape {list(wanted)}; "
            f"one length may be -1, and the others must divide the number of elements"
        )
    return tuple(x.size // rest if n == -1 else n for n in wanted)


def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None) -> Value:
    """The same elements in another shape, one length of which may be -1.

    Args:
        a: The array.
        shape: An integer or several.
        order: "C" (the last axis runs fastest) or "F" (the first does).
        copy: None or True; False is refused, as a copy may be needed.

    Raises:
        ShapeError: The number of elements differs.

    Example:
        >>> reshape(np.arange(4, dtype=np.int32), (2, -1))
        Array([[0, 1],
               [2, 3]], dtype=int32)
    """
    del copy
    x = value(a, "reshape", "a")
    wanted = _full_shape(x, (shape,) if _is_index(shape) else shape)
    if order == "C":
        return basis.reshape(x, wanted)
    if order != "F":
        raise ShapeError(f"reshape: order must be 'C' or 'F', got {order!r}")
    turned = basis.transpose(x, tuple(range(x.ndim))[::-1])
    turned = basis.reshape(turned, wanted[::-1])
    return basis.transpose(turned, tuple(range(turned.ndim))[::-1])


def _is_index(x: Any) -> bool:
    return not isinstance(x, tuple | list) and hasattr(x, "__index__") and np.ndim(x) == 0


def ravel(a: Any, order: str = "C") -> Value:
    """All elements along one axis."""
    return reshape(a, (-1,) if value(a).size else (0,), "C" if order in "KA" else order)


def transpose(a: Any, axes: Any = None) -> Value:
    """Axes permuted; reversed where `axes` is None."""
    x = value(a, "transpose", "a")
    if axes is None:
        return basis.transpose(x, tuple(range(x.ndim))[::-1])
    order = ax.several("transpose", tuple(axes), x.ndim)
    if len(order) != x.ndim:
        raise AxisError(f"transpose: axes {tuple(axes)} must name each axis of {x.aval} once")
    return basis.transpose(x, order)


permute_dims = transpose


def matrix_transpose(x: Any, /) -> Value:
    """The last two axes swapped."""
    x = value(x, "matrix_transpose", "x")
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: x needs at least 2 axes, got {x.aval}")
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Value:
    """Two axes swapped."""
    x = value(a, "swapaxes", "a")
    i, j = (ax.one("swapaxes", k, x.ndim) for k in (axis1, axis2))
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return basis.transpose(x, tuple(order))


def moveaxis(a: Any, source: Any, destination: Any) -> Value:
    """Axes moved to other positions; the others keep their order."""
    x = value(a, "moveaxis", "a")
    source = ax.several("moveaxis", source, x.ndim)
    target = ax.several("moveaxis", destination, x.ndim)
    if len(source) != len(target):
        raise AxisError(f"moveaxis: {len(source)} axes cannot go to {len(target)} places")
    order = [i for i in range(x.ndim) if i not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    return basis.transpose(x, tuple(order))


def rollaxis(a: Any, axis: int, start: int = 0) -> Value:
    """One axis moved back until it stands before `start`."""
    x = value(a, "rollaxis", "a")
    i = ax.one("rollaxis", axis, x.ndim)
    if not -x.ndim <= start <= x.ndim:
        raise AxisError(f"rollaxis: start {start} is out of range for {x.ndim} axes")
    start += x.ndim if start < 0 else 0
    return basis.moveaxis(x, i, start - (start > i))


def expand_dims(a: Any, axis: Any) -> Value:
    """New axes of length 1 at these positions of the result."""
    x = value(a, "expand_dims", "a")
    count = len(axis) if isinstance(axis, tuple | list) else 1
    places = ax.several("expand_dims", axis, x.ndim + count)
    rest = iter(x.shape)
    return basis.reshape(x, tuple(1 if i in places else next(rest) for i in range(x.ndim + count)))


def squeeze(a: Any, axis: Any = None) -> Value:
    """Axes of length 1 removed: all, or the ones given.

    Raises:
        ShapeError: An axis given is longer than 1.
    """
    x = value(a, "squeeze", "a")
    if axis is None:
        gone: tuple[int, ...] = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        gone = ax.several("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in gone):
        raise ShapeError(f"squeeze: axes {gone} of {x.aval} do not all have length 1")
    return basis.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape to which these shapes broadcast together."""
    return lax.broadcast_shapes(*map(ax.shape_of, shapes))


def broadcast_to(array: Any, shape: Any) -> Value:
    """Repeated along axes of length 1, and along new leading axes, up to `shape`.

    Raises:
        ShapeError: The shapes do not fit.
    """
    x = value(array, "broadcast_to", "array")
    wanted = ax.shape_of(shape)
    if x.ndim > len(wanted):
        raise ShapeError(f"broadcast_to: {x.aval} has more axes than the shape {list(wanted)}")
    return basis.broadcast_to(x, wanted)


def broadcast_arrays(*args: Any) -> list[Value]:
    """Arrays broadcast to their common shape."""
    xs = [value(a, "broadcast_arrays") for a in args]
    shape = lax.broadcast_shapes(*(x.shape for x in xs)) if xs else ()
    return [basis.broadcast_to(x, shape) for x in xs]


def _at_least(args: Sequence[Any], grow: Any) -> Any:
    found = [grow(value(a)) for a in args]
    return found[0] if len(found) == 1 else found


def atleast_1d(*arys: Any) -> Any:
    """Each with at least one axis."""
    return _at_least(arys, lambda x: x if x.ndim else basis.reshape(x, (1,)))


def atleast_2d(*arys: Any) -> Any:
    """Each with at least two axes; new ones come first."""
    return _at_least(
        arys, lambda x: x if x.ndim > 1 else basis.reshape(x, (1,) * (2 - x.ndim) + x.shape)
    )


def _three(x: Value) -> Value:
    shapes = {0: (1, 1, 1), 1: (1, x.size, 1), 2: (*x.shape, 1)}
    return basis.reshape(x, shapes[x.ndim]) if x.ndim < 3 else x


def atleast_3d(*arys: Any) -> Any:
    """Each with at least three axes; a vector lies along the middle one."""
    return _at_least(arys, _three)


# ----------------------------------------------------------------------------- rearrangement


def flip(m: Any, axis: Any = None) -> Value:
    """The order of elements reversed along axes (all where None)."""
    x = value(m, "flip", "m")
    return lax.rev(x, ax.several("flip", axis, x.ndim))


def flipud(m: Any) -> Value:
    """Reversed along axis 0."""
    return flip(m, 0)


def fliplr(m: Any) -> Value:
    """Reversed along axis 1."""
    return flip(m, 1)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Value:
    """Turned by k quarter turns in the plane of two axes."""
    x = value(m, "rot90", "m")
    i, j = ax.several("rot90", tuple(axes), x.ndim)
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return flip(x, (i, j))
    return swapaxes(flip(x, j), i, j) if k == 1 else flip(swapaxes(x, i, j), j)


def roll(a: Any, shift: Any, axis: Any = None) -> Value:
    """Elements shifted along axes; what leaves at the end comes in at the front.

    Args:
        a: The array.
        shift: By how much: an integer (traced ones too), or one an axis.
        axis: The axes; None rolls the flattened array.
    """
    x = value(a, "roll", "a")
    if axis is None:
        return basis.reshape(roll(ravel(x), shift, 0), x.shape)
    single = not isinstance(axis, tuple | list)
    places = (axis,) if single else tuple(axis)
    if isinstance(shift, tuple | list) or np.ndim(shift):
        shifts = tuple(shift[i] for i in range(len(shift)))
    else:
        shifts = (shift,) * len(places)
    if len(shifts) == 1:
        shifts *= len(places)
    if len(places) == 1:
        places *= len(shifts)
    if len(shifts) != len(places):
        raise ShapeError(f"roll: {len(shifts)} shifts do not fit {len(places)} axes")
    for by, place in zip(shifts, places, strict=True):
        x = _roll_one(x, by, ax.one("roll", place, x.ndim))
    return x


def _roll_one(x: Value, shift: Any, axis: int) -> Value:
    n = x.shape[axis]
    if n == 0:
        return x
    if isinstance(shift, int | np.integer) or hasattr(shift, "_data"):
        k = integer(shift, "roll: shift") % n
        if k == 0:
            return x
        tail = lax.slice_in_dim(x, n - k, n, axis=axis)
        return lax.concatenate([tail, lax.slice_in_dim(x, 0, n - k, axis=axis)], axis)
    by = lax.rem(lax.add(lax.rem(shift, np.asarray(n, shift.dtype)), np.asarray(n, shift.dtype)),
                 np.asarray(n, shift.dtype))  # fmt: skip
    start = lax.sub(np.asarray(n, shift.dtype), by)
    return lax.dynamic_slice_in_dim(lax.concatenate([x, x], axis), start, n, axis=axis)


def tile(A: Any, reps: Any) -> Value:
    """The array repeated `reps` times along each axis."""
    x = value(A, "tile", "A")
    times = ax.shape_of(reps, "tile")
    rank = max(len(times), x.ndim)
    times = (1,) * (rank - len(times)) + times
    shape = (1,) * (rank - x.ndim) + x.shape
    spread = basis.reshape(x, tuple(n for length in shape for n in (1, length)))
    full = tuple(n for t, length in zip(times, shape, strict=True) for n in (t, length))
    whole = basis.broadcast_to(spread, full)
    return basis.reshape(whole, tuple(t * n for t, n in zip(times, shape, strict=True)))


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None
) -> Value:
    """Each element repeated along an axis.

    Args:
        a: The array.
        repeats: How often: an integer, or one for each element along the axis.
        axis: The axis; None repeats the flattened array.
        total_repeat_length: The length of the result; needed where `repeats` is traced. The last
            element fills what is left.
    """
    x = value(a, "repeat", "a")
    if axis is None:
        x, axis = ravel(x), 0
    axis = ax.one("repeat", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(repeats, int | np.integer) and repeats < 0:
        raise ShapeError(f"repeat: repeats must not be negative, got {repeats}")
    if isinstance(repeats, int | np.integer) and total_repeat_length is None:
        spread = expand_dims(x, axis + 1)
        full = (*x.shape[: axis + 1], int(repeats), *x.shape[axis + 1 :])
        whole = basis.broadcast_to(spread, full)
        return basis.reshape(whole, (*x.shape[:axis], n * int(repeats), *x.shape[axis + 1 :]))
    if total_repeat_length is None:
        check_unmasked(repeats)
        counts = np.broadcast_to(np.asarray(repeats), (n,))
        index: Any = np.repeat(np.arange(n, dtype=np.int32), counts)
    else:
        counts = basis.broadcast_to(basis.convert_element_type(value(repeats), np.int32), (n,))
        ends = basis.reshape(lax.cumsum(counts, axis=0), (1, n))
        slots = basis.reshape(lax.iota(np.int32, total_repeat_length), (total_repeat_length, 1))
        passed = lax.ge(slots, ends)
        index = basis.reduce_sum(basis.convert_element_type(passed, np.int32), (1,))
        index = lax.min(index, np.asarray(max(n - 1, 0), np.int32))
    return take_rows(x, index, axis)


def take_rows(x: Value, index: Any, axis: int) -> Value:
    """Rows of `x` along an axis, for 1-d indices known to be in bounds."""
    rows = value(index)
    n = x.shape[axis]
    dims = lax.GatherDimensionNumbers(
        offset_dims=tuple(i for i in range(x.ndim) if i != axis),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    sizes = tuple(min(n, 1) if i == axis else m for i, m in enumerate(x.shape))
    return lax.gather(
        x, basis.reshape(rows, (rows.size, 1)), dims, sizes,
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )  # fmt: skip


def resize(a: Any, new_shape: Any) -> Value:
    """The flattened array, repeated or cut to fill another shape."""
    x = ravel(a)
    wanted = ax.shape_of(new_shape)
    count = math.prod(wanted)
    if x.size == 0:
        return lax.full(wanted, 0, x.dtype)
    whole = tile(x, -(-count // x.size))
    return basis.reshape(lax.slice_in_dim(whole, 0, count, axis=0), wanted)
