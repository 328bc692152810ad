"""Whole programs through executables for CUDA, on a device whose kernels are interpreted."""

import gc
import shutil
import weakref

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cuda import rooms
from fgrad.backends.cuda.compiler import made_for
from fgrad.backends.cuda.faults import raise_pending
from fgrad.compile.run_plan import run_plan
from fgrad.core import config
from fgrad.core.errors import IndexOutOfBoundsError, UnsupportedPrimitiveError
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.tracing import bind
from fgrad.core.transforms.stage import hoist
from fgrad.lax.control.while_prims import while_saved_p
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.backends.cuda.host_device import HostDevice, HostGraph, target_on
from tests.backends.cuda.shim_device import ShimDevice

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def program_of(f, *args, donated=(), **options):
    """A function as an executable on a device of the host, and the device."""
    target, device = target_on(**options)
    closed = fg.jit(f).lower(*args).jaxpr
    executable = made_for(target, hoist(closed.jaxpr), donated)
    consts = [np.asarray(c) for c in closed.consts]

    def run(*xs):
        return executable.run(*consts, *xs)

    run.consts = consts
    return run, executable, device


def check(f, *args, **options):
    """That a program gives what `f` gives: launched, captured, replayed, and with other arrays."""
    run, executable, device = program_of(f, *args, **options)
    want = [np.asarray(x) for x in fg.tree.leaves(f(*args))]
    kept = []
    for _ in range(4):
        inputs = [device.upload(np.asarray(x)) for x in args]
        kept.append(inputs)  # so that the next ones lie elsewhere
        got = run(*inputs)
        for x, y in zip(got, want, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)
            assert x.dtype == y.dtype
        for x, a in zip(inputs, args, strict=True):
            np.testing.assert_array_equal(x, np.asarray(a))
    return executable, device


@pytest.fixture(params=[HostDevice, pytest.param(ShimDevice, marks=NEEDS_COMPILER)])
def kind(request):
    """Devices that differ in what runs the kernels of `support`."""
    return request.param


RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 7)).astype(np.float32)
W = RNG.normal(size=(7, 6)).astype(np.float32)


def test_kernels_and_products_are_captured_and_replayed_with_other_arrays():
    def f(x, w):
        y = fnp.tanh(x @ w) * 2
        return fnp.sum(fnp.exp(y @ y.T - fnp.max(y, axis=1, keepdims=True))), y

    _, device = check(f, X, W)
    assert device.captures >= 1


def test_only_what_changed_is_replaced_and_library_steps_have_a_graph_for_each_set():
    def f(x, w, b):
        return fnp.tanh(x @ w) + b, fnp.cumsum(b * 2, axis=0), fnp.sum(b, axis=1)

    run, _executable, device = program_of(f, X, W, X @ W)
    x, w, b = (device.upload(a) for a in (X, W, X @ W))
    for _ in range(3):
        run(x, w, b)
    assert device.captures == 1
    before = device.updates
    other = device.upload(2 * (X @ W))
    np.testing.assert_allclose(run(x, w, other)[0], np.tanh(X @ W) + 2 * (X @ W), rtol=1e-5)
    assert device.captures == 1  # a kernel reads it: its node is told
    assert device.updates > before
    moved = device.upload(-X)
    np.testing.assert_allclose(run(moved, w, b)[0], np.tanh(-X @ W) + X @ W, rtol=1e-5)
    assert device.captures == 2  # the product's own addresses are never rewritten
    np.testing.assert_allclose(run(x, w, b)[0], np.tanh(X @ W) + X @ W, rtol=1e-5)
    assert device.captures == 2


