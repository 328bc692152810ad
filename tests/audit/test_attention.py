"""Seed table: attention gradients, three equal-shaped q, k, v included."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn
from tests.audit.differences import check, numerical

RNG = np.random.default_rng(11)
Q, K, V = (RNG.normal(size=(1, 3, 2, 2)) for _ in range(3))
MASK = np.array([[True, False, True], [True, True, False], [False, True, True]])[None, None]


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"mask": MASK}, {"scale": 0.3}])
def test_equal_shapes(options):
    check(lambda q, k, v: nn.dot_product_attention(q, k, v, **options), Q, K, V)


def test_equal_shapes_are_not_mixed_up():
    # With one key, the weights are 1: the output is v, whatever q and k.
    one = [x[:, :1] for x in (Q, K, V)]
    gq, gk, gv = fg.grad(lambda *a: fnp.sum(nn.dot_product_attention(*a)), (0, 1, 2))(*one)
    np.testing.assert_allclose(gq, 0, atol=1e-15)
    np.testing.assert_allclose(gk, 0, atol=1e-15)
    np.testing.assert_allclose(gv, 1, atol=1e-15)


def test_one_array_as_all_three():
    w = RNG.normal(size=Q.shape)

    def alone(x):
        return fnp.sum(w * nn.dot_product_attention(x, x, x))

    def apart(q, k, v):
        return fnp.sum(w * nn.dot_product_attention(q, k, v))

    g = fg.grad(alone)(Q)
    np.testing.assert_allclose(g, numerical(alone, [Q])[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(
        g, sum(map(np.asarray, fg.grad(apart, (0, 1, 2))(Q, Q, Q))), rtol=1e-12
    )


def test_other_lengths_and_grouped_heads():
    k, v = RNG.normal(size=(2, 1, 4, 1, 2))
    check(lambda q, k, v: nn.dot_product_attention(q, k, v), Q, k, v)


def test_bias_has_a_gradient():
    check(lambda b: nn.dot_product_attention(Q, K, V, bias=b), RNG.normal(size=(1, 2, 3, 3)))


def test_a_fully_masked_row_gives_zeros_and_no_nan():
    mask = MASK.copy()
    mask[..., 1, :] = False
    out = nn.dot_product_attention(Q, K, V, mask=mask)
    np.testing.assert_array_equal(out[:, 1], 0)
    for g in fg.grad(lambda *a: fnp.sum(nn.dot_product_attention(*a, mask=mask)), (0, 1, 2))(
        Q, K, V
    ):
        assert np.isfinite(np.asarray(g)).all()


def test_second_order():
    def f(q):
        return fnp.sum(nn.dot_product_attention(q, K, V) ** 2)

    def directional(q):
        return fnp.sum(fg.grad(f)(q) * V)

    g = fg.grad(directional)(Q)
    np.testing.assert_allclose(g, numerical(directional, [Q])[0], rtol=1e-7, atol=1e-9)
