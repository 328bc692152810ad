"""A plan as a program of a device: loaded once for each, run on its streams, replayed as graphs."""

import functools
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cuda import arena
from fgrad.backends.cuda.assemble import Assembled, Assembler, Libraries, returned
from fgrad.backends.cuda.device import Device, Stream
from fgrad.backends.cuda.faults import Check
from fgrad.backends.cuda.module import Codegen, LoadedKernels, kernel_calls, units_in
from fgrad.backends.cuda.parts import Parts
from fgrad.backends.cuda.replay import Captured, Queue, Segment
from fgrad.backends.cuda.rooms import Measure, library_steps
from fgrad.backends.cuda.support import Support
from fgrad.backends.cuda.tape import FIRST, is_branching, obstacle, segments, show
from fgrad.compile.memory import Memory
from fgrad.compile.plan import Library, Plan
from fgrad.compile.shortage import shortage
from fgrad.core.config import config
from fgrad.core.errors import ArgumentError, OutOfMemoryError
from fgrad.core.ir import Eqn, Jaxpr

_MOST_COPIED = 256 << 20  # bytes of inputs that are copied so that a graph can be replayed
_INSTANCES = 4  # streams of a thread for which a program keeps its graphs


def _of_local() -> int:
    """The references to what a local variable holds, as `sys.getrefcount` counts them."""
    found = object()
    return sys.getrefcount(found)


_OF_LOCAL = _of_local()
_OF_LISTED = max(map(sys.getrefcount, [object()]))  # as `map` shows it what a list alone holds


class Target(NamedTuple):
    """What a program is made for.

    Attributes:
        code: What turns kernels into text.
        libraries: What computes library steps.
        device_of: The device that some arrays lie on; of none, the current one.
        supports: Whether kernels can compute a scalar operation in a dtype.
        keeps: Which equations library steps compute, though others could take their place.
    """

    code: Codegen
    libraries: Libraries
    device_of: Callable[[Sequence[Any]], Device]
    supports: Callable[[str, Any], bool]
    keeps: Callable[[Eqn], bool]


class Program:
    """A program on one device.

    Attributes:
        assembled: Its tape.
        constants: An array of the device with the numbers it needs.
        bases: Where these numbers, and the word of failed checks, lie.
        fresh: The types of the results that a call allocates.
        results: For each result its position among inputs and those.
        checks: What failed checks are known by.
        source: The text that was compiled for it; empty if all of it was known.
    """

    def __init__(self, executable: "Executable", device: Device) -> None:
        target, room = executable.target, executable.room
        loaded: Any = _loaded  # mypy does not see that devices are compared by identity
        kernels, support = loaded(device, target.code)
        known = {id(step): target.libraries(step) for step in library_steps(room)}
        plans = [plan for plan in known.values() if plan is not None]
        self.source = kernels.load(units_in(room, kernels.together), kernel_calls(plans))
        self.checks: list[Check] = []
        parts = Parts(kernels, support)
        self._assembler = Assembler(parts, lambda step: known[id(step)], _reporter(self.checks))
        self.assembled = Assembled(room, self._assembler, executable.donated)
        self._room, self._donated, self._taken = room, executable.donated, executable.taken
        self.constants = device.upload(np.frombuffer(bytes(parts.constants) or b"\0", np.uint8))
        self.bases = (device.address(self.constants), device.fault_address())
        self.fresh = [(b.shape, b.dtype) for b in self.assembled.fresh]
        self.results = self.assembled.results
        self.support = support

    def copying(self, inputs: Collection[int]) -> Assembled | None:
        """The tape that copies inputs to the arena first; None if that is too much memory."""
        room, donated, taken = self._room, self._donated, self._taken
        copied = {i for i in inputs if i < room.plan.inputs and i not in taken}
        if sum(room.plan.buffers[i].nbytes for i in copied) > _MOST_COPIED:
            return None
        return Assembled(room, self._assembler, donated, copied)


def _reporter(checks: list[Check]) -> Callable[[Eqn], int]:
    """Numbers checks of equations, and keeps them in a list."""

    def report(eqn: Eqn) -> int:
        checks.append(Check(eqn))
        return checks[-1].number

    return report


