"""vmap: axes, prefixes, names, nesting."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import AxisError, ShapeError, TreeError

A = np.arange(24.0).reshape(2, 3, 4)
B = np.arange(4.0) + 1


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_every_axis_in_and_out(axis, out):
    y = fg.vmap(lambda m: m @ m.T, in_axes=axis, out_axes=out)(A)
    parts = [m @ m.T for m in np.moveaxis(A, axis, 0)]
    np.testing.assert_allclose(y, np.stack(parts, out))


def test_prefixes_of_argument_and_result_trees():
    def f(p, x):
        return {"s": p["w"] * x, "t": (x, p["b"])}

    p = {"w": A, "b": B}
    y = fg.vmap(f, in_axes=({"w": 1, "b": None}, 0), out_axes={"s": 2, "t": (0, None)})(
        p, np.ones(3)
    )
    np.testing.assert_array_equal(y["s"], A.swapaxes(1, 2))
    assert y["t"][0].shape == (3,)
    np.testing.assert_array_equal(y["t"][1], B)


def test_an_output_that_is_the_same_for_all_is_repeated():
    np.testing.assert_array_equal(fg.vmap(lambda x: B)(A), np.stack([B, B]))
    np.testing.assert_array_equal(fg.vmap(lambda x: B, out_axes=None)(A), B)
    np.testing.assert_array_equal(fg.vmap(lambda x: 1.0)(A), [1, 1])


def test_axis_size_where_nothing_is_mapped():
    y = fg.vmap(lambda: fnp.ones(2), axis_size=3)()
    assert y.shape == (3, 2)
    assert fg.vmap(lambda x: x, in_axes=None, axis_size=3)(B).shape == (3, 4)
    assert fg.vmap(lambda x: x, axis_size=0)(np.zeros((0, 3))).shape == (0, 3)


def test_keyword_arguments_are_mapped_along_axis_0():
    y = fg.vmap(lambda x, *, k: x * k, in_axes=1)(np.ones((4, 2)), k=np.array([1.0, 2.0]))
    np.testing.assert_array_equal(y, [[1] * 4, [2] * 4])


def test_nested():
    y = fg.vmap(fg.vmap(lambda x, y: x * y, in_axes=(None, 0)), in_axes=(0, None))(B, B)
    np.testing.assert_array_equal(y, np.outer(B, B))
    z = fg.vmap(lambda row: fg.vmap(lambda x: x * row.sum())(row))(A[0])
    np.testing.assert_allclose(z, A[0] * A[0].sum(1, keepdims=True))


def test_per_example_gradients():
    def loss(w, x):
        return fnp.tanh(fnp.dot(w, x)) ** 2

    xs = np.linspace(-1, 1, 12).reshape(3, 4)
    w = B / 10
    g = fg.vmap(fg.grad(loss), in_axes=(None, 0))(w, xs)
    rows = [fg.grad(loss)(w, x) for x in xs]
    np.testing.assert_allclose(g, np.stack(rows), rtol=1e-12)
    total = fg.grad(lambda w: fg.vmap(loss, in_axes=(None, 0))(w, xs).sum())(w)
    np.testing.assert_allclose(total, np.sum(rows, 0), rtol=1e-12)


def test_the_equations_do_not_depend_on_the_size():
    def program(n):
        f = fg.vmap(lambda x: fnp.sin(x) @ x + fnp.max(x))
        return [e.primitive.name for e in fg.make_jaxpr(f)(np.ones((n, 3))).jaxpr.eqns]

    assert program(2) == program(64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: fg.vmap(fnp.sin, in_axes=3)(A),
            AxisError,
            r"axis 3 is out of range.*f64\[2,3,4\]",
        ),
        (lambda: fg.vmap(fnp.sin, in_axes=(0, 0))(A), ShapeError, "2 entries"),
        (lambda: fg.vmap(fnp.sin, in_axes=None)(A), ShapeError, "give axis_size"),
        (lambda: fg.vmap(fnp.sin, in_axes=0.5)(A), AxisError, "integers and None, got 0.5"),
        (lambda: fg.vmap(fnp.add)(A, B), ShapeError, r"differ in size: 2 .*f64\[2,3,4\].*, 4"),
        (lambda: fg.vmap(fnp.sin, axis_size=5)(A), ShapeError, r"5 \(axis_size\)"),
        (lambda: fg.vmap(fnp.sin, out_axes=None)(A), AxisError, "depends on the mapped axis"),
        (lambda: fg.vmap(fnp.sin, out_axes=7)(A), AxisError, "out_axes 7 is out of range"),
        (lambda: fg.vmap(fnp.sin, out_axes=(0, 0))(A), TreeError, "out_axes must be a prefix"),
        (lambda: fg.vmap(fnp.sin, in_axes=({"a": 0},))(A), TreeError, "in_axes must be a prefix"),
    ],
)
def test_wrong_axes_raise(call, error, words):
    with pytest.raises(error, match=words):
        call()
