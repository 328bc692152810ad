"""The operations of the prelude as kernels of their own, their operands, and what they should give.

The same checks run on the CPU through `tests.shim`, and on a card.
"""

import functools
import itertools

import numpy as np

from fgrad.backends.cuda.prelude import supports
from fgrad.backends.cuda.types import type_name
from fgrad.compile.interpret import SCANS, compute
from fgrad.compile.kernel import COMPUTED
from fgrad.core.scalar import OPS

CASTS = [
    (op, old, new)
    for op in ("convert", "bitcast")
    for old, new in itertools.product(COMPUTED, COMPUTED)
    if op == "convert" or old.itemsize == new.itemsize
]
ROUNDINGS = [(f"round_{name}", np.dtype("f"), np.dtype("f")) for name in ("float16", "bfloat16")]
# Each bit of the result is known; others are within an error.
ELEMENTARY = {
    "cbrt", "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "pow", "atan2", "hypot",
}  # fmt: skip
SPECIAL = {
    "erf_inv", "lgamma", "digamma", "bessel_i0e", "bessel_i1e", "zeta", "polygamma", "igamma",
    "igammac", "gamma_quantile_slope", "regularized_incomplete_beta",
}  # fmt: skip
EXACT = [
    (op, dtype)
    for op in OPS
    if op not in ELEMENTARY | SPECIAL
    for dtype in COMPUTED
    if supports(op, dtype)
]
REDUCTIONS = [
    (monoid, dtype)
    for monoid in ("add", "mul", "max", "min", "and", "or", "xor", "logaddexp")
    for dtype in COMPUTED
    if (monoid == "logaddexp" and dtype.kind == "f") or supports(monoid, dtype)
]


def name_of(op, *dtypes):
    return "_".join([op, *(d.name for d in dtypes)])


def result_of(op, dtype):
    return np.dtype("?") if OPS[op].result == "bool" else dtype


def kernel(op, dtype):
    """One operation on each element."""
    arity = OPS[op].arity
    of = [dtype] * arity
    if op == "select":
        of[0] = np.dtype("?")
    return _elementwise(name_of(op, dtype), f"fg_{op}", of, result_of(op, dtype))


def cast_kernel(op, old, new):
    function = f"fg_{op}" if op.startswith("round") else f"fg_{op}<{type_name(new)}>"
    return _elementwise(name_of(op, old, new), function, [old], new)


def _elementwise(name, function, operands, result):
    names = "xyz"[: len(operands)]
    parameters = [f"const {type_name(d)}* {n}" for d, n in zip(operands, names, strict=True)]
    passed = ", ".join(f"{n}[i]" for n in names)
    return f"""
extern "C" __global__ void {name}({", ".join(parameters)}, {type_name(result)}* out, long long n) {{
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = {function}({passed});
}}
"""


def source():
    """All operations whose results are exact, and all conversions."""
    kernels = [kernel(op, dtype) for op, dtype in EXACT]
    return "".join(kernels + [cast_kernel(*cast) for cast in CASTS + ROUNDINGS])


@functools.cache
def values(dtype):
    """Special numbers and random bits."""
    generator = np.random.default_rng(5)
    if dtype.kind == "b":
        return np.array([False, True])
    bits = generator.integers(0, 256, 400 * dtype.itemsize, np.uint8).view(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = [info.min, info.min + 1, info.max, info.max - 1, *range(-3 * (info.min < 0), 70)]
        return np.concatenate([np.array(near, dtype), bits[:50]])
    info = np.finfo(dtype)
    powers = [2.0**k + d for k in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, -0.5, 0, 0.5, 1)]
    small = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 0.1, 1 / 3]
    with np.errstate(over="ignore", under="ignore"):
        some = np.array([
            *small, *powers, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal,
            info.tiny * 0.7, 65504, 65519.9, 65520, 6e-8, 2.0**-25, 2.0**-24 * 1.5, 1 + 2.0**-8,
            1 + 3 * 2.0**-9, 1 + 2.0**-11, 3.3e38,
        ]).astype(dtype)  # fmt: skip
    return np.concatenate([some, -some, bits])


