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
from fgrad.core.errors import ArgumentError, AxisError, AxisNameError, DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Unknown, Value
from fgrad.core.tracing import bind, entering, state
from fgrad.lax.arithmetic import div, mul
from fgrad.lax.compare import eq
from fgrad.lax.creation import iota
from fgrad.lax.reduce import reduce_max, reduce_min

__all__ = [
    "all_gather", "all_to_all", "axis_index", "axis_size", "pmax", "pmean", "pmin", "ppermute",
    "pshuffle", "pswapaxes", "psum", "psum_scatter",
]  # fmt: skip

Dims = Sequence[int | None]
Names = tuple[Any, ...]


def _size_of(name: Any) -> int:
    """The size of the innermost open axis of that name."""
    for axis in reversed(state.axes):
        if axis.name == name:
            return axis.size  # type: ignore[no-any-return]
    opened = ", ".join(repr(a.name) for a in state.axes) or "none"
    raise AxisNameError(
        f"the axis name {name!r} is not bound here (bound: {opened}); call the function under "
        f"vmap(f, axis_name={name!r})"
    )


def _names(axis_name: Any) -> Names:
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    for name in names:
        _size_of(name)
    return names


def _no_groups(name: str, groups: Any) -> None:
    if groups is not None:
        raise ArgumentError(
            f"{name}: axis_index_groups is not supported; nest two vmaps with a name each instead"
        )


def _unresolved(name: str) -> Callable[..., Any]:
    def eager(_xp: Any, *_arrays: Any, axis_name: Names, **_params: Any) -> Any:
        for n in axis_name:
            _size_of(n)
        raise AxisNameError(f"{name}: the axis {axis_name} was left without its vmap")

    return eager


def _resolves(axis: MappedAxis, names: Names) -> bool:
    return axis.name is not None and axis.name in names


def _rest(axis: MappedAxis, names: Names) -> Names:
    """The names without the innermost mention of the axis's."""
    return tuple(n for n in names if n != axis.name)


def _bound(aval: ShapedArray, axis_name: Names) -> ShapedArray:
    for name in axis_name:
        _size_of(name)
    return aval


# -------------------------------------------------------------------------- psum, pmean, pmax, pmin


def _psum_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names
) -> tuple[Value, int | None]:
    (x,), (d,) = args, dims
    if not _resolves(axis, axis_name):
        return bind(psum_p, x, axis_name=axis_name), d
    if d is None:
        x = mul(x, basis.scalar(axis.size, x.dtype))
    else:
        x = basis.reduce_sum(x, (d,))
    rest = _rest(axis, axis_name)
    return (bind(psum_p, x, axis_name=rest) if rest else x), None


