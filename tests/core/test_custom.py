"""custom_vjp, custom_jvp and tap: rules of the user's under every transform."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import (
    ClosedOverDifferentiationError,
    CustomRuleError,
    NonlinearPullbackError,
)

X = np.array([0.5, -1.0, 2.0])


@fg.custom_vjp
def marked(x, y):
    return fnp.sin(x) * y


# The rule is 10 times the derivative, so that a test sees which of the two was used.
marked.defvjp(
    lambda x, y: (marked(x, y), (x, y)),
    lambda r, ct: (10.0 * ct * fnp.cos(r[0]) * r[1], 10.0 * ct * fnp.sin(r[0])),
)


@fg.custom_jvp
def forward(x, y):
    return fnp.sin(x) * y


@forward.defjvp
def _forward_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    return forward(x, y), 10.0 * (fnp.cos(x) * y * s + fnp.sin(x) * t)


@pytest.mark.parametrize("f", [marked, forward], ids=["vjp", "jvp"])
class TestTheRuleIsUsed:
    gx, gy = 10 * np.cos(X) * X, 10 * np.sin(X)

    def test_by_grad_and_vjp(self, f):
        gx, gy = fg.grad(lambda x, y: f(x, y).sum(), (0, 1))(X, X)
        np.testing.assert_allclose(gx, self.gx, rtol=1e-14)
        np.testing.assert_allclose(gy, self.gy, rtol=1e-14)
        _, pullback = fg.vjp(f, X, X)
        np.testing.assert_allclose(pullback.consume(np.ones(3))[0], self.gx, rtol=1e-14)

    def test_by_jvp_and_linearize(self, f):
        y, t = fg.jvp(f, (X, X), (np.ones(3), np.zeros(3)))
        np.testing.assert_array_equal(y, np.sin(X) * X)
        np.testing.assert_allclose(t, self.gx, rtol=1e-14)
        _, push = fg.linearize(f, X, X)
        np.testing.assert_allclose(push(np.zeros(3), np.ones(3)), self.gy, rtol=1e-14)

    @pytest.mark.parametrize("wrap", ["vmap", "jit", "checkpoint", "scan", "vmap jit", "jit vmap",
                                      "checkpoint vmap jit", "jit checkpoint"])  # fmt: skip
    def test_inside_other_transforms(self, f, wrap):
        def scanned(h):
            return lambda x, y: lax.scan(lambda c, xy: (c, h(*xy)), 0.0, (x, y))[1]

        made = f
        for name in reversed(wrap.split()):
            made = {"vmap": fg.vmap, "jit": fg.jit, "checkpoint": fg.checkpoint, "scan": scanned}[
                name
            ](made)
        gx = fg.grad(lambda x: made(x, X).sum())(X)
        np.testing.assert_allclose(gx, self.gx, rtol=1e-14)
        np.testing.assert_allclose(fg.jvp(made, (X, X), (np.zeros(3), np.ones(3)))[1], self.gy,
                                   rtol=1e-14)  # fmt: skip

    @pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 0)])
    def test_a_shared_argument_gets_the_sum(self, f, axes):
        a, b = np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(1, 2, 6).reshape(2, 3)
        x = {None: X, 0: a, 1: a.T}[axes[0]]
        y = {None: X, 0: b}[axes[1]]
        gx, gy = fg.grad(lambda x, y: fg.vmap(f, in_axes=axes)(x, y).sum(), (0, 1))(x, y)
        wide_x = x.T if axes[0] == 1 else np.broadcast_to(x, (2, 3))
        ex, ey = 10 * np.cos(wide_x) * y, np.broadcast_to(10 * np.sin(wide_x), (2, 3))
        ex = ex.sum(0) if axes[0] is None else ex.T if axes[0] == 1 else ex
        np.testing.assert_allclose(gx, ex, rtol=1e-13)
        np.testing.assert_allclose(gy, ey.sum(0) if axes[1] is None else ey, rtol=1e-13)

    def test_second_derivatives_pass_through_the_rule(self, f):
        # The rule's derivative: 10·cos → −10·sin.
        h = fg.grad(fg.grad(lambda x: f(x, 1.0)))(0.3)
        np.testing.assert_allclose(float(h), -10 * np.sin(0.3), rtol=1e-6)


def test_grad_of_grad_of_jit_of_vmap_of_checkpoint_of_custom():
    x = np.linspace(0.1, 1, 4)
    for order in (
        (fg.jit, fg.vmap, fg.checkpoint), (fg.vmap, fg.jit, fg.checkpoint),
        (fg.checkpoint, fg.jit, fg.vmap), (fg.vmap, fg.checkpoint, fg.jit),
        (fg.jit, fg.checkpoint, fg.vmap), (fg.checkpoint, fg.vmap, fg.jit),
    ):  # fmt: skip
        f = lambda t: marked(t, t * t)  # noqa: E731
        for transform in reversed(order):
            f = transform(f)
        # First derivative by the rule: 10 (cos t · t² + sin t · 2t); its derivative is exact.
        first = 10 * (np.cos(x) * x * x + 2 * np.sin(x) * x)
        second = 10 * (-np.sin(x) * x * x + 4 * np.cos(x) * x + 2 * np.sin(x))
        gradient = fg.grad(lambda t, f=f: f(t).sum())
        np.testing.assert_allclose(gradient(x), first, rtol=1e-13)
        hessian = fg.grad(lambda t, g=gradient: g(t).sum())(x)
        np.testing.assert_allclose(hessian, second, rtol=1e-13)
        np.testing.assert_allclose(fg.jvp(gradient, (x,), (np.ones(4),))[1], second, rtol=1e-13)
        np.testing.assert_allclose(fg.jit(fg.grad(lambda t, g=gradient: g(t).sum()))(x), second,
                                   rtol=1e-13)  # fmt: skip


def test_nondiff_arguments_come_first():
    @fg.custom_vjp
    def plain(n, x, g):
        return x * n

    apply = fg.custom_vjp(lambda g, x, n: g(x) * n, nondiff_argnums=(0, 2))
    apply.defvjp(
        lambda g, x, n: (g(x) * n, x),
        lambda g, n, x, ct: (ct * n * 100.0,),
    )
    assert float(fg.grad(lambda x: apply(fnp.sin, x, 3))(1.0)) == 300.0
    assert float(fg.grad(fg.jit(lambda x: apply(fnp.sin, x, 3)))(1.0)) == 300.0
    del plain


def test_trees_none_and_keyword_arguments():
    f = fg.custom_vjp(lambda p, s=2.0: {"out": p["a"] * s})
    f.defvjp(
        lambda p, s: (f(p, s), (p, s)),
        lambda r, ct: ({"b": ct["out"]}, None),
    )
    with pytest.raises(CustomRuleError, match="argument 0 the tree"):
        fg.grad(lambda p: f(p)["out"])({"a": 1.0})
    f.defvjp(lambda p, s: (f(p, s), s), lambda r, ct: ({"a": ct["out"] * 7.0}, None))
    g, gs = fg.grad(lambda p, s: f(p, s=s)["out"], (0, 1))({"a": 1.0}, 3.0)
    assert (float(g["a"]), float(gs)) == (7.0, 0.0)


def test_defjvps_and_none():
    f = fg.custom_jvp(lambda x, y: x * y)
    f.defjvps(lambda t, out, x, y: 5.0 * t + 0.0 * out, None)
    assert [float(g) for g in fg.grad(f, (0, 1))(2.0, 3.0)] == [5.0, 0.0]


def test_forward_mode_of_a_reverse_rule_transposes_it():
    m = np.arange(6.0).reshape(2, 3)
    f = fg.custom_vjp(lambda x: m @ x)
    f.defvjp(lambda x: (m @ x, None), lambda _r, ct: (2.0 * (ct @ m),))
    np.testing.assert_array_equal(fg.jvp(f, (X,), (X,))[1], 2 * m @ X)


def test_a_pullback_that_is_not_linear_raises_in_forward_mode_only():
    f = fg.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, ct: (fnp.clip(ct, -1.0, 1.0) * x,))
    assert float(fg.grad(f)(3.0)) == 3.0
    with pytest.raises(NonlinearPullbackError, match=r"is not linear.*\n  at .*test_custom.py"):
        fg.jvp(f, (3.0,), (1.0,))


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, fg.vmap, lambda f: fg.jit(fg.vmap(f)),
                                  lambda f: fg.vmap(fg.jit(f)), fg.checkpoint])  # fmt: skip
def test_a_forward_rule_given_too_is_used_everywhere(wrap):
    f = fg.custom_vjp(lambda x: x * x)
    f.defvjp(
        lambda x: (x * x, x), lambda x, ct: (ct * ct * x,),
        lambda primals, tangents: (f(primals[0]), 5.0 * tangents[0]),
    )  # fmt: skip
    np.testing.assert_array_equal(fg.jvp(wrap(f), (X,), (X,))[1], 5 * X)
    np.testing.assert_array_equal(fg.vjp(wrap(f), X)[1](X)[0], X**3)


@pytest.mark.parametrize("kind", ["vjp", "jvp"])
@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, fg.checkpoint])
def test_differentiating_a_closed_over_value_raises(kind, wrap):
    def loss(w, x):
        if kind == "vjp":
            f = fg.custom_vjp(lambda x: x * w)
            f.defvjp(lambda x: (x * w, None), lambda _r, ct: (ct * 1.0,))
        else:
            f = fg.custom_jvp(lambda x: x * w)
            f.defjvp(lambda p, t: (p[0] * w, t[0] * 1.0))
        return wrap(f)(x)

    with pytest.raises(ClosedOverDifferentiationError, match="closes over a value"):
        fg.grad(loss, (0, 1))(2.0, 3.0)


def test_closing_over_constants_and_mapped_values_is_fine():
    def per_row(c, x):
        f = fg.custom_vjp(lambda x: x * c)
        f.defvjp(lambda x: (x * c, None), lambda _r, ct: (ct * c * 10.0,))
        return f(x)

    g = fg.grad(lambda x: fg.vmap(per_row)(X, x).sum())(X)
    np.testing.assert_allclose(g, 10 * X)
    g = fg.grad(lambda x: fg.jit(fg.vmap(per_row))(X, x).sum())(X)
    np.testing.assert_allclose(g, 10 * X)


def test_closure_convert_carries_the_derivative_over():
    def solve(f, x):
        converted, values = fg.closure_convert(f, x)

        @fg.custom_vjp
        def run(x, *values):
            return converted(x, *values)

        run.defvjp(
            lambda x, *vs: (converted(x, *vs), (x, vs)),
            lambda r, ct: fg.vjp(converted, r[0], *r[1])[1](ct),
        )
        return run(x, *values)

    g = fg.grad(lambda w: solve(lambda x: fnp.sin(w) * x, 2.0))(0.5)
    np.testing.assert_allclose(float(g), 2 * np.cos(0.5), rtol=1e-6)


def of_reverse_rule(fun, fwd):
    f = fg.custom_vjp(fun)
    f.defvjp(lambda x: (fwd(x), None), lambda _r, ct: (X,))
    return f


def of_forward_rule(fun, out):
    f = fg.custom_jvp(fun)
    f.defjvp(lambda p, t: (out(p[0]), fg.tree.map(fnp.zeros_like, out(p[0]))))
    return f


def both_rules(fun, out):
    f = of_reverse_rule(fun, fun)
    f.defvjp(f.fwd, f.bwd, of_forward_rule(fun, out).jvp)
    return f


MODES = {
    "jit": lambda f: fg.jit(f)(X),
    "grad": lambda f: fg.grad(lambda x: fnp.sum(fg.tree.leaves(f(x))[0]))(X),
    "vjp": lambda f: fg.vjp(f, X),
    "jvp": lambda f: fg.jvp(f, (X,), (X,)),
    "linearize": lambda f: fg.linearize(f, X),
    "vjp of vmap": lambda f: fg.vjp(fg.vmap(f), np.stack([X, X])),
    "vjp of vjp": lambda f: fg.vjp(lambda x: fg.vjp(f, x)[0], X),
    "jit of grad": lambda f: fg.jit(fg.grad(lambda x: fnp.sum(fg.tree.leaves(f(x))[0])))(X),
    "checkpoint": lambda f: fg.grad(fg.checkpoint(lambda x: fnp.sum(fg.tree.leaves(f(x))[0])))(X),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["fwd", "jvp"])
def test_a_wrong_output_of_a_rule_is_refused_in_every_mode(kind, mode):
    def vector_sum(x):
        return x.sum()

    make = of_reverse_rule if kind == "fwd" else of_forward_rule
    call = MODES[mode]
    wrong = {
        r"output f64\[3\], the function f64\[\]": lambda x: x,
        r"output f32\[\], the function f64\[\]": lambda x: x.sum().astype(np.float32),
        r"output PyTreeDef.*, the function PyTreeDef": lambda x: [x.sum()],
    }
    for words, rule in wrong.items():
        for _ in range(2):  # a rule that failed is not taken for checked
            with pytest.raises(CustomRuleError, match=rf"the {kind} rule of vector_sum.*{words}"
                               rf".*\n  at {__file__}:") as caught:  # fmt: skip
                call(make(vector_sum, rule))
            assert "must be the same" in str(caught.value)
    call(make(vector_sum, vector_sum))


@pytest.mark.parametrize("mode", ["jvp", "linearize"])
def test_a_wrong_output_of_a_second_rule_is_refused(mode):
    f = both_rules(lambda x: x.sum(), lambda x: x)
    with pytest.raises(CustomRuleError, match=r"jvp rule .* output f64\[3\], the function f64"):
        MODES[mode](f)
    MODES["grad"](f)


def test_a_function_that_cannot_be_traced_is_run_to_check_its_rule():
    def halves(x):
        return x[:1] if float(np.asarray(x)[0]) > 0 else x

    for point, words in ((X, r"f64\[3\], the function f64\[1\]"), (-X, None)):
        f = of_reverse_rule(halves, lambda x: x)
        if words is None:
            fg.vjp(f, point)
        else:
            with pytest.raises(CustomRuleError, match=words):
                fg.vjp(f, point)


def test_the_output_of_a_rule_is_checked_once_a_signature():
    runs = []

    @fg.custom_vjp
    def f(x, n):
        runs.append(x.shape)
        return x * n

    f.defvjp(lambda x, n: (x * n, n), lambda n, ct: (ct * n, None))
    for _ in range(3):
        fg.grad(lambda x: f(x, 2).sum())(X)
    assert runs == [(3,)]
    fg.grad(lambda x: f(x, 2).sum())(X[:2])
    assert runs == [(3,), (2,)]
    f.defvjp(lambda x, n: (x, n), lambda n, ct: (ct * n, None))
    fg.grad(lambda x: f(x, 2).sum())(X)
    assert runs == [(3,), (2,), (3,)]
    wide = fg.custom_vjp(lambda x, ns: x * ns[0], nondiff_argnums=(1,))
    wide.defvjp(lambda x, ns: (x * ns[0], None), lambda ns, _r, ct: (ct * ns[0],))
    for _ in range(2):  # an argument that is not hashable
        np.testing.assert_array_equal(fg.grad(lambda x: wide(x, [3.0]).sum())(X), np.full(3, 3.0))


def test_an_error_inside_a_rule_names_the_rules_line():
    f = fg.custom_vjp(lambda x: x * 2.0)

    def bwd(_r, ct):
        return (ct + fnp.ones(7),)

    f.defvjp(lambda x: (f(x), None), bwd)
    line = bwd.__code__.co_firstlineno + 1
    with pytest.raises(TypeError, match=rf"test_custom\.py:{line} "):
        fg.grad(lambda x: f(x).sum())(X)


@pytest.mark.parametrize("f", [marked, forward], ids=["vjp", "jvp"])
@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, fg.checkpoint], ids=["", "jit", "remat"])
def test_a_call_without_mapped_arguments_is_the_same_for_all_lanes(f, wrap):
    def push(t):
        return fg.jvp(lambda x: wrap(f)(x, X), (X,), (t,))

    y, ts = fg.vmap(push, out_axes=(None, 0))(np.eye(3))
    np.testing.assert_allclose(y, np.sin(X) * X)
    np.testing.assert_allclose(ts, np.diag(10 * np.cos(X) * X))
    np.testing.assert_allclose(fg.jacfwd(lambda x: wrap(f)(x, X))(X), ts)


def clipped(rule):
    f = fg.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _r, ct: (fnp.clip(rule(ct), -1.0, 1.0),))
    return f


@pytest.mark.parametrize("jit", [lambda f: f, fg.jit], ids=["", "jit"])
def test_a_rule_of_a_shared_argument_runs_once(jit):
    xs = np.array([3.0, 0.5, -2.0])
    f = clipped(lambda ct: ct)

    def loss(w, f):
        return fg.vmap(jit(lambda x: f(w) * x))(xs).sum()

    assert float(fg.grad(loss)(1.0, f)) == 1.0
    assert float(fg.grad(lambda w: fg.vmap(lambda x: f(w * x))(xs).sum())(1.0)) == 1.5

    def hooked(w):
        return fg.tap(w, lambda ct: fnp.clip(ct, -1.0, 1.0))

    assert float(fg.grad(loss)(1.0, hooked)) == 1.0
    assert float(fg.vmap(fg.grad(lambda w, x: hooked(w) * x), (None, 0))(1.0, xs).sum()) == 0.5


def test_a_rule_of_a_shared_argument_may_not_close_over_a_mapped_value():
    def lane(w, x):
        return clipped(lambda ct: ct * x)(w) * x

    g = fg.grad(lambda w: fg.vmap(lane, in_axes=(None, 0))(w, X).sum())
    with pytest.raises(CustomRuleError, match=r"closes over a value that vmap maps.*argument"):
        g(np.float64(1.0))


@pytest.mark.parametrize(
    "bwd",
    [lambda r, ct: (ct + 1.0,), lambda r, ct: (fnp.where(X > 0, ct, 2.0),),
     lambda r, ct: (fnp.concatenate([ct[:2], fnp.ones(1)]),), lambda r, ct: (1.0 - ct,)],
    ids=["add", "where", "concatenate", "sub"],
)  # fmt: skip
def test_a_pullback_that_adds_a_constant_raises_in_forward_mode(bwd):
    f = fg.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), bwd)
    x = X.astype(np.float32)
    assert fg.grad(lambda x: f(x).sum())(x).shape == (3,)
    with pytest.raises(NonlinearPullbackError, match="adds a constant"):
        fg.jvp(f, (x,), (x,))


def test_a_gradient_that_is_the_argument_is_not_the_callers_buffer():
    f = fg.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (f(x), x), lambda x, ct: (x,))
    x = X.copy()
    g = fg.grad(lambda x: f(x).sum())(x)
    x[:] = 7.0
    np.testing.assert_array_equal(g, X)
