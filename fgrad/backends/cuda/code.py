"""CUDA C of kernels; `layout` says what its functions are given."""

from collections.abc import Callable
from functools import partial

from fgrad.backends.cuda.axes import tidy
from fgrad.backends.cuda.collecting import collected, monoid
from fgrad.backends.cuda.flat import write_columns, write_flat, write_tiled
from fgrad.backends.cuda.forms import (
    BUSY,
    COLUMNS,
    FLAT,
    ROWS,
    WARP,
    accumulates,
    combiners,
    form_of,
    passes,
)
from fgrad.backends.cuda.layout import BATCH, COMBINE, fields, step_suffix, steps
from fgrad.backends.cuda.passes import ROW
from fgrad.backends.cuda.places import decode, index
from fgrad.backends.cuda.rows import Rows
from fgrad.backends.cuda.text import Text
from fgrad.backends.cuda.types import dtype_of, type_name
from fgrad.compile.kernel import Accumulate, Kernel


def source(kernel: Kernel, name: str) -> str:
    """The CUDA C of the functions of a kernel, to stand behind the prelude.

    Args:
        kernel: Any kernel; those with an equal `layout.key` have the same text.
        name: What its functions are called, with the suffixes of `layout.launches`.
    """
    kernel = tidy(kernel)
    text = Text()
    _words(text, kernel, name)
    pointers = [f"{type_name(op.dtype)}* p{o}" for o, op in enumerate(kernel.operands)]
    given = ", ".join([*pointers, "char* scratch", f"const {name}_words w"])
    for suffix, write in _functions(text, kernel):
        with text.block(_head(kernel, name + suffix, suffix, given)):
            text.add("const unsigned block = blockIdx.x;")
            write()
    return str(text)


def batch_source(kernel: Kernel, name: str, count: int) -> str:
    """The CUDA C of functions that do the work of several kernels at once.

    Args:
        kernel: One of them; their `layout.key` is the same.
        name: What the functions are called, with the suffixes of `layout.batch_launches`.
        count: How many kernels.
    """
    kernel = tidy(kernel)
    text = Text()
    _words(text, kernel, name)
    pointers = [f"{type_name(op.dtype)}* p{o};" for o, op in enumerate(kernel.operands)]
    functions = _functions(text, kernel)
    text.add(
        f"struct {name}_operands {{ {' '.join(pointers)} }};",
        f"struct {name}_pointers {{ {name}_operands at[{count}]; char* scratch; }};",
        f"struct {name}_batch_words {{",
        f"  long long starts[{len(functions)}][{count + 1}], scratch[{count}];",
        f"  {name}_words words[{count}];",
        "};",
    )
    given = (
        f"const __grid_constant__ {name}_pointers given, "
        f"const __grid_constant__ {name}_batch_words batch"
    )
    for number, (suffix, write) in enumerate(functions):
        with text.block(_head(kernel, f"{name}{BATCH}{suffix}", suffix, given)):
            text.add(
                f"const int member = fg_member<{count}>(batch.starts[{number}], blockIdx.x);",
                f"const unsigned block = blockIdx.x - batch.starts[{number}][member];",
                f"const {name}_words& w = batch.words[member];",
                "char* const scratch = given.scratch + batch.scratch[member];",
            )
            for o, op in enumerate(kernel.operands):
                text.add(f"{type_name(op.dtype)}* const p{o} = given.at[member].p{o};")
            write()
    return str(text)


def _words(text: Text, kernel: Kernel, name: str) -> None:
    text.add(f"struct {name}_words {{ long long {', '.join(fields(kernel))}; }};")


def _functions(text: Text, kernel: Kernel) -> list[tuple[str, Callable[[], None]]]:
    """The suffix of each function, and what writes its body."""
    scheme = form_of(kernel).scheme
    found: list[tuple[str, Callable[[], None]]] = []
    for position, step in enumerate(steps(kernel)):
        if scheme == ROWS:
            write: Callable[[], None] = Rows(text, kernel, step).write
        elif scheme == COLUMNS:
            write = partial(write_columns, text, kernel, step)
        else:
            write = partial(write_flat if scheme == FLAT else write_tiled, text, kernel)
        found.append((step_suffix(position), write))
    if accumulates(kernel):
        found.append((COMBINE, partial(_combine, text, kernel)))
    return found


def _head(kernel: Kernel, name: str, suffix: str, given: str) -> str:
    form = form_of(kernel)
    bounds = str(WARP * combiners(kernel) if suffix == COMBINE else form.threads)
    if form.scheme == ROWS and suffix != COMBINE:  # so many blocks should fit a multiprocessor
        bounds += f", {max(1, BUSY // form.threads)}"
    return f'extern "C" __global__ void __launch_bounds__({bounds}) {name}({given})'


def _combine(text: Text, kernel: Kernel) -> None:
    """Add up partial results: a block takes 32 of an `Accumulate`."""
    text.add("typedef long long I;", "I at = block;")
    for i in accumulates(kernel):
        instr = kernel.body[i]
        assert isinstance(instr, Accumulate)
        row = passes(kernel).level[i] == ROW
        kind = collected(kernel, i)
        size = "1" if row else "w.length"
        with text.block(""):
            text.add(f"const I size = {size}, across = (size + 31) / 32;")
            with text.block("if (0 <= at && at < w.kept * across)"):
                text.add(
                    "const I group = fg_quotient(at, across);",
                    "const I e = (at - group * across) * 32 + threadIdx.x % 32;",
                )
                text.add(f"const {kind}* const p = e < size ? ({kind}*)(scratch + w.at{i}) + "
                         "group * w.partials * size + e : nullptr;")  # fmt: skip
                how = f"{monoid(kernel, i)}, {combiners(kernel)}"
                text.add(f"const {kind} total = fg_combine<{how}>(p, w.partials, size);")
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
