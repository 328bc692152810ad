"""Axis arguments: normal form and checks."""

from collections.abc import Sequence
from typing import Any

from fgrad.core.avals import integer, integers
from fgrad.core.errors import AxisError, ShapeError


def one(name: str, axis: Any, ndim: int) -> int:
    """An axis counted from the front.

    Raises:
        AxisError: It lies outside ``[-ndim, ndim)``.
    """
    i = integer(axis, f"{name}: axis")
    if not -ndim <= i < ndim:
        raise AxisError(f"{name}: axis {i} is out of range for an array with {ndim} axes")
    return i % ndim


def several(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, in the order given; None means all.

    Raises:
        AxisError: One lies outside ``[-ndim, ndim)`` or is given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, tuple | list):
        found = tuple(one(name, a, ndim) for a in axis)
        if len(set(found)) != len(found):
            raise AxisError(f"{name}: axes {tuple(axis)} name an axis twice")
        return found
    return (one(name, axis, ndim),)


def shape_of(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """A shape from an integer or a sequence of integers.

    Raises:
        ShapeError: A length is negative.
        TracerIntegerConversionError: A length is traced.
    """
    # An array without axes is one length, though its type has __iter__.
    single = not hasattr(shape, "__iter__") or getattr(shape, "ndim", 1) == 0
    lengths = (shape,) if single else tuple(shape)
    found = integers(lengths, name)
    if any(n < 0 for n in found):
        raise ShapeError(f"{name}: lengths must not be negative, got {list(found)}")
    return found


def kept(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """`shape` with length 1 at `axes`."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))
