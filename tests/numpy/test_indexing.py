"""Indexing beyond the tables: traced indices, masks, bounds, derivatives and `.at`."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import (
    DtypeError,
    IndexOutOfBoundsError,
    NonConcreteBooleanIndexError,
    ShapeError,
    TracerIntegerConversionError,
)

X = fnp.arange(12.0).reshape(3, 4)


@given(data=st.data())
def test_basic_indices_are_numpys(data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    found = fnp.asarray(x)[index]
    np.testing.assert_array_equal(found, x[index])
    assert found.shape == x[index].shape


@given(data=st.data())
def test_integer_array_indices_are_numpys(data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    index = data.draw(hnp.integer_array_indices(shape))
    np.testing.assert_array_equal(fnp.asarray(x)[index], x[index])


@given(data=st.data())
def test_mixed_indices_are_numpys(data: Any) -> None:
    shape = (2, 3, 4, 2)
    x = np.arange(48, dtype=np.float32).reshape(shape)
    entries = []
    for n in shape:
        kind = data.draw(st.sampled_from(["int", "slice", "array", "new", "full"]))
        if kind == "new":
            entries.append(None)
        entries.append({
            "int": lambda n=n: data.draw(st.integers(-n, n - 1)),
            "slice": lambda n=n: data.draw(st.slices(n)),
            "array": lambda n=n: np.array(data.draw(st.lists(st.integers(-n, n - 1), min_size=2,
                                                             max_size=2))),
        }.get(kind, lambda: slice(None))())  # fmt: skip
    index = tuple(entries)
    expected = x[index]
    array = fnp.asarray(x)
    np.testing.assert_array_equal(array[index], expected)
    assert array[index].shape == expected.shape
    np.testing.assert_array_equal(fg.jit(lambda a: a[index])(array), expected)
    # `.at` writes where indexing reads.
    copy = x.copy()
    copy[index] = -1.0
    np.testing.assert_array_equal(array.at[index].set(-1.0), copy)
    updates = np.arange(expected.size, dtype=np.float32).reshape(expected.shape)
    added = x.copy()
    np.add.at(added, index, updates)
    np.testing.assert_allclose(array.at[index].add(updates), added)
    # The derivative of reading adds up where an element was read.
    weight = np.zeros_like(x)
    np.add.at(weight, index, updates)
    gradient = fg.grad(lambda a: (a[index] * updates).sum())(array)
    np.testing.assert_allclose(gradient, weight)


@pytest.mark.parametrize("index", [(3,), (-4,), (0, 4), (slice(None), -5), (0, 0, 0)])
def test_static_integers_out_of_bounds(index: Any) -> None:
    for f in (lambda x: x[index], lambda x: x.at[index].set(0.0)):
        with pytest.raises(IndexOutOfBoundsError, match=r"axis \d of length \d|too many"):
            f(X)
        with pytest.raises(IndexOutOfBoundsError):
            fg.jit(f)(X)


def test_array_out_of_bounds_raises_or_follows_the_mode() -> None:
    index = fnp.array([0, 7])
    with pytest.raises(IndexOutOfBoundsError):
        X[index]
    with pytest.raises(IndexOutOfBoundsError):
        X.at[index].set(0.0)
    np.testing.assert_array_equal(X.at[index].get(mode="clip"), np.asarray(X)[[0, 2]])
    assert np.isnan(np.asarray(X.at[index].get(mode="fill"))[1]).all()
    np.testing.assert_array_equal(X.at[index].get(mode="fill", fill_value=-1.0)[1], [-1] * 4)
    np.testing.assert_array_equal(X.at[index].set(0.0, mode="drop")[1:], X[1:])


def test_traced_integers() -> None:
    for i in (0, 2, -1):
        expected = np.asarray(X)[i]
        np.testing.assert_array_equal(fg.jit(lambda x, i: x[i])(X, i), expected)
        np.testing.assert_array_equal(fg.jit(lambda x, i: x[:, i])(X, i), np.asarray(X)[:, i])
        np.testing.assert_array_equal(fg.jit(lambda x, i: x.at[i].set(0.0))(X, i)[i], np.zeros(4))
    rows = fg.vmap(lambda x, i: x[i])(X, fnp.array([1, 2, -1]))
    np.testing.assert_array_equal(rows, [1.0, 6.0, 11.0])
    with pytest.raises(TracerIntegerConversionError):
        fg.jit(lambda x, i: x[:i])(X, 2)


def test_traced_masks_are_refused_with_the_way_out() -> None:
    with pytest.raises(NonConcreteBooleanIndexError, match="where"):
        fg.jit(lambda x: x[x > 3])(X)
    # Where values are known, as in grad, a mask works.
    gradient = fg.grad(lambda x: x[x > 3].sum())(X)
    np.testing.assert_array_equal(gradient, np.asarray(X) > 3)


def test_refused_indices() -> None:
    with pytest.raises(DtypeError, match="index arrays hold integers"):
        X[fnp.array([1.0])]
    with pytest.raises(DtypeError, match="made of integers"):
        X["a"]
    with pytest.raises(DtypeError, match="holds arrays"):
        X[[fnp.array(1), fnp.array(2)]]
    with pytest.raises(ShapeError, match="mask has the shape"):
        X[fnp.array([True, False])]
    with pytest.raises(ShapeError, match="do not broadcast"):
        X[fnp.array([0, 1]), fnp.array([0, 1, 2])]
    with pytest.raises(IndexOutOfBoundsError, match="only one"):
        X[..., ...]
    with pytest.raises(ShapeError, match="do not broadcast to the elements"):
        X.at[0].set(np.ones(3))
    with pytest.raises(DtypeError, match="do not fit"):
        fnp.arange(3).at[0].set(1.5)


def test_updates_of_repeated_indices() -> None:
    index = np.array([1, 1, 0])
    np.testing.assert_array_equal(fnp.zeros(3).at[index].add(1.0), [1, 2, 0])
    np.testing.assert_array_equal(fnp.ones(3).at[index].multiply(2.0), [2, 4, 1])
    np.testing.assert_array_equal(fnp.zeros(3).at[index].max(np.array([1.0, 3.0, 2.0])), [2, 3, 0])
    np.testing.assert_array_equal(fnp.full(3, 8.0).at[index].divide(2.0), [4, 2, 8])


@pytest.mark.parametrize("method", ["set", "add", "subtract", "multiply", "divide", "power",
                                    "min", "max"])  # fmt: skip
def test_derivatives_of_updates(method: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, (3, 4)), rng.uniform(1, 2, (2, 4))
    index = np.array([2, 0])

    def f(x: Any, y: Any) -> Any:
        return (getattr(x.at[index], method)(y) ** 2).sum()

    _check(f, fnp.asarray(x), fnp.asarray(y))


def test_derivative_of_apply() -> None:
    _check(lambda x: (x.at[1].apply(fnp.sin) ** 2).sum(), fnp.asarray(np.asarray(X, np.float64)))


def _check(f: Any, *args: Any) -> None:
    gradients = fg.grad(f, argnums=tuple(range(len(args))))(*args)
    for k, g in enumerate(gradients):
        data = np.array(args[k])
        numeric = np.zeros_like(data)
        for i in np.ndindex(data.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = data.copy()
                moved[i] += step
                values.append(float(f(*args[:k], fnp.asarray(moved), *args[k + 1 :])))
            numeric[i] = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(g, numeric, rtol=1e-6, atol=1e-8)


def test_a_borrowed_buffer_is_not_aliased_by_slices() -> None:
    data = np.arange(4.0)
    part = fnp.asarray(data, copy=False)[1:]
    data[:] = 9.0
    with warnings.catch_warnings():
        np.testing.assert_array_equal(part, [1, 2, 3])


@pytest.mark.parametrize("index", [
    (None, np.array([0, 1]), ..., np.array([2, 0])), (None, 0, ..., np.array([2, 0])),
    (None, np.array([0, 1]), ..., 2), (None, np.array([True, False]), ..., np.array([2])),
    (None, np.array([0, 1]), np.array([2, 0])), (..., np.array([0, 1]), np.array([2, 0])),
])  # fmt: skip
def test_an_ellipsis_without_axes_parts_index_arrays(index) -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(fnp.asarray(x)[index], x[index])
    assert fnp.asarray(x)[index].shape == x[index].shape
    new = np.arange(x[index].size, dtype=float).reshape(x[index].shape)
    want = x.copy()
    want[index] = new
    np.testing.assert_array_equal(fnp.asarray(x).at[index].set(new), want)


def test_positions_in_a_flat_array_count_from_the_end_and_are_clamped_where_traced() -> None:
    for i in (5, -1, -6, 0):
        found = [int(x) for x in fnp.unravel_index(i, (2, 3))]
        assert found == list(np.unravel_index(i % 6, (2, 3)))
    clamped = fg.jit(lambda i: fnp.unravel_index(i, (2, 3)))(np.array([99, -99]))
    np.testing.assert_array_equal(clamped, [[1, 0], [2, 0]])
