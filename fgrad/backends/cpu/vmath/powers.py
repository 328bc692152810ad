"""pow, cbrt and hypot."""

from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.exponential import LOG2_E, expm1_of_remainder, scale
from fgrad.backends.cpu.vmath.formats import (
    FORMATS,
    nearest_integer,
    small_integer,
)
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    NAN,
    Lanes,
    at_least,
    at_most,
    copysign,
    fabs,
    fma,
    polynomial,
    sqrt,
    trunc,
    where,
)
from fgrad.backends.cpu.vmath.logarithm import is_unusual, split, split_any

# (log2((1 + s)/(1 − s)) − s·2/ln 2)/s³ in s²: relative error of the logarithm 2^-32; and 2/ln 2
_LOG2_TAIL = (
    0.9617967009544373, 0.5770797729492188, 0.4119012653827667, 0.33658748865127563,
)  # fmt: skip
_MOST_EXPONENT = 200.0
_TWO_OVER_LN2 = (2.885390043258667, 3.851926067000022e-08)
# (log((1 + s)/(1 − s))/s − 2 − ⅔s²)/s⁴ in s²: relative error of the logarithm 2^-72
_LOG_TAIL = (
    0.4, 0.28571428571431084, 0.2222222222077233, 0.1818181849801014, 0.1538458053438535,
    0.133354721725597, 0.1169072316876379, 0.11866284709402551,
)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# (1 − e)^(−1/3) − 1, over e, in e: for |e| up to 0.12
_CBRT = (1 / 3, 2 / 9, 14 / 81, 35 / 243, 91 / 729)
# The high 32 bits of 1/∛x are about this less a third of those of x.
_CBRT_MAGIC = {"float": 1419900000.0, "double": 1430184000.0}
# Below, products leave the normal numbers; and a power of 8, and the cube root of its inverse
_CBRT_LEAST = {"float": 2.0**-96, "double": 2.0**-900}
_CBRT_SCALES = {"float": (2.0**60, 2.0**-20), "double": (2.0**180, 2.0**-60)}


def pow(x: Lanes, y: Lanes) -> Lanes:
    """x^y; special cases as IEEE 754 (and C, and NumPy) have them."""
    of_parts = _pow_float if x.scalar == "float" else _pow_double
    unusual = is_unusual(x) | ~(fabs(y) < INF)
    [power] = unlikely(unusual, [of_parts(*split(x), y)], lambda: [_pow_of_any(x, y)])
    return power


def _pow_of_any(x: Lanes, y: Lanes) -> Lanes:
    size = fabs(x)
    e, m = split_any(size)
    power = (_pow_float if x.scalar == "float" else _pow_double)(e, m, y)
    zero, infinite = size.eq(0.0), size.eq(INF)
    grows = (zero & (y < 0.0)) | (infinite & (y > 0.0))
    power = where((zero | infinite) & y.eq(y), where(grows, power.like(INF), 0.0), power)
    half = y * 0.5
    integer = trunc(y).eq(y)
    odd = integer & trunc(half).ne(half)
    power = where(odd & (x.bits() < 0), -power, power)
    no_real = (x < 0.0) & size.ne(INF) & ~integer
    power = where(no_real | x.is_nan(), NAN, power)
    one = x.eq(1.0) | y.eq(0.0) | (size.eq(1.0) & fabs(y).eq(INF))
    return where(one, 1.0, power)


def _pow_float(e: Lanes, m: Lanes, y: Lanes) -> Lanes:
    """2^(y·(e + log2 m)) of floats, with the exponent in two parts: 31 bits and more."""
    s, s_low = _quotient(m)
    square = s * s
    tail = square * s * polynomial(square, _LOG2_TAIL)
    first, second = _TWO_OVER_LN2
    high = s * first
    low = fma(s, first, -high) + fma(s_low, first, fma(s, second, tail))
    exponent = e.to_float("float")
    whole = exponent + high
    low = (high - (whole - exponent)) + low
    product = whole * y
    rest = fma(low, y, fma(whole, y, -product))
    # Beyond the bounds the power is 0 or inf, and has no rest.
    rest = where(fabs(product) < _MOST_EXPONENT, rest, 0.0)
    product = at_most(at_least(product, -_MOST_EXPONENT), _MOST_EXPONENT)
    total = product + rest
    rest = rest - (total - product)
    n, integer = nearest_integer(total, 1.0)
    r = ((total - n) + rest) * FORMATS["float"].ln2[0]
    return scale(expm1_of_remainder(r) + 1.0, n, integer)


