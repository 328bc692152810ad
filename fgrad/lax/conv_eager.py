"""Convolution on NumPy and CuPy: windows as strided views, gathered in blocks into matrix products.

Axes inside: g group, n batch, o and c output and input features of a group, p positions of the
result, k positions of the window; the last two stand for one axis each spatial dimension.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

Ints = Sequence[int]
Pads = Sequence[tuple[int, int]]

# Elements of one block of gathered windows: it is written and read again within the cache.
BLOCK = 1 << 20


def convolve(
    xp: Any, x: Any, w: Any, out_shape: Ints, strides: Ints, pads: Pads,
    lhs_dilation: Ints, rhs_dilation: Ints, feature_groups: int, batch_groups: int,
) -> Any:  # fmt: skip
    """The convolution of arrays of one dtype, in the layout batch, feature, spatial.

    Args:
        xp: NumPy or CuPy.
        x: [batch, features, *spatial], any strides.
        w: [output features, input features, *window], any strides.
        out_shape: The shape of the result.
        strides: Step of the window on each spatial axis.
        pads: Zeros before and after each spatial axis; negative ones cut.
        lhs_dilation: Steps between elements of x.
        rhs_dilation: Steps between elements of w.
        feature_groups: Number of groups of features.
        batch_groups: Number of groups of batch elements; it or `feature_groups` is 1.

    Returns:
        [batch, features, *spatial], of any strides.
    """
    if not x.size or not w.size or not prod(out_shape):
        return xp.zeros(tuple(out_shape), x.dtype)
    groups = max(feature_groups, batch_groups)
    if batch_groups > 1:
        x = x.reshape((groups, x.shape[0] // groups, *x.shape[1:]))
    else:
        x = x.reshape((x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])).swapaxes(0, 1)
    w = w.reshape((groups, w.shape[0] // groups, *w.shape[1:]))
    positions = tuple(out_shape[2:])
    if any(d > 1 for d in lhs_dilation) and all(s == 1 for s in strides):
        out = _overlap_add(xp, x, w, positions, pads, lhs_dilation, rhs_dilation)
    else:
        x = padded(xp, x, pads, lhs_dilation)
        windows = window_view(xp, x, w.shape[3:], positions, strides, rhs_dilation)
        if groups > 1 and w.shape[2] == 1 and prod(w.shape[3:]) <= prod(positions):
            out = _depthwise(xp, windows, w)
        else:
            out = _gathered(xp, x, windows, w)
    return out.swapaxes(0, 1).reshape(tuple(out_shape))


def workspace(
    x: Ints, w: Ints, out: Ints, strides: Ints, pads: Pads,
    lhs_dilation: Ints, rhs_dilation: Ints, feature_groups: int, batch_groups: int,
) -> int:  # fmt: skip
    """Elements that `convolve` allocates beside its result, for operands in row-major order.

    Args:
        x: The shape of the input, [batch, features, *spatial]; see `convolve` for the others.
        w: The shape of the window.
        out: The shape of the result.
        strides: As in `convolve`.
        pads: As in `convolve`.
        lhs_dilation: As in `convolve`.
        rhs_dilation: As in `convolve`.
        feature_groups: As in `convolve`.
        batch_groups: As in `convolve`.
    """
    if 0 in (*x, *w, *out):
        return 0
    groups = max(feature_groups, batch_groups)
    batch, positions, window = out[0], prod(out[2:]), prod(w[2:])
    again = prod(out) if groups > 1 else 0  # to bring groups and features together
    if any(d > 1 for d in lhs_dilation) and all(s == 1 for s in strides):
        each = w[0] // groups * window * prod(x[2:])
        step = min(batch, max(BLOCK // (each * groups), 1))
        rest = min(step, batch - step)
        return again + groups * each * (step + rest)  # one block, and the one before
    dilated = [
        (n - 1) * d + 1 + lo + hi for n, d, (lo, hi) in zip(x[2:], lhs_dilation, pads, strict=True)
    ]
    unchanged = tuple(dilated) == tuple(x[2:]) and not any(map(any, pads))
    place = 0 if unchanged else x[0] * x[1] * prod(dilated)
    if groups > 1 and w[1] == 1 and window <= positions:
        return place + 2 * prod(out)  # the term that is added, and the one before
    if window == 1:
        return place + again
    first = out[2] if len(out) > 2 else 1
    row = w[1] * window * positions // first
    sizes = groups, x[0] // batch_groups, first
    most = before = 0
    for block in _blocks(sizes, row):
        rows = prod(min(n, s.stop) - s.start for n, s in zip(sizes, block, strict=True))
        part = rows * (w[0] // groups) * (positions // first)
        part = part if part < prod(out) else 0  # else it is the result
        # While a block is computed, the result of the one before is there.
        most, before = max(most, row * rows + part + before), part
    return place + max(again, most)


def padded(xp: Any, x: Any, pads: Pads, dilation: Ints, fill: Any = 0) -> Any:
    """`x` with its last axes dilated and padded with `fill`; the order of memory stays."""
    if not any(lo or hi for lo, hi in pads) and all(d == 1 for d in dilation):
        return x
    lead = x.ndim - len(pads)
    shape = [*x.shape[:lead]]
    source: list[slice] = [slice(None)] * lead
    target: list[slice] = [slice(None)] * lead
    for n, (lo, hi), d in zip(x.shape[lead:], pads, dilation, strict=True):
        length = max((n - 1) * d + 1 if n else 0, 0) + lo + hi
        shape.append(max(length, 0))
        first = max(0, -(lo // d))
        end = min(n, (length - 1 - lo) // d + 1)
        source.append(slice(first, max(end, first)))
        start = lo + first * d
        target.append(slice(start, start + (end - first - 1) * d + 1 if end > first else start, d))
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    out = xp.full(tuple(shape[i] for i in order), fill, x.dtype)
    out = out.transpose(tuple(order.index(i) for i in range(x.ndim)))
    out[tuple(target)] = x[tuple(source)]
    return out


def window_view(
    xp: Any, x: Any, window: Ints, positions: Ints, strides: Ints, dilation: Ints
) -> Any:
    """A view of `x` as [*leading, *window, *positions]; it copies nothing."""
    lead = x.ndim - len(window)
    steps = x.strides[lead:]
    return xp.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:lead], *window, *positions),
        (
            *x.strides[:lead],
            *(t * d for t, d in zip(steps, dilation, strict=True)),
            *(t * s for t, s in zip(steps, strides, strict=True)),
        ),
    )


def _innermost(x: Any) -> str:
    """Which of 'batch', 'feature' and 'spatial' lies closest together in memory."""
    long = [i for i in range(1, x.ndim) if x.shape[i] > 1]
    if not long:
        return "spatial"
    axis = min(long, key=lambda i: (abs(x.strides[i]), -i))
    return "batch" if axis == 1 else "feature" if axis == 2 else "spatial"


def _blocks(sizes: tuple[int, int, int], each: int) -> Iterator[tuple[slice, slice, slice]]:
    """Ranges of groups, batch elements and first positions of about `BLOCK` gathered elements.

    Args:
        sizes: Number of groups, of batch elements, of first positions.
        each: Elements gathered for one of each; 0 where nothing is gathered: one block.
    """
    steps = []
    room = max(BLOCK // each, 1) if each else prod(sizes)
    for n in reversed(sizes):
        steps.append(max(min(n, room), 1))
        room = max(room // n, 1)
    for g in range(0, sizes[0], steps[2]):
        for n in range(0, sizes[1], steps[1]):
            for p in range(0, sizes[2], steps[0]):
                yield slice(g, g + steps[2]), slice(n, n + steps[1]), slice(p, p + steps[0])


def _gathered(xp: Any, x: Any, windows: Any, w: Any) -> Any:
    """[g, n, o, *p] from windows [g, n, c, *k, *p]: gather a block, multiply, go on."""
    spatial = w.ndim - 3
    product = _product_of(xp, x, windows, w)
    groups, batch = windows.shape[:2]
    positions = windows.shape[3 + spatial :]
    gathers = prod(w.shape[3:]) > 1
    each = prod(windows.shape[2:]) // positions[0] if gathers and positions else 0
    sizes = (groups, batch, positions[0] if positions else 1)
    out = None
    for g, n, p in _blocks(sizes, each):
        at = (g, n, slice(None), *(slice(None),) * spatial)
        part = product(windows[(*at, p)] if positions else windows[at], w[g])
        if part.shape[0] == groups and part.shape[1] == batch and part.shape[3:] == positions:
            return part
        if out is None:
            out = _empty_like_order(xp, part, (groups, batch, w.shape[1], *positions))
        out[(g, n, slice(None), p)] = part
    return out


def _empty_like_order(xp: Any, part: Any, shape: tuple[int, ...]) -> Any:
    """An array of that shape whose axes lie in memory as those of `part` do."""
    order = sorted(range(part.ndim), key=lambda i: -part.strides[i])
    out = xp.empty(tuple(shape[i] for i in order), part.dtype)
    return out.transpose(tuple(order.index(i) for i in range(part.ndim)))


def _product_of(xp: Any, x: Any, windows: Any, w: Any) -> Any:
    """How to multiply a block of windows; chosen so that gathering runs along memory."""
    s = w.ndim - 3
    ks, ps = tuple(range(3, 3 + s)), tuple(range(3 + s, 3 + 2 * s))
    inner = _innermost(x)
    positions, window = windows.shape[3 + s :], w.shape[3:]

    def features_last(v: Any, m: Any) -> Any:
        """[g, n·p, k·c] times [g, k·c, o]."""
        a = v.transpose((0, 1, *ps, *ks, 2))
        b = m.transpose((0, *ks, 2, 1)).reshape(m.shape[0], prod(m.shape[2:]), m.shape[1])
        return _rows(xp, a, b, s)

    def positions_small(v: Any, m: Any) -> Any:
        """[g, n·p, c·k] times [g, c·k, o]."""
        a = v.transpose((0, 1, *ps, 2, *ks))
        b = m.reshape(m.shape[0], m.shape[1], prod(m.shape[2:])).swapaxes(1, 2)
        return _rows(xp, a, b, s)

    def batch_last(v: Any, m: Any) -> Any:
        """[g, c·k, p·n], read transposed, times [g, c·k, o]."""
        a = v.transpose((0, 2, *ks, *ps, 1))
        tail = a.shape[2 + s :]
        a = a.reshape(a.shape[0], prod(a.shape[1 : 2 + s]), prod(tail))
        b = m.reshape(m.shape[0], m.shape[1], prod(m.shape[2:])).swapaxes(1, 2)
        out = xp.matmul(a.swapaxes(1, 2), b)
        out = out.reshape((a.shape[0], *tail, m.shape[1]))
        return out.transpose((0, s + 1, s + 2, *range(1, s + 1)))

    def positions_last(v: Any, m: Any) -> Any:
        """[o, c·k] times [c·k, p], for each group and batch element."""
        g, n, p = v.shape[0], v.shape[1], v.shape[3 + s :]
        a = v.reshape(g, n, prod(v.shape[2 : 3 + s]), prod(p))
        b = m.reshape(m.shape[0], 1, m.shape[1], prod(m.shape[2:]))
        return xp.matmul(b, a).reshape((g, n, m.shape[1], *p))

    if inner == "feature":
        return features_last
    if inner == "batch":
        return batch_last
    if prod(positions) < 16 or (s and window[-1] > positions[-1]):
        return positions_small
    return positions_last


def _rows(xp: Any, a: Any, b: Any, spatial: int) -> Any:
    """[g, n, *p, …] times [g, …, o] as [g, n, o, *p]."""
    rows = a.shape[1 : 2 + spatial]
    out = xp.matmul(a.reshape(a.shape[0], prod(rows), b.shape[1]), b)
    out = out.reshape((a.shape[0], *rows, b.shape[2]))
    return out.transpose((0, 1, spatial + 2, *range(2, 2 + spatial)))


def _depthwise(xp: Any, windows: Any, w: Any) -> Any:
    """One input feature a group: too thin for matrix products, so sum over the window's places."""
    spatial = w.ndim - 3
    out = None
    for k in np.ndindex(w.shape[3:]):
        at = (slice(None), slice(None), slice(None), *k)
        scale = w[at].swapaxes(1, 2)[(..., *(None,) * spatial)]  # [g, 1, o, 1…]
        term = windows[at] * scale
        if out is None:
            out = term
        else:
            out += term
    return out


