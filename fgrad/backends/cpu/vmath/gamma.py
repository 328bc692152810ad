"""log |Γ| and its derivative, of doubles; `scalar` says to which precision.

Both reduce the argument to where a polynomial holds by the recurrence of Γ, take the asymptotic
series from 8 on, and reflect negative numbers (NIST, *Digital Library of Mathematical Functions*,
5.5 and 5.11; the fits are our own).
"""

from fgrad.backends.cpu.vmath.branches import unlikely
from fgrad.backends.cpu.vmath.lanes import (
    INF,
    NAN,
    Lanes,
    at_most,
    fabs,
    polynomial,
    trunc,
    where,
)
from fgrad.backends.cpu.vmath.logarithm import log
from fgrad.backends.cpu.vmath.outlined import outlined

_LARGE = 8.0
# log Γ(1 + t)/t for −¼ ≤ t ≤ 0.6, and log Γ(2 + t)/t for |t| ≤ ½: relative errors 2^-30, 2^-60 and
# 2^-31, 2^-61
_AT_1 = {
    "float": (
        -0.5772156647868205, 0.822467024427013, -0.4006856759568514, 0.27058231765535473,
        -0.2073852101155755, 0.1694878470752803, -0.143914444701376, 0.12655704779565793,
        -0.11544220581730932, 0.09968958539735083, -0.06363792046837717, 0.0198849539337914,
    ),
    "double": (
        -0.5772156649015329, 0.8224670334241132, -0.400685634386531, 0.2705808084277918,
        -0.2073855510288265, 0.1695571769963446, -0.14404989674759544, 0.12550966957309043,
        -0.111334267346738, 0.10009945835769173, -0.09095396255866191, 0.08335369372264055,
        -0.07693351447680319, 0.07143809093946098, -0.06666434197222862, 0.06242314429516707,
        -0.05869181762931239, 0.05593996752480842, -0.05449398963991081, 0.05213811852715105,
        -0.04382629274104264, 0.027957272430268576, -0.011400135662431326, 0.002172405539155713,
    ),
}  # fmt: skip
_AT_2 = {
    "float": (
        0.4227843350004583, 0.3224670334689425, -0.0673522814721006, 0.020580799471518252,
        -0.007386174155633413, 0.002890795321559696, -0.0011858600344983208, 0.0005065171429518161,
        -0.0002538170956727826, 0.00011347281994554691,
    ),
    "double": (
        0.42278433509846713, 0.3224670334241132, -0.06735230105319814, 0.02058080842778457,
        -0.0073855510286681535, 0.002890510330738737, -0.0011927539120010226, 0.0005096695248853096,
        -0.00022315475074520367, 9.945750909889392e-05, -4.4926351103833334e-05,
        2.050726741605779e-05, -9.438458716242811e-06, 4.374374916915131e-06,
        -2.0449201467015115e-06, 9.578663334114758e-07, -4.303558760359961e-07,
        2.0304806751615227e-07, -1.3412819758517287e-07, 6.379047507619774e-08,
    ),
}  # fmt: skip
# x·(log Γ(x) − (x − ½)·(log x − 1) − ½·(log 2π − 1)) in 1/x², x ≥ 8: errors 2^-37, 2^-67
STIRLING = {
    "float": (
        0.08333333333296741, -0.0027777770275731234, 0.0007934093294071784, -0.0005701470164647203,
    ),
    "double": (
        0.08333333333333333, -0.0027777777777777744, 0.0007936507936450394, -0.0005952380914267929,
        0.000841749570829054, -0.001917287055870562, 0.006383322059276921, -0.027742741357277903,
        0.11001554697563673,
    ),
}  # fmt: skip
_HALF_LOG_2PI_LESS_HALF = 0.4189385332046727
# ψ(x)/(x − x₀) for 1 ≤ x ≤ 8, x₀ its zero: a quotient of polynomials; errors 2^-27, 2^-61
_ZERO = (1.4616321449683622, 9.549995429965697e-17)
_DIGAMMA = {
    "float": (
        (
            1548.2764509817275, 4067.266634747002, 2228.0050341048673, 319.88689886422105,
            9.957917624816355, 0.013602694186308242,
        ),
        (
            1.0, 2256.0957185500947, 3115.3641856708514, 1061.8193099999944, 100.45654376096755,
            2.001670184289633,
        ),
    ),
    "double": (
        (
            6508018873.091115, 23501080212.822105, 27492052223.32074, 14786871359.880428,
            4120169288.4617677, 615733313.4050395, 48511834.34306048, 1882320.614971127,
            31042.544160389338, 154.3244493130008, 0.03753243135995311,
        ),
        (
            1.0, 9512329573.79523, 22351249823.9716, 19427850306.090805, 8238826045.3057,
            1865194140.8467655, 229811001.76234862, 14989156.658306053, 478512.93477935344,
            6348.18767672359, 23.654316563413097,
        ),
    ),
}  # fmt: skip
# x²·(log x − 1/2x − ψ(x)) in 1/x², x ≥ 8: errors 2^-35, 2^-64
_DIGAMMA_LARGE = {
    "float": (
        0.08333333333008877, -0.00833332667975135, 0.00396610969887244, -0.003943137111647384,
    ),
    "double": (
        0.08333333333333333, -0.008333333333333273, 0.003968253968150779, -0.0041666665982644955,
        0.007575734736252119, -0.021088476563015532, 0.08284662584146768, -0.4103919397123186,
        1.7723438848038762,
    ),
}  # fmt: skip
# sin πr/πr in r², |r| ≤ ½: errors 2^-27, 2^-62
_SINE = {
    "float": (
        0.999999995698809, -1.6449332063351194, 0.8117148426658763, -0.19044175272048114,
        0.02471864459807641,
    ),
    "double": (
        1.0, -1.6449340668482264, 0.8117424252833393, -0.19075182412149616, 0.02614784780555096,
        -0.0023460808954639607, 0.0001484278414189103, -6.972099660851199e-06,
        2.4502943624559793e-07,
    ),
}  # fmt: skip


