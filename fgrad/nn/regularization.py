"""Dropout."""

from typing import Any

import fgrad.numpy as fnp
from fgrad import random
from fgrad.core.errors import ArgumentError

Value = Any


def dropout(key: Value, x: Value, rate: float) -> Value:
    """Set elements to 0 with probability ``rate`` and divide the others by ``1 - rate``.

    Args:
        key: Random key.
        x: ``[...]``, float.
        rate: In [0, 1]. Static.

    Returns:
        ``[...]``, dtype of ``x``, with the mean of ``x``.

    Raises:
        ArgumentError: ``rate`` is not in [0, 1].

    Source:
        Srivastava et al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*,
        JMLR 15, 2014.

    Example:
        >>> import fgrad as fg
        >>> import fgrad.nn as nn
        >>> y = nn.dropout(fg.random.key(0), fg.numpy.ones(1000), 0.75)
        >>> sorted(set(y.tolist()))
        [0.0, 4.0]
    """
    if not 0 <= rate <= 1:
        message = f"dropout: rate must lie in [0, 1], got {rate}"
        raise ArgumentError(message)
    x = fnp.asarray(x)
    if rate == 0:
        return x
    if rate == 1:
        return fnp.zeros_like(x)
    keep = random.bernoulli(key, 1 - rate, x.shape)
    return fnp.where(keep, x / (1 - rate), fnp.zeros_like(x))
