"""Sums of products in CUDA C: what cuBLASLt does not compute, and convolutions.

``out[s, r, c] = Σ_k a[s, r, k] · b[s, k, c]``, where each of the four indices stands for several
axes. Blocks of threads compute tiles of 64 × 64; each thread has 16 sums in registers, and what it
multiplies comes through shared memory; numbers of 16 bits are multiplied by tensor cores.
Sixty-four products are added up at a time, and those sums with compensation: the longest chain of
roundings does not grow with the number of terms.

A window axis of a convolution (see `Window`) moves the operand `a` by an index of a row and one of
the sum together, and leaves out what lies outside.
"""

from collections.abc import Callable, Sequence
from math import prod
from string import Template
from typing import NamedTuple

from fgrad.backends.cuda import tiles
from fgrad.backends.cuda.calls import KernelCall, Place
from fgrad.backends.cuda.texts import Words, named, sum_type, type_of
from fgrad.compile.kernel import DType

TILE, DEPTH, _THREADS = 64, 16, 256
MOST = 2**31 - 1  # of an index over several axes, and of tiles


class Axis(NamedTuple):
    """An axis of a contraction.

    Attributes:
        size: Its length.
        a: Elements of the left operand from one index to the next.
        b: Of the right operand.
        out: Of the result.
    """

    size: int
    a: int
    b: int
    out: int


class Window(NamedTuple):
    """An axis of the left operand that a row and a term move along together.

    Its element is number ``(row·step - low + term·spread) / gap``, where that is a whole number
    from 0 on and less than `size`; elsewhere the operand is 0.

    Attributes:
        row: The position of an axis among those of the rows.
        term: Of one among those of the sum.
        step: The stride of the window.
        low: The padding in front.
        spread: The dilation of the window.
        gap: That of the operand.
        size: The operand's length.
        a: Elements of the operand from one index to the next.
    """

    row: int
    term: int
    step: int
    low: int
    spread: int
    gap: int
    size: int
    a: int


