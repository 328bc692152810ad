"""Every declared primitive obeys the laws of docs/guide/tests.md; its spec says how to call it."""

import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

import fgrad as fg  # noqa: F401 - declares the primitives
from fgrad import lax  # noqa: F401
from fgrad.core.primitive import Absent, all_primitives
from fgrad.lax import fourier, linalg  # noqa: F401 - those that are loaded on first use
from fgrad.testing import primitives as suite
from fgrad.testing import programs, values
from fgrad.testing.strategies import dtype_named, example_of, spec_of

ROOT = Path(__file__).parents[2]
PRIMITIVES = list(all_primitives())
SPECIFIED = [p for p in PRIMITIVES if not isinstance(p.spec, Absent)]
GROUPED = [
    pytest.param(p, case, group, kind, id=f"{p.name}-{kind}-{case.name or 'scalar'}-{group}")
    for p in SPECIFIED
    for group, kind in suite.groups_of(p)
    for case in spec_of(p).cases
]
INVALID = [
    pytest.param(p, wrong, id=f"{p.name}-{wrong.error.__name__}-{','.join(wrong.types)}")
    for p in SPECIFIED
    for wrong in spec_of(p).invalid
]


def examples_of(prim):
    """The profile's number of examples is that of a primitive: its cases share them."""
    return max(5, -(-settings().max_examples // len(spec_of(prim).cases)))


@pytest.mark.parametrize(("prim", "case", "group", "kind"), GROUPED)
def test_the_laws_hold(prim, case, group, kind):
    suite.check_group(prim, case, group, kind, examples_of(prim))


@pytest.mark.parametrize(("prim", "wrong"), INVALID)
def test_a_wrong_call_raises_what_the_spec_states(prim, wrong):
    values.law_invalid(prim, wrong, lambda thunk: thunk())


@pytest.mark.parametrize("prim", PRIMITIVES, ids=lambda p: p.name)
def test_every_primitive_has_a_spec_or_a_reason(prim):
    for reason in suite.unspecified(prim):
        named = re.findall(r"tests/[\w/]+\.py", reason)
        assert named, f"{reason!r} names no test that stands in for the spec"
        assert all((ROOT / path).is_file() for path in named), f"no such file: {reason!r}"


def tasks_of(prim):
    """For each case of a primitive: its value and its gradient at one call of it."""
    kind = next(iter(suite.dtype_classes(prim)))
    out = []
    for case in spec_of(prim).cases:
        problem = example_of(prim, case, dtype_named(suite.dtype_classes(prim)[kind][0]))
        out.append(partial(suite.value_and_gradient, problem))
    return out


def test_threads_give_what_one_thread_gives():
    programs.law_threads([task for p in SPECIFIED for task in tasks_of(p)])


@pytest.mark.parametrize("prim", SPECIFIED, ids=lambda p: p.name)
def test_a_hundred_repeats_give_the_same_bits(prim):
    for task in tasks_of(prim):
        values.law_repeats(task, 100)


@pytest.mark.parametrize("prim", SPECIFIED, ids=lambda p: p.name)
def test_kernels_compute_what_they_mean(prim):
    for names in suite.dtype_classes(prim).values():
        for case in spec_of(prim).cases:
            suite.check_compiled(example_of(prim, case, dtype_named(names[0])))
