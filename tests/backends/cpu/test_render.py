"""The machine code of kernels computes what `interpret` says they mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import check_kernel, show
from tests.backends.cpu import machine
from tests.backends.cpu.random_kernels import random_kernel

WIDTHS = (1, 4, 8, 16)


def same(x, y):
    """Whether arrays agree in every bit, but for those of NaN."""
    if x.dtype.kind in "biu":
        return np.array_equal(x, y)
    raw = np.dtype(f"u{x.dtype.itemsize}")
    nan = np.isnan(x.astype(np.float64)) & np.isnan(y.astype(np.float64))
    return bool(np.all(nan | (x.view(raw) == y.view(raw))))


def agree(kernel, buffers, lanes, cuts=()):
    check_kernel(kernel)
    expected, found = ([b.copy() for b in buffers] for _ in range(2))
    run_kernel(kernel, expected)
    machine.run(kernel, found, lanes, cuts)
    for i, (x, y) in enumerate(zip(expected, found, strict=True)):
        assert same(x, y), f"operand {i} at {np.flatnonzero(x != y)[:5]}\n{show(kernel)}"


@pytest.mark.parametrize("lanes", WIDTHS)
@given(rng=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 10**6), max_size=3))
def test_random_kernels_agree_with_their_meaning(lanes, rng, cuts):
    kernel, buffers = random_kernel(rng)
    agree(kernel, buffers, lanes, cuts)
