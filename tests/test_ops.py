"""Reductions of segments: their values, derivatives, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import ops
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.compile.plan import Library
from fgrad.errors import (
    ConcretizationTypeError,
    DtypeError,
    IndexOutOfBoundsError,
    ShapeError,
)
from fgrad.testing import check_laws
from fgrad.testing.strategies import dtype_named

REDUCTIONS = {
    ops.segment_sum: np.add, ops.segment_prod: np.multiply, ops.segment_max: np.maximum,
    ops.segment_min: np.minimum,
}  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "uint8", "bool", "complex64")
IDS = np.array([2, 0, 2, 5, 0, 2])


def empty(reduce, dtype):
    """What a segment without rows holds."""
    if reduce in (ops.segment_sum, ops.segment_prod):
        return int(reduce is ops.segment_prod)
    low = reduce is ops.segment_max
    if dtype.kind == "b":
        return not low
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if low else np.iinfo(dtype).max
    return -np.inf if low else np.inf


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("name", DTYPES)
@given(
    segments=st.integers(0, 5), rows=st.integers(0, 12), seed=st.integers(0, 2**32 - 1),
    row=st.lists(st.integers(0, 4), max_size=2), jitted=st.booleans(),
)  # fmt: skip
def test_they_are_reductions_of_the_rows_of_each_segment(
    reduce, name, segments, rows, row, seed, jitted
):
    dtype, rng = dtype_named(name), np.random.default_rng(seed)
    if dtype.kind == "c" and reduce in (ops.segment_max, ops.segment_min):
        return
    low = 0 if dtype.kind in "ub" else -2
    data = rng.integers(low, 2 if dtype.kind == "b" else 3, (rows, *row)).astype(dtype)
    ids = rng.integers(-1, segments + 1, rows)

    def f(data, ids):
        return reduce(data, ids, segments, mode="drop")

    found = (fg.jit(f) if jitted else f)(data, ids)
    assert found.dtype == dtype
    ufunc = REDUCTIONS[reduce]
    for i in range(segments):
        mine = data[ids == i].astype(np.float64) if dtype.kind == "V" else data[ids == i]
        if len(mine):
            wanted = ufunc.reduce(mine, 0, dtype=mine.dtype)
        else:
            wanted = np.full(row, empty(reduce, dtype))
        np.testing.assert_array_equal(np.asarray(found)[i].astype(mine.dtype), wanted)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_they_keep_every_law(reduce):
    data = np.random.default_rng(0).normal(size=(6, 2))
    check_laws(lambda x: reduce(x, IDS, 7), (data,))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_programs_compute_them_by_machine_code(reduce):
    f = fg.jit(fg.grad(lambda x, i: fnp.sum(fnp.where(fnp.isfinite(y := reduce(x, i, 6)), y, 0))))
    plan = f.lower(np.ones((6, 3), "f"), IDS)._program.plan
    named = [s for s in plan.steps if isinstance(s, Library) and "scatter" in s.eqn.primitive.name]
    assert named
    assert all(routine_of(s) is not None for s in named)


def test_the_number_of_segments_is_found_from_known_ids():
    x = np.arange(6.0)
    assert ops.segment_sum(x, IDS).shape == (6,)
    assert ops.segment_sum(x[:0], IDS[:0]).shape == (0,)
    np.testing.assert_array_equal(fg.grad(lambda x: ops.segment_sum(x, IDS)[2])(x), IDS == 2)
    assert fg.jit(lambda x: ops.segment_max(x, IDS))(x).shape == (6,)
    with pytest.raises(ConcretizationTypeError, match="pass num_segments"):
        fg.jit(ops.segment_sum)(x, IDS)


@pytest.mark.parametrize("jitted", [True, False])
def test_rows_of_no_segment_are_an_error_unless_dropped(jitted):
    def f(x, i, mode=None):
        return ops.segment_sum(x, i, 5, mode=mode)

    run = fg.jit(f, static_argnums=2) if jitted else f
    for bad in (IDS, np.where(IDS == 5, -1, IDS)):
        with pytest.raises(IndexOutOfBoundsError):
            run(np.ones(6), bad)
        np.testing.assert_array_equal(run(np.ones(6), bad, "drop"), [2, 0, 3, 0, 0])
    np.testing.assert_array_equal(run(np.ones(6), IDS, "clip"), [2, 0, 3, 0, 1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DtypeError, match="segment_ids must be integers, got f64"):
        ops.segment_sum(np.ones(3), np.ones(3))
    for x, ids in ((np.ones(3), IDS), (1.0, IDS[:1]), (np.ones((6, 6)), np.stack([IDS] * 6))):
        with pytest.raises(ShapeError, match="one integer for each row"):
            ops.segment_max(x, ids)
    with pytest.raises(ShapeError, match="must not be negative, got -1"):
        ops.segment_sum(np.ones(6), IDS, -1)


@pytest.mark.peers
@pytest.mark.parametrize("name", [f.__name__ for f in REDUCTIONS])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_they_are_jaxs(name, dtype):
    import jax

    if dtype == "bool" and name in ("segment_sum", "segment_prod"):
        pytest.skip("JAX adds and multiplies no booleans")
    data = np.array([[3, 1], [2, 0], [0, 1], [2, 2], [1, 1], [0, 0]]).astype(dtype)
    found = getattr(ops, name)(data, IDS, 5, mode="drop")
    np.testing.assert_array_equal(found, getattr(jax.ops, name)(jax.numpy.asarray(data), IDS, 5))
