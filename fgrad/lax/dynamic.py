"""Slices whose position is computed: `dynamic_slice` and `dynamic_update_slice`.

A start that would let the slice leave the operand is moved to the nearest at which it fits, as in
XLA; the public functions count negative starts from the end of their axis first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integers
from fgrad.core.basis import Dims
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl
from fgrad.core.primitive import (
    ANY,
    TYPE,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add
from fgrad.lax.compare import lt
from fgrad.lax.gather import gather_p
from fgrad.lax.index import GatherDimensionNumbers, GatherScatterMode, Ints
from fgrad.lax.joining import concatenate
from fgrad.lax.scatter import scatter_p
from fgrad.lax.shape import value
from fgrad.lax.slicing import index_in_dim

__all__ = [
    "dynamic_slice",
    "dynamic_slice_p",
    "dynamic_update_slice",
    "dynamic_update_slice_p",
]


def _check(name: str, x: ShapedArray, starts: Sequence[ShapedArray], sizes: Ints) -> None:
    if any(not dtypes.is_integer(s.dtype) or s.ndim for s in starts):
        types = ", ".join(map(str, starts))
        raise DtypeError(f"{name}: start indices must be integer scalars, got {types}")
    if len(starts) != x.ndim or len(sizes) != x.ndim:
        raise ShapeError(f"{name}: {x} needs one start and one size an axis, got {len(starts)}")
    if any(not 0 <= s <= n for s, n in zip(sizes, x.shape, strict=True)):
        raise ShapeError(f"{name}: a slice of {list(sizes)} does not fit into {x}")


def _window(x: Any, starts: Sequence[Any], sizes: Sequence[int]) -> tuple[slice, ...]:
    """The box at the starts, moved inside; raises where the abstract rule would."""
    if len(starts) != x.ndim or len(sizes) != x.ndim or any(
        s > n or i.ndim or i.dtype.kind not in "iu"
        for s, n, i in zip(sizes, x.shape, starts, strict=True)
    ):  # fmt: skip
        raise ValueError("operands")
    firsts = (min(max(int(i), 0), n - s) for i, s, n in zip(starts, sizes, x.shape, strict=True))
    return tuple(slice(i, i + s) for i, s in zip(firsts, sizes, strict=True))


def _vectors(axis: MappedAxis, starts: Sequence[Value], dims: Dims) -> tuple[Value, int | None]:
    """Start scalars as one index vector, ``[batch, n]`` with its mapped axis, or ``[n]``."""
    common = np.result_type(*[s.dtype for s in starts])
    starts = [basis.convert_element_type(s, common) for s in starts]
    if all(d is None for d in dims):
        return concatenate([basis.reshape(s, (1,)) for s in starts], 0), None
    columns = [
        basis.reshape(basis.lead(s, d, axis.size), (axis.size, 1))
        for s, d in zip(starts, dims, strict=True)
    ]
    return concatenate(columns, 1), 0


def _window_params(ndim: int) -> dict[str, Any]:
    every = tuple(range(ndim))
    return {
        "dimension_numbers": GatherDimensionNumbers(every, (), every),
        "mode": GatherScatterMode.CLIP,
        "indices_are_sorted": True,
        "unique_indices": True,
    }


# --------------------------------------------------------------------------------- dynamic_slice


def _slice_abstract(x: ShapedArray, *starts: ShapedArray, slice_sizes: Ints) -> ShapedArray:
    _check("dynamic_slice", x, starts, slice_sizes)
    return ShapedArray(slice_sizes, x.dtype, x.weak_type)


def _slice_pull(ct: Value, aval: ShapedArray, starts: Sequence[Value]) -> Value:
    return bind(dynamic_update_slice_p, basis.zeros(aval.tangent()), ct, *starts)


def _slice_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, slice_sizes: Ints
) -> tuple[Value, int]:
    x, *starts = args
    d = dims[0]
    if d is not None and all(e is None for e in dims[1:]):
        sizes = (*slice_sizes[:d], axis.size, *slice_sizes[d:])
        starts.insert(d, basis.scalar(0, np.dtype(np.int32)))
        return bind(dynamic_slice_p, x, *starts, slice_sizes=sizes), d
    vectors, mapped = _vectors(axis, starts, dims[1:])
    params = _window_params(len(starts)) | {"slice_sizes": slice_sizes, "fill_value": None}
    rule = gather_p.rule("batch")
    return rule(axis, (x, vectors), (d, mapped), **params)  # type: ignore[no-any-return]


_START = Operand(0, 3, dtype="int32", generator="indices")

dynamic_slice_p: Primitive = Primitive(
    "dynamic_slice",
    "A box of fixed size out of an operand, at computed starts.",
    abstract=_slice_abstract,
    eager=lambda _xp, x, *starts, slice_sizes: x[_window(x, starts, slice_sizes)],
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: dynamic_slice_p, ps, ts, **params),
    transpose=lambda ct, x, *starts, slice_sizes: (
        _slice_pull(ct, x.aval, starts),
        *(None for _ in starts),
    ),
    vjp=Pullback(
        None,
        lambda needed, res, ct, _params: (
            _slice_pull(ct, res[0], res[1:]),
            *(None for _ in needed[1:]),
        ),
        lambda needed: (TYPE(0), *range(1, len(needed))),
    ),
    batch=_slice_batch,
    lower=Lowering("view", "dynamic_slice"),
    linear="jointly",
    linear_in=(0,),
    spec=Spec(
        (Operand(), _START, _START),
        (Case("5 n,,", lambda s: {"slice_sizes": (2, s["n"])}),),
        dtypes=ANY,
        reference=lambda x, i, _j, *, slice_sizes: x[
            min(max(int(i), 0), len(x) - slice_sizes[0]) :
        ][: slice_sizes[0]],
        ulps=0.0,
        invalid=(
            Invalid(("f32[2,2]", "f32[]", "i32[]"), DtypeError, "integer", slice_sizes=(1, 1)),
            Invalid(("f32[2,2]", "i32[]", "i32[]"), ShapeError, "fit", slice_sizes=(3, 1)),
            Invalid(("f32[2]", "i32[]", "i32[]"), ShapeError, "one start", slice_sizes=(1,)),
        ),
    ),
)


# -------------------------------------------------------------------------- dynamic_update_slice


def _update_abstract(x: ShapedArray, update: ShapedArray, *starts: ShapedArray) -> ShapedArray:
    if x.dtype != update.dtype:
        raise DtypeError(f"dynamic_update_slice: operand {x} and update {update} need one dtype")
    _check("dynamic_update_slice", x, starts, update.shape)
    return ShapedArray(x.shape, x.dtype, x.weak_type and update.weak_type)


def _update_eager(xp: Any, x: Any, update: Any, *starts: Any) -> Any:
    if x.dtype != update.dtype:
        raise ValueError("dtypes")
    window = _window(x, starts, update.shape)
    out = xp.array(x)
    out[window] = update
    return out


def _update_pull(
    needed: Sequence[bool], ct: Value, shape: Ints, starts: Sequence[Value]
) -> tuple[Value | None, ...]:
    ct_x = ct_update = None
    if needed[0]:
        blank = basis.zeros(ShapedArray(shape, ct.dtype))
        ct_x = bind(dynamic_update_slice_p, ct, blank, *starts)
    if needed[1]:
        ct_update = bind(dynamic_slice_p, ct, *starts, slice_sizes=shape)
    return ct_x, ct_update, *(None for _ in starts)


def _update_transpose(ct: Value, x: Any, update: Any, *starts: Value) -> tuple[Value | None, ...]:
    needed = (isinstance(x, Unknown), isinstance(update, Unknown))
    return _update_pull(needed, ct, update.aval.shape if needed[1] else update.shape, starts)


def _update_jvp(primals: Sequence[Value], tangents: Sequence[Value | None]) -> tuple[Value, Value]:
    x, update, *starts = primals
    t, u = (basis.instantiate(t, p) for t, p in zip(tangents[:2], primals[:2], strict=True))
    out = bind(dynamic_update_slice_p, x, update, *starts)
    return out, bind(dynamic_update_slice_p, t, u, *starts)


def _update_batch(axis: MappedAxis, args: Sequence[Value], dims: Dims) -> tuple[Value, int]:
    x, update = (basis.lead(v, d, axis.size) for v, d in zip(args[:2], dims[:2], strict=True))
    starts = list(args[2:])
    if all(d is None for d in dims[2:]):
        first = basis.scalar(0, np.dtype(np.int32))
        return bind(dynamic_update_slice_p, x, update, first, *starts), 0
    vectors, mapped = _vectors(axis, starts, dims[2:])
    params = _window_params(len(starts))
    params["dimension_numbers"] = params["dimension_numbers"].as_scatter()
    rule = scatter_p.rule("batch")
    return rule(axis, (x, vectors, update), (0, mapped, 0), **params)  # type: ignore[no-any-return]


def _update_reference(x: Any, update: Any, i: Any, _j: Any) -> Any:
    out = np.array(x)
    first = min(max(int(i), 0), len(x) - len(update))
    out[first : first + len(update)] = update
    return out


dynamic_update_slice_p: Primitive = Primitive(
    "dynamic_update_slice",
    "Overwrite a box of an operand, at computed starts.",
    abstract=_update_abstract,
    eager=_update_eager,
    jvp=_update_jvp,
    transpose=_update_transpose,
    vjp=Pullback(
        None,
        lambda needed, res, ct, _params: _update_pull(needed, ct, res[0].shape, res[1:]),
        lambda needed: (TYPE(1), *range(2, len(needed))),
    ),
    batch=_update_batch,
    lower=Lowering("library", "dynamic_update_slice"),
    linear="jointly",
    linear_in=(0, 1),
    spec=Spec(
        (Operand(), Operand(), _START, _START),
        (Case("5 n, 2 n,,", {}),),
        dtypes=ANY,
        reference=_update_reference,
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f64[1]", "i32[]"), DtypeError, "one dtype"),
            Invalid(("f32[2]", "f32[1]", "f32[]"), DtypeError, "integer"),
            Invalid(("f32[2]", "f32[3]", "i32[]"), ShapeError, "fit"),
        ),
    ),
)


# ------------------------------------------------------------------------------ public functions


def _starts(
    name: str, x: Value, start_indices: Any, allow_negative: bool | Sequence[bool]
) -> list[Value]:
    """The starts as integer scalars; negative ones count from the end of their axis."""
    if isinstance(start_indices, list | tuple):
        starts = [value(i) for i in start_indices]
    else:
        vector = value(start_indices)
        if vector.ndim != 1:
            raise ShapeError(
                f"{name}: start_indices must be scalars or a vector, got {vector.aval}"
            )
        starts = [index_in_dim(vector, k, keepdims=False) for k in range(vector.shape[0])]
    if len(starts) != x.ndim:
        raise ShapeError(f"{name}: {len(starts)} start indices for the {x.ndim} axes of {x.aval}")
    wraps = [allow_negative] * x.ndim if isinstance(allow_negative, bool) else allow_negative
    return [_wrapped(i, n) if w else i for i, n, w in zip(starts, x.shape, wraps, strict=True)]


def _wrapped(index: Value, n: int) -> Value:
    """An index counted from the end where it is negative."""
    if index.dtype.kind != "i" or index.ndim:
        return index
    if type(index) is ArrayImpl and type(index._data) is np.ndarray:
        number = int(index._data)
        return index if number >= 0 else basis.scalar(number + n, np.dtype(np.int64))
    if index.dtype.itemsize < 4:  # n may be too long for it
        index = basis.convert_element_type(index, np.int32)
    zero, length = (basis.scalar(k, index.dtype) for k in (0, n))
    return basis.select_n(lt(index, zero), index, add(index, length))


def dynamic_slice(
    operand: Any,
    start_indices: Any,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Value:
    """A box of fixed size out of an operand, at computed starts.

    Args:
        operand: ``[n₀, n₁, …]``, any dtype.
        start_indices: An integer scalar for each axis, or one vector of them. A start at which
            the box does not fit is moved to the nearest at which it does.
        slice_sizes: The size of the box.
        allow_negative_indices: Whether negative starts count from the end of their axis.

    Returns:
        ``[*slice_sizes]``, the dtype of `operand`.

    Raises:
        ShapeError: The box is larger than `operand`, or an entry is missing.
        DtypeError: A start is no integer scalar.

    Example:
        >>> dynamic_slice(np.arange(5, dtype=np.float32), (4,), (2,))
        Array([3., 4.], dtype=float32)
    """
    x = value(operand)
    starts = _starts("dynamic_slice", x, start_indices, allow_negative_indices)
    return bind(
        dynamic_slice_p, x, *starts, slice_sizes=integers(slice_sizes, "dynamic_slice: slice_sizes")
    )


def dynamic_update_slice(
    operand: Any,
    update: Any,
    start_indices: Any,
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Value:
    """Overwrite a box of an operand, at computed starts; see `dynamic_slice`.

    Args:
        operand: ``[n₀, n₁, …]``, any dtype.
        update: The box, of the same dtype and number of axes.
        start_indices: An integer scalar for each axis, or one vector of them.
        allow_negative_indices: Whether negative starts count from the end of their axis.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        ShapeError: The box is larger than `operand`, or an entry is missing.
        DtypeError: A start is no integer scalar, or the dtypes differ.

    Example:
        >>> dynamic_update_slice(np.zeros(3, np.float32), np.ones(1, np.float32), (-1,))
        Array([0., 0., 1.], dtype=float32)
    """
    x = value(operand)
    starts = _starts("dynamic_update_slice", x, start_indices, allow_negative_indices)
    return bind(dynamic_update_slice_p, x, value(update), *starts)
