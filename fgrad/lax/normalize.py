"""Row-wise operations with a pullback of their own: softmax, log Σ exp, normalisation.

Their derivatives as compositions would keep several arrays of the size of the input; these keep
the result (softmax), the input (log Σ exp), or the normalised rows and one number a row.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.dtype_kinds import NATIVE
from fgrad.core.errors import AxisError, DtypeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    FLOATS,
    OUT,
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
from fgrad.lax.arithmetic import abs, add, div, mul, sub
from fgrad.lax.compare import eq, is_finite
from fgrad.lax.elementary import exp, log
from fgrad.lax.kinds import FLOAT, check_kind
from fgrad.lax.powers import sqrt, square
from fgrad.lax.reduce import reduce_max

__all__ = ["logsumexp", "logsumexp_p", "normalize", "normalize_p", "softmax", "softmax_p"]

Axes = tuple[int, ...]
_NOT_LINEAR = Absent("not linear; only its derivative is transposed")


def _check(name: str, x: ShapedArray, axes: Axes) -> ShapedArray:
    check_kind(name, x, FLOAT)
    if list(axes) != sorted(set(axes)) or not all(0 <= a < x.ndim for a in axes):
        raise AxisError(f"{name}: axes {axes} must increase and lie within the axes of {x}")
    return x


def _kept(x: ShapedArray, axes: Axes) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(x.shape))


def _row_sum(x: Value, axes: Axes) -> Value:
    """The sum over axes, which stay with length 1."""
    return basis.reshape(basis.reduce_sum(x, axes), _kept(x.aval, axes))


def _row_mean(x: Value, axes: Axes) -> Value:
    n = prod(x.shape[a] for a in axes)
    return mul(_row_sum(x, axes), 1.0 / n if n else float("nan"))


def _moved(args: Sequence[Value], dims: Dims, axes: Axes) -> Axes:
    """The axes of one element as axes of the batch."""
    assert dims[0] is not None
    return basis.shift_axes(axes, dims[0])


def _composed(run: Any) -> Any:
    """A composition for compilers: in float32 where `x` is of 8 or 16 bits, rounded once."""

    def decompose(x: Value, **params: Any) -> Any:
        w = basis.wide(x.dtype)
        if w is None:
            return run(x, **params)
        out = run(basis.convert_element_type(x, w), **params)
        if isinstance(out, list):
            return [basis.convert_element_type(y, x.dtype) for y in out]
        return basis.convert_element_type(out, x.dtype)

    return decompose


def _row_max(x: Value, axes: Axes) -> Value:
    return basis.reshape(reduce_max(x, axes), _kept(x.aval, axes))


def _in_wide(xp: Any, x: Any, run: Any) -> Any:
    """Run in float32 where `x` is of 8 or 16 bits, and round once."""
    if not dtypes.is_float(x.dtype):
        raise ValueError("dtype")  # the abstract rule says it in full
    w = basis.wide(x.dtype)
    return run(xp, x) if w is None else run(xp, x.astype(w)).astype(x.dtype)


# ---------------------------------------------------------------------------------- softmax


def _softmax_eager(xp: Any, x: Any, *, axes: Axes, empty: str) -> Any:
    def run(xp: Any, x: Any) -> Any:
        if x.size == 0:
            return xp.empty_like(x)
        top = x.max(axis=axes, keepdims=True)
        if empty == "zero":
            top = xp.where(top == -np.inf, xp.zeros((), x.dtype), top)
        out = x - top
        xp.exp(out, out=out)
        total = out.sum(axis=axes, keepdims=True)
        if empty == "zero":
            total = xp.where(total == 0, xp.ones((), x.dtype), total)
        out /= total
        return out

    return _in_wide(xp, x, run)


def _softmax_composed(x: Value, *, axes: Axes, empty: str) -> Value:
    top = _row_max(x, axes)
    if empty == "zero":
        top = basis.select_n(eq(top, -np.inf), top, basis.scalar(0, x.dtype))
    out = exp(sub(x, top))
    total = _row_sum(out, axes)
    if empty == "zero":
        total = basis.select_n(eq(total, 0), total, basis.scalar(1, x.dtype))
    return div(out, total)


def _softmax_derivative(t: Value, y: Value, axes: Axes) -> Value:
    # Its own adjoint: y·(t - Σ y·t).
    scaled = basis.linear_mul(t, y)
    return sub(scaled, basis.linear_mul(_row_sum(scaled, axes), y))


def _softmax_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, axes: Axes, empty: str
) -> tuple[Value, Value | None]:
    y = bind(softmax_p, *primals, axes=axes, empty=empty)
    t = tangents[0]
    return y, None if t is None else _softmax_derivative(t, y, axes)


def _softmax_reference(x: Any, *, axes: Axes, empty: str) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=axes, keepdims=True)


softmax_p: Primitive = Primitive(
    "softmax",
    "exp(x) / Σ exp(x) over axes; a row of -inf gives NaN, or with empty='zero' zeros.",
    abstract=lambda x, *, axes, empty: _check("softmax", x, axes),
    eager=_softmax_eager,
    jvp=_softmax_jvp,
    transpose=_NOT_LINEAR,
    vjp=Pullback(
        None,
        lambda _needed, res, ct, params: (_softmax_derivative(ct, res[0], params["axes"]),),
        lambda _needed: (OUT,),
    ),
    batch=lambda _axis, args, dims, *, axes, empty: (
        bind(softmax_p, args[0], axes=_moved(args, dims, axes), empty=empty),
        dims[0],
    ),
    lower=Lowering("reduce", "softmax", _composed(_softmax_composed)),
    spec=Spec(
        Operand(-2.0, 2.0),
        (
            Case("m n", {"axes": (1,), "empty": "nan"}, smallest=1),
            Case("m n", {"axes": (0, 1), "empty": "zero"}, smallest=1),
        ),
        dtypes=FLOATS,
        reference=_softmax_reference,
        ulps=16.0,
        invalid=(
            Invalid(("i32[2]",), DtypeError, "float", axes=(0,), empty="nan"),
            Invalid(("f32[2]",), AxisError, "axes", axes=(1,), empty="nan"),
        ),
    ),
)


def softmax(x: Any, axes: Axes = (-1,), *, masked: bool = False) -> Value:
    """``exp(x) / Σ exp(x)`` over axes, shifted by the maximum so that nothing overflows.

    Args:
        x: ``[...]``, float.
        axes: The axes of the sum.
        masked: A row of −∞ gives zeros instead of NaN.

    Returns:
        ``[...]``, dtype of `x`.

    Derivatives:
        All orders; reverse mode keeps the result alone.

    Example:
        >>> import numpy as np
        >>> softmax(np.zeros(4, np.float32))
        Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    value = as_value(x)
    return bind(softmax_p, value, axes=_positive(value, axes), empty="zero" if masked else "nan")


