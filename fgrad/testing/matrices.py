"""The matrices that specs of factorisations draw, each made from uniform elements ``[..., m, n]``.

Values and vectors of a factorisation are as ill-conditioned as their gaps are small: an error u in
the matrix moves vectors by u/gap, their k-th derivative by u/gap^(k+1). So the gaps of these
matrices, their distances from a singular one, and those from a change of pivot are stated.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["GENERATORS"]

Array = np.ndarray[Any, np.dtype[Any]]


def _adjoint(x: Array) -> Array:
    return np.asarray(x.conj().swapaxes(-1, -2))


def _unitary(x: Array) -> Array:
    """``[..., m, m]``, of any direction."""
    return np.asarray(np.linalg.qr(x, "complete")[0])


def _spectrum(x: Array, first: float, gap: float) -> Array:
    """``[..., m, n]``, zero but for first, first + gap, … on the diagonal, moved by up to gap/5."""
    m, n = x.shape[-2:]
    # A generator does not know the bounds of x; they are not far from 1.
    moved = np.tanh(x.real) / 5
    return np.asarray(np.eye(m, n) * (first + gap * (np.arange(n) + moved)))


def _positive_definite(x: Array) -> Array:
    """Hermitian, no eigenvalue below 1."""
    return np.asarray((x @ _adjoint(x)) / max(x.shape[-1], 1) + np.eye(x.shape[-1]))


def _hermitian(x: Array) -> Array:
    """Eigenvalues of both signs, 1.2 or more apart."""
    q = _unitary(x)
    a = q @ _spectrum(x, 0.5 - x.shape[-1], 2.0) @ _adjoint(q)
    return np.asarray((a + _adjoint(a)) / 2)


def _well_conditioned(x: Array) -> Array:
    """Singular values from 0.8 up, 0.6 or more apart."""
    return np.asarray(_unitary(x) @ _spectrum(x, 1.0, 1.0) @ _adjoint(_unitary(_adjoint(x))))


def _diagonalizable(x: Array) -> Array:
    """Eigenvalues 1.5 or more apart, half of the real matrices with a pair ±i; vectors askew."""
    n = x.shape[-1]
    d = _spectrum(x, 0.0, 3.0)
    if x.dtype.kind == "c":
        d = d + 1j * np.eye(n) * np.tanh(x.imag)
    if n > 1:
        turned = np.zeros((n, n), d.dtype)
        turned[:2, :2] = [[0, 1], [-1, 0]]
        pair = turned + np.where(np.arange(n) < 2, 0, 1) * d
        d = np.where(x[..., :1, :1].real > 0, pair, d)
    v = _unitary(x) + 0.4 * x / max(n, 1)
    return np.asarray(v @ d @ np.linalg.inv(v))


def _pivoted(x: Array) -> Array:
    """In every column one element greater than the others by far, rows in any order."""
    m, n = x.shape[-2:]
    a = x / max(m, n, 1) + np.diag(2.0 + np.arange(max(m, n)))[:m, :n]
    if not n:
        return np.asarray(a)
    order = np.argsort(x[..., :1].real, axis=-2)
    return np.asarray(np.take_along_axis(a, order, axis=-2))


def _triangular(x: Array) -> Array:
    """Both triangles are full, so that reading the wrong one shows; the diagonal is near 2."""
    return np.asarray(x / 2 + 2 * np.eye(*x.shape[-2:]))


GENERATORS: dict[str, Callable[[Array], Array]] = {
    "positive_definite": _positive_definite,
    "hermitian": _hermitian,
    "well_conditioned": _well_conditioned,
    "diagonalizable": _diagonalizable,
    "pivoted": _pivoted,
    "triangular": _triangular,
}
