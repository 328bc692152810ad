"""Transforms of whole programs: jaxpr → jaxpr, for the primitives that hold programs.

`jit`, `scan`, `cond`, `while_loop` and `checkpoint` all differentiate and batch by these few
functions. Programs here are closed: they have no constvars. Results are kept on the jaxpr they
were derived from, so they live as long as it does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.ir import Eqn, Jaxpr, Var
from fgrad.core.primitive import MappedAxis, Value
from fgrad.core.tracing import Array, Trace, leaked, staging, state
from fgrad.core.transforms.batch import batch_flat
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linear import linear_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.stage import (
    StageTrace,
    StageTracer,
    called,
    eval_jaxpr,
    live_equations,
    read,
)
from fgrad.core.transforms.tape import Record, Tape

Policy = Callable[..., bool]

_MOST_DERIVED = 256  # programs kept on one; a new size of a mapped axis makes new ones


def derived(jaxpr: Jaxpr, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What `make` builds from `jaxpr`, once for each key and trace configuration."""
    full = (*key, config.trace_key(), tuple((a.name, a.size) for a in state.axes))
    kept = jaxpr.derived
    found = kept.get(full)
    if found is None:
        found = make()
        if len(kept) >= _MOST_DERIVED:
            kept.pop(next(iter(list(kept)), None), None)
        kept[full] = found
    return found


def stage_derived(
    f: Callable[..., Sequence[Value]], avals: Sequence[ShapedArray], *, look_back: bool = False
) -> Jaxpr:
    """The closed program of `f`, which closes over no tracer; arrays become literals."""
    trace = StageTrace(state.trace, "a derived program", embed=True, look_back=look_back)
    invars = [Var(a) for a in avals]
    with staging(trace):
        outs = [trace.atom(x) for x in f(*[StageTracer(trace, v) for v in invars])]
    trace.close()
    for _, value, *_ in trace.consts.values():
        raise leaked(value)
    return Jaxpr(invars, (), trace.eqns, outs)


def dce(jaxpr: Jaxpr, used: Sequence[bool] | None = None) -> Jaxpr:
    """Without the equations that neither an output nor an effect needs; the inputs stay.

    Args:
        jaxpr: The program.
        used: Which outputs to keep; all where None.
    """
    outs = [v for v, u in zip(jaxpr.outvars, used or [True] * len(jaxpr.outvars), strict=True) if u]
    eqns, _ = live_equations(jaxpr.eqns, outs)
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns, outs)


def jvp_jaxpr(
    jaxpr: Jaxpr, nonzero: Sequence[bool], instantiate: Sequence[bool] | bool = False
) -> tuple[Jaxpr, tuple[bool, ...]]:
    """The program of primals, then the nonzero tangents → outputs, then their nonzero tangents.

    Args:
        jaxpr: A closed program.
        nonzero: Which inputs carry a tangent.
        instantiate: Which outputs carry a tangent even if it is zero.

    Returns:
        The program, and which outputs carry a tangent.
    """
    if isinstance(instantiate, bool):
        instantiate = [instantiate] * len(jaxpr.outvars)
    inexact = [dtypes.is_inexact(a.dtype) for a in jaxpr.out_avals]
    wanted = tuple(i and x for i, x in zip(instantiate, inexact, strict=True))

    def make() -> tuple[Jaxpr, tuple[bool, ...]]:
        n = len(jaxpr.invars)
        out_nonzero: list[bool] = []

        def run(*args: Value) -> list[Value]:
            given = iter(args[n:])
            tangents = [next(given) if nz else None for nz in nonzero]
            outs, out_tangents = jvp_flat(partial(eval_jaxpr, jaxpr, ()), args[:n], tangents)
            ts = [
                basis.instantiate(t, y) if w else t
                for t, y, w in zip(out_tangents, outs, wanted, strict=True)
            ]
            out_nonzero[:] = [t is not None for t in ts]
            return [*outs, *(t for t in ts if t is not None)]

        tangent_avals = [a.tangent() for a, nz in zip(jaxpr.in_avals, nonzero, strict=True) if nz]
        staged = stage_derived(run, [*jaxpr.in_avals, *tangent_avals])
        return dce(staged), tuple(out_nonzero)

    result: tuple[Jaxpr, tuple[bool, ...]] = derived(jaxpr, ("jvp", tuple(nonzero), wanted), make)
    return result


