"""Reverse mode: record what each primitive needs to be pulled back, then run the records.

The trace computes with its parent and appends one record an operation. In *vjp* mode a record
holds the residuals that the primitive's pullback names. A primitive that states only a jvp runs
that rule on tangents that exist as slots alone, and its linear equations are recorded; in
*linearize* mode every primitive does. Nothing is staged: the pullback binds primitives under
whatever trace is current when it is called, so derivatives of derivatives need nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.evaluate import EvalTrace, as_value
from fgrad.core.primitive import NOTHING, OUT, Absent, Primitive, Value
from fgrad.core.tracing import Trace, Tracer, check_open, current, entering
from fgrad.core.transforms.forward import apart, closure_check, is_differentiable
from fgrad.core.transforms.linear import LinearTrace, TangentTracer
from fgrad.core.transforms.tape import Push, Record, Tape
from fgrad.core.where import here


class LinearTracer(Tracer):
    """A primal value and the slot of its tangent (or cotangent) in the records."""

    __slots__ = ("primal", "slot")

    def __init__(self, trace: Trace, primal: Value, slot: int) -> None:
        self.owner = trace
        self.primal = primal
        self.slot = slot

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type."""
        return self.primal.aval  # type: ignore[no-any-return]

    shape = property(lambda self: self.primal.shape, doc="The length of each axis.")
    dtype = property(lambda self: self.primal.dtype, doc="The element type.")
    weak_type = property(
        lambda self: self.primal.weak_type,
        doc="Whether the dtype gives way to that of the other operand.",
    )
    ndim = property(lambda self: self.primal.ndim, doc="The number of axes.")

    def concrete(self) -> Any:
        """The concrete array underneath, where there is one."""
        return self.primal.concrete()


class LinearizeTrace(Trace):
    """Computes with its parent and records one pullback an operation.

    Args:
        parent: The trace that computes.
        linear: Record linear equations only (`linearize`), instead of pullbacks (`vjp`).
    """

    __slots__ = ("inner", "linear", "records", "slots")

    words = "grad"

    def __init__(self, parent: Trace, *, linear: bool = False, tag: object | None = None) -> None:
        super().__init__(parent, tag)
        self.linear = linear
        self.records: list[Record] = []
        self.slots: list[Any] = []
        self.inner = LinearTrace(parent, self.records, self.slots)

    def new(self, primal: Value) -> LinearTracer:
        """A tracer with a slot of its own."""
        self.slots.append(None)
        return LinearTracer(self, primal, len(self.slots) - 1)

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Compute, and record how to pull back."""
        tag = self.tag
        primals: list[Value] = []
        slots: list[int] = []
        traced = False
        for x in args:
            if type(x) is LinearTracer and x.owner.tag is tag:
                primals.append(x.primal)
                slots.append(x.slot)
                traced = True
            else:
                primals.append(x)
                slots.append(-1)
        parent = self.parent
        assert parent is not None
        kind: Any = prim.differentiable
        if not traced or (kind is not True and not is_differentiable(prim, params)):
            with current(parent):
                return parent.process(prim, primals, params)
        rule: Any = prim.vjp
        needed = tuple([s >= 0 for s in slots])
        if self.linear or type(rule) is Absent:
            if prim.calls and type(rule) is not Absent:
                return self._by_program(prim, primals, slots, needed, params)
            return self._by_jvp(prim, primals, slots, params)
        if rule.select is not None:
            if type(parent) is EvalTrace:
                out = parent.process(prim, primals, params)
            else:
                with current(parent):
                    out = parent.process(prim, primals, params)
            residuals = _selected(rule.select(needed), primals, out)
        else:
            with current(parent):
                out, residuals = rule.forward(needed, [as_value(p) for p in primals], params)
        if not prim.multiple_results:
            self.slots.append(None)
            slot = len(self.slots) - 1
            self.records.append(
                Record(prim.name, rule.backward, residuals, params, slots, (slot,), True, here())
            )
            return LinearTracer(self, out, slot)
        return self.record(prim.name, rule.backward, residuals, params, slots, out)

    def record(
        self, name: str, backward: Any, residuals: Sequence[Any], params: dict[str, Any],
        slots: Sequence[int], outs: Sequence[Value],
    ) -> list[Value]:  # fmt: skip
        """Append a record of several results; those of integer dtype carry no derivative."""
        tracers = [self.new(y) for y in outs]
        self.records.append(
            Record(
                name, backward, residuals, params, slots, [t.slot for t in tracers], False, here()
            )
        )
        return [t if dtypes.is_inexact(y.dtype) else y for t, y in zip(tracers, outs, strict=True)]

    def _by_jvp(
        self, prim: Primitive, primals: list[Value], slots: list[int], params: dict[str, Any]
    ) -> Any:
        inner = self.inner
        primals = [as_value(p) for p in primals]
        tangents = [
            TangentTracer(inner, p.aval.tangent(), s) if s >= 0 else None
            for p, s in zip(primals, slots, strict=True)
        ]
        with current(inner):
            out, tangent = prim.rule("jvp")(primals, tangents, **params)
        if prim.multiple_results:
            return [self.join(p, t) for p, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)

    def _by_program(
        self, prim: Primitive, primals: list[Value], slots: list[int], needed: tuple[bool, ...],
        params: dict[str, Any],
    ) -> Any:  # fmt: skip
        """A primitive that holds programs, in linearize mode.

        Its pullback runs backwards, its jvp rule at the same primals forwards.
        """
        rule: Any = prim.vjp
        primals = [as_value(p) for p in primals]
        with current(self.parent):  # type: ignore[arg-type]
            outs, residuals = rule.forward(needed, primals, params)
        for slot, p in zip(slots, primals, strict=True):
            if slot >= 0:
                self.slots[slot] = p.aval.tangent()
        outs = self.record(prim.name, rule.backward, residuals, params, slots, outs)
        self.records[-1].forward = Push(prim, primals)
        return outs

    def join(self, primal: Value, tangent: Value | None) -> Value:
        """A tracer of a primal and the tangent that a rule returned."""
        if tangent is None or not dtypes.is_inexact(primal.dtype):
            return primal
        if not self.inner.is_mine(tangent):
            return primal  # a tangent that depends on no input is zero
        return LinearTracer(self, primal, tangent.slot)

    def split(self, x: Value) -> tuple[Value, int]:
        """Primal and slot of a value; -1 where it carries no derivative here."""
        if type(x) is LinearTracer and x.owner.tag is self.tag:
            return x.primal, x.slot
        return x, -1

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Run the user's forward rule on tangents that are slots."""
        return self._custom_forward(call, args)

    def _custom_forward(self, call: Any, args: Sequence[Value]) -> list[Value]:
        assert self.parent is not None
        pairs = [self.split(x) for x in args]
        primals = [p for p, _ in pairs]
        if all(s < 0 for _, s in pairs):
            return apart(self, call, primals)
        tangents = [
            TangentTracer(self.inner, as_value(p).aval.tangent(), s) if s >= 0 else None
            for p, s in pairs
        ]
        with current(self.inner), closure_check(call):
            outs, out_tangents = call.forward(primals, tangents)
        return [self.join(p, t) for p, t in zip(outs, out_tangents, strict=True)]

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Run the user's `fwd`; record its `bwd` as it is."""
        if self.linear:
            return self._custom_forward(call, args)
        assert self.parent is not None
        pairs = [self.split(x) for x in args]
        primals = [p for p, _ in pairs]
        if all(s < 0 for _, s in pairs):
            return apart(self, call, primals)
        with current(self.parent), closure_check(call):
            outs, residuals = call.fwd(*primals)
        kept = [*residuals, [as_value(y).aval for y in outs]]
        return self.record(call.name, call.backward, kept, {}, [s for _, s in pairs], outs)


