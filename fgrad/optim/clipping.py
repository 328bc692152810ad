"""Bounding the size of updates."""

import fgrad.numpy as fnp
from fgrad import tree_util
from fgrad.core.errors import ArgumentError
from fgrad.optim._leaves import PyTree, Value, cast, scaled, squared_magnitude, widen
from fgrad.optim.base import GradientTransformation, init_empty_state


def global_norm(updates: PyTree) -> Value:
    """Euclidean norm of all elements of a tree together.

    Args:
        updates: Tree of arrays, any shapes, float or complex dtypes.

    Returns:
        Scalar ``√(Σ |x|²)``, at least float32 (float64 where a leaf is); 0 for an empty tree. Its
        derivative at 0 is 0.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> print(optim.global_norm([np.float32(3.0), np.full(4, 2.0, np.float32)]))
        5.0
    """
    squares = [fnp.sum(squared_magnitude(widen(leaf))) for leaf in tree_util.tree_leaves(updates)]
    if not squares:
        return fnp.zeros((), dtype=fnp.float32)
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    # sqrt has an infinite slope at 0; the inner select keeps it out of the derivative.
    is_zero = total == 0
    return fnp.where(is_zero, fnp.zeros_like(total), fnp.sqrt(fnp.where(is_zero, 1, total)))


def clip(max_delta: float | Value) -> GradientTransformation:
    """Clip each element of the updates to [-max_delta, max_delta].

    Args:
        max_delta: A non-negative scalar.

    Returns:
        A stateless transformation.

    Raises:
        ArgumentError: ``max_delta`` is negative.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> step = optim.clip(1.0)
        >>> print(step.update(np.array([-3.0, 0.5], np.float32), step.init(None))[0])
        [-1.   0.5]
    """
    if isinstance(max_delta, (int, float)) and not max_delta >= 0:
        message = f"clip: max_delta must not be negative, got {max_delta}"
        raise ArgumentError(message)

    def update(updates: PyTree, state: PyTree, _params: PyTree = None) -> tuple[PyTree, PyTree]:
        def clipped(g: Value) -> Value:
            wide = widen(g)
            return cast(fnp.clip(wide, -max_delta, max_delta), g)

        return tree_util.tree_map(clipped, updates), state

    return GradientTransformation(init_empty_state, update)


def clip_by_global_norm(max_norm: float | Value) -> GradientTransformation:
    """Scale all updates by one factor so that their global norm is at most ``max_norm``.

    Updates within the bound are returned bit for bit. A NaN stays visible.

    Args:
        max_norm: A positive scalar.

    Returns:
        A stateless transformation.

    Raises:
        ArgumentError: ``max_norm`` is not positive.

    Source:
        Pascanu, Mikolov and Bengio, *On the difficulty of training Recurrent Neural Networks*,
        arXiv:1211.5063, algorithm 1.

    Example:
        >>> import numpy as np
        >>> import fgrad.optim as optim
        >>> step = optim.clip_by_global_norm(1.0)
        >>> print(step.update(np.array([3.0, 4.0], np.float32), step.init(None))[0])
        [0.6 0.8]
    """
    if isinstance(max_norm, (int, float)) and not max_norm > 0:
        message = f"clip_by_global_norm: max_norm must be positive, got {max_norm}"
        raise ArgumentError(message)

    def update(updates: PyTree, state: PyTree, _params: PyTree = None) -> tuple[PyTree, PyTree]:
        norm = global_norm(updates)
        exceeds = norm > max_norm
        factor = fnp.where(exceeds, max_norm / fnp.where(exceeds, norm, 1), 1)
        return tree_util.tree_map(lambda g: scaled(g, factor), updates), state

    return GradientTransformation(init_empty_state, update)
