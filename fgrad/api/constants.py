"""Arrays that a function closes over, on the devices where its programs run: moved there once."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fgrad.core.homes import on_device, platforms


def moved(entry: Any, xp: ModuleType, buffers: Sequence[Any]) -> list[Any]:
    """The buffers that a function closed over, on the device of the others.

    Args:
        entry: The `Entry` of the call, which keeps them.
        xp: The library of that device.
        buffers: All buffers of the call; those closed over come first.
    """
    index_of = platforms[xp.__name__]().index_of
    index = next(index_of(b) for b in buffers if type(b) is not np.ndarray)
    found: list[Any] | None = entry.moved.get(index)
    if found is None:
        there, _ = on_device(xp, buffers, len)
        found = entry.moved[index] = there[: len(entry.consts)]
    return found
