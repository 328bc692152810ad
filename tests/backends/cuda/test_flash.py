"""Attention by tiles, forward and backward, against the eager rules in float64."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
from fgrad.backends.cuda import flash
from fgrad.backends.cuda.library import plan_of
from fgrad.compile.plan import Library, View, contiguous
from fgrad.core.tracing import bind
from fgrad.lax.attention import attention_grad_p, attention_p
from tests.backends.cuda.running import copied

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
# batch, queries, keys, heads, groups of keys, width, depth
SHAPES = [
    ((2,), 5, 7, 2, 2, 8, 8),
    ((), 70, 40, 4, 2, 16, 24),
    ((2, 1), 33, 129, 2, 1, 5, 3),
    ((1,), 17, 20, 1, 1, 80, 256),
]  # fmt: skip


def operands(shape, dtype, bias=None, mask=None, seed=0):
    """Query, key, value and, of given shapes, a bias and a mask."""
    batch, t, s, n, k, h, d = shape
    rng = np.random.default_rng(seed)
    found = [
        rng.normal(size=(*batch, *rest)).astype(dtype) for rest in ((t, n, h), (s, k, h), (s, k, d))
    ]
    scores = (*batch, n, t, s)
    if bias is not None:
        sizes = [m if keep else 1 for m, keep in zip(scores, bias, strict=False)]
        found.append(rng.normal(size=sizes).astype(np.float32))
    if mask is not None:
        sizes = [m if keep else 1 for m, keep in zip(scores, mask, strict=False)]
        found.append(rng.random(sizes) < 0.7)
    return found


def run(execute, prim, given, views=None, **params):
    jaxpr = fg.make_jaxpr(lambda *xs: bind(prim, *xs, **params))(*given).jaxpr
    (eqn,) = jaxpr.eqns
    shown = views or [View(i, 0, x.shape, contiguous(x.shape)) for i, x in enumerate(given)]
    plan = plan_of(Library(eqn, 0, tuple(shown), tuple(range(len(eqn.outputs)))))
    outs = [copied(np.zeros(v.aval.shape, v.aval.dtype)) for v in eqn.outputs]
    execute(plan, [copied(x) for x in given], outs)
    return [o.reshape(v.aval.shape) for o, v in zip(outs, eqn.outputs, strict=True)]


def exact(prim, given, **params):
    wide = [x if x.dtype.kind == "b" else x.astype(np.float64) for x in given]
    return [np.asarray(y) for y in prim.eager(np, *wide, **params)]


def assert_near(found, want, dtype, factor):
    """Within a few roundings of numbers of the size of the greatest.

    Of float64 both sides are rounded, and sums of each.
    """
    factor *= 16 if dtype == "float64" else 1
    for a, b in zip(found, want, strict=True):
        unit = UNIT[np.dtype(dtype).name]
        error = np.abs(a.astype(np.float64) - b).max(initial=0)
        assert error <= factor * unit * max(1, np.abs(b).max(initial=0))


PARAMS = {"scale": 0.3, "causal": False, "has_bias": False, "has_mask": False}


def grad_operands(given, out, lse, dtype, seed=9):
    rng = np.random.default_rng(seed)
    ct = rng.normal(size=out.shape).astype(dtype)
    ct_lse = rng.normal(size=lse.shape).astype(lse.dtype)
    return [ct, ct_lse, *given[:3], out, lse, *given[3:]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((shape, "float32") for shape in SHAPES), *((shape, BFLOAT16) for shape in SHAPES),
        (SHAPES[1], "float16"), (SHAPES[2], "float64"),
    ],
    ids=str,
)  # fmt: skip
def test_forward_and_backward(shape, dtype, causal, execute):
    given = operands(shape, dtype)
    params = {**PARAMS, "causal": causal}
    found = run(execute, attention_p, given, **params)
    # Roundings of a score, a sum of so many products, become relative ones of its exponential.
    many = 1 + shape[-2] // 16 if np.dtype(dtype).itemsize > 2 else 1
    assert_near(found[:1], exact(attention_p, given, **params)[:1], dtype, 8 * many)
    wide = "float64" if dtype == "float64" else "float32"
    assert_near(found[1:], exact(attention_p, given, **params)[1:], wide, 64)
    full = grad_operands(given, *found, dtype)
    params["bias_grad"] = False
    grads = run(execute, attention_grad_p, full, **params)
    want = exact(attention_grad_p, full, **params)
    assert_near(grads, want, dtype, 32 * many)


EXTRAS = [
    ((1, 1, 1, 1), None), (None, (1, 1, 1, 1)), ((0, 1, 0, 1), (1, 0, 1, 1)),
    ((1, 0, 1, 0), (0, 0, 0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", BFLOAT16], ids=str)
@pytest.mark.parametrize(("bias", "mask"), EXTRAS, ids=str)
def test_bias_and_mask_of_any_shape(bias, mask, dtype, execute):
    given = operands(((2,), 20, 37, 2, 1, 16, 8), dtype, bias, mask)
    params = {**PARAMS, "has_bias": bias is not None, "has_mask": mask is not None}
    found = run(execute, attention_p, given, **params)
    assert_near(found[:1], exact(attention_p, given, **params)[:1], dtype, 8)
    full = grad_operands(given, *found, dtype)
    params["bias_grad"] = False
    grads = run(execute, attention_grad_p, full, **params)
    assert_near(grads, exact(attention_grad_p, full, **params), dtype, 32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_queries_that_see_no_key_give_zeros(dtype, execute):
    given = operands(((), 6, 9, 2, 2, 8, 8), dtype, None, (1, 1, 1))
    given[3][:, 2] = False
    params = {**PARAMS, "has_mask": True}
    out, lse = run(execute, attention_p, given, **params)
    assert not out[2].any()
    assert not lse[:, 2].any()
    full = grad_operands(given, out, lse, dtype)
    grads = run(execute, attention_grad_p, full, **params, bias_grad=False)
    assert not grads[0][2].any()
    assert_near(grads, exact(attention_grad_p, full, **params, bias_grad=False), dtype, 32)


def test_operands_in_the_other_layout(execute):
    """Heads in front of positions, as views: read as they lie, eight numbers at a time or one."""
    for width in (16, 12):
        shape = ((2,), 20, 24, 3, 3, width, width)
        given = operands(shape, "float16")
        memory = [np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for x in given]
        views = []
        for i, (x, m) in enumerate(zip(given, memory, strict=True)):
            b, n, t, h = contiguous(m.shape)
            views.append(View(i, 0, x.shape, (b, t, n, h)))
        jaxpr = fg.make_jaxpr(lambda *xs: bind(attention_p, *xs, **PARAMS))(*given).jaxpr
        (eqn,) = jaxpr.eqns
        plan = plan_of(Library(eqn, 0, tuple(views), (0, 1)))
        outs = [copied(np.zeros(v.aval.shape, v.aval.dtype)) for v in eqn.outputs]
        execute(plan, [copied(m) for m in memory], outs)
        out = outs[0].reshape(eqn.outputs[0].aval.shape)
        assert_near([out], exact(attention_p, given, **PARAMS)[:1], "float16", 8)


def test_shared_memory_suffices_for_every_width():
    for name in ("bfloat16", "float32", "float64"):
        dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name)
        for width in (1, 64, 128, 256, flash._WIDEST[dtype.itemsize]):
            form = flash.Form((), 64, 64, 1, 1, width, width, dtype, None, PARAMS)
            for size in (flash._forward_bytes, flash._backward_bytes):
                rows, columns, shared = flash._tile(form, size)
                assert rows % 16 == columns % 16 == 0
                assert shared <= 227 << 10


def test_scores_of_float32_are_stored_unless_there_are_many():
    def kept(length, dtype):
        x = np.zeros((1, length, 16, 8), dtype)
        jaxpr = fg.make_jaxpr(lambda q: bind(attention_p, q, q, q, **PARAMS))(x).jaxpr
        return flash.keeps(jaxpr.eqns[0])

    assert kept(64, np.float16)
    assert not kept(64, np.float32)
    assert kept(4096, np.float32)
