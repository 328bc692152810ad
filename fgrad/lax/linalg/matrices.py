"""What the rules of matrix factorisations share."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.dtype_kinds import C64, C128, F32, F64
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import MappedAxis, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import mul
from fgrad.lax.complex import conj, real
from fgrad.lax.contract import dot_general

Dims = Sequence[int | None]

# The letters with which the names of BLAS and LAPACK routines begin.
PREFIX = {F32: "s", F64: "d", C64: "c", C128: "z"}


def check_matrix(name: str, x: ShapedArray, *, square: bool) -> None:
    """Raise unless `x` is a stack of (square) matrices of float32, float64 or complex numbers."""
    if x.dtype not in PREFIX:
        raise DtypeError(
            f"{name} takes float32, float64, complex64 or complex128 matrices, got {x}; convert "
            f"it with astype"
        )
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        raise ShapeError(
            f"{name} needs {'square matrices [..., n, n]' if square else 'matrices [..., m, n]'}, "
            f"got {x}"
        )


def matrix(name: str, x: Any) -> Value:
    """A value of float or complex dtype; integers become the default float."""
    x = as_value(x)
    if not dtypes.is_inexact(x.dtype):
        x = basis.convert_element_type(x, dtypes.default_float())
    if x.ndim < 2:
        raise ShapeError(f"{name} needs matrices [..., m, n], got {x.aval}")
    return x


def is_complex(x: Value) -> bool:
    """Whether the dtype is complex."""
    return bool(x.dtype.kind == "c")


def matmul(x: Value, y: Value) -> Value:
    """Products of two stacks of matrices with equal leading axes."""
    n = x.ndim
    batch = tuple(range(n - 2))
    return dot_general(x, y, (((n - 1,), (n - 2,)), (batch, batch)))


def swap(x: Value) -> Value:
    """The transpose of each matrix."""
    n = x.ndim
    return basis.transpose(x, (*range(n - 2), n - 1, n - 2))


def conjugate(x: Value) -> Value:
    """The complex conjugate; real arrays as they are."""
    return conj(x) if is_complex(x) else x


def adjoint(x: Value) -> Value:
    """The conjugate transpose of each matrix."""
    return conjugate(swap(x))


def real_part(x: Value) -> Value:
    """The real part; real arrays as they are."""
    return real(x) if is_complex(x) else x


def keep(x: Value, mask: Any) -> Value:
    """`x` where the matrix `mask` holds, 0 elsewhere: no NaN gets through."""
    return basis.select_n(as_value(mask), basis.scalar(0, x.dtype), x)


def lower(x: Value, k: int = 0) -> Value:
    """The part of each matrix on and below diagonal k."""
    return keep(x, np.tri(x.shape[-2], x.shape[-1], k, dtype=bool))


def upper(x: Value, k: int = 0) -> Value:
    """The part of each matrix on and above diagonal k."""
    return keep(x, ~np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool))


def scaled(x: Value, factor: float) -> Value:
    """`x` times a number."""
    return mul(x, basis.scalar(factor, x.dtype))


def eye(n: int, dtype: Any) -> Value:
    """The identity matrix."""
    return as_value(np.eye(n, dtype=dtype))


def diagonal(x: Value) -> Value:
    """The diagonal of each square matrix: [..., n, n] to [..., n]."""
    return basis.reduce_sum(keep(x, np.eye(x.shape[-1], dtype=bool)), (x.ndim - 1,))


def columns(s: Value) -> Value:
    """[..., n] as [..., 1, n]: scales columns when multiplied."""
    return basis.reshape(s, (*s.shape[:-1], 1, s.shape[-1]))


def rows(s: Value) -> Value:
    """[..., n] as [..., n, 1]: scales rows when multiplied."""
    return basis.reshape(s, (*s.shape, 1))


def as_dtype_of(s: Value, x: Value) -> Value:
    """A real `s` in the dtype of `x`."""
    return basis.convert_element_type(s, x.dtype)


def outer(x: Value, y: Value) -> Value:
    """The products x[:, k] y[:, k]ᴴ of columns: [..., p, k] and [..., q, k] to [..., k, p, q].

    They do not depend on a phase that the columns of x and y share.
    """
    return mul(rows(swap(x)), columns(conjugate(swap(y))))


def norm(x: Any) -> Any:
    """The Frobenius norm of each matrix, as [..., 1, 1] (for specs)."""
    return np.linalg.norm(x, axis=(-2, -1), keepdims=True)


def condition(x: Any) -> Any:
    """The ratio of the outermost singular values of each matrix, as [..., 1, 1] (for specs)."""
    s = np.linalg.svd(x, compute_uv=False)
    ratio = s[..., :1] / s[..., -1:] if s.shape[-1] else np.ones((*s.shape[:-1], 1))
    return ratio[..., None]


def hermitian_from(x: Value, *, lower_half: bool) -> Value:
    """The Hermitian matrix that one triangle of `x` stands for; the diagonal's real part counts."""
    strict = lower(x, -1) if lower_half else upper(x, 1)
    middle = keep(x, np.eye(x.shape[-1], dtype=bool))
    if is_complex(x):
        middle = as_dtype_of(real(middle), x)
    return basis.add_any(basis.add_any(strict, adjoint(strict)), middle)


def batch_leading(prim_of: Callable[[], Primitive]) -> Callable[..., Any]:
    """The batching rule of an operation on stacks of matrices: one more axis in front."""

    def batch(axis: MappedAxis, args: Sequence[Value], dims: Dims, **params: Any) -> Any:
        moved = [basis.lead(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
        prim = prim_of()
        out = bind(prim, *moved, **params)
        return (out, [0] * len(out)) if prim.multiple_results else (out, 0)

    return batch


def is_double(x: ShapedArray) -> bool:
    """Whether the numbers are of double precision."""
    return x.dtype in (F64, C128)


def in_double(operands: Sequence[ShapedArray], results: Sequence[ShapedArray], _params: Any) -> int:
    """The workspace of NumPy's factorisations, which convert single precision to double and back.

    Args:
        operands: The types of the operands.
        results: The types of the results.
    """
    if is_double(operands[0]):
        return 0
    return sum(2 * a.nbytes for a in operands) + sum(a.nbytes for a in results)


def as_results(_operands: Any, results: Sequence[ShapedArray], _params: Any) -> int:
    """The workspace of rules that collect the results of each matrix before they stack them."""
    return results[0].nbytes


def each(x: Any, function: Callable[..., Any], *more: Any) -> list[Any]:
    """`function` of every matrix of stacks with equal leading axes, as a list (eager rules)."""
    count = int(np.prod(x.shape[:-2]))
    flat = [a.reshape((count, *a.shape[-2:])) for a in (x, *more)]
    return [function(*parts) for parts in zip(*flat, strict=True)]


def stacked(xp: Any, parts: Sequence[Any], lead: tuple[int, ...], tail: Any, dtype: Any) -> Any:
    """The results of `each` as one array of shape [*lead, *tail]."""
    out = xp.empty((len(parts), *tail), dtype)
    for i, part in enumerate(parts):
        out[i] = part
    return out.reshape((*lead, *tail))
