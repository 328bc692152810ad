"""Integers of a program that remember how they were computed, so that others can be.

A `Size` stands for an integer of a program whose value may be another one next time. It is used
like an integer: arithmetic gives sizes again, and whatever tells one value from another (a
comparison, a truth value, a use where Python needs an integer proper) is noted as a *condition*.
What was computed with sizes holds for all values under which every condition has the outcome that
it had; then `Sizes.at` gives the value of each size.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np

from fgrad.core.avals import AnySize

Operation = Callable[..., Any]
# Comparisons of two nodes, and their outcomes.
Conditions = dict[tuple[Operation, int, int], bool]


class Mixed(Exception):
    """Sizes of two programs met, or an operation that sizes do not record."""


class Values:
    """What sizes are, at given values of those that are given.

    Attributes:
        of: The value of each node.
    """

    __slots__ = ("of",)

    def __init__(self, of: list[Any]) -> None:
        self.of = of

    def hold(self, conditions: Conditions) -> bool:
        """Whether all of some conditions have the outcome that they had."""
        of = self.of
        return all(op(of[a], of[b]) is found for (op, a, b), found in conditions.items())


class Sizes:
    """The sizes of one program, and the conditions on them.

    Attributes:
        fixed: Sizes that must keep their value, since Python asked for it.
    """

    def __init__(self) -> None:
        self._nodes: list[tuple[Operation | None, int, int]] = []
        self._values: list[Any] = []
        self._known: dict[Any, Any] = {}
        self._constants: dict[Any, int] = {}
        self._conditions: Conditions = {}
        self._hashed: dict[int, None] = {}
        self._given: list[int] = []
        self.fixed: set[int] = set()
        self._open = True

    def new(self, value: Any) -> "Size":
        """One that is given: at a later time with another value."""
        made = self._node(None, -1, -1, value)
        self._given.append(made.at)
        return made

    def close(self) -> None:
        """No more is recorded: what is computed with sizes from now on fails."""
        self._open = False
        self._known = {}
        self._constants = {}

    def at(self, given: Sequence[Any]) -> Values | None:
        """The values of all sizes, from those that are given; None where a condition fails."""
        values = list(self._values)
        for at, value in zip(self._given, given, strict=True):
            values[at] = value
        try:
            for i, (op, a, b) in enumerate(self._nodes):
                if op is not None:
                    values[i] = op(values[a], values[b]) if a >= 0 else op(values)
        except Exception:  # noqa: BLE001 - no such number, as 299 in int8; conditions come later
            return None
        found = Values(values)
        if not found.hold(self._conditions):
            return None
        before = self._values
        if not all(_is_same(values[i], before[i]) for i in self.fixed):
            return None
        # Sizes that a table told apart by their hashes must still be apart.
        olds: dict[Any, Any] = {}
        apart = all(olds.setdefault(values[i], before[i]) == before[i] for i in self._hashed)
        return found if apart else None

    def learn(self, kernel: Any, find_out: Callable[[Any], object]) -> Conditions:
        """Have something found out about a kernel, and keep in its memo what holds no size.

        Returns:
            The conditions under which that is so. The program does not depend on them.
        """
        memo, before = kernel.memo, dict(kernel.memo)
        conditions, fixed, hashed = dict(self._conditions), set(self.fixed), dict(self._hashed)
        try:
            find_out(kernel)
            known = len(self.fixed) == len(fixed) and len(self._hashed) == len(hashed)
        except Exception:  # noqa: BLE001 - it is found out later, of a kernel without sizes
            known = False
        added = {k: v for k, v in self._conditions.items() if k not in conditions}
        self._conditions, self.fixed, self._hashed = conditions, fixed, hashed
        found = {k: v for k, v in memo.items() if known and _is_free(v)}
        memo.clear()
        memo.update(found or before)
        return added if found else {}

    # ------------------------------------------------------------------------ recording

    def _node(self, op: Operation | None, a: int, b: int, value: Any) -> "Size":
        made = Size(self, len(self._nodes), value)
        self._nodes.append((op, a, b))
        self._values.append(value)
        return made

    def _constant(self, value: Any) -> int:
        key = (type(value), value)
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self._node(None, -1, -1, value).at
        return found

    def operand(self, x: Any) -> int | None:
        """The node of an operand; None of what is no integer."""
        kind = type(x)
        if kind is Size:
            if x.sizes is not self:
                raise Mixed("sizes of two programs")
            at: int = x.at
            return at
        if kind is int or kind is bool:
            return self._constant(int(x))
        return None

    def compute(self, op: Operation, a: int, b: int) -> "Size":
        """A size made of two."""
        key = (op, a, b)
        found = self._known.get(key)
        if found is None:
            if not self._open:
                raise Mixed("a program that is done")
            value = op(self._values[a], self._values[b])
            found = self._known[key] = self._node(op, a, b, value)
        made: Size = found
        return made

    def compare(self, op: Operation, a: int, b: int) -> bool:
        """The outcome of a comparison, which becomes a condition."""
        key = (op, a, b)
        found = self._conditions.get(key)
        if found is None:
            if not self._open:
                raise Mixed("a program that is done")
            found = self._conditions[key] = bool(op(self._values[a], self._values[b]))
        return found

    def fix(self, size: "Size") -> Any:
        """The value of a size, which must stay what it is."""
        if not self._open:
            raise Mixed("a size is left over from a program that is done")
        self.fixed.add(size.at)
        return size.value

    def applied(self, function: Callable[..., Any], args: Sequence[Any]) -> "Number":
        """The array without axes that a function makes of others, of which some are numbers."""
        if not self._open:
            raise Mixed("a program that is done")

        def of(values: list[Any]) -> Any:
            return function(*(values[x.at] if type(x) is Number else x for x in args))

        return Number(self._node(of, -1, -1, of(self._values)))

    def hashed(self, size: "Size") -> int:
        """A hash by value; sizes that tables tell apart must stay apart."""
        self._hashed[size.at] = None
        return hash((id(self), size.value))


def _arithmetic(op: Operation, neutral: int | None = None, *, swaps: bool = False) -> Any:
    def method(self: "Size", other: Any) -> Any:
        if type(other) is int:
            if other == neutral:
                return self
            if not other and op is operator.mul:
                return 0
        b = self.sizes.operand(other)
        if b is None:
            return NotImplemented
        a = self.at
        return self.sizes.compute(op, b, a) if swaps and b < a else self.sizes.compute(op, a, b)

    return method


def _reflected(op: Operation) -> Any:
    def method(self: "Size", other: Any) -> Any:
        a = self.sizes.operand(other)
        return NotImplemented if a is None else self.sizes.compute(op, a, self.at)

    return method


def _comparison(op: Operation, same: bool) -> Any:
    def method(self: "Size", other: Any) -> Any:
        if other is self:
            return same
        if type(other) is Size and other.sizes is not self.sizes:
            if op in (operator.eq, operator.ne):
                return op is operator.ne
            raise Mixed("sizes of two programs")
        b = self.sizes.operand(other)
        if b is None and isinstance(other, float | np.generic | np.ndarray):
            raise Mixed("a size is compared with what is no integer")
        return NotImplemented if b is None else self.sizes.compare(op, self.at, b)

    return method


def _is_free(x: Any) -> bool:
    """Whether a value holds no size: all that it is made of is known to be something else."""
    kind = type(x)
    if x is None or kind in (int, str, float, bool) or isinstance(x, np.dtype):
        return True
    if isinstance(x, tuple | list | set | frozenset):
        return all(map(_is_free, x))
    if kind is dict:
        return all(_is_free(k) and _is_free(v) for k, v in x.items())
    return is_dataclass(x) and all(_is_free(getattr(x, f.name)) for f in fields(x))


def _is_same(a: Any, b: Any) -> bool:
    """Whether two numbers are one; 0.0 is not -0.0."""
    return a == b if type(a) is int else np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _item(value: Any, dtype: Any) -> Any:
    return dtype.type(value).item()


def _as_dtype(value: Any, dtype: Any) -> Any:
    return value.astype(dtype)


class Size(AnySize):
    """An integer that may be another one next time; see `Sizes`.

    Attributes:
        sizes: Those that it belongs to.
        at: Its number among them.
        value: What it is this time.
    """

    __slots__ = ("at", "sizes", "value")

    def __init__(self, sizes: Sizes, at: int, value: Any) -> None:
        self.sizes, self.at, self.value = sizes, at, value

    def number(self, dtype: Any) -> "Size":
        """The Python number that it is in a dtype; a `Size` like others, made of this one."""
        sizes = self.sizes
        return sizes.compute(_item, self.at, sizes._constant(dtype))

    def as_array(self, dtype: Any) -> "Number":
        """What stands for it as an array without axes."""
        sizes = self.sizes
        return Number(sizes.compute(np.asarray, self.at, sizes._constant(dtype)))

    __add__ = _arithmetic(operator.add, 0, swaps=True)
    __radd__ = _arithmetic(operator.add, 0, swaps=True)
    __mul__ = _arithmetic(operator.mul, 1, swaps=True)
    __rmul__ = _arithmetic(operator.mul, 1, swaps=True)
    __sub__ = _arithmetic(operator.sub, 0)
    __rsub__ = _reflected(operator.sub)
    __floordiv__ = _arithmetic(operator.floordiv, 1)
    __rfloordiv__ = _reflected(operator.floordiv)
    __mod__ = _arithmetic(operator.mod)
    __rmod__ = _reflected(operator.mod)
    __eq__ = _comparison(operator.eq, True)
    __ne__ = _comparison(operator.ne, False)
    __lt__ = _comparison(operator.lt, False)
    __le__ = _comparison(operator.le, True)
    __gt__ = _comparison(operator.gt, False)
    __ge__ = _comparison(operator.ge, True)

    def __neg__(self) -> Any:
        return 0 - self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __bool__(self) -> bool:
        outcome: bool = self != 0
        return outcome

    def __index__(self) -> int:
        value: int = self.sizes.fix(self)
        return value

    def __hash__(self) -> int:
        return self.sizes.hashed(self)

    def __str__(self) -> str:
        return str(self.sizes.fix(self))

    def __format__(self, form: str) -> str:
        return format(self.sizes.fix(self), form)

    def __repr__(self) -> str:  # of no use as a number, and of no other size
        return f"?{self.at}.{id(self.sizes)}"


class Filled(NamedTuple):
    """The value of a literal that is the same number everywhere, over axes of sizes."""

    value: Any


class Number(AnySize):
    """The value of a literal that may be another number next time, as an array without axes.

    Attributes:
        sizes: What it is recorded with.
        at: Its number there.
        value: What it is this time.
    """

    __slots__ = ("at", "dtype", "sizes", "value")

    ndim, size = 0, 1
    shape: tuple[int, ...] = ()

    def __init__(self, size: Size) -> None:
        self.sizes, self.at, self.value = size.sizes, size.at, size.value
        self.dtype = self.value.dtype

    def tobytes(self) -> bytes:
        """What tells it from other literals."""
        return f"{id(self.sizes)}:{self.at}".encode()

    def astype(self, dtype: Any) -> "Number":
        """In another dtype."""
        sizes = self.sizes
        return Number(sizes.compute(_as_dtype, self.at, sizes._constant(dtype)))

    def number(self, dtype: Any) -> Size:
        """The Python number that it is in a dtype."""
        return Size(self.sizes, self.at, self.value).number(dtype)

    def item(self) -> Any:
        """The Python number, which must stay what it is."""
        value: Any = self.sizes.fix(Size(self.sizes, self.at, self.value))
        return value.item()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        value = self.sizes.fix(Size(self.sizes, self.at, self.value))
        return value if dtype is None else value.astype(dtype)


def is_sized(*xs: Any) -> bool:
    """Whether any may be another number next time."""
    return any(isinstance(x, AnySize) for x in xs)
