"""What a kernel costs, estimated from its text: operations, bytes, and time on one core."""

from math import prod
from typing import NamedTuple

from fgrad.compile.kernel import (
    FULL,
    MAPPED,
    Accumulate,
    Compute,
    Fold,
    Index,
    Kernel,
    Load,
    Map,
    Reduce,
    Scan,
    levels,
    remembered,
    uses,
)

# Operations that take much longer than an addition, in additions; those not listed take one.
_WEIGHTS = {
    "div": 4, "rem": 16, "sqrt": 6, "pow": 60, "atan2": 40, "erf": 30, "erfc": 40, "tan": 30,
    "asin": 30, "acos": 30, "atan": 25, "sinh": 30, "cosh": 30, "asinh": 40, "acosh": 40,
    "atanh": 40, "cbrt": 30, "hypot": 16, "exp": 14, "exp2": 12, "expm1": 20, "log": 18,
    "log1p": 24, "sin": 22, "cos": 22, "tanh": 22, "nextafter": 8, "clz": 3, "popcount": 3,
    "erf_inv": 40, "lgamma": 120, "digamma": 100, "bessel_i0e": 60, "bessel_i1e": 60,
    "zeta": 700, "polygamma": 800, "igamma": 1500, "igammac": 1500, "gamma_quantile_slope": 2000,
    "regularized_incomplete_beta": 1500,
}  # fmt: skip
_OPERATION_NS = 0.03  # an addition in a vector, by element of four bytes
_BYTE_NS = 0.05  # from or to a cache
_GATHERED_NS = 1.0  # an element that is not beside the last one
# An element of a scan along a row; that of a product waits for the one before it.
_SCAN_NS = {"add": 0.3, "mul": 1.3, "max": 0.3, "min": 0.3, "logaddexp": 3.0,
            "mul_re": 2.6, "mul_im": 0.1}  # fmt: skip


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


@remembered
def cost(kernel: Kernel) -> Cost:
    """Estimate what a kernel costs."""
    level, moving = levels(kernel), _moving(kernel)
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
            case Scan(monoid=monoid):
                flops += times
                ns += times * _SCAN_NS[monoid]
            case _:
                pass
        if isinstance(instr, MAPPED):
            size = kernel.operands[instr.operand].dtype.itemsize
            touched = _touched(instr.map, sizes) * size
            if isinstance(instr, Load):
                read += touched
            else:
                written += touched
            near = _is_dense(instr.map) and not any(moving[v] for v, _ in instr.map.indirect)
            ns += times * (size * _BYTE_NS if near else _GATHERED_NS)
    return Cost(flops, read, written, ns)


def _touched(m: Map, sizes: tuple[int, ...]) -> int:
    """The number of elements that a map visits."""
    if m.indirect:
        return prod(sizes)
    return prod(n for n, s in zip(sizes, m.strides, strict=True) if s)


def _is_dense(m: Map) -> bool:
    return m.strides[-1] in (0, 1)


def _moving(kernel: Kernel) -> list[bool]:
    """For each instruction, whether its value varies along the last axis."""
    last = len(kernel.outer) + len(kernel.inner) - 1
    found: list[bool] = []
    for instr in kernel.body:
        moves = any(found[v] for v in uses(instr))
        match instr:
            case Load(map=m, bounds=bounds):
                moves |= m.strides[last] != 0 or any(b.strides[last] for b in bounds)
            case Index(axis=axis):
                moves |= axis == last
            case Reduce() | Fold() | Accumulate():
                moves = False
        found.append(moves)
    return found
