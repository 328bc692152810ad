"""Values and traces: what a tracer shows of itself, and that a context never leaks."""

import copy
import pickle

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core.tracing import install, state
from fgrad.errors import FgradError, TracerArrayConversionError


def test_tracers_know_their_type_not_more():
    seen = []

    def f(x):
        seen.append((x.shape, x.dtype, x.ndim, x.size, x.nbytes, len(x), repr(x)))
        return x.sum()

    fg.jit(f)(np.ones((2, 3), np.float32))
    assert seen[0][:6] == ((2, 3), np.float32, 2, 6, 24, 2)
    assert "f32[2,3]" in seen[0][6]
    fg.vmap(f)(np.ones((4, 2, 3), np.float32))
    assert seen[1][:6] == seen[0][:6]


def test_tracers_are_copied_as_themselves_and_not_pickled():
    def f(x):
        assert copy.copy(x) is x
        assert copy.deepcopy([x])[0] is x
        with pytest.raises(TracerArrayConversionError):
            pickle.dumps(x)
        return x

    fg.grad(f)(1.0)


def test_concrete_values_stay_concrete_but_under_jit_and_vmap():
    assert float(fg.grad(lambda x: x if x > 0 else -x)(-2.0)) == -1.0
    assert float(fg.jvp(lambda x: x if x else 2.0 * x, (1.0,), (1.0,))[1]) == 1.0
    n = fg.grad(lambda x: x * [1.0, 2.0, 3.0][fnp.argmax(fnp.asarray([0, 5, 1]))])(1.0)
    assert float(n) == 2.0


def test_operators_are_installed_once():
    with pytest.raises(FgradError, match="installed already"):
        install({})


def test_the_current_trace_is_restored():
    def f(x):
        assert state.trace.parent is not None
        return fg.vmap(lambda y: y * x)(np.ones(2)).sum()

    fg.grad(f)(1.0)
    assert state.trace is type(state).trace
