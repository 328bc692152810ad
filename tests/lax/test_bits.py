import numpy as np
import pytest

from fgrad import lax
from fgrad.core.errors import DtypeError
from tests.lax.values import bare

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def _values(dtype, seed=0):
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(info.min, info.max, 40, dtype=dtype, endpoint=True)
    return np.concatenate([drawn, np.array([info.min, info.max, 0, 1], dtype)])


class _Portable:
    """NumPy's functions under another name, to reach what CuPy runs."""

    def __getattr__(self, name):
        if name == "bitwise_count":
            raise AttributeError(name)
        return getattr(np, name)


@pytest.mark.parametrize("xp", [np, _Portable()], ids=["numpy", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "prim", [lax.shift_left_p, lax.shift_right_arithmetic_p, lax.shift_right_logical_p], ids=str
)
def test_shifts_equal_those_of_python_integers(prim, dtype, xp):
    x = _values(dtype)
    y = (np.arange(x.size) * 2).astype(dtype)
    out = prim.eager(xp, x, y)
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out, prim.spec.reference(x, y))


@pytest.mark.parametrize("xp", [np, _Portable()], ids=["numpy", "portable"])
def test_a_negative_count_moves_every_bit_out(xp):
    x, y = np.array([5, -5], np.int32), np.array([-1, -31], np.int32)
    assert lax.shift_left_p.eager(xp, x, y).tolist() == [0, 0]
    assert lax.shift_right_logical_p.eager(xp, x, y).tolist() == [0, 0]
    assert lax.shift_right_arithmetic_p.eager(xp, x, y).tolist() == [0, -1]


@pytest.mark.parametrize("xp", [np, _Portable()], ids=["numpy", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prim", [lax.population_count_p, lax.clz_p], ids=str)
def test_counts_equal_those_of_the_digits(prim, dtype, xp):
    x = _values(dtype)
    out = prim.eager(xp, x)
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out, prim.spec.reference(x))


def test_logic_of_bits_and_of_booleans():
    x, y = np.array([0b1100], np.uint8), np.array([0b1010], np.uint8)
    assert bare(lax.bitwise_and(x, y)).tolist() == [0b1000]
    assert bare(lax.bitwise_or(x, y)).tolist() == [0b1110]
    assert bare(lax.bitwise_xor(x, y)).tolist() == [0b0110]
    assert bare(lax.bitwise_not(x)).tolist() == [0b11110011]
    p, q = np.array([True, True, False]), np.array([True, False, False])
    assert bare(lax.bitwise_and(p, q)).tolist() == [True, False, False]
    assert bare(lax.bitwise_xor(p, q)).tolist() == [False, True, False]
    assert bare(lax.bitwise_not(p)).tolist() == [False, False, True]


def test_floats_have_no_bits_here():
    for name in ("bitwise_and", "shift_left"):
        with pytest.raises(DtypeError, match="takes"):
            getattr(lax, name)(np.float32([1]), np.float32([1]))
    with pytest.raises(DtypeError, match="clz takes"):
        lax.clz(np.float32([1]))
