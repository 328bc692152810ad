"""QR and singular value decompositions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, LinalgError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Case, Invalid, Lowering, Operand, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, div, mul, sign, sub
from fgrad.lax.linalg import matrices as m
from fgrad.lax.linalg.triangular import DTYPES, triangular_solve
from fgrad.lax.slicing import slice_in_dim

__all__ = ["qr", "qr_p", "svd", "svd_p"]

_INVALID = (
    Invalid(("f32[3]",), ShapeError, "matrices", full_matrices=False),
    Invalid(("i32[2,2]",), DtypeError, "float32", full_matrices=False),
)


# ---------------------------------------------------------------------------------------- qr


def _qr_abstract(x: ShapedArray, *, full_matrices: bool) -> list[ShapedArray]:
    m.check_matrix("qr", x, square=False)
    *lead, rows, columns = x.shape
    k = rows if full_matrices else min(rows, columns)
    return [
        ShapedArray((*lead, rows, k), x.dtype),
        ShapedArray((*lead, k, columns), x.dtype),
    ]


def _qr_eager(xp: Any, x: Any, *, full_matrices: bool) -> list[Any]:
    q, r = _qr_abstract(ShapedArray(x.shape, x.dtype), full_matrices=full_matrices)
    if not x.size:
        eye = xp.eye(q.shape[-2], q.shape[-1], dtype=x.dtype)
        return [xp.broadcast_to(eye, q.shape).copy(), xp.zeros(r.shape, r.dtype)]
    return list(xp.linalg.qr(x, "complete" if full_matrices else "reduced"))


def _qr_workspace(operands: Sequence[ShapedArray], results: Sequence[ShapedArray], _: Any) -> int:
    """NumPy keeps the reflectors in a copy, and converts single precision to double and back."""
    (x,), (q, r) = operands, results
    return x.nbytes if m.is_double(x) else 2 * x.nbytes + 2 * q.nbytes + r.nbytes


def _qr_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, full_matrices: bool
) -> tuple[list[Value], list[Value | None]]:
    """With A₁ the first k = min(m, n) columns of A and W = Qᴴ dA₁ R₁⁻¹:

        Ω  = Qᴴ dQ = tril(W, −1) − tril(W, −1)ᴴ + i Im diag(W)
        dQ = Q Ω + (I − Q Qᴴ) dA₁ R₁⁻¹
        dR = Qᴴ dA − Ω R

    From A = Q R: W = Ω + dR₁ R₁⁻¹, a skew-Hermitian matrix and an upper triangle whose diagonal
    is real, because LAPACK makes that of R real (Walter, Lehmann & Lamour 2012, "On evaluating
    higher-order derivatives of the QR decomposition of tall matrices with full column rank").
    The rest of A, where it is wide, enters dR alone.
    """  # noqa: D415
    (x,), (dx,) = primals, tangents
    q, r = outs = bind(qr_p, x, full_matrices=full_matrices)
    if dx is None:
        return outs, [None, None]
    rows, columns = x.shape[-2:]
    if full_matrices and rows > columns:
        raise LinalgError(
            f"qr: the last {rows - columns} columns of Q of {x.aval} are no function of the "
            f"matrix, so full_matrices=True has no derivative here; use full_matrices=False"
        )
    k = min(rows, columns)
    dx1, r1 = slice_in_dim(dx, 0, k, axis=-1), slice_in_dim(r, 0, k, axis=-1)
    qh = m.adjoint(q)
    scaled = triangular_solve(r1, dx1)  # dA₁ R₁⁻¹
    w = m.matmul(qh, scaled)
    low = m.lower(w, -1)
    omega = sub(low, m.adjoint(low))
    if m.is_complex(x):
        middle = m.keep(w, np.eye(k, dtype=bool))
        omega = add(omega, sub(middle, m.as_dtype_of(m.real_part(middle), w)))
    dq = m.matmul(q, omega)
    if rows > columns:
        dq = add(dq, sub(scaled, m.matmul(q, w)))
    dr = sub(m.matmul(qh, dx), m.matmul(omega, r))
    return outs, [dq, m.upper(dr)]


def _qr_observed(outs: Sequence[Value], *, full_matrices: bool) -> list[Value]:
    """The factors with a positive diagonal of R: a row of R and column of Q share a sign."""
    q, r = outs
    k, n = min(r.shape[-2:]), r.shape[-1]
    square = slice_in_dim(r, 0, k, axis=-1)
    signs = m.as_dtype_of(sign(m.real_part(m.diagonal(square))), q)
    return [mul(q, m.columns(signs)), mul(r, m.rows(signs)) if n else r]


def _qr_terms(x: Any, *, full_matrices: bool) -> list[Any]:
    """Norms: backward stable, so the errors are those of a matrix that is off by roundings."""
    q, r = _qr_abstract(ShapedArray(x.shape, x.dtype), full_matrices=full_matrices)
    size = m.condition(x)
    return [np.broadcast_to(size, q.shape), np.broadcast_to(size * m.norm(x), r.shape)]


qr_p: Primitive = Primitive(
    "qr",
    "A = Q R: orthonormal columns and an upper triangle.",
    abstract=_qr_abstract,
    eager=_qr_eager,
    jvp=_qr_jvp,
    transpose=Absent("not linear"),
    batch=m.batch_leading(lambda: qr_p),
    lower=Lowering("library", "geqrf", workspace=_qr_workspace),
    multiple_results=True,
    spec=Spec(
        # Singular values of 0.8 and more. Left out: matrices whose first columns are nearly
        # dependent, where the derivative grows as the condition number; full_matrices=True of
        # tall ones, which have no derivative (tests/lax/test_linalg.py).
        Operand(-1.0, 1.0, generator="well_conditioned"),
        (
            Case("m n", {"full_matrices": False}),
            Case("b m n", {"full_matrices": False}),
            Case("b 2 3", {"full_matrices": True}),
        ),
        dtypes=DTYPES,
        reference=lambda x, *, full_matrices: list(
            np.linalg.qr(x, "complete" if full_matrices else "reduced")
        ),
        ulps=None,
        terms=_qr_terms,
        observe=_qr_observed,
        invalid=_INVALID,
    ),
)


def qr(x: Any, *, full_matrices: bool = True) -> list[Value]:
    """QR decomposition: A = Q R.

    The diagonal of R is real, of whatever sign LAPACK's reflections give it.

    Args:
        x: [..., m, n].
        full_matrices: Complete Q to [m, m]. Where m > n the added columns are arbitrary, so this
            has no derivative there.

    Returns:
        Q [..., m, k] and R [..., k, n], with k = m if `full_matrices` and min(m, n) otherwise.

    Raises:
        ShapeError: Fewer than two axes.
        DtypeError: 8- or 16-bit floats.
        LinalgError: A derivative of the arbitrary columns is asked for.

    Example:
        >>> q, r = qr(np.float32([[3], [4]]), full_matrices=False)
        >>> r
        Array([[-5.]], dtype=float32)
    """
    return bind(qr_p, m.matrix("qr", x), full_matrices=bool(full_matrices))  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------- svd


def _svd_abstract(x: ShapedArray, *, full_matrices: bool, compute_uv: bool) -> list[ShapedArray]:
    m.check_matrix("svd", x, square=False)
    *lead, rows, columns = x.shape
    k = min(rows, columns)
    s = ShapedArray((*lead, k), dtypes.real_dtype(x.dtype))
    if not compute_uv:
        return [s]
    p, q = (rows, columns) if full_matrices else (k, k)
    return [
        s,
        ShapedArray((*lead, rows, p), x.dtype),
        ShapedArray((*lead, q, columns), x.dtype),
    ]


def _svd_eager(xp: Any, x: Any, *, full_matrices: bool, compute_uv: bool) -> list[Any]:
    avals = _svd_abstract(
        ShapedArray(x.shape, x.dtype), full_matrices=full_matrices, compute_uv=compute_uv
    )
    if not x.size:
        out = [xp.zeros(avals[0].shape, avals[0].dtype)]
        for a in avals[1:]:
            eye = xp.eye(a.shape[-2], a.shape[-1], dtype=a.dtype)
            out.append(xp.broadcast_to(eye, a.shape).copy())
        return out
    try:
        found = xp.linalg.svd(x, full_matrices, compute_uv)
    except np.linalg.LinAlgError:  # it did not converge: NaN or infinities in the input
        return [xp.full(a.shape, xp.nan, a.dtype) for a in avals]
    return [found[1], found[0], found[2]] if compute_uv else [found]


def _svd_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, full_matrices: bool,
    compute_uv: bool,
) -> tuple[list[Value], list[Value | None]]:  # fmt: skip
    """With W = Uᴴ dA V, and F[i, j] = 1 / (s[j]² − s[i]²) off the diagonal:

        ds = Re diag(W)
        dU = U (F ∘ (W S + S Wᴴ) + D) + (I − U Uᴴ) dA V S⁻¹
        dV = V (F ∘ (S W + Wᴴ S)) + (I − V Vᴴ) dAᴴ U S⁻¹

    (Giles 2008, "An extended collection of matrix derivative results", section 3.4.) For complex
    A the phases of the vectors are free: the whole rotation D = i Im diag(W) S⁻¹ is given to U.
    Equal singular values make F infinite: their vectors have no derivative.
    """  # noqa: D415
    (x,), (dx,) = primals, tangents
    outs = bind(svd_p, x, full_matrices=full_matrices, compute_uv=compute_uv)
    if dx is None:
        return outs, [None] * len(outs)
    rows, columns = x.shape[-2:]
    if compute_uv and full_matrices and rows != columns:
        raise LinalgError(
            f"svd: the last {abs(rows - columns)} singular vectors of {x.aval} are no function "
            f"of the matrix, so full_matrices=True has no derivative here; use full_matrices=False"
        )
    thin = outs if compute_uv else bind(svd_p, x, full_matrices=False, compute_uv=True)
    s, u, vh = thin
    v = m.adjoint(vh)
    dav = m.matmul(dx, v)
    w = m.matmul(m.adjoint(u), dav)
    ds = m.real_part(m.diagonal(w))
    if not compute_uv:
        return outs, [ds]
    du, dv = _svd_vectors(s, u, v, dx, dav, w)
    return outs, [ds, du, m.adjoint(dv)]


def _svd_vectors(
    s: Value, u: Value, v: Value, dx: Value, dav: Value, w: Value
) -> tuple[Value, Value]:
    rows, columns, k = u.shape[-2], v.shape[-2], s.shape[-1]
    s_cols, s_rows = (m.as_dtype_of(f(s), u) for f in (m.columns, m.rows))
    f = inverse_gaps(mul(sub(s_cols, s_rows), add(s_cols, s_rows)))
    ws, sw = mul(w, s_cols), mul(s_rows, w)
    # Scaled with strong zeros: what does not move is 0, however close two values are.
    inner = basis.linear_mul(add(ws, m.adjoint(ws)), f)
    inverse = div(basis.scalar(1, u.dtype), s_cols)
    if m.is_complex(u):
        middle = m.keep(w, np.eye(k, dtype=bool))
        turning = sub(middle, m.as_dtype_of(m.real_part(middle), w))
        inner = add(inner, basis.linear_mul(turning, inverse))
    du = m.matmul(u, inner)
    dv = m.matmul(v, basis.linear_mul(add(sw, m.adjoint(sw)), f))
    if rows > k:
        du = add(du, basis.linear_mul(sub(dav, m.matmul(u, w)), inverse))
    if columns > k:
        dau = m.matmul(m.adjoint(dx), u)
        dv = add(dv, basis.linear_mul(sub(dau, m.matmul(v, m.adjoint(w))), inverse))
    return du, dv


def inverse_gaps(gaps: Value) -> Value:
    """1 / gaps off the diagonal and 0 on it: [..., n, n]; infinite where two values are equal."""
    n = gaps.shape[-1]
    on = np.eye(n, dtype=bool)
    one, zero = (basis.scalar(c, gaps.dtype) for c in (1, 0))
    safe = basis.select_n(as_value(on), gaps, one)
    return basis.select_n(as_value(on), div(one, safe), zero)


def _svd_observed(outs: Sequence[Value], **_flags: bool) -> list[Value]:
    """The values and u uᴴ, u vᴴ of each pair of vectors, which share a sign or phase."""
    if len(outs) == 1:
        return list(outs)
    s, u, vh = outs
    k = s.shape[-1]
    u, v = slice_in_dim(u, 0, k, axis=-1), m.adjoint(slice_in_dim(vh, 0, k, axis=-2))
    return [s, m.outer(u, u), m.outer(u, v)]


def _svd_terms(x: Any, *, full_matrices: bool, compute_uv: bool) -> list[Any]:
    """The norm, and for vectors its ratio to the least gap."""
    s = np.linalg.svd(x, compute_uv=False)
    rows, columns = x.shape[-2:]
    size = m.norm(x)
    values = np.broadcast_to(size[..., 0], s.shape)
    if not compute_uv:
        return [values]
    gaps = np.min(-np.diff(s, append=0.0), axis=-1, initial=1.0)[..., None, None, None]
    terms = size[..., None] / gaps
    shape = (*s.shape, rows)
    return [
        values,
        np.broadcast_to(terms, (*shape, rows)),
        np.broadcast_to(terms, (*shape, columns)),
    ]


svd_p: Primitive = Primitive(
    "svd",
    "A = U diag(s) Vᴴ with s falling: s, or s, U and Vᴴ.",
    abstract=_svd_abstract,
    eager=_svd_eager,
    jvp=_svd_jvp,
    transpose=Absent("not linear"),
    batch=m.batch_leading(lambda: svd_p),
    lower=Lowering("library", "gesdd", workspace=m.in_double),
    multiple_results=True,
    spec=Spec(
        # Singular values of 0.8 and more, 0.6 apart. Left out: nearly equal ones and those near 0,
        # where derivatives of vectors grow as 1 / gap, and full_matrices=True of matrices that are
        # not square, whose vectors have no derivative (tests/lax/test_linalg.py has both).
        Operand(-1.0, 1.0, generator="well_conditioned"),
        (
            Case("m n", {"full_matrices": False, "compute_uv": False}, name="values"),
            Case("b m n", {"full_matrices": True, "compute_uv": False}, name="batched values"),
            Case("n n", {"full_matrices": True, "compute_uv": True}, name="square"),
            Case("m n", {"full_matrices": False, "compute_uv": True}, name="reduced"),
            Case("b m n", {"full_matrices": False, "compute_uv": True}, name="batched"),
        ),
        dtypes=DTYPES,
        reference=lambda x, *, full_matrices, compute_uv: (
            [np.linalg.svd(x, full_matrices)[i] for i in (1, 0, 2)]
            if compute_uv
            else [np.linalg.svd(x, compute_uv=False)]
        ),
        ulps=None,
        terms=_svd_terms,
        observe=_svd_observed,
        invalid=tuple(
            Invalid(i.types, i.error, i.match, full_matrices=False, compute_uv=True)
            for i in _INVALID
        ),
    ),
)


def svd(x: Any, *, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Singular value decomposition: A = U diag(s) Vᴴ.

    Singular vectors are determined up to a sign (real) or a phase (complex); derivatives of
    quantities that do not depend on it are right. Where two singular values are equal, or one
    is 0 and A is not square, derivatives of vectors hold infinities and NaN; those of s do not.

    Args:
        x: [..., m, n].
        full_matrices: Complete U to [m, m] and Vᴴ to [n, n]. Where m ≠ n the added vectors are
            arbitrary, so their derivative does not exist.
        compute_uv: Whether to return the vectors.

    Returns:
        U [..., m, k], s [..., k] falling, Vᴴ [..., k, n] with k = min(m, n); or s alone.

    Raises:
        ShapeError: Fewer than two axes.
        DtypeError: 8- or 16-bit floats.
        LinalgError: A derivative of arbitrary vectors is asked for.

    Example:
        >>> svd(np.float32([[0, 2], [3, 0]]), compute_uv=False)
        Array([3., 2.], dtype=float32)
    """
    outs = bind(
        svd_p, m.matrix("svd", x), full_matrices=bool(full_matrices), compute_uv=bool(compute_uv)
    )
    return (outs[1], outs[0], outs[2]) if compute_uv else outs[0]
