"""Borders around arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array
from fgrad.numpy import axes as ax
from fgrad.numpy import reductions, rounding, shaping, ufuncs
from fgrad.numpy.promotion import NUMBERS, astype, number, value

Widths = Sequence[tuple[int, int]]

_OPTIONS = {
    "constant": ("constant_values",),
    "linear_ramp": ("end_values",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "maximum": ("stat_length",),
    "minimum": ("stat_length",),
    "mean": ("stat_length",),
    "edge": (),
    "wrap": (),
    "empty": (),
}


def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Value:
    """An array with a border around it.

    Args:
        array: Any shape.
        pad_width: The width of the border: one for all, ``(before, after)``, a pair an axis, or a
            dict from axes to these.
        mode: "constant" (with `constant_values`), "edge", "reflect" and "symmetric" (with
            `reflect_type`), "wrap", "linear_ramp" (with `end_values`), "maximum", "mean",
            "minimum" (with `stat_length`) or "empty".
        **kwargs: What the mode takes.

    Raises:
        ShapeError: The widths do not fit the array, or an empty axis has nothing to pad with.

    Example:
        >>> pad(np.ones(2, np.float32), 1)
        Array([0., 1., 1., 0.], dtype=float32)
    """
    x = value(array, "pad", "array")
    widths = [
        (integer(a, "pad: a width"), integer(b, "pad: a width"))
        for a, b in _pairs(pad_width, x.ndim)
    ]
    if any(w < 0 for pair in widths for w in pair):
        raise ShapeError(f"pad: widths must not be negative, got {widths}")
    if mode not in _OPTIONS:
        raise ArgumentError(f"pad: mode {mode!r} is not known; choose one of {', '.join(_OPTIONS)}")
    unknown = set(kwargs) - set(_OPTIONS[mode])
    if unknown:
        raise ArgumentError(f"pad: mode {mode!r} takes no argument {', '.join(sorted(unknown))}")
    if mode in ("constant", "empty"):
        return _constant(x, widths, kwargs.get("constant_values", 0))
    empty = [i for i, (w, n) in enumerate(zip(widths, x.shape, strict=True)) if any(w) and not n]
    if empty:
        raise ShapeError(f"pad: axis {empty[0]} of {x.aval} is empty; only 'constant' can pad it")
    if mode == "linear_ramp":
        return _ramp(x, widths, kwargs.get("end_values", 0))
    if mode in ("maximum", "minimum", "mean"):
        return _statistic(x, widths, mode, kwargs.get("stat_length"))
    return _by_index(x, widths, mode, kwargs.get("reflect_type", "even"))


def _is_one(x: Any) -> bool:
    return type(x) in NUMBERS or np.ndim(0 if isinstance(x, Array) and not x.ndim else x) == 0


def _pairs(given: Any, ndim: int) -> list[tuple[Any, Any]]:
    """(before, after) for each axis, from NumPy's short forms."""
    if isinstance(given, dict):
        table = {ax.one("pad", k, ndim): v for k, v in given.items()}
        given = [table.get(i, (0, 0)) for i in range(ndim)]
        return [(v, v) if _is_one(v) else tuple(v) for v in given]
    if _is_one(given):
        return [(given, given)] * ndim
    given = list(given)
    if all(map(_is_one, given)):
        if len(given) > 2:
            raise ShapeError(
                f"pad: {given} is neither one number, a pair, nor a pair for each axis"
            )
        return [(given[0], given[-1])] * ndim
    rows = [(g, g) if _is_one(g) else (g[0], g[-1]) for g in given]
    if len(rows) not in (1, ndim):
        raise ShapeError(f"pad: pairs for {len(rows)} axes do not fit an array with {ndim} axes")
    return rows * ndim if len(rows) == 1 else rows


def _scalar(v: Any, x: Value) -> Value:
    if type(v) in NUMBERS and (dtypes.is_inexact(x.dtype) or type(v) is not float):
        return number(v, x.dtype)
    return astype(value(v), x.dtype)


