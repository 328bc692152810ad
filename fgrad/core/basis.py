"""The few primitives that transforms and passes themselves build, and the rules they share.

Everything else is declared in `fgrad.lax`. The pairs that transpose into each other stand side by
side: `broadcast_in_dim` and `reduce_sum`, `transpose` and itself, `reshape` and itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import AxisError, DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import (
    ANY,
    INEXACT,
    NOTHING,
    NUMERIC,
    TYPE,
    Absent,
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

Avals = ShapedArray
Dims = Sequence[int | None]

# ---------------------------------------------------------------------------- shared rules


def linear_jvp(
    prim_of: Any, primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    """The jvp of a primitive with one linear operand: the same primitive on its tangent."""
    prim = prim_of()
    out = bind(prim, *primals, **params)
    if tangents[0] is None:
        return out, None
    return out, bind(prim, tangents[0], *primals[1:], **params)


def linear_pullback(transpose: Any) -> Pullback:
    """The pullback of a primitive that is linear in its only operand: nothing but a type is kept."""

    def select(_needed: tuple[bool, ...]) -> tuple[int, ...]:
        return (TYPE(0),)

    def backward(
        _needed: tuple[bool, ...], residuals: tuple[Any, ...], ct: Value, params: dict[str, Any]
    ) -> Sequence[Value | None]:
        return transpose(ct, Unknown(residuals[0]), **params)  # type: ignore[no-any-return]

    return Pullback(None, backward, select)


def broadcast_shapes(name: str, avals: Sequence[ShapedArray]) -> tuple[int, ...]:
    """NumPy's broadcast shape of operands, or a `ShapeError` that names `name`."""
    shape = avals[0].shape
    for a in avals[1:]:
        if a.shape != shape:
            break
    else:
        return shape
    ndim = max(len(a.shape) for a in avals)
    out = [1] * ndim
    for a in avals:
        for i, length in enumerate(a.shape, ndim - len(a.shape)):
            if length != 1:
                if out[i] not in (1, length):
                    shapes = ", ".join(map(str, avals))
                    raise ShapeError(
                        f"{name}: shapes do not broadcast together: {shapes} (axis {i - ndim} is "
                        f"{out[i]} and {length}); equal lengths or 1 are needed on each axis"
                    )
                out[i] = length
    return tuple(out)


def batch_pointwise(
    prim: Primitive, axis: MappedAxis, args: Sequence[Value], dims: Dims, params: dict[str, Any]
) -> tuple[Value, int]:
    """Batch a primitive that acts element by element: put the mapped axes in one place."""
    mapped = {(d, x.ndim) for x, d in zip(args, dims, strict=True) if d is not None}
    if len(mapped) == 1:
        d, ndim = next(iter(mapped))
        # Operands that are not mapped broadcast from the right, so they may reach up to axis d.
        if all(e is not None or x.ndim < ndim - d for x, e in zip(args, dims, strict=True)):
            return bind(prim, *args, **params), d
    rank = max(x.ndim - (d is not None) for x, d in zip(args, dims, strict=True))
    moved = [
        x if d is None else lead(x, d, axis.size, rank) for x, d in zip(args, dims, strict=True)
    ]
    return bind(prim, *moved, **params), 0


def lead(x: Value, dim: int | None, size: int, rank: int | None = None) -> Value:
    """Move the mapped axis of `x` to the front; where there is none, broadcast one.

    With `rank`, axes of length 1 follow it so that the rest has that many axes.
    """
    if dim is None:
        return broadcast_in_dim(x, (size, *x.shape), tuple(range(1, x.ndim + 1)))
    x = moveaxis(x, dim, 0)
    if rank is not None and x.ndim - 1 < rank:
        x = reshape(x, (x.shape[0], *(1,) * (rank - x.ndim + 1), *x.shape[1:]))
    return x


def moveaxis(x: Value, source: int, target: int) -> Value:
    """`x` with one axis moved."""
    if source == target:
        return x
    order = [i for i in range(x.ndim) if i != source]
    order.insert(target, source)
    return transpose(x, tuple(order))


