"""Dtypes and weak types of results, and dtypes that are not everyone's: 8-bit floats, complex."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.errors import AxisError, DtypeError

FLOAT8 = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3b11fnuz]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_extrema_of_small_floats_that_may_have_no_infinity(dtype):
    x = np.array([1, 2, np.nan, 0.5]).astype(dtype)
    assert [float(f(x)) for f in (fnp.nanmax, fnp.nanmin)] == [2.0, 0.5]
    assert [int(f(x)) for f in (fnp.nanargmax, fnp.nanargmin)] == [1, 3]
    some = np.array([True, False, False, True])
    assert float(fnp.max(x, where=some, initial=0)) == 1.0
    assert float(fnp.min(-x, where=some, initial=0)) == -1.0
    pooled = nn.max_pool(x[:2].reshape(1, 1, 2), 2, stride=1, padding=1)
    np.testing.assert_array_equal(pooled.astype(np.float32), [[[1, 2, 2]]])


def test_sums_of_narrow_integers():
    for name in ("int8", "uint8", "int32", "int64", "uint64"):
        x = np.array([100, 100], name)
        want = x.dtype if x.dtype.itemsize > 4 else np.dtype(f"{x.dtype.kind}4")
        for f in (fnp.cumulative_sum, fnp.cumulative_prod):
            assert f(x).dtype == want
        assert fnp.cumsum(x).dtype == x.dtype
    with fg.enable_x64():
        assert fnp.cumulative_sum(np.uint8([200, 100])).tolist() == [200, 300]
        assert fnp.cumulative_sum(np.int32([1])).dtype == np.int64


@pytest.mark.parametrize("name", ["int8", "int32", "bool"])
def test_the_middle_has_the_dtype_of_the_mean(name):
    x = np.array([0, 1, 1], name)
    with fg.enable_x64():
        for f in (fnp.median, fnp.nanmedian, fnp.trapezoid):
            assert (f(x).dtype, f(x).weak_type) == (fnp.mean(x).dtype, False)


@pytest.mark.parametrize("make", [fnp.zeros_like, fnp.ones_like, lambda x: fnp.full_like(x, 2)])
def test_what_is_like_a_weak_value_is_weak(make):
    assert make(2.5).weak_type
    assert not make(np.float32(2.5)).weak_type
    assert fg.jit(lambda x: make(x) * np.float16(1))(2.5).dtype == np.float16


@pytest.mark.parametrize("f", [nn.elu, nn.celu, nn.relu6, nn.selu, nn.leaky_relu])
def test_activations_of_a_weak_value_are_weak(f):
    assert (f(2.5) * np.float16(1)).dtype == np.float16


def test_round_without_digits_gives_integers_as_python_does():
    assert round(fnp.array([1.5, 2.5])).tolist() == [2, 2]
    assert round(fnp.array([1.5, 2.5])).dtype == np.int32
    assert round(fnp.array(2.567), 2).dtype == np.float32


def test_complex_values_at_the_edges():
    np.testing.assert_array_equal(fnp.log2(np.array([0j, 4])), [complex(-np.inf, 0), 2])
    np.testing.assert_array_equal(fnp.log10(np.array([0j])), [complex(-np.inf, 0)])
    z = np.array([-800 + 1j, 800 - 1j, 0.3 + 2j, -0.3 - 2j])
    s = np.asarray(lax.logistic(z))
    np.testing.assert_allclose(s[:2], [0, 1], atol=1e-300)
    np.testing.assert_allclose(s[2:], 1 / (1 + np.exp(-z[2:])), rtol=1e-15)
    np.testing.assert_allclose(fg.grad(lambda z: lax.logistic(z).real.sum())(z)[:2], 0)


def test_booleans_are_counted():
    np.testing.assert_array_equal(fnp.bincount(np.array([True, False, True])), [1, 2])


@pytest.mark.parametrize(
    ("call", "error"),
    [(lambda: fnp.signbit(1j), DtypeError), (lambda: fnp.frexp(1j), DtypeError),
     (lambda: fnp.spacing(1j), DtypeError), (lambda: nn.relu6(3), DtypeError),
     (lambda: nn.standardize(np.arange(3)), DtypeError), (lambda: nn.glu(2.5), AxisError)],
)  # fmt: skip
def test_what_has_no_meaning_raises(call, error):
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("f", [nn.softmax, nn.log_softmax, nn.logsumexp])
def test_empty_integers_are_refused_as_others_are(f):
    for wrap in (f, fg.jit(f)):
        with pytest.raises(DtypeError, match="float"):
            wrap(np.zeros((2, 0), int))


DOUBLE = {
    "norm": (lambda x: fnp.linalg.norm(x, 3), lambda x: np.linalg.norm(x, 3)),
    "vector_norm": (
        lambda x: fnp.linalg.vector_norm(x, ord=2.5), lambda x: np.linalg.vector_norm(x, ord=2.5),
    ),
    "percentile": (lambda x: fnp.percentile(x, 30), lambda x: np.percentile(x, 30)),
    "nanpercentile": (lambda x: fnp.nanpercentile(x, 7.7), lambda x: np.nanpercentile(x, 7.7)),
    "unwrap": (
        lambda x: fnp.unwrap(x * 9, period=0.3), lambda x: np.unwrap(x * 9, period=0.3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBLE)
def test_parameters_that_are_python_numbers_cost_no_precision(name):
    f, expected = DOUBLE[name]
    x = np.random.default_rng(0).normal(size=20)
    for wrap in (f, fg.jit(f)):
        np.testing.assert_allclose(wrap(x), expected(x), rtol=1e-14)
