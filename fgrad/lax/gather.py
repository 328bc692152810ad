"""Gather and its transpose, scatter_add."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integers
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.primitive import (
    ANY,
    NUMERIC,
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
from fgrad.lax.index import (
    GatherDimensionNumbers,
    GatherScatterMode,
    Ints,
    Plan,
    ScatterDimensionNumbers,
    flattened,
    locate,
    plan,
    rows_of,
)
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.scattering import (
    INDICES,
    bind_scatter,
    gather_rows,
    linear_scatter_jvp,
    scatter_abstract,
    scatter_batch,
    scatter_eager,
    scatter_spec,
    shift,
    window_of,
)
from fgrad.lax.shape import value

__all__ = [
    "gather",
    "gather_p",
    "scatter_add",
    "scatter_add_p",
]

_OUTSIDE = "fgrad.lax.outside"  # compiled programs alone need it


def check_indices(name: str, indices: ShapedArray) -> None:
    """Raise `DtypeError` unless the indices are integers."""
    if not dtypes.is_integer(indices.dtype):
        raise DtypeError(f"{name}: indices must be integers, got {indices}; use astype")


# ---------------------------------------------------------------------------------------- gather


def _gather_abstract(
    x: ShapedArray, indices: ShapedArray, *, dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Ints, **_params: Any,
) -> ShapedArray:  # fmt: skip
    check_indices("gather", indices)
    p = plan(x.shape, indices.shape, dimension_numbers, slice_sizes)
    return ShapedArray(p.out_shape, x.dtype, x.weak_type)


def fill_of(dtype: np.dtype[Any]) -> Any:
    """What marks an element that is not there: NaN, the least signed or greatest other value."""
    if dtypes.is_inexact(dtype):
        return np.nan
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


def _gather_eager(
    xp: Any, x: Any, indices: Any, *, dimension_numbers: GatherDimensionNumbers, slice_sizes: Ints,
    mode: GatherScatterMode, fill_value: Any, **_params: Any,
) -> Any:  # fmt: skip
    if indices.dtype.kind not in "iu":
        raise ValueError("indices")
    p = plan(x.shape, indices.shape, dimension_numbers, slice_sizes)
    positions, valid = locate(xp, "gather", p, indices, mode)
    fill = fill_of(x.dtype) if fill_value is None else fill_value
    if not rows_of(p)[0]:  # nothing to read: there is no window, or all lie outside
        return xp.full(p.out_shape, fill, x.dtype)
    out = _read(xp, p, x, positions)
    if valid is None or (xp is np and valid.all()):
        return out
    lengths = dict(zip(p.batch_axes, p.batch_shape, strict=True))
    mask = valid.reshape([lengths.get(i, 1) for i in range(out.ndim)])
    return xp.where(mask, out, xp.asarray(fill).astype(x.dtype))


def _read(xp: Any, p: Plan, x: Any, positions: list[Any]) -> Any:
    """The windows, as axes (batch…, inner…, whole…) put in the order of the result."""
    picked = p.picked
    order: Sequence[int] = p.order
    if len(picked) == 1 and not p.inner:
        # Along one axis, rows of an embedding: the axes before it come before the batch.
        d, b = picked[0], len(p.batch_shape)
        out = xp.take(x, xp.broadcast_to(positions[0], p.batch_shape), axis=d)
        before = sum(w < d for w in p.whole)
        order = (*order[b : b + before], *order[:b], *order[b + before :])
    elif picked == tuple(range(len(picked))) and x.flags.c_contiguous:
        rows = x.reshape(rows_of(p)[0], *x.shape[len(picked) :])
        out = xp.take(rows, flattened(xp, p, positions), axis=0)
    else:
        shape = (*p.batch_shape, *(p.sizes[d] for d in p.inner))
        index = tuple(xp.broadcast_to(i, shape) for i in positions)
        out = x.transpose((*picked, *p.whole))[index]
        out = out if picked else xp.broadcast_to(out, (*shape, *out.shape))
    return out.transpose(np.argsort(order).tolist())


def _gather_pull(ct: Value, aval: ShapedArray, indices: Value, params: dict[str, Any]) -> Value:
    # A window that was filled has no derivative, and scatter_add drops it.
    return scatter_add(
        basis.zeros(aval.tangent()),
        indices,
        ct,
        params["dimension_numbers"].as_scatter(),
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
    )


def _gather_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    x, indices = primals
    out = bind(gather_p, x, indices, **params)
    t = tangents[0]
    if t is None:
        return out, None
    return out, bind(gather_p, t, indices, **{**params, "fill_value": 0})


def _gather_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *,
    dimension_numbers: GatherDimensionNumbers, slice_sizes: Ints, **params: Any,
) -> tuple[Value, int]:  # fmt: skip
    x, indices = args
    n = dimension_numbers
    offset, collapsed, index_map = map(
        shift, (n.offset_dims, n.collapsed_slice_dims, n.start_index_map)
    )
    batching, along = n.operand_batching_dims, n.start_indices_batching_dims
    if dims[1] is None:
        x = basis.lead(x, dims[0], axis.size)
        new = GatherDimensionNumbers((0, *offset), collapsed, index_map, shift(batching), along)
        sizes = (axis.size, *slice_sizes)
    elif dims[0] is None:
        indices = basis.lead(indices, dims[1], axis.size)
        new = GatherDimensionNumbers(
            offset, n.collapsed_slice_dims, n.start_index_map, batching, shift(along)
        )
        sizes = slice_sizes
    else:
        x, indices = (basis.lead(v, d, axis.size) for v, d in zip(args, dims, strict=True))
        new = GatherDimensionNumbers(
            offset, collapsed, index_map, (0, *shift(batching)), (0, *shift(along))
        )
        sizes = (min(1, axis.size), *slice_sizes)
    return bind(gather_p, x, indices, dimension_numbers=new, slice_sizes=sizes, **params), 0


gather_p: Primitive = Primitive(
    "gather",
    "Windows of an operand at given starts.",
    abstract=_gather_abstract,
    eager=_gather_eager,
    jvp=_gather_jvp,
    transpose=lambda ct, x, indices, **params: (_gather_pull(ct, x.aval, indices, params), None),
    vjp=Pullback(
        None,
        lambda _needed, res, ct, params: (_gather_pull(ct, res[0], res[1], params), None),
        lambda _needed: (TYPE(0), 1),
    ),
    batch=_gather_batch,
    lower=Lowering("view", "gather", lambda *xs, **p: import_module(_OUTSIDE).gathered(*xs, p)),
    linear="jointly",
    linear_in=(0,),
    spec=Spec(
        (Operand(), INDICES),
        (Case("m n, k 1", gather_rows, smallest=1, name="rows"),),
        dtypes=ANY,
        reference=lambda x, i, **_: x[np.clip(i[:, 0], 0, len(x) - 1)],
        ulps=0.0,
        invalid=(
            Invalid(("f32[3,2]", "f32[4,1]"), DtypeError, "integers", **gather_rows({"n": 2})),
            Invalid(("f32[3,2]", "i32[4,2]"), ShapeError, "one entry", **gather_rows({"n": 2})),
            Invalid(("f32[3,2]", "i32[4,1]"), ShapeError, "fit", **gather_rows({"n": 3})),
            Invalid(("f32[3]", "i32[4,1]"), AxisError, "lie within", **gather_rows({"n": 3})),
        ),
    ),
)


def gather(
    operand: Any,
    start_indices: Any,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Value:
    """Windows of an operand at given starts: XLA's Gather.

    Args:
        operand: Any shape and dtype.
        start_indices: ``[batch…, k]``, integers: where each window starts.
        dimension_numbers: Which axis is what.
        slice_sizes: Length of the window along each axis of `operand`.
        unique_indices: A promise that no element is read twice.
        indices_are_sorted: A promise that the starts increase.
        mode: What happens to a window that does not fit; see `GatherScatterMode`.
        fill_value: What stands for it in mode 'fill'; if left out NaN, the least value of a
            signed integer dtype, the greatest of others.

    Returns:
        The window axes of `operand` at ``dimension_numbers.offset_dims``, the batch axes of
        `start_indices` at the other positions.

    Raises:
        IndexOutOfBoundsError: A window does not fit, in the default mode, on the CPU.
        ShapeError: Shapes and dimension numbers do not fit.
        DtypeError: The indices are no integers.

    Source:
        OpenXLA, *Operation semantics*, Gather.

    Example:
        >>> rows = GatherDimensionNumbers((1,), (0,), (0,))
        >>> gather(np.array([[1, 2], [3, 4]], np.float32), np.array([[1], [0]]), rows, (1, 2))
        Array([[3., 4.],
               [1., 2.]], dtype=float32)
    """
    operand = value(operand)
    if isinstance(fill_value, np.generic):
        fill_value = np.asarray(fill_value).item()
    if type(fill_value) is float and operand.dtype.kind != "b" and str(fill_value) == "-0.0":
        # As a parameter it would equal 0.0, and equal equations are written once.
        return basis.neg(
            gather(
                basis.neg(operand), start_indices, dimension_numbers, slice_sizes,
                unique_indices=unique_indices, indices_are_sorted=indices_are_sorted, mode=mode,
                fill_value=0.0,
            )
        )  # fmt: skip
    return bind(
        gather_p,
        operand,
        value(start_indices),
        dimension_numbers=dimension_numbers,
        slice_sizes=integers(slice_sizes, "gather: slice_sizes"),
        indices_are_sorted=bool(indices_are_sorted),
        unique_indices=bool(unique_indices),
        mode=GatherScatterMode.from_any(mode),
        fill_value=fill_value,
    )


# ----------------------------------------------------------------------------------- scatter_add


def _updates_of(ct: Value, shape: Ints, indices: Value, params: dict[str, Any]) -> Value:
    """The part of a cotangent of a scatter's result that belongs to its updates."""
    dnums = params["dimension_numbers"]
    return gather(
        ct,
        indices,
        dnums.as_gather(),
        window_of(ct.shape, shape, dnums),
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
        fill_value=0,
    )


