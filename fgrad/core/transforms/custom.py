"""Functions with derivative rules of the user's: custom_jvp and custom_vjp.

A call travels as an object that each trace treats in its own way (`Trace.process_custom_vjp`):
evaluation runs the function, forward mode the forward rule, reverse mode `fwd` and later `bwd`,
batching makes a call of batched functions, and staging writes all of them as programs into one
equation, with closed-over values as operands, so that nothing leaks and the program stays data.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    ClosedOverDifferentiationError,
    CustomRuleError,
    FgradError,
    UnexpectedTracerError,
)
from fgrad.core.ir import Jaxpr
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import (
    Absent,
    Lowering,
    MappedAxis,
    Primitive,
    Pullback,
    Value,
)
from fgrad.core.program import run_program
from fgrad.core.tracing import Array, bind, entering, state
from fgrad.core.transforms.batch import batch_to
from fgrad.core.transforms.grad import name_of
from fgrad.core.transforms.jaxprs import stage_derived
from fgrad.core.transforms.linearize import linear_flat
from fgrad.core.transforms.stage import eval_jaxpr, stage_closed
from fgrad.core.where import user_lines

Fun = Callable[..., Any]
Values = Sequence[Value]


def closed_over(name: str, cause: Exception | None = None) -> ClosedOverDifferentiationError:
    """The error for a rule's function that closes over what is differentiated."""
    tail = f" ({str(cause).splitlines()[0]})" if cause is not None else ""
    return ClosedOverDifferentiationError(
        f"{name} has a derivative rule of its own and closes over a value that is being "
        f"differentiated, for which the rule gives nothing; pass the value as an argument, or wrap "
        f"it in stop_gradient{tail}"
    )


class Identity:
    """A function with rules, as the equations of its calls name it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Deferred:
    """Rules of a call that stands inside its own function's rule, staged when they are needed.

    ``return f(x), x`` is the usual forward rule: staging it at once would never end.
    """

    __slots__ = ("_made", "name", "make")

    def __init__(self, name: str, make: Callable[[], tuple[Jaxpr, ...]]) -> None:
        self.name = name
        self.make = make
        self._made: tuple[Jaxpr, ...] | None = None

    def get(self) -> tuple[Jaxpr, ...]:
        """The rules as closed programs."""
        if self._made is None:
            try:
                self._made = self.make()
            except UnexpectedTracerError as error:
                raise closed_over(self.name, error) from error
        return self._made

    def __repr__(self) -> str:
        return "<deferred>"


class _Staging:
    """Inside, calls of `owner` defer their rules."""

    __slots__ = ("before", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner

    def __enter__(self) -> None:
        self.before = state.rules
        state.rules = (*self.before, self.owner)

    def __exit__(self, *_exception: object) -> None:
        state.rules = self.before


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
        """Apply the call of the batched function and rule; every output is mapped."""

        def fun(*args: Value) -> list[Value]:
            return batch_to(self.fun, axis, args, dims)

        outs = JVPCall(self.owner, fun, _batched_rule(self.rule, axis, dims)).rebind(values)
        return outs, [0] * len(outs)

    def _staged(self, rule: Fun, types: Sequence[ShapedArray]) -> Jaxpr:
        with _Staging(self.owner):
            return stage_derived(rule, types)

    def stage(self, _trace: Any, args: Values) -> list[Value]:
        """Write function and rule as programs into one equation."""
        values = [as_value(x) for x in args]
        avals = [x.aval for x in values]
        fun, fun_consts = stage_closed(self.fun, avals, self.name)
        both, types = _forward_program(self, avals)
        rule: Any
        if self.owner in state.rules:
            rule_consts: list[Value] = []
            rule = Deferred(self.name, lambda: (self._staged(both, types),))
        else:
            with _Staging(self.owner):
                rule, rule_consts = stage_closed(both, types, self.name)
            _check_outputs(self.name, "jvp", rule.out_avals, fun)
        return bind(  # type: ignore[no-any-return]
            custom_jvp_call_p, *fun_consts, *rule_consts, *values,
            fun=fun, rule=rule, counts=(len(fun_consts), len(rule_consts)), name=self.owner,
        )  # fmt: skip


def _batched_rule(rule: Fun, axis: MappedAxis, dims: Sequence[int | None]) -> Fun:
    """The forward rule of the batched function, from that of one element."""
    n = len(dims)

    def batched(primals: Values, tangents: Values) -> tuple[Values, Values]:
        def both(*args: Value) -> list[Value]:
            outs, out_tangents = rule(args[:n], args[n:])
            return [*outs, *(basis.instantiate(t, y) for t, y in
                             zip(out_tangents, outs, strict=True))]  # fmt: skip

        # A tangent is mapped where its primal is; it is never the same for all otherwise.
        mapped = [basis.lead(x, d, axis.size) for x, d in zip(primals, dims, strict=True)]
        moved = [basis.lead(t, d, axis.size) for t, d in zip(tangents, dims, strict=True)]
        results = batch_to(both, axis, [*mapped, *moved], [0] * (2 * n))
        return results[: len(results) // 2], results[len(results) // 2 :]

    return batched


def _forward_program(call: "JVPCall", avals: Sequence[ShapedArray]) -> tuple[Fun, list[ShapedArray]]:
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


def _check_outputs(name: str, rule: str, got: Sequence[ShapedArray], fun: Jaxpr) -> None:
    """A rule returns outputs of the types that the function returns."""
    want = fun.out_avals
    for g, w in zip(got[: len(want)], want, strict=True):
        if g.shape != w.shape or g.dtype != w.dtype:
            raise CustomRuleError(
                f"the {rule} rule of {name} returned an output {g}, the function {w}: shape and "
                f"dtype must be the same"
            )


def _rules(params: dict[str, Any], *names: str) -> tuple[Jaxpr, ...]:
    """The programs of an equation's rules."""
    first = params[names[0]]
    return first.get() if isinstance(first, Deferred) else tuple(params[n] for n in names)


