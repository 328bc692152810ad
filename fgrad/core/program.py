"""How eager rules run the programs in their parameters, and what `jit` runs.

The compiler sits above this layer: it installs its executor here once, at import.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from fgrad.core.config import config
from fgrad.core.errors import FgradError
from fgrad.core.ir import Jaxpr

Executor = Callable[[Jaxpr, ModuleType, Sequence[Any], bool], list[Any]]

_installed: list[Executor] = []


class _Local(threading.local):
    """Of this thread: whether a compiled program runs an eager rule now."""

    inside: bool = False


local = _Local()


def install_executor(executor: Executor) -> None:
    """Say how programs run on bare buffers; once, at import."""
    if _installed:
        raise FgradError("an executor is installed already")
    _installed.append(executor)


def run_program(jaxpr: Jaxpr, xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
    """Run a closed program on bare buffers: compiled if the program around it is.

    Args:
        jaxpr: A program without constvars.
        xp: The array library of the buffers.
        arrays: One buffer an input.

    Returns:
        One buffer an output.
    """
    return _installed[0](jaxpr, xp, arrays, local.inside)


def may_compile(xp: ModuleType, jaxpr: Jaxpr) -> bool:
    """Whether eager code may run a long loop of this program compiled, as `jit` would.

    That changes what no user sees but time: not inside of a program that is compiled or is not
    to be, nor where each operation is looked at, nor with effects, which come one by one.
    """
    if local.inside or jaxpr.effects or xp.__name__ != "numpy":
        return False
    looked_at = config.debug_nans or config.debug_infs or config.disable_jit or config.check
    return config.cpu_compiler == "llvm" and not looked_at


@contextmanager
def compiled_inside() -> Iterator[None]:
    """The programs that rules run meanwhile, in this thread, are compiled."""
    before, local.inside = local.inside, True
    try:
        yield
    finally:
        local.inside = before


def run_compiled(jaxpr: Jaxpr, xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
    """Like `run_program`, and compiled in any case: what `jit` asks for."""
    return _installed[0](jaxpr, xp, arrays, True)
