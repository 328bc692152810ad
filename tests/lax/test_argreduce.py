import numpy as np
import pytest

from fgrad import lax
from fgrad.core.config import enable_x64
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from tests.lax.values import bare


@pytest.mark.parametrize(("f", "expected"), [(lax.argmax, 1), (lax.argmin, 0)])
def test_the_first_extremum_is_named(f, expected):
    assert int(bare(f(np.array([1.0, 3.0, 3.0, 1.0]), 0))) == expected


@pytest.mark.parametrize("f", [lax.argmax, lax.argmin])
def test_the_first_nan_is_named(f):
    assert int(bare(f(np.array([1.0, np.nan, -3.0, np.nan]), 0))) == 1


def test_the_index_dtype_is_the_default_integer_or_the_one_asked_for():
    assert lax.argmax(np.ones(2), 0).dtype == np.int32
    assert lax.argmax(np.ones(2), 0, np.uint8).dtype == np.uint8
    with enable_x64(True):
        assert lax.argmin(np.ones(2), 0).dtype == np.int64


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.argmax(np.ones((2, 0)), 1), ShapeError, "empty"),
        (lambda: lax.argmax(np.ones(2), 1), AxisError, "out of range"),
        (lambda: lax.argmax(np.ones(2), 0, np.float32), DtypeError, "integer"),
    ],
)
def test_wrong_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()
