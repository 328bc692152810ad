"""What to say when there is no memory for a program: its peak, and what takes most of it then."""

from fgrad.compile.memory import Memory, last_uses
from fgrad.compile.plan import INPUT, RESULT, Library, Plan, Step, launches_of, writes_of
from fgrad.core.avals import ShapedArray
from fgrad.core.ir import Eqn, Jaxpr

_MOST = 5  # buffers that are named


def shortage(jaxpr: Jaxpr, plan: Plan, memory: Memory) -> str:
    """The message for a program that got no memory: what it takes, and where to save.

    Args:
        jaxpr: The program, whose equations the plan names.
        plan: Its steps.
        memory: Their memory.
    """
    libraries = memory.peak_bytes - memory.input_bytes - memory.arena_bytes - memory.result_bytes
    parts = [
        ("arguments", memory.input_bytes),
        ("new results", memory.result_bytes),
        ("temporaries", memory.arena_bytes),
        ("what libraries return or need", max(0, libraries)),
    ]
    told = ", ".join(f"{name} {_bytes(size)}" for name, size in parts if size)
    lines = [
        f"no memory to run a program that takes {_bytes(memory.peak_bytes)} at its peak ({told}); "
        f"make it smaller (a smaller batch, checkpoint), donate arguments, or free what is not "
        f"needed. The largest buffers at that moment:"
    ]
    made = {b: step for step in plan.steps for b in writes_of(step)}
    for b in _alive_at_peak(plan, memory)[:_MOST]:
        buffer = plan.buffers[b]
        aval = ShapedArray(buffer.shape, buffer.dtype)
        where = f"argument {b}"
        if b in made:
            eqn = _maker(jaxpr, made[b], aval)
            where = f"{eqn.primitive.name}, asked for at {eqn.source}"
        lines.append(f"  {_bytes(buffer.nbytes)}  {aval}  {where}")
    return "\n".join(lines)


def _alive_at_peak(plan: Plan, memory: Memory) -> list[int]:
    """The buffers that are alive when most is, the largest first."""
    last = last_uses(plan)
    for r in plan.results:
        if isinstance(r, int):
            last[r] = len(plan.steps)
    own = [b for b in range(len(plan.buffers)) if b not in memory.taken]
    alive = {b for b in own if plan.buffers[b].role == INPUT}
    size, best = sum(plan.buffers[b].nbytes for b in alive), set(alive)
    most = size
    for i, step in enumerate(plan.steps):
        new = writes_of(step) - memory.taken.keys()
        alive |= new
        size += sum(plan.buffers[b].nbytes for b in new)
        if size > most:
            most, best = size, set(alive)
        gone = {
            b for b in alive if last.get(b) == i and plan.buffers[b].role not in (INPUT, RESULT)
        }
        alive -= gone
        size -= sum(plan.buffers[b].nbytes for b in gone)
    return sorted(best, key=lambda b: (-plan.buffers[b].nbytes, b))


def _maker(jaxpr: Jaxpr, step: Step, aval: ShapedArray) -> Eqn:
    """The equation of a step that made a buffer: the last one with a result of that type."""
    if isinstance(step, Library):
        return step.eqn
    eqns = [jaxpr.eqns[i] for launch in launches_of(step) for i in launch.kernel.eqns]
    for eqn in reversed(eqns):
        for v in eqn.outputs:
            if (v.aval.shape, v.aval.dtype) == (aval.shape, aval.dtype):
                return eqn
    return eqns[-1]


def _bytes(size: int) -> str:
    if size < 2**10:
        return f"{size} bytes"
    power = min((size.bit_length() - 1) // 10, 6)
    return f"{size / 2 ** (10 * power):,.1f} {'KMGTPE'[power - 1]}iB"
