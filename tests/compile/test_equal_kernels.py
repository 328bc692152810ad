"""Kernels of one text are found out about once, and no others are taken for them."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.compile.cost import cost
from fgrad.compile.kernel import levels
from fgrad.compile.lower import lower
from fgrad.compile.passes import optimize
from fgrad.compile.plan import Launch
from fgrad.compile.run_plan import run_plan
from fgrad.core.transforms.stage import hoist


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


def test_another_size_is_another_kernel():
    (a,), (b,) = kernels_of(fnp.tanh, X), kernels_of(fnp.tanh, X[:2])
    assert a.memo is not b.memo
    assert (a.length, b.length) == (12, 8)
