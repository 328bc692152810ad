"""Measure sampled digits against real ones: are they legible, varied and new?

Run ``python examples/flux/quality.py OUT`` on a directory that train.py or sample.py wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.svm import SVC

import data

# What each measure must at least be.
BARS = {"accuracy": 0.85, "diversity": 0.60, "novelty": 0.50}


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def accuracy(train: data.Digits, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of ``images[N, 8, 8]`` that an SVC trained on real digits gives its label."""
    classifier = SVC(gamma=0.001, C=10.0).fit(_flat(train.images), train.labels)
    return float(np.mean(classifier.predict(_flat(images)) == labels))


def within_class_distance(images: np.ndarray, labels: np.ndarray) -> float:
    """Mean Euclidean distance of two images of a class, averaged over the classes."""
    means = []
    for label in np.unique(labels):
        members = _flat(images[labels == label])
        count = len(members)
        means.append(pairwise_distances(members).sum() / (count * (count - 1)))
    return float(np.mean(means))


def nearest_distance(train: data.Digits, images: np.ndarray) -> float:
    """Mean Euclidean distance of an image to the training digit nearest to it."""
    return float(pairwise_distances(_flat(images), _flat(train.images)).min(axis=1).mean())


def measure(images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score samples against the digits of scikit-learn.

    Args:
        images: ``[N, 8, 8]``, ink from 0 to 16; at least two a class.
        labels: ``[N]``, the classes that were asked for.

    Returns:
        ``accuracy``: the share that a support vector classifier of real digits labels as asked.
        ``diversity``: mean distance within a class over that of the real training digits; 1 is
        as varied as they are, 0 a single picture. ``novelty``: mean distance to the nearest
        training digit over that of held-out digits; 0 is copying.
    """
    train, held_out = data.load()
    return {
        "accuracy": accuracy(train, images, labels),
        "diversity": within_class_distance(images, labels) / within_class_distance(*train),
        "novelty": nearest_distance(train, images) / nearest_distance(train, held_out.images),
    }


def report(scores: dict[str, float]) -> str:
    """The scores beside their bars, a line each."""
    lines = []
    for name, bar in BARS.items():
        verdict = "ok" if scores[name] >= bar else "below the bar"
        lines.append(f"{name:>10}  {scores[name]:6.1%}  at least {bar:.0%}: {verdict}")
    return "\n".join(lines)


def passed(scores: dict[str, float]) -> bool:
    """Whether every score reaches its bar."""
    return all(scores[name] >= bar for name, bar in BARS.items())


def main(argv: list[str] | None = None) -> int:
    """Score ``OUT/samples.npz``; the exit status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory that holds samples.npz")
    path = parser.parse_args(argv).out / "samples.npz"
    if not path.exists():
        parser.error(f"{path} does not exist; run train.py --out {path.parent} first")
    with np.load(path) as samples:
        scores = measure(samples["images"], samples["labels"])
    print(report(scores))
    return 0 if passed(scores) else 1


if __name__ == "__main__":
    sys.exit(main())
