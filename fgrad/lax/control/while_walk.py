"""Going back over a while loop from the carries kept along it, on bare buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Lowering, Primitive, Value
from fgrad.core.program import run_program
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import Linearized, linearize_jaxpr
from fgrad.lax.control.programs import (
    Flags,
    carry_fixpoint,
    given,
    program,
    run_inner,
    spread,
    without_debug,
)
from fgrad.lax.control.scan import scan_p
from fgrad.lax.control.while_shared import groups

KEPT = 64  # carries kept along a loop; even, since every second one is dropped when all are taken


def spacing_of(steps: int) -> int:
    """The distance between kept carries of a loop of that many steps."""
    spacing = 1
    while steps > KEPT * spacing:
        spacing *= 2
    return spacing


def powers(steps: int) -> list[int]:
    """Powers of two that add up to a number of steps, largest first."""
    return [1 << i for i in reversed(range(steps.bit_length())) if steps >> i & 1]


class PullCut:
    """How a loop is pulled back: programs of a number of steps, which is a power of two.

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

    def advance(self, steps: int) -> Jaxpr:
        """(constants, carry) → the carry after some steps."""
        return self._scan("advance", self.replay, steps, len(self.carry))

    def track(self, steps: int) -> Jaxpr:
        """(constants, carry) → the carry after some steps, and those before each, stacked."""
        n = len(self.consts)

        def step(*args: Value) -> list[Value]:
            return [*run_inner(self.replay, *args), *args[n:]]

        inner = program(self.replay, ("tracked step",), step, self.replay.in_avals)
        return self._scan("track", inner, steps, len(self.carry))

    def pull(self, steps: int) -> Jaxpr:
        """(constants, cotangents, sums, stacked carries) → cotangents and sums before the steps.

        Cotangents are those of the carries that are differentiated; sums are those of the
        constants, added up.
        """
        n, linear, replay = len(self.consts), self.linear, self.replay
        n_cts = sum(self.carry)
        sums = given(replay.in_avals[:n], self.consts)

        def step(*args: Value) -> list[Value]:
            consts, cts = args[:n], args[n : n + n_cts]
            old, carry = args[n + n_cts : n + n_cts + len(sums)], args[n + n_cts + len(sums) :]
            results = run_inner(linear.forward, *consts, *carry)
            full = spread(cts, self.carry)
            active = [ct for ct, on in zip(full, linear.active, strict=True) if on]
            back = run_inner(linear.backward, *results[len(carry) :], *active)
            more = [basis.add_any(a, b) for a, b in zip(old, back, strict=False)]
            return [*back[len(sums) :], *more]

        avals = [
            *replay.in_avals[:n],
            *(a.tangent() for a in (*given(replay.out_avals, self.carry), *sums)),
            *replay.in_avals[n:],
        ]
        inner = program(replay, ("pulled step", self.consts, self.carry), step, avals)
        return self._scan("pull", inner, steps, n_cts + len(sums))

    def _scan(self, name: str, inner: Jaxpr, steps: int, num_carry: int) -> Jaxpr:
        """A scan of a program over some steps, as a program; 'pull' goes back."""
        fixed = len(self.consts) + num_carry
        avals = [
            *inner.in_avals[:fixed],
            *(a.update(shape=(steps, *a.shape)) for a in inner.in_avals[fixed:]),
        ]

        def run(*args: Value) -> list[Value]:
            return bind(  # type: ignore[no-any-return]
                scan_p, *args, jaxpr=inner, length=steps, reverse=name == "pull",
                num_consts=len(self.consts), num_carry=num_carry, unroll=1,
            )  # fmt: skip

        return program(inner, (name, steps, num_carry), run, avals)


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
    if spacing == 1:  # every carry was kept
        stop = steps
        for n in reversed(powers(steps)):
            walk.pull([s[stop - n : stop] for s in stacks], n)
            stop -= n
    for slot in reversed(range(-(-steps // spacing) if spacing > 1 else 0)):
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
        if steps <= KEPT:
            stacks = []
            for n in powers(steps):
                found = self._run(self.cut.track(n), carry)
                carry = found[: len(carry)]
                stacks.append((n, found[len(carry) :]))
            for n, kept in reversed(stacks):
                self.pull(kept, n)
            return
        stride = -(-steps // KEPT)
        firsts = []
        for i in range(0, steps, stride):
            firsts.append(carry)
            if i + stride < steps:
                for n in powers(stride):
                    carry = self._run(self.cut.advance(n), carry)
        for i in reversed(range(len(firsts))):
            self.back(firsts.pop(), min(stride, steps - i * stride))

    def pull(self, kept: Sequence[Any], steps: int) -> None:
        """Go back over steps whose carries are stacked; their number is a power of two."""
        found = self._run(self.cut.pull(steps), [*self.cts, *self.sums, *kept])
        self.cts, self.sums = found[: len(self.cts)], found[len(self.cts) :]

    def _run(self, jaxpr: Jaxpr, args: Sequence[Any]) -> list[Any]:
        return run_program(jaxpr, self.xp, [*self.consts, *args])


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
