"""The example's transformer is FLUX: the same outputs and gradients as diffusers' model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

HEIGHT, WIDTH, TEXT, BATCH = 3, 2, 3, 2


def config_of(flux: SimpleNamespace, guidance_embeds: bool) -> Any:
    return flux.model.FluxConfig(
        in_channels=8,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )


def peer_of(config: Any, dtype: Any) -> Any:
    """diffusers' model at the sizes of ``config`` with every parameter drawn at random."""
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=config.in_channels,
        num_layers=config.num_layers,
        num_single_layers=config.num_single_layers,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        joint_attention_dim=config.joint_attention_dim,
        pooled_projection_dim=config.pooled_projection_dim,
        guidance_embeds=config.guidance_embeds,
        axes_dims_rope=config.axes_dims_rope,
    )
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            gain = ".norm_" in name and len(shape) == 1 and name.endswith("weight")
            value = rng.normal(
                1.0 if gain else 0.0, 0.3 if len(shape) == 1 else shape[-1] ** -0.5, shape
            )
            parameter.copy_(torch.from_numpy(value))
    return model.to(dtype)


def inputs_of(flux: SimpleNamespace, config: Any, dtype: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = HEIGHT * WIDTH
    return {
        "img": rng.normal(size=(BATCH, tokens, config.in_channels)).astype(dtype),
        "txt": rng.normal(size=(BATCH, TEXT, config.joint_attention_dim)).astype(dtype),
        "pooled": rng.normal(size=(BATCH, config.pooled_projection_dim)).astype(dtype),
        "timestep": np.array([0.25, 0.8125], dtype),
        "guidance": np.array([1.0, 3.5], dtype),
        "cotangent": rng.normal(size=(BATCH, tokens, config.in_channels)).astype(dtype),
        "img_ids": flux.patches.image_ids(HEIGHT, WIDTH),
        "txt_ids": np.zeros((TEXT, 3)),
    }


def run_peer(model: Any, x: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Output, and gradients of <cotangent, output> by name; the inputs' under their own names."""
    t = {name: torch.from_numpy(value) for name, value in x.items()}
    for name in ("img", "txt", "pooled"):
        t[name].requires_grad_(True)
    out = model(
        hidden_states=t["img"],
        encoder_hidden_states=t["txt"],
        pooled_projections=t["pooled"],
        timestep=t["timestep"],
        guidance=t["guidance"] if model.config.guidance_embeds else None,
        img_ids=t["img_ids"],
        txt_ids=t["txt_ids"],
        return_dict=False,
    )[0]
    out.backward(t["cotangent"])
    grads = {name: p.grad.numpy() for name, p in model.named_parameters()}
    grads.update({name: t[name].grad.numpy() for name in ("img", "txt", "pooled")})
    return out.detach().numpy(), grads


def run_ours(
    flux: SimpleNamespace, config: Any, params: Any, x: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same of the example's model."""
    a = {name: fnp.asarray(value) for name, value in x.items() if not name.endswith("_ids")}

    def loss(params: Any, img: Any, txt: Any, pooled: Any) -> tuple[Any, Any]:
        out = flux.model.apply(
            params,
            config,
            img,
            txt,
            pooled,
            a["timestep"],
            a["guidance"] if config.guidance_embeds else None,
            x["img_ids"],
            x["txt_ids"],
        )
        return fnp.sum(out * a["cotangent"]), out

    grad = fg.jit(fg.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
    grads, out = grad(params, a["img"], a["txt"], a["pooled"])
    named = flux.model.flatten(grads[0])
    named.update(zip(("img", "txt", "pooled"), grads[1:], strict=True))
    return np.asarray(out), {name: np.asarray(g) for name, g in named.items()}


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest wanted magnitude."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def compare(flux: SimpleNamespace, config: Any, dtype: str) -> tuple[float, dict[str, float]]:
    """Output's largest absolute difference, and each gradient's relative one."""
    peer = peer_of(config, getattr(torch, dtype))
    state = {name: value.numpy() for name, value in peer.state_dict().items()}
    x = inputs_of(flux, config, dtype)
    want, want_grads = run_peer(peer, x)
    got, got_grads = run_ours(flux, config, flux.model.load_state_dict(config, state), x)
    assert got.dtype == np.dtype(dtype)
    assert got_grads.keys() == want_grads.keys()
    errors = {n: relative_error(got_grads[n], want_grads[n]) for n in want_grads}
    return float(np.abs(got - want).max()), errors


@pytest.mark.parametrize("guidance_embeds", [True, False], ids=["dev", "schnell"])
def test_outputs_and_gradients_equal_diffusers_in_float32(
    flux: SimpleNamespace, guidance_embeds: bool
) -> None:
    error, grads = compare(flux, config_of(flux, guidance_embeds), "float32")
    assert error <= 1e-5
    assert {n: e for n, e in grads.items() if not e <= 1e-4} == {}


@pytest.mark.parametrize("guidance_embeds", [True, False], ids=["dev", "schnell"])
def test_outputs_and_gradients_equal_diffusers_in_float64(
    flux: SimpleNamespace, guidance_embeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # diffusers casts time, guidance and the rotary tables to float32 whatever the model's dtype;
    # with those casts widened the whole computation is float64 on both sides. The frequencies of
    # time stay float32 on both, and torch's float32 exp is not correctly rounded everywhere.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "exp", lambda x: torch.Tensor.exp(x.double()).to(x.dtype))
    with fg.enable_x64(True):
        error, grads = compare(flux, config_of(flux, guidance_embeds), "float64")
    assert error <= 1e-12
    assert {n: e for n, e in grads.items() if not e <= 1e-11} == {}


def test_the_frequencies_of_time_equal_diffusers(flux: SimpleNamespace) -> None:
    embed = diffusers.models.embeddings.get_timestep_embedding
    t = np.array([0.0, 0.001, 0.25, 0.5, 1.0], np.float32)
    want = embed(torch.from_numpy(1000 * t), 256, True, 0).numpy()
    got = np.asarray(flux.layers.sinusoidal_embedding(fnp.asarray(t)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_sigmas_equal_diffusers_scheduler(flux: SimpleNamespace) -> None:
    pipeline = pytest.importorskip("diffusers.pipelines.flux.pipeline_flux")
    steps, tokens = 12, 64
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    mu = pipeline.calculate_shift(tokens)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    got = flux.flow.sigmas(steps, tokens)
    np.testing.assert_allclose(got, scheduler.sigmas.numpy(), rtol=0, atol=1e-6)


def test_packing_equals_diffusers(flux: SimpleNamespace) -> None:
    pipeline = pytest.importorskip("diffusers.pipelines.flux.pipeline_flux").FluxPipeline
    images = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    want = pipeline._pack_latents(torch.from_numpy(images), 2, 3, 4, 6).numpy()
    got = flux.patches.patchify(np.moveaxis(images, 1, -1), 2)
    np.testing.assert_array_equal(got, want)
    ids = pipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32).numpy()
    np.testing.assert_array_equal(flux.patches.image_ids(2, 3), ids)
