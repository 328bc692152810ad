import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import DtypeError
from tests.lax.values import bare

Z = np.complex128(3 - 4j)


def _grad(f):
    return complex(bare(fg.grad(f)(Z)))


def test_gradients_follow_the_convention_without_conjugation():
    # x + iy stands for the map that takes a step a + ib to a·∂f/∂x + b·∂f/∂y, as ∂x - i∂y.
    assert _grad(lax.real) == 1
    assert _grad(lax.imag) == -1j
    assert _grad(lambda z: lax.real(lax.conj(z))) == 1
    assert _grad(lambda z: lax.imag(lax.conj(z))) == 1j
    assert _grad(lambda z: lax.real(lax.mul(z, lax.conj(z)))) == 2 * np.conj(Z)


def test_parts_make_the_number_again():
    z = np.array([1 + 2j, complex(np.inf, -0.0), complex(-0.0, np.nan)])
    again = bare(lax.complex(lax.real(z), lax.imag(z)))
    np.testing.assert_array_equal(again.view(np.uint64), z.view(np.uint64))


def test_operands_of_complex_get_their_own_parts_of_the_gradient():
    def f(x, y):
        return lax.imag(lax.mul(lax.complex(x, y), np.complex128(2 + 5j)))

    slopes = fg.grad(f, argnums=(0, 1))(np.float64(1), np.float64(1))
    assert [float(bare(g)) for g in slopes] == [5.0, 2.0]


def test_conj_of_a_real_array_is_complex():
    assert lax.conj(np.float32([1])).dtype == np.complex64
    assert lax.conj(np.float64([1])).dtype == np.complex128


def test_other_dtypes_are_refused():
    with pytest.raises(DtypeError, match="real takes complex"):
        lax.real(np.ones(2))
    with pytest.raises(DtypeError, match="two float32 or two float64"):
        lax.complex(np.float32(1), np.float64(1))
