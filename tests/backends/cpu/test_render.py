"""The machine code of kernels computes what `interpret` says they mean."""

import itertools
import re
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.loops import turn
from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.render import module, render
from fgrad.backends.cpu.schedule import FURTHER_ON, NEXT_ROW, schedule
from fgrad.backends.cpu.target import host
from fgrad.backends.cpu.text import Builder
from fgrad.compile.interpret import compute, run_kernel
from fgrad.compile.kernel import (
    COMPUTED,
    Bound,
    Compute,
    Const,
    Kernel,
    Load,
    Map,
    Operand,
    Reduce,
    Scan,
    Store,
    show,
)
from fgrad.compile.run_plan import run_plan
from fgrad.compile.verifier import check_kernel
from fgrad.core.errors import CompilationError
from fgrad.core.scalar import OPS
from fgrad.testing.functions import evaluate
from fgrad.testing.oracle import assert_close, ulp
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.backends.cpu import kernels, machine
from tests.backends.cpu.random_kernels import EXACT, random_kernel
from tests.compile.test_lower import SPECIFIED, bound_of, plan_of

WIDTHS = (1, 4, 8, 16) if host().vector_bytes == 64 else (1, 4, 8)
F32, F64 = kernels.F32, kernels.F64


def same(x, y):
    """Whether arrays agree in every bit, but for those of NaN."""
    if x.dtype.kind in "biu":
        return np.array_equal(x, y)
    raw = np.dtype(f"u{x.dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # signalling NaN
        nan = np.isnan(x) & np.isnan(y)
    return bool(np.all(nan | (x.view(raw) == y.view(raw))))


def both(kernel, buffers, lanes, cuts=()):
    """What the kernel means, and what its machine code gives."""
    check_kernel(kernel)
    expected, found = ([b.copy() for b in buffers] for _ in range(2))
    run_kernel(kernel, expected)
    machine.run(kernel, found, lanes, cuts)
    return expected, found


def at_line(array, shift):
    """A copy that begins `shift` elements after a multiple of 64 bytes."""
    size = array.itemsize
    memory = np.empty((array.size + shift) * size + 64, np.uint8)
    start = -memory.ctypes.data % 64 + shift * size
    copy = memory[start : start + array.size * size].view(array.dtype)
    copy[:] = array
    return copy


def agree(kernel, buffers, lanes, cuts=()):
    for i, (x, y) in enumerate(zip(*both(kernel, buffers, lanes, cuts), strict=True)):
        assert same(x, y), f"operand {i} at {np.flatnonzero(x != y)[:5]}\n{show(kernel)}"


@pytest.mark.parametrize("lanes", WIDTHS)
@given(rng=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 10**6), max_size=3))
def test_random_kernels_agree_with_their_meaning(lanes, rng, cuts):
    kernel, buffers = random_kernel(rng)
    agree(kernel, buffers, lanes, cuts)


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages of memory by mprotect")
@pytest.mark.parametrize("lanes", WIDTHS)
@given(rng=st.randoms(use_true_random=False), at_end=st.booleans())
def test_nothing_outside_of_operands_is_touched(lanes, rng, at_end):
    kernel, buffers = random_kernel(rng)
    fenced = machine.Fenced()
    found = [fenced.copy(b, at_end=at_end) for b in buffers]
    run_kernel(kernel, buffers)
    machine.run(kernel, found, lanes)  # a fault ends the process
    assert all(same(x, y) for x, y in zip(buffers, found, strict=True)), show(kernel)


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages of memory by mprotect")
@pytest.mark.parametrize("lanes", WIDTHS)
def test_lanes_past_a_row_read_nothing_though_their_bounds_hold(lanes):
    bound = Bound(1000, 0, (0, 1))
    body = (Load(0, Map(0, (5, 1)), F32, (bound,), -1), Store(1, Map(0, (5, 1)), 0))
    kernel = Kernel("bounded", (3,), (5,), (Operand(F32), Operand(F32, written=True)), body)
    check_kernel(kernel)
    fenced = machine.Fenced()
    x, y = np.arange(15, dtype=np.float32), np.zeros(15, np.float32)
    found = [fenced.copy(b, at_end=True) for b in (x, y)]
    machine.run(kernel, found, lanes)  # a fault ends the process
    assert same(found[1], x)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u4", "i8"])