def unbroadcast(ct: Value, shape: tuple[int, ...]) -> Value:
    """Sum a cotangent over the axes along which an operand of `shape` was broadcast."""
    full = ct.shape
    if full == shape:
        return ct
    extra = len(full) - len(shape)
    axes = tuple(
        i for i, n in enumerate(full) if i < extra or (shape[i - extra] == 1 and n != 1)
    )
    return reshape(reduce_sum(ct, axes), shape)


def broadcast_to(x: Value, shape: tuple[int, ...]) -> Value:
    """`x` broadcast to `shape` by NumPy's rule (axes align on the right)."""
    if x.shape == shape:
        return x
    extra = len(shape) - x.ndim
    return broadcast_in_dim(x, shape, tuple(range(extra, len(shape))))


def scalar(value: float | complex | bool, dtype: np.dtype[Any]) -> Value:
    """A constant of that dtype without axes."""
    return ArrayImpl(np.zeros((), dtype) if is_zero_dtype(dtype) else np.asarray(value, dtype))


def zeros(aval: ShapedArray) -> Value:
    """Zeros of a type."""
    return broadcast_in_dim(scalar(0, aval.dtype), aval.shape, ())


def instantiate(tangent: Value | None, like: Value) -> Value:
    """The tangent itself; zeros of the tangent type of `like` where it is None."""
    return zeros(like.aval.tangent()) if tangent is None else tangent


def add_tangents(x: Value | None, y: Value | None) -> Value | None:
    """The sum of two tangents or cotangents, either of which may be None (zero)."""
    if x is None:
        return y
    return x if y is None else add_any(x, y)


def is_zero_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is that of the tangents of integers and booleans."""
    return dtype.names is not None


def wide(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype in which a 16-bit or 8-bit float computes, or None for the others."""
    return None if dtype.char in "fdFD?bhilqBHILQ" else _WIDE.get(dtype)


_SMALL = (
    "float16", "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn",
    "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
_WIDE = {np.dtype(getattr(dtypes, name)): np.dtype(np.float32) for name in _SMALL}


# ------------------------------------------------------------------------ add_any, linear_mul


def _same_types(name: str, x: Avals, y: Avals) -> ShapedArray:
    if x.dtype != y.dtype:
        raise DtypeError(f"{name} needs operands of one dtype, got {x} and {y}")
    return ShapedArray(broadcast_shapes(name, (x, y)), x.dtype, x.weak_type and y.weak_type)


def _add_any_eager(_xp: Any, x: Any, y: Any) -> Any:
    w = wide(x.dtype)
    return x + y if w is None else (x.astype(w) + y.astype(w)).astype(x.dtype)


def _add_any_transpose(ct: Value, x: Any, y: Any) -> tuple[Value | None, ...]:
    return tuple(unbroadcast(ct, a.aval.shape) if isinstance(a, Unknown) else None for a in (x, y))


def _add_any_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    out = add_any(*primals)
    total = add_tangents(*tangents)
    return out, None if total is None else broadcast_to(total, out.shape)


add_any_p = Primitive(
    "add_any",
    "Sum of two tangents or cotangents.",
    commutative=True,
    abstract=lambda x, y: _same_types("add_any", x, y),
    eager=_add_any_eager,
    jvp=_add_any_jvp,
    transpose=_add_any_transpose,
    batch=lambda axis, args, dims: batch_pointwise(add_any_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "x + y"),
    linear="jointly",
    vjp=Pullback(
        None,
        lambda needed, res, ct, _params: tuple(
            unbroadcast(ct, a.shape) if n else None for n, a in zip(needed, res, strict=True)
        ),
        lambda _needed: (TYPE(0), TYPE(1)),
    ),
    spec=Spec(cases=(Case("...,..."),), dtypes=INEXACT, reference=np.add, ulps=0.5),
)


def add_any(x: Value, y: Value) -> Value:
    """The sum of two tangents or cotangents."""
    return bind(add_any_p, x, y)


def _linear_mul_eager(xp: Any, t: Any, r: Any, *, both: bool) -> Any:
    w = wide(t.dtype)
    if w is not None:
        t_, r_ = t.astype(w), r.astype(w)
        return _linear_mul_eager(xp, t_, r_, both=both).astype(t.dtype)
    out = t * r
    # One pass in which a NaN cannot hide; the exact selection runs only where it says something.
    if xp is not np or (square := np.vdot(out, out)) != square:
        zero = (t == 0) | (r == 0) if both else t == 0
        out = xp.where(zero, xp.zeros((), out.dtype), out)
    return out


def _linear_mul_transpose(ct: Value, t: Any, r: Value, *, both: bool) -> tuple[Value | None, ...]:
    return unbroadcast(linear_mul(ct, r, both=both), t.aval.shape), None


def _linear_mul_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, both: bool
) -> tuple[Value, Value | None]:
    t, r = primals
    dt, dr = tangents
    out = linear_mul(t, r, both=both)
    first = None if dt is None else linear_mul(dt, r, both=both)
    second = None if dr is None else linear_mul(dr, t, both=True)
    total = add_tangents(first, second)
    return out, None if total is None else broadcast_to(total, out.shape)


