"""What a pointwise equation computes of one element: its expression, and the types in it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fgrad.compile.kernel import COMPUTED
from fgrad.core import dtypes
from fgrad.core.ir import Eqn
from fgrad.core.primitive import Absent, Lowering
from fgrad.core.scalar import CASTS, OPS, Expr, parse, substituted

DType = np.dtype[Any]
Supports = Callable[[str, DType], bool]

F32, BOOL = np.dtype(np.float32), np.dtype(bool)
ROUNDINGS = {np.dtype(np.float16): "round_float16", np.dtype(dtypes.bfloat16): "round_bfloat16"}
_COMPUTED = frozenset(COMPUTED)
_EXACT = frozenset(("neg", "abs", "min", "max", "select", "copysign", "floor", "ceil", "trunc"))
_CHEAP = frozenset((
    "add", "sub", "mul", "neg", "abs", "min", "max", "select", "eq", "ne", "lt", "le", "gt", "ge",
    "and", "or", "xor", "not", "convert", "bitcast", "sign",
))  # fmt: skip


def computed(dtype: DType) -> DType | None:
    """The dtype in which kernels hold values of a dtype; None where they cannot."""
    if dtype in _COMPUTED:
        return dtype
    return F32 if dtype in ROUNDINGS else None


def scan_dtype(monoid: str, dtype: DType) -> DType:
    """The dtype in which a scan of computed values runs."""
    return np.dtype(np.float64) if monoid == "logaddexp" else dtype


def scans(monoid: str, dtype: DType, supports: Supports) -> bool:
    """Whether a backend renders a scan."""
    parts = ("exp", "log1p", "max", "sub") if monoid == "logaddexp" else (monoid,)
    return all(supports(op, dtype) for op in parts)


def part_dtype(dtype: DType) -> DType:
    """The dtype of the parts of a complex dtype; of others, the dtype itself."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


@functools.cache
def operand_names(operands: str, count: int) -> tuple[str, ...]:
    """The names of that many operands in the expression of a pointwise primitive.

    Args:
        operands: As in `Lowering.operands`.
        count: How many there are.
    """
    names = operands.split()
    if names[-1].startswith("*"):
        rest = names.pop()[1:]
        names += [f"{rest}{i}" for i in range(count - len(names))]
    return tuple(names)


def expression(eqn: Eqn) -> tuple[Expr, tuple[str, ...]] | Absent:
    """The scalar expression of a pointwise equation and the names of its operands.

    Parameters that the text names are put in their places. Equations that are equal but for their
    operands share the tree.
    """
    lower = eqn.primitive.lower
    assert isinstance(lower, Lowering), eqn.primitive.name
    text = lower.data
    if callable(text):
        text = text([a.aval for a in eqn.inputs], eqn.params)
    if isinstance(text, Absent):
        return text
    names = operand_names(lower.operands, len(eqn.inputs))
    expr = parse(text)
    given = {k: v for k, v in eqn.params.items() if k not in names}
    return (_substituted(text, expr, given) if given else expr), names


def _substituted(text: str, expr: Expr, given: Mapping[str, Expr]) -> Expr:
    """The tree of a text with parameters in their places, made once for parameters of one text."""
    key = (text, repr(given))  # 0.0 is -0.0 and 1 is True, but not as text
    found = _trees.get(key)
    if found is None:
        if len(_trees) >= _KEPT:
            _trees.clear()
        found = _trees[key] = substituted(expr, given)
    return found


_trees: dict[tuple[str, str], Expr] = {}
_KEPT = 1024


class Types:
    """The dtypes of the parts of an expression.

    Args:
        operands: Those of its operands, by name.
    """

    def __init__(self, operands: Mapping[str, DType]) -> None:
        self.operands = operands
        self._known: dict[int, DType | None] = {}

    def of(self, expr: Expr) -> DType | None:
        """Of a part; None of numbers and casts, which take that of what they meet."""
        if isinstance(expr, str):
            return self.operands[expr]
        if not isinstance(expr, tuple) or expr[0] in CASTS:
            return None
        if OPS[expr[0]].result == "bool":
            return BOOL
        return self.inside(expr)

    def inside(self, expr: tuple[Any, ...]) -> DType | None:
        """The dtype that the operands of an operation share; of 'select', its cases."""
        key = id(expr)
        if key not in self._known:
            args = expr[2 if expr[0] == "select" else 1 :]
            self._known[key] = next((t for t in map(self.of, args) if t is not None), None)
        return self._known[key]


def is_exact(expr: Expr) -> bool:
    """Whether the value is one of the operands but for its sign, so that rounding is idle."""
    if isinstance(expr, tuple):
        cases = expr[2:] if expr[0] == "select" else expr[1:]
        return expr[0] in _EXACT and all(map(is_exact, cases))
    return isinstance(expr, str)


def is_cheap(expr: Expr, budget: int) -> bool:
    """Whether it takes no more than `budget` operations of a few machine instructions each."""
    return _cost(expr) <= budget


def _cost(expr: Expr, seen: set[int] | None = None) -> int:
    if seen is None:
        seen = set()
    if not isinstance(expr, tuple) or id(expr) in seen:
        return 0
    seen.add(id(expr))
    return (1 if expr[0] in _CHEAP else 100) + sum(_cost(e, seen) for e in expr[1:])


def is_supported(
    expr: Expr, known: Mapping[str, DType], expected: DType, supports: Supports
) -> bool:
    """Whether a backend renders every operation of an expression in its dtype.

    Args:
        expr: The expression.
        known: The dtype of each operand, by name.
        expected: That of the result.
        supports: What the backend says of one operation.
    """
    if not isinstance(expr, tuple):
        return True
    # A tree whose parts are shared, such as that of random bits, takes exponential time to hash.
    key = (id(expr), tuple(known.items()), expected, supports)
    found = _answers.get(key)
    if found is None:
        if len(_answers) >= _KEPT:
            _answers.clear()
        answer = _is_supported(expr, expected, Types(known), set(), supports)
        found = _answers[key] = (expr, answer)  # the expression lives as long as its identity
    return found[1]


_answers: dict[Any, tuple[Expr, bool]] = {}


def _is_supported(
    expr: Expr, expected: DType, types: Types, seen: set[tuple[int, DType]], supports: Supports
) -> bool:
    if not isinstance(expr, tuple) or (id(expr), expected) in seen:
        return True
    seen.add((id(expr), expected))
    if expr[0] in CASTS:
        return _is_supported(expr[1], expected, types, seen, supports)
    dtype = types.inside(expr) or expected
    return supports(expr[0], dtype) and all(
        _is_supported(a, dtype, types, seen, supports) for a in expr[1:]
    )
