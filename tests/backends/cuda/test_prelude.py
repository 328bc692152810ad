"""The prelude, on the CPU and on a card: every operation means what `core.scalar` says."""

import ml_dtypes
import numpy as np
import pytest

from tests.backends.cuda import operations as ops
from tests.backends.cuda.targets import CARD, SHIM, launcher


@pytest.fixture(scope="module", params=[SHIM, CARD])
def target(request):
    return request.param


@pytest.fixture(scope="module")
def launch(target):
    return launcher(target, ops.source())


def test_exact_operations_are_those_of_numpy(launch):
    for op, dtype in ops.EXACT:
        args = ops.operands(op, dtype)
        result = ops.result_of(op, dtype)
        got = ops.run(launch, ops.name_of(op, dtype), args, result)
        ops.check_exact(got, ops.expected(op, args, result), ops.name_of(op, dtype))


def test_conversions_truncate_clamp_and_keep_bits(launch):
    for op, old, new in ops.CASTS + ops.ROUNDINGS:
        x = ops.values(old)
        got = ops.run(launch, ops.name_of(op, old, new), (x,), new)
        ops.check_exact(got, ops.expected(op, [x], new), ops.name_of(op, old, new))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_floats_of_16_bits_are_widened_exactly_and_rounded_to_even(target, name):
    call = launcher(target, ops.stored_source())
    stored = np.dtype(getattr(ml_dtypes, name, name))
    every = np.arange(2**16, dtype=np.uint16).view(stored)
    wide = ops.run(call, f"widen_{name}", (every,), np.dtype("f"))
    ops.check_exact(wide, every.astype("f"), name)
    x = ops.values(np.dtype("f"))
    # next to, and half-way between, all numbers
    with np.errstate(all="ignore"):
        near = (wide[1:] + wide[:-1]) / 2
        x = np.concatenate([x, wide, near, np.nextafter(near, np.float32(0)), near * 1.0001])
        want = x.astype(stored).astype("f")
    got = ops.run(call, f"narrow_{name}", (x,), stored)
    ops.check_exact(got.astype("f"), want, name)


@pytest.fixture(scope="module")
def reductions(target):
    return launcher(target, ops.reduction_source())


@pytest.mark.parametrize("threads", [32, 256, 1024])
def test_blocks_reduce_and_scan(reductions, threads):
    for monoid, dtype in ops.REDUCTIONS:
        x, want, error = ops.rows(monoid, dtype, 700)
        for kind in ("reduce", "scan"):
            out = np.full((3, threads if kind == "reduce" else 700), 7, dtype)
            got = reductions(f"{kind}_{monoid}_{dtype.name}", 3, threads, [x, out], 700)
            wanted = want[:, -1:] if kind == "reduce" else want
            apart = np.abs(got.astype(float) - wanted.astype(float))
            bound = error[:, -1:] if kind == "reduce" else error
            assert (apart <= bound).all(), (kind, monoid, dtype)


def test_the_error_of_a_sum_does_not_grow_with_its_length(reductions):
    """One thread adds 10⁵ numbers that each round the sum by half a unit of it."""
    x = np.full((1, 100_000 * 32), 0.1, "f")
    out = np.zeros((1, 32), "f")
    got = reductions("reduce_add_float32", 1, 32, [x, out], x.size)
    exact = float(x.astype(float).sum())
    assert np.abs(got - exact).max() <= 8 * 2.0**-24 * exact


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sums_with_infinities_are_infinite(reductions, value):
    x = np.ones((1, 700), "f")
    x[0, 300] = value
    out = np.zeros((1, 32), "f")
    got = reductions("reduce_add_float32", 1, 32, [x, out], 700)
    np.testing.assert_array_equal(got, np.float32(value))
