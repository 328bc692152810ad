"""Values, traces and `bind`: the current trace decides what applying a primitive means.

A trace interprets primitives. Each thread has one current trace; each trace keeps its parent, and
runs its rules with the parent current, so that transforms nest to any depth. A tracer belongs to
the transform whose `tag` its trace carries: that identity, not a level number, tells an inner
derivative from an outer one.
"""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from fgrad.core import where
from fgrad.core.array import Array as Array
from fgrad.core.array import install as install
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    FgradError,
    TracerArrayConversionError,
    TracerBoolConversionError,
    TracerIntegerConversionError,
    UnexpectedTracerError,
)
from fgrad.core.primitive import Primitive, Value


class Trace:
    """Gives a meaning to each primitive application. Concrete traces are final.

    Attributes:
        parent: The trace below, where this one's rules run; None at the bottom.
        tag: Identity of the transform; shared by the traces that work for one transform.
        words: How the transform is called in messages.
    """

    __slots__ = ("parent", "tag")

    words = "fgrad"

    def __init__(self, parent: "Trace | None", tag: object | None = None) -> None:
        self.parent = parent
        self.tag = tag if tag is not None else object()

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Apply `prim`: a value, or a list of them where it has several results."""
        raise FgradError("abstract")  # pragma: no cover

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Apply a function that has its own forward rule (see `transforms.custom`)."""
        raise FgradError("abstract")  # pragma: no cover

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Apply a function that has its own reverse rule (see `transforms.custom`)."""
        raise FgradError("abstract")  # pragma: no cover


class _State(threading.local):
    """What a thread is doing. Class attributes are what a new thread starts with."""

    trace: Trace = None  # type: ignore[assignment]  # `evaluate` sets it at import
    quiet: Trace = None  # type: ignore[assignment]
    phase: object = None
    pullback: Any = None  # of what is staged now: see `Eqn.pullback`
    axes: tuple[Any, ...] = ()
    rules: tuple[object, ...] = ()  # functions whose own derivative rules are being staged
    again: Trace | None = None  # where code began that runs again: it uses up no random key


state = _State()


class current:
    """Make `trace` the current one of this thread inside a ``with`` block."""

    __slots__ = ("previous", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __enter__(self) -> None:
        self.previous = state.trace
        state.trace = self.trace

    def __exit__(self, *_exception: object) -> None:
        state.trace = self.previous


class staging(current):
    """Like `current`, for a program of its own: it does not belong to the pullback around."""

    __slots__ = ("pullback",)

    def __enter__(self) -> None:
        super().__enter__()
        self.pullback = state.pullback
        state.pullback = None

    def __exit__(self, *exception: object) -> None:
        state.pullback = self.pullback
        super().__exit__(*exception)


class entering:
    """Open the outermost transform of a call: floating-point warnings are off inside.

    Infinities and NaNs are values to a program of transforms (`debug_nans` finds them), and
    switching NumPy's warnings off for each operation would cost more than the operation.
    """

    __slots__ = ("errstate",)

    def __enter__(self) -> Trace:
        trace = state.trace
        self.errstate = None
        if trace is type(state).trace:
            self.errstate = np.errstate(all="ignore")
            self.errstate.__enter__()
            state.trace = trace = state.quiet
        return trace

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.errstate is not None:
            state.trace = type(state).trace
            self.errstate.__exit__(kind, exception, traceback)


def bind(prim: Primitive, *args: Value, **params: Any) -> Any:
    """Apply a primitive to values: the current trace decides what that means."""
    try:
        return state.trace.process(prim, args, params)
    except FgradError as error:
        # Rules run with the transforms around them current: the outermost bind knows them all.
        error.note_context(_open_transforms())
        raise


class running_again:
    """Inside, code runs that has run before or only says its types: it uses up no random key."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = state.again
        state.again = state.trace

    def __exit__(self, *_exception: object) -> None:
        state.again = self.before


