"""Matrix products as cuBLASLt takes them: a pure description, from shapes and strides alone.

The library reads matrices by columns. Row-major ``out = left @ right`` is the column-major product
``outᵀ = rightᵀ @ leftᵀ``, so its first operand `a` is the right one and its `m` counts the columns
of `out`. A matrix whose rows are contiguous is, by columns, its own transpose: it is taken as it
is; one whose columns are contiguous is transposed by the library.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from math import gcd, prod
from typing import Any, NamedTuple

from fgrad.compile.plan import View, contiguous
from fgrad.lax.contract_plans import free_axes

MOST_CALLS = 32  # products of a step, beyond which its operands are packed to one stack
_LARGEST = 2**31 - 1  # what the library counts to
_ALIGNMENT = 16  # bytes: of every buffer, and the most that algorithms ask for


class Matrix(NamedTuple):
    """A stack of matrices in memory, by columns.

    Attributes:
        rows: As stored, before it is transposed.
        columns: As stored.
        lead: Elements from one column to the next.
        stride: Elements from one matrix to the next; 0: all are the same.
        transposed: Whether the library transposes it.
    """

    rows: int
    columns: int
    lead: int
    stride: int
    transposed: bool


class Offsets(NamedTuple):
    """The first elements of the operands and the result of one call of the library."""

    a: int
    b: int
    out: int


class Gemm(NamedTuple):
    """``out[m, n] = a[m, k] @ b[k, n]`` by columns, for each matrix of a stack.

    Attributes:
        m: Columns of the row-major result.
        n: Its rows.
        k: Terms of each sum.
        stack: How many products a call computes.
        a: The right operand.
        b: The left operand.
        calls: Where the operands of each call begin.
        packed: Which operands, left and right, must first be copied to ``[stack, rows, k]`` and
            ``[stack, k, columns]``: they are described as if they were.
    """

    m: int
    n: int
    k: int
    stack: int
    a: Matrix
    b: Matrix
    calls: tuple[Offsets, ...]
    packed: tuple[bool, bool]

    @property
    def out(self) -> Matrix:
        """The result, which is contiguous."""
        return Matrix(self.m, self.n, self.m, self.m * self.n, False)

    def alignments(self, itemsize: int, out_itemsize: int) -> tuple[int, int, int]:
        """The bytes that divide every address of `a`, `b` and the result."""
        sizes = Offsets(itemsize, itemsize, out_itemsize)
        a, b, out = (
            gcd(_ALIGNMENT, *(at * size for at in starts))
            for starts, size in zip(zip(*self.calls, strict=True), sizes, strict=True)
        )
        return a, b, out

    def extents(self, itemsize: int, out_itemsize: int) -> tuple[int, int, int]:
        """The bytes of the buffers of the left operand, the right one and the result, at least."""

        def last(m: Matrix, starts: Sequence[int]) -> int:
            inside = (self.stack - 1) * m.stride + (m.columns - 1) * m.lead + m.rows
            return max(starts) + inside

        a, b, out = zip(*self.calls, strict=True)
        sizes = last(self.b, b) * itemsize, last(self.a, a) * itemsize
        return (*sizes, last(self.out, out) * out_itemsize)


class Axes(NamedTuple):
    """The axes of both operands by what becomes of them.

    Attributes:
        left: Axes of the left operand: of the stack, its rows, the sum.
        right: Axes of the right operand: of the stack, the sum, its columns.
    """

    left: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    right: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def axes_of(dimension_numbers: Any, left: int, right: int) -> Axes:
    """The axes of a product of operands of those ranks.

    The order of summation is free: it is that of the left operand, so that its axes may merge.
    """
    (lc, rc), (lb, rb) = dimension_numbers
    lf, rf = free_axes(dimension_numbers, left, right)
    order = sorted(range(len(lc)), key=lc.__getitem__)
    sums = tuple(lc[i] for i in order), tuple(rc[i] for i in order)
    return Axes((tuple(lb), lf, sums[0]), (tuple(rb), sums[1], rf))


def describe(x: View, y: View, dimension_numbers: Any) -> Gemm | None:
    """What the library has to compute.

    Args:
        x: The left operand.
        y: The right one.
        dimension_numbers: As `lax.dot_general` has them.

    Returns:
        The description; None where a size is 0 or more than the library counts to.
    """
    axes = axes_of(dimension_numbers, len(x.shape), len(y.shape))
    stack, n, k = (prod(x.shape[i] for i in group) for group in axes.left)
    m = prod(y.shape[i] for i in axes.right[2])
    if 0 in (stack, m, n, k) or max(stack, m, n, k) > _LARGEST:
        return None
    left = _matrix(x, axes.left[1], axes.left[2])
    right = _matrix(y, axes.right[1], axes.right[2])
    batch = [x.shape[i] for i in axes.left[0]]
    steps = [
        [v.strides[i] for i in group]
        for v, group in ((x, axes.left[0]), (y, axes.right[0]))
    ]  # fmt: skip
    while True:
        packed = left is None, right is None
        for i, is_packed in enumerate(packed):
            if is_packed:
                size = n * k if i == 0 else k * m
                steps[i] = [s * size for s in contiguous(tuple(batch))]
        outer, inner = _split(batch, steps)
        if prod(batch[:outer]) <= MOST_CALLS:
            break
        if left is not None and not _merges(batch, steps[0]):
            left = None
        else:
            right = None
    offsets = tuple(
        Offsets(
            (0 if packed[1] else y.offset) + _dot(at, steps[1]),
            (0 if packed[0] else x.offset) + _dot(at, steps[0]),
            _dot(at, contiguous(tuple(batch))) * m * n,
        )
        for at in product(*(range(size) for size in batch[:outer]))
    )
    a = right or Matrix(m, k, m, 0, False)
    b = left or Matrix(k, n, k, 0, False)
    a, b = a._replace(stride=inner[1]), b._replace(stride=inner[0])
    return Gemm(m, n, k, prod(batch[outer:]), a, b, offsets, packed)


def _dot(at: Sequence[int], strides: Sequence[int]) -> int:
    return sum(i * s for i, s in zip(at, strides, strict=False))


def _matrix(view: View, rows: Sequence[int], columns: Sequence[int]) -> Matrix | None:
    """Groups of axes as a row-major matrix; None where the library cannot read it as it lies."""
    groups = [merged([(view.shape[a], view.strides[a]) for a in g]) for g in (rows, columns)]
    down, across = groups
    if down is None or across is None:
        return None
    (n, step), (m, stride) = down, across
    if (stride == 1 or m == 1) and (step >= m or n == 1):
        return Matrix(m, n, step if n > 1 else m, 0, False)
    if (step == 1 or n == 1) and (stride >= n or m == 1):
        return Matrix(n, m, stride if m > 1 else n, 0, True)
    return None


def merged(axes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Axes as one, as (size, stride); None where its elements are not evenly apart."""
    wide = [(n, s) for n, s in axes if n != 1]
    if any(outer != n * inner for (_, outer), (n, inner) in pairwise(wide)):
        return None
    return prod(n for n, _ in wide), wide[-1][1] if wide else 0


def _split(batch: Sequence[int], steps: Sequence[Sequence[int]]) -> tuple[int, list[int]]:
    """How many leading axes of the stack take calls of their own, and strides over the others."""
    for outer in range(len(batch) + 1):
        axes = [merged(list(zip(batch[outer:], s[outer:], strict=True))) for s in steps]
        strides = [found[1] for found in axes if found is not None and found[1] >= 0]
        if len(strides) == len(steps):
            return outer, strides
    raise AssertionError("no axes always merge")


def _merges(batch: Sequence[int], steps: Sequence[int]) -> bool:
    found = merged(list(zip(batch, steps, strict=True)))
    return found is not None and found[1] >= 0
