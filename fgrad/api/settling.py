"""On which device a program runs: the one that its `device_put` equations name."""

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fgrad.backends.cuda.arrays import library
from fgrad.core.avals import ShapedArray
from fgrad.core.devices import CPU, Device, cuda, device_of
from fgrad.core.errors import DeviceError
from fgrad.core.ir import Eqn, Jaxpr, subjaxprs
from fgrad.core.transforms.jaxprs import derived


def named_device(jaxpr: Jaxpr) -> Device | None:
    """The device that the `device_put` equations of a program name: it runs there.

    Raises:
        DeviceError: They name several.
    """
    found: Device | None = derived(jaxpr, ("device",), lambda: _named_device(jaxpr))
    return found


def _named_device(jaxpr: Jaxpr) -> Device | None:
    found: dict[Device, Eqn] = {}
    for eqn in _puts(jaxpr):
        found.setdefault(eqn.params["device"], eqn)
    if len(found) > 1:
        (first, x), (second, y), *_ = found.items()
        raise DeviceError(
            f"one program cannot run on two devices: device_put to {first} at {x.source} and to "
            f"{second} at {y.source}; put arrays in place before the jitted function is called"
        )
    return next(iter(found), None)


def _puts(jaxpr: Jaxpr) -> Iterator[Eqn]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "device_put":
            yield eqn
        for inner in subjaxprs(eqn.params):
            yield from _puts(inner)


def brought_to(
    device: Device, xp: ModuleType, arrays: Sequence[Any]
) -> tuple[ModuleType, Sequence[Any]]:
    """The library and the buffers with which a program runs that names a device.

    Raises:
        DeviceError: Buffers lie on another one; those on the host follow.
    """
    for x in arrays:
        here = device_of(x)
        if here not in (CPU, device):
            raise DeviceError(
                f"device_put inside of a program names {device}, but an argument of the program, "
                f"{ShapedArray(x.shape, x.dtype)}, lies on {here}; put it on {device} before the "
                f"call, or leave device_put out"
            )
    if device == CPU:
        return xp, arrays
    moved = [cuda().put(x, device.id) if type(x) is np.ndarray else x for x in arrays]
    return library(), moved
