"""Runs kernels as machine code of any vector width, by LLVM's own in-memory compiler."""

import ctypes
import functools
import itertools
import mmap

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.emission import without_strength_reduction
from fgrad.backends.cpu.render import module, render
from fgrad.backends.cpu.target import host

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_NO_ACCESS = 0  # PROT_NONE
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BITS = host().vector_bytes * 8


@functools.lru_cache(maxsize=4096)
def _compiled(text):
    parsed = llvm.parse_assembly(text, llvm.create_context())
    parsed.verify()
    with without_strength_reduction():
        engine = llvm.create_mcjit_compiler(parsed, host().machine())
        engine.finalize_object()
    return engine


_known = {}


def functions(kernel, lanes):
    """The functions of a kernel: of units, and of what combines them or None."""
    text = module([render(kernel, "kernel", lanes)], BITS)
    key = (layout.structure(kernel), lanes)
    assert _known.setdefault(key, text) == text, "kernels of one structure differ in code"
    engine = _compiled(text)
    found = SIGNATURE(engine.get_function_address("kernel"))
    found.engine = engine
    if not layout.accumulates(kernel):
        return found, None
    return found, SIGNATURE(engine.get_function_address("kernel_combine"))


def run(kernel, operands, lanes, cuts=()):
    """Run a kernel on buffers; `cuts` are units at which work is split, each part on its own."""
    function, combine = functions(kernel, lanes)
    need = layout.scratch(kernel)
    shared = np.full(need.shared_bytes, 0xA5, np.uint8)
    block = [a.ctypes.data for a in operands] + layout.words(kernel)
    block[len(operands)] = shared.ctypes.data

    def call(of, lo, hi):
        own = np.full(need.thread_bytes, 0x5A, np.uint8)
        block[len(operands) + 1] = own.ctypes.data
        args = (ctypes.c_int64 * len(block))(*block)
        of(ctypes.addressof(args), lo, hi)

    units = layout.units(kernel)
    ends = [0, *sorted({c % (units + 1) for c in cuts}), units]
    for lo, hi in reversed(list(itertools.pairwise(ends))):
        call(function, lo, hi)
    if combine is not None:
        call(combine, 0, layout.combine_units(kernel))


class Fenced:
    """Copies of arrays that touch, at their start or end, memory that nothing may access."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._maps = []

    def copy(self, array, *, at_end):
        page = mmap.PAGESIZE
        pages = -(-array.nbytes // page)
        memory = mmap.mmap(-1, (pages + 2) * page)
        whole = np.frombuffer(memory, np.uint8)
        start = page + (pages * page - array.nbytes if at_end else 0)
        copy = whole[start : start + array.nbytes].view(array.dtype)
        copy[:] = array
        for fence in (0, (pages + 1) * page):
            where = ctypes.c_void_p(whole.ctypes.data + fence)
            assert self._libc.mprotect(where, ctypes.c_size_t(page), _NO_ACCESS) == 0
        self._maps.append(memory)
        return copy
