"""Collectives that gather and scatter: `all_gather`, and its transpose `psum_scatter`."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import AxisError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Value
from fgrad.core.tracing import bind, entering
from fgrad.lax.collective import Names, names_of, no_groups, one_name, resolves, size_of, unresolved

__all__ = ["all_gather", "psum_scatter"]

Dims = Sequence[int | None]


def axis_in(name: str, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise AxisError(f"{name}: axis {axis} is out of range for {rank} axes")
    return axis % rank


def _gather_abstract(x: ShapedArray, *, axis_name: Names, axis: int, tiled: bool) -> ShapedArray:
    n = size_of(axis_name[0])
    shape = list(x.shape)
    if tiled:
        shape[axis] *= n
    else:
        shape.insert(axis, n)
    return x.update(shape=tuple(shape))


def _gather_batch(
    axis_: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names, axis: int,
    tiled: bool,
) -> tuple[Value, int | None]:  # fmt: skip
    (x,), (d,) = args, dims
    if not resolves(axis_, axis_name):
        x = basis.lead(x, d, axis_.size)
        return bind(all_gather_p, x, axis_name=axis_name, axis=axis + 1, tiled=tiled), 0
    x = basis.moveaxis(basis.lead(x, d, axis_.size), 0, axis)
    if tiled:
        merged = x.shape[axis] * x.shape[axis + 1]
        x = basis.reshape(x, (*x.shape[:axis], merged, *x.shape[axis + 2 :]))
    return x, None


def _gather_transpose(
    ct: Value, _x: Any, *, axis_name: Names, axis: int, tiled: bool
) -> tuple[Value]:
    return (bind(psum_scatter_p, ct, axis_name=axis_name, axis=axis, tiled=tiled),)


all_gather_p: Primitive = Primitive(
    "all_gather",
    "The elements of a named axis, stacked or joined along an axis.",
    abstract=_gather_abstract,
    eager=unresolved("all_gather"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: all_gather_p, ps, ts, **params),
    transpose=_gather_transpose,
    vjp=basis.linear_pullback(_gather_transpose),
    batch=_gather_batch,
    lower=Lowering("collective", "all_gather"),
    linear="jointly",
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
)


def _scatter_abstract(x: ShapedArray, *, axis_name: Names, axis: int, tiled: bool) -> ShapedArray:
    n = size_of(axis_name[0])
    length = x.shape[axis]
    if length % n if tiled else length != n:
        wanted = f"a multiple of {n}" if tiled else f"{n}"
        raise ShapeError(
            f"psum_scatter: axis {axis} of {x} has length {length}, but the named axis "
            f"{axis_name[0]!r} needs {wanted}"
        )
    kept = (length // n,) if tiled else ()
    return x.update(shape=(*x.shape[:axis], *kept, *x.shape[axis + 1 :]))


def _scatter_batch(
    axis_: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names, axis: int,
    tiled: bool,
) -> tuple[Value, int]:  # fmt: skip
    (x,), (d,) = args, dims
    if not resolves(axis_, axis_name):
        x = basis.lead(x, d, axis_.size)
        return bind(psum_scatter_p, x, axis_name=axis_name, axis=axis + 1, tiled=tiled), 0
    n = axis_.size
    x = basis.reduce_sum(basis.lead(x, d, n), (0,))
    if tiled:
        x = basis.reshape(x, (*x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]))
    return x, axis


def _scatter_transpose(
    ct: Value, _x: Any, *, axis_name: Names, axis: int, tiled: bool
) -> tuple[Value]:
    return (bind(all_gather_p, ct, axis_name=axis_name, axis=axis, tiled=tiled),)


psum_scatter_p: Primitive = Primitive(
    "psum_scatter",
    "The sum over a named axis, of which each element keeps its part along an axis.",
    abstract=_scatter_abstract,
    eager=unresolved("psum_scatter"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: psum_scatter_p, ps, ts, **params),
    transpose=_scatter_transpose,
    vjp=basis.linear_pullback(_scatter_transpose),
    batch=_scatter_batch,
    lower=Lowering("collective", "psum_scatter"),
    linear="jointly",
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
)


def all_gather(
    x: Any, axis_name: Any, *, axis_index_groups: None = None, axis: int = 0, tiled: bool = False
) -> Any:
    """The values of `x` in all elements of a named axis.

    Args:
        x: Array or tree of arrays.
        axis_name: Name of an axis, or a tuple of names: the first varies slowest.
        axis_index_groups: Only None.
        axis: Where the values are stacked; with `tiled`, the axis along which they are joined.
        tiled: Join along an axis that exists instead of stacking along a new one.

    Returns:
        A tree like `x` with one more axis, or a longer one.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.
        AxisError: `axis` is out of range.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.all_gather(x, "i"), axis_name="i")(np.float32([1, 3]))
        Array([[1., 3.],
               [1., 3.]], dtype=float32)
    """
    no_groups("all_gather", axis_index_groups)
    names = names_of(axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        place = axis_in("all_gather", axis, value.ndim + (not tiled))
        for i, name in enumerate(reversed(names)):
            joined = tiled or i > 0  # further names join the axis that the first one made
            value = bind(all_gather_p, value, axis_name=(name,), axis=place, tiled=joined)
        return value

    with entering():
        return trees.tree_map(one, x)


def psum_scatter(
    x: Any, axis_name: Any, *, scatter_dimension: int = 0, axis_index_groups: None = None,
    tiled: bool = False,
) -> Any:  # fmt: skip
    """The sum of `x` over a named axis, of which element i gets the i-th part.

    Args:
        x: Array or tree of arrays; `scatter_dimension` has the length of the named axis, or with
            `tiled` a multiple of it.
        axis_name: Name of one axis.
        scatter_dimension: The axis that is shared out.
        axis_index_groups: Only None.
        tiled: Keep the axis, with the length of one part.

    Returns:
        A tree like `x`.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.
        ShapeError: The length does not fit the size of the named axis.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> x = np.float32([[1, 2], [3, 4]])
        >>> fg.vmap(lambda x: fg.lax.psum_scatter(x, "i"), axis_name="i")(x)
        Array([4., 6.], dtype=float32)
    """
    no_groups("psum_scatter", axis_index_groups)
    name = one_name("psum_scatter", axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        place = axis_in("psum_scatter", scatter_dimension, value.ndim)
        _scatter_abstract(value.aval, axis_name=(name,), axis=place, tiled=tiled)
        return bind(psum_scatter_p, value, axis_name=(name,), axis=place, tiled=tiled)

    with entering():
        return trees.tree_map(one, x)