def _jvp_call_of(
    consts: Values, avals: Sequence[ShapedArray], params: dict[str, Any]
) -> JVPCall:
    """The call that an equation of `custom_jvp_call` stands for."""
    n_fun, _ = params["counts"]
    fun_jaxpr = params["fun"]
    n_out = len(fun_jaxpr.outvars)
    inexact = [dtypes.is_inexact(a.dtype) for a in avals]

    def fun(*args: Value) -> list[Value]:
        return eval_jaxpr(fun_jaxpr, (), *consts[:n_fun], *args)

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        given = [t for t, x in zip(tangents, inexact, strict=True) if x]
        (program,) = _rules(params, "rule")
        results = eval_jaxpr(program, (), *consts[n_fun:], *primals, *given)
        ts = iter(results[n_out:])
        outs = results[:n_out]
        return outs, [next(ts) if dtypes.is_inexact(y.dtype) else None for y in outs]

    return JVPCall(params["name"], fun, rule)


def _split_consts(
    args: Values, flags: Sequence[Any], params: dict[str, Any]
) -> tuple[Values, Values, Sequence[Any], Sequence[Any]]:
    n = sum(params["counts"])
    return args[:n], args[n:], flags[:n], flags[n:]


def _custom_jvp_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[Sequence[Value], Sequence[Value | None]]:
    consts, args, const_ts, ts = _split_consts(primals, tangents, params)
    if any(t is not None for t in const_ts):
        raise closed_over(params["name"].name)
    return _jvp_call_of(consts, [x.aval for x in args], params).forward(args, ts)


def _custom_batch(make: Callable[..., Any]) -> Any:
    def batch(
        axis: MappedAxis, values: Values, dims: Sequence[int | None], **params: Any
    ) -> tuple[Values, Sequence[int | None]]:
        consts, args, const_dims, arg_dims = _split_consts(values, dims, params)
        if any(d is not None for d in const_dims):
            # Mapped closed-over values become arguments that have no derivative.
            return _batch_with_consts(make, axis, values, dims, params)
        avals = [_element(x, d) for x, d in zip(args, arg_dims, strict=True)]
        return make(consts, avals, params).batched(axis, args, arg_dims)  # type: ignore[no-any-return]

    return batch


def _element(x: Value, dim: int | None) -> ShapedArray:
    a: ShapedArray = x.aval
    return a if dim is None else a.update(shape=a.shape[:dim] + a.shape[dim + 1 :])


