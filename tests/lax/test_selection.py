import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.core.errors import DtypeError
from tests.lax.values import bare


def test_false_and_zero_name_the_first_case():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    which = np.array([False, True])
    assert bare(lax.select_n(which, x, y)).tolist() == [1.0, 4.0]
    assert bare(lax.select(which, x, y)).tolist() == [3.0, 2.0]
    index = np.array([2, 0], np.int32)
    assert bare(lax.select_n(index, x, y, x + y)).tolist() == [4.0, 2.0]


def test_a_case_may_be_a_python_number():
    out = lax.select(np.array([True, False]), np.float32([1, 2]), 0)
    assert out.dtype == np.float32
    assert bare(out).tolist() == [1.0, 0.0]


def test_the_case_that_was_not_chosen_contributes_nothing():
    def f(x):
        return lax.select(lax.gt(x, 0.0), lax.log(x), 0.0)

    assert float(bare(fg.grad(f)(np.float64(0)))) == 0.0
    assert float(bare(fg.grad(f)(np.float64(2)))) == 0.5


def test_cases_of_two_dtypes_are_refused():
    with pytest.raises(DtypeError, match="one dtype"):
        lax.select(np.array([True]), np.float32([1]), np.float64([1]))
