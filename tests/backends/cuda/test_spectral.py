"""Eigenvalues and singular values by rotations: what they mean, to the last places."""

import numpy as np
import pytest

from tests.backends.cuda.test_factorization import DTYPES, adjoint, matrices, run


def small(x, scale, dtype):
    """Whether all numbers are rounding errors of numbers of a scale."""
    return np.abs(x).max(initial=0) <= 40 * np.finfo(dtype).eps * max(scale, 1e-300)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2, 2), (7, 7), (2, 24, 24)], ids=str)
def test_eigh(shape, dtype, lower, execute):
    x = matrices(shape, dtype)
    (v, w), (_, values) = run(execute, "eigh", (x,), lower=lower)
    low = np.tril(x.astype("D"), -1) if lower else adjoint(np.triu(x.astype("D"), 1))
    full = low + adjoint(low) + np.real(x) * np.eye(shape[-1])
    scale = np.abs(values).max()
    assert small(w - values, scale, dtype)
    assert small(full @ v - v * w[..., None, :], scale, dtype)
    assert small(adjoint(v) @ v - np.eye(shape[-1]), 1, dtype)


def test_equal_eigenvalues_and_tiny_numbers(execute):
    for x in (np.eye(5), np.ones((6, 6)), np.diag([1e-200, 1, 1e200]), np.zeros((3, 3))):
        (v, w), (_, values) = run(execute, "eigh", (x,), lower=True)
        np.testing.assert_allclose(w, values, rtol=1e-13, atol=1e-15 * np.abs(values).max())
        assert small(adjoint(v) @ v - np.eye(len(x)), 1, "float64")


def test_nan_stays_in_its_matrix(execute):
    x = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    (v, w), _ = run(execute, "eigh", (x,), lower=True)
    assert np.isnan(v[1]).all()
    assert np.isnan(w[1]).all()
    np.testing.assert_array_equal(w[0], 1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5, 5), (9, 4), (2, 4, 9), (30, 17)], ids=str)
def test_svd(shape, dtype, full, execute):
    x = matrices(shape, dtype)
    (s, u, vh), (values, *_) = run(execute, "svd", (x,), full_matrices=full, compute_uv=True)
    check(x, s, u, vh, values, dtype)


def check(x, s, u, vh, values, dtype):
    k, scale = s.shape[-1], np.abs(values).max(initial=0)
    assert small(s - values, scale, dtype)
    assert small((u[..., :k] * s[..., None, :]) @ vh[..., :k, :] - x.astype("D"), scale, dtype)
    assert small(adjoint(u) @ u - np.eye(u.shape[-1]), 1, dtype)
    assert small(vh @ adjoint(vh) - np.eye(vh.shape[-2]), 1, dtype)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    "x",
    [np.zeros((4, 3)), np.ones((3, 5)), np.diag([1.0, 0, 2]), np.eye(4)[:, :2] * 1e-180],
    ids=["zeros", "ones", "diagonal", "tiny"],
)
def test_svd_of_matrices_without_full_rank(x, full, execute):
    (s, u, vh), (values, *_) = run(execute, "svd", (x,), full_matrices=full, compute_uv=True)
    check(x, s, u, vh, values, "float64")


def test_singular_values_alone_and_of_no_columns(execute):
    x = matrices((3, 6, 8), "float32")
    (s,), (values,) = run(execute, "svd", (x,), full_matrices=False, compute_uv=False)
    assert small(s - values, values.max(), "float32")
    found, _ = run(execute, "svd", (np.zeros((3, 0)),), full_matrices=True, compute_uv=True)
    np.testing.assert_array_equal(found[1], np.eye(3))


def test_svd_of_what_is_not_finite_gives_nan(execute):
    x = np.stack([np.eye(3), np.full((3, 3), np.inf)])
    found, _ = run(execute, "svd", (x,), full_matrices=False, compute_uv=True)
    for part in found:
        assert np.isnan(part[1]).all()
        assert np.isfinite(part[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2, 2), (2, 3, 3), (9, 9), (30, 30)], ids=str)
def test_eig(shape, dtype, execute):
    x = matrices(shape, dtype)
    params = {"compute_left_eigenvectors": True, "compute_right_eigenvectors": True}
    (w, left, right), (values, *_) = run(execute, "eig", (x,), **params)
    wide, scale = x.astype("D"), np.abs(values).max()
    tolerance = 30 * scale  # of what is not normal, eigenvalues depend on
    assert small(wide @ right - right * w[..., None, :], tolerance, dtype)
    assert small(adjoint(left) @ wide - w[..., :, None] * adjoint(left), tolerance, dtype)
    for v in (left, right):
        assert small(np.linalg.norm(v, axis=-2) - 1, 1, dtype)
        greatest = np.take_along_axis(v, np.abs(v).argmax(-2)[..., None, :], -2)
        assert small(greatest.imag, 1, dtype)
        assert (greatest.real > 0).all()
    found, wanted = (np.sort_complex(np.round(v.reshape(-1).astype("D"), 4)) for v in (w, values))
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_eigenvalues_alone_of_matrices_that_are_hard(execute):
    params = {"compute_left_eigenvectors": False, "compute_right_eigenvectors": False}
    cycle = np.roll(np.eye(8), 1, 0)  # its shifts are all 0
    jordan = np.eye(5) + np.diag(np.ones(4), 1)
    for x, tolerance in ((cycle, 1e-13), (jordan, 1e-2), (np.zeros((4, 4)), 0), (np.eye(3), 0)):
        (w,), (values,) = run(execute, "eig", (x,), **params)
        for value in values:
            assert np.abs(w - value).min() <= tolerance
        assert abs(w.sum() - np.trace(x)) <= 1e-12


def test_eig_of_what_is_not_finite_gives_nan(execute):
    x = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    params = {"compute_left_eigenvectors": False, "compute_right_eigenvectors": True}
    (w, v), _ = run(execute, "eig", (x,), **params)
    for part in (w, v):
        assert np.isnan(part[1]).all()
        assert np.isfinite(part[0]).all()
