"""Devices by name, and what a backend can do on its own."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fgrad.core.config import config
from fgrad.core.errors import DeviceError
from fgrad.core.homes import Home, platforms


class Platform(Protocol):
    """What a backend can do on its devices, which have numbers from 0."""

    def count(self) -> int:
        """How many devices there are."""

    def current(self) -> int:
        """The device that is current in this thread."""

    def index_of(self, buffer: Any) -> int:
        """The device on which a buffer lies."""

    def home_of(self, buffers: Sequence[Any]) -> Home | None:
        """What makes the device of buffers current; None where it is the only one.

        Host arrays among them say nothing. Raises `DeviceError` where they lie on several.
        """

    def put(self, buffer: Any, index: int) -> Any:
        """A copy of a buffer, which may lie on the host, on a device."""

    def fetch(self, buffers: Sequence[Any]) -> list[Any]:
        """Copies of buffers on the host."""

    def synchronize(self, index: int) -> None:
        """Wait for all that a device computes."""

    def is_idle(self, index: int) -> bool:
        """Whether nothing is queued on the current stream of a device."""

    def statistics(self, index: int) -> dict[str, int]:
        """The memory of a device, in bytes."""

    def kind(self, index: int) -> str:
        """What a device is called by its maker."""


class Device(str):
    """A place where arrays are: its name, ``"cpu"`` or ``"cuda:0"``, that knows more about itself.

    Made by `fgrad.devices`, and what ``x.device`` gives.

    Example:
        >>> import fgrad as fg
        >>> device = fg.devices("cpu")[0]
        >>> device == "cpu", device.platform, device.id
        (True, 'cpu', 0)
    """

    __slots__ = ()

    process_index = 0

    @property
    def platform(self) -> str:
        """``"cpu"`` or ``"gpu"``."""
        return "cpu" if self == "cpu" else "gpu"

    @property
    def id(self) -> int:
        """Its number among the devices of its platform."""
        return int(self.partition(":")[2] or 0)

    @property
    def device_kind(self) -> str:
        """What its maker calls it; ``"cpu"`` for the CPU."""
        return "cpu" if self == "cpu" else cuda().kind(self.id)

    def memory_stats(self) -> dict[str, int] | None:
        """Its memory in bytes, see `fgrad.memory_stats`; None for the CPU."""
        return None if self == "cpu" else cuda().statistics(self.id)

    def synchronize(self) -> None:
        """Wait for all that it computes."""
        if self != "cpu":
            cuda().synchronize(self.id)

    def is_idle(self) -> bool:
        """Whether nothing is queued on its current stream; the CPU never queues."""
        return self == "cpu" or cuda().is_idle(self.id)


CPU = Device("cpu")


def cuda() -> Platform:
    """NVIDIA GPUs, through CuPy."""
    found: Platform = platforms["cupy"]()
    return found


def device_of(buffer: Any) -> Device:
    """Where a buffer lies."""
    if isinstance(buffer, np.ndarray):
        return CPU
    return Device(f"cuda:{cuda().index_of(buffer)}")


def default_device() -> Device:
    """Where arrays are made of what is no array, and where none is named.

    ``config.default_device``; where that is None, CuPy's current GPU, or the CPU without one.
    """
    name = config.default_device
    if name is not None:
        try:
            return as_device(name)
        except DeviceError as error:
            reason = str(error).partition("\n")[0]
            raise DeviceError(
                f"{reason}; config.default_device (or FGRAD_DEFAULT_DEVICE) asks for it"
            ) from None
    return Device(f"cuda:{cuda().current()}") if cuda().count() else CPU


def as_device(x: Any) -> Device:
    """The device that a name, a `Device`, a device of CuPy or None (the default one) means.

    Raises:
        DeviceError: There is none.
    """
    if x is None:
        return default_device()
    if isinstance(x, str):
        kind, _, number = x.partition(":")
    elif type(x).__module__.partition(".")[0] == "cupy" and hasattr(x, "id"):
        kind, number = "cuda", str(x.id)
    else:
        raise DeviceError(
            f"expected a device, got {type(x).__name__}; pass one of fgrad.devices(), or its name, "
            f"such as 'cpu' or 'cuda:0'"
        )
    if kind == "cpu" and number in ("", "0"):
        return CPU
    if kind not in ("cuda", "gpu") or not (number == "" or number.isdecimal()):
        raise DeviceError(f"there is no device {str(x)!r}; names are 'cpu', 'cuda' and 'cuda:0'")
    count = cuda().count()
    if count == 0:
        raise DeviceError(
            f"there is no device {str(x)!r}: CuPy is not installed, or finds no GPU; install "
            f"fgrad[cuda12] or fgrad[cuda13] where there is one"
        )
    index = int(number) if number else cuda().current()
    if index >= count:
        raise DeviceError(f"there is no device {str(x)!r}; there are {count} GPUs: cuda:0 to "
                          f"cuda:{count - 1}")  # fmt: skip
    return Device(f"cuda:{index}")
