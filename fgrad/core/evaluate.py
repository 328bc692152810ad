"""Concrete arrays, and the trace at the bottom: it computes at once.

`ArrayImpl` wraps a NumPy or CuPy buffer. Which library computes is looked up by the buffer's type
in a table that backends fill, so this module knows NumPy alone.
"""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy import ndarray

from fgrad.core import dtypes
from fgrad.core.avals import ShapedArray
from fgrad.core.config import config
from fgrad.core.errors import BufferDonatedError, DtypeError, FgradError, NonFiniteError
from fgrad.core.homes import copied, on_device, root
from fgrad.core.primitive import Primitive, Value
from fgrad.core.tracing import (
    Array,
    Trace,
    Tracer,
    leaked,
    raise_with_types,
    state,
)

WEAK = 1  # the dtype came from a Python scalar
BORROWED = 2  # the buffer belongs to the caller, who may write to it


class ArrayImpl(Array):
    """A concrete array: a buffer that nobody writes to, and two flags.

    The words of random keys also carry the record of their uses (see `transforms.key_uses`).
    """

    __slots__ = ("_data", "_flags", "_uses")

    _uses: Any

    def __init__(self, data: Any, flags: int = 0) -> None:
        self._data = data
        self._flags = flags

    @property
    def aval(self) -> ShapedArray:
        """Shape, dtype and weak type."""
        data = self._data
        return ShapedArray(data.shape, data.dtype, bool(self._flags & WEAK))

    shape = property(lambda self: self._data.shape, doc="The length of each axis.")
    dtype = property(lambda self: self._data.dtype, doc="The element type.")
    ndim = property(lambda self: self._data.ndim, doc="The number of axes.")
    size = property(lambda self: self._data.size, doc="The number of elements.")
    weak_type = property(lambda self: bool(self._flags & WEAK), doc="Whether the dtype gives way.")

    def concrete(self) -> "ArrayImpl":
        """Itself: it is concrete."""
        return self

    def owned(self) -> "ArrayImpl":
        """Itself, or a copy where the caller could still write to the buffer."""
        if self._flags & BORROWED:
            return ArrayImpl(copied(self._data), self._flags & WEAK)
        return self


class DonatedBuffer:
    """Stands in for buffers of a type that were given away: every use but of the type raises."""

    __slots__ = ("_name", "dtype", "shape")

    def __init__(self, data: Any, name: str) -> None:
        self._name = name
        self.shape = data.shape
        self.dtype = data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getattr__(self, attribute: str) -> Any:
        raise self.gone()

    def described(self) -> str:
        """What its array prints."""
        return f"<Array {ShapedArray(self.shape, self.dtype)}, donated to {self._name}>"

    def gone(self) -> BufferDonatedError:
        """The error for its use."""
        return BufferDonatedError(
            f"this {ShapedArray(self.shape, self.dtype)} was donated to {self._name} and its "
            f"buffer is gone; use the result of that call instead (one that raised has none), or "
            f"do not donate it"
        )


_namespaces: dict[type, ModuleType] = {np.ndarray: np}
_adopters: dict[str, Callable[[type], ModuleType]] = {}


def register_namespace(module: str, adopt: Callable[[type], ModuleType]) -> None:
    """Let a backend say which array library serves buffers of types defined in `module`."""
    _adopters[module] = adopt


def namespace_of(kind: type) -> ModuleType:
    """The array library of a buffer type; raises `DtypeError` where none is known."""
    found = _namespaces.get(kind)
    if found is None:
        adopt = _adopters.get(kind.__module__.partition(".")[0])
        if adopt is not None:
            found = _namespaces[kind] = adopt(kind)
        elif issubclass(kind, np.ndarray):
            found = np
        else:
            raise DtypeError(f"{kind.__module__}.{kind.__qualname__} is no array fgrad can hold")
    return found


def library_of(data: Any) -> ModuleType:
    """The array library of a buffer; raises `BufferDonatedError` where it was given away."""
    if type(data) is DonatedBuffer:
        raise data.gone()
    return namespace_of(type(data))


_after_waiting: list[tuple[Callable[[], None], Callable[[BaseException], None]]] = []


def when_waited(check: Callable[[], None], explain: Callable[[BaseException], None]) -> None:
    """Have a backend speak each time that somebody has waited for what devices compute.

    Args:
        check: Raises what failed in its work.
        explain: Adds to the error of a wait what ran before.
    """
    _after_waiting.append((check, explain))


