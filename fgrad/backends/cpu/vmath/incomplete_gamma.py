"""The incomplete gamma functions and the slope of their quantile, of doubles.

Three ways, each where it is good: the sum of P for x up to a, Legendre's continued fraction of Q
beyond it, and for large a near x Temme's uniform expansion (NIST, *Digital Library of Mathematical
Functions*, 8.11.4, 8.9.2 and 8.12). Q of small a and x has a sum of its own, as 1 − P would cancel.
All take the factor x^a·e^−x/Γ(a + 1). Loops run until each lane has converged.
"""

from fgrad.backends.cpu.vmath import error, exponential, gamma, powers
from fgrad.backends.cpu.vmath.branches import repeat, unlikely
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    NAN,
    Lanes,
    at_most,
    copysign,
    fabs,
    fma,
    polynomial,
    sqrt,
    where,
)
from fgrad.backends.cpu.vmath.logarithm import log, log_less
from fgrad.backends.cpu.vmath.outlined import outlined

TWO_PI = 6.283185307179586
# What is left out of sums, relative to them
EPSILON = {"float": 2.0**-40, "double": 2.0**-55}
_LARGE, _NEAR = 100.0, 0.3  # where Temme's expansion is taken: a, and |x − a|/a
_SMALL_X = 1.1  # below, the continued fraction is slow
_MOST_TERMS = 2000.0  # more than any loop needs: the longest take 300
# cₖ(η) of Temme's expansion, by the recurrence of DLMF 8.12.11: k = 0, 1, …
_TEMME = {
    "float": (
        (
            -0.3333333333333333, 0.08333333333333333, -0.014814814814814815, 0.0011574074074074073,
            0.0003527336860670194, -0.0001787551440329218, 3.919263178522438e-05,
            -2.185448510679992e-06, -1.85406221071516e-06,
        ),
        (
            -0.001851851851851852, -0.003472222222222222, 0.0026455026455026454,
            -0.0009902263374485596, 0.00020576131687242798, -4.018775720164609e-07,
            -1.8098550334489977e-05,
        ),
        (
            0.004133597883597883, -0.0026813271604938273, 0.0007716049382716049,
            2.0093878600823047e-06,
        ),
    ),
    "double": (
        (
            -0.3333333333333333, 0.08333333333333333, -0.014814814814814815, 0.0011574074074074073,
            0.0003527336860670194, -0.0001787551440329218, 3.919263178522438e-05,
            -2.185448510679992e-06, -1.85406221071516e-06, 8.296711340953087e-07,
            -1.7665952736826078e-07, 6.707853543401498e-09, 1.0261809784240309e-08,
            -4.382036018453353e-09, 9.14769958223679e-10, -2.5514193994946248e-11,
            -5.830772132550426e-11, 2.4361948020667415e-11,
        ),
        (
            -0.001851851851851852, -0.003472222222222222, 0.0026455026455026454,
            -0.0009902263374485596, 0.00020576131687242798, -4.018775720164609e-07,
            -1.8098550334489977e-05, 7.64916091608111e-06, -1.6120900894563446e-06,
            4.647127802807434e-09, 1.378633446915721e-07, -5.752545603517705e-08,
            1.1951628599778148e-08, -1.7543241719747647e-11, -1.0091543710600413e-09,
        ),
        (
            0.004133597883597883, -0.0026813271604938273, 0.0007716049382716049,
            2.0093878600823047e-06, -0.0001073665322636516, 5.2923448829120125e-05,
            -1.2760635188618728e-05, 3.423578734096138e-08, 1.3721957309062934e-06,
            -6.298992138380055e-07, 1.4280614206064242e-07, -2.0477098421990866e-10,
            -1.409252991086752e-08,
        ),
        (
            0.0006494341563786008, 0.00022947209362139917, -0.0004691894943952557,
            0.00026772063206283885, -7.561801671883977e-05, -2.396505113867297e-07,
            1.1082654115347302e-05, -5.6749528269915965e-06, 1.4230900732435883e-06,
            -2.7861080291528143e-11, -1.6958404091930278e-07,
        ),
        (
            -0.0008618882909167117, 0.0007840392217200666, -0.0002990724803031902,
            -1.4638452578843418e-06, 6.641498215465122e-05, -3.968365047179435e-05,
            1.1375726970678419e-05, 2.507497226237533e-10,
        ),
        (
            -0.00033679855336635813, -6.972813758365857e-05, 0.0002772753244959392,
            -0.00019932570516188847, 6.797780477937208e-05, 1.419062920643967e-07,
        ),
        (
            0.0005313079364639922, -0.0005921664373536939, 0.0002708782096718045,
            7.902353232660328e-07,
        ),
    ),
}  # fmt: skip


