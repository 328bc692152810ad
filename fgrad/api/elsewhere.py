"""Calls whose arrays are not NumPy's; loaded when the first one is made."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fgrad.api.donation import give_away
from fgrad.api.execution import Runnable, runnable
from fgrad.api.programs import Entry, libraries_of, run_donated, run_flat, wrap
from fgrad.core.evaluate import ArrayImpl, is_buffer
from fgrad.core.homes import on_device, platforms
from fgrad.core.primitive import Value


def run(
    entry: Entry, xp: ModuleType, inputs: Sequence[Value], buffers: list[Any], name: str,
    donate: bool,
) -> list[Value]:  # fmt: skip
    """The results of a traced call; see `programs.run_entry`.

    Args:
        entry: The call.
        xp: The library of its arrays; those of the host follow the others.
        inputs: What it closed over, and its arguments.
        buffers: Theirs.
        name: Of the function.
        donate: Whether results may take the memory of donated arguments.
    """
    if entry.consts:
        buffers[: len(entry.consts)] = _moved(entry, xp, buffers)
    program = runnable(entry.jaxpr, xp, entry.donated if donate else ())
    if program.taken or program.fresh:
        _keep(entry, program, buffers)
    if program.taken:
        return run_donated(program, entry, inputs, buffers, name)
    if program.fresh:
        outs = run_flat(program, entry.flags, buffers)
    else:
        outs = wrap(program(xp, buffers), entry.flags, buffers)
    if donate:
        give_away(inputs, entry.donated, name)
    return outs


def _keep(entry: Entry, program: Runnable, buffers: Sequence[Any]) -> None:
    """Remember a program that is fit for any call with buffers of one type."""
    kinds = set(map(type, buffers))
    if len(kinds) == 1 and entry.device is None and not entry.consts:
        entry.elsewhere = kinds.pop(), program


def _moved(entry: Entry, xp: ModuleType, buffers: Sequence[Any]) -> list[Any]:
    """The buffers that a function closed over, on the device of the others: moved there once."""
    index_of = platforms[xp.__name__]().index_of
    index = next(index_of(b) for b in buffers if type(b) is not np.ndarray)
    found: list[Any] | None = entry.moved.get(index)
    if found is None:
        there, _ = on_device(xp, buffers, len)
        found = entry.moved[index] = there[: len(entry.consts)]
    return found


def library_in(leaves: Sequence[Any]) -> ModuleType:
    """The array library for which a call with some arguments is compiled: NumPy, or another one."""
    data = [x._data if type(x) is ArrayImpl else x for x in leaves]
    found = libraries_of([x for x in data if is_buffer(x)])
    return next(iter(found), np)
