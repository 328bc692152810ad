import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from tests.lax.values import bare


def test_slice_in_dim_counts_from_the_end():
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(bare(lax.slice_in_dim(x, -3, -1, axis=1)), x[:, -3:-1])
    np.testing.assert_array_equal(bare(lax.slice_in_dim(x, 0, None, 2)), x[::2])
    np.testing.assert_array_equal(bare(lax.index_in_dim(x, -1, 1, keepdims=False)), x[:, -1])


def test_a_whole_slice_is_the_operand():
    x = fg.numpy.arange(3.0)
    assert lax.slice(x, (0,), (3,)) is x


def test_padding_that_removes_more_than_there_is_leaves_padding():
    out = bare(lax.pad(np.ones(3), -7.0, [(-5, 3, 0)]))
    np.testing.assert_array_equal(out, [-7.0])


def test_the_padding_value_gets_the_sum_of_its_places_without_cancellation():
    # Summing the whole cotangent and subtracting the operand's part would leave 0 or NaN.
    weights = np.array([1e-30, 1e30, 1e-30, np.inf])

    def f(x, fill):
        y = lax.mul(lax.pad(x, fill, [(1, 1, 0)]), weights)
        return lax.reduce_sum(y, (0,))

    gx, gfill = fg.grad(f, argnums=(0, 1))(np.ones(2), np.float64(0.0))
    np.testing.assert_array_equal(bare(gx), weights[1:3])
    assert float(bare(gfill)) == np.inf
    gfill = fg.grad(
        lambda v: lax.reduce_sum(lax.mul(lax.pad(np.ones(2), v, [(1, 0, 0)]), weights[:3]), (0,))
    )(np.float64(0.0))
    assert float(bare(gfill)) == 1e-30  # fmt: skip


def test_a_batched_padding_value_reaches_its_own_element():
    out = fg.vmap(lambda x, v: lax.pad(x, v, [(1, 0, 1)]))(np.ones((2, 2)), np.array([5.0, 6.0]))
    np.testing.assert_array_equal(bare(out), [[5, 1, 5, 1], [6, 1, 6, 1]])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: lax.slice_in_dim(x, 0, 9), ShapeError, "does not fit axis 0"),
        (lambda x: lax.slice(x, (0, 0), (2, 1)), ShapeError, "one entry"),
        (lambda x: lax.slice_in_dim(x, 0, 2, axis=1), AxisError, "out of range"),
        (lambda x: lax.index_in_dim(x, 3), ShapeError, "outside"),
        (lambda x: lax.pad(x, 0.5, [(1, 0, 0), (1, 0, 0)]), ShapeError, "each"),
        (lambda x: lax.pad(x.astype(int), 0.5, [(1, 0, 0)]), DtypeError, "one dtype"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call(np.ones(3))


def test_a_pad_of_nothing_has_the_same_type_in_a_program():
    x = fg.numpy.full((2,), 2.5)
    assert x.weak_type
    for fill in (0.0, np.zeros((), np.float32)):
        eager = lax.pad(x, fill, [(0, 0, 0)])
        assert fg.jit(lambda x, f=fill: lax.pad(x, f, [(0, 0, 0)]))(x).aval == eager.aval
