"""How dtypes, numbers and scalar operations are written in CUDA C."""

from typing import Any

import ml_dtypes
import numpy as np

from fgrad.compile.kernel import CONVERSIONS, DType, Kernel

_NAMES = {
    "b1": "bool", "i1": "signed char", "u1": "unsigned char", "i2": "short",
    "u2": "unsigned short", "i4": "int", "u4": "unsigned int", "i8": "long long",
    "u8": "unsigned long long", "f4": "float", "f8": "double", "f2": "fg_float16",
}  # fmt: skip
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def type_name(dtype: DType) -> str:
    """The C type of elements of a dtype, in memory or, if the dtype is computable, as values."""
    return "fg_bfloat16" if dtype == _BFLOAT16 else _NAMES[dtype.str[1:]]


def dtype_of(kernel: Kernel, value: int) -> DType:
    """The dtype of a value."""
    dtype: DType = kernel.body[value].dtype  # type: ignore[union-attr]
    return dtype


def number_bits(value: Any, dtype: DType) -> int:
    """The bits of a number, as a signed word of 8 bytes."""
    raw = np.asarray(value).astype(dtype).tobytes().ljust(8, b"\0")
    return int.from_bytes(raw, "little", signed=True)


def special(value: Any, dtype: DType) -> str | None:
    """A number as text, if it is one that code may depend on.

    That is 0, 1, ±inf, nan, a truth value, or unsigned and small: a number of bits to shift by.
    """
    if dtype.kind == "b":
        return "true" if value else "false"
    bits = number_bits(value, dtype)
    if dtype.kind == "f":
        exact = (0.0, 1.0, np.inf, -np.inf, np.nan)
        known = any(number_bits(c, dtype) == bits for c in exact)
        return literal(value, dtype) if known else None
    small = 64 if dtype.kind == "u" else 2
    return literal(value, dtype) if 0 <= value < small else None


def literal(value: Any, dtype: DType) -> str:
    """A number as an expression of the C type of a dtype."""
    if dtype.kind == "b":
        return "true" if value else "false"
    name = type_name(dtype)
    if dtype.kind == "f" and np.isfinite(value) and float(value).is_integer():
        text = repr(float(value)) if abs(float(value)) < 1e6 else float(value).hex()
        return text + ("f" if dtype.itemsize == 4 else "")
    if dtype.kind != "f" and dtype.itemsize == 4 and 0 <= value < 2**31:
        return f"{int(value)}" if dtype.kind == "i" else f"{int(value)}u"
    return f"fg_number<{name}>({number_bits(value, dtype)}ll)" if dtype.kind == "f" else (
        f"({name}){_integer(number_bits(value, np.dtype('q')))}"
        if dtype != np.dtype("Q") else f"{int(value)}ull"
    )  # fmt: skip


def _integer(value: int) -> str:
    # The lowest number has no literal of its own.
    return f"(-{2**63 - 1}ll - 1)" if value == -(2**63) else f"{value}ll"


def call(op: str, args: list[str], dtype: DType) -> str:
    """A scalar operation of `core.scalar.OPS`, or a conversion, on expressions."""
    if op in ("convert", "bitcast"):
        return f"fg_{op}<{type_name(dtype)}>({args[0]})"
    return f"fg_{op}({', '.join(args)})"


assert set(CONVERSIONS) == {"convert", "bitcast", "round_bfloat16", "round_float16"}