@pytest.mark.parametrize("stride", [1, 3, -1])
@pytest.mark.parametrize("lanes", WIDTHS)
def test_elements_at_computed_places(lanes, stride, dtype):
    """Read and written, the place of the first being in the middle of the operand."""
    n, kind = 45, np.dtype(dtype)
    rng = np.random.default_rng(lanes)
    least = 0 if kind.kind == "u" else -20
    places = (rng.permutation(n) - 22).clip(least).astype(kind)
    row, middle = Map(0, (n, 1)), 3 * n
    picked = Map(middle, (0, 0), ((0, stride),))
    body = (
        Load(0, row, kind), Load(1, picked, F32), Compute("mul", (1, 1), F32), Store(2, row, 2),
        Store(3, picked, 2),
    )  # fmt: skip
    operands = (Operand(kind), Operand(F32), Operand(F32, True), Operand(F32, True))
    kernel = Kernel("picked", (1,), (n,), operands, body)
    table = rng.normal(size=6 * n).astype(np.float32)
    wanted = [places, table, np.zeros(n, np.float32), np.zeros(6 * n, np.float32)]
    run_kernel(kernel, wanted)
    found = [places, table, np.zeros(n, np.float32), np.zeros(6 * n, np.float32)]
    machine.run(kernel, found, lanes)
    assert np.array_equal(wanted[2], table[middle + stride * places.astype(int)] ** 2)
    assert all(map(same, found, wanted))


def test_code_knows_steps_of_1_between_places():
    def structure(stride):
        picked = Map(0, (0,), ((0, stride),))
        body = (
            Load(0, Map(0, (1,)), np.dtype("i4")),
            Load(1, picked, F32),
            Store(2, Map(0, (1,)), 1),
        )
        operands = (Operand(np.dtype("i4")), Operand(F32), Operand(F32, True))
        return layout.structure(Kernel("picked", (), (9,), operands, body))

    assert structure(1) != structure(2) == structure(5)


@pytest.mark.parametrize("lanes", WIDTHS)
@given(rng=st.randoms(use_true_random=False), shift=st.integers(0, 1))
def test_writing_past_the_caches_changes_nothing(lanes, rng, shift):
    kernel, buffers = random_kernel(rng)
    with mock.patch.object(layout, "STREAM_BYTES", 1):
        expected = [b.copy() for b in buffers]
        found = [at_line(b, shift) for b in buffers]
        run_kernel(kernel, expected)
        machine.run(kernel, found, lanes)
    for x, y in zip(expected, found, strict=True):
        assert same(x, y), show(kernel)


