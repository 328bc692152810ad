"""Scaled dot-product attention."""

from typing import Any

import fgrad.numpy as fnp
from fgrad import lax
from fgrad.core.errors import DtypeError, ShapeError

Value = Any


def dot_product_attention(
    query: Value,
    key: Value,
    value: Value,
    bias: Value | None = None,
    mask: Value | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
) -> Value:
    """``softmax(scale · q·kᵀ + bias) · v`` for each head.

    Letters: batch B, query length T, key length S, heads N, key and value heads K (which divides
    N; head n reads key and value head ``n // (N / K)``), head size H.

    Args:
        query: ``[B, T, N, H]`` or ``[T, N, H]``, float.
        key: ``[B, S, K, H]`` or ``[S, K, H]``.
        value: Shape of ``key``, or another last size.
        bias: Added to the scores; broadcasts to ``[B, N, T, S]``.
        mask: Booleans that broadcast to ``[B, N, T, S]``; True lets a query see a key.
        scale: Factor of the scores; ``1/√H`` if None.
        is_causal: Let query t see keys 0 … t only, besides the mask.

    Returns:
        ``[B, T, N, H]`` (the last size of ``value``), dtype of ``query``. A query that sees no key
        gets zeros.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: ``mask`` is not boolean.

    Derivatives:
        All orders. Reverse mode keeps the operands, the result and log Σ exp of the scores of each
        query; eager code never holds the scores of all queries at once.

    Numerics:
        Scores and softmax in at least float32.

    Source:
        Vaswani et al., *Attention Is All You Need*, arXiv:1706.03762, section 3.2; Ainslie et al.,
        *GQA*, arXiv:2305.13245, for groups of heads.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> q = k = np.zeros((2, 1, 4), np.float32)
        >>> v = np.array([1.0, 3.0], np.float32).reshape(2, 1, 1)
        >>> print(nn.dot_product_attention(q, k, v, is_causal=True).ravel())
        [1. 2.]
    """
    query, key, value = fnp.asarray(query), fnp.asarray(key), fnp.asarray(value)
    _check_shapes(query, key, value)
    *batch, length, heads, _ = query.shape
    scores = (*batch, heads, length, key.shape[-3])
    dtype = fnp.result_type(query, key, value)
    bias = None if bias is None else _broadcastable("bias", fnp.asarray(bias), scores)
    mask = None if mask is None else _broadcastable("mask", fnp.asarray(mask), scores)
    if mask is not None and mask.dtype != fnp.bool_:
        message = (
            f"dot_product_attention: mask must be boolean, got {mask.dtype}; pass numbers that are "
            f"added to the scores as bias"
        )
        raise DtypeError(message)
    if bias is not None and not fnp.issubdtype(bias.dtype, fnp.floating):
        bias = bias.astype(dtype)
    parts = (x.astype(dtype) for x in (query, key, value))
    result = lax.dot_product_attention(*parts, bias, mask, scale=scale, causal=is_causal)
    return result.astype(query.dtype)


def _broadcastable(name: str, x: Value, scores: tuple[int, ...]) -> Value:
    """`x` with as many axes as the scores; axes of length 1 stand for any."""
    full = (1,) * (4 - len(scores)) + tuple(scores)
    padded = (1,) * (len(full) - x.ndim) + tuple(x.shape)
    if len(padded) != len(full) or any(a not in (1, b) for a, b in zip(padded, full, strict=True)):
        message = (
            f"dot_product_attention: {name} {list(x.shape)} does not broadcast to the scores "
            f"[B, N, T, S] = {list(full)}"
        )
        raise ShapeError(message)
    return x.reshape(padded[len(full) - len(scores) :])


def _check_shapes(query: Value, key: Value, value: Value) -> None:
    got = (
        f"got query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}; "
        "expected [B, T, N, H], [B, S, K, H], [B, S, K, H]"
    )
    if query.ndim not in (3, 4) or key.ndim != query.ndim or value.ndim != query.ndim:
        message = f"dot_product_attention: all of query, key and value have 3 or 4 axes; {got}"
        raise ShapeError(message)
    if key.shape[:-1] != value.shape[:-1]:
        message = f"dot_product_attention: key and value differ before their last axis; {got}"
        raise ShapeError(message)
    if query.shape[:-3] != key.shape[:-3] or query.shape[-1] != key.shape[-1]:
        message = f"dot_product_attention: query and key differ in batch or head size; {got}"
        raise ShapeError(message)
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        message = f"dot_product_attention: key heads do not divide query heads; {got}"
        raise ShapeError(message)