def _batch_with_consts(
    make: Callable[..., Any], axis: MappedAxis, values: Values, dims: Sequence[int | None],
    params: dict[str, Any],
) -> tuple[Values, Sequence[int | None]]:  # fmt: skip
    avals = [_element(x, d) for x, d in zip(values, dims, strict=True)]
    n = sum(params["counts"])
    return make(n, avals, params).batched(axis, values, dims)  # type: ignore[no-any-return]


custom_jvp_call_p = Primitive(
    "custom_jvp_call",
    "A function with a forward rule of the user's.",
    abstract=lambda *_avals, fun, **_params: fun.out_avals,
    eager=lambda xp, *arrays, fun, counts, **_params: run_program(
        fun, xp, [*arrays[: counts[0]], *arrays[sum(counts) :]]
    ),
    jvp=_custom_jvp_jvp,
    transpose=Absent("its rule's program is transposed, not the call"),
    batch=_custom_batch(lambda consts, avals, params: _jvp_with(consts, avals, params)),
    lower=Lowering("call", "fun"),
    multiple_results=True,
    calls=True,
)


def _jvp_with(consts: Any, avals: Sequence[ShapedArray], params: dict[str, Any]) -> JVPCall:
    """The call; with a number for `consts`, they come as leading arguments without derivative."""
    if not isinstance(consts, int):
        return _jvp_call_of(consts, avals, params)
    n = consts

    def fun(*args: Value) -> list[Value]:
        return _jvp_call_of(args[:n], avals[n:], params).fun(*args[n:])

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        return _jvp_call_of(primals[:n], avals[n:], params).rule(primals[n:], tangents[n:])  # type: ignore[no-any-return]

    return JVPCall(params["name"], fun, rule)


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
        return self.bwd(kept, full)  # type: ignore[no-any-return]

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
        """Apply the call of the batched functions; every output is mapped."""
        statics: list[tuple[int, Any]] = []

        def fun(*args: Value) -> list[Value]:
            return batch_to(self.fun, axis, args, dims)

        def fwd(*args: Value) -> tuple[list[Value], list[Value]]:
            counts = []

            def flat(*inner: Value) -> list[Value]:
                outs, residuals = self.fwd(*inner)
                statics[:] = [
                    (i, r) for i, r in enumerate(residuals) if not isinstance(r, Array)
                ]
                counts.append(len(outs))
                return [*outs, *(r for r in residuals if isinstance(r, Array))]

            results = batch_to(flat, axis, args, dims)
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

            given = iter(batch_to(flat, axis, [*residuals, *cts], [0] * (n + len(cts))))
            full = [None if z else next(given) for z in zero]
            return [_unbatch(c, d) for c, d in zip(full, dims, strict=True)]

        jvp = None if self.jvp is None else _batched_rule(self.jvp, axis, dims)
        outs = VJPCall(self.owner, fun, fwd, bwd, jvp).rebind(values)
        return outs, [0] * len(outs)

    def stage(self, _trace: Any, args: Values) -> list[Value]:
        """Write the function and its rules as programs into one equation."""
        values = [as_value(x) for x in args]
        avals = [x.aval for x in values]
        fun, fun_consts = stage_closed(self.fun, avals, self.name)
        if self.owner in state.rules:
            deferred = Deferred(self.name, lambda: self._rules_with(avals, fun, _embedded)[0])
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
            return [basis.instantiate(c, x) for c, x in zip(back, _like(avals), strict=True)]

        with _Staging(self.owner):
            forward, fwd_consts = staged(fwd, avals)
            _check_outputs(self.name, "fwd", forward.out_avals, fun)
            residual_avals = forward.out_avals[len(fun.outvars) :]
            ct_avals = [a.tangent() for a in fun.out_avals]
            backward, bwd_consts = staged(bwd, [*residual_avals, *ct_avals])
            push, push_consts = None, []
            if self.jvp is not None:
                both, types = _forward_program(JVPCall(self.owner, self.fun, self.jvp), avals)
                push, push_consts = staged(both, types)
                _check_outputs(self.name, "jvp", push.out_avals, fun)
        return (forward, backward, push), [fwd_consts, bwd_consts, push_consts]


def _embedded(f: Fun, types: Sequence[ShapedArray]) -> tuple[Jaxpr, list[Value]]:
    return stage_derived(f, types), []