def _linear_mul_backward(
    needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, params: dict[str, Any]
) -> tuple[Value | None, ...]:
    t, r, t_aval, r_aval = res
    ct_t = unbroadcast(linear_mul(ct, r, **params), t_aval.shape) if needed[0] else None
    ct_r = unbroadcast(linear_mul(ct, t, both=True), r_aval.shape) if needed[1] else None
    return ct_t, ct_r


def _linear_mul_simplify(args: Sequence[Value], _params: dict[str, Any]) -> Value | None:
    t, r = args
    if r.ndim == 0 and literal(r) == 1:
        return t
    # The literal 1 is not 0, so nothing is masked.
    return r if t.ndim == 0 and literal(t) == 1 and t.dtype == r.dtype else None


linear_mul_p = Primitive(
    "linear_mul",
    "t·r, linear in t, and 0 wherever t is 0 (with `both`: wherever r is 0 too).",
    abstract=lambda t, r, *, both: _same_types("linear_mul", t, r),
    eager=_linear_mul_eager,
    jvp=_linear_mul_jvp,
    transpose=_linear_mul_transpose,
    batch=lambda axis, args, dims, **p: batch_pointwise(linear_mul_p, axis, args, dims, p),
    lower=Lowering("pointwise", "t == 0 ? 0 : t * r"),
    linear="each",
    linear_in=(0,),
    vjp=Pullback(
        None,
        _linear_mul_backward,
        lambda needed: (0 if needed[1] else NOTHING, 1 if needed[0] else NOTHING, TYPE(0), TYPE(1)),
    ),
    simplify=_linear_mul_simplify,
    spec=Spec(
        (Operand(), Operand()),
        (Case("...,...", {"both": False}), Case("...,...", {"both": True})),
        dtypes=INEXACT,
        reference=lambda t, r, *, both: t * r,
        ulps=2.0,
    ),
)


def linear_mul(t: Value, r: Value, *, both: bool = False) -> Value:
    """`t·r`, exactly 0 wherever `t` is 0 even if `r` is infinite or NaN there.

    It is how derivative rules scale a tangent, so that a branch which was not taken contributes
    nothing. With `both`, r = 0 counts too: the derivative in r needs it, to stay linear in its
    own tangent and masked by t.
    """
    return bind(linear_mul_p, t, r, both=both)


neg_p = Primitive(
    "neg",
    "-x.",
    abstract=lambda x: x,
    eager=lambda _xp, x: -x,
    jvp=lambda ps, ts: linear_jvp(lambda: neg_p, ps, ts),
    transpose=lambda ct, _x: (neg(ct),),
    vjp=linear_pullback(lambda ct, _x: (neg(ct),)),
    batch=lambda axis, args, dims: batch_pointwise(neg_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "-x"),
    linear="jointly",
    spec=Spec(dtypes=NUMERIC, reference=np.negative, ulps=0.0),
)


def neg(x: Value) -> Value:
    """``-x`` element by element; integers wrap around."""
    return bind(neg_p, x)


