"""Joining arrays along an axis, and its transpose, splitting one."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import (
    ANY,
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
from fgrad.lax.shape import Ints, canonical_axis, value
from fgrad.lax.slicing import slice_in_dim

__all__ = ["concatenate", "concatenate_p", "split", "split_p"]


def _concatenate_abstract(*xs: ShapedArray, dimension: int) -> ShapedArray:
    types = ", ".join(map(str, xs))
    first = xs[0]
    if not 0 <= dimension < first.ndim:
        raise AxisError(f"concatenate: dimension {dimension} is no axis of {types}")
    if any(x.dtype != first.dtype for x in xs):
        raise DtypeError(f"concatenate: operands need one dtype, got {types}; use astype")
    others = {x.shape[:dimension] + x.shape[dimension + 1 :] for x in xs}
    if len(others) > 1 or any(x.ndim != first.ndim for x in xs):
        raise ShapeError(f"concatenate: shapes must be equal but for axis {dimension}, got {types}")
    length = sum(x.shape[dimension] for x in xs)
    shape = (*first.shape[:dimension], length, *first.shape[dimension + 1 :])
    return ShapedArray(shape, first.dtype, all(x.weak_type for x in xs))


def _concatenate_eager(xp: Any, *xs: Any, dimension: int) -> Any:
    if any(x.dtype != xs[0].dtype for x in xs):
        raise ValueError("dtypes")
    return xp.concatenate(xs, dimension)


def _concatenate_pull(
    ct: Value, needed: Sequence[bool], sizes: Sequence[int], dimension: int
) -> list[Value | None]:
    """The part of the cotangent that each operand made."""
    ends = accumulate(sizes)
    return [
        slice_in_dim(ct, end - size, end, 1, dimension) if n else None
        for n, size, end in zip(needed, sizes, ends, strict=True)
    ]


def _concatenate_transpose(ct: Value, *xs: Any, dimension: int) -> list[Value | None]:
    needed = [isinstance(x, Unknown) for x in xs]
    sizes = [(x.aval.shape if n else x.shape)[dimension] for x, n in zip(xs, needed, strict=True)]
    return _concatenate_pull(ct, needed, sizes, dimension)


def _concatenate_backward(
    needed: tuple[bool, ...], avals: Sequence[Any], ct: Value, params: dict[str, Any]
) -> list[Value | None]:
    dimension = params["dimension"]
    return _concatenate_pull(ct, needed, [a.shape[dimension] for a in avals], dimension)


def _concatenate_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, dimension: int
) -> tuple[Value, Value]:
    whole = [basis.instantiate(t, p) for t, p in zip(tangents, primals, strict=True)]
    return concatenate(primals, dimension), concatenate(whole, dimension)


def _concatenate_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, dimension: int
) -> tuple[Value, int]:
    d = dims[0]
    if d is None or any(e != d for e in dims):
        args = [basis.lead(x, e, axis.size) for x, e in zip(args, dims, strict=True)]
        d = 0
    return concatenate(args, dimension + (dimension >= d)), d


concatenate_p: Primitive = Primitive(
    "concatenate",
    "Join arrays along one of their axes.",
    abstract=_concatenate_abstract,
    eager=_concatenate_eager,
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    vjp=Pullback(None, _concatenate_backward, lambda needed: tuple(map(TYPE, range(len(needed))))),
    batch=_concatenate_batch,
    lower=Lowering("view", "concatenate"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n, k n", {"dimension": 0}),
            Case("m n, m k, m 2", {"dimension": 1}),
            Case("m", {"dimension": 0}),
        ),
        dtypes=ANY,
        reference=lambda *xs, dimension: np.concatenate(xs, dimension),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f64[2]"), DtypeError, "one dtype", dimension=0),
            Invalid(("f32[2,3]", "f32[2,2]"), ShapeError, "equal but for axis 0", dimension=0),
            Invalid(("f32[2]", "f32[2]"), AxisError, "no axis", dimension=1),
        ),
    ),
)


def concatenate(operands: Any, dimension: int) -> Value:
    """Join arrays along an axis.

    Args:
        operands: One array or more, of one dtype and of equal shapes but for that axis.
        dimension: The axis.

    Returns:
        The shape of the operands, their lengths along `dimension` added up.

    Raises:
        ShapeError: The shapes differ elsewhere, or there is no operand.
        DtypeError: The dtypes differ.
        AxisError: The axis does not exist.

    Example:
        >>> concatenate([np.zeros(1, np.float32), np.ones(2, np.float32)], 0)
        Array([0., 1., 1.], dtype=float32)
    """
    xs = [value(x) for x in operands]
    if not xs:
        raise ShapeError("concatenate: at least one operand is needed, got none")
    dimension = canonical_axis("concatenate", dimension, xs[0].ndim)
    return xs[0] if len(xs) == 1 else bind(concatenate_p, *xs, dimension=dimension)


def _split_abstract(x: ShapedArray, *, sizes: Ints, axis: int) -> list[ShapedArray]:
    if not 0 <= axis < x.ndim:
        raise AxisError(f"split: axis {axis} is no axis of {x}")
    if sum(sizes) != x.shape[axis] or any(n < 0 for n in sizes):
        raise ShapeError(f"split: sizes {sizes} do not add up to axis {axis} of {x}")
    return [
        ShapedArray((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype, x.weak_type) for n in sizes
    ]


def _split_eager(_xp: Any, x: Any, *, sizes: Ints, axis: int) -> list[Any]:
    if sum(sizes) != x.shape[axis] or any(n < 0 for n in sizes):
        raise ValueError("sizes")
    before = (slice(None),) * axis
    ends = accumulate(sizes)
    return [x[(*before, slice(end - n, end))] for n, end in zip(sizes, ends, strict=True)]


def _split_transpose(
    cts: Sequence[Value | None], x: Unknown, *, sizes: Ints, axis: int
) -> tuple[Value]:
    parts = [
        basis.zeros(a.tangent()) if ct is None else ct
        for ct, a in zip(cts, _split_abstract(x.aval, sizes=sizes, axis=axis), strict=True)
    ]
    return (concatenate(parts, axis),)


def _split_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, sizes: Ints, axis: int
) -> tuple[list[Value], list[Value]]:
    return split(primals[0], sizes, axis), split(tangents[0], sizes, axis)


def _split_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, sizes: Ints, axis: int
) -> tuple[list[Value], list[int]]:
    d = dims[0]
    assert d is not None
    return split(args[0], sizes, axis + (axis >= d)), [d] * len(sizes)


split_p: Primitive = Primitive(
    "split",
    "Cut an array into parts along one axis.",
    abstract=_split_abstract,
    eager=_split_eager,
    jvp=_split_jvp,
    transpose=_split_transpose,
    vjp=basis.linear_pullback(_split_transpose),
    batch=_split_batch,
    lower=Lowering("view", "split"),
    linear="jointly",
    multiple_results=True,
    spec=Spec(
        cases=(
            Case("5 n", {"sizes": (2, 0, 3), "axis": 0}),
            Case("m 2", {"sizes": (1, 1), "axis": 1}),
        ),
        dtypes=ANY,
        reference=lambda x, *, sizes, axis: np.split(x, list(accumulate(sizes))[:-1], axis),
        ulps=0.0,
        invalid=(
            Invalid(("f32[3]",), ShapeError, "add up", sizes=(1, 1), axis=0),
            Invalid(("f32[3]",), AxisError, "axis", sizes=(3,), axis=1),
        ),
    ),
)


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Value]:
    """Cut an array into parts along an axis.

    Args:
        operand: ``[…, n, …]``, any dtype.
        sizes: The length of each part; they add up to n.
        axis: The axis that is cut.

    Returns:
        A list of arrays, one for each entry of `sizes`.

    Raises:
        ShapeError: The sizes do not add up to n.
        AxisError: The axis does not exist.

    Example:
        >>> split(np.arange(3, dtype=np.float32), (1, 2))
        [Array([0.], dtype=float32), Array([1., 2.], dtype=float32)]
    """
    x = value(operand)
    axis = canonical_axis("split", axis, x.ndim)
    return bind(split_p, x, sizes=tuple(map(int, sizes)), axis=axis)  # type: ignore[no-any-return]
