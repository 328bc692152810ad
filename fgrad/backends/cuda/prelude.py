"""The CUDA C that stands in front of every module, and what it can compute.

`prelude.cuh` holds the types, the scalar operations as functions ``fg_<operation>``, conversions
and reductions, `tensor.cuh` products of matrices by tensor cores, `lanes.cuh` what generated
kernels need beside them; `special` adds the special functions that a module calls.
"""

import functools
from pathlib import Path

from fgrad.backends.cuda import special
from fgrad.compile.kernel import COMPUTED, CONVERSIONS, DType

_ANY = frozenset(["eq", "ne", "lt", "le", "gt", "ge", "select", "isfinite", "isnan", "abs"])
_NUMBERS = frozenset(["add", "sub", "mul", "div", "rem", "neg", "sign", "min", "max"])
_BITWISE = frozenset(["and", "or", "xor", "not"])
_INTEGERS = _BITWISE | {"shl", "shr", "sar", "popcount", "clz"}
_TRUTHS = _BITWISE | {"add", "mul", "min", "max"}
_FLOATS = frozenset(
    [
        "floor", "ceil", "rint", "trunc", "sqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p",
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
        "atanh", "erf", "erfc", "pow", "atan2", "hypot", "nextafter", "copysign",
    ]
)  # fmt: skip


def supports(op: str, dtype: DType) -> bool:
    """Whether there is an operation on operands of a dtype (of the result, for conversions).

    Args:
        op: Of `OPS`, or of `compile.kernel.CONVERSIONS`.
        dtype: One of `compile.kernel.COMPUTED`.
    """
    if dtype not in COMPUTED:
        return False
    if op in CONVERSIONS or op in _ANY:
        return True
    if dtype.kind == "f":
        return op in _NUMBERS or op in _FLOATS or op in special.NAMES
    if dtype.kind == "b":
        return op in _TRUTHS
    return op in _NUMBERS or op in _INTEGERS


@functools.cache
def _header() -> str:
    folder = Path(__file__).parent
    return "".join((folder / f"{n}.cuh").read_text("utf-8") for n in ("prelude", "tensor", "lanes"))


def with_prelude(source: str) -> str:
    """A module: generated functions behind the definitions that they use."""
    return f'{_header()}{special.definitions(source)}#line 1 "module"\n{source}'
