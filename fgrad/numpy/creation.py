"""Arrays from data, from one value, from a range, and on a grid."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.core.evaluate import WEAK, ArrayImpl, as_value, is_buffer
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import axes as ax
from fgrad.numpy import ufuncs
from fgrad.numpy.promotion import (
    NUMBERS,
    astype,
    number,
    pair,
    promote,
    promote_inexact,
    to,
    value,
)

__all__ = [
    "arange",
    "copy",
    "array",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "fromfunction",
    "full",
    "full_like",
    "geomspace",
    "identity",
    "indices",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tri",
    "tril",
    "triu",
    "vander",
    "zeros",
    "zeros_like",
]


def array(
    object: Any, dtype: Any = None, copy: bool = True, order: str | None = None, ndmin: int = 0,
    *, device: Any = None,
) -> Value:  # fmt: skip
    """An array from a number, an array, or nested sequences of them (tracers included).

    Python numbers take the default dtypes (32-bit unless ``enable_x64``); arrays keep theirs.

    Args:
        object: The data.
        dtype: Of the result; it is never narrowed.
        copy: Whether the result has memory of its own even where none is needed.
        order: None, "C" or "K": arrays are row-major.
        ndmin: The least number of axes; leading axes of length 1 are added.
        device: Where the result lives; None leaves it.

    Raises:
        DtypeError: Something inside is no number.
        ShapeError: The sequences are ragged.

    Example:
        >>> array([1.0, 2.0])
        Array([1., 2.], dtype=float32)
    """
    if order not in (None, "C", "K"):
        raise ShapeError(f"array: order {order!r} is not supported; arrays are row-major: use 'K'")
    x = _from(object) if dtype is None else _converted(object, dtypes.dtype(dtype))
    if x.weak_type and not isinstance(object, (Array, *NUMBERS)):
        x = convert_element_type(x, x.dtype)
    if copy and type(x) is ArrayImpl and (x is object or x._flags):
        x = ArrayImpl(x._data.copy(), x._flags & WEAK)
    if x.ndim < ndmin:
        x = basis.reshape(x, (1,) * (ndmin - x.ndim) + x.shape)
    return x if device is None else to_device(x, device)


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None,
    device: Any = None,
) -> Value:  # fmt: skip
    """`a` as an array; a NumPy array is copied unless it is read-only, or ``copy=False``.

    A Python number stays weak: its dtype gives way to that of the other operand.

    Args:
        a: A number, an array, or nested sequences of them.
        dtype: Of the result; it is never narrowed.
        order: None, "C" or "K": arrays are row-major.
        copy: True copies always, False never: later writes to the buffer of `a` then show.
        device: Where the result lives; None leaves it.

    Example:
        >>> asarray(np.arange(3.0))
        Array([0., 1., 2.], dtype=float64)
    """
    if type(a) in NUMBERS and dtype is None and not copy:
        return as_value(a)
    x = array(a, dtype, bool(copy), order, device=device)
    if copy is None and type(x) is ArrayImpl:
        return x.owned()
    if copy is False and type(x) is ArrayImpl and isinstance(a, np.ndarray) and x.dtype != a.dtype:
        raise DtypeError(f"asarray: {a.dtype} cannot become {x.dtype} without a copy")
    return x


def copy(a: Any, order: str | None = None) -> Value:
    """An array with memory of its own."""
    return array(a, copy=True, order=order)


def _from(x: Any) -> Value:
    if isinstance(x, Array):
        return x
    if isinstance(x, list | tuple):
        return _from_sequence(x)
    if hasattr(x, "__array__") and not is_buffer(x):
        return as_value(np.asarray(x))
    if hasattr(x, "__dlpack__") and not is_buffer(x):
        return as_value(np.from_dlpack(x))
    if isinstance(x, memoryview | bytearray | range):
        return as_value(np.asarray(x))
    return as_value(x)


def _from_sequence(items: Sequence[Any]) -> Value:
    found: list[Any] = []
    if _leaves(items, found):
        return _from_numbers(items, found)
    parts = [item if type(item) in NUMBERS else _from(item) for item in items]
    shapes = {() if type(p) in NUMBERS else p.shape for p in parts}
    if len(shapes) > 1:
        raise ShapeError(
            f"array: the items of a sequence have different shapes, {sorted(map(list, shapes))}; "
            f"pad them to one shape"
        )
    dtype, weak = dtypes.promote(*map(pair, parts))
    shape = shapes.pop()
    rows = [basis.reshape(to(p, dtype, weak), (1, *shape)) for p in parts]
    return lax.concatenate(rows, 0)


def _leaves(items: Any, found: list[Any]) -> bool:
    """Whether nested sequences hold Python numbers alone; they are collected in `found`."""
    for item in items:
        if type(item) in NUMBERS:
            found.append(item)
        elif not isinstance(item, list | tuple) or not _leaves(item, found):
            return False
    return True


def _from_numbers(items: Any, leaves: Sequence[Any], dtype: Any = None) -> Value:
    """Nested sequences of Python numbers, or one of them."""
    weak = False
    if dtype is None:
        kinds = {type(leaf) for leaf in leaves} or {float}
        dtype, weak = dtypes.promote(*map(dtypes.scalar_pair, kinds))
    try:
        return ArrayImpl(np.array(items, dtype), WEAK if weak else 0)
    except OverflowError:
        raise DtypeError(
            f"array: a Python integer does not fit {dtype}; pass dtype=, or set enable_x64"
        ) from None
    except ValueError:
        raise ShapeError("array: the nested sequences are ragged; pad them to one shape") from None


def _converted(source: Any, dtype: np.dtype[Any]) -> Value:
    """To a stated dtype: Python numbers straight from what the user wrote."""
    leaves: list[Any] = []
    if _leaves([source], leaves):
        kinds = {type(leaf) for leaf in leaves}
        if complex in kinds and not (dtypes.is_complex(dtype) or dtype.kind == "b"):
            raise DtypeError(f"array: complex numbers do not fit {dtype}; take their real part")
        if dtypes.is_inexact(dtype) or kinds <= {int, bool}:
            return _from_numbers(source, leaves, dtype)
    return convert_element_type(_from(source), dtype)


def to_device(x: Value, device: Any) -> Value:
    """`x` on a device: "cpu", or where it is."""
    if device in (None, "cpu") or device == getattr(x, "device", None):
        return x
    raise ValueError(f"device {device!r} is not known to arrays; use fgrad.device_put")


def _default(dtype: Any) -> np.dtype[Any]:
    return dtypes.default_float() if dtype is None else dtypes.dtype(dtype)


def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Zeros of a shape, in the default float dtype.

    Example:
        >>> zeros((2,))
        Array([0., 0.], dtype=float32)
    """
    return to_device(lax.full(ax.shape_of(shape, "zeros"), 0, _default(dtype)), device)


