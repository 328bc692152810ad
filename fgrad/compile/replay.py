"""Programs of other sizes: what was decided for one is replayed for others of the same form.

A program is lowered with a `Size` for each length that may be another one next time. What lowering
decides then holds under the conditions that it looked at. A later program of the same form takes
over its plan, all numbers computed for its own sizes, if the conditions hold; else it is lowered by
itself. Programs that cannot be lowered with sizes are lowered without.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgrad.compile.concrete import Concrete, Learnt
from fgrad.compile.form import Form, Rewriter, Shapeless
from fgrad.compile.kernel import Kernel
from fgrad.compile.plan import Loop, Plan, launches_of
from fgrad.compile.sizes import Conditions, Number, Sizes, Values
from fgrad.core.ir import Jaxpr

_FORMS = 64  # forms kept
_EACH = 4  # plans kept of a form

Built = tuple[Jaxpr, Plan]  # a program after all passes, and its plan
Build = Callable[[Jaxpr], Built]
Learn = Sequence[Callable[[Kernel], object]]


class Replayed(NamedTuple):
    """What became of a program.

    Attributes:
        plan: Its plan.
        optimized: Gives the program after all passes.
        notes: What was found out about programs of other sizes, for who knows what of it holds.
        replayed: Whether what was decided for another program was taken over.
    """

    plan: Plan
    optimized: Callable[[], Jaxpr]
    notes: dict[Hashable, Any]
    replayed: bool = False


class Recorded:
    """A plan with sizes.

    Attributes:
        form: The program for which it was made.
    """

    def __init__(self, form: Form, groups: Sequence[int], numbers: Sequence[bool]) -> None:
        self.form = form
        self._groups = np.asarray(groups, np.int64)
        self._first = {g: i for i, g in reversed(list(enumerate(groups))) if g >= 0}
        self._same = np.asarray([self._first.get(g, i) for i, g in enumerate(groups)], np.int64)
        self._integers = np.asarray(form.integers, np.int64)
        self._numbers = numbers
        self._sizes = Sizes()
        self._built: Built | None = None
        self._notes: dict[Hashable, Any] = {}
        self._learnt: dict[int, Learnt] = {}

    def record(self, jaxpr: Jaxpr, build: Build, learn: Learn) -> Replayed:
        """What becomes of the program itself, `jaxpr`."""
        form, sizes = self.form, self._sizes
        made = {g: sizes.new(form.integers[i]) for g, i in self._first.items()}
        integers = [
            made[g] if g >= 0 else n
            for g, n in zip(self._groups.tolist(), form.integers, strict=True)
        ]
        numbers = [
            Number(sizes.new(v)) if varies else v
            for v, varies in zip(form.numbers, self._numbers, strict=True)
        ]
        self._built = build(Rewriter(integers, numbers).program(jaxpr))
        for kernel in {id(k.memo): k for k in _kernels(self._built[1])}.values():
            conditions: Conditions = {}
            for find_out in learn:
                if not kernel.memo:
                    conditions = sizes.learn(kernel, find_out)
            self._learnt[id(kernel.memo)] = Learnt(conditions)
        sizes.close()
        values = sizes.at(self._given(form))
        assert values is not None
        return self._at(values)

    def replayed(self, form: Form) -> Replayed | None:
        """What becomes of another program; None if it cannot be told from this one."""
        mine = self.form
        if len(form.integers) != len(mine.integers) or len(form.numbers) != len(mine.numbers):
            return None
        if form.skeleton != mine.skeleton:
            return None
        integers = np.asarray(form.integers, np.int64)
        fixed = self._groups < 0
        if not np.array_equal(integers[fixed], self._integers[fixed]):
            return None
        if not np.array_equal(integers, integers[self._same]):
            return None
        for varies, a, b in zip(self._numbers, mine.numbers, form.numbers, strict=True):
            if not varies and a.tobytes() != b.tobytes():
                return None
        values = self._sizes.at(self._given(form))
        return None if values is None else self._at(values)._replace(replayed=True)

    def _given(self, form: Form) -> list[Any]:
        given: list[Any] = [form.integers[i] for i in self._first.values()]
        return given + [v for v, varies in zip(form.numbers, self._numbers, strict=True) if varies]

    def _at(self, values: Values) -> Replayed:
        assert self._built is not None
        jaxpr, plan = self._built
        concrete = Concrete(values, self._learnt)
        optimized = functools.cache(lambda: concrete.program(jaxpr))
        return Replayed(concrete.plan(plan), optimized, self._notes)


class Replays:
    """Plans with sizes, by form."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, list[Recorded]] = OrderedDict()
        self._lock = threading.Lock()

    def plan(
        self, jaxpr: Jaxpr, key: Hashable, state: Collection[int], build: Build, learn: Learn
    ) -> Replayed:
        """What becomes of a program.

        Args:
            jaxpr: The program.
            key: What else the plan depends on.
            state: Inputs whose shapes are rather the same next time.
            build: Makes a plan.
            learn: Find out about a kernel what does not depend on most sizes, and remember it; each
                is asked where those before it did not succeed.
        """
        try:
            form = Form(jaxpr)
        except Shapeless:
            return _built(build, jaxpr)
        full = (key, len(form.skeleton), tuple([e.primitive for e in jaxpr.eqns]))
        with self._lock:
            kept = list(self._kept.get(full, ()))
        for recorded in kept:
            found = recorded.replayed(form)
            if found is not None:
                return found
        before = [r.form for r in kept if r.form.skeleton == form.skeleton]
        groups, numbers = grouped(form, jaxpr, before, state)
        if all(g < 0 for g in groups):
            return _built(build, jaxpr)
        made = Recorded(form, groups, numbers)
        try:
            found = made.record(jaxpr, build, learn)
        except Exception:  # noqa: BLE001 - without sizes it raises what there is to say
            return _built(build, jaxpr)
        with self._lock:
            self._kept[full] = [made, *kept][:_EACH]
            self._kept.move_to_end(full)
            while len(self._kept) > _FORMS:
                self._kept.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._kept.clear()


