"""Operands and calls for the comparisons with NumPy and JAX.

`calls.txt` holds calls that NumPy, JAX and fgrad all answer alike; `calls_jax.txt` those that NumPy
lacks or answers differently (its dtypes, in-place methods). `xp` stands for the namespace.
"""

from pathlib import Path
from typing import Any

import numpy as np

_X = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]], np.float32)
_Y = np.array([[1.5, 2.0, -0.5], [0.75, 1.0, 2.0]], np.float32)
OPERANDS: dict[str, np.ndarray] = {
    "x": _X,
    "y": _Y,
    "v": np.array([3.0, 1.0, 2.0], np.float32),
    "i": np.array([[3, -4, 5], [0, 7, 2]], np.int32),
    "j": np.array([[2, 3, -2], [5, 4, 1]], np.int32),
    "k": np.array([2, 0, 1], np.int32),
    "u": np.array([1, 200, 3], np.uint8),
    "b": np.array([[True, False, True], [False, False, True]]),
    "c": (_X + 1j * _Y).astype(np.complex64),
    "n": np.array([1.0, np.nan, np.inf, -np.inf, 0.0], np.float32),
    "m": np.array([[4.0, 1.0], [2.0, 3.0]], np.float32),
}


def calls(name: str) -> dict[str, list[str]]:
    """The calls of a file, grouped by what they start with."""
    groups: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / name).read_text().splitlines():
        head = line.split("(")[0] if line.startswith("xp.") else line[:1] + line[1:2].strip()
        groups.setdefault(head, []).append(line)
    return groups


def evaluate(call: str, xp: Any, convert: Any) -> list[Any]:
    """The results of a call in a namespace, as a flat list."""
    operands = {name: convert(a) for name, a in OPERANDS.items()}
    return flat(eval(call, {"xp": xp, "np": np, **operands}))


def flat(x: Any) -> list[Any]:
    """The items of nested tuples and lists."""
    return [z for y in x for z in flat(y)] if isinstance(x, tuple | list) else [x]
