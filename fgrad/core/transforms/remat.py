"""`checkpoint`: keep less, compute again in the backward pass."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import (
    Absent,
    Case,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Spec,
    Value,
)
from fgrad.core.program import run_program
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.grad import FlatCall, Residual, name_of, vjp
from fgrad.core.transforms.jaxprs import batch_jaxpr, jvp_jaxpr, linearize_jaxpr
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed

Fun = Callable[..., Any]
Policy = Callable[..., bool]
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
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        static = {i % len(args) for i in numbers} if args else set()
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
)


# ------------------------------------------------------------------------------ named values

name_p = Primitive(
    "name",
    "The value itself, under a name that checkpoint policies see.",
    abstract=lambda x, *, name: x,
    eager=lambda _xp, x, *, name: x,
    jvp=lambda ps, ts, **params: (
        bind(name_p, *ps, **params),
        None if ts[0] is None else bind(name_p, *ts, **params),
    ),
    transpose=lambda ct, _x, **params: (bind(name_p, ct, **params),),
    vjp=basis.linear_pullback(lambda ct, _x, **_params: (ct,)),
    batch=lambda _axis, args, dims, **params: (bind(name_p, *args, **params), dims[0]),
    lower=Lowering("view", "identity"),
    linear="jointly",
    spec=Spec(cases=(Case("...", {"name": "x"}),), reference=lambda x, *, name: x, ulps=0.0),
)


def checkpoint_name(x: Any, name: str) -> Any:
    """`x` itself, under a name for `save_only_these_names` and its kin.

    Args:
        x: An array or a tree of arrays.
        name: The name.
    """
    return trees.tree_map(lambda leaf: bind(name_p, as_value(leaf), name=name), x)


# ---------------------------------------------------------------------------------- policies


def everything_saveable(*_avals: Any, **_params: Any) -> bool:
    """Keep whatever the pullbacks ask for."""
    return True


def nothing_saveable(*_avals: Any, **_params: Any) -> bool:
    """Keep the inputs alone."""
    return False


class _NamedPolicy:
    """A policy that compares by what made it, so that caches find it again.

    Attributes:
        drops: Names whose values are not kept even where another equation made them.
    """

    __slots__ = ("drops", "key", "policy")

    def __init__(self, policy: Policy, key: Any, drops: frozenset[str] = frozenset()) -> None:
        self.policy = policy
        self.key = key
        self.drops = drops

    def __call__(self, prim: Any, *avals: Any, **params: Any) -> bool:
        return self.policy(prim, *avals, **params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NamedPolicy) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return str(self.key[0])


_PRODUCTS = ("dot_general", "conv_general_dilated")


def dots_saveable(prim: Any, *_avals: Any, **_params: Any) -> bool:
    """Keep the results of matrix products and convolutions."""
    return prim.name in _PRODUCTS


def dots_with_no_batch_dims_saveable(prim: Any, *_avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products without batch dimensions."""
    if prim.name != "dot_general":
        return False
    (_, _), (lhs_batch, rhs_batch) = params["dimension_numbers"]
    return not lhs_batch and not rhs_batch


def save_only_these_names(*names: str) -> Policy:
    """Keep only values named by `checkpoint_name` with one of these names."""
    kept = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] in kept

    return _NamedPolicy(policy, ("save_only_these_names", kept))


def save_any_names_but_these(*names: str) -> Policy:
    """Keep values named by `checkpoint_name`, but not with one of these names."""
    dropped = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return prim is name_p and params["name"] not in dropped

    return _NamedPolicy(policy, ("save_any_names_but_these", dropped))


def save_anything_except_these_names(*names: str) -> Policy:
    """Keep whatever the pullbacks ask for, but not values named with one of these names.

    The value that carries the name and the one it was made from are the same array: neither is
    kept.
    """
    dropped = frozenset(names)

    def policy(prim: Any, *_avals: Any, **params: Any) -> bool:
        return not (prim is name_p and params["name"] in dropped)

    return _NamedPolicy(policy, ("save_anything_except_these_names", dropped), dropped)


def save_from_both_policies(first: Policy, second: Policy) -> Policy:
    """Keep what either policy keeps."""

    def policy(prim: Any, *avals: Any, **params: Any) -> bool:
        return first(prim, *avals, **params) or second(prim, *avals, **params)

    drops = getattr(first, "drops", frozenset()) & getattr(second, "drops", frozenset())
    return _NamedPolicy(policy, ("save_from_both_policies", first, second), drops)


# -------------------------------------------------------------------------- saved_residuals


class SavedResiduals(list[Residual]):
    """What reverse mode keeps between its passes; prints as a table in bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(r.nbytes for r in self)

    def __repr__(self) -> str:
        rows = "\n".join(f"{r.nbytes:>12,} B  {r}" for r in sorted(self, key=lambda r: -r.nbytes))
        return f"{rows}\n{self.nbytes:>12,} B  in all"


def saved_residuals(fun: Fun, *args: Any, **kwargs: Any) -> SavedResiduals:
    """What reverse mode of ``fun(*args, **kwargs)`` keeps, each value once.

    Args:
        fun: Function of arrays or trees of arrays.
        *args: Differentiated arguments.
        **kwargs: Keyword arguments, not differentiated.

    Returns:
        A list of `Residual` that prints as a table.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.saved_residuals(lambda x: fnp.sin(x).sum(), fnp.ones(4)).nbytes
        16
    """
    _, pullback = vjp(lambda *a: fun(*a, **kwargs), *args)
    return SavedResiduals(pullback.residuals)
