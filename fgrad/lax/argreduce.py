"""The index of the greatest or least element along an axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import REAL, Case, Invalid, Lowering, MappedAxis, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.kinds import check_kind, constant
from fgrad.lax.shape import canonical_axis, value

__all__ = ["argmax", "argmax_p", "argmin", "argmin_p"]

_ORDERED = "biuf"


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
        lower=Lowering("reduce", name),
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
