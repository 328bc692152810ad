"""Collectives: operations across the elements of a named axis of `vmap`.

A primitive names its axes in ``axis_name``, a tuple. The batching rule over an axis of that name
resolves it: the axis is then one like any other, so the operation is a reduction or a permutation
of axes. Over an axis of another name the collective stays, one axis wider.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError, AxisNameError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Value
from fgrad.core.tracing import bind, entering, state
from fgrad.lax.arithmetic import div, mul
from fgrad.lax.compare import eq
from fgrad.lax.creation import iota
from fgrad.lax.reduce import reduce_max, reduce_min

__all__ = ["axis_index", "axis_size", "pmax", "pmean", "pmin", "psum"]

Dims = Sequence[int | None]
Names = tuple[Any, ...]


def size_of(name: Any) -> int:
    """The size of the innermost open axis of that name."""
    for axis in reversed(state.axes):
        if axis.name == name:
            return axis.size  # type: ignore[no-any-return]
    opened = ", ".join(repr(a.name) for a in state.axes) or "none"
    raise AxisNameError(
        f"the axis name {name!r} is not bound here (bound: {opened}); call the function under "
        f"vmap(f, axis_name={name!r})"
    )


def names_of(axis_name: Any) -> Names:
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    for name in names:
        size_of(name)
    return names


def one_name(name: str, axis_name: Any) -> Any:
    names = names_of(axis_name)
    if len(names) != 1:
        raise ArgumentError(f"{name} takes one axis name, got {names}")
    return names[0]


def no_groups(name: str, groups: Any) -> None:
    if groups is not None:
        raise ArgumentError(
            f"{name}: axis_index_groups is not supported; nest two vmaps with a name each instead"
        )


def unresolved(name: str) -> Callable[..., Any]:
    def eager(_xp: Any, *_arrays: Any, axis_name: Names, **_params: Any) -> Any:
        for n in axis_name:
            size_of(n)
        raise AxisNameError(f"{name}: the axis {axis_name} was left without its vmap")

    return eager


def resolves(axis: MappedAxis, names: Names) -> bool:
    return axis.name is not None and axis.name in names


def _rest(axis: MappedAxis, names: Names) -> Names:
    """The names without the innermost mention of the axis's."""
    return tuple(n for n in names if n != axis.name)


def bound(aval: ShapedArray, axis_name: Names) -> ShapedArray:
    for name in axis_name:
        size_of(name)
    return aval


def _psum_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names
) -> tuple[Value, int | None]:
    (x,), (d,) = args, dims
    if not resolves(axis, axis_name):
        return bind(psum_p, x, axis_name=axis_name), d
    if d is None:
        x = mul(x, basis.scalar(axis.size, x.dtype))
    else:
        x = basis.reduce_sum(x, (d,))
    rest = _rest(axis, axis_name)
    return (bind(psum_p, x, axis_name=rest) if rest else x), None


psum_p: Primitive = Primitive(
    "psum",
    "Sum over named axes.",
    abstract=lambda x, *, axis_name: bound(x, axis_name),
    eager=unresolved("psum"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: psum_p, ps, ts, **params),
    transpose=lambda ct, _x, *, axis_name: (bind(psum_p, ct, axis_name=axis_name),),
    vjp=basis.linear_pullback(
        lambda ct, _x, *, axis_name: (bind(psum_p, ct, axis_name=axis_name),)
    ),
    batch=_psum_batch,
    lower=Lowering("collective", "psum"),
    linear="jointly",
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
)


def psum(x: Any, axis_name: Any, *, axis_index_groups: None = None) -> Any:
    """The sum of `x` over a named axis.

    Args:
        x: Array or tree of arrays. A Python number gives the number times the size of the axis.
        axis_name: Name of an axis, or a tuple of names.
        axis_index_groups: Only None.

    Returns:
        A tree like `x`, the same in each element of the axis.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: x / fg.lax.psum(x, "i"), axis_name="i")(np.float32([1, 3]))
        Array([0.25, 0.75], dtype=float32)
    """
    no_groups("psum", axis_index_groups)
    names = names_of(axis_name)

    def one(leaf: Any) -> Any:
        if type(leaf) in (int, float, complex, bool):
            return leaf * axis_size(names)
        value = as_value(leaf)
        if value.dtype.kind == "b":
            value = basis.convert_element_type(value, dtypes.default_int())
        return bind(psum_p, value, axis_name=names)

    with entering():
        return trees.tree_map(one, x)


