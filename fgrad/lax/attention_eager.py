"""Attention on arrays, a block of queries at a time: scores of all queries never stand in memory.

Heads come before positions here: queries ``[..., K, G, T, H]`` (G of them share a key head), keys
``[..., K, S, H]``, values ``[..., K, S, D]``; scores ``[..., K, G, T, S]``. Arithmetic is in at
least float32.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis

Index = tuple[slice, ...]

# Scores in one block: 1 MiB of float32 stays in a core's cache; a device wants large products.
_HOST_BLOCK = 1 << 18
_DEVICE_BLOCK = 1 << 24


def _wide(x: Any) -> Any:
    w = basis.wide(x.dtype)
    return x if w is None else x.astype(w)


def by_query_head(x: Any, key_heads: int) -> Any:
    """``[..., T, N, X]`` as ``[..., K, G, T, X]``."""
    *lead, length, heads, size = x.shape
    grouped = x.reshape((*lead, length, key_heads, heads // max(key_heads, 1), size))
    return grouped.swapaxes(-4, -2).swapaxes(-4, -3)


def by_key_head(x: Any) -> Any:
    """``[..., S, K, X]`` as ``[..., K, S, X]``."""
    return x.swapaxes(-3, -2)


def grouped(x: Any, key_heads: int) -> Any:
    """``[..., N or 1, T, S]`` as ``[..., K or 1, G or 1, T, S]``."""
    *lead, heads, length, keys = x.shape
    first = 1 if heads == 1 else key_heads
    return x.reshape((*lead, first, heads // max(first, 1), length, keys))


class _Blocks:
    """The blocks of one call: which heads and queries each takes, and its part of an array."""

    def __init__(self, xp: Any, scores: tuple[int, ...], causal: bool) -> None:
        self.lead = scores[:-3]
        self.group, self.length, self.keys = scores[-3:]
        self.limit = _HOST_BLOCK if xp is np else _DEVICE_BLOCK
        self.causal = causal

    def __iter__(self) -> Iterator[tuple[Index, slice, slice]]:
        """Heads, queries and the keys that those may see."""
        if prod((*self.lead, self.group, self.length, self.keys)):
            yield from self._split(())

    def _split(self, prefix: Index) -> Iterator[tuple[Index, slice, slice]]:
        axis = len(prefix)
        row = self.group * self.keys
        if axis == len(self.lead):
            step = max(1, self.limit // row)
            for start in range(0, self.length, step):
                stop = min(start + step, self.length)
                seen = min(self.keys, stop) if self.causal else self.keys
                yield prefix, slice(start, stop), slice(0, seen)
            return
        inner = prod(self.lead[axis + 1 :]) * self.length * row
        rest = (slice(None),) * (len(self.lead) - axis - 1)
        step = self.limit // inner
        for start in range(0, self.lead[axis], max(step, 1)):
            part = (*prefix, slice(start, start + max(step, 1)))
            if step:
                seen = min(self.keys, self.length) if self.causal else self.keys
                yield (*part, *rest), slice(0, self.length), slice(0, seen)
            else:
                yield from self._split(part)


def _part(x: Any, heads: Index, *inner: slice) -> Any:
    """A block of an array that may have length 1 where others are long."""
    index = [
        slice(None) if n == 1 else s
        for n, s in zip(x.shape, (*heads, slice(None), *inner), strict=True)
    ]
    return x[tuple(index)]


class Scores:
    """What scores are made of; computes those of a block."""

    def __init__(
        self, xp: Any, q: Any, k: Any, rest: Sequence[Any], params: dict[str, Any]
    ) -> None:
        given = iter(rest)
        key_heads = k.shape[-2]
        self.xp = xp
        self.q, self.k = by_query_head(q, key_heads), by_key_head(_wide(k))
        self.bias = grouped(next(given), key_heads) if params["has_bias"] else None
        self.mask = grouped(next(given), key_heads) if params["has_mask"] else None
        self.scale, self.causal = params["scale"], params["causal"]
        self.shape = (*self.q.shape[:-1], self.k.shape[-2])
        self.blocks = _Blocks(xp, self.shape, self.causal)

    def queries(self, heads: Index, rows: slice) -> Any:
        """Scaled queries of a block, those that share a key head as one axis: [..., K, G·T, H]."""
        q = _wide(self.q[(*heads, slice(None), rows)])
        return _merged(q * q.dtype.type(self.scale))

    def block(self, q: Any, heads: Index, rows: slice, seen: slice) -> tuple[Any, Any]:
        """Scores [..., K, G, T, S] of a block, and where they count (None: everywhere)."""
        keys = self.k[(*heads, seen)]
        s = self.xp.matmul(q, keys.swapaxes(-1, -2))
        s = s.reshape((*s.shape[:-2], self.shape[-3], rows.stop - rows.start, s.shape[-1]))
        if self.bias is not None:
            s += _part(self.bias, heads, rows, seen).astype(s.dtype, copy=False)
        visible = None
        if self.mask is not None:
            visible = _part(self.mask, heads, rows, seen)
        if self.causal and seen.stop - 1 > rows.start:
            of_queries = self.xp.arange(rows.start, rows.stop)[:, None]
            earlier = of_queries >= self.xp.arange(seen.stop)[None, :]
            visible = earlier if visible is None else visible & earlier
        return s, visible


def _merged(x: Any) -> Any:
    """The axes of queries that share a key head, and of positions, as one."""
    return x.reshape((*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1]))


def forward(xp: Any, q: Any, k: Any, v: Any, *rest: Any, **params: Any) -> list[Any]:
    """The results of attention, and log Σ exp of the scores of each query."""
    scores = Scores(xp, q, k, rest, params)
    values = by_key_head(_wide(v))
    dtype = values.dtype
    out = xp.zeros((*scores.shape[:-1], v.shape[-1]), dtype)
    lse = xp.zeros(scores.shape[:-1], dtype)
    zero, one = xp.zeros((), dtype), xp.ones((), dtype)
    for heads, rows, seen in scores.blocks:
        s, visible = scores.block(scores.queries(heads, rows), heads, rows, seen)
        if visible is not None:
            s = xp.where(visible, s, xp.full((), -np.inf, dtype))
        top = s.max(axis=-1, keepdims=True)
        top = xp.where(top == -np.inf, zero, top)
        s -= top
        xp.exp(s, out=s)
        total = s.sum(axis=-1, keepdims=True)
        some = xp.where(total == 0, one, total)
        block = xp.matmul(_merged(s), values[(*heads, seen)])
        at = (*heads, slice(None), rows)
        out[at] = block.reshape(out[at].shape) / some
        lse[at] = xp.where(total == 0, zero, top + xp.log(some))[..., 0]
    n = lse.ndim
    return [
        _by_position(out).astype(q.dtype, copy=False),
        lse.reshape((*lse.shape[: n - 3], prod(lse.shape[n - 3 : n - 1]), lse.shape[-1])),
    ]


def _by_position(x: Any) -> Any:
    """``[..., K, G, T, X]`` as ``[..., T, N, X]``."""
    *lead, key_heads, group, length, size = x.shape
    moved = x.swapaxes(-4, -3).swapaxes(-4, -2)
    return moved.reshape((*lead, length, key_heads * group, size))


def backward(
    xp: Any, ct: Any, ct_lse: Any, q: Any, k: Any, v: Any, lse: Any, *rest: Any,
    bias_grad: bool, **params: Any,
) -> list[Any]:  # fmt: skip
    """Cotangents of the queries, keys, values and, with `bias_grad`, of the bias."""
    scores = Scores(xp, q, k, rest, params)
    values = by_key_head(_wide(v))
    key_heads, dtype = k.shape[-2], values.dtype
    cts = by_query_head(ct, key_heads)
    lse, ct_lse = (
        x.reshape((*x.shape[:-2], key_heads, x.shape[-2] // max(key_heads, 1), x.shape[-1], 1))
        for x in (lse, ct_lse)
    )
    d_q = xp.zeros((*scores.shape[:-1], q.shape[-1]), dtype)
    d_k, d_v = xp.zeros(scores.k.shape, dtype), xp.zeros(values.shape, dtype)
    d_bias = xp.zeros(scores.bias.shape, dtype) if bias_grad else None  # type: ignore[union-attr]
    zero = xp.zeros((), dtype)
    for heads, rows, seen in scores.blocks:
        at = (*heads, slice(None), rows)
        queries = scores.queries(heads, rows)
        p, visible = scores.block(queries, heads, rows, seen)
        p -= lse[at]
        xp.exp(p, out=p)
        if visible is not None:
            p = xp.where(visible, p, zero)
        c = _merged(_wide(cts[at]))
        d_v[(*heads, seen)] += xp.matmul(_merged(p).swapaxes(-1, -2), c)
        g = xp.matmul(c, values[(*heads, seen)].swapaxes(-1, -2)).reshape(p.shape)
        g -= (p * g).sum(axis=-1, keepdims=True) - ct_lse[at]
        g *= p
        if d_bias is not None:
            _add_bias(xp, d_bias, g, heads, rows, seen)
        g = _merged(g)
        d_k[(*heads, seen)] += xp.matmul(g.swapaxes(-1, -2), queries)
        part = xp.matmul(g, scores.k[(*heads, seen)]).reshape(d_q[at].shape)
        d_q[at] = part * dtype.type(scores.scale)
    grads = [_by_position(d_q), by_key_head(d_k), by_key_head(d_v)]
    out = [g.astype(x.dtype, copy=False) for g, x in zip(grads, (q, k, v), strict=True)]
    if d_bias is not None:
        out.append(d_bias.reshape(rest[0].shape).astype(rest[0].dtype, copy=False))
    return out


def _add_bias(xp: Any, d_bias: Any, g: Any, heads: Index, rows: slice, seen: slice) -> None:
    """Add the cotangents of a block's scores where the bias was broadcast from."""
    target = _part(d_bias, heads, rows, seen)
    axes = tuple(i for i, n in enumerate(target.shape) if n == 1)
    target += g.sum(axis=axes, keepdims=True)
