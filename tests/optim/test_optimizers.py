import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
import fgrad.optim as optim
from fgrad import tree_util

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


def random_tree(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(3, 2)).astype(dtype),
        "layers": [rng.normal(size=4).astype(dtype), np.asarray(rng.normal()).astype(dtype)],
    }


def gradients(dtype=np.float64, steps=7):
    return [random_tree(seed, dtype) for seed in range(1, steps + 1)]


def run(optimizer, params, grads, update=None):
    state = optimizer.init(params)
    update = update or optimizer.update
    for g in grads:
        updates, state = update(g, state, params)
        params = optim.apply_updates(params, updates)
    return params, state


def assert_close(actual, expected, rtol=1e-13, atol=1e-15):
    assert tree_util.tree_structure(actual) == tree_util.tree_structure(expected)
    pairs = zip(tree_util.tree_leaves(actual), tree_util.tree_leaves(expected), strict=True)
    for a, e in pairs:
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=rtol, atol=atol)


def leafwise(formula, params, grads):
    """Run a NumPy optimizer ``formula(p, [g…]) -> p`` on each leaf alone."""
    return tree_util.tree_map(lambda p, *gs: formula(p, gs), params, *grads)


def numpy_sgd(lr, mu=0.0, nesterov=False):
    def formula(p, gs):
        velocity = np.zeros_like(p)
        for g in gs:
            velocity = mu * velocity + g
            p = p - lr * (g + mu * velocity if nesterov else velocity)
        return p

    return formula


def numpy_adam(lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, decay=0.0, nesterov=False):
    def formula(p, gs):
        m, v = np.zeros_like(p), np.zeros_like(p)
        for n, g in enumerate(gs, start=1):
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            mean = m / (1 - b1**n)
            if nesterov:
                mean = b1 * m / (1 - b1 ** (n + 1)) + (1 - b1) * g / (1 - b1**n)
            p = p - lr * (mean / (np.sqrt(v / (1 - b2**n) + eps_root) + eps) + decay * p)
        return p

    return formula


