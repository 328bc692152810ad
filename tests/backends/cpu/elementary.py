"""Elementary and special functions as machine code of their own, and what they should give."""

import ctypes
import functools

import llvmlite.binding as llvm
import mpmath
import numpy as np
import scipy.special

import fgrad.lax.incomplete_gamma  # noqa: F401 - declares the primitives
from fgrad.backends.cpu import vmath
from fgrad.backends.cpu.text import Builder
from fgrad.core.scalar import OPS

SCALARS = {"f": "float", "d": "double"}
BINARY = (
    "pow", "atan2", "hypot", "rem", "zeta", "polygamma", "igamma", "igammac",
    "gamma_quantile_slope",
)  # fmt: skip
TERNARY = ("regularized_incomplete_beta",)
NUMPY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "erf": scipy.special.erf,
    "erfc": scipy.special.erfc, "pow": np.power, "atan2": np.arctan2, "rem": np.fmod,
    "bessel_i0e": scipy.special.i0e, "digamma": scipy.special.psi,
}  # fmt: skip


def _odd(function):
    """SciPy has 0 at -0."""
    return lambda x: np.copysign(function(x), x)


def _lgamma(x):
    """SciPy has -inf at -inf, and inf at denormal numbers."""
    found = scipy.special.gammaln(np.where(x == -np.inf, np.inf, x))
    return np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), found)


NUMPY |= {
    "erf_inv": _odd(scipy.special.erfinv), "bessel_i1e": _odd(scipy.special.i1e),
    "lgamma": _lgamma, "igamma": scipy.special.gammainc, "igammac": scipy.special.gammaincc,
    **{name: OPS[name].numpy for name in (
        "zeta", "polygamma", "gamma_quantile_slope", "regularized_incomplete_beta",
    )},
}  # fmt: skip


def _zeta(x, q):
    """By the Euler–Maclaurin formula; mpmath's own function is exact to an absolute error."""
    if q <= 0:
        below = int(mpmath.ceil(-q))
        return mpmath.fsum((q + k) ** -int(x) for k in range(below)) + _zeta(x, q + below)
    w = q + 30
    total = mpmath.fsum((q + k) ** -x for k in range(30)) + w ** (1 - x) / (x - 1) + w**-x / 2
    factor = x / w ** (x + 1)
    for j in range(1, 40):
        total += mpmath.bernoulli(2 * j) / mpmath.factorial(2 * j) * factor
        factor *= (x + 2 * j - 1) * (x + 2 * j) / w**2
    return total


def _polygamma(m, x):
    if m == 0:
        return mpmath.digamma(x)
    return (-1) ** (int(m) + 1) * mpmath.factorial(m) * _zeta(m + 1, x)


def _betainc(a, b, x):
    """By a sum of positive terms, which is short up to x = ½."""
    if x > 0.5:
        return 1 - _betainc(b, a, 1 - x)
    total = term = mpmath.mpf(1)
    n = 0
    while term > total * mpmath.eps:
        term *= (a + b + n) / (a + 1 + n) * x
        total += term
        n += 1
    size = mpmath.loggamma(a + b) - mpmath.loggamma(a + 1) - mpmath.loggamma(b)
    return total * mpmath.exp(a * mpmath.log(x) + b * mpmath.log1p(-x) + size)


def _zeta_terms(x, q):
    part = q - np.floor(q)
    return np.where(q < 0, scipy.special.zeta(x, part) + scipy.special.zeta(x, 1 - part), 0.0)


def _polygamma_terms(m, x):
    terms = scipy.special.gamma(m + 1) * _zeta_terms(np.where(m > 0, m + 1, 2.0), x)
    return np.where(m == 0, TERMS["digamma"](x), terms)


MPMATH = {
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "pow": mpmath.power,
    "erf_inv": mpmath.erfinv,
    "bessel_i0e": lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)),
    "bessel_i1e": lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)),
    "lgamma": lambda x: mpmath.re(mpmath.loggamma(x)),
    "zeta": _zeta,
    "polygamma": _polygamma,
    "igamma": lambda a, x: mpmath.gammainc(a, 0, x, regularized=True),
    "igammac": lambda a, x: mpmath.gammainc(a, x, mpmath.inf, regularized=True),
    "regularized_incomplete_beta": _betainc,
}


def exponential(size):
    """What the rounding of the exponent of e^x counts."""
    return size * (1 + np.abs(np.log(np.maximum(size, 1e-320))))


