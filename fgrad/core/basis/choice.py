"""One of several values, element by element: `select_n`."""

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
    is_same,
    scalar,
)
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    ANY,
    TYPE,
    Case,
    Invalid,
    Lowering,
    Operand,
    Primitive,
    Pullback,
    Spec,
    Unknown,
    Value,
)
from fgrad.core.tracing import bind


def _select_abstract(which: Avals, *cases: Avals) -> ShapedArray:
    if which.dtype.kind != "b" and which.dtype != np.int32:
        raise DtypeError(f"select_n: the selector must be bool or int32, got {which}")
    if which.dtype.kind == "b" and len(cases) > 2:
        raise DtypeError(f"select_n: a bool selector chooses among 2 cases, got {len(cases)}")
    if any(c.dtype != cases[0].dtype for c in cases):
        raise DtypeError(f"select_n: cases need one dtype, got {', '.join(map(str, cases))}")
    shape = broadcast_shapes("select_n", (which, *cases))
    return ShapedArray(shape, cases[0].dtype, all(c.weak_type for c in cases))


def _select_eager(xp: Any, which: Any, *cases: Any) -> Any:
    if any(c.dtype != cases[0].dtype for c in cases):
        raise ValueError("dtypes")
    if which.dtype.kind == "b" and len(cases) == 2:
        return xp.where(which, cases[1], cases[0])
    return xp.choose(which, xp.broadcast_arrays(*cases), mode="clip")


def _select_ct(which: Value, i: int, n: int, ct: Value) -> Value:
    """The cotangent of case i: ct where it was chosen."""
    zero = scalar(0, ct.dtype)
    return select_n(which, *[ct if k == i else zero for k in range(n)])


def _select_transpose(ct: Value, which: Value, *cases: Any) -> tuple[Value | None, ...]:
    return (None, *(
        unbroadcast(_select_ct(which, i, len(cases), ct), c.aval.shape)
        if isinstance(c, Unknown) else None
        for i, c in enumerate(cases)
    ))  # fmt: skip


def _select_jvp(
    primals: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[Value, Value | None]:
    out = select_n(*primals)
    if all(t is None for t in tangents[1:]):
        return out, None
    zero = scalar(0, out.dtype)
    tangent = select_n(primals[0], *[zero if t is None else t for t in tangents[1:]])
    return out, broadcast_to(tangent, out.shape)


def _select_backward(
    needed: tuple[bool, ...], res: tuple[Any, ...], ct: Value, _params: dict[str, Any]
) -> tuple[Value | None, ...]:
    which, *avals = res
    return (None, *(
        unbroadcast(_select_ct(which, i, len(avals), ct), a.shape) if n else None
        for i, (a, n) in enumerate(zip(avals, needed[1:], strict=True))
    ))  # fmt: skip


def _select_scalar(avals: Sequence[Avals], _params: dict[str, Any]) -> str:
    last = len(avals) - 2
    if avals[0].dtype.kind == "b":
        return "which ? x1 : x0" if last else "x0"
    # Out of range the selector names the nearest case.
    return "".join(f"which <= {i} ? x{i} : " for i in range(last)) + f"x{last}"


def _select_simplify(args: Sequence[Value], _params: dict[str, Any]) -> Value | None:
    """The one case that there is, under any selector."""
    which, first, *others = args
    same = all(is_same(first, x) for x in others)
    return first if same and broadcast_shapes("select_n", (which, first)) == first.shape else None


select_n_p: Primitive = Primitive(
    "select_n",
    "For each element, the case that the selector names (False and 0 name the first).",
    abstract=_select_abstract,
    eager=_select_eager,
    jvp=_select_jvp,
    transpose=_select_transpose,
    vjp=Pullback(
        None,
        _select_backward,
        lambda needed: (0, *map(TYPE, range(1, len(needed)))),
    ),
    batch=lambda axis, args, dims: batch_pointwise(select_n_p, axis, args, dims, {}),
    lower=Lowering("pointwise", _select_scalar, operands="which *x"),
    simplify=_select_simplify,
    linear="jointly",
    spec=Spec(
        (Operand(dtype="bool", generator="static"), Operand(), Operand()),
        (Case("...,...,..."),),
        dtypes=ANY,
        reference=lambda which, x, y: np.where(which, y, x),
        ulps=0.0,
        invalid=(
            Invalid(("f32[2]", "f32[2]", "f32[2]"), DtypeError, "selector"),
            Invalid(("b[2]", "f32[2]", "f64[2]"), DtypeError, "one dtype"),
            Invalid(("b[2]", "f32[3]", "f32[3]"), ShapeError, "broadcast"),
        ),
    ),
)


def select_n(which: Value, *cases: Value) -> Value:
    """The case that `which` names, element by element; operands broadcast.

    Args:
        which: bool (two cases: False names the first) or int32.
        *cases: Values of one dtype.
    """
    return bind(select_n_p, as_value(which), *cases)
