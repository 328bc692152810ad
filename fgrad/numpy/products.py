"""Products that sum: matmul, dot, tensordot, einsum and their kin."""

from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer, integers
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import shaping, ufuncs
from fgrad.numpy.promotion import promote, value

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
    "vecmat",
]

Dims = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def contract(x: Value, y: Value, dims: Dims, precision: Any, preferred_element_type: Any) -> Value:
    preferred = None if preferred_element_type is None else dtypes.dtype(preferred_element_type)
    weak = x.weak_type and y.weak_type
    out = lax.dot_general(x, y, dims, precision=precision, preferred_element_type=preferred)
    return convert_element_type(out, out.dtype, weak_type=True) if weak else out


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Value:
    """The matrix product of the last two axes, the others broadcast; vectors count as NumPy's do.

    Args:
        a: ``[..., m, k]`` or ``[k]``.
        b: ``[..., k, n]`` or ``[k]``.
        precision: How float32 products are computed; None is full float32.
        preferred_element_type: Dtype of the result and of the accumulation.

    Returns:
        ``[..., m, n]``, without the axes that vectors lack.

    Raises:
        ShapeError: The lengths k differ, or an operand is a scalar.

    Example:
        >>> matmul(np.eye(2, dtype=np.float32), np.array([1.0, 2.0], np.float32))
        Array([1., 2.], dtype=float32)
    """
    x, y = promote("matmul", a, b)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul: operands need axes, got {x.aval} @ {y.aval}; use multiply")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ShapeError(
            f"matmul: the last axis of a and the {'second last' if y.ndim > 1 else 'only'} axis of "
            f"b must have one length, got {x.aval} @ {y.aval}; transpose or reshape one of them"
        )
    if x.ndim <= 2 and y.ndim <= 2:
        return contract(
            x, y, (((x.ndim - 1,), (max(y.ndim - 2, 0),)), ((), ())), precision,
            preferred_element_type,
        )  # fmt: skip
    if x.ndim == 1 or y.ndim <= 2:
        # One operand has no batch axes: a single product gives the axes in their order.
        axis = max(y.ndim - 2, 0)
        return contract(
            x, y, (((x.ndim - 1,), (axis,)), ((), ())), precision, preferred_element_type
        )
    return _batched(x, y, precision, preferred_element_type)


def _batched(x: Value, y: Value, precision: Any, preferred: Any) -> Value:
    """Both have batch axes, or the second alone: those of length 1 are not repeated."""
    rank = max(x.ndim, y.ndim) - 2
    batch_x = (1,) * (rank - x.ndim + 2) + x.shape[:-2]
    batch_y = (1,) * (rank - y.ndim + 2) + y.shape[:-2]
    batch = lax.broadcast_shapes(batch_x, batch_y)
    shared = [i for i in range(rank) if batch_x[i] == batch_y[i]]
    only_x = [i for i in range(rank) if batch_y[i] == 1 and batch_x[i] != 1]
    only_y = [i for i in range(rank) if batch_x[i] == 1 and batch_y[i] != 1]
    x = basis.reshape(x, (*(batch_x[i] for i in (*shared, *only_x)), *x.shape[-2:]))
    y = basis.reshape(y, (*(batch_y[i] for i in (*shared, *only_y)), *y.shape[-2:]))
    s = len(shared)
    dims = (((x.ndim - 1,), (y.ndim - 2,)), (tuple(range(s)), tuple(range(s))))
    out = contract(x, y, dims, precision, preferred)
    # The result has the axes (shared, only_x, m, only_y, n).
    a, b = len(only_x), len(only_y)
    places = {axis: k for k, axis in enumerate(shared)}
    places.update({axis: s + k for k, axis in enumerate(only_x)})
    places.update({axis: s + a + 1 + k for k, axis in enumerate(only_y)})
    order = (*(places[i] for i in range(rank)), s + a, s + a + 1 + b)
    return basis.reshape(basis.transpose(out, order), (*batch, *out.shape[s + a : s + a + 1],
                                                       out.shape[-1]))  # fmt: skip


def dot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Value:
    """The sum of products over the last axis of `a` and the second last of `b`."""
    x, y = promote("dot", a, b)
    if not x.ndim or not y.ndim:
        return ufuncs.multiply(x, y)
    axis = max(y.ndim - 2, 0)
    if x.shape[-1] != y.shape[axis]:
        raise ShapeError(f"dot: the axes summed have different lengths: {x.aval} and {y.aval}")
    return contract(x, y, (((x.ndim - 1,), (axis,)), ((), ())), precision, preferred_element_type)


def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Value:
    """The sum of products of all elements; `a` is conjugated."""
    x, y = (shaping.ravel(v) for v in promote("vdot", a, b))
    return dot(ufuncs.conjugate(x), y, precision=precision,
               preferred_element_type=preferred_element_type)  # fmt: skip


def vecdot(
    x1: Any, x2: Any, /, *, axis: int = -1, precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:  # fmt: skip
    """The sum of products along one axis, the others broadcast; `x1` is conjugated."""
    x, y = promote("vecdot", x1, x2)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"vecdot: operands need axes, got {x.aval} and {y.aval}")
    x, y = (basis.moveaxis(v, ax.one("vecdot", axis, v.ndim), v.ndim - 1) for v in (x, y))
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"vecdot: the axes summed have different lengths: {x.aval} and {y.aval}")
    x = basis.reshape(ufuncs.conjugate(x), (*x.shape[:-1], 1, x.shape[-1]))
    y = basis.reshape(y, (*y.shape, 1))
    out = matmul(x, y, precision=precision, preferred_element_type=preferred_element_type)
    return basis.reshape(out, out.shape[:-2])


