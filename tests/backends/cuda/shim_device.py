"""A device whose functions are CUDA C, run on the CPU by the emulation of `tests.shim`."""

import ctypes
import struct

import numpy as np

from fgrad.backends.cuda import support
from tests.backends.cuda.host_device import HostDevice, Launched
from tests.shim import build

# A handle is the address of what it stands for.
_CONDITION = """
extern "C" __device__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value)
{ *(long long*)handle = value; }
"""


class ShimDevice(HostDevice):
    """See above; functions that are no text are interpreted, as by `HostDevice`.

    Args:
        code: What makes the text of kernels.
        conditional: Whether graphs may have loops and choices.
    """

    def __init__(self, code, conditional=True):
        super().__init__(code, conditional)
        self.values = Cells()

    def handle(self):
        cell = np.zeros(1, np.int64)
        self.values[cell.ctypes.data] = cell
        return cell.ctypes.data

    def load(self, text, shared):
        if "__global__" not in text:
            return dict.fromkeys(shared)
        more = _CONDITION if text.endswith(support.CONDITIONS) else ""
        return dict.fromkeys(shared, build(text + more))

    def launch(self, function, arguments, stream):
        shim = function.handle
        if shim is None:
            super().launch(function, arguments, stream)
            return

        def run(pointers, words):
            given = [struct.pack(f"{len(pointers)}Q", *pointers)] if arguments.packed else pointers
            args = [*given, words] if words else given
            shim.run(function.name, function.grid, function.block, function.shared, args)

        pointers = list(arguments.pointers)
        self.enqueue(Launched(function.name, pointers, arguments.words, run), stream)


class Cells(dict):
    """What handles stand for: the numbers at their addresses."""

    def __getitem__(self, handle):
        return bool(ctypes.c_int64.from_address(handle).value)
