"""What gather and the scatters share: types, writing, batching, and the cases of their specs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import Case, Invalid, MappedAxis, Operand, Primitive, Spec, Value
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
from fgrad.lax.kinds import check_kind
from fgrad.lax.segments import write
from fgrad.lax.shape import value

__all__: list[str] = []


def window_of(operand_shape: Ints, updates_shape: Ints, dnums: ScatterDimensionNumbers) -> Ints:
    """The length of a scatter's window along each axis of the operand."""
    gone = (*dnums.inserted_window_dims, *dnums.operand_batching_dims)
    places = iter(dnums.update_window_dims)
    found = []
    for d, n in enumerate(operand_shape):
        place = None if d in gone else next(places, None)
        in_range = place is not None and 0 <= place < len(updates_shape)
        found.append(updates_shape[place] if in_range and place is not None else min(1, n))
    return tuple(found)


def scatter_plan(
    name: str, x: Ints, indices: Ints, updates: Ints, dnums: ScatterDimensionNumbers
) -> Plan:
    """The plan of the gather that reads where a scatter writes; its result has their shape."""
    p = plan(x, indices, dnums.as_gather(), window_of(x, updates, dnums))
    if p.out_shape != updates:
        raise ShapeError(
            f"{name}: updates {list(updates)} do not have the shape {list(p.out_shape)} that "
            f"operand {list(x)}, indices {list(indices)} and {dnums} ask for"
        )
    return p


def scatter_abstract(name: str, accepts: str) -> Any:
    """The abstract rule of a scatter."""

    def abstract(
        x: ShapedArray, indices: ShapedArray, updates: ShapedArray, *,
        dimension_numbers: ScatterDimensionNumbers, **_params: Any,
    ) -> ShapedArray:  # fmt: skip
        check_kind(name, x, accepts)
        if indices.dtype.kind not in "iu":
            raise DtypeError(f"{name}: indices must be integers, got {indices}; use astype")
        if x.dtype != updates.dtype:
            raise DtypeError(f"{name}: operand {x} and updates {updates} need one dtype")
        scatter_plan(name, x.shape, indices.shape, updates.shape, dimension_numbers)
        return ShapedArray(x.shape, x.dtype, x.weak_type and updates.weak_type)

    return abstract


def scatter_eager(name: str, ufunc: str, accepts: str) -> Any:
    """The eager rule of a scatter that combines by the function `ufunc`; '' overwrites."""

    def eager(
        xp: Any, x: Any, indices: Any, updates: Any, *,
        dimension_numbers: ScatterDimensionNumbers, mode: GatherScatterMode,
        unique_indices: bool, **_params: Any,
    ) -> Any:  # fmt: skip
        dtype = x.dtype
        w = basis.wide(dtype) if ufunc else None
        ok = w is not None or dtype.kind in accepts or not ufunc
        if not ok or indices.dtype.kind not in "iu" or dtype != updates.dtype:
            raise ValueError("operands")
        p = scatter_plan(name, x.shape, indices.shape, updates.shape, dimension_numbers)
        positions, valid = locate(xp, name, p, indices, mode)
        places, length = rows_of(p)
        out = xp.array(x.transpose((*p.picked, *p.whole)), w or dtype, order="C")
        flat = flattened(xp, p, positions)
        rows = updates.transpose(p.order).astype(w or dtype, copy=False)
        rows = rows.reshape(flat.size, length)
        if valid is not None:
            inside = valid.reshape((*p.batch_shape, *(1,) * len(p.inner)))
            keep = xp.broadcast_to(inside, flat.shape).reshape(-1)
            flat, rows = flat.reshape(-1)[keep], rows[keep]
        if rows.size:
            write(xp, ufunc, out.reshape(places, length), flat.reshape(-1), rows, unique_indices)
        back = np.argsort((*p.picked, *p.whole)).tolist()
        return out.transpose(back).astype(dtype, copy=False)

    return eager


def shift(axes: Ints) -> Ints:
    return tuple(a + 1 for a in axes)


