import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import ShapeError
from tests.lax.values import bare

X = np.random.default_rng(0).standard_normal((4, 3, 5))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (0,)])
def test_take_is_that_of_numpy(axis, shape):
    i = np.random.default_rng(1).integers(0, 3, shape)
    np.testing.assert_array_equal(bare(lax.take(X, i, axis)), np.take(X, i, axis))


def test_take_along_axis_is_that_of_numpy():
    i = np.random.default_rng(1).integers(0, 3, (4, 7, 5))
    np.testing.assert_array_equal(bare(lax.take_along_axis(X, i, 1)), np.take_along_axis(X, i, 1))
    with pytest.raises(ShapeError, match="broadcast"):
        lax.take_along_axis(X, i[:1], 1)


def test_points_of_several_axes_come_first():
    i, j = np.array([[3], [0]]), np.array([4, 2, 1])
    out = bare(lax.index_take(X, [i, j], (0, 2)))
    np.testing.assert_array_equal(out, X.transpose(0, 2, 1)[i, j])


def test_the_gradient_of_an_embedding_counts_its_uses():
    i = np.array([1, 0, 1, 1])
    g = fg.grad(lambda t: lax.reduce_sum(lax.take(t, i, 0), (0, 1)))(np.ones((3, 2)))
    np.testing.assert_array_equal(bare(g), [[1, 1], [3, 3], [0, 0]])
