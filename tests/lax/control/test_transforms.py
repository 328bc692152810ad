"""Loops and branches under every transform agree with the same code in Python."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from tests.lax.control.loops_as_python import assert_trees_close, scan, transforms

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3)) * 0.6
C = RNG.standard_normal(3)
XS = RNG.standard_normal((4, 3))


def _scan_of(loop, **options):
    def f(w, c, xs):
        gate = fnp.cos(w).sum(0)  # closed over, and the same in each step

        def body(carry, x):
            s, k = carry
            s = fnp.tanh(w @ s + x * gate) * (k + 1)
            return (s, k + 1), {"y": s * x, "k": s[0]}

        (s, k), ys = loop(body, (c, np.int32(0)), xs, **options)
        return (s * s).sum() + fnp.sin(ys["y"]).sum() + ys["k"].prod() + k

    return f


def _cond_of(staged):
    def yes(w, c):
        return {"a": fnp.sin(w @ c), "b": c.sum()}

    def no(w, c):
        return {"a": c * fnp.exp(c) + w[0], "b": (w * w).sum()}

    def f(w, c, xs):
        total = 0.0
        for x in xs:
            if staged:
                out = lax.cond((x * c).sum() > 0, yes, no, w, c)
            else:
                picks = zip(yes(w, c).items(), no(w, c).items(), strict=True)
                out = {k: fnp.where((x * c).sum() > 0, a, b) for (k, a), (_, b) in picks}
            total = total + (out["a"] * x).sum() * out["b"]
        return total

    return f


def _switch_of(staged):
    branches = [lambda v, c: fnp.sin(v), lambda v, c: v * c * c, lambda v, c: fnp.ones(3) + 0 * c]

    def f(w, c, xs):
        total = 0.0
        for x in xs:
            index = fnp.floor(x[0] + c[0] + 1).astype("int32")
            if staged:
                out = lax.switch(index, branches, w @ c, c)
            else:
                rows = fnp.stack([b(w @ c, c).astype("float64") for b in branches])
                out = (rows * (fnp.arange(3) == fnp.clip(index, 0, 2))[:, None]).sum(0)
            total = total + fnp.exp(out * 0.3).sum()
        return total

    return f


def _while_of(staged, **options):
    """The number of steps depends on the values, hence on the lane."""

    def f(w, c, xs):
        def goes_on(s):
            return (s[1] < 6) & (fnp.abs(s[0]).sum() < 9.0)

        def body(s):
            return fnp.tanh(w @ s[0] + xs[0]) + 1.5 * s[0], s[1] + 1

        if staged:
            return (lax.while_loop(goes_on, body, (c, np.int32(0)), **options)[0] ** 2).sum()
        s = (c, np.int32(0))
        for _ in range(7):
            on = goes_on(s)
            new = body(s)
            s = (fnp.where(on, new[0], s[0]), fnp.where(on, new[1], s[1]))
        return (s[0] ** 2).sum()

    return f


def _fori_of(staged):
    def step(w, i, s):
        return fnp.sin(w @ s) * (i + 1)

    def f(w, c, xs):
        n = (fnp.abs(c[0]) * 3).astype("int32")
        if staged:
            return lax.fori_loop(1, n + 2, lambda i, s: step(w, i, s), c).sum() * xs.sum()
        s = c
        for i in range(1, 12):
            s = fnp.where(i < n + 2, step(w, np.int32(i), s), s)
        return s.sum() * xs.sum()

    return f


PAIRS = {
    "scan": (_scan_of(lax.scan), _scan_of(scan)),
    "scan_reverse": (_scan_of(lax.scan, reverse=True), _scan_of(scan, reverse=True)),
    "cond": (_cond_of(True), _cond_of(False)),
    "switch": (_switch_of(True), _switch_of(False)),
    "while": (_while_of(True), _while_of(False)),
    "while_max_steps": (_while_of(True, max_steps=7), _while_of(False)),
    "fori": (_fori_of(True), _fori_of(False)),
}


@pytest.mark.parametrize("transform", transforms())
@pytest.mark.parametrize("name", PAIRS)
def test_loop_equals_python_under(name, transform):
    staged, plain = PAIRS[name]
    t = transforms()[transform]
    assert_trees_close(t(staged)(W, C, XS), t(plain)(W, C, XS), rtol=1e-8)


@pytest.mark.parametrize("name", PAIRS)
def test_equations_of_vmap_do_not_depend_on_its_size(name):
    staged, _ = PAIRS[name]

    def count(n):
        f = fg.vmap(fg.grad(staged, (0, 1)), in_axes=(None, 0, None))
        return fg.make_jaxpr(f)(W, fnp.stack([C] * n), XS).jaxpr.count()

    assert count(2) == count(64)


def test_checkpoint_inside_scan():
    def f(wrap):
        return lambda x: lax.scan(wrap(lambda c, y: (fnp.sin(c * y), c)), x, XS[:, 0])[0]

    x = np.float64(0.4)
    for t in (fg.grad, fg.hessian, lambda g: fg.jit(fg.grad(fg.grad(g)))):
        assert_trees_close(t(f(fg.checkpoint))(x), t(f(lambda g: g))(x))


def test_nested_loops():
    def inner(loop):
        def f(c):
            def outer(c, x):
                c, _ = loop(lambda d, y: (fnp.sin(d * y + x), None), c, XS[0], 3)
                return c, c * x

            return sum(fg.tree.leaves(loop(outer, c, XS[:, 1], 4)))

        return lambda c: f(c).sum()

    x = np.float64(0.3)
    for t in (fg.grad, lambda g: fg.jit(fg.grad(fg.grad(g))), fg.hessian):
        assert_trees_close(t(inner(lax.scan))(x), t(inner(scan))(x))
