"""LU factors with row pivoting, and systems solved by them."""

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
from fgrad.lax.compare import eq
from fgrad.lax.linalg import matrices as m
from fgrad.lax.linalg.triangular import DTYPES, triangular_solve

__all__ = [
    "lu",
    "lu_p",
    "lu_pivots_to_permutation",
    "lu_pivots_to_permutation_p",
    "lu_solve",
]

INT32 = np.dtype(np.int32)


# ---------------------------------------------------------------------------------------- lu


def _lu_abstract(x: ShapedArray) -> list[ShapedArray]:
    m.check_matrix("lu", x, square=False)
    *lead, rows, columns = x.shape
    return [
        ShapedArray(x.shape, x.dtype),
        ShapedArray((*lead, min(rows, columns)), INT32),
        ShapedArray((*lead, rows), INT32),
    ]


def _lu_eager(xp: Any, x: Any) -> list[Any]:
    avals = _lu_abstract(ShapedArray(x.shape, x.dtype))
    if xp is np:
        from scipy.linalg import lapack

        getrf = getattr(lapack, m.PREFIX[x.dtype] + "getrf")
    else:
        from cupyx.scipy.linalg import lu_factor  # noqa: PLC0415

        def getrf(a: Any) -> Any:
            return lu_factor(a, check_finite=False)

    rows, columns = x.shape[-2:]
    if not x.size:
        parts = []
    else:
        parts = m.each(x, lambda a: getrf(a)[:2])
    k = min(rows, columns)
    lead = x.shape[:-2]
    pivots = m.stacked(xp, [p[1] for p in parts], lead, (k,), INT32) if parts else None
    if pivots is None:
        order = xp.broadcast_to(xp.arange(rows, dtype=INT32), avals[2].shape).copy()
        return [x.copy(), xp.zeros(avals[1].shape, INT32), order]
    factors = m.stacked(xp, [p[0] for p in parts], lead, (rows, columns), x.dtype)
    return [factors, pivots, _permutation(xp, pivots, rows)]


def _permutation(xp: Any, pivots: Any, rows: int) -> Any:
    """The order of rows that exchanges i ↔ pivots[i], one after the other, lead to."""
    out = xp.broadcast_to(xp.arange(rows, dtype=INT32), (*pivots.shape[:-1], rows)).copy()
    for i in range(pivots.shape[-1]):
        j = pivots[..., i : i + 1].astype(np.int64)
        there = xp.take_along_axis(out, j, -1)
        xp.put_along_axis(out, j, out[..., i : i + 1].copy(), -1)
        out[..., i : i + 1] = there
    return out


def permuted(x: Value, permutation: Value, *, inverse: bool = False) -> Value:
    """Rows of `x` in the order of `permutation` [..., n], by a product with its matrix."""
    n = permutation.shape[-1]
    index = as_value(np.arange(n, dtype=INT32))
    matrix = basis.convert_element_type(eq(m.rows(permutation), index), x.dtype)
    return m.matmul(m.swap(matrix) if inverse else matrix, x)


def _repeated(x: Value, lead: tuple[int, ...]) -> Value:
    """A matrix as a stack of equal ones."""
    return basis.broadcast_to(x, (*lead, *x.shape))


def _lu_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], list[Value | None]]:
    """DL = L tril(W, −1), dU = triu(W) U, for W = L⁻¹ (P dA) U⁻¹.

    From P A = L U: L⁻¹ P dA U⁻¹ = L⁻¹ dL + dU U⁻¹, a strictly lower and an upper triangle (the
    exchanges P are locally constant). Of a rectangular A, the shorter factor is completed to a
    square triangle by the identity, which leaves both parts on their side of the diagonal.
    """
    (x,) = primals
    outs = bind(lu_p, x)
    (dx,) = tangents
    if dx is None:
        return outs, [None, None, None]
    factors, _, permutation = outs
    rows, columns = x.shape[-2:]
    k = min(rows, columns)
    low = m.lower(factors, -1)
    full_l = basis.add_any(_corner(low, rows, k), m.eye(rows, x.dtype))
    full_u = m.upper(factors) if rows == columns else _corner_u(m.upper(factors), columns, k)
    half = triangular_solve(
        full_l, permuted(dx, permutation), left_side=True, lower=True, unit_diagonal=True
    )
    w = triangular_solve(full_u, half)
    dl = m.matmul(full_l, m.lower(w, -1))
    du = m.matmul(m.upper(w), full_u)
    return outs, [basis.add_any(dl, du), None, None]


