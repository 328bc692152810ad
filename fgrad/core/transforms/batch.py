"""`vmap`: one more axis, carried through every primitive by its batching rule."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.evaluate import as_value
from fgrad.core.ir import axis_names
from fgrad.core.primitive import MappedAxis, Primitive, Value
from fgrad.core.tracing import Trace, Tracer, check_open, current, entering, state


class BatchTracer(Tracer):
    """A batch of values, seen as one of them.

    Attributes:
        value: The whole batch.
        dim: The axis of the batch.
    """

    __slots__ = ("dim", "value")

    def __init__(self, trace: Trace, value: Value, dim: int) -> None:
        self.owner = trace
        self.value = value
        self.dim = dim

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type of one element."""
        a = self.value.aval
        shape = a.shape[: self.dim] + a.shape[self.dim + 1 :]
        return ShapedArray(shape, a.dtype, a.weak_type)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis of one element."""
        shape = self.value.shape
        return shape[: self.dim] + shape[self.dim + 1 :]  # type: ignore[no-any-return]

    dtype = property(lambda self: self.value.dtype, doc="The element type.")
    weak_type = property(
        lambda self: self.value.weak_type,
        doc="Whether the dtype gives way to that of the other operand.",
    )


class BatchTrace(Trace):
    """Applies batching rules over one mapped axis."""

    __slots__ = ("axis",)

    words = "vmap"

    def __init__(self, parent: Trace, axis: MappedAxis) -> None:
        super().__init__(parent, axis.tag)
        self.axis = axis

    def split(self, x: Value) -> tuple[Value, int | None]:
        """The batch and its axis; None where `x` is the same for all."""
        if type(x) is BatchTracer and x.owner.tag is self.tag:
            return x.value, x.dim
        return x, None

    def join(self, value: Value, dim: int | None) -> Value:
        """A tracer, or the bare value where it is the same for all."""
        return value if dim is None else BatchTracer(self, value, dim)

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Apply the batching rule where an operand is mapped."""
        values: list[Value] = []
        dims: list[int | None] = []
        mapped = uses_axis(prim, params, self.axis.name)
        for x in args:
            if type(x) is BatchTracer and x.owner.tag is self.tag:
                values.append(x.value)
                dims.append(x.dim)
                mapped = True
            else:
                values.append(x)
                dims.append(None)
        parent = self.parent
        assert parent is not None
        with current(parent):
            if not mapped:
                return parent.process(prim, values, params)
            rule = prim.rule("batch")
            out, dim = rule(self.axis, [as_value(v) for v in values], dims, **params)
        if prim.multiple_results:
            return [self.join(v, d) for v, d in zip(out, dim, strict=True)]
        return self.join(out, dim)

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Batch the function and its rule."""
        return self._custom(call, args)

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Batch the function and its rules."""
        return self._custom(call, args)

    def _custom(self, call: Any, args: Sequence[Value]) -> list[Value]:
        pairs = [self.split(x) for x in args]
        assert self.parent is not None
        with current(self.parent):
            outs, dims = call.batched(self.axis, [v for v, _ in pairs], [d for _, d in pairs])
        return [self.join(v, d) for v, d in zip(outs, dims, strict=True)]


def uses_axis(prim: Primitive, params: dict[str, Any], name: Any) -> bool:
    """Whether a primitive is a collective over the mapped axis, or holds a program with one."""
    if name is None:
        return False
    return ("axis_name" in params or prim.calls) and name in axis_names(params)


def batch_flat(
    f: Callable[..., Sequence[Value]],
    axis: MappedAxis,
    args: Sequence[Value],
    dims: Sequence[int | None],
) -> tuple[list[Value], list[int | None]]:
    """Run a function of flat values over a mapped axis.

    Args:
        f: Sees one element of the batch.
        axis: Name, size and tag of the axis; the name is visible inside, to collectives.
        args: Batches, or values that are the same for all.
        dims: The mapped axis of each, or None.

    Returns:
        The outputs and the mapped axis of each, None where it is the same for all.
    """
    with entering() as parent:
        trace = BatchTrace(parent, axis)
        before = state.axes
        state.axes = (*before, axis) if axis.name is not None else before
        try:
            with current(trace):
                outs = f(*[trace.join(x, d) for x, d in zip(args, dims, strict=True)])
            pairs = [trace.split(as_value(x)) for x in outs]
            for v, _ in pairs:
                check_open(v, parent)
        finally:
            state.axes = before
    return [v for v, _ in pairs], [d for _, d in pairs]


def batch_to(
    f: Callable[..., Sequence[Value]],
    axis: MappedAxis,
    args: Sequence[Value],
    dims: Sequence[int | None],
) -> list[Value]:
    """Like `batch_flat`, with every output mapped along its axis 0."""
    outs, out_dims = batch_flat(f, axis, args, dims)
    return [basis.lead(x, d, axis.size) for x, d in zip(outs, out_dims, strict=True)]
