"""Reductions over axes: sums, products, extrema, logic; over no elements, their identities."""

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims, shift_axes
from fgrad.core.errors import AxisError, DtypeError
from fgrad.core.primitive import (
    INTEGERS,
    NUMERIC,
    OUT,
    REAL,
    Absent,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import div, mul
from fgrad.lax.compare import eq
from fgrad.lax.cumulative import cumprod
from fgrad.lax.kinds import BITS, check_kind
from fgrad.lax.kinds import NUMERIC as NUMBERS
from fgrad.lax.shape import Ints, canonical_axes, value
from fgrad.lax.slicing import pad, slice_in_dim

__all__ = [
    "reduce_and",
    "reduce_and_p",
    "reduce_max",
    "reduce_max_p",
    "reduce_min",
    "reduce_min_p",
    "reduce_or",
    "reduce_or_p",
    "reduce_prod",
    "reduce_prod_p",
    "reduce_sum",
    "reduce_xor",
    "reduce_xor_p",
]

_ORDERED = "biuf"
_PARTS = 16  # of an axis, that one kernel multiplies by each other


def _abstract(name: str, accepts: str) -> Callable[..., ShapedArray]:
    def abstract(x: ShapedArray, *, axes: Ints) -> ShapedArray:
        check_kind(name, x, accepts)
        return basis.reduced_aval(name, x, axes)

    return abstract


def _eager(accepts: str, compute: Callable[..., Any]) -> Callable[..., Any]:
    def eager(xp: Any, x: Any, *, axes: Ints) -> Any:
        w = basis.wide(x.dtype)
        if (w is None and x.dtype.kind not in accepts) or (axes and axes[-1] >= x.ndim):
            raise ValueError("operand")
        return compute(xp, x, axes) if w is None else compute(xp, x.astype(w), axes).astype(x.dtype)

    return eager


def _batch(prim_of: Callable[[], Primitive]) -> Callable[..., Any]:
    def batch(
        _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axes: Ints
    ) -> tuple[Value, int]:
        d = dims[0]
        assert d is not None
        moved = shift_axes(axes, d)
        return bind(prim_of(), args[0], axes=moved), d - sum(a < d for a in moved)

    return batch


def _spec(
    reference: Any, dtypes: tuple[str, ...], wrong: str, smallest: int = 0, **more: Any
) -> Spec:
    return Spec(
        cases=(
            Case("m n", {"axes": (0,)}, smallest=smallest),
            Case("m n k", {"axes": (0, 2)}, smallest=smallest),
            Case("m n", {"axes": ()}, smallest=smallest),
        ),
        dtypes=dtypes,
        reference=reference,
        invalid=(
            Invalid(("b[2]" if wrong == "f32[2]" else "f32[2]",), AxisError, "axes", axes=(1,)),
            Invalid((wrong,), DtypeError, "takes", axes=(0,)),
        ),
        **more,
    )


def _bind(prim: Primitive, operand: Any, axes: Sequence[int]) -> Value:
    x = value(operand)
    return bind(prim, x, axes=canonical_axes(prim.name, axes, x.ndim))


def _kept(x: Any, axes: Ints) -> Ints:
    return tuple(i for i in range(x.ndim) if i not in axes)


def reduce_sum(operand: Any, axes: Sequence[int]) -> Value:
    """The sum over `axes`, which are removed.

    Args:
        operand: Any shape, numbers.
        axes: The axes.

    Returns:
        The shape of `operand` without `axes`, its dtype.

    Raises:
        AxisError: An axis is out of range or named twice.
        DtypeError: `operand` is bool.

    Numerics:
        No chain of additions is longer than about 64 + log₂ n; 16-bit floats are summed in
        float32 and rounded once.

    Example:
        >>> reduce_sum(np.array([[1, 2], [3, 4]], np.float32), (0,))
        Array([4., 6.], dtype=float32)
    """
    x = value(operand)
    return basis.reduce_sum(x, canonical_axes("reduce_sum", axes, x.ndim))


# --------------------------------------------------------------------------------- reduce_prod


def _others(x: Value, axes: Ints) -> Value:
    """For each element the product of all others that it is reduced with; no division by it."""
    kept = _kept(x, axes)
    order = (*kept, *axes)
    shape = [x.shape[i] for i in order]
    n = prod(x.shape[i] for i in axes)
    flat = basis.reshape(basis.transpose(x, order), (*shape[: len(kept)], n))
    one, last = basis.scalar(1, x.dtype), flat.ndim - 1
    still = ((0, 0, 0),) * last
    before = cumprod(pad(flat, one, (*still, (1, -1, 0))), last) if n else flat
    after = cumprod(pad(flat, one, (*still, (-1, 1, 0))), last, reverse=True) if n else flat
    back = tuple(int(i) for i in np.argsort(order))
    return basis.transpose(basis.reshape(mul(before, after), tuple(shape)), back)


def _prod_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, axes: Ints
) -> tuple[Value, Value | None]:
    x, scaled = primals[0], basis.linear_mul(tangents[0], _others(primals[0], axes))
    return reduce_prod(x, axes), basis.reduce_sum(scaled, axes)


