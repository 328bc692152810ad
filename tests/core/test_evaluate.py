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
                                  lambda x: fnp.asarray(x)[0]])  # fmt: skip
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


@pytest.mark.parametrize(
    "run",
    [
        lambda x: fg.vmap(lambda t: t)(x),
        lambda x: fg.jvp(lambda t: t, (x,), (x,))[0],
        lambda x: fg.jvp(lambda t: t, (x,), (x,))[1],
        lambda x: fg.vjp(lambda t: t, x)[1](x)[0],
        lambda x: fg.jit(lambda t: t)(x),
        lambda x: fg.value_and_grad(lambda t: (t.sum(), t), has_aux=True)(x)[0][1],
        lambda x: fg.grad(lambda t: (t * x).sum())(x),
    ],
)
def test_the_identity_of_a_transform_is_not_the_callers_buffer(run):
    x = X.copy()
    y = run(x)
    before = np.array(y)
    x[:] = -1.0
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize(
    "nothing_to_do",
    [
        fnp.real,
        fnp.squeeze,
        fnp.atleast_1d,
        fnp.positive,
        lambda x: fnp.reshape(x, (2, 3)),
        lambda x: fnp.concatenate([x]),
        lambda x: fnp.sum(x, axis=()),
        lambda x: fg.tap(x, lambda ct: ct),
    ],
)
def test_a_function_with_nothing_to_do_copies_a_borrowed_buffer(nothing_to_do):
    x = X.copy()
    y = nothing_to_do(x)
    x[:] = -1.0
    np.testing.assert_array_equal(y, X)


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
@pytest.mark.parametrize("taken", [fnp.asarray, fg.device_put, fnp.sin, fg.jit(lambda x: x)])
def test_extended_precision_is_refused_where_it_comes_in(dtype, taken):
    if np.finfo(dtype).nmant == np.finfo(np.float64).nmant:
        pytest.skip("as wide as float64 here")
    for x in (np.ones(2, dtype), dtype(1)):
        with pytest.raises(DtypeError, match="up to float64 and complex128; convert the array"):
            taken(x)


def test_arrays_of_other_libraries_are_to_be_converted():
    class Tensor:
        def __dlpack__(self, **_):
            raise AssertionError

    with pytest.raises(
        DtypeError, match=r"argument 0\['a'\]: expected .*fgrad\.numpy\.asarray"
    ) as e:
        fg.jit(lambda p: p)({"a": Tensor()})
    assert "register" not in str(e.value)


def test_records_are_no_arrays_of_numbers():
    records = np.zeros(3, [("a", np.float32)])
    for taken in (fnp.sin, fnp.asarray, fg.jit(lambda x: x)):
        with pytest.raises(DtypeError, match="fgrad holds native booleans and numbers"):
            taken(records)
