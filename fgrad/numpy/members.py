"""Methods of arrays: the functions of the namespace, on `self`.

Importing this module installs all members on arrays.
"""

from importlib import import_module
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ArgumentError, ConcretizationTypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, DonatedBuffer
from fgrad.core.homes import copied
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, install
from fgrad.numpy import (
    creation,
    cumulative,
    diagonals,
    elementary,
    indexing,
    operators,
    positions,
    printing,
    products,
    protocols,
    reductions,
    rounding,
    selection,
    shaping,
    sorting,
    ufuncs,
)
from fgrad.numpy.at import IndexUpdate


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Value:
    """`x` in another dtype (strong); complex to real keeps the real part."""
    del copy
    x = creation.asarray(x) if not isinstance(x, Array) else x
    return creation.to_device(
        convert_element_type(x, dtypes.default_float() if dtype is None else dtypes.dtype(dtype)),
        device,
    )


def _astype(x: Any, dtype: Any, copy: bool = True, device: Any = None) -> Value:
    """The array in another dtype; complex to real keeps the real part."""
    return astype(x, dtype, copy=copy, device=device)


def _reshape(x: Any, *shape: Any, order: str = "C") -> Value:
    """The same elements in another shape, one length of which may be -1."""
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    return shaping.reshape(x, shape, order)


