"""What the Python array API standard asks a namespace to say about itself.

Source:
    Python array API standard 2024.12, *Inspection*.
"""

from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.devices import CPU, Device, as_device, cuda, default_device
from fgrad.numpy.logic import isdtype

_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
    "float64", "complex64", "complex128",
)  # fmt: skip


class NamespaceInfo:
    """Capabilities, devices and dtypes of `fgrad.numpy`."""

    __slots__ = ()

    def capabilities(self) -> dict[str, Any]:
        """Whether shapes may depend on data, and the greatest number of axes."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Device:
        """Where arrays are made."""
        return default_device()

    def devices(self) -> list[Device]:
        """Where arrays can be."""
        return [CPU, *(Device(f"cuda:{i}") for i in range(cuda().count()))]

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of arrays for which none is stated; they follow ``enable_x64``."""
        _check_device(device)
        return {
            "real floating": dtypes.default_float(),
            "complex floating": dtypes.default_complex(),
            "integral": dtypes.default_int(),
            "indexing": dtypes.default_int(),
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of the standard, or those of a kind that `isdtype` knows."""
        _check_device(device)
        found = {name: np.dtype(name) for name in _DTYPES}
        return {k: d for k, d in found.items() if kind is None or isdtype(d, kind)}


def _check_device(device: Any) -> None:
    as_device(device)  # raises where there is none


def __array_namespace_info__() -> NamespaceInfo:
    """Information about the namespace, as the array API standard asks for it."""
    return NamespaceInfo()
