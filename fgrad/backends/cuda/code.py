"""CUDA C of kernels; `layout` says what its functions are given."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from fgrad.backends.cuda import body
from fgrad.backends.cuda.axes import tidy
from fgrad.backends.cuda.body import Group, Scope, collected, monoid
from fgrad.backends.cuda.forms import FLAT, ROWS, THREADS, accumulates, form_of, passes
from fgrad.backends.cuda.layout import COMBINE, fields, parts
from fgrad.backends.cuda.passes import ROW, SEGMENT
from fgrad.backends.cuda.places import axis_name, decode, index, last_name
from fgrad.backends.cuda.rows import Rows
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import dtype_of, type_name
from fgrad.compile.kernel import Accumulate, Kernel, Scan


@cache
def header() -> str:
    """What stands in front of generated functions, behind the prelude."""
    return (Path(__file__).parent / "lanes.cuh").read_text(encoding="utf-8")


def source(kernel: Kernel, name: str) -> str:
    """The CUDA C of the functions of a kernel, to stand behind the prelude and `header`.

    Args:
        kernel: Any kernel; those with an equal `layout.key` have the same text.
        name: What its functions are called, with the suffixes of `layout.launches`.
    """
    kernel = tidy(kernel)
    text = Text()
    text.add(f"struct {name}_words {{ long long {', '.join(fields(kernel))}; }};")
    form = form_of(kernel)
    if form.scheme == ROWS:
        for number in range(parts(kernel)):
            suffix = f"_{number}" if number else ""
            _function(text, kernel, name, suffix, Rows(text, kernel, number).write)
        if accumulates(kernel):
            _function(text, kernel, name, COMBINE, lambda: _combine(text, kernel))
    else:
        write = _flat if form.scheme == FLAT else _columns
        _function(text, kernel, name, "", lambda: write(text, kernel))
    return str(text)


def _function(
    text: Text, kernel: Kernel, name: str, suffix: str, write: Callable[[], None]
) -> None:
    pointers = [f"{type_name(op.dtype)}* p{o}" for o, op in enumerate(kernel.operands)]
    given = ", ".join([*pointers, "char* scratch", f"const {name}_words w"])
    threads = THREADS if suffix == COMBINE else form_of(kernel).threads
    head = f'extern "C" __global__ void __launch_bounds__({threads}) {name}{suffix}'
    with text.block(f"{head}({given})"):
        write()


def _flat(text: Text, kernel: Kernel) -> None:
    """Each thread computes a group of lanes of some row."""
    form, plan = form_of(kernel), passes(kernel)
    count = len(kernel.outer) + len(kernel.inner)
    text.add("typedef long long I;" if form.wide else "typedef int I;")
    text.add("const I group = I(blockIdx.x) * I(blockDim.x) + threadIdx.x;")
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


def _columns(text: Text, kernel: Kernel) -> None:
    """Each thread scans a group of lanes over the other inner axes."""
    form, plan = form_of(kernel), passes(kernel)
    first, end = len(kernel.outer), len(kernel.outer) + len(kernel.inner) - 1
    s = Scope(kernel, form, plan, {})
    text.add("typedef long long I;" if form.wide else "typedef int I;")
    text.add(f"constexpr int V = {form.lanes};")
    text.add("const I group = I(blockIdx.x) * I(blockDim.x) + threadIdx.x;")
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


def _combine(text: Text, kernel: Kernel) -> None:
    """Add up partial results: a block takes 32 of an `Accumulate`, 8 threads each."""
    text.add("typedef long long I;", "I at = blockIdx.x;")
    for i in accumulates(kernel):
        instr = kernel.body[i]
        assert isinstance(instr, Accumulate)
        row = passes(kernel).level[i] == ROW
        kind = collected(kernel, i)
        size = "1" if row else "w.length"
        with text.block(""):
            text.add(f"const I size = {size}, across = (size + 31) / 32;")
            with text.block("if (0 <= at && at < w.kept * across)"):
                text.add("const I group = at / across, e = at % across * 32 + threadIdx.x % 32;")
                text.add(f"const {kind}* const p = e < size ? ({kind}*)(scratch + w.at{i}) + "
                         "group * w.partials * size + e : nullptr;")  # fmt: skip
                text.add(
                    f"const {kind} total = fg_combine<{monoid(kernel, i)}>(p, w.partials, size);"
                )
                with text.block("if (p && threadIdx.x < 32)"):
                    _store_total(text, kernel, instr, i, row=row)
            text.add("at -= w.kept * across;")


def _store_total(text: Text, kernel: Kernel, instr: Accumulate, i: int, *, row: bool) -> None:
    first = len(kernel.outer)
    text.add(*decode("group", list(range(kernel.kept)), kernel))
    if not row:
        text.add(*decode("e", list(range(first, first + len(kernel.inner))), kernel))
    stored = type_name(kernel.operands[instr.operand].dtype)
    value = type_name(dtype_of(kernel, instr.arg))
    place = index(f"m{i}", instr.map, kernel, {}, "")
    text.add(f"p{instr.operand}[{place}] = fg_put<{stored}>(({value})total);")
