"""What the cumulative operations share: their kind, their spec, and the scan of derivatives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import AxisError, DtypeError
from fgrad.core.primitive import (
    Absent,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.kinds import check_kind
from fgrad.lax.slicing import pad

__all__: list[str] = []


def cumulative(
    name: str,
    doc: str,
    monoid: str,
    accepts: str,
    eager: Callable[..., Any],
    jvp: Callable[..., Any],
    transpose: Any,
    spec: Spec,
) -> Primitive:
    """Declare a cumulative operation; `eager` runs forwards, ``(xp, x, axis) -> array``.

    `monoid` is what the compiler calls the operation on two elements: one of
    `fgrad.compile.kernel.SCANS`.
    """

    def abstract(x: ShapedArray, *, axis: int, reverse: bool) -> ShapedArray:
        check_kind(name, x, accepts)
        if not 0 <= axis < x.ndim:
            raise AxisError(f"{name}: axis {axis} is no axis of {x}")
        return x

    def compute(xp: Any, x: Any, *, axis: int, reverse: bool) -> Any:
        w = basis.wide(x.dtype)
        if (w is None and x.dtype.kind not in accepts) or axis >= x.ndim:
            raise ValueError("operand")
        back = (slice(None),) * axis + (slice(None, None, -1),)
        y = x if w is None else x.astype(w)
        y = eager(xp, y[back] if reverse else y, axis)
        y = y[back] if reverse else y
        return y if w is None else y.astype(x.dtype)

    def batch(
        _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis: int, reverse: bool
    ) -> tuple[Value, int]:
        d = dims[0]
        assert d is not None
        return bind(prim, args[0], axis=axis + (axis >= d), reverse=reverse), d

    linear = not isinstance(transpose, Absent)
    prim: Primitive = Primitive(
        name,
        doc,
        abstract=abstract,
        eager=compute,
        jvp=jvp,
        transpose=transpose,
        vjp=basis.linear_pullback(transpose) if linear else Absent("derived from jvp"),
        batch=batch,
        lower=Lowering("scan", monoid),
        linear="jointly" if linear else None,
        spec=spec,
    )
    return prim


def cumulative_spec(
    reference: Callable[..., Any],
    dtypes: tuple[str, ...],
    *,
    operand: Operand = Operand(),  # noqa: B008 - immutable
    ulps: float | None = 4.0,
    terms: Callable[..., Any] | None = None,
    invalid: tuple[Invalid, ...] = (),
) -> Spec:
    def along(f: Any) -> Any:
        return lambda x, *, axis, reverse: (
            np.flip(f(np.flip(x, axis), axis), axis) if reverse else f(x, axis)
        )

    return Spec(
        operand,
        (
            Case("n", {"axis": 0, "reverse": False}),
            Case("m n", {"axis": 0, "reverse": True}),
            Case("m 5", {"axis": 1, "reverse": False}),
        ),
        dtypes=dtypes,
        reference=along(reference),
        ulps=ulps,
        terms=None if terms is None else along(terms),
        invalid=(
            Invalid(("f32[2]",), AxisError, "axis", axis=1, reverse=False),
            Invalid(("b[2]",), DtypeError, "takes", axis=0, reverse=False),
            *invalid,
        ),
    )


def scan_pairs(
    combine: Callable[..., list[Value]],
    elements: list[Value],
    identity: Sequence[Any],
    *,
    axis: int,
    reverse: bool,
) -> list[Value]:
    """Combine each element with all before it: windows of 1, 2, 4, … elements, step by step.

    `combine` takes the lists of the earlier and of the later window; `identity` fills in for
    windows before the first element.
    """
    n, ndim = elements[0].shape[axis], elements[0].ndim
    step = 1
    while step < n:
        shift = (-step, step, 0) if reverse else (step, -step, 0)
        config = tuple(shift if i == axis else (0, 0, 0) for i in range(ndim))
        earlier = [
            pad(e, basis.scalar(fill, e.dtype), config)
            for e, fill in zip(elements, identity, strict=True)
        ]
        elements = combine(earlier, elements)
        step *= 2
    return elements


def accumulate(xp: Any, ufunc: Any, x: Any, axis: int) -> Any:
    """``ufunc.accumulate``, which NumPy has for every function and CuPy for sums and products."""
    if xp is np:
        return ufunc.accumulate(x, axis)
    x = xp.moveaxis(x, axis, 0).copy()
    step = 1
    while step < x.shape[0]:
        x = xp.concatenate([x[:step], ufunc(x[step:], x[:-step])])
        step *= 2
    return xp.moveaxis(x, 0, axis)
