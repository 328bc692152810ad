"""Factorisations and solves by kernels, against LAPACK's in float64."""

import numpy as np
import pytest

import fgrad as fg
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, View
from fgrad.core.primitive import primitive
from fgrad.core.tracing import bind
from tests.backends.cuda.running import copied

DTYPES = ["float32", "float64", "complex64", "complex128"]


def matrices(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        found = found + 1j * rng.normal(size=shape)
    return found.astype(dtype)


def adjoint(x):
    return np.conj(np.swapaxes(x, -1, -2))


def run(execute, name, operands, **params):
    """The results of a primitive by its plan; operands may be views of other layouts."""
    prim = primitive(name)
    jaxpr = fg.make_jaxpr(lambda *xs: bind(prim, *xs, **params))(*operands).jaxpr
    (eqn,) = jaxpr.eqns
    views = tuple(
        View(i, 0, x.shape, tuple(s // x.itemsize for s in x.strides))
        for i, x in enumerate(operands)
    )
    plan = plan_of(Library(eqn, 0, views, tuple(range(len(eqn.outputs)))))
    outs = [copied(np.zeros(v.aval.shape, v.aval.dtype)) for v in eqn.outputs]
    execute(plan, [copied(x.ravel(order="K")) for x in operands], outs)
    found = [o.reshape(v.aval.shape) for o, v in zip(outs, eqn.outputs, strict=True)]
    wide = [x.astype("D" if x.dtype.kind == "c" else "d") for x in operands]
    want = prim.eager(np, *wide, **params)
    return found, list(want) if prim.multiple_results else [want]


def assert_near(found, want, factor=50):
    for a, b in zip(found, want, strict=True):
        assert a.shape == b.shape
        if a.dtype.kind in "iu":
            np.testing.assert_array_equal(a, b)
            continue
        eps = np.finfo(a.dtype).eps
        np.testing.assert_allclose(
            a, b, rtol=0, atol=factor * eps * max(1, np.abs(b).max(initial=0))
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_cholesky(n, dtype, execute):
    x = matrices((2, n, n), dtype)
    x = x @ adjoint(x) + n * np.eye(n, dtype=dtype)
    assert_near(*run(execute, "cholesky", (x,)))


def test_what_is_not_positive_definite_gives_nan(execute):
    x = np.stack([np.eye(3), -np.eye(3), np.full((3, 3), np.nan)]).astype(np.float32)
    (found,), _ = run(execute, "cholesky", (x,))
    np.testing.assert_array_equal(found[0], np.eye(3))
    for broken in found[1:]:
        np.testing.assert_array_equal(np.isnan(broken), np.tri(3, dtype=bool))
        assert not broken[np.triu_indices(3, 1)].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5, 5), (7, 4), (3, 4, 7), (50, 50)], ids=str)
def test_lu(shape, dtype, execute):
    assert_near(*run(execute, "lu", (matrices(shape, dtype),)))


def test_lu_of_singular_and_transposed_matrices(execute):
    x = np.float64([[0, 0, 1], [0, 0, 2], [3, 0, 1]])
    assert_near(*run(execute, "lu", (x,)))
    assert_near(*run(execute, "lu", (matrices((6, 6), "float64").T,)))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5, 5), (7, 4), (3, 4, 7), (40, 30)], ids=str)
def test_qr(shape, dtype, full, execute):
    assert_near(*run(execute, "qr", (matrices(shape, dtype),), full_matrices=full))


@pytest.mark.parametrize("full", [False, True])
def test_qr_of_no_columns_and_of_zeros(full, execute):
    assert_near(*run(execute, "qr", (np.zeros((3, 0)),), full_matrices=full))
    assert_near(*run(execute, "qr", (np.zeros((4, 3)),), full_matrices=full))


@pytest.mark.parametrize(
    ("flags", "dtype"), [*((f, "complex128") for f in range(32)), *((7, d) for d in DTYPES)]
)
def test_triangular_solve(flags, dtype, execute):
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    params = {name: bool(flags >> i & 1) for i, name in enumerate(names)}
    a = matrices((2, 9, 9), dtype) / 9 + np.eye(9, dtype=dtype)
    b = matrices((2, 9, 40) if params["left_side"] else (2, 40, 9), dtype, 1)
    assert_near(*run(execute, "triangular_solve", (a, b), **params))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "many"), [(1, 1), (6, 3), (30, 40)])
def test_solve(n, many, dtype, execute):
    a, b = matrices((2, n, n), dtype) + n * np.eye(n, dtype=dtype), matrices((2, n, many), dtype, 1)
    assert_near(*run(execute, "solve", (a, b)))


def test_singular_systems_give_nan(execute):
    a = np.stack([np.eye(2), np.ones((2, 2))])
    (found,), (want,) = run(execute, "solve", (a, np.ones((2, 2, 1))))
    np.testing.assert_array_equal(found, want)
    assert np.isnan(found[1]).all()
