"""Staging: what is recorded, once; constants; running programs."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.core.transforms.stage import eval_jaxpr, stage

X = np.linspace(-1, 1, 3)


def names(f, *args):
    return [e.primitive.name for e in fg.make_jaxpr(f)(*args).jaxpr.eqns]


def test_equal_pure_equations_are_recorded_once():
    assert names(lambda x: fnp.sin(x) * fnp.sin(x), X).count("sin") == 1
    assert names(lambda x: x * 2 + (2 * x), X).count("mul") == 1  # commuted operands
    assert names(lambda x: (x - 2.0) * (2.0 - x), X).count("sub") == 2


def test_equations_nothing_needs_are_left_out():
    assert names(lambda x: (fnp.exp(x), fnp.sin(x))[1], X) == ["sin"]


def test_arrays_are_constants_and_scalars_literals():
    w = X.copy()
    closed = fg.make_jaxpr(lambda x: x * w + 3.0)(X)
    w[:] = 0.0
    np.testing.assert_array_equal(closed.consts[0], X)  # a snapshot
    assert len(closed.consts) == 1
    assert "3.0" in str(closed)


def test_running_a_program_gives_the_functions_value():
    f = lambda x: [fnp.tanh(x) @ x, x[1:]]  # noqa: E731
    jaxpr, consts = stage(f, [fnp.asarray(X).aval])
    for got, want in zip(eval_jaxpr(jaxpr, consts, fnp.asarray(X)), f(fnp.asarray(X)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_types_alone_are_enough():
    like = fg.ShapedArray((2, 3), np.dtype(np.float32))
    assert str(fg.eval_shape(lambda x: {"a": x @ x.T}, like)["a"]) == "f32[2,2]"
    closed, out = fg.make_jaxpr(lambda x, n: x * n, static_argnums=1, return_shape=True)(like, 3)
    assert str(out) == "f32[2,3]"
    assert len(closed.jaxpr.invars) == 1


def test_lines_of_equations_are_the_users():
    def f(x):
        y = fnp.sin(x)
        return y * 2.0

    first = f.__code__.co_firstlineno
    eqns = fg.make_jaxpr(f)(X).jaxpr.eqns
    assert [(e.source.file, e.source.line) for e in eqns] == [
        (__file__, first + 1), (__file__, first + 2),
    ]  # fmt: skip


@pytest.mark.parametrize("n", [2, 7])
def test_nested_derivatives_do_not_repeat_equations(n):
    def count(order):
        f = lambda x: fnp.tanh(x) * fnp.exp(-x * x)  # noqa: E731
        for _ in range(order):
            f = fg.grad(f)
        return len(fg.make_jaxpr(f)(0.3).jaxpr.eqns)

    assert count(n) < {2: 60, 7: 910}[n]  # a quarter of 3,641 at order 7
