"""What runs on a device, in order: launches, library calls, loops and choices.

Operands are *addresses*: a number of a base, and an offset in bytes from it. Bases are the arena,
the constants, the word of failed checks, the inputs of the program, and behind them the results
that a call allocates. A call only has to say where its bases lie.

::

    Launch    a kernel
    Call      a call of a library, which queues work by itself
    While     a loop as long as a byte of memory is not 0
    Counted   a loop of a fixed number of steps
    Choice    one of several branches, by an integer in memory
    Host      an equation that the host computes: its operands are waited for
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgrad.backends.cuda.device import MASK, SHIFT, Function
from fgrad.core.ir import Eqn

ARENA, CONSTANTS, FAULT, FIRST = range(4)  # bases; `FIRST` is that of the first input
NOWHERE = -1


def address(base: int, offset: int = 0) -> int:
    """The address at an offset from a base."""
    return base << SHIFT | offset


def base_of(place: int) -> int:
    """The number of the base of an address."""
    return place >> SHIFT


def offset_of(place: int) -> int:
    """The offset of an address from its base."""
    return place & MASK


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel.

    Attributes:
        function: Its code.
        pointers: The addresses of its operands, in order, `NOWHERE` for what it does not need.
        words: Its last parameter.
        packed: Whether its pointers are one parameter, a structure.
        eqns: The equations that it computes, or part of them.
    """

    function: Function
    pointers: tuple[int, ...]
    words: bytes
    packed: bool = False
    eqns: tuple[Eqn, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """An array in memory; strides are in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of a library.

    Attributes:
        run: ``(stream, pointers) -> None``.
        pointers: The addresses that it is given.
        captures: Whether it can be captured in a graph.
        eqn: What it computes.
    """

    run: Callable[[int, Sequence[int]], None]
    pointers: tuple[int, ...]
    captures: bool
    eqn: Eqn


@dataclass(frozen=True, slots=True, eq=False)
class While:
    """Runs `test`, which sets the byte at `flag`, and `body` in turn, until that byte is 0."""

    test: tuple["Item", ...]
    body: tuple["Item", ...]
    flag: int


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Runs `body` a number of `times`; the integer at `counter`, from 0 on, is what it is told.

    The body adds one to it.
    """

    body: tuple["Item", ...]
    counter: int
    times: int


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Runs the branch whose number the 32-bit integer at `index` is."""

    branches: tuple[tuple["Item", ...], ...]
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """An equation with functions of the user: it runs on arrays of the device, by its rule."""

    eqn: Eqn
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]


Item = Launch | Call | While | Counted | Choice | Host


def about(item: Item) -> str:
    """What an item computes, and the line that asked for it."""
    name, eqns = type(item).__name__.lower(), tuple[Eqn, ...]()
    match item:
        case Launch():
            name, eqns = item.function.name, item.eqns
        case Call() | Host():
            eqns = (item.eqn,)
    told = "; ".join(f"{e.primitive.name}, asked for at {e.source}" for e in eqns)
    return f"{name} ({told})" if told else name


def parts_of(item: Item) -> tuple[tuple[Item, ...], ...]:
    """The tapes inside of a loop or choice."""
    match item:
        case While(test=test, body=body):
            return test, body
        case Counted(body=body):
            return (body,)
        case Choice(branches=branches):
            return branches
    return ()


def is_captured(item: Item) -> bool:
    """Whether an item can be part of a graph."""
    if isinstance(item, Host) or (isinstance(item, Call) and not item.captures):
        return False
    return all(is_captured(i) for part in parts_of(item) for i in part)


def obstacle(items: Iterable[Item]) -> Eqn | None:
    """The first equation that keeps items from being captured."""
    for item in items:
        if isinstance(item, Host) or (isinstance(item, Call) and not item.captures):
            return item.eqn
        for part in parts_of(item):
            found = obstacle(part)
            if found is not None:
                return found
    return None


def is_branching(item: Item) -> bool:
    """Whether an item is a loop or a choice."""
    return isinstance(item, While | Counted | Choice)


def places_of(item: Item) -> Iterator[int]:
    """The addresses that an item uses, those inside of it too."""
    match item:
        case Launch(pointers=pointers) | Call(pointers=pointers):
            yield from pointers
        case Host(inputs=inputs, outputs=outputs):
            yield from (p.address for p in (*inputs, *outputs))
        case While(flag=at) | Counted(counter=at) | Choice(index=at):
            yield at
    for part in parts_of(item):
        for inner in part:
            yield from places_of(inner)


def segments(items: Sequence[Item], conditional: bool) -> list[tuple[bool, tuple[Item, ...]]]:
    """A tape in as few pieces as can be, each with whether it can become a graph.

    Args:
        items: The tape.
        conditional: Whether graphs may have loops and choices.
    """
    found: list[tuple[bool, list[Item]]] = []
    for item in items:
        captured = is_captured(item) and (conditional or not is_branching(item))
        if not found or found[-1][0] != captured:
            found.append((captured, []))
        found[-1][1].append(item)
    return [(captured, tuple(part)) for captured, part in found]


def calls_in(items: Iterable[Item]) -> Iterator[Call]:
    """The calls of libraries among items, and inside of them."""
    for item in items:
        if isinstance(item, Call):
            yield item
        for part in parts_of(item):
            yield from calls_in(part)


def count_bodies(items: Iterable[Item]) -> int:
    """How many conditional nodes a graph of some items has."""
    count = 0
    for item in items:
        count += len(parts_of(item)) if isinstance(item, Choice) else is_branching(item)
        count += sum(map(count_bodies, parts_of(item)))
        count += count_bodies(item.test) if isinstance(item, While) else 0  # it stands there twice
    return count


def show(items: Iterable[Item], indent: str = "") -> str:
    """A tape as text, an item a line."""
    lines = []
    for item in items:
        lines.append(indent + _line(item))
        for part in parts_of(item):
            lines += [show(part, indent + "    "), f"{indent}end"]
    return "\n".join(lines)


def _line(item: Item) -> str:
    match item:
        case Launch(function=f, pointers=pointers):
            return f"launch {f.name}{list(f.grid)}{list(f.block)} {_places(pointers)}"
        case Call(pointers=pointers, eqn=eqn):
            return f"call {eqn.primitive.name} {_places(pointers)}"
        case Host(eqn=eqn):
            return f"host {eqn.primitive.name}"
        case While(flag=flag):
            return f"while {_places([flag])}: test, body"
        case Counted(times=times, counter=counter):
            return f"repeat {times} times, counted at {_places([counter])}"
        case Choice(index=index):
            return f"choose by {_places([index])}"


def _places(places: Iterable[int]) -> str:
    return " ".join("-" if p < 0 else f"{_base(base_of(p))}+{offset_of(p)}" for p in places)


def _base(number: int) -> str:
    names = ("arena", "constants", "fault")
    return names[number] if number < FIRST else f"b{number - FIRST}"
