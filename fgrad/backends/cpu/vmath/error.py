"""The error function and its complement.

The complement is e^(−x²)·P(t)/(1 + 2x), with t = (x − k)/(x + k) and P a polynomial, which holds
from x = 0 to where it vanishes (Shepherd and Laframboise, *Chebyshev approximation of
(1 + 2x)·exp(x²)·erfc x*, Mathematics of Computation 36, 1981; the fits are our own).
"""

from fgrad.backends.cpu.vmath.exponential import divided, reduce, scale
from fgrad.backends.cpu.vmath.formats import power_of_two
from fgrad.backends.cpu.vmath.lanes import (
    Lanes,
    at_most,
    copysign,
    fabs,
    fma,
    polynomial,
    where,
)

# erf x/x − 1 in x², up to the bound: relative errors of erf 2^-34, 2^-63
_ERF_SMALL_BOUND = {"float": 0.8, "double": 1.0}
_ERF_SMALL = {
    "float": (
        0.12837916612625122, -0.37612637877464294, 0.11283766478300095, -0.0268638227134943,
        0.005213458091020584, -0.0008303339127451181, 9.148906246991828e-05,
    ),
    "double": (
        0.1283791670955126, -0.3761263890318375, 0.11283791670954856, -0.02686617064507263,
        0.005223977624778148, -0.000854832697857902, 0.00012055331030706746,
        -1.4925593352578251e-05, 1.646097025815859e-06, -1.6349997258016834e-07,
        1.465768642517952e-08, -1.1364898876634418e-09, 5.943932986370282e-11,
    ),
}  # fmt: skip
# −log(erfc x)/x from there to where erf rounds to 1: relative errors of erf 2^-31, 2^-62
_ERF_LARGE = {
    "float": (
        1.1284912824630737, 0.6359159350395203, 0.10467718541622162, -0.022034794092178345,
        0.0025216888170689344, 0.00010302359441993758, -7.644424476893619e-05,
        7.544024811068084e-06,
    ),
    "double": (
        1.1283792020713161, 0.6366193551251488, 0.10277494281561798, -0.019136647731707333,
        -0.00018903516582023774, 0.0016592616301805304, -0.0005377710962797968,
        -3.280549812067733e-05, 0.00011720447653554285, -6.78414613213392e-05,
        2.547237758875628e-05, -7.154784102752846e-06, 1.5614678114347553e-06,
        -2.659667366092442e-07, 3.4850774641512333e-08, -3.400808143954541e-09,
        2.3296644794701147e-10, -9.997255901757832e-12, 2.0215211547267357e-13,
    ),
}  # fmt: skip
_ERF_BOUND = {"float": 4.0, "double": 6.0}

# (1 + 2x)·exp(x²)·erfc x in (x − k)/(x + k), for 0.45 ≤ x ≤ bound, where erfc rounds to 0:
# relative errors 2^-27, 2^-57
_ERFC = {
    "float": (
        1.2769783735275269, -0.09276376664638519, -0.16603098809719086, 0.16404908895492554,
        -0.054208654910326004, -0.008010249584913254, 0.008646565489470959,
        0.0011670830426737666, -0.001246852451004088, -0.00025500901392661035,
    ),
    "double": (
        1.2375126308378275, -0.14024059858554694, 0.0035854154854661198, 0.08227673849014185,
        -0.10880393014187173, 0.09230432116056868, -0.058693398586206216, 0.028362277414703266,
        -0.009746579606615938, 0.001755625901139727, 0.0002937140641051146,
        -0.00029015439629742433, 5.164706964638793e-05, 2.238550644095152e-05,
        -1.1437517162312528e-05, -9.767479551159483e-07, 1.7376850805647082e-06,
        -5.2253529482599276e-08, -2.402514722199561e-07, 1.874532370444835e-08,
        2.4554752628231252e-08, -1.6694424560727239e-09,
    ),
}  # fmt: skip
_ERFC_CENTRE = {"float": 2.0, "double": 3.75}
_ERFC_BOUND = {"float": 10.2, "double": 27.3}


def _erf_small(x: Lanes) -> Lanes:
    """Of |x| up to the bound."""
    return fma(x, polynomial(x * x, _ERF_SMALL[x.scalar]), x)


def erf(x: Lanes) -> Lanes:
    """The error function."""
    size = fabs(x)
    z = at_most(size, _ERF_BOUND[x.scalar])
    n, p = reduce(-(z * polynomial(z, _ERF_LARGE[x.scalar])))
    factor = power_of_two(n, x.scalar)
    large = copysign(1.0 - fma(p, factor, factor), x)
    # NaN takes the second way, which keeps it.
    return where(size > _ERF_SMALL_BOUND[x.scalar], large, _erf_small(x))


def erfc(x: Lanes) -> Lanes:
    """The complementary error function, 1 − erf x."""
    size = fabs(x)
    z = at_most(size, _ERFC_BOUND[x.scalar])
    centre = _ERFC_CENTRE[x.scalar]
    t = (z - centre) / (z + centre)
    below = fma(z, 2.0, 1.0)
    ratio = polynomial(t, _ERFC[x.scalar]) / below
    # e^(−x²) of the rounded square, less what the rounding lost, and what that of 1 + 2x lost,
    # relative to it. P is near 1/0.85 where this counts.
    square = z * z
    lost = fma(fma(z, 2.0, 1.0 - below), ratio * 0.85, fma(z, z, -square))
    n, integer, p = divided(-square)
    power = fma(p + 1.0, -lost, p) + 1.0
    tail = scale(power * ratio, n, integer)
    large = where(x < 0.0, 2.0 - tail, tail)
    return where(size > 0.5, large, 1.0 - _erf_small(x))
