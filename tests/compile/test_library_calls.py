"""Beside kernels a program has the library calls of design section 6, and no others.

Whatever else is a library step is computed by NumPy, one equation at a time: it is not compiled.
"""

import pytest

from fgrad.backends.cpu.ops import supports
from fgrad.backends.cpu.routine_table import routine_of
from fgrad.backends.cpu.target import host
from fgrad.compile.plan import Library
from fgrad.core.primitive import Absent, all_primitives
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.compile.test_lower import plan_of

PRODUCTS = {"dot_general", "conv_general_dilated", "attention", "attention_grad"}
SORTS = {"sort", "top_k"}
FACTORISATIONS = {
    "cholesky", "eig", "eigh", "lu", "qr", "solve", "svd", "triangular_solve",
}  # fmt: skip
ALLOWED = PRODUCTS | SORTS | FACTORISATIONS | {"fft"}
# Raises where an index lies outside, by a truth value that a kernel has computed, or does nothing.
CHECKS = {"check_bounds"}

# What is not compiled yet: (primitive, whether it is about complex numbers) → the reason. What is
# listed and compiles fails the test below.
EXCEPTIONS: dict[tuple[str, bool], str] = {}

SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]


def is_complex(eqn):
    return any(a.aval.dtype.kind == "c" for a in (*eqn.inputs, *eqn.outputs))


def library_calls(prim):
    """(primitive, about complex numbers) of each step that NumPy computes."""
    found = set()
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            problem = example_of(prim, case, dtype_named(name))
            plan, _ = plan_of(observed_call(problem), *problem.args, supports=supports)
            eqns = [
                s.eqn
                for s in plan.steps
                if isinstance(s, Library) and routine_of(s, host()) is None
            ]
            found |= {(e.primitive.name, is_complex(e)) for e in eqns}
    return {call for call in found if call[0] not in ALLOWED | CHECKS}


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_only_the_library_calls_of_the_design_stand_beside_kernels(prim):
    """Of a primitive's own program; an exception that is none any more has to leave the list."""
    calls = library_calls(prim)
    unknown = calls - EXCEPTIONS.keys()
    assert not unknown, f"computed by NumPy: {unknown}"
    listed = {call for call in EXCEPTIONS if call[0] == prim.name}
    assert listed <= calls, f"compiled by now, take them off the list: {listed - calls}"


def test_exceptions_are_primitives():
    assert {name for name, _ in EXCEPTIONS} <= {p.name for p in SPECIFIED}
