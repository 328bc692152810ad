"""Grids by slicing, files, and rarer functions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ImmutableArrayError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import (
    axes as ax,
)
from fgrad.numpy import (
    bitwise,
    creation,
    cumulative,
    grids,
    indexing,
    joining,
    positions,
    selection,
    shaping,
    ufuncs,
)
from fgrad.numpy.polynomials import trim_zeros
from fgrad.numpy.promotion import NUMBERS, astype, promote_inexact, value

s_ = np.s_
index_exp = np.index_exp
get_printoptions = np.get_printoptions
set_printoptions = np.set_printoptions
printoptions = np.printoptions


class _Grid:
    """``mgrid[0:3, 0:1:5j]``: coordinates from slices; a complex step is a number of points."""

    __slots__ = ("sparse",)

    def __init__(self, *, sparse: bool) -> None:
        self.sparse = sparse

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _line(key)
        lines = [_line(k) for k in key]
        dtype, _ = dtypes.promote(*((x.dtype, False) for x in lines))
        grid = grids.meshgrid(
            *(convert_element_type(x, dtype) for x in lines), sparse=self.sparse, indexing="ij"
        )
        return grid if self.sparse else joining.stack(grid)


def _line(key: slice) -> Value:
    start = 0 if key.start is None else key.start
    if isinstance(key.step, complex):
        return grids.linspace(start, key.stop, int(abs(key.step)))
    x = grids.arange(start, key.stop, 1 if key.step is None else key.step)
    return convert_element_type(x, x.dtype)


mgrid = _Grid(sparse=False)
ogrid = _Grid(sparse=True)


def array_repr(arr: Any, max_line_width: Any = None, precision: Any = None,
               suppress_small: Any = None) -> str:  # fmt: skip
    """What ``repr`` gives; the options are NumPy's print options."""
    options = {"linewidth": max_line_width, "precision": precision, "suppress": suppress_small}
    with np.printoptions(**{k: v for k, v in options.items() if v is not None}):
        return repr(value(arr))


def array_str(a: Any, max_line_width: Any = None, precision: Any = None,
              suppress_small: Any = None) -> str:  # fmt: skip
    """What ``str`` gives; the options are NumPy's print options."""
    options = {"linewidth": max_line_width, "precision": precision, "suppress": suppress_small}
    with np.printoptions(**{k: v for k, v in options.items() if v is not None}):
        return str(value(a))


def save(file: Any, arr: Any) -> None:
    """Write a concrete array to a file in NumPy's format."""
    np.save(file, np.asarray(value(arr)))


def savez(file: Any, *args: Any, **kwds: Any) -> None:
    """Write concrete arrays to one file in NumPy's format."""
    named: dict[str, Any] = {k: np.asarray(value(a)) for k, a in kwds.items()}
    np.savez(file, *(np.asarray(value(a)) for a in args), **named)


def load(file: Any, *args: Any, **kwargs: Any) -> Any:
    """The array of a file that `save` wrote, or NumPy's mapping for one that `savez` wrote."""
    found = np.load(file, *args, **kwargs)
    return creation.asarray(found) if isinstance(found, np.ndarray) else found


def unwrap(p: Any, discont: Any = None, axis: int = -1, period: Any = 2 * np.pi) -> Value:
    """Phases with jumps of more than half a period removed, along an axis.

    Args:
        p: The phases.
        discont: The least jump that is removed; half a period where None.
        axis: The axis.
        period: The period.
    """
    (x,) = promote_inexact("unwrap", p)
    place = ax.one("unwrap", axis, x.ndim)
    n = x.shape[place]
    if n == 0:
        return x
    steps = cumulative.diff(x, axis=place)
    if type(period) in NUMBERS:
        half = ufuncs.const(period / 2, x)
    else:
        half = ufuncs.divide(period, 2)
    wrapped = ufuncs.subtract(ufuncs.remainder(ufuncs.add(steps, half), period), half)
    edge = lax.bitwise_and(bitwise.equal(wrapped, ufuncs.negative(half)), bitwise.greater(steps, 0))
    wrapped = selection.where(edge, half, wrapped)
    jump = ufuncs.subtract(wrapped, steps)
    limit = half if discont is None else discont
    jump = selection.where(bitwise.less(ufuncs.abs(steps), limit), 0.0, jump)
    shift = cumulative.cumsum(jump, place)
    first = lax.slice_in_dim(x, 0, 1, axis=place)
    rest = lax.slice_in_dim(x, 1, n, axis=place)
    return lax.concatenate([first, lax.add(rest, convert_element_type(shift, x.dtype))], place)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = True) -> Value:
    """A copy with the values, repeated as needed, where the mask is nonzero; ``inplace=False``."""
    x = value(arr, "place", "arr")
    chosen = shaping.ravel(ufuncs.truth(value(mask)))
    new = shaping.ravel(value(np.asarray(vals) if isinstance(vals, list | tuple) else vals))
    if inplace:
        raise ImmutableArrayError("place: arrays are immutable; pass inplace=False, use the result")
    if chosen.size != x.size or not new.size:
        raise ShapeError(f"place: mask and values do not fit {x.aval}: {chosen.aval}, {new.aval}")
    count = lax.cumsum(convert_element_type(chosen, np.int32), axis=0)
    index = ufuncs.remainder(ufuncs.subtract(count, 1), new.size)
    picked = astype(indexing.get(new, index), x.dtype)
    return basis.reshape(select_n(chosen, shaping.ravel(x), picked), x.shape)


def mask_indices(n: int, mask_func: Callable[..., Any], k: int = 0) -> tuple[Value, ...]:
    """The positions in an ``[n, n]`` matrix of ones that `mask_func` (such as triu) keeps."""
    n = integer(n, "mask_indices: n")
    return positions.nonzero(mask_func(creation.ones((n, n)), k))


def polydiv(u: Any, v: Any, *, trim_leading_zeros: bool = False) -> tuple[Value, Value]:
    """Quotient and remainder of two polynomials, highest power first.

    Args:
        u: The dividend.
        v: The divisor; its first coefficient must not be 0.
        trim_leading_zeros: Whether to remove leading zeros of the remainder (needs it concrete).
    """
    p, q = (shaping.atleast_1d(x) for x in promote_inexact("polydiv", u, v))
    n, m = p.size, q.size
    first = lax.slice_in_dim(q, 0, 1, axis=0)
    quotient = []
    rest = p
    for i in range(n - m + 1):
        scale = lax.div(lax.slice_in_dim(rest, i, i + 1, axis=0), first)
        quotient.append(scale)
        shifted = lax.pad(lax.mul(scale, q), basis.scalar(0, p.dtype), [(i, n - m - i, 0)])
        rest = lax.sub(rest, shifted)
    out = lax.concatenate(quotient, 0) if quotient else lax.full((1,), 0, p.dtype)
    # What the quotient cancels is 0 but for rounding.
    rest = lax.slice_in_dim(rest, max(n - m + 1, 0), n, axis=0) if m > 1 else (
        lax.full((1,), 0, p.dtype))  # fmt: skip
    return out, trim_zeros(rest, "f") if trim_leading_zeros else rest