def test_a_program_that_never_sees_the_same_arrays_stops_capturing():
    run, _executable, device = program_of(lambda x, w: fnp.tanh(fnp.tanh(x @ w) @ w.T), X, W)
    kept = []
    for k in range(40):
        x, w = (device.upload(a * k) for a in (X, W))
        kept.append((x, w))
        want = np.tanh(np.tanh(x @ w) @ w.T)
        np.testing.assert_allclose(run(x, w)[0], want, rtol=1e-5, atol=1e-6)
    assert 1 < device.captures < 20
    before, updates = device.captures, device.updates
    for k in range(5):  # by now they are copied to where a graph looks for them
        x, w = (device.upload(a * k) for a in (X, W))
        kept.append((x, w))
        want = np.tanh(np.tanh(x @ w) @ w.T)
        np.testing.assert_allclose(run(x, w)[0], want, rtol=1e-5, atol=1e-6)
    assert device.captures == before
    assert device.updates > updates


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_a_scan_is_written_out(length, reverse, kind):
    def f(c, xs, w):
        def body(carry, x):
            h, count = carry
            h = fnp.tanh(h @ w + x)
            return (h, count + 1), (h * 2, fnp.sum(h))

        return lax.scan(body, (c, fnp.int32(0)), xs, reverse=reverse)

    xs = RNG.normal(size=(length, 3, 7)).astype(np.float32)
    w = RNG.normal(size=(7, 7)).astype(np.float32) / 3
    _, device = check(f, X[:3], xs, w, kind=kind)
    assert device.reads == 0


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [15, 19])
def test_a_long_scan_is_a_loop_on_the_device(length, reverse, monkeypatch, kind):
    monkeypatch.setattr(rooms, "MOST_UNROLLED", 16)

    def f(c, xs):
        def body(carry, x):
            a, b, still = carry
            return (b, a * 0.5 + x + still, still), (a[0], a + b)

        return lax.scan(body, (c, c + 1, c), xs, reverse=reverse)

    executable, device = check(f, X[0], RNG.normal(size=(length, 7)).astype(np.float32), kind=kind)
    assert device.reads == 0
    assert "repeat" in executable.source


def test_a_scan_overwrites_what_it_updates_in_place(kind):
    def f(table, xs):
        def body(carry, x):
            table, i = carry
            return (lax.dynamic_update_index_in_dim(table, x, i, 0), i + 1), table[0, 0]

        return lax.scan(body, (table, fnp.int32(0)), xs)

    check(f, X, RNG.normal(size=(5, 7)).astype(np.float32), kind=kind)


def test_a_while_loop_runs_on_the_device(kind):
    def f(x, n):
        def body(state):
            i, x, y = state
            return i + 1, fnp.cos(x) + y, x

        return lax.while_loop(lambda s: s[0] < n, body, (fnp.int32(0), x, x * 2))

    for steps in (6, 0):
        _, device = check(f, X, np.int32(steps), kind=kind)
        assert device.reads == 0
    executable, device = check(f, X, np.int32(3), conditional=False, kind=kind)
    assert device.reads == 4 * 4
    assert "no conditional nodes" in executable.obstacle


def test_carries_that_change_places_and_stay(kind):
    def f(x, y, z):
        def body(s):
            i, a, b, c = s
            return i + 1, b, a, c

        return lax.while_loop(lambda s: s[0] < 3, body, (0, x, y, z))

    check(f, X, X + 1, X + 2, kind=kind)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [*((HostDevice, n) for n in (1, 63, 64, 65, 200)),
     pytest.param(ShimDevice, 66, marks=NEEDS_COMPILER)],
)  # fmt: skip
def test_the_carries_that_reverse_mode_keeps(kind, steps):
    def f(x):
        i, y = lax.while_loop(
            lambda s: s[0] < steps, lambda s: (s[0] + 1, fnp.sin(s[1]) + 1), (0, x)
        )
        return i, y

    closed = fg.jit(f).lower(X[0]).jaxpr
    (eqn,) = (e for e in closed.jaxpr.eqns if e.primitive.name == "while")

    def saved(x):
        return bind(while_saved_p, fnp.int32(0), x, **eqn.params)

    check(saved, X[0], kind=kind)


def test_the_way_back_over_a_while_loop_is_led_by_the_host():
    def f(x, n):
        def loop(x):
            _, y = lax.while_loop(
                lambda s: s[0] < n, lambda s: (s[0] + 1, fnp.sin(s[1]) + x), (0, x)
            )
            return fnp.sum(y * y)

        return fg.value_and_grad(loop)(x)

    executable, _ = check(f, X[0], np.int32(70))
    assert "while_pull" in executable.obstacle