def _positive(x: Value, axes: Axes) -> Axes:
    return tuple(sorted(a + x.ndim if a < 0 else a for a in axes))


# -------------------------------------------------------------------------------- logsumexp


def _lse_eager(xp: Any, x: Any, *, axes: Axes) -> Any:
    def run(xp: Any, x: Any) -> Any:
        if x.size == 0:
            shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
            return xp.full(shape, -np.inf, x.dtype)
        top = x.max(axis=axes, keepdims=True)
        shift = xp.where(xp.isinf(top), xp.zeros((), x.dtype), top)
        e = x - shift
        xp.exp(e, out=e)
        return xp.log(e.sum(axis=axes, keepdims=True)) + shift

    return _in_wide(xp, x, run)


def _lse_composed(x: Value, *, axes: Axes) -> Value:
    top = _row_max(x, axes)
    shift = basis.select_n(eq(abs(top), np.inf), top, basis.scalar(0, x.dtype))
    return add(log(_row_sum(exp(sub(x, shift)), axes)), shift)


def _weights(x: Value, lse: Value) -> Value:
    """softmax(x) from log Σ exp(x); 0, not NaN, in a row of −∞."""
    return exp(sub(x, basis.select_n(is_finite(lse), basis.scalar(0, lse.dtype), lse)))


def _lse_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *, axes: Axes
) -> tuple[Value, Value | None]:
    (x,) = primals
    out = bind(logsumexp_p, x, axes=axes)
    t = tangents[0]
    if t is None:
        return out, None
    return out, _row_sum(basis.linear_mul(t, _weights(x, out)), axes)


