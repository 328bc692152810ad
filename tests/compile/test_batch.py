"""Kernels of one form run together: which ones, and that they compute the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import optim
from fgrad.backends.cpu.functions import Functions, functions
from fgrad.compile.batch import _most, batched, form
from fgrad.compile.kernel import Compute, Kernel, Load, Map, Operand, Store
from fgrad.compile.memory import plan_memory
from fgrad.compile.plan import (
    INPUT,
    RESULT,
    TEMP,
    Batch,
    Buffer,
    Launch,
    Plan,
    check_plan,
    reads_of,
    writes_of,
)
from fgrad.compile.run_plan import run_plan
from fgrad.core import config

F = np.dtype("f")
RNG = np.random.default_rng(0)


def f32(*shape):
    return RNG.normal(size=shape).astype(F)


def kernel(op, n):
    """``op(x, y)`` for each element."""
    m = Map(0, (1,))
    body = (Load(0, m, F), Load(1, m, F), Compute(op, (0, 1), F), Store(2, m, 2))
    return Kernel(op, (), (n,), (Operand(F), Operand(F), Operand(F, True)), body)


@st.composite
def plans(draw):
    """Plans of pointwise launches of two forms over two sizes."""
    buffers = [Buffer((n,), F, INPUT) for n in (3, 3, 8, 8)]
    steps = []
    for _ in range(draw(st.integers(1, 16))):
        n = draw(st.sampled_from([3, 8]))
        fitting = [i for i, b in enumerate(buffers) if b.shape == (n,)]
        args = [draw(st.sampled_from(fitting)) for _ in range(2)]
        buffers.append(Buffer((n,), F, draw(st.sampled_from([TEMP, TEMP, RESULT]))))
        steps.append(
            Launch(kernel(draw(st.sampled_from(["add", "max"])), n), (*args, len(buffers) - 1))
        )
    results = tuple(i for i, b in enumerate(buffers) if b.role == RESULT)
    return Plan(4, tuple(buffers), tuple(steps), results)


@given(plans(), st.sets(st.integers(0, 3)))
def test_batched_programs_compute_the_same_in_no_more_memory(plan, donated):
    after = batched(plan)
    check_plan(after)
    assert _most(after, list(after.steps)) <= _most(plan, list(plan.steps))
    members = [m for s in after.steps for m in (s.launches if isinstance(s, Batch) else (s,))]
    assert sorted(map(id, members)) == sorted(map(id, plan.steps))
    inputs = [f32(b.size) for b in plan.buffers[:4]]
    want = run_plan(plan, inputs)
    for x, y in zip(run_plan(after, inputs), want, strict=True):
        np.testing.assert_array_equal(x, y)
    _check_places(after, plan_memory(after, donated=donated), donated)


def _check_places(plan, memory, donated):
    """Nothing is written where a launch of the same step, or a later step, reads something else."""
    place = {b: ("temp", at) for b, at in memory.offsets.items()}
    place |= {b: ("input", a) for b, a in memory.taken.items()}
    place |= {a: ("input", a) for a in range(plan.inputs)}
    assert set(memory.taken.values()) <= set(donated)
    assert len(set(memory.taken.values())) == len(memory.taken)
    holds = {place[a]: a for a in range(plan.inputs)}
    for step in plan.steps:
        for b in reads_of(step):
            if b in place:
                assert holds[place[b]] == b, "overwritten before it is read"
        launches = step.launches if isinstance(step, Batch) else (step,)
        for launch in launches:
            (b,) = writes_of(launch)
            for other in launches:
                if other is not launch:
                    assert b not in place or all(place.get(a) != place[b] for a in other.buffers)
            if b in place:
                holds[place[b]] = b
    for r in plan.results:
        assert r not in place or holds[place[r]] == r


def steps_of(f, *args, **options):
    return fg.jit(f, **options).lower(*args).schedule()


def adamw(shapes, clip=False):
    optimizer = optim.adamw(1e-2, weight_decay=0.1)
    if clip:
        optimizer = optim.chain(optim.clip_by_global_norm(1.0), optimizer)
    params = [f32(*s) for s in shapes]

    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state

    return update, (params, optimizer.init(params), [f32(*s) for s in shapes])


SHAPES = [(40, 30), (30,), (7, 5, 3), (3000,), (1,), (), (0, 4), (100_000,)]


def test_all_updates_of_an_optimizer_are_one_launch():
    update, args = adamw([(40, 30), (30,), (7, 5, 3), (3000,), (100_000,)])
    assert len(steps_of(update, *args)) == 2  # the bias corrections, the updates


def test_the_sums_of_a_global_norm_are_one_launch():
    update, args = adamw([(50 + i,) for i in range(40)], clip=True)
    assert len(steps_of(update, *args)) <= 5


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("direct", [True, False])
def test_an_optimizer_over_many_tensors(clip, direct, monkeypatch):
    if not direct:
        slow = Functions(functions().engine, 2, direct=False)
        monkeypatch.setattr("fgrad.backends.cpu.compiler.functions", lambda: slow)
    update, args = adamw(SHAPES, clip)
    got = fg.tree.leaves(fg.jit(update)(*args))
    with config.cpu_compiler("numpy"):
        want = fg.tree.leaves(fg.jit(update)(*args))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


def test_launches_that_need_each_other_stay_apart():
    def f(x, y):
        a = fnp.sort(fnp.sin(x))  # a library call between two kernels of one form
        return fnp.sin(a), fnp.sin(fnp.sort(y))

    x, y = f32(100), f32(50)
    names = [s.name for s in steps_of(f, x, y)]
    assert names.index("sort") > names.index("sin")
    for a, b in zip(fg.jit(f)(x, y), (np.sin(np.sort(np.sin(x))), np.sin(np.sort(y))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    update, args = adamw([(50_000 + i,) for i in range(20)], clip=True)
    found = []
    for threads in (1, 2, 3):
        made = Functions(functions().engine, threads)
        monkeypatch.setattr("fgrad.backends.cpu.compiler.functions", lambda made=made: made)
        found.append([np.array(x) for x in fg.tree.leaves(fg.jit(lambda *a: update(*a))(*args))])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_kernels_of_other_operations_have_another_form():
    assert form(kernel("add", 3)) == form(kernel("add", 8)) != form(kernel("max", 8))
    assert form(kernel("add", 1)) != form(kernel("add", 8))
