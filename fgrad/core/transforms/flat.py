"""Functions of trees as functions of flat values."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError, DtypeError, StaticArgumentError, TreeError
from fgrad.core.evaluate import as_value, borrow
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, Tracer
from fgrad.core.tree_registry import keystr

Fun = Callable[..., Any]


class FlatCall:
    """A call of `fun` as a function of flat values; remembers the structure of its result.

    Args:
        fun: The user's function.
        rebuild: From flat values to its positional arguments.
        kwargs: Keyword arguments, passed on as they are.
        has_aux: Whether `fun` returns (result, auxiliary data).
    """

    __slots__ = ("aux_count", "aux_leaves", "aux_tree", "fun", "has_aux", "kwargs", "out_tree",
                 "rebuild")  # fmt: skip

    def __init__(
        self, fun: Fun, rebuild: Callable[..., Sequence[Any]], kwargs: dict[str, Any],
        *, has_aux: bool = False,
    ) -> None:  # fmt: skip
        check_callable(fun)
        self.fun = fun
        self.rebuild = rebuild
        self.kwargs = kwargs
        self.has_aux = has_aux
        self.out_tree: Any = None
        self.aux_tree: Any = None
        self.aux_leaves: list[Any] = []
        self.aux_count = 0

    def __call__(self, *values: Value) -> list[Value]:
        """Flat results; with auxiliary data, its traced leaves follow them."""
        out = self.fun(*self.rebuild(*values), **self.kwargs)
        traced_aux = []
        if self.has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise TreeError(
                    f"has_aux=True needs {name_of(self.fun)} to return a pair (output, auxiliary "
                    f"data), got {type(out).__name__}"
                )
            out, aux = out
            self.aux_leaves, self.aux_tree = trees.flatten(aux)
            traced_aux = [x for x in self.aux_leaves if isinstance(x, Tracer)]
            self.aux_count = len(traced_aux)
        leaves, self.out_tree = trees.flatten(out)
        return [*leaves, *traced_aux]

    def aux(self, values: Sequence[Value]) -> Any:
        """The auxiliary data, with the values that its tracers stood for."""
        given = iter(values)
        leaves = [next(given) if isinstance(x, Tracer) else x for x in self.aux_leaves]
        return trees.unflatten(self.aux_tree, leaves)


def check_callable(fun: Any) -> None:
    """Raise unless `fun` can be transformed."""
    if not callable(fun):
        raise ArgumentError(f"expected a function to transform, got {type(fun).__name__}")


def static_positions(fun: Any, numbers: Sequence[int], count: int) -> set[int]:
    """Positions of static arguments, counted from the front, of a call with `count` arguments."""
    beyond = [n for n in numbers if not -count <= n < count]
    if beyond:
        raise StaticArgumentError(
            f"static_argnums {tuple(beyond)} name no argument of {name_of(fun)}, which was called "
            f"with {count}; static arguments must be passed by position"
        )
    return {n % count for n in numbers}


def name_of(fun: Any) -> str:
    """How messages call a function."""
    return getattr(fun, "__name__", None) or type(fun).__name__


def refused(words: str, args: Iterable[tuple[Any, Any]], advice: str) -> DtypeError:
    """The error for arguments with a leaf that is no value: it says where the first one is.

    Args:
        words: The transform and the function.
        args: The arguments, each with its name or number.
        advice: What to do with such a leaf.
    """
    for name, arg in args:
        for path, leaf in trees.flatten_with_path(arg)[0]:
            try:
                borrow(leaf)
            except DtypeError as error:
                reason = str(error).partition("\n")[0]
                told = f"{words}: argument {name}{keystr(path)}: {reason}"
                if hasattr(leaf, "__dlpack__"):  # an array, of a dtype or library that is not held
                    return DtypeError(told)
                if type(leaf).__module__ != "builtins":
                    advice += ", or register its class with fgrad.tree_util"
                return DtypeError(f"{told}; {advice}")
    raise AssertionError("refused is called where a leaf is no value")


def aval_like(x: Any) -> ShapedArray:
    """The type of an array, a number, or anything with `shape` and `dtype`."""
    if isinstance(x, ShapedArray):
        return x
    if not isinstance(x, (Array, np.ndarray, np.generic)) and hasattr(x, "shape"):
        return ShapedArray(tuple(x.shape), np.dtype(x.dtype), bool(getattr(x, "weak_type", False)))
    return as_value(x).aval  # type: ignore[no-any-return]
