"""Reductions over sliding windows: pooling, and its derivatives.

Two pairs transpose into each other: sums over windows into sums over windows, and the gather of
the selected element of each window (`select_and_gather_add`) into the scatter to it
(`select_and_scatter_add`). Where a window holds its maximum more than once, the first of the
equal elements in row-major order is the selected one, and takes the whole derivative.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    NUMERIC,
    REAL,
    Absent,
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
from fgrad.core.transforms.stage import stage
from fgrad.lax import extrema, window_composed, window_eager, window_selected
from fgrad.lax.arithmetic import add
from fgrad.lax.conv_shapes import dilated
from fgrad.lax.kinds import structural
from fgrad.lax.slicing import pad
from fgrad.lax.slicing import slice as slice_
from fgrad.lax.window_shapes import Dims, window_params, window_shape
from fgrad.lax.window_spec import CASES, INVALID, by_definition, pair_spec

__all__ = [
    "reduce_window",
    "reduce_window_max_p",
    "reduce_window_min_p",
    "reduce_window_sum_p",
    "select_and_gather_add_p",
    "select_and_scatter_add_p",
]


def _insert(axis: int, p: dict[str, Any]) -> dict[str, Any]:
    """The parameters with a window of one element on a new axis."""
    one: dict[str, Any] = {
        "window_dimensions": 1, "window_strides": 1, "padding": (0, 0), "base_dilation": 1,
        "window_dilation": 1,
    }  # fmt: skip
    return {
        k: (*v[:axis], one[k], *v[axis:]) if k in one else v for k, v in p.items()
    }  # fmt: skip


# --------------------------------------------------------------------------- sums over windows


def _sum_abstract(x: ShapedArray, **params: Any) -> ShapedArray:
    if x.dtype.kind == "b":
        raise DtypeError(
            f"reduce_window_sum takes numbers, got {x}; convert it to an integer dtype"
        )
    return ShapedArray(window_shape("reduce_window_sum", x, **params), x.dtype, x.weak_type)


def _sum_eager(xp: Any, x: Any, **params: Any) -> Any:
    out = _sum_abstract(ShapedArray(x.shape, x.dtype), **params)
    return _in_float32(x, lambda v: window_eager.reduce(xp, v, xp.add, 0, out.shape, **params))


def _in_float32(x: Any, compute: Callable[[Any], Any]) -> Any:
    w = basis.wide(x.dtype)
    return compute(x) if w is None else compute(x.astype(w)).astype(x.dtype)


def _sum_transpose(ct: Value, x: Unknown, **p: Any) -> tuple[Value]:
    """Element i meets result p through k where p·stride + k·dilation = i·base_dilation + low.

    Read for i, that is a sum over windows of the cotangent, dilated by the stride.
    """
    pads = []
    for n, o, k, s, (lo, _hi), e, d in zip(
        x.aval.shape, ct.shape, p["window_dimensions"], p["window_strides"], p["padding"],
        p["base_dilation"], p["window_dilation"], strict=True,
    ):  # fmt: skip
        window = dilated(k, d)
        before = window - 1 - lo
        pads.append((before, (n - 1) * e + window - dilated(o, s) - before))
    return (
        bind(
            reduce_window_sum_p, ct,
            window_dimensions=p["window_dimensions"], window_strides=p["base_dilation"],
            padding=tuple(pads), base_dilation=p["window_strides"],
            window_dilation=p["window_dilation"],
        ),
    )  # fmt: skip


def _batch_of(prim_of: Callable[[], Primitive]) -> Callable[..., tuple[Value, int]]:
    def batch(
        _axis: MappedAxis, args: Sequence[Value], dims: Dims, **params: Any
    ) -> tuple[Value, int]:
        d = dims[0]
        assert d is not None
        return bind(prim_of(), args[0], **_insert(d, params)), d

    return batch


reduce_window_sum_p: Primitive = structural(
    "reduce_window_sum",
    doc="Sum over each position of a sliding window.",
    abstract=_sum_abstract,
    eager=_sum_eager,
    transpose=_sum_transpose,
    batch=_batch_of(lambda: reduce_window_sum_p),
    lower=Lowering("library", "reduce_window_sum", window_composed.sums),
    spec=Spec(
        cases=CASES,
        dtypes=NUMERIC,
        reference=by_definition(lambda v: v.sum(dtype=v.dtype), lambda _dtype: 0),
        ulps=None,
        terms=lambda x, **params: by_definition(np.sum, lambda _dtype: 0)(np.abs(x), **params),
        invalid=INVALID,
    ),
)


# ----------------------------------------------------- the selected element of each window


def _select_abstract(name: str, x: ShapedArray, params: dict[str, Any]) -> ShapedArray:
    if not (dtypes.is_float(x.dtype) or x.dtype.kind in "iu"):
        raise DtypeError(f"{name} takes real numbers, got {x}")
    return ShapedArray(window_shape(name, x, **params), x.dtype, x.weak_type)


def _gather_abstract(t: ShapedArray, x: ShapedArray, *, select: str, **p: Any) -> ShapedArray:
    out = _select_abstract("select_and_gather_add", x, p)
    if t.shape != x.shape:
        raise ShapeError(f"select_and_gather_add: tangent {t} and operand {x} need one shape")
    return ShapedArray(out.shape, t.dtype)


def _scatter_abstract(ct: ShapedArray, x: ShapedArray, *, select: str, **p: Any) -> ShapedArray:
    out = _select_abstract("select_and_scatter_add", x, p)
    if ct.shape != out.shape:
        raise ShapeError(
            f"select_and_scatter_add: source {ct} needs the shape {list(out.shape)} of a reduction "
            f"over windows of the operand {x}"
        )
    return ShapedArray(x.shape, ct.dtype)


def _gather_eager(xp: Any, t: Any, x: Any, *, select: str, **p: Any) -> Any:
    out = _gather_abstract(
        ShapedArray(t.shape, t.dtype), ShapedArray(x.shape, x.dtype), select=select, **p
    )
    return window_eager.gather(xp, t, x, select, out.shape, **p)


def _scatter_eager(xp: Any, ct: Any, x: Any, *, select: str, **p: Any) -> Any:
    _scatter_abstract(
        ShapedArray(ct.shape, ct.dtype), ShapedArray(x.shape, x.dtype), select=select, **p
    )
    return _in_float32(ct, lambda c: window_eager.scatter(xp, c, x, select, **p))


def _linear_in_first(prim_of: Callable[[], Primitive]) -> Callable[..., Any]:
    """The jvp: linear in operand 0; which element operand 1 selects does not change nearby."""

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
    ) -> tuple[Value, Value | None]:
        out = bind(prim_of(), *primals, **params)
        t = tangents[0]
        return out, None if t is None else bind(prim_of(), t, primals[1], **params)

    return jvp


def _batch_both(prim_of: Callable[[], Primitive]) -> Callable[..., tuple[Value, int]]:
    def batch(
        axis: MappedAxis, args: Sequence[Value], dims: Dims, **params: Any
    ) -> tuple[Value, int]:
        moved = [basis.lead(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
        return bind(prim_of(), *moved, **_insert(0, params)), 0

    return batch


select_and_gather_add_p: Primitive = Primitive(
    "select_and_gather_add",
    "Of each window, the element of operand 0 where operand 1 is greatest ('ge') or least ('le').",
    abstract=_gather_abstract,
    eager=_gather_eager,
    jvp=_linear_in_first(lambda: select_and_gather_add_p),
    transpose=lambda ct, _t, x, **p: (bind(select_and_scatter_add_p, ct, x, **p), None),
    vjp=Pullback(
        None,
        lambda needed, res, ct, p: (
            bind(select_and_scatter_add_p, ct, res[0], **p) if needed[0] else None, None,
        ),
        lambda _needed: (1,),
    ),
    batch=_batch_both(lambda: select_and_gather_add_p),
    lower=Lowering("library", "select_and_gather_add", window_selected.gather),
    linear="each",
    linear_in=(0,),
    spec=pair_spec(scatter=False),
)  # fmt: skip

select_and_scatter_add_p: Primitive = Primitive(
    "select_and_scatter_add",
    "Add each element of operand 0 where its window of operand 1 is greatest ('ge') or least.",
    abstract=_scatter_abstract,
    eager=_scatter_eager,
    jvp=_linear_in_first(lambda: select_and_scatter_add_p),
    transpose=lambda ct, _t, x, **p: (bind(select_and_gather_add_p, ct, x, **p), None),
    vjp=Pullback(
        None,
        lambda needed, res, ct, p: (
            bind(select_and_gather_add_p, ct, res[0], **p) if needed[0] else None, None,
        ),
        lambda _needed: (1,),
    ),
    batch=_batch_both(lambda: select_and_scatter_add_p),
    lower=Lowering("library", "select_and_scatter_add", window_selected.scatter),
    linear="each",
    linear_in=(0,),
    spec=pair_spec(scatter=True),
)  # fmt: skip


# ---------------------------------------------------------------------------- max, min


def _extremum(name: str, select: str, identity: Callable[[Any], Any], ufunc: str) -> Primitive:
    def eager(xp: Any, x: Any, **p: Any) -> Any:
        out = _select_abstract(name, ShapedArray(x.shape, x.dtype), p)
        fill = identity(x.dtype)
        op = getattr(xp, ufunc)
        return _in_float32(x, lambda v: window_eager.reduce(xp, v, op, fill, out.shape, **p))

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], **p: Any
    ) -> tuple[Value, Value | None]:
        out = bind(prim, primals[0], **p)
        if tangents[0] is None:
            return out, None
        return out, bind(select_and_gather_add_p, tangents[0], primals[0], select=select, **p)

    prim = Primitive(
        name,
        f"{'Greatest' if select == 'ge' else 'Least'} element at each position of a window.",
        abstract=lambda x, **p: _select_abstract(name, x, p),
        eager=eager,
        jvp=jvp,
        transpose=Absent("not linear"),
        vjp=Pullback(
            None,
            lambda _needed, res, ct, p: (
                bind(select_and_scatter_add_p, ct, res[0], select=select, **p),
            ),
            lambda _needed: (0,),
        ),
        batch=_batch_of(lambda: prim),
        lower=Lowering("library", name, getattr(window_composed, ufunc)),
        spec=Spec(
            Operand(generator="distinct"),
            CASES,
            dtypes=REAL,
            reference=by_definition(np.max if select == "ge" else np.min, identity),
            ulps=0.0,
            invalid=INVALID,
        ),
    )  # fmt: skip
    return prim


reduce_window_max_p = _extremum("reduce_window_max", "ge", dtypes.lowest, "maximum")
reduce_window_min_p = _extremum("reduce_window_min", "le", dtypes.highest, "minimum")


# ---------------------------------------------------------------------------- public functions


_MONOIDS: dict[str, tuple[Primitive, Callable[[Any], Any]]] = {
    "add": (reduce_window_sum_p, lambda _dtype: 0),
    "max": (reduce_window_max_p, dtypes.lowest),
    "min": (reduce_window_min_p, dtypes.highest),
}


_OPERATIONS = {"add": add, "max": extrema.max, "min": extrema.min}


def _monoid_of(computation: Any, dtype: np.dtype[Any]) -> str | None:
    """'add', 'max' or 'min' where that is all that `computation` does."""
    if isinstance(computation, str):
        if computation not in _MONOIDS:
            raise ShapeError(
                f"reduce_window: computation {computation!r} is not known by name; use one of "
                f"{sorted(_MONOIDS)}, or a function of two values"
            )
        return computation
    aval = ShapedArray((), dtype)
    jaxpr, _ = stage(lambda x, y: [computation(x, y)], [aval, aval])
    if len(jaxpr.eqns) != 1 or jaxpr.outvars != jaxpr.eqns[0].outputs:
        return None
    eqn = jaxpr.eqns[0]
    takes_both = {id(v) for v in eqn.inputs} == {id(v) for v in jaxpr.invars}
    name = eqn.primitive.name
    return name if takes_both and name in _MONOIDS else None


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Value:
    """Reduce the elements under each position of a sliding window.

    Sums, maxima and minima that start from their identity run as one operation. Anything else is
    unrolled over the window. A maximum passes its whole derivative to the first of equal elements.

    Args:
        operand: An array.
        init_value: A scalar: where each reduction starts, and what padding holds.
        computation: 'add', 'max', 'min', or an associative function of two values.
        window_dimensions: Length of the window on each axis of `operand`.
        window_strides: Its step on each axis; 1 where None.
        padding: 'VALID', 'SAME', 'SAME_LOWER', or (before, after) for each axis.
        base_dilation: Steps between the elements of `operand`; 1 where None.
        window_dilation: Steps between the places of the window; 1 where None.

    Returns:
        One element for each position of the window.

    Raises:
        ShapeError: The parameters do not fit the axes of `operand`.
        DtypeError: The dtype cannot be reduced so.

    Example:
        >>> x = np.float32([1, 5, 2, 4])
        >>> reduce_window(x, -np.inf, "max", (2,), (2,))
        Array([5., 4.], dtype=float32)
    """
    x = as_value(operand)
    init = init_value if hasattr(init_value, "aval") else as_value(np.asarray(init_value, x.dtype))
    if init.ndim or init.dtype != x.dtype:
        raise DtypeError(
            f"reduce_window: init_value {init.aval} must be a scalar of the dtype of operand "
            f"{x.aval}"
        )
    params = window_params(
        x, window_dimensions, window_strides, padding, base_dilation, window_dilation
    )
    name = _monoid_of(computation, x.dtype)
    if name is not None:
        prim, identity = _MONOIDS[name]
        if basis.literal(init) == identity(x.dtype):
            return bind(prim, x, **params)
        computation = computation if callable(computation) else _OPERATIONS[name]
    return _unrolled(x, init, computation, params)


def _unrolled(x: Value, init: Value, computation: Any, p: dict[str, Any]) -> Value:
    """Fold the places of the window, each a strided slice of the padded operand."""
    config = [(lo, hi, e - 1) for (lo, hi), e in zip(p["padding"], p["base_dilation"], strict=True)]
    shape = window_shape("reduce_window", x.aval, **p)
    padded = pad(x, init, config)
    out = basis.broadcast_in_dim(init, shape, ())
    if not prod(shape):
        return out
    for k in np.ndindex(*p["window_dimensions"]):
        start = tuple(i * d for i, d in zip(k, p["window_dilation"], strict=True))
        limit = tuple(
            b + (n - 1) * s + 1 for b, n, s in zip(start, shape, p["window_strides"], strict=True)
        )
        out = computation(out, slice_(padded, start, limit, p["window_strides"]))
    return out
