"""The kernels of the programs of all primitives, and the operands that they get."""

import functools
from typing import NamedTuple

import numpy as np

from fgrad.backends.cuda import layout
from fgrad.backends.cuda.prelude import supports
from fgrad.compile.interpret import run_kernel
from fgrad.compile.kernel import Kernel
from fgrad.compile.run_plan import run_plan
from fgrad.testing.functions import (
    batched,
    evaluate,
    inexact_only,
    pullback,
    pushforward,
    random_like,
)
from fgrad.testing.primitives import closed, dtype_classes
from fgrad.testing.strategies import dtype_named, example_of
from fgrad.testing.values import observed_call
from tests.compile.test_lower import SPECIFIED, plan_of

GROUP = 8  # primitives whose kernels make a module
GROUPS = [SPECIFIED[k : k + GROUP] for k in range(0, len(SPECIFIED), GROUP)]


class Record(NamedTuple):
    """A launch of a program.

    Attributes:
        program: What the program computes.
        kernel: The kernel.
        before: Its operands before it.
    """

    program: str
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
                found += _launches(str(problem), observed_call(problem), problem.args)
    return found


@functools.lru_cache(maxsize=2)
def derived_records(number, size=8):
    """The same of derivatives and batches: every case, one dtype of each kind."""
    found = []
    for prim in GROUPS[number]:
        for names in dtype_classes(prim).values():
            for case in prim.spec.cases:
                problem = example_of(prim, case, dtype_named(names[-1]), number, size)
                for what, f, xs in _derived(problem):
                    found += _launches(f"{what} of {problem}", f, xs)
    return found


def _derived(problem):
    """Functions made of a call, and operands of them."""
    f, args = observed_call(problem), problem.args
    stacked = [np.stack([x, x[..., ::-1] if x.ndim else x]) for x in args]
    yield "vmap", batched(f, 2, [0] * len(args)), stacked
    if problem.prim.spec.order and problem.active:
        f, xs = closed(problem)
        f, rng = inexact_only(f), problem.rng
        tangents = [random_like(rng, x) for x in xs]
        cotangents = [random_like(rng, y) for y in evaluate(f, xs)]
        yield "jvp", pushforward(f, len(xs)), [*xs, *tangents]
        yield "vjp", pullback(f, len(xs)), [*xs, *cotangents]


def _launches(what, f, args):
    found = []

    def recorded(kernel, buffers):
        found.append(Record(what, kernel, [b.copy() for b in buffers]))
        run_kernel(kernel, buffers)

    plan, consts = plan_of(f, *args, supports=supports)
    run_plan(plan, [*consts, *args], recorded)
    return found


def distinct(found):
    """One kernel of each code."""
    return list({layout.key(r.kernel): r.kernel for r in found}.values())
