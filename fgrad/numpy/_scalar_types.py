"""The dtypes of the namespace as types: `float32` names a dtype, and `float32(x)` converts to it.

NumPy's own scalar types would give NumPy scalars, whose arithmetic is not fgrad's, and could not
take a traced value.
"""

from typing import Any

import numpy as np

from fgrad.core import dtypes
from fgrad.core.dtype_kinds import ALL
from fgrad.core.primitive import Value
from fgrad.numpy.creation import asarray


class ScalarType(type):
    """The type of `fgrad.numpy.float32` and the like: equal to NumPy's type of that dtype."""

    dtype: np.dtype[Any]  # NumPy looks here, wherever it takes a dtype

    def __call__(cls, x: Any) -> Value:
        """`x`, an array, a number or nested sequences of them, as an array of this dtype."""
        return asarray(x, cls.dtype)

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is cls.dtype.type or (
            isinstance(other, np.dtype) and other == cls.dtype
        )  # fmt: skip

    def __hash__(cls) -> int:
        return hash(cls.dtype.type)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.dtype.type)


def _scalar_type(dtype: np.dtype[Any]) -> ScalarType:
    name = "bool_" if dtype.kind == "b" else dtype.name
    doc = f"The dtype {dtype.name}; called, it converts a value to an array of that dtype."
    return ScalarType(name, (), {"__module__": "fgrad.numpy", "__doc__": doc, "dtype": dtype})


TYPES = {kind.__name__: kind for kind in map(_scalar_type, ALL)}
TYPES |= {
    "bool": TYPES["bool_"], "single": TYPES["float32"], "double": TYPES["float64"],
    "csingle": TYPES["complex64"], "cdouble": TYPES["complex128"],
}  # fmt: skip


def default_type(name: str) -> ScalarType | None:
    """What `int_`, `uint`, `float_` and `complex_` mean, which depends on ``enable_x64``."""
    if name == "uint":
        return TYPES[f"u{dtypes.default_int().name}"]
    kind = {"int_": int, "float_": float, "complex_": complex}.get(name)
    return None if kind is None else TYPES[dtypes.dtype(kind).name]
