"""How the state of a loop moves from step to step, for a backend that runs `Loop`s.

A step never copies a carry: the next step reads it where this one has left it. What a step writes
must therefore not overwrite what some carry still shows. That is known from the plan of the body:
each carry becomes a buffer that the body writes, an operand, or what another carry was.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from fgrad.compile.plan import TEMP, Loop, Plan, launches_of, reads_of, writes_of


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


def fixed_steps(plan: Plan, fixed: Collection[int]) -> list[int]:
    """The launches of a step of a loop that compute the same in each, from inputs that stay.

    They run once, before the loop; what they write must then be kept apart from other buffers.

    Args:
        plan: The body of a loop, or its condition.
        fixed: The inputs that stay: constants.
    """
    writers = Counter(b for step in plan.steps for b in writes_of(step))
    known = set(fixed) - plan.updated
    found = []
    for i, step in enumerate(plan.steps):
        if not launches_of(step) or not reads_of(step) <= known:
            continue
        written = writes_of(step)
        if all(plan.buffers[b].role == TEMP and writers[b] == 1 for b in written):
            known |= written
            found.append(i)
    return found
