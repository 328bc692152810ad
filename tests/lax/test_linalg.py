import numpy as np
import pytest

from fgrad.core.errors import DtypeError, LinalgError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.tracing import bind
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.lax import linalg
from fgrad.lax.contract import batch_matmul
from tests.lax.against_jax import check

MATRICES = ["cholesky_p", "lu_p", "qr_p", "svd_p", "eigh_p", "eig_p", "solve_p"]


def matrices(*shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return x.astype(dtype)


def positive(*shape, dtype="float64", seed=0):
    x = matrices(*shape, dtype=dtype, seed=seed)
    return x @ np.conj(np.swapaxes(x, -1, -2)) + np.eye(shape[-1], dtype=dtype)


def hermitian(*shape, dtype="float64", seed=0):
    x = matrices(*shape, dtype=dtype, seed=seed)
    return x + np.conj(np.swapaxes(x, -1, -2))


both = pytest.mark.parametrize("dtype", ["float64", "complex128"])


# ------------------------------------------------------------------------------ against JAX


@pytest.mark.peers
@both
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_cholesky_agrees_with_jax(shape, dtype):
    from jax.lax import linalg as theirs

    check(linalg.cholesky, theirs.cholesky, [positive(*shape, dtype=dtype)], rtol=1e-8)


FLAGS = [
    {"left_side": left, "lower": low, "transpose_a": t, "conjugate_a": c, "unit_diagonal": u}
    for left, low, t, c, u in [
        (1, 1, 0, 0, 0), (1, 0, 1, 0, 1), (0, 1, 0, 1, 0), (0, 0, 1, 1, 0), (1, 1, 1, 1, 1),
        (0, 1, 1, 0, 0),
    ]
]  # fmt: skip


@pytest.mark.peers
@both
@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "".join(str(int(v)) for v in f.values()))
def test_triangular_solve_agrees_with_jax(flags, dtype):
    from jax.lax import linalg as theirs

    flags = {k: bool(v) for k, v in flags.items()}
    a = matrices(3, 3, dtype=dtype) + 3 * np.eye(3)
    b = matrices(*((3, 2) if flags["left_side"] else (2, 3)), dtype=dtype, seed=1)
    check(
        lambda a, b: linalg.triangular_solve(a, b, **flags),
        lambda a, b: theirs.triangular_solve(a, b, **flags),
        [a, b], rtol=1e-8,
    )  # fmt: skip


@pytest.mark.peers
@both
@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 2), (4, 2), (2, 4)])
def test_lu_agrees_with_jax(shape, dtype):
    from jax.lax import linalg as theirs

    check(linalg.lu, lambda x: list(theirs.lu(x)), [matrices(*shape, dtype=dtype)], rtol=1e-8)


@pytest.mark.peers
@both
def test_solve_agrees_with_jax(dtype):
    import jax.numpy as jnp

    a, b = matrices(3, 3, dtype=dtype) + 3 * np.eye(3), matrices(3, 2, dtype=dtype, seed=1)
    check(linalg.solve, jnp.linalg.solve, [a, b], rtol=1e-8)


@pytest.mark.peers
@both
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 2)])
def test_qr_agrees_with_jax(shape, dtype):
    from jax.lax import linalg as theirs

    check(
        lambda x: linalg.qr(x, full_matrices=False),
        lambda x: list(theirs.qr(x, full_matrices=False)),
        [matrices(*shape, dtype=dtype)], rtol=1e-7,
    )  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 2), (2, 3)])
def test_svd_agrees_with_jax(shape):
    from jax.lax import linalg as theirs

    check(
        lambda x: linalg.svd(x, full_matrices=False),
        lambda x: list(theirs.svd(x, full_matrices=False)),
        [matrices(*shape)], rtol=1e-7,
    )  # fmt: skip


@pytest.mark.peers
@both
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 3)])
def test_singular_values_agree_with_jax(shape, dtype):
    from jax.lax import linalg as theirs

    check(
        lambda x: linalg.svd(x, compute_uv=False),
        lambda x: theirs.svd(x, compute_uv=False),
        [matrices(*shape, dtype=dtype)], rtol=1e-7,
    )  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("lower", [True, False])
def test_eigh_agrees_with_jax(lower):
    from jax.lax import linalg as theirs

    check(
        lambda x: linalg.eigh(x, lower=lower),
        lambda x: list(theirs.eigh(x, lower=lower)),
        [hermitian(3, 3)], rtol=1e-7,
    )  # fmt: skip