def literal(x: Value) -> Any:
    """The Python number of a concrete or literal scalar, or None."""
    if type(x) is ArrayImpl:
        data = x._data
    else:
        data = getattr(getattr(x, "atom", None), "value", None)
    if type(data) is np.ndarray and data.ndim == 0 and data.dtype.names is None:
        return data.item() if data.dtype.kind != "V" else float(data)
    return None


# --------------------------------------------------------------------- broadcast, reduce_sum


def _broadcast_abstract(
    x: Avals, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> ShapedArray:
    dims = broadcast_dimensions
    if len(dims) != x.ndim:
        raise ShapeError(
            f"broadcast_in_dim: broadcast_dimensions {dims} must name one axis of the result for "
            f"each of the {x.ndim} axes of the operand {x}"
        )
    if list(dims) != sorted(set(dims)) or any(not 0 <= d < len(shape) for d in dims):
        raise AxisError(
            f"broadcast_in_dim: broadcast_dimensions {dims} must increase and lie within the "
            f"{len(shape)} axes of the result shape {list(shape)}"
        )
    for d, length in zip(dims, x.shape, strict=True):
        if length not in (1, shape[d]):
            raise ShapeError(
                f"broadcast_in_dim: axis of length {length} of the operand {x} does not fit axis "
                f"{d} of the result shape {list(shape)}; it must be 1 or {shape[d]}"
            )
    return ShapedArray(shape, x.dtype, x.weak_type)


def _broadcast_eager(
    xp: Any, x: Any, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> Any:
    strides = [0] * len(shape)
    for d, n, stride in zip(broadcast_dimensions, x.shape, x.strides, strict=True):
        strides[d] = 0 if n == 1 else stride
        if n not in (1, shape[d]):
            raise ValueError("shapes")  # the abstract rule says it in full
    if xp is np and x.flags.c_contiguous:
        # A view; an order of magnitude quicker to make than by numpy.broadcast_to.
        return np.ndarray(shape, x.dtype, buffer=x, strides=strides)
    inner = [1] * len(shape)
    for d, n in zip(broadcast_dimensions, x.shape, strict=True):
        inner[d] = n
    return xp.broadcast_to(x.reshape(inner), shape)


def _broadcast_transpose(
    ct: Value, x: Unknown, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> tuple[Value]:
    kept = {
        d: n for d, n in zip(broadcast_dimensions, x.aval.shape, strict=True) if n == shape[d]
    }
    summed = reduce_sum(ct, tuple(i for i in range(len(shape)) if i not in kept))
    return (reshape(summed, x.aval.shape),)


def _broadcast_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *,
    shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...],
) -> tuple[Value, int]:  # fmt: skip
    x = lead(args[0], dims[0], axis.size)
    inner = (0, *(d + 1 for d in broadcast_dimensions))
    return broadcast_in_dim(x, (axis.size, *shape), inner), 0


broadcast_in_dim_p = Primitive(
    "broadcast_in_dim",
    "Repeat an array along new axes and axes of length 1.",
    abstract=_broadcast_abstract,
    eager=_broadcast_eager,
    jvp=lambda ps, ts, **params: linear_jvp(lambda: broadcast_in_dim_p, ps, ts, **params),
    transpose=_broadcast_transpose,
    vjp=linear_pullback(_broadcast_transpose),
    batch=_broadcast_batch,
    lower=Lowering("view", "broadcast"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", lambda s: {"shape": (s["m"], 3, s["n"]), "broadcast_dimensions": (0, 2)}),
            Case("1 n", lambda s: {"shape": (4, s["n"]), "broadcast_dimensions": (0, 1)}),
            Case("", {"shape": (2, 3), "broadcast_dimensions": ()}),
        ),
        dtypes=ANY,
        reference=lambda x, *, shape, broadcast_dimensions: np.broadcast_to(
            np.expand_dims(x, [i for i in range(len(shape)) if i not in broadcast_dimensions]),
            shape,
        ),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]",), ShapeError, "length 2", shape=(3,), broadcast_dimensions=(0,)),
            Invalid(("f32[2]",), AxisError, "within", shape=(2,), broadcast_dimensions=(1,)),
            Invalid(("f32[2]",), ShapeError, "one axis", shape=(2,), broadcast_dimensions=()),
        ),
    ),
)


