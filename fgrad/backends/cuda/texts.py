"""What the kernels of library steps share: numbers in memory, what they are computed in, words.

The text stands in front of each of these kernels, guarded, so that any of them make a module.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence

from fgrad.backends.cuda.types import type_name
from fgrad.compile.kernel import COMPUTED, DType

THREADS, BLOCKS = 256, 4096  # of simple kernels, whose threads stride over what is left

HEADER = r"""
#ifndef FGRAD_LIBRARY
#define FGRAD_LIBRARY
template <class T> struct fgl_complex { T re, im; };
template <class T> struct fgl_kind { static const bool is_half = false, is_complex = false; };
template <> struct fgl_kind<fg_float16> { static const bool is_half = true, is_complex = false; };
template <> struct fgl_kind<fg_bfloat16> { static const bool is_half = true, is_complex = false; };
template <class T> struct fgl_kind<fgl_complex<T>> {
    static const bool is_half = false, is_complex = true;
};

template <class T> FG T fgl_zero() { return T(); }

// A number in memory as one to compute with, and back: floats are rounded to nearest.
template <class To, class From> FG To fgl_cast(From x)
{
    if constexpr (fgl_kind<To>::is_complex) return {decltype(To::re)(x.re), decltype(To::re)(x.im)};
    else if constexpr (fgl_kind<To>::is_half) {
        if constexpr (fgl_kind<From>::is_half) return fg_narrow<To>(fg_widen(x));
        else return fg_narrow<To>((float)x);
    }
    else if constexpr (fgl_kind<From>::is_half) return (To)fg_widen(x);
    else return (To)x;
}

// x * y + z, rounded once where the device can.
FG float fgl_fma(float x, float y, float z) { return fmaf(x, y, z); }
FG double fgl_fma(double x, double y, double z) { return fma(x, y, z); }
FG unsigned fgl_fma(unsigned x, unsigned y, unsigned z) { return x * y + z; }
FG unsigned long long fgl_fma(unsigned long long x, unsigned long long y, unsigned long long z)
{
    return x * y + z;
}
FG bool fgl_fma(bool x, bool y, bool z) { return (x && y) || z; }
template <class T> FG fgl_complex<T> fgl_fma(fgl_complex<T> x, fgl_complex<T> y, fgl_complex<T> z)
{
    return {fgl_fma(-x.im, y.im, fgl_fma(x.re, y.re, z.re)),
            fgl_fma(x.im, y.re, fgl_fma(x.re, y.im, z.im))};
}

// A sum; of floats it keeps what rounding takes away.
template <class T> struct fgl_sum {
    T value = T(0);
    FG void add(T x) { value += x; }
    FG T result() const { return value; }
};
template <> struct fgl_sum<bool> {
    bool value = false;
    FG void add(bool x) { value = value || x; }
    FG bool result() const { return value; }
};
template <> struct fgl_sum<float> : fg_sum<float> {};
template <> struct fgl_sum<double> : fg_sum<double> {};
template <class T> struct fgl_sum<fgl_complex<T>> {
    fg_sum<T> re, im;
    FG void add(fgl_complex<T> x) { re.add(x.re); im.add(x.im); }
    FG fgl_complex<T> result() const { return {re.result(), im.result()}; }
};
template <class T> FG T fgl_plus(T x, T y)
{
    if constexpr (fgl_kind<T>::is_complex) return {x.re + y.re, x.im + y.im};
    else if constexpr (fg_type<T>::is_bool) return x || y;
    else return x + y;
}
#endif
"""

_COMPLEX = {"complex64": "float", "complex128": "double"}


def is_known(dtype: DType) -> bool:
    """Whether kernels of library steps can hold numbers of a dtype."""
    return dtype.name in _COMPLEX or dtype.name in ("float16", "bfloat16") or dtype in COMPUTED


def type_of(dtype: DType) -> str:
    """The C type of a number in memory."""
    part = _COMPLEX.get(dtype.name)
    return f"fgl_complex<{part}>" if part else type_name(dtype)


def sum_type(dtype: DType) -> str:
    """The C type in which numbers of a dtype are multiplied and added up.

    Integers wrap around, which is defined for unsigned ones alone.
    """
    if dtype.kind in "iu":
        return "unsigned long long" if dtype.itemsize == 8 else "unsigned"
    return "float" if dtype.name in ("float16", "bfloat16") else type_of(dtype)


def named(kind: str, body: str) -> tuple[str, str]:
    """The name and the text of a kernel, of a body that calls itself ``@NAME@``.

    Equal names have equal texts.
    """
    name = f"fgl_{kind}_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    return name, HEADER + body.replace("@NAME@", name)


class Words:
    """The words of a kernel, in the order in which its text first speaks of them."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def __call__(self, value: int) -> str:
        """A number as a word, which the text reads by what is returned."""
        self.values.append(value)
        return f"w.v[{len(self.values) - 1}]"

    def __bytes__(self) -> bytes:
        return pack(self.values)


def walk(index: str, sizes: Sequence[int], moves: Mapping[str, Sequence[int]], word: Words) -> str:
    """Statements that move variables along axes.

    Args:
        index: The row-major number of a position along the axes, a 64-bit expression.
        sizes: The lengths of the axes.
        moves: For each variable, by how much a step along each axis moves it.
        word: Notes the words.
    """
    axes = [i for i, n in enumerate(sizes) if n != 1]
    lines = []
    for i in reversed(axes):
        at = f"at_{i}"
        if i == axes[0]:
            lines.append(f"unsigned long long {at} = rest;")
        else:
            n = word(sizes[i])
            lines.append(f"unsigned long long {at} = rest % {n}; rest /= {n};")
        lines += [
            f"{name} += (long long){at} * {word(strides[i])};"
            for name, strides in moves.items()
            if strides[i]
        ]
    inner = " ".join(lines)
    return f"{{ unsigned long long rest = {index}; {inner} }}" if lines else ""


def grid_of(count: int) -> int:
    """The blocks of a kernel each of whose threads takes one element, and others after it."""
    return max(1, min(-(-count // THREADS), BLOCKS))


def pack(words: Iterable[int]) -> bytes:
    """Words as a kernel is given them."""
    values = list(words)
    return struct.pack(f"<{len(values)}q", *values)
