"""Discrete Fourier transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis, dtypes
from fgrad.core.avals import integer, integers
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ArgumentError, DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import Value
from fgrad.lax.fourier import fft as transform_last
from fgrad.numpy import axes as ax
from fgrad.numpy import shaping, ufuncs
from fgrad.numpy.creation import to_device
from fgrad.numpy.promotion import number, promote_inexact

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

_INVERSE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def _scale(x: Value, name: str, count: int, norm: str | None, inverse: bool) -> Value:
    """Undo or add the factor 1/n, which the inverse transform has by itself."""
    norm = "backward" if norm is None else norm
    if norm not in _INVERSE:
        raise ArgumentError(f"{name}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    power = {"backward": 0.0, "ortho": 0.5, "forward": 1.0}[norm]
    factor = float(count) ** (power if inverse else -power)
    return x if factor == 1.0 else lax.mul(x, number(factor, x.dtype, weak=False))


def _cut(x: Value, lengths: Sequence[int], axes: Sequence[int]) -> Value:
    """Axes cut, or filled with zeros, to the lengths."""
    config = [(0, 0, 0)] * x.ndim
    for n, i in zip(lengths, axes, strict=True):
        config[i] = (0, n - x.shape[i], 0)
    return lax.pad(x, basis.scalar(0, x.dtype), config) if any(map(any, config)) else x


def _operand(name: str, a: Any, *, real: bool) -> Value:
    (x,) = promote_inexact(name, a)
    wide = basis.wide(x.dtype)
    x = convert_element_type(x, x.dtype if wide is None else wide)
    if real and dtypes.is_complex(x.dtype):
        raise DtypeError(f"{name} takes real numbers, got {x.aval}; use {name.removeprefix('r')}")
    return x if real else convert_element_type(x, dtypes.to_complex(x.dtype))


def _lengths(name: str, x: Value, s: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes from the front, and a length for each."""
    if axes is None:
        places = tuple(range(x.ndim)) if s is None else tuple(range(x.ndim - len(s), x.ndim))
    else:
        places = ax.several(name, tuple(axes), x.ndim)
    sizes = tuple(x.shape[i] for i in places) if s is None else integers(s, f"{name}: s")
    if len(sizes) != len(places):
        raise ShapeError(f"{name}: s {sizes} and axes {places} have different lengths")
    if any(n < 1 for n in sizes):
        raise ShapeError(f"{name}: lengths must be positive, got {sizes}")
    return places, sizes


def _over(x: Value, kind: str, places: Sequence[int], sizes: Sequence[int]) -> Value:
    """The transform over axes, put last for it and back again."""
    rest = [i for i in range(x.ndim) if i not in places]
    order = (*rest, *places)
    back = tuple(order.index(i) for i in range(x.ndim))
    x = basis.transpose(x, order)
    # The primitive takes up to three axes; complex transforms of more are done in turn.
    return basis.transpose(transform_last(x, kind, tuple(sizes)), back)


def _complex(name: str, kind: str, a: Any, s: Any, axes: Any, norm: str | None) -> Value:
    x = _operand(name, a, real=False)
    places, sizes = _lengths(name, x, s, axes)
    if not places:
        return x
    out = _over(_cut(x, sizes, places), kind, places, sizes)
    return _scale(out, name, int(np.prod(sizes)), norm, kind == "IFFT")


def _real(name: str, a: Any, s: Any, axes: Any, norm: str | None) -> Value:
    x = _operand(name, a, real=True)
    places, sizes = _lengths(name, x, s, axes)
    if not places:
        raise ShapeError(f"{name} needs at least one axis")
    out = _over(_cut(x, sizes, places), "RFFT", places, sizes)
    return _scale(out, name, int(np.prod(sizes)), norm, False)


