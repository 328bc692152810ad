"""Where values are: `device_put` as an operation that transforms pass through.

A program runs on one device. The one that its `device_put` equations name, if any, is it (see
`fgrad.api.execution`), so inside a program they do nothing.
"""

from typing import Any

import numpy as np

from fgrad.core.devices import CPU, Device, as_device, cuda, device_of
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import ANY, Case, Lowering, MappedAxis, Primitive, Spec, Value
from fgrad.core.tracing import Tracer, bind
from fgrad.lax.kinds import structural

__all__ = ["device_put_p", "place"]


def _eager(_xp: Any, x: Any, *, device: Device, source: Device | None) -> Any:
    del source
    if isinstance(x, np.ndarray):
        return x if device == CPU else cuda().put(x, device.id)
    if device == CPU:
        return cuda().fetch([x])[0]
    return x if device_of(x) == device else cuda().put(x, device.id)


def _transpose(ct: Value, _x: Value, *, device: Device, source: Device | None) -> tuple[Value]:
    # The cotangent of an array lies where the array does, where that is known.
    return (ct if source is None else _bind(ct, source, device),)


def _batch(
    _axis: MappedAxis, args: list[Value], dims: list[int | None], *, device: Device,
    source: Device | None,
) -> tuple[Value, int | None]:  # fmt: skip
    return _bind(args[0], device, source), dims[0]


device_put_p: Primitive = structural(
    "device_put",
    doc="The same values on a device.",
    abstract=lambda x, **_: x,
    eager=_eager,
    transpose=_transpose,
    batch=_batch,
    lower=Lowering("view", "identity"),  # programs settle on one device before they are compiled
    spec=Spec(
        cases=(
            Case(params={"device": CPU, "source": CPU}),
            Case(params={"device": CPU, "source": None}, name="from anywhere"),
        ),
        dtypes=ANY,
        reference=lambda x, **_: x,
        ulps=0.0,
    ),
)


def _bind(x: Value, device: Device, source: Device | None) -> Value:
    out: Value = bind(device_put_p, x, device=device, source=source)
    return out


def place(x: Value, device: Any) -> Value:
    """`x` on a device; itself where it is known to be there.

    Args:
        x: A value, traced or not.
        device: Where to: what `fgrad.device_put` takes, or "" for the default device.

    Raises:
        DeviceError: There is no such device.
    """
    device = as_device(device or None)
    known: Any = x.concrete() if isinstance(x, ArrayImpl | Tracer) else None
    source = None if known is None else device_of(known._data)
    if source == device:
        return x
    return _bind(x, device, source)
