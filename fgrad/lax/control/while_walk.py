"""Going back over a while loop from the carries kept along it, on bare buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Lowering, Primitive
from fgrad.core.program import run_program
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import Linearized, linearize_jaxpr
from fgrad.lax.control.programs import Flags, carry_fixpoint, given, spread, without_debug
from fgrad.lax.control.while_shared import groups

KEPT = 64  # carries kept along a loop; even, since every second one is dropped when all are taken


def spacing_of(steps: int) -> int:
    """The distance between kept carries of a loop of that many steps."""
    spacing = 1
    while steps > KEPT * spacing:
        spacing *= 2
    return spacing


class PullCut:
    """How one step of a loop is pulled back.

    Attributes:
        consts: Which constants of the body are differentiated.
        carry: Which carries are.
        linear: The body, cut in two.
        replay: The body without debugging.
    """

    __slots__ = ("carry", "consts", "linear", "replay")

    def __init__(self, body: Jaxpr, consts: Flags, carry: Flags) -> None:
        self.replay = without_debug(body)
        self.consts = consts
        self.carry = carry_fixpoint(self.replay, consts, carry, (), body.out_avals)
        self.linear: Linearized = linearize_jaxpr(self.replay, (*consts, *self.carry))


def pull_abstract(
    *avals: ShapedArray, num_cond: int, num_body: int, needed: Flags, present: Flags, **_params: Any
) -> list[ShapedArray]:
    """Types of the cotangents of the operands that are differentiated."""
    return [a.tangent() for a in given(avals[: len(needed)], needed)]


def pull_eager(
    xp: Any, *args: Any, cond: Jaxpr, body: Jaxpr, num_cond: int, num_body: int, needed: Flags,
    present: Flags,
) -> list[Any]:  # fmt: skip
    """Go back over a loop: one segment between two kept carries after another."""
    n_k = len(present)
    n_in = num_cond + num_body + n_k
    consts = args[num_cond : num_cond + num_body]
    stacks, steps = args[n_in : n_in + n_k], int(args[n_in + n_k])
    n_cond, n_consts, n_carry = groups(needed, num_cond, num_body)
    cut = PullCut(body, n_consts, n_carry)
    avals = body.out_avals
    full = spread(args[n_in + n_k + 1 :], present)
    cts = [
        xp.zeros(a.shape, a.tangent().dtype) if ct is None else ct
        for a, ct in zip(avals, full, strict=True)
    ]
    walk = _Walk(xp, cut, consts, given(cts, cut.carry), given(body.in_avals[:num_body], n_consts))
    spacing = spacing_of(steps)
    for slot in reversed(range(-(-steps // spacing))):
        start = slot * spacing
        walk.back([s[slot, ...] for s in stacks], min(spacing, steps - start))
    ignored = [
        xp.zeros(a.shape, a.dtype) for a, n in zip(args[:num_cond], n_cond, strict=True) if n
    ]
    d_carry = spread(walk.cts, cut.carry)
    return [*ignored, *walk.sums, *given(d_carry, n_carry)]


class _Walk:
    """A walk from the end of a loop to its start, over bare buffers.

    Attributes:
        cts: Cotangents of the carries that are differentiated, where the walk stands.
        sums: Cotangents of the constants, added up so far.
    """

    __slots__ = ("consts", "cts", "cut", "sums", "xp")

    def __init__(
        self, xp: Any, cut: PullCut, consts: Sequence[Any], cts: list[Any],
        const_avals: Sequence[ShapedArray],
    ) -> None:  # fmt: skip
        self.xp = xp
        self.cut = cut
        self.consts = consts
        self.cts = cts
        self.sums = [xp.zeros(a.shape, a.dtype) for a in const_avals]

    def back(self, carry: list[Any], steps: int) -> None:
        """Go back over the `steps` steps that start with `carry`."""
        if steps == 1:
            self.pull(carry)
            return
        stride = -(-steps // KEPT)
        kept = []
        for i in range(0, steps, stride):
            kept.append(carry)
            if i + stride < steps:
                for _ in range(stride):
                    carry = run_program(self.cut.replay, self.xp, [*self.consts, *carry])
        for i in reversed(range(len(kept))):
            self.back(kept.pop(), min(stride, steps - i * stride))

    def pull(self, carry: list[Any]) -> None:
        """Go back over one step."""
        cut, linear = self.cut, self.cut.linear
        n = len(carry)
        results = run_program(linear.forward, self.xp, [*self.consts, *carry])
        full = spread(self.cts, cut.carry)
        active = [ct for ct, on in zip(full, linear.active, strict=True) if on]
        back = run_program(linear.backward, self.xp, [*results[n:], *active])
        k = len(self.sums)
        for i, ct in enumerate(back[:k]):
            self.sums[i] = self.sums[i] + ct
        self.cts = back[k:]


def _steps_eager(xp: Any, steps: Any) -> Any:
    taken = np.unique(np.asarray(steps.get() if hasattr(steps, "get") else steps))
    taken = taken[taken > 0]
    if len(taken) > 1:
        raise ArgumentError(
            f"pullbacks of while loops of different lengths ({', '.join(map(str, taken))} steps) "
            f"cannot be mapped over together; call each by itself, or map over the whole of vjp"
        )
    return xp.asarray(taken[0] if len(taken) else 0, np.int64)


steps_of_all_p: Primitive = Primitive(
    "steps_of_all",
    "The number of steps of a batch of loops, which ran as one.",
    abstract=lambda steps: ShapedArray((), steps.dtype),
    eager=_steps_eager,
    jvp=Absent("a count"),
    transpose=Absent("a count"),
    vjp=Absent("a count"),
    batch=lambda _axis, args, _dims: (bind(steps_of_all_p, *args), None),
    lower=Lowering("library", "steps_of_all"),
    differentiable=False,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
