"""Scatters that overwrite, subtract, multiply, and keep the least or greatest."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.primitive import (
    ANY,
    NUMERIC,
    REAL,
    TYPE,
    Absent,
    Lowering,
    Operand,
    Primitive,
    Pullback,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import div, mul
from fgrad.lax.compare import eq
from fgrad.lax.creation import iota
from fgrad.lax.gather import gather, scatter_add
from fgrad.lax.index import GatherScatterMode, Ints, ScatterDimensionNumbers
from fgrad.lax.kinds import ANY as EVERY
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.runs import products_of_others
from fgrad.lax.scattering import (
    bind_scatter,
    linear_scatter_jvp,
    scatter_abstract,
    scatter_batch,
    scatter_eager,
    scatter_spec,
    window_of,
)
from fgrad.lax.shape import value

__all__ = [
    "scatter",
    "scatter_max",
    "scatter_max_p",
    "scatter_min",
    "scatter_min_p",
    "scatter_mul",
    "scatter_mul_p",
    "scatter_p",
    "scatter_sub",
]

_REALS = "iuf"


def _read(x: Value, shape: Ints, indices: Value, params: dict[str, Any], fill: int = 0) -> Value:
    """What `x`, of the operand's shape, holds where updates of a shape go; `fill` outside."""
    dnums = params["dimension_numbers"]
    return gather(
        x,
        indices,
        dnums.as_gather(),
        window_of(x.shape, shape, dnums),
        mode=params["mode"],
        fill_value=fill,
    )


def _add(x: Value, indices: Value, updates: Value, params: dict[str, Any]) -> Value:
    """`scatter_add` where this scatter writes."""
    return scatter_add(
        x,
        indices,
        updates,
        params["dimension_numbers"],
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
    )


def _numbers(shape: Ints) -> Value:
    """The row-major number of each element of a shape."""
    n = prod(shape)
    return basis.reshape(iota(np.int32 if n < 2**31 else np.int64, n), shape)


# --------------------------------------------------------------------------------------- scatter


def _set_pull(
    needed: Sequence[bool], ct: Value, indices: Value, shape: Ints, params: dict[str, Any]
) -> tuple[Value | None, None, Value | None]:
    ct_x = ct_updates = None
    if needed[0]:
        # What was overwritten has no influence.
        blank = basis.zeros(ShapedArray(shape, ct.dtype))
        ct_x = bind(scatter_p, ct, indices, blank, **params)
    if needed[2]:
        ct_updates = _read(ct, shape, indices, params)
        if not params["unique_indices"]:
            # Of several updates of one element the last one stays: only it has any influence.
            numbers = _numbers(shape)
            none = basis.broadcast_in_dim(basis.scalar(-1, numbers.dtype), ct.shape, ())
            winners = bind(scatter_p, none, indices, numbers, **params)
            won = eq(_read(winners, shape, indices, params, -1), numbers)
            ct_updates = basis.select_n(won, basis.scalar(0, ct.dtype), ct_updates)
    return ct_x, None, ct_updates


def _set_transpose(
    ct: Value, x: Any, indices: Value, updates: Any, **params: Any
) -> tuple[Value | None, None, Value | None]:
    needed = (isinstance(x, Unknown), False, isinstance(updates, Unknown))
    shape = updates.aval.shape if needed[2] else updates.shape
    return _set_pull(needed, ct, indices, shape, params)


scatter_p: Primitive = Primitive(
    "scatter",
    "Overwrite windows of an operand; where several do, the last one stays.",
    abstract=scatter_abstract("scatter", EVERY),
    eager=scatter_eager("scatter", "", EVERY),
    jvp=linear_scatter_jvp(lambda: scatter_p),
    transpose=_set_transpose,
    vjp=Pullback(
        None,
        lambda needed, res, ct, params: _set_pull(needed, ct, res[0], res[1].shape, params),
        lambda _needed: (1, TYPE(2)),
    ),
    batch=scatter_batch(lambda: scatter_p),
    lower=Lowering("library", "scatter", filled=(0, 1, 2)),
    linear="jointly",
    linear_in=(0, 2),
    spec=scatter_spec(None, ANY, accepts_bool=True, ulps=0.0),
)


