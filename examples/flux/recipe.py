"""What the sizes ``--size`` stand for, and the model of digits that a recipe describes."""

from __future__ import annotations

from dataclasses import dataclass

import condition
import data
import fgrad as fg
import fgrad.numpy as fnp
import model
import patches
from fgrad import optim, random
from layers import Params

# The guidance scale that the digits are trained and sampled with. FLUX.1-dev learnt from a teacher
# to imitate several; a model trained on data alone knows one, the conditional velocity itself.
GUIDANCE = 1.0
# The products are small: a second thread gains little, waits long where another program runs, and
# makes the bits depend on the machine's number of cores.
BLAS_THREADS = 1


@dataclass(frozen=True)
class Recipe:
    """A model of digits and how to train it.

    Attributes:
        flux: The transformer's sizes.
        patch: Side of a patch in pixels.
        text_tokens: Length of the sequence that stands for the prompt.
        steps: Training steps unless ``--steps`` says otherwise.
        batch: Images a step.
        learning_rate: AdamW's, at its peak.
        warmup: Steps of linear warm-up to the peak.
        decay: Steps until the cosine has brought the rate to a tenth of the peak; fixed by the
            recipe, so that a run may stop anywhere and go on later.
        ema: Decay of the averaged weights that samples are drawn from.
        sample_steps: Euler steps of the sampler.
    """

    flux: model.FluxConfig
    patch: int
    text_tokens: int
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    decay: int
    ema: float
    sample_steps: int

    @property
    def image_tokens(self) -> int:
        """Patches of an image."""
        return (data.IMAGE_SIZE // self.patch) ** 2


def _flux(patch: int, width: int, heads: int, double: int, single: int) -> model.FluxConfig:
    head = width // heads
    spatial = 2 * (head * 3 // 16)
    return model.FluxConfig(
        in_channels=patch * patch,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=heads,
        joint_attention_dim=width,
        pooled_projection_dim=width,
        guidance_embeds=True,
        axes_dims_rope=(head - 2 * spatial, spatial, spatial),
    )


SIZES = {
    "tiny": Recipe(_flux(4, 16, 1, 1, 1), 4, 2, 20, 16, 1e-3, 10, 20, 0.9, 4),
    "small": Recipe(_flux(2, 64, 4, 2, 2), 2, 2, 600, 64, 3e-3, 50, 600, 0.99, 20),
    "base": Recipe(_flux(2, 128, 4, 3, 6), 2, 2, 6000, 128, 1e-3, 300, 6000, 0.999, 28),
}


def init(key: fg.Array, recipe: Recipe) -> Params:
    """Random parameters: ``{"transformer": ..., "condition": ...}``."""
    flux_key, condition_key = random.split(key)
    flux = recipe.flux
    return {
        "transformer": model.init(flux_key, flux),
        "condition": condition.init(
            condition_key,
            data.CLASSES,
            recipe.text_tokens,
            flux.joint_attention_dim,
            flux.pooled_projection_dim,
        ),
    }


def velocity(
    params: Params, recipe: Recipe, labels: fg.Array, x: fg.Array, t: fg.Array
) -> fg.Array:
    """Velocity ``[B, T, C]`` of noisy patches ``x[B, T, C]`` at times ``t[B]`` by class."""
    side = data.IMAGE_SIZE // recipe.patch
    txt, pooled = condition.embed(params["condition"], labels)
    return model.apply(
        params["transformer"],
        recipe.flux,
        x,
        txt,
        pooled,
        t,
        fnp.full(t.shape, GUIDANCE, t.dtype),
        patches.image_ids(side, side),
        condition.text_ids(recipe.text_tokens),
    )


def optimizer(recipe: Recipe) -> optim.GradientTransformation:
    """AdamW with clipped gradients and the recipe's schedule."""
    peak = recipe.learning_rate
    schedule = optim.warmup_cosine_decay_schedule(
        0.0, peak, recipe.warmup, recipe.decay, end_value=0.1 * peak
    )
    return optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(schedule, b2=0.99))
