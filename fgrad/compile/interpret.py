"""What a kernel means, by NumPy: the oracle of every backend, and what runs without one."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.compile.kernel import (
    Accumulate,
    Bound,
    Compute,
    Const,
    Fold,
    Index,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    Store,
)
from fgrad.core import dtypes
from fgrad.core.scalar import OPS

Array = np.ndarray[Any, Any]
_REDUCTIONS = {
    "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip

SCANS = {**_REDUCTIONS, "logaddexp": np.logaddexp}  # of one value each


def run_kernel(kernel: Kernel, operands: Sequence[Array]) -> None:
    """Run a kernel on flat buffers; those of written operands are changed.

    Args:
        kernel: What to compute.
        operands: One buffer an operand, one-dimensional, of the operand's dtype.
    """
    with np.errstate(all="ignore"):
        Run(kernel, operands).run()


class Run:
    """The values of one run, each an array over the axes of the kernel (or broadcasting to it)."""

    def __init__(self, kernel: Kernel, operands: Sequence[Array]) -> None:
        self.kernel = kernel
        self.operands = operands
        self.shape = (*kernel.outer, *kernel.inner)
        self.values: dict[int, Array] = {}

    def run(self) -> None:
        """Run all instructions."""
        for i, instr in enumerate(self.kernel.body):
            match instr:
                case Load():
                    self.values[i] = self.load(instr)
                case Const(value=value, dtype=dtype):
                    self.values[i] = np.full((1,) * len(self.shape), value, dtype)
                case Index(axis=axis, dtype=dtype):
                    self.values[i] = self.along(axis).astype(dtype)
                case Compute(op=op, args=args, dtype=dtype):
                    self.values[i] = compute(op, [self.values[a] for a in args], dtype)
                case Reduce(monoid=monoid, arg=arg, dtype=dtype):
                    axes = tuple(range(len(self.kernel.outer), len(self.shape)))
                    self.values[i] = self.reduce(monoid, self.values[arg], axes, dtype)
                case Scan():
                    self.values[i] = self.scan(instr, [self.values[a] for a in instr.args])
                case Store(operand=o, map=m, arg=arg):
                    self.store(o, m, self.values[arg])
                case Accumulate(operand=o, map=m, monoid=monoid, arg=arg):
                    axes = tuple(range(self.kernel.kept, len(self.kernel.outer)))
                    value = self.values[arg]
                    self.store(o, m, self.reduce(monoid, value, axes, value.dtype))
                case Fold(operand=o, map=m, monoid=monoid, arg=arg):
                    value = self.values[arg]
                    last = (len(self.shape) - 1,)
                    self.store(o, m, self.reduce(monoid, value, last, value.dtype))

    def along(self, axis: int) -> Array:
        """The positions along an axis, as an array that broadcasts over the others."""
        shape = [1] * len(self.shape)
        shape[axis] = self.shape[axis]
        return np.arange(self.shape[axis]).reshape(shape)

    def index(self, m: Map | Bound) -> Array:
        """Where a map points, for all indices."""
        total = np.full((1,) * len(self.shape), m.offset, np.int64)
        for axis, stride in enumerate(m.strides):
            if stride:
                total = total + stride * self.along(axis)
        for value, stride in m.indirect:
            total = total + stride * self.values[value].astype(np.int64)
        return total

    def load(self, instr: Load) -> Array:
        """The elements that an instruction loads."""
        index = self.index(instr.map)
        data = self.operands[instr.operand]
        if not instr.bounds:
            return data[index].astype(instr.dtype)
        inside: Any = True
        for bound in instr.bounds:
            at = self.index(bound)
            inside = inside & (at >= 0) & (at < bound.size)
        if not np.any(inside):
            return np.full(np.broadcast_shapes(index.shape, inside.shape), instr.fill, instr.dtype)
        found = data[np.where(inside, index, 0)].astype(instr.dtype)
        return np.where(inside, found, instr.dtype.type(instr.fill))

    def reduce(self, monoid: str, value: Array, axes: tuple[int, ...], dtype: Any) -> Array:
        """A value reduced over axes, which stay with length 1."""
        # A value that does not vary along an axis still counts once for each of its positions.
        lengths = [self.shape[i] if i in axes else n for i, n in enumerate(value.shape)]
        full = np.broadcast_to(value, lengths)
        ufunc = _REDUCTIONS[monoid]
        wide = np.float64 if dtype == np.float32 and monoid in ("add", "mul") else dtype
        start = identity(monoid, np.dtype(wide))
        out = ufunc.reduce(full, axis=axes, dtype=wide, keepdims=True, initial=start)
        return np.asarray(out).astype(dtype)

    def scan(self, instr: Scan, args: Sequence[Array]) -> Array:
        """The reductions of the elements up to each."""
        dtype = instr.dtype
        if instr.monoid in ("mul_re", "mul_im"):
            product = self.accumulated(np.multiply, joined(*args), free=instr.free)
            return product.real if instr.monoid == "mul_re" else product.imag
        (value,) = args
        sums = dtype == np.float32 and instr.monoid == "add"
        wide = value.astype(np.float64) if sums else value
        out = self.accumulated(SCANS[instr.monoid], wide, free=instr.free)
        return out.astype(dtype)

    def accumulated(self, ufunc: Any, value: Array, *, free: bool) -> Array:
        """A ufunc accumulated over the axes of a `Scan`, whatever the dtype."""
        first, last = len(self.kernel.outer), len(self.shape) - free
        shape = (*self.shape[:first], prod(self.shape[first:last]), *self.shape[last:])
        rows = np.broadcast_to(value, self.shape).reshape(shape)
        return np.asarray(ufunc.accumulate(rows, axis=first, dtype=value.dtype)).reshape(self.shape)

    def store(self, operand: int, m: Map, value: Array) -> None:
        """Write a value to an operand."""
        index = self.index(m)
        shape = np.broadcast_shapes(index.shape, value.shape)
        target = self.operands[operand]
        target[np.broadcast_to(index, shape)] = np.broadcast_to(value, shape).astype(target.dtype)


def joined(real: Array, imag: Array) -> Array:
    """Complex numbers from their parts."""
    shape = np.broadcast_shapes(real.shape, imag.shape)
    out = np.empty(shape, np.result_type(real.dtype, np.complex64))
    out.real, out.imag = real, imag
    return out


def compute(op: str, args: Sequence[Array], dtype: Any) -> Array:
    """One scalar operation on arrays."""
    if op == "convert":
        return convert(args[0], dtype)
    if op == "bitcast":
        return np.ascontiguousarray(args[0]).view(dtype)
    if op.startswith("round_"):
        return args[0].astype(dtypes.dtype(op.removeprefix("round_"))).astype(np.float32)
    return np.asarray(OPS[op].numpy(*args)).astype(dtype, copy=False)


def convert(x: Array, dtype: Any) -> Array:
    """Conversion as programs mean it: float to integer truncates, clamps, and makes NaN 0."""
    if dtype.kind == "b":
        return np.asarray(x != 0)
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        return x.astype(dtype)
    info = np.iinfo(dtype)
    whole = np.trunc(np.where(np.isnan(x), 0, x)).astype(np.float64)
    out = np.clip(whole, float(info.min), float(info.max))
    top = whole >= float(info.max)
    return np.asarray(np.where(top, info.max, np.where(top, 0, out).astype(dtype)), dtype)


def identity(monoid: str, dtype: Any) -> Any:
    """The value that changes nothing."""
    if monoid in ("add", "or", "xor"):
        return dtype.type(0)
    if monoid == "mul":
        return dtype.type(1)
    if monoid == "and":
        return np.invert(dtype.type(0))
    low = monoid in ("max", "logaddexp")
    if dtype.kind == "f":
        return dtype.type(-np.inf if low else np.inf)
    if dtype.kind == "b":
        return dtype.type(not low)
    info = np.iinfo(dtype)
    return dtype.type(info.min if low else info.max)