def test_large_results_are_written_past_the_caches():
    least = -(-layout.STREAM_BYTES // 12)  # two operands are read
    large, small = (render(kernels.chain(n), "kernel", 8).text for n in (least, least - 1))
    assert "!nontemporal" in large
    assert "fence seq_cst" in large
    assert "!nontemporal" not in small


def test_what_is_read_twice_counts_once():
    x, mean = Map(0, (2**11, 1)), Map(0, (1, 0))
    body = (Load(0, x, F32), Load(0, x, F32), Load(1, mean, F32), Compute("add", (0, 1), F32),
            Compute("mul", (2, 3), F32), Store(2, x, 4))  # fmt: skip
    operands = (Operand(F32), Operand(F32), Operand(F32, written=True))
    assert not layout.streams(Kernel("twice", (2**11 - 4,), (2**11,), operands, body))
    assert layout.streams(Kernel("twice", (2**11,), (2**11,), operands, body))


@pytest.mark.parametrize("lanes", WIDTHS)
def test_what_is_kept_lies_in_the_result_unless_that_overwrites_an_operand(lanes):
    kernel = kernels.softmax(5, 70)
    assert schedule(kernel).homes == {3: 6}
    x = np.random.default_rng(0).normal(size=350).astype(np.float32)
    expected, apart, over = np.empty_like(x), np.empty_like(x), x.copy()
    run_kernel(kernel, [x, expected])
    machine.run(kernel, [x, apart], lanes)
    machine.run(kernel, [over, over], lanes)
    assert_close(apart, expected, 4 * np.finfo("f").eps, what="softmax")
    assert same(apart, over)


def test_a_later_pass_reads_what_is_left_of_a_costly_value():
    x = Map(0, (64, 1))
    body = (
        Load(0, x, F32), Compute("exp", (0,), F32), Compute("add", (1, 1), F32),
        Compute("div", (2, 0), F32), Reduce("add", 3, F32), Compute("mul", (3, 4), F32),
        Store(1, x, 5), Store(2, x, 3), Compute("neg", (2,), F32), Reduce("add", 8, F32),
        Store(3, Map(0, (1, 0)), 9),
    )  # fmt: skip
    operands = (Operand(F32), *(Operand(F32, written=True) for _ in range(3)))
    kernel = Kernel("kept", (3,), (64,), operands, body)
    plan = schedule(kernel)
    assert plan.kept == [3]  # neither the exponential nor what else is made of it
    assert plan.homes == {3: 7}
    assert [p.stores for p in plan.passes] == [[7], [6]]


def test_elementary_functions_run_ahead_of_much_else():
    (p,) = schedule(kernels.chain(4096)).passes
    assert not p.split  # too little else
    x = Map(0, (1,))
    body = [Load(0, x, F32), Compute("exp", (0,), F32), Compute("add", (1, 0), F32)]
    body += [Compute("mul", (k, 0), F32) for k in range(2, 16)]
    kernel = Kernel(
        "tail", (), (1000,), (Operand(F32), Operand(F32, True)), (*body, Store(1, x, 16))
    )
    (p,) = schedule(kernel).passes
    assert (p.front, p.split) == ([0, 1], [1])
    assert p.rest == [v for v in range(17) if v != 1 or v in p.split]
    a, b = np.linspace(-1.5, 1.5, 1000, dtype=np.float32), np.empty(1000, np.float32)
    found = np.empty_like(b)
    run_kernel(kernel, [a, b])
    for lanes in WIDTHS:
        machine.run(kernel, [a, found], lanes)
        assert_close(found, b, 20 * np.finfo("f").eps * np.abs(b).max(), what="tail")


@pytest.mark.parametrize("n", [1, 31, 32, 48, 28 * 32, 28 * 32 + 33, 70 * 32 + 17])
def test_divided_passes_of_any_length(n):
    """A pass whose front leaves an exponential to sums and stores."""
    x = Map(0, (n, 1))
    body = [Load(0, x, F32), Compute("mul", (0, 0), F32), Compute("exp", (1,), F32)]
    body += [Compute("add" if k % 2 else "mul", (k, 1), F32) for k in range(2, 16)]
    body += [Reduce("add", 16, F32), Reduce("max", 1, F32), Store(1, x, 15)]
    body += [Store(k, Map(0, (1, 0)), v) for k, v in ((2, 17), (3, 18))]
    operands = (Operand(F32), *(Operand(F32, written=True) for _ in range(3)))
    kernel = Kernel("divided", (3,), (n,), operands, tuple(body))
    (p,) = schedule(kernel).passes
    assert p.split == [2]
    data = np.random.default_rng(n).uniform(-1, 1, 3 * n).astype(np.float32)
    wanted = [data, *(np.zeros(size, np.float32) for size in (3 * n, 3, 3))]
    run_kernel(kernel, wanted)
    for lanes in WIDTHS:
        found = [data, *map(np.zeros_like, wanted[1:])]
        machine.run(kernel, found, lanes)
        for got, expected in zip(found[1:], wanted[1:], strict=True):
            assert_close(got, expected, 1e-5 * max(1, np.abs(expected).max()), what="divided")


def test_steps_of_a_scan_follow_each_other():
    n = 1000
    x = Map(0, (n, 1))
    body = [Load(0, x, F32), Compute("exp", (0,), F32), Scan("add", (1,), F32)]
    body += [Compute("add" if k % 2 else "mul", (k, 1), F32) for k in range(2, 16)]
    operands = (Operand(F32), Operand(F32, written=True))
    kernel = Kernel("scan", (2,), (n,), operands, (*body, Store(1, x, 16)))
    (p,) = schedule(kernel).passes
    assert p.split == [1]
    data = np.random.default_rng(0).uniform(-1.5, 0, 2 * n).astype(np.float32)
    wanted = [data, np.zeros_like(data)]
    run_kernel(kernel, wanted)
    for lanes in WIDTHS:
        found = [data, np.zeros_like(data)]
        machine.run(kernel, found, lanes)
        assert_close(found[1], wanted[1], 1e-5 * np.abs(wanted[1]).max(), what="scan")


def test_independent_steps_take_turns():
    b = Builder(4)
    b.types["%p"], b.types["%at"] = ("ptr", 1), ("i64", 1)

    def step(step, _):
        x = b.emit(f"load <4 x float>, ptr {b.offset('%p', step.at, 'float')}, align 4", "float")
        b.effect(f"store <4 x float> {b.binary('fadd', x, 1.0)}, ptr %p, align 4")

    turn(b, "%at", step, 2, abreast=True)
    assert [line.split("=")[-1].split()[0] for line in b.lines] == [
        "add", *(op for op in ("getelementptr", "load", "fadd", "store") for _ in range(2))
    ]  # fmt: skip
    b.lines.clear()
    turn(b, "%at", step, 2)
    assert [line.split("=")[-1].split()[0] for line in b.lines[:5]] == [
        "add", "getelementptr", "load", "fadd", "store"
    ]  # fmt: skip


def test_a_product_is_masked_as_it_is_made():
    x, zero = Map(0, (1,)), Const(0.0, F32)
    body = (
        Load(0, x, F32), zero, Compute("ne", (0, 1), np.dtype(bool)), Compute("mul", (0, 0), F32),
        Compute("select", (2, 3, 1), F32), Store(1, x, 4),
    )  # fmt: skip
    kernel = Kernel("mask", (), (64,), (Operand(F32), Operand(F32, True)), body)
    assert re.search(r"select <8 x i1> %\w+, <8 x float> %\w+, <8 x float> splat \(float 0x0+\)",
                     render(kernel, "kernel", 8).text)  # fmt: skip


def test_the_busiest_pass_brings_the_next_row_into_the_caches():
    kernel = kernels.softmax(8, 64)
    assert [p.ahead for p in schedule(kernel).passes] == [[], [(0, NEXT_ROW)], []]
    assert "call void @llvm.prefetch" in render(kernel, "kernel", 8).text
    backward = kernels.layer_norm_backward(8, 64)
    found = {i: where for p in schedule(backward).passes for i, where in p.ahead}
    loads = [i for i, instr in enumerate(backward.body) if isinstance(instr, Load)]
    rows = [i for i in loads if all(backward.body[i].map.strides)]
    assert found == dict.fromkeys(rows, FURTHER_ON)  # not what all rows share, nor row values


# One operation at a time, on values at the edges of its domain


def edges(dtype):
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info, bits = np.iinfo(dtype), dtype.itemsize * 8
        near = [0, 1, 2, 3, 7, bits - 1, bits, bits + 1, info.max, info.max - 1, info.min]
        low = [-1, -2, -7, -bits, info.min + 1] if info.min else [info.max // 2]
        return np.array(near + low, dtype)
    info = np.finfo(dtype)
    tiny, top = float(info.smallest_subnormal), float(info.max)
    whole = [0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 128, 255.7, 256, 32768, 65536.5, 2.0**31, 2.0**32]
    wide = [2.0**52 + 1, 2.0**63, 2.0**64, -(2.0**31), -(2.0**63), 1 / 3, -0.1, 7, -3]
    return np.array([0.0, -0.0, tiny, -tiny, float(info.tiny), 1, -1, np.inf, -np.inf, np.nan, top,
                     -top, *whole, *wide]).astype(dtype)  # fmt: skip


CASES = [(op, d) for op in EXACT for d in COMPUTED if supports(op, d)]


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=lambda x: getattr(x, "name", x))
def test_exact_operations_agree_on_the_edges(op, dtype):
    kinds = [dtype] * OPS[op].arity
    if op == "select":
        kinds[0] = np.dtype(bool)
    table = np.array(list(itertools.product(*(range(len(edges(k))) for k in kinds))))
    args = [edges(k)[column] for k, column in zip(kinds, table.T, strict=True)]
    if op in ("min", "max") and dtype.kind == "f":
        args = [x + dtype.type(0) for x in args]  # which of two zeros it gives is not defined
    if op == "copysign":
        args[1] = np.where(np.isnan(args[1]), dtype.type(1), args[1])
    result = np.dtype(bool) if OPS[op].result == "bool" else dtype
    kernel = kernels.pointwise(op, kinds, result, len(table))
    for lanes in WIDTHS:
        agree(kernel, [*args, np.zeros(len(table), result)], lanes)


@pytest.mark.parametrize("old", COMPUTED, ids=str)
@pytest.mark.parametrize("new", COMPUTED, ids=str)
def test_conversions_agree_on_the_edges(old, new):
    x = edges(old)
    for op in ("convert", "bitcast"):
        if op == "convert" or old.itemsize == new.itemsize:
            kernel = kernels.pointwise(op, [old], new, len(x))
            for lanes in (1, 8):
                agree(kernel, [x, np.zeros(len(x), new)], lanes)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_floats_are_exact_in_and_rounded_out(name):
    small = np.dtype(np.float16) if name == "float16" else machine.BFLOAT16
    every = np.arange(2**16, dtype=np.uint16).view(small)
    widen = kernels.Kernel(
        "widen", (), (2**16,), (kernels.Operand(small), kernels.Operand(F32, True)),
        (Load(0, Map(0, (1,)), F32), Store(1, Map(0, (1,)), 0)),
    )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        exact = every.astype(np.float32)
        near = np.concatenate([np.nextafter(exact, np.float32(s)) for s in (0, np.inf, -np.inf)])
        middle = (exact[1:] + exact[:-1]) / 2  # ties
    x = np.concatenate([exact, near, middle, edges(F32)])
    narrow = kernels.Kernel(
        "narrow", (), (len(x),), (kernels.Operand(F32), kernels.Operand(small, True)),
        (Load(0, Map(0, (1,)), F32), Store(1, Map(0, (1,)), 0)),
    )  # fmt: skip
    rounded = kernels.pointwise(f"round_{name}", [F32], F32, len(x))
    for lanes in (1, 16):
        agree(widen, [every, np.zeros(2**16, np.float32)], lanes)
        agree(narrow, [x, np.zeros(len(x), small)], lanes)
        agree(rounded, [x, np.zeros(len(x), np.float32)], lanes)


SPECIAL = (
    "lgamma", "digamma", "erf_inv", "bessel_i0e", "bessel_i1e", "zeta", "polygamma", "igamma",
    "igammac", "gamma_quantile_slope", "regularized_incomplete_beta",
)  # fmt: skip
ELEMENTARY = [
    (op, d) for op in OPS for d in (F32, F64) if op not in EXACT and supports(op, d)
]  # fmt: skip


@pytest.mark.parametrize(("op", "dtype"), ELEMENTARY, ids=lambda x: getattr(x, "name", x))
def test_elementary_functions_reach_their_lanes(op, dtype):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (OPS[op].arity, 37)).astype(dtype)
    x += op == "acosh"
    x[0] += 2 * (op == "zeta")
    x[0] = np.rint(4 * x[0]) if op == "polygamma" else x[0]
    with np.errstate(all="ignore"):
        exact = compute(op, list(x.astype(np.float64)), np.dtype("d"))
    for lanes in WIDTHS:
        kernel = kernels.pointwise(op, [dtype] * len(x), dtype, 37)
        found = np.zeros(37, dtype)
        machine.run(kernel, [*x, found], lanes)
        most = 100 if op in SPECIAL else 4  # SciPy has errors too
        assert np.all(np.abs(found - exact) <= most * ulp(exact, dtype)), op


