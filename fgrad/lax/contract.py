"""Contractions: sums of products over chosen axes of two arrays, on BLAS.

A contraction is linear in each operand, and both transposes are contractions again. No rule copies
an operand: transposed operands reach BLAS as views, and `vmap` of one operand adds a free axis to
it instead of repeating the other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import (
    NOTHING,
    NUMERIC,
    TYPE,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import mul, operands
from fgrad.lax.contract_plans import (
    MATMUL,
    Axes,
    DotDimensionNumbers,
    by_halves,
    fault_of,
    free_axes,
    plan_of,
    pull_plan,
)
from fgrad.lax.precision import Precision, canonical_precision, multiply_in, product_dtype

__all__ = ["Precision", "batch_matmul", "dot", "dot_general", "dot_general_p"]


_NATIVE = NATIVE["f"] | NATIVE["c"]


def _dot_abstract(
    x: ShapedArray, y: ShapedArray, *,
    dimension_numbers: DotDimensionNumbers, precision: Any, preferred_element_type: Any,
) -> ShapedArray:  # fmt: skip
    fault = fault_of(dimension_numbers, x, y)
    if fault is not None:
        error = AxisError if "distinct" in fault else ShapeError
        raise error(
            f"dot_general: lhs {x} and rhs {y} do not contract with dimension_numbers "
            f"{dimension_numbers}: {fault}"
        )
    dtype = product_dtype("dot_general", x, y, preferred_element_type)
    lf, rf = free_axes(dimension_numbers, x.ndim, y.ndim)
    shape = (
        *(x.shape[i] for i in dimension_numbers[1][0]),
        *(x.shape[i] for i in lf),
        *(y.shape[i] for i in rf),
    )
    return ShapedArray(shape, dtype, x.weak_type and y.weak_type)


def _dot_eager(
    xp: Any, x: Any, y: Any, *,
    dimension_numbers: DotDimensionNumbers, precision: Any, preferred_element_type: Any,
) -> Any:  # fmt: skip
    dtype = x.dtype
    if dtype != y.dtype:
        raise ValueError("dtypes")
    if preferred_element_type is None and dtype.num in _NATIVE:
        if dimension_numbers is MATMUL and x.ndim == y.ndim == 2:
            return x.dot(y)
        return plan_of(dimension_numbers, x.ndim, y.ndim)(xp, x, y)
    plan = plan_of(dimension_numbers, x.ndim, y.ndim)
    out = dtype
    if preferred_element_type is not None:
        out = product_dtype(
            "dot_general", ShapedArray(x.shape, dtype), ShapedArray(y.shape, y.dtype),
            preferred_element_type,
        )  # fmt: skip
    if xp is np and (whole := by_halves(dimension_numbers, x, y, out)) is not None:
        return whole(xp, x, y)
    inner = multiply_in(dtype, out)
    return plan(xp, x.astype(inner, copy=False), y.astype(inner, copy=False)).astype(
        out, copy=False
    )


def _dot_workspace(
    operands: Sequence[ShapedArray], results: Sequence[ShapedArray], params: dict[str, Any]
) -> int:
    """What `by_halves` converts and adds up."""
    (x, y), (out,) = operands, results
    if by_halves(params["dimension_numbers"], x, y, out.dtype) is None:
        return 0
    if x.dtype.itemsize <= 2:
        return max(8 * (x.size + y.size + out.size), 16 * out.size)
    return 16 * (x.size + y.size) + 24 * out.size


def _dot_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    (x, y), (dx, dy) = primals, tangents
    out = bind(dot_general_p, x, y, **params)
    first = None if dx is None else bind(dot_general_p, dx, y, **params)
    second = None if dy is None else bind(dot_general_p, x, dy, **params)
    return out, basis.add_tangents(first, second)


def _pull(
    which: int, ct: Value, other: Value, mine: ShapedArray, lhs: int, rhs: int,
    params: dict[str, Any],
) -> Value:  # fmt: skip
    """The cotangent of operand `which`, in its own layout and dtype."""
    back = pull_plan(params["dimension_numbers"], lhs, rhs, which)
    if other.dtype != ct.dtype:
        other = basis.convert_element_type(other, ct.dtype)
    pair = (ct, other) if back.ct_first else (other, ct)
    precision = params["precision"]
    if type(precision) is tuple:  # one entry for lhs, one for rhs: a cotangent has none
        precision = precision[1 - which]
    out = bind(
        dot_general_p, *pair, dimension_numbers=back.dimension_numbers,
        precision=precision, preferred_element_type=None,
    )  # fmt: skip
    if back.permutation is not None:
        out = basis.transpose(out, back.permutation)
    return basis.convert_element_type(out, mine.dtype)


def _dot_transpose(ct: Value, x: Any, y: Any, **params: Any) -> tuple[Value | None, Value | None]:
    if isinstance(x, Unknown):
        mine = x.aval
        return _pull(0, ct, y, mine, mine.ndim, y.ndim, params), None
    mine = y.aval
    return None, _pull(1, ct, x, mine, x.ndim, mine.ndim, params)


def _dot_select(needed: tuple[bool, ...]) -> tuple[int, ...]:
    return (0 if needed[1] else NOTHING, 1 if needed[0] else NOTHING, TYPE(0), TYPE(1))


def _dot_backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, params: dict[str, Any]
) -> tuple[Value | None, Value | None]:
    x, y, x_aval, y_aval = residuals
    lhs, rhs = x_aval.ndim, y_aval.ndim
    return (
        _pull(0, ct, y, x_aval, lhs, rhs, params) if needed[0] else None,
        _pull(1, ct, x, y_aval, lhs, rhs, params) if needed[1] else None,
    )


def _dot_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], *,
    dimension_numbers: DotDimensionNumbers, **params: Any,
) -> tuple[Value, int]:  # fmt: skip
    (x, y), (dx, dy) = args, dims
    (lc, rc), (lb, rb) = dimension_numbers
    if dx is not None:
        lc, lb = basis.shift_axes(lc, dx), basis.shift_axes(lb, dx)
    if dy is not None:
        rc, rb = basis.shift_axes(rc, dy), basis.shift_axes(rb, dy)
    if dx is not None and dy is not None:
        numbers = ((lc, rc), ((dx, *lb), (dy, *rb)))
        return bind(dot_general_p, x, y, dimension_numbers=numbers, **params), 0
    # One operand is mapped: its mapped axis is one more free axis.
    numbers = ((lc, rc), (lb, rb))
    lf, rf = free_axes(numbers, x.ndim, y.ndim)
    out = bind(dot_general_p, x, y, dimension_numbers=numbers, **params)
    if dx is not None:
        return out, len(lb) + lf.index(dx)
    assert dy is not None
    return out, len(lb) + len(lf) + rf.index(dy)


def _letters(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> str:
    """The contraction in the notation of einsum."""
    (lc, rc), (lb, rb) = dimension_numbers
    left = [chr(97 + i) for i in range(lhs)]
    right = [chr(97 + lhs + i) for i in range(rhs)]
    for i, j in zip((*lc, *lb), (*rc, *rb), strict=True):
        right[j] = left[i]
    lf, rf = free_axes(dimension_numbers, lhs, rhs)
    out = [*(left[i] for i in (*lb, *lf)), *(right[j] for j in rf)]
    return f"{''.join(left)},{''.join(right)}->{''.join(out)}"


def _reference(
    x: Any, y: Any, *, dimension_numbers: DotDimensionNumbers, precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:  # fmt: skip
    letters = _letters(dimension_numbers, x.ndim, y.ndim)
    return np.einsum(letters, x, y, dtype=preferred_element_type or np.result_type(x, y))


def _case(shapes: str, lc: Axes, rc: Axes, lb: Axes, rb: Axes) -> Case:
    params = {
        "dimension_numbers": ((lc, rc), (lb, rb)),
        "precision": None,
        "preferred_element_type": None,
    }
    return Case(shapes, params)


def _invalid(types: tuple[str, str], error: type[Exception], match: str, numbers: Any) -> Invalid:
    return Invalid(
        types, error, match,
        dimension_numbers=numbers, precision=None, preferred_element_type=None,
    )  # fmt: skip


def _dot_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    """A sum of one term is a product of elements, which compiles to a kernel."""
    x, y = args
    numbers = params["dimension_numbers"]
    (lc, rc), (lb, rb) = numbers
    plain = params["precision"] is None and params["preferred_element_type"] in (None, x.dtype)
    if not plain or x.dtype != y.dtype or x.dtype.kind == "b":
        return None
    if fault_of(numbers, x.aval, y.aval) is not None or any(x.shape[i] != 1 for i in lc):
        return None
    lf, rf = free_axes(numbers, x.ndim, y.ndim)
    stack, rows, columns = (
        [v.shape[i] for i in axes] for v, axes in ((x, lb), (x, lf), (y, rf))
    )  # fmt: skip
    left = basis.transpose(x, (*lb, *lf, *lc))
    right = basis.transpose(y, (*rb, *rf, *rc))
    return mul(
        basis.reshape(left, (*stack, *rows, *(1,) * len(columns))),
        basis.reshape(right, (*stack, *(1,) * len(rows), *columns)),
    )


dot_general_p = Primitive(
    "dot_general",
    "Sums of products over the contracting axes, for each index of the batch axes.",
    abstract=_dot_abstract,
    eager=_dot_eager,
    jvp=_dot_jvp,
    transpose=_dot_transpose,
    vjp=Pullback(None, _dot_backward, _dot_select),
    batch=_dot_batch,
    lower=Lowering("library", "gemm", workspace=_dot_workspace),
    simplify=_dot_simplify,
    linear="each",
    spec=Spec(
        cases=(
            _case("m k, k n", (1,), (0,), (), ()),
            _case("k m, n k", (0,), (1,), (), ()),
            _case("k, k", (0,), (0,), (), ()),
            _case("m k, k", (1,), (0,), (), ()),
            _case("m, n", (), (), (), ()),
            _case(",n", (), (), (), ()),
            _case("b m k, b k n", (2,), (1,), (0,), (0,)),
            _case("b q h d, b k h d", (3,), (3,), (0, 2), (0, 2)),
            _case("i m j, n j i", (2, 0), (1, 2), (), ()),
            _case("a j m b i, j b i a", (1, 4), (0, 2), (3, 0), (1, 3)),
        ),
        dtypes=NUMERIC,
        reference=_reference,
        ulps=None,
        terms=lambda x, y, **params: _reference(np.abs(x), np.abs(y), **params),
        invalid=(
            _invalid(("f32[2,3]", "f32[4,5]"), ShapeError, "length 3", MATMUL),
            _invalid(("f32[2,3]", "f64[3,5]"), DtypeError, "one dtype", MATMUL),
            _invalid(("f32[2,3]", "f32[3,5]"), AxisError, "within", (((2,), (0,)), ((), ()))),
            _invalid(("f32[2,3]", "f32[3,5]"), ShapeError, "axes", (((0, 1), (0,)), ((), ()))),
            _invalid(("f32[1,3]", "f32[2,3]"), ShapeError, "batch", (((1,), (1,)), ((0,), (0,)))),
        ),
    ),
)


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Sums of products of two arrays over chosen axes; every matrix product is one of these.

    Complex operands are not conjugated. Floats of 16 bits or fewer are multiplied and summed in
    float32 and rounded once.

    Args:
        lhs: An array.
        rhs: An array of the same dtype.
        dimension_numbers: ``((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))``, four
            sequences of axes; paired axes have equal lengths.
        precision: None (full float32), a `Precision`, its name, or a pair for lhs and rhs.
        preferred_element_type: Dtype in which to sum and return; that of the operands if None.

    Returns:
        An array with the batch axes, then the free axes of lhs, then those of rhs.

    Raises:
        ShapeError: Paired axes differ in number or length.
        AxisError: An axis is out of range or named twice.
        DtypeError: The dtypes differ, or `preferred_element_type` cannot hold the products.

    Example:
        >>> x = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> dot_general(x, x, (((1,), (1,)), ((), ())))
        Array([[ 5., 14.],
               [14., 50.]], dtype=float32)
    """
    if dimension_numbers is not MATMUL:
        (lc, rc), (lb, rb) = dimension_numbers
        dimension_numbers = ((tuple(lc), tuple(rc)), (tuple(lb), tuple(rb)))
    if preferred_element_type is not None:
        preferred_element_type = dtypes.dtype(preferred_element_type)
    return bind(
        dot_general_p,
        *operands(lhs, rhs),
        dimension_numbers=dimension_numbers,
        precision=canonical_precision(precision),
        preferred_element_type=preferred_element_type,
    )


