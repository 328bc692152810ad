"""What the functions of linear algebra share."""

from typing import Any

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import shaping, ufuncs
from fgrad.numpy.promotion import promote_inexact


def matrix(name: str, a: Any, *, square: bool = False) -> Value:
    """Matrices in float or complex numbers of at least 32 bits.

    Raises:
        ShapeError: Fewer than two axes, or not square where `square`.
    """
    (x,) = promote_inexact(name, a)
    x = convert_element_type(x, x.dtype)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        words = "square matrices [..., n, n]" if square else "matrices [..., m, n]"
        raise ShapeError(f"{name} takes {words}, got {x.aval}")
    wide = basis.wide(x.dtype)
    return x if wide is None else convert_element_type(x, wide)


def adjoint(x: Value) -> Value:
    """The conjugate transpose of each matrix."""
    return ufuncs.conjugate(shaping.swapaxes(x, -1, -2))


def squares(x: Value) -> Value:
    """The squared modulus of each element."""
    if x.dtype.kind == "c":
        return lax.add(lax.square(lax.real(x)), lax.square(lax.imag(x)))
    return lax.square(x)
