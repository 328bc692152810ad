"""Two GPUs that are none: what fgrad uses of CuPy, computed by NumPy.

Its arrays know on which device they lie; like CuPy's own functions, those here refuse arrays that
are not on the current device, and NumPy arrays. `log` keeps what was asked of the devices.
"""

import ctypes
import functools
import itertools
import shutil
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

import numpy as np

from fgrad.backends.cuda import devices
from fgrad.core import evaluate

_local = threading.local()


def _current():
    return getattr(_local, "stack", [0])[-1]


class Device:
    def __init__(self, id=None):
        self.id = _current() if id is None else id

    def __enter__(self):
        _local.stack = [*getattr(_local, "stack", [0]), self.id]
        return self

    def __exit__(self, *_):
        _local.stack = _local.stack[:-1]

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None

    compute_capability = "90"

    @property
    def mem_info(self):
        return 60, 100

    def synchronize(self):
        log.append(("synchronize", self.id))


class Stream:
    def __init__(self, device):
        self.device = device

    done = False

    def record(self):
        log.append(("record", self.device))
        return ("event", self.device)

    def wait_event(self, event):
        log.append(("wait", self.device, event[1]))

    def synchronize(self):
        log.append(("stream", self.device))


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, data, device=None):
        self.host = np.array(data)
        self.device = Device(device)

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    base = None

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3, "data": (1, False)}

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        return _call(getattr(ufunc, method), args, kwargs)

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self.host, name)
        if not callable(method):
            return method
        return lambda *args, **kwargs: _call(lambda x, *a, **k: getattr(x, name)(*a, **k),
                                             (self, *args), kwargs)  # fmt: skip

    def fill(self, value):
        self.host[...] = value

    def __getitem__(self, index):
        return _call(lambda x: x[index], (self,), {})

    def get(self, out=None, blocking=True):
        log.append(("get", self.device.id, blocking))
        if out is None:
            return self.host.copy()
        out[...] = self.host
        return out


ndarray.__module__ = Device.__module__ = "cupy"


def _bare(x):
    if isinstance(x, (list, tuple)):
        return type(x)(map(_bare, x))
    if isinstance(x, ndarray):
        if x.device.id != _current():
            raise ValueError(f"array on device {x.device.id}, current is {_current()}")
        return x.host
    if isinstance(x, np.ndarray):
        raise TypeError("unsupported type numpy.ndarray")
    return x


def _wrapped(x):
    if isinstance(x, (list, tuple)):
        return type(x)(map(_wrapped, x))
    return ndarray(x, _current()) if isinstance(x, (np.ndarray, np.generic)) else x


def _call(function, args, kwargs):
    return _wrapped(function(*map(_bare, args), **{k: _bare(v) for k, v in kwargs.items()}))


def _function(name):
    """The function of NumPy of that name, on arrays of this module."""
    found = getattr(np, name)
    if isinstance(found, type) or not callable(found):
        return found

    def function(*args, **kwargs):
        return _call(found, args, kwargs)

    if isinstance(found, np.ufunc):
        function.reduce = lambda *args, **kwargs: _call(found.reduce, args, kwargs)
    return function


def install(monkeypatch, gpus=2):
    """Have fgrad see these GPUs for the time of a test."""
    fake = module(gpus)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(evaluate._namespaces, ndarray, fake)
    monkeypatch.setattr(devices, "count", lambda: gpus)
    monkeypatch.setattr(devices, "_peak_hook", functools.cache(devices._peak_hook.__wrapped__))
    return fake


def array(x, blocking=False):
    if isinstance(x, ndarray):
        return ndarray(x.host, _current())  # from another device too
    log.append(("upload", _current(), blocking))
    return ndarray(x, _current())


def asarray(x):
    return x if isinstance(x, ndarray) else array(getattr(x, "host", x))


class MemoryHook:
    hooks: list = []  # noqa: RUF012 - of the one thread of the tests

    def __enter__(self):
        self.hooks.append(self)
        return self

    def __exit__(self, *_):
        self.hooks.remove(self)


def malloc(size, device=0):
    """What CuPy's pool does around an allocation."""
    for hook in MemoryHook.hooks:
        hook.malloc_postprocess(device_id=device, size=size, mem_size=size, mem_ptr=1, pmem_id=1)


def free(size, device=0):
    for hook in MemoryHook.hooks:
        hook.free_postprocess(device_id=device, mem_size=size, mem_ptr=1, pmem_id=1)


class _Module:
    """CUDA C of kernels whose threads do not speak to each other, compiled by g++."""

    def load(self, code):
        source = PREAMBLE + code.decode()
        folder = Path(tempfile.mkdtemp(prefix="fake_cupy_"))
        (folder / "kernel.cpp").write_text(source)
        library = folder / "kernel.so"
        subprocess.run(["g++", "-O1", "-w", "-shared", "-fPIC", "-o", library,
                        folder / "kernel.cpp"], check=True)  # fmt: skip
        self.library = ctypes.CDLL(str(library))
        shutil.rmtree(folder)

    def get_function(self, name):
        kernel = getattr(self.library, name)

        def launch(grid, block, args, shared_mem=0):
            log.append(("launch", name, grid, block, shared_mem))
            values = [_argument(a) for a in args]
            for b in itertools.product(*map(range, grid)):
                for t in itertools.product(*map(range, block)):
                    self.library.place((ctypes.c_uint * 12)(*b, *t, *grid, *block))
                    kernel(*values)

        return launch


PREAMBLE = """
struct Dims { unsigned x, y, z; };
static Dims blockIdx, threadIdx, gridDim, blockDim;
extern "C" void place(const unsigned* p) {
    blockIdx = {p[0], p[1], p[2]}; threadIdx = {p[3], p[4], p[5]};
    gridDim = {p[6], p[7], p[8]}; blockDim = {p[9], p[10], p[11]};
}
#define __global__
#line 1 "kernel.cu"
"""


def _argument(x):
    if isinstance(x, ndarray):
        assert x.device.id == _current()
        assert x.host.flags.c_contiguous
        return ctypes.c_void_p(x.host.ctypes.data)
    assert isinstance(x, np.generic), type(x)
    return np.ctypeslib.as_ctypes_type(x.dtype)(x)


def _no_program(*_):
    return None


class _Pool:
    used_bytes = staticmethod(lambda: 10)
    total_bytes = staticmethod(lambda: 20)
    get_limit = staticmethod(lambda: 0)


log: list = []


def module(gpus):
    """The module to stand at ``sys.modules["cupy"]``."""
    fake = types.ModuleType("cupy")
    fake.__getattr__ = _function
    fake.ndarray, fake.array, fake.asarray = ndarray, array, asarray
    fake.get_default_memory_pool = _Pool
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: gpus,
        getDevice=_current,
        getDeviceProperties=lambda index: {"name": b"Fake GPU"},
        pointerGetAttributes=lambda _: types.SimpleNamespace(type=0),
        CUDARuntimeError=RuntimeError,
    )
    fake.cuda = types.SimpleNamespace(
        Device=Device, runtime=runtime, MemoryHook=MemoryHook,
        get_current_stream=lambda: Stream(_current()), alloc_pinned_memory=bytearray,
        function=types.SimpleNamespace(Module=_Module), get_cuda_path=lambda: None,
        nvrtc=types.SimpleNamespace(
            createProgram=lambda source, *_: source, compileProgram=_no_program,
            getCUBIN=str.encode, destroyProgram=_no_program, NVRTCError=RuntimeError,
        ),
    )  # fmt: skip
    fake.__file__ = __file__
    log.clear()
    return fake
