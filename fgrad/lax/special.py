"""Special functions, element by element: error functions, gamma and beta functions.

Eager values come from SciPy, or on a GPU from the part of it that CuPy ships; either is loaded at
the first call.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core.evaluate import as_value
from fgrad.core.primitive import FLOATS, Absent, Case, Operand, Primitive, Spec, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, mul, neg, sub
from fgrad.lax.elementary import exp, log, log1p
from fgrad.lax.kinds import FLOAT, pointwise
from fgrad.lax.operands import MISMATCH, PAIR, operands, operands3, unary_spec
from fgrad.lax.powers import square

__all__ = [
    "betainc",
    "digamma",
    "digamma_p",
    "erf",
    "erf_inv",
    "erf_inv_p",
    "erf_p",
    "erfc",
    "erfc_p",
    "lgamma",
    "lgamma_p",
    "polygamma",
    "polygamma_p",
    "regularized_incomplete_beta_p",
    "zeta",
    "zeta_p",
]

_MODULES = {"numpy": "scipy.special", "cupy": "cupyx.scipy.special"}


def library(xp: Any) -> Any:
    """The special functions for arrays of the library `xp`."""
    return importlib.import_module(_MODULES[xp.__name__])


def _scipy(name: str) -> Callable[..., Any]:
    """SciPy's function of that name, on float64, as a reference."""
    return lambda *args: getattr(library(np), name)(*args)


def special_function(name: str) -> Callable[..., Any]:
    """An eager rule. SciPy's own float32 loops of these functions compute in float64."""
    return lambda xp, *args: getattr(library(xp), name)(*args)


def _in_float64(name: str) -> Callable[..., Any]:
    """An eager rule for functions whose float32 loops lose digits."""

    def eager(xp: Any, *args: Any) -> Any:
        out = getattr(library(xp), name)(*[x.astype(np.float64) for x in args])
        return out.astype(args[0].dtype)

    return eager


def special_unary(
    name: str, doc: str, eager: Callable[..., Any], deriv: Any, reference: str, low: float,
    high: float, *, zeros: tuple[float, ...] = (),
) -> Primitive:  # fmt: skip
    """A function of one float; beside its `zeros`, SciPy is right to some digits only."""
    scipy = _scipy(reference)
    ulps = 32.0 if zeros else 4.0
    return pointwise(
        name,
        "x",
        doc=doc,
        eager=eager,
        derivs=(deriv,),
        scalar=f"{name}(x)",
        accepts=FLOAT,
        spec=unary_spec(scipy, low, high, kinks=zeros, dtypes=FLOATS, ulps=ulps),
    )


# ------------------------------------------------------------------------- error functions

erf_p = special_unary(
    "erf",
    "2/√π · ∫₀ˣ exp(-t²) dt.",
    special_function("erf"),
    lambda x: mul(2 / math.sqrt(math.pi), exp(neg(square(x)))),
    "erf",
    -2.0,
    2.0,
)

erfc_p = special_unary(
    "erfc",
    "1 - erf(x), accurate where erf is near 1.",
    special_function("erfc"),
    lambda x: mul(-2 / math.sqrt(math.pi), exp(neg(square(x)))),
    "erfc",
    -2.0,
    2.0,
)


def _erf_inv_eager(xp: Any, x: Any) -> Any:
    return xp.copysign(_in_float64("erfinv")(xp, x), x)  # SciPy has 0 at -0


erf_inv_p = special_unary(
    "erf_inv",
    "The inverse of erf.",
    _erf_inv_eager,
    lambda out: mul(math.sqrt(math.pi) / 2, exp(square(out))),
    "erfinv",
    -0.8,
    0.8,
)


def erf(x: Any) -> Value:
    """The error function ``2/√π · ∫₀ˣ exp(-t²) dt`` of each element of ``x`` (``[...]``, float).

    Example:
        >>> erf(np.array([0.0, 1.0]))
        Array([0.        , 0.84270079], dtype=float64)
    """
    return bind(erf_p, as_value(x))


def erfc(x: Any) -> Value:
    """``1 - erf(x)``, accurate for great ``x`` too, of each element of ``x`` (``[...]``, float).

    Example:
        >>> erfc(np.array([0.0, 1.0]))
        Array([1.        , 0.15729921], dtype=float64)
    """
    return bind(erfc_p, as_value(x))


def erf_inv(x: Any) -> Value:
    """The inverse of `erf` for each element of ``x`` (``[...]``, float in [-1, 1]).

    Example:
        >>> erf_inv(np.array([0.0, 0.5]))
        Array([0.        , 0.47693628], dtype=float64)
    """
    return bind(erf_inv_p, as_value(x))


# ------------------------------------------------------------------------- gamma functions

_TINY = 1e-20  # for x below, log |Γ(x)| is -log |x| to the last digit


def _lgamma_eager(xp: Any, x: Any) -> Any:
    # SciPy has -inf at -inf, and inf at denormal numbers.
    size = abs(x)
    small = size < _TINY
    found = library(xp).gammaln(xp.where(small | (x == -np.inf), x.dtype.type(np.inf), x))
    return xp.where(small, -xp.log(size), found) if small.any() else found


lgamma_p = special_unary(
    "lgamma", "log |Γ(x)|.", _lgamma_eager, lambda x: digamma(x), "gammaln", 0.3, 4.0,
    zeros=(1.0, 2.0),
)  # fmt: skip

digamma_p = special_unary(
    "digamma",
    "The derivative of log |Γ(x)|.",
    special_function("psi"),
    lambda x: polygamma(1, x),
    "psi",
    0.3,
    4.0,
)