def igamma(a: Lanes, x: Lanes) -> Lanes:
    """The lower regularized incomplete gamma function P."""
    return outlined("igamma", lambda scalar, a, x: _regularized(scalar, a, x, False), a, x)


def igammac(a: Lanes, x: Lanes) -> Lanes:
    """The upper regularized incomplete gamma function Q = 1 − P."""
    return outlined("igammac", lambda scalar, a, x: _regularized(scalar, a, x, True), a, x)


def _regularized(scalar: str, a: Lanes, x: Lanes, upper: bool) -> Lanes:
    """P or Q; NaN where an operand is negative, and where a and x are both 0 or both infinite."""
    usual = (a > 0.0) & (x > 0.0) & (a < INF) & (x < INF)
    p, y = where(usual, a, 1.0), where(usual, x, 1.0)
    mu = (y - p) / p
    expanded = (p > _LARGE) & (fabs(mu) < _NEAR)
    summed = (y <= _SMALL_X) | (y <= p)
    apart = _is_far_from_1(p, y) if upper else None
    low = summed if apart is None else summed & ~apart
    low, high = low & ~expanded, ~(summed | expanded)
    factor = outlined(f"gamma_factor.{scalar}", lambda _, a, x: _factor(scalar, a, x), p, y)
    value = p.like(0.0)

    def of_p(part: Lanes) -> Lanes:
        return 1.0 - part if upper else part

    [value] = unlikely(low, [value], lambda: [of_p(factor * _sum(scalar, low, p, y))])
    [value] = unlikely(
        high, [value],
        lambda: [_other(factor * p * _fraction(scalar, high, p, y), upper)],
    )  # fmt: skip
    [value] = unlikely(expanded, [value], lambda: [_temme(scalar, expanded, p, mu, upper)])
    if apart is not None:
        [value] = unlikely(apart, [value], lambda: [_upper_small(scalar, apart, p, y)])
    at_end = (a >= 0.0) & (x >= 0.0)
    all_below = at_end & ((a.eq(0.0) & (x > 0.0)) | ((a < INF) & x.eq(INF)))
    none_below = at_end & ((x.eq(0.0) & (a > 0.0)) | (a.eq(INF) & (x < INF)))
    ends = where(all_below, float(not upper), where(none_below, float(upper), value.like(NAN)))
    return where(usual, at_most(value, 1.0), ends)


def _other(part: Lanes, upper: bool) -> Lanes:
    """Q, or P from it."""
    return part if upper else 1.0 - part


def _factor(scalar: str, a: Lanes, x: Lanes) -> Lanes:
    """x^a·e^−x/Γ(a + 1) of positive numbers."""
    large = a >= 8.0
    big, y = where(large, a, 8.0), where(large, x, 8.0)
    logarithm = log_less(y / big, (y - big) / big)
    first = exponential.exp(fma(big, logarithm, -gamma.correction(scalar, big)))
    first = first / sqrt(big * TWO_PI)
    little, y = where(large, 1.0, a), at_most(x, 1000.0)
    log_gamma = outlined(
        f"log_gamma.{scalar}", lambda _, a: gamma.log_gamma(scalar, a), little + 1.0
    )
    if scalar == "float":
        second = exponential.exp(little * log(y) - y - log_gamma)
    else:
        half = exponential.exp(y * -0.5)  # e^−x may be 0 where the product is not
        power = outlined("power", lambda _, x, y: powers.pow(x, y), y, little)
        second = (power * half) * (half * exponential.exp(-log_gamma))
    return where(large, first, second)


