"""Random kernels whose results do not depend on the order of additions, and their buffers."""

from math import prod

import ml_dtypes
import numpy as np

from fgrad.backends.cpu.ops import supports
from fgrad.compile.kernel import (
    COMPUTED,
    FULL,
    Accumulate,
    Bound,
    Compute,
    Const,
    Fold,
    Index,
    Kernel,
    Load,
    Map,
    Operand,
    Reduce,
    Store,
    levels,
)
from fgrad.core.scalar import OPS

STORED = (*COMPUTED, np.dtype("e"), np.dtype(ml_dtypes.bfloat16))
SIZES = (0, 1, 2, 2, 3, 3, 5, 70)
LAST = (0, 1, 1, 2, 7, 16, 17, 33, 70, 300)
# Exact: IEEE says each bit of the result. The others are judged in `vmath`'s own tests.
EXACT = (
    "add", "sub", "mul", "div", "rem", "neg", "abs", "sign", "min", "max", "floor", "ceil", "rint",
    "trunc", "sqrt", "nextafter", "copysign", "eq", "ne", "lt", "le", "gt", "ge", "isfinite",
    "isnan", "and", "or", "xor", "not", "shl", "shr", "sar", "popcount", "clz", "select",
)  # fmt: skip
LIMIT = 6000  # elements of a kernel