def _corner(low: Value, n: int, k: int) -> Value:
    """The first k columns of [..., n, c] as columns of [..., n, n], zeros behind."""
    c = low.shape[-1]
    if c == n:
        return low
    place = as_value(np.eye(c, n, dtype=low.dtype) * (np.arange(n) < k))
    return m.matmul(low, _repeated(place, low.shape[:-2]))


def _corner_u(up: Value, n: int, k: int) -> Value:
    """The first k rows of [..., r, n] as rows of [..., n, n], the identity below."""
    r = up.shape[-2]
    place = as_value(np.eye(n, r, dtype=up.dtype) * (np.arange(n) < k)[:, None])
    rest = as_value(np.diag(np.arange(n) >= k).astype(up.dtype))
    return basis.add_any(m.matmul(_repeated(place, up.shape[:-2]), up), rest)


def _lu_reference(x: Any) -> list[Any]:
    """By Gaussian elimination with row pivoting."""
    lead, (rows, columns) = x.shape[:-2], x.shape[-2:]
    k = min(rows, columns)
    factors = np.array(x).reshape((int(np.prod(lead)), rows, columns))
    pivots = np.zeros((len(factors), k), INT32)
    orders = np.tile(np.arange(rows, dtype=INT32), (len(factors), 1))
    for a, pivot, order in zip(factors, pivots, orders, strict=True):
        for i in range(k):
            j = i + int(np.argmax(np.abs(a[i:, i].real) + np.abs(a[i:, i].imag)))
            pivot[i] = j
            a[[i, j]], order[[i, j]] = a[[j, i]], order[[j, i]]
            a[i + 1 :, i] /= a[i, i]
            a[i + 1 :, i + 1 :] -= np.outer(a[i + 1 :, i], a[i, i + 1 :])
    return [
        factors.reshape(x.shape), pivots.reshape((*lead, k)), orders.reshape((*lead, rows)),
    ]  # fmt: skip


lu_p: Primitive = Primitive(
    "lu",
    "P A = L U with row pivoting: both factors in one matrix, the exchanges, the row order.",
    abstract=_lu_abstract,
    eager=_lu_eager,
    jvp=_lu_jvp,
    transpose=Absent("not linear"),
    batch=m.batch_leading(lambda: lu_p),
    lower=Lowering("library", "getrf", workspace=m.as_results),
    multiple_results=True,
    spec=Spec(
        # Each pivot is greater than what is below it by far, in rows of any order. Left out: ties
        # of pivots, where the factors jump, and rank below min(m, n), where U is singular.
        Operand(-1.0, 1.0, generator="pivoted"),
        (Case("m n"), Case("b n n"), Case("b m n")),
        dtypes=DTYPES,
        reference=_lu_reference,
        ulps=None,
        terms=lambda x: [
            np.broadcast_to(m.condition(x) * m.norm(x), x.shape),
            *(np.zeros(a.shape) for a in _lu_abstract(ShapedArray(x.shape, x.dtype))[1:]),
        ],
        invalid=(
            Invalid(("f32[3]",), ShapeError, "matrices"),
            Invalid(("i32[2,2]",), DtypeError, "float32"),
        ),
    ),
)


def lu(x: Any) -> list[Value]:
    """LU factors with row pivoting: P A = L U.

    Where m > n or m < n, the factors are [m, k] and [k, n] for k = min(m, n).

    Args:
        x: [..., m, n].

    Returns:
        The factors in one matrix (L below the diagonal, its ones left out, and U), the exchanges
        as LAPACK gives them ([..., k] int32, from 0) and the order of rows ([..., m] int32), so
        that ``x[permutation] = L U``. Derivatives exist for the factors only.

    Raises:
        ShapeError: Fewer than two axes.
        DtypeError: 8- or 16-bit floats.

    Example:
        >>> factors, pivots, permutation = lu(np.float32([[1, 2], [2, 2]]))
        >>> factors
        Array([[2. , 2. ],
               [0.5, 1. ]], dtype=float32)
        >>> permutation
        Array([1, 0], dtype=int32)
    """
    return bind(lu_p, m.matrix("lu", x))  # type: ignore[no-any-return]


