"""Cumulative sums, products, extrema and log-sums of exponentials along one axis.

Element i of a result reduces the elements 0 … i of the operand (i … n - 1 with `reverse`). The
derivative of the sum is the sum; the others state theirs by a scan over pairs (value, tangent) in
⌈log₂ n⌉ steps, each of them linear in the tangents, so that they hold to any order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import (
    FLOATS,
    NUMERIC,
    REAL,
    Absent,
    Invalid,
    Operand,
    Primitive,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import div, mul, sub
from fgrad.lax.compare import eq, lt
from fgrad.lax.elementary import exp
from fgrad.lax.kinds import FLOAT
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.scans import accumulate, cumulative, cumulative_spec, scan_pairs
from fgrad.lax.shape import canonical_axis, value
from fgrad.lax.slicing import pad

__all__ = [
    "cumlogsumexp",
    "cumlogsumexp_p",
    "cummax",
    "cummax_p",
    "cummin",
    "cummin_p",
    "cumprod",
    "cumprod_p",
    "cumsum",
    "cumsum_p",
]

_ORDERED = "iuf"
_BLOCK = 16


# -------------------------------------------------------------------------------------- cumsum


def _cumsum_eager(xp: Any, x: Any, axis: int) -> Any:
    if xp is not np or x.dtype.kind not in "fc" or x.shape[axis] <= 4 * _BLOCK:
        return xp.cumsum(x, axis, x.dtype)
    # One running sum over n elements would err by up to n roundings: sum within blocks, then add
    # to each block what the blocks before it sum to.
    rows = np.moveaxis(x, axis, -1)
    n = rows.shape[-1]
    blocks = n // _BLOCK
    cut = blocks * _BLOCK
    inner = np.cumsum(rows[..., :cut].reshape(*rows.shape[:-1], blocks, _BLOCK), -1)
    offsets = _cumsum_eager(xp, inner[..., -1], inner.ndim - 2)
    inner[..., 1:, :] += offsets[..., :-1, None]
    out = np.empty_like(rows)
    out[..., :cut] = inner.reshape(*rows.shape[:-1], cut)
    out[..., cut:] = np.cumsum(rows[..., cut:], -1) + offsets[..., -1:]
    return np.moveaxis(out, -1, axis)


def _cumsum_transpose(ct: Value, _x: Unknown, *, axis: int, reverse: bool) -> tuple[Value]:
    return (cumsum(ct, axis, not reverse),)


cumsum_p: Primitive = cumulative(
    "cumsum",
    "Sums of the elements up to each.",
    "add",
    NUMBERS,
    _cumsum_eager,
    lambda ps, ts, **params: basis.linear_jvp(lambda: cumsum_p, ps, ts, **params),
    _cumsum_transpose,
    cumulative_spec(
        lambda x, axis: np.cumsum(x, axis, x.dtype),
        NUMERIC,
        ulps=None,
        terms=lambda x, axis: np.cumsum(np.abs(x), axis),
    ),
)


def cumsum(operand: Any, axis: int = 0, reverse: bool = False) -> Value:
    """Sums of the elements up to each, along an axis.

    Args:
        operand: ``[…, n, …]``, numbers.
        axis: The axis.
        reverse: Start from its end.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        AxisError: The axis does not exist.
        DtypeError: `operand` is bool.

    Example:
        >>> cumsum(np.array([1, 2, 3], np.float32))
        Array([1., 3., 6.], dtype=float32)
    """
    return _bind(cumsum_p, operand, axis, reverse)


def _bind(prim: Primitive, operand: Any, axis: int, reverse: bool) -> Value:
    x = value(operand)
    axis = canonical_axis(prim.name, axis, x.ndim)
    return bind(prim, x, axis=axis, reverse=bool(reverse))


# ------------------------------------------------------------------------------------- cumprod


def _cumprod_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, axis: int, reverse: bool
) -> tuple[Value, Value | None]:
    (x,), (t,) = primals, tangents

    def combine(before: list[Value], after: list[Value]) -> list[Value]:
        (a, ta), (b, tb) = before, after
        return [mul(a, b), basis.add_any(basis.linear_mul(ta, b), basis.linear_mul(tb, a))]

    # No quotient by x: it may be zero.
    out = cumprod(x, axis, reverse)
    return out, scan_pairs(combine, [x, t], (1, 0), axis=axis, reverse=reverse)[1]


cumprod_p: Primitive = cumulative(
    "cumprod",
    "Products of the elements up to each.",
    "mul",
    NUMBERS,
    lambda xp, x, axis: xp.cumprod(x, axis, x.dtype),
    _cumprod_jvp,
    Absent("not linear"),
    cumulative_spec(
        lambda x, axis: np.cumprod(x, axis, x.dtype),
        NUMERIC,
        ulps=None,
        terms=lambda x, axis: np.abs(np.cumprod(x, axis)),
    ),
)


def cumprod(operand: Any, axis: int = 0, reverse: bool = False) -> Value:
    """Products of the elements up to each, along an axis; derivatives hold where some are zero.

    Args:
        operand: ``[…, n, …]``, numbers.
        axis: The axis.
        reverse: Start from its end.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        AxisError: The axis does not exist.
        DtypeError: `operand` is bool.

    Example:
        >>> cumprod(np.array([1, 2, 3], np.float32), reverse=True)
        Array([6., 6., 3.], dtype=float32)
    """
    return _bind(cumprod_p, operand, axis, reverse)


# ------------------------------------------------------------------------------ cummax, cummin


def _extremum_jvp(
    extremum: Callable[..., Value], beats: Callable[[Value, Value], Value], identity: Any
) -> Callable[..., Any]:
    """The jvp of a running extremum: the mean of the tangents of all elements that attain it."""

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], *, axis: int, reverse: bool
    ) -> tuple[Value, Value | None]:
        (x,), (t,) = primals, tangents
        zero = basis.scalar(0, x.dtype)

        def combine(before: list[Value], after: list[Value]) -> list[Value]:
            (a, *of_a), (b, *of_b) = before, after
            a_wins, b_wins = beats(a, b), beats(b, a)
            sums = [
                basis.add_any(basis.select_n(b_wins, p, zero), basis.select_n(a_wins, q, zero))
                for p, q in zip(of_a, of_b, strict=True)
            ]
            return [basis.select_n(b_wins, a, b), *sums]

        ones = basis.broadcast_in_dim(basis.scalar(1, x.dtype), x.shape, ())
        fills = (identity(x.dtype), 0, 0)
        _, total, count = scan_pairs(combine, [x, t, ones], fills, axis=axis, reverse=reverse)
        return extremum(x, axis, reverse), basis.linear_mul(total, div(ones, count))

    return jvp


cummax_p: Primitive = cumulative(
    "cummax",
    "The greatest of the elements up to each.",
    "max",
    _ORDERED,
    lambda xp, x, axis: accumulate(xp, xp.maximum, x, axis),
    _extremum_jvp(lambda *args: cummax(*args), lambda a, b: lt(b, a), dtypes.lowest),
    Absent("not linear"),
    cumulative_spec(np.maximum.accumulate, REAL, operand=Operand(generator="distinct"), ulps=0.0),
)

cummin_p: Primitive = cumulative(
    "cummin",
    "The least of the elements up to each.",
    "min",
    _ORDERED,
    lambda xp, x, axis: accumulate(xp, xp.minimum, x, axis),
    _extremum_jvp(lambda *args: cummin(*args), lt, dtypes.highest),
    Absent("not linear"),
    cumulative_spec(np.minimum.accumulate, REAL, operand=Operand(generator="distinct"), ulps=0.0),
)


def cummax(operand: Any, axis: int = 0, reverse: bool = False) -> Value:
    """The greatest of the elements up to each, along an axis; NaN stays once met.

    The derivative is shared equally among the elements that attain the maximum.

    Args:
        operand: ``[…, n, …]``, real numbers.
        axis: The axis.
        reverse: Start from its end.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        AxisError: The axis does not exist.
        DtypeError: `operand` is bool or complex.

    Example:
        >>> cummax(np.array([1, 3, 2], np.float32))
        Array([1., 3., 3.], dtype=float32)
    """
    return _bind(cummax_p, operand, axis, reverse)


def cummin(operand: Any, axis: int = 0, reverse: bool = False) -> Value:
    """The least of the elements up to each, along an axis; see `cummax`.

    Example:
        >>> cummin(np.array([2, 3, 1], np.float32))
        Array([2., 2., 1.], dtype=float32)
    """
    return _bind(cummin_p, operand, axis, reverse)


# -------------------------------------------------------------------------------- cumlogsumexp


def _cumlogsumexp_eager(xp: Any, x: Any, axis: int) -> Any:
    # Each step rounds the running value: in float64 that stays below the last place of float32.
    return accumulate(xp, xp.logaddexp, x.astype(np.float64), axis).astype(x.dtype)


def _cumlogsumexp_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, axis: int, reverse: bool
) -> tuple[Value, Value | None]:
    # With y the result, ẏᵢ = exp(yᵢ₋₁ - yᵢ)·ẏᵢ₋₁ + exp(xᵢ - yᵢ)·ẋᵢ: a recurrence whose factors
    # are at most 1, where the sum of exp(xⱼ)·ẋⱼ would overflow.
    (x,), (t,) = primals, tangents
    out = cumlogsumexp(x, axis, reverse)
    shift = (-1, 1, 0) if reverse else (1, -1, 0)
    config = tuple(shift if i == axis else (0, 0, 0) for i in range(x.ndim))
    previous = pad(out, basis.scalar(dtypes.lowest(x.dtype), x.dtype), config)
    zero = basis.scalar(0, x.dtype)

    def ratio(a: Value) -> Value:
        # Equal infinities, whose difference is NaN, count as equal terms.
        return exp(basis.select_n(eq(a, out), sub(a, out), zero))

    def combine(before: list[Value], after: list[Value]) -> list[Value]:
        (a, ta), (b, tb) = before, after
        return [mul(a, b), basis.add_any(basis.linear_mul(ta, b), tb)]

    pairs = [ratio(previous), basis.linear_mul(t, ratio(x))]
    return out, scan_pairs(combine, pairs, (1, 0), axis=axis, reverse=reverse)[1]


cumlogsumexp_p: Primitive = cumulative(
    "cumlogsumexp",
    "Logarithms of the sums of exponentials of the elements up to each.",
    "logaddexp",
    FLOAT,
    _cumlogsumexp_eager,
    _cumlogsumexp_jvp,
    Absent("not linear"),
    cumulative_spec(
        np.logaddexp.accumulate,
        FLOATS,
        ulps=None,  # the maximum and the logarithm of the sum may cancel
        terms=lambda x, axis: 1 + np.maximum.accumulate(np.abs(x), axis),
        invalid=(Invalid(("i32[2]",), DtypeError, "takes", axis=0, reverse=False),),
    ),
)


def cumlogsumexp(operand: Any, axis: int = 0, reverse: bool = False) -> Value:
    """Logarithms of the sums of exponentials of the elements up to each, without overflow.

    Args:
        operand: ``[…, n, …]``, float.
        axis: The axis.
        reverse: Start from its end.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        AxisError: The axis does not exist.
        DtypeError: `operand` is not of a real float dtype.

    Example:
        >>> cumlogsumexp(np.array([100, 100], np.float32)).shape
        (2,)
    """
    return _bind(cumlogsumexp_p, operand, axis, reverse)
