"""A spec becomes tests: the groups of laws that every declared primitive obeys.

A group draws a `Problem` and runs all its laws on it, so that generating data and computing
expected values is paid once. `groups_of` says which groups and dtype classes a spec calls for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from fgrad.core import dtypes
from fgrad.core.primitive import Absent, Case, Lowering, Primitive
from fgrad.core.transforms.forward import is_differentiable
from fgrad.testing import batching, laws, programs
from fgrad.testing import values as of_values
from fgrad.testing.functions import (
    Array,
    Flat,
    evaluate,
    inexact_only,
    pullback,
    random_like,
    values,
)
from fgrad.testing.laws import prim_call
from fgrad.testing.oracle import widened, widest
from fgrad.testing.strategies import (
    Problem,
    dtype_named,
    make_problem,
    operands_of,
    patterns,
    problems,
    spec_of,
)

_SIZES = (2, 3, 1, 0)


def closed(problem: Problem) -> tuple[Flat, list[Array]]:
    """What is observed of the primitive, of its differentiable operands, and those operands."""
    call = of_values.observed_call(problem)
    active = problem.active

    def f(*xs: Any) -> list[Any]:
        full = values(problem.args)
        for i, x in zip(active, xs, strict=True):
            full[i] = x
        return call(*full)

    return f, [problem.args[i] for i in active]


def check_values(problem: Problem) -> None:
    """Laws 1, 13, 19, 20 and 23 of values."""
    f = prim_call(problem.prim, problem.params)
    skip = spec_of(problem.prim).skip
    of_values.law_reference(problem)
    of_values.law_abstract(problem)
    of_values.law_pure(f, problem.args)
    if "layouts" not in skip:
        of_values.law_layouts(f, problem.args, problem.rng)


def check_first_order(problem: Problem) -> None:
    """Laws 2 to 8, 17, 18 and 23 of derivatives."""
    f, xs = closed(problem)
    laws.first_order(f, xs, problem.rng)
    laws.law_transpose(problem.prim, problem.params, problem.args, problem.active, problem.rng)
    f = inexact_only(f)
    of_values.law_backward_twice(f, xs, problem.rng)
    free = [entry == ["..."] for entry in patterns(problem.case)]
    if all(free) and len(free) > 1:
        laws.law_broadcast(f, xs, [random_like(problem.rng, y) for y in evaluate(f, xs)])
    if _acts_elementwise(problem.prim):
        of_values.law_special_zero(f, xs, problem.rng)


def _acts_elementwise(prim: Primitive) -> bool:
    return isinstance(prim.lower, Lowering) and prim.lower.kind == "pointwise"


def check_higher_order(problem: Problem) -> None:
    """Laws 9 and 10."""
    f, xs = closed(problem)
    f = inexact_only(f)
    order = spec_of(problem.prim).order
    if order >= 2:
        laws.law_order_2(f, xs, problem.rng)
        laws.law_hessian(f, xs, problem.rng)
    if order >= 3:
        laws.law_order_3(f, xs, problem.rng)


def check_batching(problem: Problem) -> None:
    """Law 11."""
    f = prim_call(problem.prim, problem.params)
    rng = problem.rng
    rows = [other_like(problem).args for _ in range(2)]
    dims = batching.random_dims(problem.args, rng)
    for size in _SIZES:
        stacked = batching.stack(problem.args, rows, dims, size)
        batching.law_vmap(f, stacked, dims, size)
    batching.law_vmap_nested(f, batching.stack(problem.args, rows, dims, 2), dims, 2, problem.rng)


def check_batched_derivatives(problem: Problem) -> None:
    """Law 12."""
    f, xs = closed(problem)
    batching.law_vmap_derivatives(f, xs, problem.rng)
    if not any(x.dtype.kind == "c" for x in (*xs, *evaluate(f, xs))):
        batching.law_jacobian(f, xs)
    if spec_of(problem.prim).order >= 2:
        batching.law_second_order_vmap(f, xs, problem.rng)


def check_programs(problem: Problem) -> None:
    """Laws 13, 15 and 16."""
    call = prim_call(problem.prim, problem.params)
    programs.law_passes(call, problem.args)
    programs.law_jit(call, problem.args)
    if spec_of(problem.prim).order and problem.active:
        f, xs = closed(problem)
        programs.law_jit_derivatives(f, xs, problem.rng)
        programs.law_checkpoint(f, xs, problem.rng)
        programs.law_identity_rules(f, xs, problem.rng)


def check_compiled(problem: Problem) -> None:
    """Laws 13 and 24 of kernels: each is judged by itself, at a value and at a gradient."""
    call = prim_call(problem.prim, problem.params)
    programs.law_donation(call, problem.args, problem.rng)
    if spec_of(problem.prim).order and problem.active:
        f, xs = closed(problem)
        programs.law_mixed(f, xs, ("pullback",), problem.rng)
    else:
        programs.law_kernels(call, problem.args)


def check_low_derivatives(problem: Problem) -> None:
    """Law 20 of derivatives."""
    f, xs = closed(problem)
    ulps = spec_of(problem.prim).ulps
    wide = Problem(
        problem.prim, problem.case, problem.params, [widened(x) for x in problem.args],
        problem.active, problem.rng,
    )  # fmt: skip
    wide_f, _ = closed(wide)
    of_values.law_low_derivatives(f, wide_f, xs, problem.rng, 4.0 if ulps is None else ulps)


def other_like(problem: Problem) -> Problem:
    """Another call of the same primitive with operands of the same shapes."""
    spec = spec_of(problem.prim)
    shapes = [x.shape for x in problem.args]
    same = next(
        (x.dtype for x, o in zip(problem.args, operands_of(spec, problem.case), strict=True)
         if o.dtype == "same"), np.dtype(np.float64),
    )  # fmt: skip
    return make_problem(problem.prim, problem.case, problem.params, shapes, same, problem.rng, spec)


def value_and_gradient(problem: Problem) -> list[Array]:
    """The results of a call and, where they exist, its gradients for cotangents of ones."""
    out = evaluate(prim_call(problem.prim, problem.params), problem.args)
    if spec_of(problem.prim).order and problem.active:
        f, xs = closed(problem)
        f = inexact_only(f)
        cts = [np.ones_like(y) for y in evaluate(f, xs)]
        out += evaluate(pullback(f, len(xs)), (*xs, *cts))
    return out


Group = Callable[[Problem], None]
VALUES: dict[str, Group] = {"values": check_values}
DERIVATIVES: dict[str, Group] = {
    "first_order": check_first_order,
    "higher_order": check_higher_order,
    "batched_derivatives": check_batched_derivatives,
}
GROUPS: dict[str, Group] = {
    **VALUES,
    **DERIVATIVES,
    "batching": check_batching,
    "programs": check_programs,
    "low_derivatives": check_low_derivatives,
}


def dtype_classes(prim: Primitive) -> dict[str, list[str]]:
    """The dtypes of a spec by class: 'float64', 'complex128', 'narrow' and 'exact'."""
    classes: dict[str, list[str]] = {}
    for name in spec_of(prim).dtypes:
        dtype = dtype_named(name)
        if not dtypes.is_inexact(dtype):
            key = "exact"
        elif dtype == widest(dtype):
            key = name
        else:
            key = "narrow"
        classes.setdefault(key, []).append(name)
    return classes


def groups_of(prim: Primitive) -> list[tuple[str, str]]:
    """The (group, dtype class) pairs that a spec calls for."""
    spec = spec_of(prim)
    out = []
    for kind in dtype_classes(prim):
        exact = kind in ("float64", "complex128")
        out.append(("values", kind))
        if exact or kind == "exact":
            out.append(("batching", kind))
            out.append(("programs", kind))
        if spec.order and exact:
            out.append(("first_order", kind))
            out.append(("batched_derivatives", kind))
            if spec.order >= 2:
                out.append(("higher_order", kind))
        if spec.order and kind == "narrow":
            out.append(("low_derivatives", kind))
    return [pair for pair in out if pair[0] not in spec.skip]


def check_primitive(prim: Primitive, *, examples: int = 25, shrink: bool = True) -> None:
    """Check a primitive against every law that its spec calls for.

    Args:
        prim: The primitive; its `spec` says with what to call it.
        examples: How many calls are drawn for each case, group of laws and class of dtypes.
        shrink: Look for a smaller call after one that fails.

    Raises:
        AssertionError: A law does not hold; the message names the law and the call.
        RuleError: The primitive has no spec.
    """
    for group, kind in groups_of(prim):
        for case in spec_of(prim).cases:
            check_group(prim, case, group, kind, examples, shrink=shrink)


def check_group(
    prim: Primitive, case: Case, group: str, kind: str, examples: int, *, shrink: bool = True
) -> None:
    """Run one group of laws on drawn calls of one case and dtype class."""
    names = dtype_classes(prim)[kind]
    check = GROUPS[group]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[p for p in settings().phases if shrink or p not in SHRINKING],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of([problems(prim, case, dtype_named(name)) for name in names]))
    def holds(problem: Problem) -> None:
        note(problem)
        # Some parameters leave nothing to differentiate (a conversion to integers).
        if group not in _NEEDS_DERIVATIVE or (
            problem.active and is_differentiable(prim, problem.params) is not False
        ):
            check(problem)

    holds()


SHRINKING = (Phase.shrink, Phase.explain)
_NEEDS_DERIVATIVE = frozenset({*DERIVATIVES, "low_derivatives"})


def unspecified(prim: Primitive) -> list[str]:
    """Why a primitive has no spec, or its spec no law, in the words of its declaration.

    Raises:
        AssertionError: It has neither a spec nor a reason for having none.
    """
    spec = prim.spec
    reasons = [spec.reason] if isinstance(spec, Absent) else list(spec.skip.values())
    assert all(r.strip() for r in reasons), f"{prim.name} has no spec and does not say why"
    return reasons
