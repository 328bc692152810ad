"""Executables on what CuPy and the driver are asked for, faked over host memory."""

import types
import weakref

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.backends.cuda import arena, compiler, cupy_device, nvrtc
from fgrad.backends.cuda.compiler import made_for
from fgrad.backends.cuda.executable import Target
from fgrad.core import evaluate, homes
from fgrad.core.transforms.stage import hoist
from fgrad.errors import (
    ArgumentError,
    BufferDonatedError,
    IndexOutOfBoundsError,
    OutOfMemoryError,
)
from tests.backends.cuda.fake_gpu import Array, FakeGpu
from tests.backends.cuda.host_device import HostDevice, Meaning
from tests.backends.cuda.programs import loops, normal


@pytest.fixture
def gpu(monkeypatch):
    code = Meaning()
    found = FakeGpu(HostDevice(code), monkeypatch)
    monkeypatch.setattr(cupy_device, "_cupy", found.module)
    monkeypatch.setattr(nvrtc, "compile_source", lambda text, arch: text.encode())
    cupy_device._device.cache_clear()
    arena.clear()
    found.device = cupy_device._device(0)
    word = found.device._word
    found.host.blocks[word.ctypes.data] = (8, weakref.ref(word))
    found.target = Target(
        code, lambda step: None, cupy_device.device_of, lambda op, dtype: True, lambda _: False
    )
    before = list(evaluate._after_waiting)
    yield found
    evaluate._after_waiting[:] = before[:-1]  # of that device
    arena.clear()
    cupy_device._device.cache_clear()


def program_of(gpu, f, *args, donated=()):
    closed = fg.jit(f).lower(*args).jaxpr
    assert not closed.consts
    return made_for(gpu.target, hoist(closed.jaxpr), donated)


def on(gpu, x):
    return Array(gpu.host.upload(np.asarray(x)))


def test_a_program_is_launched_captured_and_replayed_with_other_arrays(gpu):
    def f(x, y):
        z = fnp.cumsum(x, axis=0) + fnp.max(y, axis=0)
        return z, fnp.sum(x * y, axis=1), fnp.cumsum(z.T, axis=0)

    args = normal(4, 5), normal(4, 5)
    program = program_of(gpu, f, *args)
    want = [np.asarray(x) for x in fg.jit(f)(*args)]
    kept = []
    for _ in range(4):
        kept.append([on(gpu, x) for x in args])
        for x, y in zip(program.run(*kept[-1]), want, strict=True):
            np.testing.assert_allclose(x.host, y, rtol=1e-6, atol=1e-7)
    assert gpu.host.updates
    (captured,), _ = program.capture(*kept[0])
    assert {n.kind for n in captured.graph.nodes()} == {"kernel"}
    assert all(n.name for n in captured.graph.nodes())


def test_loops_and_branches_are_conditional_nodes_inside_of_each_other(gpu):
    x = normal(5, 7)
    program = program_of(gpu, loops, x, np.int32(3))
    for n in (0, 3, 5, 2):
        want = fg.jit(loops)(x, np.int32(n))
        found = program.run(on(gpu, x), on(gpu, np.int32(n)))
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(a.host, np.asarray(b), rtol=1e-5)
    (captured,), _ = program.capture(on(gpu, x), on(gpu, np.int32(3)))
    (outer,) = (n for n in captured.graph.nodes() if n.kind == "conditional")
    assert [n.kind for n in outer.bodies[0]].count("conditional") == 2  # two branches


def test_donated_arrays_and_what_somebody_else_holds(gpu):
    program = program_of(gpu, lambda x, g: x - 0.1 * g, normal(8), normal(8), donated=(0,))
    x, g = on(gpu, normal(8)), on(gpu, normal(8))
    want = x.host - np.float32(0.1) * g.host
    buffers = [x, g]
    mine = id(x)
    del x
    program.own(buffers, {0}, 1)
    assert id(buffers[0]) == mine
    (y,) = program.run(*buffers)
    assert y is buffers[0]
    np.testing.assert_allclose(y.host, want, rtol=1e-6)
    other = y.data.mem  # another array would hold it
    del y
    program.own(buffers, {0}, 1)
    assert id(buffers[0]) != mine
    del other