def _selected(picks: Sequence[int], primals: Sequence[Value], out: Value) -> list[Any]:
    kept = []
    for i in picks:
        if i >= 0:
            kept.append(as_value(primals[i]))
        elif i == OUT:
            kept.append(out)
        elif i == NOTHING:
            kept.append(None)
        elif i <= -500:
            kept.append(as_value(primals[-500 - i]).shape)
        else:
            kept.append(as_value(primals[-2 - i]).aval)
    return kept


def record_flat(
    f: Callable[..., Sequence[Value]],
    primals: Sequence[Value],
    active: Sequence[bool],
    *,
    linear: bool = False,
) -> tuple[list[Value], Tape]:
    """Run a function of flat values and record it.

    Args:
        f: Takes and returns flat values.
        primals: Where to run it.
        active: Whether to differentiate in each of them.
        linear: Record linear equations, which also run forwards.

    Returns:
        The outputs and the tape between the active primals and all outputs.
    """
    with entering() as parent:
        trace = LinearizeTrace(parent, linear=linear)
        args = [trace.new(p) if a else p for p, a in zip(primals, active, strict=True)]
        if linear:
            for t in args:
                if type(t) is LinearTracer and t.owner is trace:
                    trace.slots[t.slot] = as_value(t.primal).aval.tangent()
        with current(trace):
            outs = [as_value(x) for x in f(*args)]
        pairs = [trace.split(x) for x in outs]
        for p, _ in pairs:
            check_open(p, parent)
    inputs = [t.slot for t, a in zip(args, active, strict=True) if a]
    tape = Tape(
        trace.records,
        inputs,
        [s for _, s in pairs],
        [p.aval for p, a in zip(primals, active, strict=True) if a],
        [p.aval for p, _ in pairs],
        len(trace.slots),
    )
    return [p for p, _ in pairs], tape
