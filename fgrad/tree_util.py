"""Pytrees under the names of ``jax.tree_util``; :mod:`fgrad.tree` has the short ones.

A pytree is a leaf, or a container of pytrees: tuple, list, named tuple, ``deque``, dict and
``defaultdict`` (leaves in the order of the sorted keys), ``OrderedDict`` (in its own order), None
(without leaves), or an instance of a class registered here.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fgrad.core.errors import TreeError
from fgrad.core.tree_classes import (
    Partial,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)
from fgrad.core.tree_registry import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyEntry,
    KeyPath,
    SequenceKey,
    is_leaf_type,
    keystr,
    one_level,
)
from fgrad.core.treedef import LEAF, TreeDef, describe, tuple_def
from fgrad.core.trees import (
    IsLeaf,
    broadcast_prefix,
    flatten,
    flatten_with_path,
    leaves,
    structure,
    transpose,
    tree_map,
    tree_map_with_path,
)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "build_tree",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]

PyTreeDef = TreeDef
tree_flatten = flatten
tree_flatten_with_path = flatten_with_path
tree_leaves = leaves
tree_structure = structure
tree_transpose = transpose

_ABSENT = object()


# --- functions of trees ---------------------------------------------------------------------------


def tree_unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """Return the tree of structure ``treedef`` whose leaves are ``leaves``.

    Raises:
        TreeError: The number of leaves is not ``treedef.num_leaves``.
    """
    return treedef.unflatten(leaves)


def tree_leaves_with_path(tree: Any, is_leaf: IsLeaf = None) -> list[tuple[KeyPath, Any]]:
    """Return the ``(path, leaf)`` pairs of a tree, in the order of its leaves."""
    return flatten_with_path(tree, is_leaf)[0]


def tree_all(tree: Any, *, is_leaf: IsLeaf = None) -> bool:
    """Return whether all leaves are true.

    Example:
        >>> tree_all({"a": True, "b": [1, 0]})
        False
    """
    return all(tree_leaves(tree, is_leaf))


def tree_reduce(
    function: Callable[[Any, Any], Any],
    tree: Any,
    initializer: Any = _ABSENT,
    is_leaf: IsLeaf = None,
) -> Any:
    """Return the leaves combined by ``function`` from left to right.

    Args:
        function: ``(accumulated, leaf) -> accumulated``.
        tree: The tree to reduce.
        initializer: The value to start from; the first leaf if left out.
        is_leaf: Called at each node; where true, the node is taken as a leaf.

    Raises:
        TreeError: The tree has no leaves and there is no ``initializer``.

    Example:
        >>> tree_reduce(lambda a, x: a + x, {"a": 1, "b": [2, 3]})
        6
    """
    found = leaves(tree, is_leaf)
    if initializer is not _ABSENT:
        return functools.reduce(function, found, initializer)
    if not found:
        raise TreeError("tree_reduce of a tree without leaves needs an initializer")
    return functools.reduce(function, found)


def tree_reduce_associative(
    operation: Callable[[Any, Any], Any],
    tree: Any,
    *,
    identity: Any = _ABSENT,
    is_leaf: IsLeaf = None,
) -> Any:
    """Return the leaves combined in order by an associative operation, pairwise.

    The combinations form a balanced tree, so rounding errors grow with its depth only.

    Args:
        operation: ``(left, right) -> combined``, associative.
        tree: The tree to reduce.
        identity: The result for a tree without leaves; an identity of ``operation``.
        is_leaf: Called at each node; where true, the node is taken as a leaf.

    Raises:
        TreeError: The tree has no leaves and there is no ``identity``.

    Example:
        >>> tree_reduce_associative(lambda a, b: a + b, {"a": 1, "b": [2, 3]})
        6
    """
    found = leaves(tree, is_leaf)
    if not found:
        if identity is _ABSENT:
            raise TreeError("tree_reduce_associative of a tree without leaves needs identity")
        return identity
    while len(found) > 1:
        odd = found[-1:] if len(found) % 2 else []
        pairs = zip(found[:-1:2], found[1::2], strict=True)
        found = [operation(a, b) for a, b in pairs] + odd
    return found[0]


def tree_broadcast(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf = None) -> Any:
    """Return the tree like ``full_tree`` in which each leaf of ``prefix_tree`` fills its subtree.

    Raises:
        TreeError: ``prefix_tree`` is no prefix of ``full_tree``.

    Example:
        >>> tree_broadcast([1, 2], [0, {"a": 0, "b": 0}])
        [1, {'a': 2, 'b': 2}]
    """
    found = broadcast_prefix(prefix_tree, full_tree, is_leaf, name="prefix_tree")
    return tree_structure(full_tree, is_leaf).unflatten(found)


def all_leaves(iterable: Iterable[Any], is_leaf: IsLeaf = None) -> bool:
    """Return whether every element is a leaf, or is taken as one by ``is_leaf``.

    Example:
        >>> all_leaves([1, 2.0]), all_leaves([1, None])
        (True, False)
    """
    return all(is_leaf_type(type(x)) or (is_leaf is not None and is_leaf(x)) for x in iterable)


def build_tree(treedef: PyTreeDef, xs: Sequence[Any]) -> Any:
    """Return the tree whose root is that of ``treedef`` and whose children are ``xs``.

    Raises:
        TreeError: The root of ``treedef`` does not have ``len(xs)`` children.

    Example:
        >>> build_tree(tree_structure({"a": 0, "b": [0]}), [1, "any"])
        {'a': 1, 'b': 'any'}
    """
    children = treedef.children()
    if treedef.is_leaf() or len(children) != len(xs):
        raise TreeError(f"build_tree needs {len(children)} children for {treedef}, got {len(xs)}")
    root = treedef.spec.one_level()
    return root.unflatten(xs)


def is_tree_node(typ: type) -> bool:
    """Return whether values of a class are nodes: None, a container or a registered class."""
    return not is_leaf_type(typ)


def flatten_one_level_with_keys(tree: Any) -> tuple[list[tuple[KeyEntry, Any]], Any]:
    """Return the ``(key, child)`` pairs of the root of a tree, and its static part.

    Raises:
        TreeError: ``tree`` is a leaf.
    """
    if is_leaf_type(type(tree)):
        raise TreeError(f"flattening one level needs a node, got {describe(tree)}")
    return one_level(tree)


def flatten_one_level(tree: Any) -> tuple[list[Any], Any]:
    """Return the children of the root of a tree, and its static part.

    Raises:
        TreeError: ``tree`` is a leaf.

    Example:
        >>> flatten_one_level([1, (2, 3)])[0]
        [1, (2, 3)]
    """
    pairs, aux = flatten_one_level_with_keys(tree)
    return [child for _, child in pairs], aux


# --- functions of structures ----------------------------------------------------------------------


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Return whether ``treedef`` is the structure of a single leaf."""
    return treedef is LEAF or treedef.is_leaf()


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """Return the structures of the children of the root."""
    return treedef.children()


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """Return the structure of a tuple of trees of the structures given.

    Example:
        >>> treedef_tuple([tree_structure(1), tree_structure([2])])
        PyTreeDef((*, [*]))
    """
    return tuple_def(tuple(treedefs))
