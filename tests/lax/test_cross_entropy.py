"""Cross-entropy: what reverse mode keeps, how exact it is, and labels that do not fit."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax, nn
from fgrad.compile.program import program_of
from fgrad.core.transforms.stage import stage_closed
from fgrad.errors import IndexOutOfBoundsError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 30)).astype(np.float32)
LABELS = RNG.integers(0, 30, 50)
PROBS = RNG.dirichlet(np.ones(30), 50).astype(np.float32)


def kept(f, *args):
    return sorted((r.shape, r.dtype.name) for r in fg.saved_residuals(f, *args))


@pytest.mark.parametrize("loss", [lax.softmax_cross_entropy, nn.cross_entropy])
def test_reverse_mode_keeps_the_logits_and_a_number_a_row(loss):
    found = kept(lambda x: loss(x, LABELS), X)
    large = [k for k in found if k[0] == (50, 30)]
    assert large == [((50, 30), "float32")]
    assert ((50,), "float32") in found
    found = kept(lambda x: loss(x, PROBS), X)
    assert sum(shape == (50, 30) for shape, _ in found) == 2  # the targets, too


def exact(x, targets):
    x = x.astype(np.float64)
    lse = x.max(-1) + np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1))
    p = np.exp(x - lse[:, None])
    return lse * targets.sum(-1) - (x * targets).sum(-1), p * targets.sum(
        -1, keepdims=True
    ) - targets


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_and_gradients_are_rounded_once(dtype, dense):
    x = (4 * X).astype(dtype)
    targets = np.eye(30)[LABELS]
    labels = targets.astype(dtype) if dense else LABELS
    value, gradient = exact(x, targets)
    info = ml_dtypes.finfo(dtype)
    # The oracle is of float64; narrow dtypes compute in float32 and round once.
    unit = float(info.eps) + (0 if dtype == np.float64 else 4e-6)
    found = np.asarray(lax.softmax_cross_entropy(x, labels)).astype(np.float64)
    np.testing.assert_allclose(found, value, rtol=unit, atol=1e-14)
    g = fg.grad(lambda x: fnp.sum(lax.softmax_cross_entropy(x, labels).astype(np.float64)))(x)
    assert g.dtype == dtype
    smallest = float(info.smallest_subnormal)
    np.testing.assert_allclose(
        np.asarray(g).astype(np.float64), gradient, rtol=unit, atol=max(smallest, 1e-14)
    )


def test_large_logits_lose_nothing():
    x = X + np.float32(3000)
    value, _ = exact(x, np.eye(30)[LABELS])
    np.testing.assert_allclose(lax.softmax_cross_entropy(x, LABELS), value, rtol=1e-6)


def test_a_class_without_weight_may_have_any_logit():
    x = X[:2].copy()
    x[:, 3] = -np.inf
    targets = PROBS[:2].copy()
    targets[:, 3] = 0
    value, gradient = fg.value_and_grad(lambda x: fnp.sum(lax.softmax_cross_entropy(x, targets)))(x)
    rest = np.delete(np.arange(30), 3)
    want, want_gradient = exact(x[:, rest], targets[:, rest])
    np.testing.assert_allclose(value, want.sum(), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(gradient)[:, rest], want_gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(np.asarray(gradient)[:, 3], 0)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_a_label_out_of_bounds_is_reported_or_filled(wrap):
    labels = np.array([1, 30, -1])
    f = wrap(lambda x: lax.softmax_cross_entropy(x, labels))
    with pytest.raises(IndexOutOfBoundsError, match=r"(label|index) 30 is out of bounds"):
        f(X[:3])
    with fg.out_of_bounds("jax"):
        np.testing.assert_array_equal(np.isnan(f(X[:3])), [False, True, True])
    filled = wrap(lambda x: lax.softmax_cross_entropy(x, labels, mode="fill"))
    np.testing.assert_array_equal(np.isnan(filled(X[:3])), [False, True, True])
    with pytest.raises(IndexOutOfBoundsError, match=r"(label|index) 30"):
        nn.cross_entropy(X[:3], np.array([1, 30, -100]))


@pytest.mark.parametrize("labels", [LABELS, PROBS], ids=["labels", "dense"])
def test_the_decomposition_is_the_same_function(labels):
    labels = fnp.asarray(labels)
    f = lambda x, y: [lax.softmax_cross_entropy(x, y)]  # noqa: E731
    jaxpr, _ = stage_closed(f, [fnp.asarray(X).aval, labels.aval])
    (eqn,) = jaxpr.eqns
    run = eqn.primitive.lower.decompose
    composed, _ = stage_closed(lambda *a: run(*a, **eqn.params), jaxpr.in_avals)
    assert {e.primitive.name for e in composed.eqns}.isdisjoint({eqn.primitive.name})
    x = X.copy()
    x[0] = -np.inf
    with np.errstate(all="ignore"):
        got = program_of(composed)(np, [x, labels._data])
        want = program_of(jaxpr)(np, [x, labels._data])
    np.testing.assert_allclose(got[0], want[0], rtol=2e-6)
    assert np.isnan(got[0][0])
