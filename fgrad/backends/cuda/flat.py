"""Functions in which no thread needs another: forms 'flat', 'tiled' and 'columns'."""

from dataclasses import replace

from fgrad.backends.cuda import body
from fgrad.backends.cuda.body import Group, Scope
from fgrad.backends.cuda.forms import THREADS, form_of, passes
from fgrad.backends.cuda.passes import LANE, SEGMENT
from fgrad.backends.cuda.places import axis_name, decode, index, index_type, last_name
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import type_name
from fgrad.compile.kernel import Kernel, Load, Scan


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
        text.add(f"const I line = group / I(w.across), {last} = {within};")
        text.add(*decode("line", list(range(count - 1)), kernel))
        write(form.lanes)
    elif form.lanes == 1:
        text.add(f"const I {last} = group;")
        write(1)
    else:
        text.add(f"I {last} = group * {form.lanes};")
        with text.block(f"if ({last} + {form.lanes} <= I(w.n0))"):
            write(form.lanes)
        with text.block("else"), text.block(f"for (; {last} < I(w.n0); ++{last})"):
            write(1)


def write_columns(text: Text, kernel: Kernel) -> None:
    """Each thread scans a group of lanes over the other inner axes."""
    form, plan = form_of(kernel), passes(kernel)
    first, end = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
    s = Scope(kernel, form, plan, {})
    text.add(index_type(form))
    text.add(f"constexpr int V = {form.lanes};")
    text.add(f"const I group = I(block) * {THREADS} + threadIdx.x;")
    text.add("if (group >= I(w.groups)) return;")
    last = last_name(kernel)
    text.add(f"const I row = group / I(w.across), {last} = (group - row * I(w.across)) * V;")
    text.add(*decode("row", list(range(first)), kernel))
    p = plan.passes[0]
    body.write_values(text, s, sorted([*p.before, *plan.after]))
    for v, instr in enumerate(kernel.body):
        if isinstance(instr, Scan):
            text.add(body.state(s, v))
    with text.block("for (I segment = 0; segment < I(w.segments); ++segment)"):
        text.add(*decode("segment", list(range(first, end)), kernel))
        Group(text, s, p).write()
    for i in plan.stores:
        body.write_store(text, s, i, f"{last} == 0")


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
