import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import AxisError, ShapeError
from tests.lax.values import bare

X = np.arange(24.0).reshape(2, 3, 4)


def test_reshape_reads_in_the_order_of_dimensions():
    out = bare(lax.reshape(X, (4, 6), (2, 0, 1)))
    np.testing.assert_array_equal(out, X.transpose(2, 0, 1).reshape(4, 6))


def test_axes_count_from_the_end_too():
    assert lax.expand_dims(X, (0, -1)).shape == (1, 2, 3, 4, 1)
    assert lax.squeeze(np.zeros((1, 2, 1)), (-1, 0)).shape == (2,)
    np.testing.assert_array_equal(bare(lax.rev(X, (-1,))), X[..., ::-1])


def test_collapse_merges_a_range_of_axes():
    assert lax.collapse(X, 0, 2).shape == (6, 4)
    assert lax.collapse(X, 1).shape == (2, 12)
    assert lax.collapse(X, -2).shape == (2, 12)


def test_broadcast_shapes_follows_numpy():
    assert lax.broadcast_shapes((2, 1, 4), (3, 1)) == (2, 3, 4)
    assert lax.broadcast_shapes() == ()
    with pytest.raises(ShapeError, match="broadcast"):
        lax.broadcast_shapes((2,), (3,))


def test_copy_has_memory_of_its_own():
    x = lax.rev(X, (0,))
    assert not np.shares_memory(bare(lax.copy(x)), bare(x))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.squeeze(X, (0,)), ShapeError, "length 1"),
        (lambda: lax.squeeze(X, (3,)), AxisError, "out of range"),
        (lambda: lax.expand_dims(X, (0, 0)), AxisError, "twice"),
        (lambda: lax.rev(X, (0, -3)), AxisError, "twice"),
        (lambda: lax.broadcast_to_rank(X, 2), ShapeError, "more than 2"),
        (lambda: lax.collapse(X, 2, 1), AxisError, "no range"),
        (lambda: lax.reshape(X, (5,)), ShapeError, "24 elements"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_the_gradient_of_a_view_is_the_view_of_the_cotangent():
    weights = np.arange(24.0).reshape(4, 6)

    def f(x):
        y = lax.mul(lax.reshape(lax.rev(x, (1,)), (4, 6)), weights)
        return lax.reduce_sum(y, (0, 1))

    expected = weights.reshape(2, 3, 4)[:, ::-1]
    np.testing.assert_array_equal(bare(fg.grad(f)(X)), expected)
