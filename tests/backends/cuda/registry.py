"""The kernels of the programs of all primitives, and the operands that they get."""

import functools
from typing import Any, NamedTuple

import numpy as np

from fgrad.backends.cuda import layout
from fgrad.backends.cuda.prelude import supports
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Kernel
from fgrad.compile.run_plan import run_plan
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.compile.test_lower import SPECIFIED, plan_of

GROUP = 8  # primitives whose kernels make a module
GROUPS = [SPECIFIED[k : k + GROUP] for k in range(0, len(SPECIFIED), GROUP)]


class Record(NamedTuple):
    """A launch of a program.

    Attributes:
        problem: What the program computes.
        kernel: The kernel.
        before: Its operands before it.
    """

    problem: Any
    kernel: Kernel
    before: list[np.ndarray]


def name_of(group):
    return f"{group[0]}-{group[-1]}"


@functools.lru_cache(maxsize=2)
def records(number, seed=0, size=20):
    """The launches of the programs of a group: every case, every dtype."""
    found = []
    for prim in GROUPS[number]:
        for case in prim.spec.cases:
            for name in prim.spec.dtypes:
                problem = example_of(prim, case, dtype_named(name), number + seed, size)
                found += _launches(problem)
    return found


def _launches(problem):
    found = []

    def recorded(kernel, buffers):
        found.append(Record(problem, kernel, [b.copy() for b in buffers]))
        run_kernel(kernel, buffers)

    plan, consts = plan_of(observed_call(problem), *problem.args, supports=supports)
    run_plan(plan, [*consts, *problem.args], recorded)
    return found


def distinct(found):
    """One kernel of each code."""
    return list({layout.key(r.kernel): r.kernel for r in found}.values())
