"""CUDA C of kernels; `layout` says what its functions are given."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from fgrad.backends.cuda.axes import tidy
from fgrad.backends.cuda.body import collected, monoid
from fgrad.backends.cuda.flat import write_columns, write_flat, write_tiled
from fgrad.backends.cuda.forms import (
    BUSY,
    COLUMNS,
    FLAT,
    ROWS,
    THREADS,
    TILED,
    accumulates,
    form_of,
    passes,
)
from fgrad.backends.cuda.layout import COMBINE, fields, parts
from fgrad.backends.cuda.passes import ROW
from fgrad.backends.cuda.places import decode, index
from fgrad.backends.cuda.rows import Rows
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import dtype_of, type_name
from fgrad.compile.kernel import Accumulate, Kernel

_WRITERS = {FLAT: write_flat, COLUMNS: write_columns, TILED: write_tiled}


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
        write = _WRITERS[form.scheme]
        _function(text, kernel, name, "", lambda: write(text, kernel))
    return str(text)


def _function(
    text: Text, kernel: Kernel, name: str, suffix: str, write: Callable[[], None]
) -> None:
    pointers = [f"{type_name(op.dtype)}* p{o}" for o, op in enumerate(kernel.operands)]
    given = ", ".join([*pointers, "char* scratch", f"const {name}_words w"])
    form = form_of(kernel)
    bounds = str(THREADS if suffix == COMBINE else form.threads)
    if form.scheme == ROWS and suffix != COMBINE:  # so many blocks should fit a multiprocessor
        bounds += f", {max(1, BUSY // form.threads)}"
    head = f'extern "C" __global__ void __launch_bounds__({bounds}) {name}{suffix}'
    with text.block(f"{head}({given})"):
        write()


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
