"""Arrays as kernels and library rules need them, and as they may leave a program."""

from typing import Any

import numpy as np

from fgrad.backends.cpu.blocks import LEAST_BYTES, blocks
from fgrad.compile.plan import View


def root(x: Any) -> Any:
    """What holds the memory of an array."""
    while (base := getattr(x, "base", None)) is not None:
        x = base
    return x


def settle(arena: Any, x: Any) -> Any:
    """What a library returned as a contiguous array that does not lie in the arena."""
    if type(x) is not np.ndarray:
        x = np.asarray(x)
    if not x.flags.c_contiguous or (x.base is not None and root(x) is arena):
        return np.array(x, order="C", copy=True)
    return x


def prepare(*arrays: Any) -> list[Any]:
    """Inputs as kernels need them: plain arrays, contiguous and aligned."""
    return [
        x if type(x) is np.ndarray and x.flags.c_contiguous and x.flags.aligned
        else np.require(np.asarray(x), requirements=("C", "A")).reshape(x.shape)
        for x in arrays
    ]  # fmt: skip


def duplicate(x: Any) -> Any:
    """A contiguous copy, in a block if it is large."""
    if x.nbytes < LEAST_BYTES:
        return np.array(x, order="C")
    copy = blocks().empty(x.shape, x.dtype)
    np.copyto(copy, x)
    return copy


def array(memory: Any, offset: int, view: View, dtype: Any) -> Any:
    """The array that a view shows of a buffer at an offset in bytes."""
    if 0 in view.shape:  # NumPy refuses strides that point out of an empty buffer
        return np.empty(view.shape, dtype)
    size = dtype.itemsize
    strides = tuple(s * size for s in view.strides)
    return np.ndarray(view.shape, dtype, memory, offset + view.offset * size, strides)


def strided(base: Any, view: View) -> Any:
    """Part of a contiguous array, as an array."""
    dtype = base.dtype
    # Not every dtype can be exported as a buffer; unsigned integers can.
    plain = np.dtype(f"u{dtype.itemsize}") if dtype.itemsize in (1, 2, 4, 8) else dtype
    return array(base.view(plain), 0, view, plain).view(dtype)


def copied(x: Any) -> Any:
    """A contiguous copy of a constant."""
    return np.array(x, order="C", copy=True)
