"""Arithmetic on vectors of IR values, written with operators."""

import math
from typing import Union

from fgrad.backends.cpu.text import Builder

Number = Union["Lanes", float]
INTEGER = {"float": "i32", "double": "i64"}
# Polynomials of so many terms are split.
_LONG = 8
_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


class Lanes:
    """A value of the function under construction: one scalar in each lane.

    Operators append the instruction of that name. A number beside a value becomes a constant of
    its type. Nothing is contracted or reassociated: each operation rounds once.

    Attributes:
        builder: Where instructions go.
        name: The SSA name.
        scalar: The type of a lane: 'float', 'double', 'i32', 'i64' or 'i1'.
    """

    __slots__ = ("builder", "name", "scalar")

    def __init__(self, builder: Builder, name: str, scalar: str) -> None:
        self.builder, self.name, self.scalar = builder, name, scalar

    @property
    def is_float(self) -> bool:
        """Whether the lanes hold floats."""
        return self.scalar in INTEGER

    def text(self, other: Number) -> str:
        """An operand of this value's type."""
        if isinstance(other, Lanes):
            return other.name
        return self.builder.constant(other, self.scalar)

    def like(self, value: float) -> "Lanes":
        """A constant of this value's type."""
        return Lanes(self.builder, self.builder.constant(value, self.scalar), self.scalar)

    def _binary(self, op: str, x: Number, y: Number) -> "Lanes":
        if self.is_float:
            op = _FLOAT_OPS[op]
        name = self.builder.operation(op, self.scalar, self.text(x), self.text(y))
        return Lanes(self.builder, name, self.scalar)

    def __add__(self, other: Number) -> "Lanes":
        return self._binary("add", self, other)

    def __radd__(self, other: float) -> "Lanes":
        return self._binary("add", other, self)

    def __sub__(self, other: Number) -> "Lanes":
        return self._binary("sub", self, other)

    def __rsub__(self, other: float) -> "Lanes":
        return self._binary("sub", other, self)

    def __mul__(self, other: Number) -> "Lanes":
        return self._binary("mul", self, other)

    def __rmul__(self, other: float) -> "Lanes":
        return self._binary("mul", other, self)

    def __truediv__(self, other: Number) -> "Lanes":
        return self._binary("div", self, other)

    def __rtruediv__(self, other: float) -> "Lanes":
        return self._binary("div", other, self)

    def __and__(self, other: Number) -> "Lanes":
        return self._binary("and", self, other)

    def __or__(self, other: Number) -> "Lanes":
        return self._binary("or", self, other)

    def __xor__(self, other: Number) -> "Lanes":
        return self._binary("xor", self, other)

    def __invert__(self) -> "Lanes":
        return self._binary("xor", self, True if self.scalar == "i1" else -1)

    def __lshift__(self, count: int) -> "Lanes":
        return self._binary("shl", self, count)

    def __rshift__(self, count: int) -> "Lanes":
        """Arithmetic: keeps the sign."""
        return self._binary("ashr", self, count)

    def __neg__(self) -> "Lanes":
        return Lanes(
            self.builder, self.builder.operation("fneg", self.scalar, self.name), self.scalar
        )

    def _compare(self, predicate: str, other: Number) -> "Lanes":
        op = f"fcmp {predicate}" if self.is_float else f"icmp {predicate}"
        name = self.builder.compare(op, self.scalar, self.name, self.text(other))
        return Lanes(self.builder, name, "i1")

    def __lt__(self, other: Number) -> "Lanes":
        return self._compare("olt" if self.is_float else "slt", other)

    def __le__(self, other: Number) -> "Lanes":
        return self._compare("ole" if self.is_float else "sle", other)

    def __gt__(self, other: Number) -> "Lanes":
        return self._compare("ogt" if self.is_float else "sgt", other)

    def __ge__(self, other: Number) -> "Lanes":
        return self._compare("oge" if self.is_float else "sge", other)

    def eq(self, other: Number) -> "Lanes":
        """Whether it equals `other`; False for NaN."""
        return self._compare("oeq" if self.is_float else "eq", other)

    def ne(self, other: Number) -> "Lanes":
        """Whether it differs from `other`; True for NaN."""
        return self._compare("une" if self.is_float else "ne", other)

    def is_nan(self) -> "Lanes":
        """Whether it is NaN."""
        return self._compare("uno", self)

    def bits(self) -> "Lanes":
        """The bits of a float, as an integer."""
        return self._cast("bitcast", INTEGER[self.scalar])

    def as_float(self) -> "Lanes":
        """The float that an integer is the bits of."""
        return self._cast("bitcast", "float" if self.scalar == "i32" else "double")

    def _cast(self, op: str, scalar: str) -> "Lanes":
        name = self.builder.converted(op, self.scalar, scalar, self.name)
        return Lanes(self.builder, name, scalar)

    def double(self) -> "Lanes":
        """A float as a double."""
        return self._cast("fpext", "double")

    def single(self) -> "Lanes":
        """A double rounded to float."""
        return self._cast("fptrunc", "float")

    def narrow(self) -> "Lanes":
        """The low 32 bits of an i64."""
        return self._cast("trunc", "i32")

    def widen(self) -> "Lanes":
        """An i32 as an i64 with the same sign."""
        return self._cast("sext", "i64")

    def to_integer(self) -> "Lanes":
        """A float within the range of i32, cut off to one."""
        return self._cast("fptosi", "i32")

    def odd(self) -> "Lanes":
        """Whether an integer is odd."""
        return self._cast("trunc", "i1")

    def to_float(self, scalar: str) -> "Lanes":
        """The value of an integer, as a float of type `scalar`."""
        return self._cast("sitofp", scalar)


