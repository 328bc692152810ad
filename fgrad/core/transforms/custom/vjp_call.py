"""A call of a function with a reverse rule, and the equation that it becomes."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    FgradError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import (
    Absent,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Value,
)
from fgrad.core.program import run_program
from fgrad.core.tracing import Array, bind, state
from fgrad.core.transforms.custom.jvp_call import JVPCall, batched_rule, forward_program
from fgrad.core.transforms.custom.shared import (
    Deferred,
    Fun,
    Identity,
    Lanes,
    Staging,
    Values,
    check_outputs,
    closed_over,
    custom_batch,
    embedded,
    programs_of,
    split_consts,
    typed,
)
from fgrad.core.transforms.linear import linear_flat
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed


class VJPCall:
    """A call of a function with a reverse rule, over flat values.

    Args:
        owner: Identity of the function.
        fun: ``(*args) -> outs``.
        fwd: ``(*args) -> (outs, residuals)``; residuals that are not arrays are static.
        bwd: ``(residuals, cts) -> cts``: one cotangent (or None) an argument; a cotangent is given
            for every output, those of integers have dtype float0.
        jvp: A forward rule, or None: it follows from `bwd`.
    """

    __slots__ = ("bwd", "fun", "fwd", "jvp", "name", "owner")

    def __init__(
        self, owner: Identity, fun: Fun, fwd: Fun, bwd: Fun, jvp: Fun | None = None
    ) -> None:
        self.owner = owner
        self.name = owner.name
        self.fun = fun
        self.fwd = fwd
        self.bwd = bwd
        self.jvp = jvp

    def rebind(self, args: Values) -> list[Value]:
        """Apply it under the current trace."""
        return state.trace.process_custom_vjp(self, args)

    def closes_over(self, cause: Exception) -> FgradError:
        """The error for a `fwd` that met a tracer of the derivative around it."""
        return closed_over(self.name, cause)

    def backward(
        self, _needed: Any, residuals: Sequence[Any], cts: Sequence[Value | None], _params: Any
    ) -> Sequence[Value | None]:
        """The record's backward half: outputs without a cotangent get zeros."""
        *kept, out_avals = residuals
        full = [
            basis.zeros(a.tangent()) if ct is None else ct
            for ct, a in zip(cts, out_avals, strict=True)
        ]
        around = state.pullback
        if around is not None:
            state.pullback = (around[0], True)
        try:
            return self.bwd(kept, full)  # type: ignore[no-any-return]
        finally:
            state.pullback = around

    def forward(
        self, primals: Values, tangents: Sequence[Value | None]
    ) -> tuple[Sequence[Value], Sequence[Value | None]]:
        """Outputs and tangents: by the given forward rule, or by transposing `bwd`.

        Raises:
            NonlinearPullbackError: `bwd` is not linear in the cotangent.
        """
        primals = [as_value(p) for p in primals]
        if self.jvp is not None:
            return JVPCall(self.owner, self.fun, self.jvp).forward(primals, tangents)
        outs, residuals = self.fwd(*primals)
        outs = [as_value(y) for y in outs]
        inexact = [dtypes.is_inexact(y.dtype) for y in outs]
        active = [t is not None for t in tangents]

        def pull(*cts: Value) -> list[Value]:
            given = iter(cts)
            full = [
                next(given) if i else basis.zeros(y.aval.tangent())
                for y, i in zip(outs, inexact, strict=True)
            ]
            back = self.bwd(residuals, full)
            return [
                basis.instantiate(c, p)
                for c, p, a in zip(back, primals, active, strict=True) if a
            ]  # fmt: skip

        avals = [y.aval.tangent() for y, i in zip(outs, inexact, strict=True) if i]
        _, tape = linear_flat(pull, avals)
        results = iter(tape.backward([t for t in tangents if t is not None], consume=True))
        return outs, [next(results) if i else None for i in inexact]

    def batched(
        self, axis: MappedAxis, values: Values, dims: Sequence[int | None]
    ) -> tuple[list[Value], list[int | None]]:
        """Apply the call of the batched functions."""
        lanes = Lanes(self.owner, axis, dims)
        statics: list[tuple[int, Any]] = []

        def fun(*args: Value) -> list[Value]:
            return lanes.run(self.fun, args, dims)

        def fwd(*args: Value) -> tuple[list[Value], list[Value]]:
            counts = []

            def flat(*inner: Value) -> list[Value]:
                outs, residuals = self.fwd(*inner)
                statics[:] = [(i, r) for i, r in enumerate(residuals) if not isinstance(r, Array)]
                counts.append(len(outs))
                return [*outs, *(r for r in residuals if isinstance(r, Array))]

            results = lanes.run(flat, args, dims)
            return results[: counts[0]], results[counts[0] :]

        def bwd(residuals: Values, cts: Values) -> list[Value | None]:
            n = len(residuals)
            zero: list[bool] = []

            def flat(*inner: Value) -> list[Value]:
                kept = list(inner[:n])
                for i, r in statics:
                    kept.insert(i, r)
                back = self.bwd(kept, inner[n:])
                zero[:] = [c is None for c in back]
                return [c for c in back if c is not None]

            every = [lanes.out_dim] * (n + len(cts))
            given = iter(lanes.run(flat, [*residuals, *cts], every))
            full = [None if z else next(given) for z in zero]
            return [lanes.unbatch(c, d) for c, d in zip(full, dims, strict=True)]

        jvp = None if self.jvp is None else batched_rule(self.jvp, lanes)
        outs = VJPCall(self.owner, fun, fwd, bwd, jvp).rebind(values)
        return outs, [lanes.out_dim] * len(outs)

    def stage(self, _trace: Any, args: Values) -> list[Value]:
        """Write the function and its rules as programs into one equation."""
        values = [as_value(x) for x in args]
        avals = [x.aval for x in values]
        fun, fun_consts = stage_closed(self.fun, avals, self.name)
        if fun.key_uses is not None:
            fun.key_uses.call([*fun_consts, *values], self.name)
        if self.owner in state.rules:
            deferred = Deferred(self.name, lambda: self._rules_with(avals, fun, embedded)[0])
            rules: tuple[Any, ...] = (deferred, deferred, deferred)
            consts: list[list[Value]] = [[], [], []]
        else:
            rules, consts = self._rules_with(
                avals, fun, lambda f, types: stage_closed(f, types, self.name)
            )
        counts = (len(fun_consts), *map(len, consts))
        return bind(  # type: ignore[no-any-return]
            custom_vjp_call_p, *fun_consts, *itertools.chain(*consts), *values,
            fun=fun, fwd=rules[0], bwd=rules[1], jvp=rules[2], counts=counts, name=self.owner,
        )  # fmt: skip

    def _rules_with(
        self, avals: Sequence[ShapedArray], fun: Jaxpr, staged: Fun
    ) -> tuple[tuple[Jaxpr, Jaxpr, Jaxpr | None], list[list[Value]]]:
        """`fwd`, `bwd` and the forward rule, if given, as programs; the constants of each."""
        statics: list[tuple[int, Any]] = []

        def fwd(*flat: Value) -> list[Value]:
            outs, residuals = self.fwd(*flat)
            statics[:] = [(i, r) for i, r in enumerate(residuals) if not isinstance(r, Array)]
            return [*outs, *(r for r in residuals if isinstance(r, Array))]

        def bwd(*flat: Value) -> list[Value]:
            kept: list[Any] = list(flat[: len(residual_avals)])
            for i, r in statics:
                kept.insert(i, r)
            back = self.bwd(kept, flat[len(residual_avals) :])
            return [basis.instantiate(c, x) for c, x in zip(back, typed(avals), strict=True)]

        with Staging(self.owner):
            forward, fwd_consts = staged(fwd, avals)
            check_outputs(self.name, "fwd", forward.out_avals, fun.out_avals)
            residual_avals = forward.out_avals[len(fun.outvars) :]
            ct_avals = [a.tangent() for a in fun.out_avals]
            backward, bwd_consts = staged(bwd, [*residual_avals, *ct_avals])
            push, push_consts = None, []
            if self.jvp is not None:
                both, types = forward_program(JVPCall(self.owner, self.fun, self.jvp), avals)
                push, push_consts = staged(both, types)
                check_outputs(self.name, "jvp", push.out_avals, fun.out_avals)
        return (forward, backward, push), [fwd_consts, bwd_consts, push_consts]


