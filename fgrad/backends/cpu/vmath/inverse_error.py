"""The inverse of the error function.

With w = −log(1 − x²) it is x times a function of w that is smooth down to x = 0, and near x = ±1 a
function of √w (Giles, *Approximating the erfinv function*, GPU Computing Gems 2, 2011; the fits
are our own).
"""

from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    Lanes,
    copysign,
    fabs,
    polynomial,
    sqrt,
    where,
)
from fgrad.backends.cpu.vmath.logarithm import log

# Up to this w the first form
_BOUND = {"float": 5.0, "double": 6.25}
# erf⁻¹x/x in w − half the bound: relative errors 2^-27, 2^-57
_CENTRE = {
    "float": (
        1.5014094114303589, 0.24664027988910675, -0.004177392926067114, -0.0012527264188975096,
        0.00021834939252585173, -4.972419901605463e-06, -3.4639851946849376e-06,
        4.681313612309168e-07, 2.333596782477798e-08, -8.931926309685423e-09,
    ),
    "double": (
        1.6536545626831027, 0.24015818242558834, -0.006033670871426851, -0.0007407025341546431,
        0.00018673420801981186, -1.3882523393957483e-05, -1.3654691758785656e-06,
        4.23478816822246e-07, -2.907039127564132e-08, -4.1126604371632185e-09,
        1.051223377050429e-09, -5.414303283919504e-11, -1.2978805369932565e-11,
        2.6305268312595183e-12, -8.07192593899004e-14, -4.0020031087558496e-14,
        6.521333511502239e-15, -3.94018812230432e-17, -1.2215637192404172e-16,
        1.5510787009902526e-17, 6.075050702072414e-19, -3.4734793888538036e-19,
        1.999259988861535e-20, 3.194015548136271e-21, -3.5932028927020693e-22,
    ),
}  # fmt: skip
# erf⁻¹x in √w − c, from the bound to the last x below 1; double: up to √w = 4, and beyond.
# Relative errors 2^-28, 2^-58, 2^-56
_TAILS = {
    "float": ((3.0, (
        2.8328020572662354, 1.0026624202728271, 0.006843402050435543, -0.0034451717510819435,
        0.001144741545431316, -0.00022076416644267738, -4.3280662794131786e-05,
        5.6306271289940923e-05, -1.60282233991893e-05,
    )),),
    "double": ((3.25, (
        3.0838457231032423, 1.0055052352452993, 0.0046526098392197035, -0.002445893412134287,
        0.0008560260705800713, -0.00022201675751572843, 2.4145128050471956e-05,
        1.7074768138068895e-05, -1.3807789897571143e-05, 5.082304627043155e-06,
        -4.647307851207943e-07, -6.194098071083156e-07, 3.9751831249615187e-07,
        -9.641082194019798e-08, -1.8071678931836567e-08, 2.5464154864584676e-08,
        -8.742387131937186e-09, -1.0097803881405485e-09, 1.2992726668901058e-09,
    )), (5.0, (
        4.8499064013749065, 1.010300465194305, -0.00013872089842953758, -0.0002150251873836207,
        7.59840119703155e-05, -1.966172731199886e-05, 4.497185937972908e-06, -9.58512084130586e-07,
        1.942114048833057e-07, -3.7540894826812945e-08, 6.762662209234775e-09,
        -1.0054280710763262e-09, 5.2116675490842083e-11, 4.882076132129776e-11,
        -4.3085328901426316e-11, 2.5010431570629708e-11, -6.273055641314201e-12,
    ))),
}  # fmt: skip
_SECOND_TAIL = 4.0


def erf_inv(x: Lanes) -> Lanes:
    """The inverse of erf; ±∞ at ±1, NaN beyond."""
    size, bound = fabs(x), _BOUND[x.scalar]
    w = -log((1.0 - size) * (1.0 + size))
    y = x * polynomial(w - bound / 2, _CENTRE[x.scalar])
    [y] = unlikely(w >= bound, [y], lambda: [copysign(_tail(size, w), x)])
    return y


def _tail(size: Lanes, w: Lanes) -> Lanes:
    root = sqrt(w)
    values = [polynomial(root - centre, table) for centre, table in _TAILS[w.scalar]]
    y = values[0]
    if len(values) > 1:
        y = where(root > _SECOND_TAIL, values[1], y)
    return where(size.eq(1.0), INF, y)
