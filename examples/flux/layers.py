"""The pieces of FLUX.1 that carry no state of their own: projections, embeddings, RoPE, attention.

Parameters are nested dicts whose keys, joined by dots, are the names in the state dict of
diffusers' ``FluxTransformer2DModel``. A linear layer is ``{"weight": [out, in], "bias": [out]}``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn

Params = dict[str, Any]
Rope = tuple[np.ndarray, np.ndarray]

NORM_EPS = 1e-6
ROPE_THETA = 10_000.0
TIME_FREQUENCIES = 256
TIME_MAX_PERIOD = 10_000.0
TIME_FACTOR = 1000.0


def linear(p: Params, x: fg.Array) -> fg.Array:
    """Affine map of the last axis: ``x[..., in] -> [..., out]``."""
    return x @ p["weight"].T + p["bias"]


def silu_mlp(p: Params, x: fg.Array) -> fg.Array:
    """Embed a conditioning vector ``x[B, in]``: linear, SiLU, linear -> ``[B, D]``."""
    return linear(p["linear_2"], nn.silu(linear(p["linear_1"], x)))


def feed_forward(p: Params, x: fg.Array) -> fg.Array:
    """The MLP of a double-stream block, with the tanh form of GELU: ``[B, T, D] -> [B, T, D]``."""
    hidden = nn.gelu(linear(p["net"]["0"]["proj"], x), approximate=True)
    return linear(p["net"]["2"], hidden)


def sinusoidal_embedding(t: fg.Array) -> fg.Array:
    """Embed scalars ``t[B]`` (a time in [0, 1], a guidance scale) as ``[B, 256]``, cosines first.

    The frequencies' exponents and values are rounded to float32 as in the published code: at
    ``1000 t`` one unit in the last place of a frequency is visible in the result.

    Source:
        Vaswani et al., *Attention Is All You Need*, arXiv:1706.03762, section 3.5.
    """
    half = TIME_FREQUENCIES // 2
    steps = np.arange(half, dtype=np.float32)
    exponents = np.float32(-math.log(TIME_MAX_PERIOD)) * steps / np.float32(half)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (TIME_FACTOR * t)[:, None] * frequencies
    return fnp.concatenate([fnp.cos(angles), fnp.sin(angles)], axis=-1)


def rope_table(ids: np.ndarray, axes_dim: Sequence[int]) -> Rope:
    """Cosines and sines of the rotary embedding over several axes.

    Axis ``i`` of a position turns ``axes_dim[i] // 2`` pairs of channels; FLUX has three axes: an
    unused one (0 for every token), the row and the column of the patch. Text tokens sit at the
    origin. Positions are known when the program is built, so the table is plain NumPy, computed
    in float64.

    Args:
        ids: ``[T, len(axes_dim)]``, the positions.
        axes_dim: Channels of a head given to each axis; even, with the head's width as their sum.

    Returns:
        Two float64 arrays ``[T, 1, sum(axes_dim) // 2]``; the axis of length 1 is the heads'.

    Source:
        Su et al., *RoFormer*, arXiv:2104.09864, section 3.2.

    Example:
        >>> cos, sin = rope_table(np.array([[0, 1]]), (2, 2))
        >>> cos.shape, cos[0, 0].round(4).tolist()
        ((1, 1, 2), [1.0, 0.5403])
    """
    angles = [
        ids[:, axis, None] * ROPE_THETA ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
        for axis, dim in enumerate(axes_dim)
    ]
    table = np.concatenate(angles, axis=-1)[:, None, :]
    return np.cos(table), np.sin(table)


def apply_rope(x: fg.Array, rope: Rope) -> fg.Array:
    """Turn neighbouring channels of ``x[B, T, N, H]`` by the angles in ``rope``; same shape."""
    cos, sin = (table.astype(x.dtype) for table in rope)
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    real, imag = pairs[..., 0], pairs[..., 1]
    turned = fnp.stack([real * cos - imag * sin, real * sin + imag * cos], axis=-1)
    return turned.reshape(x.shape)


def split_heads(x: fg.Array, head_dim: int) -> fg.Array:
    """``[B, T, N * H] -> [B, T, N, H]``."""
    return x.reshape(*x.shape[:-1], -1, head_dim)


def qkv(
    p: Params, x: fg.Array, names: Sequence[str], norms: Sequence[str], head_dim: int
) -> tuple[fg.Array, fg.Array, fg.Array]:
    """Project tokens ``x[B, T, D]`` to queries, keys and values ``[B, T, N, H]``.

    Queries and keys are RMS-normalised over each head's channels.

    Args:
        p: The attention's parameters.
        x: The tokens of one stream.
        names: The three projections in ``p``, for query, key and value.
        norms: The two RMSNorms in ``p``, for query and key.
        head_dim: H.
    """
    query, key, value = (split_heads(linear(p[name], x), head_dim) for name in names)
    query = nn.rms_norm(query, p[norms[0]]["weight"], eps=NORM_EPS)
    key = nn.rms_norm(key, p[norms[1]]["weight"], eps=NORM_EPS)
    return query, key, value


def attend(query: fg.Array, key: fg.Array, value: fg.Array, rope: Rope) -> fg.Array:
    """Rotary attention of ``[B, T, N, H]`` queries, keys and values -> ``[B, T, N * H]``."""
    out = nn.dot_product_attention(apply_rope(query, rope), apply_rope(key, rope), value)
    return out.reshape(*out.shape[:-2], -1)


def modulated_norm(x: fg.Array, scale: fg.Array, shift: fg.Array) -> fg.Array:
    """LayerNorm without gain, then ``(1 + scale) x + shift`` with ``scale, shift [B, 1, D]``."""
    return nn.layer_norm(x, eps=NORM_EPS) * (1.0 + scale) + shift


def modulation(p: Params, vec: fg.Array, count: int) -> list[fg.Array]:
    """``count`` modulation vectors ``[B, 1, D]`` from the conditioning vector ``vec[B, D]``."""
    return fnp.split(linear(p["linear"], nn.silu(vec))[:, None, :], count, axis=-1)
