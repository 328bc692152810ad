"""Copies of views in CUDA C, for what a library cannot read as it lies."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from fgrad.backends.cuda.calls import KernelCall, Place
from fgrad.backends.cuda.texts import THREADS, Words, grid_of, named, type_of, walk
from fgrad.compile.kernel import DType
from fgrad.compile.plan import View


def call(view: View, order: Sequence[int], dtype: DType, places: Sequence[Place]) -> KernelCall:
    """The launch that copies a view with its axes in an order; the copy is contiguous.

    Args:
        view: What is read.
        order: The axes of the view, first to last, of the copy.
        dtype: Of its elements.
        places: Of its buffer and of the copy.
    """
    axes = _joined([(view.shape[i], view.strides[i]) for i in order])
    count, word = prod(n for n, _ in axes), Words()
    many, first = word(count), word(view.offset)
    sizes, strides = zip(*axes, strict=True)
    moves = walk("i", sizes, {"from": strides}, word)
    body = _TEXT.format(
        t=type_of(dtype), many=many, first=first, moves=moves, count=len(word.values)
    )  # fmt: skip
    name, source = named("copy", body)
    grid = (grid_of(count), 1, 1)
    return KernelCall(name, source, grid, (THREADS, 1, 1), tuple(places), bytes(word))


def _joined(axes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Axes of which neighbours are one where their strides allow it; at least one."""
    wide = [(n, s) for n, s in axes if n != 1] or [(1, 0)]
    found = wide[:1]
    for (_, outer), (n, s) in pairwise(wide):
        if outer == n * s:
            found[-1] = (found[-1][0] * n, s)
        else:
            found.append((n, s))
    return found


_TEXT = r"""
struct @NAME@_words {{ long long v[{count}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const {t}* __restrict__ p_in, {t}* __restrict__ p_out, void* scratch, const @NAME@_words w)
{{
    const long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < {many}; i += step) {{
        long long from = {first};
        {moves}
        p_out[i] = p_in[from];
    }}
}}
"""
