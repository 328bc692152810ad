"""Looking at primitives and programs from the command line.

::

    python -m fgrad explain tanh                        what a primitive is, and where its rules are
    python -m fgrad jaxpr module:function f32[3,4] i32  the program of a function
    python -m fgrad kernels module:function f32[3,4]    what `jit` compiles it to
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

import fgrad
from fgrad import lax
from fgrad.api.inspection import table
from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.primitive import all_primitives

_LETTERS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "bf": "bfloat"}
_TYPE = re.compile(r"(bool|bf|[fiuc])(\d*)(?:\[([\d, ]*)\])?")


def _type(text: str) -> ShapedArray:
    """The type that a text like ``f32[2,3]`` means."""
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ArgumentError(f"{text!r} is no type; write f32[2,3], i32[4], bool or bf16[8]")
    letters, bits, sizes = match.groups()
    name = letters if letters == "bool" else f"{_LETTERS[letters]}{bits}"
    shape = tuple(int(n) for n in (sizes or "").split(",") if n.strip())
    return ShapedArray(shape, dtypes.dtype(name))


def _function(text: str) -> Callable[..., Any]:
    module, colon, name = text.partition(":")
    if not colon:
        raise ArgumentError(f"{text!r} names no function; write module:function")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def explain(name: str) -> str:
    """The card of a primitive: each of its rules and where it is written, or why it is absent."""
    lax.load_all()
    known = {p.name: p for p in all_primitives()}
    prim = known.get(name)
    if prim is None:
        close = ", ".join(n for n in sorted(known) if name in n) or "none contains it"
        raise ArgumentError(f"there is no primitive {name!r}; names like it: {close}")
    return prim.card()


def jaxpr(function: str, *types: str) -> str:
    """The program of a function for arguments of the types given."""
    return str(fgrad.make_jaxpr(_function(function))(*map(_type, types)))


def kernels(function: str, *types: str) -> str:
    """What `jit` makes of a function: its steps, its kernels, its memory."""
    lowered = fgrad.jit(_function(function)).lower(*map(_type, types))
    steps = table(_rows(lowered.schedule()) or [("",)])
    loops = "\n\n".join(k.loops for k in lowered.kernels())
    return f"{steps}\n\n{loops}\n\npeak {lowered.memory_analysis().peak_bytes} bytes"


def _rows(steps: Iterable[Any], indent: str = "") -> list[tuple[str, ...]]:
    """A line for each step, those of loops further in."""
    rows: list[tuple[str, ...]] = []
    for s in steps:
        reason = f"({s.reason})" if s.reason else ""
        rows.append((indent + s.kind, s.name, " ".join(s.buffers), reason))
        rows += _rows(s.steps, indent + "  ")
    return rows


_COMMANDS: dict[str, Callable[..., str]] = {
    "explain": explain, "jaxpr": jaxpr, "kernels": kernels,
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run a command; 0, or 2 after saying what is wrong with it."""
    command = _COMMANDS.get(arguments[0]) if arguments else None
    if command is None or len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(command(*arguments[1:]))
    except (fgrad.errors.FgradError, ImportError, AttributeError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.path.insert(0, "")
    sys.exit(main(sys.argv[1:]))
