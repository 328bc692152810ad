import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), None])
def test_values_follow_the_formula(axis):
    axes = (0, 1, 2) if axis is None else axis
    expected = softmax(X, axes)
    np.testing.assert_allclose(np.asarray(nn.softmax(X, axis)), expected, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(nn.log_softmax(X, axis)), np.log(expected), rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(nn.logsumexp(X, axis)), np.log(np.exp(X).sum(axis=axes)), rtol=1e-13
    )


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_derivatives_match_differences(name, axis, check_gradient):
    check_gradient(lambda x: getattr(nn, name)(x, axis), X[0, :3, :4])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_second_derivatives_match_differences(name, check_gradient):
    w = RNG.normal(size=4)

    def gradient(x):
        return fg.grad(lambda x: fg.numpy.sum(w * getattr(nn, name)(x, -1)))(x)

    check_gradient(gradient, X[0, 0, :4])


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_a_shift_changes_nothing_but_logsumexp(shift):
    np.testing.assert_allclose(np.asarray(nn.softmax(X + shift)), softmax(X, -1), rtol=1e-10)
    np.testing.assert_allclose(
        np.asarray(nn.logsumexp(X + shift, -1)), np.asarray(nn.logsumexp(X, -1)) + shift, rtol=1e-12
    )


def masked_rows():
    where = RNG.random((3, 4, 5)) < 0.5
    where[0, 0] = True
    where[1, 1] = False
    return where


def test_masked_elements_do_not_count():
    where = masked_rows()
    probs = np.asarray(nn.softmax(X, -1, where))
    logs = np.asarray(nn.log_softmax(X, -1, where))
    sums = np.asarray(nn.logsumexp(X, -1, where=where))
    for row in np.ndindex(3, 4):
        kept = where[row]
        assert (probs[row][~kept] == 0).all()
        assert (logs[row][~kept] == -np.inf).all()
        if kept.any():
            np.testing.assert_allclose(probs[row][kept], softmax(X[row][kept], -1), rtol=1e-13)
            np.testing.assert_allclose(np.exp(logs[row][kept]), probs[row][kept], rtol=1e-12)
            np.testing.assert_allclose(sums[row], np.log(np.exp(X[row][kept]).sum()), rtol=1e-12)
        else:
            assert sums[row] == -np.inf


def test_gradients_of_masked_rows_are_finite_and_right(check_gradient):
    where = masked_rows()[1, :, :4]
    assert not where[1].any()
    x = X[1, :, :4]
    check_gradient(lambda x: nn.softmax(x, -1, where), x)
    check_gradient(lambda x: fg.numpy.where(where, nn.log_softmax(x, -1, where), 0.0), x)
    has_element = where.any(-1)
    check_gradient(lambda x: fg.numpy.where(has_element, nn.logsumexp(x, -1, where=where), 0.0), x)


def test_values_behind_a_mask_do_not_matter():
    where = masked_rows()
    bad = np.where(where, X, np.nan)
    np.testing.assert_array_equal(
        np.asarray(nn.softmax(bad, -1, where)), np.asarray(nn.softmax(X, -1, where))
    )


def test_logsumexp_of_infinities():
    assert float(nn.logsumexp(np.array([-np.inf, -np.inf]))) == -np.inf
    assert float(nn.logsumexp(np.array([1.0, np.inf]))) == np.inf
    assert float(nn.logsumexp(np.array([-np.inf, 2.0]))) == 2.0


def test_logsumexp_keeps_dims():
    assert nn.logsumexp(X, (0, 2), keepdims=True).shape == (1, 4, 1)
    assert nn.logsumexp(X).shape == ()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_the_dtype_is_kept(name, dtype):
    assert getattr(nn, name)(X.astype(dtype), -1).dtype == dtype


def test_one_hot_marks_each_class():
    y = np.asarray(nn.one_hot(np.array([[2, 0], [1, 2]]), 3))
    np.testing.assert_array_equal(y, np.eye(3)[[[2, 0], [1, 2]]])
    assert y.dtype == np.float32


def test_one_hot_of_a_class_outside_is_zero():
    np.testing.assert_array_equal(np.asarray(nn.one_hot(np.array([-1, 3]), 3)), np.zeros((2, 3)))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_one_hot_puts_the_classes_where_asked(axis):
    classes = np.array([[2, 0, 1], [1, 2, 2]])
    y = np.asarray(nn.one_hot(classes, 4, axis=axis, dtype=np.int32))
    np.testing.assert_array_equal(y, np.moveaxis(np.eye(4, dtype=np.int32)[classes], -1, axis))


def test_one_hot_refuses_floats_and_negative_sizes():
    with pytest.raises(TypeError, match=r"one_hot needs integer classes, got float64\[2\]"):
        nn.one_hot(np.array([1.0, 2.0]), 3)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        nn.one_hot(np.array([1]), -1)


@pytest.mark.parametrize("axis", [-1, (0, 2), None])
def test_logsumexp_with_factors_follows_the_formula(axis, check_gradient):
    b = np.array([2.0, 0.0, -0.5, 1.0, 0.25])
    axes = (0, 1, 2) if axis is None else axis
    total = (b * np.exp(X)).sum(axis=axes)
    value, sign = nn.logsumexp(X, axis, b, return_sign=True)
    np.testing.assert_allclose(value, np.log(np.abs(total)), rtol=1e-12)
    np.testing.assert_array_equal(sign, np.sign(total))
    assert nn.logsumexp(X, axis, b, True).shape == total.shape or X.ndim == 3
    check_gradient(lambda x: nn.logsumexp(x, axis, b, return_sign=True)[0], X)
    check_gradient(lambda b: nn.logsumexp(X, axis, b, return_sign=True)[0], b + 0.1)


def test_logsumexp_with_factors_does_not_overflow_and_leaves_out_what_counts_nothing():
    x = np.array([1000.0, 1000.0, 2000.0])
    b = np.array([1.0, 3.0, 0.0])
    np.testing.assert_allclose(nn.logsumexp(x, b=b), 1000 + np.log(4.0))
    np.testing.assert_allclose(fg.grad(lambda x: nn.logsumexp(x, b=b))(x), [0.25, 0.75, 0.0])
    np.testing.assert_allclose(nn.logsumexp(x, b=b, where=np.array([True, False, True])), 1000.0)
    assert nn.logsumexp(x, b=np.zeros(3)) == -np.inf
    assert np.isnan(nn.logsumexp(x, b=-b))
    value, sign = nn.logsumexp(x, return_sign=True)
    assert (value, sign) == (2000.0, 1.0)
    assert nn.logsumexp(np.zeros((0, 2)), 0, np.ones(2)).tolist() == [-np.inf, -np.inf]
    with pytest.raises(TypeError, match=r"takes float arrays, got i64\[2\]"):
        nn.logsumexp(np.arange(2), b=np.ones(2))
