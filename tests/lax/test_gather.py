import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.config import out_of_bounds
from fgrad.core.errors import IndexOutOfBoundsError
from tests.lax.values import bare

ROWS = lax.GatherDimensionNumbers((1,), (0,), (0,))
TABLE = np.arange(12.0).reshape(4, 3)


def rows(x, indices, **options):
    return lax.gather(x, np.asarray(indices)[:, None], ROWS, (1, x.shape[1]), **options)


@pytest.mark.parametrize("index", [4, -1, 1000])
def test_an_index_outside_raises_and_names_index_axis_and_length(index):
    with pytest.raises(IndexOutOfBoundsError, match=rf"index {index} .* axis 0 of length 4"):
        rows(TABLE, [0, index])


@pytest.mark.parametrize("index", [3, -1])
def test_a_window_that_sticks_out_raises(index):
    n = lax.GatherDimensionNumbers((0, 1), (), (0,))
    with pytest.raises(IndexOutOfBoundsError, match="with a window of 2"):
        lax.gather(TABLE, np.array([index]), n, (2, 3))


def test_scatter_raises_likewise_and_leaves_its_operand_alone():
    x = TABLE.copy()
    with pytest.raises(IndexOutOfBoundsError, match="scatter_add: index 7"):
        lax.scatter_add(x, np.array([[0], [7]]), np.ones((2, 3)), ROWS.as_scatter())
    np.testing.assert_array_equal(x, TABLE)


def test_modes_choose_what_happens_instead():
    np.testing.assert_array_equal(bare(rows(TABLE, [9, -9], mode="clip")), TABLE[[3, 0]])
    filled = bare(rows(TABLE, [9, 1], mode="fill"))
    assert np.isnan(filled[0]).all()
    np.testing.assert_array_equal(filled[1], TABLE[1])
    np.testing.assert_array_equal(
        bare(rows(TABLE, [9, 1], mode="fill", fill_value=-1))[0], [-1] * 3
    )
    with out_of_bounds("jax"):
        assert np.isnan(bare(rows(TABLE, [9, 1]))[0]).all()


@pytest.mark.parametrize(
    ("dtype", "fill"), [("int8", -128), ("uint8", 255), ("bool", True), ("float32", np.nan)]
)
def test_what_fills_follows_the_dtype(dtype, fill):
    found = bare(rows(TABLE.astype(dtype), [9], mode="fill"))
    np.testing.assert_array_equal(found, np.full((1, 3), fill, dtype))


def test_what_was_filled_or_dropped_has_no_derivative():
    def f(x):
        return lax.reduce_sum(rows(x, [9, 1, 1], mode="fill", fill_value=0), (0, 1))

    np.testing.assert_array_equal(bare(fg.grad(f)(TABLE)), [[0] * 3, [2] * 3, [0] * 3, [0] * 3])
    _, tangent = fg.jvp(lambda x: rows(x, [9, 1], mode="fill"), (TABLE,), (np.ones_like(TABLE),))
    np.testing.assert_array_equal(bare(tangent), [[0] * 3, [1] * 3])


def test_an_empty_axis_has_no_index():
    empty = np.zeros((0, 3))
    with pytest.raises(IndexOutOfBoundsError, match="length 0"):
        lax.take(empty, np.array([0]), 0)
    assert lax.take(empty, np.zeros(0, int), 0).shape == (0, 3)
    assert np.isnan(bare(lax.take(empty, np.array([0]), 0, mode="fill"))).all()


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (1, 1), (2, 0)])
def test_a_batch_is_one_gather(dims):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3) if dims[0] is None else (4, 4, 4))
    i = rng.integers(0, 3, (2,) if dims[1] is None else (4, 4))
    f = lambda a, b: lax.take(a, b, 0)  # noqa: E731
    out = bare(fg.vmap(f, in_axes=dims)(x, i))
    for k in range(4):
        a = x if dims[0] is None else np.take(x, k, dims[0])
        b = i if dims[1] is None else np.take(i, k, dims[1])
        np.testing.assert_array_equal(out[k], a[b])
    program = str(fg.make_jaxpr(fg.vmap(f, in_axes=dims))(x, i))
    assert program.count("gather") == 1


def test_sums_of_many_duplicates_are_exact_to_a_rounding():
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 5, 20_000)
    for width in (1, 7):
        updates = rng.uniform(0.1, 1, (20_000, width)).astype(np.float32)
        exact = np.zeros((5, width))
        np.add.at(exact, indices, updates.astype(np.float64))
        x = np.zeros((5, width), np.float32)
        found = bare(lax.scatter_add(x, indices[:, None], updates, ROWS.as_scatter()))
        assert (np.abs(found - exact) <= (64 + np.log2(4000)) * 2**-24 * exact).all()


@pytest.mark.parametrize("dtype", ["int32", "uint8", "complex64", "bfloat16", "float16"])
@pytest.mark.parametrize("width", [1, 3])
def test_every_dtype_adds(dtype, width):
    dtype = fg.dtypes.dtype(dtype)
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 3, 200)
    updates = rng.integers(0, 3, (200, width)).astype(dtype)
    exact = np.zeros((3, width), np.complex128)
    np.add.at(exact, indices, updates.astype(np.complex128))
    exact = exact if dtype.kind == "c" else exact.real
    x = np.zeros((3, width), dtype)
    found = bare(lax.scatter_add(x, indices[:, None], updates, ROWS.as_scatter()))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, exact.astype(np.int64).astype(dtype) if dtype.kind in "iu"
                                  else exact.astype(dtype))  # fmt: skip


def test_repeats_give_the_same_bits():
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 50, (500, 1))
    updates = rng.standard_normal((500, 3)).astype(np.float32)
    x = np.zeros((50, 3), np.float32)
    runs = [bare(lax.scatter_add(x, indices, updates, ROWS.as_scatter())) for _ in range(5)]
    assert all((r == runs[0]).all() for r in runs)


def test_fills_of_zeros_with_either_sign_are_told_apart_in_one_program():
    x, i = np.arange(3, dtype=np.float32), np.array([0, 9])

    def f(x):
        return [fnp.take(x, i, mode="fill", fill_value=v) for v in (0.0, -0.0, np.float32(-0.0))]

    for found in (f(x), fg.jit(f)(x)):
        assert [bool(np.signbit(np.asarray(y)[1])) for y in found] == [False, True, True]


def test_sums_leave_zeros_that_nobody_adds_to_as_they_are():
    x = np.array([-0.0, -0.0, 0.0, 3.0], np.float32)

    def f(x):
        return fnp.asarray(x).at[np.array([1, 3, 3])].add(np.float32(1))

    for found in map(np.asarray, (f(x), fg.jit(f)(x))):
        np.testing.assert_array_equal(found, [0, 1, 0, 5])
        assert np.signbit(found).tolist() == [True, False, False, False]
