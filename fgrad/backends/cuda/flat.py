"""Functions in which no thread needs another: forms 'flat', 'tiled' and 'columns'."""

from dataclasses import replace

from fgrad.backends.cuda import body
from fgrad.backends.cuda.body import Group, Scope
from fgrad.backends.cuda.collecting import begin, collected, finished, monoid, state
from fgrad.backends.cuda.forms import THREADS, form_of, passes
from fgrad.backends.cuda.layout import Step
from fgrad.backends.cuda.passes import LANE, SEGMENT, Pass, totals
from fgrad.backends.cuda.places import axis_name, decode, index, index_type, last_name
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import type_name
from fgrad.compile.kernel import Kernel, Load


def write_flat(text: Text, kernel: Kernel) -> None:
    """Each thread computes a group of lanes of some row."""
    form, plan = form_of(kernel), passes(kernel)
    count = len(kernel.outer) + len(kernel.inner)
    text.add(index_type(form))
    text.add(f"const I group = I(block) * {THREADS} + threadIdx.x;")
    text.add("if (group >= I(w.groups)) return;")
    last = last_name(kernel)
    p = plan.passes[0]
    every = [*p.before, *plan.after, *(v for v in p.body if plan.level[v] == SEGMENT)]

    def write(lanes: int) -> None:
        text.add(f"constexpr int V = {lanes};")
        part = form if lanes == form.lanes else replace(form, lanes=1, vectors=())
        s = Scope(kernel, part, plan, {})
        body.write_values(text, s, sorted(every))
        Group(text, s, p).write_lanes()
        firsts = " && ".join(
            f"{axis_name(kernel, a)} == 0" for a in range(len(kernel.outer), count)
        )
        for i in plan.stores:
            body.write_store(text, s, i, firsts)

    if count > 1:
        within = f"(group - line * I(w.across)) * {form.lanes}"
        text.add(f"const I line = fg_quotient(group, I(w.across)), {last} = {within};")
        text.add(*decode("line", list(range(count - 1)), kernel))
        write(form.lanes)
    elif form.exact:
        text.add(f"const I {last} = group * {form.lanes};")
        write(form.lanes)
    else:
        text.add(f"I {last} = group * {form.lanes};")
        with text.block(f"if ({last} + {form.lanes} <= I(w.n0))"):
            write(form.lanes)
        with text.block("else"), text.block(f"for (; {last} < I(w.n0); ++{last})"):
            write(1)


def write_columns(text: Text, kernel: Kernel, step: Step) -> None:
    """Each thread scans a group of lanes over the other inner axes, or a stretch of it."""
    form, plan = form_of(kernel), passes(kernel)
    first, end = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
    s = Scope(kernel, form, plan, {})
    text.add(index_type(form), f"constexpr int V = {form.lanes};")
    text.add(f"const I at = I(block) * {THREADS} + threadIdx.x;")
    text.add("if (at >= I(w.groups) * I(w.ranges)) return;")
    text.add("const I range = at / I(w.groups), group = at - range * I(w.groups);")
    last = last_name(kernel)
    text.add("const I row = fg_quotient(group, I(w.across));")
    text.add(f"const I {last} = (group - row * I(w.across)) * V;")
    text.add(*decode("row", list(range(first)), kernel))
    text.add("const I low = range * I(w.span), high = min(low + I(w.span), I(w.segments));")
    p = plan.passes[0]
    body.write_values(text, s, sorted([*p.before, *plan.after]))
    only = totals(kernel, plan, 0) or Pass()  # without scans whose results are needed
    for v in only.reduces:
        partials = f"({collected(kernel, v)}*)(scratch + w.at{v}) + group * V"
        if form.split:
            text.add(f"{collected(kernel, v)}* const left{v} = {partials};")
        if step.totals:
            text.add(begin(kernel, form, v, f"a{v}[V]"))
        else:
            text.add(state(kernel, v))
            if form.split:
                _go_on(text, kernel, v)
    with text.block("for (I segment = low; segment < high; ++segment)"):
        text.add(*decode("segment", list(range(first, end)), kernel))
        Group(text, s, only if step.totals else p).write()
    if step.totals:
        for v in only.reduces:
            text.add("for (int k = 0; k < V; ++k)")
            text.add(
                f"  left{v}[range * I(w.groups) * V + k] = {finished(kernel, form, v, f'a{v}[k]')};"
            )
        return
    once = f"{last} == 0 && range == 0"
    for i in plan.stores:
        body.write_store(text, s, i, once)