def test_what_has_no_code_is_refused():
    assert not supports("exp", np.dtype("i"))
    assert not supports("add", np.dtype("F"))
    kernel = kernels.pointwise("floor", [np.dtype("i")], np.dtype("i"), 3)
    with pytest.raises(CompilationError, match="floor for int32"):
        render(kernel, "kernel", 4)


# Sums of floats


def bound(x, axis):
    """(64 + log2 n)·u·Σ|x|."""
    n = max(2, np.prod([x.shape[a] for a in np.atleast_1d(axis)]))
    u = np.finfo(x.dtype).eps / 2
    return (64 + np.log2(n)) * u * np.abs(x.astype(np.longdouble)).sum(axis)


def hard(kind, shape, dtype):
    """Values of one sign, whose rounding errors do not cancel, or of many magnitudes."""
    if kind == "constant":
        return np.full(shape, 0.1, dtype)
    rng = np.random.default_rng(len(shape))
    return (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-4, 5, shape)).astype(dtype)


ROWS = [(0,), (1,), (100,), (4097,), (3, 1000), (1000, 3), (30, 7, 20), (300_000,)]


@pytest.mark.parametrize("kind", ["constant", "mixed"])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("inner", ROWS, ids=str)
def test_sums_of_rows_keep_their_bound(inner, dtype, kind):
    x = hard(kind, (2, *inner), dtype)
    axes = tuple(range(1, x.ndim))
    exact = x.astype(np.longdouble).sum(axes)
    for lanes in WIDTHS:
        found = np.zeros(2, dtype)
        machine.run(kernels.reduction("add", (2,), inner, dtype), [x.ravel(), found], lanes)
        assert np.all(np.abs(found - exact) <= bound(x, axes)), lanes