def lgamma(x: Lanes) -> Lanes:
    """Log |Γ(x)|."""
    return outlined("lgamma", log_gamma, x)


def digamma(x: Lanes) -> Lanes:
    """The derivative of log |Γ(x)|."""
    return outlined("digamma", psi, x)


def _remainder(x: Lanes) -> Lanes:
    """What x differs by from the next integer, exactly; NaN of infinity."""
    whole = trunc(x)
    part = x - whole
    return where(part > 0.5, part - 1.0, where(part < -0.5, part + 1.0, part))


def _sine(r: Lanes, scalar: str) -> Lanes:
    """sin(πr)/π for |r| ≤ ½."""
    return r * polynomial(r * r, _SINE[scalar])


def log_gamma(scalar: str, x: Lanes) -> Lanes:
    """Log |Γ(x)| of any x."""
    negative = x < 0.0
    y = _log_gamma_positive(scalar, where(negative, 1.0 - x, x))
    [y] = unlikely(negative, [y], lambda: [_log_gamma_reflected(scalar, x, y)])
    return y


def log_gamma_1p(scalar: str, x: Lanes) -> Lanes:
    """The logarithm of Γ(1 + x), of x ≥ 0, to the last digit where x is small too."""
    small = x < 0.6
    y = x * polynomial(at_most(x, 0.6), _AT_1[scalar])
    [y] = unlikely(~small, [y], lambda: [_log_gamma_positive(scalar, x + 1.0)])
    return y


def _log_gamma_reflected(scalar: str, x: Lanes, y: Lanes) -> Lanes:
    """−log|sin πx / π| − log Γ(1 − x), which is y."""
    r = _remainder(x)
    reflected = -log(fabs(_sine(r, scalar))) - y
    return where(r.eq(0.0) | x.eq(-INF), INF, reflected)


def _log_gamma_positive(scalar: str, x: Lanes) -> Lanes:
    near = at_most(x, _LARGE)
    k = trunc(near + 0.5) - 2.0
    z = near - k - 2.0  # between −½ and ½
    product = where(k < -1.0, near * (near + 1.0), near)
    above = near - 1.0
    for i in range(2, 7):
        above = where(k < float(i), above, above * (near - float(i)))
    at_1 = (x >= 0.75) & (x < 1.6)
    up = k < 0.0
    shift = where(k.eq(0.0), 1.0, where(up, product, above))
    large = x > _LARGE
    logarithm = log(where(large, x, shift))
    t = near - 1.0
    value = where(at_1, t * polynomial(t, _AT_1[scalar]), z * polynomial(z, _AT_2[scalar]))
    small = value + where(at_1, 0.0, where(up, -logarithm, logarithm))
    return where(large, stirling(scalar, x, logarithm), small)


def stirling(scalar: str, x: Lanes, logarithm: Lanes) -> Lanes:
    """Log Γ(x) of x ≥ 8 and its logarithm."""
    rest = correction(scalar, x) + _HALF_LOG_2PI_LESS_HALF
    return (x - 0.5) * (logarithm - 1.0) + rest


def correction(scalar: str, x: Lanes) -> Lanes:
    """What Stirling's formula without its series lacks, for x ≥ 8."""
    inverse = 1.0 / x
    return inverse * polynomial(inverse * inverse, STIRLING[scalar])


def psi(scalar: str, x: Lanes) -> Lanes:
    """The derivative of log |Γ| at any x."""
    negative = x < 0.0
    y = _psi_positive(scalar, where(negative, 1.0 - x, x))
    [y] = unlikely(negative, [y], lambda: [_psi_reflected(scalar, x, y)])
    return y


def _psi_reflected(scalar: str, x: Lanes, y: Lanes) -> Lanes:
    """ψ(1 − x), which is y, less π·cot πx."""
    r = _remainder(x)
    cosine = _sine(0.5 - fabs(r), scalar)
    cotangent = cosine / _sine(r, scalar)
    return where(r.eq(0.0), NAN, y - cotangent * 3.141592653589793)


def _psi_positive(scalar: str, x: Lanes) -> Lanes:
    up, large = x < 1.0, x > _LARGE
    near = at_most(where(up, x + 1.0, x), _LARGE)
    first, second = _ZERO
    above, below = (polynomial(near, table) for table in _DIGAMMA[scalar])
    small = ((near - first) - second) * (above / below)
    small = where(up, small - 1.0 / x, small)
    inverse = 1.0 / x
    square = inverse * inverse
    series = inverse * 0.5 + square * polynomial(square, _DIGAMMA_LARGE[scalar])
    return where(large, log(where(large, x, 1.0)) - series, small)