def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Ones of a shape, in the default float dtype."""
    return to_device(lax.full(ax.shape_of(shape, "ones"), 1, _default(dtype)), device)


empty = zeros


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """An array of a shape filled with a value, or with an array that broadcasts to it.

    Example:
        >>> full((2,), 3, np.int32)
        Array([3, 3], dtype=int32)
    """
    x = astype(value(fill_value, "full", "fill_value"), dtype)
    return to_device(basis.broadcast_to(x, ax.shape_of(shape, "full")), device)


def _like(a: Any, dtype: Any, shape: Any) -> tuple[Value, Any, tuple[int, ...]]:
    x = value(a)
    return x, x.dtype if dtype is None else dtype, x.shape if shape is None else ax.shape_of(shape)


def zeros_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Value:
    """Zeros of the shape and dtype of `a`, unless stated otherwise."""
    _, dtype, shape = _like(a, dtype, shape)
    return zeros(shape, dtype, device=device)


def ones_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Value:
    """Ones of the shape and dtype of `a`, unless stated otherwise."""
    _, dtype, shape = _like(a, dtype, shape)
    return ones(shape, dtype, device=device)


empty_like = zeros_like


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, shape: Any = None, *, device: Any = None
) -> Value:
    """`full` of the shape and dtype of `a`, unless stated otherwise."""
    _, dtype, shape = _like(a, dtype, shape)
    return full(shape, fill_value, dtype, device=device)


# ------------------------------------------------------------------------------------ ranges


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
    wide = None if dtype.kind in "biufc" else np.float32
    data = np.arange(given[0], given[1], given[2], dtype=wide or dtype)
    return to_device(ArrayImpl(data.astype(dtype)), device)


def _pair(x: Any) -> dtypes.Pair:
    return dtypes.pair_of(x)


def _static(name: str, x: Any) -> Any:
    """A Python number of a bound that shapes depend on."""
    if type(x) in NUMBERS:
        return x
    if isinstance(x, Array) and not isinstance(x, ArrayImpl):
        return operator.index(x)  # type: ignore[arg-type]  # raises the error that says why a tracer cannot be one
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
    num = operator.index(num)
    if num < 0:
        raise ShapeError(f"linspace: num must not be negative, got {num}")
    first, last = promote_inexact("linspace", start, stop)
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
        out = ufuncs.floor(out)
    out = convert_element_type(out, out.dtype if dtype is None else dtypes.dtype(dtype))
    out = to_device(out, device)
    return (out, step) if retstep else out


def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0,
    dtype: Any = None, axis: int = 0,
) -> Value:  # fmt: skip
    """`num` numbers from ``base**start`` to ``base**stop``, evenly spaced in the exponent."""
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    return astype(ufuncs.power(base, exponents), dtype)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Value:
    """`num` numbers from `start` to `stop`, each a fixed multiple of the one before."""
    first, last = promote_inexact("geomspace", start, stop)
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
    rows = operator.index(N)
    shape = (rows, rows if M is None else operator.index(M))
    return to_device(
        convert_element_type(_diagonal_mask(shape, k, lax.eq), _default(dtype)), device
    )


def identity(n: Any, dtype: Any = None) -> Value:
    """The identity matrix ``[n, n]``."""
    return eye(n, dtype=dtype)


def _diagonal_mask(shape: tuple[int, int], k: Any, compare: Any) -> Value:
    """Whether ``row + k`` compares to the column."""
    ax.shape_of(shape)
    row = lax.broadcasted_iota(np.int32, shape, 0)
    column = lax.broadcasted_iota(np.int32, shape, 1)
    shift = number(operator.index(k), np.dtype(np.int32), weak=False)
    return compare(lax.add(row, shift), column)  # type: ignore[no-any-return]


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Value:
    """A matrix ``[N, M]`` of ones at and below the k-th diagonal."""
    mask = _diagonal_mask((N, N if M is None else M), k, lax.ge)
    return convert_element_type(mask, _default(dtype))


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
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
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
