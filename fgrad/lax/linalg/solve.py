"""General square systems."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    NOTHING,
    OUT,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.linalg import matrices as m
from fgrad.lax.linalg.triangular import DTYPES, fold_columns

__all__ = ["solve", "solve_p"]


def _solve_abstract(a: ShapedArray, b: ShapedArray) -> ShapedArray:
    m.check_matrix("solve", a, square=True)
    if b.dtype != a.dtype:
        raise DtypeError(f"solve needs operands of one dtype, got a {a} and b {b}")
    if b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
        raise ShapeError(f"solve: b {b} must be [..., n, k] with the leading axes and n of a {a}")
    return ShapedArray(b.shape, b.dtype)


def _solve_eager(xp: Any, a: Any, b: Any) -> Any:
    _solve_abstract(ShapedArray(a.shape, a.dtype), ShapedArray(b.shape, b.dtype))
    if not b.size:
        return b.copy()
    try:
        return xp.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        parts = m.each(a, lambda s, t: _solve_or_nan(xp, s, t), b)
        return m.stacked(xp, parts, b.shape[:-2], b.shape[-2:], b.dtype)


def _solve_or_nan(xp: Any, a: Any, b: Any) -> Any:
    try:
        return xp.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return xp.full(b.shape, xp.nan, b.dtype)


def _solve_transpose(ct: Value, a: Value, _b: Any) -> tuple[None, Value]:
    return None, bind(solve_p, m.swap(a), ct)


def _solve_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    """From A X = B: dX = A⁻¹ (dB − dA X)."""
    (a, b), (da, db) = primals, tangents
    out = bind(solve_p, a, b)
    moved = None if da is None else basis.neg(m.matmul(da, out))
    total = basis.add_tangents(moved, db)
    return out, None if total is None else bind(solve_p, a, total)


def _solve_backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, _params: dict[str, Any]
) -> tuple[Value | None, Value | None]:
    """One solve for both: the cotangent of B is Y = A⁻ᵀ ct, that of A is −Y Xᵀ."""
    a, out = residuals
    ct_b = bind(solve_p, m.swap(a), ct)
    ct_a = basis.neg(m.matmul(ct_b, m.swap(out))) if needed[0] else None
    return ct_a, ct_b if needed[1] else None


def _solve_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None]
) -> tuple[Value, int]:
    (a, b), (da, db) = args, dims
    if da is None:
        assert db is not None
        wide, shape = fold_columns(b, db, axis.size, left_side=True)
        return basis.reshape(bind(solve_p, a, wide), shape), b.ndim - 2
    moved = [basis.lead(x, d, axis.size) for x, d in ((a, da), (b, db))]
    return bind(solve_p, *moved), 0


solve_p: Primitive = Primitive(
    "solve",
    "The solution X of A X = B for square matrices A.",
    abstract=_solve_abstract,
    eager=_solve_eager,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    vjp=Pullback(None, _solve_backward, lambda needed: (0, OUT if needed[0] else NOTHING)),
    batch=_solve_batch,
    lower=Lowering("library", "gesv", workspace=m.in_double),
    linear="each",
    linear_in=(1,),
    spec=Spec(
        (Operand(generator="well_conditioned"), Operand()),
        (Case("n n, n k"), Case("b n n, b n k")),
        dtypes=DTYPES,
        reference=lambda a, b: np.linalg.inv(a) @ b,
        ulps=None,
        terms=lambda a, b: m.condition(a) * (np.abs(np.linalg.inv(a)) @ np.abs(b)),
        invalid=(
            Invalid(("f32[2,3]", "f32[2,1]"), ShapeError, "square"),
            Invalid(("f32[2,2]", "f32[3,1]"), ShapeError, "b f32"),
            Invalid(("f32[2,2]", "f64[2,1]"), DtypeError, "one dtype"),
        ),
    ),
)


def solve(a: Any, b: Any) -> Value:
    """Solve A X = B for square matrices A.

    Args:
        a: [..., n, n].
        b: [..., n, k] with the leading axes of `a`; one axis fewer: a vector a system.

    Returns:
        X, of the shape of `b`; NaN for the systems whose matrix is exactly singular.

    Raises:
        ShapeError: `a` is not square, or `b` does not fit.
        DtypeError: The dtypes differ, or are 8- or 16-bit floats.

    Example:
        >>> solve(np.float32([[2, 0], [0, 4]]), np.float32([2, 2]))
        Array([1. , 0.5], dtype=float32)
    """
    a, b = m.matrix("solve", a), as_value(b)
    if b.ndim == a.ndim - 1:
        out = bind(solve_p, a, m.rows(b))
        return basis.reshape(out, out.shape[:-1])
    return bind(solve_p, a, b)
