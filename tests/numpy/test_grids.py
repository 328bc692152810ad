import numpy as np
import pytest

import fgrad.numpy as fnp
from fgrad.core.dtype_kinds import EXTENDED


@pytest.mark.parametrize("dtype", sorted(EXTENDED, key=str), ids=str)
def test_arange_rounds_each_element_of_small_floats_once(dtype):
    got = np.asarray(fnp.arange(1, 12, 0.3, dtype=dtype))
    expected = (1 + 0.3 * np.arange(37)).astype(dtype)
    np.testing.assert_array_equal(got.astype(np.float32), expected.astype(np.float32))
