"""The oracle of derivatives: central differences of fourth order, in float64."""

import numpy as np
import pytest

import fgrad as fg

# (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h; the error is about h⁴ + 1e-16 / h.
_STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
_STEP = 1e-3


def _check_gradient(f, *xs, rtol=1e-8, atol=1e-9):
    """Compare every entry of the gradients of ``sum(w * f(*xs))``, w random, with differences."""
    xs = [np.asarray(x, np.float64) for x in xs]
    w = np.random.default_rng(99).normal(size=np.shape(f(*xs)))

    def weighted(*xs):
        return fg.numpy.sum(w * f(*xs))

    gradients = fg.grad(weighted, argnums=tuple(range(len(xs))))(*xs)
    for position, (x, gradient) in enumerate(zip(xs, gradients, strict=True)):
        assert gradient.shape == x.shape
        expected = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            for offset, factor in _STENCIL:
                moved = x.copy()
                moved[index] += offset * _STEP
                arguments = [*xs[:position], moved, *xs[position + 1 :]]
                expected[index] += factor * float(weighted(*arguments)) / _STEP
        np.testing.assert_allclose(np.asarray(gradient), expected, rtol=rtol, atol=atol)


@pytest.fixture
def check_gradient():
    return _check_gradient