@pytest.mark.peers
@both
def test_eigenvalues_agree_with_jax(dtype):
    from jax.lax import linalg as theirs

    none = {"compute_left_eigenvectors": False, "compute_right_eigenvectors": False}
    check(
        lambda x: linalg.eig(x, **none),
        lambda x: theirs.eig(x, **none),
        [matrices(3, 3, dtype=dtype)], rtol=1e-7, order=1,
    )  # fmt: skip


# ---------------------------------------------------------- against differences and identities


def differences(f, x, dx, h=1e-3):
    """The derivative along dx by five points, for functions of NumPy arrays."""
    weights = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))
    outs = [[w * np.asarray(o) for o in f(x + k * h * dx)] for k, w in weights]
    return [sum(terms) / h for terms in zip(*outs, strict=True)]


def forward(f, x, dx):
    _, tangents = jvp_flat(lambda a: list(f(a)), [as_value(x)], [as_value(dx)])
    return [None if t is None else t._data for t in tangents]


def numpy(f):
    return lambda x: [o._data for o in f(as_value(x))]


def lower_cholesky(x):
    return linalg.cholesky(x, symmetrize_input=False)


def upper_eigh(x):
    return linalg.eigh(x, lower=False, symmetrize_input=False)


def squares(outs):
    """Squares of the elements: LAPACK's signs of eigenvectors jump, these do not."""
    return [linalg.matrices.mul(o, o) for o in outs]


VECTOR_CASES = [
    ("qr wide", lambda x: linalg.qr(x), (2, 3), "float64"),
    ("qr wide complex", lambda x: linalg.qr(x), (2, 3), "complex128"),
    ("qr batch", lambda x: linalg.qr(x, full_matrices=False), (2, 4, 3), "complex128"),
    ("svd", lambda x: linalg.svd(x), (3, 3), "float64"),
    ("svd tall", lambda x: linalg.svd(x, full_matrices=False), (2, 4, 3), "float64"),
    ("svd wide", lambda x: linalg.svd(x, full_matrices=False), (2, 4), "float64"),
    ("eig real", lambda x: linalg.eig(x), (4, 4), "float64"),
    ("eig complex", lambda x: linalg.eig(x), (3, 3), "complex128"),
    ("cholesky triangle", lambda x: [lower_cholesky(x)], None, "float64"),
    ("cholesky complex", lambda x: [lower_cholesky(x)], None, "complex128"),
    ("eigh triangle", lambda x: squares(linalg.eigh(x, symmetrize_input=False)), None, "float64"),
    ("eigh upper", lambda x: squares(upper_eigh(x)), None, "float64"),
]


