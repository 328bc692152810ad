"""The laws of whole programs: staging, checkpointing, functions with rules, threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fgrad.api import jit
from fgrad.compile.passes import PASSES
from fgrad.core.check import check_jaxpr
from fgrad.core.transforms.custom import custom_jvp, custom_vjp
from fgrad.core.transforms.policies import dots_saveable, everything_saveable, nothing_saveable
from fgrad.core.transforms.remat import checkpoint
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed
from fgrad.testing.functions import (
    Array,
    Flat,
    arrays_of,
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
    """13: the staged program computes the same, before and after each pass, and is well typed."""
    expected = evaluate(f, xs)
    vals = values(xs)
    jaxpr, consts = stage_closed(f, [v.aval for v in vals])
    check_jaxpr(jaxpr)
    _same(arrays_of(eval_jaxpr(jaxpr, (), *consts, *vals)), expected, "staged = eager")
    for run in PASSES:
        jaxpr = run(jaxpr)
        check_jaxpr(jaxpr)
        got = arrays_of(eval_jaxpr(jaxpr, (), *consts, *vals))
        _same(got, expected, f"after the pass {run.__name__} = eager")


def law_jit(f: Flat, xs: Arrays) -> None:
    """13: jit = eager, at the first call and at a cached one."""
    expected = evaluate(f, xs)
    compiled = jit(f)
    for _ in range(2):
        _same(arrays_of(compiled(*values(xs))), expected, "jit = eager")


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
