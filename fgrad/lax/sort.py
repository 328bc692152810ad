"""Sorting along an axis, by one key or several, and the k greatest elements."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integer
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import (
    ANY,
    REAL,
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
from fgrad.lax.creation import broadcasted_iota
from fgrad.lax.kinds import check_kind
from fgrad.lax.shape import canonical_axis, value
from fgrad.lax.take import take_along_axis

__all__ = ["argsort", "sort", "sort_key_val", "sort_p", "top_k", "top_k_p"]


def _sort_abstract(
    *xs: ShapedArray,
    dimension: int,
    is_stable: bool,
    num_keys: int,
) -> list[ShapedArray]:
    types = ", ".join(map(str, xs))
    if not 0 <= dimension < xs[0].ndim:
        raise AxisError(f"sort: dimension {dimension} is no axis of {types}")
    if any(x.shape != xs[0].shape for x in xs):
        raise ShapeError(f"sort: operands need one shape, got {types}")
    if not 1 <= num_keys <= len(xs):
        raise ShapeError(f"sort: num_keys {num_keys} must lie between 1 and {len(xs)}, got {types}")
    return list(xs)


def _comparable(x: Any) -> Any:
    w = basis.wide(x.dtype)
    return x if w is None else x.astype(w)


def _sort_eager(
    xp: Any,
    *xs: Any,
    dimension: int,
    is_stable: bool,
    num_keys: int,
) -> list[Any]:
    if any(x.shape != xs[0].shape for x in xs) or not 1 <= num_keys <= len(xs):
        raise ValueError("operands")
    if len(xs) == 1:
        return [
            xp.sort(_comparable(xs[0]), dimension, kind="stable").astype(xs[0].dtype, copy=False)
        ]
    # The least significant key first: each stable sort keeps the order of those before it.
    order: Any = None
    for key in reversed(xs[:num_keys]):
        key = _comparable(key)
        if order is None:
            order = xp.argsort(key, dimension, kind="stable")
        else:
            by = xp.argsort(xp.take_along_axis(key, order, dimension), dimension, kind="stable")
            order = xp.take_along_axis(order, by, dimension)
    return [xp.take_along_axis(x, order, dimension) for x in xs]


def _sort_workspace(operands: Sequence[ShapedArray], results: Any, params: Any) -> int:
    """Orders of the elements, as 64-bit numbers: three at once where several keys count."""
    order = 8 * operands[0].size
    if len(operands) == 1:
        return 0 if basis.wide(operands[0].dtype) is None else order - operands[0].nbytes
    known = sum(a.nbytes for a in results)
    return order if params["num_keys"] == 1 else max(2 * order, 3 * order - known)


def _sort_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, dimension: int, **params: Any
) -> tuple[list[Value], list[Value | None]]:
    shape = primals[0].shape
    places = broadcasted_iota(_index_dtype(shape[dimension]), shape, dimension)
    *outs, order = bind(sort_p, *primals, places, dimension=dimension, **params)
    return outs, [None if t is None else _permuted(t, order, dimension) for t in tangents]


def _permuted(t: Value, order: Value, axis: int) -> Value:
    return take_along_axis(t, order, axis, unique_indices=True, mode="promise_in_bounds")


def _index_dtype(n: int) -> np.dtype[Any]:
    return np.dtype(np.int32) if n < 2**31 else np.dtype(np.int64)


def _sort_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, dimension: int, **params: Any
) -> tuple[list[Value], list[int]]:
    d = dims[0]
    if d is None or any(e != d for e in dims):
        args, d = [basis.lead(x, e, axis.size) for x, e in zip(args, dims, strict=True)], 0
    outs = bind(sort_p, *args, dimension=dimension + (dimension >= d), **params)
    return outs, [d] * len(outs)


def _sort_reference(*xs: Any, dimension: int, is_stable: bool, num_keys: int) -> list[Any]:
    order = np.lexsort(xs[:num_keys][::-1], dimension)
    return [np.take_along_axis(x, order, dimension) for x in xs]


_ONE = {"dimension": 0, "is_stable": True, "num_keys": 1}

sort_p: Primitive = Primitive(
    "sort",
    "Sort arrays together along one axis, by the first of them.",
    abstract=_sort_abstract,
    eager=_sort_eager,
    jvp=_sort_jvp,
    transpose=Absent("not linear: the order depends on the keys"),
    batch=_sort_batch,
    lower=Lowering("library", "sort", workspace=_sort_workspace),
    multiple_results=True,
    spec=Spec(
        Operand(generator="distinct"),
        (
            Case("m n", _ONE),
            Case("m n, m n", {**_ONE, "dimension": 1}),
            Case("n, n, n", {**_ONE, "num_keys": 2}),
        ),
        dtypes=ANY,
        reference=_sort_reference,
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]",), AxisError, "dimension", **{**_ONE, "dimension": 1}),
            Invalid(("f32[2]", "f32[3]"), ShapeError, "one shape", **_ONE),
            Invalid(("f32[2]",), ShapeError, "num_keys", **{**_ONE, "num_keys": 2}),
        ),
    ),
)


def sort(
    operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1
) -> Value | tuple[Value, ...]:
    """Sort along an axis, in increasing order; NaN comes last.

    Args:
        operand: An array, or a sequence of arrays of one shape that are permuted together.
        dimension: The axis.
        is_stable: Whether equal keys keep their order (they always do here).
        num_keys: How many of the arrays are keys, the first being the most significant.

    Returns:
        The sorted array, or a tuple of them.

    Raises:
        AxisError: The axis does not exist.
        ShapeError: The shapes differ, or `num_keys` is out of range.

    Derivatives:
        All orders; where keys are equal, those of the stable order.

    Example:
        >>> sort(np.array([3, 1, 2], np.float32))
        Array([1., 2., 3.], dtype=float32)
    """
    several = isinstance(operand, tuple | list)
    xs = [value(x) for x in operand] if several else [value(operand)]
    if not xs:
        raise ShapeError("sort: at least one array is needed, got none")
    axis = canonical_axis("sort", dimension, xs[0].ndim)
    outs = bind(
        sort_p,
        *xs,
        dimension=axis,
        is_stable=bool(is_stable),
        num_keys=integer(num_keys, "sort: num_keys"),
    )
    return tuple(outs) if several else outs[0]


def sort_key_val(
    keys: Any, values: Any, dimension: int = -1, is_stable: bool = True
) -> tuple[Value, Value]:
    """Sort keys along an axis, and permute values with them.

    Example:
        >>> sort_key_val(np.array([3, 1], np.int32), np.array([0, 5], np.float32))[1]
        Array([5., 0.], dtype=float32)
    """
    key, val = sort((keys, values), dimension, is_stable)
    return key, val


def argsort(operand: Any, axis: int = -1) -> Value:
    """The stable permutation that sorts along an axis; NaN comes last.

    Returns:
        Indices of the shape of `operand`, int32 (int64 under `enable_x64`).

    Example:
        >>> argsort(np.array([3, 1, 2], np.float32))
        Array([1, 2, 0], dtype=int32)
    """
    x = value(operand)
    axis = canonical_axis("argsort", axis, x.ndim)
    return sort_key_val(x, broadcasted_iota(dtypes.default_int(), x.shape, axis), axis)[1]


# ----------------------------------------------------------------------------------------- top_k

# So many elements for each of the greatest, at least, and they are selected before they are sorted.
_FEW = 8


def _top_k_abstract(x: ShapedArray, *, k: int, axis: int) -> list[ShapedArray]:
    check_kind("top_k", x, "iuf")
    if not 0 <= axis < x.ndim:
        raise AxisError(f"top_k: axis {axis} is no axis of {x}")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k: k = {k} must lie between 0 and the length of axis {axis} of {x}")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [
        ShapedArray(shape, x.dtype, x.weak_type),
        ShapedArray(shape, _index_dtype(x.shape[axis])),
    ]


def _top_k_eager(xp: Any, x: Any, *, k: int, axis: int) -> list[Any]:
    n = x.shape[axis]
    if not 0 <= k <= n or (x.dtype.kind not in "iuf" and basis.wide(x.dtype) is None):
        raise ValueError("operand")
    keys = _comparable(x)
    order = None
    if xp is np and 0 < k <= n // _FEW and x.size:
        order = _order_of_few(keys, k, axis)
    if order is None:
        order = _falling(xp, keys, axis)[(slice(None),) * axis + (slice(0, k),)]
    return [xp.take_along_axis(x, order, axis), order.astype(_index_dtype(n))]


def _falling(xp: Any, keys: Any, axis: int) -> Any:
    """A stable descending order: the stable ascending one of the reversed array, reversed."""
    back = (slice(None),) * axis + (slice(None, None, -1),)
    return keys.shape[axis] - 1 - xp.argsort(keys[back], axis, kind="stable")[back]


def _order_of_few(keys: Any, k: int, axis: int) -> Any:
    """The indices of the k greatest, sorting no others; None where equal ones are left out."""
    rows = np.moveaxis(keys, axis, -1)
    least = np.partition(rows, -k, -1)[..., -k, None]
    taken = ~(rows < least)  # NaN is the greatest, as in a sort
    if np.any(np.count_nonzero(taken, -1) != k):
        return None
    places = np.nonzero(taken)[-1].reshape(*rows.shape[:-1], k)
    order = _falling(np, np.take_along_axis(rows, places, -1), rows.ndim - 1)
    return np.moveaxis(np.take_along_axis(places, order, -1), -1, axis)


def _top_k_workspace(operands: Sequence[ShapedArray], _results: Any, _params: Any) -> int:
    """The order of all elements, rising and falling, as 64-bit numbers."""
    return 16 * operands[0].size


def _top_k_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, k: int, axis: int
) -> tuple[list[Value], list[Value | None]]:
    (x,), (t,) = primals, tangents
    greatest, order = bind(top_k_p, x, k=k, axis=axis)
    return [greatest, order], [_permuted(t, order, axis), None]


def _top_k_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, k: int, axis: int
) -> tuple[list[Value], list[int]]:
    d = dims[0]
    assert d is not None
    return bind(top_k_p, args[0], k=k, axis=axis + (axis >= d)), [d, d]


def _top_k_reference(x: Any, *, k: int, axis: int) -> list[Any]:
    n = x.shape[axis]
    order = np.flip(n - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    order = np.take(order, range(k), axis).astype(np.int32)
    return [np.take_along_axis(x, order, axis), order]


top_k_p: Primitive = Primitive(
    "top_k",
    "The k greatest elements along an axis, and their indices.",
    abstract=_top_k_abstract,
    eager=_top_k_eager,
    jvp=_top_k_jvp,
    transpose=Absent("not linear: the order depends on the values"),
    batch=_top_k_batch,
    lower=Lowering("library", "top_k", workspace=_top_k_workspace),
    multiple_results=True,
    spec=Spec(
        Operand(generator="distinct"),
        (
            Case("m 4", {"k": 2, "axis": 1}),
            Case("3 n", {"k": 3, "axis": 0}),
        ),
        dtypes=REAL,
        reference=_top_k_reference,
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]",), ShapeError, "between", k=3, axis=0),
            Invalid(("f32[2]",), AxisError, "axis", k=1, axis=1),
            Invalid(("c64[2]",), DtypeError, "takes", k=1, axis=0),
        ),
    ),
)


def top_k(operand: Any, k: int, *, axis: int = -1) -> tuple[Value, Value]:
    """The k greatest elements along an axis in decreasing order, and their indices.

    Of equal elements the one of lower index comes first; NaN counts as greatest.

    Args:
        operand: ``[…, n, …]``, real numbers.
        k: How many, at most n.
        axis: The axis.

    Returns:
        Two arrays ``[…, k, …]``: values, and int32 indices.

    Raises:
        ShapeError: `k` exceeds the length of the axis.
        AxisError: The axis does not exist.
        DtypeError: `operand` is bool or complex.

    Example:
        >>> top_k(np.array([3, 1, 2], np.float32), 2)[1]
        Array([0, 2], dtype=int32)
    """
    x = value(operand)
    found = bind(top_k_p, x, k=integer(k, "top_k: k"), axis=canonical_axis("top_k", axis, x.ndim))
    return found[0], found[1]
