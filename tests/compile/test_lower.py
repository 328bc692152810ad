"""Plans compute what eager rules compute: every primitive, random programs, known programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgrad.compile.lower import lower
from fgrad.compile.lower.scalars import expression
from fgrad.compile.passes import optimize
from fgrad.compile.plan import check_plan
from fgrad.compile.run_plan import run_plan
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Absent, Lowering, all_primitives
from fgrad.core.transforms.stage import hoist, stage
from fgrad.testing.functions import evaluate, pullback, random_like
from fgrad.testing.laws import prim_call
from fgrad.testing.oracle import assert_close, epsilon, gamma, ulp, widened
from fgrad.testing.strategies import dtype_named, example_of, problems
from tests.laws.test_random_programs import as_function, random_programs


def everything(_op, _dtype):
    return True


def plan_of(f, *xs, supports=everything):
    """The plan of `f` and the arrays that it closes over."""
    avals = [as_value(x).aval for x in xs]
    jaxpr, consts = stage(f, avals)
    plan = lower(optimize(hoist(jaxpr)), supports)
    check_plan(plan)
    return plan, [np.asarray(c) for c in consts]


def run(f, *xs, supports=everything):
    plan, consts = plan_of(f, *xs, supports=supports)
    return run_plan(plan, [*consts, *xs]), plan


SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]
CALLS = [
    pytest.param(prim, case, name, id=f"{prim.name}-{case.name or case.shapes}-{name}")
    for prim in SPECIFIED
    for case in prim.spec.cases
    for name in prim.spec.dtypes
]


def check_call(problem):
    f = prim_call(problem.prim, problem.params)
    expected = evaluate(f, problem.args)
    got, _ = run(f, *problem.args)
    assert len(got) == len(expected)
    for i, (y, e) in enumerate(zip(got, expected, strict=True)):
        assert y.dtype == e.dtype
        assert y.shape == e.shape
        assert_close(y, e, bound_of(problem, i, e), f"plan of {problem}, result {i}")


def bound_of(problem, i, e):
    """The distance allowed: both are within the spec's bound of the exact value."""
    spec = problem.prim.spec
    if not epsilon(e.dtype):
        return 0.0
    if spec.ulps is not None:
        return 2 * spec.ulps * ulp(widened(e), e.dtype)
    with np.errstate(all="ignore"):
        terms = spec.terms(*[widened(x) for x in problem.args], **problem.params)
    terms = np.asarray(terms[i] if problem.prim.multiple_results else terms)
    count = 2 * max(x.size for x in problem.args) + 2
    return ulp(widened(e), e.dtype) + gamma(count, max(e.dtype, np.dtype("f"), key=epsilon)) * terms


@pytest.mark.parametrize(("prim", "case", "name"), CALLS)
def test_every_primitive_means_the_same(prim, case, name):
    for seed, size in enumerate((2, 3, 5)):
        check_call(example_of(prim, case, dtype_named(name), seed, size))


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
@given(data=st.data())
def test_every_primitive_means_the_same_on_any_shape(prim, data):
    case = data.draw(st.sampled_from(prim.spec.cases))
    name = data.draw(st.sampled_from(prim.spec.dtypes))
    check_call(data.draw(problems(prim, case, dtype_named(name))))


# Composed of what no kernel computes: values of these dtypes stay with the library.
POINTWISE = [
    p for p in all_primitives() if isinstance(p.lower, Lowering) and p.lower.kind == "pointwise"
]


@pytest.mark.parametrize("prim", [p for p in POINTWISE if not isinstance(p.spec, Absent)], ids=str)
def test_pointwise_expressions_are_well_formed(prim):
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            problem = example_of(prim, case, dtype_named(name))
            jaxpr, _ = stage(
                prim_call(prim, problem.params), [as_value(x).aval for x in problem.args]
            )
            for eqn in jaxpr.eqns:
                if eqn.primitive is prim:
                    scalar = expression(eqn)
                    assert isinstance(scalar, Absent) or len(scalar[1]) == len(eqn.inputs)


@given(random_programs())
def test_random_programs_mean_the_same(program):
    steps, xs = program
    f = as_function(steps)
    got, _ = run(f, *xs)
    for y, e in zip(got, evaluate(f, xs), strict=True):
        assert_close(y, e, 1e-11 * (1 + np.abs(e).max(initial=0)), "plan = eager")


@given(random_programs(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_programs_mean_the_same(program, seed):
    steps, xs = program
    f = as_function(steps)
    rng = np.random.default_rng(seed)
    cts = [random_like(rng, y) for y in evaluate(f, xs)]
    pull = pullback(f, len(xs))
    got, _ = run(pull, *xs, *cts)
    for y, e in zip(got, evaluate(pull, (*xs, *cts)), strict=True):
        assert_close(y, e, 1e-10 * (1 + np.abs(e).max(initial=0)), "plan = eager")
