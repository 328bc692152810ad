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
from fgrad.backends.cuda.rooms import Room, Together, Unit, units_of
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

    def together(self, kernels: Sequence[Kernel]) -> Sequence[Sequence[int]]:
        """Which of some kernels, by position, are launched together: units."""

    def launches(self, unit: Unit) -> Sequence[Any]:
        """The functions of a unit in order, each a `Part`."""

    def words(self, unit: Unit) -> bytes:
        """Their last argument."""

    def scratch_bytes(self, unit: Unit) -> int:
        """The memory that they share."""

    def source(self, unit: Unit, name: str) -> str:
        """Their text."""

    def module(self, text: str) -> str:
        """The text of functions behind what they need."""


class CudaCode:
    """CUDA C, by `layout`, `code` and `prelude`.

    Args:
        parameter_bytes: The most that a launch may be given; None: what new drivers take.
    """

    def __init__(self, parameter_bytes: int | None = None) -> None:
        self._layout, self._code, self._prelude = (
            import_module(f"fgrad.backends.cuda.{n}") for n in ("layout", "code", "prelude")
        )
        layout: Any = self._layout
        limit = parameter_bytes or layout.PARAMETER_BYTES
        self.key, self.together = layout.key, functools.partial(layout.batches, limit=limit)

    def launches(self, unit: Unit) -> Sequence[Any]:
        """The functions of a unit in order."""
        layout: Any = self._layout
        one = len(unit) == 1
        found: Sequence[Any] = layout.launches(unit[0]) if one else layout.batch_launches(unit)
        return found

    def words(self, unit: Unit) -> bytes:
        """Their last argument."""
        layout: Any = self._layout
        found: bytes = layout.words(unit[0]) if len(unit) == 1 else layout.batch_words(unit)
        return found

    def scratch_bytes(self, unit: Unit) -> int:
        """The memory that they share."""
        size: int = self._layout.batch_scratch_bytes(unit)
        return size

    def source(self, unit: Unit, name: str) -> str:
        """Their text."""
        code: Any = self._code
        one = len(unit) == 1
        text: str = (
            code.source(unit[0], name) if one else code.batch_source(unit[0], name, len(unit))
        )
        return text

    def module(self, text: str) -> str:
        """The text of functions behind the prelude."""
        made: str = self._prelude.with_prelude(text)
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

        self.together, self.words = code.together, code.words
        self.scratch_bytes = code.scratch_bytes

    def load(self, units: Iterable[Unit], calls: Iterable[KernelCall]) -> str:
        """Load what some kernels need.

        Two threads may compile the same; either will do.

        Returns:
            The source that was compiled, empty if there was nothing left to compile.
        """
        texts: dict[str, str] = {}
        shared: dict[str, int] = {}
        for unit in units:
            name = self.name(unit)
            for part in self._code.launches(unit):
                full = name + part.suffix
                if full not in self._handles:
                    if name not in texts:
                        texts[name] = self._code.source(unit, name)
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

    def name(self, unit: Unit) -> str:
        """The name of a unit's functions, less the suffix of each."""
        name = name_of(self._code.key(unit[0]))
        return name if len(unit) == 1 else f"{name}x{len(unit)}"

    def functions(self, unit: Unit) -> list[Function]:
        """What is launched for a unit, in order."""
        name = self.name(unit)
        found = []
        for part in self._code.launches(unit):
            full = name + part.suffix
            grid, block = (part.grid, 1, 1), (part.block, 1, 1)
            found.append(Function(full, self._handles[full], grid, block, part.shared))
        return found

    def function(self, call: KernelCall) -> Function:
        """What is launched for a kernel of a library step."""
        handle = self._handles[call.name]
        return Function(call.name, handle, call.grid, call.block, call.shared_bytes)


def units_in(room: Room, together: Together) -> Iterator[Unit]:
    """What is launched together in a plan and in its loops, in order."""
    for i, step in enumerate(room.plan.steps):
        if launches_of(step):
            yield from (unit for unit, _ in units_of(step, together))
        if i in room.loops:
            for inner in room.loops[i].rooms:
                yield from units_in(inner, together)


def kernel_calls(plans: Iterable[LibraryPlan]) -> Iterator[KernelCall]:
    """The kernels of library steps."""
    for plan in plans:
        yield from (call for call in plan.calls if isinstance(call, KernelCall))


@functools.lru_cache(maxsize=4096)
def name_of(key: Hashable) -> str:
    """The name of the functions whose code depends on a key."""
    return "k" + hashlib.sha256(repr(key).encode()).hexdigest()[:32]
