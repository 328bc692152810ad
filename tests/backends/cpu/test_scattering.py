"""Scatters in machine code equal eager ones; what lies outside raises, is moved or is dropped."""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cpu import compiler, scattering
from fgrad.backends.cpu.engine import Engine
from fgrad.backends.cpu.functions import Functions
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.backends.cpu.target import host
from fgrad.backends.object_cache import ObjectCache
from fgrad.compile.plan import Library, Updated
from fgrad.core import config
from fgrad.errors import IndexOutOfBoundsError
from fgrad.testing.strategies import dtype_named
from tests.backends.cpu.test_targets import OLDER, functions_of

SHAPES = [(1, 1, 5), (7, 3, 20), (100, 16, 64), (33, 130, 500), (5000, 48, 300)]


def drawn(shape, dtype, integer=np.int32):
    height, width, count = shape
    rng = np.random.default_rng(height)
    table, updates = (rng.normal(size=(n, width)).astype(dtype) for n in (height, count))
    return table, rng.integers(0, height, count).astype(integer), updates


def routines(f, *args):
    found = [routine_of(step, host()) for step in f.lower(*args)._program.plan.steps]
    return [r for r in found if r is not None and r.key[0] == "scatter"]


def uses_routine(f, *args):
    return bool(routines(f, *args))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_gradients_of_lookups_are_sums_of_rows(shape, dtype, integer):
    table, index, updates = drawn(shape, dtype, integer)
    f = fg.jit(fg.grad(lambda t, i, u: fnp.sum(fnp.take(t, i, axis=0) * u)))
    assert uses_routine(f, table, index, updates)
    expected = np.zeros(table.shape)
    np.add.at(expected, index, updates)
    bound = 64 * np.finfo(dtype).eps * (1 + np.abs(expected).max())
    np.testing.assert_allclose(f(table, index, updates), expected, rtol=0, atol=bound)
    g = fg.jit(lambda t, i, u: t.at[i].add(u))
    assert uses_routine(g, table, index, updates)
    np.testing.assert_allclose(g(table, index, updates), expected + table, rtol=0, atol=bound)


def test_indices_and_windows_of_several_axes():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 9, (4, 5)).astype(np.int32)
    updates = rng.normal(size=(4, 5, 3, 7)).astype(np.float32)
    f = fg.jit(lambda u: fnp.zeros((9, 3, 7)).at[index].add(u))
    assert uses_routine(f, updates)
    expected = np.zeros((9, 3, 7))
    np.add.at(expected, index, updates)
    np.testing.assert_allclose(f(updates), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [-4, 3, 2**31 - 1])
def test_what_lies_outside_raises_or_is_dropped(bad):
    index, u = np.array([0, bad, 2], np.int32), np.ones((3, 2), np.float32)
    base = fnp.zeros((3, 2))
    with pytest.raises(IndexOutOfBoundsError, match="out of bounds"):
        fg.jit(lambda t, i, u: t.at[i].add(u))(base, index, u)
    dropped = fg.jit(lambda t, i, u: t.at[i].add(u, mode="drop"))
    assert uses_routine(dropped, base, index, u)
    np.testing.assert_array_equal(dropped(base, index, u), [[1, 1], [0, 0], [1, 1]])


def test_the_number_of_updates_takes_no_new_code():
    codes = []
    for count in (40, 500):
        table, index, updates = drawn((50, 8, count), np.float32)
        f = fg.jit(lambda t, i, u: t.at[i].add(u))
        plan = f.lower(table, index, updates)._program.plan
        codes += [r.key for s in plan.steps if (r := routine_of(s, host())) is not None]
    assert len(codes) == 2
    assert codes[0] == codes[1]


def test_minus_zero_and_other_numbers_are_kept_where_nothing_is_added():
    index, u = np.array([1], np.int32), np.ones((1, 2), np.float32)
    for value in (-0.0, 2.5):
        out = np.asarray(fg.jit(lambda i, u, v=value: fnp.full((3, 2), v).at[i].add(u))(index, u))
        np.testing.assert_array_equal(out[[0, 2]], np.full((2, 2), value))
        assert (np.signbit(out[0]) == np.signbit(value)).all()


