import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, size=(2, 6, 3))
WEIGHT, BIAS = RNG.normal(size=6), RNG.normal(size=6)


def normalized(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), (-1, 0)])
def test_layer_norm_follows_its_formula(axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(a % 3 for a in axes))
    sizes = [X.shape[a] for a in axes]
    weight, bias = RNG.normal(size=sizes), RNG.normal(size=sizes)
    shape = [X.shape[a] if a in axes else 1 for a in range(3)]
    expected = normalized(X, axes, 1e-2) * weight.reshape(shape) + bias.reshape(shape)
    actual = nn.layer_norm(X, weight, bias, axis=axis, eps=1e-2)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-12)


def test_rms_norm_follows_its_formula():
    weight = RNG.normal(size=3)
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-2) * weight
    np.testing.assert_allclose(np.asarray(nn.rms_norm(X, weight, 1e-2)), expected, rtol=1e-12)
    by_channel = nn.rms_norm(X, WEIGHT, eps=1e-2, axis=1)
    expected = X / np.sqrt((X**2).mean(1, keepdims=True) + 1e-2) * WEIGHT[:, None]
    np.testing.assert_allclose(np.asarray(by_channel), expected, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_follows_its_formula(groups):
    grouped = normalized(X.reshape(2, groups, 6 // groups, 3), (2, 3), 1e-2).reshape(X.shape)
    expected = grouped * WEIGHT[:, None] + BIAS[:, None]
    actual = nn.group_norm(X, groups, WEIGHT, BIAS, 1e-2)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-12)


def test_group_norm_takes_channels_last():
    last = np.moveaxis(X, 1, -1)
    actual = nn.group_norm(last, 2, WEIGHT, BIAS, channel_axis=-1)
    expected = np.moveaxis(np.asarray(nn.group_norm(X, 2, WEIGHT, BIAS)), 1, -1)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-12)


@pytest.mark.parametrize("axis", [-1, (0, 2)])
def test_standardize_follows_its_formula(axis):
    np.testing.assert_allclose(
        np.asarray(nn.standardize(X, axis, epsilon=1e-2)), normalized(X, axis, 1e-2), rtol=1e-12
    )


def test_standardize_takes_given_statistics_and_a_mask():
    actual = nn.standardize(X, mean=1.0, variance=4.0, epsilon=0.0)
    np.testing.assert_allclose(np.asarray(actual), (X - 1) / 2, rtol=1e-12)
    where = np.arange(3) < 2
    actual = np.asarray(nn.standardize(X, where=where, epsilon=0.0))[..., :2]
    np.testing.assert_allclose(actual, normalized(X[..., :2], -1, 0.0), rtol=1e-9)


NORMS = {
    "layer_norm": lambda x, w, b: nn.layer_norm(x, w, b, axis=1),
    "rms_norm": lambda x, w, b: nn.rms_norm(x, w, axis=1) + b[:, None],
    "group_norm": lambda x, w, b: nn.group_norm(x, 2, w, b),
    "batch_norm": lambda x, w, b: nn.batch_norm(x, np.zeros(6), np.ones(6), w, b, training=True)[0],
    "batch_norm in inference": lambda x, w, b: nn.batch_norm(
        x, BIAS, WEIGHT**2, w, b, training=False
    )[0],
}


@pytest.mark.parametrize("name", NORMS)
def test_derivatives_match_differences(name, check_gradient):
    check_gradient(NORMS[name], X, WEIGHT, BIAS, rtol=1e-7)


@pytest.mark.parametrize("name", NORMS)
def test_second_derivatives_match_differences(name, check_gradient):
    w = RNG.normal(size=(2, 6, 1))

    def gradient(x, weight):
        return fg.grad(lambda x: fg.numpy.sum(w * NORMS[name](x, weight, BIAS)))(x)

    check_gradient(gradient, X[:, :, :1], WEIGHT, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm"])
def test_scale_and_shift_of_the_input_do_not_matter(name):
    one, zero = np.ones(6), np.zeros(6)
    moved = NORMS[name](1e4 * X + 300.0, one, zero)
    np.testing.assert_allclose(
        np.asarray(moved), np.asarray(NORMS[name](X, one, zero)), rtol=1e-4, atol=1e-5
    )


def test_the_variance_does_not_cancel_in_float32():
    x = (np.array([0.0, 1.0, 2.0, 3.0]) + 4096.0).astype(np.float32)
    expected = normalized(x.astype(np.float64), -1, 0.0)
    np.testing.assert_allclose(np.asarray(nn.layer_norm(x, eps=0.0)), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_dtype_is_kept_and_low_precision_rounds_once(dtype):
    x = X.astype(dtype)
    w, b = WEIGHT.astype(dtype), BIAS.astype(dtype)
    for name in NORMS:
        if name == "rms_norm":  # adds a bias outside
            continue
        y = NORMS[name](x, w, b)
        assert y.dtype == dtype, name
        wide = NORMS[name](*(a.astype(np.float64) for a in (x, w, b)))
        unit = float(ml_dtypes.finfo(dtype).eps)
        np.testing.assert_allclose(
            np.asarray(y).astype(np.float64), np.asarray(wide), rtol=unit + 2e-6, atol=2e-6
        )


def test_batch_norm_moves_its_statistics_in_training():
    mean, var = RNG.normal(size=6), RNG.random(6) + 0.5
    y, new_mean, new_var = nn.batch_norm(X, mean, var, training=True, momentum=0.3, eps=1e-2)
    np.testing.assert_allclose(np.asarray(y), normalized(X, (0, 2), 1e-2), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(new_mean), 0.7 * mean + 0.3 * X.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(new_var), 0.7 * var + 0.3 * X.var((0, 2), ddof=1), rtol=1e-12
    )


def test_batch_norm_uses_and_keeps_its_statistics_in_inference():
    mean, var = RNG.normal(size=6), RNG.random(6) + 0.5
    y, new_mean, new_var = nn.batch_norm(X, mean, var, training=False, eps=1e-2)
    expected = (X - mean[:, None]) / np.sqrt(var[:, None] + 1e-2)
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(new_mean), mean)
    np.testing.assert_array_equal(np.asarray(new_var), var)


def test_running_statistics_carry_no_derivative():
    def statistics(x):
        _, mean, var = nn.batch_norm(x, np.zeros(6), np.ones(6), training=True)
        return fg.numpy.sum(mean + var)

    np.testing.assert_array_equal(np.asarray(fg.grad(statistics)(X)), 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.layer_norm(X, np.ones(4)), r"weight must be \[3\], .* got \[4\]"),
        (lambda: nn.layer_norm(X, None, np.ones((2, 3))), r"bias must be \[3\]"),
        (lambda: nn.layer_norm(X, axis=3), r"axis 3 does not fit x \[2, 6, 3\]"),
        (lambda: nn.layer_norm(X, axis=(1, -2)), "does not fit"),
        (lambda: nn.rms_norm(X, np.ones(6)), r"weight must be \[3\]"),
        (lambda: nn.group_norm(X, 4), "4 groups do not divide the 6 channels"),
        (lambda: nn.group_norm(X, 2, np.ones(2)), r"weight must be \[6\]"),
        (lambda: nn.group_norm(X, 2, channel_axis=0), "is the batch"),
        (
            lambda: nn.batch_norm(X, np.ones(5), np.ones(6), training=True),
            r"running_mean must be \[6\]",
        ),
        (
            lambda: nn.batch_norm(X[:1, :, :1], np.ones(6), np.ones(6), training=True),
            "two values a channel",
        ),
    ],
)
def test_wrong_shapes_are_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
