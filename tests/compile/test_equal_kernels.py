"""Equal kernels are written and found out about once, and no others are taken for them."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import nn
from fgrad.backends.cpu.compiler import name_of
from fgrad.backends.cpu.target import host
from fgrad.compile.cost import cost
from fgrad.compile.kernel import levels
from fgrad.compile.lower import collapse, kernels, lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Launch
from fgrad.compile.run_plan import run_plan
from fgrad.core.transforms.stage import hoist
from tests.compile.test_lower import SEEDS, mixed


def plan_of(f, *xs):
    closed = fg.make_jaxpr(f)(*xs)
    return lower(optimize(hoist(closed.jaxpr)), lambda _op, _dtype: True)


def kernels_of(f, *xs):
    return [step.kernel for step in plan_of(f, *xs).steps if isinstance(step, Launch)]


def blocks(x, ws):
    for w in ws:
        x = fnp.tanh(x @ w) * 0.5 + 1.0
    return x


X = np.linspace(-2.0, 2.0, 12, dtype=np.float32).reshape(3, 4)


def test_equal_blocks_share_what_is_found_out():
    first, *others = kernels_of(blocks, X, np.ones((5, 4, 4), np.float32))[-5:]
    assert others
    assert all(k.memo is first.memo for k in others)
    assert all(levels(k) is levels(first) for k in others)
    assert all(cost(k) is cost(first) for k in others)
    assert len({k.eqns for k in (first, *others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: fnp.copysign(x, 0.0), lambda x: fnp.copysign(x, -0.0)),
        (lambda x: x * 2.0, lambda x: x * 3.0),
        (lambda x: fnp.pad(x, 1), lambda x: fnp.pad(x, 1, constant_values=-0.0)),
        (lambda x: x.T + 1.0, lambda x: x + 1.0),
        (lambda x: fnp.sum(x, 0), lambda x: fnp.sum(x, 1)),
        (lambda x: fnp.max(x, 1), lambda x: fnp.min(x, 1)),
    ],
)
def test_kernels_that_differ_stay_apart(one, other):
    (a,), (b,) = kernels_of(one, X), kernels_of(other, X)
    assert a.memo is not b.memo
    for f in (one, other):
        (found,) = run_plan(plan_of(f, X), [X])
        np.testing.assert_allclose(found, f(X), rtol=1e-6)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(f(X)))


def transformer(x, ws):
    """Equal blocks of attention and a perceptron, each after a layer norm."""

    def norm(x, g):
        return nn.layer_norm(x, g, g)

    for w in ws:
        h = (norm(x, w["g"]) @ w["qkv"]).reshape(2, 6, 3, 2, 4)
        a = nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2], is_causal=True)
        x = x + a.reshape(2, 6, 8) @ w["out"]
        x = x + nn.gelu(norm(x, w["g"]) @ w["up"]) @ w["up"].T
    return fnp.mean(x**2)


@pytest.mark.parametrize("f", [transformer, fg.grad(transformer, argnums=1)])
def test_kernels_of_equal_blocks_are_written_and_compiled_once(f):
    x = np.linspace(-1.0, 1.0, 96, dtype=np.float32).reshape(2, 6, 8)
    shapes = {"g": (8,), "qkv": (8, 24), "out": (8, 8), "up": (8, 32)}
    block = {k: np.full(shape, 0.1, np.float32) for k, shape in shapes.items()}

    def count(blocks):
        """Kernels written, kernels of the plan, and the functions of machine code they need."""
        ws = [block] * blocks
        written = []

        class Writer(kernels._Writer):
            def written(self):
                written.append(self)
                return super().written()

        def flat(x, *leaves):
            return f(x, fg.tree.unflatten(structure, leaves))

        leaves, structure = fg.tree.flatten(ws)
        forget = mock.patch.dict(kernels._known, clear=True)
        with forget, mock.patch.object(kernels, "_Writer", Writer):
            plan = plan_of(flat, x, *leaves)
        found = [step.kernel for step in plan.steps if isinstance(step, Launch)]
        return len(written), len(found), {name_of(k, host()) for k in found}

    few, many = count(2), count(24)
    assert many[0] == few[0]
    assert many[1] > 5 * few[1]
    assert many[2] == few[2]


@given(SEEDS)
def test_kernels_known_of_other_programs_are_those_that_would_be_written(seed):
    def plan():
        plan = plan_of(*mixed_of_seed)
        return str(plan), [s.kernel.eqns for s in plan.steps if isinstance(s, Launch)]

    f, xs = mixed(seed, np.dtype(np.float64), depth=8)
    mixed_of_seed = (f, *xs)
    found = plan()
    assert plan() == found
    with mock.patch.dict(kernels._known, clear=True), mock.patch.dict(collapse._made, clear=True):
        assert plan() == found


def test_another_size_is_another_kernel():
    (a,), (b,) = kernels_of(fnp.tanh, X), kernels_of(fnp.tanh, X[:2])
    assert a.memo is not b.memo
    assert (a.length, b.length) == (12, 8)