class Contraction(NamedTuple):
    """A contraction; its axes by what they are, and where the operands start.

    Attributes:
        stack: Axes of both operands and the result.
        rows: Axes of the left operand and the result.
        columns: Axes of the right operand and the result.
        sums: Axes of both operands.
        windows: Axes of the left operand.
        offsets: The first elements of the left and the right operand and the result.
        dtype: Of both operands.
        out_dtype: Of the result.
        computed: The dtype in which products are added up.
        added: Whether the result is added to what is there.
    """

    stack: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    sums: tuple[Axis, ...]
    windows: tuple[Window, ...]
    offsets: tuple[int, int, int]
    dtype: DType
    out_dtype: DType
    computed: DType
    added: bool = False

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The numbers of stacked products, rows, columns and terms."""
        groups = (self.stack, self.rows, self.columns, self.sums)
        s, r, c, k = (prod(axis.size for axis in g) for g in groups)
        return s, r, c, k


def call(c: Contraction, places: Sequence[Place]) -> KernelCall | None:
    """The launch that computes a contraction with a result of at least one element.

    Args:
        c: The contraction.
        places: Of the left operand, the right one and the result.

    Returns:
        None where a size is more than the kernel counts to.
    """
    c = c._replace(stack=_joined(c.stack), columns=_joined(c.columns))
    if not c.windows:
        c = c._replace(rows=_joined(c.rows), sums=_joined(c.sums))
    stack, rows, columns, _ = c.sizes
    tiles = stack * -(-rows // TILE) * -(-columns // TILE)
    if max(*c.sizes, tiles) > MOST:
        return None
    words = Words()
    name, source = _source(c, words)
    return KernelCall(name, source, (tiles, 1, 1), (_THREADS, 1, 1), tuple(places), bytes(words))


def _joined(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes of which neighbours are one where all strides allow it."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if found and all(s == t * axis.size for s, t in zip(found[-1][1:], axis[1:], strict=True)):
            found[-1] = Axis(found[-1].size * axis.size, *axis[1:])
        else:
            found.append(axis)
    return tuple(found)


def _source(c: Contraction, word: Words) -> tuple[str, str]:
    """The name and the text of a kernel; its words are noted."""
    _, rows, columns, sums = c.sizes
    wide = sum_type(c.computed)
    body = _TEXT.safe_substitute(
        A=type_of(c.dtype), OUT=type_of(c.out_dtype), SUM=wide,
        ROWS=word(rows), COLUMNS=word(columns), TERMS=word(sums),
        START_A=word(c.offsets[0]), START_B=word(c.offsets[1]), START_OUT=word(c.offsets[2]),
        STACK_OFFSETS=_offsets("stack", c.stack, word, ("a", "b", "out")),
        ROW_OFFSETS=_offsets("row", c.rows, word, ("a", "out"), _row_windows(c, word)),
        COLUMN_OFFSETS=_offsets("column", c.columns, word, ("b", "out")),
        TERM_OFFSETS=_offsets("term", c.sums, word, ("a", "b"), _term_windows(c, word)),
        INSIDE=_inside(c, word),
        WINDOWS=max(len(c.windows), 1),
        A_BY_TERM=int(_by_term(c)), B_BY_TERM=int(not _is_dense(c.columns, "b")),
        STORED=f"fgl_plus(value, fgl_cast<{wide}>(p_out[out]))"
        if c.added else "value",
        COUNT=len(word.values), **_arrangement(c, wide),
    )  # fmt: skip
    return named("contract", tiles.HEADER + body)


def _arrangement(c: Contraction, wide: str) -> dict[str, str | int]:
    """How a block holds tiles and multiplies them: numbers of 16 bits by tensor cores."""
    if c.dtype.itemsize > 2 or c.dtype.kind not in "fV" or wide != "float":
        return {
            "SHARED": f"__shared__ {wide} left[16 * 65], right[16 * 65];", "CELL": wide,
            "DEPTH": 16, "EACH": 4, "PLACE": "k * 65 + i", "MULTIPLY": _SINGLE,
            "ROW": "t / 16 * 4 + i", "COLUMN": "t % 16 * 4 + j",
        }  # fmt: skip
    cell = type_of(c.dtype)
    return {
        "SHARED": f"__shared__ __align__(16) {cell} left[64 * 40], right[64 * 40];",
        "CELL": cell, "DEPTH": 32, "EACH": 8, "PLACE": "i * 40 + k", "MULTIPLY": _BY_WARPS,
        "ROW": "t / 32 % 4 * 16 + t % 32 / 4 + j / 2 * 8",
        "COLUMN": "t / 128 * 32 + 8 * i + t % 4 * 2 + j % 2",
    }  # fmt: skip


def _is_dense(axes: Sequence[Axis], operand: str) -> bool:
    """Whether neighbours along axes are neighbours in an operand."""
    wide = [axis for axis in axes if axis.size > 1]
    return bool(wide) and getattr(wide[-1], operand) == 1


def _by_term(c: Contraction) -> bool:
    """Whether neighbouring threads read the left operand along terms, not along rows."""
    return _is_dense(c.sums, "a") or not (
        _is_dense(c.rows, "a")
        or (bool(c.windows) and c.windows[-1].a == 1 and c.windows[-1].row == len(c.rows) - 1)
    )


def _offsets(
    index: str, axes: Sequence[Axis], word: Words, operands: Sequence[str],
    more: Callable[[int, str], str] = lambda _axis, _at: "",
) -> str:  # fmt: skip
    """Statements that add what an index moves each operand by; the last axis counts by one."""
    lines = [f"unsigned rest = {index};"] if axes else []
    for i in reversed(range(len(axes))):
        axis, at = axes[i], f"at{i}"
        if i:
            size = word(axis.size)
            lines.append(f"unsigned {at} = rest % (unsigned){size}; rest /= (unsigned){size};")
        else:
            lines.append(f"unsigned {at} = rest;")
        lines += [
            f"{op} += {at} * {word(getattr(axis, op))};" for op in operands if getattr(axis, op)
        ]
        lines.append(more(i, at))
    return " ".join(line for line in lines if line)


def _row_windows(c: Contraction, word: Words) -> Callable[[int, str], str]:
    def write(axis: int, at: str) -> str:
        return " ".join(
            f"window[{i}] = (int){at} * (int){word(w.step)} - (int){word(w.low)};"
            for i, w in enumerate(c.windows)
            if w.row == axis
        )

    return write


def _term_windows(c: Contraction, word: Words) -> Callable[[int, str], str]:
    def write(axis: int, at: str) -> str:
        return " ".join(
            f"window[{i}] = (int){at} * (int){word(w.spread)};"
            for i, w in enumerate(c.windows)
            if w.term == axis
        )

    return write


def _inside(c: Contraction, word: Words) -> str:
    """Statements that move `a` along windows, or leave where there is no element."""
    lines = []
    for i, w in enumerate(c.windows):
        size = word(w.size)
        lines.append(f"int p{i} = row_window[{i}] + term_window[{i}];")
        if w.gap > 1:
            gap = word(w.gap)
            lines.append(f"if (p{i} % (int){gap}) return false;")
            lines.append(f"p{i} = p{i} < 0 ? -1 : p{i} / (int){gap};")
        lines.append(f"if (p{i} < 0 || p{i} >= (int){size}) return false;")
        lines.append(f"a += p{i} * {word(w.a)};")
    return " ".join(lines)


_SINGLE = """for (int k = 0; k < 16; ++k)
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j)
                    part[i][j] = fgl_fma(left[k * 65 + t / 16 * 4 + i],
                                         right[k * 65 + t % 16 * 4 + j], part[i][j]);"""

# A warp takes 16 rows and 32 columns: four tiles, of which a lane has four numbers each.
_BY_WARPS = """for (int i = 0; i < 4; ++i)
            fgl_multiply<32>(part[i], left + t / 32 % 4 * 16 * 40, 40,
                             right + (t / 128 * 32 + 8 * i) * 40, 40);"""

_TEXT = Template(r"""
struct @NAME@_words { long long v[$COUNT]; };
typedef struct { long long a; int window[$WINDOWS]; } @NAME@_row;