# What an error is counted in units of, where it is greater than the result. Between its poles at
# negative numbers a function has zeros, where it is a difference of two great terms.
TERMS = {
    "lgamma": lambda x: np.where(x < 0, np.maximum(scipy.special.gammaln(1 - x), 1), 0.0),
    "digamma": lambda x: np.where(x < 0, np.maximum(scipy.special.psi(1 - x), 1), 0.0),
    "zeta": _zeta_terms,
    "polygamma": _polygamma_terms,
    "igamma": lambda a, x: exponential(scipy.special.gammainc(a, x)),
    "igammac": lambda a, x: exponential(scipy.special.gammaincc(a, x)),
    "regularized_incomplete_beta": lambda *xs: exponential(scipy.special.betainc(*xs)),
    "gamma_quantile_slope": lambda a, y: np.abs(
        OPS["gamma_quantile_slope"].numpy(a, y) * 3 * (1 + np.sqrt(a))
    ),
}
SPECIAL = [
    0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, -1.5,
    1e-45, -1e-45, 5e-324, -5e-324, 1e-310, 1e-30, -1e-30, 1e30, -1e30, 3e38, -3e38, 1e300, -1e300,
    1.7e308, 2.0**24, 2.0**24 + 2, -(2.0**24) - 2, 2.0**53, -(2.0**53) - 2, 2.0**53 - 1, 0.1, -7.0,
]  # fmt: skip

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def numpy_of(name):
    return NUMPY.get(name) or getattr(np, name)


@functools.cache
def _engine(name, char, width, cpu, features):
    builder, scalar = Builder(width), SCALARS[char]
    builder.block = "loop"
    vector, align = builder.vector(scalar), np.dtype(char).itemsize
    arguments = []
    for operand in ("%x", "%y", "%z")[: 3 if name in TERNARY else 2 if name in BINARY else 1]:
        at = builder.emit(f"getelementptr {scalar}, ptr {operand}, i64 %i", "ptr", 1)
        arguments.append(builder.emit(f"load {vector}, ptr {at}, align {align}", scalar))
    result = vmath.emit(builder, name, tuple(arguments), np.dtype(char))
    at = builder.emit(f"getelementptr {scalar}, ptr %out, i64 %i", "ptr", 1)
    builder.effect(f"store {vector} {result}, ptr {at}, align {align}")
    lines = "\n".join(builder.lines)
    text = f"""
define void @apply(ptr %x, ptr %y, ptr %z, ptr %out, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %{builder.block} ]
{lines}
  %next = add i64 %i, {width}
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %exit
exit:
  ret void
}}
"""
    module = llvm.parse_assembly(text + "\n".join(builder.globals.values()))
    module.verify()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(
        cpu=cpu, features=features, opt=1, reloc="pic", codemodel="jitdefault"
    )
    return llvm.create_mcjit_compiler(module, machine)


def function(name, dtype, width, cpu=None, features=None):
    """A function of arrays, compiled in vectors of `width` lanes for the host or another CPU."""
    char = np.dtype(dtype).char
    cpu = llvm.get_host_cpu_name() if cpu is None else cpu
    features = llvm.get_host_cpu_features().flatten() if features is None else features
    if char == "f" and width == 16 and "+avx512f" not in features:
        width = 8  # vectors of 16 floats may use instructions of AVX-512
    engine = _engine(name, char, width, cpu, features)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)
    call = signature(engine.get_function_address("apply"))

    def apply(*xs):
        count = xs[0].size
        padded = [np.concatenate([x.astype(char), np.ones(-count % width, char)]) for x in xs]
        out = np.empty_like(padded[0])
        operands = [*padded, padded[0], padded[0]][:3]
        pointers = [a.ctypes.data for a in (*operands, out)]
        call(*pointers, out.size)
        return out[:count]

    return apply


def precise(name, *xs):
    """The values at float64 points, as pairs of float64 whose sum has 100 bits and more."""
    of = MPMATH.get(name) or getattr(mpmath, name)
    heads, tails = np.empty(xs[0].size), np.zeros(xs[0].size)
    for i, point in enumerate(zip(*(x.tolist() for x in xs), strict=True)):
        with mpmath.workprec(140 + _bits_lost(name, point)):
            value = of(*map(mpmath.mpf, point))
            heads[i] = float(value)
            if np.isfinite(heads[i]):
                tails[i] = float(value - mpmath.mpf(heads[i]))
    return heads, tails


def _bits_lost(name, point):
    """What a reduction by π takes, of angles; what cancels beside poles, or from 1."""
    if name == "regularized_incomplete_beta":
        return 1100
    exponent = max(0, int(np.frexp(point[0])[1]))
    return exponent if name in ("sin", "cos", "tan", "lgamma", "digamma") else 0


