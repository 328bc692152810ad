"""Fewer axes: neighbours that every map walks as one become one."""

from collections.abc import Callable
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
_FEW = 4  # elements that are rather moved in half a vector than one by one
_UNORDERED = (Load, Const, Index, Compute, Reduce, Store, Accumulate)  # whatever axis is last
_ROW = 512  # elements that a row has at least where rows are free to choose
_SHARED = 2**14  # elements that threads may share
_PIECE = 32  # elements that make a row at least, where one is cut


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
    key = (body.sizes, division, body.free, operands, tuple(body.keys))
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
    limits = {0, len(sizes), body.free or 0, *(division or ())}
    runs = runs_of(body, limits)
    new_sizes = [prod(sizes[a] for a in run) for run in runs]
    if division is None:
        inner = len(runs) - 1 if _transposes(body, runs) else _row(new_sizes)
        across = inner
    else:
        across, inner = (sum(run[0] < d for run in runs) for d in division)
        if body.free is not None:  # of the axes that scans leave out, one stays in the row
            first = sum(run[0] < body.free for run in runs)
            moved = runs[first:-1]
            runs = [*runs[:inner], *moved, *runs[inner:first], *runs[-1:]]
            inner, across = inner + len(moved), across + len(moved)
    runs = [*runs[:inner], *_longest_last(body, runs[inner:])]
    new_sizes = [prod(sizes[a] for a in run) for run in runs]
    accumulates = any(isinstance(i, Accumulate) for i in body.code)
    extra = not new_sizes[inner:]
    code = tuple(_remapped(i, runs, extra) for i in body.code)
    kernel = Kernel(
        name,
        tuple(new_sizes[:inner]),
        (*new_sizes[inner:], *((1,) if extra else ())),
        tuple(body.operands),
        code,
        across if accumulates else 0,
    )
    return kernel if kernel.outer or division is not None else _cut(kernel)


def _cut(kernel: Kernel) -> Kernel:
    """A kernel with one long row of several axes, as rows that threads can share.

    The longest axis is cut: all of it tells rows apart where the others make a row, else pieces of
    equal length.
    """
    sizes = kernel.inner
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    others = kernel.length // max(1, sizes[longest])
    used = any(isinstance(i, Index) and i.axis == longest for i in kernel.body)
    free = all(isinstance(i, Load | Const | Index | Compute | Store) for i in kernel.body)
    if len(sizes) < 2 or kernel.length < _SHARED or used or not free:
        return kernel
    last = longest == len(sizes) - 1
    piece = 1
    if last or others < _PIECE:
        least = _PIECE if last else -(-_PIECE // others)
        most = max(_ROW // others, 2 * least)
        fitting = [k for k in range(least, most + 1) if sizes[longest] % k == 0]
        piece = max(fitting, key=lambda k: (last and k % _VECTOR == 0, k), default=0)
    if not piece:
        return kernel
    pieces = () if piece == 1 else (piece,)
    inner = (*sizes[:longest], *pieces, *sizes[longest + 1 :])

    def strides(m: Map | Bound) -> tuple[int, ...]:
        s = m.strides
        return (s[longest] * piece, *s[:longest], *(s[longest] for _ in pieces), *s[longest + 1 :])

    def axis(old: int) -> int:
        return old + 1 if old < longest else old + len(pieces)

    code = tuple(_moved(i, strides, axis) for i in kernel.body)
    return replace(kernel, outer=(sizes[longest] // piece,), inner=inner, body=code)


def _longest_last(body: Body, inner: list[list[int]]) -> list[list[int]]:
    """The axes of a row in an order whose last fills vectors, where the given one does not."""
    lengths = [prod(body.sizes[a] for a in run) for run in inner]
    if len(inner) < 2 or lengths[-1] >= _SHORT or max(lengths) < _VECTOR:
        return inner
    if lengths[-1] >= _FEW and any(_is_row(i, inner[-1][-1]) for i in body.code):
        return inner  # else each element is looked for by itself
    if not all(isinstance(i, _UNORDERED) for i in body.code):
        return inner
    at = max(range(len(inner)), key=lengths.__getitem__)
    return [*inner[:at], *inner[at + 1 :], inner[at]]


def _is_row(instr: Instr, axis: int) -> bool:
    """Whether it reads neighbours along an axis, at a computed place."""
    return isinstance(instr, Load) and len(instr.map.indirect) > 0 and instr.map.strides[axis] == 1


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

    return _moved(instr, strides, lambda a: next(i for i, run in enumerate(runs) if a in run))


def _moved(
    instr: Instr, strides: Callable[[Map | Bound], tuple[int, ...]], place: Callable[[int], int]
) -> Instr:
    """An instruction over other axes: strides of its maps, and where an axis is now."""
    match instr:
        case Load(map=m, bounds=bounds):
            moved = tuple(Bound(b.size, b.offset, strides(b), b.indirect) for b in bounds)
            at = Map(m.offset, strides(m), m.indirect)
            return Load(instr.operand, at, instr.dtype, moved, instr.fill)
        case Store(map=m):
            return Store(instr.operand, Map(m.offset, strides(m), m.indirect), instr.arg)
        case Accumulate(map=m) | Fold(map=m):
            at = Map(m.offset, strides(m), m.indirect)
            return type(instr)(instr.operand, at, instr.monoid, instr.arg)
        case Index(axis=axis):
            return Index(place(axis), instr.dtype)
    return instr