def _lse_reference(x: Any, *, axes: Axes) -> Any:
    return np.log(np.exp(x).sum(axis=axes, keepdims=True))


logsumexp_p: Primitive = Primitive(
    "logsumexp",
    "log Σ exp(x) over axes, which stay with length 1; -inf where there is nothing.",
    abstract=lambda x, *, axes: ShapedArray(
        _kept(_check("logsumexp", x, axes), axes), x.dtype, x.weak_type
    ),
    eager=_lse_eager,
    jvp=_lse_jvp,
    transpose=_NOT_LINEAR,
    vjp=Pullback(
        None,
        lambda _needed, res, ct, _params: (basis.linear_mul(ct, _weights(*res)),),
        lambda _needed: (0, OUT),
    ),
    batch=lambda _axis, args, dims, *, axes: (
        bind(logsumexp_p, args[0], axes=_moved(args, dims, axes)),
        dims[0],
    ),
    lower=Lowering("reduce", "logsumexp", _composed(_lse_composed)),
    spec=Spec(
        Operand(-2.0, 2.0),
        (Case("m n", {"axes": (1,)}, smallest=1), Case("m n", {"axes": (0, 1)}, smallest=1)),
        dtypes=FLOATS,
        reference=_lse_reference,
        ulps=None,
        terms=lambda x, *, axes: 4 + np.abs(_lse_reference(x, axes=axes)),
        invalid=(
            Invalid(("i32[2]",), DtypeError, "float", axes=(0,)),
            Invalid(("f32[2]",), AxisError, "axes", axes=(1,)),
        ),
    ),
)


def logsumexp(x: Any, axes: Axes = (-1,)) -> Value:
    """``log Σ exp(x)`` over axes, which stay with length 1.

    Args:
        x: ``[...]``, float.
        axes: The axes of the sum.

    Derivatives:
        All orders; reverse mode keeps `x` and the result.

    Example:
        >>> import numpy as np
        >>> logsumexp(np.zeros(1, np.float32))
        Array([0.], dtype=float32)
    """
    value = as_value(x)
    return bind(logsumexp_p, value, axes=_positive(value, axes))


# -------------------------------------------------------------------------------- normalize


def _normalize_abstract(
    x: ShapedArray, *, axes: Axes, eps: float, center: bool
) -> list[ShapedArray]:  # fmt: skip
    _check("normalize", x, axes)
    return [x, x.update(shape=_kept(x, axes))]


def _normalize_eager(xp: Any, x: Any, *, axes: Axes, eps: float, center: bool) -> list[Any]:
    w = basis.wide(x.dtype)
    if w is None and x.dtype.num not in NATIVE["f"]:
        raise ValueError("dtype")  # the abstract rule says it in full
    wide = x if w is None else x.astype(w)
    # The variance takes a second pass: E[x²] - E[x]² cancels where the mean is large.
    out = wide - wide.mean(axis=axes, keepdims=True) if center else wide
    scale = 1 / xp.sqrt((out * out).mean(axis=axes, keepdims=True) + wide.dtype.type(eps))
    out = out * scale
    return [out, scale] if w is None else [out.astype(x.dtype), scale.astype(x.dtype)]


def _normalize_composed(x: Value, *, axes: Axes, eps: float, center: bool) -> list[Value]:
    n = prod(x.shape[a] for a in axes)
    out = sub(x, div(_row_sum(x, axes), n)) if center else x
    scale = div(1, sqrt(add(div(_row_sum(mul(out, out), axes), n), eps)))
    return [mul(out, scale), scale]


def _through(t: Value, y: Value, r: Value, axes: Axes, center: bool) -> tuple[Value, Value]:
    """``r·(t - mean t - y·mean(y·t))``, which is self-adjoint, and ``mean(y·t)``."""
    along = _row_mean(mul(y, t), axes)
    rest = sub(t, mul(y, along))
    if center:
        rest = sub(rest, _row_mean(t, axes))
    return mul(rest, r), along


def _normalize_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], *,
    axes: Axes, eps: float, center: bool,
) -> tuple[list[Value], list[Value | None]]:  # fmt: skip
    y, r = bind(normalize_p, *primals, axes=axes, eps=eps, center=center)
    t = tangents[0]
    if t is None:
        return [y, r], [None, None]
    dy, along = _through(t, y, r, axes, center)
    return [y, r], [dy, basis.neg(mul(along, square(r)))]


