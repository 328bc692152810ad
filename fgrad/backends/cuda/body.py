"""The values of a kernel as CUDA C: those of a row, and those of a group of lanes.

A group is `V` neighbours along the last axis, which one thread computes. What it loads at once, and
what a scan needs of all lanes, are arrays ``x<value>[V]``; the rest are variables ``v<value>`` of a
loop over the lanes ``k``. Where a row is held in registers, ``k<value>`` are the values that later
passes read.
"""

from dataclasses import dataclass

from fgrad.backends.cuda.collecting import (
    adds_floats,
    collect,
    collected,
    is_real,
    letter,
    monoid,
    nothing,
    scanned,
)
from fgrad.backends.cuda.forms import COLUMNS, Form
from fgrad.backends.cuda.passes import LANE, SEGMENT, Pass, Passes
from fgrad.backends.cuda.places import axis_name, index, inside, last_name
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import call, dtype_of, special, type_name
from fgrad.compile.kernel import (
    MAPPED,
    Accumulate,
    Compute,
    Const,
    Fold,
    Index,
    Kernel,
    Load,
    Reduce,
    Scan,
    Store,
    uses,
)  # fmt: skip


@dataclass(slots=True)
class Scope:
    """What surrounds the text that is being written.

    Attributes:
        kernel: The kernel.
        form: Its form, or that of the part of it.
        plan: Its passes.
        values: Expressions of the values that are known.
        live: The condition that the group exists; empty: it does.
        item: Where a group's values start in arrays of a row in registers.
    """

    kernel: Kernel
    form: Form
    plan: Passes
    values: dict[int, str]
    live: str = ""
    item: str = "0"


def write_values(text: Text, s: Scope, values: list[int]) -> None:
    """Define values that are the same for all lanes."""
    for v in values:
        name = type_name(dtype_of(s.kernel, v))
        text.add(f"const {name} v{v} = {expression(s, v, '')};")
        s.values[v] = f"v{v}"


def expression(s: Scope, v: int, lane: str) -> str:
    """What a value is, from those before it."""
    kernel, instr = s.kernel, s.kernel.body[v]
    match instr:
        case Load(operand=o, map=m, bounds=bounds):
            found = f"fg_get(p{o}[{index(f'm{v}', m, kernel, s.values, lane)}])"
            if not bounds:
                return found
            return f"{inside(v, instr, kernel, s.values, lane)} ? {found} : {number(s, v)}"
        case Const():
            return number(s, v)
        case Index(axis=axis, dtype=dtype):
            name = axis_name(kernel, axis)
            moving = axis == len(kernel.outer) + len(kernel.inner) - 1 and lane
            return f"fg_convert<{type_name(dtype)}>({name}{f' + {lane}' if moving else ''})"
        case Compute(op=op, args=args, dtype=dtype):
            return call(op, [s.values[a] for a in args], dtype)
    raise AssertionError(instr)


def number(s: Scope, v: int) -> str:
    """The number of a `Const`, or what a `Load` gives outside of its bounds."""
    instr = s.kernel.body[v]
    assert isinstance(instr, Const | Load)
    value = instr.value if isinstance(instr, Const) else instr.fill
    known = special(value, instr.dtype)
    return known or f"fg_number<{type_name(instr.dtype)}>(w.c{v})"