def waited(error: BaseException | None = None) -> None:
    """Say that work of a device was waited for, and, if it has failed, by which error."""
    for check, explain in _after_waiting:
        if error is None:
            check()
        else:
            explain(error)


def is_buffer(x: Any) -> bool:
    """Whether `x` is a bare array of a library that fgrad computes with."""
    kind = type(x)
    return kind in _namespaces or kind.__module__.partition(".")[0] in _adopters


_WEAK_DEFAULTS: dict[type, Callable[[], np.dtype[Any]]] = {
    int: dtypes.default_int,
    float: dtypes.default_float,
    complex: dtypes.default_complex,
}


def as_value(x: Any) -> Value:
    """The value of an array, a NumPy or CuPy array or a Python scalar.

    A buffer that the caller could write to is copied: a function that has nothing to do (a
    reshape to the same shape, say) may hand the value back.

    Raises:
        DtypeError: `x` is none of these, or of a dtype that no program can hold.
    """
    if isinstance(x, Array):
        return x
    value = borrow(x)
    return value.owned() if type(value) is ArrayImpl else value


def borrow(x: Any) -> Value:
    """Like `as_value` without copying, for callers that hand out only what they own.

    Raises:
        DtypeError: `x` is none of these, or of a dtype that no program can hold.
    """
    if isinstance(x, Array):
        return x
    kind = type(x)
    if kind is np.ndarray:
        check_dtype(x.dtype)
        return ArrayImpl(x, BORROWED if x.flags.writeable or not _is_frozen(x) else 0)
    default = _WEAK_DEFAULTS.get(kind)
    if default is not None:
        return ArrayImpl(_python_scalar(x, default()), WEAK)
    if kind is bool:
        return ArrayImpl(np.asarray(x))
    if isinstance(x, np.generic):
        check_dtype(x.dtype)
        return ArrayImpl(np.asarray(x))
    if isinstance(x, np.ndarray):
        check_unmasked(x)
        return borrow(np.asarray(x))
    if is_buffer(x):
        return ArrayImpl(x, BORROWED)
    if hasattr(x, "__fgrad_array__"):
        return x.__fgrad_array__()
    convertible = isinstance(x, (list, tuple)) or hasattr(x, "__dlpack__")
    advice = "; convert it with fgrad.numpy.asarray" if convertible else ""
    raise DtypeError(
        f"expected an array or a number, got {kind.__qualname__}: {str(x)[:60]!r}{advice}"
    )


def check_unmasked(x: Any) -> None:
    """Raise `DtypeError` for a masked array: nothing here would take its mask into account."""
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(x, ma.MaskedArray):
        raise DtypeError(
            f"got a numpy.ma.MaskedArray {ShapedArray(x.shape, x.dtype)}: its mask would be lost; "
            f"fill in what is masked with x.filled(value), or pass x.data and np.ma.getmaskarray(x)"
        )


def _is_frozen(x: Any) -> bool:
    """Whether nobody can write to a read-only array: what it is a view of is read-only too."""
    while isinstance(x, np.ndarray):
        if x.flags.writeable:
            return False
        x = x.base
    if x is None:
        return True
    try:  # bytes, and files that are mapped for reading
        return memoryview(x).readonly
    except TypeError:
        return False


def is_value(x: Any) -> bool:
    """Whether `as_value` takes `x`."""
    if isinstance(x, (np.ndarray, np.generic)):
        return _is_held(x.dtype)
    plain = isinstance(x, Array) or type(x) in _WEAK_DEFAULTS or type(x) is bool
    return plain or is_buffer(x) or hasattr(x, "__fgrad_array__")


def _python_scalar(x: Any, dtype: np.dtype[Any]) -> Any:
    try:
        return np.asarray(x, dtype)
    except OverflowError:
        raise DtypeError(
            f"the Python integer {x} does not fit {dtype}; pass a NumPy scalar of a wider dtype, "
            f"or set enable_x64"
        ) from None


