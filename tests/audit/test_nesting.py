"""Transforms nest in any order: each ordered pair, and triple, of them against plain code.

Every transform is written as a map of functions of three numbers. Its function closes over the
argument of the transform, so that each level uses the tracers of all levels around it. Beside it
stands what it means without staging, loops, rules or batches: only `jvp` and `grad` are left.
"""

import itertools

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax

W = np.array([0.3, -0.7, 0.5])
V = np.array([0.2, 0.9, -0.4])
X = np.array([0.31, -0.22, 0.4])


def wrapped(*maps):
    """`maps` applied to a function, the first innermost."""

    def f(x):
        return fnp.sin(x) * 0.5 + x[::-1] * 0.3 * x

    for m in maps:
        f = m(f)
    return f


def closing(f, x):
    """What each transform transforms: a function that closes over `x`."""
    return lambda y: f(y) + 0.1 * y * x


def grad(f):
    return lambda x: fg.grad(lambda y: (closing(f, x)(y) * W).sum())(x)


def value_and_grad(f):
    def g(x):
        def inner(p, c, *, k):
            r = closing(f, x)(p["a"] * c[0])
            return (r * W).sum() * k, {"r": r}

        (v, aux), (gp, gc) = fg.value_and_grad(inner, argnums=(0, 1), has_aux=True)(
            {"a": x}, (fnp.cos(x),), k=2.0
        )
        return v + aux["r"] + gp["a"] + gc[0]

    return g


def vjp(f):
    def g(x):
        y, pull = fg.vjp(lambda a, b: {"o": closing(f, x)(a) * b}, x, fnp.sin(x))
        a, b = pull({"o": x})
        return a + b + y["o"]

    return g


def jvp(f):
    def g(x):
        y, t = fg.jvp(closing(f, x), (x,), (fnp.cos(x) * V,))
        return y + t

    return g


def linearize(f):
    def g(x):
        y, push = fg.linearize(closing(f, x), x)
        return push(fnp.cos(x) * V) + y

    return g


def jacfwd(f):
    return lambda x: fg.jacfwd(closing(f, x))(x) @ V + x


def jacrev(f):
    return lambda x: fg.jacrev(closing(f, x))(x) @ V + x


def jacobian_vector(f):
    return lambda x: fg.jvp(closing(f, x), (x,), (V + 0 * x,))[1] + x


def plain(f):
    return lambda x: closing(f, x)(x)


def jit(f):
    return lambda x: fg.jit(closing(f, x))(x)


def jit_with_keyword(f):
    inner = fg.jit(lambda y, x, *, k: f(y) + 0.1 * y * x + (k - 2.0))
    return lambda x: inner(x, x, k=2.0)


def checkpoint(f):
    return lambda x: fg.checkpoint(closing(f, x))(x)


def unjitted(f):
    def g(x):
        with fg.disable_jit():
            return fg.jit(closing(f, x))(x)

    return g


def custom_vjp(f):
    def g(x):
        @fg.custom_vjp
        def c(y, z):
            return closing(f, z)(y)

        def bwd(r, ct):
            return fg.vjp(lambda y, z: closing(f, z)(y), *r)[1](ct)

        c.defvjp(lambda y, z: (c(y, z), (y, z)), bwd)
        return c(x, x)

    return g


def custom_jvp(f):
    def g(x):
        @fg.custom_jvp
        def c(y, z):
            return closing(f, z)(y)

        c.defjvp(lambda ps, ts: fg.jvp(lambda y, z: closing(f, z)(y), ps, ts))
        return c(x, x)

    return g


def vmap(f):
    def g(x):
        rows = fnp.stack([x, 0.5 * x], 1)
        return fg.vmap(closing(f, x), in_axes=1, out_axes=1)(rows).sum(1)

    return g


def mapped(f):
    return lambda x: lax.map(closing(f, x), fnp.stack([x, 0.5 * x])).sum(0)


def both(f):
    return lambda x: closing(f, x)(x) + closing(f, x)(0.5 * x)


def collective(f):
    def g(x):
        name = object()  # a name of its own, as levels may nest

        def lane(y, s):
            r = closing(f, x)(y * s)
            return r + lax.psum(r, name) * 0.5

        over = fg.vmap(lane, in_axes=(None, 0), out_axes=-1, axis_name=name)
        return over(x, np.array([0.5, 0.25])).sum(-1)

    return g


def collected(f):
    return lambda x: 2.0 * (closing(f, x)(x * 0.5) + closing(f, x)(x * 0.25))


def scan(f):
    def g(x):
        def step(c, s):
            return closing(f, x)(c) * s, c * s

        c, ys = lax.scan(step, x, np.array([1.0, 0.7]))
        return c + ys.sum(0)

    return g


def scanned(f):
    def g(x):
        a = closing(f, x)(x)
        return closing(f, x)(a) * 0.7 + x + a * 0.7

    return g


def while_loop(f):
    def g(x):
        return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, closing(f, x)(s[1])),
                              (0, x))[1]  # fmt: skip

    return g


def fori_loop(f):
    return lambda x: lax.fori_loop(0, 2, lambda _i, c: closing(f, x)(c), x)


def twice(f):
    return lambda x: closing(f, x)(closing(f, x)(x))


def cond(f):
    return lambda x: lax.cond(x.sum() > 0.05, closing(f, x), lambda y: y * x * 2.0, x)


def switch(f):
    def g(x):
        index = fnp.where(x.sum() > 0.05, 1, 0)
        return lax.switch(index, [lambda y: y * x * 2.0, closing(f, x)], x)

    return g


def where(f):
    return lambda x: fnp.where(x.sum() > 0.05, closing(f, x)(x), x * x * 2.0)


# Each transform, and what it means.
MEANING = {
    grad: grad, value_and_grad: value_and_grad, vjp: vjp, jvp: jvp, linearize: jvp,
    jacfwd: jacobian_vector, jacrev: jacobian_vector,
    jit: plain, jit_with_keyword: plain, checkpoint: plain, unjitted: plain,
    custom_vjp: plain, custom_jvp: plain,
    vmap: both, mapped: both, collective: collected,
    scan: scanned, while_loop: twice, fori_loop: twice, cond: where, switch: where,
}  # fmt: skip


def check(*maps):
    want = wrapped(*(MEANING[m] for m in maps))(X)
    got = wrapped(*maps)
    for result in (got(X), fg.jit(got)(X)):
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("outer", MEANING, ids=lambda m: m.__name__)
@pytest.mark.parametrize("inner", MEANING, ids=lambda m: m.__name__)
def test_each_pair(inner, outer):
    check(inner, outer)


@pytest.mark.parametrize("loop", [scan, while_loop, fori_loop, mapped, cond, switch],
                         ids=lambda m: m.__name__)  # fmt: skip
@pytest.mark.parametrize("outer", [grad, vjp, linearize, jacrev, custom_vjp],
                         ids=lambda m: m.__name__)  # fmt: skip
@pytest.mark.parametrize("rule", [custom_jvp, custom_vjp], ids=lambda m: m.__name__)
def test_a_rule_that_differentiates_a_loop(loop, rule, outer):
    check(loop, rule, outer)


@pytest.mark.slow
@pytest.mark.parametrize("inner", MEANING, ids=lambda m: m.__name__)
def test_each_triple(inner):
    for middle, outer in itertools.product(MEANING, MEANING):
        check(inner, middle, outer)
