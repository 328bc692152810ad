"""Waiting for what devices compute."""

from typing import Any

import numpy as np

from fgrad.core import trees
from fgrad.core.evaluate import (
    ArrayImpl,
    namespace_of,
    waited,
)


def block_until_ready(tree: Any) -> Any:
    """Wait until all arrays of a tree are computed, and return the tree.

    On the CPU they are.

    Raises:
        IndexOutOfBoundsError: A compiled program on a GPU has found an index outside of its array.
    """
    for x in trees.leaves(tree):
        if type(x) is ArrayImpl and not isinstance(x._data, np.ndarray):
            namespace_of(type(x._data)).cuda.get_current_stream().synchronize()
            waited()
    return tree
