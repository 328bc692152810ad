"""Whole programs as CUDA C, in the emulation: what kernels, own library steps and loops give."""

import contextlib
import shutil
import struct

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn
from fgrad.api import inspection
from fgrad.backends.cuda import library, prelude, user_calls
from fgrad.backends.cuda.calls import KernelCall
from fgrad.backends.cuda.compiler import made_for
from fgrad.backends.cuda.executable import Target
from fgrad.backends.cuda.faults import raise_pending
from fgrad.backends.cuda.module import CudaCode
from fgrad.compile.run_plan import run_plan
from fgrad.compile.updates import is_idle
from fgrad.core.errors import IndexOutOfBoundsError
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.transforms.stage import hoist
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.backends.cuda.host_device import HostDevice, Launched, by_rules
from tests.backends.cuda.programs import PROGRAMS, SCALE, missing_in, normal
from tests.backends.cuda.shim_device import ShimDevice
from tests.shim import build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def target_on(foreign=(), kind=ShimDevice):
    """A target whose kernels and own library steps are emulated; cuBLASLt is an eager rule.

    Args:
        foreign: Primitives whose calls of libraries stay what they are.
        kind: What runs kernels.
    """
    code = CudaCode()
    device = kind(code)
    rules = by_rules(device)

    def libraries(step):
        found = library.plan_of(step)
        own = found is not None and all(isinstance(c, KernelCall) for c in found.calls)
        own |= step.eqn.primitive.name in foreign
        return found if own else None if found is None else rules(step)

    keeps, supports = library.keeps, prelude.supports
    return Target(code, libraries, lambda _: device, supports, keeps), device


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_the_cpu(name):
    f, *args = PROGRAMS[name]
    target, device = target_on()
    closed = fg.jit(f).lower(*args).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    consts = [np.asarray(c) for c in closed.consts]
    want = [np.asarray(x) for x in fg.tree.leaves(fg.jit(f)(*args))]
    kept = []
    for _ in range(3):
        kept.append([device.upload(np.asarray(x)) for x in (*consts, *fg.tree.leaves(args))])
        for x, y in zip(executable.run(*kept[-1]), want, strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)
    assert not executable.obstacle
    if name == "update":  # those of one form are launched together
        assert executable.source.count("_batch") >= 2


def test_kernels_of_equal_form_share_a_function_and_compile_once():
    target, device = target_on()
    loads = []
    load = device.load
    device.load = lambda text, shared: loads.append(shared) or load(text, shared)
    for n in (8, 16):
        closed = fg.jit(lambda x: fnp.tanh(x) * 2).lower(normal(3, n)).jaxpr
        made = made_for(target, hoist(closed.jaxpr))
        x = device.upload(normal(3, n))
        np.testing.assert_allclose(made.run(x)[0], 2 * np.tanh(x), rtol=1e-6)
    assert len(loads) == 2  # what all programs share, and one function


def test_a_program_can_be_looked_at():
    target, _ = target_on()
    x, w = normal(4, 6), normal(6, 8)
    closed = fg.jit(lambda x, w: fnp.sum(fnp.tanh(x @ w), axis=0)).lower(x, w).jaxpr
    made = made_for(target, hoist(closed.jaxpr))
    (kernel,) = inspection.kernels_of(made)
    assert "__global__" in kernel.source
    assert kernel.grid > 0
    assert kernel.bytes > 4 * 32
    assert "test_compiled_programs.py" in kernel.lines[0]
    steps = inspection.schedule_of(made)
    assert [step.kind for step in steps] == ["library", "kernel"]
    own = [line for line in made.source.splitlines() if line.startswith("launch")]
    assert sum(step.launches for step in steps) == len(own)
    assert inspection.memory_of(made).result_bytes == 32


def emulated(monkeypatch, device):
    """Kernels of users go through the emulation, into the graph that is captured."""
    streams = []

    @contextlib.contextmanager
    def on_stream(stream):
        streams.append(stream)
        yield
        streams.pop()

    def launch(function, grid, block, args, shared):
        shim = build(function.source)
        given = [x.tobytes() for x in args]
        count = sum(x.dtype == np.uint64 for x in args)

        def run(pointers, rest):
            values = [struct.pack("Q", p) for p in pointers]
            shim.run(function.name, grid, block, shared, [*values, *rest])

        pointers = [int(x) for x in args[:count]]
        device.enqueue(Launched(function.name, pointers, given[count:], run), streams[-1])

    monkeypatch.setattr(user_calls, "on_stream", on_stream)
    monkeypatch.setattr(user_calls, "launch", launch)


