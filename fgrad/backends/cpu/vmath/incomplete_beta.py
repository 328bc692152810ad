"""The regularized incomplete beta function, of doubles.

I(x; a, b) is the factor x^a·(1 − x)^b/(a·B(a, b)) times a continued fraction that converges fast
up to x = (a + 1)/(a + b + 2); beyond it, I(x; a, b) = 1 − I(1 − x; b, a). Where a and b are both
huge it is a normal distribution and its first correction (NIST, *Digital Library of Mathematical
Functions*, 8.17.22 and 8.18.9).
"""

from fgrad.backends.cpu.vmath import error, exponential, gamma, powers
from fgrad.backends.cpu.vmath.branches import repeat, unlikely
from fgrad.backends.cpu.vmath.incomplete_gamma import EPSILON, TWO_PI
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
    where,
)
from fgrad.backends.cpu.vmath.logarithm import log, log1p, log_less
from fgrad.backends.cpu.vmath.outlined import outlined

_STIRLING = 8.0  # from here on a and b are large: Stirling's formula has a short correction
_HUGE = 2.0**27  # from here on a and b are huge: the fraction takes √a steps
_SMALL = 0.5  # below, 1 − I(x; a, b) has a sum of its own
_MOST_TERMS = 200_000.0  # more than the fraction needs below


def betainc(a: Lanes, b: Lanes, x: Lanes) -> Lanes:
    """I(x; a, b); NaN where a or b is negative or x not in [0, 1], and of two ends at once."""
    return outlined("betainc", _regularized, a, b, x)


class _Problem:
    """The operands as the fraction takes them: I(x; a, b), or 1 − I where they are exchanged.

    Attributes:
        a: The first parameter.
        b: The second one.
        x: The argument.
        y: 1 − x.
        shift: a·y − b·x to all digits: how far x is below the mean, times a + b.
        swapped: Whether the operands were exchanged.
    """

    __slots__ = ("_given", "a", "b", "shift", "swapped", "x", "y")

    def __init__(self, a: Lanes, b: Lanes, x: Lanes) -> None:
        y = 1.0 - x
        swap = x > (a + 1.0) / (a + b + 2.0)
        first, second = a * y, b * x
        rest = fma(a, y, -first) - fma(b, x, -second) + a * ((1.0 - y) - x)
        shift = (first - second) + rest
        self.swapped, self._given = swap, x
        self.shift = where(swap, -shift, shift)
        self.a, self.b = where(swap, b, a), where(swap, a, b)
        self.x, self.y = where(swap, y, x), where(swap, x, y)

    def logarithms(self) -> tuple[Lanes, Lanes]:
        """Those of x and y; 1 − x as it was given has all its digits where it is near 1."""
        given, rest = log(self._given), log1p(-self._given)
        return where(self.swapped, rest, given), where(self.swapped, given, rest)


def _regularized(scalar: str, a: Lanes, b: Lanes, x: Lanes) -> Lanes:
    valid = (a >= 0.0) & (b >= 0.0) & (x >= 0.0) & (x <= 1.0)
    usual = valid & (a > 0.0) & (b > 0.0) & (a < INF) & (b < INF) & (x > 0.0) & (x < 1.0)
    most = 2.0**1020
    p = _Problem(
        at_most(where(usual, a, 1.0), most),
        at_most(where(usual, b, 1.0), most),
        where(usual, x, 0.25),
    )
    huge = (p.a > _HUGE) & (p.b > _HUGE)
    part = _factor(scalar, p) * _fraction(scalar, usual & ~huge, p)
    [part] = unlikely(huge, [part], lambda: [_normal(p)])
    value = where(p.swapped, 1.0 - part, part)
    # Of a small b, I is small beyond the mean too.
    apart = p.swapped & (p.a < _SMALL)
    [value] = unlikely(apart, [value], lambda: [_rest_of_small(scalar, apart, p)])
    value = at_most(at_least(value, 0.0), 1.0)
    return where(usual, value, _end(a, b, x, valid))


