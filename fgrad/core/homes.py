"""What a backend does on its own devices, as far as every operation on their buffers needs it.

Host arrays follow those on a device; arrays on two devices do not meet by themselves. What devices
are called, and the rest, is in `fgrad.core.devices`, loaded when somebody asks.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from fgrad.core.config import config

Home = AbstractContextManager[Any]  # what is done inside is done on one device

platforms: dict[str, Callable[[], Any]] = {}  # library → its `devices.Platform`, by backends


def made_on_host() -> bool:
    """Whether the default device is the CPU, in a tenth of the time that naming it takes."""
    name = config.default_device
    return not platforms["cupy"]().count() if name is None else name.startswith("cpu")


def on_device(
    xp: Any, buffers: Sequence[Any], function: Callable[..., Any]
) -> tuple[list[Any], Callable[..., Any]]:
    """Buffers of the library `xp`, and `function` as it runs where they lie.

    Raises:
        DeviceError: They lie on several devices.
    """
    home = platforms[xp.__name__]().home_of(buffers)
    if home is None:
        return [xp.asarray(b) if isinstance(b, np.ndarray) else b for b in buffers], function

    def there(*args: Any, **params: Any) -> Any:
        with home:
            return function(*args, **params)

    with home:
        return [xp.asarray(b) if isinstance(b, np.ndarray) else b for b in buffers], there


def copied(buffer: Any) -> Any:
    """A copy of a buffer on the device where it lies."""
    library = type(buffer).__module__.partition(".")[0]
    if library not in platforms:
        return buffer.copy()
    with platforms[library]().home_of([buffer]) or nullcontext():
        return buffer.copy()


def root(buffer: Any) -> Any:
    """What holds the memory of a buffer."""
    while (base := getattr(buffer, "base", None)) is not None:
        buffer = base
    return buffer
