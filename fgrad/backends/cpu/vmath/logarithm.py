"""log, log1p and the inverse hyperbolic functions.

All write x = 2^e·(1 + f) with √½ ≤ 1 + f < √2, so that log x = e·ln 2 + log(1 + f). Near x = 1
e is 0 and nothing cancels.
"""

from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.formats import format_of, power_of_two, small_integer
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    NAN,
    Lanes,
    copysign,
    fabs,
    fma,
    polynomial,
    sqrt,
    where,
)

# The bits of √½
_ROOT_HALF = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
# (log(1 + f) − f)/f²: relative error of log(1 + f) 2^-27
_LOG_FLOAT = (
    -0.5, 0.3333333134651184, -0.2500081956386566, 0.20001226663589478, -0.16623356938362122,
    0.14201758801937103, -0.13160182535648346, 0.12761574983596802, -0.07634492963552475,
)  # fmt: skip
# (log((1 + s)/(1 − s)) − 2s)/s³ in s²: relative error of the logarithm 2^-64
_LOG_DOUBLE = (
    0.6666666666666666, 0.40000000000002, 0.28571428570176505, 0.2222222251223024,
    0.18181784634394402, 0.15386759669969738, 0.1325649184816402, 0.13201381143182822,
)  # fmt: skip


def split(x: Lanes) -> tuple[Lanes, Lanes]:
    """The integer e and 1 + f of a normal number x > 0."""
    root, mantissa = _ROOT_HALF[x.scalar], format_of(x).mantissa
    bits = x.bits()
    e = (bits - root) >> mantissa
    return e, (bits - (e << mantissa)).as_float()


def normal(x: Lanes, doublings: int) -> tuple[Lanes, Lanes]:
    """A number times 2^doublings, to make it normal, if it is denormal; and whether it is."""
    small = x < format_of(x).smallest
    return where(small, x * 2.0**doublings, x), small


def split_any(x: Lanes) -> tuple[Lanes, Lanes]:
    """The integer e and 1 + f of a number x > 0, which may be denormal."""
    doublings = format_of(x).mantissa + 1
    scaled, small = normal(x, doublings)
    e, m = split(scaled)
    return where(small, e - doublings, e), m


def combine(e: Lanes, f: Lanes) -> Lanes:
    """e·ln 2 + log(1 + f)."""
    high, low = format_of(f).ln2
    square = f * f
    if f.scalar == "float":
        y = fma(polynomial(f, _LOG_FLOAT), square, e * low)
    else:
        # With s = f/(2 + f), log(1 + f) = f − (f²/2 − s·(f²/2 + s²·(2/3 + …)))
        s = f / (f + 2.0)
        z = s * s
        half_square = square * 0.5
        tail = fma(z, polynomial(z, _LOG_DOUBLE), half_square)
        y = fma(s, tail, e * low) - half_square
    return fma(e, high, y + f)


def log(x: Lanes) -> Lanes:
    """Natural logarithm."""
    e, m = split(x)
    usual = combine(e.to_float(x.scalar), m - 1.0)
    [y] = unlikely(is_unusual(x), [usual], lambda: [_log_of_any(x)])
    return y


def is_unusual(x: Lanes) -> Lanes:
    """Whether x is not a finite, normal, positive number.

    The bits of those are a range of integers; it is moved to the low end of the signed ones.
    """
    form = format_of(x)
    least, infinity = 1 << form.mantissa, (2 * form.bias + 1) << form.mantissa
    half = (form.bias + 1) << (form.mantissa + 1)
    return x.bits() - (least - half) >= infinity - least - half


def _log_of_any(x: Lanes) -> Lanes:
    e, m = split_any(x)
    y = combine(e.to_float(x.scalar), m - 1.0)
    y = where(x < INF, y, x)
    return where(x > 0.0, y, where(x.eq(0.0), -INF, where(x < 0.0, NAN, x)))


