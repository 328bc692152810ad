import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import DtypeError
from tests.lax.values import bare

NAMES = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
         "gt": np.greater, "ge": np.greater_equal}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.uint32, bool, bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_comparisons_equal_numpys(name, dtype):
    x = np.array([0, 1, 1, 0]).astype(dtype)
    y = np.array([0, 1, 0, 1]).astype(dtype)
    out = getattr(lax, name)(x, y)
    assert out.dtype == bool
    assert bare(out).tolist() == NAMES[name](x, y).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_nan_differs_from_everything(name):
    nan = np.float64(np.nan)
    assert bool(bare(getattr(lax, name)(nan, nan))) is (name == "ne")


def test_complex_numbers_are_equal_or_not_but_have_no_order():
    z = np.array([1j])
    assert bare(lax.eq(z, z)).tolist() == [True]
    with pytest.raises(DtypeError, match="lt takes"):
        lax.lt(z, z)


def test_a_comparison_carries_no_derivative():
    def f(x):
        return lax.mul(x, lax.convert_element_type(lax.gt(x, 0.0), np.float64))

    assert float(bare(fg.grad(f)(np.float64(3)))) == 1.0


def test_is_finite():
    x = np.array([1.0, np.inf, -np.inf, np.nan])
    assert bare(lax.is_finite(x)).tolist() == [True, False, False, False]
    with pytest.raises(DtypeError, match="is_finite takes"):
        lax.is_finite(np.array([1]))
