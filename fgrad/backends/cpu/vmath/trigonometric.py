"""sin, cos and tan.

x = n·π/2 + r with |r| ≤ π/4. Up to a bound π/2 is subtracted in three parts with fused
multiply-adds (Cody and Waite, 1980): the first difference is exact. Beyond it, `pi_remainder`.
"""

from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.formats import nearest_integer
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    Lanes,
    fabs,
    fma,
    polynomial,
    where,
)
from fgrad.backends.cpu.vmath.pi_remainder import pi_remainder

TWO_OVER_PI = 0.6366197723675814
# π/2 in three parts
_HALF_PI = {
    "float": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    "double": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# Below, three parts leave the remainder right to its last bit.
_LIMIT = {"float": 2.0**19, "double": 2.0**30}

# (sin r − r)/r³ and (cos r − 1 + r²/2)/r⁴ in r²: relative errors 2^-36, 2^-41; 2^-67, 2^-62
_SIN = {
    "float": (
        -0.1666666716337204, 0.008333331905305386, -0.00019839835294988006, 2.7220737592870137e-06,
    ),
    "double": (
        -0.16666666666666666, 0.00833333333333333, -0.0001984126984126089, 2.7557319216574003e-06,
        -2.5052105407750794e-08, 1.605841754699037e-10, -7.580739642228314e-13,
    ),
}  # fmt: skip
_COS = {
    "float": (
        0.0416666679084301, -0.0013888886896893382, 2.4800217943266034e-05, -2.725898582411901e-07,
    ),
    "double": (
        0.041666666666666664, -0.0013888888888885197, 2.4801587295904862e-05,
        -2.7557316054498163e-07, 2.0875934129762388e-09, -1.1369561614982143e-11,
    ),
}  # fmt: skip


class Angle:
    """What is left of an angle: n·π/2 + high + low, n modulo 4."""

    __slots__ = ("high", "low", "n")

    def __init__(self, n: Lanes, high: Lanes, low: Lanes | None) -> None:
        self.n, self.high, self.low = n, high, low


def _reduce(x: Lanes) -> Angle:
    first, second, third = _HALF_PI[x.scalar]
    n, integer = nearest_integer(x, TWO_OVER_PI)
    exact = fma(n, -first, x)
    if x.scalar == "float":
        r = fma(n, -third, fma(n, -second, exact))
        parts = [integer, r]
    else:
        # The product with the second part and its error, and what the difference loses
        product = n * second
        error = fma(n, second, -product)
        r = exact - product
        part = r - exact
        lost = (exact - (r - part)) - (product + part)
        parts = [integer, r, lost - fma(n, third, error)]
    size = fabs(x)
    huge = (size >= _LIMIT[x.scalar]) & (size < INF)
    parts = unlikely(huge, parts, lambda: _reduce_huge(x, huge))
    return Angle(parts[0], parts[1], parts[2] if len(parts) == 3 else None)


def _reduce_huge(x: Lanes, huge: Lanes) -> list[Lanes]:
    safe = where(huge, x, _LIMIT[x.scalar])
    if x.scalar == "double":
        return list(pi_remainder(safe))
    n, high, _ = pi_remainder(safe.double())
    return [n.narrow(), high.single()]


def _sin_kernel(angle: Angle, square: Lanes) -> Lanes:
    """sin(high + low) for |high| ≤ π/4: sin high + low·cos high."""
    r = angle.high
    tail = polynomial(square, _SIN[r.scalar]) * square
    if angle.low is None:
        return fma(tail, r, r)
    return fma(tail, r, fma(square * -0.5, angle.low, angle.low)) + r


def _cos_kernel(angle: Angle, square: Lanes) -> Lanes:
    """cos(high + low) for |high| ≤ π/4: cos high − low·sin high."""
    r = angle.high
    tail = polynomial(square, _COS[r.scalar]) * square
    if angle.low is None:
        return fma(tail, square, fma(square, -0.5, 1.0))
    half = square * 0.5
    head = 1.0 - half
    return head + (((1.0 - head) - half) + fma(tail, square, -(r * angle.low)))


def _circle(x: Lanes, quarters: int) -> Lanes:
    """sin(x + quarters·π/2)."""
    angle = _reduce(x)
    square = angle.high * angle.high
    n = angle.n + quarters if quarters else angle.n
    y = where(n.odd(), _cos_kernel(angle, square), _sin_kernel(angle, square))
    sign = (n & 2) << (30 if x.scalar == "float" else 62)
    return (y.bits() ^ sign).as_float()


def sin(x: Lanes) -> Lanes:
    """Sine of radians."""
    return where(x.eq(0.0), x, _circle(x, 0))


def cos(x: Lanes) -> Lanes:
    """Cosine of radians."""
    return _circle(x, 1)


def tan(x: Lanes) -> Lanes:
    """Tangent of radians."""
    angle = _reduce(x)
    square = angle.high * angle.high
    s, c = _sin_kernel(angle, square), _cos_kernel(angle, square)
    odd = angle.n.odd()
    y = where(odd, -c, s) / where(odd, s, c)
    return where(x.eq(0.0), x, y)
