"""What a kernel should write, by the eager rules of the equations that it fuses."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Launch, Patch, Plan
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.primitive import Lowering

Array = np.ndarray[Any, Any]


class ByRules:
    """The equations of one launch, to be run by their eager rules on what the kernel reads.

    Args:
        jaxpr: The program that the plan came from.
        plan: The plan.
        launch: One of its launches.
    """

    def __init__(self, jaxpr: Jaxpr, plan: Plan, launch: Launch) -> None:
        self.kernel: Kernel = launch.kernel
        own = set(self.kernel.eqns)
        self.made: dict[Var, Eqn] = {
            v: e
            for i, e in enumerate(jaxpr.eqns)
            if (i in own or _is_view(e)) and not e.effects and not e.primitive.calls
            for v in e.outputs
        }
        self.buffers = [plan.buffers[b] for b in launch.buffers]
        values = (*plan.values, *(None,) * len(plan.buffers))
        # What is patched later is not yet what its equation says.
        patched = {s.buffers[-1] for s in plan.steps if isinstance(s, Patch)}
        self.values = [
            None if op.written and b in patched else values[b]
            for op, b in zip(self.kernel.operands, launch.buffers, strict=True)
        ]

    def written(self, before: Sequence[Array], after: Sequence[Array]) -> list[Array] | None:
        """The operands as the eager rules would leave them; None where they do not tell.

        That is where a kernel reads what no equation of the program computes, or writes a part.

        Args:
            before: The operands as they were, flat.
            after: The operands as the kernel has left them.
        """
        known: dict[Var, Array] = {}
        pairs = list(zip(self.kernel.operands, self.values, self.buffers, strict=True))
        for (op, value, buffer), x in zip(pairs, before, strict=True):
            if value is not None and not op.written:
                known[value] = x.view(buffer.dtype).reshape(value.aval.shape)
        found = list(after)
        for k, (op, value, _) in enumerate(pairs):
            if not op.written:
                continue
            y = None if value is None else self._value(value, known)
            if y is None:
                return None
            if y.dtype.kind == "c":  # of infinite and NaN parts, rules of NumPy differ
                y = np.where(np.isfinite(y), y, after[k].view(y.dtype).reshape(y.shape))
            found[k] = np.ascontiguousarray(y).reshape(-1).view(op.dtype)
        return found

    def _value(self, wanted: Var, known: dict[Var, Array]) -> Array | None:
        """A value, from those that are known."""
        waiting: list[Var] = [wanted]
        while waiting:
            v = waiting[-1]
            eqn = self.made.get(v)
            if v in known:
                waiting.pop()
            elif eqn is None:
                return None
            else:
                missing = [a for a in eqn.inputs if type(a) is Var and a not in known]
                if missing:
                    waiting += missing
                else:
                    _run(eqn, known)
        return known[wanted]


def _is_view(eqn: Eqn) -> bool:
    lower = eqn.primitive.lower
    return isinstance(lower, Lowering) and lower.kind == "view"


def _run(eqn: Eqn, known: dict[Var, Array]) -> None:
    def read(a: Atom) -> Any:
        return a.value if isinstance(a, Literal) else known[a]

    with np.errstate(all="ignore"):
        out = eqn.primitive.eager(np, *map(read, eqn.inputs), **eqn.params)
    outs: Sequence[Any] = out if eqn.primitive.multiple_results else (out,)
    known.update(
        (v, np.asarray(y).astype(v.aval.dtype, copy=False))
        for v, y in zip(eqn.outputs, outs, strict=True)
    )