class Instance:
    """A program for one thread and stream: its graphs, and the arguments of its launches.

    Attributes:
        program: As given.
        queue: Queues its items.
        segments: Its pieces, each with whether it can become a graph.
        only: The one that it has, which can; None for several.
        arena_bytes: The memory that it takes.
    """

    def __init__(self, program: Program, device: Device, checked: bool = False) -> None:
        self.program = program
        self.queue = Queue(device, program.support, checked)
        self._settled = False
        self._begin(program.assembled)

    def _begin(self, tape: Assembled) -> None:
        self.arena_bytes = tape.arena_bytes
        found = segments(tape.items, self.queue.device.conditional)
        self.segments = [(Segment(items, self.queue), captured) for captured, items in found]
        alone = len(found) == 1 and found[0][0]
        self.only = self.segments[0][0] if alone else None

    def settle(self) -> None:
        """Copy what libraries read to the arena from now on, if it lies elsewhere at each call."""
        self.queue.restless = False
        if self._settled or not any(s.is_restless for s, captured in self.segments if captured):
            return
        self._settled = True
        fixed = {b - FIRST for s, captured in self.segments if captured for b in s.fixed}
        tape = self.program.copying({i for i in fixed if i >= 0})
        if tape is not None:
            self._begin(tape)

    def run(self, bases: Sequence[int], stream: Stream) -> None:
        """Queue the program."""
        for segment, captured in self.segments:
            if captured:
                segment.run(bases, stream)
            else:
                self.queue.run(segment.items, bases, stream)


@functools.lru_cache(maxsize=64)
def _loaded(device: Any, code: Any) -> tuple[LoadedKernels, Support]:
    """What all programs of a `Device` whose kernels are text by a `Codegen` share."""
    return LoadedKernels(device, code), Support(device)


class _Local(threading.local):
    def __init__(self) -> None:
        self.instances: dict[Any, Instance] = {}
        self.began = False


