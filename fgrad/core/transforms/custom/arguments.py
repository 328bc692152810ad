"""Arguments of functions with rules: which are differentiated, and which are not."""

import functools
from collections.abc import Sequence
from functools import partial
from typing import Any

from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import (
    CustomRuleError,
    FgradError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Value,
)
from fgrad.core.tracing import running_again, state
from fgrad.core.transforms.custom.shared import Fun, Identity, Values, check_outputs
from fgrad.core.transforms.flat import name_of
from fgrad.core.transforms.stage import stage

_MAXSIZE = 64  # signatures whose rules were checked, kept a function


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
        if not callable(fun):
            raise CustomRuleError(
                f"{type(self).__name__} takes a function, got {type(fun).__name__}"
            )
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.identity = Identity(name_of(fun))
        self.nondiff_argnums = tuple(nondiff_argnums)
        self.checked: dict[Any, None] = {}

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


class CustomCall:
    """One call of a function with rules, over flat values.

    Attributes:
        owner: The function with its rules.
        name: How messages call it.
        static: Arguments that are not differentiated.
        moving: Positions of those that are.
        tree: Structure of those.
        avals: Types of their leaves.
        out_tree: Structure of what the function or a rule returned last.
        fun_types: Structure and types of what the function itself returns, once it has run.
    """

    __slots__ = (
        "avals", "full", "fun_types", "moving", "name", "out_tree", "owner", "static", "tree",
    )  # fmt: skip

    def __init__(self, owner: Custom, full: list[Any]) -> None:
        self.owner = owner
        self.name = name_of(owner.fun)
        self.full = full
        self.static, self.moving = bind_arguments(self.name, full, owner.nondiff_argnums)
        self.out_tree: Any = None
        self.fun_types: tuple[Any, list[ShapedArray]] | None = None

    def flatten(self) -> list[Value]:
        """The values of the arguments that are differentiated."""
        leaves, self.tree = trees.flatten([self.full[i] for i in self.moving])
        values = [as_value(x) for x in leaves]
        self.avals = [v.aval for v in values]
        for i in self.moving:  # a program that is staged keeps this call, not its arguments
            self.full[i] = None
        return values

    def arguments(self, flat: Values) -> list[Any]:
        """All arguments of the function, those that are differentiated taken from `flat`."""
        args = list(self.full)
        for i, part in zip(self.moving, trees.unflatten(self.tree, flat), strict=True):
            args[i] = part
        return args

    def fun(self, *flat: Value) -> list[Value]:
        """Flat results of the function."""
        leaves, tree = trees.flatten(self.owner.fun(*self.arguments(flat)))
        values = [as_value(x) for x in leaves]
        self.out_tree = tree
        self.fun_types = (tree, [v.aval for v in values])
        return values

    def check(self, rule: str, flat: Values, tree: Any, outs: Values) -> None:
        """Raise unless a rule returned what the function returns, once for each signature.

        Args:
            rule: 'fwd' or 'jvp'.
            flat: The arguments, which the function is run on where it cannot be traced.
            tree: Structure of what the rule returned.
            outs: Its leaves.
        """
        if self.fun_types is None:
            signature: Any = (
                rule, self.tree, tuple(self.avals), tuple(self.static), config.trace_key(),
                tuple((a.name, a.size) for a in state.axes),
            )  # fmt: skip
            checked = self.owner.checked
            try:
                if signature in checked:
                    self.out_tree = tree
                    return
            except TypeError:  # an argument that is not hashable: checked at each call
                signature = None
            want_tree, want = self._types(flat)
        else:
            signature = None
            want_tree, want = self.fun_types
        if tree != want_tree:
            raise CustomRuleError(
                f"the {rule} rule of {self.name} returned an output {tree}, the function "
                f"{want_tree}: they must be the same tree"
            )
        check_outputs(self.name, rule, [y.aval for y in outs], want)
        self.out_tree = tree
        if signature is not None:
            checked[signature] = None
            while len(checked) > _MAXSIZE:
                checked.pop(next(iter(checked)), None)

    def _types(self, flat: Values) -> tuple[Any, list[ShapedArray]]:
        """What the function returns: traced, or run where it needs the values."""
        with running_again():
            try:
                stage(self.fun, self.avals, self.name)
            except Exception:  # noqa: BLE001 - what tracing cannot do, running the function can
                self.fun(*flat)
        found = self.fun_types
        assert found is not None
        # This call runs the rule: a later one, with other values, is checked by its own.
        self.fun_types = None
        return found
