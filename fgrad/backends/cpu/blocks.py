"""Memory that is used again: blocks of large results, and the slabs that hold temporaries.

A fresh page costs as much as the arithmetic on it. A result of `LEAST_BYTES` or more is an array
over a `_Lease`; when the last view of it dies, so does the lease, and its memory waits for the
next result of that size. Temporaries of all programs lie in a few slabs: one for each program that
runs at the same moment.
"""

import functools
import mmap
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.compile.memory import ALIGNMENT
from fgrad.core.errors import OutOfMemoryError

LEAST_BYTES = 1 << 20  # up to here the C library keeps what is freed, and is ten times as fast
LIMIT_BYTES = 512 << 20  # of blocks that wait
_PAGE = 4096
_HUGE = 4 << 20  # from here on the kernel is asked for large pages


def _pages(size: int) -> mmap.mmap:
    """Memory of its own pages.

    Not an array: of an array over a lease over an array, NumPy would skip the lease.
    """
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError as error:
        raise OutOfMemoryError(f"no memory for a result of {size / 2**20:.0f} MiB") from error
    return memory


def _memory(size: int) -> Any:
    """Bytes whose address is a multiple of `ALIGNMENT`."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    return raw[begin : begin + size]


class _Lease(np.ndarray[Any, Any]):
    """A block in use; gives its memory back when the last array over it dies."""

    _home: "tuple[Blocks, Any] | None" = None  # views of a lease have none

    def __del__(self) -> None:
        if self._home is not None:
            pool, memory = self._home
            pool._give(memory)


def not_sole(
    arrays: Sequence[Any], which: Collection[int], given: Collection[int], references: int
) -> list[int]:
    """Those arrays whose memory somebody else can see; the others may be written.

    Views, and what other libraries have made of an array, refer to it, so references tell.

    Args:
        arrays: The arrays.
        which: The positions of those in question.
        given: Those positions at which the caller gives its arrays away.
        references: How many the caller has to each of these, the sequence among them.
    """
    count, array, expected = sys.getrefcount, np.ndarray, references + _OF_LOCAL
    found = []
    for i in which:
        x = arrays[i]
        if i in given and count(x) == expected and type(x) is array:
            flags, base = x.flags.num, x.base
            if flags & _OURS != _OURS:
                pass
            elif base is None:
                if flags & _OWN_DATA:
                    continue
            elif type(base) is _Lease and base._home and count(base) == 1 + _OF_LOCAL:
                continue
        found.append(i)
    return found


_OWN_DATA = 4  # NumPy's numbers for flags
_OURS = 0x0001 | 0x0100 | 0x0400  # contiguous in rows, aligned, can be written


def _of_local() -> int:
    """References of a local variable, that `getrefcount` counts."""
    local = object()
    return sys.getrefcount(local)


_OF_LOCAL = _of_local()


class Blocks:
    """Blocks that wait, by size.

    Nothing ever waits for the lock: `__del__` may run anywhere, also in a thread that holds it.
    Who does not get it at once goes to the system instead.

    Args:
        limit_bytes: The most that waits; the sizes used least recently go first.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.waiting_bytes = 0
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, list[Any]] = OrderedDict()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array with arbitrary content."""
        size = -(-prod(shape) * dtype.itemsize // _PAGE) * _PAGE
        try:
            memory = self._take(size)
        except MemoryError:  # what waits may be enough
            clear()
            memory = _pages(size)
        lease = _Lease(size, np.uint8, memory)
        lease._home = (self, memory)
        return np.ndarray(shape, dtype, lease)

    def clear(self) -> None:
        """Give all that waits to the system."""
        if self._lock.acquire(blocking=False):
            try:
                self._waiting.clear()
                self.waiting_bytes = 0
            finally:
                self._lock.release()

    def _take(self, size: int) -> Any:
        found = None
        if self._lock.acquire(blocking=False):
            try:
                kept = self._waiting.get(size)
                if kept:
                    found = kept.pop()
                    self.waiting_bytes -= size
                    self._waiting.move_to_end(size)
            finally:
                self._lock.release()
        return _pages(size) if found is None else found

    def _give(self, memory: Any) -> None:
        size = len(memory)
        if size > self.limit_bytes or not self._lock.acquire(blocking=False):
            return
        gone = []  # freed after the lock
        try:
            self._waiting.setdefault(size, []).append(memory)
            self._waiting.move_to_end(size)
            self.waiting_bytes += size
            while self.waiting_bytes > self.limit_bytes:
                oldest, kept = next(iter(self._waiting.items()))
                if kept:
                    gone.append(kept.pop())
                    self.waiting_bytes -= oldest
                else:
                    del self._waiting[oldest]
        finally:
            self._lock.release()


class Slab:
    """Memory for the temporaries of one program at a time.

    Attributes:
        memory: Bytes.
        bound: For each program that has run in it, what the program made of its memory.
    """

    __slots__ = ("__weakref__", "bound", "memory")

    def __init__(self, size: int) -> None:
        try:
            self.memory = _memory(size)
        except MemoryError:  # what waits may be enough
            clear()
            self.memory = _memory(size)
        self.bound: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class Slabs:
    """Slabs that no program uses now; the largest is the first to be used again."""

    def __init__(self) -> None:
        self._free: list[Slab] = []

    def take(self, size: int) -> Slab:
        """A slab of at least `size` bytes; one that is too small is replaced."""
        try:
            slab = self._free.pop()
        except IndexError:
            return Slab(size)
        if slab.memory.size >= size:
            return slab
        del slab  # before the new one is made
        return Slab(size)

    def give(self, slab: Slab) -> None:
        """Let other programs use it."""
        self._free.append(slab)

    def clear(self) -> None:
        """Give what no program uses to the system."""
        self._free.clear()


@functools.cache
def blocks() -> Blocks:
    """The blocks of this process."""
    return Blocks()


@functools.cache
def slabs() -> Slabs:
    """The slabs of this process."""
    return Slabs()


def clear() -> None:
    """Give all memory that waits to the system."""
    blocks().clear()
    slabs().clear()
