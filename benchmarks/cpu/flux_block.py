"""One double-stream and one single-stream block of FLUX, forward and backward."""

import sys
from pathlib import Path
from typing import Any

from peers import fnp, jax, jnp, np, torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "flux"))

import layers
import model

F = torch.nn.functional
HEADS, HEAD, IMAGE, TEXT, BATCH = 4, 64, 16, 64, 2
WIDTH = HEADS * HEAD
CONFIG = model.FluxConfig(
    num_layers=1, num_single_layers=1, attention_head_dim=HEAD, num_attention_heads=HEADS,
    axes_dims_rope=(8, 28, 28),
)  # fmt: skip
DOUBLE, SINGLE = "transformer_blocks.0.", "single_transformer_blocks.0."


def data() -> Any:
    """Parameters, image and text tokens, and the conditioning vector."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        scale = 1.0 if len(shape) != 2 else shape[1] ** -0.5
        return (rng.normal(size=shape) * scale).astype(np.float32)

    def block(prefix: str) -> Any:
        shapes = model.parameter_shapes(CONFIG).items()
        named = {k.removeprefix(prefix): normal(*s) for k, s in shapes if k.startswith(prefix)}
        return model.nest(named)

    params = {"double": block(DOUBLE), "single": block(SINGLE)}
    tokens = normal(BATCH, IMAGE * IMAGE, WIDTH), normal(BATCH, TEXT, WIDTH)
    return params, *tokens, normal(BATCH, WIDTH)


def _table() -> Any:
    grid = np.indices((IMAGE, IMAGE)).reshape(2, -1).T
    image = np.concatenate([np.zeros((IMAGE * IMAGE, 1)), grid], axis=1)
    ids = np.concatenate([np.zeros((TEXT, 3)), image])
    return layers.rope_table(ids, CONFIG.axes_dims_rope)


ROPE = _table()


def ours(params: Any, img: Any, txt: Any, vec: Any) -> Any:
    """The blocks of the example."""
    img, txt = model.double_block(params["double"], img, txt, vec, ROPE, HEAD)
    x = fnp.concatenate([txt, img], axis=1)
    return fnp.mean(fnp.square(model.single_block(params["single"], x, vec, ROPE, HEAD)))


def _linear(p: Any, x: Any) -> Any:
    return x @ p["weight"].T + p["bias"]


class Jax:
    """The operations of the blocks in JAX."""

    silu, gelu = staticmethod(jax.nn.silu), staticmethod(jax.nn.gelu)
    linear = staticmethod(_linear)
    cat = staticmethod(jnp.concatenate)
    stack = staticmethod(lambda xs: jnp.stack(xs, -1))
    attend = staticmethod(jax.nn.dot_product_attention)
    rope = tuple(jnp.asarray(t, jnp.float32) for t in ROPE)
    split = staticmethod(lambda x, n: jnp.split(x, n, axis=-1))

    @staticmethod
    def norm(x: Any) -> Any:
        """Layer norm without gain."""
        c = x - x.mean(-1, keepdims=True)
        return c * jax.lax.rsqrt((c * c).mean(-1, keepdims=True) + layers.NORM_EPS)

    @staticmethod
    def rms(x: Any, gain: Any) -> Any:
        """RMS norm."""
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + layers.NORM_EPS) * gain


class Torch:
    """The operations of the blocks in PyTorch."""

    silu = staticmethod(F.silu)
    gelu = staticmethod(lambda x: F.gelu(x, approximate="tanh"))
    linear = staticmethod(lambda p, x: F.linear(x, p["weight"], p["bias"]))
    cat = staticmethod(torch.cat)
    stack = staticmethod(lambda xs: torch.stack(xs, -1))
    rope = tuple(torch.from_numpy(t.astype(np.float32)) for t in ROPE)
    split = staticmethod(lambda x, n: x.chunk(n, -1))
    norm = staticmethod(lambda x: F.layer_norm(x, (WIDTH,), eps=layers.NORM_EPS))
    rms = staticmethod(lambda x, gain: F.rms_norm(x, (HEAD,), gain, layers.NORM_EPS))

    @staticmethod
    def attend(q: Any, k: Any, v: Any) -> Any:
        """Attention of ``[batch, tokens, heads, channels]``."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _turned(ops: Any, x: Any) -> Any:
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    cos, sin = ops.rope
    return ops.stack([a * cos - b * sin, a * sin + b * cos]).reshape(x.shape)


def _attend(ops: Any, q: Any, k: Any, v: Any) -> Any:
    out = ops.attend(_turned(ops, q), _turned(ops, k), v)
    return out.reshape(*out.shape[:2], WIDTH)


def _qkv(ops: Any, p: Any, x: Any, names: Any, norms: Any) -> Any:
    q, k, v = (ops.linear(p[n], x).reshape(*x.shape[:2], HEADS, HEAD) for n in names)
    return ops.rms(q, p[norms[0]]["weight"]), ops.rms(k, p[norms[1]]["weight"]), v


def _modulation(ops: Any, p: Any, vec: Any, count: int) -> Any:
    return ops.split(ops.linear(p["linear"], ops.silu(vec))[:, None, :], count)


def _modulated(ops: Any, x: Any, scale: Any, shift: Any) -> Any:
    return ops.norm(x) * (1.0 + scale) + shift


def _feed_forward(ops: Any, p: Any, x: Any) -> Any:
    return ops.linear(p["net"]["2"], ops.gelu(ops.linear(p["net"]["0"]["proj"], x)))


def peers(ops: Any) -> Any:
    """The same blocks written on another library's operations."""

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
        out = _attend(ops, *joint)
        img = img + m[2] * ops.linear(attn["to_out"]["0"], out[:, TEXT:])
        img = img + m[5] * _feed_forward(ops, p["ff"], _modulated(ops, img, m[4], m[3]))
        txt = txt + t[2] * ops.linear(attn["to_add_out"], out[:, :TEXT])
        txt = txt + t[5] * _feed_forward(ops, p["ff_context"], _modulated(ops, txt, t[4], t[3]))
        return img, txt

    def single(p: Any, x: Any, vec: Any) -> Any:
        shift, scale, gate = _modulation(ops, p["norm"], vec, 3)
        y = _modulated(ops, x, scale, shift)
        heads = _qkv(ops, p["attn"], y, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"))
        joined = ops.cat([_attend(ops, *heads), ops.gelu(ops.linear(p["proj_mlp"], y))], -1)
        return x + gate * ops.linear(p["proj_out"], joined)

    def loss(params: Any, img: Any, txt: Any, vec: Any) -> Any:
        img, txt = double(params["double"], img, txt, vec)
        x = single(params["single"], ops.cat([txt, img], 1), vec)
        return (x * x).mean()

    return loss