def matvec(x1: Any, x2: Any, /) -> Value:
    """Matrices ``[..., m, k]`` times vectors ``[..., k]``."""
    y = value(x2, "matvec", "x2")
    out = matmul(x1, basis.reshape(y, (*y.shape, 1)))
    return basis.reshape(out, out.shape[:-1])


def vecmat(x1: Any, x2: Any, /) -> Value:
    """Conjugated vectors ``[..., k]`` times matrices ``[..., k, n]``."""
    x = ufuncs.conjugate(value(x1, "vecmat", "x1"))
    out = matmul(basis.reshape(x, (*x.shape[:-1], 1, *x.shape[-1:])), x2)
    return basis.reshape(out, (*out.shape[:-2], out.shape[-1]))


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Value:
    """The sum of products over the last axis of both."""
    x, y = promote("inner", a, b)
    if not x.ndim or not y.ndim:
        return ufuncs.multiply(x, y)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"inner: the last axes have different lengths: {x.aval} and {y.aval}")
    return contract(
        x, y, (((x.ndim - 1,), (y.ndim - 1,)), ((), ())), precision, preferred_element_type
    )


def outer(a: Any, b: Any, out: None = None) -> Value:
    """Every product of an element of `a` and one of `b`: ``[a.size, b.size]``."""
    del out
    x, y = (shaping.ravel(v) for v in promote("outer", a, b))
    return ufuncs.multiply(basis.reshape(x, (x.size, 1)), y)


def tensordot(
    a: Any, b: Any, axes: Any = 2, *, precision: Any = None, preferred_element_type: Any = None
) -> Value:
    """The sum of products over several axes.

    Args:
        a: Any shape.
        b: Any shape.
        axes: A number n (the last n of `a` with the first n of `b`), or the axes of either.
        precision: How float32 products are computed; None is full float32.
        preferred_element_type: Dtype of the result and of the accumulation.

    Raises:
        ShapeError: The lengths of the axes summed differ.
    """
    x, y = promote("tensordot", a, b)
    if np.ndim(axes) == 0:
        n = integer(axes, "tensordot: axes")
        if n > min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: {n} axes are more than those of {x.aval} or {y.aval}")
        over_x, over_y = tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    else:
        over_x = ax.several("tensordot", _tuple(axes[0]), x.ndim)
        over_y = ax.several("tensordot", _tuple(axes[1]), y.ndim)
    if [x.shape[i] for i in over_x] != [y.shape[i] for i in over_y]:
        raise ShapeError(
            f"tensordot: axes {over_x} of {x.aval} and {over_y} of {y.aval} have different lengths"
        )
    return contract(x, y, ((over_x, over_y), ((), ())), precision, preferred_element_type)


def _tuple(x: Any) -> tuple[int, ...]:
    return integers((x,) if np.ndim(x) == 0 else x, "tensordot: axes")


def kron(a: Any, b: Any) -> Value:
    """The Kronecker product: `b` scaled by each element of `a`, in blocks."""
    x, y = promote("kron", a, b)
    rank = max(x.ndim, y.ndim)
    shape_x = (1,) * (rank - x.ndim) + x.shape
    shape_y = (1,) * (rank - y.ndim) + y.shape
    x = basis.reshape(x, tuple(n for m in shape_x for n in (m, 1)))
    y = basis.reshape(y, tuple(n for m in shape_y for n in (1, m)))
    blocks = ufuncs.multiply(x, y)
    return basis.reshape(blocks, tuple(m * n for m, n in zip(shape_x, shape_y, strict=True)))


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Value:
    """The cross product of vectors of 3 (or 2) components.

    Args:
        a: Vectors along `axisa`.
        b: Vectors along `axisb`.
        axisa: Axis of the components of `a`.
        axisb: Axis of the components of `b`.
        axisc: Axis of the components of the result.
        axis: Stands for all three.

    Raises:
        ShapeError: There are not 2 or 3 components.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote("cross", a, b)
    x = basis.moveaxis(x, ax.one("cross", axisa, x.ndim), x.ndim - 1)
    y = basis.moveaxis(y, ax.one("cross", axisb, y.ndim), y.ndim - 1)
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise ShapeError(f"cross: vectors need 2 or 3 components, got {x.aval} and {y.aval}")
    flat = x.shape[-1] == y.shape[-1] == 2
    (x1, x2, x3), (y1, y2, y3) = _components(x), _components(y)
    third = lax.sub(lax.mul(x1, y2), lax.mul(x2, y1))
    if flat:
        return basis.reshape(third, third.shape[:-1])
    first = lax.sub(lax.mul(x2, y3), lax.mul(x3, y2))
    second = lax.sub(lax.mul(x3, y1), lax.mul(x1, y3))
    out = lax.concatenate([first, second, third], third.ndim - 1)
    return basis.moveaxis(out, out.ndim - 1, ax.one("cross", axisc, out.ndim))


def _components(x: Value) -> list[Value]:
    """The components, each with a last axis of length 1; a third of zeros where there are two."""
    parts = list(lax.split(x, (1,) * x.shape[-1], x.ndim - 1))
    return parts if len(parts) == 3 else [*parts, lax.full_like(parts[0], 0)]
