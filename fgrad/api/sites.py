"""Call sites of jitted functions: from the arguments of a call to its program in a few steps.

A call is compared as a whole with one that was made before: the structure of its arguments by a
function generated for that (`core.flattener`), the types of their arrays by machine code where
there is some, and otherwise list by list.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np

from fgrad.api.execution import Runnable, has_compiler
from fgrad.api.programs import Entry
from fgrad.core.config import config
from fgrad.core.evaluate import WEAK, ArrayImpl

_flags = attrgetter("_flags")
_VARIANTS = 64  # combinations of flags that are remembered
_FEW = 6  # arrays that are compared one by one, not list by list


class Site:
    """What calls must look like to run the program of one that was traced.

    Args:
        flatten: Takes arguments of the right structure apart.
        leaves: The arrays of the first call.
        entry: Its program.

    Attributes:
        entry: As given.
        plain: Whether the arguments are arrays themselves, not trees of them.
        kind: The type of all buffers.
        program: What calls can run without more ado; None until it is known (see `prepared`).
    """

    __slots__ = (
        "_alike", "_configuration", "_flatten", "_likeness", "entry", "kind", "plain", "program",
    )  # fmt: skip

    def __init__(self, flatten: Any, leaves: Sequence[Any], entry: Entry, plain: bool) -> None:
        self.entry = entry
        self.plain = plain
        self.kind = type(leaves[0]._data) if leaves else np.ndarray
        self.program: Runnable | None = None
        # Of arrays without machine code to compare them nothing has to be taken apart.
        self._flatten = None if plain and self.kind is not np.ndarray else flatten
        self._configuration = config.trace_key()
        self._likeness = _Likeness(leaves)  # it also keeps the dtypes that `_alike` looks for
        self._alike: Callable[..., bool] | None = None  # made for the second call: see `_begin`

    def prepared(self) -> Runnable | None:
        """The program, if it has run, and using it uses up no random key."""
        if self.entry.jaxpr.key_uses is None:
            self.program = self.entry.program_for(self.kind)
        return self.program

    def match(self, args: tuple[Any, ...]) -> Sequence[Any] | None:
        """The arrays of a call, if it is alike."""
        leaves: Sequence[Any] | None = args if self._flatten is None else self._flatten(args)
        if leaves is None or not (self._alike or self._begin)(*leaves):
            return None
        return leaves if self._configuration == config.trace_key() else None

    def _begin(self, *leaves: Any) -> bool:
        """Compare without machine code: the first call need not wait until that is there."""
        if not self._likeness(*leaves):
            return False
        self._alike = _by_machine_code(leaves) or self._likeness
        return True


class _Likeness:
    """Whether values are arrays of given types."""

    __slots__ = ("_arrays", "_dtypes", "_few", "_kinds", "_known", "_shapes", "_weak")

    def __init__(self, leaves: Sequence[Any]) -> None:
        buffers = [x._data for x in leaves]
        self._arrays, self._kinds = [ArrayImpl] * len(leaves), list(map(type, buffers))
        self._shapes, self._dtypes = [b.shape for b in buffers], [b.dtype for b in buffers]
        self._weak = _weak(leaves)
        self._known = {tuple(map(_flags, leaves))}
        weak = [x._flags & WEAK for x in leaves]
        types: list[tuple[Any, ...]] = list(
            zip(self._kinds, self._shapes, self._dtypes, weak, strict=True)
        )
        self._few = types if len(types) <= _FEW else None

    def __call__(self, *leaves: Any) -> bool:
        if self._few is not None:
            if len(leaves) != len(self._few):
                return False
            for i, (kind, shape, dtype, weak) in enumerate(self._few):
                x = leaves[i]
                if type(x) is not ArrayImpl or x._flags & WEAK != weak:
                    return False
                data = x._data
                if type(data) is not kind or data.shape != shape or data.dtype != dtype:
                    return False
            return True
        if list(map(type, leaves)) != self._arrays:
            return False
        buffers = [x._data for x in leaves]
        if (
            list(map(type, buffers)) != self._kinds
            or [b.shape for b in buffers] != self._shapes
            or [b.dtype for b in buffers] != self._dtypes
        ):
            return False
        flags = tuple(map(_flags, leaves))
        if flags not in self._known:
            if _weak(leaves) != self._weak:
                return False
            if len(self._known) < _VARIANTS:
                self._known.add(flags)
        return True


def _by_machine_code(leaves: Sequence[Any]) -> Callable[..., bool] | None:
    if not has_compiler() or any(type(x._data) is not np.ndarray for x in leaves):
        return None
    found: Callable[..., bool] | None = (
        import_module("fgrad.backends.cpu.functions").functions().alike(leaves)
    )
    return found


def site_of(args: tuple[Any, ...], leaves: Sequence[Any], entry: Entry) -> Site | None:
    """The site of a call whose program was just found; None where general code has to look.

    Args:
        args: Its positional arguments; it has no others.
        leaves: What they consist of.
        entry: The program.
    """
    if any(type(x) is not ArrayImpl for x in leaves) or len({type(x._data) for x in leaves}) > 1:
        return None
    flatten = import_module("fgrad.core.flattener").flattener(args)
    plain = all(type(a) is ArrayImpl for a in args)
    return None if flatten is None else Site(flatten, leaves, entry, plain)


def _weak(leaves: Sequence[Any]) -> list[bool]:
    return [bool(x._flags & WEAK) for x in leaves]
