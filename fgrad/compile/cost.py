"""What a kernel costs, estimated from its text: operations, bytes, and time on one core."""

from math import prod
from typing import NamedTuple

from fgrad.compile.kernel import (
    FULL,
    MAPPED,
    Accumulate,
    Compute,
    Fold,
    Kernel,
    Load,
    Map,
    Reduce,
    levels,
)

# Operations that take much longer than an addition, in additions; those not listed take one.
_WEIGHTS = {
    "div": 4, "rem": 16, "sqrt": 6, "pow": 60, "atan2": 40, "erf": 30, "erfc": 40, "tan": 30,
    "asin": 30, "acos": 30, "atan": 25, "sinh": 30, "cosh": 30, "asinh": 40, "acosh": 40,
    "atanh": 40, "cbrt": 30, "hypot": 16, "exp": 14, "exp2": 12, "expm1": 20, "log": 18,
    "log1p": 24, "sin": 22, "cos": 22, "tanh": 22, "nextafter": 8, "clz": 3, "popcount": 3,
    "erf_inv": 40, "lgamma": 120, "digamma": 100, "bessel_i0e": 60, "bessel_i1e": 60,
}  # fmt: skip
_OPERATION_NS = 0.03  # an addition in a vector, by element of four bytes
_BYTE_NS = 0.05  # from or to a cache
_GATHERED_NS = 1.0  # an element that is not beside the last one


class Cost(NamedTuple):
    """What a kernel does.

    Attributes:
        flops: Operations; an elementary function counts as one.
        read_bytes: Bytes of the elements that it reads, each counted once a load.
        written_bytes: Likewise.
        ns: How long it takes one core, roughly.
    """

    flops: int
    read_bytes: int
    written_bytes: int
    ns: float

    @property
    def bytes(self) -> int:
        """All bytes moved."""
        return self.read_bytes + self.written_bytes


def cost(kernel: Kernel) -> Cost:
    """Estimate what a kernel costs."""
    level = levels(kernel)
    sizes = (*kernel.outer, *kernel.inner)
    flops = read = written = 0
    ns = 0.0
    for i, instr in enumerate(kernel.body):
        times = kernel.rows * (kernel.length if level[i] == FULL else 1)
        match instr:
            case Compute(op=op, dtype=dtype):
                flops += times
                ns += times * _WEIGHTS.get(op, 1) * _OPERATION_NS * max(1, dtype.itemsize / 4)
            case Reduce(arg=arg) | Accumulate(arg=arg) | Fold(arg=arg):
                full = level[arg] == FULL
                count = kernel.rows * (kernel.length if full else 1)
                flops += count
                ns += count * _OPERATION_NS * 2
            case _:
                pass
        if isinstance(instr, MAPPED):
            size = kernel.operands[instr.operand].dtype.itemsize
            touched = _touched(instr.map, sizes) * size
            if isinstance(instr, Load):
                read += touched
            else:
                written += touched
            ns += times * (size * _BYTE_NS if _is_dense(instr.map) else _GATHERED_NS)
    return Cost(flops, read, written, ns)


def _touched(m: Map, sizes: tuple[int, ...]) -> int:
    """The number of elements that a map visits."""
    if m.indirect:
        return prod(sizes)
    return prod(n for n, s in zip(sizes, m.strides, strict=True) if s)


def _is_dense(m: Map) -> bool:
    return m.strides[-1] in (0, 1) and not m.indirect
