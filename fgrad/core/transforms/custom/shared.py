"""What calls of functions with rules share: identity, staging of rules, batching, errors."""

from collections.abc import Callable, Sequence
from typing import Any

from fgrad.core import basis
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    ClosedOverDifferentiationError,
    CustomRuleError,
    SavingError,
    UnexpectedTracerError,
)
from fgrad.core.ir import Jaxpr
from fgrad.core.primitive import (
    MappedAxis,
    Value,
)
from fgrad.core.tracing import state
from fgrad.core.transforms.batch import batch_flat
from fgrad.core.transforms.jaxprs import stage_derived

Fun = Callable[..., Any]


Values = Sequence[Value]


def closed_over(name: str, cause: Exception | None = None) -> ClosedOverDifferentiationError:
    """The error for a rule's function that closes over what is differentiated."""
    tail = f" ({str(cause).splitlines()[0]})" if cause is not None else ""
    return ClosedOverDifferentiationError(
        f"{name} has a derivative rule of its own and closes over a value that is being "
        f"differentiated, for which the rule gives nothing; pass the value as an argument, or wrap "
        f"it in stop_gradient{tail}"
    )


class Identity:
    """A function with rules, as the equations of its calls name it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Deferred:
    """Rules of a call that stands inside its own function's rule, staged when they are needed.

    ``return f(x), x`` is the usual forward rule: staging it at once would never end.
    """

    __slots__ = ("_made", "make", "name")

    def __init__(self, name: str, make: Callable[[], tuple[Any, ...]]) -> None:
        self.name = name
        self.make = make
        self._made: tuple[Any, ...] | None = None

    def get(self) -> tuple[Any, ...]:
        """The rules as closed programs."""
        if self._made is None:
            try:
                self._made = self.make()
            except UnexpectedTracerError as error:
                raise closed_over(self.name, error) from error
        return self._made

    def __repr__(self) -> str:
        return "<deferred>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not staged for the file: rules that call their own function would never end.
        return _saved, (self.name, self._made)


def _saved(name: str, made: tuple[Any, ...] | None) -> Deferred:
    """Deferred rules read from a file: those that had been staged when it was written."""

    def missing() -> tuple[Any, ...]:
        raise SavingError(
            f"the derivative of {name}, called inside its own rule, was not needed when this "
            f"program was saved and is not in the file; differentiate before saving"
        )

    return Deferred(name, missing if made is None else lambda: made)


class Staging:
    """Inside, calls of `owner` defer their rules."""

    __slots__ = ("before", "owner")

    def __init__(self, owner: object) -> None:
        self.owner = owner

    def __enter__(self) -> None:
        self.before = state.rules
        state.rules = (*self.before, self.owner)

    def __exit__(self, *_exception: object) -> None:
        state.rules = self.before


def check_outputs(
    name: str, rule: str, got: Sequence[ShapedArray], want: Sequence[ShapedArray]
) -> None:
    """A rule returns outputs of the types that the function returns."""
    for g, w in zip(got[: len(want)], want, strict=True):
        if g.shape != w.shape or g.dtype != w.dtype:
            raise CustomRuleError(
                f"the {rule} rule of {name} returned an output {g}, the function {w}: shape and "
                f"dtype must be the same"
            )


def programs_of(params: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """The programs of an equation's rules."""
    first = params[names[0]]
    return first.get() if isinstance(first, Deferred) else tuple(params[n] for n in names)


def split_consts(
    args: Values, flags: Sequence[Any], params: dict[str, Any]
) -> tuple[Values, Values, Sequence[Any], Sequence[Any]]:
    """Closed-over values and arguments of an equation, and the flags of both."""
    n = sum(params["counts"])
    return args[:n], args[n:], flags[:n], flags[n:]


def custom_batch(make: Callable[..., Any]) -> Any:
    """The batch rule of the calls that `make` builds from an equation."""

    def batch(
        axis: MappedAxis, values: Values, dims: Sequence[int | None], **params: Any
    ) -> tuple[Values, Sequence[int | None]]:
        consts, args, const_dims, arg_dims = split_consts(values, dims, params)
        if any(d is not None for d in const_dims):
            # Mapped closed-over values become arguments that have no derivative.
            return _batch_with_consts(make, axis, values, dims, params)
        avals = [_element(x, d) for x, d in zip(args, arg_dims, strict=True)]
        return make(consts, avals, params).batched(axis, args, arg_dims)  # type: ignore[no-any-return]

    return batch


def _element(x: Value, dim: int | None) -> ShapedArray:
    a: ShapedArray = x.aval
    return a if dim is None else a.update(shape=a.shape[:dim] + a.shape[dim + 1 :])


def _batch_with_consts(
    make: Callable[..., Any], axis: MappedAxis, values: Values, dims: Sequence[int | None],
    params: dict[str, Any],
) -> tuple[Values, Sequence[int | None]]:  # fmt: skip
    avals = [_element(x, d) for x, d in zip(values, dims, strict=True)]
    n = sum(params["counts"])
    return make(n, avals, params).batched(axis, values, dims)  # type: ignore[no-any-return]


class Lanes:
    """How a batched call runs its function and rules: for each lane, or once for all lanes.

    Where an argument is mapped every output is. Where none is, the first of them to run decides,
    for it may close over a mapped value; all others then do the same.

    Attributes:
        axis: The mapped axis.
        dims: Of each argument.
        mapped: Whether outputs are mapped, along axis 0; None while it is open.
    """

    __slots__ = ("axis", "dims", "mapped", "name")

    def __init__(self, owner: Identity, axis: MappedAxis, dims: Sequence[int | None]) -> None:
        self.name = owner.name
        self.axis = axis
        self.dims = dims
        self.mapped: bool | None = True if any(d is not None for d in dims) else None

    def run(self, f: Fun, args: Values, dims: Sequence[int | None]) -> list[Value]:
        """Run a function of one lane."""
        outs, found = batch_flat(f, self.axis, args, dims)
        varies = any(d is not None for d in found)
        if self.mapped is None:
            self.mapped = varies
        if self.mapped:
            return [basis.lead(x, d, self.axis.size) for x, d in zip(outs, found, strict=True)]
        if varies:
            raise CustomRuleError(
                f"a rule of {self.name} closes over a value that vmap maps, while no argument of "
                f"the call is mapped: its derivative would differ among lanes that share one "
                f"result; pass the value as an argument"
            )
        return outs

    def spread(self, x: Value, dim: int | None) -> Value:
        """An argument, or its tangent, as the rules run: mapped along axis 0, or shared."""
        return basis.lead(x, dim, self.axis.size) if self.mapped else x

    @property
    def out_dim(self) -> int | None:
        """The mapped axis of each output."""
        return 0 if self.mapped else None

    def unbatch(self, ct: Value | None, dim: int | None) -> Value | None:
        """A lane's cotangent as the cotangent of the batched, or shared, argument."""
        if ct is None or basis.is_zero_dtype(ct.dtype):
            return None
        if not self.mapped:
            return ct
        return basis.reduce_sum(ct, (0,)) if dim is None else basis.moveaxis(ct, 0, dim)


def embedded(f: Fun, types: Sequence[ShapedArray]) -> tuple[Jaxpr, list[Value]]:
    """A rule inside its own function's rule, as a program without closed-over values."""
    return stage_derived(f, types), []


class _Typed:
    """Something with a type and no value, to make zeros like."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval


def typed(avals: Sequence[ShapedArray]) -> list[Any]:
    """Stand-ins of these types, to make zeros like."""
    return [_Typed(a) for a in avals]
