"""The body of a kernel while it is written: instructions, each written once."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fgrad.compile.kernel import (
    Accumulate,
    Bound,
    Compute,
    Const,
    Fold,
    Index,
    Instr,
    Load,
    Map,
    Operand,
    Reduce,
    Scan,
    Store,
)
from fgrad.compile.lower.scalars import (
    BOOL,
    ROUNDINGS,
    DType,
    Types,
    computed,
    is_exact,
    part_dtype,
)
from fgrad.compile.lower.views import Affine
from fgrad.core.avals import AnySize
from fgrad.core.ir import Var
from fgrad.core.scalar import CASTS, OPS, Expr

I32, I64 = np.dtype(np.int32), np.dtype(np.int64)


class Body:
    """Instructions over given axes; equal ones are written once.

    Attributes:
        sizes: The axes of the kernel.
        code: The instructions.
        operands: Their buffers, by the value that each holds.
        order: The values, in order of the operands.
        free: The first axis that scans leave out, or None.
        keys: What tells each instruction from others; zeros have a sign in them.
    """

    def __init__(
        self, sizes: Sequence[int], inner: int, backward: Collection[int] = (),
        free: int | None = None,
    ) -> None:  # fmt: skip
        self.sizes = tuple(sizes)
        self.backward, self.free = backward, free  # axes walked from their end
        self.inner = inner  # the first inner axis
        self.code: list[Instr] = []
        self.operands: list[Operand] = []
        self.order: list[Var] = []
        self.keys: list[Any] = []
        self._known: dict[Any, int] = {}
        self._operand_of: dict[Var, int] = {}
        self._full: list[bool] = []

    def _emit(self, key: Any, instr: Instr, full: bool) -> int:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.code)
            self._put(key, instr, full)
        return found

    def _walked(self, at: Affine) -> Map:
        """A map over the positions of the loops, from one over the axes."""
        offset, strides = at.offset, list(at.strides)
        for a in self.backward:
            offset += strides[a] * (self.sizes[a] - 1)
            strides[a] = -strides[a]
        return Map(offset, tuple(strides), at.indirect)

    def _bounded(self, b: Bound) -> Bound:
        m = self._walked(Affine(b.offset, b.strides, b.indirect))
        return Bound(b.size, m.offset, m.strides, m.indirect)

    def _put(self, key: Any, instr: Instr, full: bool) -> None:
        self.keys.append(key)
        self.code.append(instr)
        self._full.append(full)

    def _varies(self, m: Affine | Map | Bound) -> bool:
        return any(m.strides[self.inner :]) or any(self._full[v] for v, _ in m.indirect)

    def dtype(self, value: int) -> DType:
        """The dtype of a computed value."""
        return self.code[value].dtype  # type: ignore[union-attr]

    def operand(self, var: Var, written: bool) -> int:
        """The operand that holds a value of the program."""
        found = self._operand_of.get(var)
        if found is None:
            found = self._operand_of[var] = len(self.operands)
            self.operands.append(Operand(part_dtype(var.aval.dtype), written))
            self.order.append(var)
        return found

    def load(self, var: Var, at: Affine, bounds: tuple[Bound, ...] = (), fill: Any = 0) -> int:
        """An element of a buffer."""
        dtype = computed(part_dtype(var.aval.dtype))
        assert dtype is not None
        if not var.aval.size:
            return self.const(fill, dtype)  # every index lies outside
        o = self.operand(var, written=False)
        assert not self.operands[o].written, "a kernel reads what it writes"
        m = self._walked(at)
        bounds = tuple(self._bounded(b) for b in bounds)
        full = self._varies(m) or any(map(self._varies, bounds))
        key = ("load", o, m, bounds, repr(fill))
        return self._emit(key, Load(o, m, dtype, bounds, fill), full)

    def const(self, value: Any, dtype: DType) -> int:
        """A number; one that depends on sizes stays what it is made of."""
        if isinstance(value, AnySize):
            number = value.number(dtype)  # told apart by what it is made of: 0.0 equals -0.0
            return self._emit(("size", repr(number), dtype), Const(number, dtype), False)
        value = dtype.type(value).item()
        return self._emit(("const", repr(value), dtype), Const(value, dtype), False)

    def position(self, axis: int, dtype: DType = I64) -> int:
        """The position along an axis."""
        here = self._emit(("index", axis, dtype), Index(axis, dtype), axis >= self.inner)
        if axis not in self.backward:
            return here
        return self.compute("sub", (self.const(self.sizes[axis] - 1, dtype), here), dtype)

    def compute(self, op: str, args: tuple[int, ...], dtype: DType) -> int:
        """A scalar operation."""
        full = any(self._full[a] for a in args)
        return self._emit((op, args, dtype), Compute(op, args, dtype), full)

    def reduce(self, monoid: str, arg: int) -> int:
        """A value of each row."""
        if not self._full[arg]:
            arg = self._spread(arg)
        dtype = self.dtype(arg)
        return self._emit(("reduce", monoid, arg), Reduce(monoid, arg, dtype), False)

    def scan(self, monoid: str, *args: int) -> int:
        """For each element, the reduction of those up to it."""
        instr = Scan(monoid, args, self.dtype(args[0]), self.free is not None)
        return self._emit(("scan", monoid, args), instr, True)

    def _spread(self, arg: int) -> int:
        """A row value as one of each element: it counts as often as there are elements."""
        here = self.position(len(self.sizes) - 1)
        always = self.compute("ge", (here, self.const(0, I64)), BOOL)
        return self.compute("select", (always, arg, arg), self.dtype(arg))

    def store(self, var: Var, at: Affine, arg: int) -> None:
        """Write to the buffer of a value."""
        o = self.operand(var, written=True)
        if not var.aval.size:
            return
        m = self._walked(at)
        self._put(("store", o, m, arg), Store(o, m, arg), False)

    def accumulate(self, var: Var, at: Affine, monoid: str, arg: int) -> None:
        """Reduce over the outer axes that are not kept, into the buffer of a value."""
        o = self.operand(var, written=True)
        if not var.aval.size:
            return
        m = self._walked(at)
        self._put(("accumulate", o, m, monoid, arg), Accumulate(o, m, monoid, arg), False)

    def fold(self, var: Var, at: Affine, monoid: str, arg: int) -> None:
        """Reduce over the last axis, into the buffer of a value."""
        o = self.operand(var, written=True)
        m = self._walked(at)
        self._put(("fold", o, m, monoid, arg), Fold(o, m, monoid, arg), False)

    # --------------------------------------------------------------------------- composed

    def whole(self, at: Affine | Bound, dtype: DType = I64) -> int:
        """The value of an affine form, as an integer of a signed dtype."""
        out = None
        for axis, s in enumerate(at.strides):
            if s:
                out = self._plus(out, self._times(self.position(axis, dtype), s))
        for value, s in at.indirect:
            out = self._plus(out, self._times(self.convert(value, dtype), s))
        if at.offset or out is None:
            out = self._plus(out, self.const(at.offset, dtype))
        return out

    def below(self, size: int, at: Affine) -> int:
        """The value of an affine form that is less than `size`, in 32 bits where it fits them."""
        return self.whole(at, I32 if size < 2**31 and not at.indirect else I64)

    def _plus(self, x: int | None, y: int) -> int:
        return y if x is None else self.compute("add", (x, y), self.dtype(y))

    def _times(self, x: int, factor: int) -> int:
        dtype = self.dtype(x)
        return x if factor == 1 else self.compute("mul", (x, self.const(factor, dtype)), dtype)

    def inside(self, bounds: Sequence[Bound]) -> int:
        """Whether all bounds hold."""
        out = None
        for b in bounds:
            at = self.whole(b)
            for op, limit in (("ge", 0), ("lt", b.size)):
                test = self.compute(op, (at, self.const(limit, I64)), BOOL)
                out = test if out is None else self.compute("and", (out, test), BOOL)
        assert out is not None
        return out

    def convert(self, value: int, dtype: DType) -> int:
        """The value in another of the dtypes that kernels compute in."""
        return value if self.dtype(value) == dtype else self.compute("convert", (value,), dtype)

    def clamped(self, value: int, limit: int) -> int:
        """An integer moved between 0 and a limit; no conversion, which might wrap."""
        dtype = self.dtype(value)
        if dtype.kind == "i":
            value = self.compute("max", (value, self.const(0, dtype)), dtype)
        if limit < np.iinfo(dtype).max:
            value = self.compute("min", (value, self.const(limit, dtype)), dtype)
        return value

    def rounded(self, value: int, dtype: DType) -> int:
        """The value rounded as a value of the program is, in the dtype that computes."""
        op = ROUNDINGS.get(dtype)
        return value if op is None else self.compute(op, (value,), self.dtype(value))

    def expression(self, expr: Expr, values: Mapping[str, int], dtype: DType, exact: bool) -> int:
        """A scalar expression over computed values; `dtype` is that of the program's value."""
        expected = computed(dtype)
        assert expected is not None
        types = Types({name: self.dtype(v) for name, v in values.items()})
        out = self._tree(expr, values, types, expected, {})
        return out if exact and is_exact(expr) else self.rounded(out, dtype)

    def _tree(
        self, expr: Expr, values: Mapping[str, int], types: Types, expected: DType,
        known: dict[tuple[int, DType], int],
    ) -> int:  # fmt: skip
        if isinstance(expr, str):
            return values[expr]
        if not isinstance(expr, tuple):
            return self.const(expr, expected)
        key = (id(expr), expected)
        if key not in known:
            known[key] = self._operation(expr, values, types, expected, known)
        return known[key]

    def _operation(
        self, expr: tuple[Any, ...], values: Mapping[str, int], types: Types, expected: DType,
        known: dict[tuple[int, DType], int],
    ) -> int:  # fmt: skip
        op, *args = expr
        if op in CASTS:
            arg = self._tree(args[0], values, types, expected, known)
            if op == "convert" or self.dtype(arg) == expected:
                return self.convert(arg, expected)
            return self.compute(op, (arg,), expected)
        dtype = types.inside(expr) or expected
        if op == "select":
            which = self._tree(args[0], values, types, BOOL, known)
            x, y = (self._tree(a, values, types, dtype, known) for a in args[1:])
            return self.compute(op, (which, x, y), dtype)
        result = BOOL if OPS[op].result == "bool" else dtype
        parts = tuple(self._tree(a, values, types, dtype, known) for a in args)
        return self.compute(op, parts, result)
