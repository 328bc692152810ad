"""The Hurwitz zeta function and the derivatives of log |Γ|, of doubles.

ζ(x, q) is the sum of its first terms and of what the Euler–Maclaurin formula gives for the others,
with as many terms of each as the precision asks for (NIST, *Digital Library of Mathematical
Functions*, 25.11.5). At negative q, where x has to be an integer, the terms of negative base are
those of two other zeta functions.
"""

from fgrad.backends.cpu.vmath import gamma, powers
from fgrad.backends.cpu.vmath.branches import repeat, unlikely
from fgrad.backends.cpu.vmath.exponential import exp
from fgrad.backends.cpu.vmath.lanes import INF, NAN, Lanes, at_most, floor, fma, trunc, where
from fgrad.backends.cpu.vmath.logarithm import log
from fgrad.backends.cpu.vmath.outlined import outlined

# Terms that are added up, and terms of the formula: relative errors 2^-33 and 2^-63
_TERMS = {"float": (6, 5), "double": (9, 12)}
# B₂ⱼ/(2j)! for j = 1, 2, …, B the Bernoulli numbers
_EULER_MACLAURIN = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
    2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    8.586062056277845e-15, -2.174868698558062e-16, 5.5090028283602295e-18, -1.3954464685812522e-19,
)  # fmt: skip
_MOST = 1e6
_MOST_FACTORIAL = 170.0


def zeta(x: Lanes, q: Lanes) -> Lanes:
    """The sum of (q + k)^−x over k = 0, 1 and so on."""
    return outlined("zeta", hurwitz, x, q)


def polygamma(m: Lanes, x: Lanes) -> Lanes:
    """The derivative of order m + 1 of log |Γ(x)|; NaN where m is no integer or below 0."""
    return outlined("polygamma", _polygamma, m, x)


def _power(scalar: str, base: Lanes, exponent: Lanes) -> Lanes:
    if scalar == "float":
        return where(base.eq(1.0), 1.0, exp(log(base) * exponent))
    return outlined("power", lambda _, x, y: powers.pow(x, y), base, exponent)


def hurwitz(scalar: str, x: Lanes, q: Lanes) -> Lanes:
    """ζ(x, q); ∞ at x = 1 and at q = 0, −1, …; NaN where x < 1 or a term is not real."""
    negative = q < 0.0
    whole = floor(q)
    y = _zeta_positive(scalar, x, where(negative, 1.0, q))
    [y] = unlikely(negative, [y], lambda: [_reflected(scalar, x, q, whole)])
    pole = (q <= 0.0) & whole.eq(q)
    return where(x.eq(1.0), INF, where(x < 1.0, NAN, where(pole, INF, y)))


def _reflected(scalar: str, x: Lanes, q: Lanes, whole: Lanes) -> Lanes:
    """ζ(x, f) + (−1)^x·(ζ(x, 1 − f) − ζ(x, 1 − q)), f what q is above the next integer."""
    inside = (q < 0.0) & (q > -INF)
    f, rest = where(inside, q - whole, 0.5), where(inside, (whole + 1.0) - q, 0.5)
    mirrored = _zeta_positive(scalar, x, rest)
    beyond = _zeta_positive(scalar, x, where(inside, 1.0 - q, 1.0))
    first = _zeta_positive(scalar, x, f)
    # What the rounding of f has lost moves the greatest term.
    lost = where(inside, q - (f + whole), 0.0)
    first = where(lost.eq(0.0), first, fma(first, -x * (lost / f), first))
    y = where(_is_odd(x), (first - mirrored) + beyond, (first + mirrored) - beyond)
    return where(trunc(x).eq(x), y, NAN)


def _is_odd(x: Lanes) -> Lanes:
    """Whether an integer is odd."""
    half = x * 0.5
    return trunc(half).ne(half)


def _zeta_positive(scalar: str, x: Lanes, q: Lanes) -> Lanes:
    """ζ(x, q) of q ≥ 0, by a function that is shared."""
    return outlined(f"hurwitz.{scalar}", lambda _, x, q: _positive(scalar, x, q), x, q)


def _positive(scalar: str, x: Lanes, q: Lanes) -> Lanes:
    count, terms = _TERMS[scalar]
    w = q + float(count)
    inverse = 1.0 / w
    # Σ B₂ⱼ/(2j)!·x(x + 1)…(x + 2j − 2)/w^(2j − 1). Where the bound holds, w^−x is 0.
    factor = at_most(x * inverse, _MOST)
    total = factor * _EULER_MACLAURIN[0]
    for j in range(1, terms):
        for k in (2 * j - 1, 2 * j):
            factor = factor * at_most((x + float(k)) * inverse, _MOST)
        total = fma(factor, _EULER_MACLAURIN[j], total)
    power = _shifted_power(scalar, x, q, x.like(count))
    rest = power * (total + 0.5) + power * w / (x - 1.0)
    # w^−x may underflow where w^(1 − x) does not.
    [rest] = unlikely(power < 2.0**-900, [rest], lambda: [_in_halves(scalar, x, w, total)])

    def step(k: Lanes, total: Lanes) -> tuple[list[Lanes], Lanes]:
        return [k - 1.0, total + _shifted_power(scalar, x, q, k)], k > 0.0

    # The smallest terms first
    everywhere = x.eq(x)
    _, total = repeat(everywhere, [x.like(count - 1.0), rest], step)
    return where(q.eq(INF) & everywhere, 0.0, total)


def _in_halves(scalar: str, x: Lanes, w: Lanes, total: Lanes) -> Lanes:
    half = _power(scalar, w, x * -0.5)
    return half * (half * w) / (x - 1.0) + half * half * (total + 0.5)


def _shifted_power(scalar: str, x: Lanes, q: Lanes, k: Lanes) -> Lanes:
    """(q + k)^−x, with what the rounding of the sum loses."""
    base = q + k
    power = _power(scalar, base, -x)
    if scalar == "float":
        return power
    part = base - q
    lost = (q - (base - part)) + (k - part)
    # Where the bound holds, the power is 0 or infinite, or nothing is lost.
    exact = lost.eq(0.0) | power.eq(INF)
    return where(exact, power, fma(power, -at_most(x, _MOST) * (lost / base), power))


def _factorial(m: Lanes) -> Lanes:
    """The product of 1, …, m, for integers 0 ≤ m ≤ 170, carried in two parts."""

    def step(k: Lanes, high: Lanes, low: Lanes) -> tuple[list[Lanes], Lanes]:
        product = high * k
        low = fma(low, k, fma(high, k, -product))
        high = product + low
        return [k + 1.0, high, (product - high) + low], k < m

    return repeat(m >= 2.0, [m.like(2.0), m.like(1.0), m.like(0.0)], step)[1]


def _polygamma(scalar: str, m: Lanes, x: Lanes) -> Lanes:
    order = (m >= 0.0) & trunc(m).eq(m) & (m < INF)
    fits = order & (m <= _MOST_FACTORIAL)
    factorial = where(fits, _factorial(where(fits, m, 0.0)), INF)
    s = where(order & (m > 0.0), m + 1.0, 2.0)
    size = factorial * outlined(f"zeta.{scalar}", lambda _, x, q: hurwitz(scalar, x, q), s, x)
    y = where(_is_odd(m), size, -size)
    zero = m.eq(0.0)
    [y] = unlikely(zero, [y], lambda: [gamma.psi(scalar, where(zero, x, 1.0))])
    return where(order, y, NAN)
