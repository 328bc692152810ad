"""What is particular to cond and switch."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import ArgumentError, DtypeError, ShapeError, TreeError


def test_concrete_predicate_runs_one_branch_unstaged():
    seen = []

    def yes(x):
        seen.append(("yes", float(fnp.asarray(1.0))))
        return x * x

    def no(x):
        seen.append("no")
        return x

    assert float(fg.grad(lambda x: lax.cond(True, yes, no, x))(3.0)) == 6
    assert float(lax.cond(0, yes, no, 3.0)) == 3
    assert [s[0] if isinstance(s, tuple) else s for s in seen] == ["yes", "no"]


def test_predicate_of_a_differentiated_value_is_concrete():
    f = lambda x: lax.cond(x > 0, lambda x: x * x, lambda x: -x, x)  # noqa: E731
    assert float(fg.grad(f)(3.0)) == 6
    assert float(fg.grad(f)(-3.0)) == -1


@pytest.mark.parametrize("index", range(-2, 5))
def test_switch_clamps(index):
    branches = [lambda: 0, lambda: 1, lambda: 2]
    want = min(max(index, 0), 2)
    assert int(lax.switch(index, branches)) == want
    assert int(fg.jit(lambda i: lax.switch(i, branches))(index)) == want
    assert int(fg.jit(lambda i: lax.switch(i, branches))(np.int8(index))) == want
    assert int(fg.vmap(lambda i: lax.switch(i, branches))(np.array([index]))[0]) == want


def test_weak_results_take_the_type_of_the_other_branch():
    f = fg.jit(lambda p: lax.cond(p, lambda: 0.0, lambda: fnp.ones((), "bfloat16")))
    assert f(True).dtype == fnp.bfloat16
    assert not f(True).weak_type


def test_branches_close_over_the_same_and_other_values():
    def f(p, w, v):
        return lax.cond(p, lambda x: w * x, lambda x: w * v + x, 2.0)

    for p, want in ((True, (2.0, 0.0)), (False, (5.0, 3.0))):
        got = fg.jit(fg.grad(f, (1, 2)))(p, 3.0, 5.0)
        assert tuple(map(float, got)) == want


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.cond(np.ones(3) > 0, lambda: 1.0, lambda: 2.0), ShapeError, r"b\[3\]"),
        (lambda: lax.cond(1j, lambda: 1.0, lambda: 2.0), DtypeError, "bool"),
        (lambda: fg.jit(lambda p: lax.cond(p, lambda: fnp.zeros(2), lambda: fnp.zeros(3)))(True),
         ShapeError, r"true_fun.*f32\[2\].*f32\[3\]"),
        (lambda: fg.jit(lambda p: lax.cond(p, lambda: (1.0,), lambda: 1.0))(True), TreeError,
         "tree like"),
        (lambda: fg.jit(lambda p: lax.cond(
            p, lambda: {"a": fnp.zeros(2)}, lambda: {"a": fnp.zeros(2, "int32")}))(True),
         DtypeError, r"\['a'\].*f32\[2\].*i32\[2\]"),
        (lambda: lax.switch(1.0, [lambda: 1, lambda: 2]), DtypeError, "integer"),
        (lambda: lax.switch(0, []), ArgumentError, "at least one"),
    ],
)  # fmt: skip
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "test_cond.py" in str(caught.value)


SAFE = np.array([[1.0, 2.0], [3.0, 4.0]])
MIXED = np.array([[1.0, 2.0], [-3.0, -4.0]])


@pytest.mark.parametrize("xs", [SAFE, MIXED, -SAFE], ids=["first", "mixed", "second"])
def test_branches_not_taken_give_no_nan(xs):
    # The branch not taken has NaN within, and multiplies a matrix that all lanes share.
    w = np.eye(2)

    def f(w, x):
        return lax.cond(
            x.sum() > 0, lambda x: (w @ fnp.sqrt(x)).sum(), lambda x: (w @ fnp.log(-x)).sum(), x
        )

    each = [fg.grad(f, (0, 1))(w, x) for x in xs]
    want = sum(np.asarray(g[0]) for g in each), np.stack([g[1] for g in each])
    one = fg.vmap(f, (None, 0))
    for g in (
        fg.grad(lambda w, xs: one(w, xs).sum(), (0, 1))(w, xs),
        fg.jit(fg.grad(lambda w, xs: one(w, xs).sum(), (0, 1)))(w, xs),
    ):
        np.testing.assert_allclose(g[0], want[0])
        np.testing.assert_allclose(g[1], want[1])
    twice = fg.vmap(one, (None, 0))
    g = fg.grad(lambda w, xs: twice(w, xs).sum(), (0, 1))(w, xs[:, None])
    np.testing.assert_allclose(g[0], want[0])
    np.testing.assert_allclose(g[1][:, 0], want[1])


def test_transpose_of_a_linear_cond():
    a = np.arange(9.0).reshape(3, 3)
    f = lambda p, x: lax.cond(p, lambda x: a @ x, lambda x: 2 * x, x)  # noqa: E731
    ct = np.arange(3.0)
    for p, want in ((True, a.T @ ct), (False, 2 * ct)):
        got = fg.jit(lambda p, ct: fg.linear_transpose(lambda x: f(p, x), ct)(ct))(p, ct)
        np.testing.assert_allclose(got[0], want)


def test_operands_and_results_are_arrays_with_a_concrete_predicate_too():
    out = lax.cond(True, lambda x: {"a": x.sum(), "b": 1.0}, lambda x: x, 3.0)
    assert all(isinstance(x, fg.Array) for x in fg.tree.leaves(out))


@pytest.mark.parametrize("wrap", [fg.jit, fg.vmap], ids=["jit", "vmap"])
def test_disable_jit_inside_stages_what_is_not_known(wrap):
    def f(x):
        with fg.disable_jit():
            y = lax.cond(x > 0, lambda x: x * 2.0, lambda x: -x, x)
            z = lax.switch((x > 0).astype("int32"), [lambda x: x, lambda x: x + 1.0], x)
            return y + z + lax.while_loop(lambda c: c < 9, lambda c: c * 2.0, x * x)

    x = np.float32([2.0, -3.0])
    want = np.float32([4 + 3 + 16, 3 - 3 + 9])
    got = wrap(f)(x) if wrap is fg.vmap else np.stack([wrap(f)(row) for row in x])
    np.testing.assert_array_equal(got, want)
