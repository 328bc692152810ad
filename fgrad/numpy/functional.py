"""Functions applied along axes and over the elements of arrays."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fgrad import lax
from fgrad.core import basis
from fgrad.core.errors import ArgumentError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.primitive import MappedAxis, Value
from fgrad.core.transforms.batch import batch_to
from fgrad.numpy import axes as ax
from fgrad.numpy.promotion import value

_SIGNATURE = re.compile(r"^\s*(.*?)\s*->\s*(.*?)\s*$")
_DIMENSIONS = re.compile(r"\(([^()]*)\)")


def _mapped(f: Callable[..., Any], args: Sequence[Value], size: int) -> Any:
    """`f` over axis 0 of every argument; its results (a value or a tuple) get an axis 0."""
    several: list[type | None] = [None]

    def flat(*rows: Value) -> list[Value]:
        out = f(*rows)
        if isinstance(out, tuple | list):
            several[0] = type(out)
            return [as_value(o) for o in out]
        return [as_value(out)]

    axis = MappedAxis(None, size, object())
    outs = batch_to(flat, axis, args, [0] * len(args))
    return outs[0] if several[0] is None else tuple(outs)


def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    """`func1d` of the vectors along an axis; it is traced once, for all of them together."""
    x = value(arr, "apply_along_axis", "arr")
    place = ax.one("apply_along_axis", axis, x.ndim)
    x = basis.moveaxis(x, place, x.ndim - 1)
    lead = x.shape[:-1]
    count = int(np.prod(lead, dtype=np.int64))
    rows = basis.reshape(x, (count, x.shape[-1]))
    out = _mapped(lambda row: func1d(row, *args, **kwargs), [rows], count)
    extra = out.ndim - 1
    out = basis.reshape(out, (*lead, *out.shape[1:]))
    order = (*range(place), *range(len(lead), len(lead) + extra), *range(place, len(lead)))
    return basis.transpose(out, order)


def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Value:
    """`func` (array, axis) applied over axes in turn, which are kept with length 1."""
    x = value(a, "apply_over_axes", "a")
    for axis in ax.several("apply_over_axes", axes, x.ndim):
        out = func(x, axis)
        if out.ndim == x.ndim - 1:
            out = basis.reshape(out, (*out.shape[:axis], 1, *out.shape[axis:]))
        if out.ndim != x.ndim:
            raise ShapeError(f"apply_over_axes: func changed the axes of {x.aval} to {out.aval}")
        x = out
    return x


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Any = frozenset(), signature: str | None = None
) -> Callable[..., Any]:
    """A function of arrays with few axes, over all their other axes, which broadcast.

    Args:
        pyfunc: The function.
        excluded: Positions and names of arguments that are passed as they are.
        signature: The axes that `pyfunc` takes, such as ``"(n),(n)->()"``; none where None.

    Returns:
        The function on arrays of any shape.
    """
    skipped = frozenset(excluded)

    @functools.wraps(pyfunc)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        places = [i for i in range(len(args)) if i not in skipped]
        values = [value(args[i], "vectorize", f"argument {i + 1}") for i in places]

        def call(*parts: Value) -> Any:
            full = list(args)
            for i, part in zip(places, parts, strict=True):
                full[i] = part
            return pyfunc(*full, **kwargs)

        cores = [()] * len(values) if signature is None else _cores(signature, values)
        return _broadcast_map(call, values, cores)

    return wrapped


def _cores(signature: str, values: Sequence[Value]) -> list[tuple[str, ...]]:
    """The names of the axes that the function itself takes, for each argument."""
    match = _SIGNATURE.match(signature)
    if match is None:
        raise ArgumentError(f"vectorize: {signature!r} is no signature such as '(n),(n)->()'")
    cores = [tuple(filter(None, re.split(r"\s*,\s*", group.strip())))
             for group in _DIMENSIONS.findall(match.group(1))]  # fmt: skip
    if len(cores) != len(values):
        raise ShapeError(f"vectorize: {signature!r} has {len(cores)} inputs, got {len(values)}")
    lengths: dict[str, int] = {}
    for core, x in zip(cores, values, strict=True):
        if x.ndim < len(core):
            raise ShapeError(f"vectorize: {x.aval} lacks axes that {signature!r} names")
        for name, n in zip(core, x.shape[x.ndim - len(core) :], strict=True):
            if lengths.setdefault(name, n) != n:
                raise ShapeError(
                    f"vectorize: axis {name!r} of {signature!r} has lengths {lengths[name]}, {n}"
                )
    return cores


def _broadcast_map(call: Callable[..., Any], values: Sequence[Value], cores: Any) -> Any:
    leads = [x.shape[: x.ndim - len(c)] for x, c in zip(values, cores, strict=True)]
    lead = lax.broadcast_shapes(*leads) if leads else ()
    if not lead:
        return call(*values)
    count = int(np.prod(lead, dtype=np.int64))
    rows = [
        basis.reshape(basis.broadcast_to(x, lead + x.shape[len(own) :]),
                      (count, *x.shape[len(own) :]))
        for x, own in zip(values, leads, strict=True)
    ]  # fmt: skip
    out = _mapped(call, rows, count)

    def restore(x: Value) -> Value:
        return basis.reshape(x, lead + x.shape[1:])

    return tuple(map(restore, out)) if isinstance(out, tuple) else restore(out)
