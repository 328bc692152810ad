"""Fewer axes: neighbours that every map walks as one become one."""

from dataclasses import replace
from math import prod
from typing import Any

from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Bound,
    Compute,
    Const,
    Fold,
    Index,
    Instr,
    Kernel,
    Load,
    Map,
    Reduce,
    Store,
)
from fgrad.compile.lower.body import Body

_SHORT, _VECTOR = 8, 16  # lengths of a last axis that leaves vectors empty, and that fills them
_UNORDERED = (Load, Const, Index, Compute, Reduce, Store, Accumulate)  # whatever axis is last
_ROW = 512  # elements that a row has at least where rows are free to choose


def collapsed(
    name: str, body: Body, division: tuple[int, int] | None, eqns: tuple[int, ...]
) -> Kernel:
    """The kernel of a body, with as few axes as its maps allow.

    A body like one before, as equal blocks of a network have, gives the same kernel.

    Args:
        name: For people.
        body: Instructions over axes.
        division: Where the accumulated and the inner axes begin; None where rows are free.
        eqns: The positions of the equations.
    """
    operands = tuple((op.dtype, op.written) for op in body.operands)
    key = (body.sizes, division, operands, tuple(body.keys))
    kernel = _made.get(key)
    if kernel is None:
        kernel = _collapsed(name, body, division)
        if len(_made) >= _KEPT:
            _made.clear()
        _made[key] = kernel
    return kernel.of(name, eqns)


_made: dict[Any, Kernel] = {}
_KEPT = 1024


def _collapsed(name: str, body: Body, division: tuple[int, int] | None) -> Kernel:
    sizes = body.sizes
    limits = {0, len(sizes)} if division is None else {0, *division, len(sizes)}
    runs = runs_of(body, limits)
    new_sizes = [prod(sizes[a] for a in run) for run in runs]
    if division is None:
        inner = len(runs) - 1 if _transposes(body, runs) else _row(new_sizes)
        across = inner
    else:
        across, inner = (sum(run[0] < d for run in runs) for d in division)
    runs = [*runs[:inner], *_longest_last(body, runs[inner:])]
    new_sizes = [prod(sizes[a] for a in run) for run in runs]
    accumulates = any(isinstance(i, Accumulate) for i in body.code)
    extra = not new_sizes[inner:]
    code = tuple(_remapped(i, runs, extra) for i in body.code)
    return Kernel(
        name,
        tuple(new_sizes[:inner]),
        (*new_sizes[inner:], *((1,) if extra else ())),
        tuple(body.operands),
        code,
        across if accumulates else 0,
    )


def _longest_last(body: Body, inner: list[list[int]]) -> list[list[int]]:
    """The axes of a row in an order whose last fills vectors, where the given one does not."""
    lengths = [prod(body.sizes[a] for a in run) for run in inner]
    if len(inner) < 2 or lengths[-1] >= _SHORT or max(lengths) < _VECTOR:
        return inner
    if not all(isinstance(i, _UNORDERED) for i in body.code):
        return inner
    at = max(range(len(inner)), key=lengths.__getitem__)
    return [*inner[:at], *inner[at + 1 :], inner[at]]


def runs_of(body: Body, limits: set[int]) -> list[list[int]]:
    """Axes to be merged, slowest first."""
    maps = [m for i in body.code for m in _maps(i)]
    fixed = {i.axis for i in body.code if isinstance(i, Index)}
    sizes = body.sizes
    runs: list[list[int]] = []
    for axis in range(len(sizes)):
        if sizes[axis] == 1 and axis not in fixed:
            continue
        if (
            runs
            and not any(runs[-1][0] < d <= axis for d in limits)
            and fixed.isdisjoint((axis, runs[-1][-1]))
        ):
            before, n = runs[-1][-1], sizes[axis]
            if all(m.strides[before] == m.strides[axis] * n for m in maps):
                runs[-1].append(axis)
                continue
        runs.append([axis])
    return runs


def _transposes(body: Body, runs: list[list[int]]) -> bool:
    """Whether something moves by one element along the last axis but one, and further along it."""
    if len(runs) < 2:
        return False
    pairs = [
        (m.strides[runs[-2][-1]], m.strides[runs[-1][-1]]) for i in body.code for m in _maps(i)
    ]
    return any(abs(before) == 1 and abs(last) > 1 for before, last in pairs)


def _row(sizes: list[int]) -> int:
    """Where the inner axes begin, if rows are free: they should not be short."""
    at, length = len(sizes), 1
    while at > 0 and (length < _ROW or at == len(sizes)):
        at -= 1
        length *= sizes[at]
    return at


def _maps(instr: Instr) -> list[Map | Bound]:
    out: list[Map | Bound] = [instr.map] if isinstance(instr, MAPPED) else []
    return [*out, *instr.bounds] if isinstance(instr, Load) else out


def _remapped(instr: Instr, runs: list[list[int]], extra: bool) -> Instr:
    def strides(m: Map | Bound) -> tuple[int, ...]:
        return (*(m.strides[run[-1]] for run in runs), *((0,) if extra else ()))

    match instr:
        case Load(map=m, bounds=bounds):
            moved = tuple(replace(b, strides=strides(b)) for b in bounds)
            return replace(instr, map=replace(m, strides=strides(m)), bounds=moved)
        case Store(map=m) | Accumulate(map=m) | Fold(map=m):
            return replace(instr, map=replace(m, strides=strides(m)))
        case Index(axis=axis):
            return replace(instr, axis=next(i for i, run in enumerate(runs) if axis in run))
    return instr
