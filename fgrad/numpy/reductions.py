"""Sums, products, extrema, moments and logical reductions over axes."""

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import ufuncs
from fgrad.numpy.promotion import astype, number, promote, promote_inexact, stated, value

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "average",
    "count_nonzero",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]

_BOOL = np.dtype(bool)


def _masked(x: Value, where: Any, neutral: Any) -> Value:
    """`x` with `neutral` where the mask is False."""
    if where is None:
        return x
    mask = ufuncs.truth(where)
    shape = lax.broadcast_shapes(mask.shape, x.shape)
    chosen = select_n(mask, number(neutral, x.dtype, weak=False), x)
    return basis.broadcast_to(chosen, shape)


def _reduce(name: str, reduce: Callable[..., Value], x: Value, axis: Any, keepdims: bool) -> Value:
    axes = ax.several(name, axis, x.ndim)
    out = reduce(x, tuple(sorted(axes)))
    return basis.reshape(out, ax.kept(x.shape, axes)) if keepdims else out


def _no_out(name: str, out: Any) -> None:
    if out is not None:
        raise DtypeError(f"{name}: out= is not supported, as arrays are immutable; use the result")


def _sum_dtype(name: str, x: Value, dtype: Any, *, narrow: bool = False) -> Value:
    """The operand in the dtype in which it is summed: integers in the default one at least."""
    if dtype is not None:
        return astype(x, dtype)
    if x.weak_type:
        x = convert_element_type(x, x.dtype)
    if x.dtype.kind in "biu" and not narrow:
        default = dtypes.default_int()
        if x.dtype.kind == "u" and x.dtype.itemsize <= default.itemsize:
            default = np.dtype(f"uint{8 * default.itemsize}")
        if x.dtype.itemsize < default.itemsize or x.dtype.kind == "b":
            return convert_element_type(x, default)
    return x


def sum(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    initial: Any = None, where: Any = None, promote_integers: bool = True,
) -> Value:  # fmt: skip
    """The sum over axes; booleans and small integers are summed in the default integer dtype.

    Args:
        a: Any shape.
        axis: An axis, a tuple of them, or None for all.
        dtype: Of the result and of the summation.
        out: Not supported.
        keepdims: Keep the axes with length 1.
        initial: Added to the sum.
        where: A mask that broadcasts against `a`: what is summed.
        promote_integers: Whether small integers take the default integer dtype.

    Example:
        >>> sum(np.array([True, False, True]))
        Array(2, dtype=int32)
    """
    _no_out("sum", out)
    x = _sum_dtype("sum", value(a, "sum", "a"), dtype, narrow=not promote_integers)
    total = _reduce("sum", _add_reduce, _masked(x, where, 0), axis, keepdims)
    return total if initial is None else ufuncs.add(total, stated(initial, total.dtype))


def _add_reduce(x: Value, axes: tuple[int, ...]) -> Value:
    return lax.reduce_or(x, axes) if x.dtype == _BOOL else basis.reduce_sum(x, axes)


def prod(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    initial: Any = None, where: Any = None, promote_integers: bool = True,
) -> Value:  # fmt: skip
    """The product over axes; booleans and small integers multiply in the default integer dtype."""
    _no_out("prod", out)
    x = _sum_dtype("prod", value(a, "prod", "a"), dtype, narrow=not promote_integers)
    total = _reduce("prod", lax.reduce_prod, _masked(x, where, 1), axis, keepdims)
    return total if initial is None else ufuncs.multiply(total, stated(initial, total.dtype))


def _extremum(name: str, reduce: str, pick: str, neutral: Callable[[Any], Any], doc: str) -> Any:
    def extremum(
        a: Any, axis: Any = None, out: None = None, keepdims: bool = False,
        initial: Any = None, where: Any = None,
    ) -> Value:  # fmt: skip
        _no_out(name, out)
        x = value(a, name, "a")
        axes = ax.several(name, axis, x.ndim)
        if where is not None and initial is None:
            raise ShapeError(f"{name}: where= needs initial=, the value where nothing is selected")
        if initial is None and builtins.any(x.shape[i] == 0 for i in axes):
            raise ShapeError(
                f"{name}: {x.aval} has no elements along axes {axes}, so there is no {name}; give "
                f"initial="
            )
        if dtypes.is_complex(x.dtype):
            raise DtypeError(
                f"{name}: complex numbers have no order, got {x.aval}; reduce abs(x) or x.real"
            )
        x = _masked(x, where, None if where is None else neutral(x.dtype))
        found = _reduce(name, getattr(lax, reduce), x, axis, keepdims)
        if initial is None:
            return found
        return getattr(lax, pick)(*promote(name, found, initial))

    extremum.__name__ = extremum.__qualname__ = name
    extremum.__doc__ = doc
    return extremum


