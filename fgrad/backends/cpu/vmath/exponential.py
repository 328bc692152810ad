"""exp, exp2, expm1 and the hyperbolic functions.

All write x = n·ln 2 + r with |r| ≤ ½ ln 2 (Cody and Waite, *Software Manual for the Elementary
Functions*, 1980): n·ln 2 is subtracted in two parts with fused multiply-adds, so r is rounded
once. Then e^x = 2^n·(1 + p) with p = e^r − 1 = r + r²·P(r), P the minimax polynomial.
"""

from fgrad.backends.cpu.vmath.formats import (
    format_of,
    nearest_integer,
    power_of_two,
    shifter_bits,
)
from fgrad.backends.cpu.vmath.lanes import (
    Lanes,
    at_least,
    at_most,
    copysign,
    fabs,
    fma,
    polynomial,
    scalef,
    where,
)

LOG2_E = 1.4426950408889634

# (e^r − 1 − r)/r² on |r| ≤ ½ ln 2: relative error of e^r 2^-28 and 2^-64.
_EXP = {
    "float": (
        0.4999999403953552, 0.1666651964187622, 0.04166839271783829, 0.008368748240172863,
        0.001381452428176999,
    ),
    "double": (
        0.5, 0.16666666666666682, 0.04166666666666609, 0.008333333333316982,
        0.0013888888889116511, 0.0001984126989651812, 2.480158692550006e-05,
        2.7557234724217493e-06, 2.7557582426597864e-07, 2.5112085902708007e-08,
        2.082654712835663e-09,
    ),
}  # fmt: skip


def expm1_of_remainder(r: Lanes) -> Lanes:
    """e^r − 1 for |r| ≤ ½ ln 2."""
    return fma(r * r, polynomial(r, _EXP[r.scalar]), r)


def divided(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """The n of x = n·ln 2 + r, as `nearest_integer` gives it, and e^r − 1."""
    high, low = format_of(x).ln2
    n, integer = nearest_integer(x, LOG2_E)
    r = fma(n, -low, fma(n, -high, x))
    return n, integer, expm1_of_remainder(r)


def reduce(x: Lanes) -> tuple[Lanes, Lanes]:
    """The integer n, and e^r − 1, of x = n·ln 2 + r."""
    _, integer, p = divided(x)
    return integer - shifter_bits(x), p


def scale(y: Lanes, n: Lanes, integer: Lanes) -> Lanes:
    """The product y·2^n, rounded once, also where 2^n is no normal number.

    Args:
        y: The factor.
        n: The exponent as `nearest_integer` gives it, as a float.
        integer: The same, as an integer.
    """
    if y.scalar == "float" and y.builder.width == 16:  # AVX-512 has an instruction for it
        return scalef(y, n)
    whole = integer - shifter_bits(y)
    half = whole >> 1
    return y * power_of_two(half, y.scalar) * power_of_two(whole - half, y.scalar)


# Beyond these bounds the results are 0 and inf.
_EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
_EXP2_RANGE = {"float": (-151.0, 128.0), "double": (-1076.0, 1024.0)}


def exp(x: Lanes) -> Lanes:
    """e^x."""
    low, high = _EXP_RANGE[x.scalar]
    n, integer, p = divided(at_most(at_least(x, low), high))
    return scale(p + 1.0, n, integer)


def exp2(x: Lanes) -> Lanes:
    """2^x."""
    low, high = _EXP2_RANGE[x.scalar]
    x = at_most(at_least(x, low), high)
    n, integer = nearest_integer(x, 1.0)
    p = expm1_of_remainder((x - n) * format_of(x).ln2[0])
    return scale(p + 1.0, n, integer)


# Beyond these bounds expm1 is −1 and inf; the upper ones leave 2^(n − 1) finite.
_EXPM1_RANGE = {"float": (-20.0, 89.0), "double": (-40.0, 710.0)}
# Here the next term of the series of expm1, sinh and tanh is below half an ulp.
TINY = {"float": 2.0**-25, "double": 2.0**-54}


def expm1(x: Lanes) -> Lanes:
    """e^x − 1 = 2·(2^(n − 1)·p + (2^(n − 1) − ½))."""
    low, high = _EXPM1_RANGE[x.scalar]
    n, p = reduce(at_most(at_least(x, low), high))
    half = power_of_two(n, x.scalar, -1)
    y = fma(p, half, half - 0.5) * 2.0
    return where(fabs(x) < TINY[x.scalar], x, y)


# sinh and cosh overflow a little below. n is the largest exponent plus 2 here and p is positive,
# so a quarter of e^x is finite, and twice the half of it is inf.
_HYPERBOLIC_MOST = {"float": 89.6, "double": 710.6}


def sinh(x: Lanes) -> Lanes:
    """E/2 + E/(2(E + 1)) of E = e^|x| − 1, from a quarter of E, which does not overflow."""
    size = fabs(x)
    n, p = reduce(at_most(size, _HYPERBOLIC_MOST[x.scalar]))
    factor = power_of_two(n, x.scalar, -2)
    quarter = fma(p, factor, factor - 0.25)
    y = (quarter + quarter / fma(quarter, 4.0, 1.0)) * 2.0
    return where(size < TINY[x.scalar], x, copysign(y, x))


def cosh(x: Lanes) -> Lanes:
    """e^|x|/2 + e^−|x|/2, from a quarter of e^|x|, which does not overflow."""
    n, p = reduce(at_most(fabs(x), _HYPERBOLIC_MOST[x.scalar]))
    factor = power_of_two(n, x.scalar, -2)
    quarter = fma(p, factor, factor)
    return (quarter + 0.0625 / quarter) * 2.0


# Beyond these bounds tanh rounds to 1.
_TANH_MOST = {"float": 10.0, "double": 20.0}


# ((e^2h − 1)/2 − h)/h² for |h| ≤ ¼ ln 2: relative error of e^2h − 1 2^-25
_TANH_FLOAT = (
    1.0,
    0.6666629314422607,
    0.3333323895931244,
    0.13382038474082947,
    0.044566165655851364,
)


def tanh(x: Lanes) -> Lanes:
    """E/(E + 2) of E = e^2|x| − 1.

    In float64 the rounding error of E + 2 is δ, the quotient y, and what is left −y·δ/(E + 2) =
    −y·δ·(1 − y)/2.
    """
    size = at_most(fabs(x), _TANH_MOST[x.scalar])
    if x.scalar == "float":
        return copysign(_tanh_float(size), x)
    n, p = reduce(size * 2.0)
    factor = power_of_two(n, x.scalar)
    e = fma(p, factor, factor - 1.0)
    total = e + 2.0
    y = e / total
    lost = where(e < 2.0, e - (total - 2.0), 0.0)
    return copysign(fma(y * lost, fma(y, 0.5, -0.5), y), x)


def _tanh_float(x: Lanes) -> Lanes:
    """The same of 0 ≤ x ≤ 10, from E/2 = 2^n·p + (2^n − 1)/2 with 2p = e^2h − 1, x = n·½ ln 2 + h.

    The shifter holds the bias, so its low bits are those of the exponent. ½ ln 2 has one part:
    where n is not small, 1 is all that is left of the result.
    """
    form = format_of(x)
    shifter = form.shifter + form.bias
    shifted = fma(x, 2 * LOG2_E, shifter)
    factor = (shifted.bits() << form.mantissa).as_float()
    h = fma(shifted - shifter, -form.ln2[0] / 2, x)
    p = fma(h * h, polynomial(h, _TANH_FLOAT), h)
    half = fma(p, factor, fma(factor, 0.5, -0.5))
    return half / (half + 1.0)