@pytest.mark.parametrize(
    ("f", "shape", "dtype"), [c[1:] for c in VECTOR_CASES], ids=[c[0] for c in VECTOR_CASES]
)
def test_derivative_agrees_with_differences(f, shape, dtype):
    x = positive(3, 3, dtype=dtype) if shape is None else matrices(*shape, dtype=dtype)
    dx = matrices(*x.shape, dtype=dtype, seed=5)
    for ours, theirs in zip(forward(f, x, dx), differences(numpy(f), x, dx), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("which", ["svd", "eigh"])
def test_phase_free_functions_of_complex_vectors(which):
    """|⟨a, v⟩|² does not depend on the phases, so differences tell its derivative."""

    def f(x):
        vectors = linalg.svd(x, full_matrices=False)[0] if which == "svd" else linalg.eigh(x)[0]
        a = as_value(matrices(1, x.shape[-2], dtype="complex128", seed=7))
        p = batch_matmul(a, vectors)
        return [linalg.matrices.real_part(linalg.matrices.mul(p, linalg.matrices.conjugate(p)))]

    x = (hermitian if which == "eigh" else matrices)(4, 4, dtype="complex128")
    x = x if which == "eigh" else x[:, :3]
    dx = matrices(*x.shape, dtype="complex128", seed=5)
    np.testing.assert_allclose(
        forward(f, x, dx)[0], differences(numpy(f), x, dx)[0], rtol=1e-6, atol=1e-8
    )


@both
def test_left_eigenvectors(dtype):
    x = matrices(2, 3, 3, dtype=dtype)
    w, u, v = (o._data for o in linalg.eig(x))
    np.testing.assert_allclose(x @ v, v * w[:, None, :], atol=1e-12)
    uh = np.conj(np.swapaxes(u, -1, -2))
    np.testing.assert_allclose(uh @ x, w[:, :, None] * uh, atol=1e-12)


# ------------------------------------------------------------------------ degenerate, special


def directions(columns):
    """The products x xᴴ of orthonormal columns."""
    return [np.outer(c, np.conj(c)) for c in columns.T]


def turning(projectors, values, dx, k):
    """How eigenvector k turns, as the change of its projector: first-order perturbation theory."""
    p = projectors[k]
    return sum(
        (q @ dx @ p + p @ dx @ q) / (values[k] - w)
        for j, (q, w) in enumerate(zip(projectors, values, strict=True))
        if j != k
    )


GAPS = [1e-1, 1e-3, 1e-5, 1e-7]


def assert_within_conditioning(got, expected, gap):
    """An error u in the matrix turns vectors by u/gap: their derivative errs by that part of it."""
    bound = 64 * np.finfo(np.float64).eps / gap * np.max(np.abs(expected))
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


@both
@pytest.mark.parametrize("gap", GAPS)
def test_derivatives_of_nearly_equal_eigenvalues_and_vectors(gap, dtype):
    q = np.linalg.qr(matrices(4, 4, dtype=dtype))[0]
    w = np.array([-1.0, 0.5, 0.5 + gap, 2.0])
    dx = hermitian(4, 4, dtype=dtype, seed=3)
    x = q @ np.diag(w) @ q.conj().T

    def f(a):
        v, values = linalg.eigh(a)
        return [values, linalg.matrices.outer(v, v)]

    dw, dp = forward(f, x, dx)
    assert_within_conditioning(dw, np.diag(q.conj().T @ dx @ q).real, gap)
    expected = [turning(directions(q), w, dx, k) for k in range(4)]
    assert_within_conditioning(dp, np.stack(expected), gap)


@both
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (3, 4)])
def test_derivatives_of_nearly_equal_singular_values_and_vectors(shape, gap, dtype):
    m, n = shape
    u = np.linalg.qr(matrices(m, m, dtype=dtype))[0]
    v = np.linalg.qr(matrices(n, n, dtype=dtype, seed=1))[0]
    s = np.array([1.5 + gap, 1.5, 0.7])
    dx = matrices(m, n, dtype=dtype, seed=3)
    x = u[:, :3] @ np.diag(s) @ v[:, :3].conj().T

    def f(a):
        left, values, right = linalg.svd(a, full_matrices=False)
        return [values, linalg.matrices.outer(left, linalg.matrices.adjoint(right))]

    ds, dp = forward(f, x, dx)
    # The eigenvectors of [[0, A], [Aᴴ, 0]] are those pairs, with values ±s, and 0 for the rest.
    pairs = [np.concatenate([u[:, :3], sign * v[:, :3]]) / np.sqrt(2) for sign in (1, -1)]
    rest = [
        np.concatenate([u[:, 3:], np.zeros((n, m - 3))]),
        np.concatenate([np.zeros((m, n - 3)), v[:, 3:]]),
    ]
    projectors = directions(np.concatenate([*pairs, *rest], axis=1))
    values = [*s, *-s, *[0.0] * (m + n - 6)]
    zeros = [np.zeros((k, k)) for k in (m, n)]
    both_ways = np.block([[zeros[0], dx], [dx.conj().T, zeros[1]]])
    expected = [2 * turning(projectors, values, both_ways, k)[:m, m:] for k in range(3)]
    assert_within_conditioning(ds, np.diag(u[:, :3].conj().T @ dx @ v[:, :3]).real, gap)
    assert_within_conditioning(dp, np.stack(expected), gap)