def _quotient(m: Lanes) -> tuple[Lanes, Lanes]:
    """The two parts of (m − 1)/(m + 1)."""
    f, above = m - 1.0, m + 1.0
    above_low = m - (above - 1.0)
    inverse = 1.0 / above
    s = f * inverse
    return s, (fma(-s, above, f) - s * above_low) * inverse


def _pow_double(e: Lanes, m: Lanes, y: Lanes) -> Lanes:
    """e^(y·(e·ln 2 + log m)) of doubles, with the logarithm in two parts: 64 bits and more."""
    high, low = _log(m, small_integer(e, "double"))
    product = y * high
    rest = fma(y, low, fma(y, high, -product))
    product = at_most(at_least(product, -746.0), 710.0)
    # No rest of what overflows
    rest = where(fabs(rest) < 1.0, rest, 0.0)
    ln2 = FORMATS["double"].ln2
    n, integer = nearest_integer(product, LOG2_E)
    r = fma(n, -ln2[1], fma(n, -ln2[0], product)) + rest
    return scale(expm1_of_remainder(r) + 1.0, n, integer)


def _log(m: Lanes, exponent: Lanes) -> tuple[Lanes, Lanes]:
    """The two parts of exponent·ln 2 + log m, for √½ ≤ m < √2.

    With s = (m − 1)/(m + 1), log m = 2s + s³(⅔ + s²·tail); all but the tail in two parts
    (Dekker, *A floating-point technique for extending the available precision*, 1971).
    """
    s, s_low = _quotient(m)
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    third, third_low = _TWO_THIRDS
    tail = z * polynomial(z, _LOG_TAIL)
    t = tail + third
    t_low = ((third - t) + tail) + third_low
    u = z * t
    u_low = fma(z, t, -u) + fma(z, t_low, z_low * t)
    v = s * u
    v_low = fma(s, u, -v) + fma(s, u_low, s_low * u)
    double = s + s
    w = double + v
    w_low = ((double - w) + v) + (v_low + (s_low + s_low))
    ln2 = FORMATS["double"].ln2
    whole = exponent * ln2[0]
    whole_low = fma(exponent, ln2[1], fma(exponent, ln2[0], -whole))
    high = whole + w
    return high, ((whole - high) + w) + (whole_low + w_low)


def cbrt(x: Lanes) -> Lanes:
    """Cube root, from its inverse, of which the bits of x give two digits."""
    size = fabs(x)
    unusual = ~((size >= _CBRT_LEAST[x.scalar]) & (size < INF))
    [y] = unlikely(unusual, [_cbrt(size)], lambda: [_cbrt_of_any(size)])
    return copysign(y, x)


def _cbrt_of_any(x: Lanes) -> Lanes:
    up, down = _CBRT_SCALES[x.scalar]
    return where((x > 0.0) & (x < INF), _cbrt(x * up) * down, x)


def _cbrt(x: Lanes) -> Lanes:
    """Of a number x > 0 for which nothing underflows.

    With r near 1/∛x and e = 1 − x·r³, r·(1 − e)^(−1/3) is nearer; then one step of Newton's method
    for y = x·r², with the error of y² added.
    """
    bits = x.bits() if x.scalar == "float" else (x.bits() >> 32).narrow()
    third = fma(bits.to_float("float"), -1 / 3, _CBRT_MAGIC[x.scalar]).to_integer()
    r = third.as_float() if x.scalar == "float" else (third.widen() << 32).as_float()
    for terms in (5,) if x.scalar == "float" else (5, 1):
        e = fma(x * r, -(r * r), 1.0)
        r = fma(r * e, polynomial(e, _CBRT[:terms]), r)
    square = r * r
    y = x * square
    product = y * y
    lost = fma(y, y, -product)
    rest = fma(y, -product, x) - lost * y
    return fma(rest, square * (1 / 3), y)


def hypot(x: Lanes, y: Lanes) -> Lanes:
    """√(x² + y²) without overflow or underflow on the way; inf beside NaN is inf."""
    infinite = fabs(x).eq(INF) | fabs(y).eq(INF)
    if x.scalar == "float":
        a, b = x.double(), y.double()
        return where(infinite, INF, sqrt(fma(a, a, b * b)).single())
    a, b = fabs(x), fabs(y)
    most = at_least(a, b)
    large, small = most > 2.0**510, most < 2.0**-450
    up = where(large, 2.0**-600, where(small, most.like(2.0**600), 1.0))
    down = where(large, 2.0**600, where(small, most.like(2.0**-600), 1.0))
    a, b = a * up, b * up
    return where(infinite, INF, sqrt(fma(a, a, b * b)) * down)
