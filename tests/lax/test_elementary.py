import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from tests.lax.values import bare


def _grads(f, *args):
    argnums = tuple(range(len(args)))
    found = fg.grad(f, argnums=argnums)(*map(np.float64, args))
    return [float(bare(g)) for g in found]


@pytest.mark.parametrize(
    ("x", "y", "slopes"),
    [
        (0.0, 0.0, (0.0, 0.0)),  # x**0 is constant; the other is masked at 0
        (0.0, 1.0, (1.0, 0.0)),
        (0.0, 2.0, (0.0, 0.0)),
        (0.0, 0.5, (np.inf, 0.0)),
        (2.0, 0.0, (0.0, np.log(2.0))),
        (1.0, 3.0, (3.0, 0.0)),
    ],
)
def test_derivatives_of_pow_at_its_corners(x, y, slopes):
    assert _grads(lax.pow, x, y) == pytest.approx(slopes)


def test_mixed_second_derivative_of_pow_is_symmetric_at_exponent_zero():
    # d²/dx dy of x**y is (1 + y·log x)·x**(y-1), 1/x at y = 0.
    x, y = np.float64(2), np.float64(0)
    a = fg.grad(lambda y: fg.grad(lax.pow, argnums=0)(x, y))(y)
    b = fg.grad(lambda x: fg.grad(lax.pow, argnums=1)(x, y))(x)
    assert float(bare(a)) == pytest.approx(0.5)
    assert float(bare(b)) == pytest.approx(0.5)


def test_pow_takes_integer_exponents():
    x = np.float32([2, -3])
    assert bare(lax.pow(x, np.array([3, 3]))).tolist() == [8, -27]
    assert lax.pow(x, np.array([3, 3])).dtype == np.float32
    assert bare(lax.pow(np.array([2, 3]), 2)).tolist() == [4, 9]
    slope = fg.grad(lambda x: lax.pow(x, np.int32(3)))(np.float64(-2))
    assert float(bare(slope)) == 12.0


def test_logistic_does_not_overflow():
    out = bare(lax.logistic(np.float32([-1000, 1000, np.nan])))
    assert out[:2].tolist() == [0.0, 1.0]
    assert np.isnan(out[2])


def test_a_guarded_logarithm_has_a_finite_gradient():
    def f(x):
        return lax.select_n(lax.gt(x, 0.0), np.float64(0), lax.log(x))

    assert _grads(f, 0.0) == [0.0]
    assert _grads(f, 2.0) == [0.5]


@pytest.mark.parametrize("name", ["exp", "exp2", "log", "expm1", "log1p", "logistic"])
def test_complex_derivatives_equal_differences(name):
    f, z, h = getattr(lax, name), 0.7 - 0.4j, 1e-5
    slope = (8 * (_at(f, z + h) - _at(f, z - h)) - (_at(f, z + 2 * h) - _at(f, z - 2 * h))) / (
        12 * h
    )
    _, tangent = fg.jvp(f, (np.complex128(z),), (np.complex128(1),))
    assert bare(tangent) == pytest.approx(slope, rel=1e-9)


def _at(f, z):
    return complex(bare(f(np.complex128(z))))