def _add_transpose(
    ct: Value, x: Any, indices: Value, updates: Any, **params: Any
) -> tuple[Value | None, None, Value | None]:
    ct_updates = None
    if isinstance(updates, Unknown):
        ct_updates = _updates_of(ct, updates.aval.shape, indices, params)
    return ct if isinstance(x, Unknown) else None, None, ct_updates


def _add_backward(
    needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, params: dict[str, Any]
) -> tuple[Value, None, Value | None]:
    indices, updates = res
    return ct, None, _updates_of(ct, updates.shape, indices, params) if needed[2] else None


def _add_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    # A scatter into an array that is there touches few elements of it, and stays.
    return import_module(_OUTSIDE).chosen(*args, params) if basis.is_elementwise(args[0]) else None


def _sum_of_sizes(x: Any, indices: Any, updates: Any, **_params: Any) -> Any:
    out = np.abs(x)
    np.add.at(out, np.clip(indices[:, 0], 0, len(x) - 1), np.abs(updates))
    return out


scatter_add_p: Primitive = Primitive(
    "scatter_add",
    "Add updates to windows of an operand.",
    abstract=scatter_abstract("scatter_add", NUMBERS),
    eager=scatter_eager("scatter_add", "add", NUMBERS),
    jvp=linear_scatter_jvp(lambda: scatter_add_p),
    transpose=_add_transpose,
    vjp=Pullback(None, _add_backward, lambda _needed: (1, TYPE(2))),
    batch=scatter_batch(lambda: scatter_add_p),
    lower=Lowering("library", "scatter_add", filled=(0, 1, 2)),
    simplify=_add_simplify,
    linear="jointly",
    linear_in=(0, 2),
    spec=scatter_spec(np.add, NUMERIC, ulps=None, terms=_sum_of_sizes),
)


