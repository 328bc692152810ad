"""The kernels of a program as functions of a device: one source, and nothing compiled twice.

A function is known by what its code depends on, so kernels that differ in sizes alone share one,
within a program and among all programs of a process. What is left is compiled as one module.
"""

import functools
import hashlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol

from fgrad.backends.cuda.calls import KernelCall, LibraryPlan
from fgrad.backends.cuda.device import Device, Function
from fgrad.backends.cuda.rooms import Room
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import launches_of


class Part(Protocol):
    """A function of a kernel to launch; see `layout.Function`."""

    suffix: str
    grid: int
    block: int
    shared: int


class Codegen(Protocol):
    """What turns kernels into text, and says how they are launched."""

    def key(self, kernel: Kernel) -> Hashable:
        """What the code of a kernel depends on."""

    def launches(self, kernel: Kernel) -> Sequence[Any]:
        """The functions of a kernel in order, each a `Part`."""

    def words(self, kernel: Kernel) -> bytes:
        """Their last argument."""

    def scratch_bytes(self, kernel: Kernel) -> int:
        """The memory that they share."""

    def source(self, kernel: Kernel, name: str) -> str:
        """Their text."""

    def module(self, text: str) -> str:
        """The text of functions behind what they need."""


class CudaCode:
    """CUDA C, by `layout`, `code` and `prelude`."""

    def __init__(self) -> None:
        layout, code, prelude = (
            import_module(f"fgrad.backends.cuda.{n}") for n in ("layout", "code", "prelude")
        )
        self.key, self.launches, self.words = layout.key, layout.launches, layout.words
        self.scratch_bytes, self.source = layout.scratch_bytes, code.source
        self._header, self._with_prelude = code.header, prelude.with_prelude

    def module(self, text: str) -> str:
        """The text of functions behind the prelude and what all kernels share."""
        made: str = self._with_prelude(self._header() + text)
        return made


class LoadedKernels:
    """Functions that are loaded on one device.

    Args:
        device: The device.
        code: What makes their text.
    """

    def __init__(self, device: Device, code: Codegen) -> None:
        self._device, self._code = device, code
        self._handles: dict[str, Any] = {}

    def load(self, kernels: Iterable[Kernel], calls: Iterable[KernelCall]) -> str:
        """Load what some kernels need.

        Two threads may compile the same; either will do.

        Returns:
            The source that was compiled, empty if there was nothing left to compile.
        """
        texts: dict[str, str] = {}
        shared: dict[str, int] = {}
        for kernel in kernels:
            name = self.name(kernel)
            for part in self._code.launches(kernel):
                full = name + part.suffix
                if full not in self._handles:
                    texts.setdefault(name, self._code.source(kernel, name))
                    shared[full] = max(part.shared, shared.get(full, 0))
        for call in calls:
            if call.name not in self._handles:
                texts[call.name] = call.source
                shared[call.name] = max(call.shared_bytes, shared.get(call.name, 0))
        if not texts:
            return ""
        source = self._code.module("\n".join(texts[name] for name in sorted(texts)))
        self._handles.update(self._device.load(source, shared))
        return source

    def name(self, kernel: Kernel) -> str:
        """The name of a kernel's functions, less the suffix of each."""
        return name_of(self._code.key(kernel))

    def functions(self, kernel: Kernel) -> list[Function]:
        """What is launched for a kernel, in order."""
        name = self.name(kernel)
        found = []
        for part in self._code.launches(kernel):
            full = name + part.suffix
            grid, block = (part.grid, 1, 1), (part.block, 1, 1)
            found.append(Function(full, self._handles[full], grid, block, part.shared))
        return found

    def function(self, call: KernelCall) -> Function:
        """What is launched for a kernel of a library step."""
        handle = self._handles[call.name]
        return Function(call.name, handle, call.grid, call.block, call.shared_bytes)

    def words(self, kernel: Kernel) -> bytes:
        """The last argument of a kernel's functions."""
        return self._code.words(kernel)

    def scratch_bytes(self, kernel: Kernel) -> int:
        """The scratch memory that they share."""
        return self._code.scratch_bytes(kernel)


def kernels_in(room: Room) -> Iterator[Kernel]:
    """The kernels of a plan and of its loops, in order."""
    for i, step in enumerate(room.plan.steps):
        yield from (launch.kernel for launch in launches_of(step))
        if i in room.loops:
            for inner in room.loops[i].rooms:
                yield from kernels_in(inner)


def kernel_calls(plans: Iterable[LibraryPlan]) -> Iterator[KernelCall]:
    """The kernels of library steps."""
    for plan in plans:
        yield from (call for call in plan.calls if isinstance(call, KernelCall))


@functools.lru_cache(maxsize=4096)
def name_of(key: Hashable) -> str:
    """The name of the functions whose code depends on a key."""
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:32]