def batch_jaxpr(
    jaxpr: Jaxpr, axis: MappedAxis, mapped: Sequence[bool], force: Sequence[bool] | bool = False
) -> tuple[Jaxpr, tuple[bool, ...]]:
    """The program over a batch: mapped inputs and outputs carry it along axis 0.

    Args:
        jaxpr: A closed program.
        axis: The mapped axis.
        mapped: Which inputs are mapped.
        force: Which outputs are mapped even if they are the same for all.

    Returns:
        The program, and which outputs are mapped.
    """
    if isinstance(force, bool):
        force = [force] * len(jaxpr.outvars)

    def make() -> tuple[Jaxpr, tuple[bool, ...]]:
        out_mapped: list[bool] = []
        # A tag of its own: the program is run many times, by traces that come and go.
        own = MappedAxis(axis.name, axis.size, object())

        def run(*args: Value) -> list[Value]:
            dims = [0 if m else None for m in mapped]
            outs, out_dims = batch_flat(partial(eval_jaxpr, jaxpr, ()), own, args, dims)
            out_mapped[:] = [d is not None or f for d, f in zip(out_dims, force, strict=True)]
            return [
                basis.lead(y, d, axis.size) if m else y
                for y, d, m in zip(outs, out_dims, out_mapped, strict=True)
            ]

        avals = [
            a.update(shape=(axis.size, *a.shape)) if m else a
            for a, m in zip(jaxpr.in_avals, mapped, strict=True)
        ]
        return dce(stage_derived(run, avals)), tuple(out_mapped)

    key = ("batch", axis.name, axis.size, tuple(mapped), tuple(force))
    result: tuple[Jaxpr, tuple[bool, ...]] = derived(jaxpr, key, make)
    return result


class Linearized:
    """A program cut in two: forward, with residuals, and backward.

    Attributes:
        forward: inputs → outputs, then residuals.
        backward: residuals, then cotangents of the active outputs → cotangents of the
            differentiated inputs.
        active: Which outputs depend on a differentiated input.
        num_residuals: How many.
        residual_inputs: For each residual the index of the input that it is, or None.
        names: For each residual, what made it: primitive and user line.
    """

    __slots__ = ("active", "backward", "forward", "names", "num_residuals", "residual_inputs")

    def __init__(
        self, forward: Jaxpr, backward: Jaxpr, active: tuple[bool, ...],
        residual_inputs: tuple[int | None, ...], names: tuple[Any, ...],
    ) -> None:  # fmt: skip
        self.forward = forward
        self.backward = backward
        self.active = active
        self.num_residuals = len(residual_inputs)
        self.residual_inputs = residual_inputs
        self.names = names


def linearize_jaxpr(
    jaxpr: Jaxpr, nonzero: Sequence[bool], policy: Policy | None = None
) -> Linearized:
    """Cut a closed program into a forward and a backward half.

    Args:
        jaxpr: The program.
        nonzero: Which inputs are differentiated.
        policy: ``(primitive, *avals, **params) -> bool``: which results may be residuals; the
            backward half recomputes the others from inputs and kept results. None keeps exactly
            what the pullbacks ask for.
    """
    key = ("linearize", tuple(nonzero), policy)
    made: Linearized = derived(jaxpr, key, lambda: _linearize(jaxpr, nonzero, policy))
    return made


def _linearize(jaxpr: Jaxpr, nonzero: Sequence[bool], policy: Policy | None) -> Linearized:
    trace = StageTrace(state.trace, "a derived program", embed=True)
    invars = [Var(a) for a in jaxpr.in_avals]
    with staging(trace):
        outs, tape = record_flat(
            partial(eval_jaxpr, jaxpr, ()), [StageTracer(trace, v) for v in invars], nonzero
        )
    trace.close()
    active = tuple(slot >= 0 for slot in tape.outputs)
    wanted = _values_kept(trace, tape)
    full = Jaxpr(invars, (), trace.eqns, [trace.atom(x) for x in outs])
    if policy is None:
        kept = list(wanted)
        again: list[Eqn] = []
    else:
        kept, again = _cut(full, wanted, policy)

    def pull(*args: Value) -> list[Value]:
        env: dict[Var, Value] = dict(zip(kept, args[: len(kept)], strict=True))
        if again:
            _recompute(again, env)
        records = [_rebased(r, trace, env) for r in tape.records or ()]
        given = iter(args[len(kept) :])
        cts = [next(given) if a else None for a in active]
        clone = Tape(records, tape.inputs, tape.outputs, tape.in_avals, tape.out_avals, tape.size)
        back = clone.backward(cts, consume=True)
        return [
            basis.zeros(a.tangent()) if ct is None else ct
            for a, ct in zip(tape.in_avals, back, strict=True)
        ]

    ct_avals = [a.tangent() for a, on in zip(jaxpr.out_avals, active, strict=True) if on]
    backward = dce(stage_derived(pull, [*(v.aval for v in kept), *ct_avals]))
    forward = dce(Jaxpr(invars, (), trace.eqns, [*full.outvars, *kept]))
    position = {v: i for i, v in enumerate(invars)}
    made_by = {v: (e.primitive.name, e.source) for e in trace.eqns for v in e.outputs}
    return Linearized(
        forward,
        backward,
        active,
        tuple(position.get(v) for v in kept),
        tuple(made_by.get(v, ("input", None)) for v in kept),
    )


