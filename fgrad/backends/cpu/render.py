"""From a kernel of the loop IR to the LLVM text of its functions."""

from collections.abc import Iterable
from typing import NamedTuple

from fgrad.backends.cpu import layout
from fgrad.backends.cpu.combine import combine
from fgrad.backends.cpu.frame import Frame
from fgrad.backends.cpu.loops import Counter
from fgrad.backends.cpu.reduction import Partial
from fgrad.backends.cpu.rows import row
from fgrad.backends.cpu.schedule import schedule
from fgrad.backends.cpu.text import Builder, Operand
from fgrad.compile.kernel import Kernel


class Function(NamedTuple):
    """The LLVM text of a kernel.

    Attributes:
        text: The definitions of its functions.
        globals: What they refer to, by name.
    """

    text: str
    globals: dict[str, str]


def render(kernel: Kernel, name: str, lanes: int) -> Function:
    """The code of a kernel.

    Args:
        kernel: The kernel; another of the same `layout.structure` has the same code.
        name: Of the function; with `Accumulate` there is ``name_combine`` too.
        lanes: The elements of a vector, a power of 2; see `layout.lanes`.

    Raises:
        CompilationError: An operation or dtype has no code; see `ops.supports`.
    """
    shared: dict[str, str] = {}
    writer = _Writer(kernel, lanes, shared)
    texts = [writer.units(name)]
    if layout.accumulates(kernel):
        texts.append(writer.combine(f"{name}_combine"))
    return Function("".join(texts), shared)


def module(functions: Iterable[Function], vector_bits: int) -> str:
    """A module of several kernels.

    Args:
        functions: Their code.
        vector_bits: The width of the machine's vector registers.
    """
    shared: dict[str, str] = {}
    texts = []
    for function in functions:
        shared.update(function.globals)
        texts.append(function.text)
    width = f'"prefer-vector-width"="{vector_bits}" "min-legal-vector-width"="{vector_bits}"'
    attributes = f'attributes #0 = {{ nounwind "no-trapping-math"="true" {width} }}\n'
    return "\n".join([*shared.values(), *texts, attributes])


class _Writer:
    """Writes the functions of one kernel."""

    def __init__(self, kernel: Kernel, lanes: int, shared: dict[str, str]) -> None:
        self.kernel, self.lanes, self.shared = kernel, lanes, shared
        self.plan = schedule(kernel)
        self.words = layout.word_index(kernel, self.plan)

    def _frame(self) -> Frame:
        f = Frame(self.kernel, self.plan, self.words, Builder(self.lanes, self.shared))
        f.b.types["%lo"] = f.b.types["%hi"] = ("i64", 1)
        return f

    def _text(self, name: str, f: Frame) -> str:
        head = f"define void @{name}(ptr noalias %args, i64 %lo, i64 %hi) #0 {{\nentry:\n"
        if f.streams:  # what went past the caches must arrive before anyone is told of it
            f.b.effect("fence seq_cst")
        f.b.effect("ret void")
        return head + "\n".join([*f.head, *f.b.lines]) + "\n}\n"

    def units(self, name: str) -> str:
        """The function that runs units of work."""
        f = self._frame()
        if layout.accumulates(self.kernel):
            self._blocks_of_rows(f)
        elif layout.is_by_column(self.kernel):
            self._blocks_of_columns(f)
        elif layout.is_blocked(self.kernel, self.plan):
            self._blocks_of_elements(f)
        elif layout.is_tiled(self.kernel, self.plan):
            self._tiles(f)
        else:
            self._rows(f, "%lo", "%hi", {})
        return self._text(name, f)

    def _blocks_of_elements(self, f: Frame) -> None:
        b = f.b
        first = b.binary("mul", "%lo", layout.BLOCK)
        stop = b.call("smin", b.binary("mul", "%hi", layout.BLOCK), f.word("size", 0))
        with b.when(b.icmp("slt", first, stop)):  # then the scalars of the row exist
            row(f, {}, first, stop)

    def _blocks_of_columns(self, f: Frame) -> None:
        b = f.b
        size = f.word("size", len(self.kernel.outer) + len(self.kernel.inner) - 1)
        with b.loop("%lo", "%hi") as unit:  # then there are columns
            blocks = b.binary("udiv", b.binary("add", size, layout.COLUMNS - 1), layout.COLUMNS)
            index = b.binary("udiv", unit, blocks)
            left = b.binary("sub", unit, b.binary("mul", index, blocks))
            left = b.binary("mul", left, layout.COLUMNS)
            right = b.call("smin", b.binary("add", left, layout.COLUMNS), size)
            self._rows(f, index, b.binary("add", index, 1), {}, (left, right))

    def _tiles(self, f: Frame) -> None:
        b, size = f.b, f.word("size", len(self.kernel.outer))
        with b.loop("%lo", "%hi", layout.TILE) as top, b.loop(0, size, layout.TILE) as left:
            bottom = b.call("smin", b.binary("add", top, layout.TILE), "%hi")
            right = b.call("smin", b.binary("add", left, layout.TILE), size)
            self._rows(f, top, bottom, {}, (left, right))

    def _rows(
        self, f: Frame, first: str, stop: str, partials: dict[int, Partial],
        columns: tuple[Operand, str] = (0, ""),
    ) -> None:  # fmt: skip
        """Rows of a range; of each the elements of a range, by default all."""
        b, axes = f.b, len(self.kernel.outer)
        counter = Counter(b, [f.word("size", axis) for axis in range(axes)])
        with b.when(b.icmp("slt", first, stop)):  # then no size is 0
            counter.set(first)
            with b.loop(first, stop, 1, counter.digits):
                for axis, digit in enumerate(counter.digits):
                    f.index[axis] = digit.value
                row(f, partials, *columns)
                counter.advance()

    def _blocks_of_rows(self, f: Frame) -> None:
        b, kernel = f.b, self.kernel
        partials = {i: Partial(f, i) for i in layout.accumulates(kernel)}
        with b.loop("%lo", "%hi") as unit:
            for p in partials.values():
                p.locate(unit)
                p.start()
            total = b.named(1, "i64")
            for axis in range(kernel.kept, len(kernel.outer)):
                total = b.binary("mul", total, f.word("size", axis))
            index = b.binary("udiv", unit, f.word("blocks"))
            block = b.binary("sub", unit, b.binary("mul", index, f.word("blocks")))
            begin = b.binary("mul", block, f.word("rows_per_block"))
            end = b.call("smin", b.binary("add", begin, f.word("rows_per_block")), total)
            start = b.binary("mul", index, total)
            begin, end = b.binary("add", start, begin), b.binary("add", start, end)
            with b.loop(begin, end, layout.FLUSH) as chain:
                stop = b.call("smin", b.binary("add", chain, layout.FLUSH), end)
                self._rows(f, chain, stop, partials)
                for p in partials.values():
                    p.flush()
            for p in partials.values():
                p.finish()

    def combine(self, name: str) -> str:
        """The function that adds up the partial results of all blocks of rows."""
        f = self._frame()
        b, kernel = f.b, self.kernel
        counter = Counter(b, [f.word("size", axis) for axis in range(kernel.kept)])
        with b.when(b.icmp("slt", "%lo", "%hi")):
            counter.set("%lo")
            zero = b.named(0, "i64")
            with b.loop("%lo", "%hi", 1, counter.digits) as index:
                for axis in range(len(kernel.outer)):
                    f.index[axis] = counter.digits[axis].value if axis < kernel.kept else zero
                for i in layout.accumulates(kernel):
                    combine(f, i, index)
                counter.advance()
        return self._text(name, f)
