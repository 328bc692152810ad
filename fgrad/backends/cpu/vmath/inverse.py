"""asin, acos, atan and atan2."""

from fgrad.backends.cpu.vmath.lanes import (
    INF,
    Lanes,
    copysign,
    fabs,
    fma,
    polynomial,
    sqrt,
    where,
)

# π/4, π/2 and π, and what they lack
_QUARTER_PI = {
    "float": (0.7853981852531433, -2.1855694143368964e-08),
    "double": (0.7853981633974483, 3.061616997868383e-17),
}
# (asin x − x)/x³ in x² for |x| ≤ ½: relative errors of asin 2^-31, 2^-59
_ASIN = {
    "float": (
        0.1666666716337204, 0.0750018060207367, 0.04456920921802521, 0.03143313527107239,
        0.015673331916332245, 0.035987209528684616,
    ),
    "double": (
        0.16666666666666666, 0.07499999999993745, 0.04464285715489118, 0.03038194356038372,
        0.022372193344895597, 0.017351962253121682, 0.013977037916919897, 0.01142679647682727,
        0.010639448348939633, 0.004185463396409141, 0.020658061953678065, -0.019663125802415842,
        0.03187794171616449,
    ),
}  # fmt: skip
# (atan x − x)/x³ in x² for |x| ≤ tan(π/8): relative errors of atan 2^-29, 2^-58
_ATAN = {
    "float": (
        -0.3333333432674408, 0.19999359548091888, -0.14257453382015228, 0.10681622475385666,
        -0.06272130459547043,
    ),
    "double": (
        -0.3333333333333333, 0.1999999999998752, -0.14285714283155684, 0.11111110911928793,
        -0.09090900974964153, 0.07692110197010008, -0.06663601604032808, 0.058510676528646235,
        -0.0505190502102974, 0.03834675600569967, -0.018180029428284148,
    ),
}  # fmt: skip
_TAN_EIGHTH_PI = 0.41421356237309503
# Beyond, the sum of two numbers may overflow.
_LARGE = {"float": 2.0**126, "double": 2.0**1022}


def _asin(x: Lanes) -> tuple[Lanes, Lanes]:
    """Whether |x| ≤ ½, and asin|x| if so, else asin √((1 − |x|)/2) = acos(|x|)/2."""
    size = fabs(x)
    small = size <= 0.5
    square = where(small, size * size, fma(size, -0.5, 0.5))
    root = where(small, size, sqrt(square))
    return small, fma(polynomial(square, _ASIN[x.scalar]) * square, root, root)


def asin(x: Lanes) -> Lanes:
    """Arc sine; NaN beyond [−1, 1]."""
    high, low = _QUARTER_PI[x.scalar]
    small, y = _asin(x)
    return copysign(where(small, y, fma(y, -2.0, 2.0 * low) + 2.0 * high), x)


def acos(x: Lanes) -> Lanes:
    """Arc cosine; NaN beyond [−1, 1]."""
    high, low = _QUARTER_PI[x.scalar]
    small, y = _asin(x)
    middle = (2.0 * low - copysign(y, x)) + 2.0 * high
    double = y * 2.0
    left = (4.0 * low - double) + 4.0 * high
    return where(small, middle, where(x < 0.0, left, double))


def _arc(y: Lanes, x: Lanes, turned: Lanes | None) -> Lanes:
    """The angle of a point (x, y) with both ≥ 0, taken from π where `turned`.

    t = least/greatest, and (t − 1)/(t + 1) beyond tan(π/8); then the angle is a multiple of π/4
    plus or minus atan t.
    """
    steep = y > x
    least, most = where(steep, x, y), where(steep, y, x)
    both = least.eq(INF) & most.eq(INF)
    least, most = where(both, 1.0, least), where(both, 1.0, most)
    down = where(most > _LARGE[x.scalar], most.like(0.25), 1.0)
    least, most = least * down, most * down
    diagonal = least > most * _TAN_EIGHTH_PI
    t = where(diagonal, least - most, least) / where(diagonal, least + most, most)
    t = where(most.eq(0.0), least, t)
    square = t * t
    arc = fma(polynomial(square, _ATAN[x.scalar]) * square, t, t)
    quarters = where(diagonal, x.like(1.0), 0.0)
    quarters, arc = where(steep, 2.0 - quarters, quarters), where(steep, -arc, arc)
    if turned is not None:
        quarters, arc = where(turned, 4.0 - quarters, quarters), where(turned, -arc, arc)
    high, low = _QUARTER_PI[x.scalar]
    return fma(quarters, high, fma(quarters, low, arc))


def atan(x: Lanes) -> Lanes:
    """Arc tangent."""
    return copysign(_arc(fabs(x), x.like(1.0), None), x)


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y), from −π to π; signs of zeros and infinities as in C."""
    return copysign(_arc(fabs(y), fabs(x), x.bits() < 0), y)
