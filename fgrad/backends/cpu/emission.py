"""LLVM text to object files, several at a time."""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from fgrad.backends.cpu.aside import Aside
from fgrad.backends.cpu.target import Target


class _RejectedError(RuntimeError):
    """LLVM makes no object file; the engine says what that means, on the thread of the user."""


class _Part(NamedTuple):
    """A module that is ready to become machine code."""

    machine: Any
    module: Any


def object_files(texts: Sequence[str], target: Target) -> list[bytes]:
    """The object file of each module, made side by side.

    Args:
        texts: LLVM text, a module each.
        target: The machine.

    Raises:
        RuntimeError: LLVM rejects a module.
    """
    first, *others = [_parsed(text, target) for text in texts]
    waiting = [Aside(functools.partial(_object_file, part)) for part in others]
    found = [_object_file(first)]
    return found + [each.result() for each in waiting]


def started(text: str, target: Target) -> Aside[bytes]:
    """Begin to make the object file of a module, after inlining what asks for it.

    All that takes turns with Python's other threads is done here: a thread that runs Python lets
    others wait for milliseconds, each time that they ask.

    Args:
        text: LLVM text.
        target: The machine.

    Raises:
        RuntimeError: LLVM rejects the module.
    """
    part = _parsed(text, target)
    tuning = llvm.create_pipeline_tuning_options(speed_level=0)
    builder = llvm.create_pass_builder(part.machine, tuning)
    builder.getModulePassManager().run(part.module, builder)
    return Aside(functools.partial(_object_file, part))


_lock = threading.Lock()
_without = 0  # how many do without it


@contextlib.contextmanager
def without_strength_reduction() -> Iterator[None]:
    """Leave out a pass that takes up to half of the time to make code, and finds nothing to do.

    Kernels step through memory with one counter a loop already. The switch is one of LLVM as a
    whole: what others in this process compile meanwhile may be a little slower, and not wrong.
    """
    _switch(1)
    try:
        yield
    finally:
        _switch(-1)


def _switch(more: int) -> None:
    global _without
    with _lock:
        _without += more
        if _without == max(0, more):  # the first one, or the last
            llvm.set_option("", f"-disable-lsr={'true' if _without else 'false'}")


def _parsed(text: str, target: Target) -> _Part:
    module = llvm.parse_assembly(text, llvm.create_context())
    module.verify()
    return _Part(target.machine(), module)


def _object_file(part: _Part) -> bytes:
    with without_strength_reduction(), ffi.OutputString() as error:
        memory = _emit()(part.machine, part.module, 1, error)
        if not memory:
            raise _RejectedError(str(error))
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
