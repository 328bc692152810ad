"""General convolution: strides, padding, dilation of both operands, groups, any layout.

    out[n, o, p] = Σ_{c, k} padded[n, c, p·stride + k·rhs_dilation] · rhs[o, c, k]

where `padded` is lhs with zeros put between its elements (lhs_dilation) and around them. It is
linear in each operand; both transposes, and every batching, are convolutions of this kind again.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray, integer, integers
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import (
    NOTHING,
    TYPE,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import operands
from fgrad.lax.conv_eager import convolve, workspace
from fgrad.lax.conv_shapes import (
    ConvDimensionNumbers,
    Ints,
    Pads,
    conv_aval,
    conv_dimension_numbers,
    dilated,
    padtype_to_pads,
    pick,
)
from fgrad.lax.conv_spec import SPEC
from fgrad.lax.precision import canonical_precision, multiply_in
from fgrad.lax.shape import rev

__all__ = [
    "ConvDimensionNumbers",
    "conv_dimension_numbers",
    "conv_general_dilated",
    "conv_general_dilated_p",
    "padtype_to_pads",
]

_COMPOSED = "fgrad.lax.conv_composed"  # compiled programs alone need it


def _conv_eager(xp: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    d = params["dimension_numbers"]
    x, w = ShapedArray(lhs.shape, lhs.dtype), ShapedArray(rhs.shape, rhs.dtype)
    out = conv_aval(x, w, **params)
    inner = multiply_in(lhs.dtype, out.dtype)
    result = convolve(
        xp,
        lhs.astype(inner, copy=False).transpose(d.lhs_spec),
        rhs.astype(inner, copy=False).transpose(d.rhs_spec),
        pick(out.shape, d.out_spec),
        params["window_strides"], params["padding"],
        params["lhs_dilation"], params["rhs_dilation"],
        params["feature_group_count"], params["batch_group_count"],
    )  # fmt: skip
    back = tuple(d.out_spec.index(i) for i in range(len(d.out_spec)))
    return xp.ascontiguousarray(result.transpose(back)).astype(out.dtype, copy=False)


def _conv_workspace(
    operands: Sequence[ShapedArray], results: Sequence[ShapedArray], params: dict[str, Any]
) -> int:
    """What is cast, padded and gathered, and the result once more where its axes move."""
    (x, w), (out,) = operands, results
    d = params["dimension_numbers"]
    inner = multiply_in(x.dtype, out.dtype)
    made = workspace(
        pick(x.shape, d.lhs_spec), pick(w.shape, d.rhs_spec), pick(out.shape, d.out_spec),
        params["window_strides"], params["padding"],
        params["lhs_dilation"], params["rhs_dilation"],
        params["feature_group_count"], params["batch_group_count"],
    )  # fmt: skip
    copied = x.size if x.dtype != inner and not any(map(any, params["padding"])) else 0
    copied += w.size if w.dtype != inner else 0
    moved = out.size if d.out_spec != d.lhs_spec else 0
    result = out.size * inner.itemsize
    after = result + moved * inner.itemsize + (out.nbytes if out.dtype != inner else 0)
    return max(result + inner.itemsize * (copied + made), after) - out.nbytes


# -------------------------------------------------------------------------------- transposes


def _split_axis(x: Value, axis: int, lengths: Ints) -> Value:
    return basis.reshape(x, (*x.shape[:axis], *lengths, *x.shape[axis + 1 :]))


def _merge_axes(x: Value, axis: int) -> Value:
    """Axes `axis` and `axis` + 1 as one."""
    n, m = x.shape[axis : axis + 2]
    return basis.reshape(x, (*x.shape[:axis], n * m, *x.shape[axis + 2 :]))


def _fold(x: Value, source: int, target: int) -> Value:
    """Move axis `source` in front of axis `target` (of the rest) and merge the two."""
    return _merge_axes(basis.moveaxis(x, source, target), target)


def _fold_groups(x: Value, source: int, groups: int, target: int) -> Value:
    """Take the leading `groups` part of axis `source` and merge it in front of axis `target`."""
    x = _split_axis(x, source, (groups, x.shape[source] // groups))
    return _fold(x, source, target)


def _lhs_padding(d: Any, lhs: Ints, rhs: Ints, out: Ints, p: dict[str, Any]) -> Pads:
    """Padding of the cotangent so that each element of lhs gets what it contributed to.

    Element i of lhs stands at i·lhs_dilation + low; output p reads it through k where that is
    p·stride + k·rhs_dilation. With the window reversed, that is a convolution of the cotangent,
    dilated by the stride, whose padding follows.
    """
    pads = []
    for a, k, o, s, (lo, _hi), e, q in zip(
        pick(lhs, d.lhs_spec)[2:], pick(rhs, d.rhs_spec)[2:], pick(out, d.out_spec)[2:],
        p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"], strict=True,
    ):  # fmt: skip
        window = dilated(k, q)
        before = window - 1 - lo
        pads.append((before, (a - 1) * e + window - dilated(o, s) - before))
    return tuple(pads)


def _pull_lhs(ct: Value, lhs: ShapedArray, rhs: Value, p: dict[str, Any]) -> Value:
    d = p["dimension_numbers"]
    pads = _lhs_padding(d, lhs.shape, rhs.shape, ct.shape, p)
    o_axis, i_axis = d.rhs_spec[:2]
    groups = max(p["feature_group_count"], p["batch_group_count"])
    if groups > 1:
        rhs = _fold_groups(rhs, o_axis, groups, i_axis)
    flipped = rev(rhs, d.rhs_spec[2:])
    if flipped.dtype != ct.dtype:
        flipped = basis.convert_element_type(flipped, ct.dtype)
    numbers = ConvDimensionNumbers(d.out_spec, (i_axis, o_axis, *d.rhs_spec[2:]), d.lhs_spec)
    out = bind(
        conv_general_dilated_p, ct, flipped,
        window_strides=p["lhs_dilation"], padding=pads,
        lhs_dilation=p["window_strides"], rhs_dilation=p["rhs_dilation"],
        dimension_numbers=numbers, feature_group_count=groups, batch_group_count=1,
        precision=_swapped(p["precision"], 0), preferred_element_type=None,
    )  # fmt: skip
    if p["batch_group_count"] > 1:
        out = _fold_groups(out, d.lhs_spec[1], groups, d.lhs_spec[0])
    return basis.convert_element_type(out, lhs.dtype)


def _pull_rhs(ct: Value, lhs: Value, rhs: ShapedArray, p: dict[str, Any]) -> Value:
    d = p["dimension_numbers"]
    pads = []
    for a, k, o, s, (lo, _hi), e, q in zip(
        pick(lhs.shape, d.lhs_spec)[2:], pick(rhs.shape, d.rhs_spec)[2:],
        pick(ct.shape, d.out_spec)[2:],
        p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"], strict=True,
    ):  # fmt: skip
        # The cotangent, dilated by the stride, is the window; it takes k steps of rhs_dilation.
        pads.append((lo, (k - 1) * q + dilated(o, s) - dilated(a, e) - lo))
    numbers = ConvDimensionNumbers(
        (d.lhs_spec[1], d.lhs_spec[0], *d.lhs_spec[2:]),
        (d.out_spec[1], d.out_spec[0], *d.out_spec[2:]),
        (d.rhs_spec[1], d.rhs_spec[0], *d.rhs_spec[2:]),
    )
    if lhs.dtype != ct.dtype:
        lhs = basis.convert_element_type(lhs, ct.dtype)
    out = bind(
        conv_general_dilated_p, lhs, ct,
        window_strides=p["rhs_dilation"], padding=tuple(pads),
        lhs_dilation=p["lhs_dilation"], rhs_dilation=p["window_strides"],
        dimension_numbers=numbers, feature_group_count=p["batch_group_count"],
        batch_group_count=p["feature_group_count"],
        precision=_swapped(p["precision"], 1), preferred_element_type=None,
    )  # fmt: skip
    return basis.convert_element_type(out, rhs.dtype)


def _swapped(precision: Any, which: int) -> Any:
    """The precision of a transpose: of a pair, the entry of the operand that it reads."""
    return precision[1 - which] if type(precision) is tuple else precision


def _conv_transpose_rule(
    ct: Value, lhs: Any, rhs: Any, **params: Any
) -> tuple[Value | None, Value | None]:
    if isinstance(lhs, Unknown):
        return _pull_lhs(ct, lhs.aval, rhs, params), None
    return None, _pull_rhs(ct, lhs, rhs.aval, params)


def _conv_backward(
    needed: tuple[bool, ...], residuals: Sequence[Any], ct: Value, params: dict[str, Any]
) -> tuple[Value | None, Value | None]:
    lhs, rhs, lhs_aval, rhs_aval = residuals
    return (
        _pull_lhs(ct, lhs_aval, rhs, params) if needed[0] else None,
        _pull_rhs(ct, lhs, rhs_aval, params) if needed[1] else None,
    )


def _conv_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None], **params: Any
) -> tuple[Value, Value | None]:
    (x, w), (dx, dw) = primals, tangents
    out = bind(conv_general_dilated_p, x, w, **params)
    first = None if dx is None else bind(conv_general_dilated_p, dx, w, **params)
    second = None if dw is None else bind(conv_general_dilated_p, x, dw, **params)
    return out, basis.add_tangents(first, second)


# ---------------------------------------------------------------------------------- batching


def _conv_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[Value, int]:
    """Fold the mapped axis into the batch (lhs), the features (rhs) or the groups (both)."""
    (x, w), (dx, dw) = args, dims
    if axis.size == 0:  # a convolution has at least one group
        out_aval = conv_aval(_element(x.aval, dx), _element(w.aval, dw), **params)
        return basis.zeros(ShapedArray((0, *out_aval.shape), out_aval.dtype)), 0
    d = params["dimension_numbers"]
    fg, bg = params["feature_group_count"], params["batch_group_count"]
    n_axis, c_axis = d.lhs_spec[:2]
    o_axis = d.rhs_spec[0]
    n_out, c_out = d.out_spec[:2]
    size = axis.size
    if dx is not None and dw is not None:
        w = _fold(w, dw, o_axis)
        if bg > 1:
            params["batch_group_count"] = bg * size
            x = _fold(x, dx, n_axis)
        else:
            params["feature_group_count"] = fg * size
            x = _fold(x, dx, c_axis)
        out = bind(conv_general_dilated_p, x, w, **params)
        return _split_axis(out, c_out, (size, out.shape[c_out] // size)), c_out
    if dx is not None:
        x = _fold_inside(x, dx, n_axis, bg)
        out = bind(conv_general_dilated_p, x, w, **params)
        return _split_axis(out, n_out, (size, out.shape[n_out] // size)), n_out
    assert dw is not None
    groups = max(fg, bg)
    w = _fold_inside(w, dw, o_axis, groups)
    out = bind(conv_general_dilated_p, x, w, **params)
    if groups == 1:
        return _split_axis(out, c_out, (size, out.shape[c_out] // size)), c_out
    out = _split_axis(out, c_out, (groups, size, out.shape[c_out] // (groups * size)))
    return _merge_axes(basis.moveaxis(out, c_out + 1, 0), c_out + 1), 0


def _element(aval: ShapedArray, dim: int | None) -> ShapedArray:
    """The type of one element of a batch along `dim`."""
    return aval if dim is None else aval.update(shape=aval.shape[:dim] + aval.shape[dim + 1 :])


def _fold_inside(x: Value, source: int, target: int, groups: int) -> Value:
    """Merge axis `source` into axis `target`, inside each of the groups of the latter."""
    if groups == 1:
        return _fold(x, source, target)
    x = basis.moveaxis(x, source, 0)
    x = _split_axis(x, target + 1, (groups, x.shape[target + 1] // groups))
    return _merge_axes(_fold(x, 0, target + 1), target)


# --------------------------------------------------------------------------------- primitive


conv_general_dilated_p = Primitive(
    "conv_general_dilated",
    "Convolution (cross-correlation) with strides, padding, dilations and groups.",
    abstract=conv_aval,
    eager=_conv_eager,
    jvp=_conv_jvp,
    transpose=_conv_transpose_rule,
    vjp=Pullback(
        None,
        _conv_backward,
        lambda needed: (
            0 if needed[1] else NOTHING, 1 if needed[0] else NOTHING, TYPE(0), TYPE(1),
        ),
    ),
    batch=_conv_batch,
    lower=Lowering(
        "library",
        "conv",
        lambda *xs, **params: import_module(_COMPOSED).composed(*xs, **params),
        workspace=_conv_workspace,
        when=lambda avals, params: import_module(_COMPOSED).is_composed(avals, params),
    ),
    linear="each",
    spec=SPEC,
)  # fmt: skip


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Convolution as networks use it: the window `rhs` is not reversed (a cross-correlation).

    Args:
        lhs: The input; ``[batch, features, *spatial]`` unless `dimension_numbers` says otherwise.
        rhs: The window, ``[output features, input features / groups, *spatial]``
            likewise.
        window_strides: Step of the window on each spatial axis.
        padding: 'SAME', 'SAME_LOWER', 'VALID', or zeros (before, after) for each spatial axis;
            negative numbers cut.
        lhs_dilation: Steps between the elements of lhs, 1 without (transposed convolution).
        rhs_dilation: Steps between the elements of rhs, 1 without (atrous convolution).
        dimension_numbers: Layouts, see `conv_dimension_numbers`.
        feature_group_count: Number of groups into which the features of lhs are divided; each
            meets its own part of the output features.
        batch_group_count: Number of groups into which the batch of lhs is divided; each meets
            its own part of the output features.
        precision: As in `dot_general`.
        preferred_element_type: As in `dot_general`.

    Returns:
        ``[batch, output features, *spatial]``, in the layout asked for.

    Raises:
        ShapeError: Ranks, features, groups or parameters do not fit.
        DtypeError: The dtypes differ, or are bool.

    Example:
        >>> import numpy as np
        >>> image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
        >>> conv_general_dilated(image, np.ones((1, 1, 2, 2), np.float32), (1, 1), "VALID")
        Array([[[[ 8., 12.],
                 [20., 24.]]]], dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    strides = integers(window_strides, "window_strides")
    lhs_dilation = ones if lhs_dilation is None else integers(lhs_dilation, "lhs_dilation")
    rhs_dilation = ones if rhs_dilation is None else integers(rhs_dilation, "rhs_dilation")
    if isinstance(padding, str):
        if any(d != 1 for d in lhs_dilation):
            raise ShapeError(
                f"conv_general_dilated: padding={padding!r} has no one meaning with lhs_dilation "
                f"{lhs_dilation}; give pairs, or use conv_transpose"
            )
        window = pick(rhs.shape, numbers.rhs_spec)[2:]
        if not len(strides) == len(rhs_dilation) == len(window):
            raise ShapeError(
                f"conv_general_dilated: window_strides {strides} and rhs_dilation {rhs_dilation} "
                f"need one entry for each of the {len(window)} spatial axes of rhs {rhs.aval}"
            )
        effective = [dilated(k, d) for k, d in zip(window, rhs_dilation, strict=True)]
        size = pick(lhs.shape, numbers.lhs_spec)[2:]
        padding = padtype_to_pads(size, effective, strides, padding)
    else:
        padding = tuple((int(lo), int(hi)) for lo, hi in padding)
    if preferred_element_type is not None:
        preferred_element_type = dtypes.dtype(preferred_element_type)
    return bind(
        conv_general_dilated_p, lhs, rhs,
        window_strides=strides, padding=padding,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, dimension_numbers=numbers,
        feature_group_count=integer(feature_group_count, "feature_group_count"),
        batch_group_count=integer(batch_group_count, "batch_group_count"),
        precision=canonical_precision(precision), preferred_element_type=preferred_element_type,
    )  # fmt: skip
