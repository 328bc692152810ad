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
)
from fgrad.core.treedef import LEAF, TreeDef, tuple_def
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