class Tracer(Array):
    """Stands for an array while a function is transformed.

    Attributes:
        owner: The trace that made it; its `tag` says to which transform the tracer belongs.
    """

    __slots__ = ("owner",)

    owner: Trace

    def concrete(self) -> "Array | None":
        """The concrete array underneath, where there is one."""
        return None

    def __repr__(self) -> str:
        found = self.concrete()
        known = "" if found is None else str(found)
        return f"{type(self).__name__}<{self.aval}>" + (known and f" of {known}")

    def __bool__(self) -> bool:
        found = self.concrete()
        if found is None:
            raise TracerBoolConversionError(
                f"the truth value of a traced {self.aval} is not known while {self.owner.words} "
                f"traces; use fgrad.lax.cond, fgrad.numpy.where or mark the argument static"
            )
        check_open(self, state.trace)
        return bool(found)

    def __index__(self) -> int:
        found = self.concrete() if self.dtype.kind in "iub" else None
        if found is None:
            raise TracerIntegerConversionError(
                f"a traced {self.aval} is no Python integer while {self.owner.words} traces; use "
                f"fgrad.lax.dynamic_slice or indexing with arrays, fgrad.lax.fori_loop in place of "
                f"range, or mark the argument static"
            )
        check_open(self, state.trace)
        return found.__index__()

    def __int__(self) -> int:
        if self.dtype.kind in "iub":
            return self.__index__()
        raise self._no_scalar("int")

    def __float__(self) -> float:
        raise self._no_scalar("float")

    def __complex__(self) -> complex:
        raise self._no_scalar("complex")

    def item(self, *_: Any) -> Any:
        """Not possible: raises `TracerArrayConversionError`."""
        raise self._no_scalar("item")

    def tolist(self) -> Any:
        """Not possible: raises `TracerArrayConversionError`."""
        raise self._no_scalar("tolist")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self._no_scalar("numpy.asarray")

    def __deepcopy__(self, _memo: Any) -> "Tracer":
        return self

    def __copy__(self) -> "Tracer":
        return self

    def _no_scalar(self, name: str) -> FgradError:
        if self.concrete() is None:
            return TracerArrayConversionError(
                f"{name} needs the value of a traced {self.aval}, which is not known while "
                f"{self.owner.words} traces; use fgrad.numpy instead, fgrad.debug.print to look at "
                f"it, or a static argument of jit"
            )
        return TracerArrayConversionError(
            f"{name} would take the traced {self.aval} out of {self.owner.words} and lose its "
            f"derivative; use fgrad.numpy instead, fgrad.lax.stop_gradient where none is wanted, "
            f"or fgrad.debug.print to look at it"
        )


def leaked(tracer: Tracer) -> UnexpectedTracerError:
    """The error for a tracer met outside the transform it belongs to."""
    return UnexpectedTracerError(
        f"a traced {tracer.aval} of {tracer.owner.words} was used outside of it: it was kept in a "
        f"global, an attribute or a closure, or passed to another thread, or a function with its "
        f"own derivative closes over it; return it from the transformed function, or pass it as "
        f"an argument"
    )


def is_open(tracer: Tracer, trace: Trace | None) -> bool:
    """Whether the transform of `tracer` is `trace` or one around it."""
    tag = tracer.owner.tag
    while trace is not None:
        if trace.tag is tag:
            return True
        trace = trace.parent
    return False


def check_open(x: Value, trace: Trace | None) -> None:
    """Raise `UnexpectedTracerError` for a tracer of none of `trace` and those around it."""
    if isinstance(x, Tracer) and not is_open(x, trace):
        raise leaked(x)


def aval_of(x: Value) -> ShapedArray:
    """The type of a value."""
    return x.aval  # type: ignore[no-any-return]


def raise_with_types(prim: Primitive, avals: Sequence[ShapedArray], params: Mapping[str, Any],
                     cause: Exception) -> None:  # fmt: skip
    """Turn a failure of an eager rule into the error that the abstract rule states.

    Where the types are right the failure is of the computation itself: it gets the user's line.
    """
    prim.abstract(*avals, **params)
    place = where.here()
    types = ", ".join(map(str, avals))
    cause.add_note(f"fgrad: in {prim.name}({types}), asked for at {place}")
    raise cause


def _open_transforms() -> str:
    """The transforms around the current line, innermost first, in words."""
    words = []
    trace: Trace | None = state.trace
    while trace is not None and trace.parent is not None:
        words.append(trace.words)
        trace = trace.parent
    return " of ".join(words)


where.set_context(_open_transforms)
