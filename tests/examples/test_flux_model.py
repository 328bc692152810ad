"""The parts of the FLUX example: positions, patches, flow, parameters."""

from __future__ import annotations

import doctest
import math
from types import SimpleNamespace

import numpy as np
import pytest

import fgrad.numpy as fnp
from fgrad import random


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rotate(flux: SimpleNamespace, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.asarray(
        flux.layers.apply_rope(fnp.asarray(x), flux.layers.rope_table(ids, (4, 6, 6)))
    )


def test_rope_is_a_complex_rotation_by_each_axis(flux: SimpleNamespace) -> None:
    x, ids = normal(0, 2, 5, 3, 16), np.arange(15.0).reshape(5, 3)
    pairs = x.astype(np.float64)[..., 0::2] + 1j * x[..., 1::2]
    frequencies = [
        1.0,
        1e-2,
        1.0,
        1e4 ** (-1 / 3),
        1e4 ** (-2 / 3),
        1.0,
        1e4 ** (-1 / 3),
        1e4 ** (-2 / 3),
    ]
    angles = ids[:, [0, 0, 1, 1, 1, 2, 2, 2]] * np.array(frequencies)
    turned = pairs * np.exp(1j * angles)[None, :, None, :]
    want = np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
    np.testing.assert_allclose(rotate(flux, x, ids), want, rtol=0, atol=1e-6)


def test_rope_scores_depend_on_the_distance_of_positions_only(flux: SimpleNamespace) -> None:
    q, k = normal(1, 1, 4, 1, 16), normal(2, 1, 4, 1, 16)
    ids = flux.patches.image_ids(2, 2)

    def scores(shift: float) -> np.ndarray:
        a, b = rotate(flux, q, ids + shift), rotate(flux, k, ids + shift)
        return np.einsum("btnh,bsnh->bts", a, b)

    np.testing.assert_allclose(scores(7.0), scores(0.0), rtol=0, atol=1e-5)
    assert np.abs(scores(0.0) - np.einsum("btnh,bsnh->bts", q, k)).max() > 0.1


def test_rope_leaves_the_text_at_the_origin_alone(flux: SimpleNamespace) -> None:
    x = normal(3, 1, 2, 2, 16)
    np.testing.assert_array_equal(rotate(flux, x, flux.condition.text_ids(2)), x)


@pytest.mark.parametrize(("patch", "height", "width", "channels"), [(2, 8, 8, 1), (4, 8, 12, 3)])
def test_patchify_round_trip(
    flux: SimpleNamespace, patch: int, height: int, width: int, channels: int
) -> None:
    images = normal(4, 3, height, width, channels)
    tokens = flux.patches.patchify(images, patch)
    assert tokens.shape == (3, height * width // patch**2, channels * patch**2)
    np.testing.assert_array_equal(tokens[:, 0, :patch], images[:, 0, :patch, 0])
    np.testing.assert_array_equal(tokens[:, 1, :patch], images[:, 0, patch : 2 * patch, 0])
    np.testing.assert_array_equal(flux.patches.unpatchify(tokens, patch, height, width), images)


def test_patchify_refuses_what_it_cannot_cut(flux: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"\[1, 8, 6, 1\] cannot be cut into 4x4 patches"):
        flux.patches.patchify(np.zeros((1, 8, 6, 1)), 4)


def test_sigmas_fall_from_noise_to_data_and_shift_with_the_tokens(flux: SimpleNamespace) -> None:
    few, many = flux.flow.sigmas(10, 16), flux.flow.sigmas(10, 4096)
    for times in (few, many):
        assert times.shape == (11,)
        assert (times[0], times[-1]) == (1.0, 0.0)
        assert (np.diff(times) < 0).all()
    assert (many[1:-1] > few[1:-1]).all()
    assert many[5] == pytest.approx(math.exp(1.15) / (math.exp(1.15) + 1.0), rel=1e-12)


def test_euler_follows_a_straight_path_exactly(flux: SimpleNamespace) -> None:
    data, noise = normal(5, 2, 4, 3), normal(6, 2, 4, 3)
    seen: list[float] = []

    def velocity(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        assert t.shape == (2,)
        seen.append(float(t[0]))
        return fnp.asarray(noise - data)

    out = flux.flow.euler(velocity, fnp.asarray(noise), flux.flow.sigmas(7, 16))
    np.testing.assert_allclose(np.asarray(out), data, rtol=0, atol=1e-5)
    np.testing.assert_allclose(seen, flux.flow.sigmas(7, 16)[:-1], rtol=1e-6)


def test_the_loss_of_the_true_velocity_is_zero(flux: SimpleNamespace) -> None:
    data = fnp.asarray(normal(7, 64, 4, 3))

    def true(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        # x = (1 - t) data + t noise, so noise - data = (x - data) / t
        return (x - data) / t[:, None, None]

    assert float(flux.flow.loss(true, data, random.key(0))) < 1e-8
    nothing = float(flux.flow.loss(lambda x, t: fnp.zeros_like(x), data, random.key(0)))
    assert nothing == pytest.approx(2.0, abs=0.25)  # noise and data have variance 1 each


def test_the_default_configuration_is_flux_1_dev(flux: SimpleNamespace) -> None:
    shapes = flux.model.parameter_shapes(flux.model.FluxConfig())
    assert sum(math.prod(shape) for shape in shapes.values()) == 11_901_408_320


def test_a_new_model_has_the_declared_parameters_and_predicts_zero(flux: SimpleNamespace) -> None:
    tiny = flux.recipe.SIZES["tiny"]
    params = flux.recipe.init(random.key(0), tiny)
    named = flux.model.flatten(params["transformer"])
    assert {n: p.shape for n, p in named.items()} == flux.model.parameter_shapes(tiny.flux)
    x = fnp.asarray(normal(8, 3, tiny.image_tokens, tiny.flux.in_channels))
    t = fnp.asarray(np.array([0.0, 0.5, 1.0], np.float32))
    out = flux.recipe.velocity(params, tiny, fnp.asarray(np.array([0, 4, 9])), x, t)
    np.testing.assert_array_equal(np.asarray(out), np.zeros(x.shape))


def test_nest_and_flatten_are_inverse(flux: SimpleNamespace) -> None:
    flat = {"a.0.weight": 1, "a.0.bias": 2, "a.10.weight": 3, "b": 4}
    assert flux.model.flatten(flux.model.nest(flat)) == flat


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proj_out.bias": None}, r"lacks \['proj_out.bias'\]"),
        ({"lora.weight": np.zeros(1)}, r"has \['lora.weight'\]"),
        ({"proj_out.bias": np.zeros(3)}, r"proj_out.bias: config asks for \(16,\), .* \(3,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(
    flux: SimpleNamespace, change: dict[str, np.ndarray | None], message: str
) -> None:
    config = flux.recipe.SIZES["tiny"].flux
    state = {n: np.zeros(s, np.float32) for n, s in flux.model.parameter_shapes(config).items()}
    state = {n: v for n, v in (state | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        flux.model.load_state_dict(config, state)


def test_guidance_must_be_what_the_configuration_says(flux: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="guidance is not given"):
        flux.model.apply({}, flux.model.FluxConfig(), None, None, None, None, None, None, None)


def test_rotary_axes_must_fill_the_head(flux: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"\(16, 56, 54\) must be even and sum to .* 128"):
        flux.model.FluxConfig(axes_dims_rope=(16, 56, 54))


def test_the_examples_in_docstrings_run(flux: SimpleNamespace) -> None:
    results = {name: doctest.testmod(module) for name, module in vars(flux).items()}
    assert {name: r.failed for name, r in results.items() if r.failed} == {}
    assert sum(r.attempted for r in results.values()) >= 8
