"""Histograms, covariance, convolution and windows."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer
from fgrad.core.basis import convert_element_type, select_n
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import Value
from fgrad.numpy import (
    cumulative,
    diagonals,
    elementary,
    grids,
    joining,
    products,
    reductions,
    shaping,
    sorting,
    ufuncs,
)
from fgrad.numpy.promotion import number, promote, promote_inexact, value


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Value:
    """The edges of the bins of `histogram`.

    Args:
        a: The data.
        bins: The number of bins, or their edges.
        range: Lowest and highest edge; the extrema of `a` where None.
        weights: Not used.
    """
    del weights
    if isinstance(bins, str):
        raise DtypeError(f"histogram_bin_edges: the estimator {bins!r} is not supported; pass a "
                         f"number of bins or their edges")  # fmt: skip
    (x,) = promote_inexact("histogram_bin_edges", a)
    if np.ndim(bins) == 1:
        return promote_inexact("histogram_bin_edges", value(np.asarray(bins))
                               if isinstance(bins, list | tuple) else bins)[0]  # fmt: skip
    count = integer(bins, "histogram_bin_edges: bins")
    if range is None:
        if x.size == 0:
            low, high = ufuncs.const(0.0, x), ufuncs.const(1.0, x)
        else:
            low, high = reductions.min(x), reductions.max(x)
    else:
        low, high = (convert_element_type(value(r), x.dtype) for r in range)
    # Equal ends would give bins without width.
    same = lax.eq(low, high)
    half = ufuncs.const(0.5, x)
    low, high = select_n(same, low, lax.sub(low, half)), select_n(same, high, lax.add(high, half))
    return grids.linspace(low, high, count + 1, dtype=x.dtype)


def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Value, Value]:
    """How many elements fall into each bin (the last one includes its upper edge), and the edges.

    Args:
        a: The data.
        bins: The number of bins, or their edges.
        range: Lowest and highest edge; the extrema of `a` where None.
        weights: What each element counts; 1 where None.
        density: Whether to divide by the total and by the width of the bin.
    """
    edges = histogram_bin_edges(a, bins, range, weights)
    (x,) = promote_inexact("histogram", a)
    x = shaping.ravel(x)
    if weights is None:
        counts: Value = lax.full((x.size,), 1, x.dtype)
    else:
        counts = shaping.ravel(value(weights))
        if counts.size != x.size:
            raise ShapeError(f"histogram: weights {counts.aval} do not fit the data, {x.aval}")
        if not dtypes.is_inexact(counts.dtype):
            counts = convert_element_type(counts, x.dtype)
    totals = _count_bins(x, edges, counts)
    if density:
        widths = cumulative.diff(edges)
        scale = lax.mul(convert_element_type(widths, totals.dtype), reductions.sum(totals))
        totals = lax.div(totals, scale)
    return totals, edges


def _count_bins(x: Value, edges: Value, counts: Value) -> Value:
    index = _bin_index(x, edges)
    start = lax.full((edges.size - 1,), 0, counts.dtype)
    return start.at[index].add(counts, mode="drop")


def _bin_index(x: Value, edges: Value) -> Value:
    """The bin of each element; the number of bins where it lies outside."""
    n = edges.size - 1
    index = sorting.searchsorted(edges, x, "right")
    one, many = (number(k, index.dtype, weak=False) for k in (1, n))
    last = basis.reshape(lax.slice_in_dim(edges, n, n + 1, axis=0), ())
    index = lax.sub(index, one)
    index = select_n(lax.eq(x, last), index, lax.sub(many, one))
    below = lax.lt(index, ufuncs.zero_like(index))
    outside = lax.bitwise_or(below, lax.gt(x, last))
    return select_n(lax.bitwise_or(outside, lax.ne(x, x)), index, many)


def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, weights: Any = None,
    density: bool | None = None,
) -> tuple[Value, list[Value]]:  # fmt: skip
    """`histogram` of points: counts on a grid of bins, and the edges along each axis.

    Args:
        sample: ``[n, d]``, or d vectors.
        bins: The number of bins, or for each axis the number or the edges.
        range: For each axis the lowest and highest edge, or None.
        weights: What each point counts.
        density: Whether to divide by the total and by the volume of the bin.
    """
    points = joining.stack(sample, 1) if isinstance(sample, list | tuple) else value(sample)
    (points,) = promote_inexact("histogramdd", points)
    if points.ndim != 2:
        raise ShapeError(f"histogramdd: sample must be [n, d], got {points.aval}")
    d = points.shape[1]
    per_axis = [bins] * d if np.ndim(bins) == 0 else list(bins)
    ranges = [None] * d if range is None else list(range)
    if len(per_axis) != d or len(ranges) != d:
        raise ShapeError(f"histogramdd: bins and range must have one entry for each of {d} axes")
    columns = joining.unstack(points, axis=1)
    edges = [histogram_bin_edges(c, b, r)
             for c, b, r in zip(columns, per_axis, ranges, strict=True)]  # fmt: skip
    shape = tuple(e.size - 1 for e in edges)
    places = tuple(_bin_index(c, e) for c, e in zip(columns, edges, strict=True))
    if weights is None:
        counts: Value = lax.full((points.shape[0],), 1, dtypes.default_int())
    else:
        counts = convert_element_type(value(weights), points.dtype)
    total = lax.full(shape, 0, counts.dtype).at[places].add(counts, mode="drop")
    if density:
        total = ufuncs.divide(total, reductions.sum(total))
        for i, e in enumerate(edges):
            width = cumulative.diff(e)
            shape = tuple(width.size if j == i else 1 for j, _ in enumerate(edges))
            total = ufuncs.divide(total, basis.reshape(width, shape))
    return total, edges


def histogram2d(
    x: Any, y: Any, bins: Any = 10, range: Any = None, weights: Any = None,
    density: bool | None = None,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """`histogram` of points in the plane: counts, and the edges along x and y."""
    if np.ndim(bins) == 1 and len(bins) not in (1, 2):
        bins = [bins, bins]
    total, edges = histogramdd([x, y], bins, range, weights, density)
    return total, edges[0], edges[1]


# --------------------------------------------------------------------------------- covariance


def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
    fweights: Any = None, aweights: Any = None,
) -> Value:  # fmt: skip
    """The covariance matrix of variables.

    Args:
        m: Variables as rows, observations as columns.
        y: More variables.
        rowvar: Whether rows are the variables; else columns are.
        bias: Whether to divide by n, not n - 1.
        ddof: The divisor is n less this; overrides `bias`.
        fweights: How often each observation was made: integers.
        aweights: How much each observation counts.
    """
    parts = [_variables(v, rowvar) for v in promote_inexact("cov", *([m] if y is None else [m, y]))]
    x = parts[0] if y is None else lax.concatenate(parts, 0)
    n = x.shape[1]
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights: Value | None = None
    real = dtypes.real_dtype(x.dtype)
    if fweights is not None:
        weights = convert_element_type(_weights("fweights", fweights, n), real)
    if aweights is not None:
        chosen = convert_element_type(_weights("aweights", aweights, n), real)
        weights = chosen if weights is None else lax.mul(weights, chosen)
    if weights is None:
        centred = lax.sub(x, reductions.mean(x, 1, keepdims=True))
        scaled = centred
        divisor: Value = number(float(n - ddof), real, weak=False)
    else:
        total = reductions.sum(weights)
        mean = reductions.average(x, 1, weights=weights)
        centred = lax.sub(x, basis.reshape(mean, (x.shape[0], 1)))
        scaled = ufuncs.multiply(centred, weights)
        if aweights is None or not ddof:
            divisor = lax.sub(total, number(float(ddof), real, weak=False))
        else:
            correction = lax.div(reductions.sum(lax.mul(weights, chosen)), total)
            divisor = lax.sub(total, lax.mul(correction, number(float(ddof), real, weak=False)))
    out = products.matmul(scaled, ufuncs.conjugate(shaping.transpose(centred)))
    return shaping.squeeze(ufuncs.divide(out, divisor))


def _variables(x: Value, rowvar: bool) -> Value:
    if x.ndim > 2:
        raise ShapeError(f"cov: variables need at most 2 axes, got {x.aval}")
    x = shaping.atleast_2d(x)
    return shaping.transpose(x) if not rowvar and x.shape[0] != 1 else x


def _weights(name: str, weights: Any, n: int) -> Value:
    w = value(np.asarray(weights) if isinstance(weights, list | tuple) else weights)
    if w.shape != (n,):
        raise ShapeError(f"cov: {name} must hold one number for each of {n} observations, "
                         f"got {w.aval}")  # fmt: skip
    return w


def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Value:
    """The correlation coefficients of variables: their covariance over their deviations."""
    c = cov(x, y, rowvar)
    if not c.ndim:
        return ufuncs.divide(c, c)
    n = c.shape[0]
    deviation = lax.sqrt(ufuncs.real(diagonals.diagonal(c)))
    c = ufuncs.divide(ufuncs.divide(c, basis.reshape(deviation, (n, 1))), deviation)
    if c.dtype.kind == "c":
        parts = [elementary.clip(p, -1, 1) for p in (lax.real(c), lax.imag(c))]
        return lax.complex(*parts)
    return elementary.clip(c, -1, 1)


# -------------------------------------------------------------------------------- convolution


def convolve(
    a: Any, v: Any, mode: str = "full", *, precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:  # fmt: skip
    """The convolution of two vectors: ``out[k] = Σ a[j] v[k - j]``.

    Args:
        a: A vector.
        v: A vector.
        mode: "full" (every overlap), "same" (as long as the longer one) or "valid".
        precision: How float32 products are computed; None is full float32.
        preferred_element_type: Dtype of the result and of the accumulation.
    """
    x, y = promote("convolve", a, v)
    if x.ndim == y.ndim == 1 and y.size > x.size:
        x, y = y, x
    if y.ndim == 1:
        y = lax.rev(y, (0,))
    return _slide("convolve", x, y, mode, precision, preferred_element_type)


def correlate(
    a: Any, v: Any, mode: str = "valid", *, precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:  # fmt: skip
    """The correlation of two vectors: ``out[k] = Σ a[k + j] conj(v[j])``; see `convolve`."""
    x, y = promote("correlate", a, v)
    y = ufuncs.conjugate(y)
    if x.ndim == y.ndim == 1 and y.size > x.size:
        out = _slide("correlate", y, x, mode, precision, preferred_element_type)
        return lax.rev(out, (0,))
    return _slide("correlate", x, y, mode, precision, preferred_element_type)


def _slide(name: str, x: Value, y: Value, mode: str, precision: Any, preferred: Any) -> Value:
    """Σ x[k + j] y[j], where y is not longer than x."""
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise ShapeError(f"{name} takes two vectors with elements, got {x.aval} and {y.aval}")
    n, m = x.size, y.size
    widths = {"full": (m - 1, m - 1), "same": (m // 2, m - m // 2 - 1), "valid": (0, 0)}
    if mode not in widths:
        raise ArgumentError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}")
    before, after = widths[mode]
    length = n + before + after - m + 1
    x = lax.pad(x, basis.scalar(0, x.dtype), [(before, after, 0)])
    index = np.arange(length, dtype=np.int32)[:, None] + np.arange(m, dtype=np.int32)
    if dtypes.is_inexact(x.dtype) and x.dtype.kind != "c" and length * m > 4096:
        out = lax.conv_general_dilated(
            basis.reshape(x, (1, 1, x.size)), basis.reshape(y, (1, 1, m)), (1,), [(0, 0)],
            precision=precision, preferred_element_type=preferred,
        )  # fmt: skip
        return basis.reshape(out, (length,))
    rows = basis.reshape(shaping.take_rows(x, index.ravel(), 0), (length, m))
    return products.matmul(rows, y, precision=precision, preferred_element_type=preferred)


# ------------------------------------------------------------------------------------ windows


def _window(m: int, coefficients: Sequence[float]) -> Value:
    kind = dtypes.default_float()
    m = integer(m, "the number of points M")
    if m < 1:
        return lax.full((0,), 0, kind)
    if m == 1:
        return lax.full((1,), 1, kind)
    t = 2 * math.pi * np.arange(m) / (m - 1)
    total = sum(((-1) ** k) * c * np.cos(k * t) for k, c in enumerate(coefficients))
    return ArrayImpl(np.asarray(total, kind))


def hanning(M: int) -> Value:
    """The Hann window of `M` points."""
    return _window(M, (0.5, 0.5))


def hamming(M: int) -> Value:
    """The Hamming window of `M` points."""
    return _window(M, (0.54, 0.46))


def blackman(M: int) -> Value:
    """The Blackman window of `M` points."""
    return _window(M, (0.42, 0.5, 0.08))


def bartlett(M: int) -> Value:
    """The triangular window of `M` points, 0 at its ends."""
    return ArrayImpl(
        np.bartlett(integer(M, "the number of points M")).astype(dtypes.default_float())
    )


def kaiser(M: int, beta: Any) -> Value:
    """The Kaiser window of `M` points; `beta` is its shape."""
    (b,) = promote_inexact("kaiser", beta)
    m = integer(M, "the number of points M")
    if m == 1:
        return lax.full((1,), 1, b.dtype)
    half = (m - 1) / 2
    t = value(np.asarray(1 - ((np.arange(m) - half) / half) ** 2, b.dtype)) if m else value(
        np.zeros(0, b.dtype))  # fmt: skip
    return ufuncs.divide(elementary.i0(ufuncs.multiply(b, reductions.safe_sqrt(t))),
                         elementary.i0(b))  # fmt: skip
