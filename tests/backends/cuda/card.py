"""Runs the plans of library steps on the GPU that CuPy finds."""

import ctypes
import functools

import numpy as np

from fgrad.backends.cuda.calls import KernelCall, LibraryPlan, addresses
from fgrad.backends.cuda.nvrtc import compile_source
from fgrad.backends.cuda.prelude import with_prelude
from tests.backends.cuda.on_card import _MOST_DYNAMIC_SHARED, _driver, check


class Loaded:
    """A plan with its code and its memory, to be run on a stream as often as is wanted.

    Args:
        plan: What to run.
        inputs: One array of the host an operand.
        outputs: One array of the host a result, whose contents are where the device begins.
    """

    def __init__(self, plan: LibraryPlan, inputs, outputs):
        import cupy as cp

        self.plan = plan
        self.inputs = [self._upload(a) for a in inputs]
        self.outputs = [self._upload(a) for a in outputs]
        self.workspace = cp.empty(max(plan.workspace_bytes, 1), np.uint8)
        bases = [[a.data.ptr for a in arrays] for arrays in (self.inputs, self.outputs)]
        self.calls = []
        for call in plan.calls:
            pointers = addresses(call, *bases, self.workspace.data.ptr)
            if isinstance(call, KernelCall):
                function = functools.partial(self._launch, call, Arguments(
                    [*pointers, self.workspace.data.ptr], call.words), loaded(call))  # fmt: skip
            else:
                function = functools.partial(self._foreign, call.make(), pointers)
            self.calls.append(function)

    @staticmethod
    def _upload(array):
        import cupy as cp

        data = np.frombuffer(np.ascontiguousarray(array).tobytes() or b"\0", np.uint8)
        return cp.asarray(data)

    @staticmethod
    def _launch(call, arguments, function, stream):
        from cupy.cuda import driver

        driver.launchKernel(
            function.ptr, *call.grid, *call.block, call.shared_bytes, stream, arguments.address, 0
        )

    @staticmethod
    def _foreign(run, pointers, stream):
        run(stream, pointers)

    def run(self, stream):
        """Queue all calls on a stream."""
        for call in self.calls:
            call(stream.ptr)

    def result(self, i, dtype):
        """What a result holds."""
        return np.frombuffer(self.outputs[i].get().tobytes(), dtype)


class Arguments:
    """The table of parameters of a launch."""

    def __init__(self, pointers, words):
        values = [ctypes.c_uint64(p) for p in pointers]
        self.kept = [*values, ctypes.create_string_buffer(words, max(len(words), 1))]
        self.table = (ctypes.c_void_p * len(self.kept))(*map(ctypes.addressof, self.kept))
        self.address = ctypes.addressof(self.table)


def loaded(call):
    """The function of a kernel, which may take as much shared memory as its call says."""
    function = _module(call.source).get_function(call.name)
    if call.shared_bytes > 48 << 10:
        status = _driver().cuFuncSetAttribute(
            ctypes.c_void_p(function.ptr), _MOST_DYNAMIC_SHARED, call.shared_bytes
        )
        check(status)
    return function


@functools.cache
def _module(source):
    import cupy as cp

    code = compile_source(with_prelude(source), cp.cuda.Device().compute_capability)
    module = cp.cuda.function.Module()
    module.load(code)
    return module


def execute(plan, inputs, outputs):
    """Run a plan once; results are written to `outputs`, flat arrays of the host."""
    import cupy as cp

    stream = cp.cuda.Stream(non_blocking=True)
    cp.cuda.runtime.deviceSynchronize()
    made = Loaded(plan, inputs, outputs)
    cp.cuda.runtime.deviceSynchronize()
    made.run(stream)
    stream.synchronize()
    for i, out in enumerate(outputs):
        out[:] = made.result(i, out.dtype)[: out.size]
