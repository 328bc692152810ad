"""Discrete Fourier transforms in CUDA C, of any lengths.

An axis of length n is transformed in passes, one for each factor of n (small primes joined to
factors up to 8), by the self-sorting algorithm of Stockham: each number of a pass is a sum of as
many numbers of the one before as the factor says, at once multiplied by their roots of unity. The
roots are computed in float64 from reduced integers. Real transforms are those of complex numbers.

Source: Van Loan, *Computational Frameworks for the Fast Fourier Transform* (1992), section 1.7.
"""

from collections.abc import Sequence
from math import prod

from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    WORKSPACE,
    Call,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.texts import THREADS, Words, grid_of, named, type_of, walk
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core import dtypes
from fgrad.lax.fourier import FftType

_ALIGNMENT = 256
_JOINED = 8  # the greatest product of small factors that one pass takes


def plan(step: Library, views: Sequence[View]) -> LibraryPlan:
    """What computes a transform."""
    out, params = step.eqn.outputs[0].aval, step.eqn.params
    (x,), lengths, kind = views, params["fft_lengths"], params["fft_type"]
    if not out.size:
        return LibraryPlan("transform of no elements", ())
    number, rank = dtypes.to_complex(out.dtype), len(out.shape)
    inverse = kind in (FftType.IFFT, FftType.IRFFT)
    first = rank - len(lengths)
    shape = list(x.shape)  # that of the numbers in the workspace
    size = max(prod(x.shape), prod((*x.shape[:-1], lengths[-1])))
    room = -(-size * number.itemsize // _ALIGNMENT) * _ALIGNMENT
    copies = (Place(WORKSPACE, 0, 0), Place(WORKSPACE, 0, room))
    dtype, at = step.eqn.inputs[0].aval.dtype, 0
    calls: list[Call] = [_load(x, dtype, number, copies[0])]
    for axis in range(first, rank):
        if kind is FftType.IRFFT and axis == rank - 1:
            calls.append(_mirror(shape, lengths[-1], number, copies[at], copies[1 - at]))
            shape[-1], at = lengths[-1], 1 - at
        done = 1
        for factor in factors(shape[axis]):
            ends = copies[at], copies[1 - at]
            calls.append(_pass(shape, axis, factor, done, number, inverse, ends))
            done, at = done * factor, 1 - at
    scale = prod(lengths) if inverse else 1
    calls.append(_store(shape, out.shape, number, out.dtype, scale, copies[at]))
    return LibraryPlan("Fourier transform in passes", tuple(calls), 2 * room)


def factors(n: int) -> list[int]:
    """The factors of a length, one a pass: primes, small ones joined."""
    primes, p = [], 2
    while n > 1:
        while n % p == 0:
            primes.append(p)
            n //= p
        p += 1
        if p * p > n > 1:
            primes.append(n)
            break
    found: list[int] = []
    for p in primes:
        if found and found[-1] * p <= _JOINED:
            found[-1] *= p
        else:
            found.append(p)
    return found


def _load(view: View, dtype: DType, number: DType, to: Place) -> KernelCall:
    word = Words()
    total = word(prod(view.shape))
    begin = f"long long from = {word(view.offset)}; "
    begin += walk("i", view.shape, {"from": view.strides}, word)
    value = "p_in[from]" if dtype.kind == "c" else "{p_in[from], 0}"
    text = _TEXT.format(
        body=f"{begin} p_out[i] = {value};", total=total, words=len(word.values),
        given=type_of(dtype), made=type_of(number),
    )  # fmt: skip
    return _call("load", text, prod(view.shape), (Place(INPUT, 0), to), word)


def _store(
    shape: Sequence[int], kept: tuple[int, ...], number: DType, dtype: DType, scale: int, at: Place
) -> KernelCall:
    """The launch that writes the result: the first numbers of each row, or their real parts."""
    word = Words()
    total, by = word(prod(kept)), word(scale)
    begin = "long long from = 0; " + walk("i", kept, {"from": contiguous(tuple(shape))}, word)
    part = type_of(dtypes.real_dtype(number))
    x = "p_in[from]"
    if scale > 1:
        begin += f" const {part} by = ({part}){by};"
    over = " / by" if scale > 1 else ""
    value = f"{x}.re{over}" if dtype.kind == "f" else f"{{{x}.re{over}, {x}.im{over}}}"
    text = _TEXT.format(
        body=f"{begin} p_out[i] = {value};", total=total, words=len(word.values),
        given=type_of(number), made=type_of(dtype),
    )  # fmt: skip
    return _call("store", text, prod(kept), (at, Place(OUTPUT, 0)), word)


def _mirror(shape: Sequence[int], length: int, number: DType, at: Place, to: Place) -> KernelCall:
    """The launch that completes rows of which the first half is there, to Hermitian ones."""
    word = Words()
    count = prod(shape[:-1]) * length
    total, n, half = word(count), word(length), word(shape[-1])
    body = (
        f"const long long row = i / {n}, k = i % {n}, other = k < {half} ? k : {n} - k; "
        f"{type_of(number)} x = p_in[row * {half} + other]; "
        f"if (k == 0 || 2 * k == {n}) x.im = 0; "  # of these the imaginary part does not count
        f"p_out[i] = {{x.re, k < {half} ? x.im : -x.im}};"
    )
    text = _TEXT.format(
        body=body, total=total, words=len(word.values), given=type_of(number),
        made=type_of(number),
    )  # fmt: skip
    return _call("mirror", text, count, (at, to), word)


def _pass(
    shape: Sequence[int], axis: int, factor: int, done: int, number: DType, inverse: bool,
    ends: tuple[Place, Place],
) -> KernelCall:  # fmt: skip
    """The launch of one pass along an axis, of which factors whose product is `done` are behind."""
    word, inner, n = Words(), prod(shape[axis + 1 :]), shape[axis]
    count = prod(shape)
    total, across, length = word(count), word(inner), word(n)
    stride, left = word(done), word(n // done)
    part = type_of(dtypes.real_dtype(number))
    sign = "" if inverse else "-"
    body = f"""
        const long long u = i % {across}, rest = i / {across}, row = rest / {length};
        const long long y = rest % {length}, q = y % {stride}, t = y / {stride};
        const long long k = t % {factor}, j = t / {factor}, apart = {left} / {factor};
        fgl_sum<{type_of(number)}> sum;
        for (int r = 0; r < {factor}; ++r) {{
            const long long from = j + apart * r, turn = k * from % {left};
            const {type_of(number)} x = p_in[(row * {length} + q + {stride} * from) * {across} + u];
            const fgl_complex<double> root = fgl_root(turn, {left});
            const {part} c = ({part})root.re, s = {sign}({part})root.im;
            sum.add({{x.re * c - x.im * s, x.re * s + x.im * c}});
        }}
        p_out[i] = sum.result();"""
    text = _ROOTS + _TEXT.format(
        body=body, total=total, words=len(word.values), given=type_of(number),
        made=type_of(number),
    )  # fmt: skip
    return _call("fourier", text, count, ends, word)


def _call(kind: str, text: str, count: int, places: tuple[Place, ...], word: Words) -> KernelCall:
    name, source = named(kind, text)
    return KernelCall(
        name, source, (grid_of(count), 1, 1), (THREADS, 1, 1), places, bytes(word)
    )  # fmt: skip


_ROOTS = r"""
#ifndef FGRAD_ROOTS
#define FGRAD_ROOTS
// exp(2πi·turn/n) for 0 <= turn < n, exact where it is ±1 or ±i.
FG fgl_complex<double> fgl_root(long long turn, long long n)
{
    const long long eighth = 8 * turn / n;  // cosine and sine of at most an eighth of a circle
    long long near = eighth & 1 ? (eighth + 1) * n - 8 * turn : 8 * turn - eighth * n;
    double s, c;
    sincos((double)near / (double)n * 0.78539816339744830962, &s, &c);
    if ((eighth + 1) & 2) { const double kept = s; s = c; c = kept; }
    const long long quarter = eighth / 2;
    return {quarter == 1 || quarter == 2 ? -c : c, quarter >= 2 ? -s : s};
}
#endif
"""

_TEXT = r"""
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const {given}* __restrict__ p_in, {made}* __restrict__ p_out, void* scratch,
    const @NAME@_words w)
{{
    const long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < {total}; i += step) {{
        {body}
    }}
}}
"""
