"""One safetensors file that is always whole: written beside the old one, then put in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and text to ``path``; a reader sees the old file or the new one, never a part.

    Args:
        path: The file, replaced if it exists.
        arrays: Any shapes and dtypes that safetensors knows, by name.
        metadata: Text by name.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(save(contiguous, metadata=dict(metadata)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the text that :func:`write` put into ``path``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not safetensors, or is cut short.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}; train without --resume to make one")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