def _is_held(dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "V":  # the small floats and integers of ml_dtypes, float0, records
        return dtype.type is not np.void or dtype == dtypes.float0
    widest = 16 if dtype.kind == "c" else 8  # bytes; longdouble is wider
    return dtype.kind not in "OSUMmT" and dtype.itemsize <= widest and dtype.isnative


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise `DtypeError` unless programs can hold `dtype` (numbers and booleans)."""
    if not _is_held(dtype):
        raise DtypeError(
            f"arrays of dtype {dtype} cannot be traced: fgrad holds native booleans and numbers, "
            f"up to float64 and complex128; convert the array first"
        )


class EvalTrace(Trace):
    """The bottom: computes with the eager rules.

    Args:
        quiet: Whether a caller has switched floating-point warnings off already.
    """

    __slots__ = ("quiet",)

    words = "the evaluation"

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(None)
        self.quiet = quiet

    def process(self, prim: Primitive, args: Sequence[Value], params: dict[str, Any]) -> Any:
        """Compute `prim` on buffers."""
        buffers = []
        flags = 0
        xp: Any = np
        for a in args:
            if type(a) is not ArrayImpl:
                a = _concrete(a)
            flags |= a._flags
            data = a._data
            if type(data) is not ndarray:
                xp = library_of(data)
            buffers.append(data)
        eager = prim.eager
        if xp is not np:
            buffers, eager = on_device(xp, buffers, eager)
        try:
            if self.quiet:
                out = eager(xp, *buffers, **params)
            else:
                out = self._quietly(eager, xp, buffers, params)
        except FgradError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, with its types and line
            raise_with_types(prim, [as_value(a).aval for a in args], params, error)
        if type(out) is ndarray and not flags and "weak_type" not in params:
            result: Any = ArrayImpl(out)
        else:
            result = _flagged(prim, args, params, buffers, flags, out)
        if config.debug_nans or config.debug_infs:
            check_finite(prim, out)
        return result

    def _quietly(self, eager: Any, xp: Any, buffers: list[Any], params: Any) -> Any:
        with np.errstate(all="ignore"):
            state.trace = state.quiet
            try:
                return eager(xp, *buffers, **params)
            finally:
                state.trace = self

    def process_custom_jvp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Nothing to differentiate: the function itself."""
        return call.fun(*args)  # type: ignore[no-any-return]

    def process_custom_vjp(self, call: Any, args: Sequence[Value]) -> list[Value]:
        """Nothing to differentiate: the function itself."""
        return call.fun(*args)  # type: ignore[no-any-return]


def _concrete(x: Any) -> Value:
    if isinstance(x, Tracer):
        raise leaked(x)
    return borrow(x)


def _wrap(out: Any, flags: int) -> ArrayImpl:
    return ArrayImpl(np.asarray(out) if isinstance(out, np.generic) else out, flags)


def _flagged(
    prim: Primitive, args: Sequence[Value], params: dict[str, Any], buffers: Sequence[Any],
    flags: int, out: Any,
) -> Any:  # fmt: skip
    """Wrap results where an operand is weakly typed or its buffer is the caller's."""
    if flags & BORROWED:
        out = _detached(prim, out, buffers)
    outs = out if prim.multiple_results else (out,)
    weak = [0] * len(outs)
    if flags & WEAK or "weak_type" in params:
        avals = prim.abstract(*[as_value(a).aval for a in args], **params)
        weak = [WEAK if a.weak_type else 0 for a in (avals if prim.multiple_results else (avals,))]
    wrapped = [_wrap(x, w) for x, w in zip(outs, weak, strict=True)]
    return wrapped if prim.multiple_results else wrapped[0]


def _detached(prim: Primitive, out: Any, buffers: Sequence[Any]) -> Any:
    """Copy results that are views of a buffer which the caller may write to."""
    if prim.multiple_results:
        return [_detach(x, buffers) for x in out]
    return _detach(out, buffers)


def _detach(x: Any, buffers: Sequence[Any]) -> Any:
    if isinstance(x, np.ndarray) and any(
        type(b) is np.ndarray and np.may_share_memory(x, b) for b in buffers
    ):
        return x.copy()
    if type(x) in _namespaces and any(type(b) is type(x) and root(b) is root(x) for b in buffers):
        return copied(x)
    return x


def check_finite(prim: Primitive, out: Any) -> None:
    """Raise at the first result that is not finite, under `debug_nans` and `debug_infs`."""
    for x in out if prim.multiple_results else (out,):
        x = np.asarray(x) if isinstance(x, np.generic) else x
        if not dtypes.is_inexact(x.dtype):
            continue
        if config.debug_nans and bool((x != x).any()):
            raise NonFiniteError(
                f"{prim.name} produced NaN in {ShapedArray(x.shape, x.dtype)} (debug_nans is on)"
            )
        if config.debug_infs and bool((abs(x) == np.inf).any()):
            raise NonFiniteError(
                f"{prim.name} produced an infinity in {ShapedArray(x.shape, x.dtype)} (debug_infs "
                f"is on)"
            )


type(state).trace = EvalTrace(quiet=False)
type(state).quiet = EvalTrace(quiet=True)
