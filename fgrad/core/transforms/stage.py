"""Staging: run a function on tracers that know only their type, and record a jaxpr."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fgrad.core.avals import AnySize, ShapedArray
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var, subjaxprs
from fgrad.core.primitive import Lowering, Primitive, Value
from fgrad.core.tracing import (
    Trace,
    Tracer,
    bind,
    is_open,
    leaked,
    staging,
    state,
)
from fgrad.core.where import here, local


class StageTracer(Tracer):
    """A value of the program being written.

    Attributes:
        atom: The variable or literal it is.
    """

    __slots__ = ("atom",)

    def __init__(self, trace: Trace, atom: Atom) -> None:
        self.owner = trace
        self.atom = atom

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type."""
        return self.atom.aval

    shape = property(lambda self: self.atom.aval.shape, doc="The length of each axis.")
    dtype = property(lambda self: self.atom.aval.dtype, doc="The element type.")


class StageTrace(Trace):
    """Records equations. Equal pure equations of one phase are recorded once.

    Args:
        parent: The trace around.
        words: How the transform is called in messages.
        embed: Write concrete arrays into the program as literals, instead of as constants; for
            programs that are derived from closed ones and must stay closed.
        look_back: Let identities look at the equations that made their operands.

    Attributes:
        origins: With `look_back`, the equation of each variable: primitive, operands, parameters
            and phase (see `basis.made_by`); else None.
        uses: The random keys that the program uses, once there is one (see `key_uses`).
    """

    __slots__ = ("consts", "embed", "eqns", "origins", "seen", "uses", "words_")

    def __init__(
        self, parent: Trace, words: str = "jit", *, embed: bool = False, look_back: bool = False
    ) -> None:
        super().__init__(parent)
        self.origins: dict[Var, tuple[Any, ...]] | None = {} if look_back else None
        self.embed = embed
        self.eqns: list[Eqn] = []
        self.consts: dict[int, tuple[Var, Value]] = {}
        self.seen: dict[Any, Any] = {}
        self.uses: Any = None
        self.words_ = words

    @property
    def words(self) -> str:  # type: ignore[override]
        """How the transform is called in messages."""
        return self.words_

    def close(self) -> None:
        """Forget the tracers: they hold the trace, and nothing is recorded any more."""
        self.seen.clear()
        self.origins = self.uses = None

    def atom(self, x: Value) -> Atom:
        """The variable or literal of a value; arrays and outer tracers become constants."""
        if type(x) is StageTracer and x.owner is self:
            return x.atom
        if isinstance(x, Tracer):
            if not is_open(x, self.parent):
                raise leaked(x)
        else:
            x = as_value(x)
            if x.ndim == 0 and (type(x._data) is np.ndarray or isinstance(x._data, AnySize)):
                return Literal(x._data.copy(), x.aval)
            if self.embed:
                return Literal(x.owned()._data, x.aval)
        found = self.consts.get(id(x))
        if found is None:
            kept = x.owned() if type(x) is ArrayImpl else x
            # `x` is kept beside its snapshot so that its id stays its own.
            found = self.consts[id(x)] = (Var(x.aval), kept, x)  # type: ignore[assignment]
        return found[0]  # type: ignore[index]

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Record an equation, unless it simplifies or stands there already."""
        if prim.simplify is not None:
            simpler = prim.simplify(args, params)
            if simpler is not None:
                return simpler
        atoms: list[Atom] = []
        names: list[Any] = []
        for x in args:
            if type(x) is StageTracer and x.owner is self and type(x.atom) is Var:
                atoms.append(x.atom)
                names.append(id(x.atom))
            else:
                atom = self.atom(x)
                atoms.append(atom)
                names.append(atom.key if type(atom) is Literal else id(atom))
        key = None
        if not (prim.effects or (prim.calls and any(j.effects for j in subjaxprs(params)))):
            if prim.commutative:
                names.sort(key=hash)
            key = (prim, tuple(names), tuple(params.items()), state.phase)
            try:
                found = self.seen.get(key)
            except TypeError:  # an unhashable parameter: the equation is recorded again
                key = found = None
            if found is not None:
                return list(found) if prim.multiple_results else found
        avals = prim.abstract(*[a.aval for a in atoms], **params)
        outs = tuple([Var(a) for a in avals]) if prim.multiple_results else (Var(avals),)
        self.eqns.append(Eqn(prim, tuple(atoms), outs, params, here(), state.phase, state.pullback))
        if self.origins is not None and not prim.multiple_results:
            self.origins[outs[0]] = prim, args, params, state.phase
        tracers = [StageTracer(self, v) for v in outs]
        result: Any = tracers if prim.multiple_results else tracers[0]
        if key is not None:
            self.seen[key] = tuple(tracers) if prim.multiple_results else result
        return result

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Stage the function and its rule."""
        return call.stage(self, args)  # type: ignore[no-any-return]

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Stage the function and its rules."""
        return call.stage(self, args)  # type: ignore[no-any-return]


def stage(
    f: Callable[..., Sequence[Value]], avals: Sequence[ShapedArray], words: str = "jit"
) -> tuple[Jaxpr, list[Value]]:
    """The program that `f` runs on inputs of these types, and the values of its constants.

    Args:
        f: Takes one value an aval and returns a list of values.
        avals: Types of the inputs.
        words: How messages name the transform that traces.

    Returns:
        The jaxpr and its constants: arrays, or tracers of the transforms around.
    """
    parent = state.trace
    trace = StageTrace(parent, words)
    invars = [Var(a) for a in avals]
    tracers = [StageTracer(trace, v) for v in invars]
    with staging(trace):
        results = [as_value(x) for x in f(*tracers)]
        outs = [trace.atom(x) for x in results]
    eqns, live = live_equations(trace.eqns, outs)
    kept: list[Any] = [k for k in trace.consts.values() if k[0] in live]
    jaxpr = Jaxpr(invars, [k[0] for k in kept], eqns, outs)
    if trace.uses is not None:
        jaxpr.key_uses = trace.uses.of_program([k[2] for k in kept], tracers, results)
    trace.close()
    return jaxpr, [k[1] for k in kept]


def live_equations(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> tuple[list[Eqn], set[Var]]:
    """The equations that an output or an effect needs, and the variables they read."""
    live = {v for v in outs if isinstance(v, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(eqns):
        outputs = eqn.outputs
        used = outputs[0] in live if len(outputs) == 1 else any(v in live for v in outputs)
        if used or eqn.effects:
            kept.append(eqn)
            for atom in eqn.inputs:
                if type(atom) is Var:
                    live.add(atom)
    return kept[::-1], live


def stage_closed(
    f: Callable[..., Sequence[Value]], avals: Sequence[ShapedArray], words: str = "jit"
) -> tuple[Jaxpr, list[Value]]:
    """Like `stage`, with the constants as leading inputs: a program without constvars."""
    jaxpr, consts = stage(f, avals, words)
    return hoist(jaxpr), consts


def hoist(jaxpr: Jaxpr) -> Jaxpr:
    """The same program with its constants as leading inputs."""
    if not jaxpr.constvars:
        return jaxpr
    hoisted = Jaxpr((*jaxpr.constvars, *jaxpr.invars), (), jaxpr.eqns, jaxpr.outvars)
    hoisted.key_uses = jaxpr.key_uses
    return hoisted


def eval_jaxpr(jaxpr: Jaxpr, consts: Sequence[Value], *args: Value) -> list[Value]:
    """Run a program under the current trace; each value is dropped after its last use.

    Args:
        jaxpr: The program.
        consts: One value a constvar.
        *args: One value an invar.

    Returns:
        One value an outvar.
    """
    env: dict[Var, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    before = local.source, state.phase, state.pullback
    try:
        for eqn, dead in zip(jaxpr.eqns, jaxpr.last_uses, strict=True):
            inputs = [read(env, a) for a in eqn.inputs]
            local.source = eqn.source or before[0]
            state.phase = before[1] if eqn.phase is None else (before[1], eqn.phase)
            state.pullback = within(before[2], eqn.pullback)
            outs = bind(eqn.primitive, *inputs, **eqn.params)
            if eqn.primitive.multiple_results:
                env.update(zip(eqn.outputs, outs, strict=True))
            else:
                env[eqn.outputs[0]] = outs
            for v in dead:
                env.pop(v, None)
    finally:
        local.source, state.phase, state.pullback = before
    return [read(env, a) for a in jaxpr.outvars]


def within(outer: Any, own: Any) -> Any:
    """The pullback of an equation (see `Eqn.pullback`) of a program run in a pullback."""
    if outer is None or own is None:
        return own if outer is None else outer
    return outer[0], outer[1] or own[1]


def read(env: dict[Var, Value], atom: Atom) -> Value:
    """The value of an atom in an environment."""
    if type(atom) is Literal:
        return ArrayImpl(atom.value, 1 if atom.aval.weak_type else 0)
    return env[atom]  # type: ignore[index]


def called(
    prim: Primitive, params: Mapping[str, Any], args: Sequence[Any]
) -> tuple[Jaxpr, Sequence[Any]] | None:
    """The program that an equation calls once, and its arguments; None for other primitives.

    The `Lowering` of such a primitive names the parameter that holds the program; of a function
    with rules of its own, the operands begin with the constants of each program.
    """
    lower = prim.lower
    if not prim.calls or not isinstance(lower, Lowering) or lower.kind != "call":
        return None
    body: Jaxpr = params[lower.data]
    if "counts" in params:
        counts = params["counts"]
        return body, (*args[: counts[0]], *args[sum(counts) :])
    return body, args
