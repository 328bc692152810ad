"""Linear algebra: norms, determinants, solves and factorisations of stacks of matrices."""

import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.core.transforms.custom import custom_jvp
from fgrad.lax import linalg as decompositions
from fgrad.numpy import axes as ax
from fgrad.numpy import diagonals, products, reductions, shaping, ufuncs
from fgrad.numpy.products import cross, matmul, outer, tensordot, vecdot
from fgrad.numpy.promotion import number, promote_inexact, value
from fgrad.numpy.reductions import safe_sqrt
from fgrad.numpy.shaping import matrix_transpose

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]


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


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


def _matrix(name: str, a: Any, *, square: bool = False) -> Value:
    (x,) = promote_inexact(name, a)
    x = convert_element_type(x, x.dtype)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        words = "square matrices [..., n, n]" if square else "matrices [..., m, n]"
        raise ShapeError(f"{name} takes {words}, got {x.aval}")
    wide = basis.wide(x.dtype)
    return x if wide is None else convert_element_type(x, wide)


def _adjoint(x: Value) -> Value:
    return ufuncs.conjugate(shaping.swapaxes(x, -1, -2))


# -------------------------------------------------------------------------------------- norms


def _moduli(x: Value) -> Value:
    return lax.abs(x) if dtypes.is_inexact(x.dtype) else ufuncs.abs(x)


def _squares(x: Value) -> Value:
    if x.dtype.kind == "c":
        return lax.add(lax.square(lax.real(x)), lax.square(lax.imag(x)))
    return lax.square(x)


def _vector_norm(x: Value, order: Any, axes: Any, keepdims: bool) -> Value:
    if order is None or order == 2:
        return safe_sqrt(reductions.sum(_squares(x), axes, keepdims=keepdims))
    size = _moduli(x)
    if order == math.inf:
        return reductions.max(size, axes, keepdims=keepdims)
    if order == -math.inf:
        return reductions.min(size, axes, keepdims=keepdims)
    if order == 0:
        count = reductions.sum(ufuncs.truth(x), axes, keepdims=keepdims)
        return convert_element_type(count, size.dtype)
    if order == 1:
        return reductions.sum(size, axes, keepdims=keepdims)
    if order in ("fro", "nuc", "f"):
        raise ValueError(f"norm: order {order!r} is for matrices; vectors take a number")
    power = value(order)
    total = reductions.sum(ufuncs.power(size, order), axes, keepdims=keepdims)
    inverse = ufuncs.divide(1.0, power)
    zero = lax.eq(total, ufuncs.zero_like(total))
    root = ufuncs.power(select_n(zero, total, ufuncs.const(1, total)), inverse)
    # A norm of 0 has the derivative 0; a negative order of it is 0 too.
    return select_n(zero, root, ufuncs.zero_like(root))


