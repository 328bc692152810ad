"""The public faces of reverse and forward mode: grad, vjp, jvp, linearize, linear_transpose."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import CotangentError, GradientTypeError, TreeError
from fgrad.core.evaluate import ArrayImpl, as_value
from fgrad.core.ir import ClosedJaxpr
from fgrad.core.primitive import Value
from fgrad.core.tracing import Array, Tracer, entering
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linearize import Record, Tape, linear_flat, record_flat
from fgrad.core.transforms.stage import stage
from fgrad.core.tree_registry import register
from fgrad.core.where import Where

Fun = Callable[..., Any]


class FlatCall:
    """A call of `fun` as a function of flat values; remembers the structure of its result.

    Args:
        fun: The user's function.
        rebuild: From flat values to its positional arguments.
        kwargs: Keyword arguments, passed on as they are.
        has_aux: Whether `fun` returns (result, auxiliary data).
    """

    __slots__ = ("aux_count", "aux_leaves", "aux_tree", "fun", "has_aux", "kwargs", "out_tree",
                 "rebuild")  # fmt: skip

    def __init__(
        self, fun: Fun, rebuild: Callable[..., Sequence[Any]], kwargs: dict[str, Any],
        *, has_aux: bool = False,
    ) -> None:  # fmt: skip
        self.fun = fun
        self.rebuild = rebuild
        self.kwargs = kwargs
        self.has_aux = has_aux
        self.out_tree: Any = None
        self.aux_tree: Any = None
        self.aux_leaves: list[Any] = []
        self.aux_count = 0

    def __call__(self, *values: Value) -> list[Value]:
        out = self.fun(*self.rebuild(*values), **self.kwargs)
        traced_aux = []
        if self.has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise TreeError(
                    f"has_aux=True needs {name_of(self.fun)} to return a pair (output, auxiliary "
                    f"data), got {type(out).__name__}"
                )
            out, aux = out
            self.aux_leaves, self.aux_tree = trees.flatten(aux)
            traced_aux = [x for x in self.aux_leaves if isinstance(x, Tracer)]
            self.aux_count = len(traced_aux)
        leaves, self.out_tree = trees.flatten(out)
        return [*leaves, *traced_aux]

    def aux(self, values: Sequence[Value]) -> Any:
        """The auxiliary data, with the values that its tracers stood for."""
        given = iter(values)
        leaves = [next(given) if isinstance(x, Tracer) else x for x in self.aux_leaves]
        return trees.unflatten(self.aux_tree, leaves)


def name_of(fun: Any) -> str:
    """How messages call a function."""
    return getattr(fun, "__name__", None) or type(fun).__name__


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
    both = value_and_grad(
        fun, argnums, has_aux, holomorphic=holomorphic, allow_int=allow_int
    )

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
        (Array(9., dtype=float32), Array(6., dtype=float32))
    """
    if not callable(fun):
        raise GradientTypeError(f"grad takes a function, got {type(fun).__name__}")
    several = not isinstance(argnums, int)
    numbers = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)

    @functools.wraps(fun, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        positions = [_position(fun, n, len(args)) for n in numbers]
        dynamic = args[positions[0]] if not several else tuple(args[i] for i in positions)
        leaves, tree = trees.flatten(dynamic)
        values = [as_value(x) for x in leaves]
        active = [_gradient_exists(fun, v, holomorphic, allow_int) for v in values]

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
            one = basis.scalar(1, outs[0].dtype)
            cts = tape.backward([one, *[None] * call.aux_count], consume=True)
            given = iter(cts)
            grads = [
                _leaf_gradient(next(given) if a else None, v)
                for v, a in zip(values, active, strict=True)
            ]
        gradient = trees.unflatten(tree, grads)
        return ((outs[0], call.aux(outs[1:])) if has_aux else outs[0]), gradient

    return wrapped


def _position(fun: Fun, number: int, count: int) -> int:
    position = number + count if number < 0 else number
    if not 0 <= position < count:
        raise GradientTypeError(
            f"argnums={number} names no positional argument of {name_of(fun)}, which was called "
            f"with {count}; arguments to differentiate must be passed by position"
        )
    return position


def _gradient_exists(fun: Fun, x: Value, holomorphic: bool, allow_int: bool) -> bool:
    dtype = x.dtype
    if dtypes.is_inexact(dtype):
        if holomorphic and dtype.kind != "c":
            raise GradientTypeError(
                f"grad(holomorphic=True) of {name_of(fun)} needs complex arguments, got {x.aval}"
            )
        if not holomorphic and dtype.kind == "c":
            return True
        return True
    if not allow_int:
        raise GradientTypeError(
            f"grad of {name_of(fun)} needs arguments of a float or complex dtype, got {x.aval}; "
            f"convert it with astype(float), leave it out of argnums, or pass allow_int=True"
        )
    return False


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
    if not dtypes.is_float(out.dtype) and not (holomorphic and out.dtype.kind == "c"):
        hint = "; pass holomorphic=True" if out.dtype.kind == "c" else ""
        raise GradientTypeError(
            f"grad needs {name_of(fun)} to return a real scalar of a float dtype, got {out}{hint}"
        )


def _leaf_gradient(ct: Value | None, primal: Value) -> Value:
    if ct is None:
        return basis.zeros(primal.aval.tangent())
    return ct


class Residual:
    """One value that a pullback keeps.

    Attributes:
        name: The primitive that asked for it.
        shape: Its shape.
        dtype: Its dtype.
        nbytes: Its bytes.
        source: The user's line.
    """

    __slots__ = ("dtype", "name", "nbytes", "shape", "source")

    def __init__(self, name: str, value: Value, source: Where | None) -> None:
        self.name = name
        self.shape = value.shape
        self.dtype = value.dtype
        self.nbytes = value.nbytes
        self.source = source

    def __repr__(self) -> str:
        aval = ShapedArray(self.shape, self.dtype)
        return f"{aval} {self.nbytes} B kept by {self.name} at {self.source}"


class Pullback:
    """The function from cotangents of the outputs to cotangents of the inputs.

    Calling it keeps the residuals, so it may be called again; `consume` frees each after its last
    use. It is a pytree whose leaves are the residuals: it can be mapped over, moved and saved.
    """

    __slots__ = ("_in_tree", "_inexact", "_out_tree", "_tape", "_wraps")

    def __init__(self, tape: Tape, in_tree: Any, out_tree: Any, inexact: Sequence[ShapedArray | None]
                 ) -> None:  # fmt: skip
        self._tape = tape
        self._in_tree = in_tree
        self._out_tree = out_tree
        self._inexact = tuple(inexact)

    def __call__(self, ct: Any) -> Any:
        """Cotangents of the inputs, a tuple with one entry an input.

        Args:
            ct: A tree like the output, of the shapes and dtypes of its leaves.

        Raises:
            CotangentError: The tree, a shape or a dtype differs from the output's.
        """
        return self._run(ct, consume=False)

    def consume(self, ct: Any) -> Any:
        """Like calling it, freeing each residual after its last use.

        Raises:
            ResidualsFreedError: On a second use.
        """
        return self._run(ct, consume=True)

    def _run(self, ct: Any, *, consume: bool) -> Any:
        leaves, tree = trees.flatten(ct)
        if tree != self._out_tree:
            raise CotangentError(
                f"the cotangent must be a tree like the output {self._out_tree}, got {tree}"
            )
        with entering():
            cts = [
                check_cotangent(as_value(x), a)
                for x, a in zip(leaves, self._tape.out_avals, strict=True)
            ]
            return self._unflatten(self._tape.backward(cts, consume=consume))

    def _unflatten(self, cts: Sequence[Value | None]) -> Any:
        given = iter(cts)
        full = []
        for aval in self._inexact:
            ct = next(given) if dtypes.is_inexact(aval.dtype) else None  # type: ignore[union-attr]
            full.append(basis.zeros(aval.tangent()) if ct is None else ct)  # type: ignore[union-attr]
        return trees.unflatten(self._in_tree, full)

    @property
    def residuals(self) -> list[Residual]:
        """What is kept, each value once, with the line that made it."""
        seen: dict[int, Residual] = {}
        for record in self._tape.records or ():
            for x in record.residuals:
                if isinstance(x, Array):
                    seen.setdefault(id(x), Residual(record.name, x, record.source))
        return list(seen.values())

    @property
    def jaxpr(self) -> ClosedJaxpr:
        """The pullback as a program of its cotangents; residuals are its constants."""
        avals = [a.tangent() for a in self._tape.out_avals]
        program, consts = stage(
            lambda *cts: [
                basis.zeros(a.tangent()) if ct is None else ct
                for a, ct in zip(
                    self._tape.in_avals, self._tape.backward(cts, consume=False), strict=True
                )
            ],
            avals,
            "pullback.jaxpr",
        )
        return ClosedJaxpr(program, consts)

    def __repr__(self) -> str:
        freed = self._tape.records is None
        total = sum(r.nbytes for r in self.residuals)
        return f"Pullback({'consumed' if freed else f'{total} B of residuals'})"


def _flatten_pullback(p: Pullback) -> tuple[list[Any], Any]:
    tape = p._tape
    records = tape.records or []
    leaves = [x for r in records for x in r.residuals if isinstance(x, Array)]
    return leaves, p


def _unflatten_pullback(p: Pullback, leaves: Any) -> Pullback:
    given = iter(leaves)
    tape = p._tape
    records: list[Record] = [
        r.with_residuals([next(given) if isinstance(x, Array) else x for x in r.residuals])
        for r in tape.records or []
    ]
    copy = Tape(records, tape.inputs, tape.outputs, tape.in_avals, tape.out_avals, tape.size)
    return Pullback(copy, p._in_tree, p._out_tree, p._inexact)


def check_cotangent(ct: Value, out: ShapedArray) -> Value | None:
    """The cotangent of an output, checked; None for an output without derivative."""
    if not dtypes.is_inexact(out.dtype):
        if not basis.is_zero_dtype(ct.dtype) and ct.shape != out.shape:
            raise CotangentError(f"cotangent {ct.aval} does not fit the output {out}")
        return None
    if ct.shape != out.shape:
        raise CotangentError(
            f"the cotangent has shape {list(ct.shape)}, the output {list(out.shape)} ({out}); they "
            f"must be the same"
        )
    if ct.dtype != out.dtype:
        if ct.weak_type:
            return basis.convert_element_type(ct, out.dtype)
        raise CotangentError(
            f"the cotangent is {ct.aval}, the output {out}; convert the cotangent with "
            f"astype({out.dtype.name!r})"
        )
    return ct


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
        (Array(3., dtype=float32), Array(2., dtype=float32))
    """
    leaves, tree = trees.flatten(primals)
    values = [_owned(as_value(x)) for x in leaves]
    active = [dtypes.is_inexact(v.dtype) for v in values]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    outs, tape = record_flat(call, values, active)
    count = len(outs) - call.aux_count
    _own_residuals(tape.records or [])
    tape.outputs, tape.out_avals = tape.outputs[:count], tape.out_avals[:count]
    pullback = Pullback(tape, tree, call.out_tree, [v.aval for v in values])
    out = trees.unflatten(call.out_tree, outs[:count])
    return (out, pullback, call.aux(outs[count:])) if has_aux else (out, pullback)


def _owned(x: Value) -> Value:
    return x.owned() if type(x) is ArrayImpl else x


def _own_residuals(records: Sequence[Record]) -> None:
    """Copy each kept buffer that the caller could still write to, once."""
    copies: dict[int, Value] = {}
    for record in records:
        if any(type(x) is ArrayImpl and x._flags for x in record.residuals):
            record.residuals = [
                copies.setdefault(id(x), _owned(x)) if type(x) is ArrayImpl else x
                for x in record.residuals
            ]


def linearize(fun: Fun, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and its derivative there as a linear function.

    Args:
        fun: Function of arrays or trees of arrays.
        *primals: Where to linearize it.
        has_aux: `fun` returns (output, auxiliary data).

    Returns:
        ``(output, f_jvp)``, or ``(output, f_jvp, auxiliary data)``: `f_jvp` maps tangents like the
        primals to a tangent like the output, without evaluating `fun` again.

    Example:
        >>> import fgrad as fg
        >>> y, f_jvp = fg.linearize(lambda x: x * x, 3.0)
        >>> f_jvp(1.0)
        Array(6., dtype=float32)
    """
    leaves, tree = trees.flatten(primals)
    values = [_owned(as_value(x)) for x in leaves]
    active = [dtypes.is_inexact(v.dtype) for v in values]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    outs, tape = record_flat(call, values, active, linear=True)
    count = len(outs) - call.aux_count
    _own_residuals(tape.records or [])
    out = trees.unflatten(call.out_tree, outs[:count])

    def f_jvp(*tangents: Any) -> Any:
        given, got = trees.flatten(tangents)
        if got != tree:
            raise TreeError(f"tangents must be a tree like the primals {tree}, got {got}")
        with entering():
            ts = [
                check_tangent(as_value(t), v.aval)
                for t, v in zip(given, values, strict=True)
            ]
            results = tape.forward([t for t, a in zip(ts, active, strict=True) if a])
            full = [
                basis.zeros(y.aval.tangent()) if t is None else t
                for t, y in zip(results, outs, strict=True)
            ]
            return trees.unflatten(call.out_tree, full[:count])

    return (out, f_jvp, call.aux(outs[count:])) if has_aux else (out, f_jvp)


def check_tangent(t: Value, primal: ShapedArray) -> Value | None:
    """The tangent of an input, checked; None for an integer input."""
    if not dtypes.is_inexact(primal.dtype):
        if not basis.is_zero_dtype(t.dtype):
            raise CotangentError(
                f"the tangent of the integer primal {primal} must have dtype float0, got {t.aval}; "
                f"use numpy.zeros({primal.shape}, fgrad.float0)"
            )
        return None
    if t.shape != primal.shape:
        raise CotangentError(f"the tangent {t.aval} must have the shape of its primal {primal}")
    if t.dtype != primal.dtype:
        if t.weak_type:
            return basis.convert_element_type(t, primal.dtype)
        raise CotangentError(
            f"the tangent {t.aval} must have the dtype of its primal {primal}; convert it with "
            f"astype({primal.dtype.name!r})"
        )
    return t


def jvp(fun: Fun, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function and its derivative in one direction, forward mode.

    Args:
        fun: Function of arrays or trees of arrays.
        primals: Its arguments, a tuple or list.
        tangents: The direction, a tree like the primals.
        has_aux: `fun` returns (output, auxiliary data).

    Returns:
        ``(output, tangent)``, or ``(output, tangent, auxiliary data)``.

    Raises:
        TreeError: Primals and tangents differ in structure.
        CotangentError: A tangent differs from its primal in shape or dtype.

    Example:
        >>> import fgrad as fg
        >>> fg.jvp(lambda x: x * x, (3.0,), (1.0,))
        (Array(9., dtype=float32), Array(6., dtype=float32))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TreeError(
            f"jvp takes primals and tangents as tuples or lists of arguments, got "
            f"{type(primals).__name__} and {type(tangents).__name__}"
        )
    leaves, tree = trees.flatten(tuple(primals))
    given, got = trees.flatten(tuple(tangents))
    if tree != got:
        raise TreeError(f"tangents must be a tree like the primals {tree}, got {got}")
    values = [as_value(x) for x in leaves]
    ts = [check_tangent(as_value(t), v.aval) for t, v in zip(given, values, strict=True)]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    with entering():
        outs, out_ts = jvp_flat(call, values, ts)
        count = len(outs) - call.aux_count
        full = [basis.instantiate(t, y) for t, y in zip(out_ts, outs, strict=True)]
    out = trees.unflatten(call.out_tree, outs[:count])
    tangent = trees.unflatten(call.out_tree, full[:count])
    return (out, tangent, call.aux(outs[count:])) if has_aux else (out, tangent)


def linear_transpose(fun: Fun, *primals: Any) -> Fun:
    """The transpose of a linear function.

    Args:
        fun: A linear function of arrays or trees of arrays.
        *primals: Arrays, or anything with shape and dtype, that say the types of its arguments.

    Returns:
        A function from a tree like the output to a tuple of trees like the primals.

    Raises:
        NonlinearPullbackError: `fun` is not linear.

    Example:
        >>> import fgrad as fg
        >>> fg.linear_transpose(lambda x: 2.0 * x, 0.0)(3.0)
        (Array(6., dtype=float32),)
    """
    leaves, tree = trees.flatten(primals)
    avals = [aval_like(x).strip_weak() for x in leaves]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {})
    out_avals, tape = linear_flat(call, avals)

    def transposed(ct: Any) -> Any:
        given, got = trees.flatten(ct)
        if got != call.out_tree:
            raise CotangentError(
                f"the cotangent must be a tree like the output {call.out_tree}, got {got}"
            )
        with entering():
            cts = [
                check_cotangent(as_value(x), a) for x, a in zip(given, out_avals, strict=True)
            ]
            back = tape.backward(cts, consume=False)
            full = [
                basis.zeros(a) if c is None else c for c, a in zip(back, avals, strict=True)
            ]
        return trees.unflatten(tree, full)

    return transposed


def aval_like(x: Any) -> ShapedArray:
    """The type of an array, a number, or anything with `shape` and `dtype`."""
    if isinstance(x, ShapedArray):
        return x
    if not isinstance(x, (Array, np.ndarray, np.generic)) and hasattr(x, "shape"):
        return ShapedArray(tuple(x.shape), np.dtype(x.dtype), bool(getattr(x, "weak_type", False)))
    return as_value(x).aval  # type: ignore[no-any-return]


register(Pullback, _flatten_pullback, _unflatten_pullback)