def test_a_kernel_of_the_user_is_captured_with_the_program_around_it(monkeypatch):
    target, device = target_on(foreign=("cuda_kernel",))
    emulated(monkeypatch, device)

    def loss(x, s):
        each = fg.vmap(SCALE, in_axes=(0, None))(fnp.sin(x).T, s)  # a view, and not mapped over
        return fnp.sum(fnp.tanh(SCALE(x[1], s)) + each[0, 1])

    x, s = normal(5, 5), np.array([1.5], np.float32)
    closed = fg.jit(fg.value_and_grad(loss, argnums=(0, 1))).lower(x, s).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    value, (dx, ds) = fg.value_and_grad(loss, argnums=(0, 1))(x, s)
    for _ in range(3):
        got = executable.run(device.upload(x), device.upload(s))
        for a, b in zip(got, (value, dx, ds), strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-6)
    assert not executable.obstacle
    assert device.captures


def launches_of(executable):
    """The names of the kernels that a program launches."""
    lines = executable.source.splitlines()
    return [line.split("[")[0].split()[1] for line in lines if line.startswith("launch ")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_many_kernels_are_launched_as_the_schedule_says(name):
    check_schedule(*PROGRAMS[name])


def check_schedule(f, *args):
    target, _ = target_on(kind=HostDevice)  # nothing is compiled
    closed = fg.jit(f).lower(*args).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    steps = inspection.schedule_of(executable)
    if any(step.kind in ("loop", "host") for step in steps):
        return
    idle = sum(is_idle(step, executable.memory.places) for step in executable.plan.steps)
    found = [name for name in launches_of(executable) if name != "fgrad_copy"]
    # What stands in for a library here needs no kernels of our own beside it.
    assert len(found) + idle == sum(s.launches for s in steps if s.kind != "library")


SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]
RELATIVE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 3e-5, "complex64": 3e-5}


@pytest.mark.slow
@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_programs_of_the_registry_agree_with_what_they_mean(prim):
    """Of all cases in up to three dtypes, as one program: launched, and from a graph."""
    calls, args = [], []
    for case in prim.spec.cases:
        for name in prim.spec.dtypes[:3]:
            problem = example_of(prim, case, dtype_named(name))
            calls.append((observed_call(problem), len(problem.args)))
            args += map(np.asarray, problem.args)

    def f(*args):
        given = iter(args)
        return [call(*(next(given) for _ in range(n))) for call, n in calls]

    if missing_in(f, *args):
        pytest.skip("there is no code for it")
    check_schedule(f, *args)
    target, device = target_on()
    closed = fg.jit(f).lower(*args).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    inputs = [*map(np.asarray, closed.consts), *args]
    want = run_plan(executable.plan, inputs)
    kept = []
    for _ in range(2):
        kept.append(list(map(device.upload, inputs)))
        for x, y in zip(executable.run(*kept[-1]), want, strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            if x.dtype.kind in "biu":
                np.testing.assert_array_equal(x, y)
                continue
            relative = RELATIVE.get(x.dtype.name, 1e-9)
            wide = np.complex128 if x.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(
                x.astype(wide), y.astype(wide), rtol=relative, atol=relative, equal_nan=True
            )


def test_scatters_outside_are_dropped_and_reported_when_the_device_is_waited_for():
    target, device = target_on()
    x, i, u = normal(4, 3), np.array([0, 9], np.int32), normal(2, 3)
    closed = fg.jit(lambda x, i, u: x.at[i].add(u) * 2).lower(x, i, u).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    want = x.copy()
    want[0] += u[0]
    for _ in range(3):  # launched, captured, replayed
        (found,) = executable.run(*map(device.upload, (x, i, u)))
        np.testing.assert_allclose(found, want * 2, rtol=1e-6)
        with pytest.raises(IndexOutOfBoundsError, match=r"scatter_add: .* \[4, 3\].*programs.py"):
            raise_pending(device)
        executable.run(*map(device.upload, (x, i % 4, u)))
        raise_pending(device)


def attention(q, k, v):
    return fnp.sum(nn.dot_product_attention(q, k, v, is_causal=True) ** 2)


def test_attention_and_its_pullback_never_store_scores():
    target, device = target_on()
    args = [normal(2, 20, 4, 8).astype(np.float16) for _ in range(3)]
    closed = fg.jit(fg.grad(attention, (0, 1, 2))).lower(*args).jaxpr
    executable = made_for(target, hoist(closed.jaxpr))
    consts = [np.asarray(c) for c in closed.consts]
    found = executable.run(*map(device.upload, (*consts, *args)))
    wide = [a.astype(np.float64) for a in args]
    for x, y in zip(found, fg.grad(attention, (0, 1, 2))(*wide), strict=True):
        assert x.dtype == np.float16
        np.testing.assert_allclose(x.astype(np.float64), y, atol=2e-2)
    assert "fgl_attention" in executable.source
    assert "fgl_dkv" in executable.source
