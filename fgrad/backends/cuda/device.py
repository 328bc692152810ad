"""What an executable asks of a device: memory, functions, launches, streams and graphs.

`cupy_device.py` is a GPU by CuPy and the CUDA driver. The tests have others, over host memory, so
everything above this protocol runs without a GPU.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from fgrad.core.ir import Jaxpr

Stream = Any  # a stream as the device's library has it

WHILE, IF = "while", "if"


class Function(NamedTuple):
    """Machine code and the launch that goes with it.

    Attributes:
        name: Its name in the source.
        handle: The device's own.
        grid: Blocks along three axes.
        block: Threads of a block along three axes.
        shared: Bytes of dynamic shared memory of a block.
    """

    name: str
    handle: Any
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int = 0


class Arguments:
    """The arguments of a launch as the driver wants them: pointers, then words by value.

    Args:
        pointers: How many pointers there are.
        words: The bytes of the last parameter; empty: there is none.
        packed: Whether the pointers are one parameter, a structure, rather than one each.

    Attributes:
        params: The address of the table of addresses of the parameters.
        pointers: The pointers' values, to be written before a launch.
        words: As given.
        packed: As given.
    """

    __slots__ = ("_held", "_table", "packed", "params", "pointers", "words")

    def __init__(self, pointers: int, words: bytes, packed: bool = False) -> None:
        self.words, self.packed = words, packed
        self.pointers = (ctypes.c_uint64 * max(pointers, 1))()
        first = ctypes.addressof(self.pointers)
        places = [first + 8 * k for k in range(1 if packed else pointers)]
        # Words are eight bytes each, and must be aligned like that.
        self._held = (ctypes.c_uint64 * max(-(-len(words) // 8), 1))()
        if words:
            ctypes.memmove(self._held, words, len(words))
            places.append(ctypes.addressof(self._held))
        self._table = (ctypes.c_void_p * max(len(places), 1))(*places)
        self.params = ctypes.addressof(self._table)


class Node(NamedTuple):
    """A node of a graph, as told by the driver.

    Attributes:
        kind: 'kernel', 'conditional', 'memset', 'copy', 'copy to host', 'child', 'empty', 'host',
            or the driver's number of another kind.
        name: Of a kernel's function; empty where the driver does not tell.
        bodies: Of a conditional node: the nodes of its graphs.
    """

    kind: str
    name: str = ""
    bodies: tuple[tuple["Node", ...], ...] = ()


class Graph(Protocol):
    """A captured graph, ready to be launched."""

    def launch(self, stream: Stream) -> None:
        """Queue it on a stream."""

    def update(self, node: Any, function: Function, arguments: Arguments) -> None:
        """Replace the arguments of a kernel node in launches to come."""

    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""


class Capture(Protocol):
    """A capture that goes on.

    Attributes:
        stream: What is queued on it becomes part of the graph.
    """

    stream: Stream

    def last(self) -> Any:
        """The node that was added last."""

    def handle(self) -> int:
        """A new handle, by which a kernel of this graph sets a condition."""

    def conditional(self, kind: str, handle: int, body: Callable[["Capture"], None]) -> None:
        """Add a conditional node; `body` queues what its graph consists of."""

    def end(self) -> Graph:
        """The graph."""

    def abandon(self) -> None:
        """Stop after an error: there is no graph."""


class Device(Protocol):
    """A device with memory of its own.

    Attributes:
        key: Tells it from other devices of the process; what it is called.
        xp: The library of its arrays.
        conditional: Whether its graphs may have conditional nodes.
        recent: The programs that were queued last, the latest at the end.
    """

    key: str
    xp: Any
    conditional: bool
    recent: deque[Jaxpr]

    def is_current(self) -> bool:
        """Whether it is the current device of this thread, ready for calls of the driver."""

    def current(self) -> AbstractContextManager[Any]:
        """Makes it the current device of this thread."""

    def stream(self) -> Stream:
        """Its current stream in this thread."""

    def stream_key(self, stream: Stream) -> Any:
        """What tells a stream from others."""

    def stream_pointer(self, stream: Stream) -> int:
        """A stream as libraries take it."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A fresh array from the pool."""

    def upload(self, array: np.ndarray[Any, Any]) -> Any:
        """An array with the contents of one of the host."""

    def bound(self, arrays: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Arrays as kernels take them, and where they lie.

        They are of this device, contiguous, at a multiple of 16 bytes; the others are copied.
        """

    def are_sole(self, arrays: Sequence[Any]) -> bool:
        """Whether the memory of each of some arrays is shown by this array alone."""

    def address(self, array: Any) -> int:
        """Where the first element of an array lies."""

    def view(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Any:
        """The array, with strides in bytes, at a place in memory that somebody else keeps."""

    def read(self, address: int, count: int, stream: Stream) -> bytes:
        """Bytes of memory, when all that was queued is done."""

    def synchronize(self, stream: Stream) -> None:
        """Wait for all that was queued on a stream; raises what failed in it."""

    def load(self, text: str, shared: Mapping[str, int]) -> dict[str, Any]:
        """Compile a source and load functions of it.

        Args:
            text: The source.
            shared: The names of the functions, with the dynamic shared memory that each may take.
        """

    def launch(self, function: Function, arguments: Arguments, stream: Stream) -> None:
        """Queue a kernel."""

    def launcher(
        self, function: Function, arguments: Arguments, stream: Stream
    ) -> Callable[[], object]:
        """What queues a kernel, again and again, with the arguments as they are then."""

    def rehearse(self, queue: Callable[[Stream], None]) -> None:
        """Queue work on a stream and forget it, so that libraries load what a capture may not."""

    def capture(self, bodies: int) -> Capture:
        """Begin to capture what is queued on a new stream.

        Args:
            bodies: How many conditional nodes there will be, those inside of others included.
        """

    def fault_address(self) -> int:
        """The address of the word that failed checks set, which the host can read."""

    def fault(self) -> int:
        """What that word holds."""

    def clear_fault(self) -> None:
        """Set it to zero."""


SHIFT = 48  # of the number of a base in an address (see `tape`)
MASK = (1 << SHIFT) - 1
