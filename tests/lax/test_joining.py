import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from tests.lax.values import bare


def test_split_undoes_concatenate():
    parts = [np.arange(2.0), np.zeros(0), np.arange(3.0)]
    back = lax.split(lax.concatenate(parts, 0), (2, 0, 3))
    for a, b in zip(parts, back, strict=True):
        np.testing.assert_array_equal(a, bare(b))


def test_parts_that_are_not_used_get_zeros():
    def f(x):
        return lax.reduce_sum(lax.split(x, (1, 2))[1], (0,))

    np.testing.assert_array_equal(bare(fg.grad(f)(np.ones(3))), [0, 1, 1])


def test_a_batch_joins_with_what_is_not_batched():
    x, y = np.arange(6.0).reshape(2, 3), np.ones(1)
    out = fg.vmap(lambda a: lax.concatenate([a, y], 0), in_axes=1)(x)
    np.testing.assert_array_equal(bare(out), [[0, 3, 1], [1, 4, 1], [2, 5, 1]])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.concatenate([], 0), ShapeError, "at least one"),
        (lambda: lax.concatenate([np.ones(2), np.ones((2, 1))], 0), ShapeError, "equal but"),
        (lambda: lax.concatenate([np.ones(2), np.ones(2, int)], 0), DtypeError, "one dtype"),
        (lambda: lax.concatenate([np.ones(2)], 1), AxisError, "out of range"),
        (lambda: lax.split(np.ones(3), (1, 1)), ShapeError, "add up"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()
