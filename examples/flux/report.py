"""What a run shows: a progress bar, the loss curve and the grid of samples."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import data
import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # draws into files; needs no display

from matplotlib import pyplot as plt

BAR_WIDTH = 28
GRID_COLUMNS = 10
LOSS_WINDOW = 50


class Progress:
    """A line with a bar, the loss, samples a second and the time left.

    On a terminal the line is redrawn in place, at most ten times a second; elsewhere a line is
    printed for every tenth of the work.
    """

    def __init__(self, total: int, done: int, batch: int, stream: TextIO | None = None) -> None:
        """Start a bar.

        Args:
            total: Steps at the end of the bar.
            done: Steps done already, by the run that this one resumes.
            batch: Samples a step.
            stream: Where to draw; standard error by default.
        """
        self.total, self.first, self.batch = total, done, batch
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.started = time.perf_counter()
        self.drawn = self.started
        self.shown = 10 * done // max(total, 1)

    def update(self, step: int, loss: float) -> None:
        """Show that ``step`` steps are done and the last one's loss."""
        now = time.perf_counter()
        tenth = 10 * step // self.total
        due = now - self.drawn > 0.1 if self.live else tenth > self.shown
        if not due and step < self.total:
            return
        self.drawn, self.shown = now, tenth
        rate = (step - self.first) / max(now - self.started, 1e-9)
        filled = BAR_WIDTH * step // self.total
        line = (
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {step}/{self.total}"
            f"  loss {loss:.4f}  {rate * self.batch:,.0f} samples/s"
            f"  {(self.total - step) / max(rate, 1e-9):.0f} s left"
        )
        self.stream.write(f"\r\x1b[K{line}" if self.live else f"{line}\n")
        self.stream.flush()

    def __enter__(self) -> Progress:
        """Return the bar itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the line: what is printed next starts on a new one."""
        if self.live:
            self.stream.write("\n")


def loss_curve(losses: Sequence[float], path: Path) -> None:
    """Draw the loss of every step, and its running mean, into a PNG."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, linewidth=0.6, alpha=0.4, label="each step")
    window = min(LOSS_WINDOW, len(losses))
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    axes.plot(steps[window - 1 :], mean, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="mean squared error of the velocity", title="Rectified flow")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sample_grid(images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Draw the first ten ``images[N, 8, 8]`` of each class, a row a class, into a PNG."""
    figure, axes = plt.subplots(
        data.CLASSES, GRID_COLUMNS, figsize=(6, 6), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for label, row in enumerate(axes):
        row[0].set_ylabel(str(label), rotation=0, labelpad=10, verticalalignment="center")
        for axis, image in zip(row, images[labels == label], strict=False):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=data.MAX_INK)
    figure.savefig(path, dpi=120)
    plt.close(figure)
