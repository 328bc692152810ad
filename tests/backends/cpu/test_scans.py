"""Machine code of scans: what `interpret` says they mean, at any width, however work is split."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.backends.cpu import layout
from fgrad.compile.bounds import fault
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import (
    Compute,
    Kernel,
    Load,
    Map,
    Operand,
    Reduce,
    Scan,
    Store,
    show,
)
from fgrad.compile.verifier import check_kernel
from tests.backends.cpu import machine
from tests.backends.cpu.test_render import WIDTHS, agree, same

F32, F64, I32, U8 = (np.dtype(t) for t in "fdiB")
SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38)


def contiguous(sizes):
    return tuple(prod(sizes[k + 1 :]) for k in range(len(sizes)))


def scan(monoid, outer, inner, dtype, *, free=False, backward=False):
    """A scan of contiguous operands: two of them where it takes both parts of complex numbers."""
    step = contiguous((*outer, *inner))
    at = Map(0, step)
    if backward:  # along the row, from its end
        sizes = (*outer, *inner)
        turned = range(len(outer), len(sizes) - free)
        offset = sum(step[k] * (sizes[k] - 1) for k in turned)
        at = Map(offset, tuple(-s if k in turned else s for k, s in enumerate(step)))
    count = 1 + monoid.startswith("mul_")
    loads = [Load(k, at, dtype) for k in range(count)]
    body = (*loads, Scan(monoid, tuple(range(count)), dtype, free), Store(count, at, count))
    operands = (*[Operand(dtype)] * count, Operand(dtype, written=True))
    return Kernel(f"scan_{monoid}", outer, inner, operands, body)


def buffers_of(kernel, data, special=False):
    size = kernel.rows * kernel.length
    found = []
    for op in kernel.operands:
        x = data.integers(0, 5, size) if op.dtype.kind in "iu" else data.normal(size=size)
        if special and op.dtype.kind == "f" and size:
            x[data.integers(0, size, 3)] = data.choice(SPECIAL, 3)
        with np.errstate(over="ignore"):
            found.append(x.astype(op.dtype))
    return found


SHAPES = st.sampled_from([
    ((), (1,)), ((), (7,)), ((), (64,)), ((), (65,)), ((), (1000,)), ((3,), (33,)), ((2, 2), (70,)),
    ((2,), (3, 5)), ((), (9, 17)), ((2,), (5, 3, 18)), ((0,), (4,)), ((3,), (0,)), ((2,), (0, 3)),
    ((2,), (3, 0)), ((2,), (70, 3)),
])  # fmt: skip
COLUMNS = st.sampled_from([
    ((), (7, 5)), ((2,), (64, 33)), ((), (65, 33)), ((3,), (4, 511)), ((), (70, 513)),
    ((2,), (3, 1025)), ((2,), (3, 2, 20)), ((0,), (4, 2)), ((2,), (0, 3)), ((2,), (3, 0)),
])  # fmt: skip
CUTS = st.lists(st.integers(0, 10), max_size=3)
SEEDS = st.integers(0, 2**32 - 1)
EXACT = [
    ("max", F32), ("min", F64), ("max", I32), ("min", U8), ("add", I32), ("add", U8), ("mul", I32),
    ("mul", F32), ("mul", F64), ("mul_re", F32), ("mul_im", F64),
]  # fmt: skip


@pytest.mark.parametrize(("monoid", "dtype"), EXACT, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
@given(SHAPES, st.booleans(), CUTS, SEEDS)
def test_along_rows(lanes, monoid, dtype, shape, backward, cuts, seed):
    kernel = scan(monoid, *shape, dtype, backward=backward)
    agree(
        kernel, buffers_of(kernel, np.random.default_rng(seed), "mul_" not in monoid), lanes, cuts
    )


@pytest.mark.parametrize(("monoid", "dtype"), EXACT, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
@given(COLUMNS, st.booleans(), CUTS, SEEDS)
def test_by_column(lanes, monoid, dtype, shape, backward, cuts, seed):
    kernel = scan(monoid, *shape, dtype, free=True, backward=backward)
    agree(
        kernel, buffers_of(kernel, np.random.default_rng(seed), "mul_" not in monoid), lanes, cuts
    )


ROUNDED = [("add", F32), ("add", F64), ("logaddexp", F64)]


@pytest.mark.parametrize(("monoid", "dtype"), ROUNDED, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
@given(st.booleans().flatmap(lambda free: st.tuples(st.just(free), COLUMNS if free else SHAPES)),
       st.booleans(), CUTS, SEEDS)  # fmt: skip
def test_rounded_scans_stay_within_their_bound(lanes, monoid, dtype, shape, special, cuts, seed):
    free, (outer, inner) = shape
    kernel = scan(monoid, outer, inner, dtype, free=free)
    check_kernel(kernel)
    before = buffers_of(kernel, np.random.default_rng(seed), special)
    after, whole = ([b.copy() for b in before] for _ in range(2))
    machine.run(kernel, after, lanes, cuts)
    assert fault(kernel, before, after) is None, show(kernel)
    machine.run(kernel, whole, lanes)
    assert same(after[-1], whole[-1]), "it depends on how the work is split"


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("n", [1, 17, 64])
def test_short_sums_are_those_of_numpy(lanes, free, n):
    kernel = scan("add", (3,), (n, 5) if free else (n,), F32, free=free)
    x, y = buffers_of(kernel, np.random.default_rng(n), special=True)
    machine.run(kernel, [x, y], lanes)
    rows = x.reshape(3, n, -1)
    with np.errstate(all="ignore"):
        assert same(y.reshape(rows.shape), np.cumsum(rows, axis=1, dtype=np.float32))


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("free", [False, True])
def test_long_sums_keep_infinities_where_they_come_and_the_sign_of_zeros(lanes, free):
    n = 200
    kernel = scan("add", (), (n, 2) if free else (n,), F32, free=free)
    x = np.full((n, 1 + free), -0.0, np.float32)
    x[150], x[170] = np.inf, -np.inf
    y = np.zeros(x.size, np.float32)
    machine.run(kernel, [x.reshape(-1), y], lanes)
    with np.errstate(invalid="ignore"):
        assert same(y.reshape(x.shape), np.cumsum(x, axis=0, dtype=np.float32))


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("free", [False, True])
def test_errors_of_long_sums_do_not_grow_with_their_length(lanes, free):
    n = 100_000
    kernel = scan("add", (), (n, 1) if free else (n,), F32, free=free)
    x = np.random.default_rng(0).uniform(0, 1, n).astype(np.float32)
    y = np.zeros_like(x)
    machine.run(kernel, [x, y], lanes)
    exact = np.cumsum(x, dtype=np.float64)
    assert np.max(np.abs(y - exact) / exact) <= (2 + np.log2(lanes)) * 2.0**-24


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("slope", [-30.0, -0.1, 0.0, 0.1, 30.0, 900.0])
def test_logarithms_of_sums_are_stable_whatever_way_the_elements_go(lanes, slope):
    n = 100
    x = slope * np.arange(n) + np.random.default_rng(1).normal(size=n)
    x[:3] = -np.inf
    kernel = scan("logaddexp", (), (n,), F64)
    y = np.zeros(n)
    machine.run(kernel, [x, y], lanes)
    np.testing.assert_allclose(y, np.logaddexp.accumulate(x), rtol=1e-14)


@pytest.mark.parametrize("lanes", WIDTHS)
def test_a_scan_that_a_later_pass_needs_is_kept(lanes):
    step, each = Map(0, (37, 1)), Map(0, (1, 0))
    body = (
        Load(0, step, I32), Scan("add", (0,), I32), Reduce("max", 1, I32),
        Compute("sub", (1, 2), I32), Store(1, step, 3), Store(2, each, 2),
    )  # fmt: skip
    operands = (Operand(I32), Operand(I32, True), Operand(I32, True))
    kernel = Kernel("kept", (3,), (37,), operands, body)
    data = np.random.default_rng(2).integers(-9, 9, 111).astype(np.int32)
    agree(kernel, [data, np.zeros(111, np.int32), np.zeros(3, np.int32)], lanes)
    assert layout.scratch(kernel).thread_bytes >= 37 * 4


def test_a_wrong_sum_is_found():
    for monoid, dtype in (("add", F32), ("logaddexp", F64), ("mul", F32), ("mul_re", F32)):
        kernel = scan(monoid, (2,), (5,), dtype)
        before = [np.abs(b) + 0.5 for b in buffers_of(kernel, np.random.default_rng(3))]
        after = [b.copy() for b in before]
        run_kernel(kernel, after)
        assert fault(kernel, before, after) is None
        after[-1][7] *= 1 + 1e-3
        assert "element 7" in fault(kernel, before, after)
