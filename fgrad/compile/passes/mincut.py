"""Keep the fewest bytes between a forward and its backward pass; compute the rest again."""

from fgrad.compile.flow import Kept, cheapest_to_keep
from fgrad.core.ir import Atom, Eqn, Jaxpr, Literal, Var
from fgrad.core.primitive import Lowering
from fgrad.core.transforms.jaxprs import dce

LEAST_BYTES = 32 << 10  # less lies in a cache anyway, and is not worth another kernel
_CHEAP_REDUCTION = 8  # elements that a cheap reduction makes one of
_FREE = frozenset(("broadcast", "reshape", "transpose", "identity", "slice", "rev", "split"))
_READS_BY_INDEX = frozenset(("gather", "dynamic_slice", "permute_rows", "copy"))


def mincut(jaxpr: Jaxpr) -> Jaxpr:
    """The program in which backward passes compute cheap values again rather than find them stored.

    For each backward pass (see `Eqn.pullback`) a minimum cut tells which forward values to keep,
    at the fewest bytes; the others are computed again, in a phase of their own, where the backward
    pass first reads them. Only pointwise equations, views and cheap reductions are repeated. What
    is alive anyway costs nothing: inputs, results, what `checkpoint` or a rule of the user's keeps.
    A value that forward and backward pass use in one and the same kernel is not stored at all, so
    it is left alone: between the two there must be an equation that kernels do not cross.
    """
    for run in dict.fromkeys(e.pullback[0] for e in jaxpr.eqns if e.pullback is not None):
        jaxpr = _Cut(jaxpr, run).program()
    return jaxpr


class _Cut:
    """One backward pass and all that comes before it.

    Attributes:
        made: Forward values, each with the position of its equation.
        alive: Those that are in memory during the backward pass at any rate.
        barred: Of each value, the forward equations that kernels do not cross and that need it;
            a bit each.
        behind: Of each equation of the program, those of them that it is computed behind.
        early: Equations of the backward pass that could be computed before what reads them can.
        needed: The values that are read behind such an equation.
        late: Cheap values that are computed where the backward pass reads them; and behind what.
        again: The values to be computed again.
    """

    def __init__(self, jaxpr: Jaxpr, run: object) -> None:
        self.jaxpr = jaxpr
        self.run = run
        first = next(i for i, e in enumerate(jaxpr.eqns) if self._is_backward(e))
        self.forward, self.rest = jaxpr.eqns[:first], jaxpr.eqns[first:]
        self.made = {v: i for i, e in enumerate(self.forward) for v in e.outputs}
        self.alive = self._alive()
        self.early: set[int] = set()
        self.barred, self.behind = self._barriers()
        self.needed: dict[Var, None] = {}
        self.late: dict[Var, int] = {}
        self.again: set[Var] = set()
        self.copies: dict[Var, Var] = {}

    def _is_backward(self, eqn: Eqn) -> bool:
        return eqn.pullback is not None and eqn.pullback[0] is self.run

    def _may_change(self, eqn: Eqn) -> bool:
        """Whether values that the equation reads may be computed again for it."""
        back = eqn.pullback
        return back is not None and back[0] is self.run and not back[1] and eqn.phase is None

    def _alive(self) -> set[Var]:
        alive = {v for v in self.jaxpr.outvars if type(v) is Var}
        for eqn in self.rest:
            if not self._may_change(eqn):
                alive.update(variables(eqn))
        for eqn in self.forward:  # a view of what is alive takes no memory
            if _is_free(eqn) and all(v in alive or v not in self.made for v in variables(eqn)):
                alive.update(eqn.outputs)
        return alive

    def _barriers(self) -> tuple[dict[Var, int], list[int]]:
        own = [0 if _joins_kernels(e) else 1 << i for i, e in enumerate(self.forward)]
        passed: dict[Var, int] = {}
        behind: list[int] = []
        for i, eqn in enumerate(self.jaxpr.eqns):
            bits = 0
            for v in variables(eqn):
                bits |= passed.get(v, 0)
            behind.append(bits)
            passed.update(dict.fromkeys(eqn.outputs, bits | own[i] if i < len(own) else bits))
        barred: dict[Var, int] = {}
        for eqn, bits in zip(reversed(self.forward), reversed(own), strict=True):
            for v in eqn.outputs:
                bits |= barred.get(v, 0)
            for v in variables(eqn):
                barred[v] = barred.get(v, 0) | bits
        # What a kernel computes of values that are there early, it computes late: where it is read.
        read: dict[Var, int] = {}
        for i in reversed(range(len(own), len(behind))):
            eqn = self.jaxpr.eqns[i]
            if _joins_kernels(eqn):
                bits = behind[i]
                for v in eqn.outputs:
                    behind[i] |= read.get(v, 0)
                if bits != behind[i] and is_cheap(eqn) and self._may_change(eqn):
                    self.early.add(i)
            for v in variables(eqn):
                read[v] = read.get(v, 0) | behind[i]
        return barred, behind

    def program(self) -> Jaxpr:
        """The program with this backward pass changed."""
        behind = self.behind[len(self.forward) :]
        for eqn, before in zip(self.rest, behind, strict=True):
            if self._may_change(eqn):
                self._demand(eqn, before)
        if self.needed:
            self._decide()
        if not self.again and not self.early:
            return self.jaxpr
        written = list(self.forward)
        for i, eqn in enumerate(self.rest, len(self.forward)):
            if self._may_change(eqn):
                eqn = self._changed(eqn, self.behind[i], written)
                if i in self.early:
                    # Else a kernel of the forward pass might compute it, and have to store it.
                    eqn = eqn.replace(phase=(None, self.run))
            written.append(eqn)
        return dce(Jaxpr(self.jaxpr.invars, self.jaxpr.constvars, written, self.jaxpr.outvars))

    def _demand(self, eqn: Eqn, before: int) -> None:
        """Note what an equation of the backward pass reads."""
        waiting = self._sources(eqn)
        while waiting:
            v = waiting.pop()
            known = self.late.get(v)
            if self.barred.get(v, 0) & before:
                if v.aval.nbytes < LEAST_BYTES:
                    self.alive.add(v)
                else:
                    self.needed[v] = None
            elif is_cheap(self.forward[self.made[v]]) and (known is None or before & ~known):
                # It is computed where it is read, so its operands are what is needed there.
                self.late[v] = before | (known or 0)
                waiting += self._sources(self.forward[self.made[v]])

    def _sources(self, eqn: Eqn) -> list[Var]:
        """The forward values it reads that are not in memory at any rate."""
        found = dict.fromkeys(variables(eqn))
        return [v for v in found if v in self.made and v not in self.alive]

    def _decide(self) -> None:
        """Find the values to be computed again."""
        needed = [v for v in self.needed if v not in self.alive]
        number = {v: i for i, v in enumerate(needed)}
        order = list(needed)
        sources: list[tuple[int, ...] | None] = []
        for v in order:  # grows
            eqn = self.forward[self.made[v]]
            if not is_cheap(eqn):
                sources.append(None)
                continue
            found = self._sources(eqn)
            for s in found:
                if s not in number:
                    number[s] = len(order)
                    order.append(s)
            sources.append(tuple(number[s] for s in found))
        values = [
            Kept(v.aval.nbytes, s, v in self.needed) for v, s in zip(order, sources, strict=True)
        ]
        kept = {order[i] for i in cheapest_to_keep(values)}
        waiting = [v for v in needed if v not in kept]
        while waiting:
            v = waiting.pop()
            if v not in self.again:
                self.again.add(v)
                found = self._sources(self.forward[self.made[v]])
                waiting += [s for s in found if s not in kept]
        for v in kept:
            self.late.pop(v, None)
        for eqn in self.forward:  # what is computed late from something that is computed again
            if not self.again.isdisjoint(eqn.inputs):
                self.again.update(v for v in eqn.outputs if v in self.late)

    def _changed(self, eqn: Eqn, before: int, written: list[Eqn]) -> Eqn:
        """An equation of the backward pass, after the copies of equations that it reads from."""
        read = [
            v for v in variables(eqn)
            if v in self.again and (v in self.late or self.barred.get(v, 0) & before)
        ]  # fmt: skip
        if not read:
            return eqn
        missing: set[Var] = set()
        waiting = list(read)
        while waiting:
            v = waiting.pop()
            if v not in missing and v not in self.copies:
                missing.add(v)
                sources = variables(self.forward[self.made[v]])
                waiting += [s for s in sources if s in self.again]
        for i in sorted({self.made[v] for v in missing}):
            old = self.forward[i]
            outputs = tuple(Var(v.aval) for v in old.outputs)
            new = old.replace(
                inputs=renamed(old.inputs, self.copies), outputs=outputs,
                phase=(old.phase, self.run), pullback=(self.run, False),
            )  # fmt: skip
            self.copies.update(zip(old.outputs, outputs, strict=True))
            written.append(new)
        return eqn.replace(inputs=renamed(eqn.inputs, {v: self.copies[v] for v in read}))