def fma(x: Lanes, y: Number, z: Number) -> Lanes:
    """x·y + z, rounded once."""
    operands = [(x.scalar, x.text(value)) for value in (x, y, z)]
    return Lanes(x.builder, x.builder.intrinsic("fma", x.scalar, *operands), x.scalar)


def scalef(x: Lanes, n: Lanes) -> Lanes:
    """x·2^n for integers n, rounded once: 16 floats, on a processor with AVX-512."""
    b, kind = x.builder, x.builder.vector(x.scalar)
    types, operands = [kind, kind, kind, "i16", "i32"], [x.name, n.name, x.name, "-1", "4"]
    name = "x86.avx512.mask.scalef.ps.512"
    return Lanes(b, b.invoke(name, x.scalar, b.width, types, operands), x.scalar)


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """c₀ + c₁x + c₂x² + …, by Horner's rule.

    A long one is split into even and odd powers: two chains that run at the same time. The
    constant is added last, so that it is rounded once.
    """
    if len(coefficients) < _LONG:
        return _horner(x, coefficients)
    square, rest = x * x, coefficients[1:]
    inner = fma(_horner(square, rest[1::2]), x, _horner(square, rest[::2]))
    return fma(inner, x, coefficients[0])


def _horner(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    total: Lanes = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total


def where(condition: Lanes, x: Number, y: Number) -> Lanes:
    """The first where the condition holds, else y."""
    known = x if isinstance(x, Lanes) else y
    assert isinstance(known, Lanes)
    name = known.builder.choose(known.scalar, condition.name, known.text(x), known.text(y))
    return Lanes(known.builder, name, known.scalar)


def at_most(x: Lanes, bound: Number) -> Lanes:
    """The lesser of both; NaN where x is. One instruction on x86."""
    limit = bound if isinstance(bound, Lanes) else x.like(bound)
    return where(limit < x, limit, x)


def at_least(x: Lanes, bound: Number) -> Lanes:
    """The greater of both; NaN where x is. One instruction on x86."""
    limit = bound if isinstance(bound, Lanes) else x.like(bound)
    return where(limit > x, limit, x)


def fabs(x: Lanes) -> Lanes:
    """|x|."""
    return _unary("fabs", x)


def sqrt(x: Lanes) -> Lanes:
    """√x, rounded correctly."""
    return _unary("sqrt", x)


def trunc(x: Lanes) -> Lanes:
    """The number rounded to an integer towards zero."""
    return _unary("trunc", x)


def floor(x: Lanes) -> Lanes:
    """The number rounded down to an integer."""
    return _unary("floor", x)


def _unary(name: str, x: Lanes) -> Lanes:
    return Lanes(x.builder, x.builder.intrinsic(name, x.scalar, (x.scalar, x.name)), x.scalar)


def copysign(magnitude: Lanes, sign: Lanes) -> Lanes:
    """`magnitude` with the sign of `sign`."""
    operands = [(sign.scalar, value) for value in (magnitude.name, sign.name)]
    name = sign.builder.intrinsic("copysign", sign.scalar, *operands)
    return Lanes(sign.builder, name, sign.scalar)


NAN, INF = math.nan, math.inf
