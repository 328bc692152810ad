"""CuPy arrays as buffers: the eager rules run on them through CuPy's own functions."""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from fgrad.core.evaluate import register_namespace
from fgrad.core.homes import platforms

_CUDA = (2, 13)  # DLPack's numbers of CUDA memory and of managed CUDA memory


def _adopt(_kind: type) -> ModuleType:
    return library()


@cache
def _platform() -> Any:
    return import_module("fgrad.backends.cuda.devices")


def register() -> None:
    """Have CuPy's arrays recognised; CuPy itself loads when the first one turns up."""
    register_namespace("cupy", _adopt)
    platforms["cupy"] = _platform


def library() -> ModuleType:
    """CuPy."""
    return import_module("cupy")


def foreign(x: Any) -> Any:
    """The CuPy array over an array of another library in GPU memory; None for anything else.

    Nothing is copied. What the other library still computes on its stream comes before what is
    computed here: both protocols order the two streams.
    """
    where = getattr(x, "__dlpack_device__", None)
    if where is not None:
        return library().from_dlpack(x) if where()[0] in _CUDA else None
    if hasattr(x, "__cuda_array_interface__"):
        return library().asarray(x)
    return None
