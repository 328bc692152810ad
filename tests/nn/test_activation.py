import math

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

X = np.array([-30.0, -4.5, -2.0, -0.7, -1e-3, 1e-3, 0.3, 1.2, 3.5, 7.0, 30.0])

_erf = np.vectorize(math.erf)


def logistic(x):
    return 1 / (1 + np.exp(-x))


FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * logistic(x),
    "swish": lambda x: x * logistic(x),
    "sigmoid": logistic,
    "softplus": lambda x: np.logaddexp(x, 0),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "squareplus": lambda x: np.where(
        x > 0, (x + np.sqrt(x * x + 4)) / 2, 2 / (np.sqrt(x * x + 4) - x)
    ),
    "tanh": np.tanh,
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_follow_the_formula(name):
    actual = np.asarray(getattr(nn, name)(X))
    # The formula of gelu cancels far to the left.
    np.testing.assert_allclose(actual, FORMULAS[name](X), rtol=1e-12, atol=1e-14)


def test_exact_gelu_is_x_times_the_normal_distribution():
    expected = 0.5 * X * (1 + _erf(X / math.sqrt(2)))
    np.testing.assert_allclose(
        np.asarray(nn.gelu(X, approximate=False)), expected, rtol=1e-10, atol=1e-15
    )


def test_exact_gelu_keeps_its_digits_in_the_lower_tail():
    # x · erfc(-x/√2) / 2 at -8, where 1 + erf has none left.
    expected = -8.0 * 0.5 * math.erfc(8 / math.sqrt(2))
    np.testing.assert_allclose(float(nn.gelu(np.float64(-8.0), approximate=False)), expected, 1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_derivatives_match_differences(name, check_gradient):
    check_gradient(getattr(nn, name), [-2.5, -1.3, -0.6, 0.4, 0.8, 2.2, 7.5])


@pytest.mark.parametrize("name", FORMULAS)
def test_second_derivatives_match_differences(name, check_gradient):
    f = getattr(nn, name)
    check_gradient(fg.vmap(fg.grad(f)), [-2.5, -1.3, -0.6, 0.4, 0.8, 2.2, 7.5])


def test_exact_gelu_has_its_derivatives(check_gradient):
    check_gradient(lambda x: nn.gelu(x, approximate=False), [-2.5, -0.6, 0.0, 0.8, 2.2])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_dtype_is_kept(name, dtype):
    y = getattr(nn, name)(X.astype(dtype))
    assert y.dtype == dtype
    unit = float(ml_dtypes.finfo(dtype).eps)
    expected = FORMULAS[name](X.astype(dtype).astype(np.float64))
    np.testing.assert_allclose(
        np.asarray(y).astype(np.float64), expected, rtol=16 * unit, atol=16 * unit
    )


@pytest.mark.parametrize(
    ("name", "at", "derivative"),
    [
        ("relu", 0.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("relu6", 6.0, 0.0),
        ("hard_tanh", -1.0, 0.0),
        ("hard_tanh", 1.0, 0.0),
        ("hard_sigmoid", -3.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("leaky_relu", 0.0, 1.0),
        ("elu", 0.0, 1.0),
        ("celu", 0.0, 1.0),
        ("soft_sign", 0.0, 1.0),
    ],
)
def test_derivatives_at_a_kink(name, at, derivative):
    assert float(fg.grad(getattr(nn, name))(np.float64(at))) == derivative


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("at", [-1e4, 1e4])
def test_values_and_derivatives_stay_finite_far_out(name, at):
    value, derivative = fg.value_and_grad(getattr(nn, name))(np.float64(at))
    assert np.isfinite(float(value))
    assert np.isfinite(float(derivative))


@pytest.mark.parametrize("name", FORMULAS)
def test_nan_stays_nan(name):
    assert np.isnan(float(getattr(nn, name)(np.float64("nan"))))


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"relu", "relu6", "hard_tanh"}))
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=r"needs a float array, got int32\[2\]; convert x"):
        getattr(nn, name)(np.array([1, 2], np.int32))


def test_glu_gates_the_first_half_with_the_second(check_gradient):
    x = np.random.default_rng(0).normal(size=(2, 6, 3))
    np.testing.assert_allclose(
        np.asarray(nn.glu(x, axis=1)), x[:, :3] * logistic(x[:, 3:]), rtol=1e-12
    )
    check_gradient(nn.glu, x[:, :, :2])


def test_glu_needs_an_even_axis():
    with pytest.raises(TypeError, match=r"axis -1 of x must have an even size, got x \[2, 3\]"):
        nn.glu(np.ones((2, 3)))


def test_options_change_the_function():
    assert float(nn.leaky_relu(np.float64(-2.0), 0.5)) == -1.0
    np.testing.assert_allclose(float(nn.elu(np.float64(-2.0), 0.5)), 0.5 * math.expm1(-2))
    np.testing.assert_allclose(float(nn.celu(np.float64(-2.0), 0.5)), 0.5 * math.expm1(-4))
    np.testing.assert_allclose(float(nn.squareplus(np.float64(1.0), 3.0)), 1.5)