def _normalize_forward(
    _needed: tuple[bool, ...], primals: Sequence[Value], params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    y, r = bind(normalize_p, *primals, **params)
    return [y, r], (y, r)


def _normalize_backward(
    _needed: tuple[bool, ...], residuals: Sequence[Any], cts: Sequence[Value | None],
    params: dict[str, Any],
) -> tuple[Value | None]:  # fmt: skip
    y, r = residuals
    ct_y, ct_r = cts
    axes = params["axes"]
    total = None if ct_y is None else _through(ct_y, y, r, axes, params["center"])[0]
    if ct_r is not None:
        n = prod(y.shape[a] for a in axes)
        slope = mul(mul(y, square(r)), -1.0 / max(n, 1))
        total = basis.add_tangents(total, mul(slope, ct_r))
    return (total,)


def _normalize_batch(
    _axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axes: Axes, **params: Any
) -> tuple[list[Value], list[int | None]]:
    outs = bind(normalize_p, args[0], axes=_moved(args, dims, axes), **params)
    return outs, [dims[0], dims[0]]


def _normalize_reference(x: Any, *, axes: Axes, eps: float, center: bool) -> list[Any]:
    c = x - x.mean(axis=axes, keepdims=True) if center else x
    r = (np.square(c).mean(axis=axes, keepdims=True) + eps) ** -0.5
    return [c * r, r]


def _normalize_terms(x: Any, *, axes: Axes, eps: float, center: bool) -> list[Any]:
    """What the differences x - μ are made of; the factor r feels them through its mean square."""
    r = _normalize_reference(x, axes=axes, eps=eps, center=center)[1]
    size = np.abs(x) + (np.abs(x).mean(axis=axes, keepdims=True) if center else 0)
    return [4 * size * r, 4 * r * (1 + np.square(size).mean(axis=axes, keepdims=True) * r * r)]


normalize_p: Primitive = Primitive(
    "normalize",
    "Rows of mean 0 (with `center`) and mean square 1, and the factor that made them so.",
    abstract=_normalize_abstract,
    eager=_normalize_eager,
    jvp=_normalize_jvp,
    transpose=_NOT_LINEAR,
    vjp=Pullback(_normalize_forward, _normalize_backward),
    batch=_normalize_batch,
    lower=Lowering("reduce", "normalize", _composed(_normalize_composed)),
    multiple_results=True,
    spec=Spec(
        Operand(-2.0, 2.0, generator="distinct"),
        (
            # Rows of two would have next to no derivative without a large eps.
            Case("m n", {"axes": (1,), "eps": 0.25, "center": True}, smallest=2),
            Case("m n", {"axes": (0, 1), "eps": 1e-2, "center": False}, smallest=2),
        ),
        dtypes=FLOATS,
        reference=_normalize_reference,
        ulps=None,
        terms=_normalize_terms,
        invalid=(
            Invalid(("i32[2]",), DtypeError, "float", axes=(0,), eps=1e-5, center=True),
            Invalid(("f32[2]",), AxisError, "axes", axes=(1,), eps=1e-5, center=True),
        ),
    ),
)


def normalize(x: Any, axes: Axes = (-1,), *, eps: float, center: bool = True) -> Value:
    """``(x - μ) / √(mean((x - μ)²) + eps)`` over axes; without `center`, μ is 0.

    Args:
        x: ``[...]``, float.
        axes: The axes of the means.
        eps: Added to the mean square, in units of x².
        center: Subtract the mean.

    Returns:
        ``[...]``, dtype of `x`; computed in at least float32 and rounded once.

    Derivatives:
        All orders; reverse mode keeps the result and one number a row.

    Source:
        Ba, Kiros and Hinton, *Layer Normalization*, arXiv:1607.06450; Zhang and Sennrich, *Root
        Mean Square Layer Normalization*, arXiv:1910.07467.

    Example:
        >>> import numpy as np
        >>> normalize(np.array([1.0, 3.0], np.float32), eps=0.0)
        Array([-1.,  1.], dtype=float32)
    """
    value = as_value(x)
    return bind(normalize_p, value, axes=_positive(value, axes), eps=eps, center=center)[0]