def _overlap_add(
    xp: Any, x: Any, w: Any, positions: Ints, pads: Pads, lhs_dilation: Ints, rhs_dilation: Ints
) -> Any:
    """For a dilated lhs: multiply first, then add each product where it lands.

    Gathering windows of a dilated array would multiply mostly zeros. Element i of x reaches, by
    place k of the window, the result at i·lhs_dilation + low − k·rhs_dilation.
    """
    g, batch, c = x.shape[:3]
    size, window, o = x.shape[3:], w.shape[3:], w.shape[1]
    s = len(size)
    last = _innermost(x) == "feature"
    shape = (g, batch, *positions, o) if last else (g, batch, o, *positions)
    out = xp.zeros(shape, x.dtype)
    each = o * prod(window) * prod(size)
    step = max(BLOCK // max(each * g, 1), 1)
    for n in range(0, batch, step):
        part = x[:, n : n + step]
        m = part.shape[1]
        if last:
            rows = part.transpose((0, 1, *range(3, 3 + s), 2)).reshape(g, m * prod(size), c)
            right = w.transpose((0, 2, *range(3, 3 + s), 1)).reshape(g, c, prod(window) * o)
            terms = xp.matmul(rows, right).reshape((g, m, *size, *window, o))
        else:
            left = w.transpose((0, 1, *range(3, 3 + s), 2)).reshape(g, 1, o * prod(window), c)
            terms = xp.matmul(left, part.reshape(g, m, c, prod(size)))
            terms = terms.reshape((g, m, o, *window, *size))
        for k in np.ndindex(window):
            found = _landing(k, size, positions, pads, lhs_dilation, rhs_dilation)
            if found is None:
                continue
            source, target = found
            if last:
                at = (slice(None), slice(None), *source, *k)
                out[(slice(None), slice(n, n + step), *target)] += terms[at]
            else:
                at = (slice(None), slice(None), slice(None), *k, *source)
                out[(slice(None), slice(n, n + step), slice(None), *target)] += terms[at]
    return out.transpose((0, 1, s + 2, *range(2, s + 2))) if last else out


def _landing(
    k: Ints, size: Ints, positions: Ints, pads: Pads, lhs_dilation: Ints, rhs_dilation: Ints
) -> tuple[list[slice], list[slice]] | None:
    """Which elements of x reach the result by place k of the window, and where they land."""
    source, target = [], []
    for k_, n, p, (lo, _hi), d, e in zip(
        k, size, positions, pads, lhs_dilation, rhs_dilation, strict=True
    ):
        shift = lo - k_ * e
        first = max(0, -(shift // d))
        end = min(n, (p - 1 - shift) // d + 1)
        if end <= first:
            return None
        source.append(slice(first, end))
        target.append(slice(shift + first * d, shift + (end - 1) * d + 1, d))
    return source, target