def dot(
    lhs: Any,
    rhs: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """The product of two vectors, two matrices, or a matrix and a vector.

    Args:
        lhs: An array with one or two axes; its last axis is contracted.
        rhs: An array with one or two axes; its first axis is contracted.
        precision: As in `dot_general`.
        preferred_element_type: As in `dot_general`.

    Returns:
        An array with the remaining axes of lhs, then of rhs.

    Raises:
        ShapeError: An operand has no axis or more than two, or the lengths differ.
        DtypeError: The dtypes differ.

    Example:
        >>> dot(np.float32([1, 2, 3]), np.float32([4, 5, 6]))
        Array(32., dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    if lhs.ndim not in (1, 2) or rhs.ndim not in (1, 2):
        raise ShapeError(
            f"dot: lhs {lhs.aval} and rhs {rhs.aval} must have one or two axes each; use "
            f"dot_general or fgrad.numpy.matmul"
        )
    numbers = MATMUL if lhs.ndim == 2 else (((0,), (0,)), ((), ()))
    return dot_general(lhs, rhs, numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Value:
    """Matrix products of two stacks of matrices of equal leading axes.

    Args:
        lhs: [..., m, k].
        rhs: [..., k, n], with the leading axes of lhs.
        precision: As in `dot_general`.

    Returns:
        [..., m, n].

    Raises:
        ShapeError: The operands differ in rank or leading axes, or have fewer than two axes.
        DtypeError: The dtypes differ.

    Example:
        >>> batch_matmul(np.ones((2, 1, 3), np.float32), np.ones((2, 3, 1), np.float32))
        Array([[[3.]],
               [[3.]]], dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    if lhs.ndim < 2 or lhs.ndim != rhs.ndim:
        raise ShapeError(
            f"batch_matmul: lhs {lhs.aval} and rhs {rhs.aval} must have the same number of axes, "
            f"two or more"
        )
    batch = tuple(range(lhs.ndim - 2))
    return dot_general(lhs, rhs, (((lhs.ndim - 1,), (lhs.ndim - 2,)), (batch, batch)), precision)
