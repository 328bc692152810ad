"""Complex programs: kernels compute their parts, and agree with eager code at every value."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cpu.ops import supports
from fgrad.compile.plan import Library
from fgrad.core import config
from fgrad.testing.oracle import assert_close
from tests.compile.test_lower import plan_of, run

RNG = np.random.default_rng(5)
Z = (RNG.normal(size=(6, 5)) + 1j * RNG.normal(size=(6, 5))).astype(np.complex64)
W = (RNG.normal(size=(5, 6)) + 1j * RNG.normal(size=(5, 6))).astype(np.complex64)
X = RNG.normal(size=(6, 5)).astype(np.float32)

PROGRAMS = {
    "chain": (lambda z, w: [(z * w.T + 1) / (z - 2j), fnp.abs(z), z == w.T], (Z, W), ()),
    "sums": (lambda z: [fnp.sum(z), fnp.sum(z * z, 0), fnp.mean(fnp.conj(z), 1)], (Z,), ()),
    "parts": (lambda z, x: [fnp.real(z) + x, lax.complex(x, fnp.imag(z)), z * x], (Z, X), ()),
    "views": (lambda z: [z.T[::-1, 1:4], lax.pad(z, z[0, 0], ((1, -1, 0), (0, 2, 1)))], (Z,), ()),
    "joined": (lambda z, w: [lax.concatenate([z * 2, w.T[:, :2], z], 1) + 1], (Z, W), ()),
    "products": (
        lambda z, w: [fnp.conj(z).T @ w.T, (z + 1) @ w, fnp.real(z @ w) @ fnp.imag(z)],
        (Z, W), ("dot_general",),
    ),
    "transform": (lambda z: [fnp.fft.ifft(fnp.fft.fft(z * 2) * 3)], (Z,), ("fft",)),
    "row values": (lambda z: [z / fnp.sum(fnp.abs(z), 1, keepdims=True)], (Z,), ()),
    "results that are equal": (lambda z: [z, z + 0j, z + 0j, fnp.real(z)], (Z,), ()),
    "nothing": (lambda z: [z[:0] * 2, fnp.sum(z[:0])], (Z,), ()),
    "scalars": (lambda z: [fnp.exp(z[0, 0]) * 1j, lax.select_n(z.real < 0, z, -z)], (Z,), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_kernels_and_equal_eager_code(name):
    f, xs, library = PROGRAMS[name]
    expected = [np.asarray(e) for e in f(*map(fnp.asarray, xs))]
    interpreted, plan = run(f, *xs, supports=supports)
    steps = {s.eqn.primitive.name for s in plan.steps if isinstance(s, Library)}
    assert steps == set(library)
    for results in (interpreted, fg.jit(f)(*xs)):
        for got, e in zip(results, expected, strict=True):
            assert np.asarray(got).dtype == e.dtype
            np.testing.assert_allclose(np.asarray(got), e, rtol=3e-6, atol=3e-6)


def test_gradients_are_those_of_eager_code():
    def loss(z, w):
        return fnp.sum(fnp.abs(fnp.tanh(z @ w) * fnp.exp(-z @ w)))

    for got, e in zip(
        fg.jit(fg.grad(loss, argnums=(0, 1)))(Z, W), fg.grad(loss, argnums=(0, 1))(Z, W),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(got), np.asarray(e), rtol=2e-4, atol=2e-4)


def test_a_transposed_operand_of_a_product_is_not_copied():
    plan, _ = plan_of(lambda z: [z.T @ z], Z, supports=supports)
    assert len(plan.steps) == 1


def test_checked_programs_compare_the_parts():
    with config.check():
        np.testing.assert_allclose(np.asarray(fg.jit(lambda z: z * z)(Z)), Z * Z, rtol=1e-6)


def pairs():
    """All pairs of some numbers, infinite and not-a-number parts among them."""
    grid = np.array([complex(a, b) for v in (*VALUES, np.inf, -np.inf, np.nan)
                     for a, b in ((v, 1.5), (-2.0, v), (v, v))])  # fmt: skip
    return np.repeat(grid, len(grid)), np.tile(grid, len(grid))


# Signs of zero decide on which side of a branch cut a number lies.
VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 1e-30, -1e-30, 30.0, -30.0, 1e30]
GRID = np.array([complex(a, b) for a in VALUES for b in VALUES])
FUNCTIONS = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "exp2",
    "expm1", "log", "log1p", "logistic", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
]  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_with_eager_code_on_branch_cuts(name):
    f = getattr(lax, name)
    with np.errstate(all="ignore"):
        e, got = np.asarray(f(fnp.asarray(GRID))), np.asarray(fg.jit(f)(GRID))
    with np.errstate(all="ignore"):
        either = ~np.isfinite(e) & ~np.isfinite(got)
    assert_close(got[~either], e[~either], 1e-13 * np.abs(e[~either]), name)


@pytest.mark.parametrize("f", [lax.add, lax.div, lax.max, lax.min], ids=lambda f: f.__name__)
def test_arithmetic_is_that_of_eager_code_to_the_bit(f):
    """Infinite and not-a-number parts included."""
    x, y = pairs()
    with np.errstate(all="ignore"):
        e = np.asarray(f(fnp.asarray(x), fnp.asarray(y)))
        got = np.asarray(fg.jit(f)(x, y))
    np.testing.assert_array_equal(got.real, e.real)
    np.testing.assert_array_equal(got.imag, e.imag)


def test_a_product_rounds_each_term():
    """NumPy rounds once less on machines with fused multiply and add."""
    x, y = pairs()
    with np.errstate(all="ignore"):
        e, got = x * y, np.asarray(fg.jit(lax.mul)(x, y))
        size = np.abs(x) * np.abs(y)
    finite = np.isfinite(size)
    assert_close(got[finite], e[finite], 2.0**-52 * size[finite], "mul")
    np.testing.assert_array_equal(np.isnan(got[~finite]), np.isnan(e[~finite]))


def test_infinite_arguments_of_inverse_functions_have_their_limits():
    z = np.array([complex(a, b) for a in (np.inf, -np.inf, 2.0) for b in (np.inf, -np.inf, -1.0)])
    for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh", "log", "sqrt"):
        f = getattr(lax, name)
        e, got = np.asarray(f(fnp.asarray(z))), np.asarray(fg.jit(f)(z))
        np.testing.assert_allclose(got.real, e.real, rtol=1e-15, err_msg=name)
        np.testing.assert_allclose(got.imag, e.imag, rtol=1e-15, err_msg=name)
