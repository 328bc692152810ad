"""How operands become values of one dtype: promotion, with exact Python numbers kept weak.

A Python number is converted once, straight to the dtype that promotion finds, so that
``float64_array + 0.1`` adds the double 0.1.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.basis import convert_element_type
from fgrad.core.config import config
from fgrad.core.dtype_kinds import BF16, F16, NATIVE
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import WEAK, ArrayImpl, as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array

NUMBERS = (bool, int, float, complex)
_PYTHON = frozenset(NUMBERS)
# The numbers of the dtypes in which functions such as sin compute.
_INEXACT = NATIVE["f"] | NATIVE["c"] | {F16.num, BF16.num}


def value(x: Any, name: str = "", argument: str = "") -> Value:
    """The value of an array or number; lists and tuples are refused, as an implicit conversion.

    Raises:
        DtypeError: `x` is neither an array nor a number.
    """
    if isinstance(x, Array):
        return x
    if isinstance(x, list | tuple):
        where = f"{name}: {argument or 'an argument'} is" if name else "expected an array, got"
        raise DtypeError(
            f"{where} a Python {type(x).__name__}; convert it with fgrad.numpy.asarray, or stack "
            f"its items with fgrad.numpy.stack"
        )
    return as_value(x)


def pair(x: Any) -> dtypes.Pair:
    """Dtype and weakness of a value or Python number."""
    kind = type(x)
    if kind in _PYTHON:
        return dtypes.scalar_pair(kind)
    return x.dtype, x.weak_type


def number(x: Any, dtype: np.dtype[Any], *, weak: bool = True) -> Value:
    """The constant `x`, a Python number, in that dtype.

    Raises:
        DtypeError: An integer that does not fit.
    """
    try:
        if type(x) is int and dtype.kind not in "iub":
            x = float(x)  # the small floats of ml_dtypes take no integer beyond 64 bits
        return ArrayImpl(np.asarray(x, dtype), WEAK if weak and dtype.kind != "b" else 0)
    except OverflowError:
        raise DtypeError(
            f"the Python integer {x} does not fit {dtype}; convert the array to a wider dtype "
            f"with astype first"
        ) from None


def to(x: Any, dtype: np.dtype[Any], weak: bool = False) -> Value:
    """`x`, a value or Python number, in that dtype."""
    if type(x) in _PYTHON:
        return number(x, dtype, weak=weak)
    if x.dtype == dtype:
        return x
    return convert_element_type(x, dtype, weak_type=weak)


def stated(x: Any, dtype: np.dtype[Any]) -> Value:
    """An operand in a stated dtype, a Python number as it is written: 0.1 is another in float32."""
    return to(x if type(x) in _PYTHON else value(x), dtype)


def check_ranks(name: str, values: Sequence[Any]) -> None:
    """Honour ``config.numpy_rank_promotion`` for operands of unequal rank; scalars are exempt."""
    if config.numpy_rank_promotion == "allow":
        return
    ranks = {n for n in (getattr(x, "ndim", 0) for x in values) if n}
    if len(ranks) > 1:
        shapes = ", ".join(str(list(getattr(x, "shape", ()))) for x in values)
        message = (
            f"{name}: operands of shapes {shapes} have unequal ranks, and numpy_rank_promotion is "
            f"{config.numpy_rank_promotion!r}; add axes of length 1 with expand_dims"
        )
        if config.numpy_rank_promotion == "raise":
            raise ShapeError(message)
        warnings.warn(message, stacklevel=4)


def operands(name: str, args: Sequence[Any]) -> list[Any]:
    """Values, and Python numbers as they are."""
    found = [a if type(a) in _PYTHON else value(a, name, f"argument {i + 1}")
             for i, a in enumerate(args)]  # fmt: skip
    if len(found) > 1:
        check_ranks(name, found)
    return found


def _alike(args: Sequence[Any]) -> bool:
    """Whether the operands are arrays of one dtype, so that nothing needs to be converted."""
    first = args[0]
    if not isinstance(first, Array):
        return False
    dtype = first.dtype
    for a in args[1:]:
        if not isinstance(a, Array) or a.dtype is not dtype:
            return False
    return len(args) == 1 or config.numpy_rank_promotion == "allow"


def promote(name: str, *args: Any) -> list[Value]:
    """Operands as values of their common dtype.

    Raises:
        DtypeError: There is no implicit promotion, or an operand is no array or number.
    """
    if _alike(args):
        return list(args)
    found = operands(name, args)
    dtype, weak = dtypes.promote(*map(pair, found))
    return [to(a, dtype, weak) for a in found]


def promote_inexact(name: str, *args: Any) -> list[Value]:
    """Operands as values of their common dtype, made floating point where it is not."""
    if _alike(args) and args[0].dtype.num in _INEXACT:
        return list(args)
    found = operands(name, args)
    dtype, weak = dtypes.promote(*map(pair, found))
    return [to(a, dtypes.to_inexact(dtype), weak) for a in found]


def promote_numeric(name: str, *args: Any) -> list[Value]:
    """Operands as values of their common dtype; booleans become int32."""
    found = operands(name, args)
    dtype, weak = dtypes.promote(*map(pair, found))
    if dtype.kind == "b":
        dtype = np.dtype(np.int32)
    return [to(a, dtype, weak) for a in found]


def astype(x: Value, dtype: Any) -> Value:
    """`x` converted to a stated dtype (strong); None leaves it."""
    return x if dtype is None else convert_element_type(x, dtypes.dtype(dtype))