@pytest.mark.parametrize("kind", ["constant", "mixed"])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(("rows", "n"), [(0, 3), (1, 5), (64, 1), (65, 33), (5000, 20), (40000, 2)])
def test_sums_over_rows_keep_their_bound(rows, n, dtype, kind):
    x = hard(kind, (2, rows, n), dtype)
    exact = x.astype(np.longdouble).sum(1)
    kernel = kernels.columns("add", 2, rows, n, dtype)
    for lanes in WIDTHS:
        found = np.zeros((2, n), dtype)
        machine.run(kernel, [x.ravel(), found.reshape(-1)], lanes)
        assert np.all(np.abs(found - exact) <= bound(x, 1)), lanes


@pytest.mark.parametrize("lanes", WIDTHS)
def test_beyond_its_first_64_terms_a_sum_carries_its_rounding_errors(lanes):
    """Where the chains are exact, all that rounds is the last sum, of carries and of lanes."""
    count = 2**21 + 2**20
    x = np.full(count, 2.0**17 + 1, np.float32)
    exact = count * (2.0**17 + 1)
    u = np.finfo(np.float32).eps / 2
    total, down = np.zeros(1, np.float32), np.zeros(1, np.float32)
    machine.run(kernels.reduction("add", (1,), (count,)), [x, total], lanes)
    machine.run(kernels.columns("add", 1, count, 1), [x, down], lanes)
    assert abs(total[0] - exact) <= (2 + np.log2(lanes)) * u * exact
    assert abs(down[0] - exact) <= 2 * u * exact


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("n", [3, 5000])
def test_sums_of_infinities_are_those_of_ieee(lanes, n):
    top, inf, nan = np.finfo(np.float32).max, np.inf, np.nan
    for start in ([inf, 1], [-inf, 1], [inf, -inf], [nan, 1], [top, top], [inf, nan]):
        x = np.ones(n, np.float32)
        x[:2] = start
        expected, found = both(kernels.reduction("add", (1,), (n,)), [x, x[:1]], lanes)
        assert same(expected[1], found[1]), start
        many = np.stack([x, x[::-1]], 1).ravel()
        expected, found = both(kernels.columns("add", 1, n, 2), [many, x[:2]], lanes)
        assert same(expected[1], found[1]), start


