"""Pytrees: nested containers of arrays, flattened to lists of leaves and rebuilt.

Single leaves and flat tuples and lists, which most calls consist of, are handled here in Python;
nested trees go to optree, which is imported when the first one is met.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
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

    def __init__(self, kind: type | None, num_leaves: int, spec: Any = None) -> None:
        self._kind = kind  # object for a leaf, tuple or list if flat, None if nested
        self.num_leaves = num_leaves
        self._spec = spec
        self._hash: int | None = None

    @property
    def spec(self) -> Any:
        """The optree specification, made when first asked for."""
        found = self._spec
        if found is None:
            leaves = [0] * self.num_leaves
            example: Any = 0 if self._kind is object else tuple(leaves)
            if self._kind is list:
                example = leaves
            found = self._spec = load_optree().tree_structure(example, namespace=NAMESPACE)
        return found

    @property
    def node_type(self) -> type | None:
        """The class of the root node, or None for a leaf."""
        if self._kind is object:
            return None
        found: type | None = self._kind or self._spec.type
        return found

    def is_leaf(self) -> bool:
        """Return whether this is the structure of a single leaf."""
        return self._kind is object

    def children(self) -> "list[TreeDef]":
        """Return the structures of the children of the root node."""
        if self._kind is object:
            return []
        if self._kind is not None:
            return [LEAF] * self.num_leaves
        return [_from_spec(child) for child in self._spec.children()]

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
                return list(tree)
            raise TreeError(_mismatch(self, tree, name))
        try:
            subtrees: list[Any] = self._spec.flatten_up_to(tree)
        except ValueError as error:
            raise TreeError(_mismatch(self, tree, name, str(error))) from error
        return subtrees

    def compose(self, inner: "TreeDef") -> "TreeDef":
        """Return the structure in which each leaf of this one is replaced by ``inner``."""
        return _from_spec(self.spec.compose(inner.spec))

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
    return _from_spec(pickle.loads(pickled))


LEAF = TreeDef(object, 1)
"""The structure of a single leaf."""

_EMPTY_TUPLE, _ONE_TUPLE, _TWO_TUPLE, _THREE_TUPLE = (TreeDef(tuple, n) for n in range(4))
_SHORT_TUPLES = (_EMPTY_TUPLE, _ONE_TUPLE, _TWO_TUPLE, _THREE_TUPLE)


def _from_spec(spec: Any) -> TreeDef:
    """Return the TreeDef of an optree specification, in its one form."""
    if spec.num_nodes == 1 and spec.num_leaves == 1:
        return LEAF
    kind = spec.type
    if (kind is tuple or kind is list) and spec.num_nodes == spec.num_leaves + 1:
        if spec.num_children == spec.num_leaves:
            return TreeDef(kind, spec.num_leaves)
    return TreeDef(None, spec.num_leaves, spec)


def tuple_def(children: Sequence[TreeDef]) -> TreeDef:
    """Return the structure of a tuple of trees of the structures given."""
    if all(child is LEAF for child in children):
        return TreeDef(tuple, len(children))
    specs = [child.spec for child in children]
    return _from_spec(load_optree().treespec_tuple(specs, namespace=NAMESPACE))


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
                return list(tree), _SHORT_TUPLES[count]
            return list(tree), TreeDef(kind, count)
    leaves, spec = load_optree().tree_flatten(tree, is_leaf=is_leaf, namespace=NAMESPACE)
    treedef = _from_spec(spec)
    if treedef._kind is None:
        _check_sorted(treedef, tree, is_leaf)
    return leaves, treedef


# Hashes of structures whose dicts are known to be sorted by their keys. optree falls back to the
# order of insertion for keys that do not compare; here that is an error.
_known_sorted: set[int] = set()
_KNOWN_SORTED_MAX = 4096


def _check_sorted(treedef: TreeDef, tree: Any, is_leaf: IsLeaf) -> None:
    try:
        mark: int | None = hash(treedef)
    except TypeError:  # unhashable aux data: legal until the structure is used as a cache key
        mark = None
    if mark in _known_sorted:
        return
    _walk_dicts(tree, is_leaf)
    if mark is not None:
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

    def visit(path: KeyPath, node: Any) -> None:
        if is_leaf_type(type(node)) or (is_leaf is not None and is_leaf(node)):
            pairs.append((path, node))
            return
        for key, child in one_level(node)[0]:
            visit((*path, key), child)

    visit((), tree)
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


class _Hole:
    """Stands for a leaf when a tree is rebuilt from its structure alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "*"