def _polygamma_eager(xp: Any, m: Any, x: Any) -> Any:
    special = library(xp)
    m64, x64 = m.astype(np.float64), x.astype(np.float64)
    sign_ = xp.where(m64 % 2 == 0, -1.0, 1.0)
    high = sign_ * special.gamma(m64 + 1.0) * special.zeta(m64 + 1.0, x64)
    order = (m64 >= 0) & (m64 % 1 == 0)
    found = xp.where(m64 == 0, special.psi(x64), xp.where(order, high, np.nan))
    return found.astype(x.dtype)


polygamma_p = pointwise(
    "polygamma",
    "m x",
    doc="The derivative of order m + 1 of log |Γ(x)|.",
    eager=_polygamma_eager,
    derivs=(
        Absent("polygamma has no derivative in its order m: only integers are orders"),
        lambda m, x: polygamma(add(m, 1), x),
    ),
    scalar="polygamma(m, x)",
    accepts=FLOAT,
    spec=Spec(
        (Operand(1.0, 1.0, generator="static"), Operand(0.3, 4.0)),
        PAIR,
        dtypes=FLOATS,
        reference=lambda m, x: _polygamma_eager(np, m, x),
        invalid=MISMATCH,
    ),
)


def _zeta_eager(xp: Any, x: Any, q: Any) -> Any:
    out = library(xp).zeta(x, q)
    # SciPy has NaN where the first term is all there is.
    lost = xp.isnan(out) & (x > _FIRST_TERM) & (q > 0)
    return xp.where(lost, q**-x, out) if lost.any() else out


_FIRST_TERM = 1e3

zeta_p = pointwise(
    "zeta",
    "x q",
    doc="The Hurwitz zeta function Σ (q + k)**-x over k = 0, 1, …",
    eager=_zeta_eager,
    derivs=(
        Absent("zeta has no derivative in its exponent x here; only in q"),
        lambda x, q: neg(mul(x, zeta(add(x, 1), q))),
    ),
    scalar="zeta(x, q)",
    accepts=FLOAT,
    spec=Spec(
        (Operand(1.5, 4.0, generator="static"), Operand(0.3, 4.0)),
        PAIR,
        dtypes=FLOATS,
        reference=_scipy("zeta"),
        invalid=MISMATCH,
    ),
)


def lgamma(x: Any) -> Value:
    """``log |Γ(x)|`` of each element of ``x`` (``[...]``, float).

    Example:
        >>> lgamma(np.array([1.0, 5.0]))
        Array([0.        , 3.17805383], dtype=float64)
    """
    return bind(lgamma_p, as_value(x))


def digamma(x: Any) -> Value:
    """The derivative of ``log |Γ(x)|`` at each element of ``x`` (``[...]``, float).

    Example:
        >>> digamma(np.array([1.0, 2.0]))
        Array([-0.57721566,  0.42278434], dtype=float64)
    """
    return bind(digamma_p, as_value(x))


def polygamma(m: Any, x: Any) -> Value:
    """The derivative of order ``m + 1`` of ``log |Γ(x)|``; operands (float) broadcast.

    Args:
        m: The order, integers not below 0 in a float dtype; it has no derivative. Of others
            the result is NaN.
        x: The same dtype.

    Example:
        >>> polygamma(1.0, np.array([1.0]))
        Array([1.64493407], dtype=float64)
    """
    return bind(polygamma_p, *operands(m, x))


def zeta(x: Any, q: Any) -> Value:
    """The Hurwitz zeta function ``Σ (q + k)**-x`` over k = 0, 1, …; operands (float) broadcast.

    Args:
        x: The exponent, above 1; no derivative.
        q: The same dtype; differentiable.

    Example:
        >>> zeta(2.0, np.array([1.0]))
        Array([1.64493407], dtype=float64)
    """
    return bind(zeta_p, *operands(x, q))


# ------------------------------------------------------------------- beta functions


def _beta_density(a: Value, b: Value, x: Value) -> Value:
    """``x**(a-1)·(1-x)**(b-1) / B(a, b)``, the derivative of betainc in x."""
    powers = add(mul(sub(a, 1), log(x)), mul(sub(b, 1), log1p(neg(x))))
    return exp(add(powers, sub(lgamma(add(a, b)), add(lgamma(a), lgamma(b)))))


regularized_incomplete_beta_p = pointwise(
    "regularized_incomplete_beta",
    "a b x",
    doc="The regularized incomplete beta function I(x; a, b).",
    eager=_in_float64("betainc"),
    derivs=(
        Absent("betainc has no derivative in its parameter a; differentiate in x only"),
        Absent("betainc has no derivative in its parameter b; differentiate in x only"),
        _beta_density,
    ),
    scalar="regularized_incomplete_beta(a, b, x)",
    accepts=FLOAT,
    spec=Spec(
        (
            Operand(0.5, 3.0, generator="static"),
            Operand(0.5, 3.0, generator="static"),
            Operand(0.1, 0.9),
        ),
        (Case("...,...,..."),),
        dtypes=FLOATS,
        reference=_scipy("betainc"),
        ulps=100.0,
    ),
)


def betainc(a: Any, b: Any, x: Any) -> Value:
    """The regularized incomplete beta function I(x; a, b); operands (float) broadcast.

    Differentiable in ``x``; asking for the derivative in ``a`` or ``b`` raises `RuleError`.

    Example:
        >>> betainc(1.0, 2.0, np.array([0.5]))
        Array([0.75], dtype=float64)
    """
    return bind(regularized_incomplete_beta_p, *operands3(a, b, x))
