"""Masks over a mapped axis: what loops and branches need when lanes go separate ways."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.compare import eq, gt
from fgrad.lax.creation import iota
from fgrad.lax.reduce import reduce_min, reduce_or

_NO_DERIVATIVE = Absent("it chooses among values and is used where no derivative flows")


def _fill_abstract(mask: ShapedArray, x: ShapedArray) -> ShapedArray:
    if mask.shape != x.shape[: mask.ndim] or mask.dtype.kind != "b" or mask.ndim == 0:
        raise ShapeError(
            f"fill_lanes needs a bool mask over the leading axes of x, got {mask}, {x}"
        )
    return x


def _fill_eager(xp: Any, mask: Any, x: Any) -> Any:
    if mask.shape != x.shape[: mask.ndim]:
        raise ValueError("shapes")
    if mask.size == 0:
        return x
    first = xp.argmax(mask, axis=-1)
    inner = (*first.shape, 1, *(1,) * (x.ndim - mask.ndim))
    lane = xp.take_along_axis(x, first.reshape(inner), axis=mask.ndim - 1)
    chosen = mask.reshape((*mask.shape, *(1,) * (x.ndim - mask.ndim)))
    return xp.where(chosen, x, lane)


def _fill_composed(mask: Value, x: Value) -> Value:
    """The same by the sum of a lane with zeros: `argmax` and a gather are no kernels."""
    if not mask.size:
        return x
    axis, n = mask.ndim - 1, mask.shape[-1]
    places = iota(np.dtype(np.int32), n)
    first = reduce_min(basis.select_n(mask, basis.scalar(n, np.dtype(np.int32)), places), (axis,))
    first = basis.select_n(eq(first, n), first, basis.scalar(0, np.dtype(np.int32)))
    chosen = expand(eq(basis.reshape(first, (*first.shape, 1)), places), x)
    lane = basis.select_n(chosen, basis.scalar(0, x.dtype), x)
    summed = (reduce_or if x.dtype.kind == "b" else basis.reduce_sum)(lane, (axis,))
    inner = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return basis.select_n(expand(mask, x), basis.reshape(summed, inner), x)


def _fill_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None]
) -> tuple[Value, int]:
    mask, x = (basis.lead(v, d, axis.size) for v, d in zip(args, dims, strict=True))
    return bind(fill_lanes_p, mask, x), 0


fill_lanes_p = Primitive(
    "fill_lanes",
    "x, with lanes where the mask is False replaced by the first lane where it is True.",
    abstract=_fill_abstract,
    eager=_fill_eager,
    jvp=_NO_DERIVATIVE,
    transpose=_NO_DERIVATIVE,
    vjp=_NO_DERIVATIVE,
    batch=_fill_batch,
    lower=Lowering("reduce", "fill_lanes", _fill_composed),
    differentiable=False,
    spec=Absent("a part of batched loops and branches: tests/laws/test_calls.py checks those"),
)


def expand(mask: Value, x: Value) -> Value:
    """The mask with axes of length 1 behind, so that it broadcasts against `x`."""
    return basis.reshape(mask, (*mask.shape, *(1,) * (x.ndim - mask.ndim)))


def active_only(mask: Value, x: Value) -> Value:
    """`x` where the mask is True, a copy of an active lane elsewhere.

    What is computed from it is finite wherever the active lanes are, and no derivative flows into
    lanes that are not active: not even a NaN.
    """
    return basis.select_n(expand(mask, x), bind(fill_lanes_p, mask, x), x)


def choose(mask: Value, on: Value, off: Value) -> Value:
    """`on` in the lanes where the mask is True, `off` elsewhere."""
    return basis.select_n(expand(mask, on), off, on)


def any_lane(mask: Value) -> Value:
    """Whether the mask is True anywhere along axis 0."""
    count = basis.reduce_sum(basis.convert_element_type(mask, np.int32), (0,))
    return gt(count, 0)
