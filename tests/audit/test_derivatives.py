"""Seed table: higher-order derivatives, clipping, custom gradients, hooks, accumulation."""

import math

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import optim
from tests.audit.differences import check, numerical

X = np.linspace(-1.5, 1.5, 7)

# ------------------------------------------------------------------------ higher-order derivatives


@pytest.mark.parametrize("order", range(1, 8))
def test_orders_of_tanh_times_a_gaussian(order):
    """d^n (eˣ)ᵐ is known, and tanh(x)·exp(-x²) is checked against differences of the last order."""
    f = lambda x: fnp.tanh(x) * fnp.exp(-x * x)  # noqa: E731
    e = lambda x: fnp.exp(2.0 * x)  # noqa: E731
    for _ in range(order - 1):
        f, e = fg.grad(f), fg.grad(e)
    np.testing.assert_allclose(float(fg.grad(f)(np.float64(0.3))),
                               numerical(f, [np.array(0.3)])[0], rtol=1e-7)  # fmt: skip
    np.testing.assert_allclose(float(fg.grad(e)(np.float64(0.3))), 2**order * math.exp(0.6),
                               rtol=1e-13)  # fmt: skip


def test_forward_and_reverse_nest_alike():
    def f(x):
        return fnp.sum(fnp.sin(x) ** 3 * x[::-1])

    v = np.cos(X)
    rr = fg.grad(lambda x: fnp.sum(fg.grad(f)(x) * v))(X)
    fr = fg.jvp(fg.grad(f), (X,), (v,))[1]
    rf = fg.grad(lambda x: fg.jvp(f, (x,), (v,))[1])(X)
    np.testing.assert_allclose(fr, rr, rtol=1e-12)
    np.testing.assert_allclose(rf, rr, rtol=1e-12)
    hessian = np.stack([fg.jvp(fg.grad(f), (X,), (e,))[1] for e in np.eye(7)])
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-14)


# ----------------------------------------------------------------------------------------- clipping


def test_clip_stops_the_gradient_outside_and_halves_it_at_the_edges():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    g = fg.grad(lambda x: fnp.sum(fnp.clip(x, -1.0, 1.0)))(x)
    np.testing.assert_array_equal(g, [0, 0.5, 1, 0.5, 0])
    check(lambda x: fnp.clip(x, -1.0, 1.0), X + 0.01)
    check(lambda x, lo, hi: fnp.clip(x, lo, hi), X + 0.01, np.full(7, -0.9), np.full((), 0.8))


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clip_by_global_norm(limit):
    g = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    rule = optim.clip_by_global_norm(limit)
    clipped, _ = rule.update(g, rule.init(g))
    scale = min(1.0, limit / 5.0)
    for k in g:
        np.testing.assert_allclose(clipped[k], g[k] * scale, rtol=1e-12)
    assert float(optim.global_norm(clipped)) == pytest.approx(5 * scale)


# ----------------------------------------------------------------------- custom gradients and hooks


def test_a_custom_gradient_replaces_the_derivative():
    @fg.custom_vjp
    def round_through(x):
        return fnp.round(x)

    round_through.defvjp(lambda x: (fnp.round(x), None), lambda _r, ct: (ct,))
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.sum(round_through(x) * X))(X), X)
    np.testing.assert_array_equal(fg.jvp(round_through, (X,), (X,))[1], X)


def test_hooks_see_and_change_cotangents():
    seen = []

    def f(x):
        h = fg.tap(fnp.sin(x), lambda ct: seen.append(np.asarray(ct)))
        return fnp.sum(fg.tap(h, lambda ct: 2.0 * ct) * X)

    g = fg.grad(f)(X)
    np.testing.assert_allclose(g, 2 * X * np.cos(X), rtol=1e-14)
    np.testing.assert_array_equal(seen, [2 * X])
    assert float(f(X)) == float((np.sin(X) * X).sum())  # no effect on the value


@pytest.mark.parametrize("wrap", [fg.jit, fg.checkpoint, fg.vmap])
def test_hooks_under_transforms(wrap):
    f = wrap(lambda x: fg.tap(x, lambda ct: fnp.clip(ct, -0.5, 0.5)))
    np.testing.assert_array_equal(fg.grad(lambda x: fnp.sum(f(x) * X))(X), np.clip(X, -0.5, 0.5))


def test_a_hook_under_vmap_sees_one_element():
    shapes = []
    f = lambda x: fg.tap(x, lambda ct: shapes.append(ct.shape))  # noqa: E731
    fg.grad(lambda x: fnp.sum(fg.vmap(f)(x)))(np.ones((3, 2)))
    assert set(shapes) == {(2,)}


def test_a_hook_over_a_tree_and_one_that_raises():
    g = fg.grad(lambda p: fnp.sum(fg.tap(p, lambda ct: {"a": ct["a"] * 3.0})["a"]))({"a": X})
    np.testing.assert_array_equal(g["a"], np.full(7, 3.0))

    def broken(ct):
        raise ZeroDivisionError("from the hook")

    with pytest.raises(ZeroDivisionError, match="from the hook"):
        fg.grad(lambda x: fnp.sum(fg.tap(x, broken)))(X)


# ------------------------------------------------------------------------------------- accumulation


def test_an_input_used_a_hundred_times():
    def f(x):
        return fnp.sum(sum(x * float(i) for i in range(100)))

    np.testing.assert_array_equal(fg.grad(f)(X), np.full(7, 4950.0))


def test_only_the_accumulators_own_buffers_are_written():
    ct = np.ones(7)
    parts = []

    def hook(c):
        parts.append((c, np.array(c)))

    def f(x):
        # Every use passes the same cotangent buffer on; a sum in place would change it for others.
        return sum((fg.tap(x, hook) for _ in range(20)), fg.tap(x, hook)) + x + x

    x = X.copy()
    _, pullback = fg.vjp(f, x)
    first = np.asarray(pullback(ct)[0]).copy()
    np.testing.assert_array_equal(first, np.full(7, 23.0))
    np.testing.assert_array_equal(ct, np.ones(7))
    np.testing.assert_array_equal(x, X)
    for c, then in parts:
        np.testing.assert_array_equal(c, then)
    np.testing.assert_array_equal(pullback(ct)[0], first)
    results = [pullback(ct)[0] for _ in range(2)]
    assert not np.shares_memory(np.asarray(results[0]), np.asarray(results[1]))


def test_accumulation_with_aliased_outputs_and_views():
    def f(x):
        y = x.reshape(7, 1)
        return (y, y[:, 0], x, y.T), fnp.sum(x)

    _, pullback = fg.vjp(lambda x: f(x)[0], X)
    a = np.ones(7)
    (g,) = pullback((a.reshape(7, 1), a, a, a.reshape(1, 7)))
    np.testing.assert_array_equal(g, np.full(7, 4.0))
    np.testing.assert_array_equal(a, np.ones(7))


def test_accumulation_is_the_same_in_every_run():
    def f(x):
        return fnp.sum(sum(fnp.sin(x * i) * x for i in range(1, 30)))

    first = np.asarray(fg.grad(f)(X)).tobytes()
    assert all(np.asarray(fg.grad(f)(X)).tobytes() == first for _ in range(20))