def scatter(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Overwrite windows of an operand: XLA's Scatter with replacement.

    Where several updates write one element, the last one in row-major order of the batch axes
    stays, and it alone has a derivative.

    Args:
        operand: Any shape and dtype.
        scatter_indices: ``[batch…, k]``, integers: where each window starts.
        updates: The windows, of the dtype of `operand`: its window axes at
            ``dimension_numbers.update_window_dims``, the batch axes at the other positions.
        dimension_numbers: Which axis is what.
        indices_are_sorted: A promise that the starts increase.
        unique_indices: A promise that no element is written twice; spares the derivative work.
        mode: What happens to a window that does not fit; see `GatherScatterMode`.

    Returns:
        The shape and dtype of `operand`.

    Raises:
        IndexOutOfBoundsError: A window does not fit, in the default mode, outside `jit`.
        ShapeError: Shapes and dimension numbers do not fit.
        DtypeError: The indices are no integers, or the dtypes differ.

    Source:
        OpenXLA, *Operation semantics*, Scatter.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> x, updates = np.zeros(3, np.float32), np.array([1, 2, 4], np.float32)
        >>> scatter(x, np.array([[0], [2], [0]]), updates, one)
        Array([4., 0., 2.], dtype=float32)
    """
    return bind_scatter(
        scatter_p, operand, scatter_indices, updates, dimension_numbers,
        indices_are_sorted, unique_indices, mode,
    )  # fmt: skip


# ----------------------------------------------------------------------------------- scatter_mul


def _others(x: Value, indices: Value, updates: Value, params: dict[str, Any]) -> Value:
    """For each update the product of all other updates of its element."""
    n = prod(updates.shape)
    element = _read(_numbers(x.shape), updates.shape, indices, params, -1)
    flat = products_of_others(basis.reshape(updates, (n,)), basis.reshape(element, (n,)))
    return basis.reshape(flat, updates.shape)


def _mul_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    x, indices, updates = primals
    dx, _, du = tangents
    out = bind(scatter_mul_p, x, indices, updates, **params)
    total = None
    if dx is not None:
        ones = basis.broadcast_in_dim(basis.scalar(1, x.dtype), x.shape, ())
        factors = bind(scatter_mul_p, ones, indices, updates, **params)
        total = basis.linear_mul(dx, factors)
    if du is not None:
        factors = _read(x, updates.shape, indices, params)
        if not params["unique_indices"]:
            factors = mul(factors, _others(x, indices, updates, params))
        if total is None:
            total = basis.zeros(x.aval.tangent())
        total = _add(total, indices, basis.linear_mul(du, factors), params)
    return out, total


scatter_mul_p: Primitive = Primitive(
    "scatter_mul",
    "Multiply windows of an operand by updates.",
    abstract=scatter_abstract("scatter_mul", NUMBERS),
    eager=scatter_eager("scatter_mul", "multiply", NUMBERS),
    jvp=_mul_jvp,
    transpose=Absent("not linear: a product of operand and updates"),
    batch=scatter_batch(lambda: scatter_mul_p),
    lower=Lowering("library", "scatter_mul", filled=(0, 1, 2)),
    spec=scatter_spec(
        np.multiply,
        NUMERIC,
        ulps=None,
        terms=lambda x, indices, updates, **params: _product_sizes(x, indices, updates, params),
    ),
)


def _product_sizes(x: Any, indices: Any, updates: Any, params: dict[str, Any]) -> Any:
    return scatter_mul_p.eager(np, np.abs(x), indices, np.abs(updates), **params)


def scatter_mul(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Multiply windows of an operand by updates; see `scatter_add`.

    Derivatives hold for elements multiplied several times and for factors that are zero.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> x, updates = np.ones(2, np.float32), np.array([3, 5], np.float32)
        >>> scatter_mul(x, np.array([[1], [1]]), updates, one)
        Array([ 1., 15.], dtype=float32)
    """
    return bind_scatter(
        scatter_mul_p, operand, scatter_indices, updates, dimension_numbers,
        indices_are_sorted, unique_indices, mode,
    )  # fmt: skip


# ---------------------------------------------------------------------- scatter_min, scatter_max


def _extremum(name: str, doc: str, ufunc: Callable[..., Any]) -> Primitive:
    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
    ) -> tuple[Value, Value | None]:
        x, indices, updates = primals
        dx, _, du = tangents
        out = bind(prim, x, indices, updates, **params)
        # Each of the values that attain the extremum has an equal share of the derivative.
        stays = basis.convert_element_type(eq(x, out), x.dtype)
        attains = eq(updates, _read(out, updates.shape, indices, params))
        attains = basis.convert_element_type(attains, x.dtype)
        share = div(basis.scalar(1, x.dtype), _add(stays, indices, attains, params))
        total = basis.linear_mul(basis.instantiate(dx, x), stays)
        if du is not None:
            total = _add(total, indices, basis.linear_mul(du, attains), params)
        return out, basis.linear_mul(total, share)

    prim: Primitive = Primitive(
        name,
        doc,
        abstract=scatter_abstract(name, _REALS),
        eager=scatter_eager(name, ufunc.__name__, _REALS),
        jvp=jvp,
        transpose=Absent("not linear"),
        batch=scatter_batch(lambda: prim),
        lower=Lowering("library", name, filled=(0, 1, 2)),
        spec=scatter_spec(
            ufunc,
            REAL,
            ulps=0.0,
            operand=Operand(generator="distinct"),
            updates=Operand(generator="distinct"),
        ),
    )
    return prim


scatter_min_p: Primitive = _extremum(
    "scatter_min", "Lower windows of an operand to updates.", np.minimum
)
scatter_max_p: Primitive = _extremum(
    "scatter_max", "Raise windows of an operand to updates.", np.maximum
)


def scatter_min(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Lower windows of an operand to updates that are less; see `scatter_add`.

    The derivative is shared equally among the values that attain the minimum.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> x, updates = np.ones(2, np.float32), np.array([3, -5], np.float32)
        >>> scatter_min(x, np.array([[1], [1]]), updates, one)
        Array([ 1., -5.], dtype=float32)
    """
    return bind_scatter(
        scatter_min_p, operand, scatter_indices, updates, dimension_numbers,
        indices_are_sorted, unique_indices, mode,
    )  # fmt: skip


def scatter_max(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Raise windows of an operand to updates that are greater; see `scatter_min`.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> x, updates = np.ones(2, np.float32), np.array([3, -5], np.float32)
        >>> scatter_max(x, np.array([[1], [1]]), updates, one)
        Array([1., 3.], dtype=float32)
    """
    return bind_scatter(
        scatter_max_p, operand, scatter_indices, updates, dimension_numbers,
        indices_are_sorted, unique_indices, mode,
    )  # fmt: skip


def scatter_sub(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Value:
    """Subtract updates from windows of an operand; see `scatter_add`.

    Example:
        >>> one = ScatterDimensionNumbers((), (0,), (0,))
        >>> scatter_sub(np.zeros(2, np.float32), np.array([[1]]), np.ones(1, np.float32), one)
        Array([ 0., -1.], dtype=float32)
    """
    return scatter_add(
        operand, scatter_indices, basis.neg(value(updates)), dimension_numbers, mode=mode,
        indices_are_sorted=indices_are_sorted, unique_indices=unique_indices,
    )  # fmt: skip
