"""Whole programs as CUDA C, in the emulation: what kernels, own library steps and loops give."""

import shutil

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.api import inspection
from fgrad.backends.cuda import library, prelude
from fgrad.backends.cuda.calls import KernelCall
from fgrad.backends.cuda.compiler import made_for
from fgrad.backends.cuda.executable import Target
from fgrad.backends.cuda.module import CudaCode
from fgrad.core.transforms.stage import hoist
from tests.backends.cuda.host_device import by_rules
from tests.backends.cuda.programs import PROGRAMS, normal
from tests.backends.cuda.shim_device import ShimDevice

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")


def target_on():
    """A target whose kernels and own library steps are emulated; cuBLASLt is an eager rule."""
    code = CudaCode()
    device = ShimDevice(code)
    rules = by_rules(device)

    def libraries(step):
        found = library.plan_of(step)
        own = found is not None and all(isinstance(c, KernelCall) for c in found.calls)
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
    assert [step.kind for step in inspection.schedule_of(made)] == ["library", "kernel"]
    assert inspection.memory_of(made).result_bytes == 32