psum_p = Primitive(
    "psum",
    "Sum over named axes.",
    abstract=lambda x, *, axis_name: _bound(x, axis_name),
    eager=_unresolved("psum"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: psum_p, ps, ts, **params),
    transpose=lambda ct, _x, *, axis_name: (bind(psum_p, ct, axis_name=axis_name),),
    vjp=basis.linear_pullback(
        lambda ct, _x, *, axis_name: (bind(psum_p, ct, axis_name=axis_name),)
    ),
    batch=_psum_batch,
    lower=Lowering("collective", "psum"),
    linear="jointly",
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
    _no_groups("psum", axis_index_groups)
    names = _names(axis_name)

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
    _no_groups("pmean", axis_index_groups)
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
        if not _resolves(axis, axis_name):
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
        abstract=lambda x, *, axis_name: _bound(x, axis_name),
        eager=_unresolved(name),
        jvp=jvp,
        transpose=Absent("not linear"),
        batch=batch,
        lower=Lowering("collective", name),
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
    _no_groups(prim.name, groups)
    names = _names(axis_name)
    with entering():
        return trees.tree_map(lambda leaf: bind(prim, as_value(leaf), axis_name=names), x)


# -------------------------------------------------------------------- all_gather and psum_scatter


def _gather_abstract(
    x: ShapedArray, *, axis_name: Names, axis: int, tiled: bool
) -> ShapedArray:
    n = _size_of(axis_name[0])
    shape = list(x.shape)
    if tiled:
        shape[axis] *= n
    else:
        shape.insert(axis, n)
    return x.update(shape=tuple(shape))


def _beside(position: int, dim: int) -> int:
    """Where an axis of the element stands in the batch whose mapped axis is `dim`."""
    return position + (position >= dim)


def _gather_batch(
    axis_: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names, axis: int,
    tiled: bool,
) -> tuple[Value, int | None]:  # fmt: skip
    (x,), (d,) = args, dims
    if not _resolves(axis_, axis_name):
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


all_gather_p = Primitive(
    "all_gather",
    "The elements of a named axis, stacked or joined along an axis.",
    abstract=_gather_abstract,
    eager=_unresolved("all_gather"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: all_gather_p, ps, ts, **params),
    transpose=_gather_transpose,
    vjp=basis.linear_pullback(_gather_transpose),
    batch=_gather_batch,
    lower=Lowering("collective", "all_gather"),
    linear="jointly",
)


def _scatter_abstract(
    x: ShapedArray, *, axis_name: Names, axis: int, tiled: bool
) -> ShapedArray:
    n = _size_of(axis_name[0])
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
    if not _resolves(axis_, axis_name):
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


psum_scatter_p = Primitive(
    "psum_scatter",
    "The sum over a named axis, of which each element keeps its part along an axis.",
    abstract=_scatter_abstract,
    eager=_unresolved("psum_scatter"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: psum_scatter_p, ps, ts, **params),
    transpose=_scatter_transpose,
    vjp=basis.linear_pullback(_scatter_transpose),
    batch=_scatter_batch,
    lower=Lowering("collective", "psum_scatter"),
    linear="jointly",
)


def _axis_in(name: str, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise AxisError(f"{name}: axis {axis} is out of range for {rank} axes")
    return axis % rank


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
    _no_groups("all_gather", axis_index_groups)
    names = _names(axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        place = _axis_in("all_gather", axis, value.ndim + (not tiled))
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
    _no_groups("psum_scatter", axis_index_groups)
    name = _one_name("psum_scatter", axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        place = _axis_in("psum_scatter", scatter_dimension, value.ndim)
        return bind(psum_scatter_p, value, axis_name=(name,), axis=place, tiled=tiled)

    with entering():
        return trees.tree_map(one, x)


def _one_name(name: str, axis_name: Any) -> Any:
    names = _names(axis_name)
    if len(names) != 1:
        raise ArgumentError(f"{name} takes one axis name, got {names}")
    return names[0]


# ------------------------------------------------------------------------------------ permutations


def _rows_abstract(x: ShapedArray, *, axis: int, sources: tuple[int, ...]) -> ShapedArray:
    return x.update(shape=(*x.shape[:axis], len(sources), *x.shape[axis + 1 :]))


def _rows_eager(xp: Any, x: Any, *, axis: int, sources: tuple[int, ...]) -> Any:
    rows = xp.asarray(sources, np.int64)
    keep = (rows >= 0).reshape((len(sources), *(1,) * (x.ndim - axis - 1)))
    if x.shape[axis] == 0:
        return xp.zeros(_rows_abstract(x, axis=axis, sources=sources).shape, x.dtype)
    return xp.where(keep, xp.take(x, xp.maximum(rows, 0), axis=axis), xp.zeros((), x.dtype))


def _rows_transpose(
    ct: Value, x: Unknown, *, axis: int, sources: tuple[int, ...]
) -> tuple[Value]:
    back = [-1] * x.aval.shape[axis]
    for i, s in enumerate(sources):
        if s >= 0:
            back[s] = i
    return (bind(permute_rows_p, ct, axis=axis, sources=tuple(back)),)


def _rows_batch(
    axis_: MappedAxis, args: Sequence[Value], dims: Dims, *, axis: int, sources: tuple[int, ...]
) -> tuple[Value, int]:
    x = basis.lead(args[0], dims[0], axis_.size)
    return bind(permute_rows_p, x, axis=axis + 1, sources=sources), 0


permute_rows_p = Primitive(
    "permute_rows",
    "Rows along an axis in another order, each used once at most; -1 stands for zeros.",
    abstract=_rows_abstract,
    eager=_rows_eager,
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: permute_rows_p, ps, ts, **params),
    transpose=_rows_transpose,
    vjp=basis.linear_pullback(_rows_transpose),
    batch=_rows_batch,
    lower=Lowering("view", "permute_rows"),
    linear="jointly",
)


def _permute_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names,
    perm: tuple[tuple[int, int], ...],
) -> tuple[Value, int | None]:  # fmt: skip
    (x,), (d,) = args, dims
    if not _resolves(axis, axis_name):
        return bind(ppermute_p, x, axis_name=axis_name, perm=perm), d
    sources = [-1] * axis.size
    for source, target in perm:
        sources[target] = source
    rows = basis.lead(x, d, axis.size)
    return bind(permute_rows_p, rows, axis=0, sources=tuple(sources)), 0


def _permute_transpose(
    ct: Value, _x: Any, *, axis_name: Names, perm: tuple[tuple[int, int], ...]
) -> tuple[Value]:
    back = tuple((target, source) for source, target in perm)
    return (bind(ppermute_p, ct, axis_name=axis_name, perm=back),)


ppermute_p = Primitive(
    "ppermute",
    "Send the elements of a named axis to one another; those that get nothing are zero.",
    abstract=lambda x, *, axis_name, perm: _bound(x, axis_name),  # noqa: ARG005
    eager=_unresolved("ppermute"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: ppermute_p, ps, ts, **params),
    transpose=_permute_transpose,
    vjp=basis.linear_pullback(_permute_transpose),
    batch=_permute_batch,
    lower=Lowering("collective", "ppermute"),
    linear="jointly",
)


def ppermute(x: Any, axis_name: Any, perm: Sequence[tuple[int, int]]) -> Any:
    """Send `x` from one element of a named axis to another.

    Args:
        x: Array or tree of arrays.
        axis_name: Name of one axis.
        perm: Pairs (source, target); no source and no target twice. Elements that are no target
            get zeros.

    Returns:
        A tree like `x`.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.
        ArgumentError: An index is out of range or given twice.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.ppermute(x, "i", [(0, 1)]), axis_name="i")(np.float32([5, 7]))
        Array([0., 5.], dtype=float32)
    """
    name = _one_name("ppermute", axis_name)
    n = _size_of(name)
    pairs = tuple((int(s), int(t)) for s, t in perm)
    for ends in zip(*pairs, strict=True):
        if len(set(ends)) != len(ends) or any(not 0 <= i < n for i in ends):
            raise ArgumentError(
                f"ppermute over {name!r} of size {n}: sources and targets must lie in the axis and "
                f"occur once each, got {list(pairs)}"
            )
    with entering():
        return trees.tree_map(
            lambda leaf: bind(ppermute_p, as_value(leaf), axis_name=(name,), perm=pairs), x
        )


def pshuffle(x: Any, axis_name: Any, perm: Sequence[int]) -> Any:
    """Element i of a named axis gets `x` of element ``perm[i]``; see `ppermute`.

    Raises:
        ArgumentError: `perm` is no permutation of the axis.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.vmap(lambda x: fg.lax.pshuffle(x, "i", [1, 0]), axis_name="i")(np.float32([5, 7]))
        Array([7., 5.], dtype=float32)
    """
    n = axis_size(axis_name)
    if sorted(perm) != list(range(n)):
        raise ArgumentError(
            f"pshuffle over {axis_name!r}: perm must hold each of 0, …, {n - 1} once, got "
            f"{list(perm)}"
        )
    return ppermute(x, axis_name, list(zip(perm, range(n), strict=True)))


# -------------------------------------------------------------------------------------- all_to_all


def _exchange_abstract(
    x: ShapedArray, *, axis_name: Names, split_axis: int, concat_axis: int, tiled: bool
) -> ShapedArray:
    n = _size_of(axis_name[0])
    length = x.shape[split_axis]
    if length % n if tiled else length != n:
        wanted = f"a multiple of {n}" if tiled else f"{n}"
        raise ShapeError(
            f"all_to_all: axis {split_axis} of {x} has length {length}, but the named axis "
            f"{axis_name[0]!r} needs {wanted}"
        )
    shape = list(x.shape)
    if tiled:
        shape[split_axis] //= n
        shape[concat_axis] *= n
    else:
        del shape[split_axis]
        shape.insert(concat_axis, n)
    return x.update(shape=tuple(shape))


def _exchange_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names, split_axis: int,
    concat_axis: int, tiled: bool,
) -> tuple[Value, int]:  # fmt: skip
    x = basis.lead(args[0], dims[0], axis.size)
    if not _resolves(axis, axis_name):
        out = bind(
            all_to_all_p, x, axis_name=axis_name, split_axis=split_axis + 1,
            concat_axis=concat_axis + 1, tiled=tiled,
        )  # fmt: skip
        return out, 0
    n = axis.size
    split = split_axis + 1
    if tiled:
        x = basis.reshape(x, (*x.shape[:split], n, x.shape[split] // n, *x.shape[split + 1 :]))
    # The receiver's axis goes first; the sender's, which was first, goes where parts are joined.
    x = basis.moveaxis(x, split, 0)
    x = basis.moveaxis(x, 1, concat_axis + 1)
    if tiled:
        at = concat_axis + 1
        x = basis.reshape(x, (*x.shape[:at], n * x.shape[at + 1], *x.shape[at + 2 :]))
    return x, 0


def _exchange_transpose(
    ct: Value, _x: Any, *, axis_name: Names, split_axis: int, concat_axis: int, tiled: bool
) -> tuple[Value]:
    back = bind(
        all_to_all_p, ct, axis_name=axis_name, split_axis=concat_axis, concat_axis=split_axis,
        tiled=tiled,
    )  # fmt: skip
    return (back,)


all_to_all_p = Primitive(
    "all_to_all",
    "Element i of a named axis gets part i of each element, joined along an axis.",
    abstract=_exchange_abstract,
    eager=_unresolved("all_to_all"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: all_to_all_p, ps, ts, **params),
    transpose=_exchange_transpose,
    vjp=basis.linear_pullback(_exchange_transpose),
    batch=_exchange_batch,
    lower=Lowering("collective", "all_to_all"),
    linear="jointly",
)


def all_to_all(
    x: Any, axis_name: Any, split_axis: int, concat_axis: int, *, axis_index_groups: None = None,
    tiled: bool = False,
) -> Any:  # fmt: skip
    """Split `x` along an axis; element i of the named axis gets part i of every element.

    Args:
        x: Array or tree of arrays; `split_axis` has the length of the named axis, or with `tiled` a
            multiple of it.
        axis_name: Name of one axis.
        split_axis: The axis that is split; without `tiled` it goes.
        concat_axis: Where the parts are stacked; with `tiled`, the axis along which they are
            joined.
        axis_index_groups: Only None.
        tiled: Split and join axes that stay.

    Returns:
        A tree like `x`.

    Raises:
        AxisNameError: No enclosing `vmap` has that name.
        ShapeError: The length does not fit the size of the named axis.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> x = np.float32([[1, 2], [3, 4]])
        >>> fg.vmap(lambda x: fg.lax.all_to_all(x, "i", 0, 0), axis_name="i")(x)
        Array([[1., 3.],
               [2., 4.]], dtype=float32)
    """
    _no_groups("all_to_all", axis_index_groups)
    name = _one_name("all_to_all", axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        split = _axis_in("all_to_all: split_axis", split_axis, value.ndim)
        concat = _axis_in("all_to_all: concat_axis", concat_axis, value.ndim)
        return bind(
            all_to_all_p, value, axis_name=(name,), split_axis=split, concat_axis=concat,
            tiled=tiled,
        )  # fmt: skip

    with entering():
        return trees.tree_map(one, x)


def pswapaxes(x: Any, axis_name: Any, axis: int, *, axis_index_groups: None = None) -> Any:
    """Swap a named axis with an axis of `x` of the same length; see `all_to_all`.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> x = np.float32([[1, 2], [3, 4]])
        >>> fg.vmap(lambda x: fg.lax.pswapaxes(x, "i", 0), axis_name="i")(x)
        Array([[1., 3.],
               [2., 4.]], dtype=float32)
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


# -------------------------------------------------------------------------- axis_index, axis_size


axis_index_p = Primitive(
    "axis_index",
    "The position along a named axis.",
    abstract=lambda *, axis_name: _bound(ShapedArray((), np.dtype(np.int32)), axis_name),
    eager=_unresolved("axis_index"),
    jvp=Absent("it has no operand"),
    transpose=Absent("it has no operand"),
    vjp=Absent("it has no operand"),
    batch=lambda axis, _args, _dims, **_params: (iota(np.int32, axis.size), 0),
    lower=Lowering("collective", "axis_index"),
    differentiable=False,
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
    names = _names(axis_name)
    with entering():
        index: Value = bind(axis_index_p, axis_name=names[:1])
        for name in names[1:]:
            own = bind(axis_index_p, axis_name=(name,))
            index = basis.add_any(mul(index, _size_of(name)), own)
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
    for name in _names(axis_name):
        size *= _size_of(name)
    return size
