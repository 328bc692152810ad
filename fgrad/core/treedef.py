"""The structure of a pytree, as a value: hashable, comparable, and able to rebuild the tree."""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import (
    NAMESPACE,
    DictKey,
    KeyEntry,
    KeyPath,
    is_leaf_type,
    keystr,
    load_optree,
    one_level,
    rule_of,
)

__all__ = [
    "LEAF",
    "SHORT_TUPLES",
    "TreeDef",
    "describe",
    "describe_def",
    "treedef_of_spec",
    "tuple_def",
]


class TreeDef:
    """The structure of a pytree: everything but its leaves. Immutable, hashable, comparable.

    A leaf, a flat tuple and a flat list are held as ``(kind, num_leaves)``; any other structure
    as the tree specification of optree. Each structure has one form only, so that comparing never
    has to convert.

    Attributes:
        num_leaves: The number of leaves.
    """

    __slots__ = ("_hash", "_kind", "_spec", "num_leaves")

    num_leaves: int

    def __init__(self, kind: Any, num_leaves: int, spec: Any = None) -> None:
        self._kind = kind  # object for a leaf, tuple or list if flat, None if nested
        self.num_leaves = num_leaves
        self._spec = spec
        self._hash: int | None = None

    @property
    def spec(self) -> Any:
        """The optree specification, made when first asked for."""
        found = self._spec
        if found is None:
            example: Any = [0] * self.num_leaves
            if self._kind is not list:
                example = 0 if self._kind is object else tuple(example)
            found = self._spec = load_optree().tree_structure(example, namespace=NAMESPACE)
        return found

    @property
    def node_type(self) -> type | None:
        """The class of the root node, or None for a leaf."""
        if self._kind is object:
            return None
        found: type | None = self._kind or self._spec.type
        return found

    @property
    def is_flat(self) -> bool:
        """Whether this is a leaf, or a tuple or list of leaves."""
        return self._kind is not None

    def is_leaf(self) -> bool:
        """Return whether this is the structure of a single leaf."""
        return self._kind is object

    def children(self) -> "list[TreeDef]":
        """Return the structures of the children of the root node."""
        if self._kind is object:
            return []
        if self._kind is not None:
            return [LEAF] * self.num_leaves
        return [treedef_of_spec(child) for child in self._spec.children()]

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """Return the tree of this structure whose leaves are ``leaves``.

        Raises:
            TreeError: The number of leaves is not ``num_leaves``.
        """
        if not isinstance(leaves, list | tuple):
            leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise TreeError(
                f"unflatten needs {self.num_leaves} leaves for {self}, got {len(leaves)}"
            )
        kind = self._kind
        if kind is None:
            return self._spec.unflatten(leaves)
        return leaves[0] if kind is object else kind(leaves)

    def flatten_up_to(self, tree: Any, *, name: str = "tree") -> list[Any]:
        """Return the subtrees of ``tree`` that stand where this structure has its leaves.

        Args:
            tree: A tree of which this structure is a prefix.
            name: What the message of an error calls ``tree``.

        Raises:
            TreeError: This structure is no prefix of ``tree``.
        """
        kind = self._kind
        if kind is object:
            return [tree]
        if kind is not None:
            if type(tree) is kind and len(tree) == self.num_leaves:
                return [*tree]
            raise TreeError(_mismatch(self, tree, name))
        try:
            subtrees: list[Any] = self._spec.flatten_up_to(tree)
        except ValueError as error:
            raise TreeError(_mismatch(self, tree, name, str(error))) from error
        return subtrees

    def level_of(self, tree: Any) -> "list[tuple[KeyEntry, TreeDef, Any]] | None":
        """Return ``(key, child structure, child of tree)`` for each child of the root.

        None if the root of ``tree`` is not like the root of this structure: of the same class (any
        two kinds of dict are alike), number of children, keys and static part.
        """
        if self._kind is object or is_leaf_type(type(tree)):
            return None
        try:
            self.spec.one_level().flatten_up_to(tree)
        except ValueError:
            return None
        pairs, children = one_level(tree)[0], self.children()
        if not isinstance(tree, dict):
            return [(k, d, c) for (k, c), d in zip(pairs, children, strict=True)]
        keys = self.spec.entries()
        return [(DictKey(k), d, tree[k]) for k, d in zip(keys, children, strict=True)]

    def compose(self, inner: "TreeDef") -> "TreeDef":
        """Return the structure in which each leaf of this one is replaced by ``inner``."""
        return treedef_of_spec(self.spec.compose(inner.spec))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, TreeDef):
            return NotImplemented
        if self._kind is not other._kind or self.num_leaves != other.num_leaves:
            return False
        return self._kind is not None or bool(self._spec == other._spec)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            basis = self._spec if self._kind is None else self._kind
            found = self._hash = hash((basis, self.num_leaves))
        return found

    def __repr__(self) -> str:
        if self._kind is object:
            return "PyTreeDef(*)"
        text = repr(self.spec).replace("PyTreeSpec(", "PyTreeDef(", 1)
        return text.replace(f", namespace={NAMESPACE!r}", "")

    def __reduce__(self) -> tuple[Any, ...]:
        if self._kind is None:
            # As bytes, because optree must know our classes before it reads the specification.
            return _restore, (pickle.dumps(self._spec),)
        return TreeDef, (self._kind, self.num_leaves)


