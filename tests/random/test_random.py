"""Random numbers: the streams of JAX, the moments of the distributions, keys and their reuse."""

import threading

import numpy as np
import pytest
import scipy.special

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import random
from fgrad.errors import DtypeError, KeyReuseError, RuleError, ShapeError


def key(seed=0):
    return random.PRNGKey(seed)


# Numbers printed by JAX 0.10.2 with jax_threefry_partitionable for the same keys.
def test_keys_and_bits_are_those_of_jax():
    assert random.key_data(random.key(42)).tolist() == [0, 42]
    assert random.bits(random.key(42), (2,)).tolist() == [2098992034, 2919706841]
    np.testing.assert_allclose(
        random.uniform(random.key(0), (2,)), [0.947667, 0.9785799], rtol=1e-6
    )
    np.testing.assert_allclose(random.normal(random.key(0), (2,)), [1.622642, 2.0252647], rtol=1e-6)
    assert random.randint(random.key(0), (3,), 0, 10).tolist() == [9, 0, 2]
    assert random.bernoulli(random.key(0), 0.5, (3,)).tolist() == [False, False, True]


@pytest.mark.peers
def test_streams_equal_those_of_jax():
    import jax

    jax.config.update("jax_threefry_partitionable", True)
    k = jax.random.key(7)
    ours = lambda: random.key(7)  # noqa: E731 - a fresh key for each draw
    same = [
        (random.split(ours(), (3, 2))._data, jax.random.key_data(jax.random.split(k, (3, 2)))),
        (random.fold_in(ours(), 5)._data, jax.random.key_data(jax.random.fold_in(k, 5))),
        (random.bits(ours(), (4,), np.uint8), jax.random.bits(k, (4,), "uint8")),
        (random.uniform(ours(), (5, 2)), jax.random.uniform(k, (5, 2))),
        (random.uniform(ours(), (4,), fnp.bfloat16), jax.random.uniform(k, (4,), "bfloat16")),
        (random.randint(ours(), (50,), -7, 100), jax.random.randint(k, (50,), -7, 100)),
        (random.permutation(ours(), 20), jax.random.permutation(k, 20)),
        (random.choice(ours(), 9, (5,)), jax.random.choice(k, 9, (5,))),
        (
            random.choice(ours(), 9, (5,), replace=False),
            jax.random.choice(k, 9, (5,), replace=False),
        ),
    ]
    for got, want in same:
        np.testing.assert_array_equal(
            np.asarray(got).astype(np.float64), np.asarray(want).astype(np.float64)
        )
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    np.testing.assert_array_equal(
        random.categorical(ours(), logits, shape=(40,)),
        jax.random.categorical(k, logits, shape=(40,)),
    )
    for name in ("normal", "exponential", "laplace", "gumbel", "logistic", "cauchy"):
        np.testing.assert_allclose(
            getattr(random, name)(ours(), (6,)), getattr(jax.random, name)(k, (6,)), rtol=1e-5
        )


