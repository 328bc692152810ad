"""Polynomials as vectors of coefficients, the highest power first."""

from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.errors import ConcretizationTypeError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import creation, grids, joining, shaping, statistics, ufuncs
from fgrad.numpy.linalg import eigvals, lstsq
from fgrad.numpy.printing import host
from fgrad.numpy.promotion import promote, promote_inexact, promote_numeric, value


def _vector(name: str, p: Any) -> Value:
    x = shaping.atleast_1d(creation.asarray(p) if isinstance(p, list | tuple) else value(p))
    if x.ndim != 1:
        raise ShapeError(f"{name}: coefficients must be a vector, got {x.aval}")
    return x


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Value:
    """The polynomial at points, by Horner's rule.

    Args:
        p: ``[n]``, coefficients.
        x: Any shape.
        unroll: Ignored.

    Example:
        >>> polyval(np.float32([1, 0, 2]), np.float32(3.0))
        Array(11., dtype=float32)
    """
    del unroll
    coefficients, points = promote_numeric("polyval", _vector("polyval", p), x)
    out = lax.full_like(points, 0)
    for c in joining.unstack(coefficients):
        out = lax.add(lax.mul(out, points), c)
    return out


def polyadd(a1: Any, a2: Any) -> Value:
    """The sum of two polynomials."""
    p, q = promote("polyadd", _vector("polyadd", a1), _vector("polyadd", a2))
    n = max(p.size, q.size)
    zero = basis.scalar(0, p.dtype)
    return lax.add(*(lax.pad(v, zero, [(n - v.size, 0, 0)]) for v in (p, q)))


def polysub(a1: Any, a2: Any) -> Value:
    """The difference of two polynomials."""
    return polyadd(a1, ufuncs.negative(_vector("polysub", a2)))


def polymul(a1: Any, a2: Any, *, trim_leading_zeros: bool = False) -> Value:
    """The product of two polynomials."""
    p, q = _vector("polymul", a1), _vector("polymul", a2)
    if trim_leading_zeros:
        p, q = trim_zeros(p, "f"), trim_zeros(q, "f")
    return statistics.convolve(p, q)


def polyder(p: Any, m: int = 1) -> Value:
    """The m-th derivative of a polynomial."""
    x = _vector("polyder", p)
    if m < 0:
        raise ShapeError(f"polyder: the order must not be negative, got {m}")
    for _ in range(m):
        n = x.size
        powers = np.arange(n - 1, 0, -1)
        kind = x.dtype if dtypes.is_inexact(x.dtype) else dtypes.default_int()
        x = ufuncs.multiply(lax.slice_in_dim(x, 0, max(n - 1, 0), axis=0), powers.astype(kind))
    return x


def polyint(p: Any, m: int = 1, k: Any = None) -> Value:
    """The m-th integral of a polynomial; `k` holds the constants, 0 where None."""
    (x,) = promote_inexact("polyint", _vector("polyint", p))
    constants = np.zeros(m, x.dtype) if k is None else k
    constants = shaping.broadcast_to(_vector("polyint", constants), (m,))
    for c in joining.unstack(constants):
        n = x.size
        x = lax.div(x, np.arange(n, 0, -1).astype(x.dtype))
        x = lax.concatenate([x, basis.reshape(basis.convert_element_type(c, x.dtype), (1,))], 0)
    return x


def poly(seq_of_zeros: Any) -> Value:
    """The polynomial with these roots, or the characteristic polynomial of a matrix."""
    (x,) = promote_inexact("poly", creation.asarray(seq_of_zeros))
    if x.ndim == 2:
        x = eigvals(x)
    if x.ndim != 1:
        raise ShapeError(f"poly: needs a vector of roots or a square matrix, got {x.aval}")
    out = lax.full((1,), 1, x.dtype)
    for root in joining.unstack(x):
        factor = joining.stack([ufuncs.const(1, x), ufuncs.negative(root)])
        out = statistics.convolve(out, factor)
    return out


def trim_zeros(filt: Any, trim: str = "fb") -> Value:
    """A concrete vector without its leading ("f") and trailing ("b") zeros."""
    x = _vector("trim_zeros", filt)
    known = x.concrete()
    if known is None:
        raise ConcretizationTypeError("trim_zeros: the length of the result is not known while "
                                      "tracing; keep the zeros")  # fmt: skip
    places = np.flatnonzero(host(known))
    if not places.size:
        return lax.slice_in_dim(x, 0, 0, axis=0)
    start = int(places[0]) if "f" in trim.lower() else 0
    stop = int(places[-1]) + 1 if "b" in trim.lower() else x.size
    return lax.slice_in_dim(x, start, stop, axis=0)


def roots(p: Any, *, strip_zeros: bool = True) -> Value:
    """The roots of a polynomial: the eigenvalues of its companion matrix.

    Args:
        p: ``[n]``, coefficients.
        strip_zeros: Whether to remove leading and trailing zeros first (needs concrete `p`); the
            first coefficient must not be 0 otherwise.
    """
    (x,) = promote_inexact("roots", _vector("roots", p))
    zeros = 0
    if strip_zeros:
        x = trim_zeros(x, "f")
        n = x.size
        x = trim_zeros(x, "b")
        zeros = n - x.size
    kind = dtypes.to_complex(x.dtype)
    found = lax.full((0,), 0, kind)
    if x.size > 1:
        first = basis.reshape(lax.slice_in_dim(x, 0, 1, axis=0), ())
        row = ufuncs.negative(lax.div(lax.slice_in_dim(x, 1, x.size, axis=0), first))
        below = np.eye(x.size - 2, x.size - 1, dtype=x.dtype)
        companion = lax.concatenate([basis.reshape(row, (1, x.size - 1)), value(below)], 0)
        found = eigvals(companion)
    return lax.concatenate([found, lax.full((zeros,), 0, kind)], 0)


def polyfit(
    x: Any, y: Any, deg: int, rcond: float | None = None, full: bool = False, w: Any = None
) -> Any:
    """The polynomial of degree `deg` that fits points with least squares.

    Args:
        x: ``[n]``.
        y: ``[n]`` or ``[n, k]``.
        deg: The degree.
        rcond: Singular values below this part of the greatest count as 0.
        full: Whether to return residuals, rank, singular values and `rcond` too.
        w: ``[n]``, weights of the residuals.
    """
    points, samples = promote_inexact("polyfit", x, y)
    if points.ndim != 1 or samples.ndim not in (1, 2) or points.size != samples.shape[0]:
        raise ShapeError(f"polyfit: {points.aval} and {samples.aval} are no points of one number")
    cutoff = points.size * float(dtypes.finfo(points.dtype).eps) if rcond is None else rcond
    matrix = grids.vander(points, deg + 1)
    if w is not None:
        weights = basis.convert_element_type(value(w), points.dtype)
        matrix = ufuncs.multiply(matrix, basis.reshape(weights, (points.size, 1)))
        shape = (points.size,) + (1,) * (samples.ndim - 1)
        samples = ufuncs.multiply(samples, basis.reshape(weights, shape))
    scale = lax.sqrt(basis.reduce_sum(lax.square(matrix), (0,)))
    matrix = lax.div(matrix, scale)
    found, residuals, rank, singular = lstsq(matrix, samples, cutoff)
    if samples.ndim == 2:
        scale = basis.reshape(scale, (scale.size, 1))
    found = lax.div(found, scale)
    return (found, residuals, rank, singular, cutoff) if full else found
