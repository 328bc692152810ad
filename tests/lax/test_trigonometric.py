import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare


def _jvp(f, z):
    _, tangent = fg.jvp(f, (z,), (np.ones_like(z),))
    return bare(tangent)


def _at(f, z):
    return bare(f(z))


NAMES = ["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
         "atanh"]  # fmt: skip


@pytest.mark.parametrize("z", [0.7 - 0.4j, -0.7 - 0.4j, -0.7 + 0.4j, 2 + 3j, -2 + 3j, -2 - 3j])
@pytest.mark.parametrize("name", NAMES)
def test_complex_derivatives_equal_differences_in_every_quadrant(name, z):
    f, z, h = getattr(lax, name), np.complex128(z), 1e-4
    slope = (8 * (_at(f, z + h) - _at(f, z - h)) - (_at(f, z + 2 * h) - _at(f, z - 2 * h))) / (
        12 * h
    )
    assert _jvp(f, z) == pytest.approx(slope, rel=1e-9)


def test_planar_functions_have_derivative_zero_at_the_origin():
    for f in (lax.atan2, lax.hypot):
        slopes = fg.grad(f, argnums=(0, 1))(np.float64(0), np.float64(0))
        assert [float(bare(g)) for g in slopes] == [0.0, 0.0]


def test_planar_derivatives_do_not_overflow():
    x = np.float32(1e30)
    for f, slopes in ((lax.hypot, (0.70710677, 0.70710677)), (lax.atan2, (5e-31, -5e-31))):
        found = [float(bare(g)) for g in fg.grad(f, argnums=(0, 1))(x, x)]
        assert found == pytest.approx(slopes, rel=1e-5)


def test_derivatives_keep_their_digits_for_great_arguments():
    assert float(_jvp(lax.asinh, np.float32(1e25))) == pytest.approx(1e-25, rel=1e-6)
    assert float(_jvp(lax.acosh, np.float32(1e25))) == pytest.approx(1e-25, rel=1e-6)


def test_derivative_of_tanh_keeps_its_digits_near_one():
    x = np.float64(10)
    # What remains is the rounding of tanh itself: half an ulp of 1, over 1 - tanh(10) = 4e-9.
    assert float(_jvp(lax.tanh, x)) == pytest.approx(1 / np.cosh(10.0) ** 2, rel=3e-8)
    near = np.float32(0.999999)
    assert float(_jvp(lax.atanh, near)) == pytest.approx(1 / (1 - float(near) ** 2), rel=3e-7)


def test_angles_of_the_axes():
    y = np.array([0.0, 0.0, 1.0, -1.0, -0.0])
    x = np.array([1.0, -1.0, 0.0, 0.0, -1.0])
    np.testing.assert_array_equal(bare(lax.atan2(y, x)), np.arctan2(y, x))