def _end(a: Lanes, b: Lanes, x: Lanes, valid: Lanes) -> Lanes:
    """Where a is 0 or b infinite all of the distribution is at 0; at 1 in the opposite case."""
    low, high = a.eq(0.0) | b.eq(INF), b.eq(0.0) | a.eq(INF)
    inside = where(low, where(x > 0.0, x.like(1.0), 0.0), where(x < 1.0, x.like(0.0), 1.0))
    ends = where(low | high, inside, where(x > 0.0, x, 0.0))  # x is 0 or 1
    return where(valid & ~(low & high), ends, NAN)


def _fraction(scalar: str, lanes: Lanes, p: _Problem) -> Lanes:
    """The continued fraction, by Lentz' method in its modified form.

    Its even part, in terms of a·y − b·x, does not cancel near the mean (Didonato and Morris,
    *Algorithm 708*, ACM TOMS 18, 1992); a is taken out of the first two terms.
    """
    a, b, x = p.a, p.b, p.x
    above, more_than_1 = p.shift + 1.0, p.y + 1.0
    total = a + b
    least = EPSILON[scalar] * 16
    first = above / (a + 1.0)

    def step(n: Lanes, c: Lanes, d: Lanes, y: Lanes) -> tuple[list[Lanes], Lanes]:
        before = a + n - 1.0
        low, high = before + n, before + n + 2.0
        left = n * (b - n) * x / low
        over = left * ((total + n - 1.0) * x / low) * where(n.eq(1.0), 1.0, before)
        beside = n + left + (a + n) * (fma(n, more_than_1, above) / high)
        c = beside + over / c
        d = 1.0 / fma(over, d, beside)
        change = c * d
        more = (fabs(change - 1.0) > least) & (n < _MOST_TERMS)
        return [n + 1.0, c, d, y * change], more

    return 1.0 / repeat(lanes, [a.like(1.0), first, a.like(0.0), first], step)[3]


def _factor(scalar: str, p: _Problem) -> Lanes:
    """The number x^a·y^b/(a·B(a, b))."""
    a_large, b_large = p.a >= _STIRLING, p.b >= _STIRLING
    factor = p.a.like(0.0)
    both, neither = a_large & b_large, ~(a_large | b_large)
    [factor] = unlikely(both, [factor], lambda: [_factor_of_large(scalar, p)])
    [factor] = unlikely(neither, [factor], lambda: [_factor_of_small(scalar, p)])
    [factor] = unlikely(a_large ^ b_large, [factor], lambda: [_factor_of_one_large(scalar, p)])
    return factor


def _exponent(p: _Problem) -> Lanes:
    """The logarithm of x^a·y^b, less its greatest, which is at x = a/(a + b)."""
    total = p.a + p.b
    first = log_less(p.x * (total / p.a), -p.shift / p.a)
    second = log_less(p.y * (total / p.b), p.shift / p.b)
    return p.a * first + p.b * second


def _factor_of_large(scalar: str, p: _Problem) -> Lanes:
    a, b = at_least(p.a, _STIRLING), at_least(p.b, _STIRLING)
    total = a + b
    rest = gamma.correction(scalar, total) - gamma.correction(scalar, a)
    size = sqrt(b / a / (total * TWO_PI))
    return size * exponential.exp(_exponent(p) + (rest - gamma.correction(scalar, b)))


def _power(x: Lanes, y: Lanes) -> Lanes:
    return outlined("power", lambda _, x, y: powers.pow(x, y), x, y)


def _log_gamma_1p(scalar: str, x: Lanes) -> Lanes:
    name = f"log_gamma_1p.{scalar}"
    return outlined(name, lambda _, x: gamma.log_gamma_1p(scalar, x), x)


def _factor_of_small(scalar: str, p: _Problem) -> Lanes:
    """With b/(a + b)·Γ(a + b + 1)/(Γ(a + 1)·Γ(b + 1)), whose arguments are at least 1."""
    a, b = at_most(p.a, _STIRLING), at_most(p.b, _STIRLING)
    total = a + b
    logarithm = _log_gamma_1p(scalar, total) - _log_gamma_1p(scalar, a) - _log_gamma_1p(scalar, b)
    powers_ = _power(p.x, a) * _power(p.y, b)
    return powers_ * exponential.exp(logarithm) * (b / total)


