"""What cuBLASLt is told of a product, evaluated by NumPy as the library reads it."""

from math import prod

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from fgrad.backends.cuda import gemm
from fgrad.compile.plan import View, contiguous
from fgrad.compile.run_plan import seen
from fgrad.lax.contract import _letters

MATMUL = (((1,), (0,)), ((), ()))


def stacked(memory, offset, m, i):
    """Matrix number i of a stack, as the library computes with it."""
    data = memory[offset + i * m.stride :]
    found = np.lib.stride_tricks.as_strided(
        data, (m.rows, m.columns), (data.itemsize, m.lead * data.itemsize)
    )
    reached = (m.rows - 1) + (m.columns - 1) * m.lead
    assert reached < len(data), "reads past the end"
    assert m.lead >= m.rows, "columns overlap"
    return found.T if m.transposed else found


def evaluated(g, memories, views, numbers):
    """The flat result of a description; the operands are in memory as views show them."""
    axes = gemm.axes_of(numbers, *(len(v.shape) for v in views))
    left, right = (
        np.ascontiguousarray(seen(v, [m]).transpose([i for group in groups for i in group])).ravel()
        if packed else m
        for v, m, groups, packed in zip(views, memories, axes, g.packed, strict=True)
    )  # fmt: skip
    out = np.full(len(g.calls) * g.stack * g.m * g.n, -1, left.dtype)
    for at in g.calls:
        for i in range(g.stack):
            a, b = stacked(right, at.a, g.a, i), stacked(left, at.b, g.b, i)
            assert a.shape == (g.m, g.k)
            assert b.shape == (g.k, g.n)
            result = stacked(out, at.out, g.out, i)
            assert (result == -1).all(), "written twice"
            result[...] = a @ b
    assert not (out == -1).any()
    return out


@st.composite
def views(draw, shape):
    """Memory and a view of a shape in it: transposed, cut, repeated and reversed axes."""
    order = draw(st.permutations(range(len(shape))))
    strides, step = [0] * len(shape), draw(st.integers(1, 2))
    for axis in order:
        kind = draw(st.sampled_from(("plain", "plain", "plain", "padded", "repeated", "reversed")))
        if kind == "repeated":
            continue
        strides[axis] = -step if kind == "reversed" else step
        step *= shape[axis] + (kind == "padded")
    back = -sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    offset = back + draw(st.integers(0, 3))
    size = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0) + 1
    return np.arange(1, size + 1, dtype=np.int64) % 7 + 1, View(0, offset, shape, tuple(strides))


@st.composite
def products(draw):
    """Two operands as views, and which axes of them are summed and stacked."""
    sizes = st.integers(1, 4)
    stack, rows, sums, columns = (draw(st.lists(sizes, max_size=2)) for _ in range(4))
    axes = []
    for free in (rows, columns):
        labels = [("b", i) for i in range(len(stack))] + [("k", i) for i in range(len(sums))]
        labels += [("f", i) for i in range(len(free))]
        axes.append(draw(st.permutations(labels)))
    lengths = [
        tuple({"b": stack, "k": sums, "f": free}[kind][i] for kind, i in labels)
        for labels, free in zip(axes, (rows, columns), strict=True)
    ]
    numbers = tuple(
        tuple(tuple(labels.index((kind, i)) for i in range(len(found))) for labels in axes)
        for kind, found in (("k", sums), ("b", stack))
    )
    return [draw(views(shape)) for shape in lengths], numbers


@given(products())
def test_a_description_computes_the_product(case):
    operands, numbers = case
    memories, shown = zip(*operands, strict=True)
    x, y = (seen(v, [m]) for v, m in zip(shown, memories, strict=True))
    g = gemm.describe(*shown, numbers)
    expected = np.einsum(_letters(numbers, x.ndim, y.ndim), x, y)
    np.testing.assert_array_equal(evaluated(g, memories, shown, numbers), expected.reshape(-1))


@pytest.mark.parametrize("flips", range(4))
def test_contiguous_matrices_are_never_packed(flips):
    x = View(0, 0, (3, 4), (1, 3) if flips & 1 else (4, 1))
    y = View(1, 0, (4, 5), (1, 4) if flips & 2 else (5, 1))
    g = gemm.describe(x, y, MATMUL)
    assert (g.packed, g.stack, len(g.calls)) == ((False, False), 1, 1)
    assert (g.a.transposed, g.b.transposed) == (bool(flips & 2), bool(flips & 1))


def test_a_repeated_stack_has_stride_0():
    x = View(0, 0, (5, 3, 4), (12, 4, 1))
    y = View(1, 0, (5, 4, 2), (0, 2, 1))
    g = gemm.describe(x, y, (((2,), (1,)), ((0,), (0,))))
    assert (g.packed, g.stack, g.a.stride, g.b.stride) == ((False, False), 5, 0, 12)


def test_heads_between_rows_take_a_call_for_each_batch():
    """[B, T, N, H] × [B, S, N, H]: the stack (B, N) is no single stride."""
    x = View(0, 0, (2, 8, 3, 4), contiguous((2, 8, 3, 4)))
    g = gemm.describe(x, x, (((3,), (3,)), ((0, 2), (0, 2))))
    assert (g.packed, g.stack, len(g.calls)) == ((False, False), 3, 2)
    assert [c.a for c in g.calls] == [0, 8 * 3 * 4]


def test_too_many_calls_are_packed_instead():
    shape = (gemm.MOST_CALLS + 1, 2, 3, 4)
    x = View(0, 0, shape, contiguous(shape))
    g = gemm.describe(x, x, (((3,), (3,)), ((0, 2), (0, 2))))
    assert (g.packed, g.stack, len(g.calls)) == ((True, True), 3 * shape[0], 1)


def test_empty_sums_are_not_described():
    x, y = View(0, 0, (2, 0), (0, 1)), View(1, 0, (0, 3), (3, 1))
    assert gemm.describe(x, y, MATMUL) is None


@pytest.mark.parametrize(("offset", "expected"), [(0, 16), (1, 2), (4, 8), (8, 16)])
def test_alignment_is_that_of_the_view(offset, expected):
    shape = (2, 8)
    x = View(0, offset, shape, contiguous(shape))
    y = View(1, 0, (8, 3), (3, 1))
    assert gemm.describe(x, y, MATMUL).alignments(2, 4) == (16, expected, 16)
    assert prod(shape) == 16
