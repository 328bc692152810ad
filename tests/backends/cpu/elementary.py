"""Elementary and special functions as machine code of their own, and what they should give."""

import ctypes
import functools

import llvmlite.binding as llvm
import mpmath
import numpy as np
import scipy.special

from fgrad.backends.cpu import vmath
from fgrad.backends.cpu.text import Builder

SCALARS = {"f": "float", "d": "double"}
BINARY = ("pow", "atan2", "hypot", "rem")
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
    "lgamma": _lgamma,
}  # fmt: skip
MPMATH = {
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "pow": mpmath.power,
    "erf_inv": mpmath.erfinv,
    "bessel_i0e": lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)),
    "bessel_i1e": lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)),
    "lgamma": lambda x: mpmath.re(mpmath.loggamma(x)),
}
# Between its poles at negative numbers a function has zeros, where it is a difference of two great
# terms: its error is one of the greater of the result and this.
TERMS = {
    "lgamma": lambda x: np.where(x < 0, np.maximum(scipy.special.gammaln(1 - x), 1), 0.0),
    "digamma": lambda x: np.where(x < 0, np.maximum(scipy.special.psi(1 - x), 1), 0.0),
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
    for operand in ("%x", "%y")[: 2 if name in BINARY else 1]:
        at = builder.emit(f"getelementptr {scalar}, ptr {operand}, i64 %i", "ptr", 1)
        arguments.append(builder.emit(f"load {vector}, ptr {at}, align {align}", scalar))
    result = vmath.emit(builder, name, tuple(arguments), np.dtype(char))
    at = builder.emit(f"getelementptr {scalar}, ptr %out, i64 %i", "ptr", 1)
    builder.effect(f"store {vector} {result}, ptr {at}, align {align}")
    lines = "\n".join(builder.lines)
    text = f"""
define void @apply(ptr %x, ptr %y, ptr %out, i64 %n) {{
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
    engine = _engine(name, char, width, cpu, features)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    call = signature(engine.get_function_address("apply"))

    def apply(*xs):
        count = xs[0].size
        padded = [np.concatenate([x.astype(char), np.ones(-count % width, char)]) for x in xs]
        out = np.empty_like(padded[0])
        pointers = [a.ctypes.data for a in (padded[0], padded[-1], out)]
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
    """What a reduction by π takes, of angles; what cancels beside poles."""
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
    if name not in BINARY:
        return (x,)
    generator = np.random.default_rng(7)
    y = generator.permutation(x)
    near = generator.standard_normal((2, x.size // 2)).astype(np.float32)
    near[0] = np.exp(near[0] * 3) if name == "pow" else near[0]
    near[1] *= 10 if name == "pow" else 1
    return np.concatenate([x, near[0]]), np.concatenate([y, near[1]])


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