@pytest.mark.parametrize(("height", "width", "count"), [(0, 3, 0), (3, 0, 2), (3, 2, 0)])
def test_empty_arrays(height, width, count):
    index, u = np.zeros(count, np.int32), np.ones((count, width), np.float32)
    out = fg.jit(lambda i, u: fnp.zeros((height, width)).at[i].add(u))(index, u)
    np.testing.assert_array_equal(out, np.zeros((height, width)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_zeros_without_elements_take_no_additions(shape):
    pullback = fg.jit(fg.grad(lambda x: fnp.sort(x).sum()))  # adds to zeros of this shape
    assert pullback(np.zeros(shape)).shape == shape
    added = fg.jit(lambda i, u: fnp.zeros(shape).at[i].add(u))
    assert added(np.zeros(0, np.int32), np.zeros((0, *shape[1:]))).shape == shape


# ------------------------------------------------------------------ every form, against eager code

OPERATIONS = {
    "set": lax.scatter, "add": lax.scatter_add, "mul": lax.scatter_mul, "min": lax.scatter_min,
    "max": lax.scatter_max,
}  # fmt: skip
DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int8", "int32", "uint16", "int64", "bool",
    "complex64", "complex128",
)  # fmt: skip
INDICES = ("int8", "int32", "int64", "uint8", "uint32", "uint64")
MODES = ("clip", "drop", "promise_in_bounds", "raise")


class Problem(NamedTuple):
    op: str
    dtype: str
    mode: str
    numbers: lax.ScatterDimensionNumbers
    x: np.ndarray
    indices: np.ndarray
    updates: np.ndarray

    def run(self, x, indices, updates):
        return OPERATIONS[self.op](x, indices, updates, self.numbers, mode=self.mode)


def values(rng, shape, dtype):
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "c":
        return (rng.integers(-3, 4, shape) + 1j * rng.integers(-3, 4, shape)).astype(dtype)
    x = rng.integers(0 if dtype.kind == "u" else -4, 5, shape)
    if dtype.kind not in "iu":
        special = rng.choice([np.nan, np.inf, -np.inf, -0.0], shape)
        x = np.where(rng.random(shape) < 0.02, special, x)
    return x.astype(dtype)


@st.composite
def problems(draw):
    """Any dimension numbers, with indices outside where the mode allows them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    op, name, mode = (draw(st.sampled_from(s)) for s in (tuple(OPERATIONS), DTYPES, MODES))
    if name == "bool":
        op = "set"
    if name.startswith("complex") and op in ("min", "max"):
        op = "add"
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    axes = draw(st.permutations(range(len(shape))))
    batched = draw(st.integers(0, min(2, len(shape))))
    batching, rest = sorted(axes[:batched]), axes[batched:]
    scattered = rest[: draw(st.integers(0, len(rest)))]
    inserted = sorted(draw(st.sets(st.sampled_from(rest)))) if rest else []
    window = [d for d in range(len(shape)) if d not in inserted and d not in batching]
    sizes = {d: draw(st.sampled_from((shape[d], 1, max(1, shape[d] // 2)))) for d in window}
    lengths = [shape[d] for d in batching] + draw(st.lists(st.integers(1, 7), max_size=2))
    order = draw(st.permutations(range(len(lengths))))
    batch = [lengths[i] for i in order]
    rank = len(batch) + len(window)
    places = sorted(draw(st.permutations(range(rank)))[: len(window)])
    found = dict(zip(places, (sizes[d] for d in window), strict=True))
    others = iter(batch)
    updates = [found[i] if i in found else next(others) for i in range(rank)]
    integer = np.dtype(draw(st.sampled_from(INDICES)))
    inside = mode in ("raise", "promise_in_bounds")
    low = 0 if inside or integer.kind == "u" else -2
    columns = [
        rng.integers(low, shape[d] - sizes.get(d, 1) + (1 if inside else 3), batch).astype(integer)
        for d in scattered
    ]
    if not inside and columns and draw(st.booleans()):  # far outside
        columns[0].reshape(-1)[:1] = np.iinfo(integer).max
    numbers = lax.ScatterDimensionNumbers(
        places, inserted, scattered, batching, [order.index(i) for i in range(batched)]
    )
    dtype = dtype_named(name)
    return Problem(
        op, name, mode, numbers, values(rng, shape, dtype),
        (np.stack(columns, -1) if columns else np.zeros([*batch, 0])).astype(integer),
        values(rng, updates, dtype),
    )  # fmt: skip


@pytest.mark.parametrize("op", ["set", "add", "min"])
def test_windows_that_overlap_are_not_shared_among_threads_along_the_axis_that_they_slide(op):
    rng = np.random.default_rng(6)
    x, u = rng.normal(size=(60, 3)), rng.normal(size=(50, 24, 3))
    index = rng.integers(0, 37, (50, 1))
    numbers = lax.ScatterDimensionNumbers((1, 2), (), (0,))
    with mock.patch.multiple(scattering, _SHARED=1):
        found = fg.jit(lambda x, i, u: OPERATIONS[op](x, i, u, numbers))(x, index, u)
    np.testing.assert_allclose(found, OPERATIONS[op](x, index, u, numbers), rtol=1e-12, atol=1e-14)


def same(problem, found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype
    if dtype_named(problem.dtype).kind == "V":
        found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    # Values are small integers: every sum is exact, and each product but in float16.
    inexact = problem.op == "mul" and problem.dtype in ("float16", "bfloat16", "complex64")
    if inexact:
        np.testing.assert_allclose(found, wanted, rtol=1e-6 if "c" in problem.dtype else 0.02)
    else:
        np.testing.assert_array_equal(found, wanted)


STRATEGIES = {
    "as chosen": {"_NARROW": scattering._NARROW},
    "sorted": {"_NARROW": 0, "_is_kept": lambda c, size: False},
    "kept in memory": {"_NARROW": 100, "_is_kept": lambda c, size: True},
    "in parts": {"_MANY": 0, "_FEW_TIMES": 0},
    "shared": {"_SHARED": 1},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(problem=problems(), order=st.randoms(use_true_random=False))
def test_scatters_equal_eager_ones(strategy, problem, order):
    axes = list(range(problem.updates.ndim))
    order.shuffle(axes)

    turned = [axis for axis in axes if order.random() < 0.3]

    def seen(x, indices, updates):  # updates as a view
        return problem.run(x, indices, fnp.flip(fnp.transpose(updates, axes), turned))

    given_ = np.array(np.flip(problem.updates, turned).transpose(np.argsort(axes)), order="C")
    with mock.patch.multiple(scattering, **STRATEGIES[strategy]):
        f = fg.jit(seen)
        assert len(routines(f, problem.x, problem.indices, given_)) == 1
        found = f(problem.x, problem.indices, given_)
    same(problem, found, problem.run(*problem[4:]))


@pytest.mark.skipif(host().vector_bytes < 32, reason="needs AVX2 and FMA")
@pytest.mark.parametrize("name", OLDER)
@given(problem=problems())
def test_scatters_equal_eager_ones_on_every_processor(name, problem):
    made = functions_of(name)
    for strategy in ("as chosen", "sorted", "in parts"):
        with (
            mock.patch.multiple(scattering, **STRATEGIES[strategy]),
            mock.patch.object(compiler, "functions", return_value=made),
        ):
            found = fg.jit(problem.run)(*problem[4:])
        same(problem, found, problem.run(*problem[4:]))


@pytest.mark.parametrize("op", ["set", "add", "mul", "min", "max"])
@pytest.mark.parametrize("width", [1, 3, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "complex64"])
def test_many_updates_of_one_element_are_taken_in_order(op, width, dtype):
    if dtype == "complex64" and op in ("min", "max"):
        pytest.skip("complex numbers have no order")
    rng = np.random.default_rng(width)
    x, u = (rng.normal(size=(n, width)) for n in (5, 3000))
    if op == "mul":
        u = np.exp(0.01 * u)
    if dtype == "int32":
        u, x = 9 * u, 9 * x
    x, u = x.astype(dtype), u.astype(dtype)
    index = rng.integers(0, 5, 3000)
    f = fg.jit(lambda x, i, u: getattr(x.at[i], "multiply" if op == "mul" else op)(u))
    found = np.asarray(f(x, index, u))
    assert uses_routine(f, x, index, u)
    ufunc = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}.get(op)
    exact = {"float32": "f8", "float16": "f8", "complex64": "c16"}.get(dtype, dtype)
    wanted = x.astype(exact)
    for i, row in zip(index, u.astype(exact), strict=True):
        wanted[i] = row if ufunc is None else ufunc(wanted[i], row)
    if op in ("set", "min", "max") or dtype == "int32":
        np.testing.assert_array_equal(found, wanted.astype(dtype))
        return
    # A sum is rounded once; of a product each step may be.
    unit = np.finfo(dtype).eps / 2
    size = np.abs(x.astype(exact)) if op == "add" else np.abs(wanted)
    if op == "add":
        np.add.at(size, index, np.abs(u.astype(exact)))
    steps = {"add": 1.01 if dtype != "float64" else 600, "mul": 3000}[op]
    bound = unit * (np.abs(wanted) if op == "add" and dtype != "float64" else size) * steps
    assert (np.abs(found - wanted) <= bound + 1e-30).all()


def test_ones_are_counted_further_than_float32_counts_by_ones():
    index = np.zeros((1 << 24) + 10, np.int8)
    count = fg.jit(lambda i: fnp.zeros(2, "f").at[i].add(1.0))
    assert uses_routine(count, index)
    assert np.asarray(count(index)).tolist() == [(1 << 24) + 10, 0]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100_000, 1), (2, 3), (2, 40)])
def test_long_sums_are_rounded_once(height, width):
    """In parts, in memory of the form of the result, and after sorting."""
    index, u = np.zeros(70_000, np.int32), np.full(70_000, 0.1, "f")
    f = fg.jit(lambda i, u: fnp.zeros((height, width), "f").at[i].add(u[:, None]))
    (routine,) = routines(f, index, u)
    assert len(routine.phases) == (2 if (height, width) in ((1, 1), (2, 40)) else 3)
    found = np.asarray(f(index, u))[0]
    np.testing.assert_array_equal(found, np.float32(70_000 * np.float64(np.float32(0.1))))


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(100, 1, 100_000), (50_000, 1, 60_000), (300, 130, 2000), (20_000, 1, 300)],
    ids=["in parts", "kept in memory", "sorted", "few"],
)
@pytest.mark.parametrize("op", ["add", "set"])
def test_results_do_not_depend_on_threads(height, width, count, op, monkeypatch):
    rng = np.random.default_rng(7)
    x, u = (rng.normal(size=(n, width)).astype("f") for n in (height, count))
    index = rng.integers(0, height, count)
    found = []
    for threads in (1, 2, 5):
        made = Functions(Engine(host(), ObjectCache(None)), threads)
        monkeypatch.setattr(compiler, "functions", lambda made=made: made)
        f = fg.jit(lambda x, i, u: getattr(x.at[i], op)(u))
        found += [np.asarray(f(fnp.asarray(x), index, u)) for _ in range(3)]
    for y in found[1:]:
        np.testing.assert_array_equal(y.view(np.int32), found[0].view(np.int32))
    np.testing.assert_allclose(
        found[0], getattr(fnp.asarray(x).at[index], op)(u), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("height", [1, 5, 1000])
@pytest.mark.parametrize("dtype", ["f", "d", "e", "F"])
def test_rows_that_begin_as_zeros_are_all_written(height, dtype):
    """Rows before the first update, between updates, after the last, and where there is none."""
    f = fg.jit(lambda i, u: fnp.zeros((height, 24), dtype).at[i].add(u, mode="drop"))
    u = np.arange(1, 73).reshape(3, 24).astype(dtype)
    for index in ([-9, -1 - height, height], [0, height - 1, -height], [height // 2] * 3):
        index = np.array(index)
        (routine,) = routines(f, index, u)
        assert len(routine.phases) == (3 if height == 1 else 2)
        wanted = np.zeros((height, 24), dtype)
        for i, row in zip(index, u, strict=True):
            if -height <= i < height:
                wanted[i] += row
        fnp.full((height, 24), 7, dtype).sum()  # memory that is used again holds other numbers
        np.testing.assert_array_equal(f(index, u), wanted)


def test_operands_may_run_backwards():
    rng = np.random.default_rng(8)
    x, u = (rng.integers(-9, 9, s).astype("f") for s in ((300, 20), (50, 20)))
    index = rng.integers(0, 300, 50)
    for f in (
        lambda x, i, u: x.at[i].add(u[::-1]),
        lambda x, i, u: x.at[i].add(u[:, ::-1]),
        lambda x, i, u: x[::-1, ::-1].at[i[::-1]].add(u),
        lambda x, i, u: x.at[i, ::-1].set(u[::-1, ::-1]),
        lambda x, i, u: fnp.zeros_like(x).at[i[::-2]].add(u[::-2]),
    ):
        args = (fnp.asarray(x), fnp.asarray(index), fnp.asarray(u))
        assert uses_routine(fg.jit(f), *args)
        np.testing.assert_array_equal(fg.jit(f)(*args), f(*args))


def test_gathers_and_at_take_this_path():
    x, i = np.arange(12, dtype="f").reshape(3, 4), np.array([2, 0, 2])
    index = fg.jit(lambda x, i: x.at[i, 1:3].multiply(2.0).at[:, i].min(3.0).at[0, 0].set(7.0))
    assert len(routines(index, x, i)) == 3
    assert {kind for kind, _ in steps_of(index, x, i)} <= {"kernel", "host"}
    u = x.copy()
    np.multiply.at(u, (i, slice(1, 3)), 2)
    u[:, i] = np.minimum(u[:, i], 3)
    u[0, 0] = 7
    np.testing.assert_array_equal(index(x, i), u)
    for f in (
        lambda x, i: fnp.sum(x[i] ** 2),
        lambda x, i: fnp.sum(fnp.take_along_axis(x, i[:, None], 1) ** 2),
    ):
        pull = fg.jit(fg.grad(f))
        assert routines(pull, x, i)
        np.testing.assert_array_equal(pull(x, i), fg.grad(f)(x, i))
        both = fg.jit(fg.vmap(fg.grad(f)))
        xs, js = np.stack([x, 2 * x]), np.stack([i, i[::-1]])
        assert routines(both, xs, js)
        np.testing.assert_array_equal(both(xs, js), fg.vmap(fg.grad(f))(xs, js))


# ------------------------------------------------------------------------------------- in loops


def steps_of(f, *args):
    return [(s.kind, s.name) for s in f.lower(*args).schedule()]


def added_rows(mode):
    def f(x, indices, updates):
        def body(c, pair):
            return c.at[pair[0]].add(pair[1], mode=mode), fnp.max(c)

        return lax.scan(body, x, (indices, updates))

    return f


@pytest.mark.parametrize("mode", [None, "drop", "clip"])
@pytest.mark.parametrize(("width", "dtype"), [(1, "f"), (3, "d"), (40, "f"), (2, "e"), (5, "F")])
def test_scans_with_scatters_run_without_python(mode, width, dtype):
    rng = np.random.default_rng(0)
    shift = 0 if mode is None else 5
    x, u = (rng.integers(-4, 5, (*s, width)).astype(dtype) for s in ((30,), (20, 7)))
    index = rng.integers(-shift if mode else 0, 30 + shift, (20, 7))
    scan = added_rows(mode) if dtype != "F" else lambda x, i, u: lax.scan(
        lambda c, p: (c.at[p[0]].add(p[1], mode=mode), fnp.sum(c)), x, (i, u)
    )  # fmt: skip
    f = fg.jit(scan)
    assert ("loop", "scan") in steps_of(f, x, index, u)
    for found, wanted in zip(f(x, index, u), scan(x, index, u), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("direct", [True, False])
def test_what_lies_outside_in_a_step_raises_with_the_line_of_the_user(direct, monkeypatch):
    if not direct:
        made = Functions(Engine(host(), ObjectCache(None)), 2, direct=False)
        monkeypatch.setattr(compiler, "functions", lambda: made)
    f = fg.jit(added_rows(None))
    x, u, index = np.zeros((5, 2), "f"), np.ones((4, 3, 2), "f"), np.zeros((4, 3), np.int32)
    index[2, 1] = 5
    kept = x.copy()
    with pytest.raises(IndexOutOfBoundsError, match="index 5 is out of bounds") as raised:
        f(x, index, u)
    assert "test_scattering.py" in "".join(raised.value.__notes__)
    np.testing.assert_array_equal(x, kept)
    index[2, 1] = 4
    np.testing.assert_array_equal(f(x, index, u)[0][0], [11, 11])


def test_lookups_and_updates_of_one_state_share_a_loop():
    """A step reads what the one before it has written, and derivatives run backwards."""
    rng = np.random.default_rng(4)
    x, index = rng.normal(size=(9, 3)), rng.integers(-9, 9, (30, 2))

    def run(x, i):
        def body(c, k):
            return c.at[k].add(fnp.sin(c[k[::-1]])), fnp.sum(c[k])

        return lax.scan(body, x, i)

    f = fg.jit(run)
    assert ("loop", "scan") in steps_of(f, x, index)
    for found, wanted in zip(f(x, index), run(x, index), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
    g = fg.grad(lambda x, i: fnp.sum(run(x, i)[0]) + fnp.sum(run(x, i)[1] ** 2))
    assert {k for k, n in steps_of(fg.jit(g), x, index) if n == "scan"} == {"loop"}
    np.testing.assert_allclose(fg.jit(g)(x, index), g(x, index), rtol=1e-11)
    index[17, 1] = 9
    with pytest.raises(IndexOutOfBoundsError, match="index 9 is out of bounds"):
        f(x, index)


def test_check_judges_scatters_in_and_out_of_loops():
    rng = np.random.default_rng(5)
    x, u = rng.normal(size=(9, 3)).astype("f"), rng.normal(size=(20, 4, 3)).astype("f")
    index = rng.integers(0, 9, (20, 4))

    def run(x, i, u):
        y = x.at[i[0]].multiply(u[0]).at[i[1]].min(0.25).at[i].add(u)
        return lax.scan(lambda c, p: (c.at[p[0]].add(p[1]).at[0].set(1.0), c[0]), y, (i, u))

    x = fnp.asarray(x)
    wanted = run(x, index, u)
    with config.check():
        found = fg.jit(run)(x, index, u)
        index[4, 0] = 9
        with pytest.raises(IndexOutOfBoundsError):
            fg.jit(run)(x, index, u)
    for y, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(y, want, atol=5e-6)  # a rounding of values up to 8 a step


def test_loops_change_their_state_in_place():
    """The copies of a state that is looked at again stay."""
    n = 1 << 12
    index = np.random.default_rng(1).integers(0, n, 50)

    def fill(x, i):
        return lax.scan(lambda c, k: (c.at[k].set(1.0).at[0].add(k * 1.0), None), x, i)[0]

    def swap(x, i):
        def body(s, k):
            a, b = s
            return (b.at[k].add(1.0), a), fnp.sum(a)

        return lax.scan(body, (x, 2 * x), i)

    def keep(x, i):
        def body(c, k):
            new = c.at[k].max(9.0)
            return new, fnp.sum(new - c)

        return lax.scan(body, x, i)

    def count(x, i):
        def body(s):
            return s[0] + 1, s[1].at[s[0] * 3].min(-1.0)

        return lax.while_loop(lambda s: s[0] < 40, body, (0, x))[1]

    def choose(x, i):
        return lax.cond(i[0] > n // 2, lambda x: x.at[1].set(3.0), lambda x: x.at[i].add(1.0), x)

    x = np.arange(n, dtype="f")
    for f in (fill, swap, keep, count, choose):
        found, wanted = fg.jit(f)(x, index), f(x, index)
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    (loop,) = fg.jit(fill).lower(x, index)._program.plan.steps
    assert all(isinstance(s, Updated) for s in loop.plans[0].steps if isinstance(s, Library))
    assert loop.plans[0].updated


def test_updates_are_made_in_place_where_the_operand_dies():
    x, i = np.arange(5.0), np.array([3, 1, 3])
    chain = fg.jit(lambda x, i: (2 * x).at[i].add(1.0).at[i].multiply(3.0) + 1)
    assert chain.lower(x, i)._program.memory.reused >= 2
    np.testing.assert_array_equal(chain(x, i), [1, 10, 5, 73, 9])
    given_ = fg.jit(lambda x, i: x.at[i].set(0.0), donate_argnums=0)
    assert given_.lower(fnp.array(x), i)._program.memory.taken
    np.testing.assert_array_equal(given_(fnp.array(x), i), [0, 0, 2, 0, 4])
    both = fg.jit(lambda x, i: (x + 1, (y := x * 2), y.at[i].set(0.0)))
    for found, wanted in zip(both(x, i), (x + 1, x * 2, [0, 0, 4, 0, 8]), strict=True):
        np.testing.assert_array_equal(found, wanted)