def _factor_of_one_large(scalar: str, p: _Problem) -> Lanes:
    """With m the large and s the small parameter, and Γ(m + s)/Γ(m) = m^s·e^δ, δ small."""
    first = p.a >= _STIRLING
    m = at_least(where(first, p.a, p.b), _STIRLING)
    s = at_most(where(first, p.b, p.a), _STIRLING)
    logarithm = where(first, *p.logarithms())
    beside = where(first, p.y, p.x)
    total = m + s
    ratio = s / m
    delta = (total - 0.5) * log_less(ratio + 1.0, ratio) + (s - 0.5) * ratio
    delta = delta + (gamma.correction(scalar, total) - gamma.correction(scalar, m))
    exponent = fma(m, logarithm, delta - _log_gamma_1p(scalar, s))
    half = exponential.exp(exponent * 0.5)
    # Beyond the bound the exponential is 0.
    power = _power(at_most(m * beside, 1e6), s)
    return (half * power) * (half * where(first, s / m, 1.0))


def _rest_of_small(scalar: str, lanes: Lanes, p: _Problem) -> Lanes:
    """1 − I(x; a, b) of small a, where b·x is below about 1.5.

    I is x^a/(a·B(a, b)) times 1 + a·Σ (1 − b)…(n − b)·xⁿ/(n!·(a + n)), n from 1.
    """
    a, b, x = where(lanes, p.a, 0.25), where(lanes, p.b, 1.0), where(lanes, p.x, 0.25)
    least = EPSILON[scalar]

    def step(n: Lanes, term: Lanes, total: Lanes) -> tuple[list[Lanes], Lanes]:
        term = term * ((n - b) * x / n)
        more = (fabs(term) > least) & (n < _MOST_TERMS)
        return [n + 1.0, term, total + term / (a + n)], more

    one = a.like(1.0)
    total = repeat(lanes, [one, one, a.like(0.0)], step)[2]
    z, growth = _log_gamma_growth(scalar, a, b)
    power = exponential.expm1(fma(a, log(x * z), growth - _log_gamma_1p(scalar, a)))
    return -power - fma(power, a, a) * total


def _log_gamma_growth(scalar: str, a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """A number z of 8 or more, and log Γ(a + b) − log Γ(b) − a·log z, exact relative to a."""
    large = b >= _STIRLING
    product = a.like(0.0)
    for j in range(8):
        ratio = a / (b + float(j))
        product = fma(product, ratio, product + ratio)
    z = where(large, b, b + 8.0)
    ratio = a / z
    total = a + z
    growth = fma(total - 0.5, log_less(ratio + 1.0, ratio), (a - 0.5) * ratio)
    # Of Stirling's series c₀/z + c₁/z³ + …, the first two differences as products with a
    first, second, *others = gamma.STIRLING[scalar]
    low, high = 1.0 / z, 1.0 / total
    cubes = fma(low, low + high, high * high)
    growth = growth - a * low * high * fma(cubes, second, first)
    rest = [polynomial(v * v, tuple(others)) * (v * v) * (v * v) * v for v in (high, low)]
    growth = growth + (rest[0] - rest[1])
    return z, where(large, growth, growth - log1p(product))


def _normal(p: _Problem) -> Lanes:
    """The first terms of the uniform expansion for large a and b."""
    total = p.a + p.b
    exponent = at_most(_exponent(p), 0.0)
    z = copysign(sqrt(-exponent), p.shift)
    mean, rest = p.a / total, p.b / total
    deviation = sqrt(mean * rest)
    # η is −z·√(2/(a + b)). Near the mean 1/η − deviation/(x − mean) is a difference of great terms.
    near = fabs(z) < 1e-4
    root = sqrt(total * 0.5)
    direct = deviation * total / where(near, 1.0, p.shift) - root / where(near, 1.0, z)
    correction = where(near, (rest - mean) / (deviation * 3.0), direct)
    density = exponential.exp(exponent) / sqrt(total * TWO_PI)
    normal = outlined("erfc", lambda _, z: error.erfc(z), z) * 0.5
    return fma(density, correction, normal)