def _sum(scalar: str, lanes: Lanes, a: Lanes, x: Lanes) -> Lanes:
    """Σ xⁿ/((a + 1)…(a + n))."""
    one = a.like(1.0)
    least = EPSILON[scalar]

    def step(n: Lanes, term: Lanes, total: Lanes) -> tuple[list[Lanes], Lanes]:
        term = term * (x / (a + n))
        more = (term > total * least) & (n < _MOST_TERMS)
        return [n + 1.0, term, total + term], more

    return repeat(lanes, [one, one, one], step)[2]


def _fraction(scalar: str, lanes: Lanes, a: Lanes, x: Lanes) -> Lanes:
    """Q·Γ(a)/(x^a·e^−x), by Lentz' method in its modified form."""
    b = x + 1.0 - a
    d = 1.0 / b
    least = EPSILON[scalar] * 16

    def step(n: Lanes, b: Lanes, c: Lanes, d: Lanes, y: Lanes) -> tuple[list[Lanes], Lanes]:
        b = b + 2.0
        over = n * (a - n)
        c = b + over / c
        d = 1.0 / fma(over, d, b)
        change = c * d
        more = (fabs(change - 1.0) > least) & (n < _MOST_TERMS)
        return [n + 1.0, b, c, d, y * change], more

    return repeat(lanes, [a.like(1.0), b, a.like(INF), d, d], step)[4]


def _temme(scalar: str, lanes: Lanes, a: Lanes, mu: Lanes, upper: bool) -> Lanes:
    """P or Q is ½·erfc(∓η·√(a/2)) ∓ R, with ½η² = μ − log(1 + μ)."""
    near = where(lanes, mu, 0.0)
    exponent = log_less(near + 1.0, near)
    eta = copysign(sqrt(exponent * -2.0), near)
    inverse = 1.0 / a
    values = [polynomial(eta, table) for table in _TEMME[scalar]]
    total = values[-1]
    for value in reversed(values[:-1]):
        total = fma(total, inverse, value)
    rest = exponential.exp(exponent * a) / sqrt(a * TWO_PI) * total
    z = eta * sqrt(a * 0.5)
    normal = outlined("erfc", lambda _, z: error.erfc(z), z if upper else -z) * 0.5
    return normal + rest if upper else normal - rest


def _is_far_from_1(a: Lanes, x: Lanes) -> Lanes:
    """Where P is not below about ¾, so that Q = 1 − P would cancel; x is small there."""
    threshold = where(x <= 0.5, -0.4 / log(at_most(x, 0.5)), x * 1.1)
    return (x <= _SMALL_X) & (threshold >= a)


def _upper_small(scalar: str, lanes: Lanes, a: Lanes, x: Lanes) -> Lanes:
    """1 − x^a/Γ(a + 1) − x^a/Γ(a)·Σ (−x)ⁿ/(n!·(a + n)), n from 1; a and x up to about 1."""
    little, y = where(lanes, a, 0.5), where(lanes, x, 0.5)
    exponent = fma(little, log(y), -gamma.log_gamma_1p(scalar, little))
    least = EPSILON[scalar]

    def step(n: Lanes, term: Lanes, total: Lanes) -> tuple[list[Lanes], Lanes]:
        term = term * (-y / n)
        return [n + 1.0, term, total + term / (little + n)], fabs(term) > least

    zero = a.like(0.0)
    total = repeat(lanes, [a.like(1.0), a.like(1.0), zero], step)[2]
    power = exponential.expm1(exponent)  # x^a/Γ(a + 1) − 1
    return -power - fma(power, little, little) * total
