"""How the state of a loop moves from step to step, for a backend that runs `Loop`s.

A step never copies a carry: the next step reads it where this one has left it. What a step writes
must therefore not overwrite what some carry still shows. That is known from the plan of the body:
each carry becomes a buffer that the body writes, an operand, or what another carry was.
"""

from collections.abc import Sequence
from typing import Any

from fgrad.compile.plan import Loop, Plan


def groups_of(loop: Loop, items: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Operands of a scan or while loop, or one thing for each of them, in groups.

    Returns:
        Constants of the condition, constants of the body, carries, and stacked inputs.
    """
    params = loop.eqn.params
    if loop.eqn.primitive.name == "scan":
        a, b = 0, params["num_consts"]
        c = b + params["num_carry"]
    else:
        a = params["num_cond"]
        b, c = a + params["num_body"], len(items)
    return items[:a], items[a:b], items[b:c], items[c:]


def places(body: Plan, consts: int, carries: int) -> dict[int, int]:
    """How many places a body needs, in turn, for each buffer that becomes a carry.

    A value is shown by a carry in the next step; by a carry that takes over that one, in the step
    after it; and so on. A buffer that is also stacked has places of its own, and needs none.

    Args:
        body: The plan of a step.
        consts: How many of its inputs come before the carries.
        carries: How many carries there are: they are its first results.
    """
    stacked = set(body.results[carries:])
    found: dict[int, int] = {}
    for k in range(carries):
        age, at = 1, body.results[k]
        seen = {k}
        while isinstance(at, int) and consts <= at < consts + carries:
            carry = at - consts
            if carry in seen:  # carries that take turns, and keep what they began with
                at = -1
                break
            seen.add(carry)
            age, at = age + 1, body.results[carry]
        if isinstance(at, int) and at >= body.inputs and at not in stacked:
            found[at] = max(found.get(at, 0), age + 1)
    return found
