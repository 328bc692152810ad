"""What a run shows: a progress bar, the loss curve and the grid of samples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import matplotlib as mpl
import numpy as np
from tqdm import tqdm

import data

mpl.use("Agg")  # draws into files; needs no display

from matplotlib import pyplot as plt

# tqdm's own, but always in samples a second: it would turn slow rates into seconds a sample.
BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
GRID_COLUMNS = 10
GRID_MARGIN = 1
LOSS_WINDOW = 50


def progress(total: int, done: int, batch: int) -> tqdm[NoReturn]:
    """A bar that counts samples and shows their number a second.

    Args:
        total: Steps at the end of the bar.
        done: Steps done already, by the run that this one resumes.
        batch: Samples a step; each ``update()`` is one step.
    """
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        unit=" samples",
        unit_scale=batch,
        bar_format=BAR_FORMAT,
        mininterval=0.1 if live else 5.0,
        dynamic_ncols=live,
    )


def loss_curve(losses: Sequence[float], path: Path) -> None:
    """Draw the loss of every step, and its running mean, into a PNG."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, linewidth=0.6, alpha=0.4, label="each step")
    window = min(LOSS_WINDOW, len(losses))
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(steps[: len(mean)] + (window - 1) / 2, mean, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="mean squared error of the velocity", title="Rectified flow")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sample_grid(images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Draw the first ten ``images[N, 8, 8]`` of each class, a row a class, into a PNG."""
    cell = data.IMAGE_SIZE + 2 * GRID_MARGIN
    grid = np.full((data.CLASSES, GRID_COLUMNS, cell, cell), np.nan)
    inside = slice(GRID_MARGIN, -GRID_MARGIN)
    for label in range(data.CLASSES):
        chosen = images[labels == label][:GRID_COLUMNS]
        grid[label, : len(chosen), inside, inside] = chosen
    picture = grid.swapaxes(1, 2).reshape(data.CLASSES * cell, GRID_COLUMNS * cell)

    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=data.MAX_INK)  # NaN, the margin, is clear
    axes.set_facecolor("lightsteelblue")
    axes.set(xticks=[], yticks=(np.arange(data.CLASSES) + 0.5) * cell - 0.5)
    axes.set_yticklabels([str(label) for label in range(data.CLASSES)])
    axes.tick_params(length=0)
    figure.savefig(path, dpi=120)
    plt.close(figure)
