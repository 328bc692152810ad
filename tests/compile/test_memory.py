"""The memory plan: no two live buffers overlap, in-place reuse is safe, the arena is small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Compute, Kernel, Load, Map, Operand, Reduce, Store
from fgrad.compile.memory import ALIGNMENT, _by_size, _by_time, _live, _Slot, plan_memory
from fgrad.compile.plan import (
    INPUT,
    RESULT,
    TEMP,
    Buffer,
    Launch,
    Plan,
    check_plan,
    reads_of,
    writes_of,
)
from fgrad.compile.verifier import check_kernel

F = np.dtype("f")


def pointwise(count, n):
    """A kernel that adds up its operands, element by element."""
    m = Map(0, (1,))
    body = [Load(i, m, F) for i in range(count)]
    value = 0
    for i in range(1, count):
        body.append(Compute("add", (value, i), F))
        value = len(body) - 1
    body.append(Store(count, m, value))
    return Kernel("sum", (), (n,), (*[Operand(F)] * count, Operand(F, True)), tuple(body))


@st.composite
def plans(draw):
    """Plans of pointwise launches over buffers of a few sizes."""
    sizes = draw(st.lists(st.sampled_from([1, 16, 40, 100, 1000]), min_size=1, max_size=3))
    buffers = [Buffer((n,), F, INPUT) for n in sizes]
    inputs, steps = len(buffers), []
    for _ in range(draw(st.integers(1, 14))):
        n = draw(st.sampled_from(sizes))
        fitting = [i for i, b in enumerate(buffers) if b.shape == (n,)]
        args = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=3))
        role = draw(st.sampled_from([TEMP, TEMP, TEMP, RESULT]))
        buffers.append(Buffer((n,), F, role))
        steps.append(Launch(pointwise(len(args), n), (*args, len(buffers) - 1)))
    results = tuple(i for i, b in enumerate(buffers) if b.role == RESULT)
    return Plan(inputs, tuple(buffers), tuple(steps), results)


def run(plan, memory, inputs):
    """The results, with temporaries in an arena (or apart, where there is no memory plan)."""
    arena = np.full(memory.arena_bytes if memory else 0, 255, np.uint8)
    arrays = list(inputs)
    for i, b in enumerate(plan.buffers[plan.inputs :], plan.inputs):
        if memory and i in memory.offsets:
            at = memory.offsets[i]
            assert at % ALIGNMENT == 0
            arrays.append(arena[at : at + b.nbytes].view(b.dtype))
        else:
            arrays.append(np.full(b.size, np.nan, b.dtype))
    for step in plan.steps:
        run_kernel(step.kernel, [arrays[b] for b in step.buffers])
    return [arrays[r] for r in plan.results]


@given(plans(), st.data())
def test_programs_compute_the_same_in_an_arena(plan, data):
    check_plan(plan)
    scratch = {i: data.draw(st.sampled_from([0, 8, 4096])) for i in range(len(plan.steps))}
    memory = plan_memory(plan, scratch=scratch)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=b.size).astype(F) for b in plan.buffers[: plan.inputs]]
    for x, y in zip(run(plan, memory, inputs), run(plan, None, inputs), strict=True):
        np.testing.assert_array_equal(x, y)


@given(plans(), st.data())
def test_no_two_live_buffers_overlap(plan, data):
    scratch = {i: data.draw(st.sampled_from([0, 8, 4096])) for i in range(len(plan.steps))}
    memory = plan_memory(plan, scratch=scratch)
    last = {}
    for i, step in enumerate(plan.steps):
        last |= dict.fromkeys(reads_of(step) | writes_of(step), i)
    alive = {}
    for i, step in enumerate(plan.steps):
        dying = {b for b in reads_of(step) if last[b] == i}
        for b in writes_of(step) & memory.offsets.keys():
            begin = memory.offsets[b]
            end = begin + plan.buffers[b].nbytes
            assert end <= memory.arena_bytes
            for other, (low, high) in alive.items():
                same = other in dying and (low, high) == (begin, end)
                assert end <= low or high <= begin or same, (b, other)
            alive[b] = (begin, end)
        if scratch[i]:
            begin = memory.scratch[i]
            assert all(begin + scratch[i] <= low or high <= begin for low, high in alive.values())
        alive = {b: span for b, span in alive.items() if last[b] > i}
    assert memory.bound_bytes <= memory.arena_bytes <= memory.peak_bytes


SLOTS = st.lists(
    st.builds(
        lambda size, first, length: _Slot(64 * size, first, first + length),
        st.integers(0, 40), st.integers(0, 30), st.integers(0, 12),
    ),
    min_size=1, max_size=60,
)  # fmt: skip


@pytest.mark.parametrize("place", [_by_time, _by_size])
@given(slots=SLOTS)
def test_slots_alive_at_once_are_apart_and_close_to_the_bound(place, slots):
    places, total = place(slots)
    for i, s in enumerate(slots):
        assert 0 <= places[i] <= total - s.size
        for j, t in enumerate(slots[:i]):
            if s.first <= t.last and t.first <= s.last and s.size and t.size:
                assert places[i] + s.size <= places[j] or places[j] + t.size <= places[i]
    bound = max(_live(slots, 50))
    # Any placement by best fit of sizes from 1 to 40; typical programs come within 1.1.
    assert bound <= total <= 2 * bound


def test_a_chain_runs_in_one_slot():
    buffers = [Buffer((100,), F, INPUT), *[Buffer((100,), F, TEMP)] * 5, Buffer((100,), F, RESULT)]
    steps = [Launch(pointwise(1, 100), (i, i + 1)) for i in range(6)]
    memory = plan_memory(Plan(1, tuple(buffers), tuple(steps), (6,)))
    assert memory.arena_bytes == memory.bound_bytes == 448  # 400 bytes, rounded up to lines
    assert memory.reused == 4
    assert (memory.input_bytes, memory.result_bytes) == (400, 400)
    assert memory.peak_bytes == 400 + 448 + 400


def normalised(store_in_last_pass, transposed=False):
    """Subtracts the sum of the row: reads its operand in two passes."""
    m = Map(0, (8, 1))
    out = Map(0, (1, 4)) if transposed else m
    body = [Load(0, m, F), Reduce("add", 0, F), Compute("sub", (0, 1), F)]
    body.append(Store(1, out, 2 if store_in_last_pass else 0))
    if not store_in_last_pass:
        body.append(Store(2, m, 2))
    operands = (Operand(F), Operand(F, True), Operand(F, True))
    return Kernel("rows", (4,), (8,), operands[: 2 + (not store_in_last_pass)], tuple(body))


@pytest.mark.parametrize(
    ("kernel", "reused"),
    [(normalised(True), 1), (normalised(False), 1), (normalised(True, transposed=True), 0)],
)
def test_only_the_last_pass_may_write_over_an_operand(kernel, reused):
    check_kernel(kernel)
    outs = len(kernel.operands) - 1
    buffers = [Buffer((32,), F, INPUT), *[Buffer((32,), F, TEMP)] * (1 + outs)]
    steps = [
        Launch(pointwise(1, 32), (0, 1)),
        Launch(kernel, (1, *range(2, 2 + outs))),
        Launch(pointwise(1, 32), (1 + outs, 2 + outs)),
    ]
    buffers.append(Buffer((32,), F, RESULT))
    plan = Plan(1, tuple(buffers), tuple(steps), (2 + outs,))
    check_plan(plan)
    memory = plan_memory(plan)
    assert memory.reused == reused
    # Where both results fit, it is the one of the last pass that takes the operand's place.
    if reused:
        assert memory.offsets[1 + outs] == memory.offsets[1]


def test_an_operand_that_is_also_read_elsewhere_is_not_overwritten():
    m, reverse = Map(0, (1,)), Map(31, (-1,))
    body = (Load(0, m, F), Load(1, reverse, F), Compute("add", (0, 1), F), Store(2, m, 2))
    kernel = Kernel("both", (), (32,), (Operand(F), Operand(F), Operand(F, True)), body)
    buffers = (Buffer((32,), F, INPUT), *[Buffer((32,), F, TEMP)] * 2, Buffer((32,), F, RESULT))
    steps = (
        Launch(pointwise(1, 32), (0, 1)),
        Launch(kernel, (1, 1, 2)),
        Launch(pointwise(1, 32), (2, 3)),
    )
    memory = plan_memory(Plan(1, buffers, steps, (3,)))
    assert memory.reused == 0
    assert memory.offsets[1] != memory.offsets[2]


def test_temporaries_of_libraries_count_in_the_peak_and_not_in_the_arena():
    buffers = (Buffer((1000,), F, INPUT), Buffer((1000,), F, TEMP), Buffer((1000,), F, RESULT))
    steps = (Launch(pointwise(1, 1000), (0, 1)), Launch(pointwise(1, 1000), (1, 2)))
    memory = plan_memory(Plan(1, buffers, steps, (2,)), elsewhere={1})
    assert memory.arena_bytes == 0
    assert memory.peak_bytes == 12000
