"""Blocks of FLUX as every library writes them: one double-stream block, then single-stream ones.

Scripts import it beside their own `peers`, from which the libraries and conversions come.
"""

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

from peers import fg, fnp, in_jax, in_torch, jax, jnp, np, torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "flux"))

import torch.utils.checkpoint

import layers
import model

F = torch.nn.functional
DOUBLE, SINGLE = "transformer_blocks.0.", "single_transformer_blocks.{}."


class Sizes(NamedTuple):
    """What the blocks are made of.

    Attributes:
        heads: Of attention.
        head: Channels of a head.
        image: Patches along each side.
        text: Tokens of text.
        singles: Single-stream blocks.
        dtype: Of parameters and tokens.
        checkpointed: Whether each block is computed again on the way back.
    """

    heads: int = 4
    head: int = 64
    image: int = 16
    text: int = 64
    singles: int = 1
    dtype: Any = np.float32
    checkpointed: bool = False

    @property
    def config(self) -> Any:
        """As the example states it."""
        return model.FluxConfig(
            num_layers=1, num_single_layers=self.singles, attention_head_dim=self.head,
            num_attention_heads=self.heads,
            axes_dims_rope=(self.head // 8, self.head * 7 // 16, self.head * 7 // 16),
        )  # fmt: skip

    def rope(self) -> Any:
        """Cosines and sines, of text and image."""
        grid = np.indices((self.image, self.image)).reshape(2, -1).T
        image = np.concatenate([np.zeros((len(grid), 1)), grid], axis=1)
        ids = np.concatenate([np.zeros((self.text, 3)), image])
        return layers.rope_table(ids, self.config.axes_dims_rope)


def params_of(sizes: Sizes) -> Any:
    """Parameters of the blocks."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        scale = 1.0 if len(shape) != 2 else shape[1] ** -0.5
        return (rng.standard_normal(shape, np.float32) * np.float32(scale)).astype(sizes.dtype)

    def block(prefix: str) -> Any:
        shapes = model.parameter_shapes(sizes.config).items()
        named = {k.removeprefix(prefix): normal(*s) for k, s in shapes if k.startswith(prefix)}
        return model.nest(named)

    singles = [block(SINGLE.format(i)) for i in range(sizes.singles)]
    return {"double": block(DOUBLE), "single": singles}


def tokens_of(sizes: Sizes, batch: int) -> Any:
    """Image and text tokens, and the conditioning vector."""
    rng, width = np.random.default_rng(batch), sizes.heads * sizes.head
    shapes = (batch, sizes.image**2, width), (batch, sizes.text, width), (batch, width)
    return tuple(rng.standard_normal(s, np.float32).astype(sizes.dtype) for s in shapes)


def our_loss(sizes: Sizes) -> Any:
    """The loss on the blocks of the example."""
    rope = sizes.rope()
    kept = fg.checkpoint if sizes.checkpointed else lambda f: f
    double = kept(lambda p, img, txt, vec: model.double_block(p, img, txt, vec, rope, sizes.head))
    single = kept(lambda p, x, vec: model.single_block(p, x, vec, rope, sizes.head))

    def loss(params: Any, img: Any, txt: Any, vec: Any) -> Any:
        img, txt = double(params["double"], img, txt, vec)
        x = fnp.concatenate([txt, img], axis=1)
        for p in params["single"]:
            x = single(p, x, vec)
        return fnp.mean(fnp.square(x.astype(np.float32)))

    return loss


def _linear(p: Any, x: Any) -> Any:
    return x @ p["weight"].T + p["bias"]


def _jax_attention(q: Any, k: Any, v: Any) -> Any:
    on_card = jax.default_backend() == "gpu" and q.dtype == jnp.bfloat16
    how = "cudnn" if on_card else None
    return jax.nn.dot_product_attention(q, k, v, implementation=how)


class JaxOps:
    """The operations of the blocks in JAX."""

    silu, gelu = staticmethod(jax.nn.silu), staticmethod(jax.nn.gelu)
    linear = staticmethod(_linear)
    cat = staticmethod(jnp.concatenate)
    stack = staticmethod(lambda xs: jnp.stack(xs, -1))
    attend = staticmethod(_jax_attention)
    array = staticmethod(in_jax)
    wide = staticmethod(lambda x: x.astype(np.float32))
    checkpoint = staticmethod(jax.checkpoint)
    split = staticmethod(lambda x, n: jnp.split(x, n, axis=-1))

    @staticmethod
    def norm(x: Any) -> Any:
        """Layer norm without gain."""
        wide = x.astype(np.float32)
        c = wide - wide.mean(-1, keepdims=True)
        y = c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + layers.NORM_EPS)
        return y.astype(x.dtype)

    @staticmethod
    def rms(x: Any, gain: Any) -> Any:
        """RMS norm."""
        wide = x.astype(np.float32)
        y = wide * jax.lax.rsqrt((wide * wide).mean(-1, keepdims=True) + layers.NORM_EPS)
        return y.astype(x.dtype) * gain


class TorchOps:
    """The operations of the blocks in PyTorch."""

    silu = staticmethod(F.silu)
    gelu = staticmethod(lambda x: F.gelu(x, approximate="tanh"))
    linear = staticmethod(lambda p, x: F.linear(x, p["weight"], p["bias"]))
    cat = staticmethod(torch.cat)
    stack = staticmethod(lambda xs: torch.stack(xs, -1))
    array = staticmethod(in_torch)
    wide = staticmethod(torch.Tensor.float)
    checkpoint = staticmethod(
        lambda f: functools.partial(torch.utils.checkpoint.checkpoint, f, use_reentrant=False)
    )
    split = staticmethod(lambda x, n: x.chunk(n, -1))
    norm = staticmethod(lambda x: F.layer_norm(x, x.shape[-1:], eps=layers.NORM_EPS))
    rms = staticmethod(lambda x, gain: F.rms_norm(x, gain.shape, gain, layers.NORM_EPS))

    @staticmethod
    def attend(q: Any, k: Any, v: Any) -> Any:
        """Attention of ``[batch, tokens, heads, channels]``."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _turned(ops: Any, rope: Any, x: Any) -> Any:
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = rope
    return ops.stack([a * cos - b * sin, a * sin + b * cos]).reshape(x.shape)


def _attend(ops: Any, rope: Any, q: Any, k: Any, v: Any) -> Any:
    out = ops.attend(_turned(ops, rope, q), _turned(ops, rope, k), v)
    return out.reshape(*out.shape[:2], -1)


def _qkv(ops: Any, p: Any, x: Any, names: Any, norms: Any) -> Any:
    gains = [p[n]["weight"] for n in norms]
    head = gains[0].shape[0]
    q, k, v = (ops.linear(p[n], x).reshape(*x.shape[:2], -1, head) for n in names)
    return ops.rms(q, gains[0]), ops.rms(k, gains[1]), v


def _modulation(ops: Any, p: Any, vec: Any, count: int) -> Any:
    return ops.split(ops.linear(p["linear"], ops.silu(vec))[:, None, :], count)


def _modulated(ops: Any, x: Any, scale: Any, shift: Any) -> Any:
    return ops.norm(x) * (1.0 + scale) + shift


def _feed_forward(ops: Any, p: Any, x: Any) -> Any:
    return ops.linear(p["net"]["2"], ops.gelu(ops.linear(p["net"]["0"]["proj"], x)))


def peer_loss(ops: Any, sizes: Sizes) -> Any:
    """The same loss written on another library's operations."""
    rope = ops.array([table.astype(sizes.dtype) for table in sizes.rope()])
    kept = ops.checkpoint if sizes.checkpointed else lambda f: f

    @kept
    def double(p: Any, img: Any, txt: Any, vec: Any) -> Any:
        m, t, attn = (
            _modulation(ops, p["norm1"], vec, 6), _modulation(ops, p["norm1_context"], vec, 6),
            p["attn"],
        )  # fmt: skip
        of_image = _qkv(
            ops, attn, _modulated(ops, img, m[1], m[0]), ("to_q", "to_k", "to_v"),
            ("norm_q", "norm_k"),
        )  # fmt: skip
        of_text = _qkv(
            ops, attn, _modulated(ops, txt, t[1], t[0]),
            ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k"),
        )  # fmt: skip
        joint = (ops.cat([a, b], 1) for a, b in zip(of_text, of_image, strict=True))
        out = _attend(ops, rope, *joint)
        img = img + m[2] * ops.linear(attn["to_out"]["0"], out[:, sizes.text :])
        img = img + m[5] * _feed_forward(ops, p["ff"], _modulated(ops, img, m[4], m[3]))
        txt = txt + t[2] * ops.linear(attn["to_add_out"], out[:, : sizes.text])
        txt = txt + t[5] * _feed_forward(ops, p["ff_context"], _modulated(ops, txt, t[4], t[3]))
        return img, txt

    @kept
    def single(p: Any, x: Any, vec: Any) -> Any:
        shift, scale, gate = _modulation(ops, p["norm"], vec, 3)
        y = _modulated(ops, x, scale, shift)
        heads = _qkv(ops, p["attn"], y, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"))
        joined = ops.cat([_attend(ops, rope, *heads), ops.gelu(ops.linear(p["proj_mlp"], y))], -1)
        return x + gate * ops.linear(p["proj_out"], joined)

    def loss(params: Any, img: Any, txt: Any, vec: Any) -> Any:
        img, txt = double(params["double"], img, txt, vec)
        x = ops.cat([txt, img], 1)
        for p in params["single"]:
            x = single(p, x, vec)
        x = ops.wide(x)
        return (x * x).mean()

    return loss
