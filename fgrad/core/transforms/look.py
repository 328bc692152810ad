"""Looking at functions as programs: make_jaxpr, eval_shape, closure_convert."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import TreeError
from fgrad.core.ir import ClosedJaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import Tracer, entering, is_open, state
from fgrad.core.transforms.flat import FlatCall, aval_like, check_callable, static_positions
from fgrad.core.transforms.stage import eval_jaxpr, stage

Fun = Callable[..., Any]


def make_jaxpr(
    fun: Fun, static_argnums: int | Sequence[int] = (), return_shape: bool = False
) -> Fun:
    """A function that shows `fun` as a program.

    Args:
        fun: Function of arrays or trees of arrays.
        static_argnums: Positional arguments that are not traced.
        return_shape: Return the output's types as well.

    Returns:
        A function of the same arguments (anything with `shape` and `dtype` will do) that returns
        a `ClosedJaxpr`, or the pair (`ClosedJaxpr`, tree of `ShapedArray`).

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.make_jaxpr(lambda x: fnp.sin(x) * 2.0)(1.0)
        { lambda ; a:f32[]. let
            b:f32[] = sin a
            c:f32[] = mul b 2.0:f32[]
          in (c,) }
    """
    check_callable(fun)
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    def traced(*args: Any, **kwargs: Any) -> Any:
        static = static_positions(fun, numbers, len(args))
        moving = [i for i in range(len(args)) if i not in static]
        leaves, tree = trees.flatten(([args[i] for i in moving], kwargs))

        def run(parts: Sequence[Any], keywords: dict[str, Any]) -> Any:
            full = list(args)
            for i, part in zip(moving, parts, strict=True):
                full[i] = part
            return fun(*full, **keywords)

        call = FlatCall(run, lambda *flat: trees.unflatten(tree, flat), {})
        with entering():
            jaxpr, consts = stage(call, [aval_like(x) for x in leaves], "make_jaxpr")
        closed = ClosedJaxpr(jaxpr, consts)
        if return_shape:
            return closed, trees.unflatten(call.out_tree, jaxpr.out_avals)
        return closed

    return traced


def eval_shape(fun: Fun, *args: Any, **kwargs: Any) -> Any:
    """The types that ``fun(*args, **kwargs)`` returns, without computing anything.

    Args:
        fun: Function of arrays or trees of arrays.
        *args: Arrays, or anything with `shape` and `dtype`.
        **kwargs: Likewise.

    Returns:
        The output's tree, with a `ShapedArray` for each array.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.eval_shape(lambda x: x @ x.T, np.ones((2, 3), np.float32))
        f32[2,2]
    """
    return make_jaxpr(fun, return_shape=True)(*args, **kwargs)[1]


def closure_convert(fun: Fun, *example_args: Any) -> tuple[Fun, list[Value]]:
    """`fun` without its closed-over tracers: they become arguments.

    Args:
        fun: Function that may close over values being differentiated or mapped.
        *example_args: Arguments that say the types.

    Returns:
        ``(converted, values)`` with ``fun(*args) == converted(*args, *values)``. Pass `values` to
        a function with its own derivative rule, so that their derivative is not lost.

    Example:
        >>> import fgrad as fg
        >>> converted, values = fg.closure_convert(lambda x: x * 2.0, 1.0)
        >>> converted(3.0, *values)
        Array(6., dtype=float32, weak_type=True)
    """
    leaves, tree = trees.flatten(example_args)
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {})
    with entering():
        jaxpr, consts = stage(call, [aval_like(x) for x in leaves], "closure_convert")
        hoisted = [c for c in consts if isinstance(c, Tracer) and is_open(c, state.trace)]

    def converted(*args: Any) -> Any:
        given, got = trees.flatten(args[: len(example_args)])
        if got != tree:
            raise TreeError(f"arguments must be a tree like {tree}, got {got}")
        moved = iter(args[len(example_args) :])
        full = [next(moved) if any(c is h for h in hoisted) else c for c in consts]
        with entering():
            return trees.unflatten(call.out_tree, eval_jaxpr(jaxpr, full, *given))

    return converted, hoisted


def types_of(tree: Any) -> list[ShapedArray]:
    """The type of each leaf of a tree."""
    return [aval_like(x) for x in trees.leaves(tree)]