def test_of_many_donated_arrays_only_those_are_copied_that_somebody_else_can_see(gpu):
    def f(*xs):
        return [x + 1 for x in xs]

    xs = [normal(8) for _ in range(6)]
    program = program_of(gpu, f, *xs, donated=range(6))
    buffers = [on(gpu, x) for x in xs]
    mine = list(map(id, buffers))
    program.own(buffers, set(range(6)), 1)
    assert list(map(id, buffers)) == mine
    program.own(buffers, set(range(5)), 1)
    assert [id(x) == i for x, i in zip(buffers, mine, strict=True)] == [True] * 5 + [False]
    array, memory, pointer = buffers[0], buffers[1].data.mem, buffers[2].data
    buffers[3].base = buffers[4]
    program.own(buffers, {0, 1, 2, 3, 4}, 1)
    kept = [k for k, x in enumerate(buffers) if id(x) == mine[k]]
    assert kept == [4]
    for x, y in zip(buffers, xs, strict=True):
        np.testing.assert_array_equal(x.host, y)
    del array, memory, pointer


def test_host_arrays_follow_and_two_devices_are_refused(gpu):
    program = program_of(gpu, lambda x, y: x + y, normal(8), normal(8))
    x, y = normal(8), normal(8)
    np.testing.assert_allclose(program.run(on(gpu, x), y)[0].host, x + y)
    half = y.astype(ml_dtypes.bfloat16)  # which has no `data`
    assert cupy_device.device_of([half, on(gpu, x)]) is gpu.device
    (a, b), places = gpu.device.bound([half, held := on(gpu, x)])
    np.testing.assert_array_equal(a.host, half)
    assert b is held
    assert places == [a.data.ptr, b.data.ptr]
    far = on(gpu, y)
    far.data.device_id = 1
    with pytest.raises(ArgumentError, match="cuda:0, cuda:1"):
        program.run(on(gpu, x), far)


def test_what_is_no_array_of_rows_or_not_aligned_is_copied(gpu):
    program = program_of(gpu, lambda x: x * 2, normal(4, 4))
    x = on(gpu, normal(4, 4))
    across = Array(x.host.T)
    np.testing.assert_allclose(program.run(across)[0].host, 2 * x.host.T)
    long = gpu.host.upload(normal(17))
    odd = Array(long[1:].reshape(4, 4))
    np.testing.assert_allclose(program.run(odd)[0].host, 2 * long[1:].reshape(4, 4))


def test_a_scan_needs_no_loop_and_a_while_loop_reads_once_a_step_at_first(gpu):
    def f(xs):
        return lax.scan(lambda c, x: (fnp.sin(c) + x, c), fnp.zeros(4), xs)

    xs = normal(6, 4)
    program = program_of(gpu, f, xs)
    for _ in range(3):
        for a, b in zip(program.run(on(gpu, xs)), fg.jit(f)(xs), strict=True):
            np.testing.assert_allclose(a.host, np.asarray(b), rtol=1e-6)


@pytest.fixture
def arrays(gpu, monkeypatch):
    """`jit` takes arrays of the fake CuPy, and compiles for them."""
    monkeypatch.setitem(evaluate._namespaces, Array, gpu.cupy)
    monkeypatch.setattr(compiler, "gpu", lambda: gpu.target)
    with fg.cuda_compiler("rawkernel"):
        yield lambda x: evaluate.ArrayImpl(on(gpu, x))


def test_jit_compiles_for_arrays_of_cupy_and_donates_them(arrays, gpu):
    def f(p, g):
        return p - 0.1 * g, fnp.sum(g)

    compiled = fg.jit(f, donate_argnums=0)
    p, g = normal(8), normal(8)
    x, y = arrays(p), arrays(g)
    for _ in range(3):
        where = x._data.data.ptr
        old, (x, total) = x, compiled(x, y)
        p = p - np.float32(0.1) * g
        assert x._data.data.ptr == where
        np.testing.assert_allclose(x._data.host, p, rtol=1e-6)
        np.testing.assert_allclose(total._data.host, g.sum(), rtol=1e-5)
        with pytest.raises(BufferDonatedError):
            fnp.sin(old)
    assert compiled.cache_info().misses == 1


