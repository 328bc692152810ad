"""Scatters in CUDA C, deterministic: updates of one element are combined in their order.

A *row* is what goes to one place: a window without the axes that it covers from end to end. Every
row gets the number of its place, rows are sorted by it, and one thread for each element of a place
combines all of its updates, in the order in which they stand. Sums are of float64, those of float64
with compensation, and are rounded once. Where no place can occur twice nothing is sorted.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from fgrad.backends.cuda import copying, sorting
from fgrad.backends.cuda.calls import (
    INPUT,
    OUTPUT,
    WORKSPACE,
    Call,
    KernelCall,
    LibraryPlan,
    Place,
)
from fgrad.backends.cuda.texts import (
    THREADS,
    Words,
    grid_of,
    is_known,
    named,
    sum_type,
    type_of,
    walk,
)
from fgrad.compile.kernel import DType
from fgrad.compile.plan import Library, Updated, View, contiguous
from fgrad.lax.index import GatherScatterMode, Plan
from fgrad.lax.scattering import scatter_plan

OPERATIONS = {
    "scatter": "set", "scatter_add": "add", "scatter_mul": "mul", "scatter_min": "min",
    "scatter_max": "max",
}  # fmt: skip
_MOST = 2**31 - 1  # rows
_ALIGNMENT = 256
_KEY = np.dtype(np.uint64)


class Form(NamedTuple):
    """A scatter as rows and elements.

    Attributes:
        op: Of `OPERATIONS`.
        dtype: Of its elements.
        plan: What follows from the shapes.
        rows: The lengths of the axes that tell rows apart: batch, then window.
        elements: Those of the axes of a row.
        dense: The strides of the result along each of its axes.
        updates: Those of the updates, along the axes of rows and those of elements.
        start: The first element of the updates.
    """

    op: str
    dtype: DType
    plan: Plan
    rows: tuple[int, ...]
    elements: tuple[int, ...]
    dense: tuple[int, ...]
    updates: tuple[int, ...]
    start: int


def plan(step: Library, views: Sequence[View]) -> LibraryPlan | None:
    """What computes a scatter; None where there is no code for its dtype or so many rows."""
    form = _form(step, views)
    rows = prod(form.rows)
    if not is_known(form.dtype) or rows > _MOST:
        return None
    calls: list[Call] = []
    out = step.eqn.outputs[0].aval
    if out.size and not isinstance(step, Updated):
        places = Place(INPUT, 0), Place(OUTPUT, 0)
        calls.append(copying.call(views[0], range(len(out.shape)), form.dtype, places))
    if not (out.size and rows * prod(form.elements)):
        return LibraryPlan("scatter of no elements", tuple(calls))
    mode = step.eqn.params["mode"]
    keys = Place(WORKSPACE, 0, _ALIGNMENT)  # in front of them, whether an index lay outside
    used = _ALIGNMENT + -(-8 * rows // _ALIGNMENT) * _ALIGNMENT
    calls += _places(form, views[1], step.eqn.inputs[1].aval.dtype, mode)
    order = None
    if rows > 1 and not step.eqn.params["unique_indices"]:
        view = View(-1, 0, (rows,), (1,))
        more, order = sorting.ordering([view], [_KEY], [keys], 0, used)
        calls += more
        used = order.bytes
    calls.append(_combine(form, keys.bytes, order))
    check = Place(WORKSPACE) if mode.raises else None
    return LibraryPlan("scatter by sorted rows", tuple(calls), used, check=check)


def _form(step: Library, views: Sequence[View]) -> Form:
    eqn = step.eqn
    x, indices, updates = (a.aval for a in eqn.inputs)
    op = OPERATIONS[eqn.primitive.name]
    p = scatter_plan(op, x.shape, indices.shape, updates.shape, eqn.params["dimension_numbers"])
    moved = [views[2].strides[a] for a in p.order]
    return Form(
        op, x.dtype, p, (*p.batch_shape, *(p.sizes[d] for d in p.inner)),
        tuple(p.sizes[d] for d in p.whole), contiguous(x.shape), tuple(moved), views[2].offset,
    )  # fmt: skip


def _places(form: Form, indices: View, dtype: DType, mode: GatherScatterMode) -> list[KernelCall]:
    """The launches that note the place of each row: its first element, or none."""
    p, word = form.plan, Words()
    rows = word(prod(form.rows))
    axes, batch = len(form.rows), len(p.batch_shape)
    to = [0] * axes  # what a step along each axis moves the place by
    for d, along in zip(
        p.dnums.operand_batching_dims, p.dnums.start_indices_batching_dims, strict=True
    ):
        to[along] += form.dense[d]
    for i, d in enumerate(p.inner):
        to[batch + i] += form.dense[d]
    along_batch = (*indices.strides[:-1], *(0,) * len(p.inner))
    begin = f"long long at = {word(indices.offset)}, to = 0; "
    begin += walk("i", form.rows, {"at": along_batch, "to": to}, word)
    columns = []
    for k, (d, limit) in enumerate(zip(p.dnums.start_index_map, p.limits, strict=True)):
        columns.append(
            f"{{ long long start = fgl_index(p_indices[at + {word(k * indices.strides[-1])}]); "
            f"const long long limit = {word(max(limit, 0))}; "
            "if (start < 0 || start > limit) { outside = true; "
            "start = start < 0 ? 0 : limit; } "
            f"to += start * {word(form.dense[d])}; }}"
        )
    kept = "true" if mode is GatherScatterMode.CLIP else "!outside"
    body = _INDEX + _PLACES_TEXT.format(
        index=type_of(dtype), rows=rows, begin=begin, columns=" ".join(columns), kept=kept,
        words=len(word.values), keys=_ALIGNMENT,
    )  # fmt: skip
    name, source = named("places", body)
    blocks = (grid_of(prod(form.rows)), 1, 1)
    place = (Place(INPUT, 1),)
    clear, cleared = named("clear", _CLEAR_TEXT)
    return [
        KernelCall(clear, cleared, (1, 1, 1), (1, 1, 1), (), bytes(8)),
        KernelCall(name, source, blocks, (THREADS, 1, 1), place, bytes(word)),
    ]


def _combine(form: Form, keys: int, order: sorting.Order | None) -> KernelCall:
    """The launch that combines the updates of each place."""
    word, count = Words(), prod(form.rows)
    rows, elements = word(count), word(prod(form.elements))
    moved_by_row = form.updates[: len(form.rows)]
    moved = form.updates[len(form.rows) :]
    dense = [form.dense[d] for d in form.plan.whole]
    place = f"{word(keys if order is None else order.keys)}"
    positions = "" if order is None else (
        f"const unsigned* order = (const unsigned*)((char*)scratch + {word(order.positions)});"
    )  # fmt: skip
    t, wide = type_of(form.dtype), _wide(form)
    first = f"long long in = inner + {word(form.start)}; const long long row = " + (
        "s;" if order is None else "order[s];"
    )
    read = first + walk("row", form.rows, {"in": moved_by_row}, word)
    element = walk("e", form.elements, {"out": dense, "inner": moved}, word)
    body = _COMBINE_TEXT.format(
        t=t, rows=rows, elements=elements, keys=place, positions=positions, element=element,
        read=read, words=len(word.values), sorted="false" if order is None else "true",
        **_statements(form, wide),
    )  # fmt: skip
    name, source = named("scatter", body)
    blocks = (grid_of(count * prod(form.elements)), 1, 1)
    places = (Place(INPUT, 2), Place(OUTPUT, 0))
    return KernelCall(name, source, blocks, (THREADS, 1, 1), places, bytes(word))


def _wide(form: Form) -> str:
    """The C type in which updates of an element are combined."""
    if form.op in ("min", "max") and form.dtype.kind in "iub":
        return type_of(form.dtype)
    if form.op == "add" and form.dtype.kind not in "iub":
        return "fgl_complex<double>" if form.dtype.kind == "c" else "double"
    return sum_type(form.dtype)


def _statements(form: Form, wide: str) -> dict[str, str]:
    """How a combination begins, goes on and ends; `x` is an update and `p_out[out]` the element."""
    t = type_of(form.dtype)
    old, x = f"fgl_cast<{wide}>(p_out[out])", f"fgl_cast<{wide}>(x)"
    if form.op == "set":
        return {"start": f"{t} last;", "step_": "last = x;", "end": "p_out[out] = last;"}
    if form.op == "add":
        return {
            "start": f"fgl_sum<{wide}> sum;", "step_": f"sum.add({x});",
            "end": f"p_out[out] = fgl_rounded<{t}>(fgl_plus({old}, sum.result()));",
        }  # fmt: skip
    combined = {"min": "fg_min", "max": "fg_max", "mul": "fgl_times"}[form.op]
    return {
        "start": f"{wide} value = {old};", "step_": f"value = {combined}(value, {x});",
        "end": f"p_out[out] = fgl_cast<{t}>(value);",
    }  # fmt: skip


_INDEX = r"""
#ifndef FGRAD_INDEX
#define FGRAD_INDEX
template <class T> FG long long fgl_index(T x) { return (long long)x; }
FG long long fgl_index(unsigned long long x)  // beyond the greatest there is no element
{
    return x >> 63 ? 0x7fffffffffffffffll : (long long)x;
}
#endif
"""

_CLEAR_TEXT = r"""
struct @NAME@_words { long long v[1]; };
extern "C" __global__ void @NAME@(void* scratch, const @NAME@_words w)
{
    *(unsigned char*)scratch = 0;
}
"""

_PLACES_TEXT = r"""
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const {index}* __restrict__ p_indices, void* scratch, const @NAME@_words w)
{{
    unsigned long long* keys = (unsigned long long*)((char*)scratch + {keys});
    const long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < {rows}; i += step) {{
        {begin}
        bool outside = false;
        {columns}
        if (outside) *(unsigned char*)scratch = 1;
        keys[i] = {kept} ? (unsigned long long)to : ~0ull;
    }}
}}
"""

_COMBINE_TEXT = r"""
#ifndef FGRAD_SCATTER
#define FGRAD_SCATTER
template <class T> FG T fgl_times(T x, T y)
{{
    if constexpr (fgl_kind<T>::is_complex)
        return {{x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re}};
    else return x * y;
}}
// A number of float64 rounded to nearest at once, not by way of float32.
template <class T, class W> FG T fgl_rounded(W x)
{{
    if constexpr (fgl_kind<T>::is_half) {{
        float near = (float)x;
        if ((double)near != x && x == x) {{  // to odd: the last bit tells what was cut off
            unsigned bits = __float_as_uint(near) - (fabs((double)near) > fabs(x));
            near = __uint_as_float(bits | 1);
        }}
        return fg_narrow<T>(near);
    }} else return fgl_cast<T>(x);
}}
#endif
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const {t}* __restrict__ p_in, {t}* p_out, void* scratch, const @NAME@_words w)
{{
    const unsigned long long* keys = (const unsigned long long*)((char*)scratch + {keys});
    {positions}
    const long long step = gridDim.x * (long long)blockDim.x, rows = {rows}, many = {elements};
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < rows * many;
         i += step) {{
        const long long first = i / many, e = i % many;
        const unsigned long long key = keys[first];
        if (key == ~0ull || ({sorted} && first && keys[first - 1] == key)) continue;
        long long out = (long long)key, inner = 0;
        {element}
        {start}
        for (long long s = first; s < rows && keys[s] == key; ++s) {{
            {read}
            const {t} x = p_in[in];
            {step_}
            if (!{sorted}) break;
        }}
        {end}
    }}
}}
"""
