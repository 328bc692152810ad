"""Whole derivatives: jacfwd, jacrev, jacobian, hessian, and products with the Hessian."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, dtypes, trees
from fgrad.core.errors import GradientTypeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.core.tracing import entering
from fgrad.core.transforms.flat import check_callable, name_of
from fgrad.core.transforms.grad import grad, vjp
from fgrad.core.transforms.tangents import jvp
from fgrad.core.transforms.vmap import vmap
from fgrad.lax.compare import eq
from fgrad.lax.creation import broadcasted_iota
from fgrad.lax.slicing import slice_in_dim

__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]

Fun = Callable[..., Any]
Argnums = int | Sequence[int]
_KEPT_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


def jacfwd(
    fun: Fun, argnums: Argnums = 0, has_aux: bool = False, *, holomorphic: bool = False
) -> Fun:
    """The Jacobian, a column at a time: forward mode, best for more outputs than inputs.

    Args:
        fun: Function of arrays or trees of arrays.
        argnums: Positional argument, or arguments, in which to differentiate.
        has_aux: `fun` returns (output, auxiliary data), and the Jacobian function
            (Jacobian, auxiliary data).
        holomorphic: `fun` is a holomorphic function of complex arguments.

    Returns:
        A function of the same arguments. Its result has the tree of the output, at each leaf the
        tree of the argument (a tuple of them for several `argnums`), and in it arrays of the shape
        of the output followed by that of the argument.

    Raises:
        GradientTypeError: When called: an argument is not of a real float dtype, or not of a
            complex one with `holomorphic`.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.jacfwd(lambda x: fnp.stack([x[0] * x[1], x[1]]))(fnp.array([2.0, 3.0]))
        Array([[3., 2.],
               [0., 1.]], dtype=float32)
    """

    @functools.wraps(fun, assigned=_KEPT_NAMES)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        partial, dynamic = _partial(fun, argnums, args, kwargs)
        leaves, tree = trees.flatten(dynamic)
        values = [as_value(x) for x in leaves]
        for v in values:
            _check(fun, "jacfwd", "argument", v, holomorphic)
        count = sum(v.size for v in values)
        with entering():
            columns = _basis(values)

            def push(*flat: Value) -> Any:
                return jvp(partial, (dynamic,), (trees.unflatten(tree, flat),), has_aux=has_aux)

            places = (None, -1, None) if has_aux else (None, -1)
            out, tangent, *aux = vmap(push, out_axes=places, axis_size=count)(*columns)
            for y in trees.leaves(out):
                _check(fun, "jacfwd", "output", as_value(y), holomorphic)
            result = trees.tree_map(
                lambda t: trees.unflatten(
                    tree, _split(t, t.ndim - 1, [v.shape for v in values], t.shape[:-1])
                ),
                tangent,
            )
        return (result, aux[0]) if has_aux else result

    return jacobian_of


def jacrev(
    fun: Fun, argnums: Argnums = 0, has_aux: bool = False, *, holomorphic: bool = False,
    allow_int: bool = False,
) -> Fun:  # fmt: skip
    """The Jacobian, a row at a time: reverse mode, best for more inputs than outputs.

    Args:
        fun: Function of arrays or trees of arrays.
        argnums: See `jacfwd`.
        has_aux: See `jacfwd`.
        holomorphic: See `jacfwd`.
        allow_int: Integer arguments get a Jacobian of dtype float0 instead of an error.

    Returns:
        As `jacfwd`.

    Raises:
        GradientTypeError: When called: an argument or the output is not of a float dtype.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.jacrev(lambda x: x * x)(fnp.array([2.0, 3.0]))
        Array([[4., 0.],
               [0., 6.]], dtype=float32)
    """

    @functools.wraps(fun, assigned=_KEPT_NAMES)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        partial, dynamic = _partial(fun, argnums, args, kwargs)
        leaves, tree = trees.flatten(dynamic)
        values = [as_value(x) for x in leaves]
        for v in values:
            if not (allow_int and not dtypes.is_inexact(v.dtype)):
                _check(fun, "jacrev", "argument", v, holomorphic)
        with entering():
            out, pullback, *aux = vjp(partial, dynamic, has_aux=has_aux)
            out_leaves, out_tree = trees.flatten(out)
            outs = [as_value(y) for y in out_leaves]
            for y in outs:
                _check(fun, "jacrev", "output", y, holomorphic)

            def pull(*flat: Value) -> list[Any]:
                (ct,) = pullback(trees.unflatten(out_tree, flat))
                return [c for c in trees.leaves(ct) if not basis.is_zero_dtype(c.dtype)]

            count = sum(y.size for y in outs)
            rows = iter(vmap(pull, axis_size=count)(*_basis(outs)))
            columns = [_blocks(v, outs, rows) for v in values]
            result = [trees.unflatten(tree, [c[k] for c in columns]) for k in range(len(outs))]
        jacobian_tree = trees.unflatten(out_tree, result)
        return (jacobian_tree, aux[0]) if has_aux else jacobian_tree

    return jacobian_of


jacobian = jacrev


def hessian(
    fun: Fun, argnums: Argnums = 0, has_aux: bool = False, *, holomorphic: bool = False
) -> Fun:
    """All second derivatives: forward mode over reverse mode.

    Args:
        fun: See `jacfwd`; usually with a scalar result.
        argnums: See `jacfwd`.
        has_aux: See `jacfwd`.
        holomorphic: See `jacfwd`.

    Returns:
        A function of the same arguments. Its result has the tree of the output, in it twice the
        tree of the argument, and arrays of the shapes of the output and of both arguments.

    Raises:
        GradientTypeError: When called: an argument or the output is not of a float dtype.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.hessian(lambda x: x[0] * x[0] * x[1])(fnp.array([2.0, 3.0]))
        Array([[6., 4.],
               [4., 0.]], dtype=float32)
    """
    return jacfwd(
        jacrev(fun, argnums, has_aux, holomorphic=holomorphic), argnums, has_aux,
        holomorphic=holomorphic,
    )  # fmt: skip


def hvp(fun: Fun, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The gradient of a scalar function and the product of its Hessian with a direction.

    Forward mode over reverse mode: a small multiple of the work of one gradient.

    Args:
        fun: Function of arrays or trees of arrays, with a real scalar result.
        primals: Its arguments, a tuple or list.
        tangents: The direction, a tree like the primals.

    Returns:
        ``(gradient, product)``, each like the argument, or a tuple like the arguments where there
        are several.

    Raises:
        GradientTypeError: The result is no real scalar, or an argument has no gradient.
        TreeError: Primals and tangents differ in structure.
        CotangentError: A tangent differs from its primal in shape or dtype.

    Source:
        Pearlmutter, *Fast exact multiplication by the Hessian*, Neural Computation 6(1), 1994.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> fg.hvp(lambda x: (x * x * x).sum(), (fnp.array([1.0, 2.0]),), (fnp.ones(2),))
        (Array([ 3., 12.], dtype=float32), Array([ 6., 12.], dtype=float32))
    """
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    gradient, product = jvp(grad(fun, argnums), primals, tangents)
    return gradient, product


