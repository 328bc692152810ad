"""Elements chosen by conditions, positions and extrema."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import (
    ArgumentError,
    ConcretizationTypeError,
    DtypeError,
    ImmutableArrayError,
    IndexOutOfBoundsError,
    ShapeError,
)
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import axes as ax
from fgrad.numpy import indexing, joining, reductions, shaping, ufuncs
from fgrad.numpy.elementary import isnan
from fgrad.numpy.positions import nonzero
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import NUMBERS, number, promote, value

__all__ = [
    "argmax",
    "argmin",
    "choose",
    "compress",
    "extract",
    "nanargmax",
    "nanargmin",
    "piecewise",
    "put",
    "put_along_axis",
    "select",
    "take",
    "take_along_axis",
    "where",
]

_BOOL = np.dtype(bool)


def where(
    condition: Any, x: Any = None, y: Any = None, /, *, size: int | None = None,
    fill_value: Any = None,
) -> Any:  # fmt: skip
    """`x` where the condition holds and `y` elsewhere; with the condition alone, `nonzero`.

    Both sides are computed; the one that is not chosen contributes no derivative.

    Args:
        condition: A mask.
        x: Values where it is True.
        y: Values where it is False.
        size: For `nonzero`: the static number of results.
        fill_value: For `nonzero`: what fills the rest.

    Example:
        >>> where(np.array([True, False]), 1.0, 2.0)
        Array([1., 2.], dtype=float32, weak_type=True)
    """
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ArgumentError("where takes both x and y, or neither")
    a, b = promote("where", x, y)
    return select_n(ufuncs.truth(value(condition, "where", "condition")), b, a)


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Value:
    """The choice of the first condition that holds, `default` where none does."""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ShapeError(
            f"select: {len(condlist)} conditions do not fit {len(choicelist)} choices; as many are "
            f"needed, at least one"
        )
    *choices, out = promote("select", *choicelist, default)
    for condition, choice in zip(reversed(list(condlist)), reversed(choices), strict=True):
        out = select_n(ufuncs.truth(condition), out, choice)
    shape = lax.broadcast_shapes(out.shape, *(c.shape for c in choices))
    return basis.broadcast_to(out, shape)


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Value:
    """For each element, the choice that it numbers.

    Args:
        a: Integers.
        choices: A sequence of arrays.
        out: Not supported.
        mode: "raise" (needs concrete `a`), "wrap" or "clip".
    """
    del out
    index = value(a, "choose", "a")
    if index.dtype.kind not in "iub":
        raise DtypeError(f"choose: a must hold integers, got {index.aval}")
    cases = promote("choose", *joining._parts("choose", choices))
    n = len(cases)
    if mode == "raise":
        known = index.concrete()
        if known is None:
            raise ConcretizationTypeError(
                "choose: mode='raise' needs to know a, which is traced; pass mode='clip' or 'wrap'"
            )
        data = host(known)
        if data.size and not (data.min() >= 0 and data.max() < n):
            raise IndexOutOfBoundsError(f"choose: a has numbers outside 0 to {n - 1}")
    index = convert_element_type(index, np.int32)
    if mode == "wrap":
        index = ufuncs.remainder(index, n)
    index = lax.clamp(np.int32(0), index, np.int32(n - 1))
    shape = lax.broadcast_shapes(index.shape, *(c.shape for c in cases))
    if n == 1:
        return basis.broadcast_to(cases[0], shape)
    return basis.broadcast_to(select_n(index, *cases), shape)


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Value:
    """A function given by pieces: the last piece whose condition holds, or a further default."""
    v = value(x, "piecewise", "x")
    if isinstance(condlist, Array | np.ndarray) and value(condlist).ndim == v.ndim:
        condlist = [condlist]
    conditions = list(condlist)
    pieces = list(funclist)
    if len(pieces) not in (len(conditions), len(conditions) + 1):
        raise ShapeError(f"piecewise: {len(pieces)} pieces do not fit {len(conditions)} conditions")
    default = pieces.pop() if len(pieces) > len(conditions) else 0

    def evaluate(piece: Any) -> Value:
        out = piece(v, *args, **kw) if callable(piece) else piece
        found = number(out, v.dtype) if type(out) in NUMBERS else value(out)
        return convert_element_type(found, v.dtype)

    result = basis.broadcast_to(evaluate(default), v.shape)
    for condition, piece in zip(conditions, pieces, strict=True):
        result = select_n(ufuncs.truth(condition), result, evaluate(piece))
    return result


# ----------------------------------------------------------------------------- by position


def take(
    a: Any, indices: Any, axis: int | None = None, out: None = None, mode: Any = None,
    unique_indices: bool = False, indices_are_sorted: bool = False, fill_value: Any = None,
) -> Value:  # fmt: skip
    """Elements at positions along an axis (of the flattened array where None).

    Args:
        a: The array.
        indices: Positions; negative ones count from the end.
        axis: The axis.
        out: Not supported.
        mode: None (out of bounds raises where it is known), "clip", "wrap" or "fill".
        unique_indices: A promise that allows faster code.
        indices_are_sorted: A promise that allows faster code.
        fill_value: What mode "fill" puts where an index is out of bounds.
    """
    del out
    x = value(a, "take", "a")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("take", axis, x.ndim)
    index = value(np.asarray(indices) if isinstance(indices, list | tuple) else indices)
    if mode == "wrap":
        index, mode = ufuncs.remainder(index, x.shape[place]), None
    elif mode == "raise":
        mode = None
    return indexing.get(
        x, (slice(None),) * place + (index,), mode=mode, fill_value=fill_value,
        sorted_=indices_are_sorted, unique=unique_indices,
    )  # fmt: skip


def _along(name: str, x: Value, index: Value, axis: int) -> tuple[Any, ...]:
    """Index arrays that pair each position with its own place in the other axes."""
    if index.dtype.kind not in "iu":
        raise DtypeError(f"{name}: indices must be integers, got {index.aval}")
    if index.ndim != x.ndim:
        raise ShapeError(f"{name}: indices {index.aval} need the {x.ndim} axes of {x.aval}")
    found: list[Any] = []
    for i, n in enumerate(index.shape):
        if i == axis:
            found.append(index)
            continue
        m = x.shape[i]
        if n != m and 1 not in (n, m):
            raise ShapeError(f"{name}: axis {i} of indices {index.aval} does not fit {x.aval}")
        line = np.zeros(n, np.int32) if m == 1 else np.arange(m, dtype=np.int32)
        found.append(line.reshape(tuple(-1 if j == i else 1 for j in range(x.ndim))))
    return tuple(found)


def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, mode: Any = None, fill_value: Any = None
) -> Value:
    """For each place in the other axes, the elements at its own positions along one axis.

    Args:
        arr: The array.
        indices: Integers, with as many axes as `arr`; the others broadcast.
        axis: The axis; None flattens both.
        mode: None (out of bounds raises where it is known), "clip" or "fill".
        fill_value: What mode "fill" puts where an index is out of bounds.
    """
    x, index = value(arr, "take_along_axis", "arr"), value(indices, "take_along_axis", "indices")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("take_along_axis", axis, x.ndim)
    return indexing.get(
        x, _along("take_along_axis", x, index, place), mode=mode, fill_value=fill_value
    )


def put_along_axis(
    arr: Any, indices: Any, values: Any, axis: int | None, inplace: bool = True,
    *, mode: Any = None,
) -> Value:  # fmt: skip
    """A copy with `values` at the positions that `take_along_axis` reads; ``inplace=False``."""
    x, index = value(arr, "put_along_axis", "arr"), value(indices, "put_along_axis", "indices")
    if inplace:
        raise ImmutableArrayError(
            "put_along_axis: arrays are immutable; pass inplace=False, use the result"
        )
    if axis is None:
        flat = shaping.ravel(x)
        return basis.reshape(flat.at[index].set(values, mode=mode), x.shape)
    place = ax.one("put_along_axis", axis, x.ndim)
    return x.at[_along("put_along_axis", x, index, place)].set(values, mode=mode)


def put(a: Any, ind: Any, v: Any, mode: Any = None, *, inplace: bool = True) -> Value:
    """A copy with values at positions of the flattened array; ``inplace=False`` is required."""
    x = value(a, "put", "a")
    if inplace:
        raise ImmutableArrayError("put: arrays are immutable; pass inplace=False, use the result")
    index = shaping.ravel(value(np.asarray(ind) if isinstance(ind, list | tuple) else ind))
    if mode == "wrap":
        index, mode = ufuncs.remainder(index, x.size), None
    new = shaping.resize(v, (index.size,)) if index.size else value(v)
    flat = shaping.ravel(x)
    return basis.reshape(flat.at[index].set(new, mode=mode), x.shape) if index.size else x


def compress(
    condition: Any, a: Any, axis: int | None = None, *, size: int | None = None,
    fill_value: Any = 0, out: None = None,
) -> Value:  # fmt: skip
    """The slices along an axis for which a vector of conditions holds."""
    del out
    x = value(a, "compress", "a")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one("compress", axis, x.ndim)
    mask = ufuncs.truth(value(np.asarray(condition) if isinstance(condition, list) else condition))
    if mask.ndim != 1 or mask.size > x.shape[place]:
        raise ShapeError(f"compress: condition {mask.aval} does not fit axis {place} of {x.aval}")
    if size is None:
        return take(x, nonzero(mask)[0], place)
    count = x.shape[place]
    found = nonzero(mask, size=size, fill_value=count)[0]
    return take(x, found, place, mode="fill", fill_value=fill_value)


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Value:
    """The elements, flattened, for which the condition holds."""
    mask = shaping.ravel(ufuncs.truth(value(condition, "extract", "condition")))
    return compress(mask, shaping.ravel(arr), size=size, fill_value=fill_value)


# ------------------------------------------------------------------------------------ extrema


def _arg(name: str, pick: str, a: Any, axis: int | None, keepdims: bool | None) -> Value:
    x = value(a, name, "a")
    shape = x.shape
    if axis is None:
        x, place = shaping.ravel(x), 0
    else:
        place = ax.one(name, axis, x.ndim)
    if x.shape[place] == 0:
        raise ShapeError(f"{name}: {x.aval} has no elements along axis {place}")
    found = getattr(lax, pick)(x, place, dtypes.default_int())
    if keepdims:
        whole = tuple(range(len(shape))) if axis is None else (place,)
        found = basis.reshape(found, ax.kept(shape, whole))
    return found


def argmax(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Value:
    """The position of the first greatest element; NaN counts as greatest."""
    del out
    return _arg("argmax", "argmax", a, axis, keepdims)


def argmin(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Value:
    """The position of the first least element; NaN counts as least."""
    del out
    return _arg("argmin", "argmin", a, axis, keepdims)


def _nanarg(name: str, arg: Callable[..., Value], fill: Any, a: Any, axis: Any, k: Any) -> Value:
    x = value(a, name, "a")
    if not dtypes.is_inexact(x.dtype):
        return arg(x, axis, keepdims=k)
    missing = isnan(x)
    found = arg(select_n(missing, x, number(fill(x.dtype), x.dtype, weak=False)), axis, keepdims=k)
    nothing = reductions.all(missing, axis, keepdims=bool(k))
    return select_n(nothing, found, number(-1, found.dtype, weak=False))


def nanargmax(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Value:
    """`argmax`, ignoring NaN; -1 where all are NaN."""
    del out
    return _nanarg("nanargmax", argmax, dtypes.lowest, a, axis, keepdims)


def nanargmin(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Value:
    """`argmin`, ignoring NaN; -1 where all are NaN."""
    del out
    return _nanarg("nanargmin", argmin, dtypes.highest, a, axis, keepdims)
