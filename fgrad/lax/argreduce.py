"""The index of the greatest or least element along an axis."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import REAL, Case, Invalid, Lowering, MappedAxis, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, mul
from fgrad.lax.bits import bitwise_or
from fgrad.lax.compare import eq, ge, le, ne
from fgrad.lax.creation import broadcasted_iota
from fgrad.lax.extrema import max, min
from fgrad.lax.kinds import check_kind, constant
from fgrad.lax.reduce import reduce_max, reduce_min
from fgrad.lax.shape import canonical_axis, value
from fgrad.lax.slicing import slice_in_dim

__all__ = ["argmax", "argmax_p", "argmin", "argmin_p"]

_ORDERED = "biuf"
_LONG, _PART = 2**15, 2**13  # elements: an axis that is searched in parts, and such a part
_FEW = 16  # elements: an axis that is written out
_COUNTED = np.dtype(np.int32)


# A composition of two reductions, for compilers: the extremum, then the least place that holds it.


class _Extremum(NamedTuple):
    """How an extremum is found: over an axis, of two values, and whether the first is one."""

    reduce: Callable[..., Value]
    pair: Callable[..., Value]
    keeps: Callable[..., Value]


_EXTREMA = {"argmax": _Extremum(reduce_max, max, ge), "argmin": _Extremum(reduce_min, min, le)}


def _search(x: Value, places: Value | None, axis: int, of: _Extremum) -> tuple[Value, Value]:
    """The extremum along an axis, and the least of its places; None: they count from 0."""
    n, beside = x.shape[axis], prod(x.shape[axis + 1 :])
    if n <= _FEW:
        return _search_few(x, places, axis, of)
    if places is None and 1 < beside < _FEW and n >= _FEW**2:  # rows that fill no vector
        return _search_parts(x, axis, of, _FEW)
    if places is None and n >= _LONG:
        return _search_parts(x, axis, of, _PART)
    if places is None:
        places = broadcasted_iota(_COUNTED, x.shape, axis)
    extremum = of.reduce(x, (axis,))
    kept = tuple(i for i in range(x.ndim) if i != axis)
    holding = _holding(x, basis.broadcast_in_dim(extremum, x.shape, kept), places)
    return extremum, reduce_min(holding, (axis,))


def _holding(x: Value, extremum: Value, places: Value) -> Value:
    """The places where `x` is the extremum, or NaN, which the extremum is then; others are last."""
    found = eq(x, extremum)
    if dtypes.is_float(x.dtype):
        found = bitwise_or(found, ne(x, x))
    return basis.select_n(found, basis.scalar(np.iinfo(places.dtype).max, places.dtype), places)


def _search_few(x: Value, places: Value | None, axis: int, of: _Extremum) -> tuple[Value, Value]:
    """As `_search`: element by element, at all positions of the other axes together."""
    kept = tuple(n for i, n in enumerate(x.shape) if i != axis)

    def at(i: int) -> tuple[Value, Value]:
        here = basis.reshape(slice_in_dim(x, i, i + 1, axis=axis), kept)
        if places is None:
            return here, basis.broadcast_in_dim(basis.scalar(i, _COUNTED), kept, ())
        return here, basis.reshape(slice_in_dim(places, i, i + 1, axis=axis), kept)

    extremum, place = at(0)
    for i in range(1, x.shape[axis]):
        here, its = at(i)
        keep = of.keeps(extremum, here)
        if dtypes.is_float(x.dtype):
            keep = bitwise_or(keep, ne(extremum, extremum))
        extremum = basis.select_n(keep, here, extremum)
        place = basis.select_n(keep, its, place)
    return extremum, place


def _search_parts(x: Value, axis: int, of: _Extremum, part: int) -> tuple[Value, Value]:
    """As `_search`: each part is still in a cache when its extremum is looked for."""
    n = x.shape[axis]
    count = n // part
    head = slice_in_dim(x, 0, count * part, axis=axis)
    shape = (*x.shape[:axis], count, part, *x.shape[axis + 1 :])
    of_each, inside = _search(basis.reshape(head, shape), None, axis + 1, of)
    before = mul(broadcasted_iota(_COUNTED, of_each.shape, axis), basis.scalar(part, _COUNTED))
    extremum, place = _search(of_each, add(before, inside), axis, of)
    if count * part == n:
        return extremum, place
    rest = slice_in_dim(x, count * part, n, axis=axis)
    other, inside = _search(rest, None, axis, of)
    beyond = add(inside, basis.scalar(count * part, _COUNTED))
    both = of.pair(extremum, other)
    return both, min(_holding(extremum, both, place), _holding(other, both, beyond))


def _composed(name: str) -> Callable[..., Value]:
    def composed(x: Value, *, axis: int, index_dtype: np.dtype[Any]) -> Value:
        _, place = _search(x, None, axis, _EXTREMA[name])
        return basis.convert_element_type(place, index_dtype)

    return composed


def _spec(name: str) -> Spec:
    i32 = np.dtype(np.int32)
    return Spec(
        cases=(
            Case("m n", {"axis": 0, "index_dtype": i32}, smallest=1),
            Case("m n", {"axis": 1, "index_dtype": np.dtype(np.uint8)}, smallest=1),
        ),
        dtypes=(*REAL, "bool"),
        reference=lambda x, *, axis, index_dtype: getattr(np, name)(x, axis).astype(index_dtype),
        ulps=0.0,
        order=0,
        invalid=(
            Invalid(("f32[2]",), AxisError, "axes", axis=1, index_dtype=i32),
            Invalid(("f32[0]",), ShapeError, "empty", axis=0, index_dtype=i32),
            Invalid(("c64[2]",), DtypeError, "takes", axis=0, index_dtype=i32),
        ),
    )


def _arg_extremum(name: str, doc: str) -> Primitive:
    def abstract(x: ShapedArray, *, axis: int, index_dtype: np.dtype[Any]) -> ShapedArray:
        check_kind(name, x, _ORDERED)
        shape = basis.reduced_aval(name, x, (axis,)).shape
        if not dtypes.is_integer(index_dtype):
            raise DtypeError(f"{name}: index_dtype must be an integer dtype, got {index_dtype}")
        if x.shape[axis] == 0:
            raise ShapeError(f"{name}: axis {axis} of {x} is empty and has no extremum")
        return ShapedArray(shape, index_dtype)

    def eager(xp: Any, x: Any, *, axis: int, index_dtype: np.dtype[Any]) -> Any:
        w = basis.wide(x.dtype)
        wrong = (w is None and x.dtype.kind not in _ORDERED) or index_dtype.kind not in "iu"
        if wrong or axis >= x.ndim or not x.shape[axis]:
            raise ValueError("operand")
        return getattr(xp, name)(x if w is None else x.astype(w), axis).astype(index_dtype)

    def batch(
        _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis: int, **params: Any
    ) -> tuple[Value, int]:
        d = dims[0]
        assert d is not None
        return bind(prim, args[0], axis=axis + (axis >= d), **params), d - (axis < d)

    prim: Primitive = constant(
        name,
        doc=doc,
        reason="an index has no derivative",
        abstract=abstract,
        eager=eager,
        batch=batch,
        lower=Lowering("reduce", name, _composed(name)),
        spec=_spec(name),
    )
    return prim


argmax_p: Primitive = _arg_extremum("argmax", "Index of the first greatest element along an axis.")
argmin_p: Primitive = _arg_extremum("argmin", "Index of the first least element along an axis.")


def argmax(operand: Any, axis: int, index_dtype: Any = None) -> Value:
    """The index of the greatest element along an axis: the first one, or the first NaN.

    Args:
        operand: ``[…, n, …]``, real numbers or bool, n > 0.
        axis: The axis, which is removed.
        index_dtype: An integer dtype; int32 if left out, int64 under `enable_x64`.

    Returns:
        The shape of `operand` without `axis`.

    Raises:
        AxisError: The axis does not exist.
        ShapeError: It is empty.
        DtypeError: `operand` is complex, or `index_dtype` is no integer dtype.

    Example:
        >>> argmax(np.array([1, 3, 3], np.float32), 0)
        Array(1, dtype=int32)
    """
    return _bind_arg(argmax_p, operand, axis, index_dtype)


def argmin(operand: Any, axis: int, index_dtype: Any = None) -> Value:
    """The index of the least element along an axis: the first one, or the first NaN.

    Example:
        >>> argmin(np.array([1, 3, 1], np.float32), 0)
        Array(0, dtype=int32)
    """
    return _bind_arg(argmin_p, operand, axis, index_dtype)


def _bind_arg(prim: Primitive, operand: Any, axis: int, index_dtype: Any) -> Value:
    x = value(operand)
    dtype = dtypes.default_int() if index_dtype is None else dtypes.dtype(index_dtype)
    return bind(prim, x, axis=canonical_axis(prim.name, axis, x.ndim), index_dtype=dtype)