# ------------------------------------------------------------------------------------------- parts


def _partial(
    fun: Fun, argnums: Argnums, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Fun, Any]:
    """`fun` as a function of the differentiated arguments alone, and those arguments."""
    check_callable(fun)
    several = not isinstance(argnums, int)
    numbers = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    positions = []
    for n in numbers:
        position = n + len(args) if n < 0 else n
        if not 0 <= position < len(args):
            raise GradientTypeError(
                f"argnums={n} names no positional argument of {name_of(fun)}, which was called "
                f"with {len(args)}; arguments to differentiate must be passed by position"
            )
        positions.append(position)

    def partial(dynamic: Any) -> Any:
        full = list(args)
        for i, part in zip(positions, dynamic if several else (dynamic,), strict=True):
            full[i] = part
        return fun(*full, **kwargs)

    partial.__name__ = name_of(fun)
    return partial, tuple(args[i] for i in positions) if several else args[positions[0]]


def _check(fun: Fun, name: str, what: str, x: Value, holomorphic: bool) -> None:
    kind = "complex" if holomorphic else "real float"
    if (x.dtype.kind == "c") if holomorphic else dtypes.is_float(x.dtype):
        return
    hint = "; pass holomorphic=True" if x.dtype.kind == "c" else ""
    raise GradientTypeError(
        f"{name} of {name_of(fun)} needs each {what} to be of a {kind} dtype, got {x.aval}{hint}"
    )


def _basis(values: Sequence[Value]) -> list[Value]:
    """For each value its part of all unit vectors: arrays [count, *shape]."""
    count = sum(v.size for v in values)
    parts = []
    start = 0
    for v in values:
        shape = (count, v.size)
        rows = broadcasted_iota(np.int64, shape, 0)
        own = eq(
            rows, basis.add_any(broadcasted_iota(np.int64, shape, 1), as_value(np.int64(start)))
        )
        unit = basis.convert_element_type(own, v.dtype)
        parts.append(basis.reshape(unit, (count, *v.shape)))
        start += v.size
    return parts


def _split(
    x: Value, axis: int, shapes: Sequence[tuple[int, ...]], rest: tuple[int, ...]
) -> list[Value]:
    """Parts of an axis, one a shape, each with that shape in the place of the axis."""
    parts = []
    start = 0
    for shape in shapes:
        size = int(np.prod(shape, dtype=np.int64))
        part = slice_in_dim(x, start, start + size, 1, axis)
        parts.append(basis.reshape(part, (*rest[:axis], *shape, *rest[axis:])))
        start += size
    return parts


def _blocks(v: Value, outs: Sequence[Value], rows: Any) -> list[Value]:
    """The Jacobian of each output in one argument leaf."""
    if not dtypes.is_inexact(v.dtype):
        return [basis.zeros(v.aval.tangent().update(shape=(*y.shape, *v.shape))) for y in outs]
    return _split(next(rows), 0, [y.shape for y in outs], v.shape)
