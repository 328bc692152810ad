"""Cholesky factors and triangular systems."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Absent,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import mul
from fgrad.lax.linalg import matrices as m

__all__ = ["cholesky", "cholesky_p", "triangular_solve", "triangular_solve_p"]

DTYPES = ("float64", "float32", "complex128", "complex64")


# ---------------------------------------------------------------------------------- cholesky


def _cholesky_abstract(x: ShapedArray) -> ShapedArray:
    m.check_matrix("cholesky", x, square=True)
    return ShapedArray(x.shape, x.dtype)


def _cholesky_eager(xp: Any, x: Any) -> Any:
    _cholesky_abstract(ShapedArray(x.shape, x.dtype))
    if not x.size:
        return x.copy()
    try:
        out = xp.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        # One matrix of the stack is not positive definite: the others still have a factor.
        parts = m.each(x, lambda a: _cholesky_or_nan(xp, a))
        out = m.stacked(xp, parts, x.shape[:-2], x.shape[-2:], x.dtype)
    return out


def _cholesky_or_nan(xp: Any, a: Any) -> Any:
    try:
        return xp.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return xp.tril(xp.full(a.shape, xp.nan, a.dtype))


def _cholesky_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    """DL = L Φ(L⁻¹ dA L⁻ᴴ), where Φ keeps the lower triangle and half of the diagonal.

    From A = L Lᴴ: L⁻¹ dA L⁻ᴴ = L⁻¹ dL + (L⁻¹ dL)ᴴ, the sum of a lower triangle with real diagonal
    and its adjoint (Murray 2016, "Differentiation of the Cholesky decomposition", eq. 8). The
    operation reads the lower triangle of A alone, so dA is the Hermitian matrix it stands for.
    """
    out = bind(cholesky_p, primals[0])
    if tangents[0] is None:
        return out, None
    da = m.hermitian_from(tangents[0], lower_half=True)
    half = triangular_solve(out, da, left_side=True, lower=True)
    both = triangular_solve(out, half, lower=True, transpose_a=True, conjugate_a=True)
    n = out.shape[-1]
    phi = np.asarray(np.tri(n, k=-1) + 0.5 * np.eye(n), out.dtype)
    return out, m.matmul(out, m.lower(mul(both, as_value(phi))))


def _hermitian(x: Any) -> Any:
    low = np.tril(x, -1)
    return low + np.conj(np.swapaxes(low, -1, -2)) + np.real(x) * np.eye(x.shape[-1])


_NOT_LINEAR = Absent("not linear")
_SQUARE = (
    Invalid(("f32[2,3]",), ShapeError, "square"),
    Invalid(("f32[3]",), ShapeError, "square"),
    Invalid(("f16[2,2]",), DtypeError, "float32"),
)

cholesky_p: Primitive = Primitive(
    "cholesky",
    "The lower triangle L with positive diagonal of A = L Lᴴ; NaN where A is not positive.",
    abstract=_cholesky_abstract,
    eager=_cholesky_eager,
    jvp=_cholesky_jvp,
    transpose=_NOT_LINEAR,
    batch=m.batch_leading(lambda: cholesky_p),
    lower=Lowering("library", "potrf", workspace=m.in_double),
    spec=Spec(
        Operand(generator="positive_definite"),
        (Case("n n"), Case("b n n")),
        dtypes=DTYPES,
        reference=lambda x: np.linalg.cholesky(_hermitian(x)),
        ulps=None,
        terms=lambda x: np.broadcast_to(m.condition(x) * np.sqrt(m.norm(x)), x.shape),
        invalid=_SQUARE,
    ),
)


def cholesky(x: Any, *, symmetrize_input: bool = True) -> Value:
    """The Cholesky factor: the lower triangle L with A = L Lᴴ.

    Args:
        x: [..., n, n]: Hermitian positive definite matrices.
        symmetrize_input: Factor (A + Aᴴ)/2, so that the derivative is symmetric too. If False,
            only the lower triangle of `x` is read, and the derivative in the upper one is 0.

    Returns:
        [..., n, n]; lower triangles of NaN for matrices that are not positive definite.

    Raises:
        ShapeError: Not square matrices.
        DtypeError: 8- or 16-bit floats.

    Example:
        >>> cholesky(np.float32([[4, 2], [2, 5]]))
        Array([[2., 0.],
               [1., 2.]], dtype=float32)
    """
    x = m.matrix("cholesky", x)
    if symmetrize_input:
        m.check_matrix("cholesky", x.aval, square=True)
        x = m.scaled(basis.add_any(x, m.adjoint(x)), 0.5)
    return bind(cholesky_p, x)


# --------------------------------------------------------------------------- triangular_solve


def _solve_abstract(
    a: ShapedArray, b: ShapedArray, *,
    left_side: bool, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool,
) -> ShapedArray:  # fmt: skip
    m.check_matrix("triangular_solve", a, square=True)
    if b.dtype != a.dtype:
        raise DtypeError(f"triangular_solve needs operands of one dtype, got a {a} and b {b}")
    side = -2 if left_side else -1
    if b.ndim != a.ndim or b.shape[:-2] != a.shape[:-2] or b.shape[side] != a.shape[-1]:
        raise ShapeError(
            f"triangular_solve: a {a} and b {b} need equal leading axes, and axis {side} of b the "
            f"length {a.shape[-1]}"
        )
    return ShapedArray(b.shape, b.dtype)


def _solve_eager(xp: Any, a: Any, b: Any, **p: Any) -> Any:
    _solve_abstract(ShapedArray(a.shape, a.dtype), ShapedArray(b.shape, b.dtype), **p)
    if not b.size:
        return b.copy()
    if xp is np:
        parts = m.each(a, lambda t, r: _blas_solve(t, r, **p), b)
        return m.stacked(xp, parts, b.shape[:-2], b.shape[-2:], b.dtype)
    t = xp.tril(a) if p["lower"] else xp.triu(a)
    if p["unit_diagonal"]:
        n = a.shape[-1]
        t = t * (1 - xp.eye(n, dtype=a.dtype)) + xp.eye(n, dtype=a.dtype)
    t = t.conj() if p["conjugate_a"] else t
    t = t.swapaxes(-1, -2) if p["transpose_a"] else t
    if p["left_side"]:
        return xp.linalg.solve(t, b)
    return xp.linalg.solve(t.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)


def _blas_solve(
    a: Any, b: Any, *,
    left_side: bool, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool,
) -> Any:  # fmt: skip
    """One system by ?trsm, on the transposed views that column-major BLAS reads without a copy.

    op(A) X = B reads Xᵀ op(A)ᵀ = Bᵀ there: the other side, the other triangle, and transposed
    exactly where op is.
    """
    from scipy.linalg import blas

    trsm = getattr(blas, m.PREFIX[a.dtype] + "trsm")
    conjugate = conjugate_a and a.dtype.kind == "c"
    if conjugate and not transpose_a:
        a, conjugate = a.conj(), False
    return trsm(
        1.0, a.T, b.T, side=int(left_side), lower=int(not lower),
        trans_a=2 if conjugate else int(transpose_a), diag=int(unit_diagonal),
    ).T  # fmt: skip


def _solve_transpose(ct: Value, a: Value, b: Any, **p: Any) -> tuple[None, Value]:
    """B ↦ op(A)⁻¹ b transposes into ct ↦ op(A)⁻ᵀ ct."""
    flipped = {**p, "transpose_a": not p["transpose_a"]}
    return None, bind(triangular_solve_p, a, ct, **flipped)


def _solve_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **p: Any
) -> tuple[Value, Value | None]:
    """From op(A) X = B: dX = op(A)⁻¹ (dB − op(dA) X), dA being what the triangle reads of it."""
    (a, b), (da, db) = primals, tangents
    out = bind(triangular_solve_p, a, b, **p)
    if da is None:
        return out, None if db is None else bind(triangular_solve_p, a, db, **p)
    k = 1 if p["unit_diagonal"] else 0
    da = m.lower(da, -k) if p["lower"] else m.upper(da, k)
    da = m.conjugate(da) if p["conjugate_a"] else da
    da = m.swap(da) if p["transpose_a"] else da
    moved = basis.neg(m.matmul(da, out) if p["left_side"] else m.matmul(out, da))
    return out, bind(triangular_solve_p, a, basis.add_tangents(moved, db), **p)


def fold_columns(
    x: Value, dim: int, size: int, *, left_side: bool
) -> tuple[Value, tuple[int, ...]]:
    """Right-hand sides with a mapped axis as one wider matrix, and the shape to undo it."""
    if left_side:  # [..., n, size·k]
        x = basis.moveaxis(x, dim, x.ndim - 2)
        wide = (*x.shape[:-2], size * x.shape[-1])
    else:  # [..., size·k, n]
        x = basis.moveaxis(x, dim, x.ndim - 3)
        wide = (*x.shape[:-3], size * x.shape[-2], x.shape[-1])
    return basis.reshape(x, wide), x.shape


def _solve_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **p: Any
) -> tuple[Value, int]:
    (a, b), (da, db) = args, dims
    if da is None:
        # One matrix for all: its right-hand sides are solved together.
        assert db is not None
        left = p["left_side"]
        wide, shape = fold_columns(b, db, axis.size, left_side=left)
        out = basis.reshape(bind(triangular_solve_p, a, wide, **p), shape)
        return out, b.ndim - (2 if left else 3)
    moved = [basis.lead(x, d, axis.size) for x, d in ((a, da), (b, db))]
    return bind(triangular_solve_p, *moved, **p), 0


def _solve_reference(
    a: Any, b: Any, *,
    left_side: bool, lower: bool, transpose_a: bool, conjugate_a: bool, unit_diagonal: bool,
) -> Any:  # fmt: skip
    t = np.tril(a) if lower else np.triu(a)
    if unit_diagonal:
        t = t * (1 - np.eye(t.shape[-1])) + np.eye(t.shape[-1])
    t = np.conj(t) if conjugate_a else t
    t = np.swapaxes(t, -1, -2) if transpose_a else t
    return np.linalg.inv(t) @ b if left_side else b @ np.linalg.inv(t)


def _solve_terms(a: Any, b: Any, *, left_side: bool, **flags: bool) -> Any:
    """|op(A)⁻¹| |op(A)| |X|, which bounds the error of substitution (Higham 2002, section 8.2)."""
    eye = np.broadcast_to(np.eye(a.shape[-1]), a.shape)
    inverse = _solve_reference(a, eye, left_side=True, **flags)
    t, x = np.linalg.inv(inverse), _solve_reference(a, b, left_side=left_side, **flags)
    both = np.abs(inverse) @ np.abs(t) if left_side else np.abs(t) @ np.abs(inverse)
    return both @ np.abs(x) if left_side else np.abs(x) @ both


def _case(shapes: str, flags: str) -> Case:
    """Flags: Left, lOwer, Transposed, Conjugated, Unit."""
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    params = {n: c in flags for n, c in zip(names, "lotcu", strict=True)}
    return Case(shapes, params, name=f"{shapes} {flags}")


def _invalid(a: str, b: str, error: type[Exception], match: str) -> Invalid:
    return Invalid((a, b), error, match, **dict(_case("", "l").params))  # type: ignore[arg-type]


triangular_solve_p: Primitive = Primitive(
    "triangular_solve",
    "The solution X of op(A) X = B, or of X op(A) = B, for a triangle A.",
    abstract=_solve_abstract,
    eager=_solve_eager,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=_solve_batch,
    lower=Lowering("library", "trsm", workspace=m.as_results),
    linear="each",
    linear_in=(1,),
    spec=Spec(
        (Operand(generator="triangular"), Operand()),
        (
            _case("n n, n k", "l"),
            _case("b n n, b n k", "lo"),
            _case("3 3, 3 k", "lotu"),
            _case("3 3, 3 k", "ltc"),
            _case("3 3, 3 k", "loc"),
            _case("b n n, b k n", ""),
            _case("b 3 3, b k 3", "otc"),
            _case("3 3, k 3", "tu"),
        ),
        dtypes=DTYPES,
        reference=_solve_reference,
        ulps=None,
        terms=_solve_terms,
        invalid=(
            _invalid("f32[2,3]", "f32[2,1]", ShapeError, "square"),
            _invalid("f32[2,2]", "f32[3,1]", ShapeError, "length 2"),
            _invalid("f32[2,2]", "f64[2,1]", DtypeError, "one dtype"),
            _invalid("f32[1,2,2]", "f32[3,2,1]", ShapeError, "leading"),
        ),
    ),
)


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Value:
    """Solve op(A) X = B, or X op(A) = B, where A is a triangle.

    Args:
        a: [..., n, n]; only one triangle is read.
        b: [..., n, k] with `left_side`, else [..., k, n]; one axis fewer: a vector a system.
        left_side: Whether A stands on the left of X.
        lower: Whether the lower triangle is read, instead of the upper one.
        transpose_a: Whether op transposes.
        conjugate_a: Whether op conjugates.
        unit_diagonal: Take the diagonal as ones, without reading it.

    Returns:
        X, of the shape of `b`; infinities and NaN where the diagonal holds zeros.

    Raises:
        ShapeError: `a` is not square, or `b` does not fit.
        DtypeError: The dtypes differ, or are 8- or 16-bit floats.

    Example:
        >>> a = np.float32([[2, 0], [1, 4]])
        >>> triangular_solve(a, np.float32([[2], [9]]), left_side=True, lower=True)
        Array([[1.],
               [2.]], dtype=float32)
    """
    a = m.matrix("triangular_solve", a)
    b = as_value(b)
    vector = b.ndim == a.ndim - 1
    if vector:
        b = m.rows(b) if left_side else m.columns(b)
    out = bind(
        triangular_solve_p, a, b, left_side=left_side, lower=lower, transpose_a=transpose_a,
        conjugate_a=conjugate_a, unit_diagonal=unit_diagonal,
    )  # fmt: skip
    if vector:
        out = basis.reshape(out, (*out.shape[:-2], out.shape[-2] * out.shape[-1]))
    return out
