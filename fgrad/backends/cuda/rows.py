"""Functions of form 'rows': a team of threads computes a row, pass by pass.

The row is held in registers (`items`), or walked over once for each pass. With `Accumulate` a team
takes several rows, one after the other, and leaves partial results in scratch memory, which
``NAME_combine`` adds up. Where several blocks share a row, each pass is a function of its own,
which leaves partial reductions that the next one begins with.
"""

from dataclasses import replace

from fgrad.backends.cuda import body
from fgrad.backends.cuda.body import Group, Scope, both
from fgrad.backends.cuda.collecting import begin, collected, finished, monoid, nothing, state
from fgrad.backends.cuda.forms import WARP, accumulates, form_of, passes
from fgrad.backends.cuda.layout import Step, steps
from fgrad.backends.cuda.passes import ROW, SEGMENT, Pass, totals
from fgrad.backends.cuda.places import decode, index, index_type, last_name
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import dtype_of, type_name
from fgrad.compile.kernel import Kernel, Load, Reduce, Scan, Store, uses

_ROOM = 32  # values that a thread loads ahead of a pass
_SHORT = 24  # values of a pass up to which a loop is unrolled


class Rows:
    """Writes one function.

    Args:
        text: Where to; its signature is there.
        kernel: The kernel.
        step: What the function does, where passes are functions of their own.
    """

    def __init__(self, text: Text, kernel: Kernel, step: Step) -> None:
        self.text, self.kernel, self.step = text, kernel, step
        self.form, self.plan = form_of(kernel), passes(kernel)
        self.s = Scope(kernel, self.form, self.plan, {})
        self.declared: set[int] = set()  # the values that have an array for a row
        self.sums = accumulates(kernel)
        reduces = any(isinstance(i, Reduce | Scan) for i in kernel.body)
        self.shared = self.form.split or not (reduces or self.form.segments)  # rows, among blocks
        # Rows that no others of the warp or block wait for need not exist for all at once.
        self.lone = bool(self.sums) and self.shared
        self.alive = "alive" if self.form.teams > 1 and not self.lone else "true"

    def write(self) -> None:
        """Write the body of the function."""
        text, form = self.text, self.form
        text.add(index_type(form))
        text.add(f"constexpr int V = {form.lanes}, T = {form.team}, TEAMS = {form.teams};")
        if form.items:
            text.add(f"constexpr int ITEMS = {form.items};")
        if form.segments:
            text.add(f"constexpr int S = {form.part};")
        text.add("const int t = threadIdx.x % T, team = threadIdx.x / T;")
        if self.shared:
            text.add("const I ranges = I(w.ranges), unit = fg_quotient(I(block), ranges);")
            text.add("const I range = I(block) - unit * ranges;")
            text.add("const I low = range * I(w.span), high = min(low + I(w.span), I(w.length));")
        else:
            text.add("const I unit = block, low = 0, high = I(w.length);")
        if self.sums:
            self.accumulate()
            return
        text.add("const I within = unit * TEAMS + team, rows = I(w.rows);")
        if self.alive != "true":
            text.add("const bool alive = within < rows;")
        chosen = "within" if self.alive == "true" else "alive ? within : 0"
        text.add(f"const I row = {chosen};")
        self.row()

    # Several rows

    def accumulate(self) -> None:
        """Take the rows of a team one after the other."""
        text = self.text
        text.add(
            "const I group = unit / I(w.chunks), chunk = unit % I(w.chunks), rows = I(w.rows);"
        )
        text.add(*decode("group", list(range(self.kernel.kept)), self.kernel))
        for i in self.sums:
            self.begin_sum(i)
        if self.alive == "true":
            text.add("const I first = chunk * I(w.per) * TEAMS;")
            text.add("const I last = min(first + I(w.per) * TEAMS, rows);")
            head = "for (I within = first + team; within < last; within += TEAMS)"
        else:
            text.add("const I first = chunk * I(w.per) * TEAMS + team;")
            head = "for (I turn = 0; turn < I(w.per); ++turn)"
        if self.lone:
            short = sum(len(p.body) for p in self.plan.passes) <= _SHORT
            text.add(f"#pragma unroll {4 if short else 1}")
        with text.block(head):
            if self.alive == "true":
                text.add("const I row = within;")
            else:
                text.add("const I within = first + turn * TEAMS;")
                text.add("const bool alive = within < rows;")
                text.add("const I row = alive ? within : 0;")
            self.row()
        for i in self.sums:
            self.end_sum(i)

    def begin_sum(self, i: int) -> None:
        """Declare where a team accumulates."""
        kind = collected(self.kernel, i)
        none = nothing(self.kernel, i)
        if self.plan.level[i] == ROW:
            self.text.add(f"{kind} c{i} = {none};")
        elif self.form.items:
            self.text.add(f"{kind} c{i}[ITEMS * V];", "#pragma unroll")
            self.text.add(f"for (int k = 0; k < ITEMS * V; ++k) c{i}[k] = {none};")
        else:
            self.text.add(
                f"{kind}* const c{i} = {self.partials(i)} + (unit * TEAMS + team) * w.length;"
            )
            if self.form.segments:
                self.text.add("for (I at = t / S; at < I(w.segments); at += T / S)")
                steps = f"j = (t % S) * V; j < {self.last_size()}; j += S * V"
                place = f"at * {self.last_size()} + j + k"
            else:
                steps, place = "j = t * V; j < high; j += T * V", "j + k"
            self.text.add(f"  for (I {steps})")
            self.text.add(f"    for (int k = 0; k < V; ++k) c{i}[{place}] = {none};")

    def partials(self, i: int) -> str:
        """Where partial results of an instruction lie."""
        return f"(({collected(self.kernel, i)}*)(scratch + w.at{i}))"

    def end_sum(self, i: int) -> None:
        """Leave what the teams of the block have accumulated."""
        text, form, m = self.text, self.form, monoid(self.kernel, i)
        row = self.plan.level[i] == ROW
        if form.items:
            given = f"(&c{i})" if row else f"(c{i})"
            count = "1" if row else "ITEMS * V"
            if form.teams > 1:
                text.add(f"fg_teams_reduce<{m}, T, TEAMS, {count}>{given};")
            if row:
                first = "range == 0 && threadIdx.x == 0" if self.shared else "threadIdx.x == 0"
                text.add(f"if ({first}) {self.partials(i)}[unit] = c{i};")
                return
            text.add("#pragma unroll")
            with text.block("for (int c = 0; c < ITEMS; ++c)"):
                text.add("const I e = low + (c * T + t) * V;")
                place = f"{self.partials(i)} + unit * I(w.length) + e"
                text.add(f"if (team == 0 && e < high) fg_put_all<V>({place}, c{i} + c * V);")
        elif row:
            text.add(f"if (t == 0) {self.partials(i)}[unit * TEAMS + team] = c{i};")

    # One row

    def row(self) -> None:
        """Write what is done for one row."""
        text, kernel, s = self.text, self.kernel, self.s
        kept = kernel.kept if self.sums else 0
        text.add(*decode("row", list(range(kept, len(kernel.outer))), kernel))
        split, here = self.form.split, self.step.number
        for number, p in enumerate(self.plan.passes):
            if split and number > here:
                break
            body.write_values(text, s, p.before)
            if split and number < here:
                self.read(p)
            elif self.step.totals:
                only = totals(kernel, self.plan, number)
                assert only is not None
                self.a_pass(only)
            else:
                self.a_pass(p)
        if not split or self.step == steps(kernel)[-1]:
            body.write_values(text, s, self.plan.after)
            self.end_row()

    def end_row(self) -> None:
        """Store and accumulate row values."""
        condition = [] if self.alive == "true" else ["alive"]
        condition += ["t == 0"] if self.form.team > 1 else []
        condition += ["range == 0"] if self.shared else []
        for i in self.plan.stores:
            body.write_store(self.text, self.s, i, " && ".join(condition))
        for i in self.plan.accumulates:
            kind, m = collected(self.kernel, i), monoid(self.kernel, i)
            value = f"({kind}){self.s.values[self.kernel.body[i].arg]}"  # type: ignore[union-attr]
            guard = "" if self.alive == "true" else "if (alive) "
            self.text.add(f"{guard}c{i} = {m}::combine(c{i}, {value});")

    def a_pass(self, p: Pass) -> None:
        """Walk over the row, and reduce what its threads have collected."""
        text, kernel = self.text, self.kernel
        p = replace(p, keeps=[*p.keeps, *self.ahead(p)])
        for v in p.keeps:
            if v not in self.declared:
                text.add(f"{type_name(dtype_of(self.kernel, v))} k{v}[ITEMS * V];")
        self.declared.update(p.keeps)
        for i in p.reduces:
            text.add(begin(self.kernel, self.form, i, f"a{i}"))
        scans = [v for v in p.body if isinstance(self.kernel.body[v], Scan)]
        for v in scans:
            text.add(state(self.kernel, v))
        if self.form.split:
            self.go_on(p, scans)
        if self.form.segments:
            self.walk_segments(p)
        elif any((p.body, p.reduces, p.accumulates, p.stores)):
            self.walk(p, any(not kernel.body[v].free for v in scans))  # type: ignore[union-attr]
        whole = self.reduced(
            p, {i: finished(self.kernel, self.form, i, f"a{i}") for i in p.reduces}
        )
        if not self.form.split:
            self.know(whole)
            return
        for i, value in whole.items():
            text.add(f"const {collected(kernel, i)} r{i} = {value};")
            text.add(f"if (t == 0) {self.partials(i)}[row * I(w.ranges) + range] = r{i};")

    def know(self, whole: dict[int, str]) -> None:
        """Define the values of reductions."""
        for i, value in whole.items():
            self.text.add(f"const {type_name(dtype_of(self.kernel, i))} v{i} = {value};")
            self.s.values[i] = f"v{i}"

    def reduced(self, p: Pass, mine: dict[int, str]) -> dict[int, str]:
        """Reduce what the threads of a team have collected: an expression for each reduction."""
        text, kernel = self.text, self.kernel
        names = {i: f"{monoid(kernel, i)}, T" for i in mine}
        if self.form.team <= WARP:
            return {i: f"fg_team_reduce<{names[i]}>({x})" for i, x in mine.items()}
        # A warp may be a row ahead of others, which still read what the last row has left; another
        # barrier of the row, or other memory for every other row, keeps them apart.
        alone = self.sums and sum(bool(q.reduces) for q in self.plan.passes) == 1
        turn = "within & 1" if alone else "0"
        for i, x in mine.items():
            kind = collected(kernel, i)
            text.add(f"__shared__ {kind} ends{i}[{2 if alone else 1}][T / 32];")
            text.add(f"fg_leave<{monoid(kernel, i)}, {kind}>(ends{i}[{turn}], {x});")
        if mine:
            text.add("__syncthreads();")
        return {i: f"fg_gather<{names[i]}>(ends{i}[{turn}])" for i in mine}

    def go_on(self, p: Pass, scans: list[int]) -> None:
        """Begin scans with what lies ahead of the block's part of the row."""
        mine = {v: self.left(v, "range") for v in scans}
        for v, value in self.reduced(p, mine).items():
            self.text.add(f"s{v}.before = {value};")

    def left(self, i: int, count: str) -> str:
        """What the first blocks of a row have left, one for each thread."""
        part = f"{self.partials(i)}[row * I(w.ranges) + t]"
        return f"(t < {count} ? {part} : {nothing(self.kernel, i)})"

    def read(self, p: Pass) -> None:
        """Reduce what the blocks of a row have left."""
        self.know(self.reduced(p, {i: self.left(i, "I(w.ranges)") for i in p.reduces}))

    def walk(self, p: Pass, scans: bool) -> None:
        """Write a loop over the elements of a thread."""
        if self.form.items:
            self.walk_items(p, scans)
            return
        text, s = self.text, self.s
        if scans:
            with text.block("for (I step = low; step < high; step += T * V)"):
                text.add("const I at = step + t * V;")
                self.scan_group(p)
            return
        end = "high" if self.alive == "true" else "(alive ? high : low)"
        if not p.stores and not p.accumulates and len(p.body) <= _SHORT:
            text.add("#pragma unroll 4")
        with text.block(f"for (I e = low + t * V; e < {end}; e += T * V)"):
            self.decode()
            Group(text, s, p).write()

    def walk_items(self, p: Pass, scans: bool) -> None:
        """Write unrolled loops over the elements of a thread; all loads come first."""
        text, s = self.text, self.s
        s.item = "c * V"
        first = [v for v in p.keeps if self.is_early(v)]
        rest = replace(p, body=[v for v in p.body if v not in first])
        here = "low + (c * T + t) * V"
        if scans:
            rest, first = p, []
        for part in ([replace(Pass(), body=first, keeps=first)] if first else []) + [rest]:
            text.add("#pragma unroll")
            with text.block("for (int c = 0; c < ITEMS; ++c)"):
                if scans:
                    text.add(f"const I at = {here};")
                    self.scan_group(part)
                    continue
                text.add(f"const I e = {here};")
                live = both(self.alive, "" if self.form.exact else "e < high")
                with text.block(f"if ({live})" if live else ""):
                    self.decode()
                    Group(text, replace(s, values=s.values.copy()), part).write()

    def ahead(self, p: Pass) -> list[int]:
        """Loads of a pass that should not wait for stores to elements before theirs."""
        early = [v for v in p.body if v not in p.keeps and v in self.form.vectors]
        each = self.form.items * self.form.lanes
        most = _ROOM // each - len(self.plan.kept) if self.form.items > 1 else 0
        return [v for v in early if self.is_early(v)][: max(0, most)] if p.stores else []

    def is_early(self, v: int) -> bool:
        """Whether a value is a load that waits for nothing but row values."""
        instr = self.kernel.body[v]
        if not isinstance(instr, Load):
            return False
        return all(self.plan.level[a] == ROW for a in uses(instr))

    def scan_group(self, p: Pass) -> None:
        """Write a group in which all threads of the team take part, even those without one."""
        live = both(self.alive, "at < high")
        self.text.add(f"const bool live = {live};", "const I e = live ? at : 0;")
        self.decode()
        Group(self.text, replace(self.s, live="live", values=self.s.values.copy()), p).write()

    def decode(self) -> None:
        """Define the inner indices of an element."""
        first = len(self.kernel.outer)
        inner = list(range(first, first + len(self.kernel.inner)))
        self.text.add(*decode("e", inner, self.kernel))

    # Segments of a row

    def last_size(self) -> str:
        """The size of the last axis."""
        return f"I(w.n{len(self.kernel.outer) + len(self.kernel.inner) - 1})"

    def walk_segments(self, p: Pass) -> None:
        """Write loops over the segments of parts of the team, and over their elements."""
        text, kernel, s = self.text, self.kernel, self.s
        first, end = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
        last = last_name(kernel)
        there = "there" if self.form.team > 1 or self.alive != "true" else "true"
        with text.block("for (I begin = 0; begin < I(w.segments); begin += T / S)"):
            text.add("const I at = begin + t / S;")
            live = "at < I(w.segments)" if self.alive == "true" else "alive && at < I(w.segments)"
            text.add(f"const bool there = {live};", "const I segment = there ? at : 0;")
            text.add(*decode("segment", list(range(first, end)), kernel))
            body.write_values(text, s, [v for v in p.body if self.plan.level[v] == SEGMENT])
            for i in p.folds:
                text.add(begin(self.kernel, self.form, i, f"f{i}"))
            start = f"there ? (t % S) * V : {self.last_size()}"
            steps = f"I {last} = {start}; {last} < {self.last_size()}; {last} += S * V"
            with text.block(f"for ({steps})"):
                text.add(f"const I e = segment * {self.last_size()} + {last};")
                Group(text, s, p).write_lanes()
            for i in p.folds:
                self.fold(i)
            stores = [i for i in p.stores if self.plan.level[i] == SEGMENT
                      and isinstance(kernel.body[i], Store)]  # fmt: skip
            if stores and self.form.part > 1:
                text.add("__syncwarp();  // others may read what is overwritten")
            for i in stores:
                body.write_store(text, s, i, f"{there} && t % S == 0")

    def fold(self, i: int) -> None:
        """Store the reduction of a segment."""
        kernel, instr = self.kernel, self.kernel.body[i]
        mine = finished(kernel, self.form, i, f"f{i}")
        whole = f"fg_team_reduce<{monoid(kernel, i)}, S>({mine})"
        value = type_name(dtype_of(kernel, instr.arg))  # type: ignore[union-attr]
        stored = type_name(kernel.operands[instr.operand].dtype)  # type: ignore[union-attr]
        self.text.add(f"const {value} v{i} = {whole};")
        place = index(f"m{i}", instr.map, kernel, self.s.values, "")  # type: ignore[union-attr]
        self.text.add(f"if (there && t % S == 0) p{instr.operand}[{place}] = "  # type: ignore[union-attr]
                      f"fg_put<{stored}>(v{i});")  # fmt: skip
