"""The laws of whole programs: staging, checkpointing, functions with rules, threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fgrad.api import jit
from fgrad.compile.passes import PASSES
from fgrad.core.check import check_jaxpr
from fgrad.core.config import check, cpu_compiler
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Value
from fgrad.core.transforms.custom import custom_jvp, custom_vjp
from fgrad.core.transforms.policies import dots_saveable, everything_saveable, nothing_saveable
from fgrad.core.transforms.remat import checkpoint
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed
from fgrad.testing.functions import (
    Array,
    Flat,
    arrays_of,
    at,
    batched,
    evaluate,
    inexact_only,
    pullback,
    pushforward,
    random_like,
    staged,
    values,
)
from fgrad.testing.oracle import assert_identical, assert_near

Arrays = Sequence[Array]
Rng = np.random.Generator


def law_passes(f: Flat, xs: Arrays) -> None:
    """13: the staged program computes the same, and each pass leaves it well typed.

    With a pass on and off results are the same to the bit: equation by equation, by NumPy in
    calls too, so nothing but the pass could make a difference.
    """
    with cpu_compiler("numpy"):
        _law_passes(f, xs)


def _law_passes(f: Flat, xs: Arrays) -> None:
    vals = values(xs)
    jaxpr, consts = stage_closed(f, [v.aval for v in vals])
    check_jaxpr(jaxpr)
    expected = arrays_of(eval_jaxpr(jaxpr, (), *consts, *vals))
    _same(expected, evaluate(f, xs), "staged = eager")
    for run in PASSES:
        jaxpr = run(jaxpr)
        check_jaxpr(jaxpr)
        got = arrays_of(eval_jaxpr(jaxpr, (), *consts, *vals))
        for a, e in zip(got, expected, strict=True):
            assert_identical(a, e, f"after the pass {run.__name__} = before")


def law_jit(f: Flat, xs: Arrays) -> None:
    """13: jit = eager, at the first call and at a cached one."""
    expected = evaluate(f, xs)
    compiled = jit(f)
    for _ in range(2):
        _same(arrays_of(compiled(*values(xs))), expected, "jit = eager")


def law_kernels(f: Flat, xs: Arrays) -> None:
    """13: every kernel of jit(f) computes what it means; the first that does not is named."""
    expected = evaluate(f, xs)
    with check():
        _same(arrays_of(jit(f)(*values(xs))), expected, "checked jit = eager")


def law_donation(f: Flat, xs: Arrays, rng: Rng) -> None:
    """24: with some operands donated, results are the same to the bit and the others unharmed."""

    def g(*args: Value) -> list[Value]:
        # A result that each operand fits, made from it late.
        return [
            *f(*args),
            *(x ^ True if x.dtype.kind == "b" else x + x for x in map(as_value, args)),
        ]

    given = [i for i in range(len(xs)) if rng.integers(2)]
    expected = evaluate(jit(g), xs)
    fresh = [ArrayImpl(x.copy()) for x in xs]
    got = arrays_of(jit(g, donate_argnums=given)(*fresh))
    for a, e in zip(got, expected, strict=True):
        assert_identical(a, e, "donated = kept")
    for i, (value, x) in enumerate(zip(fresh, xs, strict=True)):
        if i not in given:
            assert_identical(value._data, x, "an operand beside donated ones = as it was")


MIXED = ("jit", "vmap", "pullback", "pushforward")


def law_mixed(f: Flat, xs: Arrays, names: Sequence[str], rng: Rng) -> None:
    """13: transforms on top of each other, `jit` at any place among them, = those without `jit`.

    Args:
        f: The function.
        xs: Where.
        names: Some of `MIXED`, the innermost first.
        rng: Draws directions and the rows of batches.
    """
    f = inexact_only(f)
    plain, compiled = f, f
    for name in names:
        if name == "jit":
            compiled = jit(compiled)
            continue
        if name == "vmap":
            count = len(xs)
            xs = [np.stack([x, random_like(rng, x)]) for x in xs]
            plain, compiled = (batched(g, 2, [0] * count) for g in (plain, compiled))
            continue
        count = len(xs)
        more = [random_like(rng, y) for y in (evaluate(plain, xs) if name == "pullback" else xs)]
        transform = pullback if name == "pullback" else pushforward
        plain, compiled = (at(transform(g, count), *more) for g in (plain, compiled))
    expected = evaluate(plain, xs)
    what = " of ".join(reversed(names))
    with check():
        _same(evaluate(compiled, xs), expected, f"{what} = without jit")
        _same(evaluate(jit(compiled), xs), expected, f"jit of {what} = without jit")


def law_jit_derivatives(f: Flat, xs: Arrays, rng: Rng) -> None:
    """13: derivatives of jit, and jit of derivatives, = derivatives."""
    f = inexact_only(f)
    n = len(xs)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    vs = [random_like(rng, x) for x in xs]
    compiled = jit(f)
    for transform, more in ((pullback, cts), (pushforward, vs)):
        expected = evaluate(transform(f, n), (*xs, *more))
        for g, what in (
            (jit(transform(f, n)), "jit of a derivative"),
            (transform(compiled, n), "derivative of jit"),
            (staged(transform(f, n)), "staged derivative"),
        ):
            assert_near(evaluate(g, (*xs, *more)), expected, what)


def _same(got: Arrays, expected: Arrays, what: str) -> None:
    assert_near(got, expected, what)
    for a, e in zip(got, expected, strict=True):
        assert a.dtype == e.dtype, f"{what}: {a.dtype} is not {e.dtype}"


def law_checkpoint(f: Flat, xs: Arrays, rng: Rng) -> None:
    """15: gradients through checkpoint, under a policy taken at random, are those without it."""
    f = inexact_only(f)
    n = len(xs)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    expected = evaluate(pullback(f, n), (*xs, *cts))
    policy = POLICIES[int(rng.integers(len(POLICIES)))]
    got = evaluate(pullback(checkpoint(f, policy=policy), n), (*xs, *cts))
    assert_near(got, expected, f"checkpoint({getattr(policy, '__name__', None)})")


POLICIES = (None, nothing_saveable, everything_saveable, dots_saveable)


def law_identity_rules(f: Flat, xs: Arrays, rng: Rng) -> None:
    """16: an identity with rules of its own, around the operands, changes nothing."""
    f = inexact_only(f)
    n = len(xs)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    vs = [random_like(rng, x) for x in xs]
    reverse = evaluate(pullback(f, n), (*xs, *cts))
    forward = evaluate(pushforward(f, n), (*xs, *vs))
    for identity, what in ((_identity_vjp(), "custom_vjp"), (_identity_jvp(), "custom_jvp")):

        def wrapped(*args: Any, identity: Callable[..., Any] = identity) -> list[Any]:
            return f(*[identity(x) for x in args])

        assert_near(evaluate(pullback(wrapped, n), (*xs, *cts)), reverse, f"vjp of {what}")
        assert_near(evaluate(pushforward(wrapped, n), (*xs, *vs)), forward, f"jvp of {what}")


def _identity_vjp() -> Callable[..., Any]:
    identity = custom_vjp(lambda x: x)
    identity.defvjp(lambda x: (x, ()), lambda _res, ct: (ct,))
    return identity


def _identity_jvp() -> Callable[..., Any]:
    identity = custom_jvp(lambda x: x)
    identity.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    return identity


def law_threads(tasks: Sequence[Callable[[], Arrays]], workers: int = 8) -> None:
    """29: tasks that run on several threads at once give the bits that they give one by one.

    Args:
        tasks: Each computes arrays; all are run on every thread.
        workers: How many threads.
    """
    expected = [[y.copy() for y in task()] for task in tasks]

    def run(offset: int) -> list[Arrays]:
        order = [*range(offset, len(tasks)), *range(offset)]
        done = {i: tasks[i]() for i in order}
        return [done[i] for i in range(len(tasks))]

    offsets = [k * len(tasks) // workers for k in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        for results in pool.map(run, offsets):
            for got, want in zip(results, expected, strict=True):
                for a, e in zip(got, want, strict=True):
                    assert_identical(a, e, "on a thread = alone")