def variables(eqn: Eqn) -> list[Var]:
    """The variables that an equation reads."""
    return [a for a in eqn.inputs if type(a) is Var]


def renamed(atoms: tuple[Atom, ...], names: dict[Var, Var]) -> tuple[Atom, ...]:
    """Atoms, variables by their new names."""
    return tuple(names.get(a, a) if type(a) is Var else a for a in atoms)


def _is_free(eqn: Eqn) -> bool:
    """Whether an equation only says how to read what is there."""
    lower = eqn.primitive.lower
    return isinstance(lower, Lowering) and lower.kind == "view" and lower.data in _FREE


def _joins_kernels(eqn: Eqn) -> bool:
    """Whether what comes before an equation and what comes after it may be one kernel."""
    lower = eqn.primitive.lower
    if not isinstance(lower, Lowering) or eqn.effects:
        return False
    if lower.kind == "reduce":
        axes = eqn.params.get("axes", ())
        rank = eqn.inputs[0].aval.ndim
        return tuple(axes) == tuple(range(rank - len(axes), rank)) and len(axes) < rank
    return lower.kind in ("pointwise", "view")


def is_cheap(eqn: Eqn) -> bool:
    """Whether an equation may be computed twice."""
    lower = eqn.primitive.lower
    if not isinstance(lower, Lowering) or eqn.effects or eqn.phase is not None:
        return False
    if lower.kind == "reduce":
        out = eqn.outputs[0].aval.size
        return len(eqn.outputs) == 1 and eqn.inputs[0].aval.size <= _CHEAP_REDUCTION * out
    if any(isinstance(a, Literal) and a.aval.shape for a in eqn.inputs):
        return False
    if any(a.aval.dtype.kind == "c" for a in (*eqn.inputs, *eqn.outputs)):
        return False
    return lower.kind == "pointwise" or (lower.kind == "view" and lower.data not in _READS_BY_INDEX)