def operands(op, dtype):
    """Operands of an operation: all pairs of some numbers, and many of random bits."""
    x = values(dtype)
    if op == "select":
        return np.arange(x.size) % 3 == 0, x, x[::-1].copy()
    if OPS[op].arity == 1:
        return (x,)
    some = x[:100]
    pairs = np.repeat(some, some.size), np.tile(some, some.size)
    rest = np.random.default_rng(6).permutation(x)
    return tuple(np.concatenate(both) for both in zip(pairs, (x, rest), strict=True))


def expected(op, args, dtype):
    with np.errstate(all="ignore"):
        return compute(op, args, dtype)


def run(launch, name, args, dtype):
    """Launch a kernel on arrays: `launch(name, grid, block, arrays, count)` fills the last."""
    out = np.full(args[0].shape, 7, dtype)
    return launch(name, -(-out.size // 256), 256, [*args, out], out.size)


def check_exact(got, wanted, op):
    """Equal to the bit, but for the bits of NaN, and the sign of a zero chosen among two."""
    assert got.dtype == wanted.dtype
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    if op.partition("_")[0] not in ("min", "max"):
        same &= np.isnan(wanted) | (np.signbit(got) == np.signbit(wanted))
    if not same.all():
        at = int(np.argmin(same))
        raise AssertionError(f"{op}: {got[at]!r} at {at}, not {wanted[at]!r}; {(~same).sum()} off")


def stored_source():
    """Elements of 16 bits as floats, and floats as them."""
    return "".join(map(_stored, ("float16", "bfloat16")))


def _stored(name):
    return f"""
extern "C" __global__ void widen_{name}(const fg_{name}* x, float* out, long long n) {{
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = fg_widen(x[i]);
}}
extern "C" __global__ void narrow_{name}(const float* x, fg_{name}* out, long long n) {{
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = fg_narrow<fg_{name}>(x[i]);
}}
"""


def reduction_source():
    """For each monoid and dtype, the reductions and scans of blocks of a row of x."""
    parts = []
    for monoid, dtype in REDUCTIONS:
        t, m = type_name(dtype), f"fg_monoid_{monoid}"
        parts.append(f"""
extern "C" __global__ void reduce_{monoid}_{dtype.name}(const {t}* x, {t}* out, long long n) {{
  fg_partial<{m}, {t}> partial;
  for (long long i = threadIdx.x; i < n; i += blockDim.x) partial.add(x[blockIdx.x * n + i]);
  {t} total = fg_block_reduce<{m}>(partial.result());
  {t} again = fg_block_reduce<{m}>(partial.result());
  if (total == again || total != total) out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}}
extern "C" __global__ void scan_{monoid}_{dtype.name}(const {t}* x, {t}* out, long long n) {{
  {t} before = {m}::identity<{t}>();
  for (long long start = 0; start < n; start += blockDim.x) {{
    long long i = start + threadIdx.x;
    {t} total, own = i < n ? x[blockIdx.x * n + i] : {m}::identity<{t}>();
    own = fg_block_scan<{m}>(own, total);
    if (i < n) out[blockIdx.x * n + i] = {m}::combine(before, own);
    before = {m}::combine(before, total);
  }}
}}
""")
    return "".join(parts)


def rows(monoid, dtype, length):
    """Three rows of numbers, their reductions up to each, and how far off those may be."""
    generator = np.random.default_rng(8)
    bits = generator.integers(0, 256, 3 * length * dtype.itemsize, np.uint8)
    x = bits.view(dtype).reshape(3, length) if dtype.kind in "iu" else bits[: 3 * length] % 2
    if dtype.kind == "f":
        x = generator.normal(size=(3, length)) if monoid != "mul" else 2.0 ** (x - 0.5)
    x = x.astype(dtype).reshape(3, length)
    wide = x.astype(float) if dtype.kind == "f" else x
    found = SCANS[monoid].accumulate(wide, axis=1, dtype=wide.dtype)
    if dtype.kind != "f" or monoid in ("max", "min"):
        return x, found, np.zeros(found.shape)
    unit = float(np.finfo(dtype).eps)
    terms = np.abs(wide).cumsum(1) if monoid == "add" else np.abs(found) * 700
    return x, found, 80 * unit * (terms + 1)
