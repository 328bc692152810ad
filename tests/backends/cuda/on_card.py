"""CUDA C of tests on a card: the interface of `tests.shim.Shim`, with arrays of the host."""

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.backends.cuda.prelude import with_prelude
from tests.backends.cuda.emulated import GUARD, Emulated, check_guards
from tests.shim import kernel_names

PARTS = 8  # modules that the kernels of a test are divided among
_MOST_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@functools.cache
def _driver():
    return ctypes.CDLL("libcuda.so.1")


def check(status):
    assert status == 0, f"CUDA error {status}"


class Card:
    """The kernels of modules, loaded on the current device; they are compiled side by side."""

    def __init__(self, *sources):
        import cupy

        arch = cupy.cuda.Device().compute_capability
        with ThreadPoolExecutor() as pool:
            codes = list(pool.map(lambda source: compile_source(source, arch), sources))
        self._modules = {}
        for source, code in zip(sources, codes, strict=True):
            module = cupy.cuda.function.Module()
            module.load(code)
            self._modules |= dict.fromkeys(kernel_names(source), module)

    def run(self, name, grid, block, shared_bytes, args, *, last_first=False):
        """Launch a kernel and wait for it; arrays are copied there and back.

        An array that is given twice is the same memory. Nothing is written beside an array.
        """
        import cupy

        arrays = {id(x): x for x in args if isinstance(x, np.ndarray)}
        there = {key: cupy.asarray(surrounded(x)) for key, x in arrays.items()}
        values = [self._value(x, there) for x in args]
        params = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        function = ctypes.c_void_p(self._modules[name].get_function(name).ptr)
        if shared_bytes > 48 << 10:
            check(_driver().cuFuncSetAttribute(function, _MOST_DYNAMIC_SHARED, shared_bytes))
        stream = ctypes.c_void_p(cupy.cuda.get_current_stream().ptr)
        sizes = (grid, 1, 1, block, 1, 1, shared_bytes)
        check(_driver().cuLaunchKernel(function, *sizes, stream, params, None))
        for key, x in arrays.items():
            memory = cupy.asnumpy(there[key])
            check_guards(memory, memory[GUARD : GUARD + x.nbytes])
            x.reshape(-1)[...] = memory[GUARD : GUARD + x.nbytes].view(x.dtype)

    @staticmethod
    def _value(x, there):
        if isinstance(x, bytes):
            return ctypes.create_string_buffer(x, max(1, len(x)))
        return ctypes.c_uint64(there[id(x)].data.ptr + GUARD if x is not None else 0)


def surrounded(x):
    """The bytes of an array between bytes that are known."""
    guard = np.full(GUARD, 0x5A, np.uint8)
    return np.concatenate([guard, np.ascontiguousarray(x).reshape(-1).view(np.uint8), guard])


class OnCard(Emulated):
    """Kernels of one module on a card, as `Emulated` has them on the CPU."""

    def __init__(self, kernels):
        super().__init__(kernels, build=None)
        parts = [self.texts[k::PARTS] for k in range(min(PARTS, len(self.texts)))]
        self.shim = Card(*(with_prelude("\n".join(part)) for part in parts))
