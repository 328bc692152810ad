"""Modified Bessel functions, element by element, scaled so that they do not overflow."""

from typing import Any

from fgrad.core import basis
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, div, mul, sign, sub
from fgrad.lax.compare import eq
from fgrad.lax.special import special_function, special_unary

__all__ = ["bessel_i0e", "bessel_i0e_p", "bessel_i1e", "bessel_i1e_p"]


def _i1e_slope(out: Value, x: Value) -> Value:
    zero = eq(x, 0)
    safe = basis.select_n(zero, x, basis.scalar(1, x.dtype))
    slope = sub(bessel_i0e(safe), mul(out, add(sign(safe), div(1, safe))))
    return basis.select_n(zero, slope, basis.scalar(0.5, x.dtype))


bessel_i0e_p = special_unary(
    "bessel_i0e",
    "exp(-|x|)·I₀(x).",
    special_function("i0e"),
    lambda out, x: sub(bessel_i1e(x), mul(sign(x), out)),
    "i0e",
    0.2,
    4.0,
)

bessel_i1e_p = special_unary(
    "bessel_i1e", "exp(-|x|)·I₁(x).", special_function("i1e"), _i1e_slope, "i1e", 0.2, 4.0
)


def bessel_i0e(x: Any) -> Value:
    """``exp(-|x|)·I₀(x)``, I₀ the modified Bessel function, for each element of ``x`` (float).

    Example:
        >>> import numpy as np
        >>> bessel_i0e(np.array([0.0, 1.0]))
        Array([1.        , 0.46575961], dtype=float64)
    """
    return bind(bessel_i0e_p, as_value(x))


def bessel_i1e(x: Any) -> Value:
    """``exp(-|x|)·I₁(x)``, I₁ the modified Bessel function, for each element of ``x`` (float).

    Example:
        >>> import numpy as np
        >>> bessel_i1e(np.array([0.0, 1.0]))
        Array([0.        , 0.20791042], dtype=float64)
    """
    return bind(bessel_i1e_p, as_value(x))
