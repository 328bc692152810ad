"""NumPy's, Python's and DLPack's protocols of arrays.

A concrete array gives its contents away read-only. A tracer never becomes a NumPy array; NumPy
functions applied to it run as their counterparts here.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from fgrad.core.errors import (
    ArgumentError,
    ConcretizationTypeError,
    DtypeError,
    FgradError,
    ImmutableArrayError,
    ShapeError,
    TracerArrayConversionError,
    UnsupportedCallError,
)
from fgrad.core.evaluate import BORROWED, WEAK, ArrayImpl, borrow, check_unmasked
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, Tracer
from fgrad.numpy import bitwise, joining
from fgrad.numpy.creation import to_device
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import value

_DLPACK_CPU = 1
# What NumPy itself may do with the contents of a concrete array.
_INSPECTION = frozenset(
    (
        *("array2string", "array_repr", "array_str", "may_share_memory", "shares_memory"),
        *("save", "savez", "savez_compressed", "savetxt", "min_scalar_type"),
        *("format_float_positional", "format_float_scientific", "common_type"),
    )
)
# What writes into its first argument.
_IN_PLACE = frozenset(("copyto", "put", "putmask", "place", "fill_diagonal", "put_along_axis"))
_REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min",
    "logical_and": "all", "logical_or": "any",
}  # fmt: skip
_ACCUMULATIONS = {"add": "cumsum", "multiply": "cumprod"}


# --------------------------------------------------------------------------- to Python and NumPy


def _array(x: Array, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    data = host(x)
    if dtype is not None and np.dtype(dtype) != data.dtype:
        if copy is False:
            raise ArgumentError(f"an array of {data.dtype} cannot become {dtype} without a copy")
        return data.astype(dtype)
    if copy:
        return data.copy()
    view = data.view()
    view.flags.writeable = False
    return view


def _scalar(x: Array, kind: Any) -> Any:
    if x.ndim:
        raise ConcretizationTypeError(
            f"only an array without axes converts to a Python {kind.__name__}, got {x.aval}; use "
            f".item() for one with a single element"
        )
    return kind(host(x).item() if x.dtype.kind != "V" else float(host(x)))


def _bool(x: Array) -> bool:
    if x.size != 1:
        raise ArgumentError(
            f"the truth value of {x.aval} is ambiguous; use .any() or .all()"
            if x.size else f"the truth value of the empty {x.aval} is not defined; check .size"
        )  # fmt: skip
    return bool(host(x).reshape(()))


def _index(x: Array) -> int:
    if x.ndim or x.dtype.kind not in "iu":
        raise ConcretizationTypeError(
            f"only an integer array without axes is a Python index, got {x.aval}; convert it with "
            f".astype(int) or take one element"
        )
    return int(host(x))


def _length(x: Array) -> int:
    if not x.ndim:
        raise ShapeError(f"an array without axes has no len(): {x.aval}")
    return x.shape[0]


def _iterate(x: Array) -> Iterator[Value]:
    if not x.ndim:
        raise ShapeError(f"cannot iterate over an array without axes: {x.aval}")
    return iter(joining.unstack(x))


def _contains(x: Array, item: Any) -> bool:
    from_ = bitwise.equal(x, item)
    return bool(_namespace().any(from_))


def _copy(x: Any) -> Any:
    return x.owned()


def _deepcopy(x: Any, memo: Any) -> Any:
    del memo
    return x.owned()


def restore(data: Any, weak: bool) -> ArrayImpl:
    """The array that was pickled."""
    return ArrayImpl(data, WEAK if weak else 0)


def _reduce(x: Any) -> Any:
    if isinstance(x, Tracer):
        raise TracerArrayConversionError(f"a traced {x.aval} cannot be pickled or copied that way")
    return restore, (x._data, x.weak_type)


# ------------------------------------------------------------------------ NEP 13, NEP 18, array API


def _namespace() -> Any:
    return sys.modules["fgrad.numpy"]


def _array_namespace(x: Array, *, api_version: str | None = None) -> Any:
    del x
    known = ("2021.12", "2022.12", "2023.12", "2024.12")
    if api_version not in (None, *known):
        raise ArgumentError(
            f"array API version {api_version!r} is not known; known are {', '.join(known)}"
        )
    return _namespace()


def _deliver(out: Any, results: Any, words: str) -> Any:
    """Write results into the NumPy arrays of ``out=``."""
    targets = out if isinstance(out, tuple) else (out,)
    several = isinstance(results, tuple | list)
    found = []
    for target, result in zip(targets, results if several else (results,), strict=True):
        if target is None:
            found.append(result)
            continue
        if isinstance(target, Array):
            raise ImmutableArrayError(
                f"{words}: out= is an fgrad array, which is immutable; use the result instead"
            )
        if isinstance(result, Tracer):
            raise TracerArrayConversionError(
                f"{words}: a traced {result.aval} cannot be written into a NumPy array, where it "
                f"would lose its derivative; leave out= out and use the result"
            )
        np.copyto(target, np.asarray(result), casting="same_kind")
        found.append(target)
    return tuple(found) if several else found[0]


def _no_counterpart(words: str) -> UnsupportedCallError:
    return UnsupportedCallError(
        f"{words} has no counterpart in fgrad; express it with fgrad.numpy or fgrad.lax functions, "
        f"or, for a concrete array, call it on np.asarray(x)"
    )


def _counterparts(ufunc: Any) -> tuple[Any, str]:
    """The namespace of a ufunc's counterpart, and the ufunc in words.

    Its name alone says nothing: anyone may call a ufunc of theirs `square`.
    """
    name = ufunc.__name__
    if getattr(np, name, None) is ufunc:
        return _namespace(), f"numpy.{name}"
    if getattr(sys.modules.get("scipy.special"), name, None) is ufunc:
        return import_module("fgrad.numpy._scipy_special"), f"scipy.special.{name}"
    raise _no_counterpart(f"the ufunc {name!r}, which is not NumPy's,")


def _array_ufunc(x: Array, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    del x
    name = ufunc.__name__
    space, words = _counterparts(ufunc)
    words += "" if method == "__call__" else f".{method}"
    out = kwargs.pop("out", None)
    if any(not _known(a) for a in inputs):
        return NotImplemented
    if method == "__call__":
        function = getattr(space, name, None)
        dtype = kwargs.pop("dtype", None)
        kwargs.pop("casting", None)
        if dtype is not None:
            inputs = tuple(space.asarray(a).astype(dtype) for a in inputs)
    elif method == "reduce" and name in _REDUCTIONS:
        function = getattr(space, _REDUCTIONS[name])
        if len(inputs) == 1 and "axis" not in kwargs:
            kwargs["axis"] = 0
    elif method == "accumulate" and name in _ACCUMULATIONS:
        function = getattr(space, _ACCUMULATIONS[name])
        if len(inputs) == 1 and "axis" not in kwargs:
            kwargs["axis"] = 0
    elif method == "outer" and len(inputs) == 2:
        first, second = map(value, inputs)
        inputs = (first.reshape(first.shape + (1,) * second.ndim), second)
        function = getattr(space, name, None)
    else:
        function = None
    if function is None:
        raise _no_counterpart(words)
    if method in ("__call__", "outer") and kwargs:
        raise UnsupportedCallError(
            f"{words}: {', '.join(sorted(kwargs))}= is not supported on fgrad arrays; use "
            f"fgrad.numpy.{name} and fgrad.numpy.where"
        )
    results = function(*inputs, **kwargs)
    return results if out is None else _deliver(out, results, words)


def _known(x: Any) -> bool:
    return isinstance(x, Array | np.ndarray | np.generic | bool | int | float | complex) or (
        hasattr(x, "__fgrad_array__") or not hasattr(x, "__array_ufunc__")
    )


def _array_function(x: Array, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    if not all(issubclass(t, Array | np.ndarray) or hasattr(t, "__fgrad_array__") for t in types):
        return NotImplemented
    module = func.__module__.partition(".")[2]
    name, space = func.__name__, _namespace()
    words = ".".join(filter(None, ("numpy", module, name)))
    if name in _IN_PLACE and isinstance(args[0] if args else None, Array):
        raise ImmutableArrayError(
            f"{words} writes into its first argument, but the {args[0].aval} is immutable; use "
            f"x = x.at[index].set(y), which returns a new array"
        )
    if name in _INSPECTION or name in _IN_PLACE:
        return func(*map(_bare, args), **{k: _bare(v) for k, v in kwargs.items()})
    if module in ("linalg", "fft"):
        space = getattr(space, module)
    elif module:
        raise _no_counterpart(words)
    function = getattr(space, name, None)
    if function is None:
        raise _no_counterpart(words)
    kwargs = dict(kwargs)
    out = kwargs.pop("out", None)
    try:
        results = function(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, FgradError) or "argument" not in str(error):
            raise
        raise UnsupportedCallError(
            f"{words} on fgrad arrays runs as fgrad.{'.'.join(filter(None, ('numpy', module)))}."
            f"{name}, which does not take these arguments: {error}"
        ) from error
    return results if out is None else _deliver(out, results, words)


def _bare(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, Array) else x


# ---------------------------------------------------------------------------- exchange of buffers


_UNSAID: Any = object()


def _dlpack(
    x: Array, *, stream: Any = None, max_version: tuple[int, int] | None = None,
    dl_device: Any = None, copy: bool | None = _UNSAID,
) -> Any:  # fmt: skip
    data = _buffer(x)
    if copy is _UNSAID:
        # Such a reader (PyTorch) asks for DLPack 1 and then writes to read-only buffers.
        copy = True if isinstance(data, np.ndarray) else None
    if not isinstance(data, np.ndarray):
        x._flags |= BORROWED  # type: ignore[attr-defined]  # as for `__cuda_array_interface__`
        return data.__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )
    # Only DLPack 1 can say that a buffer is read-only; older readers get one of their own.
    if max_version is None or max_version[0] < 1:
        if copy is False:
            raise BufferError(
                "the reader asks for DLPack before 1.0, which cannot express a read-only buffer, "
                "and for no copy; pass copy=True"
            )
        return data.copy().__dlpack__(stream=stream)
    if not copy:
        data = data.view()
        data.flags.writeable = False
    return data.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


def _dlpack_device(x: Array) -> tuple[int, int]:
    return tuple(_buffer(x).__dlpack_device__())


def _buffer(x: Array) -> Any:
    if not isinstance(x, ArrayImpl):
        raise TracerArrayConversionError(
            f"a traced {x.aval} has no buffer to share; return it from the transformed function"
        )
    return x._data


def _cuda_interface(x: Array) -> Any:
    if isinstance(x, ArrayImpl) and hasattr(x._data, "__cuda_array_interface__"):
        x._flags |= BORROWED  # the reader may write to the buffer: no program takes it over
        return x._data.__cuda_array_interface__
    raise AttributeError("__cuda_array_interface__: the array is not in CUDA memory")


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Value:
    """The array of another library, through DLPack, without a copy where that is possible.

    The other library may still write to the buffer, so what outlives a call is copied.

    Args:
        x: An object with ``__dlpack__``.
        device: Where the result lies; None leaves it where it is.
        copy: True copies, False refuses to, None does what is needed.
    """
    if isinstance(x, Array):
        return to_device(x.copy() if copy else x, device)
    check_unmasked(x)
    if device not in (None, "cpu") or x.__dlpack_device__()[0] != _DLPACK_CPU:
        found: Value = import_module("fgrad.numpy.exchange").from_device(x, device, copy)
        return found
    try:
        return borrow(np.from_dlpack(x, copy=copy))
    except (RuntimeError, TypeError) as error:
        raise DtypeError(
            f"from_dlpack: NumPy cannot read this {type(x).__name__}: {error}; convert it to a "
            f"dtype that NumPy has first"
        ) from error


MEMBERS: dict[str, Any] = {
    "__array__": _array,
    "__bool__": _bool,
    "__int__": lambda x: _scalar(x, int),
    "__float__": lambda x: _scalar(x, float),
    "__complex__": lambda x: _scalar(x, complex),
    "__index__": _index,
    "__len__": _length,
    "__iter__": _iterate,
    "__contains__": _contains,
    "__copy__": _copy,
    "__deepcopy__": _deepcopy,
    "__reduce__": _reduce,
    "__array_priority__": 100,
    "__array_namespace__": _array_namespace,
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
    "__dlpack__": _dlpack,
    "__dlpack_device__": _dlpack_device,
    "__cuda_array_interface__": property(_cuda_interface),
}
