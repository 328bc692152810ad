"""One safetensors file that is always whole: written beside the old one, then put in its place.

It carries a checksum of its content, since safetensors itself sees no bit that has changed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

CHECKSUM = "crc32"


def _checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """A number that changes with any bit of the arrays, their names and types, and the text."""
    text = [(n, a.dtype.str, a.shape) for n, a in sorted(arrays.items())]
    total = zlib.crc32(repr((text, sorted(metadata.items()))).encode())
    for _, array in sorted(arrays.items()):
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), total)
    return f"{total:08x}"


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and text to ``path``; a reader sees the old file or the new one, never a part.

    Args:
        path: The file, replaced if it exists.
        arrays: Any shapes and dtypes that safetensors knows, by name.
        metadata: Text by name.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    about = {**metadata, CHECKSUM: _checksum(contiguous, metadata)}
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(save(contiguous, metadata=about))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the text that :func:`write` put into ``path``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not safetensors, is cut short, has changed since it was written, or
            has no checksum.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train without --resume to make one")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    said = metadata.pop(CHECKSUM, None)
    if said is None:
        raise ValueError(f"{path} is a safetensors file, but was not written by this example")
    found = _checksum(arrays, metadata)
    if said != found:
        raise ValueError(
            f"{path} is damaged: its content has the checksum {found}, and was written with "
            f"{said}; train without --resume to start anew"
        )
    return arrays, metadata
