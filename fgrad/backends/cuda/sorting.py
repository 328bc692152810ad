"""Sorting in CUDA C: `sort` and `top_k`, stable, by any number of keys of any dtype.

Keys become unsigned integers in the order of the keys (`ENCODE`), and the position decides among
equal ones, so that the order is the stable one whatever the algorithm. Chunks of a row are sorted
in shared memory; then runs are merged two by two: each element finds its place in the other run by
a binary search. Last, every operand is gathered in the order found.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    Call,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.sorting_text import CHUNK, ENCODE, GATHER, MERGE
from fgrad.backends.cuda.texts import (
    THREADS,
    Words,
    grid_of,
    is_known,
    named,
    type_of,
    walk,
)
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, View, contiguous

_CHUNK_BYTES = 40 << 10  # of shared memory, at most
_LONGEST_CHUNK, _SHORTEST_CHUNK = 2048, 256
_BLOCKS = 256  # that a device runs at once, about: chunks are shorter where there are fewer
_MOST = 2**31 - 1  # elements along the axis
_ALIGNMENT = 256
_UNSIGNED, _LONG = "unsigned", "unsigned long long"


class Rows(NamedTuple):
    """Where rows lie: the axes that tell them apart, and the one that is sorted.

    Attributes:
        sizes: Of all axes but the sorted one.
        many: The number of rows.
        length: The elements of a row.
    """

    sizes: tuple[int, ...]
    many: int
    length: int


class Order(NamedTuple):
    """Where a sort has left what it found in the workspace.

    Attributes:
        keys: The first byte of the first unsigned integer of each key, in order.
        positions: Of the positions along the axis, in that order, unsigned integers.
        bytes: The end of what the sort uses.
    """

    keys: int
    positions: int
    bytes: int


class Runs(NamedTuple):
    """Where keys and positions lie in the workspace, two copies of each.

    Attributes:
        types: The C types of the planes: of keys, and last of positions.
        starts: For each copy, the first byte of each plane.
        bytes: Where they end.
    """

    types: tuple[str, ...]
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    bytes: int


def sort(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes `lax.sort`; None for dtypes and lengths that there is no code for."""
    params = step.eqn.params
    axis, keys = params["dimension"], params["num_keys"]
    dtypes = [a.aval.dtype for a in step.eqn.inputs]
    return _plan(views, dtypes, axis, keys, views[0].shape[axis], descending=False)


