"""What counts as a pytree node: containers, registered classes, and the keys into them.

The registry is plain Python, so that registering a class (which modules do at import) does not
load optree; :func:`load_optree` hands over the registrations when a nested tree is first met.
"""

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

from fgrad.core.errors import TreeError

__all__ = [
    "NAMESPACE",
    "NODE_TYPES",
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "NodeRule",
    "SequenceKey",
    "is_leaf_type",
    "keystr",
    "load_optree",
    "one_level",
    "register",
    "rule_of",
    "sorted_keys",
]

NAMESPACE = "fgrad"


# --- keys -----------------------------------------------------------------------------------------


class _Key:
    """A step from a node to one of its children."""

    __slots__ = ("_value",)
    _field = ""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._value == other._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._field}={self._value!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._value,)


class SequenceKey(_Key):
    """The step to element ``idx`` of a tuple, list or deque; prints as ``[idx]``."""

    __slots__ = ()
    _field = "idx"

    @property
    def idx(self) -> int:
        """The position in the sequence."""
        index: int = self._value
        return index

    def __str__(self) -> str:
        return f"[{self._value!r}]"


class DictKey(_Key):
    """The step to the value of ``key`` in a dict; prints as ``['key']``."""

    __slots__ = ()
    _field = "key"

    @property
    def key(self) -> Hashable:
        """The key in the dict."""
        key: Hashable = self._value
        return key

    def __str__(self) -> str:
        return f"[{self._value!r}]"


class GetAttrKey(_Key):
    """The step to attribute ``name`` of a named tuple, dataclass or module; prints as ``.name``."""

    __slots__ = ()
    _field = "name"

    @property
    def name(self) -> str:
        """The name of the attribute."""
        name: str = self._value
        return name

    def __str__(self) -> str:
        return f".{self._value}"


class FlattenedIndexKey(_Key):
    """The step to child ``key`` of a node whose class declares no keys; ``[<flat index key>]``."""

    __slots__ = ()
    _field = "key"

    @property
    def key(self) -> int:
        """The position among the flattened children."""
        key: int = self._value
        return key

    def __str__(self) -> str:
        return f"[<flat index {self._value}>]"


KeyEntry: TypeAlias = Any
KeyPath: TypeAlias = tuple[KeyEntry, ...]


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """Return a key path as text.

    Args:
        keys: The keys from the root to a leaf.
        simple: Print the bare key or name in place of ``['key']`` or ``.name``.
        separator: Text between two keys.

    Example:
        >>> keystr((DictKey("layers"), SequenceKey(0), GetAttrKey("w")))
        "['layers'][0].w"
        >>> keystr((DictKey("layers"), SequenceKey(0)), simple=True, separator="/")
        'layers/0'
    """
    bare = (str(k._value if isinstance(k, _Key) else k) for k in keys)
    return separator.join(bare if simple else map(str, keys))


# --- registry -------------------------------------------------------------------------------------

Flatten: TypeAlias = Callable[[Any], tuple[Iterable[Any], Hashable]]
Unflatten: TypeAlias = Callable[[Any, Iterable[Any]], Any]
FlattenWithKeys: TypeAlias = Callable[[Any], tuple[Iterable[tuple[KeyEntry, Any]], Hashable]]


class NodeRule:
    """How values of a registered class come apart and together."""

    __slots__ = ("flatten", "flatten_with_keys", "unflatten")

    def __init__(
        self, flatten: Flatten, unflatten: Unflatten, flatten_with_keys: FlattenWithKeys | None
    ) -> None:
        self.flatten = flatten
        self.unflatten = unflatten
        self.flatten_with_keys = flatten_with_keys


NODE_TYPES: set[type] = {type(None), tuple, list, dict, OrderedDict, defaultdict, deque}
"""Every class whose exact instances are nodes; named tuples are nodes beside these."""

_rules: dict[type, NodeRule] = {}
_lock = threading.RLock()
_optree: Any = None


def is_leaf_type(kind: type) -> bool:
    """Return whether all values of exactly this class are leaves."""
    if kind in NODE_TYPES:
        return False
    return not issubclass(kind, tuple) or not _is_tuple_node(kind)


