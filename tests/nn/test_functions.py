"""What all functions owe: the same values under jit, and under vmap as in a loop."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)


def floats(*shape):
    # A leading axis of 3 to map over.
    return RNG.normal(size=(3, *shape))


CLASSES = np.array([[1, 0, -100, 4], [2, 2, 2, 2], [-100, 0, 3, 1]])
ROWS = floats(4, 6)
PROBS = RNG.dirichlet(np.ones(6), size=(3, 4))
ELEMENTWISE = [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "sigmoid",
    "log_sigmoid",
    "softplus",
    "soft_sign",
    "squareplus",
    "tanh",
    "hard_tanh",
    "hard_sigmoid",
    "hard_silu",
    "mish",
    "glu",
    "softmax",
    "log_softmax",
    "logsumexp",
]

CASES = {
    **{name: (getattr(nn, name), (ROWS,)) for name in ELEMENTWISE},
    "masked softmax": (lambda x, m: nn.softmax(x, where=m), (ROWS, ROWS > 0)),
    "one_hot": (lambda x: nn.one_hot(x, 5), (CLASSES,)),
    "standardize": (nn.standardize, (ROWS,)),
    "layer_norm": (nn.layer_norm, (ROWS, floats(6), floats(6))),
    "rms_norm": (nn.rms_norm, (ROWS, floats(6))),
    "group_norm": (lambda x, w: nn.group_norm(x, 2, w), (floats(2, 4, 3), floats(4))),
    "batch_norm": (
        lambda x, m, v: nn.batch_norm(x, m, v, training=True),
        (floats(5, 4), floats(4), floats(4) ** 2),
    ),
    "embedding": (nn.embedding, (np.abs(CLASSES) % 5, floats(5, 2))),
    "dropout": (lambda x: nn.dropout(fg.random.key(0), x, 0.5), (ROWS,)),
    "conv": (lambda x, w: nn.conv(x, w, stride=2, padding=1), (floats(1, 2, 5), floats(3, 2, 3))),
    "conv_transpose": (
        lambda x, w: nn.conv_transpose(x, w, stride=2),
        (floats(1, 2, 4), floats(2, 3, 2)),
    ),
    "max_pool": (lambda x: nn.max_pool(x, 2, padding=1), (floats(1, 2, 6),)),
    "avg_pool": (lambda x: nn.avg_pool(x, 2, padding=1, ceil_mode=True), (floats(1, 2, 5),)),
    "attention": (
        lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True),
        (floats(1, 4, 2, 3), floats(1, 4, 1, 3), floats(1, 4, 1, 3)),
    ),
    "mse_loss": (nn.mse_loss, (ROWS, PROBS)),
    "l1_loss": (nn.l1_loss, (ROWS, PROBS)),
    "huber_loss": (nn.huber_loss, (ROWS, PROBS)),
    "smooth_l1_loss": (nn.smooth_l1_loss, (ROWS, PROBS)),
    "hinge_loss": (nn.hinge_loss, (ROWS, np.sign(ROWS))),
    "cosine_similarity": (nn.cosine_similarity, (ROWS, PROBS)),
    "cross_entropy": (
        lambda x, t: nn.cross_entropy(x, t, label_smoothing=0.1),
        (ROWS, CLASSES),
    ),
    "cross_entropy of probabilities": (nn.cross_entropy, (ROWS, PROBS)),
    "nll_loss": (nn.nll_loss, (ROWS, CLASSES)),
    "binary_cross_entropy": (nn.binary_cross_entropy, (PROBS, PROBS[::-1])),
    "binary_cross_entropy_with_logits": (nn.binary_cross_entropy_with_logits, (ROWS, PROBS)),
    "kl_div": (nn.kl_div, (ROWS, PROBS)),
}


def assert_close(actual, expected):
    actual, expected = fg.tree.leaves(actual), fg.tree.leaves(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(e), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_jit_gives_the_values_of_eager_calls(name):
    f, args = CASES[name]
    args = [x[0] for x in args]
    assert_close(fg.jit(f)(*args), f(*args))


@pytest.mark.parametrize("name", CASES)
def test_vmap_gives_the_values_of_a_loop(name):
    f, args = CASES[name]
    rows = [fg.tree.leaves(f(*(x[i] for x in args))) for i in range(3)]
    expected = [np.stack([np.asarray(x) for x in leaves]) for leaves in zip(*rows, strict=True)]
    assert_close(fg.vmap(f)(*args), expected)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"one_hot"}))
def test_the_gradient_under_jit_is_the_gradient(name):
    f, args = CASES[name]
    x, *rest = (x[0] for x in args)
    if name == "embedding":
        x, rest = rest[0], [x]
        f = lambda weight, indices: nn.embedding(indices, weight)  # noqa: E731

    def loss(x):
        return sum(fg.numpy.sum(fg.numpy.sin(y)) for y in fg.tree.leaves(f(x, *rest)))

    assert_close(fg.jit(fg.grad(loss))(x), fg.grad(loss)(x))
