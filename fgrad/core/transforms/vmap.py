"""`vmap`: the public face of batching."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.avals import integer
from fgrad.core.errors import ArgumentError, AxisError, DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, borrow, is_buffer
from fgrad.core.primitive import MappedAxis, Value
from fgrad.core.tracing import Array, entering
from fgrad.core.transforms.batch import batch_flat
from fgrad.core.transforms.flat import FlatCall, name_of, refused

Fun = Callable[..., Any]


def vmap(
    fun: Fun,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
) -> Fun:
    """A function over batches from a function of one element.

    Args:
        fun: Function of arrays or trees of arrays.
        in_axes: For each positional argument the axis that is mapped, or None: an integer, or a
            tuple or list of trees that are prefixes of the arguments. Keyword arguments are mapped
            along axis 0. What is not mapped and is no array reaches `fun` as it is.
        out_axes: Where the mapped axis goes in the outputs; a prefix of the output tree. None for
            an output that is the same for all.
        axis_name: Name of the axis, for collectives such as `fgrad.lax.psum`.
        axis_size: Its size; needed only where no argument is mapped.

    Returns:
        The batched function: one pass, no loop.

    Raises:
        AxisError: An axis does not exist.
        ShapeError: Sizes of the mapped axes differ, or nothing is mapped.
        TreeError: `in_axes` or `out_axes` is no prefix of the arguments or outputs.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.vmap(lambda x, y: x * y, in_axes=(0, None))(fnp.arange(3.0), 2.0)
        Array([0., 2., 4.], dtype=float32)
    """
    if not callable(fun):
        raise ArgumentError(f"vmap takes a function, got {type(fun).__name__}")
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if axis_size is not None:
        axis_size = integer(axis_size, f"vmap of {name_of(fun)}: axis_size")
        if axis_size < 0:
            raise ShapeError(
                f"vmap of {name_of(fun)}: axis_size must not be negative, got {axis_size}"
            )

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def batched(*args: Any, **kwargs: Any) -> Any:
        axes = in_axes
        if isinstance(axes, tuple) and len(axes) != len(args):
            raise ShapeError(
                f"vmap of {name_of(fun)}: in_axes has {len(axes)} entries {axes}, but the function "
                f"was called with {len(args)} positional arguments"
            )
        leaves, tree = trees.flatten((args, kwargs))
        flat_axes = trees.flatten_axes(
            (axes, 0 if kwargs else None), trees.structure((args, kwargs)), name="in_axes"
        )
        values = _values(fun, leaves, flat_axes, (*enumerate(args), *kwargs.items()))
        dims = [_dim(fun, x, d) for x, d in zip(values, flat_axes, strict=True)]
        size = _size(fun, values, dims, axis_size)

        call = FlatCall(
            lambda parts, keywords: fun(*parts, **keywords),
            lambda *flat: trees.unflatten(tree, flat),
            {},
        )
        with entering():
            outs, out_dims = batch_flat(call, MappedAxis(axis_name, size, object()), values, dims)
            wanted = trees.flatten_axes(out_axes, call.out_tree, name="out_axes")
            placed = [
                _place(fun, x, d, w, size) for x, d, w in zip(outs, out_dims, wanted, strict=True)
            ]
        # A result may not be a buffer that the caller can write to.
        kept = [x.owned() if type(x) is ArrayImpl else x for x in placed]
        return trees.unflatten(call.out_tree, kept)

    return batched


def _values(
    fun: Fun, leaves: Sequence[Any], axes: Sequence[Any], args: Sequence[tuple[Any, Any]]
) -> list[Any]:
    """The leaves as values; what is neither mapped nor an array stays as it is."""
    try:
        return [
            borrow(x) if d is not None or _is_array(x) else x
            for x, d in zip(leaves, axes, strict=True)
        ]
    except DtypeError:
        advice = "pass it by position, with None in in_axes, or close over it"
        raise refused(f"vmap of {name_of(fun)}", args, advice) from None


def _is_array(x: Any) -> bool:
    """Whether `x` is an array of any library."""
    return isinstance(x, (Array, np.ndarray, np.generic)) or is_buffer(x)


def _dim(fun: Fun, x: Value, axis: Any) -> int | None:
    if axis is None:
        return None
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise AxisError(f"vmap of {name_of(fun)}: in_axes takes integers and None, got {axis!r}")
    ndim: int = x.ndim
    if not -ndim <= axis < ndim:
        raise AxisError(
            f"vmap of {name_of(fun)}: axis {axis} is out of range for the argument {x.aval} with "
            f"{ndim} axes; use None for arguments that are the same for all"
        )
    return axis % ndim


def _size(
    fun: Fun, values: Sequence[Value], dims: Sequence[int | None], axis_size: int | None
) -> int:
    sizes: dict[int, tuple[Value, int | None]] = {
        x.shape[d]: (x, d) for x, d in zip(values, dims, strict=True) if d is not None
    }
    if axis_size is not None:
        sizes.setdefault(axis_size, (None, None))
    if not sizes:
        raise ShapeError(
            f"vmap of {name_of(fun)} maps no argument: in_axes is None for all; give axis_size"
        )
    if len(sizes) > 1:
        found = ", ".join(
            f"{n} (axis {d} of {x.aval})" if x is not None else f"{n} (axis_size)"
            for n, (x, d) in sizes.items()
        )
        raise ShapeError(f"vmap of {name_of(fun)}: mapped axes differ in size: {found}")
    return next(iter(sizes))


def _place(fun: Fun, x: Value, dim: int | None, wanted: Any, size: int) -> Value:
    if wanted is None:
        if dim is not None:
            raise AxisError(
                f"vmap of {name_of(fun)}: out_axes is None for an output that depends on the "
                f"mapped axis, {x.aval} along axis {dim}; give an axis, or reduce over it"
            )
        return x
    rank = x.ndim + (dim is None)
    if not isinstance(wanted, int) or not -rank <= wanted < rank:
        raise AxisError(
            f"vmap of {name_of(fun)}: out_axes {wanted!r} is out of range for an output with "
            f"{rank} axes"
        )
    return basis.moveaxis(basis.lead(x, dim, size) if dim is None else x, dim or 0, wanted % rank)
