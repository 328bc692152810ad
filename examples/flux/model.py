"""The FLUX.1 transformer as pure functions: a configuration, ``init`` and ``apply``.

Double-stream blocks keep image and text tokens apart but for one joint attention; single-stream
blocks run attention and MLP side by side on the joined sequence. Time, guidance scale and pooled
text modulate every normalisation. The parameter names are those of diffusers'
``FluxTransformer2DModel``, so published weights load one to one.

Source:
    Black Forest Labs, *FLUX.1* (github.com/black-forest-labs/flux); the double-stream block is the
    MM-DiT of Esser et al., *Scaling Rectified Flow Transformers*, arXiv:2403.03206, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn, random
from layers import (
    TIME_FREQUENCIES,
    Params,
    Rope,
    attend,
    feed_forward,
    linear,
    modulated_norm,
    modulation,
    qkv,
    rope_table,
    silu_mlp,
    sinusoidal_embedding,
)

MLP_RATIO = 4


@dataclass(frozen=True)
class FluxConfig:
    """Sizes of a FLUX transformer; the defaults are those of FLUX.1-dev.

    Attributes:
        in_channels: Channels of an image token: patch height x patch width x image channels.
        num_layers: Double-stream blocks.
        num_single_layers: Single-stream blocks.
        attention_head_dim: Channels of a head, H.
        num_attention_heads: Heads, N; the model's width D is N * H.
        joint_attention_dim: Channels of a text token.
        pooled_projection_dim: Channels of the pooled text vector.
        guidance_embeds: Whether the guidance scale is an input (FLUX.1-dev) or not (schnell).
        axes_dims_rope: Channels of a head that each of the three position axes turns.
    """

    in_channels: int = 64
    num_layers: int = 19
    num_single_layers: int = 38
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 4096
    pooled_projection_dim: int = 768
    guidance_embeds: bool = True
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)

    def __post_init__(self) -> None:
        """Check that the rotary axes fill a head with pairs of channels."""
        axes = self.axes_dims_rope
        if sum(axes) != self.attention_head_dim or any(dim % 2 for dim in axes):
            raise ValueError(
                f"axes_dims_rope {axes} must be even and sum to attention_head_dim "
                f"{self.attention_head_dim}, got the sum {sum(axes)}"
            )

    @property
    def width(self) -> int:
        """Channels of a token inside the transformer, D."""
        return self.num_attention_heads * self.attention_head_dim


def _linear_shapes(name: str, out: int, inp: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, inp)
    yield f"{name}.bias", (out,)


def _embedder_shapes(config: FluxConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = config.width
    inputs = {"timestep_embedder": TIME_FREQUENCIES, "text_embedder": config.pooled_projection_dim}
    if config.guidance_embeds:
        inputs["guidance_embedder"] = TIME_FREQUENCIES
    for name, size in inputs.items():
        yield from _linear_shapes(f"time_text_embed.{name}.linear_1", width, size)
        yield from _linear_shapes(f"time_text_embed.{name}.linear_2", width, width)
    yield from _linear_shapes("context_embedder", width, config.joint_attention_dim)
    yield from _linear_shapes("x_embedder", width, config.in_channels)


def _double_shapes(config: FluxConfig, block: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, hidden = config.width, MLP_RATIO * config.width
    for stream in ("", "_context"):
        yield from _linear_shapes(f"{block}.norm1{stream}.linear", 6 * width, width)
        yield from _linear_shapes(f"{block}.ff{stream}.net.0.proj", hidden, width)
        yield from _linear_shapes(f"{block}.ff{stream}.net.2", width, hidden)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from _linear_shapes(f"{block}.attn.{name}", width, width)
    for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
        yield from _linear_shapes(f"{block}.attn.{name}", width, width)
    for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        yield f"{block}.attn.{name}.weight", (config.attention_head_dim,)


def _single_shapes(config: FluxConfig, block: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, hidden = config.width, MLP_RATIO * config.width
    yield from _linear_shapes(f"{block}.norm.linear", 3 * width, width)
    yield from _linear_shapes(f"{block}.proj_mlp", hidden, width)
    yield from _linear_shapes(f"{block}.proj_out", width, width + hidden)
    for name in ("to_q", "to_k", "to_v"):
        yield from _linear_shapes(f"{block}.attn.{name}", width, width)
    for name in ("norm_q", "norm_k"):
        yield f"{block}.attn.{name}.weight", (config.attention_head_dim,)


def parameter_shapes(config: FluxConfig) -> dict[str, tuple[int, ...]]:
    """Name (dotted, as in diffusers' state dict) and shape of every parameter.

    Example:
        >>> parameter_shapes(FluxConfig())["proj_out.weight"]
        (64, 3072)
    """
    shapes = dict(_embedder_shapes(config))
    for i in range(config.num_layers):
        shapes.update(_double_shapes(config, f"transformer_blocks.{i}"))
    for i in range(config.num_single_layers):
        shapes.update(_single_shapes(config, f"single_transformer_blocks.{i}"))
    shapes.update(_linear_shapes("norm_out.linear", 2 * config.width, config.width))
    shapes.update(_linear_shapes("proj_out", config.in_channels, config.width))
    return shapes


def nest(flat: Mapping[str, fg.Array]) -> Params:
    """Turn dotted names into nested dicts.

    Example:
        >>> nest({"a.b": 1, "a.c": 2})
        {'a': {'b': 1, 'c': 2}}
    """
    tree: Params = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree


def flatten(tree: Params, prefix: str = "") -> dict[str, fg.Array]:
    """Turn nested dicts into dotted names: the inverse of :func:`nest`."""
    flat: dict[str, fg.Array] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def load_state_dict(config: FluxConfig, state: Mapping[str, np.ndarray]) -> Params:
    """Parameters from a state dict of diffusers' model, each name and shape checked.

    Raises:
        ValueError: A parameter is missing, unknown, or not of the shape that ``config`` asks for.
    """
    shapes = parameter_shapes(config)
    if missing := sorted(shapes.keys() - state.keys()):
        raise ValueError(f"the state dict lacks {missing}; does config match the checkpoint?")
    if unknown := sorted(state.keys() - shapes.keys()):
        raise ValueError(f"the state dict has {unknown}, which {config} does not")
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"{name}: config asks for {shape}, the file has {state[name].shape}")
    return nest({name: fnp.asarray(state[name]) for name in shapes})


def _init_leaf(key: fg.Array, name: str, shape: tuple[int, ...]) -> fg.Array:
    if name.endswith(".bias"):
        return fnp.zeros(shape, fnp.float32)
    if len(shape) == 1:  # the gain of an RMSNorm
        return fnp.ones(shape, fnp.float32)
    # Blocks start as the identity and the output at 0 (Peebles and Xie, arXiv:2212.09748, 3.2).
    is_modulation = ".norm" in f".{name}" and name.endswith(".linear.weight")
    if is_modulation or name == "proj_out.weight":
        return fnp.zeros(shape, fnp.float32)
    return random.normal(key, shape, fnp.float32) * shape[1] ** -0.5


def init(key: fg.Array, config: FluxConfig) -> Params:
    """Random parameters in float32.

    Args:
        key: A random key.
        config: The sizes.

    Returns:
        Nested dicts, named as diffusers names them.
    """
    shapes = parameter_shapes(config)
    keys = random.split(key, len(shapes))
    leaves = zip(keys, shapes.items(), strict=True)
    return nest({name: _init_leaf(k, name, shape) for k, (name, shape) in leaves})


def double_block(
    p: Params, img: fg.Array, txt: fg.Array, vec: fg.Array, rope: Rope, head_dim: int
) -> tuple[fg.Array, fg.Array]:
    """One double-stream block: ``img[B, Ti, D]``, ``txt[B, Tt, D]``, ``vec[B, D]``."""
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p["norm1"], vec, 6)
    t_shift1, t_scale1, t_gate1, t_shift2, t_scale2, t_gate2 = modulation(
        p["norm1_context"], vec, 6
    )

    attn = p["attn"]
    img_qkv = qkv(
        attn,
        modulated_norm(img, scale1, shift1),
        ("to_q", "to_k", "to_v"),
        ("norm_q", "norm_k"),
        head_dim,
    )
    txt_qkv = qkv(
        attn,
        modulated_norm(txt, t_scale1, t_shift1),
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        ("norm_added_q", "norm_added_k"),
        head_dim,
    )
    joint = (fnp.concatenate([t, i], axis=1) for t, i in zip(txt_qkv, img_qkv, strict=True))
    out = attend(*joint, rope)
    txt_out, img_out = out[:, : txt.shape[1]], out[:, txt.shape[1] :]

    img = img + gate1 * linear(attn["to_out"]["0"], img_out)
    img = img + gate2 * feed_forward(p["ff"], modulated_norm(img, scale2, shift2))
    txt = txt + t_gate1 * linear(attn["to_add_out"], txt_out)
    txt = txt + t_gate2 * feed_forward(p["ff_context"], modulated_norm(txt, t_scale2, t_shift2))
    return img, txt


def single_block(p: Params, x: fg.Array, vec: fg.Array, rope: Rope, head_dim: int) -> fg.Array:
    """One single-stream block on the joined tokens ``x[B, T, D]`` with ``vec[B, D]``."""
    shift, scale, gate = modulation(p["norm"], vec, 3)
    y = modulated_norm(x, scale, shift)
    heads = qkv(p["attn"], y, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), head_dim)
    hidden = nn.gelu(linear(p["proj_mlp"], y), approximate=True)
    joined = fnp.concatenate([attend(*heads, rope), hidden], axis=-1)
    return x + gate * linear(p["proj_out"], joined)


def conditioning(
    p: Params, timestep: fg.Array, guidance: fg.Array | None, pooled: fg.Array
) -> fg.Array:
    """The vector ``[B, D]`` of time, guidance scale and pooled text that modulates the blocks."""
    dtype = pooled.dtype
    vec = silu_mlp(p["timestep_embedder"], sinusoidal_embedding(timestep).astype(dtype))
    if guidance is not None:
        vec = vec + silu_mlp(p["guidance_embedder"], sinusoidal_embedding(guidance).astype(dtype))
    return vec + silu_mlp(p["text_embedder"], pooled)


def apply(
    params: Params,
    config: FluxConfig,
    img: fg.Array,
    txt: fg.Array,
    pooled: fg.Array,
    timestep: fg.Array,
    guidance: fg.Array | None,
    img_ids: np.ndarray,
    txt_ids: np.ndarray,
) -> fg.Array:
    """The velocity that FLUX predicts for noisy image tokens.

    Args:
        params: From :func:`init` or :func:`load_state_dict`.
        config: The sizes that ``params`` were made with.
        img: ``[B, Ti, in_channels]``, the noisy patches.
        txt: ``[B, Tt, joint_attention_dim]``, the text tokens.
        pooled: ``[B, pooled_projection_dim]``, one vector for the whole text.
        timestep: ``[B]``, from 0 (data) to 1 (noise).
        guidance: ``[B]``, the guidance scale; None if ``config.guidance_embeds`` is False.
        img_ids: ``[Ti, 3]``, NumPy: the position of each patch.
        txt_ids: ``[Tt, 3]``, NumPy: the position of each text token, zeros in FLUX.

    Returns:
        ``[B, Ti, in_channels]``, the estimate of noise minus data.

    Raises:
        ValueError: ``guidance`` is given without ``config.guidance_embeds``, or the reverse.
    """
    if (guidance is not None) != config.guidance_embeds:
        raise ValueError(
            f"guidance must be given exactly if config.guidance_embeds; it is "
            f"{config.guidance_embeds} and guidance is {'not ' if guidance is None else ''}given"
        )
    head_dim = config.attention_head_dim
    rope = rope_table(np.concatenate([txt_ids, img_ids], axis=0), config.axes_dims_rope)
    vec = conditioning(params["time_text_embed"], timestep, guidance, pooled)
    img, txt = linear(params["x_embedder"], img), linear(params["context_embedder"], txt)

    for i in range(config.num_layers):
        img, txt = double_block(params["transformer_blocks"][str(i)], img, txt, vec, rope, head_dim)
    x = fnp.concatenate([txt, img], axis=1)
    for i in range(config.num_single_layers):
        x = single_block(params["single_transformer_blocks"][str(i)], x, vec, rope, head_dim)
    img = x[:, txt.shape[1] :]

    scale, shift = modulation(params["norm_out"], vec, 2)
    return linear(params["proj_out"], modulated_norm(img, scale, shift))
