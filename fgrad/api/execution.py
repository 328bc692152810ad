"""Which program runs a jaxpr: machine code on the CPU, or eager rules one after the other."""

import functools
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fgrad.compile.program import Program, one_by_one, optimized, program_of
from fgrad.core.config import config
from fgrad.core.ir import Jaxpr
from fgrad.core.program import install_executor
from fgrad.core.transforms.jaxprs import derived

if TYPE_CHECKING:
    from fgrad.core.devices import Device


class Runnable(Protocol):
    """A program ready to run on bare buffers.

    Attributes:
        jaxpr: What it computes, after all passes.
        source: The Python text that runs.
        run: Takes NumPy arrays of the right types, one an input; returns the list of results.
        fresh: Whether results never share memory with inputs, but for those in `taken`.
        silent: Whether NumPy, which would warn of overflows, computes nothing in it.
    """

    jaxpr: Jaxpr
    source: str
    fresh: bool
    silent: bool

    @property
    def taken(self) -> Collection[int]:
        """Inputs whose memory results take over."""

    @property
    def run(self) -> Callable[..., list[Any]]:
        """Run on NumPy arrays."""

    def __call__(self, xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
        """Run on buffers of one array library."""

    def own(self, arrays: list[Any], given: Collection[int], references: int) -> None:
        """Copy those of the inputs in `taken` that are not the caller's to give away."""

    def began(self, error: BaseException) -> bool:
        """Whether an error arose when inputs in `taken` may have been overwritten."""

    def shortage(self) -> str:
        """What to say when there is no memory for a call."""

    def explain(self, error: Exception) -> None:
        """Add the equation and the user's line to an error."""


def runnable(jaxpr: Jaxpr, xp: ModuleType = np, donated: tuple[int, ...] = ()) -> Runnable:
    """The program of a closed jaxpr for one array library, made once for each configuration.

    Args:
        jaxpr: The program.
        xp: The array library.
        donated: Inputs whose memory results may take over.
    """
    compile_program, backend = _compiler_for(xp)
    if compile_program is None:
        return program_of(jaxpr)
    found: Runnable = derived(jaxpr, (backend, donated), lambda: compile_program(jaxpr, donated))
    return found


def _compiler_for(xp: ModuleType) -> tuple[Callable[..., Runnable] | None, str]:
    """What compiles programs for arrays of a library, if they are to be compiled."""
    if xp is np:
        return (_compiler() if has_compiler() else None), "cpu"
    if config.cuda_compiler == "rawkernel" and xp.__name__ == "cupy":
        return import_module("fgrad.backends.cuda.compiler").compile_program, "cuda"
    return None, ""


def has_compiler() -> bool:
    """Whether programs for NumPy arrays are machine code."""
    return config.cpu_compiler == "llvm" and _compiler() is not None


def named_device(jaxpr: Jaxpr) -> "Device | None":
    """The device that the `device_put` equations of a program name: it runs there.

    Raises:
        DeviceError: They name several.
    """
    if "fgrad.lax.placement" not in sys.modules:  # nobody can have written one
        return None
    found: Device | None = import_module("fgrad.api.settling").named_device(jaxpr)
    return found


def brought_to(
    device: "Device", xp: ModuleType, arrays: Sequence[Any]
) -> tuple[ModuleType, Sequence[Any]]:
    """The library and the buffers with which a program runs that names a device.

    Raises:
        DeviceError: Buffers lie on another one; those on the host follow.
    """
    moved: tuple[ModuleType, Sequence[Any]] = import_module("fgrad.api.settling").brought_to(
        device, xp, arrays
    )
    return moved


def begin() -> None:
    """Start to make what all compiled programs need, while the first of them is traced."""
    if has_compiler():
        import_module("fgrad.backends.cpu.functions").begin()


def measured(jaxpr: Jaxpr, mark: Callable[[], object]) -> Runnable:
    """A new program of a closed jaxpr for NumPy arrays that tells how far it is.

    Args:
        jaxpr: What it computes.
        mark: Called before the first step and after each.
    """
    compile_program = _compiler() if has_compiler() else None
    if compile_program is None:
        return Program(optimized(jaxpr), mark)
    return compile_program(jaxpr, (), mark)


@functools.cache
def _compiler() -> Callable[..., Runnable] | None:
    """The compiler for CPUs, loaded when first needed; None where llvmlite does not load."""
    try:
        import_module("llvmlite.binding")
    except (ImportError, OSError) as error:  # OSError: its shared library does not load
        absent = isinstance(error, ModuleNotFoundError) and error.name == "llvmlite"
        what = "is not installed" if absent else f"cannot be loaded ({error})"
        warnings.warn(
            f"llvmlite {what}, so jit runs NumPy operation by operation; install it for compiled "
            f"kernels, or silence this with FGRAD_CPU_COMPILER=numpy",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    module = import_module("fgrad.backends.cpu.compiler")
    made: Callable[..., Runnable] = module.compile_program
    return made


def _execute(jaxpr: Jaxpr, xp: ModuleType, arrays: Sequence[Any], compiled: bool) -> list[Any]:
    device = named_device(jaxpr)
    if device is not None:
        xp, arrays = brought_to(device, xp, arrays)
    if config.debug_nans or config.debug_infs or config.disable_jit:
        return one_by_one(jaxpr, arrays)
    program = runnable(jaxpr, xp) if compiled else program_of(jaxpr)
    return program(xp, arrays)


def clear_caches() -> None:
    """Give memory that waits to be used again to the system, and forget plans of other sizes.

    Results of compiled programs of 1 MiB and more, and their temporaries, lie in blocks that
    are kept when they are no longer needed.
    """
    if _compiler.cache_info().currsize and _compiler() is not None:
        import_module("fgrad.backends.cpu.blocks").clear()
        import_module("fgrad.compile.replay").replays.clear()


install_executor(_execute)
