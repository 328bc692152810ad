"""The function of a program over memory of its temporaries: made once for each place of it."""

import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from fgrad.backends.cpu.arrays import array, root, settle
from fgrad.backends.cpu.blocks import Slab, slabs


def function_of(source: str, names: dict[str, Any], filename: str) -> Any:
    """The function `program` of a text, over what its names stand for.

    Args:
        source: The text. Programs of other sizes have the same, so its code is kept.
        names: Its globals.
        filename: What tracebacks call the text.
    """
    exec(_compiled(source), names)
    function = names.pop("program")  # else it would refer to itself
    function.__code__ = function.__code__.replace(co_filename=filename)
    return function


@functools.lru_cache(64)
def _compiled(source: str) -> CodeType:
    return compile(source, "<fgrad program>", "exec")


class Binder:
    """Makes the function of a program over an arena.

    Attributes:
        free: Functions over arenas of this program that no thread is in.
    """

    __slots__ = ("__weakref__", "_code", "_names", "_views", "free")

    def __init__(self, code: Any, names: dict[str, Any], views: dict[str, Any]) -> None:
        self._code, self._names, self._views = code, names, views
        self.free: list[Callable[..., list[Any]]] = []

    def __call__(self, memory: Any) -> Callable[..., list[Any]]:
        """The function over an arena."""
        names = dict(self._names)
        for name, (view, dtype, offset) in self._views.items():
            names[name] = array(memory, offset, view, dtype)
        names["settle"] = functools.partial(settle, root(memory))
        return FunctionType(self._code, names)


def run_in_own(bind: Binder, size: int, *arrays: Any) -> list[Any]:
    """Run over an arena of the program's own."""
    try:
        function = bind.free.pop()
    except IndexError:  # the first call, or other threads are in it
        function = bind(Slab(size).memory)
    try:
        return function(*arrays)
    finally:
        bind.free.append(function)


def run_in_slab(bind: Binder, size: int, *arrays: Any) -> list[Any]:
    """Run over a slab that all programs share."""
    pool = slabs()
    slab = pool.take(size)
    try:
        function = slab.bound.get(bind)
        if function is None:
            function = slab.bound[bind] = bind(slab.memory)
        return function(*arrays)
    finally:
        pool.give(slab)