# ------------------------------------------------------------------ lu_pivots_to_permutation


def _pivots_abstract(pivots: ShapedArray, *, permutation_size: int) -> ShapedArray:
    if pivots.dtype != INT32 or not pivots.ndim:
        raise DtypeError(f"lu_pivots_to_permutation takes int32 [..., k], got {pivots}")
    if permutation_size < pivots.shape[-1]:
        raise ShapeError(
            f"lu_pivots_to_permutation: permutation_size {permutation_size} is less than the "
            f"{pivots.shape[-1]} exchanges of {pivots}"
        )
    return ShapedArray((*pivots.shape[:-1], permutation_size), INT32)


def _pivots_eager(xp: Any, pivots: Any, *, permutation_size: int) -> Any:
    _pivots_abstract(ShapedArray(pivots.shape, pivots.dtype), permutation_size=permutation_size)
    return _permutation(xp, pivots, permutation_size)


def _pivots_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], *, permutation_size: int
) -> tuple[Value, int]:
    pivots = basis.lead(args[0], dims[0], axis.size)
    return bind(lu_pivots_to_permutation_p, pivots, permutation_size=permutation_size), 0


_INTEGERS = Absent("maps integers to integers")

lu_pivots_to_permutation_p: Primitive = Primitive(
    "lu_pivots_to_permutation",
    "The order of rows that a sequence of exchanges leads to.",
    abstract=_pivots_abstract,
    eager=_pivots_eager,
    jvp=_INTEGERS,
    transpose=_INTEGERS,
    vjp=_INTEGERS,
    batch=_pivots_batch,
    lower=Lowering("library", "pivots"),
    differentiable=False,
    spec=Absent(
        "exchanges are not free: tests/lax/test_linalg.py compares it with lu's permutation"
    ),
)


def lu_pivots_to_permutation(pivots: Any, permutation_size: int) -> Value:
    """The order of rows that the exchanges of `lu` lead to.

    Args:
        pivots: [..., k] int32: row i was exchanged with row ``pivots[i]``, for i from 0.
        permutation_size: Number of rows.

    Returns:
        [..., permutation_size] int32.

    Raises:
        DtypeError: Not int32.
        ShapeError: Fewer rows than exchanges.

    Example:
        >>> lu_pivots_to_permutation(np.int32([2, 2]), 3)
        Array([2, 0, 1], dtype=int32)
    """
    return bind(
        lu_pivots_to_permutation_p, as_value(pivots), permutation_size=int(permutation_size)
    )


def lu_solve(factors: Any, permutation: Any, b: Any, trans: int = 0) -> Value:
    """Solve systems whose matrix `lu` has factored.

    Args:
        factors: [..., n, n]: the factors in one matrix.
        permutation: [..., n] int32: the order of rows.
        b: [..., n, k].
        trans: 0 solves A X = B, 1 Aᵀ X = B, 2 Aᴴ X = B.

    Returns:
        X, [..., n, k].

    Raises:
        ShapeError: The operands do not fit.

    Example:
        >>> factors, _, permutation = lu(np.float32([[1, 2], [2, 2]]))
        >>> lu_solve(factors, permutation, np.float32([[5], [6]]))
        Array([[1.],
               [2.]], dtype=float32)
    """
    factors, permutation, b = m.matrix("lu_solve", factors), as_value(permutation), as_value(b)
    low: dict[str, Any] = {"left_side": True, "lower": True, "unit_diagonal": True}
    if trans == 0:
        half = triangular_solve(factors, permuted(b, permutation), **low)
        return triangular_solve(factors, half, left_side=True)
    if trans not in (1, 2):
        raise ShapeError(f"lu_solve: trans={trans!r} must be 0, 1 or 2")
    conjugate_a = trans == 2
    half = triangular_solve(factors, b, left_side=True, transpose_a=True, conjugate_a=conjugate_a)
    out = triangular_solve(factors, half, transpose_a=True, conjugate_a=conjugate_a, **low)
    return permuted(out, permutation, inverse=True)