def test_calls_with_few_arrays_are_told_apart(arrays, gpu):
    compiled = fg.jit(lambda *xs: sum(fg.tree.leaves(xs)) * 2)
    a, b, c = normal(4), normal(4), normal(5)
    wide = a.astype(np.float64)
    x, y, z, w = map(arrays, (a, b, c, wide))
    weak = evaluate.ArrayImpl(on(gpu, a), evaluate.WEAK)
    for args, want in 2 * (
        [((x,), a)] * 3 + [((x, y), a + b), ((z,), c), (([x],), a), ((x, [y]), a + b),
        ((w,), wide), ((weak,), a), ((), 0)]
    ):  # fmt: skip
        found = compiled(*args)
        data = getattr(found._data, "host", found._data)
        np.testing.assert_allclose(data, 2 * want, rtol=1e-6)
        if args:
            assert data.dtype == want.dtype
            assert found.weak_type == (args[0] is weak)
    assert compiled.cache_info().misses == 8


def test_lower_shows_the_program_of_the_library_that_the_arguments_belong_to(arrays, gpu):
    f = fg.jit(lambda x: fnp.sum(fnp.tanh(x), axis=0))
    x = normal(4, 5)
    here, there = f.lower(x), f.lower(arrays(x))
    assert [k.name for k in here.kernels()] == [k.name for k in there.kernels()]
    assert here.as_text().startswith("def program")
    assert there.as_text().startswith("launch ")
    assert there.memory_analysis().result_bytes == 20
    compiled = there.compile()
    np.testing.assert_allclose(compiled(arrays(x))._data.host, np.tanh(x).sum(0), rtol=1e-5)


def test_an_error_of_memory_is_told_by_the_plan(arrays, gpu, monkeypatch):
    def refuse(shape, dtype):
        raise MemoryError

    compiled = fg.jit(lambda x: fnp.sum(fnp.cumsum(x, axis=0) * x))
    x = arrays(normal(4, 5))
    monkeypatch.setattr(gpu.host, "empty", refuse)
    with pytest.raises(OutOfMemoryError, match="at its peak"):
        compiled(x)


def test_a_failed_check_is_raised_by_who_waits(arrays, gpu):
    compiled = fg.jit(lambda x, i: x[i] * 2)
    x = arrays(normal(5, 3))
    compiled(x, arrays(np.array([0, 4], np.int32)))
    evaluate.waited()
    for _ in range(3):
        compiled(x, arrays(np.array([0, 5], np.int32)))
        with pytest.raises(IndexOutOfBoundsError, match=r"gather: .*test_cupy_device.py"):
            evaluate.waited()
        evaluate.waited()


def test_what_a_function_closes_over_is_moved_to_the_device_once(arrays, gpu, monkeypatch):
    platform = types.SimpleNamespace(index_of=lambda b: 0, home_of=lambda bs: None)
    monkeypatch.setitem(homes.platforms, "cupy", lambda: platform)
    uploads = []
    array = gpu.array
    monkeypatch.setattr(gpu.cupy, "array", lambda x, **words: uploads.append(x) or array(x))
    monkeypatch.setattr(gpu.cupy, "asarray", gpu.cupy.array, raising=False)
    w = normal(4, 5)
    compiled = fg.jit(lambda x: x * w)
    x = arrays(normal(4, 5))
    for _ in range(4):
        np.testing.assert_allclose(compiled(x)._data.host, x._data.host * w)
    assert sum(u.shape == w.shape for u in uploads) == 1


def test_an_error_of_a_wait_names_the_programs_that_ran_before(arrays, gpu):
    fg.jit(lambda x: fnp.sin(x) * 2)(arrays(normal(4)))
    error = RuntimeError("cudaErrorIllegalAddress")
    evaluate.waited(error)
    (note,) = error.__notes__
    assert "test_cupy_device.py" in note
    assert "FGRAD_CHECK=1" in note
