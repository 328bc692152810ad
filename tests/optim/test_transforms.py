import ml_dtypes
import numpy as np
import pytest

import fgrad.optim as optim
from fgrad import nn, random, tree_util


def apply(transformation, updates, params=None):
    return transformation.update(updates, transformation.init(updates), params)[0]


def test_identity_returns_its_updates():
    updates = {"w": np.ones(2)}
    assert apply(optim.identity(), updates) is updates


def test_chain_applies_in_order():
    g = np.array([4.0, -1.0])
    result = apply(optim.chain(optim.scale(2.0), optim.clip(3.0), optim.scale(10.0)), g)
    np.testing.assert_array_equal(np.asarray(result), [30.0, -20.0])


def test_chain_refuses_the_state_of_another_chain():
    chain = optim.chain(optim.scale(2.0), optim.clip(3.0))
    with pytest.raises(ValueError, match="tuple of 2 states"):
        chain.update(np.ones(2), (optim.EmptyState(),))


def test_scaling_a_bfloat16_leaf_rounds_once():
    g = np.full(1, 3.0, ml_dtypes.bfloat16)
    result = apply(optim.scale(1e-3), g)
    assert result.dtype == ml_dtypes.bfloat16
    assert np.asarray(result)[0] == ml_dtypes.bfloat16(3e-3)


def test_the_sign_of_the_learning_rate_can_be_kept():
    g = np.ones(1)
    assert float(apply(optim.scale_by_learning_rate(0.5, flip_sign=False), g)[0]) == 0.5


@pytest.mark.parametrize("debias", [True, False])
def test_ema_is_the_weighted_mean_of_the_past(debias):
    xs = np.random.default_rng(0).normal(size=(6, 3))
    average = optim.ema(0.8, debias=debias)
    state = average.init(xs[0])
    for x in xs:
        out, state = average.update(x, state)
    weights = 0.2 * 0.8 ** np.arange(5, -1, -1)
    expected = weights @ xs / (weights.sum() if debias else 1.0)
    np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-12)


def test_ema_of_bfloat16_keeps_moving():
    average = optim.ema(0.999)
    x = np.ones(1, ml_dtypes.bfloat16)
    state = average.init(x)
    for _ in range(50):
        out, state = average.update(x, state)
    assert out.dtype == ml_dtypes.bfloat16
    assert state.ema.dtype == np.float32
    np.testing.assert_allclose(np.asarray(state.ema), 1 - 0.999**50, rtol=1e-5)


def test_add_decayed_weights_needs_the_parameters():
    with pytest.raises(ValueError, match="add_decayed_weights needs the parameters"):
        apply(optim.add_decayed_weights(0.1), np.ones(2))


def test_masked_gives_the_inner_state_no_unselected_leaf():
    tree = {"w": np.ones((2, 2)), "b": np.ones(2)}
    step = optim.masked(optim.trace(0.9), {"w": True, "b": False})
    state = step.init(tree)
    assert [leaf.shape for leaf in tree_util.tree_leaves(state)] == [(2, 2)]
    for _ in range(2):
        updates, state = step.update(tree, state)
    np.testing.assert_allclose(np.asarray(updates["w"]), 1.9)
    np.testing.assert_array_equal(np.asarray(updates["b"]), 1.0)


def test_a_module_of_booleans_is_a_mask_although_it_can_be_called():
    layer = nn.Linear(random.key(0), 2, 3)
    mask = tree_util.tree_map(lambda x: x.ndim == 2, layer)
    halve = optim.masked(optim.scale(0.5), mask)
    ones = tree_util.tree_map(np.ones_like, layer)
    updates = apply(halve, ones)
    assert (updates.weight.max(), updates.bias.min()) == (0.5, 1.0)
    whole = optim.masked(optim.scale(0.5), lambda tree: tree_util.tree_map(np.ndim, tree))
    assert apply(whole, ones).bias.max() == 0.5


def test_apply_updates_keeps_the_dtype_of_the_parameters():
    params = {"w": np.ones(2, ml_dtypes.bfloat16), "b": np.ones(1, np.float64)}
    updates = {"w": np.full(2, 0.5, np.float32), "b": np.full(1, 0.5, np.float32)}
    new = optim.apply_updates(params, updates)
    assert new["w"].dtype == ml_dtypes.bfloat16
    assert new["b"].dtype == np.float64
    np.testing.assert_array_equal(np.asarray(new["b"]), 1.5)


def test_apply_updates_keeps_none():
    assert optim.apply_updates({"w": None}, {"w": None}) == {"w": None}
