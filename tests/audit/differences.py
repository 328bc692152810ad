"""The oracle of the audit: 5-point differences in float64, every basis direction."""

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp

_STEP = 1e-3


def numerical(f, xs):
    """The gradients of a scalar function of float64 arrays by 5-point differences."""
    out = []
    for k, x in enumerate(xs):
        g = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            for offset, factor in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
                moved = x.copy()
                moved[index] += offset * _STEP
                g[index] += factor * float(f(*xs[:k], moved, *xs[k + 1 :])) / _STEP
        out.append(g)
    return out


def check(f, *xs, rtol=1e-8, atol=1e-9):
    """Fails unless the gradients of ``sum(w·f(*xs))``, w random, are the numerical ones.

    Reverse mode, and forward mode against it, in float64.
    """
    xs = [np.asarray(x, np.float64) for x in xs]
    w = np.random.default_rng(7).normal(size=np.shape(f(*xs)))

    def weighted(*xs):
        return fnp.sum(w * f(*xs))

    found = fg.grad(weighted, tuple(range(len(xs))))(*xs)
    for x, g, e in zip(xs, found, numerical(weighted, xs), strict=True):
        assert (g.shape, g.dtype) == (x.shape, x.dtype)
        np.testing.assert_allclose(g, e, rtol=rtol, atol=atol)
    vs = [np.random.default_rng(8).normal(size=x.shape) for x in xs]
    pushed = fg.jvp(weighted, tuple(xs), tuple(vs))[1]
    pulled = sum(float((np.asarray(g) * v).sum()) for g, v in zip(found, vs, strict=True))
    np.testing.assert_allclose(float(pushed), pulled, rtol=1e-10, atol=1e-12)
