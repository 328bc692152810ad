"""The scalar language: the closed set of operations on one element, and its expressions.

A pointwise primitive states what it computes as text over its operands, such as
``"x / (1 + exp(-x))"``. `parse` makes a tree of it, of `OPS` alone, so a backend that renders
`OPS` renders every such primitive::

    Expr = "x"                       an operand, or a static parameter of the primitive
         | 1.5                       a number, of the type of what it meets
         | ("exp", Expr)             an operation of `OPS` and its operands
         | ("convert", Expr)         the same value, or with "bitcast" the same bits, in the type
                                     of the result

The text has the operators of C, with their precedence: ``?:``, ``|``, ``^``, ``&``, ``==``, ``<``,
``<<``, ``+``, ``*``, unary ``-``, ``~``. It may name parts, as in ``"t = x * x; t + t * t"``; every
use of a name is then the same tree, so what walks an expression looks at each object once.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fgrad.core.errors import RuleError
from fgrad.core.primitive import primitive

Expr = Any  # str | float | tuple[str, Expr, ...]


class ScalarOp:
    """One operation on scalars.

    Attributes:
        arity: The number of operands.
        numpy: What it means, on NumPy arrays: the reference of every backend.
        result: 'same' as the last operand, or 'bool'.
    """

    __slots__ = ("arity", "numpy", "result")

    def __init__(self, arity: int, numpy: Callable[..., Any], result: str = "same") -> None:
        self.arity, self.numpy, self.result = arity, numpy, result


def _divide(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.divide(x, y)
    # Towards zero, as the machine does; by 0 it gives -1, and the lowest number by -1 itself.
    negated = (y == -1) if x.dtype.kind == "i" else np.zeros(y.shape, bool)
    safe = np.where((y == 0) | negated, x.dtype.type(1), y)
    quotient = (x - np.fmod(x, safe)) // safe
    quotient = np.where(negated, np.negative(x), quotient)
    return np.where(y == 0, ~x.dtype.type(0), quotient).astype(x.dtype)


def _remainder(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.fmod(x, y)
    safe = np.where(y == 0, x.dtype.type(1), y)
    return np.where(y == 0, x, np.fmod(x, safe)).astype(x.dtype)


def _bits(x: Any) -> int:
    return int(x.dtype.itemsize) * 8


def _shift(move: Callable[..., Any], beyond: Callable[[Any], Any]) -> Callable[..., Any]:
    def shifted(x: Any, y: Any) -> Any:
        inside = (y >= 0) & (y < _bits(x))
        return np.where(inside, move(x, np.where(inside, y, 0)), beyond(x)).astype(x.dtype)

    return shifted


def _logical_right(x: Any, y: Any) -> Any:
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    return (x.astype(unsigned) >> y.astype(unsigned)).astype(x.dtype)


def _population(x: Any) -> Any:
    # NumPy counts the bits of |x|.
    return np.bitwise_count(x.astype(np.dtype(f"u{x.dtype.itemsize}"))).astype(x.dtype)


def _signs(x: Any) -> Any:
    return np.where(x < 0, ~x.dtype.type(0), x.dtype.type(0))


def _leading_zeros(x: Any) -> Any:
    value = x.astype(np.dtype(f"u{x.dtype.itemsize}"))
    count = np.full(x.shape, _bits(x), x.dtype)
    for bit in range(_bits(x)):
        count = np.where(value >> value.dtype.type(bit) != 0, _bits(x) - 1 - bit, count)
    return count.astype(x.dtype)


def _select(which: Any, x: Any, y: Any) -> Any:
    return np.where(which, x, y)


def _one_by_one(function: Callable[[float], float]) -> Callable[..., Any]:
    """A function of the standard library on each element, rounded once."""
    of_each = np.vectorize(function, otypes=[np.float64])

    def call(x: Any) -> Any:
        return of_each(x).astype(x.dtype)

    return call


def _special(name: str, arity: int) -> ScalarOp:
    """A special function: it means what the primitive of its name computes eagerly.

    Who has such an operation has that primitive, so its family is loaded.
    """
    return ScalarOp(arity, lambda *args: primitive(name).eager(np, *args))


# The whole set. Bits of bool are its truth values. `min` and `max` give NaN where either is NaN.
OPS: dict[str, ScalarOp] = {
    # arithmetic
    "add": ScalarOp(2, np.add),
    "sub": ScalarOp(2, np.subtract),
    "mul": ScalarOp(2, np.multiply),
    "div": ScalarOp(2, _divide),
    "rem": ScalarOp(2, _remainder),
    "neg": ScalarOp(1, np.negative),
    "abs": ScalarOp(1, np.abs),
    "sign": ScalarOp(1, np.sign),
    "min": ScalarOp(2, np.minimum),
    "max": ScalarOp(2, np.maximum),
    # rounding to integers: down, up, to even, towards zero
    "floor": ScalarOp(1, np.floor),
    "ceil": ScalarOp(1, np.ceil),
    "rint": ScalarOp(1, np.rint),
    "trunc": ScalarOp(1, np.trunc),
    # elementary functions of floats
    "sqrt": ScalarOp(1, np.sqrt),
    "cbrt": ScalarOp(1, np.cbrt),
    "exp": ScalarOp(1, np.exp),
    "exp2": ScalarOp(1, np.exp2),
    "expm1": ScalarOp(1, np.expm1),
    "log": ScalarOp(1, np.log),
    "log1p": ScalarOp(1, np.log1p),
    "sin": ScalarOp(1, np.sin),
    "cos": ScalarOp(1, np.cos),
    "tan": ScalarOp(1, np.tan),
    "asin": ScalarOp(1, np.arcsin),
    "acos": ScalarOp(1, np.arccos),
    "atan": ScalarOp(1, np.arctan),
    "sinh": ScalarOp(1, np.sinh),
    "cosh": ScalarOp(1, np.cosh),
    "tanh": ScalarOp(1, np.tanh),
    "asinh": ScalarOp(1, np.arcsinh),
    "acosh": ScalarOp(1, np.arccosh),
    "atanh": ScalarOp(1, np.arctanh),
    "erf": ScalarOp(1, _one_by_one(math.erf)),
    "erfc": ScalarOp(1, _one_by_one(math.erfc)),
    "pow": ScalarOp(2, np.power),
    "atan2": ScalarOp(2, np.arctan2),
    "hypot": ScalarOp(2, np.hypot),
    # special functions of floats
    "erf_inv": _special("erf_inv", 1),
    "lgamma": _special("lgamma", 1),
    "digamma": _special("digamma", 1),
    "bessel_i0e": _special("bessel_i0e", 1),
    "bessel_i1e": _special("bessel_i1e", 1),
    "zeta": _special("zeta", 2),
    "polygamma": _special("polygamma", 2),
    "igamma": _special("igamma", 2),
    "igammac": _special("igammac", 2),
    "gamma_quantile_slope": _special("gamma_quantile_slope", 2),
    "regularized_incomplete_beta": _special("regularized_incomplete_beta", 3),
    # steps and signs of floats
    "nextafter": ScalarOp(2, np.nextafter),
    "copysign": ScalarOp(2, np.copysign),
    # comparisons
    "eq": ScalarOp(2, np.equal, "bool"),
    "ne": ScalarOp(2, np.not_equal, "bool"),
    "lt": ScalarOp(2, np.less, "bool"),
    "le": ScalarOp(2, np.less_equal, "bool"),
    "gt": ScalarOp(2, np.greater, "bool"),
    "ge": ScalarOp(2, np.greater_equal, "bool"),
    "isfinite": ScalarOp(1, np.isfinite, "bool"),
    "isnan": ScalarOp(1, np.isnan, "bool"),
    # bits
    "and": ScalarOp(2, np.bitwise_and),
    "or": ScalarOp(2, np.bitwise_or),
    "xor": ScalarOp(2, np.bitwise_xor),
    "not": ScalarOp(1, np.invert),
    "shl": ScalarOp(2, _shift(np.left_shift, np.zeros_like)),
    "shr": ScalarOp(2, _shift(_logical_right, np.zeros_like)),
    "sar": ScalarOp(2, _shift(np.right_shift, _signs)),
    "popcount": ScalarOp(1, _population),
    "clz": ScalarOp(1, _leading_zeros),
    # choice: of the second operand where the first is true, else the third
    "select": ScalarOp(3, _select),
}

_BINARY = (
    {"|": "or"}, {"^": "xor"}, {"&": "and"},
    {"==": "eq", "!=": "ne"}, {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"},
    {"<<": "shl", ">>": "sar", ">>>": "shr"},
    {"+": "add", "-": "sub"}, {"*": "mul", "/": "div", "%": "rem"},
)  # fmt: skip
_UNARY = {"-": "neg", "~": "not"}
CASTS = ("convert", "bitcast")
_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][-+]?\d+)?)|([A-Za-z_]\w*)|(>>>|<<|>>|[<>=!]=|[-+*/%&|^~<>?:(),]))"
)
_NUMBERS = {"inf": np.inf, "nan": np.nan, "pi": np.pi}
_parsed: dict[str, Expr] = {}


def parse(text: str) -> Expr:
    """The tree of an expression.

    Args:
        text: Like ``"x > 0 ? x : 0"``, after definitions like ``"t = x * x;"``.

    Raises:
        RuleError: It is not well formed, or calls what is neither in `OPS` nor a cast.

    Example:
        >>> parse("x / (1 + exp(-x))")
        ('div', 'x', ('add', 1, ('exp', ('neg', 'x'))))
    """
    found = _parsed.get(text)
    if found is None:
        names: dict[str, Expr] = dict(_NUMBERS)
        *definitions, last = text.split(";")
        for part in definitions:
            name, _, value = part.partition("=")
            names[name.strip()] = _Reader(value, names).all()
        found = _Reader(last, names).all()
        _parsed[text] = found
    return found


def substituted(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """An expression with others in the places of some names.

    Example:
        >>> substituted(parse("x + y"), {"y": ("exp", "x")})
        ('add', 'x', ('exp', 'x'))
    """
    return _substituted(expr, values, {})


def _substituted(expr: Expr, values: Mapping[str, Expr], known: dict[int, Expr]) -> Expr:
    if not isinstance(expr, tuple):
        return values.get(expr, expr) if isinstance(expr, str) else expr
    found = known.get(id(expr))
    if found is None:
        parts = (_substituted(part, values, known) for part in expr[1:])
        found = known[id(expr)] = (expr[0], *parts)
    return found


class _Reader:
    """Reads an expression from left to right, one token ahead."""

    def __init__(self, text: str, names: dict[str, Expr]) -> None:
        self.text = text
        self.names = names
        self.position = 0
        self.token: str | None = ""
        self.next()

    def all(self) -> Expr:
        """The expression that the text is."""
        found = self.choice()
        if self.token is not None:
            raise RuleError(f"scalar expression {self.text!r}: unexpected {self.token!r}")
        return found

    def next(self) -> str:
        """Step over the current token and return it."""
        old = self.token or ""
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            if self.text[self.position :].strip():
                raise RuleError(f"scalar expression {self.text!r}: cannot read it")
            self.token = None
        else:
            self.token = match.group().strip()
            self.position = match.end()
        return old

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise RuleError(f"scalar expression {self.text!r}: {token!r} is missing")

    def choice(self) -> Expr:
        test = self.binary(0)
        if self.token != "?":
            return test
        self.next()
        first = self.choice()
        self.expect(":")
        return ("select", test, first, self.choice())

    def binary(self, level: int) -> Expr:
        if level == len(_BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while self.token in _BINARY[level]:
            op = _BINARY[level][self.next()]
            left = (op, left, self.binary(level + 1))
        return left

    def unary(self) -> Expr:
        if self.token in _UNARY:
            op = _UNARY[self.next()]
            return (op, self.unary())
        return self.primary()

    def primary(self) -> Expr:
        token = self.next()
        if token == "(":
            inner = self.choice()
            self.expect(")")
            return inner
        if token[:1].isdigit():
            return float(token) if "." in token or "e" in token.lower() else int(token)
        if not token.isidentifier():
            raise RuleError(f"scalar expression {self.text!r}: unexpected {token!r}")
        if self.token != "(":
            return self.names.get(token, token)
        return (token, *self.arguments(token))

    def arguments(self, name: str) -> list[Expr]:
        self.expect("(")
        args = [self.choice()]
        while self.token == ",":
            self.next()
            args.append(self.choice())
        self.expect(")")
        arity = 1 if name in CASTS else OPS[name].arity if name in OPS else None
        if arity != len(args):
            raise RuleError(f"scalar expression {self.text!r}: no {name} of {len(args)} operands")
        return args
