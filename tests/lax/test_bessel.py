import numpy as np
import pytest
import scipy.special

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare


@pytest.mark.parametrize("name", ["bessel_i0e", "bessel_i1e"])
def test_scaled_functions_do_not_overflow_and_are_differentiable_on_both_sides(name):
    x = np.array([-800.0, -2.0, -1e-9, 1e-9, 2.0, 800.0])
    f, exact = getattr(lax, name), getattr(scipy.special, name.removeprefix("bessel_"))
    np.testing.assert_array_equal(bare(f(x)), exact(x))
    _, tangent = fg.jvp(f, (x,), (np.ones_like(x),))
    h = 1e-4 * np.maximum(1e-6, np.abs(x))
    slope = (8 * (exact(x + h) - exact(x - h)) - (exact(x + 2 * h) - exact(x - 2 * h))) / (12 * h)
    np.testing.assert_allclose(bare(tangent), slope, rtol=1e-3)
    np.testing.assert_allclose(bare(tangent)[[1, 4]], slope[[1, 4]], rtol=1e-9)


def test_bessel_i1e_is_differentiable_at_zero():
    assert float(bare(fg.grad(lax.bessel_i1e)(np.float64(0)))) == 0.5
