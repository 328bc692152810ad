"""What the public control-flow functions check before they stage anything."""

from typing import Any

from fgrad.core.errors import ArgumentError, ConcretizationTypeError, DtypeError, ShapeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import Tracer


def scalar_of(x: Any, what: str, kinds: str, wanted: str) -> Value:
    """`x` as a value without axes whose dtype is of one of these kinds."""
    x = as_value(x)
    if x.shape != ():
        raise ShapeError(
            f"{what} must be a scalar {wanted}, got {x.aval}; reduce it with any or all"
        )
    if x.dtype.kind not in kinds:
        raise DtypeError(f"{what} must be a scalar {wanted}, got {x.aval}")
    return x


def function(f: Any, what: str) -> None:
    """Raise unless `f` can be called."""
    if not callable(f):
        raise ArgumentError(f"{what} must be a function, got {type(f).__name__}")


def concrete(x: Value) -> Any:
    """The Python number of a scalar that is known now, or None."""
    found: Any = x.concrete() if isinstance(x, (Tracer, ArrayImpl)) else None
    return None if found is None else found._data.item()


def static_integer(x: Any, what: str) -> int:
    """An integer that must be known while tracing."""
    x = scalar_of(x, what, "iu", "integer")
    found = concrete(x)
    if found is None:
        raise ConcretizationTypeError(
            f"{what} must be known while tracing, got a traced {x.aval}; mark the argument static"
        )
    return int(found)