@both
@pytest.mark.parametrize("gap", GAPS)
def test_derivatives_of_nearly_equal_eigenvalues_of_general_matrices(gap, dtype):
    v = np.eye(3) + 0.3 * matrices(3, 3, dtype=dtype)
    v = v / np.linalg.norm(v, axis=0)
    w = np.array([-1.0, 0.5, 0.5 + gap])
    dx = matrices(3, 3, dtype=dtype, seed=3)

    def f(a):
        values, vectors = linalg.eig(a, compute_left_eigenvectors=False)
        return [values, linalg.matrices.outer(vectors, vectors)]

    x = v @ np.diag(w) @ np.linalg.inv(v)
    order = np.argsort(np.argsort(linalg.eig(x)[0]._data.real))
    dw, dp = forward(f, x, dx)
    inner = np.linalg.solve(v, dx @ v)
    expected = []
    for k in range(3):
        moved = sum(v[:, j] * inner[j, k] / (w[k] - w[j]) for j in range(3) if j != k)
        across = moved - v[:, k] * np.vdot(v[:, k], moved)
        product = np.outer(across, np.conj(v[:, k]))
        expected.append(product + product.conj().T)
    assert_within_conditioning(dw, np.diag(inner)[order], gap)
    assert_within_conditioning(dp, np.stack(expected)[order], gap)


def test_cholesky_of_an_indefinite_matrix_is_nan_and_spares_the_others():
    x = np.stack([np.eye(2), -np.eye(2), 4 * np.eye(2)])
    out = linalg.cholesky(x)._data
    np.testing.assert_array_equal(out[1], [[np.nan, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(out[[0, 2]], np.stack([np.eye(2), 2 * np.eye(2)]))


def test_singular_systems_give_no_finite_numbers_and_spare_the_others():
    a = np.stack([np.eye(2), np.zeros((2, 2))])
    b = np.ones((2, 2, 1))
    out = linalg.solve(a, b)._data
    np.testing.assert_array_equal(out[0], np.ones((2, 1)))
    assert not np.isfinite(out[1]).any()
    tri = linalg.triangular_solve(np.zeros((2, 2)), np.ones((2, 1)), left_side=True)._data
    assert not np.isfinite(tri).any()


def gradient(f, x):
    outs, tape = record_flat(lambda a: [f(a)], [as_value(x)], [True])
    ct = as_value(np.ones(outs[0].shape, outs[0].dtype))
    return tape.backward([ct], consume=False)[0]._data


def test_equal_eigenvalues_have_values_derivatives_but_no_vector_derivatives():
    x = np.eye(3)
    np.testing.assert_allclose(gradient(lambda a: linalg.eigh(a)[1], x), np.eye(3), atol=1e-12)
    s = gradient(lambda a: linalg.svd(a, compute_uv=False), x)
    np.testing.assert_allclose(s, np.eye(3), atol=1e-12)
    s = gradient(lambda a: linalg.svd(a)[1], x)
    np.testing.assert_allclose(s, np.eye(3), atol=1e-12)
    dx = matrices(3, 3, seed=3)
    dv, dw = forward(lambda a: linalg.eigh(a), x, dx)
    assert np.isfinite(dw).all()
    assert not np.isfinite(dv).all()
    du = forward(lambda a: linalg.svd(a), x, dx)[0]
    assert not np.isfinite(du).all()


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)], ids=str)
@pytest.mark.parametrize("name", ["eig", "eigh", "svd", "qr", "lu"])
def test_empty_matrices_have_empty_derivatives(name, shape):
    f = getattr(linalg, name)

    def inexact(a):
        return [y for y in f(a) if y.dtype.kind in "fc"]

    x = np.zeros(shape)
    outs, tape = record_flat(inexact, [as_value(x)], [True])
    [ct] = tape.backward(outs, consume=False)
    assert ct is None or ct.shape == shape
    tangents = jvp_flat(inexact, [as_value(x)], [as_value(x)])[1]
    assert all(t is None or t.shape == y.shape for t, y in zip(tangents, outs, strict=True))


def test_arbitrary_columns_have_no_derivative():
    x, dx = matrices(3, 2), matrices(3, 2, seed=1)
    with pytest.raises(LinalgError, match="full_matrices"):
        forward(lambda a: linalg.qr(a), x, dx)
    with pytest.raises(LinalgError, match="full_matrices"):
        forward(lambda a: linalg.svd(a), x, dx)
    assert forward(lambda a: [linalg.svd(a, compute_uv=False)], x, dx)[0] is not None


def test_not_a_number_goes_through():
    x = np.full((2, 2), np.nan)
    for outs in (linalg.eigh(x), linalg.svd(x), linalg.eig(x), [linalg.cholesky(x)]):
        assert all(np.isnan(np.asarray(o._data)).any() for o in outs)


# -------------------------------------------------------------------------------- the pieces


