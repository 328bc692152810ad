"""Where fgrad differs from JAX on purpose; docs/guide/differences_from_jax.md names these tests."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn, random
from fgrad.errors import (
    DonationError,
    DtypeError,
    IndexOutOfBoundsError,
    KeyReuseError,
    NonFiniteError,
    NonlinearPullbackError,
    ResidualsFreedError,
    TracerArrayConversionError,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "differences_from_jax.md"


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex128, np.uint64])
def test_explicit_dtypes_are_kept_without_a_flag(dtype):
    assert not fg.config.enable_x64
    x = np.ones(2, dtype)
    assert fnp.asarray(x).dtype == fnp.ones(2, dtype).dtype == (fnp.array(x) * 2).dtype == dtype
    assert fg.jit(lambda x: x + 1)(x).dtype == dtype
    if np.issubdtype(dtype, np.floating):
        assert fg.grad(lambda x: fnp.sum(x * x))(x).dtype == dtype


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_an_index_out_of_bounds_is_reported(wrap):
    x, i = fnp.arange(3.0), np.array([0, 7])
    with pytest.raises(IndexOutOfBoundsError, match=r"index 7 is out of bounds for axis 0"):
        wrap(lambda x, i: x[i])(x, i)
    with pytest.raises(IndexOutOfBoundsError, match=r"index 7 is out of bounds for axis 0"):
        wrap(lambda x, i: x.at[i].add(1.0))(x, i)
    np.testing.assert_array_equal(wrap(lambda x, i: x.at[i].get(mode="clip"))(x, i), [0.0, 2.0])
    with fg.out_of_bounds("jax"):
        np.testing.assert_array_equal(wrap(lambda x, i: x[i])(x, i), [0.0, np.nan])


def test_a_key_used_twice_is_reported():
    key = random.key(0)
    first = random.normal(key)
    with pytest.raises(KeyReuseError, match=r"was used before, at .*test_differences.py"):
        random.uniform(key)
    with pytest.raises(KeyReuseError, match=r"was used before, at .*and uniform uses it at"):
        fg.jit(random.uniform)(key)
    with fg.key_reuse("jax"):
        assert random.normal(key) == first
    fresh = random.key(0)
    assert random.normal(random.clone(fresh)) == random.normal(fresh)


def test_the_gradient_of_a_branch_not_taken_is_zero_not_nan():
    x = fnp.array([0.0, 4.0])
    for f, slope in [(fnp.log, 0.25), (fnp.sqrt, 0.25), (lambda v: 1.0 / v, -0.0625)]:
        gradient = fg.grad(lambda x, f=f: fnp.sum(fnp.where(x > 0, f(x), 0.0)))
        np.testing.assert_allclose(gradient(x), [0.0, slope])
        np.testing.assert_allclose(fg.jit(gradient)(x), [0.0, slope])
        tangent = fg.jvp(lambda x, f=f: fnp.where(x > 0, f(x), 0.0), (x,), (fnp.ones(2),))[1]
        np.testing.assert_allclose(tangent, [0.0, slope])


def test_a_strong_zero_hides_an_overflow_that_debug_infs_names():
    def softplus(x):
        return fnp.log(1.0 + fnp.exp(x))

    assert fg.value_and_grad(softplus)(100.0) == (np.inf, 0.0)
    assert fg.grad(lambda x: fnp.logaddexp(x, 0.0))(100.0) == 1.0
    with fg.debug_infs(), pytest.raises(NonFiniteError, match="exp produced an infinity"):
        fg.grad(softplus)(100.0)


KINKS = [
    (fnp.abs, (0.0,), (0.0,)),
    (lambda x: fnp.linalg.norm(fnp.stack([x, x])), (0.0,), (0.0,)),
    (lambda x: fnp.std(fnp.stack([x, x])), (0.0,), (0.0,)),
    (fnp.hypot, (0.0, 0.0), (0.0, 0.0)),
    (fnp.arctan2, (0.0, 0.0), (0.0, 0.0)),
    (lambda x: x**0.0, (0.0,), (0.0,)),
    (fnp.maximum, (1.0, 1.0), (0.5, 0.5)),
    (fnp.fmax, (1.0, 1.0), (0.5, 0.5)),
    (lambda x: fnp.clip(x, 0.0, 1.0), (1.0,), (0.5,)),
    (lambda x: lax.clamp(0.0, x, 1.0), (0.0,), (0.5,)),
]


@pytest.mark.parametrize(("f", "at", "slopes"), KINKS)
def test_derivatives_at_kinks_follow_one_table(f, at, slopes):
    numbers = tuple(range(len(at)))
    for wrap in (lambda g: g, fg.jit):
        assert wrap(fg.grad(f, numbers))(*at) == slopes
        assert wrap(fg.jacfwd(f, numbers))(*at) == slopes


def test_a_donation_that_cannot_be_used_raises():
    total = fg.jit(lambda x: x.sum(), donate_argnums=0)
    with pytest.raises(DonationError, match="fits no result"):
        total(fnp.ones(3))


def test_numpy_functions_are_traced():
    def loss(x):
        return np.sum(np.where(x > 0, np.tanh(x), np.exp(x)) @ np.ones((2, 2), np.float32))

    x = np.array([-1.0, 1.0], np.float32)
    expected = 2 * np.where(x > 0, 1 - np.tanh(x) ** 2, np.exp(x))
    np.testing.assert_allclose(fg.grad(loss)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(fg.jit(fg.grad(loss))(x), expected, rtol=1e-6)
    assert fg.vmap(loss)(np.ones((3, 2), np.float32)).shape == (3,)


def test_a_known_traced_value_is_never_taken_out_as_a_number():
    for take in (float, np.asarray, lambda x: x.item(), lambda x: np.array([x])):
        with pytest.raises(TracerArrayConversionError, match=r"lose its derivative"):
            fg.grad(lambda x, take=take: take(x) * x)(2.0)


def test_a_custom_vjp_function_has_forward_mode():
    @fg.custom_vjp
    def f(x, y):
        return fnp.sin(x) * y

    f.defvjp(
        lambda x, y: (fnp.sin(x) * y, (x, y)),
        lambda res, ct: (fnp.cos(res[0]) * res[1] * ct, fnp.sin(res[0]) * ct),
    )
    x, y = 0.5, 2.0
    expected = 3.0 * y * np.cos(x) + 5.0 * np.sin(x)
    np.testing.assert_allclose(fg.jvp(f, (x, y), (3.0, 5.0))[1], expected, rtol=1e-6)
    np.testing.assert_allclose(fg.hessian(f)(x, y), -np.sin(x) * y, rtol=1e-6)


def test_a_pullback_that_is_not_linear_has_reverse_mode_only():
    @fg.custom_vjp
    def clipped(x):
        return x * 1.0

    clipped.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (fnp.clip(ct, -1.0, 1.0),))
    assert fg.grad(lambda x: 5.0 * clipped(x))(2.0) == 1.0
    with pytest.raises(NonlinearPullbackError, match=r"test_differences.py"):
        fg.jvp(clipped, (2.0,), (1.0,))


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_reverse_mode_goes_through_loops_whose_length_depends_on_data(wrap):
    def grow(x):  # 2 -> 4 -> 16 -> 256: x ** 8
        return lax.while_loop(lambda x: x < 100.0, lambda x: x * x, x)

    def power(x, n):
        return lax.fori_loop(0, n, lambda i, y: y * x, 1.0)

    assert wrap(fg.grad(grow))(2.0) == 8 * 2.0**7
    assert wrap(fg.grad(fg.grad(grow)))(2.0) == 56 * 2.0**6
    assert wrap(fg.grad(power))(2.0, 3) == 12.0
    np.testing.assert_allclose(
        wrap(fg.vmap(fg.grad(grow)))(fnp.array([2.0, 5.0])), [1024.0, 4 * 5.0**3]
    )


def test_attention_has_forward_mode_and_double_backward():
    q, k, v = (random.normal(key, (1, 3, 2, 4)) for key in random.split(random.key(0), 3))

    def f(q):
        return fnp.sum(nn.dot_product_attention(q, k, v) ** 2)

    direction = fnp.ones_like(q)
    slope = fg.jvp(f, (q,), (direction,))[1]
    np.testing.assert_allclose(slope, fnp.sum(fg.grad(f)(q)), rtol=1e-4)
    forward_over_reverse = fg.jvp(fg.grad(f), (q,), (direction,))[1]
    reverse_over_reverse = fg.grad(lambda q: fnp.sum(fg.grad(f)(q) * direction))(q)
    np.testing.assert_allclose(forward_over_reverse, reverse_over_reverse, rtol=1e-4, atol=1e-5)


def test_attention_rows_that_are_masked_altogether_give_zeros():
    q = fnp.ones((1, 2, 1, 4))
    mask = fnp.array([[[[False, False], [True, False]]]])

    def f(q):
        return nn.dot_product_attention(q, q, q, mask=mask)

    np.testing.assert_array_equal(f(q)[0, :, 0], [[0.0] * 4, [1.0] * 4])
    assert bool(fnp.isfinite(fg.grad(lambda q: fnp.sum(f(q)))(q)).all())


def test_a_hook_under_vmap_sees_one_element():
    def norm_clipped(x):
        return fnp.sum(fg.tap(x, lambda ct: ct / fnp.sqrt(fnp.sum(ct * ct))) ** 2)

    gradients = fg.vmap(fg.grad(norm_clipped))(fnp.array([[3.0, 4.0], [0.0, 2.0]]))
    np.testing.assert_allclose(gradients, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)


def test_a_pullback_shows_its_residuals_and_frees_them_when_consumed():
    _, pullback = fg.vjp(lambda x: fnp.sum(fnp.sin(x)), fnp.zeros(4))
    assert [(r.shape, r.nbytes) for r in pullback.residuals if r.shape] == [((4,), 16)]
    np.testing.assert_array_equal(pullback(1.0)[0], pullback.consume(1.0)[0])
    with pytest.raises(ResidualsFreedError):
        pullback(1.0)


def test_pointwise_primitives_broadcast_by_themselves():
    jaxpr = fg.make_jaxpr(lambda x, y: x * y)(fnp.ones((2, 3)), fnp.ones(3))
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["mul"]


def test_a_branch_on_a_known_predicate_runs_alone():
    ran = []
    assert lax.cond(True, lambda x: x + 1.0, lambda x: ran.append(x), 1.0) == 2.0
    assert not ran


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_complex_numbers_have_no_order(wrap):
    z = np.array([1 + 2j, 3 - 1j])
    for f in (fnp.max, fnp.min, fnp.ptp, fnp.nanmax):
        with pytest.raises(DtypeError, match="complex numbers have no order"):
            wrap(f)(z)
    for f in (fnp.arctan2, fnp.logaddexp, fnp.logaddexp2):
        with pytest.raises(DtypeError, match=f"{f.__name__} takes real numbers"):
            wrap(f)(z, 1.0)


def test_integers_are_not_made_floats_unasked():
    n = np.arange(4)
    for f in (nn.elu, nn.softplus, nn.softmax, nn.standardize, nn.layer_norm, nn.relu6):
        with pytest.raises(DtypeError):
            f(n)
    for f in (fnp.convolve, fnp.correlate, fnp.polymul):
        assert f(n, n).dtype == n.dtype


def test_another_library_gets_a_copy_through_dlpack():
    x = fnp.arange(3.0)

    class Reader:  # asks as PyTorch does, and does not look at the read-only flag
        def __dlpack_device__(self):
            return x.__dlpack_device__()

        def __dlpack__(self, **_options):
            return x.__dlpack__(max_version=(1, 0))

    taken = np.from_dlpack(Reader())
    assert not np.shares_memory(taken, np.asarray(x))
    assert np.shares_memory(np.from_dlpack(x), np.asarray(x))


def test_the_page_names_a_test_for_each_difference_and_each_test():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    here = {n for n, v in globals().items() if n.startswith("test_") and inspect.isfunction(v)}
    own = {"test_the_page_names_a_test_for_each_difference_and_each_test"}
    assert named == here - own
