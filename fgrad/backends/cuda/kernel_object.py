"""A kernel in CUDA C with its rules, as an operation; `kernel_function` makes it."""

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fgrad.backends.cuda.kernel_primitive import Level, Params, cuda_kernel_p, without_batch
from fgrad.backends.cuda.launching import Dims, Launch, Loaded, checked_dims, launch
from fgrad.backends.cuda.signature import (
    Parameter,
    Signature,
    obstacle_to_batches,
    over_batches,
    signature_of,
)
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import (
    ArgumentError,
    CustomRuleError,
    DtypeError,
    RuleError,
    ShapeError,
    StaticArgumentError,
    UnsupportedCallError,
)
from fgrad.core.evaluate import as_value
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.custom import custom_jvp, custom_vjp

Fun = Callable[..., Any]

_FUNCTIONS = 64  # sets of parameters whose rules are kept, a kernel
_MOST_Z = 65535  # blocks along z


class Kernel:
    """A kernel with its rules: a function of arrays; made by `cuda_kernel`.

    Attributes:
        name: The kernel.
        source: CUDA C; None where an existing kernel does not tell it.
        signature: Its parameters, where there is a source.
    """

    def __init__(
        self, function: Any, source: str | None, name: str, rules: dict[str, Any],
        options: Sequence[str],
    ) -> None:  # fmt: skip
        self.name = self.__name__ = name
        self.source = source
        self.signature: Signature | None = signature_of(source, name) if source else None
        self.rules = rules
        self._function = function if function is not None else Loaded(str(source), name, options)
        self._batched: Any = None
        self._options = options
        self._applied = functools.lru_cache(maxsize=_FUNCTIONS)(self._with_rules)

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Apply the kernel.

        Args:
            *args: Arrays, the operands.
            **params: What the rules take beside them: hashable values.
        """
        key = tuple(sorted(params.items()))
        try:
            applied = self._applied(key)
        except TypeError:
            wrong = [f"{k}, {_kind(v)}" for k, v in key if getattr(v, "__hash__", None) is None]
            raise StaticArgumentError(
                f"parameters of kernel {self.name} are hashable values, got "
                f"{'; '.join(wrong) or 'others'}; pass a number that is known, or an array "
                f"without a name, which is an operand"
            ) from None
        return applied(*args)

    def _with_rules(self, params: Params) -> Fun:
        """The kernel at some parameters, under its derivative rules."""
        words = dict(params)

        def plain(*args: Any) -> Any:
            with entering():
                outs = bind(
                    cuda_kernel_p, *map(as_value, args), kernel=self, params=params, levels=()
                )
            return outs[0] if self.is_single([as_value(x).aval for x in args], words) else outs

        plain.__name__ = self.name
        reverse, forward = self.rules["vjp"], self.rules["jvp"]
        if forward is not None:
            forward = functools.partial(_forward, forward, words)
        if reverse is None and forward is None:
            return plain
        if reverse is None:
            of_jvp = custom_jvp(plain)
            of_jvp.defjvp(forward)
            return of_jvp
        of_vjp = custom_vjp(plain)
        if callable(reverse):

            def fwd(*args: Any) -> Any:
                out = of_vjp(*args)  # under its rule, for derivatives of this one
                return out, (args, out)

            of_vjp.defvjp(fwd, lambda kept, ct: reverse(ct, kept[1], *kept[0], **words), forward)
        else:
            first, second = reverse
            of_vjp.defvjp(
                functools.partial(first, **words), functools.partial(second, **words), forward
            )
        return of_vjp

    # ------------------------------------------------------------------------- what rules say

    def _asked(self, rule: str, avals: Sequence[ShapedArray], words: dict[str, Any]) -> Any:
        found = self.rules[rule]
        return self._called(rule, *avals, **words) if callable(found) else found

    def _called(self, rule: str, *args: Any, **words: Any) -> Any:
        """What a rule returns; raises where it does not take the arguments of a call."""
        try:
            return self.rules[rule](*args, **words)
        except TypeError as error:
            trace = error.__traceback__
            if trace is None or trace.tb_next is not None:  # from within the rule
                raise
            raise CustomRuleError(
                f"the rule {rule} of kernel {self.name} does not take the operands and parameters "
                f"of this call: {error}"
            ) from None

    def results(self, avals: Sequence[ShapedArray], words: dict[str, Any]) -> list[ShapedArray]:
        """The types of the results."""
        found = self._asked("out", avals, words)
        outs = list(found) if isinstance(found, tuple | list) else [found]
        for x in outs:
            if not (hasattr(x, "shape") and hasattr(x, "dtype")):
                raise CustomRuleError(
                    f"the rule out of kernel {self.name} must give types with shape and dtype, or "
                    f"a tuple of them, got {type(x).__name__}; see fgrad.ShapeDtypeStruct"
                )
        return [ShapedArray(tuple(x.shape), np.dtype(x.dtype)) for x in outs]

    def is_single(self, avals: Sequence[ShapedArray], words: dict[str, Any]) -> bool:
        """Whether the result is an array, not a tuple of arrays."""
        return not isinstance(self._asked("out", avals, words), tuple | list)

    def geometry(
        self, avals: Sequence[ShapedArray], outs: Sequence[ShapedArray], words: dict[str, Any]
    ) -> tuple[Dims, Dims, int]:
        """Grid, block and bytes of shared memory of a launch.

        Without a rule for the grid there is a thread for each element of the first result.
        """
        block = checked_dims(self.name, "block", self._asked("block", avals, words))
        grid = self._asked("grid", avals, words)
        if grid is None:
            grid = -(-prod(outs[0].shape) // prod(block))
        shared = int(self._asked("shared_mem", avals, words))
        return checked_dims(self.name, "grid", grid), block, shared

    def scalars(self, avals: Sequence[ShapedArray], words: dict[str, Any]) -> list[Any]:
        """The values of the parameters behind the pointers, in the types of the source."""
        given = self._asked("scalars", avals, words)
        given = list(given) if isinstance(given, tuple | list) else [given]
        if self.signature is None:
            return [_numpy_scalar(self.name, x) for x in given]
        parameters = [p for p in self.signature.parameters if not p.pointer]
        if len(parameters) != len(given):
            names = ", ".join(p.name for p in parameters) or "none"
            raise ArgumentError(
                f"kernel {self.name} takes {len(parameters)} numbers ({names}), its rule scalars "
                f"gives {len(given)}"
            )
        return [_converted(self.name, p, x) for p, x in zip(parameters, given, strict=True)]

    def check_pointers(self, avals: Sequence[ShapedArray], outs: Sequence[ShapedArray]) -> None:
        """Raise unless the pointers of the source are those of operands and results, in order.

        Raises:
            ArgumentError: There are more, or fewer, or numbers stand before them.
            DtypeError: One points to another type.
        """
        if self.signature is None:
            return
        every = self.signature.parameters
        pointers = self._pointers(len(avals), len(outs))
        if any(not p.pointer for p in every[: len(pointers)]):
            raise ArgumentError(
                f"kernel {self.name} must take its pointers first, then numbers: "
                f"{', '.join(p.name for p in every)}"
            )
        for p, aval in zip(pointers, [*avals, *outs], strict=True):
            if not p.takes(aval.dtype):
                raise DtypeError(
                    f"kernel {self.name}: {p.name} points to {p.type}, got {aval}; convert it with "
                    f"astype, or correct the source or the rule out"
                )

    def _pointers(self, operands: int, results: int) -> list[Parameter]:
        """The pointers of the source, where it is known; raises unless there are as many."""
        pointers = [p for p in self.signature.parameters if p.pointer] if self.signature else []
        if self.signature and len(pointers) != operands + results:
            raise ArgumentError(
                f"kernel {self.name} has {len(pointers)} pointers "
                f"({', '.join(p.name for p in pointers)}), got {operands} operands and "
                f"{results} results; it takes a pointer for each operand, then for each result, "
                f"then numbers, which the rule scalars gives"
            )
        return pointers

    def obstacle(self) -> str | None:
        """Why the default rule of `vmap` does not serve; None where it does."""
        if self.source is None or self.signature is None:
            return "the kernel does not tell its source"
        return obstacle_to_batches(self.source, self.signature)

    # ------------------------------------------------------------------------------- on devices

    def twin(self, arrays: Sequence[Any], outs: Sequence[ShapedArray],
             words: dict[str, Any]) -> list[Any]:  # fmt: skip
        """The results by NumPy."""
        cpu = self.rules["cpu"]
        if cpu is None:
            types = ", ".join(str(ShapedArray(x.shape, x.dtype)) for x in arrays)
            raise UnsupportedCallError(
                f"kernel {self.name} got {types} in host memory, where it has no twin; put the "
                f"operands on a GPU with fgrad.device_put, or give cpu= to cuda_kernel"
            )
        self._pointers(len(arrays), len(outs))
        found = self._called("cpu", *arrays, **words)
        results = list(found) if isinstance(found, tuple | list) else [found]
        if len(results) != len(outs):
            raise ShapeError(
                f"the twin of kernel {self.name} returned {len(results)} arrays, its rule out "
                f"states {len(outs)}"
            )
        results = [np.asarray(x) for x in results]
        for i, (x, aval) in enumerate(zip(results, outs, strict=True)):
            if x.shape != aval.shape or x.dtype != aval.dtype:
                error = ShapeError if x.shape != aval.shape else DtypeError
                raise error(
                    f"result {i} of the twin of kernel {self.name} is "
                    f"{ShapedArray(x.shape, x.dtype)}, its rule out states {aval}"
                )
        return results

    def run(
        self, xp: Any, arrays: Sequence[Any], avals: Sequence[ShapedArray],
        outs: Sequence[ShapedArray], words: dict[str, Any], levels: Sequence[Level],
    ) -> list[Any]:  # fmt: skip
        """The results over CuPy arrays, for operands of the types of one example."""
        sizes = tuple(size for size, _ in levels)
        results = [xp.empty((*sizes, *a.shape), a.dtype) for a in outs]
        if self.rules["fill"] is not None:
            for x in results:
                x.fill(self.rules["fill"])
        given = [xp.ascontiguousarray(x).reshape(x.shape) for x in arrays]
        given = _spread(xp, given, avals, levels)
        for args in self.launches(avals, outs, words, levels, given, results):
            launch(*args)
        return results

    def launches(
        self, avals: Sequence[ShapedArray], outs: Sequence[ShapedArray], words: dict[str, Any],
        levels: Sequence[Level], given: Sequence[Any], results: Sequence[Any],
    ) -> list[Launch]:  # fmt: skip
        """The launches over operands and results, which are arrays or pointers, in order.

        Operands are contiguous, and have the axes of all levels or of none; examples of a batch
        are blocks along z.
        """
        self.check_pointers(avals, outs)
        grid, block, shared = self.geometry(avals, outs, words)
        numbers = self.scalars(avals, words)
        if not levels:
            return [(self._function, grid, block, [*given, *results, *numbers], shared)]
        if grid[2] != 1:
            raise RuleError(without_batch(self.name, f"its grid {grid} uses z"))
        if self._batched is None:
            text = over_batches(self.source, self.signature)  # type: ignore[arg-type]
            self._batched = Loaded(text, self.name, self._options)
        count = prod(size for size, _ in levels)
        mapped = [any(flags[i] for _, flags in levels) for i in range(len(avals))]
        steps = [np.int64(prod(a.shape) * m) for a, m in zip(avals, mapped, strict=True)]
        steps += [np.int64(prod(a.shape)) for a in outs]
        found = []
        for first in range(0, count, _MOST_Z):
            args = [*given, *results, *numbers, np.int64(first), *steps]
            z = min(_MOST_Z, count - first)
            found.append((self._batched, (*grid[:2], z), block, args, shared))
        return found


def _kind(x: Any) -> str:
    """What a value is, for messages."""
    aval = getattr(x, "aval", None)
    return type(x).__name__ if aval is None else f"an array {aval}"


def _forward(rule: Fun, words: dict[str, Any], primals: Any, tangents: Any) -> Any:
    return rule(primals, tangents, **words)


def _numpy_scalar(name: str, x: Any) -> Any:
    if isinstance(x, np.generic):
        return x
    raise ArgumentError(
        f"kernel {name} does not tell its source, so its rule scalars must give NumPy scalars of "
        f"the types that it takes, got {x!r}"
    )


def _converted(name: str, parameter: Parameter, x: Any) -> Any:
    """A number in the type of the source; raises where it does not fit."""
    if parameter.dtype is None:
        return _numpy_scalar(name, x)
    if isinstance(x, np.generic) and not parameter.takes(x.dtype) and x.dtype.kind in "fc":
        raise DtypeError(
            f"kernel {name}: {parameter.name} is {parameter.type}, got {x.dtype} from its rule "
            f"scalars"
        )
    if parameter.dtype.kind in "iu":
        limits = np.iinfo(parameter.dtype)
        if int(x) != x or not limits.min <= x <= limits.max:
            raise DtypeError(f"kernel {name}: {x} does not fit {parameter.type} {parameter.name}")
    return parameter.dtype.type(x)


def _spread(
    xp: Any, arrays: Sequence[Any], avals: Sequence[ShapedArray], levels: Sequence[Level]
) -> list[Any]:
    """Operands that have the axes of all levels or of none."""
    given = []
    for i, (x, aval) in enumerate(zip(arrays, avals, strict=True)):
        flags = [mapped[i] for _, mapped in levels]
        if any(flags) and not all(flags):
            ones = tuple(size if f else 1 for (size, _), f in zip(levels, flags, strict=True))
            full = (*(size for size, _ in levels), *aval.shape)
            x = xp.ascontiguousarray(xp.broadcast_to(x.reshape((*ones, *aval.shape)), full))
        given.append(x)
    return given
