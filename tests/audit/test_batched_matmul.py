"""Seed table: batched matmul gradients with broadcast batch dimensions."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from tests.audit.differences import check

RNG = np.random.default_rng(3)
SHAPES = [
    ((2, 3), (3, 2)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)),
    ((2, 1, 3), (3, 2)), ((1, 2, 3), (4, 3, 2)), ((4, 2, 3), (1, 3, 2)), ((4, 2, 3), (3, 2)),
    ((2, 1, 2, 3), (1, 3, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,)),
    ((0, 2, 3), (1, 3, 2)), ((1, 2, 3), (0, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_gradients(a, b):
    check(fnp.matmul, RNG.normal(size=a), RNG.normal(size=b))


@pytest.mark.parametrize(("a", "b"), SHAPES[4:10])
def test_is_the_explicit_broadcast_and_a_sum(a, b):
    x, y = RNG.normal(size=a), RNG.normal(size=b)
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    wide = [np.broadcast_to(t, (*batch, *t.shape[-2:])).copy() for t in (x, y)]
    found = fg.grad(lambda x, y: fnp.sum(fnp.sin(x @ y)), (0, 1))(x, y)
    expected = fg.grad(lambda x, y: fnp.sum(fnp.sin(x @ y)), (0, 1))(*wide)
    for g, e, t in zip(found, expected, (x, y), strict=True):
        lead = np.asarray(e).sum(axis=tuple(range(e.ndim - t.ndim)))
        kept = tuple(i for i, n in enumerate(t.shape) if n == 1 and lead.shape[i] != 1)
        np.testing.assert_allclose(g, lead.sum(axis=kept, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize(
    "spec", ["bij,bjk->bik", "bij,jk->bk", "ii->i", "bi,ci->bc", "abc,cd,de->abe"]
)
def test_einsum(spec):
    sizes = dict(zip("abcdeijk", (2, 3, 2, 3, 2, 2, 3, 2), strict=True))
    terms = spec.split("->")[0].split(",")
    check(lambda *xs: fnp.einsum(spec, *xs),
          *[RNG.normal(size=[sizes[c] for c in t]) for t in terms])  # fmt: skip
