"""Elementary and special functions of float32 and float64, in vector code."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath import (
    bessel,
    error,
    exponential,
    gamma,
    incomplete_beta,
    incomplete_gamma,
    inverse,
    inverse_error,
    logarithm,
    powers,
    quantile_slope,
    remainder,
    trigonometric,
    zeta,
)
from fgrad.backends.cpu.vmath.lanes import Lanes

__all__ = ["SUPPORTED", "emit"]

_FUNCTIONS: dict[str, Callable[..., Lanes]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "tanh": exponential.tanh,
    "log": logarithm.log,
    "log1p": logarithm.log1p,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "asinh": logarithm.asinh,
    "acosh": logarithm.acosh,
    "atanh": logarithm.atanh,
    "tan": trigonometric.tan,
    "asin": inverse.asin,
    "acos": inverse.acos,
    "atan": inverse.atan,
    "atan2": inverse.atan2,
    "erf": error.erf,
    "erfc": error.erfc,
    "pow": powers.pow,
    "cbrt": powers.cbrt,
    "hypot": powers.hypot,
    "rem": remainder.rem,
    "erf_inv": inverse_error.erf_inv,
    "bessel_i0e": bessel.bessel_i0e,
    "bessel_i1e": bessel.bessel_i1e,
    "lgamma": gamma.lgamma,
    "digamma": gamma.digamma,
    "zeta": zeta.zeta,
    "regularized_incomplete_beta": incomplete_beta.betainc,
    "igamma": incomplete_gamma.igamma,
    "igammac": incomplete_gamma.igammac,
    "gamma_quantile_slope": quantile_slope.gamma_quantile_slope,
    "polygamma": zeta.polygamma,
}
_SCALARS = {"float32": "float", "float64": "double"}
SUPPORTED = frozenset((name, dtype) for name in _FUNCTIONS for dtype in _SCALARS)


def emit(builder: Builder, op: str, args: tuple[str, ...], dtype: Any) -> str:
    """Append the instructions of a function.

    Args:
        builder: Where they go; `builder.block` may be another block afterwards.
        op: The name in `core.scalar.OPS`; ``(op, name of the dtype)`` is in `SUPPORTED`.
        args: SSA names of vectors of `builder.width` lanes.
        dtype: float32 or float64.

    Returns:
        The name of the result.
    """
    scalar = _SCALARS[np.dtype(dtype).name]
    return _FUNCTIONS[op](*(Lanes(builder, name, scalar) for name in args)).name
