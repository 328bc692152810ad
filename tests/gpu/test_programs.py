"""Compiled programs on the card: what they give, that each is one graph, and what is in it."""

import threading

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.api import inspection
from fgrad.api.execution import runnable
from fgrad.backends.cuda.device import Node
from fgrad.backends.cuda.tape import Launch
from fgrad.compile.updates import is_idle
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.transforms.stage import hoist
from fgrad.errors import IndexOutOfBoundsError, UnsupportedPrimitiveError
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.backends.cuda.programs import PROGRAMS, SCALE, loops, missing_in, normal

pytestmark = pytest.mark.gpu

# What a graph may consist of: nothing that goes to the host.
ALLOWED = {"kernel", "memset", "copy", "child", "empty", "conditional"}
RELATIVE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 3e-5, "complex64": 3e-5}
# In this order, three of them: the kernels of all dtypes are compared by themselves.
PREFERRED = [
    "float32", "int32", "bfloat16", "complex64", "bool", "uint32", "float64", "int64", "float16",
    "complex128", "int8", "uint8", "int16", "uint16", "uint64",
]  # fmt: skip
SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]


@pytest.fixture(autouse=True)
def compiled():
    with fg.cuda_compiler("rawkernel"):
        yield


def on_card(x):
    import cupy

    return cupy.asarray(np.asarray(x))


def is_held(x):
    """Whether CuPy has the dtype of an array."""
    dtype = np.asarray(x).dtype
    return dtype.kind != "V" or dtype.name == "bfloat16"


def to_host(x):
    import cupy

    assert isinstance(x, cupy.ndarray), f"left the device: {type(x)}"
    return cupy.asnumpy(x)


def program_of(f, *args):
    """A function as a program of the card, and what it closes over."""
    import cupy

    closed = fg.jit(f).lower(*args).jaxpr
    return runnable(hoist(closed.jaxpr), cupy), [on_card(c) for c in closed.consts]


def assert_close(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    relative = RELATIVE.get(got.dtype.name, 1e-9)
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    got, want = got.astype(wide), want.astype(wide)
    np.testing.assert_allclose(got, want, rtol=relative, atol=relative, equal_nan=True)


def flat(nodes: tuple[Node, ...]):
    for node in nodes:
        yield node
        for body in node.bodies:
            yield from flat(body)


def assert_one_graph(program, arrays):
    """That a program is one graph, of nothing but what it has asked for."""
    graphs, outs = program.capture(*arrays)
    assert len(graphs) <= 1
    for captured in graphs:
        nodes = captured.graph.nodes()
        assert {n.kind for n in flat(nodes)} <= ALLOWED
        assembled = program.program(program.target.device_of(arrays)).assembled
        own = [i.function.name for i in assembled.items if isinstance(i, Launch)]
        found = [n.name for n in nodes if n.kind == "kernel" and n.name in set(own)]
        assert sorted(found) == sorted(own)
        steps = inspection.schedule_of(program)
        if not any(step.kind in ("loop", "host") for step in steps):
            copies = sum(name == "fgrad_copy" for name in own)  # of inputs and numbers returned
            idle = sum(is_idle(step, program.memory.places) for step in program.plan.steps)
            assert len(own) - copies + idle == sum(step.launches for step in steps)
    return outs


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_programs_of_the_registry_equal_those_of_the_cpu_in_one_graph(prim):
    calls, args = [], []
    for case in prim.spec.cases:
        for name in sorted(prim.spec.dtypes, key=PREFERRED.index)[:3]:
            problem = example_of(prim, case, dtype_named(name))
            if all(map(is_held, problem.args)):
                calls.append((observed_call(problem), len(problem.args)))
                args += problem.args

    def f(*args):
        given = iter(args)
        return [call(*(next(given) for _ in range(n))) for call, n in calls]

    if missing_in(f, *args):
        with pytest.raises(UnsupportedPrimitiveError, match="no code for CUDA"):
            program_of(f, *args)
        return
    want = fg.tree.leaves(fg.jit(f)(*args))
    program, consts = program_of(f, *args)
    arrays = [*consts, *map(on_card, args)]
    for _ in range(3):  # launched, captured, replayed
        for x, y in zip(program(None, arrays), want, strict=True):
            assert_close(to_host(x), y)
    for x, y in zip(assert_one_graph(program, arrays), want, strict=True):
        assert_close(to_host(x), y)


@pytest.mark.parametrize("name", PROGRAMS)
def test_whole_programs_with_other_arrays_at_each_call(name):
    f, *args = PROGRAMS[name]
    want = fg.tree.leaves(fg.jit(f)(*args))
    compiled = fg.jit(f)
    kept = []
    for _ in range(4):
        kept.append([fg.tree.map(on_card, x) for x in args])
        for x, y in zip(fg.tree.leaves(compiled(*kept[-1])), want, strict=True):
            assert_close(to_host(x._data), y)
    program, consts = program_of(f, *args)
    assert_one_graph(program, [*consts, *fg.tree.leaves(kept[-1])])


def test_loops_and_branches_inside_of_each_other_run_on_the_device():
    x = normal(5, 7)
    compiled = fg.jit(loops)
    for n in (0, 1, 4, 7, 4):
        want = fg.jit(loops)(x, np.int32(n))
        for got, y in zip(compiled(on_card(x), on_card(np.int32(n))), want, strict=True):
            assert_close(to_host(got._data), y)
    program, consts = program_of(loops, x, np.int32(3))
    graphs, _ = program.capture(*consts, on_card(x), on_card(np.int32(3)))
    kinds = [n.kind for n in flat(graphs[0].graph.nodes())]
    assert kinds.count("conditional") >= 3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [3, 64, 5003])
