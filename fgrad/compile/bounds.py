"""Whether a kernel has computed what it means, within what rounding can explain.

The kernel is evaluated in float64 on the operands that it was given. Beside each value goes a bound
on the error that a machine may have made in it: that of the operation itself, and what the errors
of its operands do to the result, found by moving each operand by its bound. So a difference of
nearly equal numbers may be off by much, and a product by a last digit. Where the bound reaches
across a jump (a comparison, a rounding), either side is accepted.
"""

from collections.abc import Callable, Sequence
from math import log2
from typing import Any

import numpy as np

from fgrad.compile.interpret import SCANS, Run, compute, joined
from fgrad.compile.kernel import (
    Accumulate,
    Compute,
    Const,
    Fold,
    Index,
    Instr,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
)
from fgrad.core.scalar import OPS

Array = np.ndarray[Any, Any]
# Results of these have no error of their own, or half a unit in the last place; others up to four.
_EXACT = frozenset(
    [
        "neg",
        "abs",
        "sign",
        "min",
        "max",
        "floor",
        "ceil",
        "rint",
        "trunc",
        "copysign",
        "select",
        "rem",
        "nextafter",
        "bitcast",
    ]
)
_ROUNDED = frozenset(["add", "sub", "mul", "div", "sqrt", "convert"])
_ULPS = 5.0


def _nearest(x: Array) -> Array:
    """How far the next integer is; the greatest term of a sum of powers is one of it."""
    return np.asarray(np.abs(x - np.rint(x)))


def _exponential(size: Array) -> Array:
    """What the rounding of the exponent of a power counts."""
    return np.asarray(8 * size * (1 - np.log(np.clip(size, 1e-320, 1))))


# What errors are relative to, if it is greater than the result: terms that cancel.
_TERMS: dict[str, Callable[..., Any]] = {
    "lgamma": lambda x: np.where(x < 0, np.abs(x) * np.log(2 + np.abs(x)) + 1, 0.5),
    "digamma": lambda x: np.where(x < 0, np.log(2 + np.abs(x)) + 1, 0.0),
    "zeta": lambda x, q: np.where(
        q < 0, _nearest(q) ** -np.abs(x), 2 * np.abs(OPS["zeta"].numpy(x, q))
    ),
    "polygamma": lambda m, x: np.where(x < 0, OPS["polygamma"].numpy(np.abs(m), _nearest(x)), 0.0),
    "igamma": lambda a, x: _exponential(OPS["igamma"].numpy(a, x)),
    # SciPy's own, which it is compared with, is off by 90 ulp beside a = ½, x = 1.
    "igammac": lambda a, x: 2 * _exponential(OPS["igammac"].numpy(a, x)),
    "regularized_incomplete_beta": lambda *xs: _exponential(
        OPS["regularized_incomplete_beta"].numpy(*xs)
    ),
    "gamma_quantile_slope": lambda a, y: (
        80 * np.abs(OPS["gamma_quantile_slope"].numpy(a, y)) * (1 + np.sqrt(np.abs(a)))
    ),
}
_CHAIN = 64  # the longest chain of additions, less the logarithm of their number


def fault(
    kernel: Kernel, before: Sequence[Array], after: Sequence[Array], *, serial: bool = False
) -> str | None:
    """What is wrong with what a kernel has written, or None.

    Args:
        kernel: The kernel.
        before: Its operands as they were, flat.
        after: Its operands as they are.
        serial: Whether what is judged adds up in one chain, as NumPy may, not in blocks.
    """
    with np.errstate(all="ignore"):
        return _Bounded(kernel, before, after, serial).check()


