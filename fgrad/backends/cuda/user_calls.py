"""Kernels of users in compiled programs: launches that are captured with the rest of a program."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fgrad.backends.cuda import copying
from fgrad.backends.cuda.calls import INPUT, OUTPUT, WORKSPACE, ForeignCall, KernelCall, LibraryPlan
from fgrad.backends.cuda.calls import Place as Pointed
from fgrad.backends.cuda.kernel_primitive import elements
from fgrad.backends.cuda.launching import Launch, launch, on_stream
from fgrad.compile.plan import Library, View, contiguous

_ALIGNMENT = 256


def plan(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What launches a kernel of the user.

    Args:
        step: An equation of `cuda_kernel`.
        views: Its operands; those that are not contiguous, or lack an axis of `vmap` that another
            one has, are copied first.

    Returns:
        None where its results are filled first: then its eager rule runs.

    Raises:
        ArgumentError: Its pointers are not those of the operands and results.
        DtypeError: One of them has another type.
    """
    params = step.eqn.params
    kernel, levels = params["kernel"], params["levels"]
    if kernel.rules["fill"] is not None:
        return None
    avals = elements([a.aval for a in step.eqn.inputs], levels)
    words = dict(params["params"])
    outs = kernel.results(avals, words)
    kernel.check_pointers(avals, outs)
    copies: list[KernelCall] = []
    places, size = [], 0
    for i, view in enumerate(views):
        dtype = step.eqn.inputs[i].aval.dtype
        spread = _spread(view, [mapped[i] for _, mapped in levels], [n for n, _ in levels])
        if spread.strides == contiguous(spread.shape):
            places.append(Pointed(INPUT, i, view.offset * dtype.itemsize))
            continue
        place = Pointed(WORKSPACE, 0, size)
        order = range(len(spread.shape))
        copies.append(copying.call(spread, order, dtype, [Pointed(INPUT, i), place]))
        places.append(place)
        size += -(-prod(spread.shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    places += [Pointed(OUTPUT, j) for j in range(len(step.outputs))]
    make = partial(_made, partial(kernel.launches, avals, outs, words, levels), len(views))
    return LibraryPlan(kernel.name, (*copies, ForeignCall(kernel.name, tuple(places), make)), size)


def _spread(view: View, flags: Sequence[bool], sizes: Sequence[int]) -> View:
    """An operand with the axes of all levels of `vmap`, unless it has none of them."""
    if not any(flags) or all(flags):
        return view
    own = iter(zip(view.shape, view.strides, strict=True))
    axes = [next(own) if f else (n, 0) for f, n in zip(flags, sizes, strict=True)]
    shape, strides = zip(*axes, *own, strict=True)
    return View(view.buffer, view.offset, shape, strides)


def _made(
    launches: Callable[[Sequence[Any], Sequence[Any]], list[Launch]], count: int
) -> Callable[[int, Sequence[int]], None]:
    """What launches a kernel, given pointers to operands and then to results."""

    def run(stream: int, pointers: Sequence[int]) -> None:
        given = [np.uint64(p) for p in pointers]
        with on_stream(stream):
            for args in launches(given[:count], given[count:]):
                launch(*args)

    return run
