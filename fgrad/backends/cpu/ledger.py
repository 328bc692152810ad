"""Whether memory still holds what was written there, for `config.check`."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fgrad.backends.cpu.nested import is_host
from fgrad.compile.plan import (
    Library,
    Plan,
    Step,
    View,
    is_check,
    launches_of,
    reads_of,
    writes_of,
)
from fgrad.compile.run_plan import seen
from fgrad.core.errors import KernelMismatchError
from fgrad.core.ir import Jaxpr

Launcher = Callable[..., Any]


class _Kept(threading.local):
    """Of this thread: what the buffers of the call that runs now should hold, flat."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}


class Ledger:
    """Copies of what the steps of a program write, compared with what later steps read.

    Steps that eager rules compute are not seen: what they return is theirs.

    Args:
        plan: The steps.
        jaxpr: The program that they come from.
    """

    def __init__(self, plan: Plan, jaxpr: Jaxpr) -> None:
        self.plan, self.jaxpr = plan, jaxpr
        self.local = _Kept()
        self.first = self.last = -1
        # A function of the user's may call the program again, in the middle of a call.
        self.open = not any(
            isinstance(s, Library) and is_host(s.eqn) and not is_check(s) for s in plan.steps
        )

    def guarded(self, call: Launcher, number: int) -> Launcher:
        """A function like `call`, which runs a step, that looks at what it reads first.

        Args:
            call: Takes the operands of the step, then its results, then scratch memory.
            number: The position of the step; steps are given in order.
        """
        if not self.open:
            return call
        if self.first < 0:
            self.first = number
        self.last = number
        step = self.plan.steps[number]
        shown = _shown(step)
        reads, writes = reads_of(step), writes_of(step)

        def run(*arrays: Any) -> Any:
            if number == self.first:
                self.local.values.clear()
            kept = self.local.values
            for view, x in zip(shown, arrays, strict=False):
                b = view.buffer if isinstance(view, View) else view
                if b is None or b not in kept or b not in reads or b in writes:
                    continue
                want = seen(view, kept) if isinstance(view, View) else kept[b]
                if _bytes(x) != _bytes(want):
                    raise self._overwritten(number, b)
            result = call(*arrays)
            for view, x in zip(shown, arrays, strict=False):
                if view in writes:
                    kept[view] = np.array(x).reshape(-1)
            if number == self.last:
                kept.clear()
            return result

        return run

    def _overwritten(self, number: int, b: int) -> KernelMismatchError:
        maker = next(i for i, s in enumerate(self.plan.steps) if b in writes_of(s))
        step = self.plan.steps[maker]
        eqns = [step.eqn] if isinstance(step, Library) else [
            self.jaxpr.eqns[i] for launch in launches_of(step) for i in launch.kernel.eqns
        ]  # fmt: skip
        lines = "".join(f"\n  {e!r}  at {e.source}" for e in eqns)
        buffer = self.plan.buffers[b]
        return KernelMismatchError(
            f"step {number} reads {buffer.dtype.name}{list(buffer.shape)} that step {maker} wrote, "
            f"and that something has overwritten since; its equations are{lines}"
        )


def _shown(step: Step) -> list[Any]:
    """For each array of a step the buffer, or the view of one, that it shows; None of constants."""
    if isinstance(step, Library):
        return [*(v if isinstance(v, View) else None for v in step.inputs), *step.outputs]
    return [b for launch in launches_of(step) for b in launch.buffers]


def _bytes(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()
