"""Reverse mode: record what each primitive needs to be pulled back, then run the records.

The trace computes with its parent and appends one record an operation. In *vjp* mode a record
holds the residuals that the primitive's pullback names. A primitive that states only a jvp runs
that rule on tangents that exist as slots alone, and its linear equations are recorded; in
*linearize* mode every primitive does. Nothing is staged: the pullback binds primitives under
whatever trace is current when it is called, so derivatives of derivatives need nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import NonlinearPullbackError, ResidualsFreedError
from fgrad.core.evaluate import ArrayImpl, EvalTrace, as_value
from fgrad.core.primitive import OUT, NOTHING, Absent, Primitive, Unknown, Value
from fgrad.core.tracing import Trace, Tracer, bind, current, entering, state
from fgrad.core.transforms.forward import apart, closure_check, is_differentiable
from fgrad.core.transforms.stage import called, eval_jaxpr
from fgrad.core.where import Where, here, local


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

    shape = property(lambda self: self.primal.shape)
    dtype = property(lambda self: self.primal.dtype)
    weak_type = property(lambda self: self.primal.weak_type)
    ndim = property(lambda self: self.primal.ndim)

    def concrete(self) -> Any:
        """The concrete array underneath, where there is one."""
        return self.primal.concrete()


class TangentTracer(Tracer):
    """A tangent that is only a slot: its type is known, its value is given later."""

    __slots__ = ("_aval", "slot")

    def __init__(self, trace: Trace, aval: ShapedArray, slot: int) -> None:
        self.owner = trace
        self._aval = aval
        self.slot = slot

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type."""
        return self._aval

    shape = property(lambda self: self._aval.shape)
    dtype = property(lambda self: self._aval.dtype)


