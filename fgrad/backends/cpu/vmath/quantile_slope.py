"""How the quantile of the incomplete gamma function moves with the shape parameter, of doubles.

The derivation is that of `lax.incomplete_gamma`: the sum and the continued fraction, each derived
in the parameter term by term, and an expansion for large parameters. Loops run until each lane has
converged.
"""

from fgrad.backends.cpu.vmath import exponential, gamma
from fgrad.backends.cpu.vmath.branches import repeat, unlikely
from fgrad.backends.cpu.vmath.incomplete_gamma import EPSILON
from fgrad.backends.cpu.vmath.lanes import INF, NAN, Lanes, at_least, fabs, fma, sqrt, where
from fgrad.backends.cpu.vmath.outlined import outlined

# Parameters above are served by the expansion near the mean: relative errors 2^-30, 2^-40
_LARGE = {"float": 3e4, "double": 1e6}
_MOST_TERMS = 30_000.0  # more than any loop needs: the longest sums take 9·√a or 512·37
_STEPS = 8  # of the fixed point of the expansion


def gamma_quantile_slope(a: Lanes, log_x: Lanes) -> Lanes:
    """The derivative of log x in a at a fixed P(a, x); NaN unless 0 < a < ∞, and 0 at x = ∞."""
    return outlined("gamma_quantile_slope", _slope, a, log_x)


def _slope(scalar: str, a: Lanes, log_x: Lanes) -> Lanes:
    valid = (a > 0.0) & (a < INF) & log_x.eq(log_x)
    x = exponential.exp(log_x)
    finite = valid & (x < INF)
    # Far from the mean the sums converge fast, and the expansion does not hold.
    near = fabs(x - a) < at_least(sqrt(a) * 40.0, a * (1 / 512))
    large = finite & (a > _LARGE[scalar]) & near
    below = x <= a + 1.0
    low, high = finite & ~large & below, ~(large | below) & finite
    value = where(valid, a.like(0.0), NAN)
    p = where(finite, a, 1.0)
    [value] = unlikely(low, [value], lambda: [_by_sum(scalar, low, p, x, log_x)])
    [value] = unlikely(high, [value], lambda: [_by_fraction(scalar, high, p, x, log_x)])
    [value] = unlikely(large, [value], lambda: [_by_expansion(p, x)])
    return value


def _digamma(scalar: str, x: Lanes) -> Lanes:
    return outlined(f"digamma.{scalar}", lambda _, x: gamma.psi(scalar, x), x)


def _by_sum(scalar: str, lanes: Lanes, a: Lanes, x: Lanes, log_x: Lanes) -> Lanes:
    least = EPSILON[scalar] / 4
    one, zero = a.like(1.0), a.like(0.0)

    def step(
        n: Lanes, term: Lanes, total: Lanes, slope: Lanes, slopes: Lanes
    ) -> tuple[list[Lanes], Lanes]:
        inverse = 1.0 / (a + n)
        ratio = x * inverse
        term = term * ratio
        slope = fma(slope, ratio, -(term * inverse))
        total, slopes = total + term, slopes + slope
        more = (term > total * least) | (-slope > total * least)
        return [n + 1.0, term, total, slope, slopes], more & (n < _MOST_TERMS)

    _, _, total, _, slopes = repeat(lanes, [one, one, one, zero, zero], step)
    return -(fma(total, log_x - _digamma(scalar, a + 1.0), slopes) / a)


def _by_fraction(scalar: str, lanes: Lanes, a: Lanes, x: Lanes, log_x: Lanes) -> Lanes:
    """Lentz' method; c and d are the ratios of neighbouring numerators and denominators."""
    b = x + 1.0 - a
    d = 1.0 / b
    least = EPSILON[scalar] * 16

    def step(
        n: Lanes, b: Lanes, c: Lanes, c_slope: Lanes, d: Lanes, d_slope: Lanes, total: Lanes,
        slopes: Lanes,
    ) -> tuple[list[Lanes], Lanes]:  # fmt: skip
        b = b + 2.0
        over = n * (a - n)
        inverse = 1.0 / c
        c_slope = n * inverse - 1.0 - (over * c_slope * inverse) * inverse
        c = fma(over, inverse, b)
        d_slope = n * d + over * d_slope - 1.0
        d = 1.0 / fma(over, d, b)
        d_slope = -d_slope * d * d
        change, change_slope = c * d, c_slope * d + c * d_slope
        slopes = slopes * change + total * change_slope
        total = total * change
        more = (fabs(change - 1.0) > least) | (fabs(total * change_slope) > fabs(slopes) * least)
        state = [n + 1.0, b, c, c_slope, d, d_slope, total, slopes]
        return state, more & (n < _MOST_TERMS)

    start = [a.like(1.0), b, a.like(INF), a.like(0.0), d, d * d, d, d * d]
    *_, total, slopes = repeat(lanes, start, step)
    return fma(total, log_x - _digamma(scalar, a), slopes)


def _by_expansion(a: Lanes, x: Lanes) -> Lanes:
    """From the quantile in powers of 1/√a: w is the normal quantile of P(a, x)."""
    s = sqrt(a)
    z = (x - a) / s
    w = z
    for _ in range(_STEPS):
        w = z - _beyond_normal(a, s, w) / s
    w2 = w * w
    moved = w / (s * 2.0) + 1.0 - (w2 - 7.0) * w / (s * a * 72.0)
    return (moved + _quartic(w2) / (a * a * 810.0)) / x


def _beyond_normal(a: Lanes, s: Lanes, w: Lanes) -> Lanes:
    w2 = w * w
    return (w2 - 1.0) / 3.0 + (w2 - 7.0) * w / (s * 36.0) - _quartic(w2) / (a * 810.0)


def _quartic(w2: Lanes) -> Lanes:
    """3w⁴ + 7w² − 16."""
    return fma(fma(w2, 3.0, 7.0), w2, -16.0)
