"""Devices and where arrays lie: what the public face says about them."""

from importlib import import_module
from typing import Any

import numpy as np

from fgrad.api.donation import give_away
from fgrad.backends.cuda.arrays import foreign
from fgrad.core import trees
from fgrad.core.devices import CPU, Device, as_device, cuda, default_device, device_of
from fgrad.core.errors import ArgumentError, DeviceError
from fgrad.core.evaluate import BORROWED, WEAK, ArrayImpl, borrow
from fgrad.core.homes import copied
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, Tracer, entering, state
from fgrad.core.transforms.key_uses import select
from fgrad.lax.placement import place

__all__ = ["Device", "devices", "device_get", "device_put", "memory_stats", "peak_memory"]


def devices(backend: str | None = None) -> list[Device]:
    """The devices of a platform.

    Args:
        backend: ``"cpu"``, ``"gpu"`` or ``"cuda"``; None: that of the default device.

    Returns:
        ``["cpu"]``, or ``["cuda:0", "cuda:1", …]``. A device is its name, with ``platform``,
        ``id``, ``device_kind`` and ``memory_stats()``.

    Raises:
        DeviceError: There is no such platform, or it has no device.

    Example:
        >>> devices("cpu")
        ['cpu']
    """
    named = default_device() if backend is None else as_device(backend)
    return [CPU] if named == CPU else [Device(f"cuda:{i}") for i in range(cuda().count())]


def device_put(x: Any, device: Any = None, *, donate: Any = False, may_alias: Any = None) -> Any:
    """The arrays of a tree on a device.

    Copies to a GPU do not wait: what is computed next on CuPy's current stream comes after them.
    Derivatives pass through it, and a cotangent goes back to where the array came from. Inside of
    `jit` it says on which device the program runs; arguments on the host follow.

    Args:
        x: A tree of arrays, of NumPy, CuPy or anything with DLPack or the CUDA array interface,
            and numbers.
        device: One of `devices`, its name, a device of CuPy, or a tree of those that is a prefix
            of `x`. None leaves arrays of fgrad and CuPy where they are, and puts others on the
            default device.
        donate: Whether arrays of fgrad are given up: their buffers are free once moved. A tree of
            truth values that is a prefix of `x` is accepted.
        may_alias: True: the result may share the memory of a NumPy array, where nothing moves;
            later writes to that show. False: it shares memory with nothing. None: it shares
            memory with arrays of fgrad only.

    Returns:
        A tree like `x` of arrays.

    Raises:
        DeviceError: There is no such device.
        ArgumentError: `donate` and `may_alias` are both true.

    Example:
        >>> x = device_put({"w": np.ones(2), "b": 0.0}, "cpu")
        >>> x["w"].device
        'cpu'
    """
    leaves, tree = trees.flatten(x)
    given = zip(
        leaves,
        trees.flatten_axes(device, tree, name="device"),
        trees.flatten_axes(donate, tree, name="donate"),
        trees.flatten_axes(may_alias, tree, name="may_alias"),
        strict=True,
    )
    with entering() as trace:
        top = trace is state.quiet
        outs = [_put(leaf, there, bool(give) and top, alias) for leaf, there, give, alias in given]
    return trees.unflatten(tree, outs)


def _put(x: Any, device: Any, donate: bool, may_alias: bool | None) -> Value:
    if donate and may_alias:
        raise ArgumentError(
            "device_put: donate and may_alias are both true; a donated array is given up, so leave "
            "may_alias out"
        )
    if isinstance(x, Tracer):
        return x if device is None else place(x, as_device(device))
    value = _concrete(x)
    here = device_of(value._data)
    stays = device is None and (value is x or here != CPU)
    there = here if stays else as_device(device)
    out = place(value, there)
    if there == here:
        fresh = may_alias is False or (value._flags & BORROWED and not may_alias)
        if fresh and not donate:
            out = ArrayImpl(copied(value._data), value._flags & WEAK)
        elif donate:
            out = ArrayImpl(value._data, value._flags)
    if hasattr(value, "_uses") and out is not value:  # a random key stays the key that it was
        select(value, out, lambda positions: positions)
    if donate:
        give_away([value], [0], "device_put")
    return out


def _concrete(x: Any) -> ArrayImpl:
    found = None if isinstance(x, Array | np.ndarray | np.generic) else foreign(x)
    value = borrow(x if found is None else found)
    if not isinstance(value, ArrayImpl):
        raise ArgumentError(f"device_put: {type(x).__name__} holds no concrete array")
    return value


def device_get(x: Any) -> Any:
    """The arrays of a tree in host memory, as read-only NumPy arrays.

    Large arrays of a GPU come through pinned memory, all at once.

    Args:
        x: A tree of arrays; numbers and NumPy arrays stay what they are.

    Returns:
        A tree like `x`.

    Example:
        >>> import fgrad.numpy as fnp
        >>> device_get({"w": fnp.ones(2)})
        {'w': array([1., 1.], dtype=float32)}
    """
    leaves, tree = trees.flatten(x)
    far = [leaf for leaf in leaves if type(leaf) is ArrayImpl and device_of(leaf._data) != CPU]
    fetched = iter(cuda().fetch([leaf._data for leaf in far])) if far else iter(())
    remote = set(map(id, far))
    outs = []
    for leaf in leaves:
        if id(leaf) in remote:
            array = next(fetched)
            array.flags.writeable = False
            outs.append(array)
        else:
            outs.append(np.asarray(leaf) if isinstance(leaf, Array) else leaf)
    return trees.unflatten(tree, outs)


def memory_stats(device: Any = None) -> dict[str, int] | None:
    """The memory of a device, in bytes.

    Args:
        device: One of `devices`, or its name; None: the default device.

    Returns:
        None for the CPU. For a GPU: ``bytes_in_use`` by arrays, ``pool_bytes`` that CuPy's pool
        holds (those in use and those kept for the next arrays), ``bytes_limit`` of the pool, and
        ``bytes_free`` of the ``bytes_total`` of the card. `peak_memory` measures a peak.

    Example:
        >>> memory_stats("cpu") is None
        True
    """
    return as_device(device).memory_stats()


def peak_memory(device: Any = None) -> Any:
    """Measure the most bytes in use on a GPU, in a ``with`` block.

    What this thread takes from CuPy's pool is counted; each allocation takes a few microseconds
    longer meanwhile. What a compiled program needs is known beforehand: see
    ``jit(f).lower(x).memory_analysis()``.

    Args:
        device: One of `devices`, or its name; None: the default device.

    Returns:
        A context manager; as ``with peak_memory() as peak:``, ``peak.bytes`` is the peak so far.

    Raises:
        DeviceError: It is the CPU, whose memory nobody counts.
    """
    found = as_device(device)
    if found == CPU:
        raise DeviceError(
            "peak_memory measures GPUs, got 'cpu'; jit(f).lower(x).memory_analysis() states what a "
            "program for the CPU needs"
        )
    return import_module("fgrad.backends.cuda.devices").PeakMemory(found.id)
