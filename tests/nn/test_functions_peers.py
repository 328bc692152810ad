"""Functions against torch.nn.functional, forward and gradients, in float64."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)
X = 3 * RNG.normal(size=(2, 4, 6))
WEIGHT, BIAS = RNG.normal(size=6), RNG.normal(size=6)
CLASSES = np.array([1, 0, -100, 5])
PROBS = RNG.dirichlet(np.ones(6), size=4)
UNIT = RNG.uniform(0.05, 0.95, size=(4, 6))


def images(*shape):
    return RNG.normal(size=shape)


def qkv(t, s, n, k, h):
    return images(2, t, n, h), images(2, s, k, h), images(2, s, k, h)


def torch_attention(F, q, k, v, **options):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options).transpose(1, 2)


def elementwise(name, torch_name=None, **options):
    return (
        getattr(nn, name),
        lambda F, x: getattr(F, torch_name or name)(x, **options),
        (X,),
    )


CASES = {
    "relu": elementwise("relu"),
    "relu6": elementwise("relu6"),
    "leaky_relu": elementwise("leaky_relu"),
    "elu": elementwise("elu"),
    "selu": elementwise("selu"),
    "celu": elementwise("celu"),
    "gelu": elementwise("gelu", approximate="tanh"),
    "exact gelu": (
        lambda x: nn.gelu(x, approximate=False),
        lambda F, x: F.gelu(x),
        (X,),
    ),
    "silu": elementwise("silu"),
    "sigmoid": elementwise("sigmoid"),
    "log_sigmoid": elementwise("log_sigmoid", "logsigmoid"),
    "softplus": elementwise("softplus", threshold=1000),
    "soft_sign": elementwise("soft_sign", "softsign"),
    "hard_tanh": elementwise("hard_tanh", "hardtanh"),
    # F.hardsigmoid multiplies the gradient by 1/6 in float32.
    "hard_sigmoid": (nn.hard_sigmoid, lambda F, x: F.relu6(x + 3) / 6, (X,)),
    "hard_silu": elementwise("hard_silu", "hardswish"),
    "mish": elementwise("mish"),
    "glu": elementwise("glu"),
    "softmax": elementwise("softmax", dim=-1),
    "log_softmax": elementwise("log_softmax", dim=-1),
    "layer_norm": (
        nn.layer_norm,
        lambda F, x, w, b: F.layer_norm(x, (6,), w, b),
        (X, WEIGHT, BIAS),
    ),
    "rms_norm": (
        lambda x, w: nn.rms_norm(x, w, 1e-6),
        lambda F, x, w: F.rms_norm(x, (6,), w, 1e-6),
        (X, WEIGHT),
    ),
    "group_norm": (
        lambda x, w, b: nn.group_norm(x, 3, w, b),
        lambda F, x, w, b: F.group_norm(x, 3, w, b),
        (images(2, 6, 3), WEIGHT, BIAS),
    ),
    "batch_norm": (
        lambda x, w, b: nn.batch_norm(x, np.zeros(6), np.ones(6), w, b, training=True)[0],
        lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (images(2, 6, 3), WEIGHT, BIAS),
    ),
    "conv": (
        lambda x, w, b: nn.conv(x, w, b, (2, 1), (1, 2), (1, 2), 2),
        lambda F, x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2),
        (images(2, 4, 7, 8), images(6, 2, 3, 2), BIAS),
    ),
    "conv over three axes": (
        lambda x, w: nn.conv(x, w, stride=2, padding=1),
        lambda F, x, w: F.conv3d(x, w, stride=2, padding=1),
        (images(1, 2, 4, 5, 6), images(3, 2, 3, 2, 3)),
    ),
    "conv_transpose": (
        lambda x, w, b: nn.conv_transpose(x, w, b, (2, 3), 1, (1, 2), 2, (1, 2)),
        lambda F, x, w, b: F.conv_transpose2d(x, w, b, (2, 3), 1, (1, 2), 2, (1, 2)),
        (images(2, 4, 4, 3), images(4, 3, 3, 2), BIAS),
    ),
    "max_pool": (
        lambda x: nn.max_pool(x, 3, 2, 1),
        lambda F, x: F.max_pool2d(x, 3, 2, 1),
        (images(2, 3, 7, 8),),
    ),
    "max_pool with ceil": (
        lambda x: nn.max_pool(x, (3, 2), (2, 3), (1, 0), ceil_mode=True),
        lambda F, x: F.max_pool2d(x, (3, 2), (2, 3), (1, 0), ceil_mode=True),
        (images(2, 3, 6, 9),),
    ),
    "avg_pool": (
        lambda x: nn.avg_pool(x, 3, 2, 1),
        lambda F, x: F.avg_pool2d(x, 3, 2, 1),
        (images(2, 3, 7, 8),),
    ),
    "avg_pool with ceil": (
        lambda x: nn.avg_pool(x, 3, 2, 1, ceil_mode=True),
        lambda F, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        (images(2, 3, 6, 8),),
    ),
    "avg_pool without padding": (
        lambda x: nn.avg_pool(x, 3, 3, 1, ceil_mode=True, count_include_pad=False),
        lambda F, x: F.avg_pool2d(x, 3, 3, 1, ceil_mode=True, count_include_pad=False),
        (images(2, 3, 6, 8),),
    ),
    "attention": (nn.dot_product_attention, torch_attention, qkv(3, 5, 4, 4, 2)),
    "attention with groups": (nn.dot_product_attention, torch_attention, qkv(3, 5, 4, 2, 2)),
    "causal attention": (
        lambda q, k, v: nn.dot_product_attention(q, k, v, is_causal=True, scale=0.7),
        lambda F, q, k, v: torch_attention(F, q, k, v, is_causal=True, scale=0.7),
        qkv(4, 4, 2, 2, 3),
    ),
    "mse_loss": (nn.mse_loss, lambda F, x, y: F.mse_loss(x, y), (UNIT, PROBS)),
    "l1_loss": (nn.l1_loss, lambda F, x, y: F.l1_loss(x, y), (UNIT, PROBS)),
    "huber_loss": (
        lambda x, y: nn.huber_loss(x, y, delta=0.3),
        lambda F, x, y: F.huber_loss(x, y, delta=0.3),
        (UNIT, PROBS),
    ),
    "smooth_l1_loss": (
        lambda x, y: nn.smooth_l1_loss(x, y, beta=0.3),
        lambda F, x, y: F.smooth_l1_loss(x, y, beta=0.3),
        (UNIT, PROBS),
    ),
    "binary_cross_entropy": (
        nn.binary_cross_entropy,
        lambda F, x, y: F.binary_cross_entropy(x, y),
        (UNIT, RNG.random((4, 6))),
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, y: nn.binary_cross_entropy_with_logits(x, y, pos_weight=np.abs(WEIGHT)),
        lambda F, x, y: F.binary_cross_entropy_with_logits(
            x, y, pos_weight=y.new_tensor(np.abs(WEIGHT))
        ),
        (X[0], PROBS),
    ),
    "kl_div": (
        lambda x, y: nn.kl_div(x, y, "batchmean"),
        lambda F, x, y: F.kl_div(x, y, reduction="batchmean"),
        (X[0], PROBS),
    ),
    "cosine_similarity": (
        nn.cosine_similarity,
        lambda F, x, y: F.cosine_similarity(x, y, dim=-1),
        (UNIT, X[0]),
    ),
    "cross_entropy of probabilities": (
        lambda x, y: nn.cross_entropy(x, y, np.abs(WEIGHT), label_smoothing=0.2),
        lambda F, x, y: F.cross_entropy(x, y, y.new_tensor(np.abs(WEIGHT)), label_smoothing=0.2),
        (X[0], PROBS),
    ),
}


def check_against_torch(ours, theirs, arrays):
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = theirs(torch.nn.functional, *tensors)
    y, pullback = fg.vjp(ours, *arrays)
    np.testing.assert_allclose(np.asarray(y), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    ct = np.random.default_rng(1).normal(size=y.shape)
    expected.backward(torch.tensor(ct))
    for gradient, tensor in zip(pullback(fg.numpy.asarray(ct)), tensors, strict=True):
        np.testing.assert_allclose(np.asarray(gradient), tensor.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_functions_match_torch(name):
    check_against_torch(*CASES[name])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_classes_matches_torch(reduction, smoothing):
    torch = pytest.importorskip("torch")
    options = {"reduction": reduction, "label_smoothing": smoothing}
    weight = np.abs(WEIGHT)
    check_against_torch(
        lambda x: nn.cross_entropy(x, CLASSES, weight, **options),
        lambda F, x: F.cross_entropy(x, torch.tensor(CLASSES), torch.tensor(weight), **options),
        (X[0],),
    )


def test_nll_loss_matches_torch():
    torch = pytest.importorskip("torch")
    check_against_torch(
        lambda x: nn.nll_loss(x, CLASSES),
        lambda F, x: F.nll_loss(x, torch.tensor(CLASSES)),
        (X[0],),
    )


def test_the_running_statistics_of_batch_norm_match_torch():
    torch = pytest.importorskip("torch")
    x, mean, var = images(3, 6, 2), WEIGHT, np.abs(BIAS)
    their_mean, their_var = torch.tensor(mean), torch.tensor(var)
    torch.nn.functional.batch_norm(
        torch.tensor(x), their_mean, their_var, training=True, momentum=0.2
    )
    _, our_mean, our_var = nn.batch_norm(x, mean, var, training=True, momentum=0.2)
    np.testing.assert_allclose(np.asarray(our_mean), their_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(our_var), their_var.numpy(), rtol=1e-12)
