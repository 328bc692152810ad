"""Costs follow from the text of a kernel."""

import numpy as np

from fgrad.compile.cost import cost
from fgrad.compile.kernel import Compute, Kernel, Load, Map, Operand, Reduce, Store

F = np.dtype("f")


def kernel(rows, length):
    m = Map(0, (length, 1))
    body = (
        Load(0, m, F), Load(1, Map(0, (0, 1)), F), Compute("mul", (0, 1), F), Reduce("add", 2, F),
        Compute("exp", (3,), F), Store(2, Map(0, (1, 0)), 4),
    )  # fmt: skip
    return Kernel("k", (rows,), (length,), (Operand(F), Operand(F), Operand(F, True)), body)


def test_operations_and_bytes_are_counted():
    found = cost(kernel(5, 100))
    assert found.flops == 500 + 500 + 5  # products, additions, one exp a row
    assert found.read_bytes == 4 * (500 + 100)
    assert found.written_bytes == 4 * 5
    assert found.bytes == 2420


def test_more_work_takes_longer():
    small, large = cost(kernel(5, 100)), cost(kernel(500, 100))
    assert 50 * small.ns < large.ns < 200 * small.ns
