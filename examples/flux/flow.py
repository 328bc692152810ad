"""Rectified flow: the straight path from data to noise, its loss, and the Euler sampler of FLUX.

A point of the path is ``x_t = (1 - t) data + t noise``; its velocity, ``noise - data``, is what
the transformer learns to predict.

Source:
    Liu, Gong and Liu, *Flow Straight and Fast*, arXiv:2209.03003; Esser et al., arXiv:2403.03206,
    sections 3.1 (logit-normal times) and 5.3.2 (time shift).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import random

Velocity = Callable[[fg.Array, fg.Array], fg.Array]

# FLUX.1's shift of the times: linear in the number of image tokens through these two points.
BASE_TOKENS, BASE_SHIFT = 256, 0.5
MAX_TOKENS, MAX_SHIFT = 4096, 1.15


def loss(velocity: Velocity, data: fg.Array, key: fg.Array) -> fg.Array:
    """Mean squared error of the predicted velocity at random times, logit-normal in (0, 1).

    Args:
        velocity: Maps noisy tokens ``[B, T, C]`` and times ``[B]`` to velocities ``[B, T, C]``.
        data: ``[B, T, C]``, the clean tokens.
        key: A random key, for the times and the noise.

    Returns:
        A scalar.
    """
    time_key, noise_key = random.split(key)
    t = 1.0 / (1.0 + fnp.exp(-random.normal(time_key, data.shape[:1], data.dtype)))
    noise = random.normal(noise_key, data.shape, data.dtype)
    direction = noise - data
    error = velocity(data + t[:, None, None] * direction, t) - direction
    return fnp.mean(error * error)


def sigmas(steps: int, tokens: int) -> np.ndarray:
    """Times ``[steps + 1]`` from 1 (noise) to 0 (data), shifted towards noise for many tokens.

    ``t -> e^m / (e^m + 1 / t - 1)`` with m linear in the number of image tokens.

    Example:
        >>> sigmas(2, 256).round(3).tolist()
        [1.0, 0.622, 0.0]
    """
    slope = (MAX_SHIFT - BASE_SHIFT) / (MAX_TOKENS - BASE_TOKENS)
    shift = math.exp(BASE_SHIFT + slope * (tokens - BASE_TOKENS))
    t = np.linspace(1.0, 0.0, steps + 1)
    # Multiplied out by t, so that the last 0 divides nothing, and ordered so that 1 stays 1.
    return shift * t / (1.0 + (shift - 1.0) * t)


def euler(velocity: Velocity, noise: fg.Array, times: np.ndarray) -> fg.Array:
    """Follow the velocity from ``noise[B, T, C]`` along ``times``, from 1 down to 0."""
    x = noise
    for now, then in itertools.pairwise(times):
        t = fnp.full(x.shape[:1], now, x.dtype)
        x = x + float(then - now) * velocity(x, t)
    return x
