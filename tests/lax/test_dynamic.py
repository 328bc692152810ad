import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import DtypeError, ShapeError
from tests.lax.values import bare

X = np.arange(5.0)


@pytest.mark.parametrize(
    ("start", "first"), [(0, 0), (2, 2), (4, 3), (100, 3), (-1, 3), (-3, 2), (-100, 0)]
)
def test_a_start_counts_from_the_end_and_is_moved_inside(start, first):
    expected = X[first : first + 2]
    np.testing.assert_array_equal(bare(lax.dynamic_slice(X, (start,), (2,))), expected)
    traced = fg.vmap(lambda i: lax.dynamic_slice_in_dim(X, i, 2))(np.array([start]))
    np.testing.assert_array_equal(bare(traced), [expected])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_a_narrow_index_reaches_a_long_axis(dtype):
    long = np.arange(300.0)
    for start in (-1, 120) if dtype is not np.uint8 else (0, 120):
        i = np.array([start]).astype(dtype)
        out = fg.vmap(lambda i: lax.dynamic_index_in_dim(long, i, keepdims=False))(i)
        assert float(bare(out)[0]) == long[start]


def test_negative_starts_can_be_clamped_instead():
    out = lax.dynamic_slice(X, (-1,), (2,), allow_negative_indices=False)
    np.testing.assert_array_equal(bare(out), [0, 1])


def test_what_is_overwritten_has_no_gradient():
    f = lambda x, u, i: lax.reduce_sum(lax.dynamic_update_slice(x, u, (i,)), (0,))  # noqa: E731
    gx, gu = fg.grad(f, argnums=(0, 1))(X, np.ones(2), np.int32(9))
    np.testing.assert_array_equal(bare(gx), [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(bare(gu), [1, 1])


def test_each_element_of_a_batch_has_its_own_start():
    starts = np.array([0, 3, 9])
    out = fg.vmap(lambda i: lax.dynamic_update_slice_in_dim(X, np.full(2, -1.0), i, 0))(starts)
    np.testing.assert_array_equal(
        bare(out), [[-1, -1, 2, 3, 4], [0, 1, 2, -1, -1], [0, 1, 2, -1, -1]]
    )
    g = fg.vmap(fg.grad(lambda x, i: lax.reduce_sum(lax.dynamic_slice(x, (i,), (2,)), (0,))),
                in_axes=(None, 0))(X, starts)  # fmt: skip
    np.testing.assert_array_equal(bare(g), [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]])


def test_an_index_of_a_lower_rank_update():
    out = lax.dynamic_update_index_in_dim(np.zeros((2, 2)), np.ones(2), 1, 1)
    np.testing.assert_array_equal(bare(out), [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.dynamic_slice(X, (0.5,), (2,)), DtypeError, "integer"),
        (lambda: lax.dynamic_slice(X, (0, 0), (2,)), ShapeError, "2 start indices"),
        (lambda: lax.dynamic_slice(X, (0,), (6,)), ShapeError, "fit"),
        (lambda: lax.dynamic_slice(X, np.zeros((1, 1), int), (6,)), ShapeError, "vector"),
        (lambda: lax.dynamic_update_slice(X, np.ones(1, int), (0,)), DtypeError, "one dtype"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()