def top_k(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes `lax.top_k`; None as for `sort`."""
    params, dtype = step.eqn.params, step.eqn.inputs[0].aval.dtype
    index = step.eqn.outputs[1].aval.dtype
    return _plan(
        views, [dtype], params["axis"], 1, params["k"], descending=True, positions=index
    )  # fmt: skip


def _plan(
    views: Sequence[View], dtypes: Sequence[DType], axis: int, keys: int, kept: int, *,
    descending: bool, positions: DType | None = None,
) -> LibraryPlan | None:  # fmt: skip
    shape = views[0].shape
    sizes = (*shape[:axis], *shape[axis + 1 :])
    rows = Rows(sizes, prod(sizes), shape[axis])
    if not all(map(is_known, dtypes)) or rows.length > _MOST:
        return None
    if not rows.many * kept:
        return LibraryPlan("sort of no elements", ())
    inputs = tuple(Place(INPUT, i) for i in range(keys))
    calls, order = ordering(views[:keys], dtypes[:keys], inputs, axis, 0, descending=descending)
    out_shape = (*shape[:axis], kept, *shape[axis + 1 :])
    for i, (view, dtype) in enumerate(zip(views, dtypes, strict=True)):
        calls.append(_gather(view, dtype, axis, rows, kept, order.positions, out_shape, i))
    if positions is not None:
        calls.append(
            _gather(None, positions, axis, rows, kept, order.positions, out_shape, len(views))
        )
    return LibraryPlan("sort by merging", tuple(calls), order.bytes)


def ordering(
    views: Sequence[View], dtypes: Sequence[DType], places: Sequence[Place], axis: int, first: int,
    *, descending: bool = False,
) -> tuple[list[Call], Order]:  # fmt: skip
    """The launches that find the stable order of keys, of at least one element.

    Args:
        views: The keys, the most significant first.
        dtypes: Theirs.
        places: Of their buffers.
        axis: The axis along which they are sorted.
        first: The first byte of the workspace that is free.
        descending: Whether the greatest comes first; of equal elements still the first.
    """
    shape = views[0].shape
    sizes = (*shape[:axis], *shape[axis + 1 :])
    rows = Rows(sizes, prod(sizes), shape[axis])
    types = (*(t for dtype in dtypes for t in _planes(dtype)), _UNSIGNED)
    runs = _runs(types, rows.many * rows.length, first)
    chunk = _chunk(rows, sum(8 if t == _LONG else 4 for t in types))
    calls: list[Call] = [_chunks(views, dtypes, places, axis, rows, runs, chunk, descending)]
    copy = 0
    while chunk < rows.length:
        calls.append(_merge(rows, runs, chunk, copy))
        chunk, copy = 2 * chunk, 1 - copy
    return calls, Order(runs.starts[copy][0], runs.starts[copy][-1], runs.bytes)


def _chunk(rows: Rows, element: int) -> int:
    """The elements that a block sorts: a power of two."""
    longest = _LONGEST_CHUNK
    while longest > _SHORTEST_CHUNK and rows.many * (rows.length // longest) < _BLOCKS:
        longest //= 2
    chunk = 2
    while chunk < min(rows.length, longest) and 2 * chunk * element <= _CHUNK_BYTES:
        chunk *= 2
    return chunk


def _runs(types: tuple[str, ...], count: int, used: int) -> Runs:
    starts = []
    for t in 2 * types:
        starts.append(used)
        size = 8 if t == _LONG else 4
        used += -(-count * size // _ALIGNMENT) * _ALIGNMENT
    n = len(types)
    return Runs(types, (tuple(starts[:n]), tuple(starts[n:])), used)


# Keys as unsigned integers


def _planes(dtype: DType) -> list[str]:
    """The C types of the unsigned integers of a key, the most significant first."""
    part = _LONG if dtype.itemsize // (2 if dtype.kind == "c" else 1) == 8 else _UNSIGNED
    # NumPy orders complex numbers by which parts are NaN first.
    return [_UNSIGNED, part, part] if dtype.kind == "c" else [part]


def _encoded(dtype: DType, value: str) -> list[str]:
    """Expressions of the unsigned integers of a key."""
    if dtype.kind == "c":
        parts = f"{value}.re", f"{value}.im"
        real, imaginary = (f"({p} != {p})" for p in parts)
        return [f"{real} * 2u + {imaginary}", *(f"fgl_order({p})" for p in parts)]
    return [f"fgl_order({value})"]


def _less(types: Sequence[str], left: str, right: str) -> str:
    """Statements that give whether one element comes before another; ``#`` stands for a plane."""
    lines = []
    for i in range(len(types)):
        a, b = left.replace("#", str(i)), right.replace("#", str(i))
        last = i == len(types) - 1
        lines.append(f"return {a} < {b};" if last else f"if ({a} != {b}) return {a} < {b};")
    return " ".join(lines)


# Kernels


def _without(axis: int, strides: Sequence[int]) -> tuple[int, ...]:
    return (*strides[:axis], *strides[axis + 1 :])


def _chunks(
    views: Sequence[View], dtypes: Sequence[DType], places: Sequence[Place], axis: int, rows: Rows,
    runs: Runs, chunk: int, descending: bool,
) -> KernelCall:  # fmt: skip
    """The launch that sorts chunks of rows."""
    word = Words()
    length, per_row = word(rows.length), -(-rows.length // chunk)
    total, parts = word(rows.many * per_row), word(per_row)
    names = [f"from{i}" for i in range(len(views))]
    moves = {n: _without(axis, v.strides) for n, v in zip(names, views, strict=True)}
    begin = " ".join(
        f"long long {n} = {word(v.offset)};" for n, v in zip(names, views, strict=True)
    )  # fmt: skip
    begin += walk("row", rows.sizes, moves, word)
    loads, plane, planes = [], 0, runs.types[:-1]
    flip = "~" if descending else ""
    for i, (view, dtype) in enumerate(zip(views, dtypes, strict=True)):
        value = f"p{i}[from{i} + place * {word(view.strides[axis])}]"
        for text in _encoded(dtype, f"key{i}"):
            loads.append(f"s{plane}[i] = {flip}({text});")
            plane += 1
        loads.insert(len(loads) - len(_planes(dtype)), f"{type_of(dtype)} key{i} = {value};")
    count = len(runs.types)
    stores = "".join(
        f"(({t}*)((char*)scratch + {word(runs.starts[0][i])}))[row * {length} + place] = s{i}[i];"
        for i, t in enumerate(runs.types)
    )
    body = ENCODE + CHUNK.format(
        pointers="".join(
            f"const {type_of(d)}* __restrict__ p{i}, " for i, d in enumerate(dtypes)
        ),
        shared=" ".join(f"__shared__ {t} s{i}[{chunk}];" for i, t in enumerate(runs.types)),
        words=len(word.values), chunk=chunk, half=chunk // 2, total=total, parts=parts,
        length=length, begin=begin, loads=" ".join(loads), last=count - 1,
        pads=" ".join(f"s{i}[i] = ({t})~({t})0;" for i, t in enumerate(planes)),
        less=_less(runs.types, "s#[high]", "s#[low]"),
        swaps=" ".join(
            f"{{ {t} old = s{i}[low]; s{i}[low] = s{i}[high]; s{i}[high] = old; }}"
            for i, t in enumerate(runs.types)
        ),
        stores=stores,
    )  # fmt: skip
    name, source = named("sort", body)
    grid = min(rows.many * per_row, 2**31 - 1)
    return KernelCall(name, source, (grid, 1, 1), (THREADS, 1, 1), tuple(places), bytes(word))


def _merge(rows: Rows, runs: Runs, width: int, copy: int) -> KernelCall:
    """The launch that merges runs of a width, from one copy to the other."""
    word = Words()
    length, total, half = word(rows.length), word(rows.many * rows.length), word(width)
    begin, stores = [], []
    for i, t in enumerate(runs.types):
        at, to = word(runs.starts[copy][i]), word(runs.starts[1 - copy][i])
        begin.append(
            f"const {t}* from{i} = (const {t}*)((char*)scratch + {at}); "
            f"{t}* to{i} = ({t}*)((char*)scratch + {to});"
        )
        stores.append(f"to{i}[place] = key{i};")
    keys = " ".join(f"const {t} key{i} = from{i}[i];" for i, t in enumerate(runs.types))
    body = MERGE.format(
        words=len(word.values), length=length, total=total, half=half, begin=" ".join(begin),
        keys=keys, stores=" ".join(stores), less=_less(runs.types, "from#[at]", "key#"),
    )  # fmt: skip
    name, source = named("merge", body)
    return KernelCall(
        name, source, (grid_of(rows.many * rows.length), 1, 1), (THREADS, 1, 1), (), bytes(word)
    )


def _gather(
    view: View | None, dtype: DType, axis: int, rows: Rows, kept: int, order: int,
    out_shape: tuple[int, ...], result: int,
) -> KernelCall:  # fmt: skip
    """The launch that writes an operand in the order found; without one, the positions."""
    word = Words()
    strides = contiguous(out_shape)
    count = rows.many * kept
    total, length, many = word(count), word(rows.length), word(kept)
    moves = {"to": _without(axis, strides)}
    begin = "long long to = 0;"
    if view is not None:
        begin += f" long long from = {word(view.offset)};"
        moves["from"] = _without(axis, view.strides)
    body = GATHER.format(
        t=type_of(dtype), total=total, length=length, many=many,
        order=word(order), begin=begin + walk("row", rows.sizes, moves, word),
        step=word(strides[axis]),
        pointer="" if view is None else f"const {type_of(dtype)}* __restrict__ p_in, ",
        value=f"({type_of(dtype)})at" if view is None
        else f"p_in[from + at * {word(view.strides[axis])}]",
        words=len(word.values),
    )  # fmt: skip
    name, source = named("gather", body)
    inputs = () if view is None else (Place(INPUT, result),)
    places = (*inputs, Place(OUTPUT, result))
    return KernelCall(name, source, (grid_of(count), 1, 1), (THREADS, 1, 1), places, bytes(word))