def broadcast_in_dim(
    x: Value, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...]
) -> Value:
    """`x` repeated to `shape`; its axis i becomes axis ``broadcast_dimensions[i]``."""
    shape, dims = tuple(shape), tuple(broadcast_dimensions)
    if x.shape == shape and dims == tuple(range(len(shape))):
        return x
    return bind(broadcast_in_dim_p, x, shape=shape, broadcast_dimensions=dims)


def reduced_aval(name: str, x: Avals, axes: tuple[int, ...]) -> ShapedArray:
    """The type of `x` without `axes`, or the `AxisError` of a reduction called `name`."""
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < x.ndim for a in axes):
        raise AxisError(
            f"{name}: axes {axes} must increase and lie within the {x.ndim} axes of the operand {x}"
        )
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return ShapedArray(shape, x.dtype, x.weak_type)


def _sum_abstract(x: Avals, *, axes: tuple[int, ...]) -> ShapedArray:
    if x.dtype.kind == "b":
        raise DtypeError(f"reduce_sum takes numbers, got {x}; convert it to an integer dtype first")
    return reduced_aval("reduce_sum", x, axes)


def _sum_eager(xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    if axes and axes[-1] >= x.ndim:
        raise ValueError("axes")
    if x.dtype.kind == "b":
        raise ValueError("numbers")
    w = wide(x.dtype)
    if w is not None:
        return _sum_eager(xp, x.astype(w), axes=axes).astype(x.dtype)
    if x.size > _CHAIN and xp is np and x.dtype.kind in "fc" and _is_chained(x, axes):
        return _blocked_sum(x, axes)
    return xp.add.reduce(x, axes, x.dtype)


_CHAIN = 64  # the longest chain of additions left to NumPy
_BLOCK = 32  # rows that are added one after the other before partial sums are added pairwise


def _is_chained(x: Any, axes: tuple[int, ...]) -> bool:
    """Whether NumPy would add many numbers one after the other.

    It adds pairwise along the inner axes of memory, which merge into one loop; the rows of any
    other axis go into one accumulator, whose rounding error grows with their number.
    """
    shape = x.shape
    extent = 1
    for a in axes:
        extent *= shape[a]
    inner = axes == tuple(range(x.ndim - len(axes), x.ndim)) and x.flags.c_contiguous
    return extent > _CHAIN and not inner


def _blocked_sum(x: Any, axes: tuple[int, ...]) -> Any:
    """Sum so that no chain of additions is longer than about 64 + log₂ n."""
    # From the outer axes of memory to the inner; repeated rows (stride 0) count as outer.
    order = sorted(range(x.ndim), key=lambda a: -(abs(x.strides[a]) or x.size * x.itemsize))
    x = x.transpose(order)
    axes = tuple(i for i, a in enumerate(order) if a in axes)
    left = [a for i, a in enumerate(order) if i not in axes]
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    if x.flags.c_contiguous:
        x, axes = _merged(x, axes)
    # The inner axis of memory first: NumPy adds pairwise along it.
    for axis in reversed(axes):
        inner = axis == x.ndim - 1 and x.strides[axis]
        if inner or x.shape[axis] <= _BLOCK:
            x = np.add.reduce(x, axis, keepdims=True)
        else:
            x = _blocked_axis(x, axis)
    return x.reshape(kept).transpose(np.argsort(left))


def _merged(x: Any, axes: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """Neighbouring summed axes of a contiguous array as one."""
    shape: list[int] = []
    summed: list[int] = []
    for i, n in enumerate(x.shape):
        if i in axes and i - 1 in axes:
            shape[-1] *= n
        else:
            if i in axes:
                summed.append(len(shape))
            shape.append(n)
    return x.reshape(shape), tuple(summed)


def _blocked_axis(x: Any, axis: int) -> Any:
    """The sum along one axis, which stays with length 1: blocks first, then their sums pairwise."""
    before = (slice(None),) * axis
    blocks = x.shape[axis] // _BLOCK
    whole = x[(*before, slice(0, blocks * _BLOCK))]
    parts = whole.reshape((*x.shape[:axis], blocks, _BLOCK, *x.shape[axis + 1 :]))
    total = np.add.reduce(parts, axis + 1)
    while blocks > 1:
        half = blocks // 2
        pairs = total[(*before, slice(0, half))] + total[(*before, slice(half, 2 * half))]
        if blocks % 2:
            pairs[(*before, slice(0, 1))] += total[(*before, slice(blocks - 1, blocks))]
        total, blocks = pairs, half
    rest = x[(*before, slice(x.shape[axis] // _BLOCK * _BLOCK, None))]
    return total + np.add.reduce(rest, axis, keepdims=True)


def _sum_transpose(ct: Value, x: Unknown, *, axes: tuple[int, ...]) -> tuple[Value]:
    shape = x.aval.shape
    return (broadcast_in_dim(ct, shape, tuple(i for i in range(len(shape)) if i not in axes)),)


def shift_axes(axes: tuple[int, ...], dim: int) -> tuple[int, ...]:
    """Axes of one batch element as axes of the batch whose mapped axis is `dim`."""
    return tuple(a + (a >= dim) for a in axes)


def _sum_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axes: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    moved = shift_axes(axes, d)
    return reduce_sum(args[0], moved), d - sum(a < d for a in moved)


reduce_sum_p = Primitive(
    "reduce_sum",
    "Sum over axes.",
    abstract=_sum_abstract,
    eager=_sum_eager,
    jvp=lambda ps, ts, **params: linear_jvp(lambda: reduce_sum_p, ps, ts, **params),
    transpose=_sum_transpose,
    vjp=linear_pullback(_sum_transpose),
    batch=_sum_batch,
    lower=Lowering("reduce", "+"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", {"axes": (0,)}),
            Case("m n k", {"axes": (0, 2)}),
            Case("m n", {"axes": ()}),
        ),
        dtypes=NUMERIC,
        reference=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
        ulps=None,
        terms=lambda x, *, axes: np.sum(np.abs(x), axis=axes),
        invalid=(
            Invalid(("f32[2]",), AxisError, "axes", axes=(1,)),
            Invalid(("b[2]",), DtypeError, "numbers", axes=(0,)),
        ),
    ),
)


def reduce_sum(x: Value, axes: tuple[int, ...]) -> Value:
    """The sum of `x` over `axes` (increasing, not negative), which are removed."""
    if not axes:
        return x
    return bind(reduce_sum_p, x, axes=tuple(axes))


# ------------------------------------------------------------------------ transpose, reshape


def _transpose_abstract(x: Avals, *, permutation: tuple[int, ...]) -> ShapedArray:
    if sorted(permutation) != list(range(x.ndim)):
        raise AxisError(
            f"transpose: permutation {permutation} must hold each of the {x.ndim} axes of {x} once"
        )
    return ShapedArray(tuple(x.shape[p] for p in permutation), x.dtype, x.weak_type)


def _inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    inverse = [0] * len(permutation)
    for i, p in enumerate(permutation):
        inverse[p] = i
    return tuple(inverse)


def _transpose_transpose(
    ct: Value, _x: Unknown, *, permutation: tuple[int, ...]
) -> tuple[Value]:
    return (transpose(ct, _inverse(permutation)),)


def _transpose_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, permutation: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    return transpose(args[0], (d, *shift_axes(permutation, d))), 0


transpose_p = Primitive(
    "transpose",
    "Permute axes.",
    abstract=_transpose_abstract,
    eager=lambda _xp, x, *, permutation: x.transpose(permutation),
    jvp=lambda ps, ts, **params: linear_jvp(lambda: transpose_p, ps, ts, **params),
    transpose=_transpose_transpose,
    vjp=linear_pullback(_transpose_transpose),
    batch=_transpose_batch,
    lower=Lowering("view", "transpose"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", {"permutation": (1, 0)}),
            Case("m n k", {"permutation": (2, 0, 1)}),
        ),
        dtypes=ANY,
        reference=lambda x, *, permutation: np.transpose(x, permutation),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2,3]",), AxisError, "permutation", permutation=(0, 0)),
            Invalid(("f32[2,3]",), AxisError, "permutation", permutation=(0,)),
        ),
    ),
)


def transpose(x: Value, permutation: tuple[int, ...]) -> Value:
    """`x` with its axes permuted: axis i of the result is axis ``permutation[i]`` of `x`."""
    permutation = tuple(permutation)
    if permutation == tuple(range(x.ndim)):
        return x
    return bind(transpose_p, x, permutation=permutation)


def _reshape_abstract(x: Avals, *, new_sizes: tuple[int, ...]) -> ShapedArray:
    out = ShapedArray(new_sizes, x.dtype, x.weak_type)
    if out.size != x.size or any(n < 0 for n in new_sizes):
        raise ShapeError(
            f"reshape: {x} has {x.size} elements and cannot take the shape {list(new_sizes)}, "
            f"which has {out.size}"
        )
    return out


def _reshape_transpose(ct: Value, x: Unknown, *, new_sizes: tuple[int, ...]) -> tuple[Value]:  # noqa: ARG001
    return (reshape(ct, x.aval.shape),)


def _reshape_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, new_sizes: tuple[int, ...]
) -> tuple[Value, int]:
    d = dims[0]
    assert d is not None
    return reshape(moveaxis(args[0], d, 0), (axis.size, *new_sizes)), 0


