"""Modules: immutable pytrees with a name for each part.

A subclass assigns its attributes in ``__init__``. Arrays, modules and containers of them become
children of the tree; configuration is declared static and becomes part of the tree's structure.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from fgrad import tree_util
from fgrad.core.errors import ArgumentError, FrozenModuleError, ShapeError, TreeError

Value = Any
M = TypeVar("M", bound="Module")


class _Static:
    """Marks a class attribute as a static field."""

    __slots__ = ()


def static() -> Any:
    """Declare a field of a ``Module`` to be configuration: hashable, and no child of the tree.

    Returns:
        A marker, for ``name: int = static()`` in the body of the class.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> class Scale(nn.Module):
        ...     power: int = nn.static()
        ...     def __init__(self, factor, power):
        ...         self.factor, self.power = factor, power
        >>> Scale(np.ones(3, np.float32), 2)
        Scale(
          power=2
          factor=float32[3]
        )
    """
    return _Static()


class _ModuleType(type):
    """Checks and freezes an instance once its ``__init__`` has returned."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        module = super().__call__(*args, **kwargs)
        module._check()
        object.__setattr__(module, "_frozen", True)
        return module


class Module(metaclass=_ModuleType):
    """Base of layers and models: an immutable pytree whose children are its array attributes.

    Subclasses are registered as pytrees. Attributes are assigned in ``__init__`` only; what is not
    an array, a module or a container of them (tuple, list, dict, None) is declared with
    ``static()``. ``replace`` makes a changed copy.

    Raises:
        TreeError: An attribute that is no array is not declared static, a static one is not
            hashable, or a declared one was not assigned.
        FrozenModuleError: An attribute is assigned or deleted after ``__init__``.

    Example:
        >>> import numpy as np
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> class Affine(nn.Module):
        ...     def __init__(self, slope, offset):
        ...         self.slope, self.offset = slope, offset
        ...     def __call__(self, x):
        ...         return self.slope * x + self.offset
        >>> model = Affine(np.float32(2.0), np.float32(1.0))
        >>> print(fg.grad(lambda m: m(3.0))(model).slope)
        3.0
    """

    _static_names: ClassVar[tuple[str, ...]] = ()
    _frozen: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = [name for name, value in vars(cls).items() if isinstance(value, _Static)]
        for name in own:
            delattr(cls, name)
        cls._static_names = tuple(dict.fromkeys((*cls._static_names, *own)))
        tree_util.register_pytree_with_keys(cls, _flatten_with_keys, cls._unflatten, _flatten)

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_change(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._refuse_change(name)
        object.__delattr__(self, name)

    def __repr__(self) -> str:
        return _describe(self, "")

    def replace(self: M, **changes: Any) -> M:
        """A copy with other values for some attributes.

        Args:
            **changes: New values by attribute name.

        Returns:
            A module of the same class; what is not named is shared with this one.

        Raises:
            ArgumentError: The module has no such attribute.

        Example:
            >>> import numpy as np
            >>> import fgrad.nn as nn
            >>> layer = nn.LayerNorm(2)
            >>> print(layer.replace(bias=np.full(2, 0.5, np.float32)).bias)
            [0.5 0.5]
        """
        fields = _fields(self)
        unknown = sorted(changes.keys() - fields.keys())
        if unknown:
            message = (
                f"{type(self).__name__}.replace: no attribute {', '.join(unknown)}; "
                f"it has {', '.join(fields)}"
            )
            raise ArgumentError(message)
        copy = _build(type(self), {**fields, **changes}.items())
        copy._check()
        return copy

    def state_dict(self) -> dict[str, Value]:
        """The arrays of the module by their dotted names.

        Returns:
            A dict in the order of the tree, such as ``{"layers.0.weight": …}``.

        Example:
            >>> import fgrad.nn as nn
            >>> list(nn.LayerNorm(2).state_dict())
            ['weight', 'bias']
        """
        leaves, _ = tree_util.tree_flatten_with_path(self)
        return {_dotted(path): leaf for path, leaf in leaves}

    def load_state_dict(self: M, state: Mapping[str, Value]) -> M:
        """A copy with the arrays of ``state`` in place of its own.

        Args:
            state: Arrays by dotted name, as ``state_dict`` returns them; each in the shape of the
                array that it replaces. Their dtypes are kept.

        Returns:
            A module of the same structure.

        Raises:
            TreeError: A name is missing or unknown.
            ShapeError: A shape differs.

        Example:
            >>> import numpy as np
            >>> import fgrad.nn as nn
            >>> state = {"weight": np.full(2, 3.0, np.float32), "bias": np.zeros(2, np.float32)}
            >>> print(nn.LayerNorm(2).load_state_dict(state).weight)
            [3. 3.]
        """
        own = self.state_dict()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            message = (
                f"{type(self).__name__}.load_state_dict: missing {missing}, unknown {unknown}; "
                "the names are those of state_dict()"
            )
            raise TreeError(message)
        for name, old in own.items():
            if tuple(old.shape) != tuple(state[name].shape):
                message = (
                    f"{type(self).__name__}.load_state_dict: {name} is {list(old.shape)}, "
                    f"got {list(state[name].shape)}"
                )
                raise ShapeError(message)
        _, structure = tree_util.tree_flatten(self)
        loaded: M = tree_util.tree_unflatten(structure, [state[name] for name in own])
        return loaded

    @classmethod
    def _unflatten(cls: type[M], aux: Any, children: Iterable[Any]) -> M:
        names, statics = aux
        return _build(cls, [*statics, *zip(names, children, strict=True)])

    def _refuse_change(self, name: str) -> None:
        if self._frozen:
            message = (
                f"{type(self).__name__}.{name}: modules are immutable; "
                f"use module.replace({name}=…), which makes a copy"
            )
            raise FrozenModuleError(message)

    def _check(self) -> None:
        fields = _fields(self)
        where = type(self).__name__
        for name in self._static_names:
            if name not in fields:
                message = f"{where}.{name} is declared static but __init__ did not assign it"
                raise TreeError(message)
            _check_hashable(f"{where}.{name}", fields[name])
        for name, value in fields.items():
            if name not in self._static_names:
                _check_child(f"{where}.{name}", value)


def _check_hashable(where: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError as error:
        message = (
            f"{where} is static and must be hashable, got a {type(value).__name__}; "
            "use a tuple in place of a list, or do not declare an array static"
        )
        raise TreeError(message) from error


def _check_child(where: str, value: Any) -> None:
    for leaf in tree_util.tree_leaves(value):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            name = where.rpartition(".")[2]
            message = (
                f"{where} holds a {type(leaf).__name__} ({leaf!r}), which is no array; declare it "
                f"in the class as `{name} = static()`, or make it an array"
            )
            raise TreeError(message)


def _fields(module: Module) -> dict[str, Any]:
    """All attributes: the static ones as declared, then the children as assigned."""
    assigned = vars(module)
    fields = {k: assigned[k] for k in module._static_names if k in assigned}
    return fields | {k: v for k, v in assigned.items() if k not in fields and k != "_frozen"}


def _build(cls: type[M], fields: Iterable[tuple[str, Any]]) -> M:
    """An instance with these attributes, made without ``__init__`` and without checks.

    Transforms put placeholders, bools or None where the arrays were.
    """
    module = object.__new__(cls)
    vars(module).update(fields)
    object.__setattr__(module, "_frozen", True)
    return module


def _split(module: Module) -> tuple[dict[str, Any], Any]:
    statics = module._static_names
    children = {k: v for k, v in vars(module).items() if k not in statics and k != "_frozen"}
    aux = (tuple(children), tuple((k, vars(module)[k]) for k in statics))
    return children, aux


def _flatten(module: Module) -> tuple[tuple[Any, ...], Any]:
    children, aux = _split(module)
    return tuple(children.values()), aux


def _flatten_with_keys(module: Module) -> tuple[tuple[tuple[Any, Any], ...], Any]:
    children, aux = _split(module)
    return tuple((tree_util.GetAttrKey(k), v) for k, v in children.items()), aux


def _dotted(path: Iterable[Any]) -> str:
    parts = []
    for entry in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return ".".join(parts)


def _describe(value: Any, indent: str) -> str:
    """Text of a part of a module: one line for an array, a block for what has parts."""
    inner = indent + "  "
    if isinstance(value, Module):
        lines = [f"{inner}{k}={_describe(v, inner)}" for k, v in _fields(value).items()]
        opening, closing = f"{type(value).__name__}(", ")"
    elif isinstance(value, dict) and value:
        lines = [f"{inner}{k!r}: {_describe(v, inner)}" for k, v in value.items()]
        opening, closing = "{", "}"
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (Module, dict)) for v in value):
        lines = [f"{inner}{_describe(v, inner)}" for v in value]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    else:
        return getattr(value, "__name__", None) or repr(value)
    if not lines:
        return opening + closing
    return "\n".join([opening, *lines, indent + closing])
