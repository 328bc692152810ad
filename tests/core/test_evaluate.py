"""Concrete arrays: ownership of buffers, weak types, what can be held."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.errors import DtypeError

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("view", [lambda x: fnp.reshape(x, 6), lambda x: fnp.transpose(x),
                                  lambda x: fnp.broadcast_to(x, (4, 2, 3)), fnp.ravel,
                                  lambda x: fnp.expand_dims(x, 0), lambda x: fnp.flip(x),
                                  lambda x: fnp.asarray(x)[0], lambda x: fnp.real(x)])  # fmt: skip
def test_views_of_borrowed_buffers_are_copied(view):
    x = X.copy()
    y = view(x)
    before = np.array(y)
    x[:] = -1.0
    np.testing.assert_array_equal(y, before)


def test_a_result_is_never_the_callers_buffer_and_inputs_are_not_written():
    x = X.copy()
    for f in (fnp.sin, fnp.add, fnp.cumsum, fnp.sort):
        f(x, x) if f is fnp.add else f(x)
    np.testing.assert_array_equal(x, X)


def test_scalars():
    assert as_value(True).dtype == np.bool_
    assert as_value(1).weak_type
    assert as_value(1.0).dtype == np.float32
    assert as_value(1j).dtype == np.complex64
    assert not as_value(np.float64(1)).weak_type
    with fg.enable_x64(True):
        assert as_value(1.0).dtype == np.float64
    with pytest.raises(DtypeError, match="does not fit int32"):
        as_value(2**40)


def test_floating_point_warnings_are_off_inside_only():
    assert np.isinf(np.asarray(fnp.log(np.zeros(1)))).all()
    with pytest.warns(RuntimeWarning):
        np.log(np.zeros(1))


def test_owned_copies_only_what_is_borrowed():
    assert as_value(X).owned()._data is not X
    own = ArrayImpl(X)
    assert own.owned() is own