def _is_tuple_node(kind: type) -> bool:
    """Return whether a subclass of tuple is a named tuple or a struct sequence."""
    return hasattr(kind, "_fields") or hasattr(kind, "n_sequence_fields")


def rule_of(kind: type) -> NodeRule | None:
    """Return the rule of a registered class, or None."""
    return _rules.get(kind)


def register(
    kind: type,
    flatten: Flatten,
    unflatten: Unflatten,
    flatten_with_keys: FlattenWithKeys | None = None,
) -> None:
    """Make exact instances of ``kind`` nodes.

    Args:
        kind: The class; its subclasses need a registration of their own.
        flatten: ``value -> (children, aux)`` with hashable, comparable ``aux``.
        unflatten: ``(aux, children) -> value``; it must accept any objects as children.
        flatten_with_keys: ``value -> ((key, child) pairs, aux)``, for paths.

    Raises:
        TreeError: ``kind`` is no class, or is a node already.
    """
    if not isinstance(kind, type):
        raise TreeError(f"only a class can be registered as a pytree node, got {kind!r}")
    with _lock:
        if not is_leaf_type(kind):
            raise TreeError(
                f"{kind.__module__}.{kind.__qualname__} is a pytree node already; register a class "
                "once, where it is defined"
            )
        rule = NodeRule(flatten, unflatten, flatten_with_keys)
        if _optree is not None:
            _hand_over(_optree, kind, rule)
        _rules[kind] = rule
        NODE_TYPES.add(kind)


def _hand_over(optree: Any, kind: type, rule: NodeRule) -> None:
    def flatten(value: Any) -> tuple[tuple[Any, ...], Hashable]:
        children, aux = rule.flatten(value)
        return tuple(children), aux

    optree.register_pytree_node(kind, flatten, rule.unflatten, namespace=NAMESPACE)


def load_optree() -> Any:
    """Import optree on first use, hand it all registrations, and return it."""
    global _optree
    if _optree is None:
        import optree  # takes 60 ms, which flat trees never need

        with _lock:
            if _optree is None:
                for kind, rule in _rules.items():
                    _hand_over(optree, kind, rule)
                # Last: a thread that sees optree must see every registration in it.
                _optree = optree
    return _optree


# --- one level of a tree --------------------------------------------------------------------------


def sorted_keys(node: dict[Any, Any]) -> list[Any]:
    """Return the keys of a dict in the order of its leaves.

    Raises:
        TreeError: The keys cannot be compared with each other.
    """
    if type(node) is OrderedDict:
        return list(node)
    try:
        return sorted(node)
    except TypeError as error:
        kinds = ", ".join(sorted({type(key).__name__ for key in node}))
        raise TreeError(
            f"the keys of a dict in a pytree are sorted, but keys of type {kinds} cannot be "
            f"compared: {list(node)!r}; use keys of one sortable type, such as str"
        ) from error


def one_level(node: Any) -> tuple[list[tuple[KeyEntry, Any]], Any]:
    """Return the ``(key, child)`` pairs of a node, and its static part.

    ``node`` must be a node: not :func:`is_leaf_type` of its class.
    """
    kind = type(node)
    rule = _rules.get(kind)
    if rule is not None:
        if rule.flatten_with_keys is not None:
            pairs, aux = rule.flatten_with_keys(node)
            return [(key, child) for key, child in pairs], aux
        children, aux = rule.flatten(node)
        return [(FlattenedIndexKey(i), child) for i, child in enumerate(children)], aux
    if node is None:
        return [], None
    if isinstance(node, dict):
        keys = tuple(sorted_keys(node))
        static = (node.default_factory, keys) if isinstance(node, defaultdict) else keys
        return [(DictKey(key), node[key]) for key in keys], static
    if hasattr(kind, "_fields"):
        return [(GetAttrKey(f), c) for f, c in zip(kind._fields, node, strict=True)], kind
    aux = node.maxlen if isinstance(node, deque) else None
    return [(SequenceKey(i), child) for i, child in enumerate(node)], aux
