"""Ranges, matrices with a pattern, and coordinates on a grid."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.basis import convert_element_type
from fgrad.core.dtype_kinds import EXTENDED
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import axes as ax
from fgrad.numpy import rounding, ufuncs
from fgrad.numpy.creation import default, to_device, zeros
from fgrad.numpy.promotion import (
    NUMBERS,
    astype,
    number,
    promote,
    promote_inexact,
    to,
    value,
)

__all__ = [
    "arange",
    "eye",
    "fromfunction",
    "geomspace",
    "identity",
    "indices",
    "linspace",
    "logspace",
    "meshgrid",
    "tri",
    "tril",
    "triu",
    "vander",
]


def arange(
    start: Any, stop: Any = None, step: Any = None, dtype: Any = None, *, device: Any = None
) -> Value:
    """Evenly spaced numbers from `start` (0) to before `stop`, as NumPy's arange; static.

    Example:
        >>> arange(3), arange(1.0, 2.0, 0.5)
        (Array([0, 1, 2], dtype=int32), Array([1. , 1.5], dtype=float32))
    """
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    given = [_static("arange", x) for x in (start, stop, step)]
    if given[2] == 0:
        raise ArgumentError("arange: step must not be 0")
    if dtype is None:
        dtype = dtypes.promote(*(_pair(x) for x in (start, stop, step)))[0]
    dtype = dtypes.dtype(dtype)
    count = max(math.ceil((given[1] - given[0]) / given[2]), 0)
    if dtypes.is_integer(dtype) and given[0] == 0 and given[2] == 1:
        return to_device(lax.iota(dtype, count), device)
    # NumPy repeats the rounded first step, which leads a small float far off.
    wide = np.float64 if dtype in EXTENDED else dtype
    data = np.arange(given[0], given[1], given[2], dtype=wide)
    return to_device(ArrayImpl(data.astype(dtype)), device)


def _pair(x: Any) -> dtypes.Pair:
    return dtypes.pair_of(x)


def _static(name: str, x: Any) -> Any:
    """A Python number of a bound that shapes depend on."""
    if type(x) in NUMBERS:
        return x
    if isinstance(x, Array) and not isinstance(x, ArrayImpl):
        return operator.index(x)  # raises the error that says why a tracer cannot be one
    return np.asarray(x).item()


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    """`num` evenly spaced numbers from `start` to `stop`, which may be arrays.

    Args:
        start: First number(s).
        stop: Last number(s), left out unless `endpoint`.
        num: How many; static.
        endpoint: Whether `stop` is among them.
        retstep: Whether to return the step too.
        dtype: Of the result.
        axis: The axis of the result along which they run.
        device: Where the result lives; None leaves it.

    Example:
        >>> linspace(0, 1, 3)
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    num = integer(num, "linspace: num")
    if num < 0:
        raise ShapeError(f"linspace: num must not be negative, got {num}")
    first, last = _ends("linspace", start, stop, dtype)
    shape = lax.broadcast_shapes(first.shape, last.shape)
    first, last = (basis.broadcast_to(x, shape) for x in (first, last))
    parts = num - 1 if endpoint else num
    dtype_ = first.dtype
    step = lax.div(lax.sub(last, first), ufuncs.const(float(parts) if parts else math.nan, first))
    wide = dtype_ if basis.wide(dtype_) is None else np.dtype(np.float32)
    t = ArrayImpl((np.arange(num) / max(parts, 1)).astype(dtypes.real_dtype(wide)))
    t = convert_element_type(t, dtype_)
    t = basis.reshape(t, (num,) + (1,) * len(shape))
    one = ufuncs.const(1, t)
    out = lax.add(lax.mul(first, lax.sub(one, t)), lax.mul(last, t))
    if endpoint and num > 1:  # the last number is `stop` to the bit
        body = lax.slice_in_dim(out, 0, num - 1, axis=0)
        out = lax.concatenate([body, basis.reshape(convert_element_type(last, dtype_),
                                                   (1, *shape))], 0)  # fmt: skip
    out = basis.moveaxis(out, 0, ax.one("linspace", axis, out.ndim))
    if dtype is not None and dtypes.is_integer(dtype):
        out = rounding.floor(out)
    out = convert_element_type(out, out.dtype if dtype is None else dtypes.dtype(dtype))
    out = to_device(out, device)
    return (out, step) if retstep else out


def _ends(name: str, start: Any, stop: Any, dtype: Any) -> list[Value]:
    """Both ends in one dtype: a wide one that is stated, or what they have."""
    kind = None if dtype is None else dtypes.dtype(dtype)
    if kind in (np.float64, np.complex128):
        start, stop = (to(x, kind) if type(x) in NUMBERS else x for x in (start, stop))
    return list(promote_inexact(name, start, stop))


def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0,
    dtype: Any = None, axis: int = 0,
) -> Value:  # fmt: skip
    """`num` numbers from ``base**start`` to ``base**stop``, evenly spaced in the exponent."""
    first, last = _ends("logspace", start, stop, dtype)
    exponents = linspace(first, last, num, endpoint, axis=axis)
    return astype(ufuncs.power(base, exponents), dtype)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Value:
    """`num` numbers from `start` to `stop`, each a fixed multiple of the one before."""
    first, last = _ends("geomspace", start, stop, dtype)
    sign = ufuncs.sign(first)
    low, high = (lax.log(lax.mul(x, sign)) for x in (first, last))
    out = linspace(low, high, num, endpoint, axis=axis)
    return astype(lax.mul(lax.exp(out), sign), dtype)


