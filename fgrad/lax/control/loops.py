"""`scan`, `map` and `fori_loop`: loops whose body is staged once."""

from collections.abc import Callable
from typing import Any

from fgrad.core import basis, dtypes, trees
from fgrad.core.config import config
from fgrad.core.errors import ArgumentError, ShapeError, TreeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import Value
from fgrad.core.promotion import promote
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.flat import name_of
from fgrad.core.transforms.vmap import vmap
from fgrad.lax.arithmetic import add
from fgrad.lax.compare import lt
from fgrad.lax.control.checks import concrete, function, scalar_of, static_integer
from fgrad.lax.control.programs import (
    Staged,
    check_like,
    paths_of,
    promoted,
    stage_body,
    strengthened,
)
from fgrad.lax.control.scan import scan_p
from fgrad.lax.control.while_loop import while_loop
from fgrad.lax.joining import concatenate
from fgrad.lax.slicing import index_in_dim, slice_in_dim

Fun = Callable[..., Any]


def scan(
    f: Fun, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:  # fmt: skip
    """A loop over the leading axis of `xs` that carries a value and stacks its outputs.

    `f` is staged once and runs `length` times: ``carry, y = f(carry, x)``.

    Args:
        f: Takes the carry and one element of `xs`; returns the next carry, of the same tree, shapes
            and dtypes, and an output.
        init: The first carry: arrays or trees of arrays.
        xs: Trees of arrays ``[length, ...]``, or None.
        length: Number of steps; needed only where `xs` has no arrays.
        reverse: Run from the last element to the first; outputs stay in the order of `xs`.
        unroll: How many steps a compiled loop runs at once; the result does not depend on it.

    Returns:
        The last carry, and the outputs stacked along a new leading axis.

    Raises:
        ShapeError: Leading axes differ, or shapes of the carry change.
        DtypeError: Dtypes of the carry change.
        TreeError: `f` returns no pair, or the structure of the carry changes.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.scan(lambda c, x: (c + x, c), 0.0, np.float32([1, 2, 3]))
        (Array(6., dtype=float32), Array([0., 1., 3.], dtype=float32))
    """
    function(f, "scan: f")
    x_leaves, x_tree = trees.flatten(xs)
    elements = [as_value(x) for x in x_leaves]
    count = _length(f, x_tree, elements, length)
    if config.disable_jit:
        return _unstaged(f, init, x_tree, elements, count, reverse)
    c_leaves, c_tree = trees.flatten(init)
    carry = [as_value(x) for x in c_leaves]
    with entering():
        carry, staged, y_tree = _stage_scan(f, c_tree, carry, x_tree, elements)
        if staged.jaxpr.key_uses is not None:
            staged.jaxpr.key_uses.loop(
                [*staged.consts, *carry, *elements], name_of(f), len(staged.consts), len(carry),
                count,
            )  # fmt: skip
        outs = bind(
            scan_p, *staged.consts, *carry, *elements, jaxpr=staged.jaxpr, length=count,
            reverse=bool(reverse), num_consts=len(staged.consts), num_carry=len(carry),
            unroll=count if unroll is True else max(int(unroll), 1),
        )  # fmt: skip
    n = len(carry)
    return trees.unflatten(c_tree, outs[:n]), trees.unflatten(y_tree, outs[n:])


def _length(f: Fun, tree: Any, xs: list[Value], length: int | None) -> int:
    sizes: dict[int, str] = {}
    for (path, _), x in zip(paths_of(tree), xs, strict=True):
        if x.ndim == 0:
            raise ShapeError(
                f"scan of {name_of(f)}: xs{path} is {x.aval}, a scalar without a leading axis to "
                f"loop over; close over it, or put it into the carry"
            )
        sizes.setdefault(x.shape[0], f"xs{path} {x.aval}")
    if length is not None:
        sizes.setdefault(static_integer(length, "scan: length"), "length")
    if not sizes:
        raise ArgumentError(
            f"scan of {name_of(f)}: xs has no arrays and length is None; give one of them"
        )
    if len(sizes) > 1:
        found = ", ".join(f"{n} ({where})" for n, where in sizes.items())
        raise ShapeError(f"scan of {name_of(f)}: leading axes and length must agree, got {found}")
    count = next(iter(sizes))
    if count < 0:
        raise ArgumentError(f"scan of {name_of(f)}: length must not be negative, got {count}")
    return count


def _stage_scan(
    f: Fun, c_tree: Any, carry: list[Value], x_tree: Any, xs: list[Value]
) -> tuple[list[Value], Staged, Any]:
    """The body as a program, with weakly typed carries promoted to the types that come back."""
    per_step = [x.aval.update(shape=x.shape[1:]) for x in xs]
    both = trees.structure((trees.unflatten(c_tree, carry), trees.unflatten(x_tree, xs)))
    y_tree: Any = None
    n = len(carry)

    def body(c: Any, x: Any) -> Any:
        nonlocal y_tree
        out = f(c, x)
        if not isinstance(out, tuple) or len(out) != 2:
            raise TreeError(
                f"the body of scan, {name_of(f)}, must return a pair (carry, output), got "
                f"{type(out).__name__}; return (carry, None) where there is no output"
            )
        y_tree = trees.structure(out[1])
        return out

    while True:
        avals = [c.aval for c in carry]

        def fit(outs: list[Value], avals: Any = avals) -> list[Value]:
            return [*strengthened(outs[:n], avals), *outs[n:]] if len(outs) >= n else outs

        staged = stage_body(body, both, [*avals, *per_step], f"scan of {name_of(f)}", fit)
        got = staged.out_avals[: len(staged.out_avals) - y_tree.num_leaves]
        more = promoted(carry, got) if len(got) == n else None
        if more is None:
            break
        carry = more
    returned = trees.unflatten(staged.out_tree, range(len(staged.out_avals)))[0]
    check_like(
        f"the carry that {name_of(f)}, the body of scan, returns: the carry it gets",
        c_tree, avals, trees.structure(returned), got, "start with a carry of the type returned",
    )  # fmt: skip
    return carry, staged, y_tree


def _unstaged(
    f: Fun, init: Any, x_tree: Any, xs: list[Value], count: int, reverse: bool
) -> tuple[Any, Any]:
    """The loop in Python, for `disable_jit`."""
    carry, ys = trees.tree_map(as_value, init), []
    for i in reversed(range(count)) if reverse else range(count):
        carry, y = f(carry, trees.unflatten(x_tree, [index_in_dim(x, i, 0, False) for x in xs]))
        ys.append(y)
    if not ys:
        raise ArgumentError("scan of length 0 under disable_jit: the output's type is not known")
    rows = ys[::-1] if reverse else ys
    return trees.tree_map(as_value, carry), trees.tree_map(lambda *row: _stack(row), *rows)


def _stack(rows: Any) -> Value:
    values = [as_value(x) for x in rows]
    # The first steps may carry Python numbers, whose type gives way to what comes back.
    dtype, weak = promote(*((v.dtype, v.weak_type) for v in values))
    same = [basis.convert_element_type(v, dtype, weak_type=weak) for v in values]
    return concatenate([basis.reshape(v, (1, *v.shape)) for v in same], 0)


def map(f: Fun, xs: Any, *, batch_size: int | None = None) -> Any:
    """`f` applied to each element along the leading axis of `xs`, one after the other.

    Args:
        f: Function of one element.
        xs: Arrays or trees of arrays ``[n, ...]``.
        batch_size: Apply `f` under `vmap` to that many elements at once.

    Returns:
        The results stacked along a new leading axis.

    Raises:
        ShapeError: Leading axes differ.
        ArgumentError: `batch_size` is not positive.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.lax.map(lambda x: x * 2, np.float32([1, 2]))
        Array([2., 4.], dtype=float32)
    """
    if batch_size is None:
        return scan(lambda _, x: ((), f(x)), (), xs)[1]
    if batch_size <= 0:
        raise ArgumentError(f"map: batch_size must be positive, got {batch_size}")
    leaves, tree = trees.flatten(xs)
    values = [as_value(x) for x in leaves]
    count = _length(f, tree, values, None)
    blocks = count // batch_size
    whole = blocks * batch_size
    parts = []
    if blocks:
        chunked = [
            basis.reshape(slice_in_dim(v, 0, whole), (blocks, batch_size, *v.shape[1:]))
            for v in values
        ]
        out = map(vmap(f), trees.unflatten(tree, chunked))
        parts.append(trees.tree_map(lambda y: basis.reshape(y, (whole, *y.shape[2:])), out))
    if whole < count or not blocks:
        rest = [slice_in_dim(v, whole, count) for v in values]
        parts.append(vmap(f)(trees.unflatten(tree, rest)))
    return trees.tree_map(lambda *ys: concatenate(ys, 0) if len(ys) > 1 else ys[0], *parts)


def fori_loop(
    lower: Any, upper: Any, body_fun: Fun, init_val: Any, *, unroll: int | bool | None = None
) -> Any:
    """``for i in range(lower, upper): val = body_fun(i, val)``.

    With bounds that are known the loop is a `scan`, so reverse mode keeps what each step needs;
    with traced bounds it is a `while_loop`, whose reverse mode recomputes.

    Args:
        lower: First index, integer.
        upper: End of the indices, integer.
        body_fun: Takes the index and the value; returns a value of the same tree, shapes, dtypes.
        init_val: The first value.
        unroll: How many steps a compiled loop runs at once; the result does not depend on it.

    Returns:
        The last value.

    Raises:
        DtypeError: A bound is no integer, or dtypes of the value change.
        ShapeError: A bound is no scalar, or shapes of the value change.
        TreeError: The structure of the value changes.

    Example:
        >>> import fgrad as fg
        >>> fg.lax.fori_loop(0, 4, lambda i, x: x + i, 0)
        Array(6, dtype=int32)
    """
    function(body_fun, "fori_loop: body_fun")
    first = scalar_of(lower, "fori_loop: lower", "iu", "integer")
    last = scalar_of(upper, "fori_loop: upper", "iu", "integer")
    dtype = dtypes.promote_types(first.dtype, last.dtype)
    if first.weak_type and last.weak_type:
        dtype = dtypes.default_int()
    elif first.weak_type or last.weak_type:
        dtype = last.dtype if first.weak_type else first.dtype
    start, stop = concrete(first), concrete(last)
    with entering():
        first = basis.convert_element_type(first, dtype)
        last = basis.convert_element_type(last, dtype)
        if start is None or stop is None:
            _, _, value = while_loop(
                lambda s: lt(s[0], s[1]),
                lambda s: (add(s[0], 1), s[1], body_fun(s[0], s[2])),
                (first, last, init_val),
            )
            return value
        (_, value), _ = scan(
            lambda s, _: ((add(s[0], 1), body_fun(s[0], s[1])), None), (first, init_val), None,
            max(stop - start, 0), unroll=1 if unroll is None else unroll,
        )  # fmt: skip
        return value