class Executable:
    """A program ready to run on arrays of a device.

    Args:
        jaxpr: What it computes; its equations are what the kernels name.
        plan: Its steps.
        donated: Inputs whose memory results may take over.
        target: What it is made for.

    Attributes:
        jaxpr: As given.
        plan: As given, with the updates in place that were found.
        memory: Where temporaries lie.
        room: The memory of the plan with that of its loops.
        fresh: That results never share memory with inputs, but for those in `taken`.
        silent: That NumPy computes nothing in it.
        taken: Inputs whose memory results take over: the caller gives them away (see `own`).
    """

    backend = "cuda"
    fresh = silent = True

    def __init__(self, jaxpr: Jaxpr, plan: Plan, donated: Collection[int], target: Target) -> None:
        self.jaxpr, self.plan, self.target = jaxpr, plan, target
        self.donated = tuple(donated)
        libraries, code = target.libraries, target.code

        def workspace(step: Library) -> int:
            found = libraries(step)
            return 0 if found is None else found.workspace_bytes

        self.room = Measure(code.together, code.scratch_bytes, workspace).room(
            jaxpr, plan, self.donated
        )
        self.memory: Memory = self.room.memory
        self.taken = frozenset({*self.memory.taken.values(), *returned(self.room, self.donated)})
        self._programs: dict[str, Program] = {}
        self._device_of = target.device_of
        self._checked = bool(config.check)
        self._local = _Local()

    @property
    def source(self) -> str:
        """What is queued, a line an item."""
        device = self.target.device_of(())
        with device.current():
            return show(self.program(device).assembled.items)

    def program(self, device: Device) -> Program:
        """The program on a device, which is current."""
        found = self._programs.get(device.key)
        if found is None:
            found = self._programs[device.key] = Program(self, device)
        return found

    def __call__(self, _xp: ModuleType, arrays: Sequence[Any]) -> list[Any]:
        """Run on arrays of the device, and arrays of the host, which are copied to it."""
        try:
            return self.run(*arrays)
        except MemoryError as error:
            raise OutOfMemoryError(self.shortage()) from error

    def run(self, *arrays: Any) -> list[Any]:
        """Run on arrays of the right types."""
        if self.taken:
            self._local.began = False
        device, local = self._device_of(arrays), self._local
        if not device.is_current():
            with device.current():
                return self.run(*arrays)
        stream = device.stream()
        instance = local.instances.get((device.key, device.stream_key(stream)))
        if instance is None:
            instance = self._instance(device, stream)
        elif instance.queue.restless:
            instance.settle()
        program, size = instance.program, instance.arena_bytes
        slab = arena.take(device, stream, size) if size else program.constants
        try:
            given, bases = self._bound(program, device, slab, arrays)
            if self.taken:
                local.began = True
            device.recent.append(self.jaxpr)
            (instance.only or instance).run(bases, stream)
        finally:
            if size:
                arena.give(device, stream, slab)
        return [given[k] for k in program.results]

    def _bound(
        self, program: Program, device: Device, slab: Any, arrays: Sequence[Any]
    ) -> tuple[list[Any], list[int]]:
        """Inputs and fresh results, and where all bases lie."""
        empty, address = device.empty, device.address
        given, places = device.bound(arrays)
        for shape, dtype in program.fresh:
            made = empty(shape, dtype)
            given.append(made)
            places.append(address(made))
        return given, [address(slab), *program.bases, *places]

    def _instance(self, device: Device, stream: Stream) -> Instance:
        """A new instance, which stays for calls to come."""
        instances = self._local.instances
        if len(instances) >= _INSTANCES:
            del instances[next(iter(instances))]
        key = (device.key, device.stream_key(stream))
        made = instances[key] = Instance(self.program(device), device, self._checked)
        return made

    @property
    def obstacle(self) -> str:
        """Why part of it runs on the host; empty if nothing does."""
        device = self.target.device_of(())
        with device.current():
            items = self.program(device).assembled.items
        eqn = obstacle(items)
        if eqn is not None:
            return f"the host runs {eqn.primitive.name}, asked for at {eqn.source}"
        if not device.conditional and any(map(is_branching, items)):
            return "the host runs loops and branches: this driver has no conditional nodes"
        return ""

    def capture(self, *arrays: Any) -> tuple[list[Captured], list[Any]]:
        """Capture the program, and run what was captured once: for who wants to look at graphs.

        Returns:
            Its graphs in order, and its results.

        Raises:
            ArgumentError: Part of it runs on the host.
        """
        device = self.target.device_of(arrays)
        with device.current():
            program = self.program(device)
            stream = device.stream()
            instance = Instance(program, device)
            if not all(captured for _, captured in instance.segments):
                raise ArgumentError(f"this program cannot be captured: {self.obstacle}")
            slab = arena.take(device, stream, self.memory.arena_bytes)
            try:
                given, bases = self._bound(program, device, slab, arrays)
                found = [s.captured(bases) for s, _ in instance.segments]
                for graph in found:
                    graph.launch(bases, stream)
            finally:
                arena.give(device, stream, slab)
        return found, [given[k] for k in program.assembled.results]

    def own(self, arrays: list[Any], given: Collection[int], references: int) -> None:
        """Copy those of the inputs in `taken` that are not the caller's to give away.

        Args:
            arrays: The inputs; copies replace them.
            given: The inputs that the caller gives away.
            references: How many it has to each, the list among them.
        """
        free = self.taken.intersection(given)
        chosen = [arrays[i] for i in free]  # looked at all at once: mostly they are the caller's
        known = set(map(sys.getrefcount, chosen)) == {references + _OF_LISTED}
        whole = known and self._device_of(chosen[:1]).are_sole(chosen)
        del chosen
        others = self.taken - free if whole else self.taken
        if not others:
            return
        device = self._device_of(arrays)
        for i in others:
            x = arrays[i]
            sole = i in free and sys.getrefcount(x) == references + _OF_LOCAL
            if not (sole and device.are_sole([x])):
                with device.current():
                    arrays[i] = x.copy()

    def began(self, _error: BaseException) -> bool:
        """Whether an error arose when something was queued that may have changed what was given."""
        return self._local.began

    def shortage(self) -> str:
        """What to say when there is no memory for a call."""
        return shortage(self.jaxpr, self.plan, self.memory)

    def explain(self, error: Exception) -> None:
        """Nothing: what the host computes has said where it comes from (see `replay.host`)."""
