"""Arrays made from a shape: counting along an axis, and one value everywhere."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integers
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import Absent, Lowering, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.kinds import constant
from fgrad.lax.shape import Ints, canonical_axis, scalar_like, value

__all__ = [
    "broadcasted_iota",
    "full",
    "full_like",
    "iota",
    "iota_p",
    "zeros_like_array",
]


def _iota_abstract(*, dtype: np.dtype[Any], shape: Ints, dimension: int) -> ShapedArray:
    if not 0 <= dimension < len(shape):
        raise AxisError(f"iota: dimension {dimension} lies outside the shape {list(shape)}")
    if any(n < 0 for n in shape):
        raise ShapeError(f"iota: lengths must not be negative, got {list(shape)}")
    if dtype.kind == "b":
        raise DtypeError("iota: bool does not count; choose an integer or float dtype")
    return ShapedArray(shape, dtype)


def _iota_eager(xp: Any, *, dtype: np.dtype[Any], shape: Ints, dimension: int) -> Any:
    inner = [1] * len(shape)
    inner[dimension] = shape[dimension]
    return xp.broadcast_to(xp.arange(shape[dimension]).astype(dtype).reshape(inner), shape)


iota_p: Primitive = constant(
    "iota",
    doc="The index along one axis.",
    reason="it has no operand",
    abstract=_iota_abstract,
    eager=_iota_eager,
    batch=Absent("it has no operand"),
    lower=Lowering("view", "iota"),
    spec=Absent("it has no operand; tests/lax/test_creation.py checks it"),
)


def iota(dtype: Any, size: int) -> Value:
    """The numbers 0, 1, …, size - 1 in a dtype.

    Example:
        >>> iota(np.float32, 3)
        Array([0., 1., 2.], dtype=float32)
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int) -> Value:
    """An array of a shape whose every element is its index along the axis `dimension`.

    Raises:
        AxisError: The axis does not exist.
        DtypeError: The dtype is bool.

    Example:
        >>> broadcasted_iota(np.int32, (2, 3), 0)
        Array([[0, 0, 0],
               [1, 1, 1]], dtype=int32)
    """
    shape = integers(shape, "iota: shape")
    dimension, dtype = canonical_axis("iota", dimension, len(shape)), dtypes.dtype(dtype)
    aval = _iota_abstract(dtype=dtype, shape=shape, dimension=dimension)
    return bind(iota_p, dtype=aval.dtype, shape=aval.shape, dimension=dimension)


def full(shape: Sequence[int], fill_value: Any, dtype: Any = None) -> Value:
    """An array of a shape, each element of which is `fill_value`.

    Args:
        shape: The shape of the result.
        fill_value: A scalar; differentiable.
        dtype: The dtype of the result; that of `fill_value` if left out.

    Returns:
        ``[*shape]``.

    Raises:
        ShapeError: `fill_value` is not a scalar.

    Example:
        >>> full((2,), 0.5, np.float32)
        Array([0.5, 0.5], dtype=float32)
    """
    if dtype is None:
        fill = value(fill_value)
    else:
        dtype = dtypes.dtype(dtype)
        fill = basis.convert_element_type(scalar_like(fill_value, dtype), dtype)
    if fill.ndim:
        raise ShapeError(f"full: fill_value must be a scalar, got {fill.aval}")
    return basis.broadcast_in_dim(fill, integers(shape, "full: shape"), ())


def full_like(
    x: Any, fill_value: Any, dtype: Any = None, shape: Sequence[int] | None = None
) -> Value:
    """`full` with the shape and dtype of `x` where they are left out; `x` itself is not read.

    Example:
        >>> full_like(np.zeros((2,), np.float32), 3)
        Array([3., 3.], dtype=float32)
    """
    x = value(x)
    return full(
        x.shape if shape is None else shape, fill_value, x.dtype if dtype is None else dtype
    )


def zeros_like_array(x: Any) -> Value:
    """Zeros of the shape and dtype of `x`.

    Example:
        >>> zeros_like_array(np.ones(2, np.float32))
        Array([0., 0.], dtype=float32)
    """
    return full_like(x, 0)
