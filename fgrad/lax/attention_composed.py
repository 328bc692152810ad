"""Attention and its derivatives in terms of other primitives, and in float64 for the laws.

Probabilities come from log Σ exp of the scores, so that derivatives of any order follow. All scores
stand in memory here: what is large and of first order goes through `attention_eager`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.primitive import Value
from fgrad.lax.arithmetic import add, div, mul, sub
from fgrad.lax.bits import bitwise_and
from fgrad.lax.compare import eq, ge, is_finite
from fgrad.lax.contract import dot_general
from fgrad.lax.creation import broadcasted_iota
from fgrad.lax.elementary import exp, log
from fgrad.lax.reduce import reduce_max

Values = Sequence[Value]
Tangents = Sequence[Value | None]
Params = dict[str, Any]


def _to_heads(x: Value, key_heads: int | None = None) -> Value:
    """``[..., T, N, X]`` in at least float32 as ``[..., K, G, T, X]``; without K, no groups."""
    w = basis.wide(x.dtype)
    if w is not None:
        x = basis.convert_element_type(x, w)
    n = x.ndim - 3
    if key_heads is None:
        return basis.transpose(x, (*range(n), n + 1, n, n + 2))
    *batch, length, heads, size = x.shape
    x = basis.reshape(x, (*batch, length, key_heads, heads // key_heads, size))
    return basis.transpose(x, (*range(n), n + 1, n + 2, n, n + 3))


def _from_heads(x: Value, dtype: np.dtype[Any], groups: bool = True) -> Value:
    """The inverse of `_to_heads`."""
    n = x.ndim - (4 if groups else 3)
    if groups:
        x = basis.transpose(x, (*range(n), n + 2, n, n + 1, n + 3))
        *batch, length, key_heads, group, size = x.shape
        x = basis.reshape(x, (*batch, length, key_heads * group, size))
    else:
        x = basis.transpose(x, (*range(n), n + 1, n, n + 2))
    return x if x.dtype == dtype else basis.convert_element_type(x, dtype)


def _grouped(x: Value, key_heads: int) -> Value:
    """``[..., N or 1, T, S]`` as ``[..., K or 1, G or 1, T, S]``."""
    *batch, heads, length, keys = x.shape
    first = 1 if heads == 1 else key_heads
    return basis.reshape(x, (*batch, first, heads // first, length, keys))


def _rows(x: Value, key_heads: int) -> Value:
    """One number a query, ``[..., N, T]``, as ``[..., K, G, T, 1]``."""
    *batch, heads, length = x.shape
    return basis.reshape(x, (*batch, key_heads, heads // key_heads, length, 1))


def _row_sum(x: Value) -> Value:
    return basis.reshape(basis.reduce_sum(x, (x.ndim - 1,)), (*x.shape[:-1], 1))


def _dot(x: Value, y: Value, of_x: Sequence[int], of_y: Sequence[int]) -> Value:
    """A product over axes counted from the end, for each batch element and key head."""
    batch = tuple(range(min(x.ndim - 4, y.ndim - 3) + 1))
    contract = (tuple(x.ndim + a for a in of_x), tuple(y.ndim + a for a in of_y))
    return dot_general(x, y, (contract, (batch, batch)))


class _Parts:
    """Operands of attention with heads before positions, and what scores are made of."""

    def __init__(self, operands: Values, params: Params) -> None:
        q, k, v, *rest = operands
        given = iter(rest)
        self.key_heads = k.shape[-2]
        self.q = _to_heads(q, self.key_heads)
        self.k, self.v = _to_heads(k), _to_heads(v)
        self.scale, self.causal = params["scale"], params["causal"]
        self.bias = next(given) if params["has_bias"] else None
        self.mask = _grouped(next(given), self.key_heads) if params["has_mask"] else None

    def scaled(self, x: Value) -> Value:
        """``x`` times the scale of the scores."""
        return mul(x, self.scale)

    def wide_bias(self, bias: Value) -> Value:
        """The bias, or its tangent, as a term of the scores."""
        grouped = _grouped(bias, self.key_heads)
        same = grouped.dtype == self.q.dtype
        return grouped if same else basis.convert_element_type(grouped, self.q.dtype)

    def scores(self) -> Value:
        """``[..., K, G, T, S]``."""
        s = _dot(self.scaled(self.q), self.k, (-1,), (-1,))
        return s if self.bias is None else add(s, self.wide_bias(self.bias))

    def visible(self) -> Value | None:
        """Where a query sees a key; None for everywhere."""
        if not self.causal:
            return self.mask
        shape = (self.q.shape[-2], self.k.shape[-2])
        earlier = ge(broadcasted_iota(np.int32, shape, 0), broadcasted_iota(np.int32, shape, 1))
        return earlier if self.mask is None else bitwise_and(self.mask, earlier)

    def hidden_as(self, s: Value, value: float) -> Value:
        """Scores, or a function of them, with a number where a query does not see a key."""
        visible = self.visible()
        if visible is None:
            return s
        visible = basis.broadcast_to(visible, s.shape)
        return basis.select_n(visible, basis.broadcast_to(basis.scalar(value, s.dtype), s.shape), s)

    def probabilities(self, lse: Value) -> Value:
        """From log Σ exp of the scores."""
        s = sub(self.scores(), _rows(lse, self.key_heads))
        return self.hidden_as(exp(s), 0.0)


def attention(*operands: Value, **params: Any) -> list[Value]:
    """Both results of attention."""
    parts = _Parts(operands, params)
    s = parts.hidden_as(parts.scores(), -np.inf)
    zero, one = basis.scalar(0, s.dtype), basis.scalar(1, s.dtype)
    if s.shape[-1]:
        top = reduce_max(s, (s.ndim - 1,))
        top = basis.reshape(basis.select_n(is_finite(top), zero, top), (*top.shape, 1))
    else:
        top = zero
    e = exp(sub(s, top))
    total = _row_sum(e)
    none = eq(total, zero)
    some = basis.select_n(none, total, basis.broadcast_to(one, total.shape))
    out = div(_dot(e, parts.v, (-1,), (-2,)), some)
    lse = basis.select_n(none, add(log(some), top), basis.broadcast_to(zero, total.shape))
    *batch, length, heads, _ = operands[0].shape
    return [
        _from_heads(out, operands[0].dtype),
        basis.reshape(lse, (*batch, heads, length)),
    ]


def push(operands: Values, tangents: Tangents, lse: Value, params: Params) -> list[Value]:
    """Tangents of both results, from tangents of the operands."""
    parts = _Parts(operands, params)
    p = parts.probabilities(lse)
    of_q, of_k, of_v, *rest = tangents
    moved: Value | None = None
    if of_q is not None:
        t = _to_heads(of_q, parts.key_heads)
        moved = _dot(parts.scaled(t), parts.k, (-1,), (-1,))
    if of_k is not None:
        term = _dot(parts.scaled(parts.q), _to_heads(of_k), (-1,), (-1,))
        moved = term if moved is None else basis.add_any(moved, term)
    if params["has_bias"] and rest[0] is not None:
        term = basis.broadcast_to(parts.wide_bias(rest[0]), p.shape)
        moved = term if moved is None else basis.add_any(moved, term)
    out = None if of_v is None else _dot(p, _to_heads(of_v), (-1,), (-2,))
    if moved is None:
        d_lse = basis.zeros(lse.aval.tangent())
    else:
        mean = _row_sum(basis.linear_mul(moved, p))
        change = basis.linear_mul(sub(moved, mean), p)
        out = basis.add_tangents(out, _dot(change, parts.v, (-1,), (-2,)))
        d_lse = basis.reshape(mean, lse.shape)
    assert out is not None
    return [_from_heads(out, operands[0].dtype), d_lse]


def pull(*operands: Value, bias_grad: bool, **params: Any) -> list[Value]:
    """Cotangents of query, key, value and, with `bias_grad`, of the bias."""
    ct, ct_lse, q, k, v, _, lse, *rest = operands
    parts = _Parts((q, k, v, *rest), params)
    p = parts.probabilities(lse)
    c = _to_heads(ct, parts.key_heads)
    g = _dot(c, parts.v, (-1,), (-1,))
    g = add(sub(g, _row_sum(basis.linear_mul(g, p))), _rows(ct_lse, parts.key_heads))
    g = basis.linear_mul(g, p)
    grads = [
        _from_heads(parts.scaled(_dot(g, parts.k, (-1,), (-2,))), q.dtype),
        _from_heads(_dot(g, parts.scaled(parts.q), (-3, -2), (-3, -2)), k.dtype, groups=False),
        _from_heads(_dot(p, c, (-3, -2), (-3, -2)), v.dtype, groups=False),
    ]
    if bias_grad:
        *batch, key_heads, group, length, keys = g.shape
        full = basis.reshape(g, (*batch, key_heads * group, length, keys))
        of_bias = basis.unbroadcast(full, rest[0].shape)
        same = of_bias.dtype == rest[0].dtype
        grads.append(of_bias if same else basis.convert_element_type(of_bias, rest[0].dtype))
    return grads


# ---------------------------------------------------------------------------- float64, for the laws


def _scores_reference(q: Any, k: Any, rest: Sequence[Any], params: Params) -> tuple[Any, Any]:
    """Scores [..., N, T, S] and where they count."""
    given = iter(rest)
    k = np.repeat(k, q.shape[-2] // k.shape[-2], axis=-2)
    s = params["scale"] * np.einsum("...tnh,...snh->...nts", q, k)
    s = s + next(given) if params["has_bias"] else s
    visible = np.broadcast_to(next(given) if params["has_mask"] else True, s.shape)
    if params["causal"]:
        visible = visible & (np.tri(*s.shape[-2:]) > 0)
    return s, visible


def reference(q: Any, k: Any, v: Any, *rest: Any, **params: Any) -> list[Any]:
    """Both results of attention."""
    s, visible = _scores_reference(q, k, rest, params)
    e = np.where(visible, np.exp(s), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    p = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    values = np.repeat(v, q.shape[-2] // v.shape[-2], axis=-2)
    lse = np.log(total, out=np.zeros_like(total), where=total > 0)[..., 0]
    return [np.einsum("...nts,...snd->...tnd", p, values), lse]


def _size_of_scores(q: Any, k: Any, rest: Sequence[Any], params: Params) -> Any:
    """Σ|terms| of the scores of each query, the largest over the keys: [..., N, T]."""
    positive = [np.abs(x) if x.dtype.kind != "b" else x for x in rest]
    s, _ = _scores_reference(np.abs(q), np.abs(k), positive, params)
    return 4 + 2 * s.max(axis=-1, initial=0.0)


def terms(q: Any, k: Any, v: Any, *rest: Any, **params: Any) -> list[Any]:
    """Σ|terms| of both results: of p·v, where the error of p is that of the scores."""
    size = _size_of_scores(q, k, rest, params)
    of_out, lse = reference(q, k, np.abs(v), *rest, **params)
    return [of_out * np.swapaxes(size, -1, -2)[..., None], size + np.abs(lse)]


def grad_reference(
    ct: Any, ct_lse: Any, q: Any, k: Any, v: Any, _out: Any, lse: Any, *rest: Any,
    bias_grad: bool, **params: Any,
) -> list[Any]:  # fmt: skip
    """The cotangents of the operands of attention."""
    s, visible = _scores_reference(q, k, rest, params)
    p = np.where(visible, np.exp(s - lse[..., None]), 0.0)
    g = np.einsum("...tnd,...snd->...nts", ct, np.repeat(v, q.shape[-2] // v.shape[-2], axis=-2))
    g = p * (g - (p * g).sum(axis=-1, keepdims=True) + ct_lse[..., None])
    return _grads_of(p, g, ct, q, k, rest, bias_grad, params)


def _grads_of(
    p: Any, g: Any, ct: Any, q: Any, k: Any, rest: Sequence[Any], bias_grad: bool, params: Params
) -> list[Any]:
    group = q.shape[-2] // k.shape[-2]

    def of_keys(x: Any) -> Any:
        return x.reshape((*x.shape[:-2], x.shape[-2] // group, group, x.shape[-1])).sum(axis=-2)

    keys = np.repeat(k, group, axis=-2)
    grads = [
        params["scale"] * np.einsum("...nts,...snh->...tnh", g, keys),
        params["scale"] * of_keys(np.einsum("...nts,...tnh->...snh", g, q)),
        of_keys(np.einsum("...nts,...tnd->...snd", p, ct)),
    ]
    if bias_grad:
        axes = tuple(i for i, n in enumerate(rest[0].shape) if n == 1)
        grads.append(g.sum(axis=axes, keepdims=True))
    return grads


def grad_terms(
    ct: Any, ct_lse: Any, q: Any, k: Any, v: Any, _out: Any, lse: Any, *rest: Any,
    bias_grad: bool, **params: Any,
) -> list[Any]:  # fmt: skip
    """Σ|terms| of the cotangents, the errors of the scores and of the means included."""
    s, visible = _scores_reference(q, k, rest, params)
    p = np.where(visible, np.exp(s - lse[..., None]), 0.0)
    size = (_size_of_scores(q, k, rest, params) + np.abs(lse))[..., None]
    values = np.repeat(np.abs(v), q.shape[-2] // v.shape[-2], axis=-2)
    g = np.einsum("...tnd,...snd->...nts", np.abs(ct), values)
    mean = (p * g * size).sum(axis=-1, keepdims=True)
    g = p * size * (g + mean + np.abs(ct_lse)[..., None])
    positive = np.abs(params["scale"])
    return _grads_of(
        p * size, g, np.abs(ct), np.abs(q), np.abs(k), rest, bias_grad,
        {**params, "scale": positive},
    )  # fmt: skip