class _Bounded(Run):
    """An evaluation in float64, with a bound on the error of each value."""

    def __init__(
        self, kernel: Kernel, before: Sequence[Array], after: Sequence[Array], serial: bool
    ) -> None:
        super().__init__(kernel, before)
        self.after, self.serial = after, serial
        self.errors: dict[int, Array] = {}

    def check(self) -> str | None:
        """Evaluate, and compare where the kernel stores."""
        for i, instr in enumerate(self.kernel.body):
            match instr:
                case Store(operand=o, map=m, arg=arg):
                    found = self.compare(o, m, self.values[arg], self.errors[arg])
                    if found is not None:
                        return found
                case Accumulate(operand=o, map=m, monoid=monoid, arg=arg):
                    axes = tuple(range(self.kernel.kept, len(self.kernel.outer)))
                    found = self.compare(o, m, *self.fold(monoid, arg, axes))
                    if found is not None:
                        return found
                case Fold(operand=o, map=m, monoid=monoid, arg=arg):
                    last = (len(self.shape) - 1,)
                    found = self.compare(o, m, *self.fold(monoid, arg, last))
                    if found is not None:
                        return found
                case _:
                    self.evaluate(i, instr)
        return None

    def evaluate(self, i: int, instr: Instr) -> None:
        one = (1,) * len(self.shape)
        match instr:
            case Load():
                value = self.load(instr)
            case Const(value=number, dtype=dtype):
                value = np.full(one, number, dtype)
            case Index(axis=axis, dtype=dtype):
                value = self.along(axis).astype(dtype)
            case Compute():
                self.values[i], self.errors[i] = self.apply(instr)
                return
            case Reduce(monoid=monoid, arg=arg):
                axes = tuple(range(len(self.kernel.outer), len(self.shape)))
                self.values[i], self.errors[i] = self.fold(monoid, arg, axes)
                return
            case Scan():
                self.values[i], self.errors[i] = self.running(instr)
                return
        self.values[i] = _wide(value)
        self.errors[i] = np.zeros(one)

    def dtype_of(self, value: int) -> Any:
        return self.kernel.body[value].dtype  # type: ignore[union-attr]

    def apply(self, instr: Compute) -> tuple[Array, Array]:
        """An operation: its value, its own error, and what those of its operands do to it."""
        args = [self.values[a] for a in instr.args]
        kinds = [self.dtype_of(a) for a in instr.args]
        value = _value(instr, args, kinds)
        error = np.zeros(value.shape)
        for k, a in enumerate(instr.args):
            doubt = self.errors[a]
            if not doubt.any():
                continue
            moved = _moved(args[k], doubt)
            there = [_value(instr, [*args[:k], x, *args[k + 1 :]], kinds) for x in moved]
            error = error + np.max([_distance(x, value) for x in there], axis=0)
            if kinds[k].kind in "iu":  # no step of an integer is that large
                error = error + np.where(np.isinf(doubt), np.inf, 0.0)
        if instr.op == "bitcast" and kinds[0].kind == "f":  # a NaN in float64 has other bits
            error = error + np.where(np.isnan(args[0]), np.inf, 0.0)
        if instr.op == "select" and (unsure := self.errors[instr.args[0]]).any():
            # The test and the value that it chooses may be off at once.
            pairs = zip(args[1:], instr.args[1:], strict=True)
            either = [_distance(x, value) + self.errors[a] for x, a in pairs]
            error = np.where(unsure > 0, np.maximum(*either), error)
        if instr.dtype.kind == "f" and instr.op not in _EXACT:
            ulps = 1.0 if instr.op in _ROUNDED or instr.op.startswith("round_") else _ULPS
            size = (
                np.maximum(np.abs(value), _TERMS[instr.op](*args)) if instr.op in _TERMS else value
            )
            error = error + ulps * _unit(instr.op, instr.dtype) * np.abs(size)
            error = error + ulps * np.finfo(instr.dtype).smallest_subnormal.astype(float)
        return value, np.where(np.isnan(error), np.inf, error)

    def fold(self, monoid: str, arg: int, axes: tuple[int, ...]) -> tuple[Array, Array]:
        """A reduction: its value, and a bound on its error."""
        dtype = self.dtype_of(arg)
        value, doubt = np.broadcast_arrays(self.values[arg], self.errors[arg])
        lengths = [self.shape[k] if k in axes else n for k, n in enumerate(value.shape)]
        value, doubt = np.broadcast_to(value, lengths), np.broadcast_to(doubt, lengths)
        wide = np.dtype(np.float64) if dtype.kind == "f" else dtype
        total = self.reduce(monoid, value, axes, wide)
        count = max(2, value.size // max(1, total.size))
        if dtype.kind != "f" or monoid in ("max", "min"):
            error = doubt.max(axes, keepdims=True, initial=0.0)
            exact = dtype.kind == "f" or not error.any()
            return _limited(total, dtype), error if exact else np.where(error > 0, np.inf, 0.0)
        unit = float(np.finfo(dtype).eps)
        if monoid == "add":
            chain = max(count, _CHAIN) if self.serial else _CHAIN + log2(count)
            terms = np.abs(value).sum(axes, keepdims=True) * chain * unit
            error = doubt.sum(axes, keepdims=True) + terms
        else:
            relative = np.where(doubt > 0, doubt / np.abs(value), 0.0)
            error = np.abs(total) * (relative.sum(axes, keepdims=True) + count * unit)
            # Products of some factors may be too small for the dtype, or too large.
            most = np.maximum(np.abs(value), 1.0).prod(axes, keepdims=True)
            error = error + count * most * np.finfo(dtype).smallest_subnormal.astype(float)
            error = np.where(most > float(np.finfo(dtype).max), np.inf, error)
        return _limited(total, dtype), np.where(np.isnan(error), np.inf, error)

    def running(self, instr: Scan) -> tuple[Array, Array]:
        """A scan: its values, and a bound on the error of each."""
        if "mul" in instr.monoid and instr.dtype.kind == "f":
            return self.running_product(instr)
        dtype, monoid, (arg,) = instr.dtype, instr.monoid, instr.args
        value, doubt = np.broadcast_arrays(self.values[arg], self.errors[arg])

        def along(ufunc: Any, x: Array) -> Array:
            return self.accumulated(ufunc, x, free=instr.free)

        total = _limited(along(SCANS[monoid], value), dtype)
        worst = along(np.maximum, doubt)
        if dtype.kind != "f":
            return total, np.where(worst > 0, np.inf, 0.0)
        if monoid in ("max", "min"):
            return total, worst
        unit = float(np.finfo(dtype).eps)
        if monoid == "add":
            ulps = _CHAIN + log2(max(2, self.kernel.length))
            terms = along(np.add, np.where(np.isfinite(value), np.abs(value), 0.0))
            error = along(np.add, doubt) + terms * ulps * unit
            # Some sum on the way may be too large for the dtype.
            error = np.where(terms > float(np.finfo(dtype).max), np.inf, error)
        else:
            size = along(np.maximum, np.where(np.isfinite(total), np.abs(total), 0.0)) + 1
            error = worst + along(np.add, np.ones_like(doubt)) * _ULPS * unit * size
        return total, np.where(np.isnan(error), np.inf, error)

    def running_product(self, instr: Scan) -> tuple[Array, Array]:
        """A scan by products of floats, or of complex numbers, in the order of the elements."""

        def along(ufunc: Any, x: Array) -> Array:
            return self.accumulated(ufunc, x, free=instr.free)

        dtype = instr.dtype
        total = _limited(self.scan(instr, [self.values[a] for a in instr.args]), dtype)
        doubts = [self.errors[a] for a in instr.args]
        parts = np.broadcast_arrays(*(self.values[a] for a in instr.args), *doubts)
        size = np.abs(joined(*parts[:2])) if len(instr.args) == 2 else np.abs(parts[0])
        doubt = np.sum(parts[len(instr.args) :], axis=0)
        relative = along(np.add, np.where(doubt > 0, doubt / size, 0.0))
        count = along(np.add, np.ones_like(doubt)) * len(instr.args) ** 2
        error = along(np.multiply, size) * (relative + count * float(np.finfo(dtype).eps))
        # Products of some factors may be too small for the dtype, or too large.
        most = along(np.multiply, np.maximum(size, 1.0))
        error = error + count * most * np.finfo(dtype).smallest_subnormal.astype(float)
        error = np.where(most > float(np.finfo(dtype).max), np.inf, error)
        return total, np.where(np.isnan(error), np.inf, error)

    def compare(self, operand: int, m: Map, value: Array, error: Array) -> str | None:
        """The first element that is further from the value than its bound, in words."""
        stored = self.kernel.operands[operand].dtype
        index = self.index(m)
        shape = np.broadcast_shapes(index.shape, value.shape)
        index, value, error = (np.broadcast_to(x, shape) for x in (index, value, error))
        got = _wide(self.after[operand][index])
        if stored.kind not in "biu" and stored.itemsize < 4:
            value = _wide(value.astype(stored))
            error = np.where(error > 0, error + 2.0**-7 * np.abs(value), 0.0)
        off = difference(got, value, error, index)
        return None if off is None else f"operand {operand}, {off}"


def difference(got: Array, wanted: Array, error: Array, index: Array | None = None) -> str | None:
    """The first element that is further from what is wanted than its bound, in words, or None.

    Args:
        got: What was computed.
        wanted: What it should be, of the same shape; two NaNs are the same.
        error: The bound; infinite or NaN where nobody knows.
        index: What the elements are called; None: their flat positions.
    """
    distance = _distance(got, wanted)
    error = np.broadcast_to(error, distance.shape)
    bad = (distance != 0) & ~(np.isnan(error) | (distance <= error))
    if not bad.any():
        return None
    first = int(np.argmax(bad))
    at = np.unravel_index(first, bad.shape)
    name = first if index is None else int(index[at])
    return (
        f"element {name}: got {got[at]}, expected {wanted[at]} "
        f"± {error[at]:.3g} ({int(bad.sum())} of {bad.size} elements are off)"
    )


def _wide(x: Array) -> Array:
    return x if x.dtype.kind in "biu" else x.astype(np.float64)


def _value(instr: Compute, args: Sequence[Array], kinds: Sequence[Any]) -> Array:
    """An operation on float64 in place of narrower floats."""
    if instr.op == "bitcast":
        exact = [a.astype(k) for a, k in zip(args, kinds, strict=True)]
        shape = np.broadcast_shapes(*(a.shape for a in exact))
        return _wide(compute(instr.op, [np.broadcast_to(a, shape) for a in exact], instr.dtype))
    wide = np.dtype(np.float64) if instr.dtype.kind == "f" else instr.dtype
    if instr.op == "nextafter":
        return _wide(compute(instr.op, [a.astype(instr.dtype) for a in args], instr.dtype))
    if instr.op.startswith("round_"):
        return _wide(compute(instr.op, [a.astype(np.float32) for a in args], instr.dtype))
    if instr.op == "convert" and instr.dtype.kind in "iu" and kinds[0].kind == "f":
        return compute(instr.op, args, instr.dtype)
    return _limited(np.asarray(compute(instr.op, args, wide)), instr.dtype)


def _limited(x: Array, dtype: Any) -> Array:
    """Infinity where a value does not fit the dtype."""
    if dtype.kind != "f" or dtype.itemsize == 8:
        return x
    return np.where(np.abs(x) > float(np.finfo(dtype).max), np.copysign(np.inf, x), x)


def _unit(op: str, dtype: Any) -> float:
    if op == "round_bfloat16":
        return 2.0**-7
    return 2.0**-10 if op == "round_float16" else float(np.finfo(dtype).eps)


def _moved(x: Array, doubt: Array) -> list[Array]:
    """A value at the ends of its bound."""
    if x.dtype.kind == "b":
        return [np.where(doubt > 0, ~x, x)]
    if x.dtype.kind in "iu":
        step = np.where(np.isfinite(doubt), doubt, 0).astype(x.dtype)
        return [x + step, x - step]
    return [x + doubt, x - doubt]


def _distance(x: Array, y: Array) -> Array:
    """How far apart two values are: 0 for two NaNs, infinite for one."""
    if y.dtype.kind in "biu":
        return np.where(x == y, 0.0, np.abs(x.astype(np.float64) - y.astype(np.float64)))
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    apart = np.abs(x - y)
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