class Record:
    """One operation of the recorded program.

    Attributes:
        name: What was applied, for tables.
        backward: ``(needed, residuals, cts, params) -> cts``.
        residuals: What it keeps: values, and static entries.
        params: Parameters of the primitive.
        inputs: Slot of each operand, -1 where it carries no derivative.
        outputs: Slot of each result.
        source: The user's line.
        forward: Of a linear equation, the primitive that computes it; of a program in linearize
            mode, ``(tangents, params) -> tangents``; else None.
    """

    __slots__ = (
        "backward", "forward", "inputs", "name", "outputs", "params", "residuals", "single",
        "source",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        backward: Any,
        residuals: Sequence[Any],
        params: dict[str, Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        single: bool,
        source: Where | None,
        forward: Any = None,
    ) -> None:
        self.name = name
        self.backward = backward
        self.residuals = residuals
        self.params = params
        self.inputs = inputs
        self.outputs = outputs
        self.single = single
        self.source = source
        self.forward = forward

    def with_residuals(self, residuals: Sequence[Any]) -> "Record":
        """The same record over other values."""
        return Record(
            self.name, self.backward, residuals, self.params, self.inputs, self.outputs,
            self.single, self.source, self.forward,
        )  # fmt: skip


class LinearTrace(Trace):
    """Records linear equations among tangents; computes the rest with its parent."""

    __slots__ = ("records", "slots")

    words = "linearize"

    def __init__(self, parent: Trace, records: list[Record], slots: list[ShapedArray]) -> None:
        super().__init__(parent)
        self.records = records
        self.slots = slots

    def new(self, aval: ShapedArray) -> TangentTracer:
        """A tangent of that type."""
        self.slots.append(aval)
        return TangentTracer(self, aval, len(self.slots) - 1)

    def is_mine(self, x: Value) -> bool:
        """Whether `x` is a tangent of this trace."""
        return type(x) is TangentTracer and x.owner is self

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Record a linear equation, or compute where no tangent is involved."""
        mine = [self.is_mine(x) for x in args]
        parent = self.parent
        assert parent is not None
        if not any(mine):
            with current(parent):
                return parent.process(prim, args, params)
        body = called(prim, params, args)
        if body is not None:
            return eval_jaxpr(body[0], (), *body[1])
        linear = prim.linear_in if prim.linear_in is not None else range(len(args))
        if (
            prim.linear is None
            or isinstance(prim.transpose, Absent)
            or (prim.linear == "each" and sum(mine) > 1)
            or any(m and i not in linear for i, m in enumerate(mine))
        ):
            raise NonlinearPullbackError(
                f"{prim.name}({', '.join(str(x.aval) for x in args)}) is not linear in its tangent "
                f"or cotangent: a rule may only add them, move them and scale them by values that "
                f"do not depend on them"
            )
        out = prim.abstract(*[as_value(x).aval for x in args], **params)
        outs = [self.new(a) for a in (out if prim.multiple_results else (out,))]
        self.records.append(
            Record(
                prim.name, _TransposeOf(prim), [x.aval if m else as_value(x) for x, m in
                zip(args, mine, strict=True)], params,
                [x.slot if m else -1 for x, m in zip(args, mine, strict=True)],
                [t.slot for t in outs], not prim.multiple_results, here(), prim,
            )
        )  # fmt: skip
        return outs if prim.multiple_results else outs[0]

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """A function of tangents inside a rule is what its own definition says."""
        return self._custom(call, args)

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """A function of tangents inside a rule is what its own definition says."""
        return self._custom(call, args)

    def _custom(self, call: Any, args: Sequence[Value]) -> list[Value]:
        if any(self.is_mine(x) for x in args):
            return call.fun(*args)  # type: ignore[no-any-return]
        assert self.parent is not None
        with current(self.parent):
            return call.rebind(args)  # type: ignore[no-any-return]


class _TransposeOf:
    """The backward half of a linear equation: the primitive's transpose rule."""

    __slots__ = ("prim",)

    def __init__(self, prim: Primitive) -> None:
        self.prim = prim

    def __call__(
        self, needed: tuple[bool, ...], residuals: Sequence[Any], ct: Any, params: dict[str, Any]
    ) -> Any:
        args = [Unknown(r) if n else r for r, n in zip(residuals, needed, strict=True)]
        return self.prim.transpose(ct, *args, **params)  # type: ignore[operator]


class _Push:
    """The forward half of a program-holding primitive at fixed primals."""

    __slots__ = ("prim", "primals")

    def __init__(self, prim: Primitive, primals: Sequence[Value]) -> None:
        self.prim = prim
        self.primals = primals

    def __call__(
        self, tangents: Sequence[Value | None], params: dict[str, Any]
    ) -> Sequence[Value | None]:
        return self.prim.jvp(self.primals, tangents, **params)[1]  # type: ignore[operator,no-any-return]


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
        return [
            t if basis.dtypes.is_inexact(y.dtype) else y
            for t, y in zip(tracers, outs, strict=True)
        ]

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
        """A primitive that holds programs, in linearize mode: its pullback runs backwards, its
        jvp rule at the same primals forwards."""
        rule: Any = prim.vjp
        primals = [as_value(p) for p in primals]
        with current(self.parent):  # type: ignore[arg-type]
            outs, residuals = rule.forward(needed, primals, params)
        for slot, p in zip(slots, primals, strict=True):
            if slot >= 0:
                self.slots[slot] = p.aval.tangent()
        outs = self.record(prim.name, rule.backward, residuals, params, slots, outs)
        self.records[-1].forward = _Push(prim, primals)
        return outs

    def join(self, primal: Value, tangent: Value | None) -> Value:
        """A tracer of a primal and the tangent that a rule returned."""
        if tangent is None or not basis.dtypes.is_inexact(primal.dtype):
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


class Tape:
    """The records of one reverse-mode call, between their inputs and outputs.

    Attributes:
        records: In order of execution; None once they are consumed.
        inputs: Slot of each input.
        outputs: Slot of each output, -1 where it does not depend on the inputs.
        in_avals: Type of each input.
        out_avals: Type of each output.
        size: Number of slots.
    """

    __slots__ = ("in_avals", "inputs", "out_avals", "outputs", "records", "size")

    def __init__(
        self,
        records: list[Record] | None,
        inputs: Sequence[int],
        outputs: Sequence[int],
        in_avals: Sequence[ShapedArray],
        out_avals: Sequence[ShapedArray],
        size: int,
    ) -> None:
        self.records = records
        self.inputs = inputs
        self.outputs = outputs
        self.in_avals = in_avals
        self.out_avals = out_avals
        self.size = size

    def backward(self, cts: Sequence[Value | None], *, consume: bool) -> list[Value | None]:
        """Pull cotangents of the outputs back to the inputs; None is zero.

        Args:
            cts: One an output.
            consume: Drop each record once it has run, so that its residuals are freed.
        """
        if self.records is None:
            raise ResidualsFreedError(
                "this pullback was consumed and its residuals are freed; call vjp again, or call "
                "the pullback itself rather than its consume() to keep them"
            )
        records = self.records
        if consume:
            self.records = None
        table: list[Value | None] = [None] * self.size
        owned = bytearray(self.size)
        for slot, ct in zip(self.outputs, cts, strict=True):
            if slot >= 0 and ct is not None:
                accumulate(table, owned, slot, ct)
        kept = set(self.inputs)
        before = local.source, state.phase
        state.phase = (before[1], id(self))
        index = len(records)
        try:
            while index:
                index -= 1
                record = records.pop() if consume else records[index]
                _pull(record, table, owned, kept)
        finally:
            local.source, state.phase = before
        return [table[slot] for slot in self.inputs]

    def forward(self, tangents: Sequence[Value | None]) -> list[Value | None]:
        """Push tangents of the inputs through the linear records; None is zero."""
        table: list[Value | None] = [None] * self.size
        for slot, t in zip(self.inputs, tangents, strict=True):
            table[slot] = t
        for record in self.records or ():
            _push(record, table)
        return [table[slot] if slot >= 0 else None for slot in self.outputs]


def _pull(record: Record, table: list[Value | None], owned: bytearray, kept: set[int]) -> None:
    outputs = record.outputs
    if record.single:
        slot = outputs[0]
        ct: Any = table[slot]
        if ct is None:
            return
        if slot not in kept:
            table[slot] = None
    else:
        ct = [table[slot] for slot in outputs]
        if all(c is None for c in ct):
            return
        for slot in outputs:
            table[slot] = None
    local.source = record.source
    inputs = record.inputs
    needed = tuple([s >= 0 for s in inputs])
    back = record.backward(needed, record.residuals, ct, record.params)
    for slot, c in zip(inputs, back, strict=True):
        if slot >= 0 and c is not None:
            if table[slot] is None:
                table[slot] = c
            else:
                accumulate(table, owned, slot, c)


def accumulate(table: list[Value | None], owned: bytearray, slot: int, ct: Value) -> None:
    """Add a cotangent into its slot; in place only into a buffer that an earlier sum allocated."""
    present = table[slot]
    if present is None:
        table[slot] = ct
    elif owned[slot] and type(ct) is ArrayImpl and type(present) is ArrayImpl:
        buffer = present._data
        buffer += ct._data
    else:
        total = basis.add_any(present, ct)
        table[slot] = total
        # A fresh sum of a trace above would be seen by that trace: only bare results are ours.
        owned[slot] = type(total) is ArrayImpl and total._data.ndim > 0


def _push(record: Record, table: list[Value | None]) -> None:
    if type(record.forward) is _Push:
        given = [table[s] if s >= 0 else None for s in record.inputs]
        for slot, t in zip(record.outputs, record.forward(given, record.params), strict=True):
            table[slot] = t
        return
    args = []
    for slot, r in zip(record.inputs, record.residuals, strict=True):
        if slot < 0:
            args.append(r)
        else:
            t = table[slot]
            args.append(basis.zeros(r) if t is None else t)
    if all(table[s] is None for s in record.inputs if s >= 0):
        return
    out = bind(record.forward, *args, **record.params)
    outs = [out] if record.single else out
    for slot, y in zip(record.outputs, outs, strict=True):
        table[slot] = y


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


def linear_flat(
    f: Callable[..., Sequence[Value]], avals: Sequence[ShapedArray]
) -> tuple[list[ShapedArray], Tape]:
    """The tape of a linear function of flat tangents of these types.

    Raises:
        NonlinearPullbackError: `f` is not linear.
    """
    with entering() as parent:
        trace = LinearTrace(parent, [], [])
        tangents = [trace.new(a) for a in avals]
        with current(trace):
            outs = [as_value(x) for x in f(*tangents)]
    slots = [x.slot if trace.is_mine(x) else -1 for x in outs]
    out_avals = [x.aval for x in outs]
    tape = Tape(
        trace.records, [t.slot for t in tangents], slots, list(avals), out_avals, len(trace.slots)
    )
    return out_avals, tape