def _values_kept(trace: Trace, tape: Tape) -> dict[Var, None]:
    """The variables that the records keep, in order, once each."""
    return {
        x.atom: None
        for record in tape.records or ()
        for x in record.residuals
        if type(x) is StageTracer and x.owner is trace and type(x.atom) is Var
    }


def _rebased(record: Record, trace: Trace, env: dict[Var, Value]) -> Record:
    """The record with residuals of a finished trace replaced by values of the current one."""

    def replace(x: Any) -> Any:
        if type(x) is StageTracer and x.owner is trace:
            return read(env, x.atom)
        return x

    return record.with_residuals([replace(x) for x in record.residuals])


def _cut(full: Jaxpr, wanted: dict[Var, None], policy: Policy) -> tuple[list[Var], list[Eqn]]:
    """What to keep under a policy, and the equations that recompute the rest of `wanted`."""
    saveable = set(full.invars)
    for eqn in full.eqns:
        if not eqn.effects and policy(eqn.primitive, *[a.aval for a in eqn.inputs], **eqn.params):
            saveable.update(eqn.outputs)
    drops = getattr(policy, "drops", ())
    for eqn in full.eqns:
        if eqn.primitive.name == "name" and eqn.params["name"] in drops:
            # The named value and the one it was made from are the same array.
            saveable.difference_update(a for a in eqn.inputs if isinstance(a, Var))
    saveable.update(full.invars)
    needed = dict(wanted)
    again: list[Eqn] = []
    for eqn in reversed(full.eqns):
        outs = [v for v in eqn.outputs if v in needed and v not in saveable]
        if outs:
            again.append(eqn)
            needed.update(dict.fromkeys(a for a in eqn.inputs if isinstance(a, Var)))
    return [v for v in needed if v in saveable], again[::-1]


def _recompute(eqns: Sequence[Eqn], env: dict[Var, Value]) -> None:
    """Run equations again, in a phase of their own: nothing merges them with the first run."""
    before = state.phase
    state.phase = (before, object())
    try:
        outs = [v for e in eqns for v in e.outputs]
        inputs = list(env)
        jaxpr = Jaxpr(inputs, (), eqns, outs)
        env.update(zip(outs, eval_jaxpr(jaxpr, (), *env.values()), strict=True))
    finally:
        state.phase = before


def transpose_jaxpr(jaxpr: Jaxpr, linear: Sequence[bool]) -> Jaxpr:
    """The transpose of a program that is linear in some inputs.

    Returns:
        The program of the other inputs, then one cotangent an output → one cotangent a linear
        input.
    """

    def make() -> Jaxpr:
        known_avals = [a for a, m in zip(jaxpr.in_avals, linear, strict=True) if not m]
        linear_avals = [a for a, m in zip(jaxpr.in_avals, linear, strict=True) if m]

        def run(*args: Value) -> list[Value]:
            known, cts = args[: len(known_avals)], args[len(known_avals) :]

            def f(*tangents: Value) -> list[Value]:
                k, t = iter(known), iter(tangents)
                return eval_jaxpr(jaxpr, (), *[next(t) if m else next(k) for m in linear])

            _, tape = linear_flat(f, linear_avals)
            back = tape.backward(cts, consume=True)
            return [
                basis.zeros(a) if ct is None else ct
                for a, ct in zip(linear_avals, back, strict=True)
            ]

        return dce(stage_derived(run, [*known_avals, *(a.tangent() for a in jaxpr.out_avals)]))

    made: Jaxpr = derived(jaxpr, ("transpose", tuple(linear)), make)
    return made


def reachable(jaxpr: Jaxpr, sources: Sequence[bool]) -> tuple[bool, ...]:
    """Which outputs depend on any of the flagged inputs."""
    live = {v for v, s in zip(jaxpr.invars, sources, strict=True) if s}
    for eqn in jaxpr.eqns:
        flags = [isinstance(a, Var) and a in live for a in eqn.inputs]
        if any(flags):
            outs = _reached(eqn, flags)
            live.update(v for v, r in zip(eqn.outputs, outs, strict=True) if r)
    return tuple(isinstance(v, Var) and v in live for v in jaxpr.outvars)


def _reached(eqn: Eqn, flags: Sequence[bool]) -> Sequence[bool]:
    """Which results of an equation depend on any of the flagged operands."""
    prim, params = eqn.primitive, eqn.params
    if prim.reach is not None:
        return prim.reach(flags, **params)
    body = called(prim, params, flags)
    return [True] * len(eqn.outputs) if body is None else reachable(*body)


def is_array(x: Any) -> bool:
    """Whether `x` is a value, as against a static residual."""
    return isinstance(x, Array)