max = amax = _extremum(
    "max", "reduce_max", "max", dtypes.lowest,
    "The greatest element over axes; NaN if there is one. Ties share the derivative equally.",
)  # fmt: skip
min = amin = _extremum(
    "min", "reduce_min", "min", dtypes.highest,
    "The least element over axes; NaN if there is one. Ties share the derivative equally.",
)  # fmt: skip


def all(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Value:  # fmt: skip
    """Whether all elements over the axes are nonzero."""
    _no_out("all", out)
    x = _masked(ufuncs.truth(value(a, "all", "a")), where, True)
    return _reduce("all", lax.reduce_and, x, axis, keepdims)


def any(
    a: Any, axis: Any = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Value:  # fmt: skip
    """Whether any element over the axes is nonzero."""
    _no_out("any", out)
    x = _masked(ufuncs.truth(value(a, "any", "a")), where, False)
    return _reduce("any", lax.reduce_or, x, axis, keepdims)


def count_nonzero(a: Any, axis: Any = None, keepdims: bool = False) -> Value:
    """The number of nonzero elements over axes."""
    return sum(ufuncs.truth(value(a, "count_nonzero", "a")), axis, keepdims=keepdims)


def ptp(a: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Value:
    """The range over axes: greatest less least element."""
    _no_out("ptp", out)
    return ufuncs.subtract(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


def _count(x: Value, axes: tuple[int, ...], where: Any, dtype: Any, keepdims: bool) -> Value:
    """The number of elements that are reduced: a constant, or counted where there is a mask."""
    if where is None:
        return number(float(math.prod(x.shape[i] for i in axes)), dtype, weak=x.weak_type)
    mask = basis.broadcast_to(ufuncs.truth(where), x.shape)
    return sum(convert_element_type(mask, dtype), axes, keepdims=keepdims)


def _compute_dtype(x: Value, dtype: Any) -> tuple[Value, np.dtype[Any]]:
    """The operand in its computing dtype (16-bit floats in float32), and the result's dtype."""
    x = promote_inexact("mean", x)[0] if dtype is None else astype(x, dtype)
    wide = basis.wide(x.dtype)
    return (x if wide is None else convert_element_type(x, wide)), x.dtype


def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False,
    *, where: Any = None,
) -> Value:  # fmt: skip
    """The arithmetic mean over axes; of integers in floating point.

    Args:
        a: Any shape.
        axis: An axis, a tuple of them, or None for all.
        dtype: Of the result and of the computation.
        out: Not supported.
        keepdims: Keep the axes with length 1.
        where: A mask that broadcasts against `a`: what is averaged.

    Example:
        >>> mean(np.array([[1, 2], [3, 5]], np.int32), axis=0)
        Array([2. , 3.5], dtype=float32)
    """
    _no_out("mean", out)
    x, result = _compute_dtype(value(a, "mean", "a"), dtype)
    x = _spread(x, where)
    axes = ax.several("mean", axis, x.ndim)
    total = sum(x, axes, keepdims=keepdims, where=where)
    return _as_result(lax.div(total, _count(x, axes, where, x.dtype, keepdims)), result)


def _as_result(x: Value, dtype: np.dtype[Any]) -> Value:
    return x if x.dtype == dtype else convert_element_type(x, dtype)


def _spread(x: Value, where: Any) -> Value:
    """`x` broadcast against its mask."""
    if where is None:
        return x
    return basis.broadcast_to(x, lax.broadcast_shapes(x.shape, value(where).shape))


def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, keepdims: bool = False
) -> Any:
    """The weighted mean over axes; with `returned` the sum of the weights too.

    Args:
        a: Any shape.
        axis: An axis, a tuple of them, or None for all.
        weights: Of the shape of `a`, or of the lengths of `axis`.
        returned: Whether to return ``(average, sum of weights)``.
        keepdims: Keep the axes with length 1.
    """
    if weights is None:
        x = value(a, "average", "a")
        found = mean(x, axis, keepdims=keepdims)
        axes = ax.several("average", axis, x.ndim)
        count = math.prod(x.shape[i] for i in axes)
        return (found, lax.full_like(found, count)) if returned else found
    x, w = promote_inexact("average", a, weights)
    axes = ax.several("average", axis, x.ndim)
    if w.shape != x.shape:
        lengths = tuple(x.shape[i] for i in axes)
        if axis is None or w.shape != lengths:
            raise ShapeError(
                f"average: weights must have the shape of a, {list(x.shape)}, or of its axes "
                f"{axis}, got {list(w.shape)}"
            )
        order = tuple(int(i) for i in np.argsort(axes))
        w = basis.transpose(w, order)
        w = basis.reshape(w, tuple(n if i in axes else 1 for i, n in enumerate(x.shape)))
        w = basis.broadcast_to(w, x.shape)
    scale = sum(w, axes, keepdims=keepdims)
    found = lax.div(sum(lax.mul(x, w), axes, keepdims=keepdims), scale)
    return (found, scale) if returned else found


def var(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0,
    keepdims: bool = False, *, where: Any = None, mean: Any = None, correction: float | None = None,
) -> Value:  # fmt: skip
    """The variance over axes: the mean square distance from the mean, in two passes.

    Args:
        a: Any shape.
        axis: An axis, a tuple of them, or None for all.
        dtype: Of the result and of the computation.
        out: Not supported.
        ddof: The divisor is the number of elements less this.
        keepdims: Keep the axes with length 1.
        where: A mask that broadcasts against `a`: what counts.
        mean: The mean, where it is known, of the shape that ``keepdims=True`` gives.
        correction: The array API standard's name for `ddof`.

    Example:
        >>> var(np.array([1.0, 3.0], np.float32))
        Array(1., dtype=float32)
    """
    _no_out("var", out)
    ddof = ddof if correction is None else correction
    x, result = _compute_dtype(value(a, "var", "a"), dtype)
    x = _spread(x, where)
    axes = ax.several("var", axis, x.ndim)
    if mean is None:
        total = sum(x, axes, keepdims=True, where=where)
        centre = lax.div(total, _count(x, axes, where, x.dtype, True))
    else:
        centre = astype(value(mean), x.dtype)
    centred = lax.sub(x, centre)
    if x.dtype.kind == "c":
        squares = lax.add(lax.square(lax.real(centred)), lax.square(lax.imag(centred)))
    else:
        squares = lax.square(centred)
    result = dtypes.real_dtype(result)
    count = _count(squares, axes, where, squares.dtype, keepdims)
    divisor = lax.sub(count, number(float(ddof), squares.dtype, weak=squares.weak_type))
    divisor = ufuncs.maximum(divisor, 0.0)
    total = sum(squares, axes, keepdims=keepdims, where=where)
    return _as_result(lax.div(total, divisor), result)


def safe_sqrt(x: Value) -> Value:
    """The square root with derivative 0 at 0, for norms and deviations."""
    zero = lax.eq(x, ufuncs.zero_like(x))
    root = lax.sqrt(select_n(zero, x, ufuncs.const(1, x)))
    return select_n(zero, root, ufuncs.zero_like(root))


def std(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0,
    keepdims: bool = False, *, where: Any = None, mean: Any = None, correction: float | None = None,
) -> Value:  # fmt: skip
    """The standard deviation over axes: the root of `var`, which has the same arguments.

    Derivatives:
        0 where the deviation is 0.
    """
    _no_out("std", out)
    x = value(a, "std", "a")
    x, result = _compute_dtype(x, dtype)
    found = var(x, axis, ddof=ddof, keepdims=keepdims, where=where, mean=mean,
                correction=correction)  # fmt: skip
    return _as_result(safe_sqrt(found), dtypes.real_dtype(result))
