import numpy as np
import pytest
import scipy.special

import fgrad as fg
from fgrad import lax
from fgrad.core.evaluate import as_value
from tests.lax.values import bare

X = np.linspace(-6, 6, 13)
FUNCTIONS = {
    "relu": (lax.relu, lambda x: np.maximum(x, 0)),
    "silu": (lax.silu, lambda x: x * scipy.special.expit(x)),
    "gelu": (lambda x: lax.gelu(x, approximate=False), lambda x: x * scipy.special.ndtr(x)),
    "softplus": (lax.softplus, lambda x: np.logaddexp(x, 0)),
    "log_sigmoid": (lax.log_sigmoid, scipy.special.log_expit),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, dtype):
    f, exact = FUNCTIONS[name]
    x = X.astype(dtype)
    out = bare(f(x))
    assert out.dtype == dtype
    tolerance = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, exact(x.astype(np.float64)), rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", ["silu", "gelu", "softplus", "log_sigmoid"])
def test_derivatives_of_three_orders_equal_differences(name):
    f = FUNCTIONS[name][0]
    h = 1e-3
    for _ in range(3):
        g = lambda x, f=f: fg.jvp(f, (x,), (np.ones(np.shape(x)),))[1]  # noqa: E731
        ends = [bare(f(X + k * h)) for k in (-2, -1, 1, 2)]
        slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
        np.testing.assert_allclose(bare(g(X)), slope, rtol=1e-9, atol=2e-10)
        f = g


def test_the_tanh_form_of_gelu_is_its_formula():
    inner = np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)
    np.testing.assert_allclose(bare(lax.gelu(X)), 0.5 * X * (1 + np.tanh(inner)), atol=1e-15)


def test_relu_has_derivative_zero_at_zero():
    x = np.array([-1.0, -0.0, 0.0, 2.0, np.inf])
    _, pull = fg.vjp(lax.relu, x)
    assert bare(pull(np.ones(5))[0]).tolist() == [0, 0, 0, 1, 1]
    assert bare(lax.relu(np.array([-3, 3], np.int8))).tolist() == [0, 3]


def test_great_arguments_do_not_overflow():
    x = np.array([-1000.0, 1000.0])
    assert bare(lax.softplus(x)).tolist() == [0.0, 1000.0]
    assert bare(lax.log_sigmoid(x)).tolist() == [-1000.0, 0.0]
    assert bare(lax.silu(x)).tolist() == [0.0, 1000.0]
    assert bare(lax.gelu(x)).tolist() == [0.0, 1000.0]
    for f in (lax.softplus, lax.log_sigmoid, lax.silu, lax.gelu):
        assert np.isfinite(bare(fg.jvp(f, (x,), (np.ones(2),))[1])).all()


def test_the_exact_gelu_keeps_the_digits_of_its_left_tail():
    x = np.float64(-10)
    assert float(bare(lax.gelu(x, approximate=False))) == pytest.approx(
        -7.61985302416e-23, rel=1e-10
    )


@pytest.mark.parametrize("name", ["relu", "silu", "softplus", "log_sigmoid", "gelu"])
def test_decompositions_equal_the_eager_rules(name):
    prim = getattr(lax, f"{name}_p")
    for case in prim.spec.cases:
        parts = prim.lower.decompose(as_value(X), **case.params)
        direct = prim.eager(np, X, **case.params)
        np.testing.assert_allclose(bare(parts), direct, rtol=1e-13, atol=1e-16)
