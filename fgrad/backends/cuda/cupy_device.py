"""A GPU through CuPy: its pool, streams and modules; graphs through the driver."""

import contextlib
import functools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_void_p
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np

from fgrad.backends.cuda import driver
from fgrad.backends.cuda.device import WHILE, Arguments, Capture, Function, Node
from fgrad.backends.cuda.faults import explain, raise_pending
from fgrad.core.errors import ArgumentError
from fgrad.core.evaluate import when_waited
from fgrad.core.ir import Jaxpr

_RECENT = 4  # programs that an error of a wait may be due to
_NOTHING = contextlib.nullcontext()
_FEW_PARAMETERS, _MORE_VERSION = 4096, 12010  # bytes, up to that version of the driver
_WIDEST = 16  # bytes that a kernel moves at once
_PLAIN_SHARED = 48 << 10  # bytes of shared memory that a function may take without asking

# A call looks at all of its arrays, so each of these is one pass of machine code over them.
_data, _memory, _base = attrgetter("data"), attrgetter("mem"), attrgetter("base")
_address, _device_id = attrgetter("data.ptr"), attrgetter("data.device_id")
_NO_BASE = {type(None)}


@functools.cache
def _cupy() -> Any:
    return import_module("cupy")


def parameter_bytes() -> int | None:
    """The most bytes of parameters of a launch, if the driver has another limit than new ones."""
    try:
        version = _cupy().cuda.runtime.driverGetVersion()
    except ImportError:  # somebody looks at code on a machine without CuPy
        return None
    return _FEW_PARAMETERS if 0 < version < _MORE_VERSION else None


@functools.cache
def _device(index: int) -> "CupyDevice":
    made = CupyDevice(index)
    when_waited(lambda: raise_pending(made), lambda error: explain(error, made))
    return made


def device_of(arrays: Sequence[Any]) -> "CupyDevice":
    """The GPU that arrays lie on; CuPy's current one if none does.

    Raises:
        ArgumentError: They lie on several.
    """
    try:
        found = set(map(_device_id, arrays))
    except (AttributeError, ValueError):  # NumPy's `data` is another thing, if there is one
        found = {x.data.device_id for x in arrays if not isinstance(x, np.ndarray)}
    if len(found) > 1:
        names = ", ".join(f"cuda:{i}" for i in sorted(found))
        raise ArgumentError(f"arguments of one program lie on {names}; move them to one device")
    return _device(found.pop() if found else int(_cupy().cuda.runtime.getDevice()))


