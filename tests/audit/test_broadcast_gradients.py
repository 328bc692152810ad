"""Seed table: broadcast gradients, ([1,3]+[2,1] and every broadcast pair up to rank 3)."""

from itertools import product

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from tests.audit.differences import check, numerical

FULL = (2, 3, 2)


def parts():
    """Every shape that broadcasts to FULL: trailing axes left as they are or 1."""
    for rank in range(4):
        axes = FULL[len(FULL) - rank :]
        yield from {tuple(s) for s in product(*[(1, n) for n in axes])}


PAIRS = list(product(sorted(parts()), repeat=2))


def operands(a, b):
    rng = np.random.default_rng(len(a) * 10 + len(b))
    return rng.uniform(0.5, 1.5, a), rng.uniform(0.5, 1.5, b)


def test_the_case_of_the_table():
    check(lambda x, y: x + y, np.ones((1, 3)), np.ones((2, 1)))
    gx, gy = fg.grad(lambda x, y: fnp.sum(x + y), (0, 1))(np.ones((1, 3)), np.ones((2, 1)))
    np.testing.assert_array_equal(gx, [[2, 2, 2]])
    np.testing.assert_array_equal(gy, [[3], [3]])


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda s: "x".join(map(str, s)) or "scalar")
def test_every_pair(a, b):
    x, y = operands(a, b)

    def f(x, y):
        return fnp.sum(fnp.sin(x * y) + x / y - y**x)

    shape = np.broadcast_shapes(a, b)
    gx, gy = fg.grad(f, (0, 1))(x, y)
    ex, ey = numerical(f, [x, y])
    for g, e, at in ((gx, ex, x), (gy, ey, y)):
        assert g.shape == at.shape
        np.testing.assert_allclose(g, e, rtol=1e-8, atol=1e-9)
    # Law 17: the same as an explicit broadcast and a sum.
    wide = fg.grad(f, (0, 1))(np.broadcast_to(x, shape).copy(), np.broadcast_to(y, shape).copy())
    for g, big in ((gx, wide[0]), (gy, wide[1])):
        lead = np.asarray(big).sum(axis=tuple(range(len(shape) - g.ndim)))
        kept = tuple(i for i, n in enumerate(g.shape) if n == 1)
        np.testing.assert_allclose(g, lead.sum(axis=kept, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize("op", [fnp.add, fnp.subtract, fnp.multiply, fnp.divide, fnp.power,
                                fnp.maximum, fnp.minimum, fnp.arctan2, fnp.hypot])  # fmt: skip
@pytest.mark.parametrize(
    "shapes", [((1, 3), (2, 1)), ((), (2, 3)), ((3,), (2, 1, 3)), ((0,), (1,))]
)
def test_every_binary_operation(op, shapes):
    check(op, *operands(*shapes))


def test_where_with_three_broadcast_operands():
    mask = np.array([[True], [False]])
    check(lambda x, y: fnp.where(mask, x, y), np.ones((1, 3)), np.ones(()))
