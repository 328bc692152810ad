"""Scatters by kernels, of every form, against the eager rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, Updated, View, contiguous
from fgrad.errors import IndexOutOfBoundsError
from tests.backends.cpu.test_scattering import OPERATIONS, problems, same
from tests.backends.cuda.running import copied
from tests.backends.cuda.running import execute as emulated


def step_of(f, operands, kind=Library, views=None):
    """The library step of a function that is one scatter."""
    jaxpr = fg.make_jaxpr(f)(*operands).jaxpr
    (eqn,) = jaxpr.eqns
    shown = views or [View(i, 0, x.shape, contiguous(x.shape)) for i, x in enumerate(operands)]
    return kind(eqn, 0, tuple(shown), (3,))


def run(execute, step, operands, start=None):
    out = step.eqn.outputs[0].aval
    found = copied(np.zeros(out.shape, out.dtype) if start is None else start)
    plan = plan_of(step)
    execute(plan, [copied(x) for x in operands], [found])
    return found.reshape(out.shape), plan


@given(problem=problems(), order=st.randoms(use_true_random=False))
def test_scatters_of_every_form(problem, order):
    """The updates are a view, with their axes in any order and reversed."""
    axes = list(range(problem.updates.ndim))
    order.shuffle(axes)
    turned = [axis for axis in axes if order.random() < 0.3]
    memory = np.array(np.flip(problem.updates, turned).transpose(np.argsort(axes)), order="C")
    shown = np.flip(memory.transpose(axes), turned)
    views = [
        View(i, 0, x.shape, contiguous(x.shape)) for i, x in enumerate((problem.x, problem.indices))
    ]
    first = sum((n - 1) * -s // shown.itemsize
                for n, s in zip(shown.shape, shown.strides, strict=True) if s < 0)  # fmt: skip
    views.append(View(2, first, shown.shape, tuple(s // shown.itemsize for s in shown.strides)))
    operands = (problem.x, problem.indices, problem.updates)
    step = step_of(lambda *args: problem.run(*args), operands, views=views)
    found, _ = run(emulated, step, (problem.x, problem.indices, memory))
    same(problem, found, problem.run(*operands))


@pytest.mark.parametrize(
    ("op", "dtype"),
    [("set", "float32"), ("mul", "float64"), ("max", "float16"), ("add", "int32"),
     ("add", "float32"), ("add", "float16")],
)  # fmt: skip
def test_many_updates_of_few_rows(op, dtype, execute):
    rng = np.random.default_rng(0)
    x, u = (rng.integers(1, 3, s).astype(dtype) for s in ((5, 40), (3000, 40)))
    if op == "mul":  # no more than a few factors of 2
        u = np.where(rng.random(u.shape) < 0.002, u, rng.choice([-1, 1], u.shape)).astype(dtype)
    index = rng.integers(0, 5, (3000, 1)).astype(np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    step = step_of(lambda *a: OPERATIONS[op](*a, numbers, mode="clip"), (x, index, u))
    found, _ = run(execute, step, (x, index, u))
    want = x.astype("d")
    for row, place in enumerate(index[:, 0]):
        old, new = want[place], u[row].astype("d")
        combined = {"set": new, "add": old + new, "mul": old * new, "max": np.maximum(old, new)}
        want[place] = combined[op]
    np.testing.assert_array_equal(found, want.astype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sums_are_rounded_once(dtype, execute):
    rng = np.random.default_rng(1)
    n = 2500
    x, u = np.zeros((1, 2), dtype), rng.random((n, 2)).astype(dtype)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    index = np.zeros((n, 1), np.int64)
    step = step_of(lambda *a: lax.scatter_add(*a, numbers, mode="clip"), (x, index, u))
    found, _ = run(execute, step, (x, index, u))
    want = u.astype(np.longdouble).sum(0)
    np.testing.assert_array_equal(found[0], want.astype(dtype))


@pytest.mark.parametrize("mode", ["raise", "drop", "clip"])
@pytest.mark.parametrize("bad", [1, 5, -1])
def test_what_lies_outside_is_told(mode, bad):
    x, u = np.zeros((3, 2), np.float32), np.ones((2, 2), np.float32)
    index = np.array([[0], [bad]], np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    step = step_of(lambda *a: lax.scatter_add(*a, numbers, mode=mode), (x, index, u))
    plan = plan_of(step)
    assert (plan.check is not None) == (mode == "raise")
    outside = not 0 <= bad < 3
    told = []

    def execute(plan, inputs, outputs):
        told.append(emulated(plan, inputs, outputs))

    found, _ = run(execute, step, (x, index, u))
    if mode == "raise" and outside:
        with pytest.raises(IndexOutOfBoundsError):
            lax.scatter_add(x, index, u, numbers, mode=mode)
        want = np.array([[1, 1], [0, 0], [0, 0]])
    else:
        want = lax.scatter_add(x, index, u, numbers, mode=mode)
    np.testing.assert_array_equal(found, want)
    if plan.check is not None:
        assert bool(told[0][plan.check.bytes]) == outside


def test_in_place_the_operand_is_not_copied(execute):
    x, u = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 2), np.float32)
    index = np.array([[2], [2]], np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    step = step_of(lambda *a: lax.scatter_add(*a, numbers, mode="clip"), (x, index, u), Updated)
    found, plan = run(execute, step, (x * np.nan, index, u), start=x)
    np.testing.assert_array_equal(found, x + np.array([[0], [0], [2]]))
    assert not any(c.name.startswith("fgl_copy") for c in plan.calls)


def test_unique_rows_are_not_sorted(execute):
    x, u = np.zeros((9, 4), np.float32), np.arange(16, dtype=np.float32).reshape(4, 4)
    index = np.array([[7], [2], [0], [5]], np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    f = lambda *a: lax.scatter(*a, numbers, unique_indices=True, mode="clip")  # noqa: E731
    found, plan = run(execute, step_of(f, (x, index, u)), (x, index, u))
    assert not any(c.name.startswith("fgl_sort") for c in plan.calls)
    want = np.zeros((9, 4))
    want[index[:, 0]] = u
    np.testing.assert_array_equal(found, want)


def test_zeros_keep_their_sign_where_nothing_is_added(execute):
    x, u = np.full((2, 3), -0.0, np.float32), np.zeros((1, 3), np.float32)
    index = np.array([[1]], np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    step = step_of(lambda *a: lax.scatter_add(*a, numbers, mode="clip"), (x, index, u))
    found, _ = run(execute, step, (x, index, u))
    assert np.signbit(found[0]).all()
    assert not np.signbit(found[1]).any()


@pytest.mark.parametrize(("height", "width", "count"), [(0, 3, 0), (3, 0, 2), (3, 2, 0)])
def test_empty_arrays(height, width, count, execute):
    x, u = np.ones((height, width), np.float32), np.ones((count, width), np.float32)
    index = np.zeros((count, 1), np.int32)
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    step = step_of(lambda *a: lax.scatter_add(*a, numbers, mode="clip"), (x, index, u))
    found, _ = run(execute, step, (x, index, u))
    np.testing.assert_array_equal(found, x)
    assert fnp.asarray(found).shape == (height, width)
