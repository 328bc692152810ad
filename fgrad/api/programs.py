"""The programs of traced calls: what they hold, how their results are wrapped."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fgrad.api.execution import Runnable, runnable
from fgrad.core import trees
from fgrad.core.errors import OutOfMemoryError
from fgrad.core.evaluate import (
    WEAK,
    ArrayImpl,
    as_value,
)
from fgrad.core.ir import ClosedJaxpr, Jaxpr
from fgrad.core.primitive import Value
from fgrad.core.transforms.stage import hoist

if TYPE_CHECKING:
    from fgrad.api.inspection import KernelInfo, StepInfo
    from fgrad.compile.memory import Memory


class Entry:
    """A traced call: its program, the values it closed over, and the structure of its result.

    Args:
        closed: The program and what it closed over.
        out_tree: The structure of the result.
        donated: The positions of donated arguments among the inputs; closed-over values come first.
    """

    __slots__ = (
        "cached", "closed", "consts", "donated", "flags", "jaxpr", "out_tree", "program", "single",
    )  # fmt: skip

    def __init__(self, closed: ClosedJaxpr, out_tree: Any, donated: tuple[int, ...] = ()) -> None:
        self.closed = closed
        self.jaxpr: Jaxpr = hoist(closed.jaxpr)
        self.consts = closed.consts
        self.donated = tuple(len(self.consts) + i for i in donated)
        self.out_tree = out_tree
        self.flags = [WEAK if a.weak_type else 0 for a in self.jaxpr.out_avals]
        self.program: Runnable | None = None
        self.cached = False
        self.single = out_tree.is_leaf()


def run_flat(program: Runnable, flags: Sequence[int], buffers: Sequence[Any]) -> list[Value]:
    """Run a program on NumPy arrays of the types that it was made for.

    Args:
        program: What runs.
        flags: For each result, whether its type is weak.
        buffers: One array an input.
    """
    try:
        if program.silent:
            outs = program.run(*buffers)
        else:
            with np.errstate(all="ignore"):
                outs = program.run(*buffers)
    except MemoryError as error:
        program.explain(error)
        raise OutOfMemoryError(program.shortage()) from error
    except Exception as error:
        program.explain(error)
        raise
    if program.fresh:
        return [ArrayImpl(x, flag) for x, flag in zip(outs, flags, strict=True)]
    taken = program.taken
    return wrap(outs, flags, [b for i, b in enumerate(buffers) if i not in taken])


def wrap(outs: Sequence[Any], flags: Sequence[int], buffers: Sequence[Any]) -> list[Value]:
    """Results as arrays, none of which shares memory with a buffer of the call.

    The caller can write to those, or has donated them.
    """
    given = set(map(id, buffers))
    owners: set[int] | None = None
    wrapped = []
    for x, flag in zip(outs, flags, strict=True):
        if isinstance(x, np.generic):
            x = np.asarray(x)
        elif id(x) in given:
            x = x.copy()
        elif x.base is not None:
            if owners is None:
                owners = set(map(_owner, buffers))
            if _owner(x) in owners:
                x = x.copy()
        wrapped.append(ArrayImpl(x, flag))
    return wrapped


def _owner(x: Any) -> int:
    """The identity of what holds the memory of a buffer."""
    while (base := getattr(x, "base", None)) is not None:
        x = base
    return id(x)


def _inspection() -> Any:
    """`fgrad.api.inspection`, loaded when somebody looks: it needs the compiler's own modules."""
    return import_module("fgrad.api.inspection")


class Lowered:
    """A call's program before it runs: what it computes, and what it was compiled to.

    Attributes:
        jaxpr: The traced program.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp, numpy as np
        >>> x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
        >>> lowered = fg.jit(lambda x, w: fnp.tanh(x @ w)).lower(x, w)
        >>> [(step.kind, step.name) for step in lowered.schedule()]
        [('library', 'dot_general'), ('kernel', 'tanh')]
        >>> [kernel.flops for kernel in lowered.kernels()]
        [8]
        >>> memory = lowered.memory_analysis()
        >>> memory.input_bytes, memory.result_bytes, memory.arena_bytes, memory.peak_bytes
        (72, 32, 64, 168)
        >>> lowered.cost_analysis()["flops"]
        56
        >>> print(lowered.as_text())
        def program(b0, b1):
            if not ready(b0, b1):
                b0, b1 = prepare(b0, b1)
            dot_general_...(b0, b1, a0)
            b3 = empty(...)
            tanh_...(a0, b3)
            return [b3]
    """

    def __init__(self, entry: Entry, name: str) -> None:
        self._entry = entry
        self._name = name
        self.jaxpr = entry.closed

    def __repr__(self) -> str:
        return f"Lowered({self._name}: {len(self.schedule())} steps)"

    @property
    def _program(self) -> Runnable:
        return runnable(self._entry.jaxpr, donated=self._entry.donated)

    @property
    def optimized(self) -> Jaxpr:
        """The program after all passes; closed-over arrays are its first inputs."""
        return self._program.jaxpr

    def kernels(self) -> "list[KernelInfo]":
        """The fused kernels, in order: loop IR, source, grid, costs, equations and lines of each.

        Empty where NumPy runs the program (``config.cpu_compiler`` is ``"numpy"``).
        """
        found: list[KernelInfo] = _inspection().kernels_of(self._program)
        return found

    def schedule(self) -> "list[StepInfo]":
        """All steps in order, each a kernel, a library call or a function of the user."""
        found: list[StepInfo] = _inspection().schedule_of(self._program)
        return found

    def memory_analysis(self) -> "Memory":
        """The memory of a call: inputs, results, the arena of temporaries, and the peak.

        Raises:
            ArgumentError: NumPy runs the program, and allocates as it goes.
        """
        found: Memory = _inspection().memory_of(self._program)
        return found

    def cost_analysis(self) -> dict[str, int]:
        """Operations (``"flops"``) and ``"bytes accessed"`` of all steps.

        Operations are counted in kernels and matrix products; other libraries do not tell theirs.
        """
        found: dict[str, int] = _inspection().cost_of(self._program)
        return found

    def as_text(self) -> str:
        """The Python text that runs."""
        return self._program.source

    def compile(self) -> Callable[..., Any]:
        """The program as a function of flat arrays that returns the call's result.

        It leaves its arguments alone, donated or not.
        """
        entry = self._entry
        program = runnable(entry.jaxpr)

        def compiled(*arrays: Any) -> Any:
            buffers = [as_value(x)._data for x in (*entry.consts, *arrays)]
            with np.errstate(all="ignore"):
                outs = wrap(program(np, buffers), entry.flags, buffers)
            return trees.unflatten(entry.out_tree, outs)

        return compiled
