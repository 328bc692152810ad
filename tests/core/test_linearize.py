"""linearize, linear_transpose, jvp: forward mode's three faces."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import CotangentError, NonlinearPullbackError, TreeError

RNG = np.random.default_rng(5)
X, V = RNG.normal(size=(2, 3, 4))


def everything(p):
    """Contractions, reductions, control flow, a custom rule, a program."""
    x = p["x"]
    carried, ys = lax.scan(lambda c, row: (fnp.sin(c) + row, c * row), x[0], x)
    y = fnp.tanh(x @ x.T).sum(axis=0) + fg.jit(lambda t: t.max(axis=1))(x)
    z = fg.checkpoint(lambda t: fnp.exp(fnp.sin(t)))(carried)
    return {"y": y, "z": z + lax.cond(True, fnp.cos, fnp.sin, carried), "ys": ys}


def test_linearize_is_jvp():
    y, push = fg.linearize(everything, {"x": X})
    y2, t2 = fg.jvp(everything, ({"x": X},), ({"x": V},))
    t = push({"x": V})
    for k in y:
        np.testing.assert_array_equal(y[k], y2[k])
        np.testing.assert_allclose(t[k], t2[k], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(push({"x": 2 * V})["y"], 2 * np.asarray(t["y"]), rtol=1e-12)


def test_linearize_does_not_run_the_function_again():
    runs = []

    def f(x):
        runs.append(1)
        return fnp.sin(x)

    _, push = fg.linearize(f, 1.0)
    push(1.0)
    push(2.0)
    assert len(runs) == 1


def test_changed_inputs_and_closures_do_not_count():
    x, w = X.copy(), V.copy()

    def f(x):
        c, _ = lax.scan(lambda c, row: (c * fnp.sin(row), None), x[0], w)
        return c * lax.cond(True, lambda u: u * fnp.asarray(x[1]), fnp.sin, w[1]) * w[2]

    _, push = fg.linearize(f, x)
    before = np.asarray(push(V))
    x[:] = 50.0
    w[:] = 50.0
    np.testing.assert_array_equal(push(V), before)


def test_has_aux():
    y, push, aux = fg.linearize(lambda x: (x * x, x + 1), 3.0, has_aux=True)
    assert (float(y), float(push(1.0)), float(aux)) == (9.0, 6.0, 4.0)
    y, t, aux = fg.jvp(lambda x: (x * x, x + 1), (3.0,), (1.0,), has_aux=True)
    assert (float(y), float(t), float(aux)) == (9.0, 6.0, 4.0)


def test_tangents_are_checked():
    _, push = fg.linearize(fnp.sin, X)
    with pytest.raises(TreeError, match="tree like the primals"):
        push(X, X)
    with pytest.raises(CotangentError, match=r"f64\[4,3\] must have the shape of its primal"):
        push(X.T)
    with pytest.raises(CotangentError, match=r"astype\('float64'\)"):
        push(X.astype(np.float32))


def test_linear_transpose():
    m = RNG.normal(size=(2, 3))
    transposed = fg.linear_transpose(lambda x: {"a": m @ x, "b": x[:2] * 3.0}, X)
    ct = {"a": RNG.normal(size=(2, 4)), "b": RNG.normal(size=(2, 4))}
    (back,) = transposed(ct)
    expected = m.T @ ct["a"]
    expected[:2] += 3 * ct["b"]
    np.testing.assert_allclose(back, expected, rtol=1e-13)
    # The transpose of the transpose is the function.
    (again,) = fg.linear_transpose(lambda c: transposed(c)[0], ct)(X)
    np.testing.assert_allclose(again["a"], m @ X, rtol=1e-13)


def test_linear_transpose_takes_types():
    (back,) = fg.linear_transpose(lambda x: x.sum(), fg.ShapedArray((2,), np.dtype(np.float32)))(
        np.float32(3)
    )
    np.testing.assert_array_equal(back, [3, 3])


@pytest.mark.parametrize("f", [fnp.sin, lambda x: x * x, lambda x: x @ x.T])
def test_a_function_that_is_not_linear_raises(f):
    with pytest.raises(NonlinearPullbackError, match="not linear"):
        fg.linear_transpose(f, X)


def test_jvp_of_integers_has_float0_tangents():
    y, t = fg.jvp(lambda n, x: n * x, (3, 2.0), (np.zeros((), fg.float0), 1.0))
    assert (float(y), float(t)) == (6.0, 3.0)
    with pytest.raises(CotangentError, match="float0"):
        fg.jvp(lambda n: n * 1.0, (3,), (1,))
