"""GPUs as CuPy sees them: moves to, from and between them, waiting, and their memory.

Work goes to the stream of CuPy that is current in the calling thread; a copy between two GPUs is
ordered on the streams of both.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DeviceError, DtypeError
from fgrad.core.evaluate import waited
from fgrad.core.homes import Home

_PINNED_BYTES = 1 << 16  # smaller copies are over before pinned memory helps
_HOST_MEMORY = 1  # cudaMemoryTypeHost: pinned


def _cupy() -> Any:
    import cupy  # noqa: PLC0415 - heavy, and absent on most machines

    return cupy


@cache
def count() -> int:
    """How many GPUs there are; 0 without CuPy or without a driver."""
    if find_spec("cupy") is None:
        return 0
    try:
        cupy = _cupy()
    except ImportError as error:
        warnings.warn(
            f"CuPy is installed but cannot be loaded ({error}), so no GPU is used; reinstall it, "
            f"or silence this with FGRAD_DEFAULT_DEVICE=cpu",
            RuntimeWarning,
            stacklevel=2,
        )
        return 0
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


def current() -> int:
    """CuPy's current GPU in this thread."""
    return int(_cupy().cuda.runtime.getDevice())


def index_of(buffer: Any) -> int:
    """The GPU on which a CuPy array lies."""
    return int(buffer.device.id)


def home_of(buffers: Sequence[Any]) -> Home | None:
    """What makes the GPU of buffers current; None where there is only one GPU.

    Raises:
        DeviceError: They lie on several.
    """
    if count() == 1:
        return None
    found: dict[int, Any] = {}
    for b in buffers:
        if not isinstance(b, np.ndarray):
            found.setdefault(index_of(b), b)
    if len(found) > 1:
        (first, x), (second, y), *_ = sorted(found.items())
        raise DeviceError(
            f"operands lie on two devices: {ShapedArray(x.shape, x.dtype)} on cuda:{first} and "
            f"{ShapedArray(y.shape, y.dtype)} on cuda:{second}; move one of them with "
            f"fgrad.device_put(x, 'cuda:{first}')"
        )
    home: Home = _cupy().cuda.Device(next(iter(found)))
    return home


def put(buffer: Any, index: int) -> Any:
    """A copy of a NumPy or CuPy array on a GPU, ordered on its current stream.

    CuPy sends what lies on the host through pinned memory, so that the host need not wait.

    Raises:
        DtypeError: CuPy has no such dtype.
    """
    if isinstance(buffer, np.ndarray):
        return _upload(buffer, index)
    cupy = _cupy()
    source = cupy.cuda.Device(index_of(buffer))
    with source:
        sending = cupy.cuda.get_current_stream()
        ready = sending.record()
    with cupy.cuda.Device(index):
        receiving = cupy.cuda.get_current_stream()
        receiving.wait_event(ready)
        copy = cupy.array(buffer)
        done = receiving.record()
    with source:  # until then the memory of the source must not be given to other work
        sending.wait_event(done)
    return copy


def _upload(array: Any, index: int) -> Any:
    if array.dtype.kind == "V" and array.dtype != dtypes.bfloat16:
        raise DtypeError(
            f"CuPy has no {array.dtype}, so {ShapedArray(array.shape, array.dtype)} cannot go "
            f"to cuda:{index}; convert it, to bfloat16 say, before"
        )
    cupy = _cupy()
    with cupy.cuda.Device(index):
        # What is pinned already is read by the GPU in place, after this returns.
        pinned = array.nbytes >= _PINNED_BYTES and _is_pinned(cupy, array)
        return cupy.array(array, blocking=pinned)


def _is_pinned(cupy: Any, array: Any) -> bool:
    attributes = cupy.cuda.runtime.pointerGetAttributes(array.ctypes.data)
    return bool(attributes.type == _HOST_MEMORY)


def fetch(buffers: Sequence[Any]) -> list[Any]:
    """NumPy arrays of what CuPy arrays hold.

    Large ones lie in pinned memory, and are all under way before the first is waited for.
    """
    try:
        found = _fetched(buffers)
    except RuntimeError as error:
        waited(error)
        raise
    waited()
    return found


def _fetched(buffers: Sequence[Any]) -> list[Any]:
    cupy = _cupy()
    found = []
    streams: dict[int, Any] = {}
    for b in buffers:
        index = index_of(b)
        with cupy.cuda.Device(index):
            if b.nbytes < _PINNED_BYTES:
                found.append(b.get())
                continue
            memory = cupy.cuda.alloc_pinned_memory(b.nbytes)
            host = np.ndarray(b.shape, b.dtype, memory)
            b.get(out=host, blocking=False)
            streams[index] = cupy.cuda.get_current_stream()
            found.append(host)
    for index, stream in streams.items():
        with cupy.cuda.Device(index):
            stream.synchronize()
    return found


def synchronize(index: int) -> None:
    """Wait for all streams of a GPU."""
    try:
        _cupy().cuda.Device(index).synchronize()
    except RuntimeError as error:  # of CuPy: work that was queued before has failed
        waited(error)
        raise
    waited()


def is_idle(index: int) -> bool:
    """Whether the current stream of a GPU has done all its work."""
    cupy = _cupy()
    with cupy.cuda.Device(index):
        return bool(cupy.cuda.get_current_stream().done)


def kind(index: int) -> str:
    """The name of a GPU, such as "NVIDIA H100 80GB HBM3"."""
    name = _cupy().cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


# ------------------------------------------------------------------------------------------ memory


def statistics(index: int) -> dict[str, int]:
    """What CuPy's pool holds on a GPU; see `fgrad.memory_stats`."""
    cupy = _cupy()
    pool = cupy.get_default_memory_pool()
    with cupy.cuda.Device(index) as device:
        free, total = device.mem_info
        return {
            "bytes_in_use": int(pool.used_bytes()),
            "pool_bytes": int(pool.total_bytes()),
            "bytes_limit": int(pool.get_limit()) or int(total),
            "bytes_free": int(free),
            "bytes_total": int(total),
        }


@cache
def _peak_hook() -> Any:
    """The class of hooks that CuPy's pool calls, made when CuPy is there."""

    class PeakHook(_cupy().cuda.MemoryHook):  # type: ignore[misc]
        """Follows the bytes in use on one GPU as this thread takes and returns them."""

        def __init__(self, index: int) -> None:
            self.name = f"fgrad.peak_memory {id(self):x}"
            self.index = index
            self.used = self.peak = statistics(index)["bytes_in_use"]

        def malloc_postprocess(self, **call: Any) -> None:
            if call["device_id"] == self.index and call["mem_ptr"]:
                self.used += call["mem_size"]
                self.peak = max(self.peak, self.used)

        def free_postprocess(self, **call: Any) -> None:
            if call["device_id"] == self.index:
                self.used -= call["mem_size"]

    return PeakHook


class PeakMemory:
    """The most bytes in use on a GPU while a block runs; see `fgrad.peak_memory`."""

    __slots__ = ("_hook", "_index")

    def __init__(self, index: int) -> None:
        self._index = index

    @property
    def bytes(self) -> int:
        """The most bytes in use so far."""
        return int(self._hook.peak)

    def __enter__(self) -> "PeakMemory":
        self._hook = _peak_hook()(self._index)
        self._hook.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._hook.__exit__(kind, error, traceback)
