"""Layers that multiply by a matrix, look up its rows, or drop elements."""

import math
from typing import Any

import fgrad.numpy as fnp
from fgrad import random
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.nn.lookup import embedding
from fgrad.nn.modules.base import Module, static
from fgrad.nn.regularization import dropout

Value = Any


def uniform_within(key: Value, bound: float, shape: tuple[int, ...], dtype: Any) -> Value:
    """Uniform numbers in [-bound, bound).

    Args:
        key: Random key.
        bound: Upper end.
        shape: Shape of the result.
        dtype: Its dtype.

    Returns:
        ``[*shape]``.

    Example:
        >>> import fgrad as fg
        >>> bool(abs(uniform_within(fg.random.key(0), 0.5, (9,), "float32")).max() <= 0.5)
        True
    """
    return random.uniform(key, shape, dtype, -bound, bound)


class Linear(Module):
    """``x · weightᵀ + bias`` on the last axis.

    Args:
        key: Random key for the parameters.
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the result.
        bias: Whether to add a bias.
        dtype: dtype of the parameters; the default float where None.

    Attributes:
        weight: ``[out_features, in_features]``, uniform within 1/√in_features.
        bias: ``[out_features]``, likewise, or None.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> layer = nn.Linear(fg.random.key(0), 3, 2)
        >>> layer(fg.numpy.ones((5, 3))).shape
        (5, 2)
        >>> layer
        Linear(
          in_features=3
          out_features=2
          weight=float32[2,3]
          bias=float32[2]
        )
    """

    in_features: int = static()
    out_features: int = static()
    weight: Value
    bias: Value | None

    def __init__(
        self,
        key: Value,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        weight_key, bias_key = random.split(key)
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.in_features, self.out_features = in_features, out_features
        self.weight = uniform_within(weight_key, bound, (out_features, in_features), dtype)
        self.bias = uniform_within(bias_key, bound, (out_features,), dtype) if bias else None

    def __call__(self, x: Value) -> Value:
        """Apply the layer to ``[..., in_features]``; returns ``[..., out_features]``."""
        if not fnp.ndim(x) or fnp.shape(x)[-1] != self.in_features:
            message = f"Linear: x must be [..., {self.in_features}], got {list(fnp.shape(x))}"
            raise ShapeError(message)
        y = fnp.matmul(x, self.weight.T)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """A table of vectors, looked up by integer.

    Args:
        key: Random key for the table.
        num_embeddings: Number of rows.
        embedding_dim: Size of each.
        padding_idx: A row of zeros that gets no gradient, or None.
        dtype: dtype of the table; the default float where None.

    Attributes:
        weight: ``[num_embeddings, embedding_dim]``, standard normal.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> table = nn.Embedding(fg.random.key(0), 10, 4)
        >>> table(fg.numpy.array([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    padding_idx: int | None = static()
    weight: Value

    def __init__(
        self,
        key: Value,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = None,
    ) -> None:
        weight = random.normal(key, (num_embeddings, embedding_dim), dtype)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                message = f"Embedding: padding_idx {padding_idx} is no row of {num_embeddings}"
                raise ArgumentError(message)
            padding_idx %= num_embeddings
            is_padding = fnp.arange(num_embeddings) == padding_idx
            weight = fnp.where(is_padding[:, None], fnp.zeros_like(weight), weight)
        self.padding_idx, self.weight = padding_idx, weight

    def __call__(self, indices: Value) -> Value:
        """Look up ``[...]`` integers; returns ``[..., embedding_dim]``."""
        return embedding(indices, self.weight, self.padding_idx)


class Dropout(Module):
    """Sets elements to 0 at random, in training.

    Args:
        p: Probability of 0.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> layer = nn.Dropout(0.5)
        >>> sorted(set(layer(fg.numpy.ones(100), key=fg.random.key(0)).tolist()))
        [0.0, 2.0]
        >>> sorted(set(layer(fg.numpy.ones(100), key=None).tolist()))
        [1.0]
    """

    p: float = static()

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            message = f"Dropout: p must lie in [0, 1], got {p}"
            raise ArgumentError(message)
        self.p = p

    def __call__(self, x: Value, *, key: Value | None) -> Value:
        """Drop elements of ``x`` (``[...]``) with ``key``; ``key=None`` is inference."""
        return fnp.asarray(x) if key is None else dropout(key, x, self.p)
