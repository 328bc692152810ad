"""Waiting for what devices compute."""

from typing import Any

from numpy import ndarray

from fgrad.core import trees
from fgrad.core.evaluate import ArrayImpl, DonatedBuffer


def block_until_ready(tree: Any) -> Any:
    """Wait until all arrays of a tree are computed, and return the tree.

    On the CPU they are; of a GPU all streams are waited for.

    Raises:
        IndexOutOfBoundsError: A compiled program on a GPU has found an index outside of its array.
    """
    found = {
        x.device
        for x in trees.leaves(tree)
        if type(x) is ArrayImpl and type(x._data) not in (ndarray, DonatedBuffer)
    }
    for device in found:
        device.synchronize()
    return tree
