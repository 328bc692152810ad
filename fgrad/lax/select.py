"""Choices between values, element by element."""

from typing import Any

from fgrad.core import basis
from fgrad.core.basis import select_n_p
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.lax.operands import operands

__all__ = ["select", "select_n", "select_n_p"]


def select_n(which: Any, *cases: Any) -> Value:
    """For each element the case that ``which`` names; operands broadcast.

    Args:
        which: ``[...]``, bool (two cases; False names the first) or int32 (the index of the case).
        *cases: Arrays of one dtype; of two, one may be a Python number.

    Returns:
        The broadcast shape, the dtype of the cases.

    Derivatives:
        The tangent of the case chosen; the others contribute nothing, not even NaN.

    Example:
        >>> select_n(np.array([False, True]), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        Array([1., 4.], dtype=float64)
    """
    values = operands(*cases) if len(cases) == 2 else tuple(map(as_value, cases))
    return basis.select_n(as_value(which), *values)


def select(pred: Any, on_true: Any, on_false: Any) -> Value:
    """``on_true`` where ``pred`` (bool) holds, ``on_false`` elsewhere; operands broadcast.

    Example:
        >>> select(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
        Array([1., 0.], dtype=float64)
    """
    return select_n(pred, on_false, on_true)
