"""Matrix products of loops: C functions of the BLAS that SciPy comes with, and their arguments."""

import ctypes
import functools
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cpu import small
from fgrad.backends.cpu.pool import thread_count
from fgrad.backends.cpu.tape import Op
from fgrad.compile.plan import Added, Buffer, Library, View
from fgrad.core.ir import Literal
from fgrad.lax.contract_plans import free_axes

_LETTERS = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}
_LARGEST = 2**31 - 1  # BLAS counts in C ints
_FLOP_NS, _CALL_NS = 0.02, 200.0  # a multiplication with an addition; a call


class Matrices(NamedTuple):
    """A stack of matrices in memory, as BLAS reads it.

    Attributes:
        offset: The first element.
        stride: Elements from one matrix to the next.
        flipped: Whether columns are contiguous, not rows.
        lead: Elements from one row (flipped: column) to the next.
    """

    offset: int
    stride: int
    flipped: bool
    lead: int


class Product(NamedTuple):
    """``[stack, rows, inner] @ [stack, inner, columns]``.

    Attributes:
        left: The left operand; None where BLAS cannot read it as it lies.
        right: The right operand, likewise.
        left_axes: The axes of the left operand in the order (stack, rows, inner).
        right_axes: Those of the right operand in the order (stack, inner, columns).
    """

    stack: int
    rows: int
    columns: int
    inner: int
    left: Matrices | None
    right: Matrices | None
    left_axes: tuple[int, ...]
    right_axes: tuple[int, ...]


def product(step: Library, buffers: Sequence[Buffer]) -> Product | None:
    """What BLAS has to compute for a step; None where the step is no product of its dtypes."""
    eqn = step.eqn
    if eqn.primitive.name != "dot_general" or any(isinstance(a, Literal) for a in step.inputs):
        return None
    x, y = step.inputs
    assert isinstance(x, View)
    assert isinstance(y, View)
    dtypes = {v.aval.dtype for v in (*eqn.inputs, *eqn.outputs)}
    if len(dtypes) > 1 or buffers[x.buffer].dtype.name not in _LETTERS:
        return None
    (lc, rc), (lb, rb) = numbers = eqn.params["dimension_numbers"]
    lf, rf = free_axes(numbers, len(x.shape), len(y.shape))
    order = sorted(range(len(lc)), key=lc.__getitem__)  # so that the left operand's axes may merge
    lc, rc = [lc[i] for i in order], [rc[i] for i in order]
    count, rows = prod(x.shape[i] for i in lb), prod(x.shape[i] for i in lf)
    columns, inner = prod(y.shape[i] for i in rf), prod(x.shape[i] for i in lc)
    sizes = (count, rows, columns, inner)
    if 0 in sizes or max(rows * inner, inner * columns, rows * columns) > _LARGEST:
        return None
    return Product(
        *sizes, _matrices(x, lb, lf, lc), _matrices(y, rb, rc, rf),
        (*lb, *lf, *lc), (*rb, *rc, *rf),
    )  # fmt: skip


def _matrices(
    view: View, stack: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> Matrices | None:
    """A view as matrices whose axes are groups of its own; None where BLAS cannot read it."""
    found = []
    for axes in (stack, rows, columns):
        found_axis = merged([(view.shape[a], view.strides[a]) for a in axes])
        if found_axis is None:
            return None
        found.append(found_axis)
    (_, step), (n, down), (m, across) = found
    if (across == 1 or m == 1) and (down >= m or n == 1):
        return Matrices(view.offset, step, False, down if n > 1 else m)
    if (down == 1 or n == 1) and (across >= n or m == 1):
        return Matrices(view.offset, step, True, across if m > 1 else n)
    return None


def merged(axes: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Axes as one, as (size, stride); None where its elements are not evenly apart."""
    wide = [(n, s) for n, s in axes if n != 1]
    for (_, outer), (n, inner) in pairwise(wide):
        if outer != n * inner:
            return None
    return prod(n for n, _ in wide), wide[-1][1] if wide else 0


def is_small(p: Product, dtype: Any) -> bool:
    """Whether code of our own is quicker than BLAS, once rows of the right operand lie dense."""
    size = p.rows * p.columns * p.inner
    return dtype.name in small.NAMES and p.inner <= small.DEEPEST and size <= small.LARGEST


def cost_ns(p: Product, dtype: Any) -> float:
    """How long a product takes one core, roughly."""
    size: int = dtype.itemsize
    return _CALL_NS + p.stack * p.rows * p.columns * p.inner * _FLOP_NS * size / 4


def parameters(p: Product, dtype: Any, *, added: bool) -> Any:
    """What `tape.Op.GEMM` calls parameters, as bytes; the product may be added to what is there.

    BLAS reads columns first: it computes the transposed product from the operands, exchanged.
    """
    assert p.left is not None
    assert p.right is not None
    block = np.zeros(64, np.uint8)
    block[:16].view(dtype)[0] = 1
    block[16:32].view(dtype)[0] = added
    sizes = (p.columns, p.rows, p.inner, p.right.lead, p.left.lead, p.columns)
    block[32:56].view(np.int32)[:] = sizes
    block[56:58] = [ord("T" if m.flipped else "N") for m in (p.right, p.left)]
    return block


def instruction(
    step: Library, buffers: Sequence[Buffer], words: Mapping[int, int], keep: list[Any]
) -> tuple[list[int], float]:
    """The instruction of a tape for a product, and how long it takes.

    Args:
        step: The product; BLAS can read its operands.
        buffers: Those of its plan.
        words: For each buffer the word of the frame that points to it.
        keep: Takes what the instruction points to.
    """
    found = product(step, buffers)
    assert found is not None
    right, left = found.right, found.left
    assert right is not None
    assert left is not None
    x, y = (v for v in step.inputs if isinstance(v, View))
    (out,) = step.outputs
    dtype = buffers[out].dtype
    item, added = dtype.itemsize, isinstance(step, Added)
    places = words[x.buffer], words[y.buffer], words[out]
    offsets = left.offset * item, right.offset * item, 0
    strides = left.stride * item, right.stride * item, found.rows * found.columns * item
    ns = cost_ns(found, dtype)
    if is_small(found, dtype) and not right.flipped:
        code = small.code()
        keep.append(code)
        down, across = (1, left.lead) if left.flipped else (left.lead, 1)
        return [
            Op.SMALL, code.addresses[small.NAMES[dtype.name]], *places, *offsets, found.stack,
            *strides, found.rows, found.columns, found.inner, down, across, right.lead, added,
        ], ns  # fmt: skip
    block = parameters(found, dtype, added=added)
    keep.append(block)
    (a, b, c), (ao, bo, co), (da, db, dc) = places, offsets, strides
    return [
        Op.GEMM, address(dtype), block.ctypes.data, b, a, c, bo, ao, co, found.stack, db, da, dc,
    ], ns  # fmt: skip


@functools.cache
def address(dtype: Any) -> int:
    """The C function for a dtype."""
    capsules = import_module("scipy.linalg.cython_blas").__pyx_capi__
    if os.environ.get("FGRAD_NUM_THREADS"):
        import_module("fgrad.backends.cpu.budget").bound(thread_count(), True)
    capsule = capsules[f"{_LETTERS[dtype.name]}gemm"]
    api = ctypes.pythonapi
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    read = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    found: int = read(capsule, name(capsule))
    return found
