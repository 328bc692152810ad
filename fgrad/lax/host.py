"""Calls of Python functions on the host from within programs: pure_callback, io_callback.

The primitives behind `fgrad.debug` stand here too. Under `vmap` a callback is one equation, which
calls the function once an element when it runs, unless its `vmap_method` says that the function
takes batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fgrad.core import basis, trees
from fgrad.core.avals import ShapedArray
from fgrad.core.errors import ArgumentError, DtypeError, RuleError, ShapeError, TreeError
from fgrad.core.evaluate import as_value, check_unmasked, is_value
from fgrad.core.primitive import Absent, Lowering, MappedAxis, Primitive, Value
from fgrad.core.tracing import bind, entering
from fgrad.core.transforms.flat import aval_like, name_of
from fgrad.core.where import local

__all__ = ["debug_callback", "io_callback", "named_scope", "pure_callback"]

Fun = Callable[..., Any]

# A level of `vmap` over a callback: the size of the axis, and which operands have it, in front.
Level = tuple[int, tuple[bool, ...]]
_METHODS = (None, "sequential", "sequential_unrolled", "expand_dims", "broadcast_all",
            "legacy_vectorized")  # fmt: skip


class HostCall:
    """A Python function and the structure of its arguments and result, as parameters name it.

    Attributes:
        fun: The function; sees NumPy arrays.
        in_tree: Structure of ``(args, kwargs)``.
        out_tree: Structure of its result; None where it is ignored.
        name: How messages call it.
    """

    __slots__ = ("fun", "in_tree", "name", "out_tree")

    def __init__(self, fun: Fun, in_tree: Any, out_tree: Any) -> None:
        self.fun = fun
        self.in_tree = in_tree
        self.out_tree = out_tree
        self.name = name_of(fun)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HostCall)
            and self.fun is other.fun
            and self.in_tree == other.in_tree
            and self.out_tree == other.out_tree
        )

    def __hash__(self) -> int:
        return hash((id(self.fun), self.in_tree))

    def __repr__(self) -> str:
        return self.name

    def __call__(self, arrays: Sequence[Any], types: Sequence[ShapedArray]) -> list[Any]:
        """Call the function on NumPy arrays; check what it returns."""
        args, kwargs = trees.unflatten(self.in_tree, arrays)
        out = self.fun(*args, **kwargs)
        if self.out_tree is None:
            return []
        leaves, tree = trees.flatten(out)
        if tree != self.out_tree:
            raise TreeError(
                f"the callback {self.name} must return a tree like result_shape_dtypes "
                f"{self.out_tree}, got {tree}"
            )
        return [self._checked(x, a) for x, a in zip(leaves, types, strict=True)]

    def _checked(self, x: Any, aval: ShapedArray) -> Any:
        check_unmasked(x)
        array = np.asarray(x)
        if array.shape != aval.shape:
            raise ShapeError(
                f"the callback {self.name} must return {aval} as result_shape_dtypes says, got "
                f"the shape {list(array.shape)}"
            )
        if array.dtype != aval.dtype:
            if type(x) not in (bool, int, float, complex):
                raise DtypeError(
                    f"the callback {self.name} must return {aval} as result_shape_dtypes says, "
                    f"got dtype {array.dtype}; convert it in the callback"
                )
            array = array.astype(aval.dtype)
        return array


def _on_host(x: Any) -> Any:
    """A read-only NumPy array of a buffer."""
    array = x.get() if hasattr(x, "get") else np.asarray(x)
    view = array.view()
    view.flags.writeable = False
    return view


def _elements(arrays: Sequence[Any], levels: Sequence[Level]) -> Iterator[list[Any]]:
    """The operands of each element, in row-major order of the levels, outermost first."""
    if not levels:
        yield list(arrays)
        return
    size, mapped = levels[0]
    for i in range(size):
        inner = [x[i, ...] if m else x for x, m in zip(arrays, mapped, strict=True)]
        yield from _elements(inner, levels[1:])


def _eager(
    xp: Any, *arrays: Any, call: HostCall, types: tuple[ShapedArray, ...],
    levels: tuple[Level, ...], **_params: Any,
) -> list[Any]:  # fmt: skip
    host = [_on_host(x) for x in arrays]
    if not levels:
        return [xp.asarray(x) for x in call(host, types)]
    sizes = tuple(size for size, _ in levels)
    outs = [np.empty((*sizes, *a.shape), a.dtype) for a in types]
    places = np.ndindex(*sizes)
    for place, element in zip(places, _elements(host, levels), strict=True):
        for out, x in zip(outs, call(element, types), strict=True):
            out[place] = x
    return [xp.asarray(x) for x in outs]


def _abstract(
    *_avals: ShapedArray, types: tuple[ShapedArray, ...], levels: tuple[Level, ...], **_params: Any
) -> list[ShapedArray]:
    sizes = tuple(size for size, _ in levels)
    return [a.update(shape=(*sizes, *a.shape)) for a in types]


def _each(
    prim: Primitive, axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None],
    params: dict[str, Any],
) -> tuple[list[Value], list[int | None]]:  # fmt: skip
    """One equation that calls the function for each element."""
    moved = [x if d is None else basis.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    level = (axis.size, tuple(d is not None for d in dims))
    outs = bind(prim, *moved, **{**params, "levels": (level, *params["levels"])})
    return outs, [0] * len(outs)


def _pure_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[list[Value], list[int | None]]:
    method, call = params["vmap_method"], params["call"]
    if method is None:
        raise RuleError(
            f"pure_callback of {call.name} under vmap needs vmap_method: 'sequential' calls it "
            f"for each element, 'expand_dims' or 'broadcast_all' once with the whole batch"
        )
    if method in ("sequential", "sequential_unrolled"):
        return _each(pure_callback_p, axis, args, dims, params)
    if method == "broadcast_all":
        moved = [basis.lead(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
    elif method == "expand_dims":
        moved = [
            basis.reshape(x, (1, *x.shape)) if d is None else basis.moveaxis(x, d, 0)
            for x, d in zip(args, dims, strict=True)
        ]
    else:
        moved = [
            x if d is None else basis.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)
        ]
    types = tuple(a.update(shape=(axis.size, *a.shape)) for a in params["types"])
    outs = bind(pure_callback_p, *moved, **{**params, "types": types})
    return outs, [0] * len(outs)


_OPAQUE = Absent("fgrad cannot differentiate a Python function on the host: give it a rule with "
                 "custom_jvp or custom_vjp, or stop_gradient its arguments")  # fmt: skip

pure_callback_p: Primitive = Primitive(
    "pure_callback",
    "A pure Python function called on the host.",
    abstract=_abstract,
    eager=_eager,
    jvp=_OPAQUE,
    transpose=_OPAQUE,
    vjp=_OPAQUE,
    batch=_pure_batch,
    lower=Lowering("host", "call"),
    multiple_results=True,
    spec=Absent("it calls Python: tests/laws/test_calls.py checks functions that use it"),
)


def _io_batch(
    axis: MappedAxis, args: Sequence[Value], dims: Sequence[int | None], **params: Any
) -> tuple[list[Value], list[int | None]]:
    if params["ordered"]:
        raise RuleError(
            f"io_callback of {params['call'].name} is ordered, and vmap has no order among its "
            f"elements; pass ordered=False"
        )
    return _each(io_callback_p, axis, args, dims, params)


io_callback_p: Primitive = Primitive(
    "io_callback",
    "A Python function with effects called on the host; never removed, moved or merged.",
    abstract=_abstract,
    eager=_eager,
    jvp=_OPAQUE,
    transpose=_OPAQUE,
    vjp=_OPAQUE,
    batch=_io_batch,
    lower=Lowering("host", "call"),
    multiple_results=True,
    effects=("io",),
    spec=Absent("it calls Python: tests/laws/test_calls.py checks functions that use it"),
)

debug_callback_p: Primitive = Primitive(
    "debug_callback",
    "A Python function called on the host to look at values; derivatives pass it by.",
    abstract=_abstract,
    eager=_eager,
    jvp=Absent("it returns nothing"),
    transpose=Absent("it returns nothing"),
    vjp=Absent("it returns nothing"),
    batch=lambda axis, args, dims, **params: _each(debug_callback_p, axis, args, dims, params),
    lower=Lowering("host", "call"),
    multiple_results=True,
    differentiable=False,
    effects=("debug",),
    spec=Absent("it calls Python: tests/laws/test_calls.py checks functions that use it"),
)


def _bind(prim: Primitive, fun: Fun, result: Any, args: Any, kwargs: Any, **params: Any) -> Any:
    leaves, in_tree = trees.flatten((args, kwargs))
    shapes, out_tree = trees.flatten(result)
    types = tuple(aval_like(x).strip_weak() for x in shapes)
    call = HostCall(fun, in_tree, out_tree)
    with entering():
        outs = bind(prim, *map(as_value, leaves), call=call, types=types, levels=(), **params)
    return trees.unflatten(out_tree, outs)


def pure_callback(
    callback: Fun, result_shape_dtypes: Any, *args: Any, sharding: None = None,
    vmap_method: str | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """Call a pure Python function on the host, also from compiled programs.

    The call may be made more or less often than it is written, as the function is pure.

    Args:
        callback: Takes NumPy arrays (read-only); returns arrays of the types announced.
        result_shape_dtypes: A tree of anything with `shape` and `dtype`: what it returns.
        *args: Arrays or trees of arrays.
        sharding: Accepted for compatibility; only None.
        vmap_method: What `vmap` does: 'sequential' calls once an element; 'expand_dims' calls once,
            operands that are the same for all with a leading axis of length 1; 'broadcast_all'
            likewise, with the whole axis; 'legacy_vectorized' likewise, without one. None: raise.
        **kwargs: Like `args`.

    Returns:
        A tree like `result_shape_dtypes`.

    Raises:
        RuleError: It is differentiated, or mapped without a `vmap_method`.
        ShapeError: The function returns another shape.
        DtypeError: The function returns another dtype.
        TreeError: The function returns another tree.

    Example:
        >>> import fgrad as fg, numpy as np
        >>> fg.pure_callback(np.sin, np.zeros(2, np.float32), np.zeros(2, np.float32))
        Array([0., 0.], dtype=float32)
    """
    if vmap_method not in _METHODS:
        raise ArgumentError(f"pure_callback: vmap_method must be one of {_METHODS}, got "
                            f"{vmap_method!r}")  # fmt: skip
    if sharding is not None:
        raise ArgumentError(f"pure_callback: sharding is not supported, got {sharding!r}")
    return _bind(
        pure_callback_p, callback, result_shape_dtypes, args, kwargs, vmap_method=vmap_method
    )


def io_callback(
    callback: Fun, result_shape_dtypes: Any, *args: Any, sharding: None = None,
    ordered: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """Call a Python function with effects on the host: exactly as often as it is written.

    Args:
        callback: Takes NumPy arrays (read-only); returns arrays of the types announced.
        result_shape_dtypes: A tree of anything with `shape` and `dtype`: what it returns; None for
            nothing.
        *args: Arrays or trees of arrays.
        sharding: Accepted for compatibility; only None.
        ordered: Calls must stay in order: `vmap` then raises. Programs here always keep the order.
        **kwargs: Like `args`.

    Returns:
        A tree like `result_shape_dtypes`.

    Raises:
        RuleError: It is differentiated, or it is ordered and mapped.

    Example:
        >>> import fgrad as fg
        >>> seen = []
        >>> fg.io_callback(lambda x: seen.append(float(x)), None, 2.0)
        >>> seen
        [2.0]
    """
    if sharding is not None:
        raise ArgumentError(f"io_callback: sharding is not supported, got {sharding!r}")
    return _bind(io_callback_p, callback, result_shape_dtypes, args, kwargs, ordered=bool(ordered))


def _completed(callback: Fun, tree: Any, fixed: dict[int, Any]) -> Fun:
    """`callback` as a function of the leaves of its arguments that are not fixed."""

    def complete(*leaves: Any) -> Any:
        given = iter(leaves)
        count = tree.num_leaves
        full = [fixed[i] if i in fixed else next(given) for i in range(count)]
        args, kwargs = trees.unflatten(tree, full)
        return callback(*args, **kwargs)

    return complete


def debug_callback(callback: Fun, args: Any, kwargs: Any) -> None:
    """Call a Python function on the host to look at values; see `fgrad.debug.callback`."""
    leaves, in_tree = trees.flatten((args, kwargs))
    fixed = {i: x for i, x in enumerate(leaves) if not is_value(x)}
    if fixed:  # strings, say: they stay with the function
        leaves = [x for i, x in enumerate(leaves) if i not in fixed]
        callback = _completed(callback, in_tree, fixed)
        in_tree = trees.structure((tuple(leaves), {}))
    call = HostCall(callback, in_tree, None)
    with entering():
        bind(debug_callback_p, *map(as_value, leaves), call=call, types=(), levels=())


class named_scope:
    """A context manager that labels the equations written inside with a name.

    The label shows beside the user's line: in errors, in residuals and in printed programs.

    Args:
        name: The label. Scopes within scopes are joined by slashes.

    Example:
        >>> import fgrad as fg, fgrad.numpy as fnp
        >>> with fg.named_scope("encoder"):
        ...     y = fnp.sin(1.0)
    """

    __slots__ = ("before", "name")

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise ArgumentError(f"named_scope takes a string, got {type(name).__name__}")
        self.name = name

    def __enter__(self) -> None:
        self.before = local.scope
        local.scope = f"{self.before}/{self.name}" if self.before else self.name

    def __exit__(self, *_exception: object) -> None:
        local.scope = self.before
