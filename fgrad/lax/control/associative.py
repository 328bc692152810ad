"""`associative_scan`: all prefixes of an associative operation, in logarithmic depth."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis, trees
from fgrad.core.avals import integer
from fgrad.core.errors import AxisError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import entering
from fgrad.core.transforms.flat import name_of
from fgrad.lax.control.programs import check_like
from fgrad.lax.joining import concatenate
from fgrad.lax.shape import rev
from fgrad.lax.slicing import slice_in_dim


def associative_scan(
    fn: Callable[..., Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """All prefixes ``e₀, e₀∘e₁, e₀∘e₁∘e₂, …`` of an associative operation.

    Args:
        fn: ``fn(a, b)`` combines two trees like `elems`, along all of `axis` at once.
        elems: Arrays or trees of arrays of one length along `axis`.
        reverse: Suffixes instead, from the last element on.
        axis: The axis along which elements follow each other.

    Returns:
        A tree like `elems`.

    Raises:
        AxisError: An array has no such axis.
        ShapeError: Lengths along `axis` differ, or `fn` changes shapes.
        TreeError: `fn` changes the structure.

    Source:
        Blelloch, *Prefix Sums and Their Applications*, CMU-CS-90-190, 1990.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.associative_scan(fg.lax.add, np.float32([1, 2, 3]))
        Array([1., 3., 6.], dtype=float32)
    """
    leaves, tree = trees.flatten(elems)
    values = [as_value(x) for x in leaves]
    if not values:
        return elems
    axes = [_axis(x, axis) for x in values]
    lengths = {x.shape[a] for x, a in zip(values, axes, strict=True)}
    if len(lengths) > 1:
        raise ShapeError(
            f"associative_scan: elems must have one length along axis {axis}, got "
            f"{', '.join(str(x.aval) for x in values)}"
        )
    with entering():
        # The recursion sees the scanned axis first.
        moved = [basis.moveaxis(x, a, 0) for x, a in zip(values, axes, strict=True)]
        if reverse:
            moved = [rev(x, (0,)) for x in moved]
        outs = _prefixes(_combiner(fn, tree, axes), moved)
        if reverse:
            outs = [rev(x, (0,)) for x in outs]
        placed = [basis.moveaxis(x, 0, a) for x, a in zip(outs, axes, strict=True)]
    return trees.unflatten(tree, placed)


def _axis(x: Value, axis: int) -> int:
    axis = integer(axis, "associative_scan: axis")
    if not -x.ndim <= axis < x.ndim:
        raise AxisError(f"associative_scan: axis {axis} is out of range for {x.aval}")
    ndim: int = x.ndim
    return axis % ndim


def _combiner(fn: Callable[..., Any], tree: Any, axes: Sequence[int]) -> Any:
    def combine(xs: Sequence[Value], ys: Sequence[Value]) -> list[Value]:
        a = [basis.moveaxis(x, 0, i) for x, i in zip(xs, axes, strict=True)]
        b = [basis.moveaxis(y, 0, i) for y, i in zip(ys, axes, strict=True)]
        out, got = trees.flatten(fn(trees.unflatten(tree, a), trees.unflatten(tree, b)))
        values = [as_value(v) for v in out]
        check_like(
            f"the result of {name_of(fn)} in associative_scan: its operands", tree,
            [v.aval for v in a], got, [v.aval for v in values], "return what it is given",
        )  # fmt: skip
        return [basis.moveaxis(v, i, 0) for v, i in zip(values, axes, strict=True)]

    return combine


def _prefixes(combine: Any, xs: list[Value]) -> list[Value]:
    """Combine neighbours, scan those, and fill in what lies between."""
    n = xs[0].shape[0]
    if n < 2:
        return xs
    pairs = combine(
        [slice_in_dim(x, 0, n - 1, 2) for x in xs], [slice_in_dim(x, 1, n, 2) for x in xs]
    )
    odd = _prefixes(combine, pairs)
    before = [slice_in_dim(y, 0, (n - 1) // 2) for y in odd]
    even = combine(before, [slice_in_dim(x, 2, n, 2) for x in xs]) if n > 2 else before
    first = [slice_in_dim(x, 0, 1) for x in xs]
    whole = [concatenate([f, e], 0) if n > 2 else f for f, e in zip(first, even, strict=True)]
    return [_interleave(e, o) for e, o in zip(whole, odd, strict=True)]


def _interleave(even: Value, odd: Value) -> Value:
    """``even[0], odd[0], even[1], …``; `even` may be one longer."""
    n = odd.shape[0]
    rest = even.shape[1:]
    rows = [basis.reshape(slice_in_dim(x, 0, n), (n, 1, *rest)) for x in (even, odd)]
    mixed = basis.reshape(concatenate(rows, 1), (2 * n, *rest))
    if even.shape[0] == n:
        return mixed
    return concatenate([mixed, slice_in_dim(even, n, n + 1)], 0)
