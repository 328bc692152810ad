"""Attention: blocks of queries, memory, what reverse mode keeps, rows without keys."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.compile.program import program_of
from fgrad.core.primitive import primitive
from fgrad.core.transforms.stage import stage_closed
from fgrad.lax import attention_eager

RNG = np.random.default_rng(0)
Q = RNG.normal(size=(2, 5, 4, 3))
K = RNG.normal(size=(2, 7, 2, 3))
V = RNG.normal(size=(2, 7, 2, 6))
MASK = RNG.random((2, 1, 5, 7)) < 0.6
MASK[1, 0, 2] = False  # a query that sees nothing
OPTIONS = {
    "plain": {},
    "causal": {"causal": True, "scale": 0.3},
    "bias": {"bias": RNG.normal(size=(2, 4, 5, 7))},
    "bias a key": {"bias": RNG.normal(size=(1, 1, 1, 7)), "causal": True},
    "bias a head": {"bias": RNG.normal(size=(1, 4, 1, 1))},
    "mask": {"mask": MASK},
    "all": {"bias": RNG.normal(size=(1, 4, 5, 1)), "mask": MASK, "causal": True},
}


def value_and_gradients(options, q=Q, k=K, v=V):
    options = dict(options)
    bias = options.pop("bias", None)
    args = [q, k, v] if bias is None else [q, k, v, bias]
    y, pullback = fg.vjp(lambda *a: lax.dot_product_attention(*a, **options), *args)
    ct = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
    return [np.asarray(x) for x in (y, *pullback(ct))]


@pytest.mark.parametrize("limit", [1, 9, 28, 60, 150, 270])
@pytest.mark.parametrize("name", OPTIONS)
def test_blocks_of_any_size_give_the_same(name, limit, monkeypatch):
    want = value_and_gradients(OPTIONS[name])
    monkeypatch.setattr(attention_eager, "_HOST_BLOCK", limit)
    blocks = []
    inner = attention_eager.Scores.block
    monkeypatch.setattr(
        attention_eager.Scores, "block",
        lambda self, *args: blocks.append(inner(self, *args)) or blocks[-1],
    )  # fmt: skip
    got = value_and_gradients(OPTIONS[name])
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    assert len(blocks) > 2
    assert max(s.size for s, _ in blocks) <= max(limit, 2 * 7)  # one query of each group at least


@pytest.mark.parametrize("causal", [False, True])
def test_scores_of_all_queries_never_stand_in_memory(causal):
    length, heads = 2048, 4
    q, k, v = (RNG.normal(size=(1, length, heads, 8)).astype(np.float32) for _ in range(3))
    f = fg.value_and_grad(
        lambda *a: fnp.sum(lax.dot_product_attention(*a, causal=causal)), (0, 1, 2)
    )
    tracemalloc.start()
    f(q, k, v)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heads * length * length * 4 == 64 << 20
    assert peak < 12 << 20


@pytest.mark.parametrize("name", OPTIONS)
def test_reverse_mode_keeps_operands_result_and_a_number_a_query(name):
    options = dict(OPTIONS[name])
    bias = options.pop("bias", None)
    args = [Q, K, V] if bias is None else [Q, K, V, bias]
    kept = fg.saved_residuals(lambda *a: lax.dot_product_attention(*a, **options), *args)
    shapes = [x.shape for x in args] + [(2, 5, 4, 6), (2, 4, 5)]
    shapes += [MASK.shape] * ("mask" in options)
    assert sorted(r.shape for r in kept) == sorted(shapes)
    assert {r.name for r in kept} == {"attention"}


def test_the_layer_keeps_no_more():
    kept = fg.saved_residuals(nn.dot_product_attention, Q, K, V)
    wanted = [*(x.shape for x in (Q, K, V)), (2, 5, 4, 6), (2, 4, 5)]
    assert sorted(r.shape for r in kept) == sorted(wanted)


def test_products_that_are_saved_include_attention():
    def f(q, k, v):
        return fnp.sin(nn.dot_product_attention(fnp.sin(q), k, v))

    policy = fg.checkpoint_policies.dots_saveable
    kept = fg.saved_residuals(fg.checkpoint(f, policy=policy), Q, K, V)
    assert {r.shape for r in kept} >= {(2, 5, 4, 6), (2, 4, 5)}
    kept = fg.saved_residuals(fg.checkpoint(f), Q, K, V)
    assert (2, 4, 5) not in {r.shape for r in kept}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_program_is_the_same_function_of_other_primitives(name):
    options = dict(OPTIONS[name])
    given = [x for x in (options.pop("bias", None), options.pop("mask", None)) if x is not None]
    flags = {"has_bias": "bias" in OPTIONS[name], "has_mask": "mask" in OPTIONS[name]}
    params = {"scale": 0.5, "causal": False, **options, **flags}
    operands = [fnp.asarray(x) for x in (Q, K, V, *given)]
    out, lse = _compare("attention", operands, params)
    cts = [fnp.asarray(RNG.normal(size=x.shape)) for x in (out, lse)]
    rest = [*map(fnp.asarray, (out, lse)), *operands[3:]]
    _compare(
        "attention_grad", [*cts, *operands[:3], *rest], {**params, "bias_grad": flags["has_bias"]}
    )


def _compare(name, operands, params):
    """The results of a primitive, which are those of its decomposition."""
    prim = primitive(name)
    want = prim.eager(np, *(x._data for x in operands), **params)
    composed, _ = stage_closed(
        lambda *xs: prim.lower.decompose(*xs, **params), [x.aval for x in operands]
    )
    assert not any(e.primitive.name.startswith("attention") for e in composed.eqns)
    with np.errstate(all="ignore"):
        got = program_of(composed)(np, [x._data for x in operands])
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    return want


def test_no_keys_give_zeros():
    y, dq, dk, dv = value_and_gradients({}, k=K[:, :0], v=V[:, :0])
    assert y.shape == (2, 5, 4, 6)
    assert not y.any()
    assert not dq.any()
    assert (dk.shape, dv.shape) == ((2, 0, 2, 3), (2, 0, 2, 6))


@pytest.mark.parametrize("hide", ["mask", "bias"])
def test_a_query_without_keys_gets_and_gives_zeros(hide):
    if hide == "mask":
        options = {"mask": MASK}
    else:
        options = {"bias": np.where(MASK, 0.0, -np.inf)}
    y, dq, *rest = value_and_gradients(options)
    assert not y[1, 2].any()
    assert not dq[1, 2].any()
    want = value_and_gradients({"mask": MASK})
    for a, b in zip((y, dq, *rest[:2]), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    jvp = fg.jvp(lambda q: lax.dot_product_attention(q, K, V, **options), (Q,), (Q,))[1]
    assert not np.asarray(jvp)[1, 2].any()
    assert np.isfinite(jvp).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_query_of_one_key_does_not_depend_on_scores(dtype):
    q, k, v = (x[:, :4].astype(dtype) for x in (Q, K, V))
    y, dq, dk, _ = value_and_gradients({"causal": True}, q[:, :1], k, v)
    np.testing.assert_array_equal(y[:, 0], np.repeat(v[:, 0], 2, axis=1))
    assert not dq.any()
    assert not dk.any()


def test_a_rule_that_calls_the_gradient_of_attention_has_forward_mode():
    def attend(q):
        return nn.dot_product_attention(q, K, V)

    f = fg.custom_vjp(attend)
    f.defvjp(lambda q: (attend(q), q), lambda q, ct: fg.vjp(attend, q)[1](ct))
    tangent = RNG.normal(size=Q.shape)
    want = fg.jvp(attend, (Q,), (tangent,))[1]
    np.testing.assert_allclose(fg.jvp(f, (Q,), (tangent,))[1], want, rtol=1e-12, atol=1e-14)


def test_a_shared_operand_is_not_repeated_under_vmap():
    bias = RNG.normal(size=(1, 4, 1, 7))
    batch = np.stack([Q, 2 * Q, 3 * Q])

    def f(q, b):
        return nn.dot_product_attention(q, K, V, bias=b, mask=MASK)

    jaxpr = fg.make_jaxpr(fg.vmap(f, in_axes=(0, None)))(batch, bias)
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "attention"]
    assert [v.aval.shape[0] for v in eqn.inputs] == [3, 3, 3, 1, 1]
    got = fg.vmap(f, in_axes=(0, None))(batch, bias)
    np.testing.assert_allclose(got, np.stack([f(q, bias) for q in batch]), rtol=1e-13)
    g = fg.vmap(fg.grad(lambda b, q: fnp.sum(fnp.sin(f(q, b)))), in_axes=(None, 0))(bias, batch)
    one = [fg.grad(lambda b, q=q: fnp.sum(fnp.sin(f(q, b))))(bias) for q in batch]
    np.testing.assert_allclose(g, np.stack(one), rtol=1e-11, atol=1e-14)
