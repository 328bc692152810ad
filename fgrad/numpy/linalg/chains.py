"""Products of many matrices, powers and diagonals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import integer
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import Value
from fgrad.numpy import diagonals, products, shaping
from fgrad.numpy.linalg.solves import inv
from fgrad.numpy.promotion import value


def matrix_power(a: Any, n: int) -> Value:
    """The n-th power of square matrices, by squaring; negative powers of the inverse."""
    x = value(a, "matrix_power", "a")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power takes square matrices [..., n, n], got {x.aval}")
    n = integer(n, "matrix_power: n")
    if n == 0:
        eye = np.eye(x.shape[-1], dtype=x.dtype)
        return basis.broadcast_to(value(eye), x.shape)
    if n < 0:
        x, n = inv(x), -n
    out: Value | None = None
    while True:
        if n & 1:
            out = x if out is None else products.matmul(out, x)
        n >>= 1
        if not n:
            return out
        x = products.matmul(x, x)


def multi_dot(arrays: Sequence[Any], *, precision: Any = None) -> Value:
    """The product of matrices (vectors at the ends), in the order that costs least."""
    parts = [value(a) for a in arrays]
    if len(parts) < 2:
        raise ShapeError(f"multi_dot needs at least two arrays, got {len(parts)}")
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    if first:
        parts[0] = basis.reshape(parts[0], (1, parts[0].size))
    if last:
        parts[-1] = basis.reshape(parts[-1], (parts[-1].size, 1))
    if any(p.ndim != 2 for p in parts):
        raise ShapeError(f"multi_dot takes matrices, got {', '.join(str(p.aval) for p in parts)}")
    split = _chain_order([parts[0].shape[0], *(p.shape[1] for p in parts)])

    def product(i: int, j: int) -> Value:
        if i == j:
            return parts[i]
        k = split[i, j]
        return products.matmul(product(i, k), product(k + 1, j), precision=precision)

    out = product(0, len(parts) - 1)
    gone = tuple(k for k, is_vector in enumerate((first, last)) if is_vector)
    return shaping.squeeze(out, gone) if gone else out


def _chain_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """For each run of matrices, where its cheapest product is split."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return split


def diagonal(x: Any, /, *, offset: int = 0) -> Value:
    """A diagonal of the last two axes."""
    return diagonals.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Value:
    """The sum of a diagonal of the last two axes."""
    return diagonals.trace(x, offset, -2, -1, dtype)
