"""Convolutions in terms of other primitives, where a compiler gains by that.

With features last, those whose groups have one feature each are sums of shifted products of rows
of features, which fuse into kernels, and so are the gradients of their windows; those with a window
of one place are matrix products. So are the gradients of windows of one place, in any layout.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.primitive import Value
from fgrad.lax.arithmetic import add, mul
from fgrad.lax.contract import dot_general
from fgrad.lax.conv_shapes import Ints, conv_aval, pick
from fgrad.lax.joining import concatenate
from fgrad.lax.precision import multiply_in
from fgrad.lax.slicing import pad
from fgrad.lax.slicing import slice as lax_slice

__all__: list[str] = []

_APART = 64  # elements side by side that make a product of its own worth while
_PLACES = 16  # of a window, or of one that is the result: each is a term of a kernel


def is_composed(avals: Sequence[ShapedArray], params: dict[str, Any]) -> bool:
    """Whether `composed` applies: to real floats, an input that is not dilated, and as above."""
    x, w = avals
    out = conv_aval(x, w, **params)
    if x.dtype.kind in "biuc" or not (x.size and w.size and out.size):
        return False
    if any(d > 1 for d in params["lhs_dilation"]):
        return False
    if _is_product(x, w, params):
        return True
    spec = params["dimension_numbers"]
    if params["feature_group_count"] > 1:
        places, single, axis = pick(w.shape, spec.rhs_spec)[2:], w.shape[spec.rhs_spec[1]], 1
    else:
        places, single, axis = pick(out.shape, spec.out_spec)[2:], out.shape[spec.out_spec[0]], 0
    groups = max(params["feature_group_count"], params["batch_group_count"])
    last = spec.lhs_spec[axis] == x.ndim - 1
    return groups > 1 and last and single == 1 and prod(places) <= _PLACES


def composed(lhs: Value, rhs: Value, **params: Any) -> Value:
    """The convolution, in terms of products, sums and views.

    Axes stay in the order of lhs, in which memory is walked.
    """
    if _is_product(lhs.aval, rhs.aval, params):
        return _product(lhs, rhs, params)
    spec = params["dimension_numbers"]
    out = conv_aval(lhs.aval, rhs.aval, **params)
    inner = multiply_in(lhs.dtype, out.dtype)
    x, w = (v if v.dtype == inner else basis.convert_element_type(v, inner) for v in (lhs, rhs))
    config = [(0, 0, 0)] * x.ndim
    for axis, (lo, hi) in zip(spec.lhs_spec[2:], params["padding"], strict=True):
        config[axis] = (lo, hi, 0)
    x = pad(x, basis.scalar(0, inner), tuple(config))
    if params["feature_group_count"] > 1:
        result = _by_place(x, w, out, params)
    else:
        result = _by_position(x, w, out, params)
    return result if result.dtype == out.dtype else basis.convert_element_type(result, out.dtype)


def _is_product(x: ShapedArray, w: ShapedArray, p: dict[str, Any]) -> bool:
    """Whether no element of lhs meets more than one place of the window, and none meets a zero."""
    spec = p["dimension_numbers"]
    if max(p["feature_group_count"], p["batch_group_count"]) > 1:
        return False
    window = pick(w.shape, spec.rhs_spec)[2:]
    if _is_pointwise(w, p):
        last = spec.lhs_spec[1] == x.ndim - 1 and spec.lhs_spec == spec.out_spec
        return last and all(s == 1 for s in p["window_strides"])
    axes = zip(
        pick(x.shape, spec.lhs_spec)[2:], window, p["rhs_dilation"], p["padding"],
        pick(conv_aval(x, w, **p).shape, spec.out_spec)[2:], strict=True,
    )  # fmt: skip
    return all(m == 1 and lo <= 0 and (k - 1) * e - lo < n for n, k, e, (lo, _), m in axes)


def _is_pointwise(w: ShapedArray, p: dict[str, Any]) -> bool:
    """Whether each position is multiplied by itself: the window has one place, and none is cut."""
    window = pick(w.shape, p["dimension_numbers"].rhs_spec[2:])
    return prod(window) == 1 and not any(map(any, p["padding"]))


def _product(x: Value, w: Value, p: dict[str, Any]) -> Value:
    """A matrix product, or one for each feature and their sum where those are far apart."""
    spec = p["dimension_numbers"]
    given = {"precision": p["precision"], "preferred_element_type": p["preferred_element_type"]}
    (_, left, *places), (_, right, *window) = spec.lhs_spec, spec.rhs_spec
    if _is_pointwise(w.aval, p):
        w = basis.reshape(basis.transpose(w, spec.rhs_spec), pick(w.shape, spec.rhs_spec[:2]))
        return dot_general(x, w, (((left,), (1,)), ((), ())), **given)
    starts = [-lo for lo, _ in p["padding"]]
    x = _part(x, places, starts, pick(w.shape, window), p["rhs_dilation"])
    spatial = (tuple(places), tuple(window))
    apart = left < min(spec.lhs_spec[0], *places) and prod(pick(x.shape, places)) >= _APART
    if apart and p["preferred_element_type"] is None and basis.wide(x.dtype) is None:
        out = dot_general(x, w, (spatial, ((left,), (right,))), **given)
        out = basis.reduce_sum(out, (0,))
    else:
        out = dot_general(x, w, (((left, *places), (right, *window)), ((), ())), **given)
    out = basis.reshape(out, (*out.shape, *(1,) * len(places)))
    return basis.transpose(out, tuple(spec.out_spec.index(i) for i in range(out.ndim)))


def _part(x: Value, axes: Sequence[int], starts: Sequence[int], counts: Ints, steps: Ints) -> Value:
    """Elements of some axes, from some on in steps."""
    first, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    for axis, a, n, s in zip(axes, starts, counts, steps, strict=True):
        first[axis], limits[axis], strides[axis] = a, a + (n - 1) * s + 1, s
    return lax_slice(x, first, limits, strides)


def _split(x: Value, axis: int, count: int) -> Value:
    """An axis as two, of which the second has `count` elements."""
    shape = (*x.shape[:axis], x.shape[axis] // count, count, *x.shape[axis + 1 :])
    return basis.reshape(x, shape)


def _by_place(x: Value, w: Value, out: ShapedArray, p: dict[str, Any]) -> Value:
    """Groups of features: a term for each place of the window."""
    spec = p["dimension_numbers"]
    feature, places, positions = spec.lhs_spec[1], spec.rhs_spec[2:], pick(out.shape, spec.out_spec)
    outputs = positions[1]
    many = outputs // x.shape[feature]
    total: Value | None = None
    for k in np.ndindex(*pick(w.shape, places)):
        at = tuple(i * e for i, e in zip(k, p["rhs_dilation"], strict=True))
        part = _part(x, spec.lhs_spec[2:], at, positions[2:], p["window_strides"])
        scale = basis.reshape(_part(w, places, k, (1,) * len(k), (1,) * len(k)), (outputs,))
        around = (1,) * feature, (1,) * (x.ndim - feature - 1)
        scale = basis.reshape(scale, (*around[0], outputs // many, many, *around[1]))
        term = mul(_split(part, feature, 1), scale)
        total = term if total is None else add(total, term)
    assert total is not None
    merged = (*total.shape[:feature], outputs, *total.shape[feature + 2 :])
    total = basis.reshape(total, merged)
    roles = [spec.out_spec.index(i) for i in range(x.ndim)]
    return basis.transpose(total, tuple(spec.lhs_spec[r] for r in roles))


def _by_position(x: Value, w: Value, out: ShapedArray, p: dict[str, Any]) -> Value:
    """Groups of batch elements: a sum for each position of the result."""
    spec = p["dimension_numbers"]
    batch, spatial = spec.lhs_spec[0], spec.lhs_spec[2:]
    _, outputs, *positions = pick(out.shape, spec.out_spec)
    window = pick(w.shape, spec.rhs_spec)[2:]
    w = basis.transpose(w, tuple(spec.rhs_spec[spec.lhs_spec.index(i)] for i in range(x.ndim)))
    w = _split(w, batch, outputs // x.shape[batch])
    over = tuple(i for i in range(w.ndim) if i not in (batch, batch + 1))
    sums = []
    for at in np.ndindex(*positions):
        first = tuple(i * s for i, s in zip(at, p["window_strides"], strict=True))
        part = _split(_part(x, spatial, first, window, p["rhs_dilation"]), batch, 1)
        sums.append(basis.reshape(basis.reduce_sum(mul(part, w), over), (1, outputs, 1)))
    result = basis.reshape(concatenate(sums, 2), (1, outputs, *positions))
    return basis.transpose(result, tuple(spec.out_spec.index(i) for i in range(result.ndim)))
