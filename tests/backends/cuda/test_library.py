"""The table of library steps, over the programs of all primitives."""

import importlib.util

import numpy as np
import pytest

from fgrad.backends.cuda.calls import KernelCall
from fgrad.backends.cuda.library import MISSING, RULES, plan_of
from fgrad.backends.cuda.prelude import supports, with_prelude
from fgrad.compile.plan import Library, Loop, is_check
from fgrad.compile.run_plan import run_library, run_plan
from fgrad.core.primitive import Absent, Lowering, all_primitives
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.compile.test_lower import plan_of as lowered

SPECIFIED = [p for p in all_primitives() if not isinstance(p.spec, Absent)]


def is_called(eqn):
    """Whether an equation is a call of a library, on every target."""
    lower = eqn.primitive.lower
    return isinstance(lower, Lowering) and lower.kind == "library"


def steps_of(plan):
    for step in plan.steps:
        if isinstance(step, Loop):
            for inner in step.plans:
                yield from steps_of(inner)
        elif isinstance(step, Library) and not is_check(step) and is_called(step.eqn):
            yield step


def problems(prim):
    for case in prim.spec.cases:
        for name in prim.spec.dtypes:
            yield example_of(prim, case, dtype_named(name))


def plans(prim):
    for problem in problems(prim):
        yield lowered(observed_call(problem), *problem.args, supports=supports)[0]


@pytest.mark.parametrize("prim", SPECIFIED, ids=str)
def test_library_steps_have_code_or_are_listed(prim):
    """What is listed and has code by now must leave the list."""
    for plan in plans(prim):
        for step in steps_of(plan):
            found, name = plan_of(step), step.eqn.primitive.name
            assert (found is None) == (name in MISSING), step.eqn
            assert found is None or found.captures


def test_the_list_names_primitives_without_rules():
    names = {p.name for p in SPECIFIED}
    assert names >= MISSING
    assert not MISSING & RULES.keys()


def sources():
    """The text of every kernel of library steps of the registry, by name."""
    found = {}
    for prim in SPECIFIED:
        if prim.name not in RULES:
            continue
        for plan in plans(prim):
            for step in steps_of(plan):
                made = plan_of(step)
                for call in made.calls if made else ():
                    if isinstance(call, KernelCall):
                        assert found.setdefault(call.name, call.source) == call.source
    return found


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="NVRTC comes with CuPy")
@pytest.mark.parametrize("arch", ["80", "90", "100"])
def test_nvrtc_compiles_every_kernel(arch):
    from fgrad.backends.cuda.nvrtc import compile_source

    found = sources()
    assert len(found) > 20
    text = with_prelude("".join(found[name] for name in sorted(found)))
    code = compile_source(text, arch)
    for name in found:
        assert name.encode() in code


OWN = [p for p in SPECIFIED if p.name in RULES and p.name != "dot_general"]


@pytest.mark.parametrize("prim", OWN, ids=str)
def test_registry_programs_give_the_numbers_of_eager_rules(prim, execute):
    """All steps with kernels of our own, within a few units in the last place."""
    from tests.backends.cuda.running import library_of

    own = library_of(lambda step, _buffers: plan_of(step), execute=execute)

    def library(step, plan, memory):
        made = plan_of(step) if is_called(step.eqn) else None
        kernels = made is not None and all(isinstance(c, KernelCall) for c in made.calls)
        (own if kernels else run_library)(step, plan, memory)

    for problem in problems(prim):
        plan, consts = lowered(observed_call(problem), *problem.args, supports=supports)
        inputs = [*consts, *problem.args]
        want = run_plan(plan, inputs)
        for a, b in zip(run_plan(plan, inputs, library=library), want, strict=True):
            assert a.dtype == b.dtype
            if a.dtype.kind in "iub":
                np.testing.assert_array_equal(a, b)
                continue
            wide = np.complex128 if a.dtype.kind == "c" else np.float64
            eps = 2.0**-7 if a.dtype.itemsize == 2 and a.dtype != np.float16 else (
                np.finfo(a.dtype).eps
            )  # fmt: skip
            np.testing.assert_allclose(a.astype(wide), b.astype(wide), rtol=64 * eps, atol=64 * eps)
