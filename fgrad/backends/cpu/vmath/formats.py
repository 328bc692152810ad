"""The two binary formats of IEEE 754, as the emitters need them."""

import struct
from typing import NamedTuple

from fgrad.backends.cpu.vmath.lanes import Lanes, Number, fma


class Format(NamedTuple):
    """A binary format.

    Attributes:
        mantissa: Bits of the fraction.
        bias: What the stored exponent exceeds the exponent by.
        shifter: 1.5·2^mantissa. A sum with it has the unit 1: it is rounded to an integer, which
            is then in the low bits.
        smallest: The least normal number.
        ln2: ln 2, and what it lacks.
    """

    mantissa: int
    bias: int
    shifter: float
    smallest: float
    ln2: tuple[float, float]


FORMATS = {
    "float": Format(
        23, 127, 1.5 * 2.0**23, 2.0**-126, (0.6931471824645996, -1.9046542121259336e-09)
    ),
    "double": Format(
        52, 1023, 1.5 * 2.0**52, 2.0**-1022, (0.6931471805599453, 2.3190468138462996e-17)
    ),
}


def format_of(x: Lanes) -> Format:
    """The format of x."""
    return FORMATS[x.scalar]


def nearest_integer(x: Lanes, factor: Number) -> tuple[Lanes, Lanes]:
    """The integer next to x·factor, for |x·factor| < 2^(mantissa-2).

    Returns:
        It as a float, and as an integer plus an even number times 4.
    """
    shifter = format_of(x).shifter
    shifted = fma(x, factor, shifter)
    return shifted - shifter, shifted.bits()


def shifter_bits(x: Lanes) -> int:
    """What the integer of `nearest_integer` is too large by."""
    form = format_of(x)
    return ((form.bias + form.mantissa) << form.mantissa) | (1 << (form.mantissa - 1))


def power_of_two(n: Lanes, scalar: str, offset: int = 0) -> Lanes:
    """2^(n + offset) for an integer n, within the exponents of normal numbers.

    One above the largest gives inf, one below the least gives 0.
    """
    form = FORMATS[scalar]
    return ((n + (form.bias + offset)) << form.mantissa).as_float()


def small_integer(n: Lanes, scalar: str) -> Lanes:
    """An integer of few bits as a float; conversions of 64 bits are slow or missing."""
    shifter = FORMATS[scalar].shifter
    return (n + bits_of(shifter, scalar)).as_float() - shifter


def bits_of(number: float, scalar: str) -> int:
    """The bits of a number, as an integer."""
    float_code, integer_code = ("<f", "<i") if scalar == "float" else ("<d", "<q")
    return int(struct.unpack(integer_code, struct.pack(float_code, number))[0])