def _real_inverse(name: str, a: Any, s: Any, axes: Any, norm: str | None) -> Value:
    x = _operand(name, a, real=False)
    if s is None:
        places, kept = _lengths(name, x, None, axes)
        if not places:
            raise ShapeError(f"{name} needs at least one axis")
        sizes = (*kept[:-1], 2 * (x.shape[places[-1]] - 1))
    else:
        places, sizes = _lengths(name, x, s, axes)
    if sizes[-1] < 1:
        raise ShapeError(f"{name}: the last axis of {x.aval} is too short; pass n or s")
    out = _over(_cut(x, (*sizes[:-1], sizes[-1] // 2 + 1), places), "IRFFT", places, sizes)
    return _scale(out, name, int(np.prod(sizes)), norm, True)


def _one(function: Callable[..., Value], name: str, *kind: str) -> Callable[..., Value]:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Value:
        return function(name, *kind, a, None if n is None else (n,), (axis,), norm)

    transform.__name__ = transform.__qualname__ = name
    return transform


def _two(function: Callable[..., Value], name: str, *kind: str) -> Callable[..., Value]:
    def transform(a: Any, s: Any = None, axes: Any = (-2, -1), norm: str | None = None) -> Value:
        return function(name, *kind, a, s, axes, norm)

    transform.__name__ = transform.__qualname__ = name
    return transform


def _many(function: Callable[..., Value], name: str, *kind: str) -> Callable[..., Value]:
    def transform(a: Any, s: Any = None, axes: Any = None, norm: str | None = None) -> Value:
        return function(name, *kind, a, s, axes, norm)

    transform.__name__ = transform.__qualname__ = name
    return transform


fft, ifft = _one(_complex, "fft", "FFT"), _one(_complex, "ifft", "IFFT")
rfft, irfft = _one(_real, "rfft"), _one(_real_inverse, "irfft")
fft2, ifft2 = _two(_complex, "fft2", "FFT"), _two(_complex, "ifft2", "IFFT")
rfft2, irfft2 = _two(_real, "rfft2"), _two(_real_inverse, "irfft2")
fftn, ifftn = _many(_complex, "fftn", "FFT"), _many(_complex, "ifftn", "IFFT")
rfftn, irfftn = _many(_real, "rfftn"), _many(_real_inverse, "irfftn")

fft.__doc__ = "The transform of `n` samples along an axis."
ifft.__doc__ = "The inverse of `fft`."
rfft.__doc__ = "The first half of the transform of real samples: ``n // 2 + 1`` numbers."
irfft.__doc__ = "The inverse of `rfft`: `n` real samples (default: twice the length less 2)."
fft2.__doc__ = "The transform along two axes, cut or filled to the lengths `s`."
ifft2.__doc__ = "The inverse of `fft2`."
rfft2.__doc__ = "The transform of real samples along two axes; half of the last one is kept."
irfft2.__doc__ = "The inverse of `rfft2`."
fftn.__doc__ = "The transform along several axes (all where None), cut or filled to `s`."
ifftn.__doc__ = "The inverse of `fftn`."
rfftn.__doc__ = "The transform of real samples along several axes; half of the last one is kept."
irfftn.__doc__ = "The inverse of `rfftn`."


def _inverse_norm(name: str, norm: str | None) -> str:
    norm = "backward" if norm is None else norm
    if norm not in _INVERSE:
        raise ArgumentError(f"{name}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    return _INVERSE[norm]


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Value:
    """The transform of samples that are Hermitian, given by their first half: `n` real numbers."""
    x = ufuncs.conjugate(_operand("hfft", a, real=False))
    length = 2 * (x.shape[ax.one("hfft", axis, x.ndim)] - 1) if n is None else n
    return irfft(x, length, axis, _inverse_norm("hfft", norm))


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Value:
    """The inverse of `hfft`."""
    return ufuncs.conjugate(rfft(a, n, axis, _inverse_norm("ihfft", norm)))


def fftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Value:
    """The frequencies of `fft` of n samples at distance `d`."""
    n = integer(n, "the number of samples n")
    kind = dtypes.default_float() if dtype is None else dtypes.dtype(dtype)
    steps = np.fft.ifftshift(np.arange(n) - n // 2)
    return to_device(ufuncs.divide(ArrayImpl((steps / n).astype(kind)), d), device)


def rfftfreq(n: int, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Value:
    """The frequencies of `rfft` of n samples at distance `d`."""
    n = integer(n, "the number of samples n")
    kind = dtypes.default_float() if dtype is None else dtypes.dtype(dtype)
    return to_device(ufuncs.divide(ArrayImpl((np.arange(n // 2 + 1) / n).astype(kind)), d), device)


def _shift(name: str, x: Any, axes: Any, sign: int) -> Value:
    shape = shaping.shape(x)
    given = (axes,) if isinstance(axes, int) else axes
    places = ax.several(name, given, len(shape))
    by = tuple(n // 2 if sign > 0 else -(n // 2) for n in (shape[i] for i in places))
    return shaping.roll(x, by, places)


def fftshift(x: Any, axes: Any = None) -> Value:
    """The zero frequency moved to the middle of axes (all where None)."""
    return _shift("fftshift", x, axes, 1)


def ifftshift(x: Any, axes: Any = None) -> Value:
    """The inverse of `fftshift`."""
    return _shift("ifftshift", x, axes, -1)
