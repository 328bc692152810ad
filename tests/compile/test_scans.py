"""Cumulative operations are scans in kernels, with what makes their operands and what follows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad
from fgrad import lax, nn
from fgrad import numpy as fnp
from fgrad.compile.kernel import Scan
from fgrad.compile.plan import Launch, Library
from fgrad.core.config import check
from fgrad.testing.functions import evaluate
from tests.compile.test_lower import plan_of, run

OPERATIONS = ["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"]
X = np.random.default_rng(0).normal(size=(6, 40, 5)).astype(np.float32)


def kernels_of(f, *xs):
    plan, _ = plan_of(f, *xs)
    assert not [s for s in plan.steps if isinstance(s, Library)]
    return [s.kernel for s in plan.steps if isinstance(s, Launch)]


def agree(f, *xs):
    """By NumPy on the plan, and compiled, as in eager code."""
    expected = evaluate(f, xs)
    compiled = fgrad.jit(f)(*xs)
    compiled = compiled if isinstance(compiled, list | tuple) else [compiled]
    for got in (run(f, *xs)[0], compiled):
        for y, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(y, e, rtol=2e-5, atol=2e-5)


@given(
    st.sampled_from(OPERATIONS), st.lists(st.sampled_from([0, 1, 2, 3, 17, 70]), min_size=1,
    max_size=3), st.data(), st.booleans(),
)  # fmt: skip
def test_any_axis_and_direction(name, shape, data, reverse):
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    agree(lambda x: [getattr(lax, name)(x, axis=axis, reverse=reverse)], x)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_producers_and_consumers_fuse(axis, reverse):
    def f(x, y):
        return [lax.cumsum(fnp.exp(x), axis, reverse) * y]

    assert len(kernels_of(f, X, X)) == 1
    agree(f, X, X)


def test_a_scan_shares_a_kernel_with_reductions_over_its_rows():
    def f(x):
        part = lax.cumsum(nn.softmax(x, axis=-1), axis=2)
        return [part / fnp.max(part, axis=-1, keepdims=True), fnp.sum(part, axis=-1)]

    assert len(kernels_of(f, X)) == 1
    agree(f, X)


def test_along_slow_axes_kernels_walk_in_the_order_of_memory():
    (kernel,) = kernels_of(lambda x: [lax.cumsum(x, axis=1)], X)
    assert kernel.inner == (40, 5)
    assert [i.free for i in kernel.body if isinstance(i, Scan)] == [True]
    # What reduces, or has other axes, does not fit.
    for f in (
        lambda x: [fnp.sum(lax.cumsum(x, axis=1), axis=1)],
        lambda x: [lax.cumsum(x, axis=1) + fnp.sum(x, axis=1, keepdims=True)],
        lambda x: [lax.cumsum(x, axis=1) + fnp.exp(x[:1])],
        lambda x: [lax.cumsum(lax.cumsum(x, axis=1), axis=0)],
    ):
        agree(f, X)


def test_directions_do_not_mix():
    def f(x):
        return [lax.cumsum(x, axis=1) + lax.cumsum(x, axis=1, reverse=True)]

    assert len(kernels_of(f, X)) == 2
    agree(f, X)


@pytest.mark.parametrize("reverse", [False, True])
def test_views_before_and_after(reverse):
    def f(x):
        rows = lax.cumsum(x.reshape(6, 200), 1, reverse)
        return [
            rows.reshape(6, 8, 25).transpose(1, 2, 0) * 2,
            lax.cummax(x.reshape(-1), 0, reverse).reshape(X.shape) + x,
            lax.cumsum(x[:, ::-1, 1:], 1, reverse) + fnp.arange(40)[:, None],
            lax.cumprod(fnp.pad(x, ((1, 0), (2, 1), (0, 3))), 1, reverse)[:, 1:],
            fnp.concatenate([lax.cumsum(x, 0, reverse), x], axis=0),
        ]

    agree(f, X)


def test_complex_sums_and_products_by_their_parts():
    x = (X + 1j * X[::-1]).astype(np.complex64)

    def f(x):
        return [lax.cumsum(x, 1), lax.cumprod(x, 2), fnp.real(lax.cumprod(x, 0, reverse=True))]

    assert kernels_of(f, x)
    agree(f, x)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_in_compiled_code(name):
    def f(x):
        return fnp.sum(fnp.sin(getattr(lax, name)(x, axis=1)))

    x = X[:2, :9]
    np.testing.assert_allclose(fgrad.jit(fgrad.grad(f))(x), fgrad.grad(f)(x), rtol=2e-5, atol=2e-6)


def test_a_scan_may_take_over_the_memory_of_its_operand():
    f = fgrad.jit(lambda x: lax.cumsum(x + 1, axis=0), donate_argnums=0)
    expected = np.cumsum(X + 1, axis=0)
    np.testing.assert_allclose(f(fnp.array(X)), expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_checked_program_accepts_its_scans(axis):
    def f(x):
        return [getattr(lax, name)(x, axis) for name in OPERATIONS]

    with check(True):
        agree(f, X[0, :, :3])


@pytest.mark.parametrize("shape", [(40, 5), (40, 70), (70,)])
@pytest.mark.parametrize("axis", [0, -1])
def test_much_that_is_made_of_a_scan(shape, axis):
    def f(x):
        y = lax.cumsum(x, axis % len(shape))
        factor = 1 + x * x * x * x * x * x * x + 3 * x - x * x * y * y - y * x * x + y * y * y
        return [fnp.tanh(y) * fnp.exp(y) * fnp.sin(y) * factor]

    agree(f, np.random.default_rng(0).normal(size=shape).astype(np.float32) / 8)