MOMENTS = {
    "uniform": (lambda k, n: random.uniform(k, n), 0.5, 1 / 12),
    "normal": (lambda k, n: random.normal(k, n), 0.0, 1.0),
    "exponential": (lambda k, n: random.exponential(k, n), 1.0, 1.0),
    "laplace": (lambda k, n: random.laplace(k, n), 0.0, 2.0),
    "gumbel": (lambda k, n: random.gumbel(k, n), 0.5772, np.pi**2 / 6),
    "logistic": (lambda k, n: random.logistic(k, n), 0.0, np.pi**2 / 3),
    "gamma 3": (lambda k, n: random.gamma(k, 3.0, n), 3.0, 3.0),
    "gamma ½": (lambda k, n: random.gamma(k, 0.5, n), 0.5, 0.5),
    "beta": (lambda k, n: random.beta(k, 2.0, 3.0, n), 0.4, 0.04),
    "chisquare": (lambda k, n: random.chisquare(k, 4.0, n), 4.0, 8.0),
    "rayleigh": (lambda k, n: random.rayleigh(k, 1.0, n), np.sqrt(np.pi / 2), 2 - np.pi / 2),
    "rademacher": (lambda k, n: random.rademacher(k, n), 0.0, 1.0),
    "randint": (lambda k, n: random.randint(k, n, 0, 7), 3.0, 4.0),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_variance(name):
    draw, mean, variance = MOMENTS[name]
    n = 20_000
    x = np.asarray(draw(key(3), (n,)), np.float64)
    # Six standard errors; the fourth moments of these are below 25 variances squared.
    assert abs(x.mean() - mean) < 6 * np.sqrt(variance / n)
    assert abs(x.var() - variance) < 6 * variance * np.sqrt(25 / n)


def test_draws_of_vectors():
    d = random.dirichlet(key(), np.array([1.0, 2.0, 3.0]), (5,))
    np.testing.assert_allclose(d.sum(-1), np.ones(5), rtol=1e-6)
    q = random.orthogonal(key(), 4, (2,))
    np.testing.assert_allclose(q @ q.mT, np.broadcast_to(np.eye(4), (2, 4, 4)), atol=1e-5)
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = np.asarray(random.multivariate_normal(key(), np.zeros(2), cov, (20_000,)), np.float64)
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.1)
    assert (np.linalg.norm(random.ball(key(), 3, shape=(50,)), axis=-1) <= 1).all()


def test_dtypes_and_bounds():
    assert random.normal(key(), (2,), np.float64).dtype == np.float64
    assert random.normal(key(), (3,), np.complex64).dtype == np.complex64
    x = random.truncated_normal(key(), -0.5, 0.25, (1000,))
    assert ((x > -0.5) & (x < 0.25)).all()
    with pytest.raises(DtypeError, match="float"):
        random.normal(key(), (2,), np.int32)
    with pytest.raises(DtypeError, match="integer bounds"):
        random.randint(key(), (2,), 0.0, 1.0)
    with pytest.raises(ShapeError, match="without replacement"):
        random.choice(key(), 3, (4,), replace=False)
    with pytest.raises(DtypeError, match="random key"):
        random.normal(3, (2,))
    with pytest.raises(ShapeError, match="one random key"):
        random.normal(random.split(key()), (2,))


def test_transforms_see_the_same_numbers():
    want = random.normal(key(5), (3,))
    compiled = fg.jit(lambda k: random.normal(k, (3,)))(key(5))  # `erf_inv` as a kernel
    np.testing.assert_array_max_ulp(np.asarray(compiled), np.asarray(want), 4)
    keys = random.split(key(5), 4)
    batch = fg.vmap(lambda k: random.normal(k, (3,)))(keys)
    np.testing.assert_array_equal(batch, [random.normal(k, (3,)) for k in keys])
    typed = fg.vmap(lambda k: random.normal(k, (3,)))(random.wrap_key_data(keys))
    np.testing.assert_array_equal(typed, batch)
    g = fg.grad(lambda s: fnp.sum(s * random.normal(key(5), (3,))))(2.0)
    np.testing.assert_allclose(g, want.sum(), rtol=1e-6)


def test_a_typed_key_is_used_once():
    k = random.key(1)
    random.normal(k, (2,))
    with pytest.raises(KeyReuseError, match=r"used before, at .*test_random.py"):
        random.split(k)
    with fg.key_reuse("jax"):
        random.normal(k, (2,))
    random.normal(random.clone(k), (2,))
    raw = key(1)
    np.testing.assert_array_equal(random.normal(raw, (2,)), random.normal(raw, (2,)))


def test_folding_in_leaves_the_key_usable():
    k = random.key(1)
    first, second = random.fold_in(k, 1), random.fold_in(k, 2)
    assert random.key_data(first).tolist() != random.key_data(second).tolist()
    random.normal(k, (2,))


def test_of_two_threads_one_may_use_a_key():
    k = random.key(1)
    outcomes = []
    gate = threading.Barrier(8)

    def use():
        gate.wait()
        try:
            random.bits(k)
            outcomes.append("used")
        except KeyReuseError:
            outcomes.append("refused")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["used"]


