"""Arrays from data, from one value, from a range, and on a grid."""

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.backends.cuda.arrays import foreign
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import WEAK, ArrayImpl, as_value, borrow, is_buffer
from fgrad.core.homes import copied, made_on_host
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, state
from fgrad.numpy import axes as ax
from fgrad.numpy.promotion import (
    NUMBERS,
    astype,
    pair,
    to,
    value,
)

__all__ = [
    "array",
    "asarray",
    "copy",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
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
        x = ArrayImpl(copied(x._data), x._flags & WEAK)
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
        >>> import numpy as np
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
    if not is_buffer(x) and (found := foreign(x)) is not None:
        return borrow(found)
    if hasattr(x, "__array__") and not is_buffer(x):
        return borrow(x if isinstance(x, np.ndarray) else np.asarray(x))
    if hasattr(x, "__dlpack__") and not is_buffer(x):
        return borrow(np.from_dlpack(x))
    if isinstance(x, memoryview | bytearray | range):
        return borrow(np.asarray(x))
    return borrow(x)


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
    """`x` on a device; where it is for None."""
    moved: Value = x if device is None else import_module("fgrad.lax.placement").place(x, device)
    return moved


def settled(x: Value) -> Value:
    """What was made on the host, on the default device, where no transform is at work.

    Inside of transforms it follows what it meets, so that a function of an array stays where that
    is, and programs do not depend on the default.
    """
    if made_on_host() or type(x) is not ArrayImpl or type(x._data) is not np.ndarray:
        return x
    return x if state.trace is not type(state).trace else to_device(x, "")


def placed(make: Callable[..., Value]) -> Callable[..., Value]:
    """A function of the namespace that makes arrays, of what is no array, on the default device.

    Calls from fgrad itself go on with what the user passed in, and stay on the host.
    """

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Value:
        x = make(*args, **kwargs)
        if made_on_host() or kwargs.get("device") is not None:
            return x
        inside = sys._getframe(1).f_globals.get("__name__", "").startswith("fgrad.")
        return x if inside or (args and isinstance(args[0], Array)) else settled(x)

    made.__module__ = "fgrad.numpy"
    return made


def default(dtype: Any) -> np.dtype[Any]:
    """The dtype named, or the default float."""
    return dtypes.default_float() if dtype is None else dtypes.dtype(dtype)


def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Zeros of a shape, in the default float dtype.

    Example:
        >>> zeros((2,))
        Array([0., 0.], dtype=float32)
    """
    return to_device(lax.full(ax.shape_of(shape, "zeros"), 0, default(dtype)), device)


def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """Ones of a shape, in the default float dtype."""
    return to_device(lax.full(ax.shape_of(shape, "ones"), 1, default(dtype)), device)


empty = zeros


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Value:
    """An array of a shape filled with a value, or with an array that broadcasts to it.

    Example:
        >>> import numpy as np
        >>> full((2,), 3, np.int32)
        Array([3, 3], dtype=int32)
    """
    if dtype is not None and type(fill_value) in NUMBERS:
        # Straight from what the user wrote: 0.1 is another number in float32.
        x = _converted(fill_value, dtypes.dtype(dtype))
    else:
        x = astype(value(fill_value, "full", "fill_value"), dtype)
    return to_device(basis.broadcast_to(x, ax.shape_of(shape, "full")), device)


def zeros_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Value:
    """Zeros of the shape and dtype of `a`, unless stated otherwise."""
    return full_like(a, 0, dtype, shape, device=device)


def ones_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Value:
    """Ones of the shape and dtype of `a`, unless stated otherwise."""
    return full_like(a, 1, dtype, shape, device=device)


empty_like = zeros_like


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, shape: Any = None, *, device: Any = None
) -> Value:
    """`full` of the shape and dtype of `a`, unless stated otherwise; weak where `a` is."""
    x = value(a)
    known = x.concrete() if device is None else None
    if known is not None and type(known._data) is not np.ndarray:
        device = known.device
    out = full(
        x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype,
        device=device,
    )  # fmt: skip
    return convert_element_type(out, out.dtype, weak_type=dtype is None and x.weak_type)
