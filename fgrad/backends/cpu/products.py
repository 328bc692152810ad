"""Matrix products that write into memory of ours: `lax.dot_general` through BLAS with `out=`."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.backends.cpu.gemm import merged
from fgrad.compile.plan import Library, View
from fgrad.core.ir import Eqn
from fgrad.lax.contract_plans import free_axes

_BLAS = tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))
Product = Callable[[Any, Any, Any], Any]


def product_of(eqn: Eqn) -> Product | None:
    """``(x, y, out) -> anything`` that writes the product into a contiguous array.

    None where the equation is no product that BLAS computes in the dtype of its operands.
    """
    if eqn.primitive.name != "dot_general":
        return None
    x, y = (a.aval for a in eqn.inputs)
    if x.dtype not in _BLAS or x.dtype != y.dtype or eqn.outputs[0].aval.dtype != x.dtype:
        return None
    (lc, rc), (lb, _) = eqn.params["dimension_numbers"]
    if len(lc) == 1 and not lb and x.ndim == y.ndim == 2:
        return _two_matrices(lc[0] == 0, rc[0] == 1)
    return _stacks(x.shape, y.shape, eqn.params["dimension_numbers"])


def _two_matrices(flip_x: bool, flip_y: bool) -> Product:
    # ndarray.dot hands transposed views to BLAS, and is the quickest way into it.
    if flip_x and flip_y:
        return lambda x, y, out: x.T.dot(y.T, out)
    if flip_x:
        return lambda x, y, out: x.T.dot(y, out)
    if flip_y:
        return lambda x, y, out: x.dot(y.T, out)
    return lambda x, y, out: x.dot(y, out)


def _stacks(x_shape: tuple[int, ...], y_shape: tuple[int, ...], numbers: Any) -> Product:
    """Axes permuted as views, then merged to stacks of matrices."""
    (lc, rc), (lb, rb) = numbers
    lf, rf = free_axes(numbers, len(x_shape), len(y_shape))
    # In the order of the left operand, its contracted axes merge without a copy.
    order = sorted(range(len(lc)), key=lc.__getitem__)
    left, right = (*lb, *lf, *sorted(lc)), (*rb, *(rc[i] for i in order), *rf)
    stack = tuple(x_shape[i] for i in lb)
    rows, columns = prod(x_shape[i] for i in lf), prod(y_shape[i] for i in rf)
    inner = prod(x_shape[i] for i in lc)
    x_matrix, y_matrix = (*stack, rows, inner), (*stack, inner, columns)
    out_matrix = (*stack, rows, columns)

    def run(x: Any, y: Any, out: Any) -> None:
        x = _readable(x.transpose(left).reshape(x_matrix))
        y = _readable(y.transpose(right).reshape(y_matrix))
        np.matmul(x, y, out=out.reshape(out_matrix))

    return run


def copied_bytes(step: Library) -> int:
    """Bytes of the operands that a product of `product_of` copies, because BLAS cannot read them.

    Args:
        step: The product.
    """
    (lc, rc), (lb, rb) = numbers = step.eqn.params["dimension_numbers"]
    avals = [a.aval for a in step.eqn.inputs]
    lf, rf = free_axes(numbers, avals[0].ndim, avals[1].ndim)
    order = sorted(range(len(lc)), key=lc.__getitem__)
    left = (lb, lf, [lc[i] for i in order])
    right = (rb, [rc[i] for i in order], rf)
    return sum(
        a.nbytes
        for a, view, groups in zip(avals, step.inputs, (left, right), strict=True)
        if isinstance(view, View) and a.size and _is_copied(view, groups)
    )


def _is_copied(view: View, groups: Sequence[Sequence[int]]) -> bool:
    """Whether axes in groups cannot become three, of which one of the last two is contiguous."""
    axes = [merged([(view.shape[i], view.strides[i]) for i in group]) for group in groups]
    if None in axes:
        return True
    # An axis of one element has the stride that reshaping gives it: it fits.
    return all(axis is not None and axis[0] > 1 and axis[1] != 1 for axis in axes[1:])


def _readable(x: Any) -> Any:
    """`x`, or a copy where neither of its last two axes is contiguous (BLAS could not read it)."""
    item = x.dtype.itemsize
    return x if item in (x.strides[-1], x.strides[-2]) else np.ascontiguousarray(x)
