"""Arrays put together and taken apart."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.avals import integer
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import axes as ax
from fgrad.numpy import shaping
from fgrad.numpy.creation import array
from fgrad.numpy.promotion import NUMBERS, astype, promote, stated, value

__all__ = [
    "append",
    "array_split",
    "block",
    "column_stack",
    "concat",
    "concatenate",
    "delete",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "insert",
    "row_stack",
    "split",
    "stack",
    "unstack",
    "vsplit",
    "vstack",
]


def _parts(name: str, arrays: Any) -> list[Any]:
    """The arrays to join; the rows of one array are as good as a sequence."""
    if isinstance(arrays, Array | np.ndarray):
        whole = value(arrays)
        if whole.ndim == 0:
            raise ShapeError(f"{name} takes a sequence of arrays, got the scalar {whole.aval}")
        return list(unstack(whole))
    parts = list(arrays)
    if not parts:
        raise ShapeError(f"{name} needs at least one array, got none")
    return parts


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Value:
    """Arrays joined along an axis; flattened first where `axis` is None.

    Args:
        arrays: A sequence of arrays that agree in all other axes.
        axis: Along which they are joined.
        dtype: Of the result; that of promotion where None.

    Raises:
        ShapeError: The shapes do not fit.

    Example:
        >>> concatenate([np.zeros(1, np.float32), np.ones(2, np.float32)])
        Array([0., 1., 1.], dtype=float32)
    """
    parts = promote("concatenate", *(_number(a) for a in _parts("concatenate", arrays)))
    if axis is None:
        parts, axis = [shaping.ravel(p) for p in parts], 0
    if any(p.ndim == 0 for p in parts):
        raise ShapeError("concatenate: arrays without axes cannot be joined; use stack")
    place = ax.one("concatenate", axis, parts[0].ndim)
    return astype(lax.concatenate(parts, place), dtype)


def _number(x: Any) -> Any:
    return array(x) if isinstance(x, list | tuple) else x


def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Value:
    """`concatenate`, as the array API standard calls it."""
    return concatenate(arrays, axis)


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Value:
    """Arrays of one shape joined along a new axis.

    Example:
        >>> stack([np.float32(1.0), np.float32(2.0)])
        Array([1., 2.], dtype=float32)
    """
    del out
    parts = promote("stack", *(_number(a) for a in _parts("stack", arrays)))
    shapes = {p.shape for p in parts}
    if len(shapes) > 1:
        raise ShapeError(
            f"stack: arrays need one shape, got {', '.join(str(p.aval) for p in parts)}"
        )
    place = ax.one("stack", axis, parts[0].ndim + 1)
    return astype(lax.concatenate([shaping.expand_dims(p, place) for p in parts], place), dtype)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Value, ...]:
    """The slices along an axis, which is removed."""
    x = value(x, "unstack", "x")
    if x.ndim == 0:
        raise ShapeError("unstack: a scalar has no axes")
    place = ax.one("unstack", axis, x.ndim)
    if x.shape[place] == 0:
        return ()
    parts = lax.split(x, (1,) * x.shape[place], place)
    return tuple(shaping.squeeze(p, place) for p in parts)


def append(arr: Any, values: Any, axis: int | None = None) -> Value:
    """`values` joined to the end of `arr`."""
    return concatenate([arr, values], axis)


def vstack(tup: Any, dtype: Any = None) -> Value:
    """Arrays joined along axis 0, vectors as rows."""
    return concatenate([shaping.atleast_2d(_value(a)) for a in _parts("vstack", tup)], 0, dtype)


row_stack = vstack


def hstack(tup: Any, dtype: Any = None) -> Value:
    """Arrays joined along axis 1, vectors along their only one."""
    parts = [shaping.atleast_1d(_value(a)) for a in _parts("hstack", tup)]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Value:
    """Arrays joined along axis 2."""
    return concatenate([shaping.atleast_3d(_value(a)) for a in _parts("dstack", tup)], 2, dtype)


def column_stack(tup: Any) -> Value:
    """Vectors as columns, and matrices, joined along axis 1."""
    parts = [_value(a) for a in _parts("column_stack", tup)]
    return concatenate([shaping.reshape(p, (-1, 1)) if p.ndim < 2 else p for p in parts], 1)


def _value(x: Any) -> Value:
    return array(x) if isinstance(x, list | tuple) else value(x)


def block(arrays: Any) -> Value:
    """A matrix of blocks: the innermost lists are joined along the last axis, and so on."""

    def depth(x: Any) -> int:
        return 1 + max(map(depth, x)) if isinstance(x, list) and x else 0

    levels = depth(arrays)

    def build(x: Any, level: int) -> Value:
        if not isinstance(x, list):
            found = _value(x)
            lead = max(levels - found.ndim, 0)
            return basis.reshape(found, (1,) * lead + found.shape)
        return concatenate([build(item, level + 1) for item in x], level - levels)

    if levels == 0:
        return _value(arrays)
    return build(arrays, 0)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """Parts along an axis, of nearly equal length or cut before the given indices."""
    return _split("array_split", ary, indices_or_sections, axis, even=False)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """Parts along an axis, of equal length or cut before the given indices.

    Raises:
        ShapeError: The axis does not divide into that many equal parts.
    """
    return _split("split", ary, indices_or_sections, axis, even=True)


def _split(name: str, ary: Any, cuts: Any, axis: int, *, even: bool) -> list[Value]:
    x = value(ary, name, "ary")
    place = ax.one(name, axis, x.ndim)
    n = x.shape[place]
    if np.ndim(cuts) == 0:
        count = integer(cuts, f"{name}: the number of parts")
        if count < 1:
            raise ShapeError(f"{name}: the number of parts must be positive, got {count}")
        if even and n % count:
            raise ShapeError(
                f"{name}: axis {axis} of {x.aval} has length {n}, which {count} does not divide; "
                f"use array_split for parts of unequal length"
            )
        sizes = [n // count + (i < n % count) for i in range(count)]
        return list(lax.split(x, sizes, place))
    ends = [slice(None, integer(c, f"{name}: a cut")).indices(n)[1] for c in cuts]
    starts = [0, *ends]
    return [
        lax.slice_in_dim(x, min(a, b), b, axis=place)
        for a, b in zip(starts, [*ends, n], strict=True)
    ]


def _splitter(name: str, axis: Callable[[Value], int], doc: str) -> Any:
    def part(ary: Any, indices_or_sections: Any) -> list[Value]:
        x = value(ary, name, "ary")
        return _split(name, x, indices_or_sections, axis(x), even=True)

    part.__name__ = part.__qualname__ = name
    part.__doc__ = doc
    return part


vsplit = _splitter("vsplit", lambda _x: 0, "`split` along axis 0.")
hsplit = _splitter(
    "hsplit", lambda x: 1 if x.ndim > 1 else 0, "`split` along axis 1, of a vector along axis 0."
)
dsplit = _splitter("dsplit", lambda _x: 2, "`split` along axis 2.")


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Value:
    """`values` inserted before the given static indices along an axis."""
    x = value(arr, "insert", "arr")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("insert", axis, x.ndim)
    n = x.shape[place]
    new = stated(values, x.dtype) if type(values) in NUMBERS else astype(_value(values), x.dtype)
    where = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(obj)
    scalar = where.ndim == 0
    index = np.atleast_1d(where).astype(np.int64)
    if index.size and not (-n <= index.min() and index.max() <= n):
        raise ShapeError(f"insert: indices {index.tolist()} lie outside 0 to {n}")
    index = np.where(index < 0, index + n, index)
    if scalar and new.ndim:
        new = basis.moveaxis(shaping.atleast_1d(new), 0, 0)
        rows = [*x.shape[:place], *((new.shape[place] if new.ndim == x.ndim else 1),),
                *x.shape[place + 1 :]]  # fmt: skip
        if new.ndim < x.ndim:
            new = basis.broadcast_to(shaping.expand_dims(new, place), tuple(rows))
        index = np.repeat(index, rows[place])
    shape = (*x.shape[:place], index.size, *x.shape[place + 1 :])
    new = basis.broadcast_to(new, shape)
    order = np.argsort(index, kind="stable")
    target = index[order] + np.arange(index.size)
    source = np.empty(n + index.size, np.int32)
    taken = np.zeros(n + index.size, bool)
    taken[target] = True
    source[taken] = n + order
    source[~taken] = np.arange(n)
    return shaping.take_rows(lax.concatenate([x, new], place), source, place)


def delete(arr: Any, obj: Any, axis: int | None = None) -> Value:
    """Elements at static indices along an axis removed."""
    x = value(arr, "delete", "arr")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("delete", axis, x.ndim)
    gone = obj if isinstance(obj, slice) else np.asarray(obj)
    rest = np.delete(np.arange(x.shape[place], dtype=np.int32), gone)
    return shaping.take_rows(x, rest, place)
