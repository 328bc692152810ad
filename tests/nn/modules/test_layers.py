import math

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn
import fgrad.optim as optim
from fgrad import tree_util


def key():
    return fg.random.key(0)


def test_linear_has_pytorchs_shapes_and_bounds():
    layer = nn.Linear(key(), 100, 50)
    assert layer.weight.shape == (50, 100)
    assert layer.bias.shape == (50,)
    for parameter in (layer.weight, layer.bias):
        assert 0.08 < np.abs(np.asarray(parameter)).max() <= 0.1


def test_linear_without_bias():
    layer = nn.Linear(key(), 3, 2, bias=False)
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(layer(x)), x @ np.asarray(layer.weight).T, rtol=1e-5, atol=1e-6
    )
    assert layer.bias is None


def test_conv2d_has_pytorchs_shapes_and_bounds():
    layer = nn.Conv2d(key(), 8, 6, (3, 5), groups=2)
    assert layer.weight.shape == (6, 4, 3, 5)
    bound = 1 / math.sqrt(4 * 15)
    assert 0.9 * bound < np.abs(np.asarray(layer.weight)).max() <= bound


def test_embedding_is_standard_normal_and_zero_at_its_padding():
    layer = nn.Embedding(key(), 50, 40, padding_idx=-1)
    weight = np.asarray(layer.weight)
    assert layer.padding_idx == 49
    assert (weight[49] == 0).all()
    np.testing.assert_allclose(weight[:49].std(), 1.0, rtol=0.1)


def test_the_padding_row_gets_no_gradient():
    layer = nn.Embedding(key(), 4, 2, padding_idx=1)
    gradient = fg.grad(lambda m: fg.numpy.sum(m(np.array([0, 1, 1, 3]))))(layer)
    np.testing.assert_array_equal(np.asarray(gradient.weight)[:, 0], [1, 0, 0, 1])


def test_rms_norm_takes_the_machine_epsilon():
    x = np.full((1, 2), 1e-4, np.float32)
    expected = 1e-4 / math.sqrt(1e-8 + np.finfo(np.float32).eps)
    np.testing.assert_allclose(np.asarray(nn.RMSNorm(2)(x)), expected, rtol=1e-5)


def test_dropout_needs_a_key_or_none():
    x = np.ones(5, np.float32)
    with pytest.raises(TypeError, match="key"):
        nn.Dropout(0.5)(x)
    np.testing.assert_array_equal(np.asarray(nn.Dropout(0.5)(x, key=None)), x)
    assert set(np.asarray(nn.Dropout(0.5)(np.ones(99, np.float32), key=key())).tolist()) == {
        0.0,
        2.0,
    }


def test_sequential_splits_its_key_among_random_layers():
    model = nn.Sequential(nn.Dropout(0.5), nn.tanh, nn.Sequential(nn.Dropout(0.5)), nn.Lambda(abs))
    x = np.ones(1000, np.float32)
    y = np.asarray(model(x, key=key()))
    # Independent masks leave a quarter; one mask twice would leave a half.
    assert 180 < np.count_nonzero(y) < 320
    assert np.count_nonzero(np.asarray(model(x))) == 1000


def test_sequential_is_indexed_and_refuses_what_is_not_callable():
    model = nn.Sequential(nn.LayerNorm(2), nn.relu)
    assert isinstance(model[0], nn.LayerNorm)
    assert len(model) == 2
    with pytest.raises(ValueError, match="layer 1 is a int, not callable"):
        nn.Sequential(nn.relu, 3)


LAYERS = {
    "Linear": (lambda d: nn.Linear(key(), 4, 3, dtype=d), (2, 4)),
    "Conv2d": (lambda d: nn.Conv2d(key(), 4, 6, 3, padding=1, dtype=d), (1, 4, 5, 5)),
    "LayerNorm": (lambda d: nn.LayerNorm((3, 4), dtype=d), (2, 3, 4)),
    "RMSNorm": (lambda d: nn.RMSNorm(4, dtype=d), (2, 4)),
    "GroupNorm": (lambda d: nn.GroupNorm(2, 4, dtype=d), (2, 4, 3)),
    "MultiHeadAttention": (lambda d: nn.MultiHeadAttention(key(), 4, 2, dtype=d), (2, 3, 4)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_parameters_results_and_gradients_keep_the_dtype(name, dtype):
    make, shape = LAYERS[name]
    layer = make(dtype)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    assert layer(x).dtype == dtype
    gradient = fg.grad(lambda m: fg.numpy.sum(m(x)))(layer)
    assert tree_util.tree_structure(gradient) == tree_util.tree_structure(layer)
    assert all(g.dtype == dtype for g in tree_util.tree_leaves(gradient))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.Linear(key(), 3, 2)(np.ones((4, 5))),
            r"Linear: x must be \[..., 3\], got \[4, 5",
        ),
        (lambda: nn.Conv2d(key(), 3, 4, 3, groups=2), "groups must divide"),
        (lambda: nn.Conv2d(key(), 3, 4, (3, 3, 3)), "each of the 2 spatial axes"),
        (lambda: nn.Embedding(key(), 3, 2, padding_idx=3), "padding_idx 3 is no row of 3"),
        (lambda: nn.LayerNorm(3)(np.ones((2, 4))), r"must end with the normalized shape \[3\]"),
        (lambda: nn.GroupNorm(3, 4), "3 groups do not divide 4"),
        (lambda: nn.GroupNorm(2, 4)(np.ones((1, 6))), r"\[batch, 4, ...\], got \[1, 6\]"),
        (lambda: nn.MultiHeadAttention(key(), 6, 4), "4 heads do not divide embed_dim=6"),
        (lambda: nn.MultiHeadAttention(key(), 6, 2)(np.ones((2, 5))), r"6\], got \[2, 5\]"),
        (lambda: nn.Dropout(1.5), r"p must lie in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_uses_say_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_model_trains():
    k1, k2 = fg.random.split(key())
    model = nn.Sequential(nn.Linear(k1, 2, 16), nn.gelu, nn.Linear(k2, 16, 2))
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    labels = np.array([0, 1, 1, 0])
    optimizer = optim.adamw(0.02)

    def loss(model):
        return nn.cross_entropy(model(x), labels)

    @fg.jit
    def step(model, state):
        value, gradient = fg.value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state, model)
        return optim.apply_updates(model, updates), state, value

    state = optimizer.init(model)
    for _ in range(150):
        model, state, value = step(model, state)
    assert float(value) < 0.05
    assert np.asarray(model(x)).argmax(1).tolist() == labels.tolist()
