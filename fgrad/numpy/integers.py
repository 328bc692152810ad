"""Number theory of integers."""

import math
from typing import Any

from fgrad import lax
from fgrad.core.basis import select_n
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import Value
from fgrad.numpy import ufuncs
from fgrad.numpy.promotion import (
    promote_numeric,
)
from fgrad.numpy.ufuncs import const, zero_like

__all__ = [
    "gcd",
    "lcm",
]


def gcd(x1: Any, x2: Any, /) -> Value:
    """The greatest common divisor of integers."""
    x, y = map(ufuncs.abs, promote_numeric("gcd", x1, x2))
    if x.dtype.kind not in "iu":
        raise DtypeError(f"gcd takes integers, got {x.aval} and {y.aval}")
    zero = zero_like(x)
    # Euclid's algorithm ends within log(2**bits) / log(golden ratio) steps.
    for _ in range(math.ceil(8 * x.dtype.itemsize * 1.4405) + 1):
        done = lax.eq(y, zero)
        rest = lax.rem(x, select_n(done, y, const(1, y)))
        x, y = select_n(done, y, x), select_n(done, rest, y)
    return x


def lcm(x1: Any, x2: Any, /) -> Value:
    """The least common multiple of integers."""
    x, y = map(ufuncs.abs, promote_numeric("lcm", x1, x2))
    divisor = gcd(x, y)
    safe = select_n(lax.eq(divisor, zero_like(divisor)), divisor, const(1, divisor))
    return lax.mul(lax.div(x, safe), y)