def _kernels(plan: Plan) -> Iterator[Kernel]:
    """The kernels of a plan and of its loops."""
    for step in plan.steps:
        yield from (launch.kernel for launch in launches_of(step))
        for inner in step.plans if isinstance(step, Loop) else ():
            yield from _kernels(inner)


def _built(build: Build, jaxpr: Jaxpr) -> Replayed:
    optimized, plan = build(jaxpr)
    return Replayed(plan, lambda: optimized, {})


def grouped(
    form: Form, jaxpr: Jaxpr, before: Sequence[Form], state: Collection[int]
) -> tuple[list[int], list[bool]]:
    """For each integer the group of those that change alike, or -1; which literals change.

    Args:
        form: The program.
        jaxpr: The program itself.
        before: Programs of the same skeleton: integers in which they agree do not change.
        state: Inputs whose lengths do not change, if nothing is known from before.
    """
    numbers: dict[Any, int] = {}
    if before:
        found = zip(form.integers, *(f.integers for f in before), strict=True)
        groups = [
            numbers.setdefault(n, len(numbers)) if min(n) > 1 and len(set(n)) > 1 else -1
            for n in found
        ]
        texts = zip(*([v.tobytes() for v in f.numbers] for f in (form, *before)), strict=True)
        return groups, [len(set(t)) > 1 for t in texts]
    fixed = {0, 1, *(n for i in state for n in jaxpr.invars[i].aval.shape)}
    moving = {n for v in jaxpr.invars for n in v.aval.shape} - fixed
    if not moving:
        fixed, moving = {0, 1}, {n for v in jaxpr.invars for n in v.aval.shape} - {0, 1}
    groups = [
        numbers.setdefault(n, len(numbers)) if n not in fixed and _stems(n, moving) else -1
        for n in form.integers
    ]
    avals = {id(a.aval): a.aval for e in jaxpr.eqns for a in (*e.inputs, *e.outputs)}.values()
    counts = {float(n) for n in numbers}
    counts.update(float(a.size) for a in avals if not numbers.keys().isdisjoint(a.shape))
    return groups, [_counts(v, counts) for v in form.numbers]


def _stems(n: int, moving: Collection[int]) -> bool:
    """Whether a length may be made of one that moves: by a reshape, a slice, a concatenation."""
    near = (min(n % d, -n % d) <= min(3, d // 4) and 2 * n > d for d in moving)
    return any(near) or any(2 * n == d for d in moving)


def _counts(value: Any, counts: Collection[float]) -> bool:
    """Whether a literal may stem from a number of elements: it is one, or one over it."""
    kind, x = value.dtype.kind, abs(value.item()) if value.dtype.kind in "iuf" else 0
    if kind not in "iuf" or x in (0, 1) or not np.isfinite(x):
        return False
    if x > 1:
        return x in counts
    n = float(round(1 / x))
    return n in counts and bool(value.dtype.type(1 / n) == x)


replays = Replays()