def _matrix_norm(x: Value, order: Any, axes: tuple[int, int], keepdims: bool) -> Value:
    row, column = axes
    if order in (None, "f", "fro"):
        return safe_sqrt(reductions.sum(_squares(x), axes, keepdims=keepdims))
    if order in (1, -1, math.inf, -math.inf):
        inner, outer_ = (row, column) if order in (1, -1) else (column, row)
        sums = reductions.sum(_moduli(x), inner, keepdims=True)
        pick = reductions.max if order in (1, math.inf) else reductions.min
        found = pick(sums, outer_, keepdims=True)
        return found if keepdims else shaping.squeeze(found, axes)
    if order in (2, -2, "nuc"):
        moved = shaping.moveaxis(x, axes, (-2, -1))
        values = decompositions.svd(moved, compute_uv=False)
        if order == "nuc":
            found = reductions.sum(values, -1)
        else:
            found = (reductions.max if order == 2 else reductions.min)(values, -1)
        return basis.reshape(found, ax.kept(x.shape, axes)) if keepdims else found
    raise ValueError(
        f"norm: order {order!r} of a matrix is not known; choose 'fro', 'nuc', 1, -1, 2, -2, inf "
        f"or -inf"
    )


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    """The norm of vectors or matrices.

    Args:
        x: Any shape.
        ord: None (Euclidean, Frobenius), inf, -inf, 0, any number for vectors; "fro", "nuc", 1,
            -1, 2, -2, inf, -inf for matrices.
        axis: One axis: of vectors; two: of matrices; None: all, flattened unless `ord` is given.
        keepdims: Keep the axes with length 1.

    Derivatives:
        0 where the Euclidean, Frobenius or p-norm is 0.

    Example:
        >>> norm(np.array([3.0, 4.0], np.float32))
        Array(5., dtype=float32)
    """
    (v,) = promote_inexact("norm", x)
    if axis is None and ord is None:
        return _vector_norm(v, None, None, keepdims)
    axes = ax.several("norm", axis, v.ndim)
    if len(axes) == 1:
        return _vector_norm(v, ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(v, ord, (axes[0], axes[1]), keepdims)
    raise ShapeError(
        f"norm: axis {axis} of {v.aval} must name one axis (vectors) or two (matrices)"
    )


def vector_norm(
    x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2
) -> Value:  # fmt: skip
    """The norm of vectors that lie along axes (all where None)."""
    (v,) = promote_inexact("vector_norm", x)
    return _vector_norm(v, ord, ax.several("vector_norm", axis, v.ndim), keepdims)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Value:
    """The norm of matrices in the last two axes."""
    v = _matrix("matrix_norm", x)
    return _matrix_norm(v, ord, (v.ndim - 2, v.ndim - 1), keepdims)


# ------------------------------------------------------------------------------ determinants


def _signs_and_diagonal(x: Value) -> tuple[Value, Value]:
    """The sign of the permutation and the diagonal of U of an LU factorisation."""
    factors, pivots, _ = decompositions.lu(x)
    diagonal_ = diagonals.last_diagonal(factors)
    swapped = lax.ne(pivots, lax.iota(pivots.dtype, x.shape[-1]))
    parity = basis.reduce_sum(convert_element_type(swapped, np.int32), (swapped.ndim - 1,))
    odd = lax.eq(lax.rem(parity, np.int32(2)), np.int32(1))
    one = number(1, x.dtype, weak=False)
    return select_n(odd, one, lax.neg(one)), diagonal_


def slogdet(a: Any, *, method: str | None = None) -> SlogdetResult:
    """Sign (or phase) and logarithm of the absolute value of the determinant.

    Args:
        a: ``[..., n, n]``.
        method: Accepted for JAX's sake: LU factors are used.
    """
    del method
    x = _matrix("slogdet", a, square=True)
    sign, diagonal_ = _signs_and_diagonal(x)
    size = lax.abs(diagonal_)
    last = (diagonal_.ndim - 1,)
    phase = lax.reduce_prod(lax.sign(diagonal_), last)
    return SlogdetResult(lax.mul(sign, phase), basis.reduce_sum(lax.log(size), last))


def det(a: Any) -> Value:
    """The determinant.

    Args:
        a: ``[..., n, n]``.

    Derivatives:
        Right for singular matrices too: up to 3 × 3 the determinant is its polynomial; larger ones
        are the product of the diagonal of U, whose derivative is that of the factorisation.
    """
    x = _matrix("det", a, square=True)
    n = x.shape[-1]
    if n == 0:
        return lax.full(x.shape[:-2], 1, x.dtype)
    if n <= 3:
        return _small_det(x, n)
    sign, diagonal_ = _signs_and_diagonal(x)
    return lax.mul(sign, lax.reduce_prod(diagonal_, (diagonal_.ndim - 1,)))


def _small_det(x: Value, n: int) -> Value:
    def entry(i: int, j: int) -> Value:
        part = lax.slice_in_dim(x, i, i + 1, axis=x.ndim - 2)
        part = lax.slice_in_dim(part, j, j + 1, axis=x.ndim - 1)
        return basis.reshape(part, x.shape[:-2])

    def minor(p: int, q: int, r: int, s: int) -> Value:
        return lax.sub(lax.mul(entry(p, r), entry(q, s)), lax.mul(entry(p, s), entry(q, r)))

    if n == 1:
        return entry(0, 0)
    if n == 2:
        return minor(0, 1, 0, 1)
    terms = [lax.mul(entry(0, j), minor(1, 2, *[k for k in range(3) if k != j])) for j in range(3)]
    return lax.add(lax.sub(terms[0], terms[1]), terms[2])


# -------------------------------------------------------------------------------------- solves


def solve(a: Any, b: Any) -> Value:
    """The solution X of A X = B.

    Args:
        a: ``[..., n, n]``.
        b: ``[n]`` (one vector), or ``[..., n, k]``; other axes broadcast.

    Raises:
        ShapeError: The shapes do not fit.
    """
    x, y = promote_inexact("solve", a, b)
    x = _matrix("solve", x, square=True)
    y = convert_element_type(y, x.dtype)
    vector = y.ndim == 1
    if vector:
        y = basis.reshape(y, (*y.shape, 1))
    if not y.ndim or y.shape[-2] != x.shape[-1]:
        raise ShapeError(f"solve: b {y.aval} does not fit a {x.aval}; its rows must be as many")
    lead = lax.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    out = decompositions.solve(
        basis.broadcast_to(x, lead + x.shape[-2:]), basis.broadcast_to(y, lead + y.shape[-2:])
    )
    return basis.reshape(out, out.shape[:-1]) if vector else out


def inv(a: Any) -> Value:
    """The inverse of matrices ``[..., n, n]``; NaN where a matrix is singular."""
    x = _matrix("inv", a, square=True)
    identity = np.eye(x.shape[-1], dtype=x.dtype)
    return decompositions.solve(x, basis.broadcast_to(value(identity), x.shape))


def tensorinv(a: Any, ind: int = 2) -> Value:
    """The inverse of the linear map that `tensordot` with the last axes of `a` applies."""
    x = value(a, "tensorinv", "a")
    first, last = x.shape[:ind], x.shape[ind:]
    n = math.prod(first)
    if ind <= 0 or n != math.prod(last):
        raise ShapeError(f"tensorinv: axes before and after {ind} of {x.aval} are unequal in size")
    return basis.reshape(inv(basis.reshape(x, (n, n))), last + first)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Value:
    """The solution x of ``tensordot(a, x, x.ndim) = b``."""
    x, y = promote_inexact("tensorsolve", a, b)
    if axes is not None:
        gone = ax.several("tensorsolve", tuple(axes), x.ndim)
        x = basis.transpose(x, (*(i for i in range(x.ndim) if i not in gone), *gone))
    shape = x.shape[y.ndim :]
    n = math.prod(shape)
    if n != y.size:
        raise ShapeError(f"tensorsolve: {x.aval} and {y.aval} do not make a square system")
    return basis.reshape(solve(basis.reshape(x, (n, n)), shaping.ravel(y)), shape)


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Value:
    """The triangle L with A = L Lᴴ (or U with A = Uᴴ U); NaN if A is not positive definite."""
    x = _matrix("cholesky", a, square=True)
    lower = decompositions.cholesky(
        _adjoint(x) if upper and not symmetrize_input else x, symmetrize_input=symmetrize_input
    )
    return _adjoint(lower) if upper else lower


def qr(a: Any, mode: str = "reduced") -> Any:
    """Orthonormal Q and triangular R with A = Q R.

    Args:
        a: ``[..., m, n]``.
        mode: "reduced", "complete" (Q is [m, m]) or "r" (R alone).
    """
    x = _matrix("qr", a)
    if mode not in ("reduced", "complete", "r", "full"):
        raise ValueError(f"qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
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
        raise ValueError("svd: subset_by_index is not supported; slice the result")
    x = _matrix("svd", a)
    if hermitian:
        return _hermitian_svd(x, compute_uv)
    if not compute_uv:
        return decompositions.svd(x, compute_uv=False, full_matrices=False)
    return SVDResult(*decompositions.svd(x, full_matrices=full_matrices))


def _hermitian_svd(x: Value, compute_uv: bool) -> Any:
    w, v = eigh(x)
    from fgrad.numpy import selection, sorting  # noqa: PLC0415 - on the way of this case alone

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
    return SVDResult(v, size, _adjoint(scaled))


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
    x = _matrix("eigh", a, square=True)
    if UPLO not in (None, "L", "U"):
        raise ValueError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    vectors, values = decompositions.eigh(x, lower=UPLO != "U", symmetrize_input=symmetrize_input)
    return EighResult(values, vectors)


def eigvalsh(a: Any, UPLO: str | None = None, *, symmetrize_input: bool = True) -> Value:
    """Eigenvalues of Hermitian matrices, rising."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def eig(a: Any) -> EigResult:
    """Eigenvalues and eigenvectors of square matrices, as complex numbers."""
    x = _matrix("eig", a, square=True)
    values, vectors = decompositions.eig(x, compute_left_eigenvectors=False)
    return EigResult(values, vectors)


def eigvals(a: Any) -> Value:
    """Eigenvalues of square matrices, as complex numbers."""
    x = _matrix("eigvals", a, square=True)
    return decompositions.eig(x, compute_left_eigenvectors=False, compute_right_eigenvectors=False)[
        0
    ]


# ------------------------------------------------------------------------ pseudoinverse and rank


def _cutoff(x: Value, values: Value, rtol: Any) -> Value:
    """Singular values up to this count as 0, with a last axis of length 1."""
    if rtol is None:
        rtol = 10.0 * max(x.shape[-2:]) * float(dtypes.finfo(x.dtype).eps)
    greatest = reductions.max(values, -1, keepdims=True)
    limit = ufuncs.multiply(greatest, convert_element_type(value(rtol), values.dtype))
    return lax.stop_gradient(limit)


def pinv(a: Any, rtol: Any = None, hermitian: bool = False, *, rcond: Any = None) -> Value:
    """The Moore-Penrose pseudoinverse.

    Args:
        a: ``[..., m, n]``.
        rtol: Singular values below this part of the greatest count as 0.
        hermitian: Whether A is Hermitian.
        rcond: Another name of `rtol`.

    Derivatives:
        Those of a matrix whose rank does not change.

    Source:
        Golub and Pereyra, *The differentiation of pseudo-inverses and nonlinear least squares
        problems whose variables separate*, SIAM J. Numer. Anal. 10 (1973), theorem 4.3.
    """
    x = _matrix("pinv", a)
    rtol = rcond if rtol is None else rtol
    m, n = x.shape[-2:]
    if m == 0 or n == 0:
        return lax.full((*x.shape[:-2], n, m), 0, x.dtype)
    return _pinv(None if rtol is None else float(rtol), hermitian, x)


@partial(custom_jvp, nondiff_argnums=(0, 1))
def _pinv(rtol: float | None, hermitian: bool, x: Value) -> Value:
    u, s, vh = svd(x, full_matrices=False, hermitian=hermitian)
    small = lax.le(s, _cutoff(x, s, rtol))
    inverse = lax.div(ufuncs.const(1, s), select_n(small, s, ufuncs.const(1, s)))
    inverse = select_n(small, inverse, ufuncs.zero_like(inverse))
    row = basis.reshape(inverse, (*inverse.shape[:-1], 1, inverse.shape[-1]))
    return products.matmul(ufuncs.multiply(_adjoint(vh), row), _adjoint(u))


@_pinv.defjvp
def _pinv_jvp(
    rtol: float | None, hermitian: bool, primals: tuple[Value], tangents: tuple[Value]
) -> tuple[Value, Value]:
    # P' = -P A' P + P Pᴴ A'ᴴ (1 - A P) + (1 - P A) A'ᴴ Pᴴ P
    (x,), (dx,) = primals, tangents
    p = _pinv(rtol, hermitian, x)
    m, n = x.shape[-2:]
    product, dxh, ph = products.matmul, _adjoint(dx), _adjoint(p)
    left = ufuncs.subtract(np.eye(m, dtype=x.dtype), product(x, p))
    right = ufuncs.subtract(np.eye(n, dtype=x.dtype), product(p, x))
    first = product(product(p, dx), p)
    second = product(product(p, product(ph, dxh)), left)
    third = product(product(right, product(dxh, ph)), p)
    return p, lax.add(lax.sub(second, first), third)


def matrix_rank(M: Any, rtol: Any = None, *, tol: Any = None) -> Value:
    """The number of singular values that are not small.

    Args:
        M: ``[..., m, n]``.
        rtol: Relative to the greatest singular value.
        tol: Another name of `rtol`.
    """
    x = value(M, "matrix_rank", "M")
    if x.ndim < 2:
        return convert_element_type(reductions.any(ufuncs.truth(x)), dtypes.default_int())
    x = _matrix("matrix_rank", x)
    s = decompositions.svd(x, compute_uv=False)
    rtol = tol if rtol is None else rtol
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(dtypes.finfo(x.dtype).eps)
    return reductions.sum(lax.gt(s, _cutoff(x, s, rtol)), -1)


def cond(x: Any, p: Any = None) -> Value:
    """The condition number in the norm `p` (2 where None)."""
    a = _matrix("cond", x)
    if p in (None, 2, -2):
        s = decompositions.svd(a, compute_uv=False)
        first = lax.slice_in_dim(s, 0, 1, axis=s.ndim - 1)
        last = lax.slice_in_dim(s, s.shape[-1] - 1, s.shape[-1], axis=s.ndim - 1)
        ratio = lax.div(last, first) if p == -2 else lax.div(first, last)
        return basis.reshape(ratio, s.shape[:-1])
    axes = (a.ndim - 2, a.ndim - 1)
    return lax.mul(_matrix_norm(a, p, axes, False), _matrix_norm(inv(a), p, axes, False))


def lstsq(
    a: Any, b: Any, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Value, Value, Value, Value]:
    """The least-squares solution X of A X = B, of least norm where there are several.

    Args:
        a: ``[m, n]``.
        b: ``[m]`` or ``[m, k]``.
        rcond: Singular values below this part of the greatest count as 0.
        numpy_resid: Whether residuals are empty where NumPy's are.

    Returns:
        X, the sums of squared residuals, the rank of A and its singular values.
    """
    x, y = promote_inexact("lstsq", a, b)
    x = _matrix("lstsq", x)
    y = convert_element_type(y, x.dtype)
    vector = y.ndim == 1
    if x.ndim != 2 or y.ndim not in (1, 2) or x.shape[0] != y.shape[0]:
        raise ShapeError(f"lstsq: a {x.aval} and b {y.aval} do not make a system [m, n] X = [m, k]")
    m, n = x.shape
    cutoff = max(m, n) * float(dtypes.finfo(x.dtype).eps) if rcond is None else rcond
    singular = decompositions.svd(x, compute_uv=False)
    rank = reductions.sum(lax.gt(singular, _cutoff(x, singular, cutoff)))
    columns = basis.reshape(y, (m, 1)) if vector else y
    solution = products.matmul(pinv(x, cutoff), columns)
    gaps = lax.sub(columns, products.matmul(x, solution))
    residuals = reductions.sum(_squares(gaps), 0)
    if numpy_resid and (m <= n or int(rank) < n):
        residuals = lax.slice_in_dim(residuals, 0, 0, axis=0)
    solution = basis.reshape(solution, (n,)) if vector else solution
    return solution, residuals, rank, singular


# ------------------------------------------------------------------------------------ products


def matrix_power(a: Any, n: int) -> Value:
    """The n-th power of square matrices, by squaring; negative powers of the inverse."""
    x = value(a, "matrix_power", "a")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power takes square matrices [..., n, n], got {x.aval}")
    n = operator.index(n)
    if n == 0:
        eye = np.eye(x.shape[-1], dtype=x.dtype)
        return basis.broadcast_to(value(eye), x.shape)
    if n < 0:
        x, n = inv(x), -n
    out: Value | None = None
    while True:
        if n & 1:
            out = x if out is None else products.matmul(out, x)
        n >>= 1
        if not n:
            return out
        x = products.matmul(x, x)


def multi_dot(arrays: Sequence[Any], *, precision: Any = None) -> Value:
    """The product of matrices (vectors at the ends), in the order that costs least."""
    parts = [value(a) for a in arrays]
    if len(parts) < 2:
        raise ShapeError(f"multi_dot needs at least two arrays, got {len(parts)}")
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    if first:
        parts[0] = basis.reshape(parts[0], (1, parts[0].size))
    if last:
        parts[-1] = basis.reshape(parts[-1], (parts[-1].size, 1))
    if any(p.ndim != 2 for p in parts):
        raise ShapeError(f"multi_dot takes matrices, got {', '.join(str(p.aval) for p in parts)}")
    split = _chain_order([parts[0].shape[0], *(p.shape[1] for p in parts)])

    def product(i: int, j: int) -> Value:
        if i == j:
            return parts[i]
        k = split[i, j]
        return products.matmul(product(i, k), product(k + 1, j), precision=precision)

    out = product(0, len(parts) - 1)
    gone = tuple(k for k, is_vector in enumerate((first, last)) if is_vector)
    return shaping.squeeze(out, gone) if gone else out


def _chain_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """For each run of matrices, where its cheapest product is split."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return split


def diagonal(x: Any, /, *, offset: int = 0) -> Value:
    """A diagonal of the last two axes."""
    return diagonals.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Value:
    """The sum of a diagonal of the last two axes."""
    return diagonals.trace(x, offset, -2, -1, dtype)