class CupyDevice:
    """One GPU; see `device.Device`."""

    def __init__(self, index: int) -> None:
        cupy = _cupy()
        self.xp = cupy
        self.key = f"cuda:{index}"
        self._index = index
        self._here = cupy.cuda.Device(index)
        self.arch: str = self._here.compute_capability
        version = cupy.cuda.runtime.driverGetVersion()
        self.conditional = min(version, cupy.cuda.runtime.runtimeGetVersion()) >= (
            driver.CONDITIONAL_VERSION
        )
        self._launch = cupy.cuda.driver.launchKernel
        self._getting = cupy.cuda.runtime.getDevice
        quick = hasattr(cupy.ndarray, "_c_contiguous")  # `flags` makes an object each time
        self._is_dense = attrgetter("_c_contiguous" if quick else "flags.c_contiguous")
        self.stream: Callable[[], Any] = cupy.cuda.get_current_stream
        self.empty: Callable[..., Any] = cupy.ndarray  # what `cupy.empty` takes longer to call
        self.address: Callable[[Any], int] = _address
        self.stream_key: Callable[[Any], Any] = attrgetter("ptr")
        self._pinned = cupy.cuda.alloc_pinned_memory(8)
        self._word = np.frombuffer(self._pinned, np.int64, 1)
        self._word[0] = 0
        self._modules: list[Any] = []
        self._thread = _Thread()
        self.recent: deque[Jaxpr] = deque(maxlen=_RECENT)

    def is_current(self) -> bool:
        """Whether it is the current device of this thread, ready for calls of the driver."""
        return self._thread.bound and bool(self._getting() == self._index)

    def current(self) -> Any:
        """Makes it the current device of this thread."""
        if not self._thread.bound:
            with self._here:
                self.xp.cuda.runtime.free(0)  # the driver's calls need the context that this makes
            self._thread.bound = True
        return _NOTHING if self._getting() == self._index else self._here

    def stream_pointer(self, stream: Any) -> int:
        """A stream as libraries take it."""
        return int(stream.ptr)

    def upload(self, array: np.ndarray[Any, Any]) -> Any:
        """An array with the contents of one of the host."""
        return self.xp.array(array)

    def bound(self, arrays: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Arrays as kernels take them, and where they lie; see `device.Device`."""
        given = list(arrays)
        try:
            places = list(map(_address, given))
            fits = False not in map(self._is_dense, given) and not [
                p for p in places if p % _WIDEST
            ]
        except (AttributeError, ValueError):  # some lie on the host; see `device_of`
            fits = False
        if fits:
            return given, places
        given = [*map(self._prepared, given)]
        return given, [*map(_address, given)]

    def _prepared(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            return self.xp.array(array)
        if array.flags.c_contiguous and array.data.ptr % _WIDEST == 0:
            return array
        return self.xp.array(array, order="C", copy=True)

    def are_sole(self, arrays: Sequence[Any]) -> bool:
        """Whether the memory of each of some arrays is shown by this array alone.

        Views of an array refer to it; other arrays over its memory refer to that, or to the pointer
        that the array has.
        """
        if (
            set(map(type, arrays)) != {self.xp.ndarray}
            or set(map(type, map(_base, arrays))) != _NO_BASE
        ):
            return False
        data = list(map(_data, arrays))
        memory = list(map(_memory, data))
        foreign = self.xp.cuda.UnownedMemory
        if any(issubclass(kind, foreign) for kind in set(map(type, memory))):
            return False
        known = set(map(sys.getrefcount, data)), set(map(sys.getrefcount, memory))
        return known == _of_one(self.xp)

    def view(
        self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Any:
        """The array, with strides in bytes, at a place in memory that somebody else keeps."""
        cuda = self.xp.cuda
        size = dtype.itemsize + sum(
            (n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0
        )
        memory = cuda.UnownedMemory(address, size, None, self._index)
        return self.xp.ndarray(shape, dtype, cuda.MemoryPointer(memory, 0), strides)

    def read(self, address: int, count: int, stream: Any) -> bytes:
        """Bytes of memory, when all that was queued is done."""
        runtime = self.xp.cuda.runtime
        found = np.empty(count, np.uint8)
        kind = runtime.memcpyDeviceToHost
        runtime.memcpyAsync(found.ctypes.data, address, count, kind, stream.ptr)
        stream.synchronize()
        return found.tobytes()

    def synchronize(self, stream: Any) -> None:
        """Wait for all that was queued on a stream; raises what failed in it."""
        stream.synchronize()

    def load(self, text: str, shared: Mapping[str, int]) -> dict[str, Any]:
        """Compile a source and load functions of it."""
        nvrtc = import_module("fgrad.backends.cuda.nvrtc")
        module = self.xp.cuda.function.Module()
        module.load(nvrtc.compile_source(text, self.arch))
        cuda = self.xp.cuda.driver
        found = {}
        for name, size in shared.items():
            made = found[name] = module.get_function(name)
            driver.preload(made.ptr)
            if size > _PLAIN_SHARED:
                limit = cuda.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                cuda.funcSetAttribute(made.ptr, limit, size)
        self._modules.append(module)
        return found

    def launch(self, function: Function, arguments: Arguments, stream: Any) -> None:
        """Queue a kernel."""
        self._launch(
            function.handle.ptr, *function.grid, *function.block, function.shared, stream.ptr,
            arguments.params, 0,
        )  # fmt: skip

    def launcher(
        self, function: Function, arguments: Arguments, stream: Any
    ) -> Callable[[], object]:
        """What queues a kernel, again and again, with the arguments as they are then."""
        return functools.partial(
            self._launch, function.handle.ptr, *function.grid, *function.block, function.shared,
            stream.ptr, arguments.params, 0,
        )  # fmt: skip

    def rehearse(self, queue: Callable[[Any], None]) -> None:
        """Queue work on a stream and forget it, so that libraries load what a capture may not."""
        stream = self.xp.cuda.Stream(non_blocking=True)
        driver.begin(stream.ptr, relaxed=True)
        try:
            queue(stream)
        finally:
            driver.abandon(stream.ptr)

    def capture(self, bodies: int) -> "CupyCapture":
        """Begin to capture what is queued on a new stream; bodies have streams of their own."""
        new = self.xp.cuda.Stream
        return CupyCapture([new(non_blocking=True) for _ in range(bodies + 1)], {}, None)

    def fault_address(self) -> int:
        """The address of the word that failed checks set: pinned memory has one for both sides."""
        return int(self._pinned.ptr)

    def fault(self) -> int:
        """What that word holds."""
        return int(self._word[0])

    def clear_fault(self) -> None:
        """Set it to zero."""
        self._word[0] = 0


class _Thread(threading.local):
    """What a thread knows: whether the driver has a context for it."""

    bound = False


@functools.cache
def _of_one(cupy: Any) -> tuple[set[int], set[int]]:
    """The references to the pointer and the memory of one array, counted as `are_sole` does."""
    arrays = [cupy.empty(1, np.uint8)]
    data = list(map(_data, arrays))
    memory = list(map(_memory, data))
    return set(map(sys.getrefcount, data)), set(map(sys.getrefcount, memory))


class CupyCapture:
    """A capture that goes on; see `device.Capture`.

    Args:
        streams: Enough of them; those that it uses are taken out.
        bodies: The graphs of conditional nodes, by node; captures inside of it share them.
        graph: The graph to capture to; None: a new one.
    """

    def __init__(self, streams: list[Any], bodies: dict[int, int], graph: int | None) -> None:
        self._streams, self._bodies = streams, bodies
        self.stream = streams.pop()
        if graph is None:
            driver.begin(self.stream.ptr)
        else:
            driver.begin_in(self.stream.ptr, graph)

    def last(self) -> int:
        """The node that was added last."""
        _, nodes, count = driver.captured(self.stream.ptr)
        assert count == 1, "what is captured on one stream is a chain"
        return nodes[0] or 0

    def handle(self) -> int:
        """A new handle, by which a kernel of this graph sets a condition."""
        return driver.new_handle(self.stream.ptr)

    def conditional(self, kind: str, handle: int, body: Callable[[Capture], None]) -> None:
        """Add a conditional node; `body` queues what its graph consists of."""
        node, graph = driver.add_conditional(self.stream.ptr, kind == WHILE, handle)
        self._bodies[node] = graph
        inner = CupyCapture(self._streams, self._bodies, graph)
        try:
            body(inner)
        except BaseException:
            inner.abandon_body()
            raise
        driver.end(inner.stream.ptr)

    def abandon_body(self) -> None:
        """Stop to capture the graph of a conditional node, which belongs to another graph."""
        driver.function("cuStreamEndCapture")(self.stream.ptr, byref(c_void_p()))

    def end(self) -> "CupyGraph":
        """The graph."""
        return CupyGraph(driver.end(self.stream.ptr), self._bodies)

    def abandon(self) -> None:
        """Stop after an error: there is no graph."""
        driver.abandon(self.stream.ptr)


def _freed(owner: Any, name: str, handle: int) -> None:
    """Have the driver free something with its owner; at exit the driver is gone before us."""
    weakref.finalize(owner, driver.function(name), handle).atexit = False


class CupyGraph:
    """A captured graph, ready to be launched; see `device.Graph`."""

    def __init__(self, graph: int, bodies: Mapping[int, int]) -> None:
        self._graph, self._bodies = graph, bodies
        _freed(self, "cuGraphDestroy", graph)
        self._made = driver.instantiate(graph)
        _freed(self, "cuGraphExecDestroy", self._made)
        self._params = driver.KernelParams()
        self._launched = driver.function("cuGraphLaunch")
        self._updated = driver.function("cuGraphExecKernelNodeSetParams_v2")

    def launch(self, stream: Any) -> None:
        """Queue it on a stream."""
        if self._launched(self._made, stream.ptr):
            driver.call("cuGraphLaunch", self._made, stream.ptr)

    def update(self, node: int, function: Function, arguments: Arguments) -> None:
        """Replace the arguments of a kernel node in launches to come."""
        p = self._params
        p.func, p.params, p.shared = function.handle.ptr, arguments.params, function.shared
        p.gx, p.gy, p.gz = function.grid
        p.bx, p.by, p.bz = function.block
        if self._updated(self._made, node, byref(p)):
            driver.call("cuGraphExecKernelNodeSetParams_v2", self._made, node, byref(p))

    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        return tuple(self._node(n) for n in driver.nodes_of(self._graph))

    def _node(self, node: int) -> Node:
        kind = driver.kind_of(node)
        if kind == driver.KERNEL:
            return Node("kernel", driver.kernel_name(node))
        if kind == driver.MEMCPY and driver.copies_to_host(node):
            return Node("copy to host")
        inner: tuple[int, ...] = ()
        if kind == driver.CONDITIONAL:
            inner = (self._bodies[node],)
        elif kind == driver.CHILD:
            inner = (driver.child_of(node),)
        bodies = tuple(tuple(self._node(n) for n in driver.nodes_of(g)) for g in inner)
        return Node(driver.KINDS.get(kind, str(kind)), "", bodies)
