"""Scatters as routines: how updates reach their elements, and how the work is divided.

Updates of one element are combined in order, whatever the number of threads. Each goes straight to
its element where nothing is lost by that: minima, integers, single updates, … Sums and products of
floats of less than 8 bytes are kept in a wider type: in memory of the form of the result where
windows are narrow, and else in registers, after sorting.
"""

import numpy as np

from fgrad.backends.cpu import scatter_parts, scatter_sorted
from fgrad.backends.cpu.routines import Phase, Routine, Write
from fgrad.backends.cpu.scatter_code import (
    BATCH,
    CHUNK,
    HEAD,
    WINDOW,
    Copy,
    Split,
    copy,
    updates,
)
from fgrad.backends.cpu.scatter_form import (
    CHECK,
    OPERATIONS,
    Number,
    Scatter,
    form_of,
    number_of,
    strides_of,
)
from fgrad.backends.cpu.scatter_parts import Sums
from fgrad.compile.plan import Library, contiguous
from fgrad.core.ir import Literal

__all__ = ["OPERATIONS", "routine_of"]

_NARROW = 8  # numbers of a window up to which it is not worth sorting
_SHARED = 32  # numbers of a window that a unit takes at least: it looks at every window
_MOST = 16  # units that look at every window
_MANY = 1 << 14  # single numbers that are worth all threads
_FEW_TIMES = 4  # so many numbers for each sum of a part of them


def routine_of(step: Library, vector_bytes: int, _registers: int) -> Routine | None:
    """The routine of a scatter; None where it has no elements, or NumPy alone knows its dtype."""
    c = form_of(step)
    if c is None:
        return None
    made = _Maker(step, c, vector_bytes)
    wide = _wide(c, step.eqn.params["unique_indices"])
    if (parts := made.parts(wide)) is not None:
        return parts
    if not wide:
        return made.straight()
    return made.kept(wide) if _is_kept(c, made.size) else made.sorted(wide)


def _wide(c: Scatter, unique: bool) -> str:
    """The LLVM type in which updates of one element are combined; '' for that of the element."""
    name = c.number.name
    if c.op not in ("add", "mul") or unique or c.windows == 1:
        return ""
    if name in ("float16", "bfloat16"):
        return "double" if c.op == "add" else "float"
    if c.op == "add" and name == "float32":
        return "double"
    # Sums of float64 are compensated, in registers; few numbers at a time are not worth that.
    return "double" if c.op == "add" and name == "float64" and c.elements > _NARROW else ""


def _is_kept(c: Scatter, size: int) -> bool:
    """Whether sums are kept in memory of the form of the result, of a size."""
    return c.elements <= _NARROW and size <= 4 * c.windows * c.elements


