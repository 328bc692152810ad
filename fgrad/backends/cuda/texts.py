"""What the kernels of library steps share: numbers in memory, what they are computed in, words.

The text stands in front of each of these kernels, guarded, so that any of them make a module.
"""

import hashlib
import struct
from collections.abc import Iterable

from fgrad.backends.cuda.types import type_name
from fgrad.compile.kernel import COMPUTED, DType

__all__ = ["HEADER", "DType", "is_known", "named", "pack", "sum_type", "type_of"]

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


def pack(words: Iterable[int]) -> bytes:
    """Words as a kernel is given them."""
    values = list(words)
    return struct.pack(f"<{len(values)}q", *values)