_PROGRAMS = ("fwd", "bwd", "jvp")


def _jvp_rule_of(
    params: dict[str, Any], consts: Values, avals: Sequence[ShapedArray], n_out: int
) -> Fun | None:
    """The forward rule of an equation of `custom_vjp_call`, if it has one."""
    program = programs_of(params, *_PROGRAMS)[2]
    if program is None:
        return None
    inexact = [dtypes.is_inexact(a.dtype) for a in avals]

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        given = [t for t, x in zip(tangents, inexact, strict=True) if x]
        results = eval_jaxpr(program, (), *consts, *primals, *given)
        outs, ts = results[:n_out], iter(results[n_out:])
        return outs, [next(ts) if dtypes.is_inexact(y.dtype) else None for y in outs]

    return rule


def _vjp_call_of(consts: Values, avals: Sequence[ShapedArray], params: dict[str, Any]) -> VJPCall:
    """The call that an equation of `custom_vjp_call` stands for."""
    bounds = list(itertools.accumulate(params["counts"], initial=0))
    fun_consts, fwd_consts, bwd_consts, jvp_consts = (
        consts[a:b] for a, b in itertools.pairwise(bounds)
    )
    n_out = len(params["fun"].outvars)

    def fwd(*args: Value) -> tuple[list[Value], list[Value]]:
        results = eval_jaxpr(programs_of(params, *_PROGRAMS)[0], (), *fwd_consts, *args)
        return results[:n_out], results[n_out:]

    def bwd(residuals: Values, cts: Values) -> list[Value | None]:
        program = programs_of(params, *_PROGRAMS)[1]
        back = eval_jaxpr(program, (), *bwd_consts, *residuals, *cts)
        return [c if dtypes.is_inexact(a.dtype) else None for c, a in zip(back, avals, strict=True)]

    return VJPCall(
        params["name"],
        partial(eval_jaxpr, params["fun"], (), *fun_consts),
        fwd,
        bwd,
        _jvp_rule_of(params, jvp_consts, avals, n_out),
    )


