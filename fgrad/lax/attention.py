"""Attention as one operation, with a pullback of its own.

Reverse mode keeps the operands, the result and log Σ exp of the scores of each query, and computes
the probabilities again; so does forward mode. Eager code works a block of queries at a time.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    FLOATS,
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
from fgrad.core.transforms.forward import jvp_flat
from fgrad.lax import attention_composed as composed
from fgrad.lax import attention_eager as eager
from fgrad.lax.kinds import FLOAT, check_kind

__all__ = ["attention_grad_p", "attention_p", "dot_product_attention"]

Values = Sequence[Value]
Tangents = Sequence[Value | None]
Params = dict[str, Any]

# Operands of attention: queries [..., T, N, H], keys [..., S, K, H], values [..., S, K, D]; as
# `has_bias` and `has_mask` say, a bias and a mask that broadcast to [..., N, T, S]. Its results
# are [..., T, N, D] and log Σ exp of the scores, [..., N, T] in at least float32: 0, not -inf, for
# a query that sees no key, so that nothing has to tell it apart.


def _check(avals: Sequence[ShapedArray], params: Params) -> None:
    q, k, v, *rest = avals
    for name, x in zip(("query", "key", "value"), (q, k, v), strict=True):
        check_kind(f"attention: {name}", x, FLOAT)
    types = f"got query {q}, key {k}, value {v}"
    if not q.dtype == k.dtype == v.dtype:
        raise DtypeError(f"attention needs query, key and value of one dtype, {types}; use astype")
    if q.ndim < 3 or not q.ndim == k.ndim == v.ndim:
        raise ShapeError(
            f"attention takes query [..., T, N, H], key [..., S, K, H] and value [..., S, K, D], "
            f"{types}"
        )
    if not q.shape[:-3] == k.shape[:-3] == v.shape[:-3]:
        raise ShapeError(f"attention needs query, key and value of the same batch axes, {types}")
    if q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1]:
        raise ShapeError(f"attention: key must fit query in H, and value in S and K, {types}")
    if k.shape[-2] == 0 or q.shape[-2] % k.shape[-2]:
        raise ShapeError(f"attention: the key heads K must divide the query heads N, {types}")
    scores = (*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])
    for name, x in zip(_names(params), rest, strict=True):
        if len(x.shape) != len(scores) or any(
            m not in (1, n) for m, n in zip(x.shape, scores, strict=True)
        ):
            raise ShapeError(
                f"attention: {name} {x} does not broadcast to the scores [..., N, T, S] = "
                f"{list(scores)}"
            )
        if name == "mask" and x.dtype.kind != "b":
            raise DtypeError(f"attention: mask must be boolean, got {x}; a bias may be any float")
        if name == "bias":
            check_kind("attention: bias", x, FLOAT)


def _names(params: Params) -> list[str]:
    return [n for n in ("bias", "mask") if params[f"has_{n}"]]


def _lse_type(q: ShapedArray) -> ShapedArray:
    *batch, length, heads, _ = q.shape
    return ShapedArray((*batch, heads, length), basis.wide(q.dtype) or q.dtype)


def _types(arrays: Sequence[Any]) -> list[ShapedArray]:
    return [ShapedArray(x.shape, x.dtype) for x in arrays]


def _abstract(*avals: ShapedArray, **params: Any) -> list[ShapedArray]:
    _check(avals, params)
    q, _, v = avals[:3]
    return [ShapedArray((*q.shape[:-1], v.shape[-1]), q.dtype), _lse_type(q)]


def _eager(xp: Any, *arrays: Any, **params: Any) -> list[Any]:
    # NumPy would broadcast what does not fit.
    _check(_types(arrays), params)
    return eager.forward(xp, *arrays, **params)


def _jvp(primals: Values, tangents: Tangents, **params: Any) -> tuple[list[Value], list[Any]]:
    out, lse = bind(attention_p, *primals, **params)
    if all(t is None for t in tangents):
        return [out, lse], [None, None]
    return [out, lse], composed.push(primals, tangents, lse, params)


def _forward(_needed: Any, primals: Values, params: Params) -> tuple[list[Value], tuple[Any, ...]]:
    out, lse = bind(attention_p, *primals, **params)
    return [out, lse], (*primals[:3], out, lse, *primals[3:])


def _backward(
    needed: tuple[bool, ...], residuals: Values, cts: Tangents, params: Params
) -> list[Value | None]:
    q, k, v, out, lse, *rest = residuals
    given = [basis.instantiate(ct, y) for ct, y in zip(cts, (out, lse), strict=True)]
    bias_grad = params["has_bias"] and needed[3]
    grads = bind(
        attention_grad_p, *given, q, k, v, out, lse, *rest, bias_grad=bias_grad, **params
    )  # fmt: skip
    return [*grads, *[None] * (len(needed) - len(grads))]


def _lead(args: Values, dims: Dims, size: int, *, whole: int) -> list[Value]:
    """All operands with the mapped axis in front; after `whole` of them it may have length 1."""
    return [
        basis.reshape(x, (1, *x.shape)) if d is None and i >= whole else basis.lead(x, d, size)
        for i, (x, d) in enumerate(zip(args, dims, strict=True))
    ]


def _batch(
    axis: MappedAxis, args: Values, dims: Dims, **params: Any
) -> tuple[list[Value], list[int]]:
    return bind(attention_p, *_lead(args, dims, axis.size, whole=3), **params), [0, 0]


_SCALE = {"scale": 0.5, "causal": False, "has_bias": False, "has_mask": False}
_CAUSAL = {**_SCALE, "causal": True, "scale": 0.7}
_BOTH = {**_SCALE, "has_bias": True, "has_mask": True}
_MASK = Operand(dtype="bool")
_PLAIN = {"scale": 1.0, "causal": False, "has_bias": False, "has_mask": False}
_MASKED = {**_PLAIN, "has_mask": True}

attention_p: Primitive = Primitive(
    "attention",
    "softmax(scale · q·kᵀ + bias) · v of each head, and log Σ exp of the scores.",
    abstract=_abstract,
    eager=_eager,
    jvp=_jvp,
    transpose=Absent("not linear; only its derivative is transposed"),
    vjp=Pullback(_forward, _backward),
    batch=_batch,
    lower=Lowering("library", "attention", composed.attention),
    multiple_results=True,
    spec=Spec(
        (Operand(), Operand(), Operand(), Operand(), _MASK),
        (
            Case("b t 2 h, b s 2 h, b s 2 d", _SCALE, name="plain"),
            Case("t 4 h, s 2 h, s 2 d", _CAUSAL, name="causal, grouped heads"),
            Case("b t 2 2, b s 1 2, b s 1 2, 1 2 1 s, b 1 t s", _BOTH, name="bias and mask"),
        ),
        dtypes=FLOATS,
        reference=composed.reference,
        ulps=None,
        terms=composed.terms,
        invalid=(
            Invalid(("i32[1,1,2]",) * 3, DtypeError, "float", **_PLAIN),
            Invalid(("f32[1,1,2]", "f64[1,1,2]", "f32[1,1,2]"), DtypeError, "one dtype", **_PLAIN),
            Invalid(("f32[1,2]",) * 3, ShapeError, r"takes query \[\.\.\., T, N, H\]", **_PLAIN),
            Invalid(("f32[2,1,1,2]", "f32[1,1,1,2]", "f32[1,1,1,2]"), ShapeError, "batch axes",
                    **_PLAIN),
            Invalid(("f32[1,1,2]", "f32[1,1,3]", "f32[1,1,3]"), ShapeError, "fit query", **_PLAIN),
            Invalid(("f32[1,3,2]", "f32[1,2,2]", "f32[1,2,2]"), ShapeError, "divide", **_PLAIN),
            Invalid((*("f32[1,1,2]",) * 3, "f32[1,1,2]"), ShapeError, "does not broadcast",
                    **_MASKED),
            Invalid((*("f32[1,1,2]",) * 3, "f32[1,1,1]"), DtypeError, "boolean", **_MASKED),
        ),
    ),
)  # fmt: skip


# --------------------------------------------------------------------------------- its pullback

# Operands: cotangents of both results; queries, keys, values; both results; bias and mask. `out` is
# there for kernels that see the probabilities of a query in pieces and so take their mean from it;
# rules that see them whole do not read it.


def _grad_abstract(*avals: ShapedArray, bias_grad: bool, **params: Any) -> list[ShapedArray]:
    ct, ct_lse, q, k, v, out, lse, *rest = avals
    types = _abstract(q, k, v, *rest, **params)
    for name, x, want in zip(
        ("ct", "ct_lse", "out", "lse"), (ct, ct_lse, out, lse), (*types, *types), strict=True
    ):
        if (x.shape, x.dtype) != (want.shape, want.dtype):
            raise ShapeError(f"attention_grad: {name} must be {want}, got {x}")
    return [x.strip_weak() for x in ((q, k, v, rest[0]) if bias_grad else (q, k, v))]


def _grad_eager(xp: Any, *arrays: Any, bias_grad: bool, **params: Any) -> list[Any]:
    _grad_abstract(*_types(arrays), bias_grad=bias_grad, **params)
    ct, ct_lse, q, k, v, _, lse, *rest = arrays
    return eager.backward(xp, ct, ct_lse, q, k, v, lse, *rest, bias_grad=bias_grad, **params)


def _grad_jvp(primals: Values, tangents: Tangents, **params: Any) -> tuple[list[Value], Tangents]:
    outs = bind(attention_grad_p, *primals, **params)
    # `out` is not read: its tangent goes nowhere.
    moving = [None if i == 5 else t for i, t in enumerate(tangents)]
    if all(t is None for t in moving):
        return outs, [None] * len(outs)
    return outs, jvp_flat(partial(composed.pull, **params), primals, moving)[1]


def _grad_transpose(cts: Tangents, *args: Any, bias_grad: bool, **params: Any) -> list[Any]:
    """The derivative of attention along the cotangents, at the same probabilities."""
    _, _, q, k, v, _, lse, *rest = args
    tangents = [*cts, *[None] * (3 + len(rest) - len(cts))]
    if all(t is None for t in tangents):
        return [None] * len(args)
    pushed = composed.push((q, k, v, *rest), tangents, lse, params)
    into = [t if isinstance(a, Unknown) else None for t, a in zip(pushed, args[:2], strict=True)]
    return [*into, *[None] * (len(args) - 2)]


def _grad_batch(
    axis: MappedAxis, args: Values, dims: Dims, *, bias_grad: bool, **params: Any
) -> tuple[list[Value], list[int]]:
    # A bias has a cotangent for each element of the batch.
    moved = _lead(args, dims, axis.size, whole=8 if bias_grad else 7)
    outs = bind(attention_grad_p, *moved, bias_grad=bias_grad, **params)
    return outs, [0] * len(outs)


_LSE = Operand(-0.5, 2.0)

attention_grad_p: Primitive = Primitive(
    "attention_grad",
    "The cotangents of query, key, value and bias of attention from those of its results.",
    abstract=_grad_abstract,
    eager=_grad_eager,
    jvp=_grad_jvp,
    transpose=_grad_transpose,
    batch=_grad_batch,
    lower=Lowering("library", "attention_grad", composed.pull),
    multiple_results=True,
    linear="jointly",
    linear_in=(0, 1),
    spec=Spec(
        (
            Operand(), Operand(), Operand(), Operand(), Operand(),
            Operand(generator="static"), _LSE, Operand(), _MASK,
        ),
        (
            Case(
                "t 4 d, 4 t, t 4 h, s 2 h, s 2 d, t 4 d, 4 t",
                {**_CAUSAL, "bias_grad": False}, name="causal, grouped heads",
            ),
            Case(
                "b t 2 2, b 2 t, b t 2 2, b s 1 2, b s 1 2, b t 2 2, b 2 t, 1 2 1 s, b 1 t s",
                {**_BOTH, "bias_grad": True}, name="bias and mask",
            ),
        ),
        dtypes=("float64", "float32"),  # log Σ exp is of float32 for narrower operands
        order=2,
        reference=composed.grad_reference,
        ulps=None,
        terms=composed.grad_terms,
        invalid=(
            Invalid(
                ("f32[1,1,3]", "f32[1,1]", *("f32[1,1,2]",) * 4, "f32[1,1]"),
                ShapeError, "ct must be", **_PLAIN, bias_grad=False,
            ),
        ),
    ),
)  # fmt: skip


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Value:
    """``softmax(scale · q·kᵀ + bias) · v`` for each head.

    Args:
        query: ``[..., T, N, H]``, float.
        key: ``[..., S, K, H]``, K a divisor of N: head n reads key and value head ``n // (N / K)``.
        value: ``[..., S, K, D]``.
        bias: Added to the scores, float; ``[..., N, T, S]``, or 1 in place of any length.
        mask: Booleans of such a shape; True lets a query see a key.
        scale: Factor of the scores; ``1/√H`` if None.
        causal: Let query t see keys 0 … t only, besides the mask.

    Returns:
        ``[..., T, N, D]``, dtype of the operands; zeros for a query that sees no key.

    Raises:
        ShapeError: The shapes do not fit.
        DtypeError: Query, key and value differ in dtype, or `mask` is not boolean.

    Derivatives:
        All orders. Reverse mode keeps operands, result and one number a query. Memory grows with
        T·S in eager code only for forward mode and from the second order on.

    Numerics:
        Scores and softmax in at least float32; rounded once.

    Source:
        Rabe and Staats, *Self-attention Does Not Need O(n²) Memory*, arXiv:2112.05682; Dao et al.,
        *FlashAttention*, arXiv:2205.14135, for the pullback from log Σ exp.

    Example:
        >>> import numpy as np
        >>> q = k = np.zeros((2, 1, 4), np.float32)
        >>> v = np.array([1.0, 3.0], np.float32).reshape(2, 1, 1)
        >>> dot_product_attention(q, k, v, causal=True).reshape(-1)
        Array([1., 2.], dtype=float32)
    """
    q, k, v = as_value(query), as_value(key), as_value(value)
    rest = [as_value(x) for x in (bias, mask) if x is not None]
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1]) if q.ndim and q.shape[-1] else 1.0
    return bind(
        attention_p, q, k, v, *rest, scale=float(scale), causal=bool(causal),
        has_bias=bias is not None, has_mask=mask is not None,
    )[0]  # fmt: skip
