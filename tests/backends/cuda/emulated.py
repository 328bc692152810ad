"""Kernels as CUDA C on the CPU: what their functions compute, by the emulation of `tests/shim`."""

import struct

import numpy as np

from fgrad.backends.cuda import layout
from fgrad.backends.cuda.code import batch_source, source
from fgrad.backends.cuda.prelude import with_prelude
from tests.shim import build

GUARD = 64  # bytes around a buffer that nobody may touch


class Emulated:
    """Kernels of one module.

    Args:
        kernels: The kernels; those of one key share their code.
        build: What compiles the text; None: nothing does.
    """

    def __init__(self, kernels, build=build):
        self.names, self.texts = {}, []
        for kernel in kernels:
            key = layout.key(kernel)
            if key not in self.names:
                self.names[key] = f"kernel{len(self.names)}"
                self.texts.append(source(kernel, self.names[key]))
        self.text = with_prelude("\n".join(self.texts))
        self.shim = build and build(self.text)

    def run(self, kernel, buffers, *, last_first=False):
        """Run a kernel; buffers of written operands are changed.

        Args:
            kernel: One of those that the module has.
            buffers: One flat array an operand; the same array twice is the same memory.
            last_first: Whether threads run in the other order.
        """
        places = {id(b): guarded(b) for b in buffers}
        scratch = guarded(np.full(layout.scratch_bytes(kernel), 0xA5, np.uint8))
        args = [*(places[id(b)][1] for b in buffers), scratch[1], layout.words(kernel)]
        name = self.names[layout.key(kernel)]
        for f in layout.launches(kernel):
            self.shim.run(name + f.suffix, f.grid, f.block, f.shared, args, last_first=last_first)
        for memory, inside in (*places.values(), scratch):
            check_guards(memory, inside)
        for b, op in zip(buffers, kernel.operands, strict=True):
            if op.written:
                b[...] = places[id(b)][1]


def run_batch(kernels, operands):
    """Run kernels of one key by one launch; the buffers of written operands are changed."""
    text = batch_source(kernels[0], "several", len(kernels))
    shim = build(with_prelude(text))
    places = [[guarded(b) for b in buffers] for buffers in operands]
    memory, scratch = guarded(np.full(layout.batch_scratch_bytes(kernels), 0xA5, np.uint8))
    addresses = [inside.ctypes.data for given in places for _, inside in given]
    pointers = struct.pack(f"<{len(addresses) + 1}Q", *addresses, scratch.ctypes.data)
    for f in layout.batch_launches(kernels):
        args = [pointers, layout.batch_words(kernels)]
        shim.run("several" + f.suffix, f.grid, f.block, f.shared, args)
    check_guards(memory, scratch)
    for kernel, buffers, given in zip(kernels, operands, places, strict=True):
        for b, op, place in zip(buffers, kernel.operands, given, strict=True):
            check_guards(*place)
            if op.written:
                b[...] = place[1]


def guarded(b):
    """A copy of an array at a multiple of 16 bytes, within memory whose bytes are known."""
    size = b.nbytes + 2 * GUARD + layout.ALIGNMENT
    memory = np.full(size, 0x5A, np.uint8)
    start = GUARD + -(memory.ctypes.data + GUARD) % layout.ALIGNMENT
    inside = memory[start : start + b.nbytes].view(b.dtype)
    inside[...] = b
    return memory, inside


def check_guards(memory, inside):
    """Nothing was written outside."""
    start = inside.ctypes.data - memory.ctypes.data if inside.size else GUARD
    before, after = memory[:start], memory[start + inside.nbytes :]
    assert (before == 0x5A).all(), "memory ahead of a buffer was overwritten"
    assert (after == 0x5A).all(), "memory behind a buffer was overwritten"