def _restore(pickled: bytes) -> TreeDef:
    load_optree()
    return treedef_of_spec(pickle.loads(pickled))


LEAF = TreeDef(object, 1)
"""The structure of a single leaf."""

SHORT_TUPLES = tuple(TreeDef(tuple, n) for n in range(4))
"""The structures of flat tuples of fewer than four leaves, by their length."""


def treedef_of_spec(spec: Any) -> TreeDef:
    """Return the TreeDef of an optree specification, in its one form."""
    if spec.num_nodes == 1 and spec.num_leaves == 1:
        return LEAF
    kind, count = spec.type, spec.num_leaves
    flat = spec.num_nodes == count + 1 and spec.num_children == count
    if flat and (kind is tuple or kind is list):
        return TreeDef(kind, count)
    return TreeDef(None, count, spec)


def tuple_def(children: Sequence[TreeDef]) -> TreeDef:
    """Return the structure of a tuple of trees of the structures given."""
    if all(child is LEAF for child in children):
        return TreeDef(tuple, len(children))
    specs = [child.spec for child in children]
    return treedef_of_spec(load_optree().treespec_tuple(specs, namespace=NAMESPACE))


# --- messages -------------------------------------------------------------------------------------


def _mismatch(treedef: TreeDef, tree: Any, name: str, otherwise: str = "") -> str:
    """Return the message for a tree of which ``treedef`` should be a prefix."""
    found = first_difference(treedef, tree)
    if found is None:
        return f"{name} does not have the structure {treedef}: {otherwise}"
    path, expected, got = found
    at = f"at {keystr(path)}" if path else "at the root"
    return (
        f"{name} does not match the expected structure; {at}: expected {describe_def(expected)}, "
        f"got {describe(got)}"
    )


def first_difference(
    expected: TreeDef, tree: Any, path: KeyPath = (), *, exact: bool = False
) -> tuple[KeyPath, Any, Any] | None:
    """Return where ``tree`` first departs from ``expected``, whose leaves match any tree.

    With ``exact`` they match leaves only.
    """
    if expected is LEAF:
        return (path, expected, tree) if exact and not is_leaf_type(type(tree)) else None
    level = expected.level_of(tree)
    if level is None:
        return path, expected, tree
    for key, child, subtree in level:
        found = first_difference(child, subtree, (*path, key), exact=exact)
        if found is not None:
            return found
    return None


def describe(tree: Any) -> str:
    """Return the root of a tree in a few words, for messages."""
    kind = type(tree)
    if is_leaf_type(kind):
        shape = getattr(tree, "shape", None)
        return f"a leaf of type {kind.__name__}" + ("" if shape is None else f" and shape {shape}")
    pairs, aux = one_level(tree)
    return _node_words(kind, [key for key, _ in pairs], aux if rule_of(kind) else None)


def describe_def(treedef: TreeDef) -> str:
    """Return the root of a structure in a few words, for messages."""
    kind = treedef.node_type
    if kind is None:
        return "a leaf"
    entries = treedef.spec.entries()
    keys = [DictKey(entry) for entry in entries] if issubclass(kind, dict) else entries
    known = issubclass(kind, tuple | list | dict | type(None))
    return _node_words(kind, keys, None) if known else f"{treedef.spec.one_level()}"


def _node_words(kind: type, keys: list[Any], aux: Any) -> str:
    if kind is type(None):
        return "None"
    if issubclass(kind, dict):
        return f"{kind.__name__} with keys {[key.key for key in keys]!r}"
    if kind in (tuple, list):
        return f"{kind.__name__} of length {len(keys)}"
    count = "1 child" if len(keys) == 1 else f"{len(keys)} children"
    return f"{kind.__name__} with {count}" + ("" if aux is None else f" and static part {aux!r}")
