"""A digit's class in the place of FLUX's prompt.

FLUX reads a prompt twice: as a sequence of token embeddings (from T5) and as one pooled vector
(from CLIP). Here both come from learned tables with a row a class. They are parameters of the
example, not of the transformer.
"""

from __future__ import annotations

import numpy as np

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import random
from layers import Params


def init(key: fg.Array, classes: int, tokens: int, token_dim: int, pooled_dim: int) -> Params:
    """Random tables: ``tokens[classes, tokens, token_dim]`` and ``pooled[classes, pooled_dim]``."""
    token_key, pooled_key = random.split(key)
    return {
        "tokens": random.normal(token_key, (classes, tokens, token_dim), fnp.float32),
        "pooled": random.normal(pooled_key, (classes, pooled_dim), fnp.float32),
    }


def embed(p: Params, labels: fg.Array) -> tuple[fg.Array, fg.Array]:
    """Text tokens ``[B, tokens, token_dim]`` and pooled vectors for classes ``labels[B]``."""
    return p["tokens"][labels], p["pooled"][labels]


def text_ids(tokens: int) -> np.ndarray:
    """Positions ``[tokens, 3]`` of text tokens: all at the origin, as in FLUX."""
    return np.zeros((tokens, 3))
