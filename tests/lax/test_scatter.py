import itertools

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare

ONE = lax.ScatterDimensionNumbers((), (0,), (0,))


def total(f):
    return lambda *args: lax.reduce_sum(f(*args), (0,))


def test_the_last_update_stays_and_alone_has_a_gradient():
    indices = np.array([[1], [0], [1], [1]])
    f = lambda x, u: lax.scatter(x, indices, u, ONE)  # noqa: E731
    x, u = np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(bare(f(x, u)), [2, 4, 7])
    weighted = total(lambda x, u: lax.mul(f(x, u), np.array([10.0, 20.0, 30.0])))
    gx, gu = fg.grad(weighted, argnums=(0, 1))(x, u)
    np.testing.assert_array_equal(bare(gx), [0, 0, 30])
    np.testing.assert_array_equal(bare(gu), [0, 10, 0, 20])
    _, tangent = fg.jvp(f, (x, u), (np.ones(3), np.array([1.0, 2.0, 3.0, 4.0])))
    np.testing.assert_array_equal(bare(tangent), [2, 4, 1])


def test_overlapping_windows_agree_between_value_and_gradient():
    n = lax.ScatterDimensionNumbers((1,), (), (0,))
    indices = np.array([[0], [1], [2], [1]])
    u = np.arange(8.0).reshape(4, 2) + 1
    out = bare(lax.scatter(np.zeros(5), indices, u, n))
    g = bare(fg.grad(total(lambda v: lax.scatter(np.zeros(5), indices, v, n)))(u))
    np.testing.assert_array_equal(np.sort(u[g == 1]), np.sort(out[out != 0]))
    assert set(np.unique(g)) == {0.0, 1.0}


@pytest.mark.parametrize("f", [lax.scatter, lax.scatter_add, lax.scatter_mul, lax.scatter_max])
def test_a_dropped_update_has_no_gradient(f):
    indices = np.array([[9], [1], [-1]])
    h = total(lambda u: f(np.full(3, 0.5), indices, u, ONE, mode="drop"))
    g = bare(fg.grad(h)(np.array([2.0, 3.0, 4.0])))
    np.testing.assert_array_equal(g, [0, 0.5 if f is lax.scatter_mul else 1, 0])


@pytest.mark.parametrize("zeros", [(), (0,), (0, 2), (0, 2, 3)])
def test_products_differentiate_where_updates_are_zero(zeros):
    indices = np.array([[1], [0], [1], [1]])
    u = np.array([2.0, 3.0, 5.0, 7.0])
    u[list(zeros)] = 0
    x = np.array([1.5, 0.5])
    group = [0, 2, 3]
    g = fg.grad(total(lambda v: lax.scatter_mul(x, indices, v, ONE)))
    expected = np.zeros(4)
    expected[1] = x[0]
    for i in group:
        expected[i] = x[1] * np.prod([u[k] for k in group if k != i])
    np.testing.assert_allclose(bare(g(u)), expected)
    second = np.zeros((4, 4))
    for i, j in itertools.permutations(group, 2):
        second[i, j] = x[1] * np.prod([u[k] for k in group if k not in (i, j)])
    found = [bare(fg.jvp(g, (u,), (e,))[1]) for e in np.eye(4)]
    np.testing.assert_allclose(found, second, atol=1e-12)


def test_ties_of_extrema_share_equally_with_the_operand():
    indices = np.array([[0], [0], [1]])
    h = total(lambda x, u: lax.scatter_max(x, indices, u, ONE))
    gx, gu = fg.grad(h, argnums=(0, 1))(np.array([2.0, 9.0]), np.array([2.0, 2.0, 3.0]))
    np.testing.assert_allclose(bare(gx), [1 / 3, 1])
    np.testing.assert_allclose(bare(gu), [1 / 3, 1 / 3, 0])


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(
    ("f", "ufunc"),
    [(lax.scatter_add, np.add), (lax.scatter_mul, np.multiply), (lax.scatter_min, np.minimum),
     (lax.scatter_max, np.maximum)],
)  # fmt: skip
def test_duplicates_combine_as_one_by_one(f, ufunc, width):
    rng = np.random.default_rng(0)
    x, u = rng.uniform(0.9, 1.1, (4, width)), rng.uniform(0.9, 1.1, (100, width))
    indices = rng.integers(0, 4, 100)
    expected = x.copy()
    ufunc.at(expected, indices, u)
    n = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    np.testing.assert_allclose(bare(f(x, indices[:, None], u, n)), expected, rtol=1e-13)


@pytest.mark.parametrize("f", [lax.scatter, lax.scatter_add, lax.scatter_mul, lax.scatter_min])
@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, None, 0), (1, 0, 1)])
def test_a_batch_is_each_element_alone(f, dims):
    rng = np.random.default_rng(0)
    x, i, u = rng.standard_normal((3, 3)), rng.integers(0, 3, (3, 4)), rng.standard_normal((4, 4))
    args = [
        a if d is not None else np.take(a, 0, 0)
        for a, d in zip((x, i, u[:3] if dims[2] == 0 else u[:, :3]), dims, strict=True)
    ]
    if dims[2] is None:
        args[2] = u[0]

    def one(x, i, u):
        return f(x, lax.reshape(i, (4, 1)), u, ONE)

    out = bare(fg.vmap(one, in_axes=dims)(*args))
    for k in range(3):
        each = [a if d is None else np.take(a, k, d) for a, d in zip(args, dims, strict=True)]
        np.testing.assert_allclose(out[k], bare(one(*each)))
