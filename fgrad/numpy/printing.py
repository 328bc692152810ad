"""How arrays print: as NumPy prints them, with dtype and weakness."""

from typing import Any

import numpy as np

from fgrad.core.evaluate import ArrayImpl, DonatedBuffer, waited
from fgrad.core.tracing import Array, Tracer

_LINE = 88


def host(x: Any) -> np.ndarray[Any, Any]:
    """The contents of a concrete array in host memory, for reading."""
    data = x._data
    if isinstance(data, np.ndarray):
        return data
    try:
        copy: np.ndarray[Any, Any] = data.get()
    except RuntimeError as error:
        waited(error)
        raise
    waited()
    return copy


def describe(x: Array) -> str:
    """``Array([1., 2.], dtype=float32)``; tracers describe themselves."""
    if type(x) is not ArrayImpl:
        return object.__repr__(x)
    if type(x._data) is DonatedBuffer:
        return x._data.described()
    data = host(x)
    suffix = f", dtype={data.dtype.name}" + (", weak_type=True" if x.weak_type else "") + ")"
    if data.size == 0 and data.shape != (0,):
        return f"Array([], shape={data.shape}{suffix}"
    shown = data.astype(np.float32) if data.dtype.kind == "V" and data.dtype.names is None else data
    body = np.array2string(shown, separator=", ", prefix="Array(")
    if data.dtype.names is not None:
        body = f"zeros {data.shape}"
    last = body.rfind("\n") + 1
    if len(body) - last + len(suffix) + (6 if last == 0 else 0) > _LINE:
        return f"Array({body},\n      {suffix[2:]}"
    return f"Array({body}{suffix}"


def plain(x: Array) -> str:
    """What ``str`` gives: the numbers alone."""
    known = type(x) is ArrayImpl and type(x._data) is not DonatedBuffer
    return str(host(x)) if known else repr(x)


def formatted(x: Array, spec: str) -> str:
    """What ``format`` gives: one without axes takes number formats, a known tracer too."""
    found: Any = x.concrete() if spec and isinstance(x, ArrayImpl | Tracer) else None
    if found is None:
        return str(x)
    data = host(found)
    return format(data[()] if data.ndim == 0 else data, spec)


def pretty(x: Array, printer: Any, cycle: bool) -> None:
    """IPython's hook."""
    printer.text(repr(x))


MEMBERS: dict[str, Any] = {
    "__repr__": describe,
    "__str__": plain,
    "__format__": formatted,
    "_repr_pretty_": pretty,
}