class Maker:
    """Grows one kernel, drawing from `rng`."""

    def __init__(self, rng):
        self.rng = rng
        self.data = np.random.default_rng(rng.randrange(2**32))
        self.outer = tuple(rng.choice(SIZES) for _ in range(rng.randrange(4)))
        self.inner = tuple(rng.choice(SIZES) for _ in range(rng.randrange(3)))
        self.inner += (rng.choice(LAST),)
        if not self.outer and rng.randrange(3) == 0:
            self.inner = (rng.choice((4095, 4096, 4097, 9000)),)
        while prod(self.sizes) > LIMIT and len(self.sizes) > 1:
            if self.outer:
                self.outer = self.outer[1:]
            else:
                self.inner = self.inner[1:]
        self.kept = rng.randrange(len(self.outer) + 1)
        self.body, self.operands, self.buffers = [], [], []

    @property
    def sizes(self):
        return (*self.outer, *self.inner)

    def kernel(self):
        return Kernel("random", self.outer, self.inner, tuple(self.operands), tuple(self.body),
                      self.kept)  # fmt: skip

    def push(self, instr):
        self.body.append(instr)
        return len(self.body) - 1

    def dtype(self, i):
        return self.body[i].dtype

    def values(self, want=lambda dtype: True):
        return [i for i, x in enumerate(self.body) if hasattr(x, "dtype") and want(x.dtype)]

    def pick(self, dtype):
        """A value of some dtype: an existing one, or one converted."""
        rng, found = self.rng, self.values(lambda d: d == dtype)
        if found and rng.randrange(8):
            return rng.choice(found)
        others = self.values()
        if others and rng.randrange(3):
            return self.push(Compute("convert", (rng.choice(others),), dtype))
        return self.const(dtype)

    def const(self, dtype, value=None):
        if value is None:
            value = self.rng.choice((0, 1, 3, 2.5 if dtype.kind == "f" else 7, True))
        return self.push(Const(np.asarray(value).astype(dtype).item(), dtype))

    # Memory

    def fill(self, count, dtype):
        if dtype.kind == "b":
            return self.data.integers(0, 2, count).astype(bool)
        if dtype.kind in "iu":
            raw = self.data.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype)
            small = self.data.integers(0, 5, count).astype(dtype)
            return np.where(self.data.random(count) < 0.5, raw, small)
        some = [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -3e-8, 6e4, 3e38, 5.5, -2.5]
        with np.errstate(over="ignore"):
            drawn = np.where(self.data.random(count) < 0.3, self.data.choice(some, count),
                             self.data.normal(0, 4, count))  # fmt: skip
            return drawn.astype(dtype)

    def operand(self, dtype, count, written=False):
        self.operands.append(Operand(dtype, written))
        self.buffers.append(self.fill(count, dtype))
        return len(self.operands) - 1

    def strides(self):
        some = (0, 0, 1, 1, 2, -1, 3, -5)
        return [self.rng.choice(some) for _ in self.sizes]

    def indirect(self):
        """Pairs (value, stride), and the least and greatest of what they add."""
        integers = self.values(lambda d: d.kind in "iu")
        if not integers or self.rng.randrange(3):
            return (), 0, 0
        v = self.rng.choice(integers)
        v = self.push(Compute("and", (v, self.const(self.dtype(v), 3)), self.dtype(v)))
        stride = self.rng.choice((1, 2, -3))
        return ((v, stride),), min(0, 3 * stride), max(0, 3 * stride)

    def load(self):
        rng, strides = self.rng, self.strides()
        indirect, low, high = self.indirect()
        for n, s in zip(self.sizes, strides, strict=True):
            low, high = low + min(0, (n - 1) * s), high + max(0, (n - 1) * s)
        stored = rng.choice(STORED)
        dtype = stored if stored in COMPUTED else np.dtype("f")
        if rng.randrange(3):
            index = Map(rng.randrange(3) - low, tuple(strides), indirect)
            o = self.operand(stored, index.offset + high + 1)
            return self.push(Load(o, index, dtype))
        size = rng.randrange(max(1, high - low + 1)) + rng.randrange(2)
        offset = rng.randrange(low - 2, high + 3)
        bounds = [Bound(size, offset, tuple(strides), indirect)]
        if rng.randrange(2):
            bounds.append(Bound(rng.randrange(9), rng.randrange(-3, 4), tuple(self.strides())))
        fill = self.body[self.const(dtype)].value
        o = self.operand(stored, size)
        index = Map(offset, tuple(strides), indirect)
        return self.push(Load(o, index, dtype, tuple(bounds), fill))

    def target(self, axes):
        """A map that is one to one over some axes, and the size of what it covers."""
        order = list(axes)
        if self.rng.randrange(4) == 0:
            self.rng.shuffle(order)
        offset, step, strides = 0, 1, [0] * len(self.sizes)
        for axis in reversed(order):
            n = self.sizes[axis]
            strides[axis] = step
            if self.rng.randrange(6) == 0:
                offset, strides[axis] = offset + step * max(0, n - 1), -step
            step *= max(1, n) + (self.rng.randrange(8) == 0)
        shift = self.rng.randrange(3)
        return Map(offset + shift, tuple(strides)), step + shift

    # Computation

    def tame(self, v):
        """The value without NaN and without negative zero, whose signs are not defined."""
        if self.dtype(v).kind != "f":
            return v
        nan = self.push(Compute("isnan", (v,), np.dtype(bool)))
        zero = self.const(self.dtype(v), 0)
        v = self.push(Compute("select", (nan, zero, v), self.dtype(v)))
        return self.push(Compute("add", (v, zero), self.dtype(v)))

    def compute(self):
        rng = self.rng
        dtype = rng.choice(COMPUTED)
        if rng.randrange(8) == 0:
            return self.bitcast(dtype)
        op = rng.choice([op for op in EXACT if supports(op, dtype)])
        args = [self.pick(dtype) for _ in range(OPS[op].arity)]
        if op == "select":
            args[0] = self.pick(np.dtype(bool))
        if op in ("min", "max", "copysign"):
            args = [self.tame(a) for a in args]
        result = np.dtype(bool) if OPS[op].result == "bool" else dtype
        return self.push(Compute(op, tuple(args), result))

    def bitcast(self, dtype):
        same = [d for d in COMPUTED if d.itemsize == dtype.itemsize]
        if dtype == np.float32 and self.rng.randrange(2):
            op = self.rng.choice(("round_bfloat16", "round_float16"))
            return self.push(Compute(op, (self.pick(dtype),), dtype))
        new = self.rng.choice(same)
        if new.kind == "b":
            return self.push(Compute("bitcast", (self.pick(new),), np.dtype("B")))
        return self.push(Compute("bitcast", (self.tame(self.pick(dtype)),), new))

    def summand(self):
        """A value and a monoid that gives the same result in any order."""
        v = self.rng.choice(self.values())
        dtype = self.dtype(v)
        monoid = self.rng.choice(("add", "mul", "max", "min"))
        if dtype.kind == "f":
            v = self.tame(v)
            if monoid in ("add", "mul"):
                v = self.push(Compute("sign", (v,), dtype))
            return v, monoid
        return v, self.rng.choice((monoid, "and", "or", "xor"))

    def reduce(self):
        v, monoid = self.summand()
        if levels(self.kernel())[v] == FULL or prod(self.inner) == 1:
            self.push(Reduce(monoid, v, self.dtype(v)))

    def stored(self, dtype):
        """What an operand may be that holds a value of some dtype."""
        return (
            self.rng.choice(STORED[-2:])
            if dtype == np.float32 and self.rng.randrange(2)
            else (dtype)
        )

    def store(self, v):
        full = levels(self.kernel())[v] == FULL or self.rng.randrange(8) == 0
        axes = range(len(self.sizes) if full else len(self.outer))
        index, count = self.target(axes)
        self.push(Store(self.operand(self.stored(self.dtype(v)), count, True), index, v))

    def accumulate(self):
        v, monoid = self.summand()
        full = levels(self.kernel())[v] == FULL
        axes = [*range(self.kept)]
        axes += range(len(self.outer), len(self.sizes)) if full else ()
        index, count = self.target(axes)
        o = self.operand(self.dtype(v), count, True)
        self.push(Accumulate(o, index, monoid, v))

    def fold(self):
        v, monoid = self.summand()
        index, count = self.target(range(len(self.sizes) - 1))
        o = self.operand(self.stored(self.dtype(v)), count, True)
        self.push(Fold(o, index, monoid, v))


def random_kernel(rng):
    """A kernel and buffers for its operands."""
    maker = Maker(rng)
    maker.push(Index(rng.randrange(len(maker.sizes)), rng.choice(COMPUTED)))
    maker.load()
    for _ in range(rng.randrange(12)):
        rng.choice((maker.load, maker.compute, maker.compute, maker.compute, maker.reduce))()
    if rng.randrange(3) == 0:
        for _ in range(rng.randrange(1, 3)):
            maker.accumulate()
    if rng.randrange(3) == 0:
        maker.fold()
    for _ in range(rng.randrange(1, 4)):
        maker.store(rng.choice(maker.values()))
    return maker.kernel(), maker.buffers
