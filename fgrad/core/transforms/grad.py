"""Reverse mode for users: grad, value_and_grad, vjp."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

from numpy import ndarray

from fgrad.core import basis, dtypes, trees
from fgrad.core.errors import DtypeError, GradientTypeError
from fgrad.core.evaluate import WEAK, ArrayImpl, as_value, borrow, library_of
from fgrad.core.homes import on_device
from fgrad.core.primitive import Value
from fgrad.core.tracing import entering
from fgrad.core.transforms.flat import FlatCall, Fun, name_of, refused
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.pullback import Pullback, own_residuals, owned
from fgrad.core.tree_registry import keystr


def grad(
    fun: Fun,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Fun:
    """The gradient of a function with a scalar result.

    Args:
        fun: Function of arrays, or of trees of arrays, that returns a real scalar.
        argnums: Positional argument, or arguments, in which to differentiate.
        has_aux: `fun` returns (scalar, auxiliary data), and the gradient function
            (gradient, auxiliary data).
        holomorphic: `fun` is a holomorphic function of complex arguments.
        allow_int: Integer arguments get a gradient of dtype float0 instead of an error.

    Returns:
        A function of the same arguments. Its result has the structure, shapes and dtypes of the
        argument; for several `argnums` it is a tuple.

    Raises:
        GradientTypeError: When called: the result is no scalar, or an argument has no gradient.

    Source:
        Conventions for complex values as in JAX: the gradient is the conjugate of the direction
        of steepest ascent.

    Example:
        >>> import fgrad as fg
        >>> fg.grad(lambda x: x * x)(3.0)
        Array(6., dtype=float32)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic=holomorphic, allow_int=allow_int)

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def value_and_grad(
    fun: Fun,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Fun:
    """The value of a function with a scalar result, and its gradient.

    Args:
        fun: See `grad`.
        argnums: See `grad`.
        has_aux: See `grad`; the value is then the pair (scalar, auxiliary data).
        holomorphic: See `grad`.
        allow_int: See `grad`.

    Returns:
        A function of the same arguments that returns (value, gradient).

    Raises:
        GradientTypeError: When called: the result is no scalar, or an argument has no gradient.

    Example:
        >>> import fgrad as fg
        >>> fg.value_and_grad(lambda x: x * x)(3.0)
        (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32))
    """
    if not callable(fun):
        raise GradientTypeError(f"grad takes a function, got {type(fun).__name__}")
    numbers, several = _argnums(fun, argnums)

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        positions = [_position(fun, n, len(args)) for n in numbers]
        if len(set(positions)) < len(positions):
            raise GradientTypeError(
                f"argnums={argnums} of {name_of(fun)} name an argument twice; give each once"
            )
        dynamic = args[positions[0]] if not several else tuple(args[i] for i in positions)
        leaves, tree = trees.flatten(dynamic)
        values = _values(fun, leaves, positions, args)
        active = [dtypes.is_inexact(v.dtype) for v in values]
        if holomorphic or not (allow_int or all(active)):
            _check_dtypes(fun, values, positions, args, holomorphic, allow_int)

        def rebuild(*flat: Value) -> list[Any]:
            given = trees.unflatten(tree, flat)
            full = list(args)
            for i, part in zip(positions, given if several else (given,), strict=True):
                full[i] = part
            return full

        call = FlatCall(fun, rebuild, kwargs, has_aux=has_aux)
        with entering():
            outs, tape = record_flat(call, values, active)
            _check_scalar(fun, call, outs, holomorphic)
            one = _beside(basis.scalar(1, outs[0].dtype), outs[0])
            cts = tape.backward([one, *[None] * call.aux_count], consume=True)
            given = iter(cts)
            grads = [
                _leaf_gradient(next(given) if a else None, v)
                for v, a in zip(values, active, strict=True)
            ]
        gradient = trees.unflatten(tree, grads)
        outs = [owned(x) for x in outs]
        return ((outs[0], call.aux(outs[1:])) if has_aux else outs[0]), gradient

    return wrapped


def _values(fun: Fun, leaves: Sequence[Any], positions: Sequence[int], args: Any) -> list[Value]:
    try:
        return [borrow(x) for x in leaves]
    except DtypeError:
        advice = "pass it in an argument that is not differentiated, or close over it"
        raise refused(
            f"grad of {name_of(fun)}", [(i, args[i]) for i in positions], advice
        ) from None  # fmt: skip


def _argnums(fun: Fun, argnums: Any) -> tuple[tuple[int, ...], bool]:
    """The numbers, and whether they were given as a sequence."""
    several = isinstance(argnums, (tuple, list))
    try:
        return tuple(operator.index(n) for n in (argnums if several else (argnums,))), several
    except TypeError:
        raise GradientTypeError(
            f"argnums of {name_of(fun)} must be an integer or a sequence of integers, got "
            f"{argnums!r}"
        ) from None


def _position(fun: Fun, number: int, count: int) -> int:
    position = number + count if number < 0 else number
    if not 0 <= position < count:
        raise GradientTypeError(
            f"argnums={number} names no positional argument of {name_of(fun)}, which was called "
            f"with {count} of them; arguments to differentiate must be passed by position"
        )
    return position


def _check_dtypes(
    fun: Fun, values: Sequence[Value], positions: Sequence[int], args: Any, holomorphic: bool,
    allow_int: bool,
) -> None:  # fmt: skip
    """Raise for the first value that has no gradient; say where it is, if it is one of several."""
    paths = [(i, path) for i in positions for path, _ in trees.flatten_with_path(args[i])[0]]
    for x, (i, path) in zip(values, paths, strict=True):
        where = f" as argument {i}{keystr(path)}" if path or len(positions) > 1 else ""
        if not dtypes.is_inexact(x.dtype):
            if not allow_int:
                raise GradientTypeError(
                    f"grad of {name_of(fun)} needs arguments of a float or complex dtype, got "
                    f"{x.aval}{where}; convert it with astype(float), leave it out of argnums, or "
                    f"pass allow_int=True"
                )
        elif holomorphic and x.dtype.kind != "c":
            raise GradientTypeError(
                f"grad(holomorphic=True) of {name_of(fun)} needs complex arguments, got "
                f"{x.aval}{where}"
            )


def _check_scalar(fun: Fun, call: FlatCall, outs: Sequence[Value], holomorphic: bool) -> None:
    count = len(outs) - call.aux_count
    if count != 1 or not call.out_tree.is_leaf():
        raise GradientTypeError(
            f"grad needs {name_of(fun)} to return one scalar, got a tree of {count} arrays "
            f"{call.out_tree}; return their sum, use has_aux=True for the rest, or fgrad.vjp"
        )
    out = outs[0].aval
    if out.shape != ():
        raise GradientTypeError(
            f"grad needs {name_of(fun)} to return a scalar, got {out}; sum it, or use fgrad.vjp "
            f"or fgrad.jacrev for array results"
        )
    if holomorphic and out.dtype.kind != "c":
        raise GradientTypeError(
            f"grad(holomorphic=True) needs {name_of(fun)} to return a complex scalar, got {out}; "
            f"leave holomorphic out where the result is real"
        )
    if not dtypes.is_float(out.dtype) and not holomorphic:
        hint = "; pass holomorphic=True" if out.dtype.kind == "c" else ""
        raise GradientTypeError(
            f"grad needs {name_of(fun)} to return a real scalar of a float dtype, got {out}{hint}"
        )


def _leaf_gradient(ct: Value | None, primal: Value) -> Value:
    if ct is None:
        return _beside(basis.zeros(primal.aval.tangent()), primal)
    return owned(ct)  # a rule may hand out what was borrowed


def _beside(x: Value, like: Value) -> Value:
    """A constant on the device of a value, as far as it is known to lie on one."""
    known = like.concrete()
    if known is None or type(known._data) is ndarray or type(x) is not ArrayImpl:
        return x
    if x.dtype == dtypes.float0:
        return x
    (there, _), _ = on_device(library_of(known._data), [x._data, known._data], operator.pos)
    return ArrayImpl(there, WEAK if x.weak_type else 0)


def vjp(fun: Fun, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and its pullback.

    Args:
        fun: Function of arrays or trees of arrays.
        *primals: Where to evaluate it.
        has_aux: `fun` returns (output, auxiliary data).

    Returns:
        ``(output, pullback)``, or ``(output, pullback, auxiliary data)``. The pullback maps a
        cotangent like the output to a tuple of cotangents like the primals; see `Pullback`.
        Arrays that the caller could write to are copied, since the pullback outlives the call.

    Example:
        >>> import fgrad as fg
        >>> y, pullback = fg.vjp(lambda x, y: x * y, 2.0, 3.0)
        >>> pullback(1.0)
        (Array(3., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    leaves, tree = trees.flatten(primals)
    values = [owned(as_value(x)) for x in leaves]
    active = [dtypes.is_inexact(v.dtype) for v in values]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    outs, tape = record_flat(call, values, active)
    count = len(outs) - call.aux_count
    own_residuals(tape.records or [])
    tape.outputs, tape.out_avals = tape.outputs[:count], tape.out_avals[:count]
    pullback = Pullback(tape, tree, call.out_tree, [v.aval for v in values])
    out = trees.unflatten(call.out_tree, outs[:count])
    return (out, pullback, call.aux(outs[count:])) if has_aux else (out, pullback)
