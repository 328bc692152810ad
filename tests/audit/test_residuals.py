"""Seed table: backward does not copy residuals of computed values; borrowed inputs as 13.3."""

import tracemalloc

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp

X = np.linspace(0.1, 1.0, 50_000)


def buffers(pullback):
    return [np.asarray(x) for x in fg.tree.leaves(pullback)]


def test_residuals_are_the_buffers_of_the_forward_values():
    seen = {}

    def f(x):
        seen["h"] = h = fnp.exp(fnp.asarray(x))
        seen["y"] = y = fnp.tanh(h)
        return y

    y, pullback = fg.vjp(f, X)
    kept = buffers(pullback)
    values = [np.asarray(t.primal) for t in seen.values()]
    assert len(kept) == 2
    for k in kept:
        assert any(np.shares_memory(k, v) for v in values)
    assert any(np.shares_memory(k, np.asarray(y)) for k in kept)


def test_the_backward_pass_allocates_no_copy_of_them():
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x, X)
    pullback(X)
    tracemalloc.start()
    try:
        pullback(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # ct·x, ct·sin x, cos x · (ct·x), their sum: at most four arrays are alive, and no copies.
    assert peak < 4.5 * X.nbytes


def test_one_copy_of_a_borrowed_input_however_often_it_is_kept():
    x = X.copy()
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x * fnp.exp(x) / x, x)
    kept = [k for k in buffers(pullback) if (k == X).all()]
    assert len(kept) >= 2
    assert not any(np.shares_memory(k, x) for k in kept)
    assert all(np.shares_memory(kept[0], k) for k in kept)
    assert sum(r.shape == X.shape and r.name != "x" for r in pullback.residuals) == len(
        {k.__array_interface__["data"][0] for k in buffers(pullback)}
    )


def test_a_closed_over_array_is_copied_once():
    w = X.copy()
    _, pullback = fg.vjp(lambda x: (x * w) + fnp.sin(x) * w, X)
    assert not any(np.shares_memory(k, w) for k in buffers(pullback))
    before = np.asarray(pullback(X)[0])
    w[:] = 0.0
    np.testing.assert_array_equal(pullback(X)[0], before)


def test_arrays_of_our_own_and_read_only_ones_are_not_copied():
    own = fnp.asarray(X) * 1.0
    frozen = X.copy()
    frozen.flags.writeable = False
    for x in (own, frozen):
        _, pullback = fg.vjp(fnp.sin, x)
        assert all(np.shares_memory(k, np.asarray(x)) for k in buffers(pullback))


def test_grad_copies_no_input():
    x = X.copy()

    def loss(x):
        return fnp.sum(x * 2.0)

    fg.grad(loss)(x)
    tracemalloc.start()
    try:
        fg.grad(loss)(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * X.nbytes  # x·2, then its sum's cotangent times 2


def test_asarray_of_a_writable_array_is_a_copy():
    x = X.copy()
    a = fnp.asarray(x)
    x[:] = 0.0
    np.testing.assert_array_equal(a, X)
    view = np.asarray(a)
    assert not view.flags.writeable
    assert np.shares_memory(view, np.asarray(a))
