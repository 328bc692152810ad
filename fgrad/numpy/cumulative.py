"""Running sums and products, differences, and integrals of samples."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import axes as ax
from fgrad.numpy import bitwise, joining, shaping, ufuncs
from fgrad.numpy.elementary import isnan
from fgrad.numpy.promotion import astype, number, promote, promote_inexact, value

__all__ = [
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "ediff1d",
    "gradient",
    "nancumprod",
    "nancumsum",
    "trapezoid",
]


def _running(name: str, scan: Callable[..., Value], a: Any, axis: Any, dtype: Any) -> Value:
    x = value(a, name, "a")
    if axis is None:
        x, axis = shaping.ravel(x), 0
    place = ax.one(name, axis, x.ndim)
    if dtype is not None:
        x = astype(x, dtype)
    elif x.dtype.kind == "b":
        x = basis.convert_element_type(x, dtypes.default_int())
    return scan(x, axis=place)


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Value:
    """The running sum along an axis; flattened first where `axis` is None.

    Example:
        >>> cumsum(np.array([1.0, 2.0, 3.0], np.float32))
        Array([1., 3., 6.], dtype=float32)
    """
    del out
    return _running("cumsum", lax.cumsum, a, axis, dtype)


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Value:
    """The running product along an axis; flattened first where `axis` is None."""
    del out
    return _running("cumprod", lax.cumprod, a, axis, dtype)


def _standard(name: str, scan: Any, x: Any, axis: Any, dtype: Any, start: float | None) -> Value:
    """As the array API standard has it: the axis may be left out of a vector alone."""
    x = value(x, name, "x")
    if axis is None and x.ndim != 1:
        raise ShapeError(f"{name}: axis is needed, as {x.aval} has not exactly one axis")
    axis = 0 if axis is None else ax.one(name, axis, x.ndim)
    if dtype is None and x.dtype.kind in "iu":
        # The standard sums integers in the default width at least; cumsum keeps their dtype.
        width = max(x.dtype.itemsize, dtypes.default_int().itemsize)
        dtype = np.dtype(f"{x.dtype.kind}{width}")
    out = _running(name, scan, x, axis, dtype)
    if start is None:
        return out
    shape = tuple(1 if i == axis else n for i, n in enumerate(out.shape))
    return lax.concatenate([lax.full(shape, start, out.dtype), out], axis)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Value:
    """The running sum along an axis, beginning with 0 where `include_initial`."""
    return _standard("cumulative_sum", lax.cumsum, x, axis, dtype, 0 if include_initial else None)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Value:
    """The running product along an axis, beginning with 1 where `include_initial`."""
    return _standard("cumulative_prod", lax.cumprod, x, axis, dtype, 1 if include_initial else None)


def _filled(a: Any, name: str, fill: float) -> Value:
    x = value(a, name, "a")
    if not dtypes.is_inexact(x.dtype):
        return x
    return basis.select_n(isnan(x), x, number(fill, x.dtype, weak=False))


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Value:
    """`cumsum`, with NaN counted as 0."""
    return cumsum(_filled(a, "nancumsum", 0.0), axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Value:
    """`cumprod`, with NaN counted as 1."""
    return cumprod(_filled(a, "nancumprod", 1.0), axis, dtype, out)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Value:
    """Differences of neighbours along an axis, taken n times.

    Args:
        a: At least one axis.
        n: How many times.
        axis: The axis.
        prepend: Values put before, or one of them.
        append: Values put after, or one of them.
    """
    x = value(a, "diff", "a")
    n = integer(n, "diff: n")
    if not x.ndim or n < 0:
        raise ShapeError(f"diff: needs an array with axes and n ≥ 0, got {x.aval} and n={n}")
    place = ax.one("diff", axis, x.ndim)
    if n == 0:
        return x
    plain = (int, float, complex)[: 3 if dtypes.is_complex(x.dtype) else 2]
    exact = plain if dtypes.is_inexact(x.dtype) else ()
    one = tuple(1 if i == place else m for i, m in enumerate(x.shape))
    parts = [
        basis.broadcast_to(number(p, x.dtype) if type(p) in exact else value(p), one)
        if p is not x and np.ndim(p) == 0 else value(p)
        for p in (prepend, x, append) if p is not None
    ]  # fmt: skip
    if len(parts) > 1:
        x = joining.concatenate(parts, place)
    subtract = bitwise.not_equal if x.dtype.kind == "b" else ufuncs.subtract
    for _ in range(n):
        length = x.shape[place]
        x = subtract(
            lax.slice_in_dim(x, min(1, length), length, axis=place),
            lax.slice_in_dim(x, 0, max(length - 1, 0), axis=place),
        )
    return x


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Value:
    """Differences of neighbours of the flattened array, with values put before and after."""
    x = shaping.ravel(value(ary, "ediff1d", "ary"))
    ends = [None if e is None else shaping.ravel(astype(value(e), x.dtype))
            for e in (to_begin, to_end)]  # fmt: skip
    parts = [p for p in (ends[0], diff(x), ends[1]) if p is not None]
    return lax.concatenate(parts, 0)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Value:
    """The integral of samples along an axis by the trapezoidal rule.

    Args:
        y: The samples.
        x: Where they were taken: of the shape of `y`, or of the length of the axis.
        dx: The distance between samples where `x` is None.
        axis: The axis.
    """
    if x is None:
        samples, step = promote_inexact("trapezoid", *promote_inexact("trapezoid", y), dx)
        samples = basis.moveaxis(samples, ax.one("trapezoid", axis, samples.ndim), samples.ndim - 1)
    else:
        samples, points = promote_inexact("trapezoid", y, x)
        place = ax.one("trapezoid", axis, samples.ndim)
        samples = basis.moveaxis(samples, place, samples.ndim - 1)
        if points.ndim > 1:
            points = basis.moveaxis(points, ax.one("trapezoid", axis, points.ndim), points.ndim - 1)
        step = diff(points)
    n = samples.shape[-1]
    pairs = lax.add(
        lax.slice_in_dim(samples, min(1, n), n, axis=samples.ndim - 1),
        lax.slice_in_dim(samples, 0, max(n - 1, 0), axis=samples.ndim - 1),
    )
    areas = lax.mul(pairs, lax.mul(step, ufuncs.const(0.5, step)))
    return basis.reduce_sum(areas, (areas.ndim - 1,))


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int | None = None) -> Any:
    """Slopes of samples by central differences inside, one-sided at the ends.

    Args:
        f: The samples.
        *varargs: The distance between samples, or their positions, for each axis.
        axis: The axes; all where None.
        edge_order: None or 1: first-order differences at the ends.

    Returns:
        An array, or a list of one an axis.
    """
    (x,) = promote_inexact("gradient", f)
    if edge_order not in (None, 1):
        raise ShapeError(f"gradient: edge_order {edge_order} is not supported; it is 1")
    axes = ax.several("gradient", axis, x.ndim)
    spacing = list(varargs) or [1.0]
    if len(spacing) == 1:
        spacing *= len(axes)
    if len(spacing) != len(axes):
        raise ShapeError(f"gradient: {len(spacing)} spacings do not fit {len(axes)} axes")
    found = [_slopes(x, h, i) for h, i in zip(spacing, axes, strict=True)]
    return found[0] if len(axes) == 1 else found


def _slopes(x: Value, spacing: Any, axis: int) -> Value:
    n = x.shape[axis]
    if n < 2:
        raise ShapeError(f"gradient: axis {axis} of {x.aval} needs at least 2 samples")

    def part(a: int, b: int) -> Value:
        return lax.slice_in_dim(x, a, b, axis=axis)

    shape = tuple(-1 if i == axis else 1 for i in range(x.ndim))
    if np.ndim(spacing) == 0:
        x, h = promote("gradient", x, spacing)
        inner = lax.div(lax.sub(part(2, n), part(0, n - 2)), lax.mul(h, ufuncs.const(2, h)))
        first, last = h, h
    else:
        x, points = promote("gradient", x, spacing)
        if points.shape != (n,):
            raise ShapeError(f"gradient: positions {points.aval} do not fit axis {axis}, {n} long")
        steps = shaping.reshape(diff(points), shape)
        m = n - 1
        left = lax.slice_in_dim(steps, 0, m - 1, axis=axis)
        right = lax.slice_in_dim(steps, 1, m, axis=axis)
        total = lax.add(left, right)
        low = lax.neg(lax.div(right, lax.mul(left, total)))
        high = lax.div(left, lax.mul(right, total))
        centre = lax.div(lax.sub(right, left), lax.mul(left, right))
        inner = lax.add(
            lax.add(lax.mul(low, part(0, n - 2)), lax.mul(centre, part(1, n - 1))),
            lax.mul(high, part(2, n)),
        )
        first = lax.slice_in_dim(steps, 0, 1, axis=axis)
        last = lax.slice_in_dim(steps, m - 1, m, axis=axis)
    start = lax.div(lax.sub(part(1, 2), part(0, 1)), first)
    end = lax.div(lax.sub(part(n - 1, n), part(n - 2, n - 1)), last)
    return lax.concatenate([start, inner, end], axis)