_HOLE = _Hole()


def _example(treedef: TreeDef) -> Any:
    return treedef.unflatten([_HOLE] * treedef.num_leaves)


def _mismatch(treedef: TreeDef, tree: Any, name: str, otherwise: str = "") -> str:
    """Return the message for a tree of which ``treedef`` should be a prefix."""
    found = _first_difference((), _example(treedef), tree)
    if found is None:
        return f"{name} does not have the structure {treedef}: {otherwise}"
    path, expected, got = found
    at = f"at {keystr(path)}" if path else "at its root"
    return f"{name} does not match the structure of the first: {at}: expected {expected}, got {got}"


def _first_difference(path: KeyPath, expected: Any, tree: Any) -> tuple[KeyPath, str, str] | None:
    """Return where ``tree`` first departs from ``expected``, whose leaves match anything."""
    if is_leaf_type(type(expected)):
        return None
    if not _same_node(expected, tree):
        return path, _describe(expected), _describe(tree)
    ours, theirs = one_level(expected)[0], one_level(tree)[0]
    for (key, child), (_, other) in zip(ours, theirs, strict=True):
        found = _first_difference((*path, key), child, other)
        if found is not None:
            return found
    return None


def _same_node(a: Any, b: Any) -> bool:
    """Return whether the roots of two trees are alike: class, number of children, keys, aux."""
    if is_leaf_type(type(b)):
        return False
    if not (isinstance(a, dict) and isinstance(b, dict)) and type(a) is not type(b):
        return False
    (pairs_a, aux_a), (pairs_b, aux_b) = one_level(a), one_level(b)
    if isinstance(a, dict):
        return set(a) == set(b)
    return len(pairs_a) == len(pairs_b) and bool(aux_a == aux_b)


def _describe(node: Any) -> str:
    """Return a node or leaf in a few words."""
    if node is None:
        return "None"
    kind = type(node)
    if is_leaf_type(kind):
        shape = getattr(node, "shape", None)
        return f"a leaf of type {kind.__name__}" + ("" if shape is None else f" and shape {shape}")
    if isinstance(node, dict):
        return f"{kind.__name__} with keys {list(node)!r}"
    pairs, aux = one_level(node)
    if kind in (tuple, list):
        return f"{kind.__name__} of length {len(pairs)}"
    extra = "" if aux is None else f" and static part {aux!r}"
    return f"{kind.__name__} with {len(pairs)} children{extra}"


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
    if isinstance(tree, TreeDef):
        tree = _example(tree)
    found: list[Any] = []
    _broadcast_into(found, (), prefix, tree, name, True)
    return found


def broadcast_prefix(
    prefix: Any, tree: Any, is_leaf: IsLeaf = None, *, name: str = "prefix"
) -> list[Any]:
    """Return one leaf of ``prefix`` for each leaf of ``tree``; None is a node in both.

    Raises:
        TreeError: ``prefix`` is no prefix of ``tree``; the message names the path.
    """
    found: list[Any] = []
    _broadcast_into(found, (), prefix, tree, name, False, is_leaf)
    return found


def _broadcast_into(
    found: list[Any],
    path: KeyPath,
    prefix: Any,
    node: Any,
    name: str,
    none_is_leaf: bool,
    is_leaf: IsLeaf = None,
) -> None:
    stop = (
        is_leaf_type(type(prefix))
        or (none_is_leaf and prefix is None)
        or (is_leaf is not None and is_leaf(prefix))
    )
    if stop:
        found.extend([prefix] * len(leaves(node, is_leaf)))
        return
    if not _same_node(prefix, node):
        raise TreeError(
            f"{name} must be a prefix of the tree that it applies to; at {name}{keystr(path)}: "
            f"{name} has {_describe(prefix)}, the tree has {_describe(node)}"
        )
    for (key, child), (_, other) in zip(one_level(prefix)[0], one_level(node)[0], strict=True):
        _broadcast_into(found, (*path, key), child, other, name, none_is_leaf, is_leaf)