reshape_p = Primitive(
    "reshape",
    "The same elements in row-major order under another shape.",
    abstract=_reshape_abstract,
    eager=lambda _xp, x, *, new_sizes: x.reshape(new_sizes),
    jvp=lambda ps, ts, **params: linear_jvp(lambda: reshape_p, ps, ts, **params),
    transpose=_reshape_transpose,
    vjp=linear_pullback(_reshape_transpose),
    batch=_reshape_batch,
    lower=Lowering("view", "reshape"),
    linear="jointly",
    spec=Spec(
        cases=(
            Case("m n", lambda s: {"new_sizes": (s["m"] * s["n"],)}),
            Case("m n", lambda s: {"new_sizes": (s["n"], 1, s["m"])}),
        ),
        dtypes=ANY,
        reference=lambda x, *, new_sizes: np.reshape(x, new_sizes),
        ulps=0.0,
        invalid=(Invalid(("f32[2,3]",), ShapeError, "6 elements", new_sizes=(5,)),),
    ),
)


def reshape(x: Value, new_sizes: tuple[int, ...]) -> Value:
    """`x` in row-major order under the shape `new_sizes` (no -1 here)."""
    new_sizes = tuple(new_sizes)
    if x.shape == new_sizes:
        return x
    return bind(reshape_p, x, new_sizes=new_sizes)


