"""Eigenvalues and eigenvectors, of Hermitian and of general matrices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Case, Invalid, Lowering, Operand, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.argreduce import argmax
from fgrad.lax.arithmetic import add, div, mul, sub
from fgrad.lax.compare import eq, lt
from fgrad.lax.complex import imag, real
from fgrad.lax.linalg import matrices as m
from fgrad.lax.linalg.orthogonal import inverse_gaps
from fgrad.lax.linalg.solve import solve
from fgrad.lax.linalg.triangular import DTYPES

__all__ = ["eig", "eig_p", "eigh", "eigh_p"]


def _invalid(**params: Any) -> tuple[Invalid, ...]:
    return (
        Invalid(("f32[2,3]",), ShapeError, "square", **params),
        Invalid(("i32[2,2]",), DtypeError, "float32", **params),
    )


# -------------------------------------------------------------------------------------- eigh


def _eigh_abstract(x: ShapedArray, *, lower: bool) -> list[ShapedArray]:
    m.check_matrix("eigh", x, square=True)
    return [
        ShapedArray(x.shape, x.dtype),
        ShapedArray(x.shape[:-1], dtypes.real_dtype(x.dtype)),
    ]


def _eigh_eager(xp: Any, x: Any, *, lower: bool) -> list[Any]:
    avals = _eigh_abstract(ShapedArray(x.shape, x.dtype), lower=lower)
    if not x.size:
        return [xp.zeros(a.shape, a.dtype) for a in avals]
    try:
        w, v = xp.linalg.eigh(x, "L" if lower else "U")
    except np.linalg.LinAlgError:  # it did not converge: NaN or infinities in the input
        return [xp.full(a.shape, xp.nan, a.dtype) for a in avals]
    return [v, w]


def _eigh_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, lower: bool
) -> tuple[list[Value], list[Value | None]]:
    """With W = Vᴴ dA V: dw = diag(W), dV = V (F ∘ W) for F[i, j] = 1 / (w[j] − w[i]), F[i, i] = 0.

    (Giles 2008, section 3.1.) F[i, i] = 0 fixes the free phases of complex vectors. Equal
    eigenvalues make F infinite: their vectors have no derivative. One triangle of A is read, so
    dA is the Hermitian matrix that the triangle of the tangent stands for.
    """
    (x,), (dx,) = primals, tangents
    v, w = outs = bind(eigh_p, x, lower=lower)
    if dx is None:
        return outs, [None, None]
    da = m.hermitian_from(dx, lower_half=lower)
    inner = m.matmul(m.adjoint(v), m.matmul(da, v))
    dw = m.real_part(m.diagonal(inner))
    f = m.as_dtype_of(inverse_gaps(sub(m.columns(w), m.rows(w))), v)
    return outs, [m.matmul(v, basis.linear_mul(inner, f)), dw]


def _eigh_reference(x: Any, *, lower: bool) -> list[Any]:
    w, v = np.linalg.eigh(x, "L" if lower else "U")
    return [v, w]


def _eigh_observed(outs: Sequence[Value], *, lower: bool) -> list[Value]:
    """The values, and v vᴴ of each vector: its sign or phase is free."""
    v, w = outs
    return [w, m.outer(v, v)]


def _eigh_terms(x: Any, *, lower: bool) -> list[Any]:
    """The norm, and for vectors its ratio to the least gap."""
    w = np.linalg.eigvalsh(x, "L" if lower else "U")
    n = w.shape[-1]
    gaps = np.min(np.diff(w), axis=-1, initial=1.0)[..., None, None, None]
    size = m.norm(x)
    values = np.broadcast_to(size[..., 0], w.shape)
    return [values, np.broadcast_to(size[..., None] / gaps, (*w.shape, n, n))]


eigh_p: Primitive = Primitive(
    "eigh",
    "A = V diag(w) Vᴴ of a Hermitian matrix, w rising: V and w.",
    abstract=_eigh_abstract,
    eager=_eigh_eager,
    jvp=_eigh_jvp,
    transpose=Absent("not linear"),
    batch=m.batch_leading(lambda: eigh_p),
    lower=Lowering("library", "syevd", workspace=m.in_double),
    multiple_results=True,
    spec=Spec(
        # Eigenvalues 1.2 or more apart. Left out: nearly equal ones, where derivatives of vectors
        # grow as 1 / gap (tests/lax/test_linalg.py has them).
        Operand(-1.0, 1.0, generator="hermitian"),
        (Case("n n", {"lower": True}), Case("b n n", {"lower": False})),
        dtypes=DTYPES,
        reference=_eigh_reference,
        ulps=None,
        terms=_eigh_terms,
        observe=_eigh_observed,
        invalid=_invalid(lower=True),
    ),
)


def eigh(
    x: Any, *, lower: bool = True, symmetrize_input: bool = True, sort_eigenvalues: bool = True
) -> list[Value]:
    """Eigenvectors and eigenvalues of Hermitian matrices: A = V diag(w) Vᴴ.

    Eigenvectors are determined up to a sign (real) or a phase (complex); derivatives of
    quantities that do not depend on it are right. Where two eigenvalues are equal, derivatives of
    vectors hold infinities and NaN.

    Args:
        x: [..., n, n].
        lower: Which triangle is read.
        symmetrize_input: Decompose (A + Aᴴ)/2, so that the derivative is symmetric too. If False,
            the derivative in the triangle that is not read is 0.
        sort_eigenvalues: Accepted for JAX's sake; they always rise.

    Returns:
        V [..., n, n], its columns the vectors, and w [..., n], in this order.

    Raises:
        ShapeError: Not square matrices.
        DtypeError: 8- or 16-bit floats.

    Example:
        >>> v, w = eigh(np.float32([[2, 0], [0, 1]]))
        >>> w
        Array([1., 2.], dtype=float32)
    """
    del sort_eigenvalues
    x = m.matrix("eigh", x)
    if symmetrize_input:
        m.check_matrix("eigh", x.aval, square=True)
        x = m.scaled(add(x, m.adjoint(x)), 0.5)
    return bind(eigh_p, x, lower=bool(lower))  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------- eig


def _eig_abstract(
    x: ShapedArray, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool
) -> list[ShapedArray]:
    m.check_matrix("eig", x, square=True)
    dtype = dtypes.to_complex(x.dtype)
    vectors = ShapedArray(x.shape, dtype)
    count = int(compute_left_eigenvectors) + int(compute_right_eigenvectors)
    return [ShapedArray(x.shape[:-1], dtype), *[vectors] * count]


def _eig_eager(
    xp: Any, x: Any, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool
) -> list[Any]:
    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    avals = _eig_abstract(
        ShapedArray(x.shape, x.dtype),
        compute_left_eigenvectors=left, compute_right_eigenvectors=right,
    )  # fmt: skip
    if not x.size:
        return [xp.zeros(a.shape, a.dtype) for a in avals]
    if not bool(xp.isfinite(x).all()):
        return [xp.full(a.shape, xp.nan, a.dtype) for a in avals]
    found: tuple[Any, ...]
    if left:
        found = _eig_by_scipy(x) if xp is np else _eig_by_inverse(xp, x)
    elif right:
        found = xp.linalg.eig(x)
    else:
        found = (xp.linalg.eigvals(x),)
    kept = [found[0], *([found[2]] if left else []), *([found[1]] if right else [])]
    return [a.astype(avals[0].dtype, copy=False) for a in kept]


def _eig_by_scipy(x: Any) -> tuple[Any, Any, Any]:
    """w, right and left vectors (NumPy has no left ones)."""
    from scipy.linalg import eig as scipy_eig

    parts = m.each(x, lambda a: scipy_eig(a, left=True, right=True))
    dtype = dtypes.to_complex(x.dtype)
    w, left, right = (
        m.stacked(np, [p[i] for p in parts], x.shape[:-2], x.shape[d:], dtype)
        for i, d in ((0, -1), (1, -2), (2, -2))
    )
    return w, right, left


def _eig_by_inverse(xp: Any, x: Any) -> tuple[Any, Any, Any]:
    """w, right and left vectors, where the library has no left ones: the rows of V⁻¹, conjugate.

    Normalised as LAPACK does: unit length, and a real element of greatest magnitude.
    """
    w, v = xp.linalg.eig(x)
    left = xp.linalg.inv(v).conj().swapaxes(-1, -2)
    left = left / xp.sqrt(xp.sum(xp.abs(left) ** 2, axis=-2, keepdims=True))
    at = xp.argmax(xp.abs(left), axis=-2)[..., None, :]
    greatest = xp.take_along_axis(left, at, axis=-2)
    return w, v, left * (greatest.conj() / xp.abs(greatest))


def _vector_tangents(v: Value, w: Value, da: Value) -> tuple[Value, Value]:
    """The tangents of w and of right eigenvectors v, for A v = v diag(w).

    With W = V⁻¹ dA V: dw = diag(W), and V (F ∘ W) for F[i, j] = 1 / (w[j] − w[i]) moves each
    vector by multiples of the others (Giles 2008, section 3.1). How much of itself is added keeps
    LAPACK's normalisation: unit length, and a real element of greatest magnitude.
    """
    n = w.shape[-1]
    inner = solve(v, m.matmul(da, v))
    dw = m.diagonal(inner)
    f = inverse_gaps(sub(m.columns(w), m.rows(w)))
    dv = m.matmul(v, basis.linear_mul(inner, f))
    # Length: Re vᴴ dv = 0 for each column.
    along = m.real_part(basis.reduce_sum(mul(m.conjugate(v), dv), (v.ndim - 2,)))
    dv = sub(dv, mul(v, m.as_dtype_of(m.columns(along), v)))
    # Phase: the tangent of the element of greatest magnitude, which is real, stays real.
    size = add(mul(real(v), real(v)), mul(imag(v), imag(v)))
    place = argmax(size, size.ndim - 2)
    index = as_value(np.arange(n, dtype=place.dtype).reshape(n, 1))
    mask = eq(m.columns(place), index)
    zero = basis.scalar(0, size.dtype)
    greatest = basis.reduce_sum(basis.select_n(mask, zero, real(v)), (v.ndim - 2,))
    turning = basis.reduce_sum(basis.select_n(mask, zero, imag(dv)), (v.ndim - 2,))
    angle = m.columns(div(turning, greatest))
    i = basis.scalar(1j, v.dtype)
    return dw, sub(dv, mul(mul(v, i), m.as_dtype_of(angle, v)))


def _eig_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *,
    compute_left_eigenvectors: bool, compute_right_eigenvectors: bool,
) -> tuple[list[Value], list[Value | None]]:  # fmt: skip
    """See `_vector_tangents`; left vectors of A are right ones of Aᴴ, with conjugate values."""
    (x,), (dx,) = primals, tangents
    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    both = bind(eig_p, x, compute_left_eigenvectors=left, compute_right_eigenvectors=True)
    w, v = both[0], both[-1]
    outs = both if right else both[:-1]
    if dx is None or not x.shape[-1]:
        return outs, [None] * len(outs)
    da = m.as_dtype_of(dx, v)
    dw, dv = _vector_tangents(v, w, da)
    tangents_out: list[Value | None] = [dw]
    if left:
        tangents_out.append(_vector_tangents(both[1], m.conjugate(w), m.adjoint(da))[1])
    if right:
        tangents_out.append(dv)
    return outs, tangents_out


def _eig_reference(
    x: Any, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool
) -> list[Any]:  # fmt: skip
    w, v = np.linalg.eig(x)
    u = np.conj(np.swapaxes(np.linalg.inv(v), -1, -2))  # Uᴴ A = diag(w) Uᴴ, lengths but for
    u = u / np.linalg.norm(u, axis=-2, keepdims=True)
    kept = [w, *([u] if compute_left_eigenvectors else []),
            *([v] if compute_right_eigenvectors else [])]  # fmt: skip
    return [np.asarray(a, np.complex128) for a in kept]


def _eig_observed(outs: Sequence[Value], **_flags: bool) -> list[Value]:
    """The values in an order of their own, and v vᴴ of each vector in the same.

    LAPACK's order and the phases of vectors jump between near matrices.
    """
    w, *vectors = outs
    n = w.shape[-1]
    # No line of the plane through two of the spec's eigenvalues has this slope, nearly.
    key = add(real(w), m.scaled(imag(w), 0.618))
    before = basis.convert_element_type(lt(m.rows(key), m.columns(key)), np.int32)
    rank = basis.reduce_sum(before, (before.ndim - 2,))
    order = eq(m.columns(rank), as_value(np.arange(n, dtype=np.int32).reshape(n, 1)))
    order = basis.convert_element_type(order, w.dtype)
    parts = [m.rows(w)]
    for v in vectors:
        products = m.outer(v, v)
        parts.append(basis.reshape(products, (*products.shape[:-2], n * n)))
    return [m.matmul(order, p) for p in parts]


def _eig_terms(x: Any, **flags: bool) -> list[Any]:
    """Norms: an error in A moves a value by cond V times it, a vector by cond V² / gap times it."""
    w, v = np.linalg.eig(x)
    n = w.shape[-1]
    apart = np.abs(w[..., :, None] - w[..., None, :]) + 9 * np.eye(n)
    gaps = np.min(apart, axis=(-2, -1), initial=1.0)[..., None, None]
    size, skew = m.norm(x), m.condition(v)
    values = np.broadcast_to(size * skew, (*w.shape, 1))
    vectors = np.broadcast_to(size * skew**2 / gaps, (*w.shape, n * n))
    return [values, *[vectors] * sum(flags.values())]


def _eig_case(shape: str, left: bool, right: bool, name: str) -> Case:
    return Case(
        shape,
        {"compute_left_eigenvectors": left, "compute_right_eigenvectors": right},
        name=f"{shape} {name}",
    )


eig_p: Primitive = Primitive(
    "eig",
    "A V = V diag(w) of a general matrix: w, then left and right vectors as asked for.",
    abstract=_eig_abstract,
    eager=_eig_eager,
    jvp=_eig_jvp,
    transpose=Absent("not linear"),
    batch=m.batch_leading(lambda: eig_p),
    lower=Lowering("library", "geev", workspace=m.in_double),
    multiple_results=True,
    spec=Spec(
        # Eigenvalues 1.5 or more apart, vectors not far from orthogonal. Left out: nearly equal
        # values and nearly parallel vectors, where derivatives grow as cond V / gap. That the
        # derivatives keep LAPACK's phases is tested in tests/lax/test_linalg.py.
        Operand(-1.0, 1.0, generator="diagonalizable"),
        (
            _eig_case("n n", False, False, "values"),
            _eig_case("b n n", False, True, "right"),
            _eig_case("3 3", True, True, "both"),
        ),
        dtypes=DTYPES,
        reference=_eig_reference,
        ulps=None,
        terms=_eig_terms,
        observe=_eig_observed,
        invalid=_invalid(compute_left_eigenvectors=False, compute_right_eigenvectors=True),
    ),
)


def eig(
    x: Any, *, compute_left_eigenvectors: bool = True, compute_right_eigenvectors: bool = True
) -> list[Value]:
    """Eigenvalues and eigenvectors of general square matrices: A V = V diag(w).

    Vectors have unit length and a real element of greatest magnitude, as LAPACK gives them, and
    derivatives keep that. Where two eigenvalues are equal, derivatives of vectors hold infinities
    and NaN; where the matrix has no basis of eigenvectors, so do those of values.

    Args:
        x: [..., n, n].
        compute_left_eigenvectors: Whether to return U with Uᴴ A = diag(w) Uᴴ.
        compute_right_eigenvectors: Whether to return V.

    Returns:
        w [..., n], then U and V [..., n, n] as asked for; complex.

    Raises:
        ShapeError: Not square matrices.
        DtypeError: 8- or 16-bit floats.

    Example:
        >>> (w,) = eig(
        ...     np.float32([[0, 1], [-1, 0]]),
        ...     compute_left_eigenvectors=False,
        ...     compute_right_eigenvectors=False,
        ... )
        >>> sorted(np.asarray(w).imag.tolist())
        [-1.0, 1.0]
    """
    return bind(  # type: ignore[no-any-return]
        eig_p, m.matrix("eig", x),
        compute_left_eigenvectors=bool(compute_left_eigenvectors),
        compute_right_eigenvectors=bool(compute_right_eigenvectors),
    )  # fmt: skip
