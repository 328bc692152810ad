import numpy as np
import pytest

import fgrad as fg
import fgrad.nn as nn

WEIGHT = np.random.default_rng(0).normal(size=(5, 3))
INDICES = np.array([[0, 4, 4], [2, 1, 4]])


def test_rows_are_looked_up():
    np.testing.assert_array_equal(np.asarray(nn.embedding(INDICES, WEIGHT)), WEIGHT[INDICES])


def test_the_gradient_adds_up_over_repeated_rows():
    ct = np.random.default_rng(1).normal(size=(2, 3, 3))
    _, pullback = fg.vjp(lambda w: nn.embedding(INDICES, w), WEIGHT)
    expected = np.zeros_like(WEIGHT)
    np.add.at(expected, INDICES, ct)
    np.testing.assert_allclose(
        np.asarray(pullback(fg.numpy.asarray(ct))[0]), expected, rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("padding_idx", [4, -1])
def test_the_padding_row_is_read_but_gets_no_gradient(padding_idx):
    rows = nn.embedding(INDICES, WEIGHT, padding_idx)
    np.testing.assert_array_equal(np.asarray(rows), WEIGHT[INDICES])
    gradient = fg.grad(lambda w: fg.numpy.sum(nn.embedding(INDICES, w, padding_idx)))(WEIGHT)
    np.testing.assert_array_equal(np.asarray(gradient)[:, 0], [1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.embedding(np.ones(2), WEIGHT), r"needs integer indices, got float64\[2\]"),
        (lambda: nn.embedding(INDICES, WEIGHT[0]), r"weight must be \[rows, size\], got \[3\]"),
        (lambda: nn.embedding(INDICES, WEIGHT, 5), "padding_idx 5 is no row"),
    ],
)
def test_wrong_arguments_are_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("bad", [-1, 5])
def test_an_index_that_is_no_row_raises(wrap, bad):
    with pytest.raises(fg.errors.IndexOutOfBoundsError, match=rf"index {bad} is out of bounds"):
        wrap(nn.embedding)(np.array([0, bad]), WEIGHT)
