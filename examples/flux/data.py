"""Scikit-learn's 8x8 handwritten digits: 1,797 images of 0 to 16 ink, ten classes.

Four fifths train the model; the rest is held out, to measure what new real digits look like.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

CLASSES = 10
IMAGE_SIZE = 8
MAX_INK = 16.0
HELD_OUT = 0.2


class Digits(NamedTuple):
    """Images ``[N, 8, 8]`` float32 from 0 to 16, and labels ``[N]`` int32."""

    images: np.ndarray
    labels: np.ndarray


def load() -> tuple[Digits, Digits]:
    """The training digits and the held-out digits, each class split alike; always the same split.

    Example:
        >>> train, held_out = load()
        >>> train.images.shape, held_out.images.shape
        ((1437, 8, 8), (360, 8, 8))
    """
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels.astype(np.int32), test_size=HELD_OUT, random_state=0, stratify=labels
    )
    return Digits(train_x, train_y), Digits(test_x, test_y)


def to_model(images: np.ndarray) -> np.ndarray:
    """Ink from 0 to 16 as the model sees it: from -1 to 1, with one channel ``[N, 8, 8, 1]``."""
    return (images / (MAX_INK / 2) - 1.0)[..., None]


def from_model(x: np.ndarray) -> np.ndarray:
    """The inverse of :func:`to_model`; what lies beyond the ends of the scale is clipped."""
    return np.clip((x[..., 0] + 1.0) * (MAX_INK / 2), 0.0, MAX_INK)