CASES = {
    "sgd": (optim.sgd(0.1), numpy_sgd(0.1)),
    "momentum": (optim.momentum(0.1, 0.8), numpy_sgd(0.1, 0.8)),
    "nesterov": (optim.sgd(0.1, 0.8, nesterov=True), numpy_sgd(0.1, 0.8, nesterov=True)),
    "adam": (optim.adam(0.02), numpy_adam(0.02)),
    "adam with all options": (
        optim.adam(0.02, 0.7, 0.95, 1e-3, 1e-4, nesterov=True),
        numpy_adam(0.02, 0.7, 0.95, 1e-3, 1e-4, nesterov=True),
    ),
    "adam without memory": (optim.adam(0.02, 0.0, 0.0), numpy_adam(0.02, 0.0, 0.0)),
    "adamw": (optim.adamw(0.02, weight_decay=0.3), numpy_adam(0.02, decay=0.3)),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_follow_the_formula_in_float64(name):
    optimizer, formula = CASES[name]
    params, grads = random_tree(0), gradients()
    actual, _ = run(optimizer, params, grads)
    # 1 - b2**n of the formula cancels three digits; the optimizer's expm1 does not.
    assert_close(actual, leafwise(formula, params, grads), rtol=2e-12)


@pytest.mark.parametrize("name", CASES)
def test_jitted_steps_equal_eager_ones(name):
    optimizer, _ = CASES[name]
    params, grads = random_tree(0), gradients()
    eager, eager_state = run(optimizer, params, grads)
    jitted, jitted_state = run(optimizer, params, grads, fg.jit(optimizer.update))
    assert_close(jitted, eager)
    assert_close(jitted_state, eager_state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_every_dtype_is_kept(name, dtype):
    optimizer, formula = CASES[name]
    params, grads = random_tree(0, dtype), gradients(dtype)
    state = optimizer.init(params)
    for g in grads:
        updates, successor = optimizer.update(g, state, params)
        for new, old in zip(tree_util.tree_leaves(updates), tree_util.tree_leaves(g), strict=True):
            assert new.dtype == old.dtype
        leaves = zip(tree_util.tree_leaves(successor), tree_util.tree_leaves(state), strict=True)
        for new, old in leaves:
            assert new.dtype == old.dtype
        params, state = optim.apply_updates(params, updates), successor
    exact = leafwise(
        formula,
        tree_util.tree_map(lambda x: x.astype(np.float64), random_tree(0, dtype)),
        [tree_util.tree_map(lambda x: x.astype(np.float64), g) for g in grads],
    )
    unit = float(ml_dtypes.finfo(dtype).eps)
    for p, e in zip(tree_util.tree_leaves(params), tree_util.tree_leaves(exact), strict=True):
        assert p.dtype == dtype
        # Seven steps, each rounding the parameter, the state and the update.
        np.testing.assert_allclose(
            np.asarray(p).astype(np.float64), e, rtol=20 * unit, atol=20 * unit
        )


def test_a_learning_rate_may_be_a_schedule():
    params, grads = random_tree(0), gradients(steps=3)
    actual, state = run(optim.sgd(lambda count: 0.5 / (count + 1)), params, grads)
    expected = leafwise(
        lambda p, gs: p - sum(0.5 / (n + 1) * g for n, g in enumerate(gs)), params, grads
    )
    assert_close(actual, expected, rtol=1e-6)
    assert int(state.count) == 3
    assert state.count.dtype == np.int32


def test_a_schedule_counts_inside_jit():
    optimizer = optim.adamw(optim.linear_schedule(0.0, 1.0, 4))
    params, grads = random_tree(0), gradients()
    assert_close(
        run(optimizer, params, grads, fg.jit(optimizer.update))[0],
        run(optimizer, params, grads)[0],
        rtol=1e-6,
    )


@pytest.mark.parametrize("mask", ["tree", "prefix", "function"])
def test_adamw_decays_only_where_the_mask_says(mask):
    masks = {
        "tree": {"w": True, "layers": [False, False]},
        "prefix": {"w": True, "layers": False},
        "function": lambda tree: tree_util.tree_map(lambda x: x.ndim == 2, tree),
    }
    params, grads = random_tree(0), gradients()
    actual, _ = run(optim.adamw(0.02, weight_decay=0.3, mask=masks[mask]), params, grads)
    decayed = leafwise(numpy_adam(0.02, decay=0.3), params, grads)
    plain = leafwise(numpy_adam(0.02), params, grads)
    assert_close(actual, {"w": decayed["w"], "layers": plain["layers"]}, rtol=2e-12)


def test_adam_keeps_its_mean_in_the_dtype_asked_for():
    params, grads = random_tree(0, np.float32), gradients(np.float32)
    optimizer = optim.adam(0.02, mu_dtype=ml_dtypes.bfloat16)
    actual, (state, _) = run(optimizer, params, grads)
    for mu, nu in zip(
        tree_util.tree_leaves(state.mu), tree_util.tree_leaves(state.nu), strict=True
    ):
        assert mu.dtype == ml_dtypes.bfloat16
        assert nu.dtype == np.float32
    assert_close(actual, leafwise(numpy_adam(0.02), params, grads), rtol=1e-2, atol=1e-2)


def test_adam_handles_complex_parameters():
    rng = np.random.default_rng(3)
    p = rng.normal(size=4) + 1j * rng.normal(size=4)
    g = rng.normal(size=4) + 1j * rng.normal(size=4)
    optimizer = optim.adam(0.1)
    state = optimizer.init(p)
    updates, (state, _) = optimizer.update(g, state, p)
    np.testing.assert_allclose(np.asarray(updates), -0.1 * g / (np.abs(g) + 1e-8), rtol=1e-12)
    assert np.asarray(state.nu).dtype == np.float64


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_adam_does_not_depend_on_the_scale_of_the_gradient(factor):
    params, grads = random_tree(0), gradients()
    optimizer = optim.adam(0.02, eps=0.0)
    scaled = [tree_util.tree_map(lambda g: factor * g, tree) for tree in grads]
    assert_close(run(optimizer, params, scaled)[0], run(optimizer, params, grads)[0], rtol=1e-10)


def test_bias_correction_keeps_its_digits_in_float32():
    g = np.full(1, 0.5, np.float32)
    adam = optim.scale_by_adam(0.9, 0.999, eps=0.0)
    state = adam.init(g)
    for _ in range(5):
        update, state = adam.update(g, state)
        np.testing.assert_allclose(np.asarray(update), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_states_survive_flattening(name):
    optimizer, _ = CASES[name]
    params, grads = random_tree(0), gradients()
    _, state = run(optimizer, params, grads)
    leaves, structure = tree_util.tree_flatten(state)
    rebuilt = tree_util.tree_unflatten(structure, leaves)
    assert type(rebuilt) is type(state)
    assert_close(
        optimizer.update(grads[0], rebuilt, params)[0],
        optimizer.update(grads[0], state, params)[0],
        rtol=0,
    )


def test_training_reaches_the_minimum():
    target = np.array([1.0, -2.0, 0.5], np.float32)

    def loss(p):
        return fnp.sum((p - target) ** 2)

    optimizer = optim.adam(optim.cosine_decay_schedule(0.1, 200))

    @fg.jit
    def step(p, state):
        updates, state = optimizer.update(fg.grad(loss)(p), state, p)
        return optim.apply_updates(p, updates), state

    p = np.zeros(3, np.float32)
    state = optimizer.init(p)
    for _ in range(200):
        p, state = step(p, state)
    np.testing.assert_allclose(np.asarray(p), target, atol=1e-3)


def test_a_step_can_be_differentiated_with_respect_to_the_learning_rate():
    params, grads = random_tree(0)["w"], [tree["w"] for tree in gradients(steps=3)]

    def final_sum(lr):
        return fnp.sum(run(optim.sgd(lr), params, grads)[0])

    derivative = fg.grad(final_sum)(np.float64(0.1))
    np.testing.assert_allclose(float(derivative), -sum(g.sum() for g in grads), rtol=1e-12)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("make", [optim.trace, optim.scale_by_adam, optim.ema])
def test_a_decay_outside_the_unit_interval_is_an_error(make, decay):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got"):
        make(decay)
