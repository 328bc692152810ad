"""What ufuncs of ``scipy.special`` become on fgrad arrays; loaded when the first one is met.

The names are those of the ufuncs: `psi` is what SciPy also calls `digamma`.
"""

from collections.abc import Callable
from typing import Any

from fgrad import lax
from fgrad.core.primitive import Value
from fgrad.numpy.elementary import cbrt, exp2, expm1, i0, log1p
from fgrad.numpy.promotion import promote_inexact

__all__ = [
    "betainc", "cbrt", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc",
    "gammaln", "i0", "i0e", "i1e", "log1p", "psi",
]  # fmt: skip


def _promoting(name: str, function: Callable[..., Value]) -> Callable[..., Value]:
    def promoted(*args: Any) -> Value:
        return function(*promote_inexact(f"scipy.special.{name}", *args))

    return promoted


betainc = _promoting("betainc", lax.betainc)
erf = _promoting("erf", lax.erf)
erfc = _promoting("erfc", lax.erfc)
erfinv = _promoting("erfinv", lax.erf_inv)
expit = _promoting("expit", lax.logistic)
gammainc = _promoting("gammainc", lax.igamma)
gammaincc = _promoting("gammaincc", lax.igammac)
gammaln = _promoting("gammaln", lax.lgamma)
i0e = _promoting("i0e", lax.bessel_i0e)
i1e = _promoting("i1e", lax.bessel_i1e)
psi = _promoting("psi", lax.digamma)
