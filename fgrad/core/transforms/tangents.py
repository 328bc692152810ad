"""Derivatives along tangents for users: jvp, linearize, linear_transpose."""

from collections.abc import Sequence
from typing import Any

from fgrad.core import basis, dtypes, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import CotangentError, TreeError
from fgrad.core.evaluate import as_value, borrow
from fgrad.core.primitive import Value
from fgrad.core.tracing import entering
from fgrad.core.transforms.flat import FlatCall, Fun, aval_like
from fgrad.core.transforms.forward import jvp_flat
from fgrad.core.transforms.linear import linear_flat
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.pullback import check_cotangent, own_residuals, owned


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
        Array(6., dtype=float32, weak_type=True)
    """
    leaves, tree = trees.flatten(primals)
    values = [owned(as_value(x)) for x in leaves]
    active = [dtypes.is_inexact(v.dtype) for v in values]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    outs, tape = record_flat(call, values, active, linear=True)
    count = len(outs) - call.aux_count
    own_residuals(tape.records or [])
    out = trees.unflatten(call.out_tree, outs[:count])

    def f_jvp(*tangents: Any) -> Any:
        given, got = trees.flatten(tangents)
        if got != tree:
            raise TreeError(f"tangents must be a tree like the primals {tree}, got {got}")
        with entering():
            ts = [check_tangent(as_value(t), v.aval) for t, v in zip(given, values, strict=True)]
            results = tape.forward([t for t, a in zip(ts, active, strict=True) if a])
            full = [
                basis.zeros(y.aval.tangent()) if t is None else t
                for t, y in zip(results, outs, strict=True)
            ]
            return trees.unflatten(call.out_tree, [owned(t) for t in full[:count]])

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
        if basis.gives_way(t, primal.dtype):
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
        (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
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
    values = [borrow(x) for x in leaves]
    ts = [check_tangent(as_value(t), v.aval) for t, v in zip(given, values, strict=True)]
    call = FlatCall(fun, lambda *flat: trees.unflatten(tree, flat), {}, has_aux=has_aux)
    with entering():
        outs, out_ts = jvp_flat(call, values, ts)
        count = len(outs) - call.aux_count
        full = [owned(basis.instantiate(t, y)) for t, y in zip(out_ts, outs, strict=True)]
        outs = [owned(y) for y in outs]
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
            cts = [check_cotangent(as_value(x), a) for x, a in zip(given, out_avals, strict=True)]
            back = tape.backward(cts, consume=False)
            full = [basis.zeros(a) if c is None else c for c, a in zip(back, avals, strict=True)]
        return trees.unflatten(tree, [owned(c) for c in full])

    return transposed
