"""Discrete Fourier transforms over the last axes.

With ω = exp(-2πi/n) the transform is y[k] = Σⱼ ωʲᵏ x[j], its inverse has conj(ω) and 1/n. Both
matrices are symmetric, so each is its own transpose. The real transform keeps the first n//2 + 1
results; read as a real-linear map it transposes into the inverse real transform, up to the weights
of the results that stand for two (all but the first and, for even n, the last).
"""

from collections.abc import Sequence
from enum import Enum
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integers
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import mul
from fgrad.lax.complex import conj
from fgrad.lax.kinds import structural

__all__ = ["FftType", "fft", "fft_p"]

Ints = tuple[int, ...]


class FftType(Enum):
    """Which transform: complex forward and inverse, real forward and inverse."""

    FFT = "FFT"
    IFFT = "IFFT"
    RFFT = "RFFT"
    IRFFT = "IRFFT"

    def __repr__(self) -> str:
        return self.name


def _fft_abstract(x: ShapedArray, *, fft_type: FftType, fft_lengths: Ints) -> ShapedArray:
    kind = fft_type.name
    real = fft_type is FftType.RFFT
    if x.dtype.num not in NATIVE["f" if real else "c"]:
        raise DtypeError(
            f"fft: {kind} takes {'float32 or float64' if real else 'complex64 or complex128'} "
            f"arrays, got {x}; convert it with astype"
        )
    n = len(fft_lengths)
    if not 1 <= n <= x.ndim or any(k < 1 for k in fft_lengths):
        raise ShapeError(
            f"fft: fft_lengths {fft_lengths} must be positive and hold one to {x.ndim} entries, "
            f"for the last axes of {x}"
        )
    lead, given = x.shape[: x.ndim - n], x.shape[x.ndim - n :]
    half = (*fft_lengths[:-1], fft_lengths[-1] // 2 + 1)
    expected = half if fft_type is FftType.IRFFT else fft_lengths
    if given != expected:
        raise ShapeError(
            f"fft: {kind} with fft_lengths {fft_lengths} needs last axes of {list(expected)}, got "
            f"{x}; cut or pad the operand first"
        )
    if real:
        return ShapedArray((*lead, *half), dtypes.to_complex(x.dtype), x.weak_type)
    if fft_type is FftType.IRFFT:
        return ShapedArray((*lead, *fft_lengths), dtypes.real_dtype(x.dtype), x.weak_type)
    return x


def _fft_eager(xp: Any, x: Any, *, fft_type: FftType, fft_lengths: Ints) -> Any:
    out = _fft_abstract(ShapedArray(x.shape, x.dtype), fft_type=fft_type, fft_lengths=fft_lengths)
    if not out.size:
        return xp.zeros(out.shape, out.dtype)
    n = len(fft_lengths)
    function = getattr(xp.fft, {"FFT": "fftn", "IFFT": "ifftn", "RFFT": "rfftn"}.get(
        fft_type.name, "irfftn"
    ))  # fmt: skip
    return function(x, fft_lengths, tuple(range(-n, 0))).astype(out.dtype, copy=False)


def _fft_workspace(
    operands: Sequence[ShapedArray], results: Sequence[ShapedArray], params: Any
) -> int:
    """What stands between axes, and, as NumPy transforms forward in double, what it converts."""
    (x,), (y,) = operands, results
    forward = params["fft_type"] in (FftType.FFT, FftType.RFFT)
    single = y.dtype.itemsize == (8 if y.dtype.kind == "c" else 4)
    more = len(params["fft_lengths"]) > 1
    if forward and single:
        return 5 * y.nbytes if more else 2 * (x.nbytes + y.nbytes)
    return max(x.nbytes, y.nbytes) if more else 0


def _weights(n: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """How many results of the full transform each of the n//2 + 1 kept ones stands for."""
    out = np.full(n // 2 + 1, 2, dtype)
    out[0] = 1
    if n % 2 == 0:
        out[-1] = 1
    return out


def _fft_transpose(ct: Value, _x: Unknown, *, fft_type: FftType, fft_lengths: Ints) -> tuple[Value]:
    total = prod(fft_lengths)
    if fft_type is FftType.RFFT:
        # Re Σₖ ct[k] ωʲᵏ, written as the inverse transform of what it would have kept.
        scale = total / _weights(fft_lengths[-1], ct.dtype)
        return (fft(mul(conj(ct), as_value(scale)), FftType.IRFFT, fft_lengths),)
    if fft_type is FftType.IRFFT:
        # y[j] = Re Σₖ w[k]/n x[k] conj(ω)ʲᵏ for the weights w.
        out = conj(fft(ct, FftType.RFFT, fft_lengths))
        return (mul(out, as_value(_weights(fft_lengths[-1], out.dtype) / total)),)
    return (fft(ct, fft_type, fft_lengths),)


def _fft_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], *,
    fft_type: FftType, fft_lengths: Ints,
) -> tuple[Value, int]:  # fmt: skip
    d = dims[0]
    assert d is not None
    x = args[0]
    if d >= x.ndim - len(fft_lengths):  # among the transformed axes
        x, d = basis.moveaxis(x, d, 0), 0
    return fft(x, fft_type, fft_lengths), d


def _roots(n: int) -> np.ndarray[Any, Any]:
    """The matrix exp(2πi jk/n), of angles up to π only: greater ones are rounded more coarsely."""
    turns = np.outer(np.arange(n), np.arange(n)) % n
    return np.asarray(np.exp(2j * np.pi * np.where(2 * turns > n, turns - n, turns) / n))


def _reference(x: Any, *, fft_type: FftType, fft_lengths: Ints) -> Any:
    """By the definition, one axis after the other."""
    sign = 1 if "I" in fft_type.name else -1
    n = len(fft_lengths)
    if fft_type is FftType.IRFFT:
        last = fft_lengths[-1]
        rest = (
            _reference(x, fft_type=FftType.IFFT, fft_lengths=(*fft_lengths[:-1], 1)) if n > 1 else x
        )
        matrix = _roots(last)[: last // 2 + 1]
        return np.real((rest * _weights(last, np.dtype("f8"))) @ matrix) / last
    out = np.asarray(x, np.complex128)
    for axis, k in zip(range(-n, 0), fft_lengths, strict=True):
        if k == 1:
            continue
        matrix = _roots(k) if sign > 0 else _roots(k).conj()
        out = np.moveaxis(np.moveaxis(out, axis, -1) @ matrix, -1, axis)
    if sign > 0:
        out = out / prod(fft_lengths)
    return out[..., : fft_lengths[-1] // 2 + 1] if fft_type is FftType.RFFT else out


def _terms(x: Any, *, fft_type: FftType, fft_lengths: Ints) -> Any:
    """Σ|terms|: every result sums all elements of its transform."""
    axes = tuple(range(-len(fft_lengths), 0))
    total = np.sum(np.abs(x), axes, keepdims=True) * (2 if fft_type is FftType.IRFFT else 1)
    if "I" in fft_type.name:
        total = total / prod(fft_lengths)
    shape = _fft_abstract(
        ShapedArray(x.shape, x.dtype), fft_type=fft_type, fft_lengths=fft_lengths
    ).shape
    return np.broadcast_to(total, shape)


def _case(shape: str, fft_type: FftType, *lengths: int) -> Case:
    return Case(
        shape, {"fft_type": fft_type, "fft_lengths": lengths}, name=f"{fft_type.name} {shape}"
    )


def _invalid(
    of: str, error: type[Exception], match: str, fft_type: FftType, *lengths: int
) -> Invalid:
    return Invalid((of,), error, match, fft_type=fft_type, fft_lengths=lengths)


_COMPLEX_CASES = (
    _case("n 5", FftType.FFT, 5),
    _case("n 3 4", FftType.FFT, 3, 4),
    _case("n 6", FftType.IFFT, 6),
    _case("2 3 n 4", FftType.IFFT, 4),
    _case("n 4", FftType.IRFFT, 6),
    _case("n 3 4", FftType.IRFFT, 3, 7),
    _case("n 1", FftType.IRFFT, 1),
)
_REAL_CASES = (
    _case("n 6", FftType.RFFT, 6),
    _case("n 3 5", FftType.RFFT, 3, 5),
    _case("n 1", FftType.RFFT, 1),
)


fft_p: Primitive = structural(
    "fft",
    doc="Discrete Fourier transform over the last axes: complex or real, forward or inverse.",
    abstract=_fft_abstract,
    eager=_fft_eager,
    transpose=_fft_transpose,
    batch=_fft_batch,
    lower=Lowering("library", "fft", workspace=_fft_workspace),
    spec=Spec(
        Operand(),
        _COMPLEX_CASES,
        dtypes=("complex128", "complex64"),
        reference=_reference,
        ulps=None,
        terms=_terms,
        invalid=(
            _invalid("f32[4]", DtypeError, "complex64", FftType.FFT, 4),
            _invalid("c64[4]", DtypeError, "float32", FftType.RFFT, 4),
            _invalid("c64[4]", ShapeError, "last axes", FftType.FFT, 5),
            _invalid("c64[4]", ShapeError, "last axes", FftType.IRFFT, 4),
            _invalid("c64[4]", ShapeError, "one to", FftType.FFT, 2, 4),
        ),
    ),
)


def fft(x: Any, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Value:
    """The discrete Fourier transform over the last ``len(fft_lengths)`` axes.

    Args:
        x: An array; real for 'RFFT'. Other dtypes are converted: integers to the default float,
            real numbers to complex ones for the other transforms.
        fft_type: 'FFT', 'IFFT', 'RFFT' or 'IRFFT', or an `FftType`.
        fft_lengths: Lengths of the transform. The last axes of `x` have them, but for 'IRFFT',
            where the very last one is half of it plus one.

    Returns:
        Complex but for 'IRFFT'. The last axis of 'RFFT' keeps n//2 + 1 elements.

    Raises:
        DtypeError: 'RFFT' of complex numbers, or 8- and 16-bit floats.
        ShapeError: The lengths do not fit `x`.

    Example:
        >>> fft(np.float32([1, 0, 0, 0]), "RFFT", (4,))
        Array([1.+0.j, 1.+0.j, 1.+0.j], dtype=complex64)
    """
    if not isinstance(fft_type, FftType):
        name = str(fft_type).upper()
        if name not in FftType.__members__:
            raise ShapeError(
                f"fft: fft_type={fft_type!r} is not known; use one of {list(FftType.__members__)}"
            )
        fft_type = FftType[name]
    x = as_value(x)
    if not dtypes.is_inexact(x.dtype):
        x = basis.convert_element_type(x, dtypes.default_float())
    if fft_type is not FftType.RFFT and x.dtype.num in NATIVE["f"]:
        x = basis.convert_element_type(x, dtypes.to_complex(x.dtype))
    return bind(fft_p, x, fft_type=fft_type, fft_lengths=integers(fft_lengths, "fft: fft_lengths"))