def scatter_add(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Add updates to windows of an operand: XLA's Scatter with addition.

    Args:
        operand: Any shape, numbers.
        scatter_indices: ``[batch…, k]``, integers: where each window starts.
        updates: The windows, of the dtype of `operand`: its window axes at
            ``dimension_numbers.update_window_dims``, the batch axes at the other positions.
        dimension_numbers: Which axis is what.
        indices_are_sorted: A promise that the starts increase.
        unique_indices: A promise that no element is written twice.
        mode: What happens to a window that does not fit; see `GatherScatterMode`.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        IndexOutOfBoundsError: A window does not fit, in the default mode, on the CPU.
        ShapeError: Shapes and dimension numbers do not fit.
        DtypeError: The indices are no integers, or the dtypes differ.

    Numerics:
        Deterministic. Eager updates of one place are added in blocks; compiled for the CPU, floats
        of less than 8 bytes are summed in a wider dtype and rounded once.

    Source:
        OpenXLA, *Operation semantics*, Scatter.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> x, updates = np.zeros(3, np.float32), np.array([1, 2, 4], np.float32)
        >>> scatter_add(x, np.array([[0], [2], [0]]), updates, one)
        Array([5., 0., 2.], dtype=float32)
    """
    return bind_scatter(
        scatter_add_p, operand, scatter_indices, updates, dimension_numbers,
        indices_are_sorted, unique_indices, mode,
    )  # fmt: skip