def test_branches(kind):
    def f(i, x):
        y = lax.switch(i, [lambda x: x + 1, lambda x: x, lambda x: fnp.sin(x) * 3], x)
        return lax.cond(i > 0, lambda y: (y, fnp.float32(2)), lambda y: (y * 2, y[0, 0]), y)

    for i in range(3):
        _, device = check(f, np.int32(i), X, kind=kind)
        assert device.reads == 0


def test_a_loop_in_a_branch_in_a_loop(kind):
    def f(x, n):
        def inner(x):
            return lax.fori_loop(0, 3, lambda _, x: fnp.sin(x) + x[0], x)

        def body(s):
            i, x = s
            return i + 1, lax.cond(i % 2 == 0, inner, lambda x: x * 2, x)

        return lax.while_loop(lambda s: s[0] < n, body, (fnp.int32(0), x))

    _, _device = check(f, X, np.int32(5), kind=kind)


def test_inputs_and_numbers_as_results_are_copies():
    run, _, device = program_of(lambda x: (x, fnp.float32(3), x + 1, x), X)
    x = device.upload(X)
    a, b, c, d = run(x)
    assert a is not x
    assert d is not x
    np.testing.assert_array_equal(a, X)
    np.testing.assert_array_equal(d, X)
    assert b == 3
    np.testing.assert_array_equal(c, X + 1)


def test_donated_inputs_are_updated_in_place():
    def f(p, m, g):
        m = 0.9 * m + g
        return p - 0.1 * m, m

    run, executable, device = program_of(f, X, X, X, donated=(0, 1))
    assert executable.taken == {0, 1}
    assert executable.memory.result_bytes == 0
    p, m, g = (device.upload(a) for a in (X, 2 * X, 3 * X))
    for _ in range(4):
        want = f(p.copy(), m.copy(), g)
        q, n = run(p, m, g)
        assert q is p
        assert n is m
        np.testing.assert_allclose(q, want[0], rtol=1e-6)
        np.testing.assert_allclose(n, want[1], rtol=1e-6)


def test_what_somebody_else_holds_is_copied_before_it_is_given_away():
    _run, executable, device = program_of(lambda x: x * 2, X, donated=(0,))
    buffers = [device.upload(X), device.upload(X)]
    held = buffers[0]
    executable.own(buffers, {0}, 1)
    assert buffers[0] is not held
    alone = id(buffers[0])
    del held
    executable.own(buffers, {0}, 1)
    assert id(buffers[0]) == alone
    executable.own(buffers, (), 1)
    assert id(buffers[0]) != alone


def test_results_outlive_the_slab_and_programs_share_it():
    def f(x):
        return fnp.sum(fnp.sort(x) @ fnp.sort(x).T, axis=0)

    run, executable, device = program_of(f, X)
    assert executable.memory.arena_bytes
    first = run(device.upload(X))[0].copy()
    kept = run(device.upload(X))[0]
    for k in range(3):
        run(device.upload(X * k))
    np.testing.assert_array_equal(kept, first)


def test_streams_have_slabs_and_graphs_of_their_own():
    run, _executable, device = program_of(lambda x: fnp.tanh(fnp.sort(x) @ x.T) @ x, X)
    x = device.upload(X)
    for stream in (1, 2, 1, 2, 1, 2):
        device.current_stream = stream
        run(x)
    assert device.captures == 2


def test_a_failed_check_is_reported_when_the_device_is_waited_for(kind):
    def f(x, i):
        return x[i] * 2

    target_args = (X, np.array([0, 2], np.int32))
    run, _executable, device = program_of(f, *target_args, kind=kind)
    x = device.upload(X)
    np.testing.assert_array_equal(run(x, np.array([0, 4], np.int32))[0], 2 * X[[0, 4]])
    raise_pending(device)
    for _ in range(3):
        run(x, np.array([0, 5], np.int32))
        run(x, np.array([0, 1], np.int32))
        with pytest.raises(IndexOutOfBoundsError, match=r"gather: .* \[5, 7\].*test_executable.py"):
            raise_pending(device)
        raise_pending(device)


def test_a_function_of_the_user_splits_the_program():
    def double(x):
        return np.asarray(x) * 2

    def f(x):
        y = fg.pure_callback(double, fg.ShapeDtypeStruct(x.shape, x.dtype), fnp.sin(fnp.sort(x)))
        return fnp.cos(y) @ y.T @ y

    executable, device = check(f, X)
    assert "pure_callback" in executable.obstacle
    assert device.captures


