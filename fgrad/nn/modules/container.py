"""Modules made of modules and functions."""

import inspect
from collections.abc import Callable
from typing import Any

from fgrad import random
from fgrad.core.errors import ArgumentError
from fgrad.nn.modules.base import Module, static

Value = Any


class Lambda(Module):
    """A function as a module without parameters.

    Args:
        fn: Maps an array to an array. Part of the tree's structure, hence compared by identity.

    Example:
        >>> import numpy as np
        >>> import fgrad.nn as nn
        >>> print(nn.Lambda(nn.relu)(np.array([-1.0, 2.0], np.float32)))
        [0. 2.]
    """

    fn: Callable[[Value], Value] = static()

    def __init__(self, fn: Callable[[Value], Value]) -> None:
        self.fn = fn

    def __call__(self, x: Value) -> Value:
        """Apply the function to ``x``."""
        return self.fn(x)


def _takes_key(layer: Module) -> bool:
    """Whether calling ``layer`` needs a random key, as ``Dropout`` does."""
    return "key" in inspect.signature(type(layer).__call__).parameters


class Sequential(Module):
    """Layers applied one after the other.

    Args:
        *layers: Modules, or functions of one array.

    Attributes:
        layers: Tuple of modules; functions are wrapped in ``Lambda``.

    Raises:
        ArgumentError: A layer is not callable.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> k1, k2 = fg.random.split(fg.random.key(0))
        >>> model = nn.Sequential(nn.Linear(k1, 3, 8), nn.relu, nn.Linear(k2, 8, 2))
        >>> model(fg.numpy.ones((5, 3))).shape
        (5, 2)
        >>> len(model), list(model.state_dict())[0]
        (3, 'layers.0.weight')
    """

    layers: tuple[Module, ...]

    def __init__(self, *layers: Module | Callable[[Value], Value]) -> None:
        for index, layer in enumerate(layers):
            if not callable(layer):
                message = f"Sequential: layer {index} is a {type(layer).__name__}, not callable"
                raise ArgumentError(message)
        self.layers = tuple(x if isinstance(x, Module) else Lambda(x) for x in layers)

    def __call__(self, x: Value, *, key: Value | None = None) -> Value:
        """Apply the layers to ``x``.

        Args:
            x: Input of the first layer.
            key: Random key, split among the layers that take one (such as ``Dropout``); None is
                inference.

        Returns:
            Result of the last layer.
        """
        random_layers = sum(_takes_key(layer) for layer in self.layers)
        if key is None:
            keys = iter([None] * random_layers)
        else:
            keys = iter(random.split(key, random_layers) if random_layers else ())
        for layer in self.layers:
            x = layer(x, key=next(keys)) if _takes_key(layer) else layer(x)  # type: ignore[operator]
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]
