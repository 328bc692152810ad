"""What the property suite is told of convolution: its definition, calls and wrong calls."""

from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import (
    INEXACT,
    Case,
    Invalid,
    Spec,
)
from fgrad.lax.conv_shapes import ConvDimensionNumbers, conv_aval, conv_dimension_numbers


def _conv_reference(x: Any, w: Any, **params: Any) -> Any:
    """By the definition, one place of the window after the other."""
    d = params["dimension_numbers"]
    x, w = x.transpose(d.lhs_spec), w.transpose(d.rhs_spec)
    fg, bg = params["feature_group_count"], params["batch_group_count"]
    out = conv_aval(
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


SPEC = Spec(
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
)  # fmt: skip
