"""A function that takes apart trees of one structure, generated for it.

Trees of tuples, lists, dicts and named tuples are taken apart by unpacking alone, several times
faster than general code walks over them.
"""

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any

from fgrad.core.tree_registry import is_leaf_type, sorted_keys

Flattener = Callable[[Any], list[Any] | None]
_MOST_NODES = 10_000  # the text grows with them


def flattener(example: Any) -> Flattener | None:
    """A function of trees that gives their leaves, or None for a tree of another structure.

    Args:
        example: A tree of the structure.

    Returns:
        The function, which does not look at what stands where `example` has leaves; None where the
        structure has nodes of other classes than it can take apart.

    Example:
        >>> flatten = flattener({"w": 1, "b": [2, 3]})
        >>> flatten({"w": 4, "b": [5, 6]})
        [5, 6, 4]
        >>> flatten({"w": 4, "b": [5]})
    """
    writer = _Writer()
    leaves = writer.node(example, "tree")
    if leaves is None:
        return None
    body = "".join(f"        {line}\n" for line in writer.lines)
    text = (
        f"def flatten(tree):\n    try:\n{body}        return [{', '.join(leaves)}]\n"
        "    except KeyError:\n        return None\n"
    )
    exec(_compiled(text), writer.names)
    found: Flattener = writer.names.pop("flatten")  # else it would refer to itself
    return found


@functools.lru_cache(256)
def _compiled(text: str) -> CodeType:
    """The code of a text: signatures of one tree have the same."""
    return compile(text, "<fgrad flattener>", "exec")


class _Writer:
    """Writes the lines that take one node apart after the other."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.count = 0

    def node(self, x: Any, name: str) -> list[str] | None:
        """The names of the leaves below a node; None where it cannot be taken apart."""
        self.count += 1
        kind = type(x)
        if self.count > _MOST_NODES:
            return None
        if x is None:
            self.lines.append(f"if {name} is not None: return None")
            return []
        if is_leaf_type(kind):
            return [name]
        sequence = kind in (tuple, list) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        if not sequence and kind is not dict:
            return None
        self.lines.append(
            f"if type({name}) is not {self.constant(kind)} or len({name}) != {len(x)}: return None"
        )
        keys = list(range(len(x))) if sequence else sorted_keys(x)
        parts = [f"x{self.count}_{i}" for i in range(len(x))]
        if sequence and parts:
            self.lines.append(f"{', '.join(parts)}, = {name}")
        found: list[str] = []
        for key, part in zip(keys, parts, strict=True):
            if not sequence:
                self.lines.append(f"{part} = {name}[{self.constant(key)}]")
        for key, part in zip(keys, parts, strict=True):
            below = self.node(x[key], part)
            if below is None:
                return None
            found += below
        return found

    def constant(self, value: Any) -> str:
        """The name of a value."""
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name
