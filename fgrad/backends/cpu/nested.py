"""The rules of equations that are no kernels, and whether the programs in them are compiled."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.backends.cpu.products import copied_bytes, product_of
from fgrad.compile.plan import Library, Plan
from fgrad.core.ir import Eqn
from fgrad.core.primitive import Lowering
from fgrad.core.program import compiled_inside


def is_host(eqn: Eqn) -> bool:
    """Whether an equation calls functions of the user itself."""
    lower = eqn.primitive.lower
    return bool(eqn.primitive.effects) or (isinstance(lower, Lowering) and lower.kind == "host")


def rule_of(eqn: Eqn) -> Callable[..., Any]:
    """The eager rule; programs among its parameters run compiled, as the one around them does."""
    rule = eqn.primitive.eager
    if not eqn.primitive.calls:
        return rule

    def run(xp: Any, *arrays: Any, **params: Any) -> Any:
        with compiled_inside():
            return rule(xp, *arrays, **params)

    return run


def made_by_rules(plan: Plan, loaded: Sequence[object]) -> set[int]:
    """The buffers that eager rules return; `loaded` are the functions of other steps, or None."""
    return {
        b
        for step, function in zip(plan.steps, loaded, strict=True)
        if function is None and isinstance(step, Library) and product_of(step.eqn) is None
        for b in step.outputs
    }


def workspaces(plan: Plan, loaded: Sequence[object]) -> dict[int, int]:
    """Bytes that the rules and products of steps allocate while they run, by step."""
    found = {}
    for i, (step, function) in enumerate(zip(plan.steps, loaded, strict=True)):
        if function is not None or not isinstance(step, Library):
            continue
        eqn, lower = step.eqn, step.eqn.primitive.lower
        if product_of(eqn) is not None:
            found[i] = copied_bytes(step)
        elif isinstance(lower, Lowering) and lower.workspace is not None:
            operands, results = ([a.aval for a in x] for x in (eqn.inputs, eqn.outputs))
            found[i] = lower.workspace(operands, results, eqn.params)
    return found


def identifier(name: str) -> str:
    """A name as part of a name in Python."""
    return "".join(c if c.isalnum() else "_" for c in name)