def test_a_primitive_without_code_is_refused_by_name():
    with pytest.raises(UnsupportedPrimitiveError, match=r"sort\(f32\[5,7\].*test_executable.py"):
        program_of(lambda x: fnp.sort(x), X, left_out=("sort",))


def test_under_check_each_step_is_waited_for_and_an_error_names_it():
    with config.check(True):
        run, _, device = program_of(lambda x, w: fnp.tanh(fnp.sin(x) @ w), X, W)
    for _ in range(3):
        run(device.upload(X), device.upload(W))
    assert device.waits == 9
    assert not device.captures

    def refuse(stream):
        raise RuntimeError("an illegal address")

    device.synchronize = refuse
    with pytest.raises(RuntimeError, match="an illegal address") as raised:
        run(device.upload(X), device.upload(W))
    (note,) = raised.value.__notes__
    assert "sin, asked for at" in note
    assert "test_executable.py" in note


def test_an_error_of_a_launch_names_what_was_launched(kind):
    run, _, device = program_of(lambda x: fnp.tanh(x) + 1, X, kind=kind)
    x = device.upload(X)
    run(x)

    def refuse(function, arguments, stream):
        raise RuntimeError("too many resources")

    device.launch = refuse
    with pytest.raises(RuntimeError, match="too many resources") as raised:
        run(x)
    (note,) = raised.value.__notes__
    assert "tanh, asked for at" in note
    assert "test_executable.py" in note
    del device.launch
    np.testing.assert_allclose(run(device.upload(2 * X))[0], np.tanh(2 * X) + 1, rtol=1e-6)


def test_an_update_that_fails_is_made_good_by_the_next_call(monkeypatch):
    def f(x, y):
        z = fnp.tanh(x + y) @ fnp.tanh(x - y).T
        return z + 1, fnp.exp(z - z.T) * fnp.sum(x * y, axis=1)

    run, _, device = program_of(f, X, X)
    first = device.upload(X), device.upload(X)
    for _ in range(3):
        run(*first)
    update, left = HostGraph.update, [1]

    def refuse(graph, *args):
        if not left:
            raise RuntimeError("refused")
        left.pop()
        update(graph, *args)

    other = device.upload(2 * X), device.upload(3 * X)
    with monkeypatch.context() as patch:
        patch.setattr(HostGraph, "update", refuse)
        with pytest.raises(RuntimeError, match="refused"):
            run(*other)
    assert not left
    for x, y in zip(run(*other), f(2 * X, 3 * X), strict=True):
        np.testing.assert_allclose(x, np.asarray(y), rtol=1e-5)
    assert device.captures == 1


def test_a_captured_program_can_be_looked_at():
    _, executable, device = program_of(lambda x, w: fnp.tanh(x @ w), X, W)
    graphs, (y,) = executable.capture(device.upload(X), device.upload(W))
    np.testing.assert_allclose(y, np.tanh(X @ W), rtol=1e-6)
    (graph,) = graphs
    assert [n.kind for n in graph.graph.nodes()] == ["kernel", "kernel"]


def test_no_cycles_keep_a_program():
    run, executable, device = program_of(lambda x: fnp.tanh(x) @ x.T, X)
    run(device.upload(X))
    gc.collect()
    gc.disable()
    try:
        refs = [weakref.ref(executable), weakref.ref(executable.program(device))]
        del executable, run
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_programs_of_the_registry_give_the_bits_of_their_plans(prim):
    """Launched, and replayed from a graph over other arrays; library steps by their rules."""
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            problem = example_of(prim, case, dtype_named(name))
            run, executable, device = program_of(observed_call(problem), *problem.args)
            args = [np.asarray(x) for x in problem.args]
            want = run_plan(executable.plan, [*run.consts, *args])
            kept = []
            for _ in range(3):
                kept.append(list(map(device.upload, args)))
                for x, y in zip(run(*kept[-1]), want, strict=True):
                    assert (x.shape, x.dtype, x.tobytes()) == (y.shape, y.dtype, y.tobytes())