def test_scans_written_out_and_counted_on_the_device(length, reverse):
    def f(c, xs):
        def step(c, x):
            a, b = c
            return (b, fnp.sin(a) * 0.5 + x), a + b

        return lax.scan(step, (c, c + 1), xs, reverse=reverse)

    args = normal(7), normal(length, 7)
    want = fg.tree.leaves(fg.jit(f)(*args))
    compiled = fg.jit(f)
    for _ in range(3):
        got = fg.tree.leaves(compiled(*map(on_card, args)))
        for x, y in zip(got, want, strict=True):
            assert_close(to_host(x._data), y)


def test_a_kernel_of_the_user_is_part_of_the_graph():
    def loss(x, s):
        each = fg.vmap(SCALE, in_axes=(0, None))(fnp.sin(x).T, s)
        return fnp.sum(fnp.tanh(SCALE(x[1], s)) + each[0, 1])

    f = fg.value_and_grad(loss, argnums=(0, 1))
    args = normal(5, 5), np.array([1.5], np.float32)
    want = fg.tree.leaves(f(*args))
    program, consts = program_of(f, *args)
    arrays = [*consts, *map(on_card, args)]
    for _ in range(3):
        for x, y in zip(program(None, arrays), want, strict=True):
            assert_close(to_host(x), y)
    for x, y in zip(assert_one_graph(program, arrays), want, strict=True):
        assert_close(to_host(x), y)


def test_donated_arrays_are_updated_in_place():
    def f(p, m, g):
        m = 0.9 * m + g
        return p - 0.1 * m, m

    compiled = fg.jit(f, donate_argnums=(0, 1))
    p, m, g = (fnp.asarray(on_card(normal(1000))) for _ in range(3))
    host = [to_host(x._data) for x in (p, m, g)]
    for _ in range(4):
        where = p._data.data.ptr, m._data.data.ptr
        p, m = compiled(p, m, g)
        host[1] = np.float32(0.9) * host[1] + host[2]
        host[0] = host[0] - np.float32(0.1) * host[1]
        assert (p._data.data.ptr, m._data.data.ptr) == where
    assert_close(to_host(p._data), host[0])
    assert_close(to_host(m._data), host[1])


def test_an_index_outside_is_raised_by_whoever_waits():
    compiled = fg.jit(lambda x, i: x[i])
    x, good, bad = (on_card(a) for a in (normal(5, 3), np.array([4, 0]), np.array([0, 5])))
    fg.block_until_ready(compiled(x, good))
    for _ in range(3):
        y = compiled(x, bad)
        with pytest.raises(IndexOutOfBoundsError, match=r"gather: .*test_programs.py"):
            fg.block_until_ready(y)
        np.asarray(compiled(x, good))


def test_streams_and_threads_do_not_share_temporaries():
    import cupy

    def f(x, w):
        for _ in range(6):
            x = fnp.tanh(x @ w)
        return fnp.sum(x, axis=0)

    compiled = fg.jit(f)
    w = normal(64, 64)
    args = [normal(64, 64) for _ in range(4)]
    want = [np.asarray(fg.jit(f)(x, w)) for x in args]
    errors = []

    def work(k):
        try:
            with fg.cuda_compiler("rawkernel"), cupy.cuda.Stream(non_blocking=True) as stream:
                x, v = on_card(args[k]), on_card(w)
                found = [compiled(x, v) for _ in range(50)]
                stream.synchronize()
                for y in found:
                    np.testing.assert_allclose(to_host(y._data), want[k], rtol=1e-3, atol=1e-4)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_denormal_numbers_are_kept():
    x = on_card(np.array([1.2e-38, -1e-40], np.float32))
    y = fg.jit(lambda x: x * 0.5)(x)
    np.testing.assert_array_equal(
        to_host(y._data), np.array([1.2e-38, -1e-40], "f") * np.float32(0.5)
    )


def test_what_compilation_says_of_a_program_on_the_card():
    x, w = on_card(normal(4, 6)), on_card(normal(6, 8))
    lowered = fg.jit(lambda x, w: fnp.sum(fnp.tanh(x @ w), axis=0)).lower(x, w)
    (kernel,) = lowered.kernels()
    assert "__global__" in kernel.source
    assert [step.kind for step in lowered.schedule()] == ["library", "kernel"]
    assert lowered.memory_analysis().peak_bytes > 0
    assert "launch" in lowered.as_text()
