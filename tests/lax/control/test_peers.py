"""Loops and branches against JAX in float64."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)
W, C, XS = RNG.standard_normal((3, 3)) * 0.6, RNG.standard_normal(3), RNG.standard_normal((4, 3))


def _scan(lax, np_, w, c, xs):
    def body(s, x):
        s = np_.tanh(w @ s + x * np_.cos(w).sum(0))
        return s, s * x

    s, ys = lax.scan(body, c, xs, reverse=True)
    return (s * s).sum() + np_.sin(ys).sum()


def _cond(lax, np_, w, c, xs):
    def branch(x):
        return lax.cond(x.sum() > 0, lambda x: np_.sin(w @ x), lambda x: x * np_.exp(c), x).sum()

    return sum(branch(x) for x in xs)


def _switch(lax, np_, w, c, xs):
    branches = [lambda x: w @ x, lambda x: x * c, lambda x: np_.sin(x)]
    return sum(lax.switch(np_.int32(i + 1) * 1, branches, x).sum() for i, x in enumerate(xs))


def _fori(lax, np_, w, c, xs):
    return lax.fori_loop(1, 5, lambda i, s: np_.tanh(w @ s) * i, c).sum() * xs.sum()


def _associative(lax, np_, w, c, xs):
    out = lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (xs, xs * c))
    return (np_.sin(out[1]) @ w).sum()


def _map(lax, np_, w, c, xs):
    return lax.map(lambda x: np_.sin(w @ x) * c, xs, batch_size=3).sum()


def _transforms(fg):
    every = (0, 1, 2)
    return {
        "grad": lambda f: fg.jit(fg.grad(f, every)),
        "jvp_grad": lambda f: lambda *a: fg.jvp(fg.grad(f, every), a, a),
        "hessian": lambda f: fg.hessian(f, 1),
        "vmap_grad": lambda f: (
            lambda w, c, x: fg.vmap(fg.grad(f, every), (None, 0, None))(
                w, np.stack([c, -c, 2 * c]), x
            )
        ),
    }


@pytest.mark.parametrize("transform", ["grad", "jvp_grad", "hessian", "vmap_grad"])
@pytest.mark.parametrize("f", [_scan, _cond, _switch, _fori, _associative, _map])
def test_against_jax(f, transform):
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        theirs = lambda *a: f(jax.lax, jnp, *a)  # noqa: E731
        want = _transforms(jax)[transform](theirs)(*map(jnp.asarray, (W, C, XS)))
        got = _transforms(fg)[transform](lambda *a: f(lax, fnp, *a))(W, C, XS)
        for a, b in zip(fg.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
