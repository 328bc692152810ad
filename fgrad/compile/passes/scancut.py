"""Keep the fewest bytes a step between a scan and its backward scan; compute the rest again."""

from collections.abc import Iterable
from dataclasses import dataclass

from fgrad.compile.flow import Kept, cheapest_to_keep
from fgrad.compile.passes.mincut import LEAST_BYTES, is_cheap, renamed, variables
from fgrad.compile.passes.tidy import tidied
from fgrad.core.ir import Atom, Eqn, Jaxpr, Var
from fgrad.core.transforms.jaxprs import dce


def scancut(jaxpr: Jaxpr) -> Jaxpr:
    """The program in which backward scans compute cheap values again rather than read them.

    What a scan stacks for its backward scan alone (see `Eqn.pullback`) is decided anew, by a
    minimum cut through its body. The backward body may read whatever the forward body stacks, the
    carry that a step began with, and the operands of the scan; it computes the rest by pointwise
    equations, views and cheap reductions. What is alive anyway costs nothing. What `checkpoint` or
    a rule of the user's reads stays as it is.
    """
    for second, eqn in enumerate(jaxpr.eqns):
        if eqn.primitive.name != "scan" or eqn.pullback is None:
            continue
        read = set(eqn.inputs[_fixed(eqn) :])
        for first, made in enumerate(jaxpr.eqns[:second]):
            if made.primitive.name == "scan" and not read.isdisjoint(made.outputs):
                jaxpr = _Cut(jaxpr, first, second).program()
    return jaxpr


def _fixed(eqn: Eqn) -> int:
    """How many operands of a scan are not stacked."""
    return int(eqn.params["num_consts"] + eqn.params["num_carry"])


@dataclass(slots=True, eq=False)
class _Stack:
    """A stacked result of the forward scan.

    Attributes:
        outer: The result.
        inner: What a step puts there.
        readers: The inputs of the backward body that show it.
        decided: Whether it is there for the backward scan alone, and may be given up.
    """

    outer: Var
    inner: Atom
    readers: list[Var]
    decided: bool


