"""Determinants."""

from typing import Any, NamedTuple

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.primitive import Value
from fgrad.lax import linalg as decompositions
from fgrad.numpy import diagonals
from fgrad.numpy.linalg.operands import matrix
from fgrad.numpy.promotion import number


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


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
    x = matrix("slogdet", a, square=True)
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
    x = matrix("det", a, square=True)
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
