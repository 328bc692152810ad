"""Forward mode: each value travels with its tangent."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ClosedOverDifferentiationError, UnexpectedTracerError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Primitive, Value
from fgrad.core.tracing import Trace, Tracer, check_open, current, entering


class JVPTracer(Tracer):
    """A primal value and its tangent (never None: a value without one is not wrapped)."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: Trace, primal: Value, tangent: Value) -> None:
        self.owner = trace
        self.primal = primal
        self.tangent = tangent

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

    def concrete(self) -> Any:
        """The concrete array underneath, where there is one."""
        return self.primal.concrete()


class JVPTrace(Trace):
    """Applies jvp rules."""

    __slots__ = ()

    words = "jvp"

    def split(self, x: Value) -> tuple[Value, Value | None]:
        """Primal and tangent of a value; None where it has no tangent here."""
        if type(x) is JVPTracer and x.owner.tag is self.tag:
            return x.primal, x.tangent
        return x, None

    def join(self, primal: Value, tangent: Value | None) -> Value:
        """A tracer, or the bare primal where its tangent is zero."""
        return primal if tangent is None else JVPTracer(self, primal, tangent)

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Apply the jvp rule where an operand carries a tangent."""
        primals, tangents = [], []
        for x in args:
            if type(x) is JVPTracer and x.owner.tag is self.tag:
                primals.append(x.primal)
                tangents.append(x.tangent)
            else:
                primals.append(x)
                tangents.append(None)
        parent = self.parent
        assert parent is not None
        with current(parent):
            if not any(t is not None for t in tangents) or not is_differentiable(prim, params):
                return parent.process(prim, primals, params)
            rule = prim.rule("jvp")
            out, tangent = rule([as_value(p) for p in primals], tangents, **params)
        if prim.multiple_results:
            return [self.join(p, t) for p, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Apply the user's forward rule."""
        return self._custom(call.forward, call, args)

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Apply the forward rule that follows from the user's reverse rule."""
        return self._custom(call.forward, call, args)

    def _custom(self, rule: Any, call: Any, args: Sequence[Value]) -> list[Value]:
        primals, tangents = zip(*map(self.split, args), strict=True) if args else ((), ())
        assert self.parent is not None
        if not any(t is not None for t in tangents):
            return apart(self, call, primals)
        with current(self.parent), closure_check(call):
            outs, out_tangents = rule(primals, tangents)
        return [self.join(p, t) for p, t in zip(outs, out_tangents, strict=True)]


class closure_check:
    """A tracer met inside a function with its own rule is one that it closes over: say so."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, UnexpectedTracerError) and not isinstance(
            error, ClosedOverDifferentiationError
        ):
            raise self.call.closes_over(error) from error


def apart(trace: Trace, call: Any, primals: Sequence[Value]) -> list[Value]:
    """Apply a function with its own rule where none of its arguments is differentiated."""
    assert trace.parent is not None
    with current(trace.parent), closure_check(call):
        return call.rebind(primals)  # type: ignore[no-any-return]


def is_differentiable(prim: Primitive, params: dict[str, Any]) -> bool:
    """Whether `prim` with these parameters has any derivative that is not zero."""
    kind: Any = prim.differentiable
    return kind if isinstance(kind, bool) else kind(**params)


def jvp_flat(
    f: Callable[..., Sequence[Value]],
    primals: Sequence[Value],
    tangents: Sequence[Value | None],
) -> tuple[list[Value], list[Value | None]]:
    """Outputs and tangents of a function of flat values; None stands for a zero tangent."""
    with entering() as parent:
        trace = JVPTrace(parent)
        with current(trace):
            outs = f(*[trace.join(p, t) for p, t in zip(primals, tangents, strict=True)])
        pairs = [trace.split(as_value(x)) for x in outs]
        for p, _ in pairs:
            check_open(p, parent)
    return [p for p, _ in pairs], [
        t if t is None or dtypes.is_inexact(p.dtype) else None for p, t in pairs
    ]
