"""Leaf arithmetic shared by the transformations: precision, counters, zeros.

Each leaf keeps its own dtype. Leaves of 16 bits or fewer are computed in float32 and rounded once
at the end: a decay of 0.999 is 1.0 in bfloat16, and a learning rate would be off by up to 0.4 %.
"""

import math
from typing import Any

import fgrad.numpy as fnp
from fgrad import tree_util
from fgrad.core.errors import ArgumentError

Value = Any
PyTree = Any

_MAX_COUNT = 2**31 - 1


def accumulation_dtype(dtype: Any) -> Any:
    """The dtype in which a leaf of ``dtype`` is computed: itself, or float32 if it is narrower."""
    dtype = fnp.dtype(dtype)
    if fnp.issubdtype(dtype, fnp.floating) and dtype.itemsize < 4:
        return fnp.dtype(fnp.float32)
    return dtype


def widen(x: Value) -> Value:
    """``x`` in the dtype in which it is computed."""
    x = fnp.asarray(x)
    return x.astype(accumulation_dtype(x.dtype))


def cast(x: Value, like: Value) -> Value:
    """``x`` in the dtype of ``like``."""
    return fnp.asarray(x).astype(fnp.asarray(like).dtype)


def scaled(x: Value, factor: Value) -> Value:
    """``factor · x`` in the dtype of ``x``, rounded once; ``factor`` is a scalar of any dtype."""
    wide = widen(x)
    if not isinstance(factor, (int, float)):
        factor = fnp.asarray(factor).astype(wide.dtype)
    return cast(wide * factor, x)


def squared_magnitude(x: Value) -> Value:
    """``|x|²``, real also for complex ``x``."""
    if fnp.issubdtype(x.dtype, fnp.complexfloating):
        return fnp.square(fnp.real(x)) + fnp.square(fnp.imag(x))
    return fnp.square(x)


def zeros_like(tree: PyTree, dtype: Any = None) -> PyTree:
    """A tree of zeros with the shapes of ``tree``; ``dtype`` replaces the dtype of each leaf."""
    return tree_util.tree_map(lambda x: fnp.zeros_like(x, dtype=dtype), tree)


def increment(count: Value) -> Value:
    """``count + 1``, held at the largest int32 instead of wrapping to a negative step."""
    return fnp.where(count < _MAX_COUNT, count + 1, _MAX_COUNT).astype(fnp.int32)


def zero_count() -> Value:
    """The step counter of a fresh state: an int32 scalar."""
    return fnp.zeros((), dtype=fnp.int32)


def all_finite(tree: PyTree) -> Value:
    """Whether no element of ``tree`` is NaN or infinite (True for an empty tree)."""
    finite = fnp.asarray(True)
    for leaf in tree_util.tree_leaves(tree):
        finite = fnp.logical_and(finite, fnp.all(fnp.isfinite(fnp.asarray(leaf))))
    return finite


def check_decay(name: str, decay: Value) -> None:
    """Raise ``ArgumentError`` unless a concrete ``decay`` lies in [0, 1)."""
    if isinstance(decay, (int, float)) and not 0 <= decay < 1:
        message = f"{name} must lie in [0, 1), got {decay}"
        raise ArgumentError(message)


def bias_corrected(moment: Value, decay: Value, count: Value) -> Value:
    """``moment / (1 - decay**count)`` in the dtype in which the leaf is computed.

    The denominator is ``-expm1(count · log(decay))``: formed as a difference it would lose three
    digits in float32 for ``decay = 0.999`` in the first steps.
    """
    wide = widen(moment)
    real = fnp.real(wide).dtype
    if isinstance(decay, (int, float)):
        if decay == 0:
            return wide
        log_decay = math.log(decay)
    else:
        log_decay = fnp.log(fnp.asarray(decay).astype(real))
    return wide * (1 / -fnp.expm1(count.astype(real) * log_decay))