@both
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 2), (2, 4), (0, 0), (0, 2, 2)])
def test_lu_factors_the_permuted_matrix(shape, dtype):
    x = matrices(*shape, dtype=dtype)
    factors, pivots, permutation = (o._data for o in linalg.lu(x))
    k = min(shape[-2:])
    low = np.tril(factors[..., :k], -1) + np.eye(shape[-2], k)
    rebuilt = low @ np.triu(factors[..., :k, :])
    np.testing.assert_allclose(rebuilt, np.take_along_axis(x, permutation[..., None], -2))
    again = linalg.lu_pivots_to_permutation(pivots, shape[-2])._data
    np.testing.assert_array_equal(again, permutation)


@both
@pytest.mark.parametrize("trans", [0, 1, 2])
def test_lu_solve(trans, dtype):
    a, b = matrices(2, 3, 3, dtype=dtype), matrices(2, 3, 2, dtype=dtype, seed=1)
    factors, _, permutation = linalg.lu(a)
    op = a if trans == 0 else np.swapaxes(a if trans == 1 else np.conj(a), -1, -2)
    np.testing.assert_allclose(op @ linalg.lu_solve(factors, permutation, b, trans)._data, b)


def test_vectors_as_right_hand_sides():
    a, b = matrices(2, 3, 3) + 3 * np.eye(3), matrices(2, 3, seed=1)
    expected = np.linalg.solve(a, b[..., None])[..., 0]
    np.testing.assert_allclose(linalg.solve(a, b)._data, expected)
    low = np.tril(a)
    out = linalg.triangular_solve(a, b, left_side=True, lower=True)._data
    np.testing.assert_allclose(out, np.linalg.solve(low, b[..., None])[..., 0])
    out = linalg.triangular_solve(a, b, lower=True, transpose_a=True)._data
    np.testing.assert_allclose(out, np.linalg.solve(low, b[..., None])[..., 0])


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_stays_single(dtype):
    x = positive(3, 3, dtype=dtype)
    real = np.dtype("float32")
    for outs in (
        [linalg.cholesky(x)], linalg.lu(x)[:1], linalg.qr(x), linalg.svd(x), linalg.eigh(x),
        [linalg.solve(x, x)], [linalg.triangular_solve(x, x)], linalg.eig(x),
    ):  # fmt: skip
        assert all(o.dtype in (np.dtype(dtype), real, np.dtype("complex64")) for o in outs)
    _, tape = record_flat(lambda a: [linalg.cholesky(a)], [as_value(x)], [True])
    assert tape.backward([as_value(x)], consume=False)[0].dtype == np.dtype(dtype)


@pytest.mark.parametrize("prim", [getattr(linalg, n) for n in MATRICES], ids=str)
def test_invalid_operands(prim):
    names = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32}
    assert prim.spec.invalid
    for invalid in prim.spec.invalid:
        args = [
            as_value(np.ones([int(n) for n in t[4:-1].split(",")], names[t[:3]]))
            for t in invalid.types
        ]
        with pytest.raises(invalid.error, match=invalid.match):
            bind(prim, *args, **invalid.params)


@pytest.mark.parametrize("prim", [getattr(linalg, n) for n in MATRICES], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
def test_value_is_that_of_the_reference(prim, dtype):
    error = 1e4 * np.finfo(dtype).eps
    for case in prim.spec.cases:
        shapes = [
            [int(n) if n.isdigit() else 2 for n in part.split()] for part in case.shapes.split(",")
        ]
        make = positive if prim.name in ("cholesky", "eigh", "solve") else matrices
        args = [make(*shapes[0], dtype=dtype), *(matrices(*s, dtype=dtype) for s in shapes[1:])]
        ours = bind(prim, *map(as_value, args), **case.params)
        theirs = prim.spec.reference(*args, **case.params)
        if not prim.multiple_results:
            ours, theirs = [ours], [theirs]
        if prim.spec.observe is not None:
            ours = prim.spec.observe(ours, **case.params)
            theirs = prim.spec.observe(list(map(as_value, theirs)), **case.params)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a._data, as_value(b)._data, rtol=error, atol=error)


def test_small_floats_and_vectors_are_refused():
    with pytest.raises(DtypeError, match="float32"):
        linalg.cholesky(np.eye(2, dtype=np.float16))
    with pytest.raises(ShapeError, match="matrices"):
        linalg.qr(np.ones(3))
    with pytest.raises(ShapeError, match="trans"):
        linalg.lu_solve(np.eye(2), np.arange(2, dtype=np.int32), np.eye(2), 3)
