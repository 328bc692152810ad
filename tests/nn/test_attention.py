import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)


def inputs(batch=2, length=3, keys=4, heads=4, key_heads=2, size=3, value_size=5):
    return (
        RNG.normal(size=(batch, length, heads, size)),
        RNG.normal(size=(batch, keys, key_heads, size)),
        RNG.normal(size=(batch, keys, key_heads, value_size)),
    )


def reference(query, key, value, bias=None, mask=None, scale=None, is_causal=False):
    """One query at a time."""
    batch, length, heads, size = query.shape
    keys, key_heads = key.shape[1:3]
    scale = 1 / np.sqrt(size) if scale is None else scale
    full = (batch, heads, length, keys)
    bias = np.zeros(full) if bias is None else np.broadcast_to(bias, full)
    mask = np.ones(full, bool) if mask is None else np.broadcast_to(mask, full)
    out = np.zeros((batch, length, heads, value.shape[-1]))
    for b, t, n in np.ndindex(batch, length, heads):
        k = n // (heads // key_heads)
        seen = [s for s in range(keys) if mask[b, n, t, s] and not (is_causal and s > t)]
        scores = np.array([scale * query[b, t, n] @ key[b, s, k] + bias[b, n, t, s] for s in seen])
        if seen:
            weights = np.exp(scores - scores.max())
            out[b, t, n] = weights / weights.sum() @ value[b, seen, k]
    return out


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_values_follow_the_formula(key_heads, is_causal, scale):
    q, k, v = inputs(key_heads=key_heads)
    options = {"scale": scale, "is_causal": is_causal}
    np.testing.assert_allclose(
        np.asarray(nn.dot_product_attention(q, k, v, **options)),
        reference(q, k, v, **options),
        rtol=1e-12,
    )


@pytest.mark.parametrize("shape", [(3, 4), (4, 3, 4), (2, 1, 3, 4), (2, 1, 1, 4)])
def test_bias_and_mask_broadcast(shape):
    q, k, v = inputs()
    bias, mask = RNG.normal(size=shape), RNG.random(shape) < 0.6
    np.testing.assert_allclose(
        np.asarray(nn.dot_product_attention(q, k, v, bias, mask)),
        reference(q, k, v, bias, mask),
        rtol=1e-11,
        atol=1e-14,
    )


def test_a_query_that_sees_no_key_gets_zeros_and_finite_gradients():
    q, k, v = inputs()
    mask = np.ones((3, 4), bool)
    mask[1] = False
    y = np.asarray(nn.dot_product_attention(q, k, v, mask=mask))
    assert (y[:, 1] == 0).all()
    assert (y[:, 0] != 0).all()
    gradients = fg.grad(
        lambda *args: fg.numpy.sum(nn.dot_product_attention(*args, mask=mask)), argnums=(0, 1, 2)
    )(q, k, v)
    assert all(np.isfinite(np.asarray(g)).all() for g in gradients)
    assert (np.asarray(gradients[0])[:, 1] == 0).all()


@pytest.mark.parametrize("key_heads", [1, 2])
def test_derivatives_match_differences(key_heads, check_gradient):
    q, k, v = inputs(1, 2, 3, 2, key_heads, 2, 2)
    bias = RNG.normal(size=(2, 2, 3))
    mask = np.array([[True, True, False], [False, True, True]])
    check_gradient(lambda *args: nn.dot_product_attention(*args, mask=mask), q, k, v, bias)


def test_second_derivatives_match_differences(check_gradient):
    q, k, v = inputs(1, 2, 2, 1, 1, 2, 2)

    def gradient(q, k, v):
        return fg.grad(
            lambda q: fg.numpy.sum(fg.numpy.sin(nn.dot_product_attention(q, k, v, is_causal=True)))
        )(q)

    check_gradient(gradient, q, k, v)


def test_one_array_may_be_query_key_and_value(check_gradient):
    x = RNG.normal(size=(1, 3, 2, 2))
    check_gradient(lambda x: nn.dot_product_attention(x, x, x), x)


def test_the_batch_may_be_absent():
    q, k, v = inputs(batch=1)
    y = nn.dot_product_attention(q[0], k[0], v[0], is_causal=True)
    np.testing.assert_allclose(np.asarray(y), reference(q, k, v, is_causal=True)[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_dtype_is_kept_and_low_precision_rounds_once(dtype):
    q, k, v = (x.astype(dtype) for x in inputs())
    y = nn.dot_product_attention(q, k, v)
    assert y.dtype == dtype
    exact = reference(*(x.astype(np.float64) for x in (q, k, v)))
    unit = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(y).astype(np.float64), exact, rtol=unit + 2e-6, atol=2e-6)


def test_large_scores_do_not_overflow():
    q, k, v = inputs()
    y = nn.dot_product_attention(100.0 * q, 100.0 * k, v)
    np.testing.assert_allclose(np.asarray(y), reference(100 * q, 100 * k, v), rtol=1e-9)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 4, 5), (2, 3, 4, 5), (2, 6, 4, 5)), "key and value differ before"),
        (((2, 3, 4, 5), (2, 3, 4, 6), (2, 3, 4, 6)), "query and key differ in batch or head size"),
        (((2, 3, 4, 5), (1, 3, 4, 5), (1, 3, 4, 5)), "query and key differ in batch or head size"),
        (((2, 3, 4, 5), (2, 3, 3, 5), (2, 3, 3, 5)), "key heads do not divide"),
        (((3, 5), (3, 5), (3, 5)), "have 3 or 4 axes"),
        (((2, 3, 4, 5), (3, 4, 5), (3, 4, 5)), "have 3 or 4 axes"),
    ],
)
def test_wrong_shapes_are_errors(shapes, message):
    with pytest.raises(TypeError, match=message):
        nn.dot_product_attention(*(np.ones(s) for s in shapes))


def test_wrong_masks_and_biases_are_errors():
    q, k, v = inputs()
    with pytest.raises(TypeError, match=r"mask \[4, 3\] does not broadcast .* \[2, 4, 3, 4\]"):
        nn.dot_product_attention(q, k, v, mask=np.ones((4, 3), bool))
    with pytest.raises(TypeError, match="mask must be boolean, got float64"):
        nn.dot_product_attention(q, k, v, mask=np.ones((3, 4)))
    with pytest.raises(TypeError, match=r"bias \[5, 1, 1, 3, 4\] does not broadcast"):
        nn.dot_product_attention(q, k, v, np.ones((5, 1, 1, 3, 4)))
