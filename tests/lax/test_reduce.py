import itertools

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core import basis
from fgrad.core.errors import AxisError
from tests.lax.values import bare


def products_of_others(x):
    return np.array([np.prod(np.delete(x, i)) for i in range(len(x))])


@pytest.mark.parametrize("zeros", [(), (1,), (0, 3), (0, 1, 2)])
def test_the_gradient_of_a_product_holds_where_elements_are_zero(zeros):
    x = np.array([2.0, -3.0, 0.5, 7.0])
    x[list(zeros)] = 0
    g = fg.grad(lambda v: lax.reduce_prod(v, (0,)))
    np.testing.assert_allclose(bare(g(x)), products_of_others(x), rtol=1e-15)


@pytest.mark.parametrize("zeros", [(), (1,), (0, 3), (0, 1, 2)])
def test_so_does_its_second_derivative(zeros):
    x = np.array([2.0, -3.0, 0.5, 7.0])
    x[list(zeros)] = 0
    expected = np.zeros((4, 4))
    for i, j in itertools.permutations(range(4), 2):
        expected[i, j] = np.prod(np.delete(x, [i, j]))
    g = fg.grad(lambda v: lax.reduce_prod(v, (0,)))
    rows = [bare(fg.jvp(g, (x,), (e,))[1]) for e in np.eye(4)]
    np.testing.assert_allclose(rows, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("f", [lax.reduce_max, lax.reduce_min])
def test_ties_share_the_derivative_equally(f):
    x = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0]])
    g = bare(fg.grad(lambda v: lax.reduce_sum(f(v, (1,)), (0,)))(x))
    second = [0, 0.5, 0.5] if f is lax.reduce_max else [1, 0, 0]
    np.testing.assert_allclose(g, [[1 / 3] * 3, second])


def test_nan_is_the_greatest_and_the_least():
    x = np.array([1.0, np.nan, 3.0])
    assert np.isnan(bare(lax.reduce_max(x, (0,))))
    assert np.isnan(bare(lax.reduce_min(x, (0,))))


def test_no_elements_give_the_identity():
    empty = np.zeros((2, 0), np.float32)
    np.testing.assert_array_equal(bare(lax.reduce_max(empty, (1,))), [-np.inf] * 2)
    np.testing.assert_array_equal(bare(lax.reduce_min(empty, (1,))), [np.inf] * 2)
    np.testing.assert_array_equal(bare(lax.reduce_prod(empty, (1,))), [1, 1])
    assert bare(lax.reduce_max(np.zeros(0, np.int8), (0,))) == -128
    assert bare(lax.reduce_min(np.zeros(0, bool), (0,)))
    assert bare(lax.reduce_and(np.zeros(0, np.uint8), (0,))) == 255
    assert bare(fg.grad(lambda x: lax.reduce_sum(lax.reduce_max(x, (1,)), (0,)))(empty)).size == 0


def test_logic_acts_bit_by_bit():
    x = np.array([6, 3, 7], np.int32)
    assert [int(bare(f(x, (0,)))) for f in (lax.reduce_and, lax.reduce_or, lax.reduce_xor)] == [
        2, 7, 2,
    ]  # fmt: skip


def test_an_axis_is_named_once():
    with pytest.raises(AxisError, match="twice"):
        lax.reduce_sum(np.ones((2, 2)), (0, -2))


LAYOUTS = {
    "rows": lambda x: x,
    "columns": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((70_000, 3), (0,)), ((300, 70, 5), (0, 1)), ((65, 4, 33), (0, 2)), ((97,), (0,)),
     ((1001, 1, 2), (0, 1)), ((64, 130), (0, 1))],
)  # fmt: skip
def test_the_error_of_a_sum_does_not_grow_with_the_rows(shape, axes, layout):
    x = LAYOUTS[layout](np.random.default_rng(0).uniform(0.1, 1, shape).astype(np.float32))
    exact = x.astype(np.float64).sum(axes)
    n = int(np.prod([shape[a] for a in axes]))
    d = 64 + np.log2(n)
    found = bare(lax.reduce_sum(x, axes))
    assert found.dtype == np.float32
    assert (np.abs(found - exact) <= d * 2**-24 * exact).all()


def test_the_longest_chain_of_additions_is_short():
    # 2²⁴ + 1 = 2²⁴ in float32: ones added to a running sum past 2²⁴ would be lost.
    rows = np.ones((2**19, 2), np.float32) * np.float32(0.1)
    exact = float(np.float32(0.1)) * 2**19
    assert (np.abs(bare(lax.reduce_sum(rows, (0,))) / exact - 1) < 84 * 2**-24).all()
    assert abs(np.add.reduce(rows, 0)[0] / exact - 1) > 84 * 2**-24  # what NumPy alone would do


def test_a_sum_of_small_floats_rounds_once():
    x = np.full((3000, 2), 0.01, np.float16)
    expected = x.astype(np.float64).sum(0).astype(np.float16)
    np.testing.assert_array_equal(bare(basis.reduce_sum(fg.numpy.asarray(x), (0,))), expected)
