import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn


def key():
    return fg.random.key(0)


def test_the_share_of_zeros_and_the_scale_of_the_rest_follow_the_rate():
    x = np.random.default_rng(0).normal(size=10_000)
    y = np.asarray(nn.dropout(key(), x, 0.3))
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 0.025
    np.testing.assert_allclose(y[kept], x[kept] / 0.7, rtol=1e-12)


def test_the_ends_of_the_rate():
    x = np.ones(5, np.float32)
    np.testing.assert_array_equal(np.asarray(nn.dropout(key(), x, 0.0)), x)
    np.testing.assert_array_equal(np.asarray(nn.dropout(key(), x, 1.0)), 0.0)


def test_the_gradient_has_the_mask_of_the_value():
    x = np.random.default_rng(0).normal(size=100)
    value, pullback = fg.vjp(lambda x: nn.dropout(key(), x, 0.5), x)
    (gradient,) = pullback(fg.numpy.ones_like(value))
    np.testing.assert_allclose(np.asarray(gradient), np.where(np.asarray(value) != 0, 2.0, 0.0))


def test_the_key_decides_and_jit_agrees():
    x = np.ones(100, np.float32)
    one, two = (np.asarray(nn.dropout(fg.random.key(s), x, 0.5)) for s in (1, 2))
    assert (one != two).any()
    jitted = fg.jit(lambda key: nn.dropout(key, x, 0.5))
    np.testing.assert_array_equal(np.asarray(jitted(fg.random.key(1))), one)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_the_dtype_is_kept(dtype):
    assert nn.dropout(key(), np.ones(3, dtype), 0.5).dtype == dtype


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_the_unit_interval_is_an_error(rate):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\], got"):
        nn.dropout(key(), np.ones(3), rate)