class _Typed:
    """Something with a type and no value, to make zeros like."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval


def _like(avals: Sequence[ShapedArray]) -> list[Any]:
    return [_Typed(a) for a in avals]


def _unbatch(ct: Value | None, dim: int | None) -> Value | None:
    """A batched cotangent as the cotangent of the batched, or shared, operand."""
    if ct is None or basis.is_zero_dtype(ct.dtype):
        return None
    return basis.reduce_sum(ct, (0,)) if dim is None else basis.moveaxis(ct, 0, dim)


_PROGRAMS = ("fwd", "bwd", "jvp")


def _jvp_rule_of(
    params: dict[str, Any], consts: Values, avals: Sequence[ShapedArray], n_out: int
) -> Fun | None:
    """The forward rule of an equation of `custom_vjp_call`, if it has one."""
    program = _rules(params, *_PROGRAMS)[2]
    if program is None:
        return None
    inexact = [dtypes.is_inexact(a.dtype) for a in avals]

    def rule(primals: Values, tangents: Values) -> tuple[Values, Sequence[Value | None]]:
        given = [t for t, x in zip(tangents, inexact, strict=True) if x]
        results = eval_jaxpr(program, (), *consts, *primals, *given)
        outs, ts = results[:n_out], iter(results[n_out:])
        return outs, [next(ts) if dtypes.is_inexact(y.dtype) else None for y in outs]

    return rule


def _vjp_call_of(
    consts: Values, avals: Sequence[ShapedArray], params: dict[str, Any]
) -> VJPCall:
    """The call that an equation of `custom_vjp_call` stands for."""
    bounds = list(itertools.accumulate(params["counts"], initial=0))
    fun_consts, fwd_consts, bwd_consts, jvp_consts = (
        consts[a:b] for a, b in itertools.pairwise(bounds)
    )
    n_out = len(params["fun"].outvars)

    def fwd(*args: Value) -> tuple[list[Value], list[Value]]:
        results = eval_jaxpr(_rules(params, *_PROGRAMS)[0], (), *fwd_consts, *args)
        return results[:n_out], results[n_out:]

    def bwd(residuals: Values, cts: Values) -> list[Value | None]:
        program = _rules(params, *_PROGRAMS)[1]
        back = eval_jaxpr(program, (), *bwd_consts, *residuals, *cts)
        return [
            c if dtypes.is_inexact(a.dtype) else None for c, a in zip(back, avals, strict=True)
        ]

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

    given = _rules(params, *_PROGRAMS)[2] is not None
    return VJPCall(
        params["name"], lambda *args: of(args).fun(*args[n:]), fwd, bwd, jvp if given else None
    )


def _custom_vjp_jvp(
    primals: Values, tangents: Sequence[Value | None], **params: Any
) -> tuple[Sequence[Value], Sequence[Value | None]]:
    consts, args, const_ts, ts = _split_consts(primals, tangents, params)
    if any(t is not None for t in const_ts):
        raise closed_over(params["name"].name)
    return _vjp_call_of(consts, [x.aval for x in args], params).forward(args, ts)


def _custom_vjp_fwd(
    needed: tuple[bool, ...], primals: Values, params: dict[str, Any]
) -> tuple[list[Value], tuple[Any, ...]]:
    consts, args, const_needed, _ = _split_consts(primals, needed, params)
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
    batch=_custom_batch(lambda consts, avals, params: _vjp_with(consts, avals, params)),
    lower=Lowering("call", "fun"),
    multiple_results=True,
    calls=True,
)


def _bind_arguments(
    name: str, args: Sequence[Any], nondiff: Sequence[int]
) -> tuple[list[Any], list[int]]:
    count = len(args)
    static = sorted(i + count if i < 0 else i for i in nondiff)
    if any(not 0 <= i < count for i in static):
        raise CustomRuleError(
            f"nondiff_argnums {tuple(nondiff)} of {name} name arguments beyond the {count} given"
        )
    return [args[i] for i in static], [i for i in range(count) if i not in static]


class _Custom:
    """What custom_jvp and custom_vjp share: a function, and which arguments are not differentiated."""

    def __init__(self, fun: Fun, nondiff_argnums: Sequence[int] = ()) -> None:
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.identity = Identity(name_of(fun))
        self.nondiff_argnums = tuple(nondiff_argnums)

    def __get__(self, instance: Any, _owner: Any = None) -> Any:
        return self if instance is None else partial(self.__call__, instance)

    def _resolve(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        if not kwargs and not getattr(self.fun, "__defaults__", None):
            return list(args)
        import inspect  # noqa: PLC0415 - slow to import, and rarely needed

        bound = inspect.signature(self.fun).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise CustomRuleError(
                f"{name_of(self.fun)} has keyword-only arguments {sorted(bound.kwargs)}, which a "
                f"derivative rule cannot see; make them positional"
            )
        return list(bound.args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise FgradError("abstract")  # pragma: no cover


class custom_jvp(_Custom):  # noqa: N801 - JAX's name
    """A function with its own forward derivative rule.

    Args:
        fun: The function.
        nondiff_argnums: Arguments that are not differentiated; passed to the rule first.

    Raises:
        CustomRuleError: When called: no rule was given, or it returns what does not fit.

    Source:
        API as JAX's ``custom_jvp``.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> @fg.custom_jvp
        ... def f(x):
        ...     return fnp.sin(x)
        >>> @f.defjvp
        ... def f_jvp(primals, tangents):
        ...     return f(primals[0]), 2.0 * tangents[0]
        >>> fg.grad(f)(0.0)
        Array(2., dtype=float32)
    """

    jvp: Fun | None = None

    def defjvp(self, jvp: Fun, symbolic_zeros: bool = False) -> Fun:
        """Give the rule: ``jvp(*nondiff, primals, tangents) -> (output, tangent)``."""
        if symbolic_zeros:
            raise CustomRuleError("symbolic_zeros is not offered: zero tangents arrive as arrays")
        self.jvp = jvp
        return jvp

    def defjvps(self, *jvps: Fun | None) -> None:
        """Give a rule an argument: ``jvp(tangent, output, *primals) -> tangent``, or None."""
        if self.nondiff_argnums:
            raise CustomRuleError("defjvps does not go with nondiff_argnums; use defjvp")

        def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
            if len(jvps) != len(primals):
                raise CustomRuleError(
                    f"defjvps of {name_of(self.fun)} gave {len(jvps)} rules, the call has "
                    f"{len(primals)} arguments; give one, or None, for each"
                )
            out = self(*primals)
            terms = [
                rule(t, out, *primals)
                for rule, t in zip(jvps, tangents, strict=True) if rule is not None
            ]  # fmt: skip
            if not terms:
                return out, trees.tree_map(lambda y: basis.zeros(y.aval.tangent()), out)
            total = terms[0]
            for term in terms[1:]:
                total = trees.tree_map(lambda a, b: basis.add_any(as_value(a), as_value(b)),
                                       total, term)  # fmt: skip
            return out, total

        self.defjvp(jvp)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = name_of(self.fun)
        if self.jvp is None:
            raise CustomRuleError(f"{name} has no forward rule; give one with {name}.defjvp")
        full = self._resolve(args, kwargs)
        static, moving = _bind_arguments(name, full, self.nondiff_argnums)
        leaves, tree = trees.flatten([full[i] for i in moving])
        out_tree: list[Any] = []

        def fun(*flat: Value) -> list[Value]:
            return _call_fun(self.fun, full, moving, trees.unflatten(tree, flat), out_tree)

        def rule(primals: Values, tangents: Values) -> tuple[list[Value], list[Value]]:
            assert self.jvp is not None
            pair = self.jvp(
                *static, tuple(trees.unflatten(tree, primals)), tuple(trees.unflatten(tree, tangents))
            )
            return _check_jvp(name, pair, out_tree)

        values = [as_value(x) for x in leaves]
        with entering():
            outs = JVPCall(self.identity, fun, rule).rebind(values)
        return trees.unflatten(out_tree[0], outs)


def _call_fun(
    fun: Fun, full: list[Any], moving: list[int], parts: Sequence[Any], out_tree: list[Any]
) -> list[Value]:
    args = list(full)
    for i, part in zip(moving, parts, strict=True):
        args[i] = part
    leaves, tree = trees.flatten(fun(*args))
    out_tree[:] = [tree]
    return [as_value(x) for x in leaves]


def _check_jvp(name: str, pair: Any, out_tree: list[Any]) -> tuple[list[Value], list[Value]]:
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise CustomRuleError(
            f"the jvp rule of {name} must return a pair (output, tangent), got {type(pair).__name__}"
        )
    outs, tree = trees.flatten(pair[0])
    tangents, tangent_tree = trees.flatten(pair[1])
    if tree != tangent_tree:
        raise CustomRuleError(
            f"the jvp rule of {name} returned an output {tree} and a tangent {tangent_tree}: the "
            f"trees must be the same"
        )
    out_tree[:] = [tree]
    values = [as_value(x) for x in outs]
    ts = []
    for y, t in zip(values, map(as_value, tangents), strict=True):
        want = y.aval.tangent()
        if t.shape != want.shape or (t.dtype != want.dtype and not t.weak_type):
            raise CustomRuleError(
                f"the jvp rule of {name} returned the tangent {t.aval} for an output {y.aval}; it "
                f"must be {want}"
            )
        ts.append(t if t.dtype == want.dtype else basis.convert_element_type(t, want.dtype))
    return values, ts


class custom_vjp(_Custom):  # noqa: N801 - JAX's name
    """A function with its own reverse derivative rule; forward mode follows from it.

    Args:
        fun: The function.
        nondiff_argnums: Arguments that are not differentiated; passed to `bwd` first.

    Raises:
        CustomRuleError: When called: no rule was given, or it returns what does not fit.

    Source:
        API as JAX's ``custom_vjp``. Forward mode transposes `bwd` as a function of the cotangent,
        and raises `NonlinearPullbackError` where it is not linear.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> @fg.custom_vjp
        ... def f(x):
        ...     return fnp.sin(x)
        >>> f.defvjp(lambda x: (f(x), x), lambda x, ct: (2.0 * ct,))
        >>> fg.grad(f)(0.0)
        Array(2., dtype=float32)
        >>> fg.jvp(f, (0.0,), (1.0,))[1]
        Array(2., dtype=float32)
    """

    fwd: Fun | None = None
    bwd: Fun | None = None
    jvp: Fun | None = None

    def defvjp(self, fwd: Fun, bwd: Fun, jvp: Fun | None = None) -> None:
        """Give the rules.

        Args:
            fwd: ``fwd(*args) -> (output, residuals)``; residuals are any tree.
            bwd: ``bwd(*nondiff, residuals, ct) -> cts``: a tuple with a cotangent, or None for
                zero, for each argument that is differentiated.
            jvp: Optionally the forward rule, as `custom_jvp` takes it;
                `fgrad.testing.check_vjp_rule` compares both.
        """
        self.fwd, self.bwd, self.jvp = fwd, bwd, jvp

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = name_of(self.fun)
        if self.fwd is None or self.bwd is None:
            raise CustomRuleError(f"{name} has no reverse rule; give one with {name}.defvjp")
        full = self._resolve(args, kwargs)
        static, moving = _bind_arguments(name, full, self.nondiff_argnums)
        leaves, tree = trees.flatten([full[i] for i in moving])
        values = [as_value(x) for x in leaves]
        rule = _VJPRule(self, full, static, moving, tree, [v.aval for v in values])
        jvp = None if self.jvp is None else rule.forward
        with entering():
            outs = VJPCall(self.identity, rule.fun, rule.run_fwd, rule.run_bwd, jvp).rebind(values)
        return trees.unflatten(rule.out_tree[0], outs)


class _VJPRule:
    """The functions of one `custom_vjp` call over flat values, with their checks."""

    __slots__ = ("avals", "full", "moving", "out_tree", "owner", "res_tree", "static", "tree")

    def __init__(
        self, owner: custom_vjp, full: list[Any], static: list[Any], moving: list[int], tree: Any,
        avals: list[ShapedArray],
    ) -> None:  # fmt: skip
        self.owner = owner
        self.full = full
        self.static = static
        self.moving = moving
        self.tree = tree
        self.avals = avals
        self.out_tree: list[Any] = []
        self.res_tree: Any = None

    def fun(self, *flat: Value) -> list[Value]:
        return _call_fun(
            self.owner.fun, self.full, self.moving, trees.unflatten(self.tree, flat), self.out_tree
        )

    def run_fwd(self, *flat: Value) -> tuple[list[Value], list[Any]]:
        args = list(self.full)
        for i, part in zip(self.moving, trees.unflatten(self.tree, flat), strict=True):
            args[i] = part
        assert self.owner.fwd is not None
        pair = self.owner.fwd(*args)
        name = name_of(self.owner.fun)
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise CustomRuleError(
                f"the fwd rule of {name} must return a pair (output, residuals), got "
                f"{type(pair).__name__}"
            )
        outs, out_tree = trees.flatten(pair[0])
        residuals, self.res_tree = trees.flatten(pair[1])
        if self.out_tree and self.out_tree[0] != out_tree:
            raise CustomRuleError(
                f"the fwd rule of {name} returned an output {out_tree}, the function "
                f"{self.out_tree[0]}: they must be the same tree"
            )
        self.out_tree[:] = [out_tree]
        kept = [as_value(r) if hasattr(r, "dtype") else r for r in residuals]
        values = [as_value(y) for y in outs]
        return values, kept

    def run_bwd(self, residuals: Sequence[Any], cts: Values) -> list[Value | None]:
        name = name_of(self.owner.fun)
        res = trees.unflatten(self.res_tree, residuals)
        ct = trees.unflatten(self.out_tree[0], cts)
        assert self.owner.bwd is not None
        with user_lines():
            back = self.owner.bwd(*self.static, res, ct)
        if not isinstance(back, (tuple, list)) or len(back) != len(self.moving):
            got = f"{len(back)} entries" if isinstance(back, (tuple, list)) else type(back).__name__
            raise CustomRuleError(
                f"the bwd rule of {name} must return a tuple with one cotangent for each of its "
                f"{len(self.moving)} differentiated arguments, got {got}"
            )
        entries = _cotangent_leaves(name, tuple(back), self.tree)
        return [
            _check_rule_ct(name, i, c, a)
            for i, (c, a) in enumerate(zip(entries, self.avals, strict=True))
        ]

    def forward(self, primals: Values, tangents: Values) -> tuple[list[Value], list[Value]]:
        assert self.owner.jvp is not None
        pair = self.owner.jvp(
            *self.static,
            tuple(trees.unflatten(self.tree, primals)),
            tuple(trees.unflatten(self.tree, tangents)),
        )
        return _check_jvp(name_of(self.owner.fun), pair, self.out_tree)


def _cotangent_leaves(name: str, back: tuple[Any, ...], tree: Any) -> list[Any]:
    """One entry a leaf of the arguments; None stands for zero for all leaves below it."""
    children = tree.children()
    entries: list[Any] = []
    for i, (child, part) in enumerate(zip(children, back, strict=True)):
        if part is None:
            entries += [None] * child.num_leaves
            continue
        leaves, got = trees.flatten(part)
        if got != child:
            raise CustomRuleError(
                f"the bwd rule of {name} returned for argument {i} the tree {got}, the argument is "
                f"{child}"
            )
        entries += leaves
    return entries


def _check_rule_ct(name: str, i: int, ct: Any, primal: ShapedArray) -> Value | None:
    if ct is None or not dtypes.is_inexact(primal.dtype):
        return None
    value = as_value(ct)
    if value.shape != primal.shape or (value.dtype != primal.dtype and not value.weak_type):
        raise CustomRuleError(
            f"the bwd rule of {name} returned {value.aval} as cotangent of input {i}, which is "
            f"{primal}; shape and dtype must be the same"
        )
    if value.dtype != primal.dtype:
        return basis.convert_element_type(value, primal.dtype)
    return value


def tap(x: Any, hook: Fun) -> Any:
    """`x` itself; in reverse mode its cotangent passes through `hook`.

    Args:
        x: An array or a tree of arrays.
        hook: ``hook(ct) -> ct`` or None (the cotangent is left as it is). Inside `vmap` it sees
            the cotangent of one batch element; inside `jit` it is traced.

    Returns:
        `x`.

    Example:
        >>> import fgrad as fg
        >>> fg.grad(lambda x: fg.tap(x, lambda ct: 10.0 * ct) * 3.0)(1.0)
        Array(30., dtype=float32)
    """

    def bwd(_res: None, ct: Any) -> tuple[Any]:
        changed = hook(ct)
        return (ct if changed is None else changed,)

    tapped = custom_vjp(lambda x: x)
    tapped.defvjp(lambda x: (x, None), bwd)
    return tapped(x)