# ------------------------------------------------------------------------- convert, select_n


def _convert_abstract(x: Avals, *, new_dtype: np.dtype[Any], weak_type: bool) -> ShapedArray:
    return ShapedArray(x.shape, new_dtype, weak_type)


def _convert_eager(xp: Any, x: Any, *, new_dtype: np.dtype[Any], weak_type: bool) -> Any:  # noqa: ARG001
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
    ct: Value, x: Unknown, *, new_dtype: np.dtype[Any], weak_type: bool  # noqa: ARG001
) -> tuple[Value]:  # fmt: skip
    return (convert_element_type(ct, x.aval.dtype),)


def _convert_simplify(args: Sequence[Value], params: dict[str, Any]) -> Value | None:
    x = args[0]
    same = x.dtype == params["new_dtype"] and x.weak_type == params["weak_type"]
    return x if same else None


convert_element_type_p = Primitive(
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
    lower=Lowering("pointwise", "convert"),
    linear="jointly",
    differentiable=lambda new_dtype, weak_type: dtypes.is_inexact(new_dtype),  # noqa: ARG005
    simplify=_convert_simplify,
    spec=Spec(
        cases=(
            Case("...", {"new_dtype": np.dtype(np.float64), "weak_type": False}, name="to_f64"),
            Case("...", {"new_dtype": np.dtype(np.float32), "weak_type": False}, name="to_f32"),
            Case("...", {"new_dtype": np.dtype(np.int32), "weak_type": False}, name="to_i32"),
            Case("...", {"new_dtype": np.dtype(np.complex128), "weak_type": False}, name="to_c128"),
        ),
        dtypes=ANY,
        ulps=0.5,
    ),
)