def linear_scatter_jvp(prim_of: Any) -> Any:
    """The jvp of a scatter that is linear in operand and updates together: itself on tangents."""

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
    ) -> tuple[Value, Value]:
        x, indices, updates = primals
        out = bind(prim_of(), x, indices, updates, **params)
        dx, _, du = tangents
        tangent = bind(
            prim_of(), basis.instantiate(dx, x), indices, basis.instantiate(du, updates), **params
        )
        return out, tangent

    return jvp


def scatter_batch(prim_of: Any) -> Any:
    """The batching rule of every scatter: a window axis, or batched axes where indices differ."""

    def batch(
        axis: MappedAxis, args: Sequence[Value], dims: Dims, *,
        dimension_numbers: ScatterDimensionNumbers, **params: Any,
    ) -> tuple[Value, int]:  # fmt: skip
        n = dimension_numbers
        x, updates = (basis.lead(args[i], dims[i], axis.size) for i in (0, 2))
        indices = args[1]
        window, inserted, scattered, batching = map(
            shift,
            (
                n.update_window_dims,
                n.inserted_window_dims,
                n.scatter_dims_to_operand_dims,
                n.operand_batching_dims,
            ),
        )
        along = n.scatter_indices_batching_dims
        if dims[1] is None:
            new = ScatterDimensionNumbers((0, *window), inserted, scattered, batching, along)
        else:
            indices = basis.lead(indices, dims[1], axis.size)
            new = ScatterDimensionNumbers(
                window, inserted, scattered, (0, *batching), (0, *shift(along))
            )
        return bind(prim_of(), x, indices, updates, dimension_numbers=new, **params), 0

    return batch


def scatter_rows(s: dict[str, int]) -> dict[str, Any]:
    """Parameters of the specs of scatters: rows of a matrix, by an array of indices."""
    gathered = gather_rows(s)
    return {
        "dimension_numbers": gathered["dimension_numbers"].as_scatter(),
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": GatherScatterMode.CLIP,
    }


def scatter_spec(
    ufunc: Any, dtypes: tuple[str, ...], accepts_bool: bool = False, **more: Any
) -> Spec:
    """The spec of a scatter that combines by a function of NumPy (None: overwrites)."""

    def reference(x: Any, indices: Any, updates: Any, **_params: Any) -> Any:
        out = np.array(x)
        for place, row in zip(np.clip(indices[:, 0], 0, len(x) - 1), updates, strict=True):
            out[place] = row if ufunc is None else ufunc(out[place], row)
        return out

    params = scatter_rows({"n": 2})
    refused = () if accepts_bool else (
        Invalid(("b[3,2]", "i32[4,1]", "b[4,2]"), DtypeError, "takes", **params),
    )  # fmt: skip
    return Spec(
        (more.pop("operand", Operand()), INDICES, more.pop("updates", Operand())),
        (Case("m n, k 1, k n", scatter_rows, smallest=1, name="rows"),),
        dtypes=dtypes,
        reference=reference,
        invalid=(
            Invalid(("f32[3,2]", "f32[4,1]", "f32[4,2]"), DtypeError, "integers", **params),
            Invalid(("f32[3,2]", "i32[4,1]", "f64[4,2]"), DtypeError, "one dtype", **params),
            Invalid(("f32[3,2]", "i32[4,1]", "f32[5,2]"), ShapeError, "updates", **params),
            *refused,
        ),
        **more,
    )


def gather_rows(s: dict[str, int]) -> dict[str, Any]:
    """Parameters of the spec: rows of a matrix, by an array of indices."""
    return {
        "dimension_numbers": GatherDimensionNumbers((1,), (0,), (0,)),
        "slice_sizes": (1, s["n"]),
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": GatherScatterMode.CLIP,
        "fill_value": None,
    }


INDICES = Operand(0, 2, dtype="int32", generator="indices")


def bind_scatter(
    prim: Primitive, operand: Any, indices: Any, updates: Any,
    dimension_numbers: ScatterDimensionNumbers, indices_are_sorted: bool, unique_indices: bool,
    mode: str | GatherScatterMode | None,
) -> Value:  # fmt: skip
    """Bind a scatter."""
    return bind(
        prim,
        value(operand),
        value(indices),
        value(updates),
        dimension_numbers=dimension_numbers,
        indices_are_sorted=bool(indices_are_sorted),
        unique_indices=bool(unique_indices),
        mode=GatherScatterMode.from_any(mode),
    )