def log1p_of(x: Lanes, doublings: float | Lanes = 0.0) -> Lanes:
    """The logarithm of (1 + x)·2^doublings for −1 < x < inf.

    1 + x = u + c exactly, u rounded. Where e = 0, f = (u − 1) + c is x itself.
    """
    top = format_of(x).bias
    u = x + 1.0
    b = u - 1.0
    c = (1.0 - (u - b)) + (x - b)
    e, m = split(u)
    # The scale of c is 0 at the largest exponent, where c does not count.
    scale = power_of_two(-1 * where(e < top, e, top), x.scalar)
    f = fma(c, scale, m - 1.0)
    return combine(e.to_float(x.scalar) + doublings, f)


def log_less(ratio: Lanes, x: Lanes) -> Lanes:
    """The logarithm of a ratio, 1 + x, less x, of doubles: nothing cancels where x is small.

    With s = x/(2 + x) it is s·(s²·(2/3 + …) − x), and x is within what the polynomial serves.
    """
    s = x / (x + 2.0)
    z = s * s
    near = s * fma(z, polynomial(z, _LOG_DOUBLE), -x)
    small = (x > -0.29) & (x < 0.41)
    return where(small, near, log(where(small, 1.0, ratio)) - x)


def log1p(x: Lanes) -> Lanes:
    """The logarithm of 1 + x."""
    y = log1p_of(x)
    y = where(x < INF, y, x)
    y = where(x > -1.0, y, where(x.eq(-1.0), -INF, where(x < -1.0, NAN, x)))
    # Also keeps the sign of 0.
    return where(fabs(x) < 2.0 ** (-format_of(x).mantissa - 2), x, y)


# From here on x + 1 is x, as far as the logarithm can tell.
_LARGE = {"float": 2.0**26, "double": 2.0**55}


def asinh(x: Lanes) -> Lanes:
    """Inverse of sinh: log1p(|x| + x²/(1 + √(1 + x²))), and log(2|x|) of large x."""
    size = fabs(x)
    large = size > _LARGE[x.scalar]
    square = size * size
    inner = where(large, size, size + square / (sqrt(square + 1.0) + 1.0))
    y = log1p_of(inner, where(large, x.like(1.0), 0.0))
    return where(size < INF, copysign(y, x), x)


def acosh(x: Lanes) -> Lanes:
    """Inverse of cosh: log1p(t + √(2t + t²)) of t = x − 1, and log(2x) of large x."""
    large = x > _LARGE[x.scalar]
    t = x - 1.0
    inner = where(large, x, t + sqrt(fma(t, t, t + t)))
    y = log1p_of(inner, where(large, x.like(1.0), 0.0))
    return where(x < 1.0, NAN, where(x < INF, y, x))


# (atanh s − s)/s³ in s², |s| ≤ 0.2: relative errors of the result 2^-31, 2^-59
_ATANH = {
    "float": (
        0.3333333432674408, 0.20000164210796356, 0.14265695214271545, 0.11887131631374359,
    ),
    "double": (
        0.3333333333333333, 0.20000000000004395, 0.142857142834487, 0.11111111555461654,
        0.09090866375747982, 0.0769453055778722, 0.06602966989670413, 0.06818902881932773,
    ),
}  # fmt: skip


def atanh(x: Lanes) -> Lanes:
    """Inverse of tanh: e·½ ln 2 + atanh s, where 2^e is near (1 + |x|)/(1 − |x|).

    So s = ((1 + |x|) − 2^e·(1 − |x|))/((1 + |x|) + 2^e·(1 − |x|)), each part rounded once. The
    difference of the bits of 1 ± |x| is nearly that of their logarithms.
    """
    form, size = format_of(x), fabs(x)
    apart = (size + 1.0).bits() - (1.0 - size).bits()
    e = (apart + (1 << (form.mantissa - 1))) >> form.mantissa
    factor = power_of_two(e, x.scalar)
    s = fma(size, factor + 1.0, 1.0 - factor) / fma(size, 1.0 - factor, factor + 1.0)
    square = s * s
    high, low = (part / 2 for part in form.ln2)
    n = small_integer(e, x.scalar)
    y = fma(n, high, s + fma(square * s, polynomial(square, _ATANH[x.scalar]), n * low))
    y = where(size < 1.0, y, where(size.eq(1.0), INF, where(size > 1.0, NAN, x)))
    return copysign(y, x)
