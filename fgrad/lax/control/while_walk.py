"""Going back over a while loop from the carries kept along it, on bare buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import Absent, Lowering, Primitive, Value
from fgrad.core.program import compiled_inside, may_compile, run_program
from fgrad.core.tracing import bind
from fgrad.core.transforms.jaxprs import Linearized, derived, linearize_jaxpr
from fgrad.lax.control.programs import (
    LONG,
    Flags,
    carry_fixpoint,
    given,
    program,
    run_alone,
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


def saved_eager(
    prim: Primitive, xp: Any, *args: Any, cond: Jaxpr, body: Jaxpr, **sizes: int
) -> list[Any]:
    """Run a loop, and keep carries along it; `prim` is the primitive whose rule this is."""
    cond_consts, consts, carry = groups(args, **sizes)
    stacks = [xp.zeros((KEPT, *a.shape), a.dtype) for a in body.out_avals]
    spacing, steps = 1, 0
    while bool(run_program(cond, xp, [*cond_consts, *carry])[0]):
        if steps == LONG and may_compile(xp, cond) and may_compile(xp, body):  # from its start
            return run_alone(prim, body, args, {"cond": cond, "body": body, **sizes})
        if steps % spacing == 0:
            if steps == KEPT * spacing:
                for s in stacks:
                    s[: KEPT // 2] = s[::2].copy()
                spacing *= 2
            for s, x in zip(stacks, carry, strict=True):
                s[steps // spacing] = x
        carry = run_program(body, xp, [*consts, *carry])
        steps += 1
    return [*carry, *stacks, xp.asarray(steps, np.int64)]


class PullCut:
    """How a loop is pulled back: programs of a number of steps, which is a power of two.

    Attributes:
        consts: Which constants of the body are differentiated.
        carry: Which carries are.
        linear: The body, cut in two.
        replay: The body without debugging.
    """

    __slots__ = ("_made", "carry", "consts", "linear", "replay")

    def __init__(self, body: Jaxpr, consts: Flags, carry: Flags) -> None:
        self._made: dict[tuple[str, int], Jaxpr] = {}
        self.replay = without_debug(body)
        self.consts = consts
        self.carry = carry_fixpoint(self.replay, consts, carry, (), body.out_avals)
        self.linear: Linearized = linearize_jaxpr(self.replay, (*consts, *self.carry))

    def advance(self, steps: int) -> Jaxpr:
        """(constants, carry) → the carry after some steps."""
        return self._scan("advance", self.replay, steps, len(self.carry))

    def segment(self, steps: int) -> Jaxpr:
        """(constants, cotangents, sums, carry) → cotangents and sums before steps from a carry."""
        n, back = len(self.consts), self.pull(steps)
        kept = len(self.carry)

        def step(*args: Value) -> list[Value]:
            return [*run_inner(self.replay, *args), *args[n:]]

        inner = program(self.replay, ("tracked step",), step, self.replay.in_avals)
        track = self._scan("track", inner, steps, kept)
        fixed = len(back.invars) - kept

        def run(*args: Value) -> list[Value]:
            stacks = run_inner(track, *args[:n], *args[fixed:])[kept:]
            return run_inner(back, *args[:fixed], *stacks)

        avals = [*back.in_avals[:fixed], *self.replay.in_avals[n:]]
        return program(self.replay, ("segment", steps, self.consts, self.carry), run, avals)

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

    def named(self, name: str, steps: int) -> Jaxpr:
        """The program 'advance', 'segment' or 'pull' of a number of steps."""
        found = self._made.get((name, steps))
        if found is None:
            found = self._made[name, steps] = getattr(self, name)(steps)
        return found

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
    params = {"num_cond": num_cond, "num_body": num_body, "needed": needed, "present": present}
    steps = int(args[num_cond + num_body + 2 * len(present)])
    if steps >= LONG and may_compile(xp, body):
        with compiled_inside():
            return _go_back(xp, args, steps, body, **params)  # type: ignore[arg-type]
    return _go_back(xp, args, steps, body, **params)  # type: ignore[arg-type]


def _go_back(
    xp: Any, args: Sequence[Any], steps: int, body: Jaxpr, *, num_cond: int, num_body: int,
    needed: Flags, present: Flags,
) -> list[Any]:  # fmt: skip
    n_k = len(present)
    n_in = num_cond + num_body + n_k
    consts = args[num_cond : num_cond + num_body]
    stacks = args[n_in : n_in + n_k]
    n_cond, n_consts, n_carry = groups(needed, num_cond, num_body)
    key = ("pull cut", n_consts, n_carry)
    cut: PullCut = derived(body, key, lambda: PullCut(body, n_consts, n_carry))
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
        stride = 0  # none: the parts are short enough for a program each
        if steps <= KEPT:
            parts = powers(steps)
        else:
            stride = KEPT
            while stride * KEPT < steps:
                stride *= KEPT
            parts = [min(stride, steps - i) for i in range(0, steps, stride)]
        firsts = [carry]
        for part in parts[:-1]:
            for n in powers(part):
                carry = self._run(self.cut.named("advance", n), carry)
            firsts.append(carry)
        for part in reversed(parts):
            first = firsts.pop()
            if stride:
                self.back(first, part)
            else:
                self._move(self.cut.named("segment", part), first)

    def pull(self, kept: Sequence[Any], steps: int) -> None:
        """Go back over steps whose carries are stacked; their number is a power of two."""
        self._move(self.cut.named("pull", steps), kept)

    def _move(self, jaxpr: Jaxpr, carries: Sequence[Any]) -> None:
        """Run a program that goes back."""
        found = self._run(jaxpr, [*self.cts, *self.sums, *carries])
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
