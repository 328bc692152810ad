"""What the property suite is told of reductions over windows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import (
    Case,
    Invalid,
    Operand,
    Spec,
)
from fgrad.lax.window_shapes import Ints, Pads, window_shape


def by_definition(reduce: Callable[..., Any], identity: Callable[[Any], Any]) -> Callable[..., Any]:
    """By the definition: one window after the other."""

    def reference(
        x: Any, *, window_dimensions: Ints, window_strides: Ints, padding: Pads,
        base_dilation: Ints, window_dilation: Ints,
    ) -> Any:  # fmt: skip
        shape = window_shape(
            "reference", ShapedArray(x.shape, x.dtype), window_dimensions=window_dimensions,
            window_strides=window_strides, padding=padding, base_dilation=base_dilation,
            window_dilation=window_dilation,
        )  # fmt: skip
        out = np.full(shape, identity(x.dtype), x.dtype)
        for p in np.ndindex(*shape):
            found = []
            for k in np.ndindex(*window_dimensions):
                at = [
                    divmod(i * s + j * d - lo, e)
                    for i, j, s, d, (lo, _hi), e in zip(
                        p, k, window_strides, window_dilation, padding, base_dilation, strict=True
                    )
                ]
                if all(r == 0 and 0 <= i < n for (i, r), n in zip(at, x.shape, strict=True)):
                    found.append(x[tuple(i for i, _ in at)])
            if found:
                out[p] = reduce(np.array(found, x.dtype))
        return out

    return reference


def _case(shape: str, window: Ints, **given: Any) -> Case:
    ones = (1,) * len(window)
    params: dict[str, Any] = {
        "window_dimensions": window, "window_strides": ones, "padding": ((0, 0),) * len(window),
        "base_dilation": ones, "window_dilation": ones,
    }  # fmt: skip
    return Case(shape, params | given)


CASES = (
    _case("n 4 5", (1, 2, 3)),
    _case("4 6 n", (2, 2, 1), window_strides=(2, 2, 1)),
    _case("5 n", (3, 1), window_strides=(2, 1), padding=((1, 1), (0, 0))),
    _case("6 n", (2, 1), window_dilation=(3, 1), padding=((2, 0), (0, 0))),
    _case("3 n", (3, 1), base_dilation=(2, 1), padding=((1, 2), (0, 0))),
    _case("n 7", (1, 7)),
    _case("3 4", (2, 2), padding=((-1, 1), (1, -1)), window_strides=(1, 2)),
)


def _invalid(
    match: str, error: type[Exception] = ShapeError, of: str = "f32[3,4]", **given: Any
) -> Invalid:
    params = dict(CASES[-1].params) | given  # type: ignore[arg-type]
    return Invalid((of,), error, match, **params)


INVALID = (
    _invalid("one entry", window_dimensions=(2,)),
    _invalid("positive", window_strides=(0, 1)),
    _invalid("takes", DtypeError, "b[3,4]"),
)


def _selection_reference(scatter: bool) -> Callable[..., Any]:
    """By the definition: argmax or argmin (the first one) of each window."""

    def reference(t: Any, x: Any, *, select: str, **p: Any) -> Any:
        pick = np.argmax if select == "ge" else np.argmin
        index = np.arange(x.size).reshape(x.shape)
        inner = by_definition(lambda v: v[pick(x.ravel()[v])], lambda _dtype: -1)
        chosen = inner(index, **p)
        if not scatter:
            return np.where(chosen < 0, 0, t.ravel()[chosen]) if x.size else np.zeros(chosen.shape)
        out = np.zeros(x.size, t.dtype)
        np.add.at(out, chosen[chosen >= 0], t[chosen >= 0])
        return out.reshape(x.shape)

    return reference


def pair_spec(scatter: bool) -> Spec:
    """The spec of the gather of selected elements, or of the scatter to them."""

    def sized(case: Case) -> Case:
        shape = case.shapes
        params: Any = case.params
        numbers = [int(n) if n.isdigit() else 1 for n in shape.split()]
        of = window_shape("spec", ShapedArray(tuple(numbers), np.dtype("f8")), **params)
        first = " ".join(
            n if not n.isdigit() else str(k) for n, k in zip(shape.split(), of, strict=True)
        )
        return Case(f"{first if scatter else shape}, {shape}", {**params, "select": "ge"})

    return Spec(
        (Operand(), Operand(generator="static")),
        tuple(map(sized, CASES)),
        reference=_selection_reference(scatter),
        ulps=None if scatter else 0.0,
        terms=(
            (lambda t, x, **p: _selection_reference(True)(np.abs(t), x, **p)) if scatter else None
        ),
        invalid=(
            Invalid(
                ("f32[2,2]", "f32[9,9]"), ShapeError, "shape",
                **{**dict(CASES[-1].params), "select": "ge"},  # type: ignore[arg-type]
            ),
        ),
    )  # fmt: skip
