"""How exactly products compute: precision, and the dtype they accumulate in."""

from enum import Enum
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import ConfigError, DtypeError


class Precision(Enum):
    """How exactly a product of float32 matrices is computed; NumPy always computes in full."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"

    def __repr__(self) -> str:
        return self.name


_PRECISIONS: dict[Any, Precision | str] = {
    "default": Precision.DEFAULT,
    "fastest": Precision.DEFAULT,
    "high": Precision.HIGH,
    "highest": Precision.HIGHEST,
    "float32": Precision.HIGHEST,
    "bfloat16": Precision.DEFAULT,
    "bfloat16_3x": Precision.HIGH,
    "tensorfloat32": Precision.HIGH,
}


def canonical_precision(precision: Any) -> Any:
    """None, a `Precision`, or a pair of them, of what a caller wrote (names are accepted)."""
    if precision is None:
        precision = config.default_matmul_precision
        if precision is None:
            return None
    if isinstance(precision, Precision):
        return precision
    if isinstance(precision, str) and precision.lower() in _PRECISIONS:
        return _PRECISIONS[precision.lower()]
    if isinstance(precision, (tuple, list)) and len(precision) == 2:
        return tuple(canonical_precision(p) for p in precision)
    raise ConfigError(
        f"precision={precision!r} is not known; use None, a lax.Precision, a pair of them, or one "
        f"of {', '.join(map(repr, _PRECISIONS))}"
    )


def product_dtype(name: str, x: ShapedArray, y: ShapedArray, preferred: Any) -> np.dtype[Any]:
    """The dtype of a sum of products; raises `DtypeError` where `preferred` cannot hold it."""
    if x.dtype != y.dtype:
        raise DtypeError(
            f"{name} needs operands of one dtype, got lhs {x} and rhs {y}; convert one with "
            f"astype, or use fgrad.numpy, which promotes dtypes"
        )
    if preferred is None or preferred == x.dtype:
        return x.dtype
    given = x.dtype
    fits = (
        (dtypes.is_integer(given) and dtypes.is_float(preferred))
        or (
            preferred.itemsize >= given.itemsize
            and (
                (dtypes.is_integer(given) and dtypes.is_integer(preferred)
                 and dtypes.is_signed(given) == dtypes.is_signed(preferred))
                or (dtypes.is_float(given) and dtypes.is_float(preferred))
                or (dtypes.is_complex(given) and dtypes.is_complex(preferred))
            )
        )
    )  # fmt: skip
    if not fits:
        raise DtypeError(
            f"{name}: preferred_element_type={preferred} cannot hold products of {given} (lhs {x}, "
            f"rhs {y}); it must be of the same kind and no narrower, or a float for integers"
        )
    return preferred  # type: ignore[no-any-return]


def multiply_in(given: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which products of `given` are computed on the way to `out`."""
    if dtypes.is_integer(given) and dtypes.is_float(out):
        return np.dtype(np.float64)  # exact for every integer up to 32 bits
    return basis.wide(out) or out
