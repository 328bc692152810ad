"""`checkpoint`: keep less, compute again in the backward pass."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.errors import ArgumentError
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import (
    Absent,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Value,
)
from fgrad.core.program import run_program
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.flat import FlatCall, name_of, static_positions
from fgrad.core.transforms.jaxprs import batch_jaxpr, jvp_jaxpr, linearize_jaxpr
from fgrad.core.transforms.policies import Policy, nothing_saveable
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed

Fun = Callable[..., Any]


Values = Sequence[Value]


def checkpoint(
    fun: Fun | None = None,
    *,
    prevent_cse: bool = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Fun:
    """A function whose intermediate values are not kept for reverse mode, but computed again.

    Args:
        fun: Function of arrays or trees of arrays. Left out: a decorator is returned.
        prevent_cse: Accepted for compatibility. Recomputation carries a phase of its own, so it
            is never merged with the first run.
        policy: ``(primitive, *avals, **params) -> bool``: which results may be kept all the same;
            see `fgrad.checkpoint_policies`. None keeps only the inputs.
        static_argnums: Positional arguments that are not arrays, as for `jit`.

    Returns:
        A function of the same arguments and results.

    Source:
        Griewank and Walther, *Algorithm 799: revolve*, ACM TOMS 26(1), 2000; policies as in JAX.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.grad(fg.checkpoint(lambda x: fnp.sin(fnp.sin(x))))(0.0)
        Array(1., dtype=float32)
    """
    if fun is None:
        return functools.partial(
            checkpoint, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums
        )
    if not callable(fun):
        raise ArgumentError(f"checkpoint takes a function, got {type(fun).__name__}")
    if policy is not None and not callable(policy):
        raise ArgumentError(
            f"checkpoint of {name_of(fun)}: policy must be a function such as those of "
            f"fgrad.checkpoint_policies, got {policy!r}"
        )
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        static = static_positions(fun, numbers, len(args))
        moving = [i for i in range(len(args)) if i not in static]
        leaves, tree = trees.flatten(([args[i] for i in moving], kwargs))
        values = [as_value(x) for x in leaves]

        def run(*call_args: Any) -> Any:
            parts, keywords = call_args
            full = list(args)
            for i, part in zip(moving, parts, strict=True):
                full[i] = part
            return fun(*full, **keywords)

        call = FlatCall(run, lambda *flat: trees.unflatten(tree, flat), {})
        with entering():
            jaxpr, consts = stage_closed(call, [v.aval for v in values], "checkpoint")
            if jaxpr.key_uses is not None:
                jaxpr.key_uses.call([*consts, *values], name_of(fun))
            outs = bind(
                remat_p, *consts, *values, jaxpr=jaxpr, policy=policy or nothing_saveable,
                name=name_of(fun),
            )  # fmt: skip
        return trees.unflatten(call.out_tree, outs)

    return checkpointed


def _jvp(
    primals: Values, tangents: Sequence[Value | None], *, jaxpr: Jaxpr, policy: Policy, name: str
) -> tuple[list[Value], list[Value | None]]:
    program, nonzero = jvp_jaxpr(jaxpr, [t is not None for t in tangents])
    moving = [t for t in tangents if t is not None]
    results = bind(remat_p, *primals, *moving, jaxpr=program, policy=policy, name=name)
    n = len(jaxpr.outvars)
    given = iter(results[n:])
    return results[:n], [next(given) if nz else None for nz in nonzero]


def _forward(
    needed: tuple[bool, ...], primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    jaxpr = params["jaxpr"]
    cut = linearize_jaxpr(jaxpr, needed, params["policy"])
    results = eval_jaxpr(cut.forward, (), *primals)
    n = len(jaxpr.outvars)
    return results[:n], (*results[n:], cut)


def _backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], cts: Sequence[Value | None],
    _params: dict[str, Any],
) -> list[Value | None]:  # fmt: skip
    *kept, cut = residuals
    given = [
        basis.zeros(a.tangent()) if ct is None else ct
        for ct, a, on in zip(cts, cut.forward.out_avals, cut.active, strict=False)
        if on
    ]
    back = iter(eval_jaxpr(cut.backward, (), *kept, *given))
    return [next(back) if n else None for n in needed]


def _batch(
    axis: MappedAxis, args: Values, dims: Sequence[int | None], *,
    jaxpr: Jaxpr, policy: Policy, name: str,
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    moved = [x if d is None else basis.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    program, mapped = batch_jaxpr(jaxpr, axis, [d is not None for d in dims])
    outs = bind(remat_p, *moved, jaxpr=program, policy=policy, name=name)
    return outs, [0 if m else None for m in mapped]


remat_p = Primitive(
    "checkpoint",
    "A program whose intermediate values reverse mode computes again.",
    abstract=lambda *_avals, jaxpr, **_params: jaxpr.out_avals,
    eager=lambda xp, *arrays, jaxpr, **_params: run_program(jaxpr, xp, arrays),
    jvp=_jvp,
    transpose=Absent("its program is linearized, not transposed"),
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    lower=Lowering("call", "jaxpr"),
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
