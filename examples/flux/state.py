"""Everything a training run is at one moment, and its form on disk.

The file holds the weights under diffusers' names (``transformer.*`` and, averaged,
``average.transformer.*``), the optimizer's state, the random key, the order in which this epoch
visits the digits, and the losses so far. From it a run goes on as if it had never stopped, bit for
bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import checkpoint
import fgrad as fg
import fgrad.numpy as fnp
import model
import recipe as recipes
from fgrad import random, tree
from layers import Params

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class State:
    """A training run between two steps.

    Attributes:
        size: The recipe's name in ``recipe.SIZES``.
        seed: What the run's random key grew from.
        params: The weights.
        average: Their exponential moving average, which samples are drawn from.
        optimizer: The optimizer's state.
        key: The random key of what comes next.
        order: ``[N]`` int32, this epoch's order of the training digits.
        position: How many of ``order`` have been used.
        losses: The loss of every step so far; their number is the number of steps.
    """

    size: str
    seed: int
    params: Params
    average: Params
    optimizer: Any
    key: fg.Array
    order: np.ndarray
    position: int
    losses: tuple[float, ...]

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)


def start(size: str, seed: int, digits: int) -> State:
    """A run of ``size`` before its first step on ``digits`` training images."""
    recipe = recipes.SIZES[size]
    key, init_key = random.split(random.key(seed))
    params = recipes.init(init_key, recipe)
    return State(
        size=size,
        seed=seed,
        params=params,
        average=params,
        optimizer=recipes.optimizer(recipe).init(params),
        key=key,
        order=np.zeros(digits, np.int32),
        position=digits,
        losses=(),
    )


def _arrays(state: State) -> dict[str, np.ndarray]:
    """The arrays of a run by their names in the file."""
    arrays: dict[str, Any] = model.flatten(state.params)
    arrays.update(model.flatten(state.average, "average."))
    leaves = tree.leaves(state.optimizer)
    arrays.update({f"optimizer.{i}": leaf for i, leaf in enumerate(leaves)})
    arrays["key"] = random.key_data(state.key)
    arrays["order"] = state.order
    arrays["losses"] = np.asarray(state.losses, np.float32)
    return {name: np.asarray(array) for name, array in arrays.items()}


def save(state: State, path: Path) -> None:
    """Write ``state`` to ``path``, whole or not at all."""
    about = {"size": state.size, "seed": state.seed, "position": state.position}
    checkpoint.write(path, _arrays(state), {"format": "pt", "run": json.dumps(about)})


def _check(path: Path, arrays: dict[str, np.ndarray], blank: State) -> None:
    """Raise ValueError unless the file holds what a run like ``blank`` has."""
    wanted = _arrays(blank)
    for name in sorted({*wanted, *arrays}):
        if name not in arrays or name not in wanted:
            what = "lacks" if name in wanted else "has an unknown"
            raise ValueError(f"{path} {what} {name}; another version of this example wrote it")
        old, new = wanted[name], arrays[name]
        if old.dtype != new.dtype or (old.shape != new.shape and name != "losses"):
            raise ValueError(
                f"{path}: {name} is {new.dtype}{list(new.shape)}, and {old.dtype}"
                f"{list(old.shape)} in a run of size {blank.size!r}; another version of this "
                f"example wrote it"
            )


def load(path: Path) -> State:
    """The state that :func:`save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or is not the checkpoint of a run, or was written by a
            version of this example with another model.
    """
    arrays, metadata = checkpoint.read(path)
    if "run" not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not of a training run of this example")
    about = json.loads(metadata["run"])
    if about["size"] not in recipes.SIZES:
        raise ValueError(
            f"{path}: size {about['size']!r} is unknown; known are {', '.join(recipes.SIZES)}"
        )
    blank = start(about["size"], about["seed"], len(arrays.get("order", ())))
    _check(path, arrays, blank)

    def section(prefix: str) -> Params:
        names = (name for name in arrays if name.startswith(prefix))
        return model.nest({n.removeprefix(prefix): fnp.asarray(arrays[n]) for n in names})

    params = {part: section(f"{part}.") for part in ("condition", "transformer")}
    count = len(tree.leaves(blank.optimizer))
    leaves = [fnp.asarray(arrays[f"optimizer.{i}"]) for i in range(count)]
    return State(
        size=about["size"],
        seed=about["seed"],
        params=params,
        average=section("average."),
        optimizer=tree.unflatten(tree.structure(blank.optimizer), leaves),
        key=random.wrap_key_data(fnp.asarray(arrays["key"])),
        order=arrays["order"],
        position=about["position"],
        losses=tuple(arrays["losses"].tolist()),
    )
