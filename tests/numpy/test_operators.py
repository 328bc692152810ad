"""Operators: promotion with Python numbers, NumPy operands on either side, and refusals."""

import operator
from typing import Any

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core.config import numpy_dtype_promotion, numpy_rank_promotion
from fgrad.errors import DtypeError, ImmutableArrayError, ShapeError

X = fnp.array([1.0, 2.0, 4.0], np.float32)
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv,
              operator.mod, operator.pow]  # fmt: skip


@pytest.mark.parametrize("op", ARITHMETIC)
def test_python_numbers_are_not_rounded_twice(op: Any) -> None:
    x = np.array([1.3, 2.7])
    np.testing.assert_array_max_ulp(np.asarray(op(fnp.asarray(x), 0.1)), op(x, 0.1), 4)
    np.testing.assert_array_max_ulp(np.asarray(op(0.1, fnp.asarray(x))), op(0.1, x), 4)


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8", "uint16", "complex64"])
def test_python_numbers_take_the_dtype_of_the_array(op: Any, dtype: str) -> None:
    x = fnp.array([1, 2, 3], dtype)
    if dtype == "complex64" and op in (operator.floordiv, operator.mod):
        with pytest.raises(DtypeError, match="order"):
            op(x, 2)
        return
    wanted = "float32" if op is operator.truediv and dtype in ("int8", "uint16") else dtype
    assert op(x, 2).dtype == fnp.dtype(wanted)
    assert op(2, x).dtype == fnp.dtype(wanted)
    assert not op(x, 2).weak_type


def test_small_floats_compute() -> None:
    for dtype in (fnp.bfloat16, fnp.float8_e4m3fn, fnp.float8_e5m2, fnp.float16):
        x = fnp.array([1.0, 2.0], dtype)
        y = (x + x * 2 - 1) / 2
        assert y.dtype == dtype
        np.testing.assert_array_equal(np.asarray(y).astype(np.float32), [1.0, 2.5])


def test_numpy_operands_work_on_both_sides() -> None:
    a = np.array([1.0, 2.0, 3.0], np.float32)
    for left, right in ((a, X), (X, a), (np.float32(2), X), (X, np.float32(2))):
        for op in ARITHMETIC:
            found = op(left, right)
            assert isinstance(found, fg.Array)
            expected = op(np.asarray(left), np.asarray(right))
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)
    assert (np.float64(2.0) * X).dtype == np.float64  # NumPy scalars are strong


def test_tracers_meet_numpy_arrays() -> None:
    a = np.array([1.0, 2.0, 3.0], np.float32)
    np.testing.assert_array_equal(fg.grad(lambda x: (a * x).sum())(X), a)
    np.testing.assert_array_equal(fg.grad(lambda x: (x * a).sum())(X), a)
    np.testing.assert_array_equal(fg.grad(lambda x: a @ x)(X), a)
    np.testing.assert_allclose(fg.grad(lambda x: np.sin(x).sum())(X), np.cos(np.asarray(X)),
                               rtol=1e-6)  # fmt: skip


def test_integer_powers() -> None:
    np.testing.assert_array_equal(X**3, [1, 8, 64])
    np.testing.assert_array_equal(fg.grad(lambda x: (x**3).sum())(X), 3 * np.asarray(X) ** 2)
    assert float(fg.grad(lambda x: x**0)(0.0)) == 0.0
    i = fnp.array([2, -3])
    np.testing.assert_array_equal(i ** fnp.array([5, 3]), [32, -27])
    np.testing.assert_array_equal(fnp.array([1, -1, -1, 5]) ** fnp.array([-3, -2, -3, -1]),
                                  [1, 1, -1, 0])  # fmt: skip
    with pytest.raises(DtypeError, match="negative"):
        i**-1


def test_integers_beyond_the_dtype_are_refused() -> None:
    u = fnp.array([1], np.uint8)
    for number in (300, -1):
        with pytest.raises(DtypeError, match="does not fit uint8"):
            u + number
    with pytest.raises(DtypeError, match="does not fit int32"):
        fnp.asarray(2**40)
    assert (fnp.array([1], np.int64) + 2**40).dtype == np.int64


def test_strict_promotion() -> None:
    i = fnp.array([1, 2, 3])
    with numpy_dtype_promotion("strict"):
        assert (X * 2).dtype == np.float32
        with pytest.raises(DtypeError, match="strict"):
            X * i


def test_rank_promotion() -> None:
    m = fnp.ones((2, 3))
    with numpy_rank_promotion("raise"):
        np.testing.assert_array_equal(m * 2, 2 * np.ones((2, 3)))
        with pytest.raises(ShapeError, match="unequal ranks"):
            m * X
    with numpy_rank_promotion("warn"), pytest.warns(UserWarning, match="unequal ranks"):
        m + X


def test_refusals() -> None:
    with pytest.raises(TypeError):
        operator.add(X, [1.0, 2.0, 3.0])
    with pytest.raises(DtypeError, match="asarray"):
        fnp.sin([1.0, 2.0])
    with pytest.raises(ShapeError, match="broadcast"):
        X + fnp.ones(2)
    with pytest.raises(ShapeError, match="matmul"):
        X @ fnp.ones(2)
    with pytest.raises(TypeError):
        X @ 2.0
    with pytest.raises(ImmutableArrayError, match=r"\.at"):
        X[0] = 1.0
    with pytest.raises(DtypeError, match="booleans"):
        fnp.array([True]) - fnp.array([True])
    with pytest.raises(DtypeError, match="negative"):
        -fnp.array([True])
    assert (X == None) is False  # noqa: E711 - NotImplemented on both sides means identity
    assert (X == "text") is False


def test_in_place_operators_rebind() -> None:
    x = first = fnp.ones(2)
    x += 1
    x *= 3
    np.testing.assert_array_equal(first, [1, 1])
    np.testing.assert_array_equal(x, [6, 6])


def test_weak_types_survive_eager_and_staged_alike() -> None:
    def f(mask: Any, x: Any) -> list[Any]:
        return [
            fnp.where(mask, 1.0, 2.0), fnp.where(mask, x, 1.0), x * 2.0, fnp.arange(3) * 2.5,
            fnp.asarray(2.0) * 3, fnp.sin(1), fnp.asarray(1.0).reshape(1, 1),
        ]  # fmt: skip

    mask = fnp.array([True, False, True])
    staged = fg.make_jaxpr(f)(mask, X)
    for a, b in zip(f(mask, X), staged.out_avals, strict=True):
        assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
