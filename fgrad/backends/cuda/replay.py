"""Runs a tape: at first launch by launch, then as graphs that are captured once and replayed.

A graph holds addresses. Those of our own kernels are replaced when a call brings other arrays; a
library's calls, and what stands in loops, keep theirs, so there is a graph for each set of such
addresses, a few of them. Only what changed since the last replay is replaced.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from fgrad.backends.cuda.device import (
    IF,
    MASK,
    SHIFT,
    WHILE,
    Arguments,
    Capture,
    Device,
    Graph,
    Stream,
)
from fgrad.backends.cuda.parts import words
from fgrad.backends.cuda.support import Support
from fgrad.backends.cuda.tape import (
    ARENA,
    Call,
    Choice,
    Counted,
    Host,
    Item,
    Launch,
    Place,
    While,
    about,
    base_of,
    calls_in,
    count_bodies,
    is_branching,
    offset_of,
    places_of,
)
from fgrad.core.program import compiled_inside

_KEPT = 4  # graphs of one segment
_TRIES = 16  # captures of one segment, after which calls with new addresses are not captured
_REGAINED = 16  # replays after which there may be one capture more
_FEW = 2  # launches up to which a graph is not worth it


class Queue:
    """Queues items on a stream, for one thread.

    Args:
        device: The device.
        support: Its functions that set conditions.
        checked: Whether each item is waited for, so that an error names the one that failed.

    Attributes:
        restless: Whether a segment has begun to be `is_restless` since this was reset.
    """

    def __init__(self, device: Device, support: Support, checked: bool = False) -> None:
        self.device, self._support, self.checked = device, support, checked
        self.restless = False
        self._arguments: dict[Launch, Arguments] = {}

    def arguments(self, item: Launch, bases: Sequence[int]) -> Arguments:
        """The arguments of a launch, filled in."""
        found = self._arguments.get(item)
        if found is None:
            found = self._arguments[item] = new_arguments(item, bases)
        else:
            fill(found, item, bases)
        return found

    def run(self, items: Sequence[Item], bases: Sequence[int], stream: Stream) -> None:
        """Queue items; the host waits where it has to decide."""
        for item in items:
            try:
                self._queue(item, bases, stream)
                if self.checked:
                    self.device.synchronize(stream)
            except Exception as error:
                if not hasattr(error, "__notes__"):
                    error.add_note(f"fgrad: in {about(item)}")
                raise

    def _queue(self, item: Item, bases: Sequence[int], stream: Stream) -> None:
        device = self.device
        match item:
            case Launch(function=function):
                device.launch(function, self.arguments(item, bases), stream)
            case Call():
                call(device, item, bases, stream)
            case While(test=test, body=body, flag=flag):
                self.run(test, bases, stream)
                while self._read(flag, 1, bases, stream)[0]:
                    self.run((*body, *test), bases, stream)
            case Counted(body=body, times=times):
                for _ in range(times):
                    self.run(body, bases, stream)
            case Choice(branches=branches, index=index):
                chosen = self._read(index, 4, bases, stream)
                number = int.from_bytes(chosen, "little", signed=True)
                self.run(branches[number], bases, stream)
            case Host():
                host(device, item, bases)

    def _read(self, place: int, count: int, bases: Sequence[int], stream: Stream) -> bytes:
        return self.device.read(resolved(place, bases), count, stream)

    def capture(self, items: Sequence[Item], bases: Sequence[int]) -> "Captured":
        """A graph of items."""
        calls = list(calls_in(items))

        def queue(stream: Stream) -> None:
            for item in calls:
                call(self.device, item, bases, stream)

        if calls:
            self.device.rehearse(queue)
        capture = self.device.capture(count_bodies(items))
        found: list[tuple[Launch, Any]] = []
        try:
            self._record(items, bases, capture, found)
        except BaseException:
            capture.abandon()
            raise
        return Captured(capture.end(), found, bases)

    def _record(
        self, items: Sequence[Item], bases: Sequence[int], capture: Capture,
        found: list[tuple[Launch, Any]] | None,
    ) -> None:  # fmt: skip
        """Queue items on a stream that is captured; `found` gets the nodes of launches."""
        for item in items:
            try:
                self._add(item, bases, capture, found)
            except Exception as error:
                if not hasattr(error, "__notes__"):
                    error.add_note(f"fgrad: captured {about(item)}")
                raise

    def _add(
        self, item: Item, bases: Sequence[int], capture: Capture,
        found: list[tuple[Launch, Any]] | None,
    ) -> None:  # fmt: skip
        match item:
            case Launch(function=function):
                self.device.launch(function, new_arguments(item, bases), capture.stream)
                if found is not None:
                    found.append((item, capture.last()))
            case Call():
                call(self.device, item, bases, capture.stream)
            case While(test=test, body=body, flag=flag):
                handle = capture.handle()
                proceed = self._setter("fgrad_proceed", flag, handle)
                self._record((*test, proceed), bases, capture, None)
                again = (*body, *test, proceed)
                capture.conditional(WHILE, handle, self._body(again, bases))
            case Counted(body=body, counter=counter, times=times):
                handle = capture.handle()
                more = self._setter("fgrad_more", counter, handle, times)
                self._record((more,), bases, capture, None)
                capture.conditional(WHILE, handle, self._body((*body, more), bases))
            case Choice(branches=branches, index=index):
                for number, branch in enumerate(branches):
                    handle = capture.handle()
                    chosen = self._setter("fgrad_choose", index, handle, number)
                    self._record((chosen,), bases, capture, None)
                    capture.conditional(IF, handle, self._body(branch, bases))
            case Host():
                raise AssertionError("functions of the user are no part of a graph")

    def _body(self, items: Sequence[Item], bases: Sequence[int]) -> Any:
        return lambda capture: self._record(items, bases, capture, None)

    def _setter(self, name: str, place: int, handle: int, *numbers: int) -> Launch:
        """A launch that sets a condition."""
        bits = handle - (1 << 64) if handle >> 63 else handle
        return Launch(self._support.single(name), (place,), words(bits, *numbers))


class Captured:
    """A graph and the launches in it whose addresses can be replaced.

    Args:
        graph: The graph.
        launches: Its launches outside of loops, with their nodes.
        bases: The bases that it was captured with.
    """

    def __init__(
        self, graph: Graph, launches: Sequence[tuple[Launch, Any]], bases: Sequence[int]
    ) -> None:
        self.graph = graph
        self._bases = list(bases)
        self._launches = [(n, item, new_arguments(item, bases)) for item, n in launches]
        self._stale: set[int] = set()  # launches whose nodes have yet to be told
        self._users: dict[int, list[tuple[int, int, int]]] = {}  # launch, pointer, its offset
        for k, (item, _) in enumerate(launches):
            for i, p in enumerate(item.pointers):
                if p >= 0:
                    self._users.setdefault(base_of(p), []).append((k, i, offset_of(p)))

    def launch(self, bases: Sequence[int], stream: Stream) -> None:
        """Queue it with other bases."""
        if bases != self._bases or self._stale:
            self._replace(bases)
        self.graph.launch(stream)

    def _replace(self, bases: Sequence[int]) -> None:
        """Tell the launches that use a base that has changed."""
        changed = [b for b, (x, y) in enumerate(zip(self._bases, bases, strict=True)) if x != y]
        launches, stale = self._launches, self._stale
        for b in changed:
            for k, i, offset in self._users.get(b, ()):
                launches[k][2].pointers[i] = bases[b] + offset
                stale.add(k)
        self._bases = list(bases)
        update = self.graph.update
        for k in sorted(stale):
            node, item, arguments = launches[k]
            update(node, item.function, arguments)
            stale.remove(k)


class Segment:
    """Items that run one after the other without the host.

    Args:
        items: The items.
        queue: Queues them, on one stream.
    """

    def __init__(self, items: Sequence[Item], queue: Queue) -> None:
        self.items, self._queue = items, queue
        self.fixed = sorted({
            base_of(p)
            for item in items
            if not isinstance(item, Launch)
            for p in places_of(item)
            if p >= 0
        } | {ARENA})  # fmt: skip
        self._key = itemgetter(*self.fixed)
        branching = any(map(is_branching, items))
        self._small = len(items) <= _FEW and not branching
        self._launches = [item for item in items if isinstance(item, Launch)]
        self._direct = self._small and len(self._launches) == len(items) and not queue.checked
        self._ready: list[tuple[Callable[[], object], Launch]] = []  # with their arguments
        self._filled: Sequence[int] = ()  # the bases that these hold
        self._graphs: OrderedDict[Any, Captured] = OrderedDict()
        self._left, self._hits = _TRIES, 0
        self._ran = branching  # the host would have to wait for each condition

    @property
    def is_restless(self) -> bool:
        """Whether calls bring new addresses again and again, for which there is no graph."""
        return not self._left

    def run(self, bases: Sequence[int], stream: Stream) -> None:
        """Queue all items."""
        if self._direct:
            if bases != self._filled:
                self._fill(bases, stream)
            for launch, item in self._ready:
                try:
                    launch()
                except Exception as error:
                    error.add_note(f"fgrad: in {about(item)}")
                    raise
            return
        found = None if self._small or self._queue.checked else self.graph(bases)
        if found is None:
            self._queue.run(self.items, bases, stream)
            self._ran = True
        else:
            found.launch(bases, stream)

    def _fill(self, bases: Sequence[int], stream: Stream) -> None:
        """Have the launches take other addresses."""
        queue = self._queue
        made = [queue.arguments(item, bases) for item in self._launches]
        if not self._ready:
            launcher = queue.device.launcher
            pairs = zip(self._launches, made, strict=True)
            self._ready = [(launcher(item.function, a, stream), item) for item, a in pairs]
        self._filled = bases

    def captured(self, bases: Sequence[int]) -> Captured:
        """A new graph."""
        return self._queue.capture(self.items, bases)

    def graph(self, bases: Sequence[int]) -> Captured | None:
        """The graph for some bases; none in the first run, which may be the only one."""
        key = self._key(bases)
        found = self._graphs.get(key)
        if found is not None:
            self._graphs.move_to_end(key)
            self._hits += 1
            if self._hits % _REGAINED == 0:
                self._left = min(self._left + 1, _TRIES)
        elif self._ran and self._left:
            self._left -= 1
            self._queue.restless |= not self._left
            found = self._graphs[key] = self.captured(bases)
            if len(self._graphs) > _KEPT:
                self._graphs.popitem(last=False)
        return found


def resolved(place: int, bases: Sequence[int]) -> int:
    """Where an address is in memory; 0 for none."""
    return 0 if place < 0 else bases[place >> SHIFT] + (place & MASK)


def new_arguments(item: Launch, bases: Sequence[int]) -> Arguments:
    """The arguments of a launch."""
    made = Arguments(len(item.pointers), item.words, item.packed)
    fill(made, item, bases)
    return made


def fill(arguments: Arguments, item: Launch, bases: Sequence[int]) -> None:
    """Write the pointers of a launch."""
    pointers = arguments.pointers
    for k, place in enumerate(item.pointers):
        pointers[k] = 0 if place < 0 else bases[place >> SHIFT] + (place & MASK)


def call(device: Device, item: Call, bases: Sequence[int], stream: Stream) -> None:
    """Queue a call of a library."""
    item.run(device.stream_pointer(stream), [resolved(p, bases) for p in item.pointers])


def host(device: Device, item: Host, bases: Sequence[int]) -> None:
    """Compute an equation by its rule, on arrays of the device, on its current stream."""

    def array(p: Place) -> Any:
        return device.view(resolved(p.address, bases), p.shape, p.strides, p.dtype)

    # The user's function may keep what it is given.
    inputs = [array(p).copy() for p in item.inputs]
    eqn = item.eqn
    try:
        with np.errstate(all="ignore"), compiled_inside():
            out = eqn.primitive.eager(device.xp, *inputs, **eqn.params)
    except Exception as error:
        types = ", ".join(str(a.aval) for a in eqn.inputs)
        error.add_note(f"fgrad: in {eqn.primitive.name}({types}), asked for at {eqn.source}")
        raise
    for p, y in zip(item.outputs, out if eqn.primitive.multiple_results else (out,), strict=True):
        array(p)[...] = y
