"""pow, cbrt and hypot."""

from fgrad.backends.cpu.vmath.exponential import LOG2_E, expm1_of_remainder, scale
from fgrad.backends.cpu.vmath.formats import (
    FORMATS,
    format_of,
    nearest_integer,
    power_of_two,
    shifter_bits,
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
from fgrad.backends.cpu.vmath.logarithm import normal, split_any

# log2((1 + s)/(1 − s))/s in s²: relative error 2^-45
_LOG2 = (
    2.88539008177785, 0.9617966941137273, 0.5770779422378423, 0.4122092665946113,
    0.31990506321421386, 0.28290986444331967,
)  # fmt: skip
# (log((1 + s)/(1 − s))/s − 2 − ⅔s²)/s⁴ in s²: relative error of the logarithm 2^-72
_LOG_TAIL = (
    0.4, 0.28571428571431084, 0.2222222222077233, 0.1818181849801014, 0.1538458053438535,
    0.133354721725597, 0.1169072316876379, 0.11866284709402551,
)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# ∛m for 1 ≤ m < 2: relative errors 2^-14, 2^-20
_CBRT = {
    "float": (
        0.5528238596857652, 0.5871133153162935, -0.16296898849225258, 0.023104810502190692,
    ),
    "double": (
        0.4733291755508068, 0.8381651813577776, -0.46923567397853905, 0.20278186651663346,
        -0.050388065105095615, 0.005348745844645444,
    ),
}  # fmt: skip
# What makes denormal numbers normal, a multiple of 3; and what makes the bias one
_CBRT_DOUBLINGS = {"float": 24, "double": 54}
_CBRT_SHIFT = {"float": 2, "double": 0}
_CBRT_2, _CBRT_4 = 1.2599210498948732, 1.5874010519681994


def pow(x: Lanes, y: Lanes) -> Lanes:
    """x^y; special cases as IEEE 754 (and C, and NumPy) have them."""
    size = fabs(x)
    power = _pow_float(size, y) if x.scalar == "float" else _pow_double(size, y)
    half = y * 0.5
    integer = trunc(y).eq(y)
    odd = integer & trunc(half).ne(half)
    power = where(odd & (x.bits() < 0), -power, power)
    no_real = (x < 0.0) & size.ne(INF) & trunc(y).ne(y)
    power = where(no_real, NAN, power)
    one = x.eq(1.0) | y.eq(0.0) | (size.eq(1.0) & fabs(y).eq(INF))
    return where(one, 1.0, power)


def _pow_float(x: Lanes, y: Lanes) -> Lanes:
    """2^(y·log2 x) of floats, x ≥ 0, with the exponent in double precision."""
    e, m = split_any(x)
    # s = (m − 1)/(m + 1): a quotient of floats, and what is left of it
    above, f = m.double() + 1.0, m.double() - 1.0
    inverse = (1.0 / (m + 1.0)).double()
    s = f * inverse
    s = fma(fma(-s, above, f), inverse, s)
    logarithm = fma(s, polynomial(s * s, _LOG2), e.to_float("double"))
    logarithm = where(x.eq(0.0), logarithm.like(-INF), where(x < INF, logarithm, x.double()))
    exponent = at_most(at_least(logarithm * y.double(), -160.0), 140.0)
    n, integer = nearest_integer(exponent, 1.0)
    r = ((exponent - n) * FORMATS["double"].ln2[0]).single()
    return scale(expm1_of_remainder(r) + 1.0, (integer - shifter_bits(exponent)).narrow())


def _pow_double(x: Lanes, y: Lanes) -> Lanes:
    """e^(y·log x) of doubles, x ≥ 0, with the logarithm in two parts: 64 bits and more."""
    e, m = split_any(x)
    high, low = _log(m, e.to_float("double"))
    high = where(x.eq(0.0), -INF, where(x < INF, high, x))
    product = y * high
    rest = fma(y, low, fma(y, high, -product))
    product = at_most(at_least(product, -746.0), 710.0)
    # No rest of what overflows
    rest = where(fabs(rest) < 1.0, rest, 0.0)
    ln2 = FORMATS["double"].ln2
    n, integer = nearest_integer(product, LOG2_E)
    r = fma(n, -ln2[1], fma(n, -ln2[0], product)) + rest
    return scale(expm1_of_remainder(r) + 1.0, integer - shifter_bits(r))


def _log(m: Lanes, exponent: Lanes) -> tuple[Lanes, Lanes]:
    """The two parts of exponent·ln 2 + log m, for √½ ≤ m < √2.

    With s = (m − 1)/(m + 1), log m = 2s + s³(⅔ + s²·tail); all but the tail in two parts
    (Dekker, *A floating-point technique for extending the available precision*, 1971).
    """
    f, above = m - 1.0, m + 1.0
    above_low = m - (above - 1.0)
    inverse = 1.0 / above
    s = f * inverse
    s_low = (fma(-s, above, f) - s * above_low) * inverse
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
    """Cube root: |x| = a·8^q with 1 ≤ a < 8, so it is ∛a·2^q.

    ∛a is a polynomial, and one step of Halley's method, which makes the error its cube.
    """
    scalar, form = x.scalar, format_of(x)
    doublings, shift = _CBRT_DOUBLINGS[scalar], _CBRT_SHIFT[scalar]
    size = fabs(x)
    scaled, small = normal(size, doublings)
    bits = scaled.bits()
    biased = bits >> form.mantissa
    # n·21846/2^16, rounded down, is n/3 for all exponents.
    third = ((biased + shift) * 21846) >> 16
    left = (biased + shift) - third * 3
    m = (bits - ((biased - form.bias) << form.mantissa)).as_float()
    first, second = left.eq(0), left.eq(1)
    a = m * where(first, 1.0, where(second, m.like(2.0), 4.0))
    root = where(first, 1.0, where(second, m.like(_CBRT_2), _CBRT_4))
    guess = polynomial(m, _CBRT[scalar]) * root
    square = guess * guess
    lost = fma(guess, guess, -square)
    excess = fma(lost, guess, fma(square, guess, -a))
    root = guess - guess * (excess / fma(square * 2.0, guess, a))
    third = where(small, third - doublings // 3, third)
    y = root * power_of_two(third, scalar, -(form.bias + shift) // 3)
    return where((size > 0.0) & (size < INF), copysign(y, x), x)


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
