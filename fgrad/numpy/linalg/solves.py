"""Solutions of linear systems and inverses."""

import math
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.basis import convert_element_type
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.lax import linalg as decompositions
from fgrad.numpy import axes as ax
from fgrad.numpy import shaping
from fgrad.numpy.linalg.operands import matrix
from fgrad.numpy.promotion import promote_inexact, value


def solve(a: Any, b: Any) -> Value:
    """The solution X of A X = B.

    Args:
        a: ``[..., n, n]``.
        b: ``[n]`` (one vector), or ``[..., n, k]``; other axes broadcast.

    Raises:
        ShapeError: The shapes do not fit.
    """
    x, y = promote_inexact("solve", a, b)
    x = matrix("solve", x, square=True)
    y = convert_element_type(y, x.dtype)
    vector = y.ndim == 1
    if vector:
        y = basis.reshape(y, (*y.shape, 1))
    if not y.ndim or y.shape[-2] != x.shape[-1]:
        raise ShapeError(f"solve: b {y.aval} does not fit a {x.aval}; its rows must be as many")
    lead = lax.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    out = decompositions.solve(
        basis.broadcast_to(x, lead + x.shape[-2:]), basis.broadcast_to(y, lead + y.shape[-2:])
    )
    return basis.reshape(out, out.shape[:-1]) if vector else out


def inv(a: Any) -> Value:
    """The inverse of matrices ``[..., n, n]``; NaN where a matrix is singular."""
    x = matrix("inv", a, square=True)
    identity = np.eye(x.shape[-1], dtype=x.dtype)
    return decompositions.solve(x, basis.broadcast_to(value(identity), x.shape))


def tensorinv(a: Any, ind: int = 2) -> Value:
    """The inverse of the linear map that `tensordot` with the last axes of `a` applies."""
    x = value(a, "tensorinv", "a")
    first, last = x.shape[:ind], x.shape[ind:]
    n = math.prod(first)
    if ind <= 0 or n != math.prod(last):
        raise ShapeError(f"tensorinv: axes before and after {ind} of {x.aval} are unequal in size")
    return basis.reshape(inv(basis.reshape(x, (n, n))), last + first)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Value:
    """The solution x of ``tensordot(a, x, x.ndim) = b``."""
    x, y = promote_inexact("tensorsolve", a, b)
    if axes is not None:
        gone = ax.several("tensorsolve", tuple(axes), x.ndim)
        x = basis.transpose(x, (*(i for i in range(x.ndim) if i not in gone), *gone))
    shape = x.shape[y.ndim :]
    n = math.prod(shape)
    if n != y.size:
        raise ShapeError(f"tensorsolve: {x.aval} and {y.aval} do not make a square system")
    return basis.reshape(solve(basis.reshape(x, (n, n)), shaping.ravel(y)), shape)
