"""The memory of temporaries: a slab for each stream and thread, as large as its largest program.

Programs on one stream run one after the other, so they share it; two threads may queue on one
stream in any order, so they do not. While a program queues its work it holds the slab: what a
function of the user runs meanwhile gets another one.
"""

import threading
from typing import Any

import numpy as np

from fgrad.backends.cuda.device import Device, Stream


class _Local(threading.local):
    def __init__(self) -> None:
        self.slabs: dict[Any, Any] = {}


_local = _Local()
_BYTE = np.dtype(np.uint8)


def take(device: Device, stream: Stream, size: int) -> Any:
    """An array of at least `size` bytes, for what this thread queues on a stream next.

    A slab that is too small goes back to the pool, which gives its memory to later work of the
    same stream only.
    """
    found = _local.slabs.pop((device.key, device.stream_key(stream)), None)
    if found is None or found.nbytes < size:
        del found  # before another one is asked for
        return device.empty((max(size, 1),), _BYTE)
    return found


def give(device: Device, stream: Stream, slab: Any) -> None:
    """Keep a slab for the next program, unless there is a larger one."""
    key = (device.key, device.stream_key(stream))
    kept = _local.slabs.get(key)
    if kept is None or kept.nbytes < slab.nbytes:
        _local.slabs[key] = slab


def clear() -> None:
    """Give the slabs of this thread back to the pool."""
    _local.slabs.clear()
