"""Cross-entropy of logits: a loss and log Σ exp for each row, the classes on the last axis.

Reverse mode keeps the logits and log Σ exp, of at least float32, and computes probabilities again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.basis import Dims
from fgrad.core.errors import DtypeError, IndexOutOfBoundsError, ShapeError
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
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import add, sub
from fgrad.lax.compare import is_finite
from fgrad.lax.elementary import exp, log
from fgrad.lax.gather import gather, scatter_add
from fgrad.lax.index import GatherDimensionNumbers, GatherScatterMode
from fgrad.lax.kinds import FLOAT, check_kind
from fgrad.lax.reduce import reduce_max

__all__ = [
    "softmax_cross_entropy", "softmax_cross_entropy_labels_p", "softmax_cross_entropy_p",
]  # fmt: skip

Values = Sequence[Value]
_NOT_LINEAR = Absent("not linear; only its derivative is transposed")


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return basis.wide(dtype) or dtype


def _check_logits(name: str, x: ShapedArray) -> None:
    check_kind(name, x, FLOAT)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"{name} needs logits [..., classes] with at least one class, got {x}")


def _types(x: ShapedArray) -> list[ShapedArray]:
    """Of the loss and of log Σ exp."""
    return [ShapedArray(x.shape[:-1], d) for d in (x.dtype, _wide(x.dtype))]


def _normalizer(xp: Any, x: Any) -> tuple[Any, Any]:
    """The maximum of each row, and log Σ exp of what it exceeds the others by."""
    top = x.max(axis=-1, keepdims=True)
    top = xp.where(xp.isinf(top), xp.zeros((), x.dtype), top)
    e = x - top
    xp.exp(e, out=e)
    return top, xp.log(e.sum(axis=-1))


def _row_sum(x: Value) -> Value:
    return basis.reduce_sum(x, (x.ndim - 1,))


def _column(x: Value) -> Value:
    """One number a row, with the axis of the classes at length 1."""
    return basis.reshape(x, (*x.shape, 1))


def _batch(prim_of: Callable[[], Primitive]) -> Callable[..., Any]:
    def batch(
        axis: MappedAxis, args: Values, dims: Dims, **params: Any
    ) -> tuple[list[Value], list[int]]:
        moved = [basis.lead(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
        return bind(prim_of(), *moved, **params), [0, 0]

    return batch


def _forward(prim_of: Callable[[], Primitive]) -> Callable[..., Any]:
    def forward(
        _needed: Any, primals: Values, params: dict[str, Any]
    ) -> tuple[list[Value], tuple[Any, ...]]:
        loss, lse = bind(prim_of(), *primals, **params)
        return [loss, lse], (*primals, lse)

    return forward


def _in(x: Value, dtype: np.dtype[Any]) -> Value:
    return x if x.dtype == dtype else basis.convert_element_type(x, dtype)


def _log_probs(x: Value, lse: Value) -> Value:
    """Logarithms of the probabilities; -inf, not NaN, in a row of -inf."""
    known = basis.select_n(is_finite(lse), basis.scalar(0, lse.dtype), lse)
    return sub(_in(x, lse.dtype), _column(known))


def _composed(x: Value) -> tuple[Value, Value]:
    """The maximum of each row, and log Σ exp of what it exceeds the others by, of primitives."""
    top = reduce_max(x, (x.ndim - 1,))
    top = basis.select_n(is_finite(top), basis.scalar(0, x.dtype), top)
    return top, log(_row_sum(exp(sub(x, _column(top)))))


# ---------------------------------------------------------------------------- integer labels


def _labels_abstract(
    x: ShapedArray, labels: ShapedArray, *, mode: GatherScatterMode
) -> list[ShapedArray]:
    _check_logits("softmax_cross_entropy", x)
    if labels.dtype.kind not in "iu":
        raise DtypeError(f"softmax_cross_entropy needs labels of an integer dtype, got {labels}")
    if labels.shape != x.shape[:-1]:
        raise ShapeError(
            f"softmax_cross_entropy needs one label a row: labels {list(x.shape[:-1])} for logits "
            f"{x}, got {labels}"
        )
    return _types(x)


def _labels_eager(xp: Any, x: Any, labels: Any, *, mode: GatherScatterMode) -> list[Any]:
    if not dtypes.is_float(x.dtype) or labels.dtype.kind not in "iu":
        raise ValueError("dtypes")  # the abstract rule says it in full
    if not x.shape or not x.shape[-1] or labels.shape != x.shape[:-1]:
        raise ValueError("shapes")
    classes = x.shape[-1]
    outside = (labels < 0) | (labels >= classes)
    if mode is GatherScatterMode.RAISE and bool(outside.any()):
        raise IndexOutOfBoundsError(
            f"softmax_cross_entropy: label {int(labels[outside][0])} is out of bounds for "
            f"{classes} classes; correct it, or pass mode='fill' to get NaN"
        )
    w = x.astype(_wide(x.dtype), copy=False)
    top, total = _normalizer(xp, w)
    index = xp.where(outside, xp.zeros((), labels.dtype), labels).astype(np.intp)
    loss = total - (xp.take_along_axis(w, index[..., None], axis=-1) - top)[..., 0]
    if mode is not GatherScatterMode.RAISE:
        loss = xp.where(outside, xp.full((), np.nan, loss.dtype), loss)
    return [xp.asarray(loss).astype(x.dtype, copy=False), xp.asarray(total + top[..., 0])]


def _numbers(x: Value) -> GatherDimensionNumbers:
    """Of the gather that takes one class of each row."""
    rows, classes = tuple(range(x.ndim - 1)), (x.ndim - 1,)
    return GatherDimensionNumbers((), classes, classes, rows, rows)


def _at_label(x: Value, labels: Value, mode: GatherScatterMode, fill: Any = None) -> Value:
    """The class of each row that its label names."""
    sizes = tuple(min(1, n) for n in x.shape)
    return gather(x, _column(labels), _numbers(x), sizes, mode=mode, fill_value=fill)


def _labels_jvp(
    primals: Values, tangents: Sequence[Value | None], *, mode: GatherScatterMode
) -> tuple[list[Value], list[Value | None]]:
    x, labels = primals
    loss, lse = bind(softmax_cross_entropy_labels_p, x, labels, mode=mode)
    if tangents[0] is None:
        return [loss, lse], [None, None]
    t = _in(tangents[0], lse.dtype)
    d_lse = _row_sum(basis.linear_mul(t, exp(_log_probs(x, lse))))
    return [loss, lse], [_in(sub(d_lse, _at_label(t, labels, mode, 0)), x.dtype), d_lse]


def _labels_backward(
    _needed: Any, residuals: Values, cts: Sequence[Value | None], params: dict[str, Any]
) -> tuple[Value | None, None]:
    x, labels, lse = residuals
    ct, ct_lse = (None if c is None else _in(c, lse.dtype) for c in cts)
    both = basis.add_tangents(ct, ct_lse)
    if both is None:
        return None, None
    total = basis.linear_mul(_column(both), exp(_log_probs(x, lse)))
    if ct is not None:
        # By scatter, which also reports a label out of bounds where nobody reads the loss.
        numbers = _numbers(x).as_scatter()
        total = scatter_add(total, _column(labels), basis.neg(ct), numbers, mode=params["mode"])
    return _in(total, x.dtype), None


def _labels_composed(x: Value, labels: Value, *, mode: GatherScatterMode) -> list[Value]:
    w = _in(x, _wide(x.dtype))
    top, total = _composed(w)
    loss = sub(total, sub(_at_label(w, labels, mode), top))
    return [_in(loss, x.dtype), add(total, top)]


def _reference_lse(x: Any) -> Any:
    return np.log(np.exp(x).sum(axis=-1))


def _labels_reference(x: Any, labels: Any, *, mode: GatherScatterMode) -> list[Any]:
    lse = _reference_lse(x)
    return [lse - np.take_along_axis(x, labels[..., None], -1)[..., 0], lse]


softmax_cross_entropy_labels_p: Primitive = Primitive(
    "softmax_cross_entropy_labels",
    "-log softmax(x) at the label of each row, and log Σ exp(x) in at least float32.",
    abstract=_labels_abstract,
    eager=_labels_eager,
    jvp=_labels_jvp,
    transpose=_NOT_LINEAR,
    vjp=Pullback(_forward(lambda: softmax_cross_entropy_labels_p), _labels_backward),
    batch=_batch(lambda: softmax_cross_entropy_labels_p),
    lower=Lowering("reduce", "softmax_cross_entropy_labels", _labels_composed),
    multiple_results=True,
    spec=Spec(
        (Operand(-2.0, 2.0), Operand(0, 1, dtype="int32", generator="indices")),
        (
            Case("m n, m", {"mode": GatherScatterMode.RAISE}, smallest=2),
            Case("n,", {"mode": GatherScatterMode.FILL_OR_DROP}, smallest=2, name="one row"),
        ),
        dtypes=FLOATS,
        reference=_labels_reference,
        ulps=None,
        terms=lambda x, labels, *, mode: [8 + np.abs(x).max(-1) + np.abs(_reference_lse(x))] * 2,
        invalid=(
            Invalid(("i32[2]", "i32[]"), DtypeError, "float", mode=GatherScatterMode.RAISE),
            Invalid(("f32[2]", "f32[]"), DtypeError, "integer", mode=GatherScatterMode.RAISE),
            Invalid(("f32[3,2]", "i32[2]"), ShapeError, "one label a row",
                    mode=GatherScatterMode.RAISE),
            Invalid(("f32[3,0]", "i32[3]"), ShapeError, "at least one class",
                    mode=GatherScatterMode.RAISE),
        ),
    ),
)  # fmt: skip


# ----------------------------------------------------------------------------- probabilities


def _dense_abstract(x: ShapedArray, targets: ShapedArray) -> list[ShapedArray]:
    _check_logits("softmax_cross_entropy", x)
    if targets.dtype != x.dtype:
        raise DtypeError(
            f"softmax_cross_entropy needs targets of the logits' dtype or integer labels, got "
            f"logits {x} and {targets}; convert with astype"
        )
    if targets.shape != x.shape:
        raise ShapeError(
            f"softmax_cross_entropy needs a target for each logit: logits {x}, targets {targets}"
        )
    return _types(x)


def _dense_eager(xp: Any, x: Any, targets: Any) -> list[Any]:
    if not dtypes.is_float(x.dtype) or targets.dtype != x.dtype:
        raise ValueError("dtypes")  # the abstract rule says it in full
    if not x.shape or not x.shape[-1] or targets.shape != x.shape:
        raise ValueError("shapes")
    w = x.astype(_wide(x.dtype), copy=False)
    top, total = _normalizer(xp, w)
    t = targets.astype(w.dtype, copy=False)
    terms = (top - w + total[..., None]) * t
    loss = terms.sum(axis=-1)
    if bool(xp.isnan(loss).any()):
        # A class of probability 0 counts nothing, also where its logit is -inf.
        loss = xp.where(t == 0, xp.zeros((), t.dtype), terms).sum(axis=-1)
    return [xp.asarray(loss).astype(x.dtype, copy=False), xp.asarray(total + top[..., 0])]


def _dense_slope(x: Value, targets: Value, lse: Value) -> Value:
    """The derivative of the loss in the logits: Σ targets times the probabilities, less them."""
    p, t = exp(_log_probs(x, lse)), _in(targets, lse.dtype)
    return sub(basis.linear_mul(p, _column(_row_sum(t))), t)


def _dense_jvp(
    primals: Values, tangents: Sequence[Value | None]
) -> tuple[list[Value], list[Value | None]]:
    x, targets = primals
    loss, lse = bind(softmax_cross_entropy_p, x, targets)
    d_loss = d_lse = None
    if tangents[0] is not None:
        t = _in(tangents[0], lse.dtype)
        d_loss = _row_sum(basis.linear_mul(t, _dense_slope(x, targets, lse)))
        d_lse = _row_sum(basis.linear_mul(t, exp(_log_probs(x, lse))))
    if tangents[1] is not None:
        minus = basis.neg(_log_probs(x, lse))
        more = _row_sum(basis.linear_mul(_in(tangents[1], lse.dtype), minus))
        d_loss = basis.add_tangents(d_loss, more)
    return [loss, lse], [None if d_loss is None else _in(d_loss, x.dtype), d_lse]


def _dense_backward(
    needed: tuple[bool, ...], residuals: Values, cts: Sequence[Value | None], _params: Any
) -> tuple[Value | None, Value | None]:
    x, targets, lse = residuals
    ct, ct_lse = cts
    of_x = of_targets = None
    if ct is not None:
        column = _column(_in(ct, lse.dtype))
        if needed[0]:
            of_x = basis.linear_mul(column, _dense_slope(x, targets, lse))
        if needed[1]:
            minus = basis.neg(_log_probs(x, lse))
            of_targets = _in(basis.linear_mul(column, minus), x.dtype)
    if ct_lse is not None:
        more = basis.linear_mul(_column(ct_lse), exp(_log_probs(x, lse)))
        of_x = basis.add_tangents(of_x, more)
    return None if of_x is None else _in(of_x, x.dtype), of_targets


def _dense_composed(x: Value, targets: Value) -> list[Value]:
    w = _in(x, _wide(x.dtype))
    top, total = _composed(w)
    minus = sub(_column(total), sub(w, _column(top)))
    loss = _row_sum(basis.linear_mul(_in(targets, w.dtype), minus))
    return [_in(loss, x.dtype), add(total, top)]


def _dense_reference(x: Any, targets: Any) -> list[Any]:
    lse = _reference_lse(x)
    return [(targets * (lse[..., None] - x)).sum(axis=-1), lse]


def _dense_terms(x: Any, targets: Any) -> list[Any]:
    size = 8 + np.abs(x).max(-1) + np.abs(_reference_lse(x))
    return [(np.abs(targets) * size[..., None]).sum(axis=-1), size]


softmax_cross_entropy_p: Primitive = Primitive(
    "softmax_cross_entropy",
    "-Σ targets · log softmax(x) of each row, and log Σ exp(x) in at least float32.",
    abstract=_dense_abstract,
    eager=_dense_eager,
    jvp=_dense_jvp,
    transpose=_NOT_LINEAR,
    vjp=Pullback(_forward(lambda: softmax_cross_entropy_p), _dense_backward),
    batch=_batch(lambda: softmax_cross_entropy_p),
    lower=Lowering("reduce", "softmax_cross_entropy", _dense_composed),
    multiple_results=True,
    spec=Spec(
        Operand(-2.0, 2.0),
        (Case("m n, m n", smallest=1), Case("n, n", smallest=1)),
        dtypes=FLOATS,
        reference=_dense_reference,
        ulps=None,
        terms=_dense_terms,
        invalid=(
            Invalid(("i32[2]", "i32[2]"), DtypeError, "float"),
            Invalid(("f32[2]", "f64[2]"), DtypeError, "convert with astype"),
            Invalid(("f32[3,2]", "f32[2]"), ShapeError, "a target for each logit"),
            Invalid(("f32[]", "f32[]"), ShapeError, "at least one class"),
        ),
    ),
)


def softmax_cross_entropy(
    logits: Any, labels: Any, *, mode: str | GatherScatterMode | None = None
) -> Value:
    """The cross-entropy of the softmax of logits, for each row.

    ``-log softmax(logits)`` at the label, or ``-Σ labels · log softmax(logits)``.

    Args:
        logits: ``[..., classes]``, float.
        labels: ``[...]``, integer classes; or ``[..., classes]``, weights of the logits' dtype,
            such as probabilities. A class of weight 0 counts nothing, also at a logit of −∞.
        mode: What an integer label outside of the classes does: raise `IndexOutOfBoundsError`,
            or 'fill' for a loss of NaN. None is what `config.out_of_bounds` says.

    Returns:
        ``[...]``, dtype of `logits`; computed in at least float32 and rounded once.

    Raises:
        ShapeError: The shapes do not fit, or there is no class.
        DtypeError: Logits are no floats, or weights of another dtype.
        IndexOutOfBoundsError: A label is none of the classes, in the default mode.

    Derivatives:
        All orders; reverse mode keeps logits, labels and log Σ exp.

    Example:
        >>> import numpy as np
        >>> softmax_cross_entropy(np.zeros((1, 4), np.float32), np.array([3]))
        Array([1.3862944], dtype=float32)
    """
    x, y = as_value(logits), as_value(labels)
    if y.dtype.kind not in "iu":
        return bind(softmax_cross_entropy_p, x, y)[0]
    found = GatherScatterMode.from_any(mode)
    return bind(softmax_cross_entropy_labels_p, x, y, mode=found)[0]
