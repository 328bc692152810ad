"""The axes of a kernel as its code walks over them: as few as say the same.

Along an axis of length 1 nothing steps, and two axes that lie in memory like one become one.
"""

from dataclasses import replace
from typing import TypeVar

from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Bound,
    Fold,
    Index,
    Instr,
    Kernel,
    Load,
    Map,
    Scan,
    remembered,
)

M = TypeVar("M", Map, Bound)


@remembered
def tidy(kernel: Kernel) -> Kernel:
    """The same kernel over fewer axes, if some can be joined."""
    kernel = _mapped(kernel, lambda m: replace(m, strides=_still(m.strides, kernel)))
    axis = 0
    while axis + 1 < len(kernel.outer) + len(kernel.inner):
        if _can_join(kernel, axis):
            kernel = _joined(kernel, axis)
        else:
            axis += 1
    return kernel


def _still(strides: tuple[int, ...], kernel: Kernel) -> tuple[int, ...]:
    sizes = (*kernel.outer, *kernel.inner)
    return tuple(0 if n == 1 else s for s, n in zip(strides, sizes, strict=True))


def _mapped(kernel: Kernel, change) -> Kernel:  # type: ignore[no-untyped-def]
    """A kernel with other maps and bounds."""
    body: list[Instr] = []
    for instr in kernel.body:
        if isinstance(instr, Load):
            instr = replace(instr, bounds=tuple(map(change, instr.bounds)))
        body.append(replace(instr, map=change(instr.map)) if isinstance(instr, MAPPED) else instr)
    return _with(kernel, kernel.outer, kernel.inner, tuple(body), kernel.kept)


def _with(
    kernel: Kernel, outer: tuple[int, ...], inner: tuple[int, ...], body: tuple[Instr, ...],
    kept: int,
) -> Kernel:  # fmt: skip
    return Kernel(kernel.name, outer, inner, kernel.operands, body, kept, kernel.eqns)


def _can_join(kernel: Kernel, axis: int) -> bool:
    """Whether an axis and the next are both outer or inner, and all maps take them for one."""
    first, end = len(kernel.outer), len(kernel.outer) + len(kernel.inner)
    if axis + 1 == first or (axis + 1 == kernel.kept and _accumulates(kernel)):
        return False
    if axis + 2 == end and any(
        isinstance(i, Fold) or (isinstance(i, Scan) and i.free) for i in kernel.body
    ):
        return False
    if any(isinstance(i, Index) and i.axis in (axis, axis + 1) for i in kernel.body):
        return False
    sizes = (*kernel.outer, *kernel.inner)
    here, there = sizes[axis], sizes[axis + 1]
    if 1 in (here, there):
        return True
    maps: list[Map | Bound] = []
    for i in kernel.body:
        maps += [i.map] if isinstance(i, MAPPED) else []
        maps += i.bounds if isinstance(i, Load) else ()
    return all(m.strides[axis] == there * m.strides[axis + 1] for m in maps)


def _accumulates(kernel: Kernel) -> bool:
    return any(isinstance(i, Accumulate) for i in kernel.body)


def _joined(kernel: Kernel, axis: int) -> Kernel:
    sizes = (*kernel.outer, *kernel.inner)
    here, there = sizes[axis], sizes[axis + 1]

    def change(m: M) -> M:
        step = m.strides[axis] if there == 1 else m.strides[axis + 1]
        return replace(m, strides=(*m.strides[:axis], step, *m.strides[axis + 2 :]))

    new = _mapped(kernel, change)
    body = tuple(replace(i, axis=i.axis - 1) if isinstance(i, Index) and i.axis > axis else i
                 for i in new.body)  # fmt: skip
    first = len(kernel.outer)
    both = (*sizes[:axis], here * there, *sizes[axis + 2 :])
    if axis < first:
        kept = kernel.kept - (axis + 1 < kernel.kept)
        return _with(kernel, both[: first - 1], both[first - 1 :], body, kept)
    return _with(kernel, both[:first], both[first:], body, kernel.kept)
