"""Trees of arrays as vectors, under the name of ``jax.flatten_util``."""

from collections.abc import Callable
from typing import Any

from fgrad import numpy as fnp
from fgrad.core import trees
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.primitive import Value

__all__ = ["ravel_pytree"]


def ravel_pytree(pytree: Any) -> tuple[Value, Callable[[Value], Any]]:
    """All elements of a tree as a vector, and the function that makes a tree of such a vector.

    Args:
        pytree: A tree of arrays and numbers, of any shapes.

    Returns:
        ``(flat, unravel)``: ``flat`` is ``[n]`` in the dtype to which all leaves promote, float32
        for a tree without leaves; ``unravel(flat)`` is a tree like `pytree`, each leaf in its own
        shape and dtype.

    Raises:
        ShapeError: From `unravel`: its argument is not ``[n]``.
        DtypeError: From `unravel`: its argument has another dtype than `flat`.

    Example:
        >>> import fgrad as fg
        >>> flat, unravel = ravel_pytree({"b": 1.0, "w": fg.numpy.ones((2, 2))})
        >>> flat
        Array([1., 1., 1., 1., 1.], dtype=float32)
        >>> unravel(2.0 * flat)["w"].shape
        (2, 2)
    """
    leaves, tree = trees.flatten(pytree)
    values = [fnp.asarray(leaf) for leaf in leaves]
    shapes = [x.shape for x in values]
    kinds = [x.dtype for x in values]
    flat = fnp.concatenate([x.reshape(-1) for x in values]) if values else fnp.zeros(0)
    # A number's weak type ends here: a vector of parameters has one dtype.
    flat = fnp.astype(flat, flat.dtype)

    def unravel(vector: Value) -> Any:
        x = fnp.asarray(vector)
        if x.shape != flat.shape:
            raise ShapeError(f"unravel: the vector must be {flat.aval}, got {x.aval}")
        if x.dtype != flat.dtype:
            raise DtypeError(
                f"unravel: the vector must be {flat.aval}, got {x.aval}; convert it with "
                f"astype('{flat.dtype}')"
            )
        parts, start = [], 0
        for shape, kind in zip(shapes, kinds, strict=True):
            size = 1
            for n in shape:
                size *= n
            parts.append(fnp.astype(x[start : start + size].reshape(shape), kind))
            start += size
        return trees.unflatten(tree, parts)

    return flat, unravel
