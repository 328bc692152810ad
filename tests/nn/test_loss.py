import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)
P, T = 2 * RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
D = P - T


def huber(d, delta):
    return np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))


CASES = {
    "mse_loss": (nn.mse_loss, D**2),
    "l1_loss": (nn.l1_loss, np.abs(D)),
    "huber_loss": (nn.huber_loss, huber(D, 1.0)),
    "huber_loss with delta": (
        lambda p, t, r: nn.huber_loss(p, t, r, delta=0.7),
        huber(D, 0.7),
    ),
    "smooth_l1_loss": (nn.smooth_l1_loss, huber(D, 1.0)),
    "smooth_l1_loss with beta": (
        lambda p, t, r: nn.smooth_l1_loss(p, t, r, beta=0.7),
        huber(D, 0.7) / 0.7,
    ),
    "smooth_l1_loss without parabola": (
        lambda p, t, r: nn.smooth_l1_loss(p, t, r, beta=0.0),
        np.abs(D),
    ),
    "hinge_loss": (nn.hinge_loss, np.maximum(0, 1 - T * P)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_follow_the_formula(name):
    loss, expected = CASES[name]
    np.testing.assert_allclose(np.asarray(loss(P, T, "none")), expected, rtol=1e-13)
    np.testing.assert_allclose(float(loss(P, T, "sum")), expected.sum(), rtol=1e-13)
    np.testing.assert_allclose(float(loss(P, T, "mean")), expected.mean(), rtol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_match_differences(name, check_gradient):
    loss, _ = CASES[name]
    check_gradient(lambda p, t: loss(p, t, "none"), P, T)


@pytest.mark.parametrize("name", CASES)
def test_the_dtype_is_kept(name):
    loss, _ = CASES[name]
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32):
        assert loss(P.astype(dtype), T.astype(dtype), "mean").dtype == dtype


def test_derivatives_at_kinks_are_zero():
    one = np.ones(1)
    for loss in (nn.l1_loss, nn.huber_loss, nn.smooth_l1_loss, nn.hinge_loss):
        assert float(fg.grad(lambda p, loss=loss: loss(p, one))(one)[0]) == 0.0


def test_cosine_similarity_is_the_cosine(check_gradient):
    expected = (P * T).sum(1) / np.linalg.norm(P, axis=1) / np.linalg.norm(T, axis=1)
    np.testing.assert_allclose(np.asarray(nn.cosine_similarity(P, T)), expected, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(nn.cosine_similarity(P.T, T.T, 0)), expected, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(nn.cosine_similarity(5 * P, T)), expected, rtol=1e-13)
    check_gradient(nn.cosine_similarity, P, T)


def test_cosine_similarity_of_a_zero_vector_is_zero_with_finite_gradients():
    zero = np.zeros(4)
    assert float(nn.cosine_similarity(zero, T[0])) == 0.0
    gradients = fg.grad(nn.cosine_similarity, argnums=(0, 1))(zero, T[0])
    assert all(np.isfinite(np.asarray(g)).all() for g in gradients)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_cosine_similarity_of_zero_in_16_bits(dtype):
    y = nn.cosine_similarity(np.zeros(4, dtype), np.ones(4, dtype))
    assert y.dtype == dtype
    assert float(y) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.mse_loss(P, T[0]), r"prediction \[3, 4\] and target \[4\] must"),
        (lambda: nn.l1_loss(P, T, "avg"), "'mean', 'sum' or 'none', got 'avg'"),
        (lambda: nn.huber_loss(P, T, delta=0.0), "delta must be positive, got 0.0"),
        (lambda: nn.smooth_l1_loss(P, T, beta=-1.0), "beta must not be negative, got -1.0"),
    ],
)
def test_wrong_arguments_are_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
