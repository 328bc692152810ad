"""Layouts, padding and the type of the result of convolutions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fgrad.core.avals import ShapedArray, integers
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.lax.precision import product_dtype

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
        specs = tuple(integers(s, "dimension_numbers") for s in dimension_numbers)
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


def pick(shape: Sequence[int], spec: Ints) -> Ints:
    """The lengths of the axes that a layout names, in its order."""
    return tuple(shape[i] for i in spec)


def conv_aval(
    lhs: ShapedArray, rhs: ShapedArray, *,
    window_strides: Ints, padding: Pads, lhs_dilation: Ints, rhs_dilation: Ints,
    dimension_numbers: ConvDimensionNumbers, feature_group_count: int, batch_group_count: int,
    precision: Any, preferred_element_type: Any,
) -> ShapedArray:  # fmt: skip
    """The type of a convolution; raises the errors that its caller sees."""
    dtype = product_dtype("conv_general_dilated", lhs, rhs, preferred_element_type)
    if dtype.kind == "b":
        raise DtypeError(f"conv_general_dilated takes numbers, got lhs {lhs} and rhs {rhs}")
    d = dimension_numbers
    if not lhs.ndim == rhs.ndim == len(d.lhs_spec) >= 2:
        raise ShapeError(
            f"conv_general_dilated: lhs {lhs} and rhs {rhs} need one rank, two or more, that of "
            f"dimension_numbers {tuple(d)}"
        )
    n, c, *size = pick(lhs.shape, d.lhs_spec)
    o, i, *window = pick(rhs.shape, d.rhs_spec)
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
