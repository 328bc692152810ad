"""Arrays of other libraries that lie on a GPU, or are to get there."""

from typing import Any

import numpy as np

from fgrad.backends.cuda.arrays import foreign
from fgrad.core.devices import as_device, device_of
from fgrad.core.errors import ArgumentError
from fgrad.core.evaluate import borrow
from fgrad.core.primitive import Value
from fgrad.numpy.creation import to_device


def from_device(x: Any, device: Any, copy: bool | None) -> Value:
    """`from_dlpack` from a GPU, or to one.

    Args:
        x: An object with ``__dlpack__``.
        device: Where the result lies; None leaves it where it is.
        copy: True copies, False refuses to, None does what is needed.

    Raises:
        ArgumentError: It would have to move, and `copy` is False.
    """
    found = foreign(x)
    there: Value = borrow(np.from_dlpack(x) if found is None else found)
    here = device_of(there._data)
    target = here if device is None else as_device(device)
    if target == here:
        return there.copy() if copy else there
    if copy is False:
        raise ArgumentError(
            f"from_dlpack: {there.aval} on {here} does not get to {target} without a copy; pass "
            f"copy=None"
        )
    return to_device(there, target)
