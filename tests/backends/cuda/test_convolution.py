"""Convolutions by implicit products, through the emulation, against the eager rule in float64."""

import shutil

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fgrad as fg
from fgrad import lax
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, View
from fgrad.compile.run_plan import run_library, run_plan
from fgrad.core.primitive import primitive
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.backends.cuda.running import copied, execute, library_of
from tests.compile.test_lower import plan_of as lowered

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")

CONV = primitive("conv_general_dilated")
ULPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7,
        "complex64": 2.0**-22, "complex128": 2.0**-51}  # fmt: skip


def assert_near(found, want, terms, dtype):
    """Within an ulp of the result, and the errors of sums of so many terms."""
    wide = np.complex128 if found.dtype.kind == "c" else np.float64
    u = ULPS[dtype]
    sums = u if dtype not in ("float16", "bfloat16") else ULPS["float32"]
    bound = u * np.abs(want) + 64 * sums * terms + 1e-30
    assert (np.abs(found.astype(wide) - want) <= bound).all()


@pytest.mark.parametrize("case", CONV.spec.cases, ids=lambda c: c.name or c.shapes)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "complex128"])
def test_kernels_agree_with_the_reference(case, name):
    problem = example_of(CONV, case, dtype_named(name))
    plan, _ = lowered(observed_call(problem), *problem.args)
    own = library_of(lambda step, _buffers: plan_of(step))

    def library(step, plan, memory):
        conv = step.eqn.primitive is CONV
        (own if conv else run_library)(step, plan, memory)

    found = run_plan(plan, problem.args, library=library)[0]
    wide = np.complex128 if found.dtype.kind == "c" else np.float64
    x, w = (np.asarray(a).astype(wide) for a in problem.args)
    want = CONV.eager(np, x, w, **problem.params)
    terms = CONV.eager(np, np.abs(x), np.abs(w), **problem.params)
    assert_near(found, want, terms.real, name)


@st.composite
def convolutions(draw):
    """Operands and parameters of a convolution, of any layout."""
    rank = draw(st.integers(0, 2))
    groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    per = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    features, batches = groups
    n, c, o = per[0] * batches, per[1] * features, per[2] * max(groups)
    size = [draw(st.integers(1, 7)) for _ in range(rank)]
    taps = [draw(st.integers(1, 3)) for _ in range(rank)]
    small = st.integers(1, 3)
    strides, lhs, rhs = ([draw(small) for _ in range(rank)] for _ in range(3))
    pads = [(draw(st.integers(-1, 3)), draw(st.integers(-1, 3))) for _ in range(rank)]
    specs = [tuple(draw(st.permutations(range(rank + 2)))) for _ in range(3)]
    x, w = np.zeros(rank + 2, int), np.zeros(rank + 2, int)
    x[list(specs[0])] = [n, c, *size]
    w[list(specs[1])] = [o, per[1], *taps]
    numbers = lax.conv_dimension_numbers(tuple(x), tuple(w), specs)
    params = {
        "window_strides": tuple(strides), "padding": tuple(pads), "lhs_dilation": tuple(lhs),
        "rhs_dilation": tuple(rhs), "dimension_numbers": numbers, "feature_group_count": features,
        "batch_group_count": batches, "precision": None, "preferred_element_type": None,
    }  # fmt: skip
    return tuple(map(int, x)), tuple(map(int, w)), params


@given(convolutions(), st.booleans())
def test_all_parameters_in_all_layouts(case, flipped):
    """The operands may be views, too: here with their axes in the other order in memory."""
    (x_shape, w_shape, params) = case
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, s).astype(np.float32) for s in (x_shape, w_shape))
    want = CONV.eager(np, x, w, **params)
    step = step_of(x, w, params, flipped)
    out = copied(np.zeros(want.shape, want.dtype))
    memory = [x.T if flipped else x, w.T if flipped else w]
    execute(plan_of(step), [copied(m) for m in memory], [out])
    np.testing.assert_array_equal(out.reshape(want.shape), want)


def step_of(x, w, params, flipped):
    """The library step of a convolution of views."""
    from fgrad.core.tracing import bind

    jaxpr = fg.make_jaxpr(lambda a, b: bind(CONV, a, b, **params))(x, w).jaxpr
    views = []
    for i, a in enumerate((x, w)):
        data = a.T.copy().T if flipped else a
        views.append(View(i, 0, a.shape, tuple(s // a.itemsize for s in data.strides)))
    (eqn,) = jaxpr.eqns
    return Library(eqn, 0, tuple(views), (2,))