static __device__ __forceinline__ void @NAME@_of_row(
    const @NAME@_words& w, unsigned row, long long& a, long long& out, int* window)
{
    $ROW_OFFSETS
}

static __device__ __forceinline__ void @NAME@_of_column(
    const @NAME@_words& w, unsigned column, long long& b, long long& out)
{
    $COLUMN_OFFSETS
}

static __device__ __forceinline__ void @NAME@_of_term(
    const @NAME@_words& w, unsigned term, long long& a, long long& b, int* window)
{
    $TERM_OFFSETS
}

static __device__ __forceinline__ bool @NAME@_inside(
    const @NAME@_words& w, const int* row_window, const int* term_window, long long& a)
{
    $INSIDE
    return true;
}

extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const $A* __restrict__ p_a, const $A* __restrict__ p_b, $OUT* p_out, void* scratch,
    const @NAME@_words w)
{
    $SHARED
    const unsigned rows = (unsigned)$ROWS, columns = (unsigned)$COLUMNS, terms = (unsigned)$TERMS;
    const unsigned t = threadIdx.x, wide = (columns + 63) / 64, high = (rows + 63) / 64;
    const unsigned first_column = blockIdx.x % wide * 64;
    const unsigned first_row = blockIdx.x / wide % high * 64, stack = blockIdx.x / wide / high;
    long long start_a = $START_A, start_b = $START_B, start_out = $START_OUT;
    {
        long long &a = start_a, &b = start_b, &out = start_out;
        $STACK_OFFSETS
    }
    // Elements of each operand that this thread brings to shared memory.
    @NAME@_row from_a[$EACH];
    long long from_b[$EACH];
    for (int e = 0; e < $EACH; ++e) {
        unsigned i = $A_BY_TERM ? t / $DEPTH + 256 / $DEPTH * e : t % 64, row = first_row + i;
        long long unused = 0;
        from_a[e].a = start_a;
        if (row < rows) @NAME@_of_row(w, row, from_a[e].a, unused, from_a[e].window);
        i = $B_BY_TERM ? t / $DEPTH + 256 / $DEPTH * e : t % 64;
        from_b[e] = start_b;
        if (first_column + i < columns)
            @NAME@_of_column(w, first_column + i, from_b[e], unused);
    }
    fgl_sum<$SUM> sum[4][4];
    $SUM part[4][4];
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) part[i][j] = fgl_zero<$SUM>();
    for (unsigned first = 0; first < terms; first += $DEPTH) {
        for (int e = 0; e < $EACH; ++e) {
            unsigned i = $A_BY_TERM ? t / $DEPTH + 256 / $DEPTH * e : t % 64;
            unsigned k = $A_BY_TERM ? t % $DEPTH : t / 64 + 4 * e;
            $CELL x = fgl_zero<$CELL>();
            if (first + k < terms && first_row + i < rows) {
                long long a = from_a[e].a, unused = 0;
                int window[$WINDOWS];
                @NAME@_of_term(w, first + k, a, unused, window);
                if (@NAME@_inside(w, from_a[e].window, window, a)) x = fgl_cast<$CELL>(p_a[a]);
            }
            left[$PLACE] = x;
            i = $B_BY_TERM ? t / $DEPTH + 256 / $DEPTH * e : t % 64;
            k = $B_BY_TERM ? t % $DEPTH : t / 64 + 4 * e;
            x = fgl_zero<$CELL>();
            if (first + k < terms && first_column + i < columns) {
                long long b = from_b[e], unused = 0;
                int window[$WINDOWS];
                @NAME@_of_term(w, first + k, unused, b, window);
                x = fgl_cast<$CELL>(p_b[b]);
            }
            right[$PLACE] = x;
        }
        __syncthreads();
        $MULTIPLY
        __syncthreads();
        if (first % 64 == 64 - $DEPTH || first + $DEPTH >= terms)
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) {
                    sum[i][j].add(part[i][j]);
                    part[i][j] = fgl_zero<$SUM>();
                }
    }
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            unsigned row = first_row + $ROW, column = first_column + $COLUMN;
            if (row >= rows || column >= columns) continue;
            long long out = start_out, unused = 0;
            int window[$WINDOWS];
            @NAME@_of_row(w, row, unused, out, window);
            @NAME@_of_column(w, column, unused, out);
            $SUM value = sum[i][j].result();
            p_out[out] = fgl_cast<$OUT>($STORED);
        }
}
""")