def _transpose(x: Any, *axes: Any) -> Value:
    """Axes permuted; reversed where none are given."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        axes = tuple(axes[0] or ())
    return shaping.transpose(x, axes or None)


def _matrix_transpose(x: Any) -> Value:
    """The last two axes swapped."""
    return shaping.matrix_transpose(x)


def _copy(x: Any, order: str | None = None) -> Value:
    """The array with memory of its own."""
    del order
    return ArrayImpl(copied(x._data), x.weak_type) if type(x) is ArrayImpl else x


def _clip(x: Any, min: Any = None, max: Any = None) -> Value:
    """Values limited to ``[min, max]``; either bound may be None."""
    return elementary.clip(x, min, max)


def _view(x: Any, dtype: Any = None) -> Value:
    """The same bytes read as another dtype; the last axis changes its length with the width."""
    if dtype is None:
        return x
    new, old = dtypes.dtype(dtype), x.dtype
    if new.itemsize == old.itemsize:
        return lax.bitcast_convert_type(x, new)
    if not x.ndim:
        raise ShapeError(f"view: {x.aval} has no axis that could change its length for {new}")
    if new.itemsize < old.itemsize:
        out = lax.bitcast_convert_type(x, new)
        return basis.reshape(out, (*x.shape[:-1], x.shape[-1] * out.shape[-1]))
    ratio = new.itemsize // old.itemsize
    if x.shape[-1] % ratio:
        raise ShapeError(f"view: the last axis of {x.aval} must be a multiple of {ratio} for {new}")
    split = basis.reshape(x, (*x.shape[:-1], x.shape[-1] // ratio, ratio))
    return lax.bitcast_convert_type(split, new)


def _device(x: Any) -> Any:
    """The device of the array, a name such as ``"cuda:0"`` that knows more about itself."""
    if not isinstance(x, ArrayImpl):
        found = x.concrete()
        if found is None:
            raise ConcretizationTypeError(
                f"the device of a traced {x.aval} is not known while tracing"
            )
        return _device(found)
    return import_module("fgrad.core.devices").device_of(x._data)


def _block_until_ready(x: Any) -> Any:
    """Wait until the array is computed; returns it."""
    if type(x) is ArrayImpl and type(x._data) is not DonatedBuffer:
        _device(x).synchronize()
    return x


def _item(x: Any, *args: Any) -> Any:
    """The Python number of the only element, or of the one at a position."""
    if not args and x.size != 1:
        raise ArgumentError(f"item() takes an array of one element, got {x.aval}; index it first")
    return printing.host(x).item(*args)


def _tolist(x: Any) -> Any:
    """Nested lists of Python numbers."""
    return printing.host(x).tolist()


def _tobytes(x: Any, order: Any = "C") -> bytes:
    """The bytes of the elements."""
    return printing.host(x).tobytes(order)


def _compress(x: Any, condition: Any, axis: int | None = None) -> Value:
    """The slices along an axis for which a vector of conditions holds."""
    return selection.compress(condition, x, axis)


def _devices(x: Any) -> set[Any]:
    """The device in a set, as JAX gives it."""
    return {_device(x)}


def _to_device(x: Any, device: Any, /, *, stream: Any = None) -> Value:
    """The array on a device."""
    del stream
    return creation.to_device(x, device)


def _copy_to_host_async(x: Any) -> None:
    """Begin nothing: contents are fetched when they are asked for."""
    del x


def _addressable_data(x: Any, index: int) -> Any:
    """The part of the array on a device of this process: all of it."""
    return (x,)[index]


def _is_ready(x: Any) -> bool:
    """Whether the array is computed; on a GPU, whether its current stream has nothing to do."""
    on_host = type(x) is not ArrayImpl or type(x._data) in (np.ndarray, DonatedBuffer)
    return on_host or _device(x).is_idle()


def _is_deleted(x: Any) -> bool:
    """Whether the buffer has been given away."""
    return type(x) is ArrayImpl and type(x._data) is DonatedBuffer


def _is_whole(x: Any) -> bool:
    """True, as one process holds all of the array."""
    del x
    return True


_METHODS: dict[str, Any] = {
    "sum": reductions.sum,
    "mean": reductions.mean,
    "std": reductions.std,
    "var": reductions.var,
    "prod": reductions.prod,
    "max": reductions.max,
    "min": reductions.min,
    "any": reductions.any,
    "all": reductions.all,
    "ptp": reductions.ptp,
    "argmax": selection.argmax,
    "argmin": selection.argmin,
    "cumsum": cumulative.cumsum,
    "cumprod": cumulative.cumprod,
    "dot": products.dot,
    "round": rounding.round,
    "conj": ufuncs.conjugate,
    "conjugate": ufuncs.conjugate,
    "swapaxes": shaping.swapaxes,
    "repeat": shaping.repeat,
    "squeeze": shaping.squeeze,
    "ravel": shaping.ravel,
    "flatten": shaping.ravel,
    "sort": sorting.sort,
    "argsort": sorting.argsort,
    "argpartition": sorting.argpartition,
    "searchsorted": sorting.searchsorted,
    "take": selection.take,
    "choose": selection.choose,
    "compress": _compress,
    "nonzero": positions.nonzero,
    "trace": diagonals.trace,
    "diagonal": diagonals.diagonal,
    "reshape": _reshape,
    "transpose": _transpose,
    "astype": _astype,
    "copy": _copy,
    "clone": _copy,
    "clip": _clip,
    "view": _view,
    "item": _item,
    "tolist": _tolist,
    "tobytes": _tobytes,
    "block_until_ready": _block_until_ready,
    "is_ready": _is_ready,
    "is_deleted": _is_deleted,
    "devices": _devices,
    "to_device": _to_device,
    "copy_to_host_async": _copy_to_host_async,
    "addressable_data": _addressable_data,
}
for _name, _method in _METHODS.items():
    if _method.__name__ == f"_{_name}":  # Python's own messages name it
        _method.__name__, _method.__qualname__ = _name, f"Array.{_name}"

_PROPERTIES: dict[str, Any] = {
    "T": shaping.transpose,
    "mT": _matrix_transpose,
    "real": ufuncs.real,
    "imag": ufuncs.imag,
    "flat": shaping.ravel,
    "at": IndexUpdate,
    "device": _device,
    "is_fully_addressable": _is_whole,
    "is_fully_replicated": _is_whole,
}


def _matmul(x: Any, y: Any) -> Any:
    return products.matmul(x, y) if _operand(y) else NotImplemented


def _rmatmul(x: Any, y: Any) -> Any:
    return products.matmul(y, x) if _operand(y) else NotImplemented


def _operand(y: Any) -> bool:
    return isinstance(y, Array | np.ndarray | np.generic) or hasattr(y, "__fgrad_array__")


MEMBERS: dict[str, Any] = {
    **_METHODS,
    **{name: property(get) for name, get in _PROPERTIES.items()},
    "__getitem__": indexing.get,
    "__matmul__": _matmul,
    "__rmatmul__": _rmatmul,
}

install({**operators.MEMBERS, **printing.MEMBERS, **protocols.MEMBERS, **MEMBERS})