class _Cut:
    """A scan and a backward scan that reads what it stacks.

    Attributes:
        body: The program of the forward scan; `back` that of the backward scan.
        operand: For each input of the body, the operand of the scan.
        made: For each value of the body, its equation.
        stacks: The stacked results.
        alive: Values outside that are in memory during the backward scan at any rate.
        again: Values of the body to be computed again.
        names: For each value of the body that the backward body can read, its name there.
    """

    def __init__(self, jaxpr: Jaxpr, first: int, second: int) -> None:
        self.jaxpr, self.first, self.second = jaxpr, first, second
        self.forward, self.backward = jaxpr.eqns[first], jaxpr.eqns[second]
        self.length: int = self.forward.params["length"]
        self.body = tidied(self.forward.params["jaxpr"])
        self.back = tidied(self.backward.params["jaxpr"])
        self.operand = dict(zip(self.body.invars, self.forward.inputs, strict=True))
        a, b = self.forward.params["num_consts"], _fixed(self.forward)
        self.carries = set(self.body.invars[a:b])
        self.made = {v: e for e in self.body.eqns for v in e.outputs}
        self.stacks = self._stacks()
        self.alive: set[Atom] = {*jaxpr.invars, *jaxpr.outvars}
        given = {s.outer for s in self.stacks if s.decided}
        for eqn in jaxpr.eqns[second:]:
            self.alive.update(v for v in variables(eqn) if v not in given)
        self.again: set[Var] = set()
        self.names: dict[Var, Var] = {}
        self.run = next((e.pullback[0] for e in self.back.eqns if e.pullback is not None), None)

    def _stacks(self) -> list[_Stack]:
        n, m = self.forward.params["num_carry"], _fixed(self.backward)
        shown: dict[Atom, list[Var]] = {}
        for a, v in zip(self.backward.inputs[m:], self.back.invars[m:], strict=True):
            shown.setdefault(a, []).append(v)
        elsewhere = {*self.jaxpr.outvars, *self.backward.inputs[:m]}
        for i, eqn in enumerate(self.jaxpr.eqns):
            if i != self.second:
                elsewhere.update(eqn.inputs)
        settled = {v for e in self.back.eqns if _is_settled(e) for v in variables(e)}
        related = self.forward.pullback is None or (
            self.backward.pullback is not None
            and self.forward.pullback[0] is not self.backward.pullback[0]
        )
        found = []
        pairs = zip(self.forward.outputs[n:], self.body.outvars[n:], strict=True)
        for outer, inner in pairs:
            readers = shown.get(outer, [])
            decided = related and bool(readers) and type(inner) is Var and outer not in elsewhere
            decided = decided and settled.isdisjoint(readers)
            decided = decided and outer.aval.nbytes >= LEAST_BYTES
            found.append(_Stack(outer, inner, readers, decided))
        fixed = {s.inner for s in found if not s.decided}
        for s in found:
            s.decided = s.decided and s.inner not in fixed
        return found

    def program(self) -> Jaxpr:
        """The program with both scans changed."""
        self._decide()
        if not self.again:
            return self.jaxpr
        eqns = list(self.jaxpr.eqns)
        eqns[self.first], eqns[self.second] = self._scans()
        return Jaxpr(self.jaxpr.invars, self.jaxpr.constvars, eqns, self.jaxpr.outvars)

    # ----------------------------------------------------------------------------- what to keep

    def _cost(self, v: Var) -> int:
        """The bytes of all steps that it takes to keep a value of the body; 0 of what is alive."""
        if v in self.operand and v not in self.carries:
            outer = self.operand[v]
            return 0 if type(outer) is not Var or outer in self.alive else outer.aval.nbytes
        if any(s.inner is v and not s.decided for s in self.stacks):
            return 0
        return self.length * v.aval.nbytes

    def _sources(self, eqn: Eqn) -> list[Var]:
        """What an equation of the body reads and what is not in memory at any rate."""
        return [v for v in dict.fromkeys(variables(eqn)) if self._cost(v)]

    def _decide(self) -> None:
        """Find the values to be computed again."""
        needed = dict.fromkeys(s.inner for s in self.stacks if s.decided and type(s.inner) is Var)
        order = list(needed)
        number = {v: i for i, v in enumerate(order)}
        values: list[Kept] = []
        for v in order:  # grows
            eqn = self.made.get(v)
            sources = self._sources(eqn) if eqn is not None and is_cheap(eqn) else None
            for s in sources or ():
                if s not in number:
                    number[s] = len(order)
                    order.append(s)
            found = None if sources is None else tuple(number[s] for s in sources)
            values.append(Kept(self._cost(v), found, v in needed))
        kept = {order[i] for i in cheapest_to_keep(values)}
        waiting = [v for v in needed if v not in kept]
        while waiting:
            v = waiting.pop()
            if v not in self.again:
                self.again.add(v)
                waiting += [s for s in self._sources(self.made[v]) if s not in kept]

    # --------------------------------------------------------------------------- both scans anew

    def _scans(self) -> tuple[Eqn, Eqn]:
        stays = [s for s in self.stacks if not (s.decided and s.inner in self.again)]
        inputs, invars, added = self._operands(stays)
        n = self.forward.params["num_carry"]
        # Sources come before what is computed from them, so a copy is there when it is read.
        body = dce(Jaxpr(
            self.body.invars, (), self.body.eqns,
            [*self.body.outvars[:n], *(s.inner for s in stays)],
        ))  # fmt: skip
        forward = self.forward.replace(
            params={**self.forward.params, "jaxpr": body},
            outputs=(*self.forward.outputs[:n], *(s.outer for s in stays)),
        )
        back = Jaxpr(invars, (), *self._back())
        params = self.backward.params
        backward = self.backward.replace(
            inputs=tuple(inputs),
            params={**params, "jaxpr": back, "num_consts": params["num_consts"] + added},
        )
        return forward, backward

    def _operands(self, stays: list[_Stack]) -> tuple[list[Atom], list[Var], int]:
        """Operands and inputs of the backward scan, and how many constants are new.

        Values that are to be read by it, and are stacked by nobody, are added to `stays`.
        """
        eqn, old = self.backward, self.back.invars
        a, b = eqn.params["num_consts"], _fixed(eqn)
        consts, rows = list(zip(eqn.inputs[:a], old[:a], strict=True)), []
        gone = {v for s in self.stacks if s not in stays for v in s.readers}
        for operand, v in zip(eqn.inputs[b:], old[b:], strict=True):
            if v not in gone:
                rows.append((operand, v))
        m = self.forward.params["num_consts"]
        constants = set(self.body.invars[:m])
        for v in self._read():
            place = consts if v in constants else rows
            if v in self.operand and v not in self.carries:
                outer = self.operand[v]
            else:
                stack = next((s for s in stays if s.inner is v), None)
                if stack is None:
                    aval = v.aval.update(shape=(self.length, *v.aval.shape))
                    stack = _Stack(Var(aval), v, [], False)
                    stays.append(stack)
                outer = stack.outer
            there = next((w for o, w in place if o is outer), None)
            if there is None:
                there = Var(v.aval)
                place.append((outer, there))
            self.names[v] = there
        both = [*consts, *zip(eqn.inputs[a:b], old[a:b], strict=True), *rows]
        return [o for o, _ in both], [v for _, v in both], len(consts) - a

    def _read(self) -> Iterable[Var]:
        """The values of the body that the copies read, and that are no copies."""
        found: dict[Var, None] = {}
        for eqn in self.body.eqns:
            if not self.again.isdisjoint(eqn.outputs):
                found.update((v, None) for v in variables(eqn) if v not in self.again)
        return found

    def _back(self) -> tuple[list[Eqn], tuple[Atom, ...]]:
        """The equations and results of the backward body, each copy before its first reader."""
        shown: dict[Var, Var] = {}
        for s in self.stacks:
            if type(s.inner) is Var and s.inner in self.again:
                shown.update(dict.fromkeys(s.readers, s.inner))
        written: list[Eqn] = []
        known: dict[Var, Var] = {}

        def read(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
            for v in atoms:
                if type(v) is Var and v in shown and v not in known:
                    known[v] = self._copy(shown[v], written)
            return renamed(atoms, known)

        for eqn in self.back.eqns:
            inputs = read(eqn.inputs)
            written.append(eqn.replace(inputs=inputs))
        outs = read(self.back.outvars)
        return written, outs

    def _copy(self, v: Var, written: list[Eqn]) -> Var:
        """The name of a value in the backward body, after the equations that compute it there."""
        missing: set[Var] = set()
        waiting = [v]
        while waiting:
            w = waiting.pop()
            if w not in self.names and w not in missing:
                missing.add(w)
                waiting += variables(self.made[w])
        pullback = None if self.run is None else (self.run, False)
        for eqn in self.body.eqns:
            if missing.isdisjoint(eqn.outputs):
                continue
            outputs = tuple(Var(w.aval) for w in eqn.outputs)
            inputs = renamed(eqn.inputs, self.names)
            self.names.update(zip(eqn.outputs, outputs, strict=True))
            written.append(eqn.replace(inputs=inputs, outputs=outputs, pullback=pullback))
        return self.names[v]


def _is_settled(eqn: Eqn) -> bool:
    """Whether `checkpoint` or a rule of the user's says what an equation reads."""
    return eqn.phase is not None or (eqn.pullback is not None and eqn.pullback[1])
