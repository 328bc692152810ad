"""Multi-head attention as a layer."""

import math
from typing import Any

import fgrad.numpy as fnp
from fgrad import random
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.nn.attention import dot_product_attention
from fgrad.nn.modules.base import Module, static
from fgrad.nn.modules.linear import Linear, uniform_within
from fgrad.numpy.creation import settled

Value = Any


class MultiHeadAttention(Module):
    """Attention with projections of query, key, value and result.

    The parameters have the names, shapes and initial distributions of
    ``torch.nn.MultiheadAttention``; batches come first, and True in a mask lets a query see a key.

    Args:
        key: Random key for the parameters.
        embed_dim: Size of the query and of the result.
        num_heads: Number of heads; divides ``embed_dim``.
        bias: Whether the projections have a bias.
        dtype: dtype of the parameters; the default float where None.

    Attributes:
        in_proj_weight: ``[3 · embed_dim, embed_dim]``, of query, key and value, uniform within
            √(6 / (4 · embed_dim)).
        in_proj_bias: ``[3 · embed_dim]``, zeros, or None.
        out_proj: ``Linear`` with a bias of zeros.

    Raises:
        ArgumentError: ``num_heads`` does not divide ``embed_dim``.

    Source:
        Vaswani et al., *Attention Is All You Need*, arXiv:1706.03762, section 3.2.2.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> layer = nn.MultiHeadAttention(fg.random.key(0), embed_dim=8, num_heads=2)
        >>> layer(fg.numpy.ones((1, 5, 8)), is_causal=True).shape
        (1, 5, 8)
    """

    embed_dim: int = static()
    num_heads: int = static()
    in_proj_weight: Value
    in_proj_bias: Value | None
    out_proj: Linear

    def __init__(
        self,
        key: Value,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            message = f"MultiHeadAttention: {num_heads} heads do not divide embed_dim={embed_dim}"
            raise ArgumentError(message)
        in_key, out_key = random.split(key)
        bound = math.sqrt(6 / (4 * embed_dim))
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.in_proj_weight = uniform_within(in_key, bound, (3 * embed_dim, embed_dim), dtype)
        self.in_proj_bias = settled(fnp.zeros((3 * embed_dim,), dtype)) if bias else None
        out_bias = settled(fnp.zeros((embed_dim,), dtype)) if bias else None
        out_proj = Linear(out_key, embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.out_proj = out_proj.replace(bias=out_bias)

    def __call__(
        self,
        query: Value,
        key: Value | None = None,
        value: Value | None = None,
        bias: Value | None = None,
        mask: Value | None = None,
        *,
        is_causal: bool = False,
    ) -> Value:
        """Attend from ``query`` to ``key`` and ``value``.

        Args:
            query: ``[batch, length, embed_dim]`` or ``[length, embed_dim]``.
            key: ``[batch, keys, embed_dim]``; None is ``query``.
            value: ``[batch, keys, embed_dim]``; None is ``key``.
            bias: Added to the scores; broadcasts to ``[batch, heads, length, keys]``.
            mask: Booleans, likewise; True lets a query see a key.
            is_causal: Let each query see no later key.

        Returns:
            Shape of ``query``.

        Raises:
            ShapeError: The shapes do not fit.
        """
        key = query if key is None else key
        value = key if value is None else value
        weights = fnp.split(self.in_proj_weight, 3)
        biases = [None] * 3 if self.in_proj_bias is None else fnp.split(self.in_proj_bias, 3)
        q, k, v = (
            self._heads(*part) for part in zip((query, key, value), weights, biases, strict=True)
        )
        heads = dot_product_attention(q, k, v, bias, mask, is_causal=is_causal)
        return self.out_proj(heads.reshape((*heads.shape[:-2], self.embed_dim)))

    def _heads(self, x: Value, weight: Value, bias: Value | None) -> Value:
        """Project ``[..., embed_dim]`` and split it, to ``[..., heads, embed_dim / heads]``."""
        if fnp.ndim(x) not in (2, 3) or fnp.shape(x)[-1] != self.embed_dim:
            message = (
                "MultiHeadAttention: query, key and value must be "
                f"[batch, length, {self.embed_dim}] or [length, {self.embed_dim}], "
                f"got {list(fnp.shape(x))}"
            )
            raise ShapeError(message)
        y = fnp.matmul(x, weight.T)
        y = y if bias is None else y + bias
        return y.reshape((*y.shape[:-1], self.num_heads, self.embed_dim // self.num_heads))