class _Maker:
    """Makes a routine.

    Attributes:
        size: The numbers of the result.
    """

    def __init__(self, step: Library, c: Scatter, vector_bytes: int) -> None:
        self.c, self.bytes = c, vector_bytes
        self.aval = step.eqn.outputs[0].aval
        self.start = step.inputs[0]
        self.strides = strides_of(self.start)
        self.size = self.aval.size * c.parts

    def straight(self) -> Routine:
        """Each update goes straight to its element of the result."""
        c = self.c
        lanes = self._lanes(c.number)
        split = _split(c, lanes)
        phase = Phase(1, split.units if split else 1, self._ns(split), c.first.size)
        codes = (*self._begin()[:1], updates(c, split, "", lanes))
        return self._routine((*c.key, split), codes, (self._begin()[1], phase), 0)

    def parts(self, wide: str) -> Routine | None:
        """Each part of single numbers is added up by itself; None where that does not pay."""
        c = self.c
        shape, steps = _joined(self.aval.shape, self.strides)
        flat = len(shape) == 1 and steps[0] in (0, 1)
        sums = scatter_parts.PARTS * self.size
        if c.op != "add" or c.elements > 1 or c.number.name == "float64" or not flat:
            return None
        if c.windows < max(_MANY, _FEW_TIMES * sums):
            return None
        s = Sums(self.size, steps[0], wide)
        lanes = self._lanes(Number("", wide, 8, "") if wide else c.number)
        codes = (scatter_parts.sum_parts(c, s, lanes), scatter_parts.add_parts(c, s, lanes))
        phases = (
            Phase(0, scatter_parts.PARTS, c.windows, c.first.size),
            Phase(1, -(-self.size // CHUNK), 2.0 * self.size),
        )
        return self._routine((*c.key, s), codes, phases, scatter_parts.scratch_bytes(c, s))

    def kept(self, wide: str) -> Routine:
        """Sums are kept in memory of the form of the result."""
        c = self.c
        number = Number("", wide, 8 if wide == "double" else 4, "")
        lanes = self._lanes(number)
        split = _split(c, lanes)
        before = self._copy(c.number, number, self.strides, c.parts)
        after = self._copy(number, c.number, contiguous(self.aval.shape), c.parts)
        codes = (
            copy(before, lanes, lambda args, b: (args[0], b.offset(args[4], HEAD, "i8"))),
            updates(c, split, wide, lanes),
            copy(after, lanes, lambda args, b: (b.offset(args[4], HEAD, "i8"), args[3])),
        )
        phases = (
            Phase(0, before.units, 0.3 * self.size),
            Phase(1, split.units if split else 1, self._ns(split), c.first.size),
            Phase(2, after.units, 0.3 * self.size),
        )
        key = (*c.key, split, wide, before, after)
        return self._routine(key, codes, phases, HEAD + number.size * self.size)

    def sorted(self, wide: str) -> Routine:
        """Updates of one element are brought together first."""
        c = self.c
        zeros = self._zero_rows()
        lanes = self.bytes // (4 if wide == "float" else 8)
        entries = scatter_sorted.entries_of(c)
        ns = 0.3 * c.windows * c.elements + 3.0 * entries
        codes: tuple[Write, ...] = (
            scatter_sorted.sort(c), scatter_sorted.combine(c, wide, lanes, zeros),
        )  # fmt: skip
        phases: tuple[Phase, ...] = (
            Phase(0, 1, 5.0 * entries, c.first.size),
            Phase(1, scatter_sorted.UNITS, ns, c.first.size),
        )
        if not zeros:
            begin, first = self._begin()
            codes = (*codes, begin)
            phases = (first._replace(code=2), *phases)
        key = (*c.key, wide, scatter_sorted.order_of(c), zeros, scatter_sorted.lowest_of(c))
        return self._routine(key, codes, phases, scatter_sorted.scratch_bytes(c))

    def _zero_rows(self) -> int:
        """The number of rows of the result where they fill it one by one, and begin as zeros."""
        row, start = self.c.row, self.start
        if len(row) != 1 or row[0].result != 1 or row[0].size != self.c.grain or self.c.op != "add":
            return 0
        if not isinstance(start, Literal) or any(self.strides) or start.aval.shape == ():
            return 0
        value = np.asarray(start.value, start.aval.dtype)
        return 0 if any(value[(0,) * value.ndim].tobytes()) else self.size // self.c.grain

    def _routine(
        self, key: tuple[object, ...], codes: tuple[Write, ...], phases: tuple[Phase, ...],
        scratch: int,
    ) -> Routine:  # fmt: skip
        checked = self.c.mode == CHECK
        scratch = max(scratch, HEAD if checked else 0)
        key = ("scatter", self.bytes, *key, self.aval.shape, self.strides, bool(scratch))
        return Routine(
            key, codes, phases, 5 if scratch else 4, self.bytes // 4, scratch,
            checked=checked, over=True,
        )  # fmt: skip

    def _begin(self) -> tuple[Write, Phase]:
        """The result begins as the operand."""
        found = number_of("set", self.aval.dtype)
        assert found is not None
        raw, parts, _ = found
        c = self._copy(raw, raw, self.strides, parts)
        ns = 0.03 * self.aval.size * self.aval.dtype.itemsize
        return copy(c, self._lanes(raw), lambda args, _b: (args[0], args[3])), Phase(0, c.units, ns)

    def _copy(self, source: Number, goal: Number, strides: tuple[int, ...], parts: int) -> Copy:
        shape = self.aval.shape
        if parts == 2:
            shape, strides = (*shape, 2), (*(2 * s for s in strides), 1)
        return Copy(source, goal, *_joined(shape, strides))

    def _lanes(self, number: Number) -> int:
        return self.bytes // (4 if number.computed == "float32" else number.size)

    def _ns(self, split: Split | None) -> float:
        """How long the updates take one thread, estimated."""
        c = self.c
        looks = split.units if split is not None and split.by != BATCH else 1
        return c.windows * (looks * 1.0 + 0.1 * c.elements + 1.0)


def _joined(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Neighbouring axes as one, where they lie as one."""
    sizes: list[int] = []
    steps: list[int] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if sizes and steps[-1] == s * n:
            sizes[-1] *= n
            steps[-1] = s
        else:
            sizes.append(n)
            steps.append(s)
    return tuple(sizes) or (1,), tuple(steps) or (1,)


def _split(c: Scatter, lanes: int) -> Split | None:
    """How windows are shared, where that pays: ranges of a window end where vectors do."""
    axes = (c.first, *c.batch)
    walked = [i for i, a in enumerate(axes) if a.result and a.size > 1]
    if walked:
        at = max(walked, key=lambda i: axes[i].size)
        units = min(64, axes[at].size)
        each = -(-axes[at].size // units)
        return Split(BATCH, -(-axes[at].size // each), each, axes[at].size, at)
    units = min(c.elements // _SHARED, _MOST)
    if units < 2 or not c.window[0].whole:  # else windows overlap along this axis
        return None
    length = c.window[0].size
    each = -(-length // units)
    if len(c.window) == 1:
        each = -(-each // lanes) * lanes
    return Split(WINDOW, -(-length // each), each, length)
