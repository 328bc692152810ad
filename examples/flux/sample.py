"""Draw digits from a checkpoint, 50 of each class, and measure them.

Run ``python examples/flux/sample.py OUT`` on a directory that train.py wrote; train.py itself
ends with the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import data
import fgrad as fg
import fgrad.numpy as fnp
import flow
import patches
import quality
import recipe as recipes
import report
import state
from fgrad import random
from layers import Params

PER_CLASS = 50
SAMPLE_SEED = 1


def draw(params: Params, recipe: recipes.Recipe, labels: np.ndarray, key: fg.Array) -> np.ndarray:
    """Sample a digit for each of ``labels[N]``: images ``[N, 8, 8]``, ink from 0 to 16."""
    classes = fnp.asarray(labels)
    shape = (len(labels), recipe.image_tokens, recipe.flux.in_channels)
    noise = random.normal(key, shape, fnp.float32)

    @fg.jit
    def velocity(x: fg.Array, t: fg.Array) -> fg.Array:
        return recipes.velocity(params, recipe, classes, x, t)

    times = flow.sigmas(recipe.sample_steps, recipe.image_tokens)
    with threadpool_limits(recipes.BLAS_THREADS):
        tokens = flow.euler(velocity, noise, times)
    size = data.IMAGE_SIZE
    return data.from_model(patches.unpatchify(np.asarray(tokens), recipe.patch, size, size))


def write(out: Path) -> dict[str, float]:
    """Sample from the checkpoint in ``out``; leave samples, grid and scores beside it.

    Args:
        out: Directory with ``checkpoint.safetensors``. Gets ``samples.npz`` (``images`` float32
            ``[500, 8, 8]`` from 0 to 16, ``labels`` int32 ``[500]``), ``samples.png`` and
            ``quality.json``.

    Returns:
        The scores; see :func:`quality.measure`.
    """
    run = state.load(out / state.FILE)
    labels = np.repeat(np.arange(data.CLASSES, dtype=np.int32), PER_CLASS)
    images = draw(run.average, recipes.SIZES[run.size], labels, random.key(SAMPLE_SEED))
    np.savez_compressed(out / "samples.npz", images=images, labels=labels)
    report.sample_grid(images, labels, out / "samples.png")
    scores = quality.measure(images, labels)
    (out / "quality.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores


def main(argv: list[str] | None = None) -> int:
    """Sample from ``OUT/checkpoint.safetensors`` and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory that holds checkpoint.safetensors")
    out = parser.parse_args(argv).out
    try:
        scores = write(out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(quality.report(scores))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
