import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core import dtypes
from fgrad.core.errors import AxisError, ShapeError
from tests.lax.values import bare


def test_nan_comes_last_and_equal_keys_keep_their_order():
    x = np.array([2.0, np.nan, 1.0, 2.0, -np.inf])
    np.testing.assert_array_equal(bare(lax.sort(x)), [-np.inf, 1, 2, 2, np.nan])
    np.testing.assert_array_equal(bare(lax.argsort(x)), [4, 2, 0, 3, 1])


def test_later_keys_decide_among_equals():
    a, b = np.array([1, 0, 1, 0]), np.array([3.0, 2.0, 1.0, 4.0])
    keys, seconds, payload = lax.sort((a, b, np.arange(4)), num_keys=2)
    np.testing.assert_array_equal(bare(keys), [0, 0, 1, 1])
    np.testing.assert_array_equal(bare(seconds), [2, 4, 1, 3])
    np.testing.assert_array_equal(bare(payload), [1, 3, 2, 0])


def test_the_gradient_goes_back_to_where_each_element_came_from():
    weights = np.array([1.0, 10.0, 100.0])
    f = lambda x: lax.reduce_sum(lax.mul(lax.sort(x), weights), (0,))  # noqa: E731
    np.testing.assert_array_equal(bare(fg.grad(f)(np.array([3.0, 1.0, 2.0]))), [100, 1, 10])
    np.testing.assert_array_equal(bare(fg.grad(f)(np.array([2.0, 1.0, 2.0]))), [10, 1, 100])


def test_values_that_follow_a_key_have_their_own_gradient():
    def f(values):
        _, permuted = lax.sort_key_val(np.array([3, 1, 2]), values)
        return lax.index_in_dim(permuted, 0, keepdims=False)

    np.testing.assert_array_equal(bare(fg.grad(f)(np.ones(3))), [0, 1, 0])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "bool", "complex64", "float16"])
def test_every_dtype_sorts_along_every_axis(dtype):
    x = (np.random.default_rng(0).standard_normal((4, 5)) * 4).astype(fg.dtypes.dtype(dtype))
    for axis in (0, 1):
        found = bare(lax.sort(x, axis))
        assert found.dtype == x.dtype
        wide = x.astype(np.float32) if dtype == "bfloat16" else x
        np.testing.assert_array_equal(found, np.sort(wide, axis).astype(x.dtype))


def test_of_equal_elements_top_k_names_the_first():
    values, places = lax.top_k(np.array([1.0, 3.0, 2.0, 3.0]), 3)
    np.testing.assert_array_equal(bare(values), [3, 3, 2])
    np.testing.assert_array_equal(bare(places), [1, 3, 2])
    assert places.dtype == np.int32


def test_top_k_takes_the_least_integer_and_nan():
    values, _ = lax.top_k(np.array([-128, 5, 127], np.int8), 3)
    np.testing.assert_array_equal(bare(values), [127, 5, -128])
    values, _ = lax.top_k(np.array([1.0, np.nan, np.inf]), 2)
    np.testing.assert_array_equal(bare(values), [np.nan, np.inf])


def test_the_gradient_of_top_k_goes_to_the_greatest():
    f = lambda x: lax.reduce_sum(lax.top_k(x, 2, axis=0)[0], (0, 1))  # noqa: E731
    x = np.array([[1.0, 5.0], [3.0, 4.0], [2.0, 9.0]])
    np.testing.assert_array_equal(bare(fg.grad(f)(x)), [[0, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.sort(()), ShapeError, "at least one"),
        (lambda: lax.sort((np.ones(2), np.ones(3))), ShapeError, "one shape"),
        (lambda: lax.sort(np.ones(2), 1), AxisError, "out of range"),
        (lambda: lax.top_k(np.ones(2), 3), ShapeError, "between"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, "bfloat16"])
def test_few_of_many_are_selected_as_a_sort_of_all_orders_them(axis, dtype):
    rng = np.random.default_rng(0)
    plain = rng.permutation(60)[None] + np.zeros((9, 1))  # 1 to 7 of 60: selected before sorted
    cases = [plain, np.round(plain / 4), np.zeros((9, 60)), rng.permuted(plain, axis=1)]
    if dtype in (np.float32, np.float64):
        cases.append(np.where(rng.random((9, 60)) < 0.05, np.nan, plain))
        cases.append(np.where(rng.random((9, 60)) < 0.9, np.nan, plain))
        cases.append(np.where(rng.random((9, 60)) < 0.5, -0.0, 0.0))
    for x in cases:
        x = np.moveaxis(x, 1, axis).astype(dtypes.dtype(dtype))
        falling = 59 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        for k in (1, 3, 7):
            order = np.take(falling, range(k), axis)
            values, places = lax.top_k(x, k, axis=axis)
            np.testing.assert_array_equal(bare(places), order)
            np.testing.assert_array_equal(bare(values), np.take_along_axis(x, order, axis))
