"""Parameters of reductions over windows, and the shape of their result."""

from collections.abc import Sequence
from typing import Any

from fgrad.core.avals import ShapedArray, integers
from fgrad.core.errors import ShapeError
from fgrad.core.primitive import (
    Value,
)
from fgrad.lax.conv_shapes import dilated, padtype_to_pads

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Dims = Sequence[int | None]


def window_shape(
    name: str, x: ShapedArray, *, window_dimensions: Ints, window_strides: Ints, padding: Pads,
    base_dilation: Ints, window_dilation: Ints,
) -> Ints:  # fmt: skip
    """The shape of a reduction over windows of `x`; raises `ShapeError`."""
    for word, given in (
        ("window_dimensions", window_dimensions), ("window_strides", window_strides),
        ("padding", padding), ("base_dilation", base_dilation),
        ("window_dilation", window_dilation),
    ):  # fmt: skip
        if len(given) != x.ndim:
            raise ShapeError(
                f"{name}: {word} {given} needs one entry for each of the {x.ndim} axes of {x}"
            )
        if given is not padding and any(v < 1 for v in given):  # type: ignore[operator]
            raise ShapeError(f"{name}: {word} {given} must be positive")
    return tuple(
        max((dilated(n, e) + lo + hi - dilated(k, d)) // s + 1, 0)
        for n, k, s, (lo, hi), e, d in zip(
            x.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation,
            strict=True,
        )
    )  # fmt: skip


def window_params(
    x: Value, window_dimensions: Sequence[int], window_strides: Sequence[int] | None,
    padding: Any, base_dilation: Sequence[int] | None, window_dilation: Sequence[int] | None,
) -> dict[str, Any]:  # fmt: skip
    """The parameters of a reduction over windows, of what a caller wrote."""
    ones = (1,) * x.ndim
    window = integers(window_dimensions, "window_dimensions")
    strides = ones if window_strides is None else integers(window_strides, "window_strides")
    base = ones if base_dilation is None else integers(base_dilation, "base_dilation")
    dilation = ones if window_dilation is None else integers(window_dilation, "window_dilation")
    if not len(window) == len(strides) == len(base) == len(dilation) == x.ndim:
        raise ShapeError(
            f"reduce_window: window_dimensions {window}, window_strides {strides}, base_dilation "
            f"{base} and window_dilation {dilation} need one entry for each of the {x.ndim} axes "
            f"of {x.aval}"
        )
    pads = padtype_to_pads(
        [dilated(n, e) for n, e in zip(x.shape, base, strict=True)],
        [dilated(k, d) for k, d in zip(window, dilation, strict=True)],
        strides, padding,
    )  # fmt: skip
    return {
        "window_dimensions": window, "window_strides": strides, "padding": pads,
        "base_dilation": base, "window_dilation": dilation,
    }  # fmt: skip
