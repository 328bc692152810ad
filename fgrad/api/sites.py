"""Call sites of jitted functions: from the arguments of a call to its program in a few steps.

A call with trees of arrays is compared as a whole with one that was made before: its structure by
a function generated for that (`core.flattener`), its types list by list.
"""

from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fgrad.api.programs import Entry
from fgrad.core.config import config
from fgrad.core.evaluate import WEAK, ArrayImpl

_flags = attrgetter("_flags")
_VARIANTS = 64  # combinations of flags that are remembered


class Match(NamedTuple):
    """A call that is like one before.

    Attributes:
        leaves: The arrays of its arguments.
        buffers: What they hold.
    """

    leaves: list[Any]
    buffers: list[Any]


class Site:
    """What calls must look like to run the program of one that was traced.

    Args:
        flatten: Takes arguments of the right structure apart.
        leaves: The arrays of the first call.
        entry: Its program.
    """

    __slots__ = (
        "_arrays", "_configuration", "_dtypes", "_flatten", "_hosts", "_known", "_shapes", "_weak",
        "entry",
    )  # fmt: skip

    def __init__(self, flatten: Any, leaves: Sequence[Any], entry: Entry) -> None:
        buffers = [x._data for x in leaves]
        self.entry = entry
        self._flatten = flatten
        self._configuration = config.trace_key()
        self._arrays, self._hosts = [ArrayImpl] * len(leaves), [np.ndarray] * len(leaves)
        self._shapes, self._dtypes = [b.shape for b in buffers], [b.dtype for b in buffers]
        self._weak = _weak(leaves)
        self._known = {tuple(map(_flags, leaves))}

    def match(self, args: tuple[Any, ...]) -> Match | None:
        """The arrays of a call, if it is alike."""
        leaves = self._flatten(args)
        if leaves is None or list(map(type, leaves)) != self._arrays:
            return None
        buffers = [x._data for x in leaves]
        if (
            list(map(type, buffers)) != self._hosts
            or [b.shape for b in buffers] != self._shapes
            or [b.dtype for b in buffers] != self._dtypes
            or self._configuration != config.trace_key()
        ):
            return None
        flags = tuple(map(_flags, leaves))
        if flags not in self._known:
            if _weak(leaves) != self._weak:
                return None
            if len(self._known) < _VARIANTS:
                self._known.add(flags)
        return Match(leaves, buffers)


def site_of(args: tuple[Any, ...], leaves: Sequence[Any], entry: Entry) -> Site | None:
    """The site of a call whose program was just found; None where general code has to look.

    Args:
        args: Its positional arguments; it has no others.
        leaves: What they consist of.
        entry: The program.
    """
    if any(type(x) is not ArrayImpl or type(x._data) is not np.ndarray for x in leaves):
        return None
    flatten = import_module("fgrad.core.flattener").flattener(args)
    return None if flatten is None else Site(flatten, leaves, entry)


def _weak(leaves: Sequence[Any]) -> list[bool]:
    return [bool(x._flags & WEAK) for x in leaves]