@pytest.mark.parametrize("a", [0.05, 0.7, 1.0, 2.5, 40.0, 3e6])
def test_a_gamma_draw_moves_with_its_shape_at_its_probability(a):
    def draws(a):
        return random.gamma(key(), a, (400,), np.float64)

    z, slope = map(np.asarray, fg.jvp(draws, (np.float64(a),), (np.float64(1),)))
    h = 1e-3 * a
    inverse = scipy.special.gammaincinv
    p = scipy.special.gammainc(a, z)
    use = (p > 1e-3) & (p < 0.999) & (z > 1e-290)
    near = [np.log(inverse(a + k * h, p[use])) for k in (-2, -1, 1, 2)]
    want = (8 * (near[2] - near[1]) - (near[3] - near[0])) / (12 * h)
    np.testing.assert_allclose((slope / z)[use], want, rtol=1e-7)
    assert use.sum() > 50
    # The mean of the draws is a, hence that of their slopes 1.
    assert abs(slope.mean() - 1) < 6 * slope.std() / 20
    g = fg.grad(lambda a: fnp.sum(draws(a)))(np.float64(a))
    np.testing.assert_allclose(g, slope.sum(), rtol=1e-12)


def test_draws_made_of_gamma_draws_are_differentiable_and_second_derivatives_raise():
    of_beta = lambda a: fnp.mean(random.beta(key(), a, 2.0, (20_000,), np.float64))  # noqa: E731
    # The mean of a beta number is a / (a + b).
    np.testing.assert_allclose(fg.grad(of_beta)(np.float64(3)), 2 / 25, rtol=0.05)
    of_square = lambda v: fnp.mean(random.chisquare(key(), v, (20_000,), np.float64))  # noqa: E731
    np.testing.assert_allclose(fg.jit(fg.grad(of_square))(np.float64(5)), 1.0, rtol=0.05)
    small = fg.grad(lambda a: random.loggamma(key(), a, (), np.float64))(np.float64(1e-4))
    assert np.isfinite(small)
    assert small > 1e5
    with pytest.raises(RuleError, match="no second"):
        fg.grad(fg.grad(of_beta))(np.float64(3))


def test_a_key_is_a_pytree():
    k = random.key(3)
    (leaf,) = fg.tree.leaves(k)
    assert leaf.shape == (2,)
    assert fg.jit(lambda k: random.fold_in(k, 1))(k).shape == ()
    assert random.split(random.key(3), (2, 3)).shape == (2, 3)


def test_narrow_integers_are_drawn_in_32_bits():
    k = random.PRNGKey(0)
    wide = random.randint(k, (50,), -100, 100, np.int32)
    for dtype in (np.int8, np.int16):
        draws = random.randint(k, (50,), -100, 100, dtype)
        assert draws.dtype == dtype
        np.testing.assert_array_equal(draws, wide)
    assert int(random.randint(k, (2000,), 0, 256, np.uint8).max()) > 250
    assert random.randint(k, (3,), 5, 300, np.int8).dtype == np.int8


@pytest.mark.parametrize("dtype", ["uint32", "int64", "uint64", "uint8"])
def test_bounds_that_are_python_numbers_fit_every_dtype(dtype):
    draws = np.asarray(random.randint(random.PRNGKey(1), (100,), 3, 9, dtype))
    assert draws.dtype == dtype
    assert set(draws) == set(range(3, 9))


def test_bits_are_as_wide_as_integers_are_by_default():
    assert random.bits(random.PRNGKey(0)).dtype == np.uint32
    with fg.enable_x64():
        assert random.bits(random.PRNGKey(0)).dtype == np.uint64


def test_keys_compare_key_by_key_and_are_not_used_up():
    key, keys = random.key(0), random.split(random.key(1), 3)
    assert bool(key == random.key(0))
    assert not bool(key != random.key(0))
    np.testing.assert_array_equal(keys == keys[1], [False, True, False])
    np.testing.assert_array_equal(keys != keys[1], [True, False, True])
    np.testing.assert_array_equal(fg.jit(lambda a, b: a == b)(keys, keys[0]), [True, False, False])
    np.testing.assert_array_equal(fg.vmap(lambda k: k == keys[2])(keys), [False, False, True])
    assert key is not None
    assert (key == 0) is False
    with pytest.raises(TypeError, match="unhashable"):
        hash(key)
    random.normal(key)
