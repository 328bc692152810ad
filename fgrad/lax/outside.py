"""Gathers and scatters as compiled programs compute them: bounds are settled by equations.

A kernel cannot raise. What must not leave its operand is computed with starts that are moved
inside; beside it a program computes one truth value, by which `check_bounds` raises.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Atom, Jaxpr, Var
from fgrad.core.primitive import Absent, Lowering, Primitive, Value
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add
from fgrad.lax.bits import bitwise_or
from fgrad.lax.compare import eq, gt, lt
from fgrad.lax.creation import iota
from fgrad.lax.gather import fill_of, gather_p
from fgrad.lax.index import (
    GatherDimensionNumbers,
    GatherScatterMode,
    Ints,
    Plan,
    ScatterDimensionNumbers,
    locate,
    plan,
)
from fgrad.lax.reduce import reduce_or
from fgrad.lax.slicing import index_in_dim

__all__: list[str] = []

_INTERNAL = "part of compiled programs alone, which nothing transforms"


def _check(
    xp: Any, outside: Any, *bases: Any, trail: Jaxpr | None, name: str, operand_shape: Ints,
    dimension_numbers: GatherDimensionNumbers, slice_sizes: Ints, mode: GatherScatterMode,
) -> list[Any]:  # fmt: skip
    if outside.dtype.kind != "b":
        raise ValueError("operands")
    if outside:
        columns = bases if trail is None else _follow(xp, trail, bases)
        indices = xp.stack(columns, axis=-1)
        p = plan(operand_shape, indices.shape, dimension_numbers, slice_sizes)
        locate(xp, name, p, indices, mode)
    return []


def _follow(xp: Any, trail: Jaxpr, bases: Sequence[Any]) -> list[Any]:
    """The results of a small program, by the eager rules of its equations."""
    env = dict(zip(trail.invars, bases, strict=True))

    def read(atom: Atom) -> Any:
        return env[atom] if isinstance(atom, Var) else atom.value

    for eqn in trail.eqns:
        out = eqn.primitive.eager(xp, *map(read, eqn.inputs), **eqn.params)
        env.update(zip(eqn.outputs, out if eqn.primitive.multiple_results else (out,), strict=True))
    return [read(a) for a in trail.outvars]


def _check_abstract(_outside: ShapedArray, *_columns: ShapedArray, **_: Any) -> list[ShapedArray]:
    return []


check_bounds_p: Primitive = Primitive(
    "check_bounds",
    "Raise if a window was found outside of its operand.",
    abstract=_check_abstract,
    eager=_check,
    jvp=Absent(_INTERNAL),
    transpose=Absent(_INTERNAL),
    vjp=Absent(_INTERNAL),
    batch=Absent(_INTERNAL),
    lower=Lowering("host", "check_bounds"),
    multiple_results=True,
    spec=Absent("it has no result: tests/compile/test_indexed.py"),
)


def columns_of(indices: Value) -> list[Value]:
    """The entries of index vectors, an array ``[batch…]`` for each."""
    last = indices.ndim - 1
    return [index_in_dim(indices, k, last, keepdims=False) for k in range(indices.shape[last])]


def outside_of(p: Plan, columns: Sequence[Value]) -> Value | None:
    """Which windows do not fit, ``[batch…]``; None where no index of that dtype can name one."""
    tests = []
    for column, limit in zip(columns, p.limits, strict=True):
        dtype = column.dtype
        if limit < 0:  # there is no place at all
            tests.append(eq(column, column))
            continue
        if dtype.kind == "i":
            tests.append(lt(column, basis.scalar(0, dtype)))
        if limit < np.iinfo(dtype).max:
            tests.append(gt(column, basis.scalar(limit, dtype)))
    return reduce(bitwise_or, tests) if tests else None


def report(
    name: str, p: Plan, columns: Sequence[Value], outside: Value | None, mode: GatherScatterMode
) -> None:
    """Have a compiled program raise `IndexOutOfBoundsError` if a window does not fit.

    Args:
        name: Of the operation.
        p: Its plan.
        columns: The entries of its index vectors.
        outside: Which windows do not fit.
        mode: Its mode, which asks for that.
    """
    if outside is None or not outside.size:
        return
    bind(
        check_bounds_p,
        reduce_or(outside, tuple(range(outside.ndim))),
        *columns,
        trail=None,  # lowering finds out of what the columns are made
        name=name,
        operand_shape=p.operand_shape,
        dimension_numbers=p.dnums,
        slice_sizes=p.sizes,
        mode=mode,
    )


def gathered(x: Value, indices: Value, params: dict[str, Any]) -> Value:
    """A gather as kernels compute it: its starts are moved inside, in any mode.

    Args:
        x: The operand.
        indices: Where windows start.
        params: Those of `gather`.
    """
    mode, fill = params["mode"], params["fill_value"]
    p = plan(x.shape, indices.shape, params["dimension_numbers"], params["slice_sizes"])
    outside = None
    if mode is not GatherScatterMode.CLIP:
        columns = columns_of(indices)
        outside = outside_of(p, columns)
        if mode.raises:
            report("gather", p, columns, outside, mode)
    number = np.asarray(fill_of(x.dtype) if fill is None else fill).astype(x.dtype)
    filled = basis.broadcast_to(basis.scalar(number.item(), x.dtype), p.out_shape)
    if not x.size or not filled.size:
        return filled
    params = params | {"mode": GatherScatterMode.CLIP, "fill_value": None}
    out = bind(gather_p, x, indices, **params)
    if mode is not GatherScatterMode.FILL_OR_DROP or outside is None:
        return out
    mask = basis.broadcast_in_dim(outside, p.out_shape, p.batch_axes)
    return basis.select_n(mask, out, filled)


_ALONG = GatherDimensionNumbers((), (0,), (0,))


def _place_abstract(label: ShapedArray, *, size: int, mode: GatherScatterMode) -> ShapedArray:
    dtype = np.dtype(np.int32 if size < 2**31 else np.int64)
    return ShapedArray(label.shape, max(label.dtype, dtype, key=lambda d: d.itemsize))


def _place_eager(xp: Any, label: Any, *, size: int, mode: GatherScatterMode) -> Any:
    p = plan((size,), (*label.shape, 1), _ALONG, (1,))
    (place,), _ = locate(xp, "scatter_add", p, label[..., None], mode)
    clips = mode is GatherScatterMode.CLIP
    return (place.reshape(label.shape) if clips else label).astype(
        _place_abstract(ShapedArray(label.shape, label.dtype), size=size, mode=mode).dtype
    )


def _place_composed(label: Value, *, size: int, mode: GatherScatterMode) -> Value:
    dtype = _place_abstract(label.aval, size=size, mode=mode).dtype
    p = plan((size,), (*label.shape, 1), _ALONG, (1,))
    outside = outside_of(p, [label])
    place = basis.convert_element_type(label, dtype)
    if outside is None:
        return place
    if mode.raises:
        report("scatter_add", p, [label], outside, mode)
    if mode is not GatherScatterMode.CLIP:
        return place
    low = lt(label, basis.scalar(0, label.dtype))
    ends = [basis.broadcast_to(basis.scalar(n, dtype), place.shape) for n in (size - 1, 0)]
    return basis.select_n(outside, place, basis.select_n(low, *ends))


place_p: Primitive = Primitive(
    "place",
    "Where on an axis of some size a label points, as a mode says; a number beyond it: nowhere.",
    abstract=_place_abstract,
    eager=_place_eager,
    jvp=Absent(_INTERNAL),
    transpose=Absent(_INTERNAL),
    vjp=Absent(_INTERNAL),
    batch=Absent(_INTERNAL),
    lower=Lowering("library", "place", _place_composed),
    spec=Absent("the compiler's `simplify` alone makes it: tests/lax/test_chosen.py"),
)


def chosen(x: Value, indices: Value, updates: Value, params: dict[str, Any]) -> Value | None:
    """A `scatter_add` of one update a row, as a choice by the index in the kernel that makes `x`.

    Args:
        x: The operand, which need not be stored then.
        indices: Where updates go.
        updates: What is added.
        params: Those of `scatter_add`.

    Returns:
        The result, of the same numbers, or None where windows are others than an element of the
        last axis for each row.
    """
    rows, last = tuple(range(x.ndim - 1)), (x.ndim - 1,)
    numbers = ScatterDimensionNumbers((), last, last, rows, rows)
    if params["dimension_numbers"] != numbers or updates.shape != x.shape[:-1]:
        return None
    whole = x.dtype.kind in "iu"
    if not x.size or x.dtype.kind == "c" or (not whole and x.dtype.itemsize < 2):
        return None  # not all floats of 8 bits have a -0
    n = x.shape[-1]
    label = basis.reshape(indices, x.shape[:-1])
    place = bind(place_p, label, size=n, mode=params["mode"])
    here = eq(_repeated(place, x.shape), iota(place.dtype, n))
    # Only -0 leaves every element as it is, 0 and -0 included.
    nothing = basis.scalar(0 if whole else -0.0, x.dtype)
    return add(x, basis.select_n(here, nothing, _repeated(updates, x.shape)))


def _repeated(rows: Value, shape: Ints) -> Value:
    """A number for each row, repeated along it."""
    return basis.broadcast_in_dim(rows, shape, tuple(range(rows.ndim)))
