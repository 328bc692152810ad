"""Pytrees: nested containers of arrays, flattened to lists of leaves and rebuilt.

Single leaves and flat tuples and lists, which most calls consist of, are handled here in Python;
nested trees go to optree, which is imported when the first one is met.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import (
    NAMESPACE,
    NODE_TYPES,
    KeyPath,
    is_leaf_type,
    keystr,
    load_optree,
    one_level,
    sorted_keys,
)
from fgrad.core.treedef import (
    LEAF,
    SHORT_TUPLES,
    TreeDef,
    describe,
    describe_def,
    treedef_of_spec,
    tuple_def,
)

__all__ = [
    "LEAF",
    "TreeDef",
    "broadcast_prefix",
    "flatten",
    "flatten_axes",
    "flatten_with_path",
    "is_leaf",
    "leaves",
    "structure",
    "transpose",
    "tree_map",
    "tree_map_with_path",
    "tuple_def",
    "unflatten",
]

IsLeaf: TypeAlias = Callable[[Any], bool] | None


# --- flatten, unflatten, map ----------------------------------------------------------------------


def is_leaf(value: Any) -> bool:
    """Return whether ``value`` is a leaf: not None, no container and of no registered class."""
    return is_leaf_type(type(value))


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], TreeDef]:
    """Return the leaves of a tree, in order, and its structure.

    Args:
        tree: Any value; None is a node without children.
        is_leaf: Called at each node; where true, the node is taken as a leaf.

    Returns:
        ``(leaves, treedef)``.

    Raises:
        TreeError: The keys of a dict cannot be sorted.

    Example:
        >>> flatten({"b": 1, "a": (2, None)})
        ([2, 1], PyTreeDef({'a': (*, None), 'b': *}))
    """
    kind = type(tree)
    if is_leaf_type(kind):
        return [tree], LEAF
    if is_leaf is None and (kind is tuple or kind is list):
        for child in tree:
            child_kind = type(child)
            if child_kind in NODE_TYPES or not is_leaf_type(child_kind):
                break
        else:
            count = len(tree)
            if kind is tuple and count < 4:
                return list(tree), SHORT_TUPLES[count]
            return list(tree), TreeDef(kind, count)
    leaves, spec = load_optree().tree_flatten(tree, is_leaf=is_leaf, namespace=NAMESPACE)
    treedef = treedef_of_spec(spec)
    if not treedef.is_flat:
        _check_sorted(treedef, tree, is_leaf)
    return leaves, treedef


# Hashes of structures whose dicts are known to be sorted by their keys. optree falls back to the
# order of insertion for keys that do not compare; here that is an error.
_known_sorted: set[int] = set()
_KNOWN_SORTED_MAX = 4096


def _check_sorted(treedef: TreeDef, tree: Any, is_leaf: IsLeaf) -> None:
    mark = hash(treedef)
    if mark in _known_sorted:
        return
    _walk_dicts(tree, is_leaf)
    if len(_known_sorted) >= _KNOWN_SORTED_MAX:
        _known_sorted.clear()
    _known_sorted.add(mark)


def _walk_dicts(node: Any, is_leaf: IsLeaf) -> None:
    if is_leaf_type(type(node)) or (is_leaf is not None and is_leaf(node)):
        return
    if isinstance(node, dict):
        sorted_keys(node)
    for _, child in one_level(node)[0]:
        _walk_dicts(child, is_leaf)


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """Return the tree of structure ``treedef`` with ``leaves``; the inverse of :func:`flatten`."""
    return treedef.unflatten(leaves)


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """Return the leaves of a tree, in order."""
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf = None) -> TreeDef:
    """Return the structure of a tree."""
    return flatten(tree, is_leaf)[1]


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """Return the tree of ``f`` applied to the leaves of ``tree``, and to what ``rest`` has there.

    Args:
        f: Called with one leaf of ``tree`` and the corresponding subtree of each of ``rest``.
        tree: The tree whose structure the result has.
        rest: Trees of which the structure of ``tree`` is a prefix.
        is_leaf: As for :func:`flatten`.

    Raises:
        TreeError: A tree of ``rest`` has another structure; the message names the path.

    Example:
        >>> tree_map(lambda x, y: x + y, {"a": 1, "b": [2]}, {"a": 10, "b": [20]})
        {'a': 11, 'b': [22]}
    """
    first, treedef = flatten(tree, is_leaf)
    if not rest:
        return treedef.unflatten([f(x) for x in first])
    columns = [treedef.flatten_up_to(r, name=f"tree {i}") for i, r in enumerate(rest, start=2)]
    return treedef.unflatten([f(*xs) for xs in zip(first, *columns, strict=True)])


def transpose(outer: TreeDef, inner: TreeDef | None, tree: Any) -> Any:
    """Return ``tree``, of structure ``inner`` within ``outer``, as ``outer`` within ``inner``.

    Args:
        outer: The structure of the outside of ``tree``.
        inner: The structure at each leaf of ``outer``; None to take it from the first.
        tree: The tree to turn inside out.

    Raises:
        TreeError: ``tree`` is not composed of the two structures.

    Example:
        >>> transpose(structure([0, 0]), structure({"a": 0}), [{"a": 1}, {"a": 2}])
        {'a': [1, 2]}
    """
    subtrees = outer.flatten_up_to(tree)
    if inner is None:
        if not subtrees:
            raise TreeError(f"transpose cannot infer the inner structure: {outer} has no leaves")
        inner = structure(subtrees[0])
    rows = []
    for subtree in subtrees:
        row, found = flatten(subtree)
        if found != inner:
            raise TreeError(f"transpose needs {inner} at each leaf of {outer}, got {found}")
        rows.append(row)
    columns = [[row[i] for row in rows] for i in range(inner.num_leaves)]
    return inner.unflatten([outer.unflatten(column) for column in columns])


# --- paths ----------------------------------------------------------------------------------------


def flatten_with_path(
    tree: Any, is_leaf: IsLeaf = None
) -> tuple[list[tuple[KeyPath, Any]], TreeDef]:
    """Return the ``(path, leaf)`` pairs of a tree, in the order of its leaves, and its structure.

    Example:
        >>> pairs, _ = flatten_with_path({"a": (1, 2)})
        >>> [(keystr(path), leaf) for path, leaf in pairs]
        [("['a'][0]", 1), ("['a'][1]", 2)]
    """
    pairs: list[tuple[KeyPath, Any]] = []
    left: list[tuple[KeyPath, Any]] = [((), tree)]
    while left:
        path, node = left.pop()
        if is_leaf_type(type(node)) or (is_leaf is not None and is_leaf(node)):
            pairs.append((path, node))
        else:
            left += [((*path, key), child) for key, child in one_level(node)[0]][::-1]
    return pairs, structure(tree, is_leaf)


def tree_map_with_path(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """Return the tree of ``f(path, leaf, *subtrees)``; otherwise as :func:`tree_map`.

    Example:
        >>> tree_map_with_path(lambda path, x: keystr(path), {"a": [0]})
        {'a': ["['a'][0]"]}
    """
    pairs, treedef = flatten_with_path(tree, is_leaf)
    columns = [treedef.flatten_up_to(r, name=f"tree {i}") for i, r in enumerate(rest, start=2)]
    rows = zip(pairs, *columns, strict=True)
    return treedef.unflatten([f(path, leaf, *others) for (path, leaf), *others in rows])


# --- prefixes -------------------------------------------------------------------------------------


def flatten_axes(prefix: Any, tree: Any, *, name: str = "axes") -> list[Any]:
    """Return one entry of ``prefix`` for each leaf of ``tree``.

    Args:
        prefix: A prefix of ``tree``; each of its leaves stands for all leaves below. None is a
            leaf here, as in ``in_axes=(0, None)``.
        tree: The tree, or its :class:`TreeDef`.
        name: What the message of an error calls ``prefix``.

    Raises:
        TreeError: ``prefix`` is no prefix of ``tree``; the message names the path.

    Example:
        >>> flatten_axes((0, None), ([1, 2], {"a": 3}))
        [0, 0, None]
    """
    treedef = tree if isinstance(tree, TreeDef) else structure(tree)
    found: list[Any] = []
    _extend(found, (), prefix, treedef, name, lambda node: node is None)
    return found


def broadcast_prefix(
    prefix: Any, tree: Any, is_leaf: IsLeaf = None, *, name: str = "prefix"
) -> list[Any]:
    """Return one leaf of ``prefix`` for each leaf of ``tree``; None is a node in both.

    Raises:
        TreeError: ``prefix`` is no prefix of ``tree``; the message names the path.

    Example:
        >>> broadcast_prefix([1, {"a": 2}], [(0, 0), {"a": [0, 0]}])
        [1, 1, 2, 2]
    """
    found: list[Any] = []
    _extend(found, (), prefix, structure(tree, is_leaf), name, is_leaf)
    return found


def _extend(
    found: list[Any], path: KeyPath, prefix: Any, treedef: TreeDef, name: str, is_leaf: IsLeaf
) -> None:
    """Append each leaf of ``prefix`` as often as ``treedef`` has leaves below it."""
    if is_leaf_type(type(prefix)) or (is_leaf is not None and is_leaf(prefix)):
        found.extend([prefix] * treedef.num_leaves)
        return
    level = treedef.level_of(prefix)
    if level is None:
        raise TreeError(
            f"{name} must be a prefix of the tree that it applies to; at {name}{keystr(path)}: "
            f"{name} has {describe(prefix)}, the tree has {describe_def(treedef)}"
        )
    for key, child, below in level:
        _extend(found, (*path, key), below, child, name, is_leaf)
