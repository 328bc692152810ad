"""Checks of user functions: their derivatives, their own derivative rules, their batching."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes, trees
from fgrad.core.errors import ArgumentError, DtypeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.testing import batching, laws, programs
from fgrad.testing import values as of_values
from fgrad.testing.functions import (
    Array,
    Flat,
    at,
    evaluate,
    inexact_only,
    pullback,
    pushforward,
    random_like,
    values,
)

Fun = Callable[..., Any]
_MODES = ("fwd", "rev")


def check_grads(
    f: Fun, args: Sequence[Any], order: int = 2, modes: Sequence[str] = _MODES, seed: int = 0
) -> None:
    """Check the derivatives of a function of pytrees against 5-point differences in float64.

    Each derivative is checked along a random direction and along one basis vector, reverse mode
    against forward mode, and both again for the derivatives themselves, up to `order`.

    Args:
        f: The function; smooth near `args`.
        args: Its arguments: pytrees of float64 or complex128 arrays (integers are held fixed).
        order: The highest order of derivative.
        modes: 'fwd', 'rev' or both.
        seed: Of the random directions.

    Raises:
        AssertionError: A derivative is wrong; the message names the order and the law.
        DtypeError: An argument is of a narrower float dtype, whose differences say nothing.
        ArgumentError: A mode is none of the two, or nothing can be differentiated.

    Example:
        >>> import fgrad as fg
        >>> check_grads(lambda x: fg.lax.sin(x["a"]), ({"a": np.array([0.3, 0.7])},))
    """
    if not modes or any(m not in _MODES for m in modes):
        raise ArgumentError(f"check_grads: modes are 'fwd' and 'rev', got {tuple(modes)}")
    flat, xs = _flat_function("check_grads", f, args)
    _check_order(flat, xs, order, modes, np.random.default_rng(seed))


def _check_order(
    f: Flat, xs: Sequence[Array], order: int, modes: Sequence[str], rng: np.random.Generator
) -> None:
    if not order:
        return
    n = len(xs)
    vs = [random_like(rng, x) for x in xs]
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    if "fwd" in modes:
        laws.law_jvp(f, xs, vs)
        laws.law_jvp_basis(f, xs, rng)
        laws.law_jvp_linear(f, xs, vs, [random_like(rng, x) for x in xs])
        _check_order(at(pushforward(f, n), *vs), xs, order - 1, modes, rng)
    if "rev" in modes:
        laws.law_vjp(f, xs, vs, cts)
        laws.law_vjp_linear(f, xs, cts, [random_like(rng, c) for c in cts])
        _check_order(at(pullback(f, n), *cts), xs, order - 1, modes, rng)
    if "fwd" in modes and "rev" in modes:
        laws.law_adjoint(f, xs, vs, cts)


def check_custom_vjp(f: Fun, args: Sequence[Any], seed: int = 0) -> None:
    """Check the rules of a `custom_vjp` function against the function itself.

    The value that its `fwd` returns must be that of the function, its `bwd` must be linear in the
    cotangent, give zero for zero, and be the derivative that 5-point differences of the function
    show.

    Args:
        f: The function, with rules.
        args: Pytrees of float64 or complex128 arrays where it is smooth.
        seed: Of the random directions.

    Raises:
        AssertionError: A rule is wrong.
        DtypeError: An argument is of a narrower float dtype, whose differences say nothing.

    Example:
        >>> import fgrad as fg
        >>> f = fg.custom_vjp(lambda x: fg.lax.sin(x))
        >>> f.defvjp(lambda x: (fg.lax.sin(x), x), lambda x, ct: (ct * fg.lax.cos(x),))
        >>> check_custom_vjp(f, (np.array(0.5),))
    """
    flat, xs = _flat_function("check_custom_vjp", f, args)
    rng = np.random.default_rng(seed)
    vs = [random_like(rng, x) for x in xs]
    cts, ds = ([random_like(rng, y) for y in evaluate(flat, xs)] for _ in range(2))
    laws.law_value_kept(flat, xs)
    laws.law_vjp(flat, xs, vs, cts)
    laws.law_vjp_linear(flat, xs, cts, ds)


def check_laws(f: Fun, args: Sequence[Any], order: int = 3, seed: int = 0) -> None:
    """Check a function of pytrees against every law that needs no reference.

    Derivatives up to `order` in all modes and mixes of modes; `vmap`, nested and of derivatives;
    staging, every pass and `jit`; checkpoint; purity. It takes a second or so.

    Args:
        f: The function; smooth near `args`.
        args: Pytrees of float64 or complex128 arrays (integers are held fixed).
        order: The highest order of derivative, up to 3.
        seed: Of all random choices.

    Raises:
        AssertionError: A law does not hold; the message names it.
        DtypeError: An argument is of a narrower float dtype, whose differences say nothing.

    Example:
        >>> import fgrad as fg
        >>> check_laws(lambda x: fg.lax.sin(x) * x, (np.array([0.3, 0.7]),))
    """
    flat, xs = _flat_function("check_laws", f, args)
    rng = np.random.default_rng(seed)
    of_values.law_pure(flat, xs)
    laws.first_order(flat, xs, rng)
    of_values.law_backward_twice(flat, xs, rng)
    if order >= 2:
        laws.law_order_2(flat, xs, rng)
        laws.law_hessian(flat, xs, rng)
    if order >= 3:
        laws.law_order_3(flat, xs, rng)
    _check_batches(flat, xs, order, rng)
    programs.law_passes(flat, xs)
    programs.law_jit(flat, xs)
    programs.law_jit_derivatives(flat, xs, rng)
    programs.law_checkpoint(flat, xs, rng)
    programs.law_identity_rules(flat, xs, rng)


def _check_batches(f: Flat, xs: Sequence[Array], order: int, rng: np.random.Generator) -> None:
    dims = batching.random_dims(xs, rng)
    rows = [[x * (1 + 0.01 * k) for x in xs] for k in (1, 2)]
    for size in (3, 1, 0):
        batching.law_vmap(f, batching.stack(xs, rows, dims, size), dims, size)
    batching.law_vmap_nested(f, batching.stack(xs, rows, dims, 2), dims, 2, rng)
    batching.law_vmap_derivatives(f, xs, rng)
    if not any(a.dtype.kind == "c" for a in (*xs, *evaluate(f, xs))):
        batching.law_jacobian(f, xs)
    if order >= 2:
        batching.law_second_order_vmap(f, xs, rng)


def check_vmap(f: Fun, args: Sequence[Any], in_axes: Any = 0) -> None:
    """Check that `vmap` of a function is a loop over the mapped axis.

    Args:
        f: The function of one element.
        args: Batches: pytrees of arrays.
        in_axes: The mapped axis of each argument (None: the same for all), or one for all.

    Raises:
        AssertionError: The batch differs from the loop.
        ArgumentError: Axes and arguments do not match, or nothing is mapped.

    Example:
        >>> import fgrad as fg
        >>> check_vmap(fg.lax.sin, (np.ones((3, 2)),), in_axes=1)
    """
    axes = list(in_axes) if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
    if len(axes) != len(args):
        raise ArgumentError(f"check_vmap: {len(axes)} axes for {len(args)} arguments")
    leaves, tree = trees.flatten(tuple(args))
    counts = [len(trees.flatten(a)[0]) for a in args]
    dims = [d for d, n in zip(axes, counts, strict=True) for _ in range(n)]
    arrays = [_array("check_vmap", x) for x in leaves]
    sizes = {x.shape[d] for x, d in zip(arrays, dims, strict=True) if d is not None}
    if len(sizes) != 1:
        raise ArgumentError(
            f"check_vmap: the mapped axes need one length, got {sorted(sizes) or 'no mapped axis'}"
        )
    positive = [None if d is None else d % x.ndim for x, d in zip(arrays, dims, strict=True)]

    def flat(*xs: Any) -> list[Any]:
        return [as_value(y) for y in trees.flatten(f(*trees.unflatten(tree, xs)))[0]]

    batching.law_vmap(flat, arrays, positive, sizes.pop())


def _array(name: str, leaf: Any) -> Array:
    value = as_value(leaf)
    if type(value) is not ArrayImpl:
        raise ArgumentError(f"{name} needs concrete arrays, got the traced {value.aval}")
    return np.asarray(value._data)


def _flat_function(name: str, f: Fun, args: Sequence[Any]) -> tuple[Flat, list[Array]]:
    """`f` as a flat function of its inexact leaves, with inexact results only."""
    leaves, tree = trees.flatten(tuple(args))
    arrays = [
        np.asarray(x, np.float64) if type(x) is float
        else np.asarray(x, np.complex128) if type(x) is complex
        else _array(name, x)
        for x in leaves
    ]  # fmt: skip
    active = [i for i, x in enumerate(arrays) if dtypes.is_inexact(x.dtype)]
    for i in active:
        if arrays[i].dtype not in (np.float64, np.complex128):
            raise DtypeError(
                f"{name} takes numerical differences, which need float64 or complex128 arguments; "
                f"leaf {i} is {arrays[i].dtype}{list(arrays[i].shape)}: convert it with astype"
            )
    if not active:
        raise ArgumentError(f"{name}: no argument is a float or complex array")

    def flat(*xs: Any) -> list[Any]:
        full = values(arrays)
        for i, x in zip(active, xs, strict=True):
            full[i] = x
        out = f(*trees.unflatten(tree, full))
        return [as_value(y) for y in trees.flatten(out)[0]]

    return inexact_only(flat), [arrays[i] for i in active]