def pmean(x: Any, axis_name: Any, *, axis_index_groups: None = None) -> Any:
    """The mean of `x` over a named axis; see `psum`.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.pmean(x, "i"), axis_name="i")(np.float32([1, 3]))
        Array([2., 2.], dtype=float32)
    """
    no_groups("pmean", axis_index_groups)
    n = axis_size(axis_name)

    def one(leaf: Any) -> Any:
        value = as_value(leaf)
        if value.dtype.kind in "iub":
            value = basis.convert_element_type(value, dtypes.default_float())
        return div(psum(value, axis_name), basis.scalar(n, value.dtype))

    with entering():
        return trees.tree_map(one, x)


def _extremum(name: str, doc: str, reduce: Callable[..., Value]) -> Primitive:
    def batch(
        axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names
    ) -> tuple[Value, int | None]:
        (x,), (d,) = args, dims
        if not resolves(axis, axis_name):
            return bind(prim, x, axis_name=axis_name), d
        if d is not None:
            x = reduce(x, (d,))
        rest = _rest(axis, axis_name)
        return (bind(prim, x, axis_name=rest) if rest else x), None

    def jvp(
        primals: Sequence[Value], tangents: Sequence[Value | None], *, axis_name: Names
    ) -> tuple[Value, Value | None]:
        out = bind(prim, *primals, axis_name=axis_name)
        if tangents[0] is None:
            return out, None
        # Elements that tie share the derivative equally.
        ties = basis.convert_element_type(eq(primals[0], out), out.dtype)
        share = div(ties, bind(psum_p, ties, axis_name=axis_name))
        return out, bind(psum_p, basis.linear_mul(tangents[0], share), axis_name=axis_name)

    prim = Primitive(
        name,
        doc,
        abstract=lambda x, *, axis_name: bound(x, axis_name),
        eager=unresolved(name),
        jvp=jvp,
        transpose=Absent("not linear"),
        batch=batch,
        lower=Lowering("collective", name),
        spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
    )
    return prim


pmax_p = _extremum("pmax", "Maximum over named axes; ties share the derivative.", reduce_max)
pmin_p = _extremum("pmin", "Minimum over named axes; ties share the derivative.", reduce_min)


def pmax(x: Any, axis_name: Any, *, axis_index_groups: None = None) -> Any:
    """The maximum of `x` over a named axis; elements that tie share the derivative equally.

    Args and errors as for `psum`.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.pmax(x, "i"), axis_name="i")(np.float32([1, 3]))
        Array([3., 3.], dtype=float32)
    """
    return _extreme(pmax_p, x, axis_name, axis_index_groups)


def pmin(x: Any, axis_name: Any, *, axis_index_groups: None = None) -> Any:
    """The minimum of `x` over a named axis; elements that tie share the derivative equally.

    Args and errors as for `psum`.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.pmin(x, "i"), axis_name="i")(np.float32([1, 3]))
        Array([1., 1.], dtype=float32)
    """
    return _extreme(pmin_p, x, axis_name, axis_index_groups)


def _extreme(prim: Primitive, x: Any, axis_name: Any, groups: Any) -> Any:
    no_groups(prim.name, groups)
    names = names_of(axis_name)
    with entering():
        return trees.tree_map(lambda leaf: bind(prim, as_value(leaf), axis_name=names), x)


axis_index_p: Primitive = Primitive(
    "axis_index",
    "The position along a named axis.",
    abstract=lambda *, axis_name: bound(ShapedArray((), np.dtype(np.int32)), axis_name),
    eager=unresolved("axis_index"),
    jvp=Absent("it has no operand"),
    transpose=Absent("it has no operand"),
    vjp=Absent("it has no operand"),
    batch=lambda axis, _args, _dims, **_params: (iota(np.int32, axis.size), 0),
    lower=Lowering("collective", "axis_index"),
    differentiable=False,
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
)


def axis_index(axis_name: Any) -> Value:
    """The position along a named axis, int32; of several, counted with the last one fastest.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: x + fg.lax.axis_index("i"), axis_name="i")(np.int32([5, 5]))
        Array([5, 6], dtype=int32)
    """
    names = names_of(axis_name)
    with entering():
        index: Value = bind(axis_index_p, axis_name=names[:1])
        for name in names[1:]:
            own = bind(axis_index_p, axis_name=(name,))
            index = basis.add_any(mul(index, size_of(name)), own)
    return index


def axis_size(axis_name: Any) -> int:
    """The size of a named axis, a Python integer; of several, the product.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: x * fg.lax.axis_size("i"), axis_name="i")(np.int32([5, 6]))
        Array([10, 12], dtype=int32)
    """
    size = 1
    for name in names_of(axis_name):
        size *= size_of(name)
    return size
