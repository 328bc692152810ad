"""LLVM text to object files, several at a time."""

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from fgrad.backends.cpu.aside import Aside
from fgrad.backends.cpu.target import Target


def object_files(texts: Sequence[str], target: Target, *, passes: bool = False) -> list[bytes]:
    """The object file of each module, made side by side.

    Args:
        texts: LLVM text, a module each.
        target: The machine.
        passes: Whether to inline what asks for it, before code is made.

    Raises:
        RuntimeError: LLVM rejects a module.
    """
    with without_strength_reduction():
        first, *others = [functools.partial(_object_file, t, target, passes) for t in texts]
        waiting = [Aside(make) for make in others]
        try:
            found = [first()]
        finally:  # the switch above is for all of them
            for each in waiting:
                each.wait()
        return found + [each.result() for each in waiting]


@contextlib.contextmanager
def without_strength_reduction() -> Iterator[None]:
    """Leave out a pass that takes up to half of the time to make code, and finds nothing to do.

    Kernels step through memory with one counter a loop already. The switch is one of LLVM as a
    whole: what others in this process compile meanwhile may be a little slower, and not wrong.
    """
    llvm.set_option("", "-disable-lsr=true")
    try:
        yield
    finally:
        llvm.set_option("", "-disable-lsr=false")


def _object_file(text: str, target: Target, passes: bool) -> bytes:
    module = llvm.parse_assembly(text, llvm.create_context())
    module.verify()
    machine = target.machine()
    if passes:
        tuning = llvm.create_pipeline_tuning_options(speed_level=0)
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
    with ffi.OutputString() as error:
        memory = _emit()(machine, module, 1, error)
        if not memory:
            raise RuntimeError(str(error))
    try:
        start = ffi.lib.LLVMPY_GetBufferStart(memory)
        return ctypes.string_at(start, ffi.lib.LLVMPY_GetBufferSize(memory))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(memory)


@functools.cache
def _emit() -> Callable[..., Any]:
    """What makes code of a module, without the lock that llvmlite holds in each of its calls.

    Modules in contexts of their own have nothing in common, and LLVM takes locks where they do;
    llvmlite's has others wait for as long as code is made.
    """
    locked = ffi.lib.LLVMPY_TargetMachineEmitToMemory
    free = ctypes.CDLL(ffi.lib._name).LLVMPY_TargetMachineEmitToMemory
    free.argtypes, free.restype = locked.argtypes, locked.restype
    return free
