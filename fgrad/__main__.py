"""Looking at primitives and programs from the command line.

::

    python -m fgrad explain tanh                          a primitive, and where its rules are
    python -m fgrad explain module:function "f32[3,4]"    what `jit` makes of it, step by step
    python -m fgrad jaxpr module:function "f32[3,4]" i32  the program of a function
    python -m fgrad kernels module:function "f32[3,4]"    its kernels: loops, costs, lines
    python -m fgrad trace module:function "f32[3,4]"      the times of a call, on arguments of ones

Types are written as programs print them (f32[3,4], i32, bool, f8_e4m3fn[8]) or by their NumPy
names (float32[3,4]). Functions are looked up from the current folder.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import fgrad
from fgrad import lax
from fgrad.api.inspection import table
from fgrad.core import dtype_kinds
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.primitive import all_primitives

_TYPE = re.compile(r"(\w+)(?:\[([\d, ]*)\])?")
_DTYPES = {name: d for d in dtype_kinds.ALL for name in (dtype_kinds.short_name(d), d.name)}


def _type(text: str) -> ShapedArray:
    """The type that a text like ``f32[2,3]`` or ``float32[2, 3]`` means."""
    match = _TYPE.fullmatch(text)
    if match is None or match[1] not in _DTYPES:
        raise ArgumentError(f"{text!r} is no type; write f32[2,3], i32[4], bool or bf16[8]")
    shape = tuple(int(n) for n in (match[2] or "").split(",") if n.strip())
    return ShapedArray(shape, _DTYPES[match[1]])


def _function(text: str) -> Callable[..., Any]:
    module, colon, name = text.partition(":")
    if not colon:
        raise ArgumentError(f"{text!r} names no function; write module:function")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def explain(what: str, *types: str) -> str:
    """A primitive, or what `jit` makes of a function for arguments of the types given."""
    if ":" in what:
        return _explain_function(what, *types)
    if types:
        raise ArgumentError(f"{what!r} names no function; write module:function before the types")
    lax.load_all()
    known = {p.name: p for p in all_primitives()}
    prim = known.get(what)
    if prim is None:
        close = [n for n in sorted(known) if what in n] or get_close_matches(what, known)
        told = f"names like it: {', '.join(close)}" if close else "no name is like it"
        raise ArgumentError(f"there is no primitive {what!r}; {told}")
    return prim.card()


def _lowered(function: str, types: Sequence[str]) -> Any:
    return fgrad.jit(_function(function)).lower(*map(_type, types))


def _explain_function(function: str, *types: str) -> str:
    """The steps of a program with their costs and the user's lines, then its memory."""
    lowered = _lowered(function, types)
    rows = [("step", "kind", "name", "writes", "operations", "bytes")]
    found = []
    for number, s in _numbered(lowered.schedule()):
        rows.append((number, s.kind, s.name, " ".join(s.buffers), f"{s.flops:,}", f"{s.bytes:,}"))
        found.append(
            "".join(f"\n      {line}" for line in (*_places(s), *filter(None, [s.reason])))
        )
    head, *lines = table(rows).splitlines()
    steps = "\n".join([head, *map("".join, zip(lines, found, strict=True))])
    total = lowered.cost_analysis()
    cost = f"in all {total['flops']:,} operations, {total['bytes accessed']:,} bytes"
    wide = "".join(f"\nwidened to 64 bits at {line}" for line in lowered.widened())
    return f"{steps}\n{cost}\n{_memory(lowered)}{wide}"


def _numbered(steps: Iterable[Any], head: str = "") -> Iterator[tuple[str, Any]]:
    """The steps and, after each loop, those of its programs (2.0, 2.1, …)."""
    for i, s in enumerate(steps):
        yield f"{head}{i}", s
        yield from _numbered(s.steps, f"{head}{i}.")


def _places(step: Any) -> list[str]:
    return [f"at {line}" for line in step.lines]


def _memory(lowered: Any) -> str:
    try:
        return f"memory {lowered.memory_analysis()}"
    except ArgumentError as error:
        return f"memory: {str(error).partition(chr(10))[0]}"


def jaxpr(function: str, *types: str) -> str:
    """The program of a function for arguments of the types given."""
    return str(fgrad.make_jaxpr(_function(function))(*map(_type, types)))


def kernels(function: str, *types: str) -> str:
    """The kernels that `jit` makes of a function, and its memory."""
    lowered = _lowered(function, types)
    loops = "\n\n".join(map(repr, lowered.kernels())) or "no kernels"
    return f"{loops}\n\n{_memory(lowered)}"


def trace(function: str, *types: str) -> str:
    """The steps of one call with their times."""
    ones = [fgrad.numpy.ones(t.shape, t.dtype) for t in map(_type, types)]
    return repr(_lowered(function, types).compile().trace(*ones))


_COMMANDS: dict[str, Callable[..., str]] = {
    "explain": explain, "jaxpr": jaxpr, "kernels": kernels, "trace": trace,
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0, or 2 after saying what is wrong with it."""
    command = _COMMANDS.get(arguments[0]) if arguments else None
    if command is None or len(arguments) < 2:
        if arguments and command is None and not arguments[0].startswith("-"):
            print(f"there is no command {arguments[0]!r}\n", file=sys.stderr)
        print((__doc__ or "").replace("::\n\n", ""), file=sys.stderr)
        return 2
    try:
        print(command(*arguments[1:]))
    except (fgrad.errors.FgradError, ImportError, AttributeError, TypeError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.path.insert(0, "")
    sys.exit(main(sys.argv[1:]))
