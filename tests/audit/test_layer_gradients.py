"""Seed table: gradients of the layers, against 5-point differences."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from tests.audit.differences import check

RNG = np.random.default_rng(17)


def normal(*shape):
    return RNG.normal(size=shape)


def test_group_norm():
    check(lambda x, w, b: nn.group_norm(x, 2, w, b), normal(2, 4, 3), normal(4), normal(4))


def test_layer_norm():
    check(nn.layer_norm, normal(3, 5), normal(5), normal(5))


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu(approximate):
    check(lambda x: nn.gelu(x, approximate=approximate), np.linspace(-4, 4, 17))


def test_silu():
    check(nn.silu, np.linspace(-5, 5, 17))


def test_embedding_adds_repeated_rows():
    rows = np.array([[2, 0, 2], [2, 4, 0]])
    check(lambda w: nn.embedding(rows, w), normal(5, 3))
    g = fg.grad(lambda w: fnp.sum(nn.embedding(rows, w)))(normal(5, 2))
    np.testing.assert_array_equal(g, np.array([2, 0, 3, 0, 1])[:, None] * np.ones(2))


def test_dropout_is_the_same_mask_both_ways():
    x = np.ones(1000, np.float32)

    def f(x):
        return nn.dropout(fg.random.PRNGKey(3), x, 0.25)

    y, pullback = fg.vjp(f, x)
    (g,) = pullback(x)
    np.testing.assert_array_equal(g, y)  # the mask, scaled by 1 / (1 - rate)
    np.testing.assert_allclose(np.unique(np.asarray(y)), [0, 1 / 0.75], rtol=1e-6)
    assert 0.2 < (np.asarray(y) == 0).mean() < 0.3
    check(lambda x: nn.dropout(fg.random.PRNGKey(3), x, 0.5), normal(4, 3))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2},
                                     {"stride": (2, 1), "padding": "valid"}])  # fmt: skip
def test_conv2d(options):
    check(
        lambda x, w, b: nn.conv(x, w, b, **options),
        normal(2, 2, 5, 4),
        normal(3, 2, 2, 2),
        normal(3),
    )


def test_conv2d_in_groups():
    check(lambda x, w: nn.conv(x, w, groups=2, padding=1), normal(1, 4, 3, 3), normal(4, 2, 3, 3))


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"stride": 2, "padding": 1}])
def test_max_pool2d(options):
    x = RNG.permutation(np.arange(2.0 * 2 * 5 * 4)).reshape(2, 2, 5, 4)  # no ties
    check(lambda x: nn.max_pool(x, 2, **options), x)


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)])
def test_softmax(axis):
    check(lambda x: nn.softmax(x, axis=axis), normal(3, 4))
    check(lambda x: nn.log_softmax(x, axis=axis), normal(3, 4))


@pytest.mark.parametrize("index", [np.s_[1:], np.s_[::-1], np.s_[::2, 1], np.s_[..., None, -1],
                                   np.s_[1:1], np.s_[[0, 0, 2]], np.s_[:, [1, 1]],
                                   np.s_[[0, 0], [1, 1]], np.s_[-2:, 3:0:-2]])  # fmt: skip
def test_slice(index):
    check(lambda x: fnp.asarray(x)[index], normal(3, 4))


def test_lax_slices():
    check(lambda x: lax.slice(x, (1, 0), (3, 4), (1, 2)), normal(3, 4))
    check(lambda x, u: lax.dynamic_update_slice(x, u, (1, 1)), normal(3, 4), normal(2, 2))
    check(lambda x: lax.dynamic_slice(x, (1, 2), (2, 2)), normal(3, 4))
