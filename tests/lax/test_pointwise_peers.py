"""Every differentiable function of the pointwise families against JAX: see `against_jax.check`."""

import numpy as np
import pytest

from fgrad import lax
from tests.lax.against_jax import check

pytestmark = pytest.mark.peers

_rng = np.random.default_rng(0)


def _real(low, high, *shape):
    return _rng.uniform(low, high, shape)


def _complex(low, high, *shape):
    return _real(low, high, *shape) + 1j * _real(low, high, *shape)


# name → the range of the operand; those that JAX has for complex numbers too in the first table.
INEXACT = {
    "exp": (-2, 2), "exp2": (-2, 2), "log": (0.2, 3), "expm1": (-2, 2), "log1p": (-0.7, 3),
    "logistic": (-2, 2), "sin": (-2, 2), "cos": (-2, 2), "tan": (-1, 1), "asin": (-0.9, 0.9),
    "acos": (-0.9, 0.9), "atan": (-0.9, 0.9), "sinh": (-2, 2), "cosh": (-2, 2), "tanh": (-2, 2),
    "asinh": (-2, 2), "acosh": (1.2, 3), "atanh": (-0.9, 0.9), "square": (-2, 2), "sqrt": (0.2, 3),
    "rsqrt": (0.2, 3), "reciprocal": (0.2, 3), "abs": (-2, 2),
}  # fmt: skip
FLOAT = {
    "cbrt": (-3, 3), "erf": (-2, 2), "erfc": (-2, 2), "erf_inv": (-0.9, 0.9), "lgamma": (0.3, 4),
    "digamma": (0.3, 4), "bessel_i0e": (-4, 4), "bessel_i1e": (-4, 4), "sign": (-2, 2),
    "floor": (-2, 2), "ceil": (-2, 2), "round": (-2, 2),
}  # fmt: skip
COMPLEX = ["real", "imag", "conj"]


@pytest.mark.parametrize("name", [*INEXACT, *FLOAT])
def test_real_functions_agree_with_jax(name):
    jax = pytest.importorskip("jax")
    low, high = (INEXACT | FLOAT)[name]
    check(getattr(lax, name), getattr(jax.lax, name), [_real(low, high, 3, 2)])


@pytest.mark.parametrize("name", [*INEXACT, *COMPLEX])
def test_complex_functions_agree_with_jax(name):
    jax = pytest.importorskip("jax")
    low, high = INEXACT.get(name, (-2, 2))
    check(getattr(lax, name), getattr(jax.lax, name), [_complex(low, high, 3)])


PAIRS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "max": "maximum",
    "min": "minimum", "rem": "fmod", "pow": "power", "atan2": "arctan2", "hypot": "hypot",
}  # fmt: skip


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,))], ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_functions_of_two_operands_agree_with_jax(name, shapes):
    jax = pytest.importorskip("jax")
    args = [_real(0.3, 2, *shapes[0]), _real(0.3, 2, *shapes[1])]
    check(getattr(lax, name), getattr(jax.numpy, PAIRS[name]), args)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_functions_of_two_complex_operands_agree_with_jax(name):
    jax = pytest.importorskip("jax")
    args = [_complex(0.3, 2, 2, 1), _complex(0.3, 2, 2)]
    check(getattr(lax, name), getattr(jax.numpy, PAIRS[name]), args)


def test_clamp_agrees_with_jax():
    jax = pytest.importorskip("jax")
    args = [_real(-1, -0.5, 2), _real(-2, 2, 3, 2), _real(0.5, 1, 3, 1)]
    check(lax.clamp, lambda lo, x, hi: jax.numpy.minimum(jax.numpy.maximum(lo, x), hi), args)


def test_complex_agrees_with_jax():
    jax = pytest.importorskip("jax")
    args = [_real(-2, 2, 3, 2), _real(-2, 2, 2)]
    check(lax.complex, lambda x, y: jax.lax.complex(x, y + 0 * x), args)


def test_sign_of_complex_numbers_has_the_derivative_of_the_quotient():
    jax = pytest.importorskip("jax")
    check(lax.sign, lambda x: x / jax.numpy.abs(x), [_complex(-2, 2, 3)])


@pytest.mark.parametrize("y", [-3, -1, 0, 1, 2, 3, 5])
def test_integer_pow_agrees_with_jax(y):
    jax = pytest.importorskip("jax")
    check(lambda x: lax.integer_pow(x, y), lambda x: jax.lax.integer_pow(x, y), [_real(-2, 2, 3)])


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_incomplete_gamma_agrees_with_jax(name):
    jax = pytest.importorskip("jax")
    f, jf = getattr(lax, name), getattr(jax.lax, name)
    check(lambda x: f(2.5, x), lambda x: jf(2.5, x), [_real(0.3, 4, 3)])


def test_polygamma_and_betainc_agree_with_jax():
    jax = pytest.importorskip("jax")
    x = _real(0.3, 0.9, 3)
    check(lambda x: lax.polygamma(2.0, x), lambda x: jax.lax.polygamma(2.0, x), [x])
    check(lambda x: lax.betainc(2.5, 0.7, x), lambda x: jax.lax.betainc(2.5, 0.7, x), [x])


@pytest.mark.parametrize("name", ["relu", "silu", "softplus", "log_sigmoid"])
def test_activations_agree_with_jax(name):
    jax = pytest.importorskip("jax")
    check(getattr(lax, name), getattr(jax.nn, name), [_real(-6, 6, 4, 2)])


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_agrees_with_jax(approximate):
    jax = pytest.importorskip("jax")
    check(
        lambda x: lax.gelu(x, approximate),
        lambda x: jax.nn.gelu(x, approximate),
        [_real(-5, 5, 4, 2)],
    )


BITS = ["bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right_logical",
        "shift_right_arithmetic", "div", "rem", "max", "min", "eq", "lt", "ge"]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32"])
def test_integer_functions_agree_with_jax(dtype):
    jax = pytest.importorskip("jax")
    low = -100 if dtype.startswith("i") else 0
    x = _rng.integers(low, 100, 60).astype(dtype)
    y = _rng.integers(-5 if low else 0, 70, 60).astype(dtype)
    with jax.enable_x64(True):
        for name in BITS:
            ours, theirs = getattr(lax, name)(x, y), getattr(jax.lax, name)(x, y)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours._data, theirs, err_msg=name)
        for name in ("bitwise_not", "clz", "population_count"):
            np.testing.assert_array_equal(
                getattr(lax, name)(x)._data, getattr(jax.lax, name)(x), err_msg=name
            )


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bits", [(5, 10), (8, 7), (4, 3), (8, 23), (11, 52), (2, 0)], ids=str)
def test_reduce_precision_agrees_with_jax(dtype, bits):
    jax = pytest.importorskip("jax")
    kind = jax.numpy.dtype(dtype)
    x = np.concatenate([
        _rng.normal(size=400) * 10.0 ** _rng.integers(-8, 4, 400),
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 65504, 6e-8],
    ]).astype(kind)  # fmt: skip
    with jax.enable_x64(True):
        theirs = np.asarray(jax.lax.reduce_precision(x, *bits))
    ours = lax.reduce_precision(x, *bits)._data
    word = f"u{kind.itemsize}"
    number = ~np.isnan(x)
    np.testing.assert_array_equal(ours[number].view(word), theirs[number].view(word))
    assert np.isnan(ours[~number]).all()
