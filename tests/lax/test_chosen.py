"""A scatter of one update a row into what is just computed, compiled: a choice by the index."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
from fgrad import lax, nn
from fgrad.errors import IndexOutOfBoundsError
from fgrad.lax import GatherDimensionNumbers

X = np.float32([[0.0, -0.0, np.inf, np.nan, 3e38], [-1.5, 2.0, -0.0, 0.0, 1e-40]])
IN, OUTSIDE = [[0, 4], [1, 2]], [[-1, 4], [5, 300]]


def add_one_a_row(x, i, updates, mode):
    rows, last = tuple(range(x.ndim - 1)), (x.ndim - 1,)
    numbers = GatherDimensionNumbers((), last, last, rows, rows).as_scatter()
    return lax.scatter_add(lax.neg(x), i[..., None], updates, numbers, mode=mode)


def by_rows(x, i, updates, mode):
    out, n = -x, x.shape[-1]
    for row, place, update in zip(out, i.tolist(), updates, strict=True):
        place = min(max(place, 0), n - 1) if mode == "clip" else place
        if 0 <= place < n:
            row[place] += update
    return out


def wide(x):
    return np.asarray(x).astype(np.float64)


def compiled(mode, *args):
    return fg.jit(lambda *a: add_one_a_row(*a, mode)).lower(*args).compile()


def test_no_scatter_is_left_but_for_an_array_that_is_there():
    i, updates = np.array(IN[0]), np.float32([1, 2])
    assert "scatter" not in compiled("clip", X, i, updates).as_text()
    numbers = GatherDimensionNumbers((), (1,), (1,), (0,), (0,)).as_scatter()
    stays = fg.jit(lambda x, i, u: lax.scatter_add(x, i[:, None], u, numbers, mode="clip"))
    assert "scatter" in stays.lower(X, i, updates).compile().as_text()


@pytest.mark.parametrize(("shape", "places"), [((7,), (3,)), ((7,), (1,)), ((2, 7), (2, 3)),
                                           ((2, 7), (2, 1)), ((7,), ())])  # fmt: skip
def test_more_updates_than_one_a_row_are_added_up(shape, places):
    x, i = np.arange(1.0, np.prod(shape) + 1).reshape(shape), np.full((*places, 1), 3)
    rows, last = tuple(range(len(shape) - 1)), (len(shape) - 1,)
    numbers = lax.ScatterDimensionNumbers((), last, last, rows, rows)
    want = -x
    want[..., 3] += np.ones(places).reshape(*shape[:-1], -1).sum(-1)
    f = fg.jit(lambda x, u: lax.scatter_add(lax.neg(x), i, u, numbers))
    np.testing.assert_array_equal(f(x, np.ones(places)), want)


@pytest.mark.parametrize("updates", [[0.0, -0.0], [-3.0, np.nan], [np.inf, 1e-40]], ids=str)
@pytest.mark.parametrize("index", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
@pytest.mark.parametrize("mode", ["clip", "drop", "raise", "promise_in_bounds"])
def test_every_mode_and_index_gives_the_same_bits(mode, index, updates):
    given = IN if mode in ("raise", "promise_in_bounds") else [*IN, *OUTSIDE]
    for i in given:
        i = np.array(i).astype(index)
        for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
            with np.errstate(all="ignore"):
                x, u = X.astype(dtype), np.asarray(updates, dtype)
                want = by_rows(x, i, u, mode)
                np.testing.assert_array_equal(wide(add_one_a_row(x, i, u, mode)), wide(want))
            got = np.asarray(compiled(mode, x, i, u)(x, i, u))
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(np.isnan(wide(got)), np.isnan(wide(want)))
            known = ~np.isnan(want)
            assert got[known].tobytes() == want[known].tobytes()


def test_labels_of_eight_bits_name_classes_up_to_their_greatest_value():
    x, u = np.ones((2, 300), np.float32), np.float32([5, 7])
    i = np.array([255, 44], np.uint8)
    np.testing.assert_array_equal(compiled("raise", x, i, u)(x, i, u), add_one_a_row(x, i, u, None))


def test_integers_are_added_and_complex_numbers_scattered():
    i = np.array([1, 2])
    for dtype in (np.int32, np.uint8, np.complex64):
        x, u = np.arange(6).reshape(2, 3).astype(dtype), np.array([3, 250]).astype(dtype)
        program = compiled("raise", x, i, u)
        np.testing.assert_array_equal(program(x, i, u), add_one_a_row(x, i, u, None))
        assert ("scatter" in program.as_text()) == (dtype is np.complex64)


@pytest.mark.parametrize("label", [-1, 5, 2**32 + 1])
def test_a_gradient_alone_reports_a_label_out_of_bounds(label):
    labels = np.array([1, label])
    gradient = fg.grad(lambda x, y: lax.softmax_cross_entropy(x, y).sum())
    with pytest.raises(IndexOutOfBoundsError, match=rf"{label} is out of bounds"):
        fg.jit(gradient)(X[1:].repeat(2, 0), labels)
    dropped = fg.grad(lambda x, y: lax.softmax_cross_entropy(x, y, mode="fill").sum())
    x = X[1:].repeat(2, 0)
    np.testing.assert_allclose(fg.jit(dropped)(x, labels), dropped(x, labels), rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 0], ids=["one label", "each its own"])
def test_the_gradient_agrees_under_vmap_and_in_second_order(axis):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 7))
    labels = rng.integers(0, 7, (3, 4) if axis == 0 else 4)
    loss = lambda x, y: nn.cross_entropy(x, y, label_smoothing=0.1) ** 2  # noqa: E731
    first = fg.vmap(fg.grad(loss), (0, axis))
    second = fg.vmap(fg.grad(lambda x, y: (fg.grad(loss)(x, y) ** 3).sum()), (0, axis))
    for f in (first, second):
        np.testing.assert_allclose(fg.jit(f)(x, labels), f(x, labels), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_gradient_of_a_loss_stores_no_probabilities(dtype):
    x, y = np.ones((16, 2048), dtype), np.zeros(16, np.int64)
    step = fg.jit(fg.grad(lambda x, y: lax.softmax_cross_entropy(x, y).sum()))
    program = step.lower(x, y).compile()
    # One kernel writes the gradient, in its own dtype.
    assert "scatter" not in program.as_text()
    assert program.memory_analysis().arena_bytes < x.size


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
@pytest.mark.parametrize("index", [[], [1], [1, 2], [1, 1, 3, 0]], ids=str)
def test_several_updates_a_row_stay_a_scatter(shape, index):
    x, i = np.arange(np.prod(shape), dtype=np.float32).reshape(shape), np.array(index, int)

    def f(x, i):
        return (
            fg.vmap(lambda r: (r * 2).at[i].add(1.0))(x) if x.ndim > 1 else (x * 2).at[i].add(1.0)
        )

    want = 2 * x
    np.add.at(want, (..., i), 1.0)
    np.testing.assert_array_equal(fg.jit(f)(fg.numpy.asarray(x), i), want)
    if x.ndim == 1:
        return
    several = np.stack([i, i])
    each = fg.vmap(lambda r, j: (r * 2).at[j].add(1.0))
    np.testing.assert_array_equal(fg.jit(each)(x, several), want)
