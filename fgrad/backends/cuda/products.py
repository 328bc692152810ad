"""`lax.dot_general` on the device: by cuBLASLt, or by a kernel of our own.

Floats and complex numbers go to cuBLASLt, operands that it cannot read are packed first. Integers,
truth values and sums in a wider dtype are computed by `contraction`.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

from fgrad.backends.cuda import contraction, copying, cublas, gemm
from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    WORKSPACE,
    Call,
    ForeignCall,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.contraction import Axis, Contraction
from fgrad.backends.cuda.gemm import Axes, Gemm
from fgrad.backends.cuda.texts import is_known
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Added, Library, View, contiguous
from fgrad.core.config import config
from fgrad.lax.precision import Precision, multiply_in

_MOST_WORKSPACE = 32 << 20  # bytes, what NVIDIA recommends for its largest devices
_LEAST_WORKSPACE = 1 << 20
_SPLITS = 32  # parts of a split sum, of the size of the result in float32, that there is room for
_ALIGNMENT = 256
_COMPUTE = {
    None: cublas.FULL, Precision.HIGHEST: cublas.FULL, Precision.HIGH: cublas.TF32,
    Precision.DEFAULT: cublas.BF16,
}  # fmt: skip
_BIASED = ("float16", "bfloat16", "float32")  # the dtypes for which there are epilogues
_EXACT_FIRST = (cublas.FULL, cublas.TF32, cublas.BF16)


def compute_of(precision: Any) -> str:
    """How float32 is multiplied: in full unless both operands are said to need less.

    Args:
        precision: The parameter of `lax.dot_general`: None, a `Precision`, or one an operand.
    """
    given = precision if isinstance(precision, tuple) else (precision,)
    return min((_COMPUTE[p] for p in given), key=_EXACT_FIRST.index)


def plan(step: Library, views: Sequence[View], epilogue: str | None = None) -> LibraryPlan | None:
    """What computes a product.

    Args:
        step: The product; `plan.Added` adds to what the result holds.
        views: Its operands; with an epilogue, the bias after them, over the columns of the result.
        epilogue: None, 'bias' or 'gelu_bias', of products that `takes_epilogue`.

    Returns:
        None where there is no code for its dtypes.
    """
    x, y = views[:2]
    dtype, out = step.eqn.inputs[0].aval.dtype, step.eqn.outputs[0].aval
    numbers = step.eqn.params["dimension_numbers"]
    if not out.size:
        return LibraryPlan("product of no elements", ())
    g = gemm.describe(x, y, numbers) if _is_blas(dtype, out.dtype) else None
    if g is not None:
        return _by_library(step, views, g, epilogue)
    if not (is_known(dtype) and is_known(out.dtype)):
        return None
    call = _own(step, x, y)
    return None if call is None else LibraryPlan("product by a kernel", (call,))


def takes_epilogue(step: Library) -> bool:
    """Whether a vector over the columns of a product can be added in one call with it."""
    out = step.eqn.outputs[0].aval
    dtype = step.eqn.inputs[0].aval.dtype
    return bool(out.size) and dtype.name in _BIASED and _is_blas(dtype, out.dtype)


def _is_blas(dtype: DType, out: DType) -> bool:
    """Whether cuBLASLt multiplies numbers of a dtype to give those of another."""
    halves = dtype.name in ("float16", "bfloat16") and out.name == "float32"
    return dtype.name in cublas.DATA_TYPES and (out == dtype or halves)


def _by_library(step: Library, views: Sequence[View], g: Gemm, epilogue: str | None) -> LibraryPlan:
    dtype, out = step.eqn.inputs[0].aval.dtype, step.eqn.outputs[0].aval
    axes = gemm.axes_of(step.eqn.params["dimension_numbers"], *(len(v.shape) for v in views[:2]))
    calls: list[Call] = []
    places, used = [], 0
    for i, (view, groups, is_packed) in enumerate(zip(views, axes, g.packed, strict=False)):
        place = Place(INPUT, i)
        if is_packed:
            place, order = Place(WORKSPACE, 0, used), [a for group in groups for a in group]
            calls.append(copying.call(view, order, dtype, (Place(INPUT, i), place)))
            used += -(-prod(view.shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        places.append(place)
    room = _SPLITS * 4 * out.size + _LEAST_WORKSPACE
    spec = cublas.Spec(
        g, dtype.name, out.dtype.name, compute_of(step.eqn.params["precision"]),
        isinstance(step, Added), epilogue, min(room, _MOST_WORKSPACE), config.autotune,
    )  # fmt: skip
    places += [Place(OUTPUT, 0), Place(WORKSPACE, 0, used)]
    if epilogue:
        places.append(Place(INPUT, 2, views[2].offset * out.dtype.itemsize))
    calls.append(ForeignCall(f"cuBLASLt {spec}", tuple(places), partial(cublas.Product, spec)))
    return LibraryPlan("product by cuBLASLt", tuple(calls), used + spec.workspace_bytes)


def _own(step: Library, x: View, y: View) -> KernelCall | None:
    dtype, out = step.eqn.inputs[0].aval.dtype, step.eqn.outputs[0].aval.dtype
    axes: Axes = gemm.axes_of(step.eqn.params["dimension_numbers"], len(x.shape), len(y.shape))
    (lb, lf, lc), (rb, rc, rf) = axes
    sizes = [x.shape[i] for i in (*lb, *lf)] + [y.shape[i] for i in rf]
    steps = contiguous(tuple(sizes))
    outs = iter(steps)
    stack = tuple(
        Axis(x.shape[i], x.strides[i], y.strides[j], next(outs))
        for i, j in zip(lb, rb, strict=True)
    )
    rows = tuple(Axis(x.shape[i], x.strides[i], 0, next(outs)) for i in lf)
    columns = tuple(Axis(y.shape[j], 0, y.strides[j], next(outs)) for j in rf)
    sums = tuple(
        Axis(x.shape[i], x.strides[i], y.strides[j], 0) for i, j in zip(lc, rc, strict=True)
    )
    form = Contraction(
        stack, rows, columns, sums, (), (x.offset, y.offset, 0), dtype, out,
        multiply_in(dtype, out), isinstance(step, Added),
    )  # fmt: skip
    return contraction.call(form, (Place(INPUT, 0), Place(INPUT, 1), Place(OUTPUT, 0)))
