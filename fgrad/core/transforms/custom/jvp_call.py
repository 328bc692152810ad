"""A call of a function with a forward rule, and the equation that it becomes."""

from collections.abc import Sequence
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
    Value,
)
from fgrad.core.program import run_program
from fgrad.core.tracing import bind, state
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
    programs_of,
    split_consts,
)
from fgrad.core.transforms.jaxprs import stage_derived
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed


class JVPCall:
    """A call of a function with a forward rule, over flat values.

    Args:
        owner: Identity of the function.
        fun: ``(*args) -> outs``.
        rule: ``(primals, tangents) -> (outs, tangents)``, every tangent given; those of integers
            have dtype float0.
    """

    __slots__ = ("fun", "name", "owner", "rule")

    def __init__(self, owner: Identity, fun: Fun, rule: Fun) -> None:
        self.owner = owner
        self.name = owner.name
        self.fun = fun
        self.rule = rule

    def rebind(self, args: Values) -> list[Value]:
        """Apply it under the current trace."""
        return state.trace.process_custom_jvp(self, args)

    def closes_over(self, cause: Exception) -> FgradError:
        """The error for a rule that met a tracer of the derivative around it."""
        return closed_over(self.name, cause)

    def forward(
        self, primals: Values, tangents: Sequence[Value | None]
    ) -> tuple[Sequence[Value], Sequence[Value | None]]:
        """Outputs and tangents by the user's rule."""
        primals = [as_value(p) for p in primals]
        full = [basis.instantiate(t, p) for t, p in zip(tangents, primals, strict=True)]
        outs, out_tangents = self.rule(primals, full)
        return outs, [
            t if dtypes.is_inexact(y.dtype) else None
            for t, y in zip(out_tangents, outs, strict=True)
        ]

    def batched(
        self, axis: MappedAxis, values: Values, dims: Sequence[int | None]
    ) -> tuple[list[Value], list[int | None]]:
        """Apply the call of the batched function and rule."""
        lanes = Lanes(self.owner, axis, dims)

        def fun(*args: Value) -> list[Value]:
            return lanes.run(self.fun, args, dims)

        outs = JVPCall(self.owner, fun, batched_rule(self.rule, lanes)).rebind(values)
        return outs, [lanes.out_dim] * len(outs)

    def _staged(self, rule: Fun, types: Sequence[ShapedArray]) -> Jaxpr:
        with Staging(self.owner):
            return stage_derived(rule, types)

    def stage(self, _trace: Any, args: Values) -> list[Value]:
        """Write function and rule as programs into one equation."""
        values = [as_value(x) for x in args]
        avals = [x.aval for x in values]
        fun, fun_consts = stage_closed(self.fun, avals, self.name)
        if fun.key_uses is not None:
            fun.key_uses.call([*fun_consts, *values], self.name)
        both, types = forward_program(self, avals)
        rule: Any
        if self.owner in state.rules:
            rule_consts: list[Value] = []
            rule = Deferred(self.name, lambda: (self._staged(both, types),))
        else:
            with Staging(self.owner):
                rule, rule_consts = stage_closed(both, types, self.name)
            check_outputs(self.name, "jvp", rule.out_avals, fun.out_avals)
        return bind(  # type: ignore[no-any-return]
            custom_jvp_call_p, *fun_consts, *rule_consts, *values,
            fun=fun, rule=rule, counts=(len(fun_consts), len(rule_consts)), name=self.owner,
        )  # fmt: skip