def _go_on(text: Text, kernel: Kernel, v: int) -> None:
    """Begin a scan with what lies ahead of its stretch."""
    text.add("for (I n = 0; n < range; ++n)")
    text.add("  for (int k = 0; k < V; ++k) {")
    text.add(f"    s{v}[k].before = {monoid(kernel, v)}::combine(s{v}[k].before, "
             f"left{v}[n * I(w.groups) * V + k]);")  # fmt: skip
    text.add("  }")


def write_tiled(text: Text, kernel: Kernel) -> None:
    """A block computes a tile of two axes; loads of neighbours along the first go through memory.

    That memory is the block's own: written in the order in which the operand lies, read in that of
    the last axis. A line of it is longer than a tile by 4 bytes, so that neither has conflicts.
    """
    form, plan = form_of(kernel), passes(kernel)
    end = len(kernel.outer) + len(kernel.inner) - 1
    one, other = axis_name(kernel, form.axis), axis_name(kernel, end)
    text.add(index_type(form), f"constexpr int V = 1, SIDE = {form.side}, STEP = {THREADS} / SIDE;")
    text.add("const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;", "I tile = block;")
    text.add(f"const I down = (I(w.n{form.axis}) + SIDE - 1) / SIDE;")
    text.add(f"const I across = (I(w.n{end}) + SIDE - 1) / SIDE;")
    text.add("const I right = tile % across * SIDE;", "tile /= across;")
    text.add("const I top = tile % down * SIDE;", "tile /= down;")
    text.add(*decode("tile", [a for a in range(end) if a != form.axis], kernel))
    s = Scope(kernel, form, plan, {})
    for v in form.staged:
        kind = kernel.operands[kernel.body[v].operand].dtype  # type: ignore[union-attr]
        pad = max(1, 4 // kind.itemsize)
        text.add(f"__shared__ {type_name(kind)} tile{v}[SIDE][SIDE + {pad}];")
        s.values[v] = f"fg_get(tile{v}[x][n])"
    text.add("#pragma unroll")
    with text.block("for (int step = 0; step < SIDE; step += STEP)"):
        text.add("const int n = step + y;")
        text.add(f"const I {one} = top + x, {other} = right + n;")
        with text.block(f"if ({one} < I(w.n{form.axis}) && {other} < I(w.n{end}))"):
            for v in form.staged:
                load = kernel.body[v]
                assert isinstance(load, Load)
                place = index(f"m{v}", load.map, kernel, s.values, "")
                text.add(f"tile{v}[n][x] = p{load.operand}[{place}];")
    text.add("__syncthreads();")
    text.add("#pragma unroll")
    with text.block("for (int step = 0; step < SIDE; step += STEP)"):
        text.add("const int n = step + y;")
        text.add(f"const I {one} = top + n, {other} = right + x;")
        with text.block(f"if ({one} < I(w.n{form.axis}) && {other} < I(w.n{end}))"):
            _element(text, s, kernel)


def _element(text: Text, s: Scope, kernel: Kernel) -> None:
    """Compute an element of a tile, and what its row and segment have."""
    plan, count = s.plan, len(kernel.outer) + len(kernel.inner)
    p = plan.passes[0]
    rest = [v for v in p.body if v not in s.form.staged]
    every = [*p.before, *plan.after, *(v for v in rest if plan.level[v] == SEGMENT)]
    body.write_values(text, s, sorted(every))
    Group(text, s, replace(p, body=[v for v in rest if plan.level[v] == LANE])).write_lanes()
    firsts = " && ".join(f"{axis_name(kernel, a)} == 0" for a in range(len(kernel.outer), count))
    for i in plan.stores:
        body.write_store(text, s, i, firsts)
