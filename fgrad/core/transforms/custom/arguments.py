"""Arguments of functions with rules: which are differentiated, and which are not."""

import functools
from collections.abc import Sequence
from functools import partial
from typing import Any

from fgrad.core import trees
from fgrad.core.errors import (
    CustomRuleError,
    FgradError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Value,
)
from fgrad.core.transforms.custom.shared import Fun, Identity
from fgrad.core.transforms.flat import name_of


def bind_arguments(
    name: str, args: Sequence[Any], nondiff: Sequence[int]
) -> tuple[list[Any], list[int]]:
    """Arguments that are not differentiated, and the positions of those that are."""
    count = len(args)
    static = sorted(i + count if i < 0 else i for i in nondiff)
    if any(not 0 <= i < count for i in static):
        raise CustomRuleError(
            f"nondiff_argnums {tuple(nondiff)} of {name} name arguments beyond the {count} given"
        )
    return [args[i] for i in static], [i for i in range(count) if i not in static]


class Custom:
    """What custom_jvp and custom_vjp share: a function, and which arguments have no derivative."""

    def __init__(self, fun: Fun, nondiff_argnums: Sequence[int] = ()) -> None:
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.identity = Identity(name_of(fun))
        self.nondiff_argnums = tuple(nondiff_argnums)

    def __get__(self, instance: Any, _owner: Any = None) -> Any:
        return self if instance is None else partial(self.__call__, instance)

    def _resolve(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        if not kwargs and not getattr(self.fun, "__defaults__", None):
            return list(args)
        import inspect  # noqa: PLC0415 - slow to import, and rarely needed

        bound = inspect.signature(self.fun).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise CustomRuleError(
                f"{name_of(self.fun)} has keyword-only arguments {sorted(bound.kwargs)}, which a "
                f"derivative rule cannot see; make them positional"
            )
        return list(bound.args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the function, under its rules where it is transformed."""
        raise FgradError("abstract")  # pragma: no cover


def call_fun(
    fun: Fun, full: list[Any], moving: list[int], parts: Sequence[Any], out_tree: list[Any]
) -> list[Value]:
    """Flat results of the function; `out_tree` receives their tree."""
    args = list(full)
    for i, part in zip(moving, parts, strict=True):
        args[i] = part
    leaves, tree = trees.flatten(fun(*args))
    out_tree[:] = [tree]
    return [as_value(x) for x in leaves]
