"""The laws of `vmap` and of whole Jacobians (11 and 12)."""

import math
from collections.abc import Sequence

import numpy as np

from fgrad.testing.functions import (
    Array,
    Flat,
    arrays_of,
    at,
    basis_like,
    batched,
    batched_as_is,
    evaluate,
    inexact_only,
    pullback,
    pushforward,
    random_like,
    values,
)
from fgrad.testing.oracle import assert_near

Arrays = Sequence[Array]
Dims = Sequence[int | None]
Rng = np.random.Generator


def law_vmap(f: Flat, stacked: Arrays, dims: Dims, size: int, what: str = "vmap = loop") -> None:
    """11: f over a mapped axis = a loop over it, for any axes and sizes 0 and 1 too.

    Args:
        f: The function.
        stacked: Batches along `dims`, or operands that are the same for all.
        dims: The mapped axis of each, or None.
        size: Length of the mapped axis.
        what: Names the law in the message.
    """
    outs, out_dims = batched_as_is(f, size, dims, values(stacked))
    moved = [
        np.broadcast_to(x, (size, *x.shape)) if d is None else np.moveaxis(x, d, 0)
        for x, d in zip(arrays_of(outs), out_dims, strict=True)
    ]
    if not size:
        example = [
            x if d is None else np.zeros(x.shape[:d] + x.shape[d + 1 :], x.dtype)
            for x, d in zip(stacked, dims, strict=True)
        ]
        for got, one in zip(moved, evaluate(f, example), strict=True):
            assert got.shape == (0, *one.shape), f"{what} of size 0: shape {got.shape}"
            assert got.dtype == one.dtype, f"{what} of size 0: {got.dtype}"
        return
    rows = [evaluate(f, row(stacked, dims, i)) for i in range(size)]
    expected = [np.stack(column) for column in zip(*rows, strict=True)]
    assert_near(moved, expected, what)
    for got, one in zip(moved, expected, strict=True):
        assert got.dtype == one.dtype, f"{what}: {got.dtype} is not {one.dtype}"


def row(stacked: Arrays, dims: Dims, i: int) -> list[Array]:
    """The operands of element i of a batch."""
    return [x if d is None else np.take(x, i, d) for x, d in zip(stacked, dims, strict=True)]


def law_vmap_nested(f: Flat, stacked: Arrays, dims: Dims, size: int, rng: Rng) -> None:
    """11: `vmap` of `vmap` = a loop over the outer axis of the inner `vmap`."""
    outer = [int(rng.integers(x.ndim + 1)) if rng.integers(2) else None for x in stacked]
    if all(d is None for d in outer):
        outer[0] = 0
    twice = [
        x if d is None else np.stack([x, np.flip(x, e) if e is not None else x], d)
        for x, d, e in zip(stacked, outer, dims, strict=True)
    ]
    law_vmap(batched(f, size, dims), twice, outer, 2, "vmap of vmap = loop")


def stack(problem_args: Arrays, others: Sequence[Arrays], dims: Dims, size: int) -> list[Array]:
    """Batches of operands: `others` are further calls of the same shapes."""
    rows = [problem_args, *others]
    return [
        x if d is None
        else np.stack([rows[k % len(rows)][i] for k in range(size)], d) if size
        else np.zeros((*x.shape[:d], 0, *x.shape[d:]), x.dtype)
        for i, (x, d) in enumerate(zip(problem_args, dims, strict=True))
    ]  # fmt: skip


def random_dims(args: Arrays, rng: Rng) -> list[int | None]:
    """A mapped axis or None for each operand; at least one is mapped."""
    dims: list[int | None] = [
        int(rng.integers(x.ndim + 1)) if rng.integers(3) else None for x in args
    ]
    if args and all(d is None for d in dims):
        i = int(rng.integers(len(args)))
        dims[i] = int(rng.integers(args[i].ndim + 1))
    return dims


def law_vmap_derivatives(f: Flat, xs: Arrays, rng: Rng) -> None:
    """12: `vmap` of jvp and of vjp = loops of them, so `vmap` commutes with both."""
    f = inexact_only(f)
    n = len(xs)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    vs = [random_like(rng, x) for x in xs]
    for g, more in ((pushforward(f, n), vs), (pullback(f, n), cts)):
        args = [*xs, *more]
        dims = random_dims(args, rng)
        others = [[*xs, *[random_like(rng, t) for t in more]]]
        law_vmap(g, stack(args, others, dims, 2), dims, 2, "vmap of a derivative = loop")
        # The derivative of vmap: the batch is inside.
    dims = [0] * n
    stacked = stack(xs, [], dims, 2)
    inside = evaluate(
        pullback(batched(f, 2, dims), n), (*stacked, *stack(cts, [], [0] * len(cts), 2))
    )
    once = evaluate(pullback(f, n), (*xs, *cts))
    assert_near(inside, [np.stack([g, g]) for g in once], "vjp of vmap = vmap of vjp")
    tangents = stack(vs, [], dims, 2)
    inside = evaluate(pushforward(batched(f, 2, dims), n), (*stacked, *tangents))
    once = evaluate(pushforward(f, n), (*xs, *vs))
    assert_near(inside, [np.stack([t, t]) for t in once], "jvp of vmap = vmap of jvp")


def jacobian(f: Flat, xs: Arrays, *, forward: bool) -> Array:
    """The dense Jacobian of f at xs, ``[outputs, inputs]``, one mode in one `vmap`.

    Inputs and outputs are flattened and joined; real functions only.
    """
    n = len(xs)
    outs = evaluate(f, xs)
    space = xs if forward else outs
    size = sum(x.size for x in space)
    seeds, start = [], 0
    for x in space:
        seed = np.zeros((size, x.size), x.dtype)
        seed[start : start + x.size] = np.eye(x.size)
        seeds.append(seed.reshape(size, *x.shape))
        start += x.size
    g = pushforward(f, n) if forward else pullback(f, n)
    dims = [None] * n + [0] * len(space)
    columns = evaluate(batched(g, size, dims), (*xs, *seeds))
    wide = [np.asarray(c, np.float64).reshape(size, math.prod(c.shape[1:])) for c in columns]
    joined = np.concatenate(wide, 1) if wide else np.zeros((size, 0))
    return joined.T if forward else joined


def law_jacobian(f: Flat, xs: Arrays) -> None:
    """12: jacfwd = jacrev."""
    f = inexact_only(f)
    forward = jacobian(f, xs, forward=True)
    assert_near([jacobian(f, xs, forward=False)], [forward], "jacrev = jacfwd")


def law_second_order_vmap(f: Flat, xs: Arrays, rng: Rng) -> None:
    """12: the same one order higher: `vmap` of a Hessian-vector product."""
    f = inexact_only(f)
    n = len(xs)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    product = pushforward(at(pullback(f, n), *cts), n)
    vs = [random_like(rng, x) for x in xs]
    args = [*xs, *vs]
    dims = [None] * n + [0] * n
    law_vmap(product, stack(args, [[*xs, *basis_like(rng, xs)]], dims, 2), dims, 2, "vmap of hvp")
