"""CuPy arrays as buffers: the eager rules run on them through CuPy's own functions."""

from types import ModuleType

from fgrad.core.evaluate import register_namespace


def _adopt(_kind: type) -> ModuleType:
    import cupy  # noqa: PLC0415 - heavy, and absent on most machines

    return cupy  # type: ignore[no-any-return]


def register() -> None:
    """Have CuPy's arrays recognised; CuPy itself loads when the first one turns up."""
    register_namespace("cupy", _adopt)
