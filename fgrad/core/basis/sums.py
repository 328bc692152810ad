"""Sums and products of tangents: `add_any`, `linear_mul`, `neg`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.basis.alignment import (
    batch_pointwise,
    broadcast_to,
    unbroadcast,
)
from fgrad.core.basis.rules import (
    Avals,
    broadcast_shapes,
    linear_jvp,
    linear_pullback,
    literal,
    undone,
    wide,
)
from fgrad.core.errors import DtypeError
from fgrad.core.primitive import (
    INEXACT,
    NOTHING,
    NUMERIC,
    TYPE,
    Case,
    Lowering,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind


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


add_any_p: Primitive = Primitive(
    "add_any",
    "Sum of two tangents or cotangents.",
    commutative=True,
    abstract=lambda x, y: _same_types("add_any", x, y),
    eager=_add_any_eager,
    jvp=_add_any_jvp,
    transpose=_add_any_transpose,
    batch=lambda axis, args, dims: batch_pointwise(add_any_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "x + y", operands="x y"),
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


def add_tangents(x: Value | None, y: Value | None) -> Value | None:
    """The sum of two tangents or cotangents, either of which may be None (zero)."""
    if x is None:
        return y
    return x if y is None else add_any(x, y)


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


def _linear_mul_scalar(_avals: Any, params: dict[str, Any]) -> str:
    # Told by where it is not 0: vector code can leave lanes of a product at 0 as it multiplies.
    some = "(t != 0) & (r != 0)" if params["both"] else "t != 0"
    return f"{some} ? t * r : 0"


linear_mul_p: Primitive = Primitive(
    "linear_mul",
    "t·r, linear in t, and 0 wherever t is 0 (with `both`: wherever r is 0 too).",
    abstract=lambda t, r, *, both: _same_types("linear_mul", t, r),
    eager=_linear_mul_eager,
    jvp=_linear_mul_jvp,
    transpose=_linear_mul_transpose,
    batch=lambda axis, args, dims, **p: batch_pointwise(linear_mul_p, axis, args, dims, p),
    lower=Lowering("pointwise", _linear_mul_scalar, operands="t r"),
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


def _neg_abstract(x: ShapedArray) -> ShapedArray:
    if x.dtype.kind == "b":
        raise DtypeError(f"neg takes numbers, got {x}; use ~x or logical_not")
    return x


neg_p: Primitive = Primitive(
    "neg",
    "-x.",
    abstract=_neg_abstract,
    eager=lambda _xp, x: -x,
    jvp=lambda ps, ts: linear_jvp(lambda: neg_p, ps, ts),
    transpose=lambda ct, _x: (neg(ct),),
    vjp=linear_pullback(lambda ct, _x: (neg(ct),)),
    batch=lambda axis, args, dims: batch_pointwise(neg_p, axis, args, dims, {}),
    lower=Lowering("pointwise", "-x"),
    simplify=undone(lambda: neg_p),
    linear="jointly",
    spec=Spec(dtypes=NUMERIC, reference=np.negative, ulps=0.0),
)


def neg(x: Value) -> Value:
    """``-x`` element by element; integers wrap around."""
    return bind(neg_p, x)
