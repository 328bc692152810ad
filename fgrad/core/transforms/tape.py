"""Records of operations, and running them backwards or forwards."""

from collections.abc import Sequence
from operator import iadd
from typing import Any

from numpy import ndarray

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ResidualsFreedError
from fgrad.core.evaluate import ArrayImpl, library_of
from fgrad.core.homes import on_device
from fgrad.core.primitive import Primitive, Value
from fgrad.core.tracing import bind, state
from fgrad.core.where import Where, local


class Push:
    """The forward half of a program-holding primitive at fixed primals."""

    __slots__ = ("prim", "primals")

    def __init__(self, prim: Primitive, primals: Sequence[Value]) -> None:
        self.prim = prim
        self.primals = primals

    def __call__(
        self, tangents: Sequence[Value | None], params: dict[str, Any]
    ) -> Sequence[Value | None]:
        """Tangents of the results."""
        return self.prim.jvp(self.primals, tangents, **params)[1]  # type: ignore[operator,no-any-return]


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
        before = local.source
        around = state.pullback
        if around is None:
            state.pullback = (object(), False)
        index = len(records)
        try:
            while index:
                index -= 1
                record = records.pop() if consume else records[index]
                _pull(record, table, owned, kept)
        finally:
            local.source = before
            state.pullback = around
        return [table[slot] for slot in self.inputs]

    def forward(self, tangents: Sequence[Value | None]) -> list[Value | None]:
        """Push tangents of the inputs through the linear records; None is zero."""
        table: list[Value | None] = [None] * self.size
        for slot, t in zip(self.inputs, tangents, strict=True):
            table[slot] = t
        around = state.pullback
        if around is None:
            state.pullback = (object(), False)
        try:
            for record in self.records or ():
                _push(record, table)
        finally:
            state.pullback = around
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
        buffer, more = present._data, ct._data
        if type(buffer) is ndarray is type(more):
            buffer += more
        else:
            table[slot] = ArrayImpl(_sum_on_device(buffer, more))
    else:
        total = basis.add_any(present, ct)
        table[slot] = total
        # A fresh sum of a trace above would be seen by that trace: only bare results are ours.
        owned[slot] = type(total) is ArrayImpl and total._data.ndim > 0


def _sum_on_device(buffer: Any, more: Any) -> Any:
    """The sum of two buffers, in place of the first; one on the host follows the other."""
    xp = library_of(more if type(buffer) is ndarray else buffer)
    buffers, add = on_device(xp, [buffer, more], iadd)
    return add(*buffers)


def _push(record: Record, table: list[Value | None]) -> None:
    if type(record.forward) is Push:
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
