"""jacfwd, jacrev, hessian and hvp over trees."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import GradientTypeError

A = np.random.default_rng(0).standard_normal((2, 3))
B = np.random.default_rng(1).standard_normal(3)


def f(m, a, b):
    """One code for fgrad and JAX: `m` is the NumPy of either."""
    return {"u": m.sin(a) @ (b * b), "v": [(a * a).sum() * b]}


def differences(g, x, h=1e-5):
    """Central differences of an array function along each element of x."""
    columns = []
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = h
        columns.append((np.asarray(g(x + e)) - np.asarray(g(x - e))) / (2 * h))
    columns = np.stack(columns, -1)
    return columns.reshape((*columns.shape[:-1], *x.shape))


@pytest.mark.parametrize("jacobian", [fg.jacfwd, fg.jacrev, fg.jacobian])
def test_jacobian_against_differences(jacobian):
    for wrap in (lambda g: g, fg.jit):
        got = wrap(jacobian(lambda a, b: f(fnp, a, b), (0, 1)))(A, B)
        for name, pick in (("u", lambda y: y["u"]), ("v", lambda y: y["v"][0])):
            da, db = pick(got)
            assert da.dtype == np.float64, name
            np.testing.assert_allclose(
                da, differences(lambda a, p=pick: p(f(np, a, B)), A), rtol=1e-7, atol=1e-9
            )
            np.testing.assert_allclose(
                db, differences(lambda b, p=pick: p(f(np, A, b)), B), rtol=1e-7, atol=1e-9
            )


def test_hessian_against_differences_of_the_gradient():
    g = lambda b: fnp.exp(fnp.sin(A @ b)).sum()  # noqa: E731
    want = differences(fg.grad(g), B)
    np.testing.assert_allclose(fg.hessian(g)(B), want, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fg.jit(fg.hessian(g))(B), want, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fg.jacrev(fg.jacfwd(g))(B), want, rtol=1e-6, atol=1e-8)
    gradient, product = fg.hvp(g, (B,), (B + 1,))
    np.testing.assert_allclose(gradient, fg.grad(g)(B))
    np.testing.assert_allclose(product, want @ (B + 1), rtol=1e-6, atol=1e-8)


def test_hessian_of_several_arguments_is_a_tree_of_blocks():
    h = fg.hessian(lambda a, b: (fnp.sin(a) @ (b["x"] ** 2)).sum(), (0, 1))(A, {"x": B})
    assert h[0][1]["x"].shape == (2, 3, 3)
    assert h[1]["x"][0].shape == (3, 2, 3)
    np.testing.assert_allclose(h[0][1]["x"], np.moveaxis(np.asarray(h[1]["x"][0]), 0, -1))
    assert h[1]["x"][1]["x"].shape == (3, 3)


def test_hvp_of_several_arguments():
    g = lambda a, b: (fnp.sin(a) @ b).sum()  # noqa: E731
    gradient, product = fg.hvp(g, (A, B), (A * 0.5, B * 0.5))
    want = fg.jvp(fg.grad(g, (0, 1)), (A, B), (A * 0.5, B * 0.5))
    for got, w in zip((gradient, product), want, strict=True):
        for x, y in zip(got, w, strict=True):
            np.testing.assert_allclose(x, y)


@pytest.mark.parametrize("jacobian", [fg.jacfwd, fg.jacrev])
def test_aux_argnums_and_keywords(jacobian):
    g = lambda x, y, *, k: (x * y * k, {"s": y.sum()})  # noqa: E731
    got, aux = jacobian(g, -1, has_aux=True)(B, B + 1, k=2.0)
    np.testing.assert_allclose(got, np.diag(2 * B))
    assert np.isclose(float(aux["s"]), (B + 1).sum())


@pytest.mark.parametrize("jacobian", [fg.jacfwd, fg.jacrev])
def test_holomorphic(jacobian):
    z = B + 1j * B[::-1]
    np.testing.assert_allclose(
        jacobian(lambda z: z * z * z, holomorphic=True)(z), np.diag(3 * z**2), rtol=1e-12
    )


def test_integer_arguments():
    jac = fg.jacrev(lambda n, x: n.sum() * x, (0, 1), allow_int=True)(np.arange(2), B)
    assert jac[0].dtype == fg.float0
    assert jac[0].shape == (3, 2)
    np.testing.assert_allclose(jac[1], np.eye(3))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fg.jacfwd(lambda n: n * 1.0)(np.arange(2)), "argument.*i64"),
        (lambda: fg.jacrev(lambda n: n * 1.0)(np.arange(2)), "argument.*i64"),
        (lambda: fg.jacrev(lambda x: fnp.floor(x).astype("int32"))(B), "output.*i32"),
        (lambda: fg.jacfwd(lambda z: z)(B + 1j), "holomorphic=True"),
        (lambda: fg.jacrev(lambda z: z, holomorphic=True)(B), "complex"),
        (lambda: fg.jacfwd(lambda x: x, 2)(B), "argnums=2"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(GradientTypeError, match=match):
        call()


@pytest.mark.peers
@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "hessian"])
@pytest.mark.parametrize("argnums", [0, 1, (0, 1), -1])
def test_against_jax(name, argnums):
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        want = getattr(jax, name)(lambda a, b: f(jnp, a, b), argnums)(A, B)
        got = getattr(fg, name)(lambda a, b: f(fnp, a, b), argnums)(A, B)
        pairs = zip(fg.tree.leaves(got), jax.tree.leaves(want), strict=True)
        for x, y in pairs:
            assert x.shape == y.shape
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)