# ------------------------------------------------------------------------ matrices and grids


def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None, *, device: Any = None) -> Value:
    """A matrix ``[N, M]`` of ones on the k-th diagonal and zeros elsewhere.

    Example:
        >>> eye(2)
        Array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    rows = integer(N, "eye: N")
    shape = (rows, rows if M is None else integer(M, "eye: M"))
    return to_device(convert_element_type(_diagonal_mask(shape, k, lax.eq), default(dtype)), device)


def identity(n: Any, dtype: Any = None) -> Value:
    """The identity matrix ``[n, n]``."""
    return eye(n, dtype=dtype)


def _diagonal_mask(shape: tuple[int, int], k: Any, compare: Any) -> Value:
    """Whether ``row + k`` compares to the column."""
    ax.shape_of(shape)
    row = lax.broadcasted_iota(np.int32, shape, 0)
    column = lax.broadcasted_iota(np.int32, shape, 1)
    shift = number(integer(k, "the diagonal k"), np.dtype(np.int32), weak=False)
    return compare(lax.add(row, shift), column)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Value:
    """A matrix ``[N, M]`` of ones at and below the k-th diagonal."""
    rows = integer(N, "tri: N")
    columns = rows if M is None else integer(M, "tri: M")
    mask = _diagonal_mask((rows, columns), k, lax.ge)
    return convert_element_type(mask, default(dtype))


def _triangle(name: str, m: Any, k: int, *, lower: bool) -> Value:
    x = value(m, name, "m")
    if x.ndim < 2:
        raise ShapeError(f"{name}: m needs at least 2 axes, got {x.aval}")
    mask = _diagonal_mask(x.shape[-2:], k if lower else k - 1, lax.ge)
    zero = number(0, x.dtype, weak=False)
    cases = (zero, x) if lower else (x, zero)
    return basis.select_n(mask, *cases)


def tril(m: Any, k: int = 0) -> Value:
    """The last two axes with zeros above the k-th diagonal."""
    return _triangle("tril", m, k, lower=True)


def triu(m: Any, k: int = 0) -> Value:
    """The last two axes with zeros below the k-th diagonal."""
    return _triangle("triu", m, k, lower=False)


def meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> list[Value]:
    """The coordinates of a grid, one array an axis.

    Args:
        *xi: Coordinates along each axis, 1-d or scalar.
        copy: Not used: arrays are immutable.
        sparse: Leave the axes along which a result is constant at length 1.
        indexing: "xy" (the first two axes swapped, as in plots) or "ij".
    """
    del copy
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    parts = [value(x, "meshgrid", f"argument {i + 1}") for i, x in enumerate(xi)]
    if any(p.ndim > 1 for p in parts):
        raise ShapeError(f"meshgrid takes 1-d arrays, got {', '.join(str(p.aval) for p in parts)}")
    order = list(range(len(parts)))
    if indexing == "xy" and len(parts) > 1:
        order[:2] = [1, 0]
    shape = tuple(parts[i].size for i in order)
    rows = [
        basis.reshape(p, tuple(p.size if order[d] == i else 1 for d in range(len(parts))))
        for i, p in enumerate(parts)
    ]
    return rows if sparse else [basis.broadcast_to(r, shape) for r in rows]


def indices(dimensions: Sequence[int], dtype: Any = None, sparse: bool = False) -> Any:
    """The index along each axis of a grid: stacked, or with `sparse` as a tuple.

    Example:
        >>> indices((2, 2))[0]
        Array([[0, 0],
               [1, 1]], dtype=int32)
    """
    shape = ax.shape_of(dimensions, "indices")
    kind = dtypes.default_int() if dtype is None else dtypes.dtype(dtype)
    if sparse:
        return tuple(
            basis.reshape(lax.iota(kind, n), tuple(n if j == i else 1 for j in range(len(shape))))
            for i, n in enumerate(shape)
        )
    if not shape:
        return zeros((0,), kind)
    return lax.concatenate(
        [basis.reshape(lax.broadcasted_iota(kind, shape, i), (1, *shape)) for i in
         range(len(shape))], 0)  # fmt: skip


def fromfunction(function: Any, shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    """`function` of the index arrays of a grid."""
    return function(*indices(ax.shape_of(shape), dtype=dtype), **kwargs)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Value:
    """The powers of a vector as columns, the highest first unless `increasing`."""
    (v,) = promote("vander", x)
    if v.ndim != 1:
        raise ShapeError(f"vander: x must be 1-d, got {v.aval}")
    count = v.size if N is None else N
    powers = [lax.full_like(v, 1)]
    for _ in range(count - 1):
        powers.append(lax.mul(powers[-1], v))
    powers = powers[:count] if increasing else powers[:count][::-1]
    if not powers:
        return zeros((v.size, 0), v.dtype)
    return lax.concatenate([basis.reshape(p, (v.size, 1)) for p in powers], 1)