def _constant(x: Value, widths: Widths, fill: Any) -> Value:
    if _is_one(fill):
        return lax.pad(x, _scalar(fill, x), [(a, b, 0) for a, b in widths])
    fills = _pairs(fill, x.ndim)
    for axis, ((a, b), (low, high)) in enumerate(zip(widths, fills, strict=True)):
        for width, v in (((a, 0), low), ((0, b), high)):
            config = [(*width, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
            x = lax.pad(x, _scalar(v, x), config)
    return x


def _by_index(x: Value, widths: Widths, mode: Any, reflect_type: str) -> Value:
    for axis, width in enumerate(widths):
        n = x.shape[axis]
        if not any(width):
            continue
        if mode in ("reflect", "symmetric") and reflect_type == "odd":
            # Odd reflection combines elements with integer weights, so it is a matrix.
            weights = np.pad(np.eye(n), (width, (0, 0)), mode=mode, reflect_type="odd")
            flat = basis.reshape(basis.moveaxis(x, axis, 0), (n, x.size // n))
            out = lax.dot(value(weights.astype(x.dtype)), flat)
            rest = (*x.shape[:axis], *x.shape[axis + 1 :])
            x = basis.moveaxis(basis.reshape(out, (len(weights), *rest)), 0, axis)
        else:
            x = shaping.take_rows(x, np.pad(np.arange(n, dtype=np.int32), width, mode=mode), axis)
    return x


def _edges(x: Value, axis: int, length: int | None = None) -> tuple[Value, Value]:
    n = x.shape[axis]
    k = n if length is None else min(length, n)
    return lax.slice_in_dim(x, 0, k, axis=axis), lax.slice_in_dim(x, n - k, n, axis=axis)


def _ramp(x: Value, widths: Widths, ends: Any) -> Value:
    for axis, ((a, b), pair) in enumerate(zip(widths, _pairs(ends, x.ndim), strict=True)):
        first, last = _edges(x, axis, 1)
        shape = tuple(-1 if i == axis else 1 for i in range(x.ndim))
        sides = []
        for width, edge, end, t in (
            (a, first, pair[0], np.arange(a) / max(a, 1)),
            (b, last, pair[1], np.arange(b)[::-1] / max(b, 1)),
        ):
            target = _scalar(end, x)
            grid = t.astype(dtypes.to_inexact(x.dtype)).reshape(shape)
            line = ufuncs.add(target, ufuncs.multiply(ufuncs.subtract(edge, target), grid))
            if not dtypes.is_inexact(x.dtype):
                line = rounding.floor(line)
            sides.append(basis.convert_element_type(line, x.dtype) if width else None)
        parts = [p for p in (sides[0], x, sides[1]) if p is not None]
        x = lax.concatenate(parts, axis)
    return x


def _statistic(x: Value, widths: Widths, mode: str, stat_length: Any) -> Value:
    lengths = _pairs(stat_length, x.ndim)
    reduce = {"maximum": reductions.max, "minimum": reductions.min, "mean": reductions.mean}[mode]
    for axis, ((a, b), (low, high)) in enumerate(zip(widths, lengths, strict=True)):
        parts = []
        for width, part in (
            (a, _edges(x, axis, low)[0]), (None, x), (b, _edges(x, axis, high)[1])
        ):  # fmt: skip
            if width is None:
                parts.append(x)
                continue
            found = reduce(part, axis, keepdims=True)
            if not dtypes.is_inexact(x.dtype):
                found = rounding.rint(found) if dtypes.is_inexact(found.dtype) else found
            found = basis.convert_element_type(found, x.dtype)
            shape = tuple(width if i == axis else n for i, n in enumerate(x.shape))
            parts.append(basis.broadcast_to(found, shape))
        x = lax.concatenate(parts, axis)
    return x
