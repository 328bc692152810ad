import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgrad as fg
import fgrad.optim as optim


def tree(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(3, 2)).astype(dtype), "b": [rng.normal(size=5).astype(dtype)]}


def apply(transformation, updates):
    return transformation.update(updates, transformation.init(updates))[0]


def norm(updates):
    return np.sqrt(np.sum(np.square(updates["a"])) + np.sum(np.square(updates["b"][0])))


def test_global_norm_is_the_norm_of_all_elements():
    np.testing.assert_allclose(float(optim.global_norm(tree(0))), norm(tree(0)), rtol=1e-14)


def test_global_norm_of_complex_leaves_takes_magnitudes():
    assert float(optim.global_norm([np.array([3 + 4j]), np.array([12.0])])) == 13.0


def test_global_norm_of_an_empty_tree_is_zero():
    assert float(optim.global_norm(())) == 0.0


def test_global_norm_sums_low_precision_in_float32():
    ones = np.ones(1024, ml_dtypes.bfloat16)
    result = optim.global_norm([ones, ones])
    assert result.dtype == np.float32
    np.testing.assert_allclose(float(result), np.sqrt(2048.0), rtol=1e-6)


def test_global_norm_has_a_zero_gradient_at_zero():
    np.testing.assert_array_equal(np.asarray(fg.grad(optim.global_norm)(np.zeros(3))), 0.0)


def test_global_norm_has_the_unit_vector_as_gradient():
    x = np.array([3.0, 4.0])
    np.testing.assert_allclose(np.asarray(fg.grad(optim.global_norm)(x)), x / 5, rtol=1e-14)


@settings(deadline=None)
@given(seed=st.integers(0, 100), bound=st.floats(1e-3, 100.0), scale=st.floats(1e-3, 1e3))
def test_clipping_bounds_the_norm_and_keeps_the_direction(seed, bound, scale):
    updates = {"a": scale * tree(seed)["a"], "b": [scale * tree(seed)["b"][0]]}
    clipped = apply(optim.clip_by_global_norm(bound), updates)
    before, after = norm(updates), norm({"a": np.asarray(clipped["a"]), "b": clipped["b"]})
    np.testing.assert_allclose(after, min(before, bound), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(clipped["a"]) * before, updates["a"] * after, rtol=1e-12)


def test_clipping_returns_small_updates_bit_for_bit():
    updates = tree(0, np.float32)
    clipped = apply(optim.clip_by_global_norm(1e3), updates)
    np.testing.assert_array_equal(np.asarray(clipped["a"]), updates["a"])


def test_clipping_shows_a_nan():
    clipped = apply(optim.clip_by_global_norm(1.0), [np.array([np.nan, 5.0])])
    assert np.isnan(np.asarray(clipped[0])[0])


def test_clipping_zero_gives_zero():
    np.testing.assert_array_equal(
        np.asarray(apply(optim.clip_by_global_norm(1.0), np.zeros(3))), np.zeros(3)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("transformation", [optim.clip(0.5), optim.clip_by_global_norm(0.5)])
def test_clipping_keeps_the_dtype(transformation, dtype):
    assert apply(transformation, tree(0, dtype))["a"].dtype == dtype


def test_clip_bounds_each_element():
    updates = tree(0)
    np.testing.assert_array_equal(
        np.asarray(apply(optim.clip(0.5), updates)["a"]), np.clip(updates["a"], -0.5, 0.5)
    )


@pytest.mark.parametrize(("make", "bound"), [(optim.clip, -1.0), (optim.clip_by_global_norm, 0.0)])
def test_a_bound_of_the_wrong_sign_is_an_error(make, bound):
    with pytest.raises(ValueError, match="must"):
        make(bound)
