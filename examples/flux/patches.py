"""Images to sequences of patches and back, and the patches' positions."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

import fgrad as fg

ArrayLike = TypeVar("ArrayLike", np.ndarray, fg.Array)


def patchify(images: ArrayLike, patch: int) -> ArrayLike:
    """Cut images into patches, row by row: ``[B, H, W, C] -> [B, HW / patch², C * patch²]``.

    Within a patch the channel varies slowest, as FLUX packs its latents.

    Example:
        >>> patchify(np.arange(4).reshape(1, 2, 2, 1), 1)[0, :, 0].tolist()
        [0, 1, 2, 3]
    """
    batch, height, width, channels = images.shape
    if height % patch or width % patch:
        raise ValueError(f"images {list(images.shape)} cannot be cut into {patch}x{patch} patches")
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, (height // patch) * (width // patch), channels * patch * patch)


def unpatchify(tokens: ArrayLike, patch: int, height: int, width: int) -> ArrayLike:
    """Put patches together again: the inverse of :func:`patchify`, ``-> [B, H, W, C]``."""
    batch, _, size = tokens.shape
    channels = size // (patch * patch)
    x = tokens.reshape(batch, height // patch, width // patch, channels, patch, patch)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(batch, height, width, channels)


def image_ids(rows: int, columns: int) -> np.ndarray:
    """Positions ``[rows * columns, 3]`` of patches: 0, the row and the column.

    Example:
        >>> image_ids(1, 2).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    ids = np.zeros((rows, columns, 3))
    ids[..., 1] = np.arange(rows)[:, None]
    ids[..., 2] = np.arange(columns)[None, :]
    return ids.reshape(rows * columns, 3)
