"""`float32` and the like: dtypes wherever NumPy takes one, and conversions of values."""

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core.dtype_kinds import ALL

NAMES = ["bool_" if d.kind == "b" else d.name for d in ALL]


@pytest.mark.parametrize("name", NAMES)
def test_a_scalar_type_is_its_dtype(name: str) -> None:
    kind = getattr(fnp, name)
    dtype = np.dtype(getattr(np, name, None) or getattr(ml_dtypes, name))
    assert np.dtype(kind) == dtype == fnp.dtype(kind)
    assert kind == dtype
    assert kind == dtype.type
    assert dtype.type == kind
    assert kind not in (object, None, np.dtype(object))
    assert hash(kind) == hash(dtype.type)
    assert np.zeros(2, kind).dtype == fnp.zeros(2, kind).dtype == dtype
    assert fnp.zeros(2, kind).dtype == kind
    assert np.zeros(2, dtype).astype(kind).dtype == dtype
    assert isinstance(dtype.type(0), kind)
    assert pickle.loads(pickle.dumps(kind)) is copy.deepcopy(kind) is kind
    assert name in dir(fnp)


@pytest.mark.parametrize("name", NAMES)
def test_calling_a_scalar_type_converts(name: str) -> None:
    kind = getattr(fnp, name)
    for x in (1, 1.0, np.float64(1.0), fnp.array(1), True):
        made = kind(x)
        assert isinstance(made, fg.Array)
        assert (made.dtype, made.weak_type, made.shape) == (np.dtype(kind), False, ())
        assert made == 1
    assert fg.jit(kind)(1.0).dtype == np.dtype(kind)
    assert kind([1, 2]).shape == (2,)


def test_a_conversion_keeps_the_derivative_and_the_arithmetic_of_fgrad() -> None:
    assert fg.grad(lambda x: fnp.float32(x) * 3.0)(2.0) == 3.0
    assert fg.grad(lambda x: fnp.int32(x) * 3.0)(2.0) == 0.0
    assert (fnp.int32(7) / 2).dtype == np.float32


def test_the_names_of_the_defaults_follow_the_configuration() -> None:
    def found() -> list[Any]:
        return [fnp.int_, fnp.uint, fnp.float_, fnp.complex_]

    assert found() == [fnp.int32, fnp.uint32, fnp.float32, fnp.complex64]
    with fg.enable_x64():
        assert found() == [fnp.int64, fnp.uint64, fnp.float64, fnp.complex128]
    assert [fnp.bool, fnp.single, fnp.cdouble] == [fnp.bool_, fnp.float32, fnp.complex128]


def test_numpy_and_fgrad_ask_a_scalar_type_for_its_limits_and_kind() -> None:
    assert np.finfo(fnp.float32).eps == fnp.finfo(fnp.float32).eps == np.finfo(np.float32).eps
    assert fnp.issubdtype(fnp.bfloat16, fnp.floating)
    assert np.issubdtype(fnp.float32, np.floating)
    assert np.issubdtype(np.float32, fnp.float32)
    assert fnp.issubdtype(np.float32, fnp.float32)
    assert fnp.isdtype(fnp.int8, "signed integer")
    assert fnp.result_type(fnp.int8, fnp.bfloat16) == fnp.bfloat16
    assert fnp.promote_types(fnp.int32, fnp.float32) == np.float32
    assert np.result_type(fnp.int8, fnp.float32) == np.float32
    assert {fnp.float32: 1}[np.float32] == 1
