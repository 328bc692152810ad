"""Registration of classes as pytree nodes, and :class:`Partial`, a function that is one."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from fgrad.core.errors import TreeError
from fgrad.core.tree_registry import GetAttrKey, KeyEntry, register

__all__ = [
    "Partial",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "static_field",
]

_Class = TypeVar("_Class", bound=type)


def register_pytree_node(
    nodetype: type,
    flatten_func: Callable[[Any], tuple[Iterable[Any], Hashable]],
    unflatten_func: Callable[[Any, Iterable[Any]], Any],
    flatten_with_keys_func: Callable[[Any], tuple[Iterable[tuple[KeyEntry, Any]], Hashable]]
    | None = None,
) -> None:
    """Make instances of exactly the class ``nodetype`` pytree nodes.

    Args:
        nodetype: The class.
        flatten_func: ``value -> (children, aux_data)``; ``aux_data`` hashable and comparable.
        unflatten_func: ``(aux_data, children) -> value``; it must accept any objects as children.
        flatten_with_keys_func: ``value -> ((key, child) pairs, aux_data)``, for key paths.

    Raises:
        TreeError: ``nodetype`` is no class, or is a pytree node already.
    """
    register(nodetype, flatten_func, unflatten_func, flatten_with_keys_func)


def register_pytree_node_class(cls: _Class) -> _Class:
    """Register a class by its methods ``tree_flatten`` and ``tree_unflatten``; a decorator.

    ``tree_flatten(self)`` returns ``(children, aux_data)`` and the class method
    ``tree_unflatten(cls, aux_data, children)`` the instance.
    """
    flatten_method, unflatten_method = _methods(cls, "tree_flatten", "tree_unflatten")
    register(cls, flatten_method, unflatten_method)
    return cls


def register_pytree_with_keys(
    nodetype: type,
    flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[KeyEntry, Any]], Hashable]],
    unflatten_func: Callable[[Any, Iterable[Any]], Any],
    flatten_func: Callable[[Any], tuple[Iterable[Any], Hashable]] | None = None,
) -> None:
    """Make instances of a class pytree nodes whose children have keys.

    Args:
        nodetype: The class.
        flatten_with_keys: ``value -> ((key, child) pairs, aux_data)``.
        unflatten_func: ``(aux_data, children) -> value``.
        flatten_func: ``value -> (children, aux_data)``, faster than the one with keys.

    Raises:
        TreeError: ``nodetype`` is no class, or is a pytree node already.
    """

    def without_keys(value: Any) -> tuple[Iterable[Any], Hashable]:
        pairs, aux = flatten_with_keys(value)
        return [child for _, child in pairs], aux

    register(nodetype, flatten_func or without_keys, unflatten_func, flatten_with_keys)


def register_pytree_with_keys_class(cls: _Class) -> _Class:
    """Register a class by ``tree_flatten_with_keys`` and ``tree_unflatten``; a decorator.

    A method ``tree_flatten`` is used where keys are not needed, if the class has one.
    """
    with_keys, unflatten_method = _methods(cls, "tree_flatten_with_keys", "tree_unflatten")
    register_pytree_with_keys(cls, with_keys, unflatten_method, getattr(cls, "tree_flatten", None))
    return cls


def _methods(cls: type, *names: str) -> list[Callable[..., Any]]:
    missing = [name for name in names if not hasattr(cls, name)]
    if missing:
        raise TreeError(f"{cls.__qualname__} needs {' and '.join(missing)} to be a pytree node")
    return [getattr(cls, name) for name in names]


def register_dataclass(
    nodetype: Any = None,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> Any:
    """Register a dataclass as a pytree node; a function or a decorator.

    Args:
        nodetype: The dataclass; left out when used as a decorator with arguments.
        data_fields: Fields that are children. By default, those that ``__init__`` takes and that
            are not marked ``dataclasses.field(metadata={"static": True})``.
        meta_fields: Fields that belong to the structure: static, hashable, comparable. By default,
            those marked static. Given together with ``data_fields``, or neither.
        drop_fields: Fields that neither take part in the tree nor are passed to ``__init__``.

    Returns:
        ``nodetype``.

    Raises:
        TreeError: It is not a dataclass, or the fields named are not those of its ``__init__``.

    Example:
        >>> @register_dataclass
        ... @dataclasses.dataclass
        ... class Affine:
        ...     w: float
        ...     b: float
        ...     name: str = dataclasses.field(default="", metadata={"static": True})
        >>> from fgrad.core.trees import leaves
        >>> leaves(Affine(2.0, 1.0))
        [2.0, 1.0]
    """
    if nodetype is None:
        return functools.partial(
            register_dataclass,
            data_fields=data_fields,
            meta_fields=meta_fields,
            drop_fields=drop_fields,
        )
    data, meta = _split_fields(nodetype, data_fields, meta_fields, drop_fields)
    keys = tuple(map(GetAttrKey, data))
    names = (*meta, *data)

    def flatten_func(value: Any) -> tuple[list[Any], Hashable]:
        return [getattr(value, f) for f in data], tuple([getattr(value, f) for f in meta])

    def flatten_with_keys(value: Any) -> tuple[Iterable[tuple[KeyEntry, Any]], Hashable]:
        children, aux = flatten_func(value)
        return zip(keys, children, strict=True), aux

    def unflatten_func(aux: Any, children: Iterable[Any]) -> Any:
        return nodetype(**dict(zip(names, (*aux, *children), strict=True)))

    register(nodetype, flatten_func, unflatten_func, flatten_with_keys)
    return nodetype


def static_field(**kwargs: Any) -> Any:
    """Return a dataclass field that :func:`register_dataclass` takes as static.

    Args:
        kwargs: Those of ``dataclasses.field``.
    """
    metadata = {**(kwargs.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(metadata=metadata, **kwargs)


def _split_fields(
    cls: Any,
    data_fields: Sequence[str] | None,
    meta_fields: Sequence[str] | None,
    drop_fields: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the data and meta fields of a dataclass, checked for completeness."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        if data_fields is None or meta_fields is None:
            raise TreeError(
                f"register_dataclass needs a dataclass, or data_fields and meta_fields; got {cls!r}"
            )
        return tuple(data_fields), tuple(meta_fields)
    if (data_fields is None) != (meta_fields is None):
        raise TreeError("register_dataclass needs both data_fields and meta_fields, or neither")
    fields = {f.name: bool(f.metadata.get("static")) for f in dataclasses.fields(cls) if f.init}
    if data_fields is None or meta_fields is None:
        data_fields = [n for n, static in fields.items() if not static and n not in drop_fields]
        meta_fields = [n for n, static in fields.items() if static and n not in drop_fields]
    named = [*data_fields, *meta_fields]
    wrong = (fields.keys() - set(drop_fields)) ^ set(named)
    if wrong or len(named) != len(set(named)):
        raise TreeError(
            f"data_fields {list(data_fields)} and meta_fields {list(meta_fields)} must name each "
            f"init field of {cls.__qualname__} once: {list(fields)} less drop_fields "
            f"{list(drop_fields)}; wrong or missing: {sorted(wrong)}"
        )
    return tuple(data_fields), tuple(meta_fields)


def register_static(cls: _Class) -> _Class:
    """Register a class whose instances are nodes without leaves; a decorator.

    The instance itself becomes part of the structure, so it must be hashable and comparable.

    Example:
        >>> @register_static
        ... class Mode(str):
        ...     pass
        >>> from fgrad.core.trees import leaves
        >>> leaves((Mode("train"), 1.0))
        [1.0]
    """
    register(cls, lambda value: ((), value), lambda aux, _: aux)
    return cls


# --- functions as trees ---------------------------------------------------------------------------


class Partial(functools.partial[Any]):
    """``functools.partial`` as a pytree: the bound arguments are leaves, the function is static.

    Example:
        >>> from fgrad.core.trees import leaves
        >>> square = Partial(pow, exp=2.0)
        >>> leaves(square), square(3.0)
        ([2.0], 9.0)
    """

    __slots__ = ()

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **keywords: Any) -> "Partial":
        """Bind arguments to ``func``.

        Those of an inner Partial stay leaves; those of a plain ``functools.partial`` are static.
        """
        if isinstance(func, Partial):
            args, keywords = (*func.args, *args), {**func.keywords, **keywords}
            func = func.func
        elif isinstance(func, functools.partial):
            # functools would merge its arguments into ours, which would make them leaves.
            func = _Call(func)
        return super().__new__(cls, func, *args, **keywords)


class _Call:
    """A partial function that ``functools.partial`` does not recognise; equal if the same."""

    __slots__ = ("inner",)

    def __init__(self, inner: functools.partial[Any]) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.inner(*args, **keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.inner is other.inner

    def __hash__(self) -> int:
        return id(self.inner)

    def __repr__(self) -> str:
        return repr(self.inner)


def _flatten_partial(value: Partial) -> tuple[Iterable[Any], Hashable]:
    return (value.args, value.keywords), value.func


def _flatten_partial_with_keys(value: Partial) -> tuple[Iterable[tuple[KeyEntry, Any]], Hashable]:
    return ((GetAttrKey("args"), value.args), (GetAttrKey("keywords"), value.keywords)), value.func


def _unflatten_partial(func: Any, children: Iterable[Any]) -> Partial:
    args, keywords = children
    return Partial(func, *args, **keywords)


register(Partial, _flatten_partial, _unflatten_partial, _flatten_partial_with_keys)
