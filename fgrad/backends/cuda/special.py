"""Special functions in CUDA C: those of the CPU, written out for one thread.

`vmath` computes them with additions, products, divisions, square roots and fused multiply-adds,
each rounded once, so both targets give the same bits and have the same errors.
"""

import functools
import math
import re
import struct
from collections.abc import Callable, Sequence

import numpy as np

from fgrad.backends.cpu import vmath
from fgrad.backends.cpu.text import Builder
from fgrad.backends.cpu.vmath.lanes import Lanes

NAMES = (
    "erf_inv", "lgamma", "digamma", "bessel_i0e", "bessel_i1e", "zeta", "polygamma", "igamma",
    "igammac", "gamma_quantile_slope", "regularized_incomplete_beta",
)  # fmt: skip
_OPERANDS = {"regularized_incomplete_beta": 3} | dict.fromkeys(
    ("zeta", "polygamma", "igamma", "igammac", "gamma_quantile_slope"), 2
)
_CALLED = re.compile(rf"\bfg_({'|'.join(NAMES)})\b")
_TYPES = {"float": "float", "double": "double", "i32": "int", "i64": "long long", "i1": "bool"}
_UNSIGNED = {"i32": "unsigned int", "i64": "unsigned long long"}
_SYMBOLS = {
    "fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/", "add": "+", "sub": "-", "mul": "*",
    "shl": "<<", "ashr": ">>", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def definitions(source: str) -> str:
    """The functions ``fg_<name>``, of float and of double, that a text calls."""
    functions: dict[str, str] = {}
    for name in sorted(set(_CALLED.findall(source))):
        functions |= _definition(name)
    return "".join(functions.values())


@functools.cache
def _definition(name: str) -> dict[str, str]:
    """The texts of a function and of what it calls, by name, each behind what it uses."""
    functions: dict[str, str] = {}
    for scalar, dtype in (("float", np.float32), ("double", np.float64)):
        code = _Code(functions)
        names = [f"x{k}" for k in range(_OPERANDS.get(name, 1))]
        result = vmath.emit(code, name, tuple(names), np.dtype(dtype))
        parameters = ", ".join(f"{scalar} {n}" for n in names)
        head = f"FG {scalar} fg_{name}({parameters})"
        functions[f"{name}.{scalar}"] = code.function(head, result)
    return functions


class _Code(Builder):
    """Collects statements of CUDA C instead of LLVM IR: each value is a constant of the function.

    Args:
        functions: What the statements call: definitions by name, those of all builders of a text.
    """

    __slots__ = ("functions",)

    def __init__(self, functions: dict[str, str]) -> None:
        super().__init__(1)
        self.functions = functions

    def function(self, head: str, result: str) -> str:
        """The text of a function of what was collected."""
        return "\n".join([f"{head} {{", *self.lines, f"  return {result};", "}\n"])

    def value(self, text: str, scalar: str) -> str:
        """Append the definition of a value."""
        name = self.fresh("v")
        self.effect(f"const {_TYPES[scalar]} {name} = {text};")
        return name

    def constant(self, value: float, scalar: str) -> str:
        """A number; floats are written so that they are read as the same bits."""
        if scalar == "i1":
            return "true" if value else "false"
        if scalar in _UNSIGNED:
            half, suffix = 2 ** (int(scalar[1:]) - 1), "ll" if scalar == "i64" else ""
            word = (int(value) + half) % (2 * half) - half
            # The lowest number has no literal of its own.
            return f"({word + 1}{suffix} - 1)" if word < 0 else f"{word}{suffix}"
        number = struct.unpack("<f", struct.pack("<f", value))[0] if scalar == "float" else value
        suffix = "f" if scalar == "float" else ""
        if math.isfinite(number):
            return f"{number!r}{suffix}" if number >= 0 else f"({number!r}{suffix})"
        special = "fg_nan" if math.isnan(number) else "fg_infinity"
        return f"{'-' * (number < 0)}{special}(0.0{suffix})"

    def operation(self, op: str, scalar: str, *operands: str) -> str:
        """Arithmetic; integers wrap."""
        if op == "fneg":
            return self.value(f"-{operands[0]}", scalar)
        x, y = operands
        if scalar in _UNSIGNED and op in ("add", "sub", "mul", "shl"):
            x = f"({_UNSIGNED[scalar]}){x}"
        return self.value(f"{x} {_SYMBOLS[op]} {y}", scalar)

    def compare(self, op: str, scalar: str, x: str, y: str) -> str:
        """A comparison; of floats, with C's meaning of NaN."""
        if op == "fcmp uno":
            return self.value(f"{x} != {x} || {y} != {y}", "i1")
        return self.value(f"{x} {_COMPARED[op[-2:]]} {y}", "i1")

    def converted(self, op: str, old: str, new: str, x: str) -> str:
        """A conversion."""
        if op == "bitcast":
            return self.value(f"fg_bitcast<{_TYPES[new]}>({x})", new)
        return self.value(f"({x} & 1) != 0" if new == "i1" else f"({_TYPES[new]}){x}", new)

    def choose(self, scalar: str, which: str, x: str, y: str) -> str:
        """One of two values."""
        return self.value(f"{which} ? {x} : {y}", scalar)

    def intrinsic(self, name: str, result: str, *operands: tuple[str, str]) -> str:
        """A function of CUDA's, overloaded on its operands, that is exact or rounded once."""
        return self.value(f"{name}({', '.join(x for _, x in operands)})", result)


class _Control:
    """Branches, loops and functions; see `vmath.branches` and `vmath.outlined`."""

    @staticmethod
    def unlikely(
        condition: Lanes, usual: list[Lanes], compute: Callable[[], list[Lanes]]
    ) -> list[Lanes]:
        """An if statement that replaces what is usual."""
        builder = condition.builder
        changed = [_variable(x) for x in usual]
        builder.effect(f"if ({condition.name}) {{")
        _assign(builder, changed, compute())
        builder.effect("}")
        return changed

    @staticmethod
    def repeat(
        going: Lanes,
        state: Sequence[Lanes],
        step: Callable[..., tuple[Sequence[Lanes], Lanes]],
    ) -> list[Lanes]:
        """A while statement."""
        builder = going.builder
        on, values = _variable(going), [_variable(x) for x in state]
        builder.effect(f"while ({on.name}) {{")
        following, more = step(*values)
        _assign(builder, [*values, on], [*following, more])
        builder.effect("}")
        return values

    @staticmethod
    def outlined(name: str, body: Callable[..., Lanes], *xs: Lanes) -> Lanes:
        """The call of a function of doubles."""
        builder, scalar = xs[0].builder, xs[0].scalar
        assert isinstance(builder, _Code)
        function = f"fg_{name.replace('.', '_')}_{scalar}"
        if function not in builder.functions:
            code = _Code(builder.functions)
            names = [f"x{k}" for k in range(len(xs))]
            result = body(scalar, *(Lanes(code, n, "double") for n in names)).name
            head = f"__device__ __noinline__ double {function}(double {', double '.join(names)})"
            builder.functions[function] = code.function(head, result)
        call = builder.value(f"{function}({', '.join(x.name for x in xs)})", scalar)
        return Lanes(builder, call, scalar)


_Code.control = _Control


def _variable(x: Lanes) -> Lanes:
    name = x.builder.fresh("s")
    x.builder.effect(f"{_TYPES[x.scalar]} {name} = {x.name};")
    return Lanes(x.builder, name, x.scalar)


def _assign(builder: Builder, variables: Sequence[Lanes], values: Sequence[Lanes]) -> None:
    """All at once: a value may be the old one of another variable."""
    held = [Lanes(builder, builder.fresh("t"), x.scalar) for x in values]
    for new, x in zip(held, values, strict=True):
        builder.effect(f"const {_TYPES[x.scalar]} {new.name} = {x.name};")
    for old, new in zip(variables, held, strict=True):
        builder.effect(f"{old.name} = {new.name};")
