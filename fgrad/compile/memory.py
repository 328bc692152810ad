"""Where the temporaries of a plan lie: liveness over its steps gives offsets in one arena.

Buffers share memory when their lives do not overlap. A kernel's result takes over the memory of an
operand that dies there, where it is read and written element by element. Such buffers form a
*slot*; slots are placed by best fit, in the order of time and, if that leaves gaps, by size.

A result takes over the memory of a donated input in the same way, or where nothing reads the input
any more.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from fgrad.compile.kernel import FULL, Accumulate, Fold, Kernel, Load, Store, levels, stages
from fgrad.compile.plan import (
    INPUT,
    RESULT,
    TEMP,
    Library,
    Plan,
    Step,
    View,
    launches_of,
    reads_of,
    whole,
    writes_of,
)

ALIGNMENT = 64  # a cache line, and the widest vector
_EXACT = 300  # slots up to which a second way of placing them is worth its time (it is quadratic)


@dataclass(frozen=True, slots=True)
class Memory:
    """Where buffers lie, and how much memory a call takes.

    Buffers are numbered as in the text of the program (`Lowered.as_text`): arrays that the function
    closes over, the leaves of its arguments, and what the program makes.

    Attributes:
        offsets: For each temporary in the arena, its offset in bytes.
        scratch: For each step with scratch memory, the offset of that.
        arena_bytes: The size of the arena.
        bound_bytes: The most that is alive in it at once: no placement can be smaller.
        input_bytes: The inputs.
        result_bytes: The results that the call allocates.
        taken: For each result that lies in the memory of a donated input, that input.
        peak_bytes: The most that is alive at once: inputs, results, the arena, what libraries
            return, and what their rules allocate meanwhile. Not counted: what LAPACK and FFT
            take in C for one matrix or row, and steps that Python runs for a loop of the host.
        reused: How many temporaries took over the memory of an operand.
    """

    offsets: Mapping[int, int]
    scratch: Mapping[int, int]
    arena_bytes: int
    bound_bytes: int
    input_bytes: int
    result_bytes: int
    taken: Mapping[int, int]
    peak_bytes: int
    reused: int

    def __str__(self) -> str:
        return (
            f"{self.peak_bytes:,} bytes at the peak: inputs {self.input_bytes:,}, results "
            f"{self.result_bytes:,}, temporaries {self.arena_bytes:,}"
        )

    @property
    def places(self) -> dict[int, int]:
        """For buffers of which that is known, a number that only those share that lie together."""
        inputs = {b: -1 - a for result, a in self.taken.items() for b in (result, a)}
        return {**self.offsets, **inputs}


# For each step, and each buffer that it writes: those that this may overwrite.
_Overwritable = Sequence[Mapping[int, Sequence[int]]]


class _Slot(NamedTuple):
    """Memory of one size that is in use from one step to another, both included."""

    size: int
    first: int
    last: int


def plan_memory(
    plan: Plan,
    *,
    scratch: Mapping[int, int] | None = None,
    elsewhere: Collection[int] = (),
    donated: Collection[int] = (),
    over: Collection[int] = (),
    workspace: Mapping[int, int] | None = None,
) -> Memory:
    """Place the temporaries of a plan.

    Args:
        plan: The plan.
        scratch: Bytes of scratch memory that a step needs while it runs.
        elsewhere: Buffers that a library allocates.
        donated: Inputs whose memory results may take over.
        over: Library steps whose result may lie where their first operand does.
        workspace: Bytes that a library allocates in a step, and frees.
    """
    last = last_uses(plan)
    skip = set(elsewhere)
    may_be = [
        _of_first(step) if i in over and isinstance(step, Library) else _overwritable(step)
        for i, step in enumerate(plan.steps)
    ]
    taken = _take_over(plan, may_be, last, donated, skip)
    slot_of, slots, reused = _slots(plan, may_be, last, skip)
    scratch_slots = {}
    for step, size in (scratch or {}).items():
        if size:
            scratch_slots[step] = len(slots)
            slots.append(_Slot(_rounded(size), step, step))
    places, total = _place(slots)
    bound = max(_live(slots, len(plan.steps)), default=0)
    inputs = sum(b.nbytes for b in plan.buffers if b.role == INPUT)
    fresh = [b for i, b in enumerate(plan.buffers) if b.role == RESULT and i not in taken]
    return Memory(
        offsets={b: places[s] for b, s in slot_of.items()},
        scratch={step: places[s] for step, s in scratch_slots.items()},
        arena_bytes=total,
        bound_bytes=bound,
        input_bytes=inputs,
        result_bytes=sum(b.nbytes for b in fresh),
        taken=taken,
        peak_bytes=inputs + total + _outside(plan, last, skip, taken, workspace or {}),
        reused=reused,
    )


def last_uses(plan: Plan) -> dict[int, int]:
    """For each buffer that a step touches, the last such step."""
    last: dict[int, int] = {}
    for i, step in enumerate(plan.steps):
        for b in reads_of(step) | writes_of(step):
            last[b] = i
    return last


def _take_over(
    plan: Plan, over: _Overwritable, last: Mapping[int, int], donated: Collection[int],
    skip: set[int],
) -> dict[int, int]:  # fmt: skip
    """For each result that can be written into a donated input, that input.

    The input has the shape and dtype of the result and is read for the last time before the result
    is written, or by the kernel that writes it, element by element. Inputs that are results
    themselves stay as they are, and so do those of which a library may have returned a view.
    """
    shown = {b for s in plan.steps if writes_of(s) & skip for b in reads_of(s)}
    free: dict[tuple[tuple[int, ...], object], dict[int, None]] = {}
    for a in sorted(set(donated) - {r for r in plan.results if isinstance(r, int)} - shown):
        free.setdefault(_type(plan, a), {})[a] = None
    taken: dict[int, int] = {}
    begun: set[int] = set()
    for i, step in enumerate(plan.steps) if free else ():
        new = writes_of(step) - begun  # other steps may go on with a result
        begun |= new
        for b in sorted(new):
            fitting = free.get(_type(plan, b))
            if not fitting or plan.buffers[b].role != RESULT or b in skip:
                continue
            here = (a for a in over[i].get(b, ()) if a in fitting and last[a] == i)
            before = (a for a in fitting if last.get(a, -1) < i)
            for a in chain(here, before):
                taken[b] = a
                del fitting[a]
                break
    return taken


def _type(plan: Plan, b: int) -> tuple[tuple[int, ...], object]:
    return plan.buffers[b].shape, plan.buffers[b].dtype


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _slots(
    plan: Plan, over: _Overwritable, last: Mapping[int, int], skip: set[int]
) -> tuple[dict[int, int], list[_Slot], int]:
    """The slot of each temporary in the arena, the slots, and how many buffers were put on one."""
    slot_of: dict[int, int] = {}
    slots: list[_Slot] = []
    reused = 0
    for i, step in enumerate(plan.steps):
        taken: set[int] = set()
        for b in sorted(writes_of(step)):
            buffer = plan.buffers[b]
            if buffer.role != TEMP or b in skip or b in slot_of:  # or it was begun before
                continue
            size = _rounded(buffer.nbytes)
            for a in over[i].get(b, ()):
                if a not in slot_of or a in taken or last[a] != i or not size:
                    continue
                s = slot_of[a]
                if slots[s].size == size:
                    taken.add(a)
                    slot_of[b] = s
                    slots[s] = slots[s]._replace(last=last[b])
                    reused += 1
                    break
            else:
                slot_of[b] = len(slots)
                slots.append(_Slot(size, i, last[b]))
    return slot_of, slots, reused


def _of_first(step: Library) -> dict[int, list[int]]:
    """The buffer of the first operand for the result, where that is all that is read of it."""
    first, *others = step.inputs
    if not isinstance(first, View) or first != whole(first.buffer, first.shape):
        return {}
    if any(isinstance(v, View) and v.buffer == first.buffer for v in others):
        return {}
    return {step.outputs[0]: [first.buffer]}


def _overwritable(step: Step) -> dict[int, list[int]]:
    """For each buffer that a step writes, those into whose memory it may be written.

    Element by element, that is, while other launches of the step run.
    """
    launches = launches_of(step)
    used = Counter(b for launch in launches for b in set(launch.buffers))
    found: dict[int, list[int]] = {}
    for launch in launches:
        kernel = launch.kernel
        level, stage = levels(kernel), stages(kernel)
        passes = max((n for n, kind in zip(stage, level, strict=True) if kind == FULL), default=0)
        stores: dict[int, list[int]] = {}
        loads: dict[int, list[int]] = {b: [] for b in launch.buffers}
        for i, instr in enumerate(kernel.body):
            if isinstance(instr, Load):
                loads[launch.buffers[instr.operand]].append(i)
            elif isinstance(instr, Store | Accumulate | Fold):
                stores.setdefault(launch.buffers[instr.operand], []).append(i)
        for b, (i, *more) in stores.items():
            store = kernel.body[i]
            if more or not isinstance(store, Store) or store.map.indirect:
                continue
            if level[i] == FULL and stage[i] == passes:
                found[b] = [
                    a
                    for a, reads in loads.items()
                    if a not in stores
                    and used[a] == 1
                    and _same_elements(kernel, reads, store, level)
                ]
    return found


def _same_elements(
    kernel: Kernel, loads: Sequence[int], store: Store, level: Sequence[str]
) -> bool:
    """Whether each element that some loads read is read just before it would be overwritten.

    That holds if all of them have the map of the store, and the store is in the last pass over
    the row, after which no pass can read it again.
    """
    size = kernel.operands[store.operand].dtype.itemsize
    for i in loads:
        instr = kernel.body[i]
        assert isinstance(instr, Load)
        if instr.map != store.map or instr.bounds or level[i] != FULL:
            return False
        if kernel.operands[instr.operand].dtype.itemsize != size:
            return False
    return True


def _live(slots: list[_Slot], steps: int) -> list[int]:
    """The bytes in use at each step."""
    change = [0] * (steps + 1)
    for s in slots:
        change[s.first] += s.size
        change[s.last + 1] -= s.size
    total = 0
    return [total := total + c for c in change]


def _outside(
    plan: Plan, last: Mapping[int, int], skip: set[int], taken: Collection[int],
    workspace: Mapping[int, int],
) -> int:  # fmt: skip
    """The most that results, and temporaries outside the arena, take at once."""
    lives = [_Slot(size, i, i) for i, size in workspace.items()]
    seen: set[int] = set()
    for i, step in enumerate(plan.steps):
        new = writes_of(step) - seen
        seen |= new
        for b in new:
            buffer = plan.buffers[b]
            if b in taken:
                continue
            if buffer.role == RESULT:
                lives.append(_Slot(buffer.nbytes, i, len(plan.steps) - 1))
            elif b in skip:
                lives.append(_Slot(buffer.nbytes, i, last[b]))
    return max(_live(lives, len(plan.steps)), default=0)


def _place(slots: list[_Slot]) -> tuple[list[int], int]:
    """An offset for each slot, and the bytes that all take."""
    places, total = _by_time(slots)
    if not slots or len(slots) > _EXACT:
        return places, total
    steps = max(s.last for s in slots) + 1
    if total > max(_live(slots, steps)):
        others, other = _by_size(slots)
        if other < total:
            return others, other
    return places, total


def _by_time(slots: list[_Slot]) -> tuple[list[int], int]:
    """Best fit in the order in which slots come alive, with a list of free gaps."""
    places = [0] * len(slots)
    order = sorted(range(len(slots)), key=lambda s: (slots[s].first, -slots[s].size))
    ends = sorted(range(len(slots)), key=lambda s: slots[s].last)
    gaps: list[tuple[int, int]] = []  # (begin, end), sorted, apart
    total = gone = 0
    for s in order:
        size, first, _ = slots[s]
        if not size:
            continue
        while slots[ends[gone]].last < first:
            done = ends[gone]
            gone += 1
            if slots[done].size:
                _give_back(gaps, places[done], places[done] + slots[done].size)
        fits = [(e - b, b, k) for k, (b, e) in enumerate(gaps) if e - b >= size]
        if fits:
            _, begin, k = min(fits)
            places[s] = begin
            gaps[k] = (begin + size, gaps[k][1])
            if gaps[k][0] == gaps[k][1]:
                del gaps[k]
        elif gaps and gaps[-1][1] == total:  # the last gap grows
            places[s] = gaps.pop()[0]
            total = places[s] + size
        else:
            places[s] = total
            total += size
    return places, total


def _give_back(gaps: list[tuple[int, int]], begin: int, end: int) -> None:
    """Add a gap, and join it with its neighbours."""
    at = 0
    while at < len(gaps) and gaps[at][0] < begin:
        at += 1
    if at < len(gaps) and gaps[at][0] == end:
        end = gaps.pop(at)[1]
    if at and gaps[at - 1][1] == begin:
        gaps[at - 1] = (gaps[at - 1][0], end)
    else:
        gaps.insert(at, (begin, end))


def _by_size(slots: list[_Slot]) -> tuple[list[int], int]:
    """Largest first, each into the smallest gap between those alive at the same time."""
    places = [0] * len(slots)
    placed: list[tuple[int, int, int, int]] = []  # in use from, to; begin, end
    total = 0
    for s in sorted(range(len(slots)), key=lambda s: (-slots[s].size, slots[s].first)):
        size, first, last = slots[s]
        beside = sorted([(b, e) for a, z, b, e in placed if a <= last and first <= z])
        best, begin = None, 0
        for low, high in beside:
            gap = low - begin
            if gap >= size and (best is None or gap < best[0]):
                best = (gap, begin)
            begin = max(begin, high)
        places[s] = best[1] if best else begin
        placed.append((first, last, places[s], places[s] + size))
        total = max(total, places[s] + size)
    return places, total
