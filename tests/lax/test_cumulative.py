import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare


def jacobian(f, x):
    return np.array([bare(fg.jvp(f, (x,), (e,))[1]) for e in np.eye(len(x))]).T


def test_a_long_sum_errs_no_more_than_its_terms_allow():
    x = np.random.default_rng(0).uniform(0, 1, (3, 5001)).astype(np.float32)
    exact = np.cumsum(x.astype(np.float64), 1)
    found = bare(lax.cumsum(x, 1))
    d = 64 + np.log2(5001)
    assert (np.abs(found - exact) <= d * 2**-24 * exact).all()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [64, 65, 80, 81, 1000])
def test_blocks_join_without_a_seam(n, reverse):
    x = np.arange(float(n))
    expected = np.cumsum(x[::-1])[::-1] if reverse else np.cumsum(x)
    np.testing.assert_array_equal(bare(lax.cumsum(x, 0, reverse)), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_products_differentiate_where_elements_are_zero(reverse):
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    n = len(x)
    expected = np.zeros((n, n))
    for i in range(n):
        window = range(i, n) if reverse else range(i + 1)
        for j in window:
            expected[i, j] = np.prod([x[k] for k in window if k != j])
    found = jacobian(lambda v: lax.cumprod(v, 0, reverse), x)
    np.testing.assert_allclose(found, expected)
    pulled = [bare(fg.vjp(lambda v: lax.cumprod(v, 0, reverse), x)[1](e)[0]) for e in np.eye(n)]
    np.testing.assert_allclose(pulled, expected)


def test_ties_of_a_running_maximum_share_equally():
    found = jacobian(lambda v: lax.cummax(v, 0), np.array([1.0, 1.0, 0.0, 1.0, 2.0]))
    third = 1 / 3
    np.testing.assert_allclose(
        found,
        [[1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0],
         [third, third, 0, third, 0], [0, 0, 0, 0, 1]],
    )  # fmt: skip


def test_nan_stays_once_met():
    out = bare(lax.cummin(np.array([1.0, np.nan, 0.0]), 0))
    np.testing.assert_array_equal(out, [1.0, np.nan, np.nan])


def test_a_log_sum_neither_overflows_nor_loses_its_derivative():
    x = np.array([-np.inf, 1000.0, 1000.0, -np.inf])
    out = bare(lax.cumlogsumexp(x, 0))
    np.testing.assert_allclose(out, [-np.inf, 1000, 1000 + np.log(2), 1000 + np.log(2)])
    g = bare(fg.grad(lambda v: lax.index_in_dim(lax.cumlogsumexp(v, 0), 3, keepdims=False))(x))
    np.testing.assert_allclose(g, [0, 0.5, 0.5, 0])