def batched_rule(rule: Fun, lanes: Lanes) -> Fun:
    """The forward rule of the batched function, from that of one lane."""
    n = len(lanes.dims)

    def batched(primals: Values, tangents: Values) -> tuple[Values, Values]:
        def both(*args: Value) -> list[Value]:
            outs, out_tangents = rule(args[:n], args[n:])
            return [*outs, *(basis.instantiate(t, y) for t, y in
                             zip(out_tangents, outs, strict=True))]  # fmt: skip

        # A tangent is mapped where its primal is; it is never the same for all otherwise.
        args = [lanes.spread(x, d) for xs in (primals, tangents)
                for x, d in zip(xs, lanes.dims, strict=True)]  # fmt: skip
        results = lanes.run(both, args, [lanes.out_dim] * (2 * n))
        return results[: len(results) // 2], results[len(results) // 2 :]

    return batched


def forward_program(call: "JVPCall", avals: Sequence[ShapedArray]) -> tuple[Fun, list[ShapedArray]]:
    """The forward rule over flat values: primals and inexact tangents → outputs and tangents."""
    n = len(avals)

    def both(*flat: Value) -> list[Value]:
        given = iter(flat[n:])
        tangents = [next(given) if dtypes.is_inexact(a.dtype) else None for a in avals]
        outs, out_tangents = call.forward(flat[:n], tangents)
        return [*outs, *(basis.instantiate(t, y) for t, y in
                         zip(out_tangents, outs, strict=True)
                         if dtypes.is_inexact(y.dtype))]  # fmt: skip

    return both, [*avals, *(a.tangent() for a in avals if dtypes.is_inexact(a.dtype))]


def _jvp_call_of(consts: Values, avals: Sequence[ShapedArray], params: dict[str, Any]) -> JVPCall:
    """The call that an equation of `custom_jvp_call` stands for."""
    n_fun, _ = params["counts"]
    fun_jaxpr = params["fun"]
    n_out = len(fun_jaxpr.outvars)
    inexact = [dtypes.is_inexact(a.dtype) for a in avals]

    def fun(*args: Value) -> list[Value]:
        return eval_jaxpr(fun_jaxpr, (), *consts[:n_fun], *args)

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        given = [t for t, x in zip(tangents, inexact, strict=True) if x]
        (program,) = programs_of(params, "rule")
        results = eval_jaxpr(program, (), *consts[n_fun:], *primals, *given)
        ts = iter(results[n_out:])
        outs = results[:n_out]
        return outs, [next(ts) if dtypes.is_inexact(y.dtype) else None for y in outs]

    return JVPCall(params["name"], fun, rule)


def _custom_jvp_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[Sequence[Value], Sequence[Value | None]]:
    consts, args, const_ts, ts = split_consts(primals, tangents, params)
    if any(t is not None for t in const_ts):
        raise closed_over(params["name"].name)
    return _jvp_call_of(consts, [x.aval for x in args], params).forward(args, ts)


custom_jvp_call_p = Primitive(
    "custom_jvp_call",
    "A function with a forward rule of the user's.",
    abstract=lambda *_avals, fun, **_params: fun.out_avals,
    eager=lambda xp, *arrays, fun, counts, **_params: run_program(
        fun, xp, [*arrays[: counts[0]], *arrays[sum(counts) :]]
    ),
    jvp=_custom_jvp_jvp,
    transpose=Absent("its rule's program is transposed, not the call"),
    batch=custom_batch(lambda consts, avals, params: _jvp_with(consts, avals, params)),
    lower=Lowering("call", "fun"),
    multiple_results=True,
    calls=True,
    spec=Absent("it holds programs: tests/laws/test_calls.py checks functions that use it"),
)


def _jvp_with(consts: Any, avals: Sequence[ShapedArray], params: dict[str, Any]) -> JVPCall:
    """The call; with a number for `consts`, they come as leading arguments without derivative."""
    if not isinstance(consts, int):
        return _jvp_call_of(consts, avals, params)
    n = consts

    def fun(*args: Value) -> list[Value]:
        return _jvp_call_of(args[:n], avals[n:], params).fun(*args[n:])  # type: ignore[no-any-return]

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        return _jvp_call_of(primals[:n], avals[n:], params).rule(primals[n:], tangents[n:])  # type: ignore[no-any-return]

    return JVPCall(params["name"], fun, rule)
