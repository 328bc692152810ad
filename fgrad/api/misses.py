"""Why a call of a jitted function was traced again: what differs from the nearest kept program."""

import inspect
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.config import TRACE_FLAGS
from fgrad.core.tree_registry import SequenceKey, keystr
from fgrad.core.treedef import describe, describe_def, first_difference

_SHOWN = 3  # differences of one kind that a reason spells out
_LENGTH = 60  # characters of a static value
_OTHER_TREE = 1000  # how far apart programs of different trees are, in leaves

# (static arguments, argument tree, shape, dtype and weak type of its leaves, trace configuration,
# named axes)
Key = tuple[Any, Any, Any, Any, Any]


def reason(fun: Any, key: Key, kept: Sequence[Key], tree: Any) -> str:
    """What of a call is not as in the call, among those whose programs are kept, nearest to it.

    Args:
        fun: The function, whose parameters give the names.
        key: Of the call.
        kept: Of the programs kept, those used last at the end.
        tree: The arguments of the call that are not static, as (positional, by keyword).
    """
    if not kept:
        return "no program is kept: the cache was cleared, or all close over values being traced"
    if key in kept:
        return "the program of the same call was not kept: it closes over values being traced"
    near = min(reversed(kept), key=lambda k: _distance(k, key))
    names = _names(fun)
    numbers = {label for label, *_ in key[0] if isinstance(label, int)}
    moving = [name for i, name in enumerate(names) if i not in numbers]
    found = [
        *_static(near[0], key[0], names),
        *_leaves(near, key, tree, moving),
        *_flags(near[3], key[3]),
    ]
    if near[4] != key[4]:
        found.append(f"named axes: {_axes(near[4])} -> {_axes(key[4])}")
    return "; ".join(found)


def _names(fun: Any) -> list[str]:
    """The names of the positional parameters of a function."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


def _name(label: Any, names: Sequence[str]) -> str:
    """What an argument is called: by its keyword, or the parameter of its number."""
    if isinstance(label, str):
        return label
    return names[label] if label < len(names) else f"argument {label}"


def _distance(a: Key, b: Key) -> int:
    far = _OTHER_TREE if a[1] != b[1] else _count(a[2], b[2])
    return far + _count(a[0], b[0]) + _count(a[3], b[3]) + int(a[4] != b[4])


def _count(a: Sequence[Any], b: Sequence[Any]) -> int:
    return sum(x != y for x, y in zip_longest(a, b))


def _static(was: Any, now: Any, names: Sequence[str]) -> list[str]:
    before, after = (
        {_name(label, names): (label, *rest) for label, *rest in s} for s in (was, now)
    )
    changed = [
        name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)
    ]
    return [
        f"static {name}: {_value(before.get(name), after.get(name))} -> "
        f"{_value(after.get(name), before.get(name))}"
        for name in changed[: _shown(changed)]
    ] + _more(changed, "static arguments")


def _value(given: Any, other: Any) -> str:
    """A static argument as it was given; also how, where the `other` call did it otherwise."""
    if given is None:
        return "not given"
    label, _, value = given
    text = repr(value)
    text = text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
    if other is None or isinstance(label, str) == isinstance(other[0], str):
        return text
    return f"{text} by {'keyword' if isinstance(label, str) else 'position'}"


def _leaves(near: Key, key: Key, tree: Any, names: Sequence[str]) -> list[str]:
    """The first difference of two trees, or all between the types of their leaves."""
    if near[1] != key[1]:
        found = first_difference(near[1], tree, exact=True)
        if found is None:  # they differ in what prints alike
            return [f"tree: {near[1]} -> {key[1]}"]
        path, was, now = found
        return [f"tree of {named(path, names)}: {describe_def(was)} -> {describe(now)}"]
    changed = [i for i, (was, now) in enumerate(zip(near[2], key[2], strict=True)) if was != now]
    paths = trees.flatten_with_path(tree)[0] if changed else []
    return [
        f"{named(paths[i][0], names)}: {_typed(near[2][i])} -> {_typed(key[2][i])}"
        for i in changed[: _shown(changed)]
    ] + _more(changed, "leaves")


def _typed(kind: tuple[Any, ...]) -> str:
    aval = ShapedArray(*kind)
    return f"weak {aval}" if aval.weak_type else str(aval)


def misfit(expected: Any, tree: Any) -> str:
    """What a structure of arguments has where others, (positional, by keyword), first depart."""
    found = first_difference(expected, tree, exact=True)
    if found is None:  # they differ in what prints alike
        return f"arguments of the structure {expected}, got {tree}"
    path, wanted, got = found
    if path == (SequenceKey(0),):
        return f"{len(wanted.children())} positional arguments, got {len(got)}"
    if path == (SequenceKey(1),):
        return f"keyword arguments {sorted(wanted.spec.entries())}, got {sorted(got)}"
    return f"{describe_def(wanted)} as {named(path)}, got {describe(got)}"


def named(path: Any, names: Sequence[str] = ()) -> str:
    """A path in (positional, by keyword) by the names of arguments."""
    if len(path) < 2:
        return ("the positional arguments", "the keyword arguments")[path[0].idx] if path else "all"
    label = path[1].key if path[0].idx else path[1].idx
    return f"{_name(label, names)}{keystr(path[2:])}"


def _flags(was: Any, now: Any) -> list[str]:
    cells = zip(TRACE_FLAGS, was, now, strict=True)
    return [f"config.{name}: {a!r} -> {b!r}" for name, a, b in cells if a != b]


def _axes(axes: Any) -> str:
    return ", ".join(f"{name} of {size}" for name, size in axes) or "none"


def _shown(changed: Sequence[Any]) -> int:
    """How many differences are spelt out: all but those that would fill more than a line."""
    return _SHOWN if len(changed) > _SHOWN + 1 else len(changed)


def _more(changed: Sequence[Any], what: str) -> list[str]:
    rest = len(changed) - _shown(changed)
    return [f"{rest} more {what}"] if rest else []
