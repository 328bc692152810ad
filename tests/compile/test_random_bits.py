"""Random bits are made in the registers of the kernels that use them, the same as eagerly."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.backends.cpu.ops import supports
from fgrad.compile.plan import Launch
from tests.compile.test_lower import f32, plan_of

KEY = np.array([7, 2**31 + 5], np.uint32)
KEYS = np.array([[1, 2], [3, 4], [2**32 - 1, 0]], np.uint32)
DRAWS = {
    "8 bits": lambda k: lax.random_bits(k, (5, 7), 8),
    "16 bits": lambda k: lax.random_bits(k, (5, 7), 16),
    "32 bits": lambda k: lax.random_bits(k, (3, 1, 300), 32),
    "64 bits": lambda k: lax.random_bits(k, (41,), 64),
    "one": lambda k: lax.random_bits(k, (), 32),
    "turned": lambda k: lax.random_bits(k, (5, 7), 32).T[1:, ::-1] ^ np.uint32(1),
    "regrouped": lambda k: lax.random_bits(k, (4, 6), 32).reshape(3, 8) + np.uint32(1),
    "split": lambda k: lax.random_split(k, (3, 2)),
    "fold_in": lambda k: lax.random_fold_in(k, np.arange(5, dtype=np.uint32)),
    "fold_in of split": lambda k: lax.random_fold_in(lax.random_split(k, (4,)), np.uint32(9)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_bits_of_programs_are_those_of_eager_code(name):
    f = DRAWS[name]
    expected = np.asarray(f(fnp.asarray(KEY)))
    got = np.asarray(fg.jit(f)(KEY))
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    steps = plan_of(lambda k: [f(k)], KEY, supports=supports)[0].steps
    assert all(isinstance(s, Launch) for s in steps)


def test_bits_of_several_keys_are_those_of_eager_code():
    def draws(keys):
        return lax.random_bits(keys, (2, 9), 32), fg.vmap(lambda k: lax.random_split(k, (2,)))(keys)

    for got, expected in zip(fg.jit(draws)(KEYS), draws(fnp.asarray(KEYS)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_a_dropout_mask_is_never_stored():
    """Products stand between the kernels that use it, forwards and backwards."""
    x, w = f32(64, 128), f32(128, 128)

    def loss(w, key):
        y = nn.dropout(fg.random.wrap_key_data(key), fnp.tanh(x @ w), 0.75) @ w
        return fnp.sum(fnp.tanh(y))

    gradient = fg.grad(loss)
    plan, _ = plan_of(lambda w, k: [gradient(w, k)], w, KEY, supports=supports)
    masks = [b for b in plan.buffers if b.dtype.kind in "bu" and b.size > KEY.size]
    assert not masks
    draws = [
        s for s in plan.steps if isinstance(s, Launch) and "threefry" in s.kernel.name
    ]  # fmt: skip
    assert draws
    got, expected = fg.jit(gradient)(w, KEY), gradient(w, KEY)
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("drawn", [False, True])
def test_long_chains_need_no_recursion(drawn):
    def f(x):
        y = fg.random.uniform(fg.random.key(3), x.shape, x.dtype) if drawn else x
        for _ in range(1200):
            y = y * 1.01 - 0.5
        return y

    x = np.ones(7)
    np.testing.assert_allclose(fg.jit(f)(x), f(fnp.asarray(x)), rtol=1e-9)
