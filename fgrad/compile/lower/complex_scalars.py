"""Scalar expressions of complex numbers, as expressions of their real and imaginary parts.

A value is an expression (a real number) or a pair of them. Each operation of `core.scalar.OPS` that
complex numbers have is one rule; a primitive needs no rule of its own.

Source:
    Smith, *Algorithm 116: Complex division*, CACM 1962. Kahan, *Branch cuts for complex elementary
    functions*, 1987.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

from fgrad.core.scalar import CASTS, Expr, parse, substituted

Pair = tuple[Expr, Expr]


class Real:
    """A part of an expression that is a real number."""

    __slots__ = ("expr",)

    def __init__(self, expr: Expr) -> None:
        self.expr = expr


class Complex:
    """A part of an expression that is a complex number."""

    __slots__ = ("im", "re")

    def __init__(self, re: Expr, im: Expr) -> None:
        self.re, self.im = re, im


Part = Real | Complex


class Unknown(Exception):
    """An operation without a rule for complex operands."""


def parts_of(expr: Expr, operands: Collection[str], result: str) -> list[Expr] | None:
    """The expressions of the parts of a result.

    Args:
        expr: An expression of which some operands are complex.
        operands: The names of those; in the result they are followed by ``_re`` and ``_im``.
        result: The kind of the result's dtype.

    Returns:
        Real and imaginary part of a complex result; else one. None where an operation has no rule.
    """
    known: dict[int, Part] = {}

    def walk(expr: Expr) -> Part:
        if isinstance(expr, str) and expr in operands:
            return Complex(f"{expr}_re", f"{expr}_im")
        if not isinstance(expr, tuple):
            return Real(expr)
        if id(expr) not in known:
            op, *args = expr
            known[id(expr)] = _applied(op, [walk(a) for a in args], result)
        return known[id(expr)]

    try:
        out = walk(expr)
    except Unknown:
        return None
    if result != "c":
        assert isinstance(out, Real)
        return [out.expr]
    return [out.re, out.im] if isinstance(out, Complex) else [out.expr, 0]


def _applied(op: str, args: list[Part], result: str) -> Part:
    if op in CASTS:
        return _cast(op, args[0], result)
    if all(isinstance(a, Real) for a in args):
        return Real((op, *(a.expr for a in args)))  # type: ignore[union-attr]
    if op == "select":
        which, x, y = args
        assert isinstance(which, Real)
        (a, b), (c, d) = _pair(x), _pair(y)
        return Complex((op, which.expr, a, c), (op, which.expr, b, d))
    if op in _TESTS:
        return Real(_TESTS[op](*map(_pair, args)))
    last = args[-1]
    if op in _BY_REAL and isinstance(last, Real) and isinstance(args[0], Complex):
        x = args[0]
        return Complex((op, x.re, last.expr), (op, x.im, last.expr))
    if op == "mul" and isinstance(args[0], Real) and isinstance(last, Complex):
        return Complex((op, args[0].expr, last.re), (op, args[0].expr, last.im))
    if op not in _RULES:
        raise Unknown
    return Complex(*_RULES[op](*map(_pair, args)))


def _cast(op: str, x: Part, result: str) -> Part:
    if op != "convert":
        raise Unknown
    if result == "c":
        a, b = _pair(x)
        return Complex((op, a), (op, b))
    if isinstance(x, Real):
        return Real((op, x.expr))
    return Real(_text("a != 0 | b != 0", x.re, x.im) if result == "b" else (op, x.re))


def _pair(x: Part) -> Pair:
    return (x.expr, 0) if isinstance(x, Real) else (x.re, x.im)


def _text(text: str, *values: Expr) -> Expr:
    """An expression over a, b, c and d."""
    return substituted(parse(text), dict(zip("abcd", values, strict=False)))


def _both(re: str, im: str) -> Callable[..., Pair]:
    """A rule as two texts over the parts a, b of the first operand and c, d of the second."""

    def rule(*operands: Pair) -> Pair:
        values = [part for pair in operands for part in pair]
        return _text(re, *values), _text(im, *values)

    return rule


def _one(text: str) -> Callable[..., Expr]:
    return lambda *operands: _text(text, *(part for pair in operands for part in pair))


# Real results. Comparisons of order look at real parts, as expressions of primitives mean them.
_TESTS: dict[str, Callable[..., Expr]] = {
    "abs": _one("hypot(a, b)"),
    "eq": _one("a == c & b == d"),
    "ne": _one("a != c | b != d"),
    "lt": _one("a < c"),
    "isfinite": _one("isfinite(a) & isfinite(b)"),
    "isnan": _one("isnan(a) | isnan(b)"),
}
_BY_REAL = frozenset(("mul", "div"))
# The larger of two: by real parts, then by imaginary ones; NaN where one has it.
_FIRST = "isnan(a) | isnan(b) | (a {0} c & c == c & d == d) | (a == c & b {0}= d)"


def _larger(sign: str) -> Callable[..., Pair]:
    first = _FIRST.format(sign)
    return _both(f"({first}) ? a : c", f"({first}) ? b : d")


def _scaled(x: Pair, factor: float) -> Pair:
    return _text(f"a * {factor!r}", x[0]), _text(f"a * {factor!r}", x[1])


def _turned(rule: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """-i·f(i·z), which makes trigonometric functions of hyperbolic ones, and back."""

    def turned(z: Pair) -> Pair:
        re, im = rule((("neg", z[1]), z[0]))
        return im, ("neg", re)

    return turned


# Smith's: divided first by the larger part of the divisor.
_WIDE = "w = abs(c) >= abs(d); r = w ? d / c : c / d; s = 1 / (w ? c + d * r : d + c * r); "
_NONE = "c == 0 & d == 0"
_div = _both(
    f"{_WIDE} {_NONE} ? a / abs(c) : w ? (a + b * r) * s : (a * r + b) * s",
    f"{_WIDE} {_NONE} ? b / abs(c) : w ? (b - a * r) * s : (b * r - a) * s",
)
_mul = _both("a * c - b * d", "a * d + b * c")
# exp(a)·(cos b + i sin b); in two halves where exp(a) alone overflows.
_POLAR = "h = exp(a * 0.5); e = exp(a); f = isfinite(e); "
_exp = _both(
    f"{_POLAR} b == 0 ? e : a == -inf ? 0 : f ? e * cos(b) : h * cos(b) * h",
    f"{_POLAR} b == 0 ? b : a == -inf ? 0 : f ? e * sin(b) : h * sin(b) * h",
)
# Where |z| is near 1, (|z| - 1)(|z| + 1) instead of |z|.
_log = _both(
    "m = max(abs(a), abs(b)); n = min(abs(a), abs(b)); h = hypot(a, b);"
    "h > 0.5 & h < 2 ? log1p((m - 1) * (m + 1) + n * n) * 0.5 : log(h)",
    "atan2(b, a)",
)
_log1p = _both(
    "x = 1 + a; m = max(abs(x), abs(b)); n = min(abs(x), abs(b)); h = hypot(x, b);"
    "abs(a) < 0.5 & abs(b) < 0.5 ? log1p(a * (2 + a) + b * b) * 0.5"
    ": h > 0.5 & h < 2 ? log1p((m - 1) * (m + 1) + n * n) * 0.5 : log(h)",
    "atan2(b, 1 + a)",
)
_expm1 = _both(
    "s = sin(b * 0.5); b == 0 ? expm1(a) : expm1(a) * cos(b) - 2 * s * s",
    "b == 0 ? b : exp(a) * sin(b)",
)
_ROOT = "t = sqrt(abs(a) * 0.5 + hypot(a, b) * 0.5); o = abs(b) / (t + t); "
_sqrt = _both(
    f"{_ROOT} abs(b) == inf ? inf : a == 0 & b == 0 ? 0 : a >= 0 ? t : o",
    f"{_ROOT} abs(b) == inf | (a == 0 & b == 0) ? b : copysign(a >= 0 ? o : t, b)",
)
# A product of 0 and an infinity is 0 here.
_ZERO = "(a == 0 ? a : sinh(a) * cos(b))"
_sinh = _both(_ZERO, "b == 0 ? b : cosh(a) * sin(b)")
_cosh = _both("cosh(a) * cos(b)", "a == 0 | b == 0 ? a * b : sinh(a) * sin(b)")
_INFINITE = "i = abs(a) == inf | abs(b) == inf; "
# Kahan's; far out, where cosh overflows, the limit.
_FAR = "t = tan(b); u = 1 + t * t; s = sinh(a); r = 1 + u * s * s; "
_tanh = _both(
    f"{_FAR} abs(a) > 20 ? copysign(1, a) : u * sqrt(1 + s * s) * s / r",
    f"{_FAR} abs(a) > 20 ? 4 * sin(b) * cos(b) * exp(-2 * abs(a)) : t / r",
)
_atanh = _both(
    f"x = abs(a); y = 1 - x; {_INFINITE}copysign(i ? 0 : log1p(x / (y * y + b * b) * 4) * 0.25, a)",
    f"{_INFINITE} i ? copysign({math.pi / 2}, b) : atan2(b + b, (1 - a) * (1 + a) - b * b) * 0.5",
)


def _roots(z: Pair) -> tuple[Pair, Pair]:
    """√(1 - z) and √(1 + z)."""
    a, b = z
    return _sqrt((_text("1 - a", a), ("neg", b))), _sqrt((_text("1 + a", a), b))


def _at_infinity(z: Pair, finite: Pair, limit: tuple[str, str]) -> Pair:
    infinite = _text(f"{_INFINITE} i", *z)
    re, im = (
        ("select", infinite, _text(there, *z), here)
        for here, there in zip(finite, limit, strict=True)
    )
    return re, im


def _asin(z: Pair) -> Pair:
    (a, b), (c, d) = _roots(z)
    real = ("atan2", z[0], _text("a * c - b * d", a, b, c, d))
    return _at_infinity(
        z, (real, _text("asinh(a * d - b * c)", a, b, c, d)),
        ("atan2(a, abs(b))", "copysign(inf, b)"),
    )  # fmt: skip


def _acos(z: Pair) -> Pair:
    (a, b), (c, d) = _roots(z)
    found = _text("2 * atan2(a, c)", a, b, c, d), _text("asinh(c * b - d * a)", a, b, c, d)
    return _at_infinity(z, found, ("atan2(abs(b), a)", "copysign(inf, -b)"))


def _acosh(z: Pair) -> Pair:
    (a, b), (c, d) = _sqrt((_text("a - 1", z[0]), z[1])), _sqrt((_text("a + 1", z[0]), z[1]))
    found = _text("asinh(a * c + b * d)", a, b, c, d), _text("2 * atan2(b, c)", a, b, c, d)
    return _at_infinity(z, found, ("inf", "atan2(b, a)"))


def _pow(z: Pair, w: Pair) -> Pair:
    re, im = _exp(_mul(w, _log(z)))
    zero, one = _text("a == 0 & b == 0", *z), _text("a == 0 & b == 0", *w)
    at_zero = _text("a > 0 ? 0 : nan", w[0])
    inside = ("select", zero, at_zero, re), ("select", zero, at_zero, im)
    return ("select", one, 1, inside[0]), ("select", one, 0, inside[1])


_LN2 = 0.6931471805599453
_RULES: dict[str, Callable[..., Pair]] = {
    "add": _both("a + c", "b + d"),
    "sub": _both("a - c", "b - d"),
    "neg": _both("-a", "-b"),
    "mul": _mul,
    "div": _div,
    "min": _larger("<"),
    "max": _larger(">"),
    "exp": _exp,
    "exp2": lambda z: _exp(_scaled(z, _LN2)),
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "pow": _pow,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "sin": _turned(_sinh),
    "cos": lambda z: _cosh((("neg", z[1]), z[0])),
    "tan": _turned(_tanh),
    "asin": _asin,
    "acos": _acos,
    "acosh": _acosh,
    "asinh": _turned(_asin),
    "atanh": _atanh,
    "atan": _turned(_atanh),
}


def names_in(expr: Expr) -> list[str]:
    """The operands that an expression uses, each once."""
    seen: set[int] = set()
    found: dict[str, None] = {}

    def walk(expr: Any) -> None:
        if isinstance(expr, str):
            found[expr] = None
        elif isinstance(expr, tuple) and id(expr) not in seen:
            seen.add(id(expr))
            for e in expr[1:]:
                walk(e)

    walk(expr)
    return list(found)
