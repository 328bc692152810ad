import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from tests.lax.values import bare


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint16", "complex64", "bfloat16"])
def test_iota_counts_in_every_dtype(dtype):
    out = bare(lax.broadcasted_iota(dtype, (2, 5), 1))
    assert out.dtype == fg.dtypes.dtype(dtype)
    np.testing.assert_array_equal(out.astype(complex), np.arange(5) * np.ones((2, 1)))


def test_iota_refuses_bool_and_a_missing_axis():
    with pytest.raises(DtypeError, match="bool"):
        lax.iota(bool, 3)
    with pytest.raises(AxisError, match="out of range"):
        lax.broadcasted_iota(np.int32, (3,), 1)


def test_full_is_differentiable_in_its_value():
    f = lambda v: lax.reduce_sum(lax.full((2, 3), v), (0, 1))  # noqa: E731
    assert float(bare(fg.grad(f)(np.float64(2.0)))) == 6.0


def test_full_rounds_a_python_number_once():
    out = bare(lax.full((1,), 0.1, np.float64))
    assert out[0] == 0.1


def test_full_keeps_an_explicit_dtype_and_takes_that_of_its_model():
    assert lax.full((2,), 1, np.int8).dtype == np.int8
    assert lax.full_like(np.zeros((2, 1), np.float16), 3).dtype == np.float16
    assert lax.full_like(np.zeros(2), 1, np.int32, (3, 4)).shape == (3, 4)
    assert not bare(lax.zeros_like_array(np.ones(3))).any()


def test_full_refuses_an_array():
    with pytest.raises(ShapeError, match="scalar"):
        lax.full((2,), np.ones(2))
