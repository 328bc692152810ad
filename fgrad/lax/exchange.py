"""Collectives that exchange: `ppermute`, `pshuffle`, `all_to_all`, `pswapaxes`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Unknown, Value
from fgrad.core.tracing import bind, entering
from fgrad.lax.collective import (
    Names,
    axis_size,
    bound,
    no_groups,
    one_name,
    resolves,
    size_of,
    unresolved,
)
from fgrad.lax.gathering import axis_in

__all__ = ["all_to_all", "ppermute", "pshuffle", "pswapaxes"]

Dims = Sequence[int | None]


def _rows_abstract(x: ShapedArray, *, axis: int, sources: tuple[int, ...]) -> ShapedArray:
    return x.update(shape=(*x.shape[:axis], len(sources), *x.shape[axis + 1 :]))


def _rows_eager(xp: Any, x: Any, *, axis: int, sources: tuple[int, ...]) -> Any:
    rows = xp.asarray(sources, np.int64)
    keep = (rows >= 0).reshape((len(sources), *(1,) * (x.ndim - axis - 1)))
    if x.shape[axis] == 0:
        return xp.zeros(_rows_abstract(x, axis=axis, sources=sources).shape, x.dtype)
    return xp.where(keep, xp.take(x, xp.maximum(rows, 0), axis=axis), xp.zeros((), x.dtype))


def _rows_transpose(ct: Value, x: Unknown, *, axis: int, sources: tuple[int, ...]) -> tuple[Value]:
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


permute_rows_p: Primitive = Primitive(
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
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
)


def _permute_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Dims, *, axis_name: Names,
    perm: tuple[tuple[int, int], ...],
) -> tuple[Value, int | None]:  # fmt: skip
    (x,), (d,) = args, dims
    if not resolves(axis, axis_name):
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


ppermute_p: Primitive = Primitive(
    "ppermute",
    "Send the elements of a named axis to one another; those that get nothing are zero.",
    abstract=lambda x, *, axis_name, perm: bound(x, axis_name),
    eager=unresolved("ppermute"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: ppermute_p, ps, ts, **params),
    transpose=_permute_transpose,
    vjp=basis.linear_pullback(_permute_transpose),
    batch=_permute_batch,
    lower=Lowering("collective", "ppermute"),
    linear="jointly",
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
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
    name = one_name("ppermute", axis_name)
    n = size_of(name)
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
    n = size_of(axis_name[0])
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
    if not resolves(axis, axis_name):
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


all_to_all_p: Primitive = Primitive(
    "all_to_all",
    "Element i of a named axis gets part i of each element, joined along an axis.",
    abstract=_exchange_abstract,
    eager=unresolved("all_to_all"),
    jvp=lambda ps, ts, **params: basis.linear_jvp(lambda: all_to_all_p, ps, ts, **params),
    transpose=_exchange_transpose,
    vjp=basis.linear_pullback(_exchange_transpose),
    batch=_exchange_batch,
    lower=Lowering("collective", "all_to_all"),
    linear="jointly",
    spec=Absent("it needs a named axis: tests/laws/test_calls.py checks functions that use it"),
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
    no_groups("all_to_all", axis_index_groups)
    name = one_name("all_to_all", axis_name)

    def one(leaf: Any) -> Value:
        value = as_value(leaf)
        split = axis_in("all_to_all: split_axis", split_axis, value.ndim)
        concat = axis_in("all_to_all: concat_axis", concat_axis, value.ndim)
        params: dict[str, Any] = {
            "axis_name": (name,), "split_axis": split, "concat_axis": concat, "tiled": tiled
        }  # fmt: skip
        _exchange_abstract(value.aval, **params)
        return bind(all_to_all_p, value, **params)

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