def ulps(got, head, tail=0.0, least=0.0):
    """The errors in units in the last place of the exact result, `head` + `tail`.

    Of `least`, where that is greater.

    A NaN, an infinity or a finite number where there should be another of them is an error of inf.
    """
    form = np.finfo(got.dtype)
    with np.errstate(over="ignore"):
        rounded = head.astype(got.dtype)
    size = np.maximum(np.abs(head), np.where(np.isfinite(least), least, 0.0))
    exponent = np.maximum(np.frexp(size)[1] - 1, form.minexp) - form.nmant
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs((got.astype(np.float64) - head) - tail)
        # In two steps: the unit of the smallest results is below the normal numbers.
        error = np.ldexp(np.ldexp(error, -(exponent // 2)), exponent // 2 - exponent)
    both_nan = np.isnan(got) & np.isnan(head)
    exact = (got == rounded) & ~np.isfinite(rounded)
    unlike = (np.isnan(got) != np.isnan(head)) | (np.isinf(got) != np.isinf(rounded))
    return np.where(both_nan | exact, 0.0, np.where(unlike, np.inf, error))


def float32_points(name, step):
    """Every so many bit patterns; the second operand has those in another order, half of them."""
    x = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    if name in PARAMETERS:
        with np.errstate(over="ignore", under="ignore"):
            return tuple(p.astype(np.float32) for p in PARAMETERS[name](x.size // 64))
    if name not in BINARY:
        return (x,)
    generator = np.random.default_rng(7)
    y = generator.permutation(x)
    near = generator.standard_normal((2, x.size // 2)).astype(np.float32)
    near[0] = np.exp(near[0] * 3) if name == "pow" else near[0]
    near[1] *= 10 if name == "pow" else 1
    return np.concatenate([x, near[0]]), np.concatenate([y, near[1]])


def _zeta_points(count):
    generator = np.random.default_rng(17)
    x = 1 + np.exp(generator.uniform(-8, 4.5, count))
    whole = generator.integers(2, 40, count).astype(float)
    q = np.exp(generator.uniform(-8, 8, count)), np.exp(generator.uniform(-30, 200, count))
    sign = generator.choice([-1.0, 1.0], count)
    negative = sign * np.exp(generator.uniform(-3, 3, count))
    return np.concatenate([x, x, whole]), np.concatenate([*q, negative])


def _polygamma_points(count):
    generator = np.random.default_rng(19)
    m = generator.integers(0, generator.choice([3, 30], 2 * count)).astype(float)
    sign = generator.choice([-1.0, 1.0], 2 * count, p=[0.2, 0.8])
    return m, sign * np.exp(generator.uniform(-3, 5, 2 * count))


def _igamma_points(count, largest=12):
    """Near the mean of the distribution, and anywhere."""
    generator = np.random.default_rng(23)
    a = np.exp(generator.uniform(-12, largest, 2 * count))
    spread = generator.standard_normal(count) * np.minimum(3, 5 / np.sqrt(a[:count]))
    return a, np.concatenate([
        a[:count] * np.exp(spread), np.exp(generator.uniform(-8, 6, count))
    ])  # fmt: skip


def _slope_points(count):
    a, x = _igamma_points(count, 18)
    boost = np.random.default_rng(29).exponential(1 / np.minimum(a, 1))
    return a, np.log(x) - np.where(a < 1, boost, 0)


def _beta_points(count):
    generator = np.random.default_rng(31)
    a, b = np.exp(generator.uniform(-8, 7, (2, 2 * count)))
    mean = a / (a + b)
    spread = 3 * np.sqrt(mean * (1 - mean) / (a + b + 1)) * generator.standard_normal(2 * count)
    x = np.where(np.arange(2 * count) % 2, mean + spread, generator.random(2 * count))
    return a, b, np.clip(x, 1e-12, 1 - 1e-12)


# Points of functions of several numbers
PARAMETERS = {
    "zeta": _zeta_points, "polygamma": _polygamma_points, "igamma": _igamma_points,
    "igammac": _igamma_points, "gamma_quantile_slope": _slope_points,
    "regularized_incomplete_beta": _beta_points,
}  # fmt: skip

# Where results are neither 0 nor overflow nor NaN
_FINITE = {
    "exp": (-745.1, 709.7), "exp2": (-1074.9, 1023.9), "expm1": (-40, 709.7),
    "sinh": (-710.4, 710.4), "cosh": (-710.4, 710.4), "tanh": (-20, 20), "erf": (-6.2, 6.2),
    "erfc": (-6.2, 27.2), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "acosh": (1, np.inf),
    "log": (0, np.inf), "log1p": (-1, np.inf), "erf_inv": (-1, 1), "lgamma": (-1e9, 2.5e305),
    "digamma": (-1e9, np.inf), "bessel_i0e": (-1e4, 1e4), "bessel_i1e": (-1e4, 1e4),
}  # fmt: skip


def float64_points(name, count):
    """Points spread evenly, near 0, and over all magnitudes."""
    generator = np.random.default_rng(11)
    low, high = _FINITE.get(name, (-np.inf, np.inf))

    def one():
        sign = generator.choice([-1.0, 1.0], (2, count))
        return np.concatenate([
            generator.uniform(max(low, -50), min(high, 50), count),
            generator.uniform(max(low, -1000), min(high, 1000), count),
            generator.uniform(max(low, -2), min(high, 2), count),
            np.exp(generator.uniform(-40, 40, count)) * sign[0],
            np.exp(generator.uniform(-744, 709, count)) * sign[1],
            1 + generator.standard_normal(count) * 1e-3,
        ])  # fmt: skip

    if name in PARAMETERS:
        return PARAMETERS[name](count)
    x = one()
    if name in ("sin", "cos", "tan"):
        x = np.concatenate([x, generator.integers(-(10**8), 10**8, count) * (np.pi / 2)])
    if name == "pow":
        x, y = np.abs(x), one()
        with np.errstate(all="ignore"):
            y = np.where(np.isfinite(y * np.log(x)) & (np.abs(y * np.log(x)) < 708), y, 0.7)
        return x, y
    if name in BINARY:
        return x, generator.permutation(one())
    return (x[(x > low) & (x < high)],)
