"""CuPy arrays as buffers: the eager rules run on them through CuPy's own functions."""

from types import ModuleType

from fgrad.core.evaluate import register_namespace


def _adopt(_kind: type) -> ModuleType:
    import cupy  # noqa: PLC0415 - an optional library

    return cupy  # type: ignore[no-any-return]


register_namespace("cupy", _adopt)