# Kernels of programs


def inputs(kernel, seed=0):
    """A buffer for each operand of a kernel with contiguous operands of floats."""
    rng = np.random.default_rng(seed)
    rows, n = kernel.rows, kernel.length
    sizes = [1] * len(kernel.operands)
    for instr in kernel.body:
        if hasattr(instr, "map"):
            outer = n > 1 and instr.map.strides[0] == 0
            each = instr.map.strides[-1] == 0
            sizes[instr.operand] = n if outer else rows if each else rows * n
    return [rng.uniform(0.5, 2, max(1, s)).astype(op.dtype)
            for s, op in zip(sizes, kernel.operands, strict=True)]  # fmt: skip


ROWWISE = (kernels.softmax, kernels.layer_norm, kernels.layer_norm_backward)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("make", ROWWISE)
@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (200, 17), (3, 700), (2, 9000)], ids=str)
def test_row_kernels_agree_with_their_meaning(make, shape, dtype):
    kernel = make(*shape, dtype)
    for lanes in WIDTHS:
        for x, y in zip(*both(kernel, inputs(kernel), lanes, (1, 2)), strict=True):
            scale = max(1.0, float(np.abs(x).max()))
            np.testing.assert_allclose(y, x, rtol=0, atol=300 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("make", ROWWISE)
@given(cuts=st.lists(st.integers(0, 10**6), max_size=6))
def test_results_do_not_depend_on_how_work_is_split(make, cuts):
    kernel = make(1300, 37)
    whole, parts = ([b.copy() for b in inputs(kernel)] for _ in range(2))
    machine.run(kernel, whole, 8)
    machine.run(kernel, parts, 8, cuts)
    assert all(same(x, y) for x, y in zip(whole, parts, strict=True))


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("shape", [(3, 40), (2, 1000)])
def test_a_row_may_be_overwritten_by_its_result(lanes, shape):
    kernel = kernels.softmax(*shape)
    x, y = inputs(kernel)
    machine.run(kernel, [x, y], lanes)
    machine.run(kernel, [x, x], lanes)
    assert same(x, y)


def test_a_stored_value_is_not_read_again():
    """The store comes after all loads, though its value is known before the reduction."""
    add = kernels.Compute("add", (0, 1), F32)
    body = (
        Load(0, Map(0, (40, 1)), F32), Const(1.0, F32), add, kernels.Reduce("max", 2, F32),
        kernels.Compute("sub", (0, 3), F32), Store(1, Map(0, (40, 1)), 2),
        Store(2, Map(0, (40, 1)), 4),
    )  # fmt: skip
    operands = (kernels.Operand(F32), kernels.Operand(F32, True), kernels.Operand(F32, True))
    kernel = kernels.Kernel("store", (3,), (40,), operands, body)
    x = np.random.default_rng(0).normal(size=120).astype(np.float32)
    expected = [x.copy(), np.zeros_like(x), np.zeros_like(x)]
    run_kernel(kernel, expected)
    found, other = x.copy(), np.zeros_like(x)
    machine.run(kernel, [found, found, other], 8)
    assert same(found, expected[1])
    assert same(other, expected[2])


# Without elementary functions, whose coefficients are no matter of this module.
AGREED = [kernels.pointwise("add", [F32, F32], F32, 100), kernels.columns("add", 2, 8, 100)]


@pytest.mark.parametrize("kernel", AGREED, ids=lambda kernel: kernel.name)
def test_code_is_as_agreed(golden, kernel):
    golden.check(f"llvm/{kernel.name}.ll", module([render(kernel, kernel.name, 8)], 256))


# What programs are made of


@pytest.mark.parametrize("number", range(len(SPECIFIED)), ids=[str(p) for p in SPECIFIED])
def test_kernels_of_every_primitive_agree_with_eager_rules(number):
    prim, lanes = SPECIFIED[number], WIDTHS[number % len(WIDTHS)]
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            # The eager rule's product of many factors leaves the range of float32 on its way.
            size = 5 if prim.name == "reduce_prod" else 20
            problem = example_of(prim, case, dtype_named(name), number, size)
            f = observed_call(problem)
            plan, consts = plan_of(f, *problem.args, supports=supports)
            got = run_plan(
                plan, [*consts, *problem.args], lambda k, buffers: machine.run(k, buffers, lanes)
            )
            for i, (y, e) in enumerate(zip(got, evaluate(f, problem.args), strict=True)):
                assert y.dtype == e.dtype
                assert_close(y, e, bound_of(problem, i, e), f"code of {problem}, result {i}")


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("cuts", [(), (1,), (40, 7)])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 33, 70), (3, 65, 64), (1, 100, 1), (2, 0, 4)])
def test_transposes_walk_over_tiles(lanes, cuts, shape):
    stack, rows, n = shape
    size = stack * rows * n
    across, down = Map(0, (rows * n, n, 1)), Map(0, (rows * n, 1, rows))
    kernel = Kernel(
        "transpose", (stack, rows), (n,),
        (Operand(F32), Operand(F32), Operand(F32, True)),
        (Load(0, down, F32), Load(1, across, F32), kernels.Compute("sub", (0, 1), F32),
         Store(2, across, 2)),
    )  # fmt: skip
    assert layout.is_tiled(kernel, layout.schedule(kernel)) == (rows > 1)
    x = np.arange(3 * size, dtype=F32).reshape(3, size) ** 2
    agree(kernel, list(x), lanes, cuts)


@pytest.mark.parametrize("dtype", "bBhHiIqQ")
@pytest.mark.parametrize("op", ["div", "rem"])
def test_integer_division_is_exact_beside_multiples(op, dtype):
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    y = rng.integers(info.min, info.max, 4000, dtype, endpoint=True) >> rng.integers(
        0, info.bits, 4000
    ).astype(dtype)
    y[y == 0] = 1
    with np.errstate(over="ignore"):
        q = rng.integers(info.min, info.max, 4000, dtype) // y
        x = q * y + rng.integers(0, 3, 4000).astype(dtype) - np.array(1, dtype)
    kernel = kernels.pointwise(op, [y.dtype] * 2, y.dtype, len(y))
    for lanes in WIDTHS:
        agree(kernel, [x, y, np.zeros_like(x)], lanes)
