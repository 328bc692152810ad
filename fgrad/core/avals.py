"""Abstract values: the shape, dtype and weakness of an array, without its contents."""

import operator
from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.errors import DtypeError, FgradError

__all__ = ["ShapeDtypeStruct", "ShapedArray"]

_KEEP: Any = object()


class AnySize:
    """An integer of a program that the compiler rewrites for others (`fgrad.compile.sizes`)."""

    __slots__ = ()

    def number(self, dtype: "np.dtype[Any]") -> Any:
        """What stands for the Python number that it is in a dtype."""
        raise NotImplementedError

    def as_array(self, dtype: "np.dtype[Any]") -> Any:
        """What stands for it as an array without axes."""
        raise NotImplementedError

    def copy(self) -> Any:
        """Itself: nobody writes to it."""
        return self


class ShapedArray:
    """The type of an array: what abstract rules, programs and caches see of it.

    Attributes:
        shape: A tuple of Python integers.
        dtype: A ``numpy.dtype``.
        weak_type: Whether the value stems from Python scalars alone, so that its width yields in
            promotion.

    Instances are immutable by convention, hashable, and equal if all three attributes are equal.

    Example:
        >>> str(ShapedArray((2, 3), np.dtype("float32")))
        'f32[2,3]'
    """

    __slots__ = ("_hash", "dtype", "shape", "weak_type")

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    weak_type: bool
    _hash: int | None

    def __init__(
        self, shape: tuple[int, ...], dtype: "np.dtype[Any]", weak_type: bool = False
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.weak_type = weak_type
        self._hash = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of a dense buffer; 0 for float0."""
        return prod(self.shape) * self.dtype.itemsize

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, ShapedArray):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            found = self._hash = hash((self.shape, self.dtype, self.weak_type))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return ShapedArray, (self.shape, self.dtype, self.weak_type)

    def str_short(self) -> str:
        """Return the form used in programs and messages, such as ``f32[2,3]``."""
        return f"{dtypes.short_name(self.dtype)}[{','.join(map(repr, self.shape))}]"

    def __str__(self) -> str:
        return self.str_short()

    def __repr__(self) -> str:
        return self.str_short() + ("{weak}" if self.weak_type else "")

    def tangent(self) -> "ShapedArray":
        """Return the type of its tangents and cotangents: float0 where not inexact, and strong."""
        if not dtypes.is_inexact(self.dtype):
            return ShapedArray(self.shape, dtypes.float0)
        return self.strip_weak()

    def strip_weak(self) -> "ShapedArray":
        """Return the strong type of the same shape and dtype."""
        return ShapedArray(self.shape, self.dtype) if self.weak_type else self

    def update(
        self,
        *,
        shape: tuple[int, ...] = _KEEP,
        dtype: "np.dtype[Any]" = _KEEP,
        weak_type: bool = _KEEP,
    ) -> "ShapedArray":
        """Return a copy with the attributes given replaced.

        Example:
            >>> ShapedArray((2,), np.dtype("int32")).update(shape=(2, 3))
            i32[2,3]
        """
        return ShapedArray(
            self.shape if shape is _KEEP else shape,
            self.dtype if dtype is _KEEP else dtype,
            self.weak_type if weak_type is _KEEP else weak_type,
        )


class ShapeDtypeStruct(ShapedArray):
    """The type of an array, written by hand: what `eval_shape` and `pure_callback` take.

    Args:
        shape: The length of each axis.
        dtype: A dtype, or its name.

    Example:
        >>> ShapeDtypeStruct((2, 3), "bfloat16")
        bf16[2,3]
    """

    __slots__ = ()

    def __init__(self, shape: Iterable[int], dtype: Any) -> None:
        super().__init__(integers(shape, "ShapeDtypeStruct: shape"), dtypes.dtype(dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return ShapeDtypeStruct, (self.shape, self.dtype)


def integer(x: Any, what: str) -> int:
    """`x` as a Python integer; `what` it is, for the message.

    Raises:
        DtypeError: It is none.
        TracerIntegerConversionError: It is traced.
    """
    try:
        return operator.index(x)
    except FgradError:
        raise
    except TypeError:
        raise DtypeError(f"{what} must be an integer, got {type(x).__name__} {x!r:.60}") from None


def integers(xs: Iterable[Any], what: str) -> tuple[int, ...]:
    """`xs` as Python integers: a shape, axes, strides; `what` they are, for the message.

    Raises:
        DtypeError: They are no sequence, or one of them is no integer.
        TracerIntegerConversionError: One of them is traced.
    """
    try:
        return tuple([x if isinstance(x, AnySize) else operator.index(x) for x in xs])  # type: ignore[misc]
    except FgradError:
        raise
    except TypeError:
        raise DtypeError(
            f"{what} must be a sequence of integers, got {type(xs).__name__} {xs!r:.60}"
        ) from None
