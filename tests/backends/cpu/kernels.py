"""Kernels that programs are full of."""

import numpy as np

from fgrad.compile.kernel import (
    Accumulate,
    Compute,
    Const,
    Kernel,
    Load,
    Map,
    Operand,
    Reduce,
    Store,
)

F32, F64 = np.dtype("f"), np.dtype("d")


def pointwise(op, args, result, n):
    """One operation on contiguous operands."""
    loads = [Load(i, Map(0, (1,)), dtype) for i, dtype in enumerate(args)]
    compute = Compute(op, tuple(range(len(args))), result)
    operands = (*map(Operand, args), Operand(result, written=True))
    store = Store(len(args), Map(0, (1,)), len(args))
    return Kernel(op, (), (n,), operands, (*loads, compute, store))


def chain(n, dtype=F32):
    """x·sigmoid(1.702 x) + tanh y."""
    step = Map(0, (1,))
    body = (
        Load(0, step, dtype), Load(1, step, dtype), Const(-1.702, dtype), Const(1.0, dtype),
        Compute("mul", (0, 2), dtype), Compute("exp", (4,), dtype), Compute("add", (5, 3), dtype),
        Compute("div", (0, 6), dtype), Compute("tanh", (1,), dtype), Compute("add", (7, 8), dtype),
        Store(2, step, 9),
    )  # fmt: skip
    return Kernel("chain", (), (n,), (Operand(dtype), Operand(dtype), Operand(dtype, True)), body)


def reduction(monoid, outer, inner, dtype=F32):
    """A reduction of each row of a contiguous operand."""
    strides, step = [], 1
    for size in reversed((*outer, *inner)):
        strides.append(step)
        step *= size
    strides.reverse()
    rows = tuple(s // max(1, int(np.prod(inner))) for s in strides[: len(outer)])
    body = (
        Load(0, Map(0, tuple(strides)), dtype), Reduce(monoid, 0, dtype),
        Store(1, Map(0, rows + (0,) * len(inner)), 1),
    )  # fmt: skip
    return Kernel("reduction", outer, inner, (Operand(dtype), Operand(dtype, True)), body)


def columns(monoid, kept, rows, n, dtype=F32):
    """A reduction over the rows of each of `kept` matrices."""
    body = (
        Load(0, Map(0, (rows * n, n, 1)), dtype),
        Accumulate(1, Map(0, (n, 0, 1)), monoid, 0),
    )
    operands = (Operand(dtype), Operand(dtype, True))
    return Kernel("columns", (kept, rows), (n,), operands, body, kept=1)


def softmax(rows, n, dtype=F32):
    """exp(x − max x) / Σ exp(x − max x) of each row."""
    step = Map(0, (n, 1))
    body = (
        Load(0, step, dtype), Reduce("max", 0, dtype), Compute("sub", (0, 1), dtype),
        Compute("exp", (2,), dtype), Reduce("add", 3, dtype), Compute("div", (3, 4), dtype),
        Store(1, step, 5),
    )  # fmt: skip
    return Kernel("softmax", (rows,), (n,), (Operand(dtype), Operand(dtype, True)), body)


def layer_norm(rows, n, dtype=F32):
    """(x − μ) / √(σ² + ε) · scale + bias of each row; μ and 1/√(σ² + ε) too."""
    row, column, each = Map(0, (n, 1)), Map(0, (0, 1)), Map(0, (1, 0))
    body = (
        Load(0, row, dtype), Load(1, column, dtype), Load(2, column, dtype),
        Const(float(n), dtype), Const(1e-5, dtype), Const(1.0, dtype),
        Reduce("add", 0, dtype), Compute("div", (6, 3), dtype), Compute("sub", (0, 7), dtype),
        Compute("mul", (8, 8), dtype), Reduce("add", 9, dtype), Compute("div", (10, 3), dtype),
        Compute("add", (11, 4), dtype), Compute("sqrt", (12,), dtype),
        Compute("div", (5, 13), dtype), Compute("mul", (8, 14), dtype),
        Compute("mul", (15, 1), dtype), Compute("add", (16, 2), dtype),
        Store(3, row, 17), Store(4, each, 7), Store(5, each, 14),
    )  # fmt: skip
    operands = (Operand(dtype),) * 3 + (Operand(dtype, True),) * 3
    return Kernel("layer_norm", (rows,), (n,), operands, body)


def layer_norm_backward(rows, n, dtype=F32):
    """From x, dy, scale, μ, 1/σ: dx of each row, and the sums dscale and dbias."""
    row, column, each = Map(0, (n, 1)), Map(0, (0, 1)), Map(0, (1, 0))
    body = (
        Load(0, row, dtype), Load(1, row, dtype), Load(2, column, dtype), Load(3, each, dtype),
        Load(4, each, dtype), Const(float(n), dtype),
        Compute("sub", (0, 3), dtype), Compute("mul", (6, 4), dtype),  # 7: normalized
        Compute("mul", (1, 2), dtype), Compute("mul", (8, 7), dtype),
        Reduce("add", 8, dtype), Reduce("add", 9, dtype),
        Compute("div", (10, 5), dtype), Compute("div", (11, 5), dtype),
        Compute("mul", (7, 13), dtype), Compute("sub", (8, 12), dtype),
        Compute("sub", (15, 14), dtype), Compute("mul", (16, 4), dtype), Store(5, row, 17),
        Compute("mul", (1, 7), dtype),
        Accumulate(6, column, "add", 19), Accumulate(7, column, "add", 1),
    )  # fmt: skip
    operands = (Operand(dtype),) * 5 + (Operand(dtype, True),) * 3
    return Kernel("layer_norm_backward", (rows,), (n,), operands, body)
