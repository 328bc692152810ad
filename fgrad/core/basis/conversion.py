"""The same values in another dtype: `convert_element_type`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis.alignment import (
    batch_pointwise,
)
from fgrad.core.basis.rules import (
    Avals,
    linear_jvp,
    linear_pullback,
    made_by,
)
from fgrad.core.primitive import (
    ANY,
    Absent,
    Case,
    Lowering,
    Primitive,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind


def _convert_abstract(x: Avals, *, new_dtype: np.dtype[Any], weak_type: bool) -> ShapedArray:
    return ShapedArray(x.shape, new_dtype, weak_type)


def _convert_eager(xp: Any, x: Any, *, new_dtype: np.dtype[Any], weak_type: bool) -> Any:
    if x.dtype.kind == "c" and new_dtype.kind not in "cb":
        x = x.real
    if x.dtype == new_dtype:
        return x
    if new_dtype.kind in "iu" and x.dtype.kind in "fV":
        return _saturate(xp, x, new_dtype)
    return x.astype(new_dtype)


def _saturate(xp: Any, x: Any, new_dtype: np.dtype[Any]) -> Any:
    """Float to integer as defined here: truncate, clamp to the range, NaN to 0."""
    bounds = np.iinfo(new_dtype)
    w = x.astype(np.float64) if x.dtype.itemsize < 8 else x
    inside = xp.clip(xp.nan_to_num(w, nan=0.0), float(bounds.min), float(bounds.max))
    out = xp.trunc(inside).astype(new_dtype)
    # The greatest 64-bit integers are no floats: what reached the bound is the bound.
    out = xp.where(w >= float(bounds.max), new_dtype.type(bounds.max), out)
    return xp.where(w <= float(bounds.min), new_dtype.type(bounds.min), out).astype(new_dtype)


def _convert_transpose(
    ct: Value, x: Unknown, *, new_dtype: np.dtype[Any], weak_type: bool
) -> tuple[Value]:  # fmt: skip
    return (convert_element_type(ct, x.aval.dtype),)


def _convert_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    x = args[0]
    new = params["new_dtype"]
    if x.dtype == new and x.weak_type == params["weak_type"]:
        return x
    found = made_by(x, convert_element_type_p)
    if found is None:
        return None
    first = found[0][0]
    # From a float to an integer values saturate, from one integer to another they wrap.
    differ = x.dtype.kind not in "biu" and new.kind in "iu" and first.dtype.kind in "iu"
    if not is_exact(first.dtype, x.dtype) or (differ and not is_exact(first.dtype, new)):
        return None
    return convert_element_type(first, new, weak_type=params["weak_type"])


def is_exact(dtype: np.dtype[Any], new: np.dtype[Any]) -> bool:
    """Whether every value of a dtype is one of another dtype."""
    kinds = [d.kind if d.kind in "biuc" else "f" for d in (dtype, new)]
    if dtype == new or dtype.kind == "b":
        return True
    if kinds[0] in "iu":
        ints = np.iinfo(dtype)
        if kinds[1] in "iu":
            wide = np.iinfo(new)
            return bool(wide.min <= ints.min and ints.max <= wide.max)
        return kinds[1] != "b" and ints.bits - (kinds[0] == "i") <= dtypes.finfo(new).nmant + 1
    if (kinds[0] == "c" and kinds[1] != "c") or kinds[1] in "biu":
        return False
    few, many = dtypes.finfo(dtype), dtypes.finfo(new)
    # The least subnormal and the greatest value, and all digits between.
    return bool(
        few.nmant <= many.nmant
        and float(few.max) <= float(many.max)
        and float(few.smallest_subnormal) >= float(many.smallest_subnormal)
    )


def _convert_reference(x: Any, *, new_dtype: np.dtype[Any], weak_type: bool) -> Any:
    """In the widest dtype of the kind, before it is rounded."""
    if new_dtype.kind == "b":
        return x != 0
    if new_dtype.kind == "c":
        return x
    return np.trunc(x.real) if new_dtype.kind in "iu" else x.real


def _convert_scalar(avals: Sequence[Avals], params: dict[str, Any]) -> Any:
    if avals[0].dtype == np.float64 and params["new_dtype"] == np.float16:
        return Absent("kernels would round twice, to float32 on the way")
    return "convert(x)"


convert_element_type_p: Primitive = Primitive(
    "convert_element_type",
    "The same values in another dtype.",
    abstract=_convert_abstract,
    eager=_convert_eager,
    jvp=lambda ps, ts, **params: linear_jvp(lambda: convert_element_type_p, ps, ts, **params),
    transpose=_convert_transpose,
    vjp=linear_pullback(_convert_transpose),
    batch=lambda axis, args, dims, **p: batch_pointwise(
        convert_element_type_p, axis, args, dims, p
    ),
    lower=Lowering("pointwise", _convert_scalar),
    linear="jointly",
    differentiable=lambda new_dtype, weak_type: dtypes.is_inexact(new_dtype),
    simplify=_convert_simplify,
    spec=Spec(
        cases=(
            Case("...", {"new_dtype": np.dtype(np.float64), "weak_type": False}, name="to_f64"),
            Case("...", {"new_dtype": np.dtype(np.float32), "weak_type": False}, name="to_f32"),
            Case("...", {"new_dtype": np.dtype(np.int32), "weak_type": False}, name="to_i32"),
            Case("...", {"new_dtype": np.dtype(np.complex128), "weak_type": False}, name="to_c128"),
        ),
        dtypes=ANY,
        reference=_convert_reference,
        ulps=0.5,
    ),
)


def gives_way(x: Value, dtype: np.dtype[Any]) -> bool:
    """Whether `x` may take `dtype` by itself: it is weakly typed, and would lose nothing."""
    return x.weak_type and not (x.dtype.kind == "c" and dtype.kind != "c")


def convert_element_type(x: Value, dtype: Any, *, weak_type: bool = False) -> Value:
    """`x` in another dtype; complex to real keeps the real part, float to integer truncates."""
    new_dtype = np.dtype(dtype)
    if x.dtype == new_dtype and x.weak_type == weak_type:
        return x
    return bind(convert_element_type_p, x, new_dtype=new_dtype, weak_type=weak_type)
