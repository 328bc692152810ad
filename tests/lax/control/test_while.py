"""What is particular to while_loop: reverse mode by checkpoints, and lanes that stop early."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core import config
from fgrad.errors import (
    ArgumentError,
    DtypeError,
    NonlinearPullbackError,
    RuleError,
    ShapeError,
    TreeError,
)
from fgrad.lax.control.while_walk import KEPT
from tests.lax.control.loops_as_python import assert_trees_close

A, X = np.float64(1.1), np.float64(0.3)
XS = np.ones(3)


def _step(a, c):
    return fnp.sin(a * c) + 0.5 * c


def by_while(a, x, n):
    return lax.while_loop(lambda s: s[1] < n, lambda s: (_step(a, s[0]), s[1] + 1), (x, 0))[0]


def by_scan(a, x, n):
    return lax.scan(lambda c, _: (_step(a, c), None), x, None, n)[0]


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 127, 128, 129, 200, 1000])
def test_gradient(n):
    got, want = fg.grad(by_while, (0, 1))(A, X, n), fg.grad(by_scan, (0, 1))(A, X, n)
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.slow
def test_gradient_of_a_loop_with_three_levels_of_checkpoints():
    n = KEPT * KEPT * 8
    got, want = fg.grad(by_while, (0, 1))(A, X, n), fg.grad(by_scan, (0, 1))(A, X, n)
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_second_order_at_1000_steps():
    want = fg.hessian(by_scan, (0, 1))(A, X, 1000)
    over = fg.grad(lambda a, x: fg.grad(by_while, 1)(a, x, 1000), (0, 1))(A, X)
    np.testing.assert_allclose(
        np.array(fg.hessian(by_while, (0, 1))(A, X, 1000)), np.array(want), rtol=1e-8
    )
    np.testing.assert_allclose(np.array(over), np.array(want[1]), rtol=1e-8)


def test_third_order():
    def third(f):
        return fg.grad(lambda x: fg.grad(lambda x: fg.grad(f, 1)(A, x, 70))(x))(X)

    np.testing.assert_allclose(third(by_while), third(by_scan), rtol=1e-7)


def test_memory_does_not_grow_with_the_steps():
    def kept(n):
        return fg.saved_residuals(lambda x: by_while(A, x, n), np.ones(100)).nbytes

    assert kept(10) == kept(3000)
    assert kept(10) < 100 * 8 * (KEPT + 4)


def test_lanes_of_different_length():
    ns, xs = np.array([5, 300, 0, 130]), np.array([0.3, 0.4, 0.5, 0.6])
    each = [fg.grad(by_scan, (0, 1))(A, x, int(n)) for x, n in zip(xs, ns, strict=True)]
    got = fg.vmap(fg.grad(by_while, (0, 1)), (None, 0, 0))(A, xs, ns)
    np.testing.assert_allclose(np.array(got).T, np.array(each), rtol=1e-10)
    total = fg.jit(fg.grad(lambda a, xs: fg.vmap(by_while, (None, 0, 0))(a, xs, ns).sum(), (0, 1)))(
        A, xs
    )
    np.testing.assert_allclose(total[0], np.array(each)[:, 0].sum(), rtol=1e-10)
    np.testing.assert_allclose(total[1], np.array(each)[:, 1], rtol=1e-10)


def test_second_order_of_lanes_of_different_length():
    ns, xs = np.array([5, 100, 0, 70]), np.array([0.3, 0.4, 0.5, 0.6])
    each = [fg.hessian(by_scan, (0, 1))(A, x, int(n)) for x, n in zip(xs, ns, strict=True)]
    got = fg.vmap(fg.hessian(by_while, (0, 1)), (None, 0, 0))(A, xs, ns)
    np.testing.assert_allclose(np.moveaxis(np.array(got), -1, 0), np.array(each), rtol=1e-8)
    over = fg.vmap(fg.grad(lambda a, x, n: fg.grad(by_while, 1)(a, x, n), (0, 1)), (None, 0, 0))(
        A, xs, ns
    )
    np.testing.assert_allclose(np.array(over).T, np.array(each)[:, 1], rtol=1e-8)


@pytest.mark.parametrize("max_steps", [None, 6])
def test_finished_lanes_give_no_nan(max_steps):
    # The body is singular at the value that a lane stops with, and multiplies a shared matrix.
    w = np.eye(2)

    def f(w, x):
        def body(s):
            return s[0] - 1.0, s[1] + (w @ fnp.stack([1 / s[0], s[0]])).sum()

        return lax.while_loop(lambda s: s[0] > 0.5, body, (x, 0.0 * x), max_steps=max_steps)[1]

    xs = np.array([1.0, 4.0, 0.0])
    each = [fg.grad(f, (0, 1))(w, x) for x in xs]
    got = fg.grad(lambda w, xs: fg.vmap(f, (None, 0))(w, xs).sum(), (0, 1))(w, xs)
    np.testing.assert_allclose(got[0], sum(np.asarray(g[0]) for g in each))
    np.testing.assert_allclose(got[1], np.stack([g[1] for g in each]))
    assert np.isfinite(np.asarray(got[0])).all()


def test_pullback_called_under_vmap_and_twice():
    _, pullback = fg.vjp(lambda x: by_while(A, x, 90), np.array([0.3, 0.4]))
    cts = np.random.default_rng(0).standard_normal((3, 2))
    rows = np.stack([pullback(ct)[0] for ct in cts])
    np.testing.assert_allclose(fg.vmap(lambda ct: pullback(ct)[0])(cts), rows)
    f, x = (lambda x: by_while(A, x, 90)), np.array([0.3, 0.4])
    np.testing.assert_allclose(fg.jacrev(f)(x), fg.jacfwd(f)(x))


def test_pullbacks_of_loops_of_different_length_are_not_mixed():
    def pull(n):
        return fg.vjp(lambda x, n: by_while(A, x, n), X, n)[1]

    first, second = pull(3), pull(70)
    rows = [fnp.stack(p) for p in zip(fg.tree.leaves(first), fg.tree.leaves(second), strict=True)]
    both = fg.tree.unflatten(fg.tree.structure(first), rows)
    with pytest.raises(ArgumentError, match="3, 70 steps"):
        fg.vmap(lambda p: p(np.float64(1)))(both)


def test_max_steps_stops():
    f = lambda x, m: lax.while_loop(lambda c: c < 100.0, lambda c: c * 2, x, max_steps=m)  # noqa: E731
    assert float(f(1.0, 3)) == 8
    assert float(f(1.0, 50)) == 128
    assert float(fg.grad(lambda x: f(x, 3))(1.0)) == 8


def test_weak_carry_takes_the_type_that_comes_back():
    out = lax.while_loop(lambda c: c < 3, lambda c: c + np.float32(1), 0)
    assert out.dtype == np.float32
    assert not out.weak_type


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.while_loop(lambda c: c, lambda c: c, 1.0), DtypeError, "bool"),
        (lambda: lax.while_loop(lambda c: c < 1, lambda c: c, np.ones(3)), ShapeError, r"b\[3\]"),
        (lambda: lax.while_loop(lambda c: (c < 1,), lambda c: c, 1.0), TreeError, "scalar bool"),
        (lambda: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0], c[1].sum()), (1.0, XS)),
         ShapeError, r"\[1\].*f64\[\].*f64\[3\]"),
        (lambda: lax.while_loop(lambda c: c < 1, lambda c: c, 1.0, max_steps=-1), ArgumentError,
         "negative"),
    ],
)  # fmt: skip
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "test_while.py" in str(caught.value)


def test_reverse_mode_does_not_repeat_io():
    def body(x):
        fg.io_callback(lambda: None, None)
        return x * 2

    with pytest.raises(RuleError, match="io_callback"):
        fg.grad(lambda x: lax.while_loop(lambda c: c < 9, body, x))(1.0)


def _ruled(rule):
    f = fg.custom_jvp(lambda x: x * 8.0)
    f.defjvp(lambda ps, ts: (ps[0] * 8.0, rule(*ps, *ts)))
    return f


def test_a_loop_over_tangents_in_a_rule_is_transposed():
    def doubled(x, t):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 2.0 * x), (0, t))[1]

    f = _ruled(doubled)
    want = 8 * X**3
    np.testing.assert_allclose(fg.grad(f)(X), want)
    np.testing.assert_allclose(fg.grad(fg.grad(f))(X), 24 * X**2)
    np.testing.assert_allclose(fg.vmap(fg.grad(f))(XS * X), XS * want)
    np.testing.assert_allclose(fg.linearize(f, X)[1](2.0), 2 * want)


def test_a_loop_over_tangents_that_is_not_linear_raises():
    def squared(x, t):
        return lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1] * s[1]), (0, t))[1]

    def counted(x, t):
        return lax.while_loop(lambda c: c < 1.0, lambda c: c * 2.0, t)

    with pytest.raises(NonlinearPullbackError, match="mul"):
        fg.grad(_ruled(squared))(X)
    with pytest.raises(NonlinearPullbackError, match=r"number of steps .* depends on a tangent"):
        fg.grad(_ruled(counted))(X)


def test_a_pullback_of_a_loop_in_a_reverse_rule_has_forward_mode():
    def loop(x, w):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, fnp.sin(s[1] * w)), (0, x))[
            1
        ]

    f = fg.custom_vjp(loop)
    f.defvjp(lambda x, w: (f(x, w), (x, w)), lambda r, ct: fg.vjp(loop, *r)[1](ct))
    got, want = (fg.jvp(g, (X, A), (A, X)) for g in (f, loop))
    np.testing.assert_allclose(got, want)

    def wrong(r, ct):
        return fg.vjp(loop, r * ct, A)[1](1.0 + 0 * ct)[:1]

    g = fg.custom_vjp(lambda x: loop(x, A))
    g.defvjp(lambda x: (g(x), x), wrong)
    with pytest.raises(NonlinearPullbackError):
        fg.jvp(g, (X,), (A,))


def test_long_eager_loops_run_compiled_and_give_the_same():
    x = np.linspace(0.1, 1, 4)

    def scanned(x, n):
        return lax.scan(lambda c, i: (fnp.sin(c) + 0.1 * i, c.sum()), x, fnp.ones(n))

    def looped(x, n):
        return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, fnp.sin(s[1]) + 0.1), (0, x))

    def derivative(x, n):
        return fg.grad(lambda x: looped(x, n)[1].sum())(x)

    for f in (scanned, looped, derivative):
        for n in (255, 256, 257, 700):
            with config.cpu_compiler("numpy"):
                want = f(x, n)
            assert_trees_close(f(x, n), want)


def test_long_eager_loops_are_looked_at_where_that_is_asked_for():
    with config.debug_nans(), pytest.raises(fg.errors.NonFiniteError):
        lax.scan(lambda c, v: (c * v, c), fnp.float32(np.inf), fnp.zeros(300))
    seen = []
    lax.scan(lambda c, v: (c, fg.debug.callback(seen.append, v)), 0.0, fnp.arange(300))
    assert [int(v) for v in seen] == list(range(300))
