"""General convolution: strides, padding, dilation of both operands, groups, any layout.

    out[n, o, p] = Σ_{c, k} padded[n, c, p·stride + k·rhs_dilation] · rhs[o, c, k]

where `padded` is lhs with zeros put between its elements (lhs_dilation) and around them. It is
linear in each operand; both transposes, and every batching, are convolutions of this kind again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import (
    INEXACT,
    NOTHING,
    TYPE,
    Case,
    Invalid,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind
from fgrad.lax.arithmetic import operands
from fgrad.lax.conv_eager import convolve
from fgrad.lax.precision import canonical_precision, multiply_in, product_dtype
from fgrad.lax.shape import rev

__all__ = [
    "ConvDimensionNumbers",
    "conv",
    "conv_dimension_numbers",
    "conv_general_dilated",
    "conv_general_dilated_p",
    "conv_transpose",
    "conv_with_general_padding",
    "padtype_to_pads",
]

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


class ConvDimensionNumbers(NamedTuple):
    """Where each role stands among the axes of the operands and the result.

    Attributes:
        lhs_spec: Axes of lhs: batch, feature, then spatial.
        rhs_spec: Axes of rhs: output feature, input feature, then spatial.
        out_spec: Axes of the result: batch, feature, then spatial.
    """

    lhs_spec: Ints
    rhs_spec: Ints
    out_spec: Ints


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> ConvDimensionNumbers:
    """The layouts that a caller named.

    Args:
        lhs_shape: Shape of lhs.
        rhs_shape: Shape of rhs.
        dimension_numbers: None (batch and feature first, everywhere), three strings such as
            ``("NHWC", "HWIO", "NHWC")`` (N batch, C feature; O and I features of rhs; the other
            letters are spatial, paired by letter), or a `ConvDimensionNumbers`.

    Raises:
        ShapeError: The ranks differ, or the strings do not fit them.

    Example:
        >>> conv_dimension_numbers((1, 8, 8, 3), (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC")).rhs_spec
        (3, 2, 0, 1)
    """
    rank = len(lhs_shape)
    if rank != len(rhs_shape) or rank < 2:
        raise ShapeError(
            f"convolution needs lhs and rhs of one rank, two or more; got shapes "
            f"{list(lhs_shape)} and {list(rhs_shape)}"
        )
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(rank)),) * 3)
    if len(dimension_numbers) != 3:
        raise ShapeError(f"dimension_numbers needs three layouts, got {dimension_numbers!r}")
    if not all(isinstance(s, str) for s in dimension_numbers):
        specs = tuple(tuple(int(i) for i in s) for s in dimension_numbers)
        if any(sorted(s) != list(range(rank)) for s in specs):
            raise ShapeError(
                f"dimension_numbers {specs} must each hold the {rank} axes of the operands once"
            )
        return ConvDimensionNumbers(*specs)
    lhs, rhs, out = dimension_numbers
    spatial = [c for c in rhs if c not in "OI"]
    for layout, pair in ((lhs, "NC"), (rhs, "OI"), (out, "NC")):
        if sorted(layout) != sorted((*pair, *spatial)) or len(layout) != rank:
            raise ShapeError(
                f"layout {layout!r} of dimension_numbers {dimension_numbers!r} must hold each of "
                f"{pair!r} and the spatial letters {''.join(spatial)!r} once, {rank} in all"
            )
    return ConvDimensionNumbers(
        *(
            tuple(layout.index(c) for c in (*pair, *spatial))
            for layout, pair in ((lhs, "NC"), (rhs, "OI"), (out, "NC"))
        )
    )


def padtype_to_pads(
    in_shape: Sequence[int],
    window_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Any,
) -> Pads:
    """Padding before and after each axis, of 'SAME', 'SAME_LOWER', 'VALID' or explicit pairs.

    Args:
        in_shape: Lengths of the axes.
        window_shape: Lengths that the window covers.
        window_strides: Its steps.
        padding: 'VALID' (none), 'SAME' (⌈length / stride⌉ results, the odd zero behind),
            'SAME_LOWER' (the odd zero in front), or a pair for each axis.

    Raises:
        ShapeError: An unknown name, or the wrong number of pairs.

    Example:
        >>> padtype_to_pads((8,), (4,), (1,), "SAME")
        ((1, 2),)
    """
    if not isinstance(padding, str):
        pads = tuple((int(lo), int(hi)) for lo, hi in padding)
        if len(pads) != len(in_shape):
            raise ShapeError(f"padding {padding} needs a pair for each of {len(in_shape)} axes")
        return pads
    name = padding.upper()
    if name == "VALID":
        return ((0, 0),) * len(in_shape)
    if name not in ("SAME", "SAME_LOWER"):
        raise ShapeError(f"padding={padding!r} is not known; use 'SAME', 'SAME_LOWER' or 'VALID'")
    pads = ()
    for n, k, s in zip(in_shape, window_shape, window_strides, strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        less, more = total // 2, total - total // 2
        pads += ((less, more) if name == "SAME" else (more, less),)
    return pads


def dilated(n: int, dilation: int) -> int:
    """The length of an axis of n elements with dilation − 1 zeros between neighbours."""
    return 0 if n == 0 else (n - 1) * dilation + 1


# ---------------------------------------------------------------------------------- abstract


def _pick(shape: Sequence[int], spec: Ints) -> Ints:
    return tuple(shape[i] for i in spec)


def _conv_abstract(
    lhs: ShapedArray, rhs: ShapedArray, *,
    window_strides: Ints, padding: Pads, lhs_dilation: Ints, rhs_dilation: Ints,
    dimension_numbers: ConvDimensionNumbers, feature_group_count: int, batch_group_count: int,
    precision: Any, preferred_element_type: Any,
) -> ShapedArray:  # fmt: skip
    dtype = product_dtype("conv_general_dilated", lhs, rhs, preferred_element_type)
    if dtype.kind == "b":
        raise DtypeError(f"conv_general_dilated takes numbers, got lhs {lhs} and rhs {rhs}")
    d = dimension_numbers
    if not lhs.ndim == rhs.ndim == len(d.lhs_spec) >= 2:
        raise ShapeError(
            f"conv_general_dilated: lhs {lhs} and rhs {rhs} need one rank, two or more, that of "
            f"dimension_numbers {tuple(d)}"
        )
    n, c, *size = _pick(lhs.shape, d.lhs_spec)
    o, i, *window = _pick(rhs.shape, d.rhs_spec)
    for name, given in (
        ("window_strides", window_strides), ("padding", padding),
        ("lhs_dilation", lhs_dilation), ("rhs_dilation", rhs_dilation),
    ):  # fmt: skip
        if len(given) != len(size):
            raise ShapeError(
                f"conv_general_dilated: {name} {given} needs one entry for each of the "
                f"{len(size)} spatial axes of lhs {lhs}"
            )
        if given is not padding and any(v < 1 for v in given):  # type: ignore[operator]
            raise ShapeError(f"conv_general_dilated: {name} {given} must be positive")
    _check_groups(lhs, rhs, (n, c), (o, i), feature_group_count, batch_group_count)
    spatial = []
    for a, k, s, (lo, hi), p, q in zip(
        size, window, window_strides, padding, lhs_dilation, rhs_dilation, strict=True
    ):
        room = dilated(a, p) + lo + hi
        spatial.append(max((room - dilated(k, q)) // s + 1, 0))
    shape = [0] * lhs.ndim
    for axis, length in zip(d.out_spec, (n // batch_group_count, o, *spatial), strict=True):
        shape[axis] = length
    return ShapedArray(tuple(shape), dtype, lhs.weak_type and rhs.weak_type)


def _check_groups(
    lhs: ShapedArray, rhs: ShapedArray, nc: tuple[int, int], oi: tuple[int, int], fg: int, bg: int
) -> None:
    (n, c), (o, i) = nc, oi
    fault = None
    if fg < 1 or bg < 1 or (fg > 1 and bg > 1):
        fault = "group counts must be positive and one of them 1"
    elif c != i * fg:
        fault = f"lhs has {c} features, not the {i} input features of rhs times {fg} feature groups"
    elif o % fg or o % bg:
        fault = f"the {o} output features of rhs do not divide into {max(fg, bg)} groups"
    elif n % bg:
        fault = f"the {n} batch elements of lhs do not divide into {bg} groups"
    if fault:
        raise ShapeError(
            f"conv_general_dilated: lhs {lhs} and rhs {rhs} with feature_group_count {fg} and "
            f"batch_group_count {bg}: {fault}"
        )


def _conv_eager(xp: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    d = params["dimension_numbers"]
    x, w = ShapedArray(lhs.shape, lhs.dtype), ShapedArray(rhs.shape, rhs.dtype)
    out = _conv_abstract(x, w, **params)
    inner = multiply_in(lhs.dtype, out.dtype)
    result = convolve(
        xp,
        lhs.astype(inner, copy=False).transpose(d.lhs_spec),
        rhs.astype(inner, copy=False).transpose(d.rhs_spec),
        _pick(out.shape, d.out_spec),
        params["window_strides"], params["padding"],
        params["lhs_dilation"], params["rhs_dilation"],
        params["feature_group_count"], params["batch_group_count"],
    )  # fmt: skip
    back = tuple(d.out_spec.index(i) for i in range(len(d.out_spec)))
    return xp.ascontiguousarray(result.transpose(back)).astype(out.dtype, copy=False)


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
        _pick(lhs, d.lhs_spec)[2:], _pick(rhs, d.rhs_spec)[2:], _pick(out, d.out_spec)[2:],
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
        _pick(lhs.shape, d.lhs_spec)[2:], _pick(rhs.shape, d.rhs_spec)[2:],
        _pick(ct.shape, d.out_spec)[2:],
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
        out_aval = _conv_abstract(_element(x.aval, dx), _element(w.aval, dw), **params)
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


def _conv_reference(x: Any, w: Any, **params: Any) -> Any:
    """By the definition, one place of the window after the other."""
    d = params["dimension_numbers"]
    x, w = x.transpose(d.lhs_spec), w.transpose(d.rhs_spec)
    fg, bg = params["feature_group_count"], params["batch_group_count"]
    out = _conv_abstract(
        ShapedArray(x.shape, x.dtype),
        ShapedArray(w.shape, w.dtype),
        **{**params, "dimension_numbers": ConvDimensionNumbers(*(tuple(range(x.ndim)),) * 3)},
    )
    total = np.zeros(out.shape, out.dtype)
    n, o, *positions = out.shape
    steps = list(zip(
        params["window_strides"], params["padding"], params["lhs_dilation"],
        params["rhs_dilation"], x.shape[2:], strict=True,
    ))  # fmt: skip
    for p in np.ndindex(*positions):
        for k in np.ndindex(*w.shape[2:]):
            where = [
                divmod(i * s + j * q - lo, e)
                for i, j, (s, (lo, _hi), e, q, _a) in zip(p, k, steps, strict=True)
            ]
            if any(r or not 0 <= i < t[4] for (i, r), t in zip(where, steps, strict=True)):
                continue
            at = (slice(None), slice(None), *(i for i, _ in where))
            a, b = x[at], w[(slice(None), slice(None), *k)]
            a = a.reshape(bg, n, fg, w.shape[1])
            b = b.reshape(bg, fg, o // (bg * fg), w.shape[1])
            total[(slice(None), slice(None), *p)] += np.einsum("bnfc,bfoc->nbfo", a, b).reshape(
                n, o
            )
    return total.transpose([d.out_spec.index(i) for i in range(total.ndim)])


_LAYOUTS = {
    "NC": ("NC", "OI", "NC"),
    "NCH": ("NCH", "OIH", "NCH"),
    "NCHW": ("NCHW", "OIHW", "NCHW"),
    "NHWC": ("NHWC", "HWIO", "NHWC"),
    "CHWN": ("CHWN", "IHWO", "NHCW"),
}


def _case(shapes: str, layout: str, name: str, **given: Any) -> Case:
    specs = _LAYOUTS[layout]
    rank = len(layout) - 2
    numbers = conv_dimension_numbers((0,) * len(layout), (0,) * len(layout), specs)
    ones = (1,) * rank
    params: dict[str, Any] = {
        "window_strides": ones, "padding": ((0, 0),) * rank, "lhs_dilation": ones,
        "rhs_dilation": ones, "dimension_numbers": numbers, "feature_group_count": 1,
        "batch_group_count": 1, "precision": None, "preferred_element_type": None,
    }  # fmt: skip
    return Case(shapes, params | given, name=name)


_PLAIN = _case("n c 4 4, o c 3 2", "NCHW", "plain")
_CASES = (
    _PLAIN,
    _case("n c, o c", "NC", "no_space"),
    _case("n c 5, o c 2", "NCH", "line_strided", window_strides=(2,), padding=((1, 0),)),
    _case("n c 3 4, o c 1 1", "NCHW", "pointwise"),
    _case("n 4 5 c, 3 2 c o", "NHWC", "channels_last", padding=((1, 1), (0, 1))),
    _case("c 4 5 n, c 3 2 o", "CHWN", "batch_last", window_strides=(1, 2)),
    _case(
        "n c 5 4, o c 2 2", "NCHW", "all_parameters",
        window_strides=(2, 1), padding=((2, 1), (-1, 3)), lhs_dilation=(2, 1), rhs_dilation=(1, 3),
    ),
    _case("n c 3 2, o c 2 3", "NCHW", "lhs_dilated", lhs_dilation=(2, 3), padding=((1, 2),) * 2),
    _case("n 2 3 c, 2 3 c o", "NHWC", "dilated_last", lhs_dilation=(2, 3), padding=((1, 2),) * 2),
    _case("n 4 4 4, 6 2 2 2", "NCHW", "feature_groups", feature_group_count=2),
    _case("n 4 4 3, 3 2 1 6", "NHWC", "depthwise", feature_group_count=3, window_strides=(1, 2)),
    _case("4 c 4 3, 6 c 2 2", "NCHW", "batch_groups", batch_group_count=2, padding=((1, 1),) * 2),
)  # fmt: skip


def _invalid(types: tuple[str, str], error: type[Exception], match: str, **given: Any) -> Invalid:
    assert isinstance(_PLAIN.params, dict)
    return Invalid(types, error, match, **{**_PLAIN.params, **given})


conv_general_dilated_p = Primitive(
    "conv_general_dilated",
    "Convolution (cross-correlation) with strides, padding, dilations and groups.",
    abstract=_conv_abstract,
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
    lower=Lowering("library", "conv"),
    linear="each",
    spec=Spec(
        cases=_CASES,
        dtypes=INEXACT,
        reference=_conv_reference,
        ulps=None,
        terms=lambda x, w, **params: _conv_reference(np.abs(x), np.abs(w), **params),
        invalid=(
            _invalid(("f32[1,3,4,4]", "f32[2,2,2,2]"), ShapeError, "3 features"),
            _invalid(("f32[1,2,4,4]", "f64[2,2,2,2]"), DtypeError, "one dtype"),
            _invalid(("f32[1,2,4]", "f32[2,2,2,2]"), ShapeError, "one rank"),
            _invalid(
                ("f32[1,2,4,4]", "f32[2,2,2,2]"), ShapeError, "one entry", window_strides=(1,)
            ),
            _invalid(
                ("f32[1,2,4,4]", "f32[2,2,2,2]"), ShapeError, "positive", rhs_dilation=(0, 1)
            ),
            _invalid(
                ("f32[1,4,4,4]", "f32[3,2,2,2]"), ShapeError, "divide", feature_group_count=2
            ),
        ),
    ),
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
        >>> image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
        >>> conv_general_dilated(image, np.ones((1, 1, 2, 2), np.float32), (1, 1), "VALID")
        Array([[[[ 8., 12.],
                 [20., 24.]]]], dtype=float32)
    """
    lhs, rhs = operands(lhs, rhs)
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    strides = tuple(map(int, window_strides))
    lhs_dilation = ones if lhs_dilation is None else tuple(map(int, lhs_dilation))
    rhs_dilation = ones if rhs_dilation is None else tuple(map(int, rhs_dilation))
    if isinstance(padding, str):
        if any(d != 1 for d in lhs_dilation):
            raise ShapeError(
                f"conv_general_dilated: padding={padding!r} has no one meaning with lhs_dilation "
                f"{lhs_dilation}; give pairs, or use conv_transpose"
            )
        window = _pick(rhs.shape, numbers.rhs_spec)[2:]
        if not len(strides) == len(rhs_dilation) == len(window):
            raise ShapeError(
                f"conv_general_dilated: window_strides {strides} and rhs_dilation {rhs_dilation} "
                f"need one entry for each of the {len(window)} spatial axes of rhs {rhs.aval}"
            )
        effective = [dilated(k, d) for k, d in zip(window, rhs_dilation, strict=True)]
        size = _pick(lhs.shape, numbers.lhs_spec)[2:]
        padding = padtype_to_pads(size, effective, strides, padding)
    else:
        padding = tuple((int(lo), int(hi)) for lo, hi in padding)
    if preferred_element_type is not None:
        preferred_element_type = dtypes.dtype(preferred_element_type)
    return bind(
        conv_general_dilated_p, lhs, rhs,
        window_strides=strides, padding=padding,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, dimension_numbers=numbers,
        feature_group_count=int(feature_group_count), batch_group_count=int(batch_group_count),
        precision=canonical_precision(precision), preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv_general_dilated` of ``[batch, features, *spatial]`` without dilation or groups.

    Example:
        >>> conv(np.ones((1, 1, 4), np.float32), np.ones((1, 1, 3), np.float32), (1,), "SAME")
        Array([[[2., 3., 3., 2.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """`conv_general_dilated` of ``[batch, features, *spatial]`` without groups.

    Example:
        >>> x, w = np.ones((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
        >>> conv_with_general_padding(x, w, (1,), [(1, 1)], (2,), None)
        Array([[[1., 1., 1., 1.]]], dtype=float32)
    """
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _transposed_pads(k: int, s: int, padding: str) -> tuple[int, int]:
    """Padding under which the result of a strided convolution has its input's length again."""
    if padding == "SAME":
        total = k + s - 2
        before = k - 1 if s > k - 1 else -(-total // 2)
    else:
        total = k + s - 2 + max(k - s, 0)
        before = k - 1
    return before, total - before


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Value:
    """Transposed ("fractionally strided") convolution: `strides` enlarge the input.

    Args:
        lhs: The input.
        rhs: The window.
        strides: How far apart the elements of lhs are put on each spatial axis.
        padding: 'SAME' (lengths are multiplied by the strides), 'VALID' (nothing is cut), or
            pairs that pad the dilated lhs.
        rhs_dilation: Steps between the elements of rhs.
        dimension_numbers: Layouts, see `conv_dimension_numbers`; where None, features come last
            (``("NHWC", "HWIO", "NHWC")`` with as many spatial axes as there are).
        transpose_kernel: Reverse the window and swap its features, so that the result is the
            gradient of a convolution with `rhs`.
        precision: As in `dot_general`.
        preferred_element_type: As in `dot_general`.

    Returns:
        The result, in the layout asked for.

    Raises:
        ShapeError: Ranks, features or parameters do not fit.
        DtypeError: The dtypes differ.

    Example:
        >>> x = np.float32([1, 2]).reshape(1, 2, 1)
        >>> conv_transpose(x, np.ones((2, 1, 1), np.float32), (2,), "SAME").shape
        (1, 4, 1)
    """
    lhs, rhs = operands(lhs, rhs)
    rank = lhs.ndim
    if dimension_numbers is None:
        inner = tuple(range(1, rank - 1))
        last = (0, rank - 1, *inner)
        dimension_numbers = (last, (rank - 1, rank - 2, *range(rank - 2)), last)
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (rank - 2)
    rhs_dilation = ones if rhs_dilation is None else tuple(rhs_dilation)
    if isinstance(padding, str):
        name = padding.upper()
        if name not in ("SAME", "VALID"):
            raise ShapeError(
                f"conv_transpose: padding={padding!r} must be 'SAME', 'VALID' or pairs"
            )
        window = _pick(rhs.shape, numbers.rhs_spec)[2:]
        padding = [
            _transposed_pads(dilated(k, d), s, name)
            for k, d, s in zip(window, rhs_dilation, strides, strict=True)
        ]
    if transpose_kernel:
        o, i = numbers.rhs_spec[:2]
        rhs = rev(rhs, numbers.rhs_spec[2:])
        order = list(range(rank))
        order[o], order[i] = i, o
        rhs = basis.transpose(rhs, tuple(order))
    return conv_general_dilated(
        lhs, rhs, ones, padding, strides, rhs_dilation, numbers,
        precision=precision, preferred_element_type=preferred_element_type,
    )  # fmt: skip
