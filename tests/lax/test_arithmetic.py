import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import DtypeError, ShapeError
from tests.lax.values import bare


def _same(value, expected):
    np.testing.assert_array_equal(bare(value), expected)


def test_integer_division_truncates_and_has_all_bits_set_over_zero():
    x = np.array([-7, 7, -7, 7, 5, -128], np.int8)
    y = np.array([2, 2, -2, -2, 0, -1], np.int8)
    _same(lax.div(x, y), np.array([-3, 3, 3, -3, -1, -128], np.int8))
    _same(lax.div(np.uint8(9), np.uint8(0)), np.uint8(255))


def test_remainder_has_the_sign_of_the_dividend():
    x, y = np.array([-7, 7, -7, 5]), np.array([2, -2, -2, 0])
    _same(lax.rem(x, y), [-1, 1, -1, 5])
    _same(lax.rem(np.array([-7.5, 7.5]), 2.0), [-1.5, 1.5])


def test_derivative_of_the_remainder_is_exact_where_the_quotient_rounds():
    # 2.9999999999999996 rounds away from the integer that truncation finds.
    x, y = np.nextafter(3 * 0.1, 1), 0.1
    assert float(bare(fg.grad(lambda y: lax.rem(np.float64(x), y))(np.float64(y)))) == -3.0


def test_abs_and_sign_are_zero_at_zero():
    for zero in (np.float64(0), np.complex128(0)):
        assert complex(bare(fg.grad(lambda z: lax.abs(z))(zero))) == 0
        assert complex(bare(lax.sign(zero))) == 0


def test_gradient_of_abs_of_a_complex_number_is_the_conjugate_direction():
    z = np.complex128(3 + 4j)
    assert bare(fg.grad(lax.abs)(z)) == pytest.approx(0.6 - 0.8j)


def test_sign_keeps_signed_zeros_and_nan():
    out = bare(lax.sign(np.array([-0.0, 0.0, np.nan, -np.inf])))
    assert np.signbit(out[0])
    assert not np.signbit(out[1])
    assert np.isnan(out[2])
    assert out[3] == -1


def test_python_numbers_take_the_dtype_of_the_other_operand_and_stay_weak_alone():
    assert lax.add(np.float32(1), 1).dtype == np.float32
    assert lax.mul(2, np.array([1], np.int8)).dtype == np.int8
    assert lax.add(1, 2.5).dtype == np.float32
    assert lax.add(2.5, 1).weak_type
    assert not lax.add(np.float32(2.5), 1).weak_type


@pytest.mark.parametrize(
    ("number", "array"),
    [(1.5, np.array([1])), (1j, np.array([1.0])), (300, np.array([1], np.uint8)), (2, np.True_)],
)
def test_numbers_that_a_dtype_cannot_hold_are_refused(number, array):
    with pytest.raises(DtypeError, match=r"common dtype|does not fit"):
        lax.add(number, array)
    with pytest.raises(DtypeError, match=r"common dtype|does not fit"):
        lax.add(array, number)


def test_mismatches_say_what_to_do():
    with pytest.raises(DtypeError, match=r"add needs operands of one dtype.*astype"):
        lax.add(np.float32([1]), np.float64([1]))
    with pytest.raises(ShapeError, match="mul: shapes do not broadcast"):
        lax.mul(np.ones(2), np.ones(3))
    with pytest.raises(DtypeError, match="abs takes"):
        lax.abs(np.uint8([1]))


def test_small_floats_compute_in_float32_and_round_once():
    x = np.array([1.0, 3.0], bfloat16)
    out = lax.div(x, np.array([3.0, 7.0], bfloat16))
    assert out.dtype == bfloat16
    _same(out, (np.float32([1, 3]) / np.float32([3, 7])).astype(bfloat16))


def test_multiplication_by_one_is_dropped_only_where_the_type_stays():
    one = np.float32(1)
    jaxpr = fg.make_jaxpr(lambda x: lax.mul(x, 1))(one)
    assert jaxpr.out_avals[0].weak_type is False


def test_strong_zero_keeps_an_unused_quotient_out_of_the_gradient():
    def f(x):
        return lax.select_n(lax.gt(x, 0.0), np.float64(2), lax.div(1.0, x))

    assert float(bare(fg.grad(f)(np.float64(0)))) == 0.0