class Group:
    """Writes the values and the results of one pass for a group.

    Args:
        text: Where to.
        s: What surrounds it; it must hold the row values.
        p: The pass.
    """

    def __init__(self, text: Text, s: Scope, p: Pass) -> None:
        self.text, self.s, self.p = text, s, p
        self.kernel, self.level = s.kernel, s.plan.level
        self.lanes = [v for v in p.body if self.level[v] == LANE]
        self.local = s.values.copy()
        self.depth: dict[int, int] = {}
        for v in self.lanes:
            below = max((self.depth.get(a, 0) for a in uses(self.kernel.body[v])), default=0)
            self.depth[v] = below + self.is_scan(v)
        self.arrays = self.found_arrays()
        for v in {*s.plan.kept, *p.keeps}.difference(p.body):
            self.local[v] = f"k{v}[{s.item} + k]"

    def is_scan(self, v: int) -> bool:
        """Whether a value is scanned by all threads of a team together."""
        instr = self.kernel.body[v]
        return isinstance(instr, Scan) and not instr.free

    def is_vector(self, i: int) -> bool:
        """Whether an instruction accesses all lanes at once."""
        return i in self.s.form.vectors

    def found_arrays(self) -> set[int]:
        """The values of which all lanes are there before any is used."""
        found = {v for v in self.lanes if self.is_scan(v) or self.is_vector(v)}
        for v in self.lanes:
            instr = self.kernel.body[v]
            for a in uses(instr):
                late = self.is_scan(v) or self.depth.get(a, 0) < self.depth[v]
                if a in self.depth and late:
                    found.add(a)
        for i in self.results():
            for a in uses(self.kernel.body[i]):
                if a in self.depth and self.depth[a] < self.depth_of(i):
                    found.add(a)
        return found

    def results(self) -> list[int]:
        """What the pass is for."""
        p = self.p
        return [*p.reduces, *p.folds, *p.accumulates, *p.stores]

    def depth_of(self, i: int) -> int:
        """The number of scans that must be done before a result."""
        return max((self.depth.get(a, 0) for a in uses(self.kernel.body[i])), default=0)

    def write(self) -> None:
        """Write it all, from the segment's values on."""
        segment = [v for v in self.p.body if self.level[v] == SEGMENT]
        write_values(self.text, self.s, segment)
        self.write_lanes()

    def write_lanes(self) -> None:
        """Write what varies from lane to lane."""
        self.local.update(self.s.values)
        for depth in range(max(self.depth.values(), default=0) + 1):
            self.write_depth(depth)

    def write_depth(self, depth: int) -> None:
        """Write what needs so many scans to be done, and the scans that come next."""
        here = [v for v in self.lanes if self.depth[v] == depth]
        results = [i for i in self.results() if self.depth_of(i) == depth]
        alone = {i for i in results if self.level[i] == SEGMENT and i in self.p.stores}
        for v in here:
            self.declare(v)
        for v in here:
            if self.is_scan(v):
                self.scan(v)
            elif self.is_vector(v):
                self.load(v)
        self.write_loop(here, [i for i in results if i not in alone])
        if not self.s.form.segments:
            first = f"{last_name(self.kernel)} == 0"
            for i in sorted(alone):
                write_store(self.text, self.s, i, both(self.s.live, first))

    def write_loop(self, values: list[int], results: list[int]) -> None:
        """Write the loop over the lanes, and the stores of vectors behind it."""
        rest = [v for v in values if not self.is_scan(v) and not self.is_vector(v)]
        copied = [v for v in values if self.is_scan(v) and v in self.p.keeps]
        vectors = [i for i in results if self.is_vector(i)]
        for i in vectors:
            stored = dtype_of(self.kernel, self.kernel.body[i].arg)  # type: ignore[union-attr]
            self.text.add(f"{type_name(stored)} o{i}[V];")
        sums = [i for i in results if self.is_summed_first(i)]
        for i in sums:
            self.text.add(f"{collected(self.kernel, i)} g{i} = {nothing(self.kernel, i)};")
        if rest or results or copied:
            self.text.add("#pragma unroll")
            with self.text.block("for (int k = 0; k < V; ++k)"):
                for v in rest:
                    self.value(v)
                for v in copied:
                    self.text.add(f"k{v}[{self.s.item} + k] = x{v}[k];")
                for i in results:
                    self.result(i)
        for i in vectors:
            place = f"p{self.operand(i)} + {self.place(i, '')}"
            self.text.add(f"{self.guard()}fg_store<V>({place}, o{i});")
        for i in sums:
            self.text.add(f"{letter(self.kernel, i)}{i}.add(g{i});")

    def is_summed_first(self, i: int) -> bool:
        """Whether the lanes of a group are added up before what they lose is carried."""
        s = self.s
        if s.form.lanes == 1 or s.form.items or s.live or s.form.scheme == COLUMNS:
            return False
        return isinstance(self.kernel.body[i], Reduce | Fold) and adds_floats(self.kernel, i)

    def guard(self) -> str:
        """What stands in front of an effect."""
        return f"if ({self.s.live}) " if self.s.live else ""

    def operand(self, i: int) -> int:
        """The operand that an instruction accesses."""
        instr = self.kernel.body[i]
        assert isinstance(instr, MAPPED)
        return instr.operand

    def place(self, i: int, lane: str) -> str:
        """The element that an instruction accesses."""
        instr = self.kernel.body[i]
        assert isinstance(instr, MAPPED)
        return index(f"m{i}", instr.map, self.kernel, self.local, lane)

    def declare(self, v: int) -> None:
        """Give a value its name, and memory if it is an array."""
        if v in self.p.keeps and not self.is_scan(v):
            self.local[v] = f"k{v}[{self.s.item} + k]"
        elif v in self.arrays:
            self.text.add(f"{type_name(dtype_of(self.kernel, v))} x{v}[V];")
            self.local[v] = f"x{v}[k]"
        else:
            self.local[v] = f"v{v}"

    def load(self, v: int) -> None:
        """Load all lanes of a value."""
        instr = self.kernel.body[v]
        assert isinstance(instr, Load)
        target = f"k{v} + {self.s.item}" if v in self.p.keeps else f"x{v}"
        read = f"fg_load<V>({target}, p{instr.operand} + {self.place(v, '')});"
        if not instr.bounds:
            self.text.add(read)
            return
        self.text.add(f"if ({inside(v, instr, self.kernel, self.local, '')}) {read}")
        self.text.add(f"else fg_fill<V>({target}, {number(self.s, v)});")

    def value(self, v: int) -> None:
        """Define a lane of a value."""
        instr = self.kernel.body[v]
        name = self.local[v]
        head = f"const {type_name(dtype_of(self.kernel, v))} " if name == f"v{v}" else ""
        if isinstance(instr, Scan):  # of one position along the last axis
            self.step_alone(v, instr, name, head.removeprefix("const "))
            return
        s = Scope(self.kernel, self.s.form, self.s.plan, self.local)
        self.text.add(f"{head}{name} = {expression(s, v, 'k')};")

    def step_alone(self, v: int, instr: Scan, name: str, head: str) -> None:
        """One more element for the scan of a lane."""
        kind = type_name(instr.dtype)
        self.text.add(f"{head}{name} = {self.local[instr.args[0]]};")
        if len(instr.args) == 1:
            self.text.add(f"s{v}[k].step(&{name});")
            return
        self.text.add(f"{kind} y{v} = {self.local[instr.args[1]]};")
        self.text.add(f"s{v}[k].step(&{name}, &y{v}, {is_real(instr)});")

    def scan(self, v: int) -> None:
        """Scan the lanes of all threads of the team."""
        instr = self.kernel.body[v]
        assert isinstance(instr, Scan)
        kind = type_name(instr.dtype)
        arrays = [f"x{v}"]
        if len(instr.args) == 2:
            arrays.append(f"y{v}")
            self.text.add(f"{kind} y{v}[V];")
        self.text.add("#pragma unroll")
        with self.text.block("for (int k = 0; k < V; ++k)"):
            for at, (name, a) in enumerate(zip(arrays, instr.args, strict=True)):
                none = f"({kind})0" if at else f"{scanned(instr)}::identity<{kind}>()"
                value = self.local[a]
                chosen = f"{self.s.live} ? {value} : {none}" if self.s.live else value
                self.text.add(f"{name}[k] = {chosen};")
        which = [is_real(instr)] if len(instr.args) == 2 else []
        self.text.add(f"s{v}.step({', '.join([*arrays, *which])});")

    def result(self, i: int) -> None:
        """Hand a lane over to what collects or stores."""
        instr = self.kernel.body[i]
        value = self.local[uses(instr)[0]]
        match instr:
            case Reduce() | Fold() | Scan():
                if self.is_summed_first(i):
                    self.text.add(f"g{i} = fg_add(g{i}, {value});")
                    return
                lane = "[k]" if self.s.form.scheme == COLUMNS else ""
                name = f"{letter(self.kernel, i)}{i}{lane}"
                self.text.add(self.guard() + collect(self.kernel, self.s.form, i, name, value))
            case Accumulate():
                kind, m = collected(self.kernel, i), monoid(self.kernel, i)
                at = f"c{i}[{self.s.item} + k]" if self.s.form.items else f"c{i}[e + k]"
                self.text.add(f"{self.guard()}{at} = {m}::combine({at}, ({kind}){value});")
            case Store(operand=o):
                if self.is_vector(i):
                    self.text.add(f"o{i}[k] = {value};")
                    return
                stored = type_name(self.kernel.operands[o].dtype)
                self.text.add(f"{self.guard()}p{o}[{self.place(i, 'k')}] = "
                              f"fg_put<{stored}>({value});")  # fmt: skip


def both(*conditions: str) -> str:
    """The condition that all of some hold; an empty one does."""
    return " && ".join(c for c in conditions if c and c != "true")


def write_store(text: Text, s: Scope, i: int, condition: str) -> None:
    """Store a value that is the same for all lanes."""
    instr = s.kernel.body[i]
    assert isinstance(instr, Store)
    stored = type_name(s.kernel.operands[instr.operand].dtype)
    place = index(f"m{i}", instr.map, s.kernel, s.values, "")
    guard = f"if ({condition}) " if condition else ""
    text.add(f"{guard}p{instr.operand}[{place}] = fg_put<{stored}>({s.values[instr.arg]});")
