"""Linear functions: record the equations among tangents, to be run or transposed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import NonlinearPullbackError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Absent, Primitive, Unknown, Value
from fgrad.core.tracing import Trace, Tracer, current, entering
from fgrad.core.transforms.stage import called, eval_jaxpr
from fgrad.core.transforms.tape import Record, Tape
from fgrad.core.where import here


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

    shape = property(lambda self: self._aval.shape, doc="The length of each axis.")
    dtype = property(lambda self: self._aval.dtype, doc="The element type.")


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
        if prim.linear == "jointly" and not prim.calls and not all(mine):
            _check_homogeneous(prim, args, mine, linear)
        out = prim.abstract(*[as_value(x).aval for x in args], **params)
        outs = [self.new(a) for a in (out if prim.multiple_results else (out,))]
        results: list[Any] = self._known(prim, args, mine, params, outs)
        self.records.append(
            Record(
                prim.name, _TransposeOf(prim), [x.aval if m else as_value(x) for x, m in
                zip(args, mine, strict=True)], params,
                [x.slot if m else -1 for x, m in zip(args, mine, strict=True)],
                [t.slot for t in outs], not prim.multiple_results, here(), prim,
            )
        )  # fmt: skip
        return results if prim.multiple_results else results[0]

    def _known(
        self, prim: Primitive, args: Sequence[Value], mine: Sequence[bool], params: dict[str, Any],
        outs: list[Any],
    ) -> list[Any]:  # fmt: skip
        """The results, of which those that depend on no tangent are computed with the parent."""
        reached = mine if prim.reach is None else prim.reach(mine, **params)
        if prim.reach is None or all(reached):
            return outs
        full = [basis.zeros(x.aval) if m else as_value(x) for x, m in zip(args, mine, strict=True)]
        assert self.parent is not None
        with current(self.parent):
            values = self.parent.process(prim, full, params)
        return [t if r else v for t, v, r in zip(outs, values, reached, strict=True)]

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


def _check_homogeneous(
    prim: Primitive, args: Sequence[Value], mine: Sequence[bool], linear: Sequence[int]
) -> None:
    """Raise where a linear operand is a known array that is not 0: the result is affine."""
    for i in linear:
        x = args[i] if mine[i] else as_value(args[i])
        known = not mine[i] and type(x) is ArrayImpl and dtypes.is_inexact(x.dtype)
        if known and type(x._data) is np.ndarray and x._data.any():
            raise NonlinearPullbackError(
                f"{prim.name}({', '.join(str(as_value(x).aval) for x in args)}) adds a constant "
                f"{x.aval}, which is not 0, to what depends on a tangent or cotangent: a rule must "
                f"be linear in it, and give 0 where it is 0"
            )


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
