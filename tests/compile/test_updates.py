"""Boxes overwritten in arrays: as kernels, in place where nobody needs the array any more."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compile.batch import batched
from fgrad.compile.plan import Library, check_plan, launches_of
from fgrad.compile.run_plan import run_plan
from fgrad.testing.functions import evaluate
from tests.compile.test_lower import run

RNG = np.random.default_rng(0)
DTYPES = ("bool", "i1", "u2", "i8", "e", "f", "d", "F", "D", ml_dtypes.bfloat16)
STARTS = ("i1", "u1", "i2", "u4", "i8", "u8")


def filled(shape, dtype):
    x = RNG.integers(-100, 100, shape)
    return (x % 2 == 0) if np.dtype(dtype) == bool else x.astype(dtype)


def same(f, *args, **options):
    """A function, by the oracle and compiled, as by its eager rules; without library steps."""
    expected = evaluate(f, args)
    got, plan = run(f, *args)
    assert not [s for s in plan.steps if isinstance(s, Library)]
    together = run_plan(batched(plan), args)
    compiled = fg.jit(f, **options)(*map(fnp.asarray, args))
    for results in (got, together, compiled):
        for found, y in zip(results, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(y))
    return plan


def names(f, *args, **options):
    """The kernels that a compiled call runs, in order."""
    program = fg.jit(f, **options).lower(*map(fnp.asarray, args))._program
    calls = [line.strip().split("(")[0] for line in program.source.splitlines()]
    kernels = {launch.kernel.name for s in program.plan.steps for launch in launches_of(s)}
    return [c.rsplit("_", 1)[0] for c in calls if c.rsplit("_", 1)[0] in kernels]


@st.composite
def boxes(draw):
    shape = draw(st.lists(st.sampled_from((0, 1, 2, 3, 5, 17)), min_size=1, max_size=3))
    box = [draw(st.integers(0, n)) for n in shape]
    kinds = [np.dtype(draw(st.sampled_from(STARTS))) for _ in shape]
    ends = [(-9 if k.kind == "i" else 0, np.iinfo(k).max) for k in kinds]
    starts = [k.type(draw(st.sampled_from((lo, 0, 1, 3, 20, hi))))
              for k, (lo, hi) in zip(kinds, ends, strict=True)]  # fmt: skip
    dtype = draw(st.sampled_from(DTYPES))
    return (filled(shape, dtype), filled(box, dtype), *starts)


def updated(x, update, *starts):
    return [lax.dynamic_update_slice(x, update, starts, allow_negative_indices=False)]


@given(boxes())
def test_any_box_of_any_dtype_is_overwritten(args):
    same(updated, *args)
    same(updated, *args, donate_argnums=0)


@given(boxes())
def test_known_starts_are_part_of_the_map(args):
    x, update, *starts = args
    same(lambda x, update: updated(x, update, *starts), x, update)


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_are_copied_and_stored(dtype):
    x, u = filled((6, 5, 3), dtype), filled((2, 3, 2), dtype)
    same(lambda x, u, i: updated(fnp.transpose(x), fnp.transpose(u)[::-1, :, :1], i, 1, i), x, u,
         np.int32(1))  # fmt: skip
    same(lambda x, i: updated(x, x[1:3, ::-1], i, 0, 0), x, np.int32(3))


X, U = filled((40, 30), "f"), filled((4, 30), "f")


def test_an_array_that_is_made_for_it_is_overwritten_in_place():
    def f(x, u, i):
        y = lax.dynamic_update_slice(x * 2, u, (i, 0))
        return [lax.dynamic_update_slice(y, u + 1, (i + 5, 0))]

    plan = same(f, X, U, np.int32(3))
    assert "copy" not in [launch.kernel.name for s in plan.steps for launch in launches_of(s)]
    assert sum(b.nbytes for b in plan.buffers if b.role == "result") == X.nbytes


def test_a_donated_array_is_overwritten_in_place():
    def f(x, u, i):
        return [lax.dynamic_update_slice(x, u, (i, 0))]

    assert names(f, X, U, 3) == ["lt_add_select_n", "copy", "update"]
    assert names(f, X, U, 3, donate_argnums=0) == ["lt_add_select_n", "update"]
    same(f, X, U, np.int32(3), donate_argnums=0)


def test_an_array_that_is_read_later_is_copied():
    def f(x, u, i):
        y = lax.dynamic_update_slice(x, u, (i, 0))
        return [y, x + y]

    same(f, X, U, np.int32(3), donate_argnums=0)
    same(lambda x, u, i: f(fnp.abs(x), u, i)[1:], X, U, np.int32(3))


def test_what_a_box_is_made_of_may_be_the_array():
    def f(x, i):
        y = x * 3
        return [lax.dynamic_update_slice(y, y[2:5] + 1, (i, 0)), fnp.sum(y)]

    same(f, X, np.int32(4))
    same(lambda x, i: f(x, i)[:1], X, np.int32(4))
    same(lambda x, i: updated(x * 3, (x * 3)[2:5], i, 0), X, np.int32(4))
    same(lambda x, i: updated(x, x[2:5], i, 0), X, np.int32(4), donate_argnums=0)
    same(lambda x, i: updated(x, fnp.abs(x[:5, ::-1]), i, 0), X, np.int32(4), donate_argnums=0)


def test_updates_of_one_array_and_reads_between_them_keep_their_order():
    def f(x, i):
        y, sums = x * 2, []
        for k in range(4):
            sums.append(fnp.sum(y * (k + 1), 1))
            y = lax.dynamic_update_slice(y, fnp.full((1, 30), k, y.dtype), (i + k, 0))
        return [y, *sums]

    same(f, X, np.int32(4))


def test_launches_are_not_put_together_across_an_update():
    def f(x, u, i):
        y = x + 1
        a = fnp.exp(y[:4] / 128) * 2
        z = lax.dynamic_update_slice(y, u, (i, 0))
        b = fnp.exp(z[4:8] / 128) * 2
        return [fnp.rint(a), fnp.rint(b), z]

    plan = same(f, X, U, np.int32(0))
    check_plan(batched(plan))


def test_gradients_of_slices_and_updates():
    def loss(x, u, i):
        y = lax.dynamic_update_slice(x, u, (i, 0))
        return fnp.sum(y * lax.dynamic_slice(y, (i, 1), (40, 29)).sum())

    args = (X.astype("d"), U.astype("d"))
    grads = fg.jit(fg.grad(loss, argnums=(0, 1)))(*args, 7)
    for found, expected in zip(grads, fg.grad(loss, argnums=(0, 1))(*args, 7), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_large_update_is_shared_among_threads():
    x, u = filled((600, 1000), "f"), filled((300, 1000), "f")
    same(lambda x, u, i: updated(x, u, i, 0), x, u, np.int64(123))


def test_a_kernel_of_an_update_names_its_line():
    lowered = fg.jit(lambda x, u, i: lax.dynamic_update_slice(x, u, (i, 0))).lower(X, U, 3)
    steps = lowered.schedule()
    assert {s.kind for s in steps} == {"kernel"}
    assert all("test_updates.py" in line for s in steps for line in s.lines)
    assert all(s.lines for s in steps)
