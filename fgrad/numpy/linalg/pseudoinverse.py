"""Pseudoinverse, rank, condition and least squares."""

from functools import partial
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.core.transforms.custom import custom_jvp
from fgrad.lax import linalg as decompositions
from fgrad.numpy import products, reductions, ufuncs
from fgrad.numpy.linalg.decompositions import svd
from fgrad.numpy.linalg.norms import matrix_norm_over
from fgrad.numpy.linalg.operands import adjoint, matrix, squares
from fgrad.numpy.linalg.solves import inv
from fgrad.numpy.promotion import promote_inexact, value


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
    x = matrix("pinv", a)
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
    return products.matmul(ufuncs.multiply(adjoint(vh), row), adjoint(u))


@_pinv.defjvp
def _pinv_jvp(
    rtol: float | None, hermitian: bool, primals: tuple[Value], tangents: tuple[Value]
) -> tuple[Value, Value]:
    # P' = -P A' P + P Pᴴ A'ᴴ (1 - A P) + (1 - P A) A'ᴴ Pᴴ P
    (x,), (dx,) = primals, tangents
    p = _pinv(rtol, hermitian, x)
    m, n = x.shape[-2:]
    product, dxh, ph = products.matmul, adjoint(dx), adjoint(p)
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
    x = matrix("matrix_rank", x)
    s = decompositions.svd(x, compute_uv=False)
    rtol = tol if rtol is None else rtol
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(dtypes.finfo(x.dtype).eps)
    return reductions.sum(lax.gt(s, _cutoff(x, s, rtol)), -1)


def cond(x: Any, p: Any = None) -> Value:
    """The condition number in the norm `p` (2 where None)."""
    a = matrix("cond", x)
    if p in (None, 2, -2):
        s = decompositions.svd(a, compute_uv=False)
        first = lax.slice_in_dim(s, 0, 1, axis=s.ndim - 1)
        last = lax.slice_in_dim(s, s.shape[-1] - 1, s.shape[-1], axis=s.ndim - 1)
        ratio = lax.div(last, first) if p == -2 else lax.div(first, last)
        return basis.reshape(ratio, s.shape[:-1])
    axes = (a.ndim - 2, a.ndim - 1)
    return lax.mul(matrix_norm_over(a, p, axes, False), matrix_norm_over(inv(a), p, axes, False))


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
    x = matrix("lstsq", x)
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
    residuals = reductions.sum(squares(gaps), 0)
    if numpy_resid and (m <= n or int(rank) < n):
        residuals = lax.slice_in_dim(residuals, 0, 0, axis=0)
    solution = basis.reshape(solution, (n,)) if vector else solution
    return solution, residuals, rank, singular