def _prod_backward(
    _needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, params: dict[str, Any]
) -> tuple[Value]:
    x, axes = res[0], params["axes"]
    spread = basis.broadcast_in_dim(ct, x.shape, _kept(x, axes))
    return (basis.linear_mul(spread, _others(x, axes)),)


def _complex_prod(x: Value, *, axes: Ints) -> Value:
    """Products of complex numbers, for compilers: parts of an axis are multiplied by each other."""
    for axis in reversed(axes):
        last: list[Value] = []  # what is left over beside parts of equal lengths
        while (n := x.shape[axis]) > 1:
            count = min(n, _PARTS)
            length, rest = divmod(n, count)
            last += [slice_in_dim(x, i, i + 1, axis=axis) for i in range(n - rest, n)]
            starts = range(0, n - rest, length)
            x = functools.reduce(mul, [slice_in_dim(x, i, i + length, axis=axis) for i in starts])
        ones = basis.broadcast_in_dim(basis.scalar(1, x.dtype), _without(x, axis), ())
        x = basis.reshape(functools.reduce(mul, last, x), ones.shape) if n else ones
    return x


def _without(x: Value, axis: int) -> Ints:
    return (*x.shape[:axis], *x.shape[axis + 1 :])


reduce_prod_p: Primitive = Primitive(
    "reduce_prod",
    "Product over axes.",
    abstract=_abstract("reduce_prod", NUMBERS),
    eager=_eager(NUMBERS, lambda xp, x, axes: xp.prod(x, axes, x.dtype)),
    jvp=_prod_jvp,
    transpose=Absent("not linear"),
    vjp=Pullback(None, _prod_backward, lambda _needed: (0,)),
    batch=_batch(lambda: reduce_prod_p),
    lower=Lowering("reduce", "*", _complex_prod),
    spec=_spec(
        lambda x, *, axes: np.prod(x, axes, x.dtype),
        NUMERIC,
        "b[2]",
        ulps=None,
        terms=lambda x, *, axes: np.abs(np.prod(x, axes)),
    ),
)


def reduce_prod(operand: Any, axes: Sequence[int]) -> Value:
    """The product over `axes`, which are removed; derivatives hold where elements are zero.

    Args:
        operand: Any shape, numbers.
        axes: The axes.

    Returns:
        The shape of `operand` without `axes`, its dtype.

    Raises:
        AxisError: An axis is out of range or named twice.
        DtypeError: `operand` is bool.

    Example:
        >>> reduce_prod(np.array([2, 3, 4], np.float32), (0,))
        Array(24., dtype=float32)
    """
    return _bind(reduce_prod_p, operand, axes)


# ----------------------------------------------------------------------- reduce_max, reduce_min


def _shares(x: Value, out: Value, axes: Ints) -> Value:
    """1/k for each of the k elements that attain the extremum, 0 for the others."""
    kept = _kept(x, axes)
    ties = eq(x, basis.broadcast_in_dim(out, x.shape, kept))
    ties = basis.convert_element_type(ties, x.dtype)
    count = basis.reduce_sum(ties, axes)
    return div(ties, basis.broadcast_in_dim(count, x.shape, kept))


def _extremum(name: str, doc: str, scalar: str, identity: Callable[[Any], Any]) -> Primitive:
    def compute(xp: Any, x: Any, axes: Ints) -> Any:
        if x.size:
            return getattr(xp, scalar)(x, axes)
        return xp.full([x.shape[i] for i in _kept(x, axes)], identity(x.dtype), x.dtype)

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], *, axes: Ints
    ) -> tuple[Value, Value | None]:
        (x,), (t,) = primals, tangents
        out = bind(prim, x, axes=axes)
        return out, basis.reduce_sum(basis.linear_mul(t, _shares(x, out, axes)), axes)

    def backward(
        _needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, params: dict[str, Any]
    ) -> tuple[Value]:
        (x, out), axes = res, params["axes"]
        spread = basis.broadcast_in_dim(ct, x.shape, _kept(x, axes))
        return (basis.linear_mul(spread, _shares(x, out, axes)),)

    def reference(x: Any, *, axes: Ints) -> Any:
        reduce: Any = getattr(np, scalar)
        return reduce(x, axes, initial=identity(x.dtype)) if axes else x

    prim: Primitive = Primitive(
        name,
        doc,
        abstract=_abstract(name, _ORDERED),
        eager=_eager(_ORDERED, compute),
        jvp=jvp,
        transpose=Absent("not linear"),
        vjp=Pullback(None, backward, lambda _needed: (0, OUT)),
        batch=_batch(lambda: prim),
        lower=Lowering("reduce", scalar),
        spec=_spec(
            reference,
            (*REAL, "bool"),
            "c64[2]",
            smallest=1,  # over none the result is infinite
            operands=Operand(generator="distinct"),
            ulps=0.0,
        ),
    )
    return prim