def _vjp_with(consts: Any, avals: Sequence[ShapedArray], params: dict[str, Any]) -> VJPCall:
    """The call; with a number for `consts`, they come as leading arguments without derivative."""
    if not isinstance(consts, int):
        return _vjp_call_of(consts, avals, params)
    n = consts

    def of(args: Values) -> VJPCall:
        return _vjp_call_of(args[:n], avals[n:], params)

    def fwd(*args: Value) -> tuple[list[Value], list[Value]]:
        outs, residuals = of(args).fwd(*args[n:])
        return outs, [*args[:n], *residuals]

    def bwd(residuals: Values, cts: Values) -> list[Value | None]:
        return [*[None] * n, *of(residuals).bwd(residuals[n:], cts)]

    def jvp(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        rule = of(primals).jvp
        assert rule is not None
        return rule(primals[n:], tangents[n:])  # type: ignore[no-any-return]

    given = programs_of(params, *_PROGRAMS)[2] is not None
    return VJPCall(
        params["name"], lambda *args: of(args).fun(*args[n:]), fwd, bwd, jvp if given else None
    )


def _custom_vjp_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[Sequence[Value], Sequence[Value | None]]:
    consts, args, const_ts, ts = split_consts(primals, tangents, params)
    if any(t is not None for t in const_ts):
        raise closed_over(params["name"].name)
    return _vjp_call_of(consts, [x.aval for x in args], params).forward(args, ts)


def _custom_vjp_fwd(
    needed: tuple[bool, ...], primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    consts, args, const_needed, _ = split_consts(primals, needed, params)
    if any(const_needed):
        raise closed_over(params["name"].name)
    call = _vjp_call_of(consts, [x.aval for x in args], params)
    outs, residuals = call.fwd(*args)
    # The constants are needed again by `bwd`: they are residuals like the others.
    return outs, (*consts, *residuals, [y.aval for y in outs], [x.aval for x in args])


def _custom_vjp_bwd(
    _needed: tuple[bool, ...], residuals: Sequence[Any], cts: Sequence[Value | None],
    params: dict[str, Any],
) -> list[Value | None]:  # fmt: skip
    *kept, out_avals, in_avals = residuals
    n = sum(params["counts"])
    call = _vjp_call_of(kept[:n], in_avals, params)
    return [*[None] * n, *call.backward((), [*kept[n:], out_avals], cts, {})]


custom_vjp_call_p = Primitive(
    "custom_vjp_call",
    "A function with a reverse rule of the user's.",
    abstract=lambda *_avals, fun, **_params: fun.out_avals,
    eager=lambda xp, *arrays, fun, counts, **_params: run_program(
        fun, xp, [*arrays[: counts[0]], *arrays[sum(counts) :]]
    ),
    jvp=_custom_vjp_jvp,
    transpose=Absent("its rule's program is transposed, not the call"),
    vjp=Pullback(_custom_vjp_fwd, _custom_vjp_bwd),
    batch=custom_batch(lambda consts, avals, params: _vjp_with(consts, avals, params)),
    lower=Lowering("call", "fun"),
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)
