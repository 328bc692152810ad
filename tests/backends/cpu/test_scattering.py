"""Sums of rows by index equal those of NumPy; what lies outside raises or is dropped."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.backends.cpu.compiler import routine_of
from fgrad.backends.cpu.target import host
from fgrad.errors import IndexOutOfBoundsError

SHAPES = [(1, 1, 5), (7, 3, 20), (100, 16, 64), (33, 130, 500), (5000, 48, 300)]


def drawn(shape, dtype, integer=np.int32):
    height, width, count = shape
    rng = np.random.default_rng(height)
    table, updates = (rng.normal(size=(n, width)).astype(dtype) for n in (height, count))
    return table, rng.integers(0, height, count).astype(integer), updates


def uses_routine(f, *args):
    plan = f.lower(*args)._program.plan
    found = [routine_of(step, host()) for step in plan.steps]
    return any(r is not None and r.key[0] == "scatter_add" for r in found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_gradients_of_lookups_are_sums_of_rows(shape, dtype, integer):
    table, index, updates = drawn(shape, dtype, integer)
    f = fg.jit(fg.grad(lambda t, i, u: fnp.sum(fnp.take(t, i, axis=0) * u)))
    assert uses_routine(f, table, index, updates)
    expected = np.zeros(table.shape)
    np.add.at(expected, index, updates)
    bound = 64 * np.finfo(dtype).eps * (1 + np.abs(expected).max())
    np.testing.assert_allclose(f(table, index, updates), expected, rtol=0, atol=bound)
    g = fg.jit(lambda t, i, u: t.at[i].add(u))
    assert uses_routine(g, table, index, updates)
    np.testing.assert_allclose(g(table, index, updates), expected + table, rtol=0, atol=bound)


def test_indices_and_windows_of_several_axes():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 9, (4, 5)).astype(np.int32)
    updates = rng.normal(size=(4, 5, 3, 7)).astype(np.float32)
    f = fg.jit(lambda u: fnp.zeros((9, 3, 7)).at[index].add(u))
    assert uses_routine(f, updates)
    expected = np.zeros((9, 3, 7))
    np.add.at(expected, index, updates)
    np.testing.assert_allclose(f(updates), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [-4, 3, 2**31 - 1])
def test_what_lies_outside_raises_or_is_dropped(bad):
    index, u = np.array([0, bad, 2], np.int32), np.ones((3, 2), np.float32)
    base = fnp.zeros((3, 2))
    with pytest.raises(IndexOutOfBoundsError, match="out of bounds"):
        fg.jit(lambda t, i, u: t.at[i].add(u))(base, index, u)
    dropped = fg.jit(lambda t, i, u: t.at[i].add(u, mode="drop"))
    assert uses_routine(dropped, base, index, u)
    np.testing.assert_array_equal(dropped(base, index, u), [[1, 1], [0, 0], [1, 1]])


def test_the_number_of_updates_takes_no_new_code():
    codes = []
    for count in (10, 500):
        table, index, updates = drawn((50, 8, count), np.float32)
        f = fg.jit(lambda t, i, u: t.at[i].add(u))
        plan = f.lower(table, index, updates)._program.plan
        codes += [r.key for s in plan.steps if (r := routine_of(s, host())) is not None]
    assert len(codes) == 2
    assert codes[0] == codes[1]


def test_minus_zero_and_other_numbers_are_kept_where_nothing_is_added():
    index, u = np.array([1], np.int32), np.ones((1, 2), np.float32)
    for value in (-0.0, 2.5):
        out = np.asarray(fg.jit(lambda i, u, v=value: fnp.full((3, 2), v).at[i].add(u))(index, u))
        np.testing.assert_array_equal(out[[0, 2]], np.full((2, 2), value))
        assert (np.signbit(out[0]) == np.signbit(value)).all()


@pytest.mark.parametrize(("height", "width", "count"), [(0, 3, 0), (3, 0, 2), (3, 2, 0)])
def test_empty_arrays(height, width, count):
    index, u = np.zeros(count, np.int32), np.ones((count, width), np.float32)
    out = fg.jit(lambda i, u: fnp.zeros((height, width)).at[i].add(u))(index, u)
    np.testing.assert_array_equal(out, np.zeros((height, width)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_zeros_without_elements_take_no_additions(shape):
    pullback = fg.jit(fg.grad(lambda x: fnp.sort(x).sum()))  # adds to zeros of this shape
    assert pullback(np.zeros(shape)).shape == shape
    added = fg.jit(lambda i, u: fnp.zeros(shape).at[i].add(u))
    assert added(np.zeros(0, np.int32), np.zeros((0, *shape[1:]))).shape == shape
