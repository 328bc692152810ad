"""A kernel that computes what it means passes, however it rounds; any other fault is found."""

import numpy as np
import pytest

from fgrad.compile.bounds import fault
from fgrad.compile.interpret import run_kernel
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

F, INT, BOOL = np.dtype("f"), np.dtype("i"), np.dtype("?")
M = Map(0, (8, 1))
COLUMN = Map(0, (0, 1))


def softmax():
    body = (
        Load(0, M, F), Reduce("max", 0, F), Compute("sub", (0, 1), F), Compute("exp", (2,), F),
        Reduce("add", 3, F), Compute("div", (3, 4), F), Store(1, M, 5),
        Accumulate(2, COLUMN, "add", 5),
    )  # fmt: skip
    return Kernel("k", (6,), (8,), (Operand(F), Operand(F, True), Operand(F, True)), body)


def stepped():
    """Jumps: a comparison and a rounding of a computed value."""
    body = (
        Load(0, M, F), Const(0.1, F), Compute("mul", (0, 1), F), Compute("floor", (2,), F),
        Compute("gt", (2, 1), BOOL), Compute("neg", (3,), F), Compute("select", (4, 3, 5), F),
        Store(1, M, 6), Compute("convert", (0,), INT), Store(2, M, 8),
    )  # fmt: skip
    return Kernel("k", (6,), (8,), (Operand(F), Operand(F, True), Operand(INT, True)), body)


def operands(kernel, seed=0):
    x = np.random.default_rng(seed).normal(size=48).astype(F) * 30
    return [x, *(np.zeros(48, op.dtype) for op in kernel.operands[1:])]


@pytest.mark.parametrize("make", [softmax, stepped])
@pytest.mark.parametrize("seed", range(5))
def test_the_meaning_of_a_kernel_passes(make, seed):
    kernel = make()
    before = operands(kernel, seed)
    after = [x.copy() for x in before]
    run_kernel(kernel, after)
    assert fault(kernel, before, after) is None


@pytest.mark.parametrize("make", [softmax, stepped])
@pytest.mark.parametrize("operand", [1, 2])
@pytest.mark.parametrize("change", [1.0001, -1.0, np.nan, np.inf])
def test_one_wrong_element_is_found_and_named(make, operand, change):
    kernel = make()
    before = operands(kernel)
    after = [x.copy() for x in before]
    run_kernel(kernel, after)
    at = int(np.argmax(np.abs(after[operand].astype(float))))
    if after[operand].dtype == INT:
        after[operand][at] += 1
    else:
        after[operand][at] *= change
    found = fault(kernel, before, after)
    assert found is not None
    assert f"operand {operand}, element {at}:" in found


def test_a_difference_of_nearly_equal_numbers_may_lose_digits_and_no_more():
    body = (
        Load(0, M, F), Const(1e4, F), Compute("add", (0, 1), F), Compute("sub", (2, 1), F),
        Store(1, M, 3),
    )  # fmt: skip
    kernel = Kernel("k", (6,), (8,), (Operand(F), Operand(F, True)), body)
    before = operands(kernel)
    exact = [before[0], before[0].copy()]  # what a machine that does not round would give
    assert fault(kernel, before, exact) is None
    exact[1] = exact[1] + np.float32(0.01)
    assert fault(kernel, before, exact) is not None


def test_a_test_and_the_value_that_it_chooses_may_be_off_at_once():
    zero = (
        Load(0, M, F), Const(0.25, F), Compute("mul", (0, 1), F), Compute("sub", (0, 2), F),
        Const(0.75, F), Compute("mul", (0, 4), F), Compute("sub", (3, 5), F),  # zero, if exact
        Const(0.0, F), Compute("eq", (6, 7), BOOL), Compute("select", (8, 7, 6), F),
        Store(1, M, 9),
    )  # fmt: skip
    kernel = Kernel("k", (6,), (8,), (Operand(F), Operand(F, True)), zero)
    before = [np.zeros(48, F), np.zeros(48, F)]
    assert fault(kernel, before, [before[0], np.zeros(48, F)]) is None
    before[0][:] = 3.0
    assert fault(kernel, before, [before[0], np.full(48, 2e-7, F)]) is None
    assert fault(kernel, before, [before[0], np.full(48, 1e-4, F)])


def test_products_of_some_factors_may_not_fit_the_dtype():
    body = (Load(0, M, F), Reduce("mul", 0, F), Store(1, Map(0, (1, 0)), 1))
    kernel = Kernel("k", (3,), (8,), (Operand(F), Operand(F, True)), body)
    tiny, large = np.full(8, 1e-9, F), np.array([1e30, 1e30, 1e-30, 1e-30, 1, 1, 1, 1], F)
    before = [np.concatenate([tiny, large, np.full(8, 2, F)]), np.zeros(3, F)]
    for found in ([0, 1, 256], [-0.0, np.inf, 256], [0, 0, 256]):
        assert fault(kernel, before, [before[0], np.array(found, F)]) is None
    for wrong in ([1e-30, 1, 256], [0, 1, 255]):
        assert fault(kernel, before, [before[0], np.array(wrong, F)])


def test_the_bits_of_a_nan_may_be_any_and_those_of_numbers_not():
    body = (
        Load(0, M, F), Compute("bitcast", (0,), INT), Const(1, INT), Compute("sar", (1, 2), INT),
        Store(1, M, 3),
    )  # fmt: skip
    kernel = Kernel("k", (6,), (8,), (Operand(F), Operand(INT, True)), body)
    x = np.linspace(-2, 2, 48, dtype=F)
    x.view(INT)[5] = 0x7F800001  # a NaN that signals; evaluation in float64 makes it quiet
    after = [x, x.view(INT) >> 1]
    assert fault(kernel, [x, np.zeros(48, INT)], after) is None
    after[1][7] += 1
    assert "element 7:" in (fault(kernel, [x, np.zeros(48, INT)], after) or "")