def convert_element_type(x: Value, dtype: Any, *, weak_type: bool = False) -> Value:
    """`x` in another dtype; complex to real keeps the real part, float to integer truncates."""
    new_dtype = np.dtype(dtype)
    if x.dtype == new_dtype and x.weak_type == weak_type:
        return x
    return bind(convert_element_type_p, x, new_dtype=new_dtype, weak_type=weak_type)


def _select_abstract(which: Avals, *cases: Avals) -> ShapedArray:
    if which.dtype.kind != "b" and which.dtype != np.int32:
        raise DtypeError(f"select_n: the selector must be bool or int32, got {which}")
    if which.dtype.kind == "b" and len(cases) > 2:
        raise DtypeError(f"select_n: a bool selector chooses among 2 cases, got {len(cases)}")
    if any(c.dtype != cases[0].dtype for c in cases):
        raise DtypeError(f"select_n: cases need one dtype, got {', '.join(map(str, cases))}")
    shape = broadcast_shapes("select_n", (which, *cases))
    return ShapedArray(shape, cases[0].dtype, all(c.weak_type for c in cases))


def _select_eager(xp: Any, which: Any, *cases: Any) -> Any:
    if any(c.dtype != cases[0].dtype for c in cases):
        raise ValueError("dtypes")
    if which.dtype.kind == "b" and len(cases) == 2:
        return xp.where(which, cases[1], cases[0])
    return xp.choose(which, xp.broadcast_arrays(*cases), mode="clip")


def _select_ct(which: Value, i: int, n: int, ct: Value) -> Value:
    """The cotangent of case i: ct where it was chosen."""
    zero = scalar(0, ct.dtype)
    return select_n(which, *[ct if k == i else zero for k in range(n)])


def _select_transpose(ct: Value, which: Value, *cases: Any) -> tuple[Value | None, ...]:
    return (None, *(
        unbroadcast(_select_ct(which, i, len(cases), ct), c.aval.shape)
        if isinstance(c, Unknown) else None
        for i, c in enumerate(cases)
    ))  # fmt: skip


def _select_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    out = select_n(*primals)
    if all(t is None for t in tangents[1:]):
        return out, None
    zero = scalar(0, out.dtype)
    tangent = select_n(primals[0], *[zero if t is None else t for t in tangents[1:]])
    return out, broadcast_to(tangent, out.shape)


def _select_backward(
    needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, _params: dict[str, Any]
) -> tuple[Value | None, ...]:
    which, *avals = res
    return (None, *(
        unbroadcast(_select_ct(which, i, len(avals), ct), a.shape) if n else None
        for i, (a, n) in enumerate(zip(avals, needed[1:], strict=True))
    ))  # fmt: skip


select_n_p = Primitive(
    "select_n",
    "For each element, the case that the selector names (False and 0 name the first).",
    abstract=_select_abstract,
    eager=_select_eager,
    jvp=_select_jvp,
    transpose=_select_transpose,
    vjp=Pullback(
        None,
        _select_backward,
        lambda needed: (0, *map(TYPE, range(1, len(needed)))),
    ),
    batch=lambda axis, args, dims: batch_pointwise(select_n_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "select"),
    linear="jointly",
    spec=Spec(
        (Operand(dtype="bool", generator="static"), Operand(), Operand()),
        (Case("...,...,..."),),
        dtypes=ANY,
        reference=lambda which, x, y: np.where(which, y, x),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f32[2]", "f32[2]"), DtypeError, "selector"),
            Invalid(("b[2]", "f32[2]", "f64[2]"), DtypeError, "one dtype"),
            Invalid(("b[2]", "f32[3]", "f32[3]"), ShapeError, "broadcast"),
        ),
    ),
)


def select_n(which: Value, *cases: Value) -> Value:
    """The case that `which` names, element by element; operands broadcast.

    Args:
        which: bool (two cases: False names the first) or int32.
        *cases: Values of one dtype.
    """
    return bind(select_n_p, as_value(which), *cases)
