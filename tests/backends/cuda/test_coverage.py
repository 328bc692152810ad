"""Which primitives have code for CUDA: all but those that are listed, so the list only shrinks."""

import pytest

import fgrad as fg
from fgrad.backends.cuda import library, prelude
from fgrad.backends.cuda.compiler import unsupported
from fgrad.backends.cuda.executable import Target
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.core.primitive import Absent, all_primitives
from fgrad.core.transforms.stage import hoist
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call

# Programs with these are refused when they are compiled.
MISSING = {
    "cholesky", "eig", "eigh", "fft", "lu", "qr", "scatter", "scatter_add", "scatter_max",
    "scatter_min", "scatter_mul", "solve", "sort", "svd", "top_k", "triangular_solve",
}  # fmt: skip
SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]
TARGET = Target(None, library.plan_of, None, prelude.supports, library.keeps)


def missing_in(f, *args):
    """The primitives of a program that nothing computes on a GPU."""
    closed = fg.jit(f).lower(*args).jaxpr
    plan = lower(optimize(hoist(closed.jaxpr)), TARGET.supports, TARGET.keeps)
    return {step.eqn.primitive.name for step in unsupported(plan, TARGET)}


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_a_primitive_has_code_or_is_listed(prim):
    found = set()
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            problem = example_of(prim, case, dtype_named(name))
            found |= missing_in(observed_call(problem), *problem.args)
    assert found <= MISSING
    assert prim.name not in MISSING or prim.name in found, "it has code now: take it off the list"
