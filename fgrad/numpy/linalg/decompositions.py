"""Factorisations: Cholesky, QR, singular values and eigenvalues."""

from typing import Any, NamedTuple

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import select_n
from fgrad.core.errors import ArgumentError
from fgrad.core.primitive import Value
from fgrad.lax import linalg as decompositions
from fgrad.numpy import selection, sorting, ufuncs
from fgrad.numpy.linalg.operands import adjoint, matrix


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


class EigResult(NamedTuple):
    """What `eig` returns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Value:
    """The triangle L with A = L Lᴴ (or U with A = Uᴴ U); NaN if A is not positive definite."""
    x = matrix("cholesky", a, square=True)
    lower = decompositions.cholesky(
        adjoint(x) if upper and not symmetrize_input else x, symmetrize_input=symmetrize_input
    )
    return adjoint(lower) if upper else lower


def qr(a: Any, mode: str = "reduced") -> Any:
    """Orthonormal Q and triangular R with A = Q R.

    Args:
        a: ``[..., m, n]``.
        mode: "reduced", "complete" (Q is [m, m]) or "r" (R alone).
    """
    x = matrix("qr", a)
    if mode not in ("reduced", "complete", "r", "full"):
        raise ArgumentError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    q, r = decompositions.qr(x, full_matrices=mode in ("complete", "full"))
    return r if mode == "r" else QRResult(q, r)


def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False,
    subset_by_index: Any = None,
) -> Any:  # fmt: skip
    """Singular values and vectors: A = U diag(S) Vᴴ.

    Args:
        a: ``[..., m, n]``.
        full_matrices: Whether U and Vᴴ are square.
        compute_uv: Whether to return them; else S alone.
        hermitian: Whether A is Hermitian, which allows the use of `eigh`.
        subset_by_index: Not supported.
    """
    if subset_by_index is not None:
        raise ArgumentError("svd: subset_by_index is not supported; slice the result")
    x = matrix("svd", a)
    if hermitian:
        return _hermitian_svd(x, compute_uv)
    if not compute_uv:
        return decompositions.svd(x, compute_uv=False, full_matrices=False)
    return SVDResult(*decompositions.svd(x, full_matrices=full_matrices))


def _hermitian_svd(x: Value, compute_uv: bool) -> Any:
    w, v = eigh(x)
    size = lax.abs(w)
    order = sorting.argsort(size, descending=True)
    size = selection.take_along_axis(size, order, -1)
    if not compute_uv:
        return size
    signs = selection.take_along_axis(lax.sign(w), order, -1)
    signs = select_n(lax.eq(signs, ufuncs.zero_like(signs)), signs, ufuncs.const(1, signs))
    columns = basis.reshape(order, (*order.shape[:-1], 1, order.shape[-1]))
    v = selection.take_along_axis(v, columns, -1)
    scaled = ufuncs.multiply(v, basis.reshape(signs, (*signs.shape[:-1], 1, signs.shape[-1])))
    return SVDResult(v, size, adjoint(scaled))


def svdvals(x: Any, /) -> Value:
    """Singular values, the greatest first."""
    return svd(x, compute_uv=False)


def eigh(a: Any, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues (rising) and orthonormal eigenvectors of Hermitian matrices.

    Args:
        a: ``[..., n, n]``.
        UPLO: The triangle that is read where the input is not symmetrized: "L" or "U".
        symmetrize_input: Whether to use (A + Aᴴ)/2.
    """
    x = matrix("eigh", a, square=True)
    if UPLO not in (None, "L", "U"):
        raise ArgumentError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    vectors, values = decompositions.eigh(x, lower=UPLO != "U", symmetrize_input=symmetrize_input)
    return EighResult(values, vectors)


def eigvalsh(a: Any, UPLO: str | None = None, *, symmetrize_input: bool = True) -> Value:
    """Eigenvalues of Hermitian matrices, rising."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def eig(a: Any) -> EigResult:
    """Eigenvalues and eigenvectors of square matrices, as complex numbers."""
    x = matrix("eig", a, square=True)
    values, vectors = decompositions.eig(x, compute_left_eigenvectors=False)
    return EigResult(values, vectors)


def eigvals(a: Any) -> Value:
    """Eigenvalues of square matrices, as complex numbers."""
    x = matrix("eigvals", a, square=True)
    return decompositions.eig(x, compute_left_eigenvectors=False, compute_right_eigenvectors=False)[
        0
    ]
