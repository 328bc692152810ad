"""Choosing between values element by element; the primitive is `select_n` of the basis."""

from typing import Any

from fgrad.core import basis
from fgrad.core.basis import select_n_p
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.lax.operands import operands

__all__ = ["select", "select_n", "select_n_p"]


def select_n(which: Any, *cases: Any) -> Value:
    """The case that `which` names, element by element.

    Args:
        which: bool (two cases; False names the first) or int32, broadcast with the cases.
        *cases: Values of one dtype; of two, one may be a Python number.

    Raises:
        DtypeError: `which` is of another dtype, or the cases differ in theirs.

    Example:
        >>> import numpy as np
        >>> select_n(np.array([False, True]), np.float32(1), np.float32(2))
        Array([1., 2.], dtype=float32)
    """
    if not cases:
        raise ShapeError("select_n needs at least one case")
    values = operands(*cases) if len(cases) == 2 else tuple(map(as_value, cases))
    return basis.select_n(as_value(which), *values)


def select(pred: Any, on_true: Any, on_false: Any) -> Value:
    """``on_true`` where `pred`, else ``on_false``, element by element.

    Args:
        pred: bool, broadcast with the others.
        on_true: Value where it is true.
        on_false: Value of the same dtype where it is false.

    Raises:
        DtypeError: `pred` is not bool, or the dtypes differ.

    Example:
        >>> import numpy as np
        >>> select(np.array([False, True]), np.float32(1), np.float32(2))
        Array([2., 1.], dtype=float32)
    """
    value = as_value(pred)
    if value.dtype.kind != "b":
        raise DtypeError(f"select takes a bool predicate, got {value.aval}; compare it first")
    return select_n(value, on_false, on_true)