reduce_max_p: Primitive = _extremum(
    "reduce_max", "The greatest element over axes.", "max", dtypes.lowest
)
reduce_min_p: Primitive = _extremum(
    "reduce_min", "The least element over axes.", "min", dtypes.highest
)


def reduce_max(operand: Any, axes: Sequence[int]) -> Value:
    """The greatest element over `axes`, which are removed; NaN if there is one.

    The derivative is shared equally among the elements that attain the maximum.

    Args:
        operand: Any shape, real numbers or bool.
        axes: The axes.

    Returns:
        The shape of `operand` without `axes`, its dtype; over no elements the least value of the
        dtype (-∞ for floats).

    Raises:
        AxisError: An axis is out of range or named twice.
        DtypeError: `operand` is complex.

    Example:
        >>> reduce_max(np.array([[1, 5], [3, 4]], np.float32), (1,))
        Array([5., 4.], dtype=float32)
    """
    return _bind(reduce_max_p, operand, axes)


def reduce_min(operand: Any, axes: Sequence[int]) -> Value:
    """The least element over `axes`, which are removed; see `reduce_max`.

    Example:
        >>> reduce_min(np.array([[1, 5], [3, 4]], np.float32), (1,))
        Array([1., 3.], dtype=float32)
    """
    return _bind(reduce_min_p, operand, axes)


# --------------------------------------------------------------- reduce_and, reduce_or, reduce_xor


def _logic(name: str, doc: str, scalar: str, ufunc: str, combine: str) -> Primitive:
    def compute(xp: Any, x: Any, axes: Ints) -> Any:
        if x.dtype.kind == "b" and combine:
            return getattr(xp, combine)(x, axes)
        if xp is np:
            return getattr(np, ufunc).reduce(x, axes)
        # CuPy's bitwise functions do not reduce: fold the axes, half onto half.
        for axis in reversed(axes):
            y = xp.moveaxis(x, axis, 0)
            while y.shape[0] > 1:
                half = y.shape[0] // 2
                folded = getattr(xp, ufunc)(y[:half], y[half : 2 * half])
                y = xp.concatenate([folded, y[2 * half :]])
            empty = np.asarray(getattr(np, ufunc).identity).astype(x.dtype)
            x = y[0] if y.shape[0] else xp.full(y.shape[1:], empty, x.dtype)
        return x

    absent = Absent("truth values and bits have no derivative")
    prim: Primitive = Primitive(
        name,
        doc,
        abstract=_abstract(name, BITS),
        eager=_eager(BITS, compute),
        jvp=absent,
        transpose=absent,
        vjp=absent,
        batch=_batch(lambda: prim),
        lower=Lowering("reduce", scalar),
        differentiable=False,
        spec=_spec(
            lambda x, *, axes: getattr(np, ufunc).reduce(x, axes),
            (*INTEGERS, "bool"),
            "f32[2]",
            ulps=0.0,
            order=0,
        ),
    )
    return prim


reduce_and_p: Primitive = _logic("reduce_and", "Bitwise and over axes.", "&", "bitwise_and", "all")
reduce_or_p: Primitive = _logic("reduce_or", "Bitwise or over axes.", "|", "bitwise_or", "any")
reduce_xor_p: Primitive = _logic(
    "reduce_xor", "Bitwise exclusive or over axes.", "^", "bitwise_xor", ""
)


def reduce_and(operand: Any, axes: Sequence[int]) -> Value:
    """Whether all are true over `axes`, which are removed; bit by bit for integers.

    Args:
        operand: Any shape, bool or integers.
        axes: The axes.

    Returns:
        The shape of `operand` without `axes`, its dtype.

    Raises:
        AxisError: An axis is out of range or named twice.
        DtypeError: `operand` is neither bool nor of an integer dtype.

    Example:
        >>> reduce_and(np.array([True, False]), (0,))
        Array(False, dtype=bool)
    """
    return _bind(reduce_and_p, operand, axes)


def reduce_or(operand: Any, axes: Sequence[int]) -> Value:
    """Whether any is true over `axes`, which are removed; bit by bit for integers.

    Example:
        >>> reduce_or(np.array([True, False]), (0,))
        Array(True, dtype=bool)
    """
    return _bind(reduce_or_p, operand, axes)


def reduce_xor(operand: Any, axes: Sequence[int]) -> Value:
    """Whether an odd number is true over `axes`, which are removed; bit by bit for integers.

    Example:
        >>> reduce_xor(np.array([6, 3], np.int32), (0,))
        Array(5, dtype=int32)
    """
    return _bind(reduce_xor_p, operand, axes)
