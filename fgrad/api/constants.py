"""Arrays that a function closes over, on the devices where its programs run: moved there once."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fgrad.core.homes import on_device, platforms

Moved = dict[int, list[Any]]


def moved(known: Moved, count: int, xp: ModuleType, buffers: Sequence[Any]) -> list[Any]:
    """The first buffers of a call, which never change, on the device of the others.

    Args:
        known: What was moved before, by device.
        count: How many they are.
        xp: The library of that device.
        buffers: All buffers of the call.
    """
    index_of = platforms[xp.__name__]().index_of
    index = next(index_of(b) for b in buffers if type(b) is not np.ndarray)
    found = known.get(index)
    if found is None:
        there, _ = on_device(xp, buffers, print)
        found = known[index] = there[:count]
    return found
