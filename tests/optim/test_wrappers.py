import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.optim as optim
from fgrad import tree_util


def tree(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(3, 2)).astype(dtype), "b": rng.normal(size=2).astype(dtype)}


def mean(trees):
    return tree_util.tree_map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def assert_close(actual, expected, rtol=1e-12):
    pairs = zip(tree_util.tree_leaves(actual), tree_util.tree_leaves(expected), strict=True)
    for a, e in pairs:
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=rtol, atol=1e-15)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("inner", [optim.sgd(0.1, 0.9), optim.adamw(0.1)], ids=["sgd", "adamw"])
def test_k_gradients_make_one_step_on_their_mean(inner, k, jitted):
    params = tree(0)
    accumulating = optim.multi_steps(inner, k)
    update = fg.jit(accumulating.update) if jitted else accumulating.update
    p, state = params, accumulating.init(params)
    q, inner_state = params, inner.init(params)
    for group in range(3):
        grads = [tree(1 + group * k + i) for i in range(k)]
        for i, g in enumerate(grads):
            updates, state = update(g, state, p)
            if i < k - 1:
                assert_close(updates, tree_util.tree_map(np.zeros_like, g), rtol=0)
            p = optim.apply_updates(p, updates)
        updates, inner_state = inner.update(mean(grads), inner_state, q)
        q = optim.apply_updates(q, updates)
        assert_close(p, q)
    assert int(state.gradient_step) == 3
    assert_close(state.inner_opt_state, inner_state)


def test_the_sum_may_be_used_instead_of_the_mean():
    optimizer = optim.multi_steps(optim.sgd(1.0), 2, use_grad_mean=False)
    state = optimizer.init(np.zeros(1))
    _, state = optimizer.update(np.full(1, 2.0), state)
    updates, _ = optimizer.update(np.full(1, 3.0), state)
    assert float(updates[0]) == -5.0


def test_k_may_depend_on_the_step():
    optimizer = optim.MultiSteps(optim.sgd(1.0), lambda step: step + 1)
    state = optimizer.init(np.zeros(1))
    stepped = []
    for _ in range(6):
        _, state = optimizer.update(np.ones(1), state)
        stepped.append(bool(optimizer.has_updated(state)))
    assert stepped == [True, False, True, False, False, True]


def test_sums_of_bfloat16_gradients_are_kept_in_float32():
    g = np.full(1, 1.0, ml_dtypes.bfloat16)
    small = np.full(1, 2.0**-9, ml_dtypes.bfloat16)
    optimizer = optim.multi_steps(optim.sgd(1.0), 3, use_grad_mean=False)
    state = optimizer.init(g)
    assert state.acc_grads.dtype == np.float32
    for x in (small, small, g):
        updates, state = optimizer.update(x, state)
    assert updates.dtype == ml_dtypes.bfloat16
    # In bfloat16 each addition of 2**-9 would leave 1 as it is; in float32 it waits its turn.
    assert float(np.asarray(-updates)[0]) == float(ml_dtypes.bfloat16(1 + 2.0**-8))


@pytest.mark.parametrize("jitted", [False, True])
def test_bad_gradients_can_be_left_out_of_the_mean(jitted):
    optimizer = optim.multi_steps(optim.sgd(1.0), 2, should_skip_update_fn=optim.skip_not_finite)
    update = fg.jit(optimizer.update) if jitted else optimizer.update
    state = optimizer.init(np.zeros(1))
    results = []
    for x in (1.0, np.nan, 3.0):
        updates, state = update(np.full(1, x), state)
        results.append(float(updates[0]))
    assert results == [0.0, 0.0, -2.0]


def test_k_below_one_is_an_error():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        optim.multi_steps(optim.sgd(1.0), 0)


@pytest.mark.parametrize("jitted", [False, True])
def test_steps_with_a_nan_or_infinity_are_skipped(jitted):
    optimizer = optim.apply_if_finite(optim.momentum(1.0, 0.5), max_consecutive_errors=2)
    update = fg.jit(optimizer.update) if jitted else optimizer.update
    state = optimizer.init(np.zeros(1))
    results = []
    for x in (1.0, np.nan, np.inf, 1.0):
        updates, state = update(np.full(1, x), state)
        results.append(float(updates[0]))
    assert results == [-1.0, 0.0, 0.0, -1.5]
    assert (int(state.total_notfinite), int(state.notfinite_count)) == (2, 0)
    assert bool(state.last_finite)


def test_a_run_that_stays_bad_shows_it():
    optimizer = optim.apply_if_finite(optim.sgd(1.0), max_consecutive_errors=2)
    state = optimizer.init(np.zeros(1))
    seen = []
    for _ in range(3):
        updates, state = optimizer.update(np.full(1, np.nan), state)
        seen.append(bool(np.isnan(np.asarray(updates)[0])))
    assert seen == [False, False, True]


@pytest.mark.parametrize(
    "optimizer",
    [optim.multi_steps(optim.adam(0.1), 2), optim.apply_if_finite(optim.adam(0.1), 3)],
    ids=["multi_steps", "apply_if_finite"],
)
def test_states_keep_their_tree_and_dtypes(optimizer):
    params = tree(0, np.float32)
    state = optimizer.init(params)
    for seed in range(1, 4):
        _, successor = optimizer.update(tree(seed, np.float32), state, params)
        assert tree_util.tree_structure(successor) == tree_util.tree_structure(state)
        leaves = zip(tree_util.tree_leaves(successor), tree_util.tree_leaves(state), strict=True)
        assert all(new.dtype == old.dtype for new, old in leaves)
        state = successor
