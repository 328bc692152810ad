"""How a contraction of given axes becomes matrix products, and its own transposes."""

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

Axes = tuple[int, ...]


DotDimensionNumbers = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]


# The product of two matrices; passing this very object takes the shortest way.
MATMUL: DotDimensionNumbers = (((1,), (0,)), ((), ()))


@lru_cache(maxsize=4096)
def free_axes(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> tuple[Axes, Axes]:
    """The axes of each operand (of those ranks) that are neither contracted nor batch axes."""
    (lc, rc), (lb, rb) = dimension_numbers
    return (
        tuple(i for i in range(lhs) if i not in lc and i not in lb),
        tuple(i for i in range(rhs) if i not in rc and i not in rb),
    )


def fault_of(dimension_numbers: DotDimensionNumbers, x: Any, y: Any) -> str | None:
    """What is wrong with axis numbers of operands of those shapes, or None."""
    (lc, rc), (lb, rb) = dimension_numbers
    for name, a, c, b in (("lhs", x, lc, lb), ("rhs", y, rc, rb)):
        used = (*c, *b)
        if len(set(used)) != len(used) or any(not 0 <= i < len(a.shape) for i in used):
            return (
                f"the {name} axes {c} (contracting) and {b} (batch) must be distinct and within "
                f"its {len(a.shape)} axes"
            )
    for word, ls, rs in (("contracting", lc, rc), ("batch", lb, rb)):
        if len(ls) != len(rs):
            return f"lhs has {len(ls)} {word} axes {ls} and rhs has {len(rs)} {rs}"
        for i, j in zip(ls, rs, strict=True):
            if x.shape[i] != y.shape[j]:
                return (
                    f"{word} axis {i} of lhs has length {x.shape[i]} and axis {j} of rhs has "
                    f"length {y.shape[j]}"
                )
    return None


@lru_cache(maxsize=4096)
def plan_of(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> Callable[..., Any]:
    """``(xp, lhs, rhs) -> array`` for operands of those ranks and one dtype."""
    (lc, rc), (lb, rb) = dimension_numbers
    used_l, used_r = (*lc, *lb), (*rc, *rb)
    if (
        len(lc) != len(rc)
        or len(lb) != len(rb)
        or not set(used_l) <= set(range(lhs))
        or not set(used_r) <= set(range(rhs))
        or len(set(used_l)) != len(used_l)
        or len(set(used_r)) != len(used_r)
    ):
        raise ValueError("axes")  # the abstract rule says it in full
    if len(lc) == 1 and not lb and max(lhs, rhs) <= 2:
        # ndarray.dot checks the lengths, hands transposed views to BLAS and copies what BLAS
        # cannot read; it is the quickest way into a product that NumPy has.
        flip_l, flip_r = lc[0] != lhs - 1, rc[0] != 0
        if flip_l and flip_r:
            return lambda _xp, x, y: x.T.dot(y.T)
        if flip_l:
            return lambda _xp, x, y: x.T.dot(y)
        if flip_r:
            return lambda _xp, x, y: x.dot(y.T)
        return lambda _xp, x, y: x.dot(y)
    return _general_plan(dimension_numbers, lhs, rhs)


def _general_plan(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int) -> Callable[..., Any]:
    """One product of (stacks of) matrices: axes permuted as views, then merged."""
    (lc, rc), (lb, rb) = dimension_numbers
    lf, rf = free_axes(dimension_numbers, lhs, rhs)
    # The order of contraction is ours to choose: in that of lhs, its axes merge without a copy.
    order = sorted(range(len(lc)), key=lc.__getitem__)
    sums = tuple(rc[i] for i in order)
    nb, nl, nc = len(lb), len(lf), len(lc)
    left, right = (*lb, *lf, *sorted(lc)), (*rb, *sums, *rf)
    pairs = tuple(zip((*lc, *lb), (*rc, *rb), strict=True))
    moves_l, moves_r = left != tuple(range(lhs)), right != tuple(range(rhs))
    merges_l, merges_r = (nl, nc) != (1, 1), (len(rf), nc) != (1, 1)

    def run(xp: Any, x: Any, y: Any) -> Any:
        xs, ys = x.shape, y.shape
        for i, j in pairs:
            if xs[i] != ys[j]:
                raise ValueError("shapes")
        if moves_l:
            x = x.transpose(left)
        if moves_r:
            y = y.transpose(right)
        xs, ys = x.shape, y.shape
        if merges_l:
            x = x.reshape((*xs[:nb], prod(xs[nb : nb + nl]), prod(xs[nb + nl :])))
        if merges_r:
            y = y.reshape((*xs[:nb], prod(ys[nb : nb + nc]), prod(ys[nb + nc :])))
        out = xp.matmul(_blas_ready(xp, x), _blas_ready(xp, y))
        return out.reshape(xs[: nb + nl] + ys[nb + nc :]) if merges_l or merges_r else out

    return run


def _blas_ready(xp: Any, x: Any) -> Any:
    """`x`, or a copy where neither of its last two axes is contiguous (BLAS could not read it)."""
    item = x.dtype.itemsize
    strides = x.strides
    return x if item in (strides[-1], strides[-2]) else xp.ascontiguousarray(x)


class _Back:
    """How the cotangent of one operand is contracted with the other operand.

    Attributes:
        ct_first: Whether the cotangent is the left operand of that contraction.
        dimension_numbers: Of that contraction.
        permutation: What brings its result into the operand's own layout, or None.
    """

    __slots__ = ("ct_first", "dimension_numbers", "permutation")

    def __init__(
        self, ct_first: bool, numbers: DotDimensionNumbers, permutation: Axes | None
    ) -> None:
        self.ct_first, self.dimension_numbers, self.permutation = ct_first, numbers, permutation


@lru_cache(maxsize=4096)
def pull_plan(dimension_numbers: DotDimensionNumbers, lhs: int, rhs: int, which: int) -> _Back:
    """The contraction that pulls a cotangent back to operand `which` (0: lhs, 1: rhs).

    Of the two orders of its operands, the one is taken whose result has the operand's layout.
    """
    (lc, rc), (lb, rb) = dimension_numbers
    lf, rf = free_axes(dimension_numbers, lhs, rhs)
    nb = len(lb)
    ct_batch = tuple(range(nb))
    ct_left = tuple(range(nb, nb + len(lf)))
    ct_right = tuple(range(nb + len(lf), nb + len(lf) + len(rf)))
    if which == 0:
        mine_b, mine_f, mine_c = lb, lf, lc
        other_b, other_f, other_c, ct_sum = rb, rf, rc, ct_right
    else:
        mine_b, mine_f, mine_c = rb, rf, rc
        other_b, other_f, other_c, ct_sum = lb, lf, lc, ct_left
    # The other operand's contracted axes stay, in the order in which they stand there.
    summed = tuple(mine_c[i] for i in sorted(range(len(other_c)), key=other_c.__getitem__))
    found = []
    for ct_first in (which == 0, which == 1):
        if ct_first:
            numbers = ((ct_sum, other_f), (ct_batch, other_b))
            layout = (*mine_b, *mine_f, *summed)
        else:
            numbers = ((other_f, ct_sum), (other_b, ct_batch))
            layout = (*mine_b, *summed, *mine_f)
        if layout == tuple(range(len(layout))):
            return _Back(ct_first, numbers, None)
        found.append(_Back(ct_first, numbers, tuple(np.argsort(layout).tolist())))
    return found[0]


_MOST_TERMS = 1 << 20  # products of 16-bit integers, twice as many, that float64 adds up exactly
_LEAST_PRODUCTS = 1 << 17
_EACH = 16  # products for each number that is converted, from which on it pays to convert


def by_halves(
    numbers: DotDimensionNumbers, x: Any, y: Any, out: np.dtype[Any]
) -> Callable[..., Any] | None:
    """A plan for integers by BLAS, which NumPy multiplies without; None where that is no better.

    Sums of 2^20 products of 16-bit integers are exact in float64. Of integers of 32 bits the
    product is that of the lower halves, and 2^16 times those of a lower and an upper one: what it
    lacks has more than 32 bits, and is lost in the result too.

    Args:
        numbers: The axes.
        x: The left operand, or its type.
        y: Likewise, of the same dtype.
        out: The dtype of the result.

    Returns:
        ``(xp, lhs, rhs) -> array`` of dtype `out`.
    """
    size = x.dtype.itemsize
    if (
        x.dtype.kind not in "iu"
        or out.kind not in "iu"
        or size > 4
        or out.itemsize > (8, 4)[size > 2]
    ):
        return None
    (lc, _), (lb, _) = numbers
    terms = prod(x.shape[i] for i in lc)
    results = prod(x.shape) * prod(y.shape) // max(1, terms * terms * prod(x.shape[i] for i in lb))
    products, numbers_moved = results * terms, prod(x.shape) + prod(y.shape) + results
    if terms > _MOST_TERMS or products < max(_LEAST_PRODUCTS, _EACH * numbers_moved):
        return None
    plan = plan_of(numbers, len(x.shape), len(y.shape))
    return (_narrow if size <= 2 else _halved)(plan, out)


def _narrow(plan: Callable[..., Any], out: np.dtype[Any]) -> Callable[..., Any]:
    def run(xp: Any, x: Any, y: Any) -> Any:
        product = plan(xp, x.astype(np.float64), y.astype(np.float64))
        return product.astype(np.int64).astype(out, copy=False)

    return run


def _halved(plan: Callable[..., Any], out: np.dtype[Any]) -> Callable[..., Any]:
    def halves(x: Any) -> tuple[Any, Any]:
        return (x & 0xFFFF).astype(np.float64), (x >> 16).astype(np.float64)

    def run(xp: Any, x: Any, y: Any) -> Any:
        (low_x, high_x), (low_y, high_y) = halves(x), halves(y)
        mixed = plan(xp, low_x, high_y)
        mixed += plan(xp, high_x, low_y)
        total = mixed.astype(np.int64)
        total <<= 16
        del mixed
        total += plan(xp, low_x, low_y).astype(np.int64)
        return total.astype(out)

    return run
