"""vjp and its pullback: an object that can be called again, consumed, looked into and moved."""

import gc
import weakref

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad.errors import CotangentError, ResidualsFreedError

X = np.array([0.5, -1.0, 2.0], np.float32)


def test_value_and_pullback_of_trees():
    y, pullback = fg.vjp(lambda p, s: {"a": p["u"] * s, "b": p["u"].sum()}, {"u": X}, 2.0)
    np.testing.assert_array_equal(y["a"], 2 * X)
    dp, ds = pullback({"a": X, "b": np.float32(1)})
    np.testing.assert_array_equal(dp["u"], 2 * X + 1)
    assert float(ds) == float((X * X).sum())


def test_a_pullback_may_be_called_again_and_gives_the_same():
    _, pullback = fg.vjp(lambda x: fnp.tanh(x) * x, X)
    first = np.asarray(pullback(X)[0])
    assert (np.asarray(pullback(X)[0]) == first).all()
    np.testing.assert_allclose(pullback(2 * X)[0], 2 * first, rtol=1e-6)


def test_consume_frees_and_a_later_call_raises():
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x, X)
    again = np.asarray(pullback(X)[0])
    np.testing.assert_array_equal(pullback.consume(X)[0], again)
    for use in (pullback, pullback.consume, lambda ct: pullback.jaxpr):
        with pytest.raises(ResidualsFreedError, match="consumed"):
            use(X)
    assert pullback.residuals == []
    assert "consumed" in repr(pullback)


def test_consume_frees_each_residual_after_its_last_use():
    made, alive = [], []

    def watch(ct):
        gc.collect()
        alive.append(sum(r() is not None for r in made))
        return ct

    def f(x):
        for _ in range(4):
            x = fg.tap(fnp.sin(x), watch)
            x = x * 1.5
        return x

    _, pullback = fg.vjp(f, X)
    made += [weakref.ref(x) for r in pullback._tape.records for x in r.residuals
             if isinstance(x, fg.Array) and x.shape == X.shape]  # fmt: skip
    pullback.consume(X)
    assert alive == sorted(alive, reverse=True)
    assert alive[-1] < alive[0]


def test_a_copy_of_a_consumed_pullback_is_consumed():
    _, pullback = fg.vjp(fnp.sin, X)
    pullback.consume(X)
    with pytest.raises(ResidualsFreedError):
        fg.tree.map(lambda x: x, pullback)(X)


def test_residuals_tell_shape_dtype_bytes_and_line():
    _, pullback = fg.vjp(lambda x: fnp.exp(fnp.sin(x)), X)
    assert [(r.name, r.shape, r.dtype, r.nbytes) for r in pullback.residuals] == [
        ("sin", (3,), np.float32, 12),
        ("exp", (3,), np.float32, 12),
    ]
    assert all(r.source.file == __file__ for r in pullback.residuals)
    assert "test_vjp.py" in repr(pullback.residuals[0])


def test_the_pullback_as_a_program():
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * 3.0, X)
    program = pullback.jaxpr
    assert [str(a) for a in program.in_avals] == ["f32[3]"]
    from fgrad.core.transforms.stage import eval_jaxpr

    (back,) = eval_jaxpr(program.jaxpr, program.consts, fnp.asarray(X))
    np.testing.assert_array_equal(back, pullback(X)[0])


def test_a_pullback_is_a_pytree_of_its_residuals():
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x, X)
    leaves = fg.tree.leaves(pullback)
    assert leaves
    assert all(isinstance(x, fg.Array) for x in leaves)
    moved = fg.tree.map(np.array, pullback)  # as if saved and read back
    np.testing.assert_array_equal(moved(X)[0], pullback(X)[0])
    twice = fg.tree.map(np.array, moved)
    np.testing.assert_array_equal(twice.consume(X)[0], pullback(X)[0])
    assert len(fg.tree.leaves(pullback)) == len(leaves)  # the original is as it was


def test_a_pullback_passes_through_jit():
    _, pullback = fg.vjp(lambda x: fnp.sin(x) * x, X)
    np.testing.assert_allclose(fg.jit(lambda p, ct: p(ct))(pullback, X)[0], pullback(X)[0])


def test_aux_and_integer_inputs_and_outputs():
    y, pullback, aux = fg.vjp(lambda x, i: ((x[i], fnp.argmax(x)), x + 1), X, 2, has_aux=True)
    assert float(y[0]) == 2.0
    np.testing.assert_array_equal(aux, X + 1)
    dx, di = pullback((np.float32(5), np.zeros((), fg.float0)))
    np.testing.assert_array_equal(dx, [0, 0, 5])
    assert di.dtype == fg.float0


def test_the_cotangent_of_an_integer_output_must_be_float0():
    _, pullback = fg.vjp(lambda x: fnp.argmax(x), X)
    with pytest.raises(CotangentError, match=r"i32\[\] has no derivative.*float0, got f32\[\]"):
        pullback(np.float32(1))


# ------------------------------------------------------------------- borrowed buffers (design 13.3)


def test_inputs_changed_between_vjp_and_pullback_do_not_count():
    x, w = X.copy(), 2 * X

    def f(x):
        return fnp.sum(fnp.sin(x) * w * x[::-1])

    _, pullback = fg.vjp(f, x)
    before = np.asarray(pullback(np.float32(1))[0])
    x[:] = 100.0
    w[:] = 100.0
    np.testing.assert_array_equal(pullback(np.float32(1))[0], before)


def test_an_output_that_is_an_input_is_not_the_callers_buffer():
    x = X.copy()
    y, _ = fg.vjp(lambda x: (x, x.reshape(3, 1), x[1:]), x)
    x[:] = 7.0
    np.testing.assert_array_equal(y[0], X)
    np.testing.assert_array_equal(y[1].ravel(), X)
    np.testing.assert_array_equal(y[2], X[1:])


def test_read_only_inputs_are_not_copied():
    x = X.copy()
    x.flags.writeable = False
    _, pullback = fg.vjp(fnp.sin, x)
    (kept,) = fg.tree.leaves(pullback)
    assert np.shares_memory(kept, x)


def test_nested_vjp():
    def g(x):
        _, pullback = fg.vjp(lambda z: z**3 * x, x)
        return pullback(np.float32(1))[0]  # 3x³

    _, pullback = fg.vjp(g, np.float32(2))
    assert float(pullback(np.float32(1))[0]) == 36.0
