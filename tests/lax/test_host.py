"""Host callbacks and debug.print: when they run, how often, in which order."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.errors import ArgumentError, DtypeError, RuleError, ShapeError, TreeError

X = np.arange(3.0)


def sine(x, method=None):
    return fg.pure_callback(np.sin, fg.eval_shape(lambda v: v, x), x, vmap_method=method)


def test_pure_callback():
    np.testing.assert_allclose(sine(X), np.sin(X))
    np.testing.assert_allclose(fg.jit(sine)(X), np.sin(X))
    np.testing.assert_allclose(fg.jit(lambda x: lax.map(sine, x))(X), np.sin(X))


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("sequential", [((), ())] * 3),
        ("expand_dims", [((3,), (1,))]),
        ("broadcast_all", [((3,), (3,))]),
        ("legacy_vectorized", [((3,), ())]),
    ],
)
def test_vmap_methods(method, shapes):
    seen = []

    def add(x, y):
        seen.append((x.shape, y.shape))
        return x + y

    def f(x, y):
        return fg.pure_callback(add, fg.ShapedArray((), np.dtype("f8")), x, y, vmap_method=method)

    np.testing.assert_array_equal(fg.vmap(f, (0, None))(X, 2.0 + X[0]), X + 2)
    assert seen == shapes
    if method == "legacy_vectorized":
        return  # axes that only some operands have are the function's own affair
    two = fg.jit(fg.vmap(fg.vmap(f, (0, None)), (0, 0)))(np.stack([X, X]), X[:2])
    np.testing.assert_array_equal(two, X + X[:2, None])


def test_a_callback_under_vmap_is_one_equation():
    f = fg.vmap(fg.vmap(lambda x: sine(x, "sequential")))
    assert fg.make_jaxpr(f)(np.ones((5, 7))).jaxpr.count() == 1


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fg.vmap(sine)(X), RuleError, "vmap_method"),
        (lambda: fg.grad(sine)(1.0), RuleError, "custom_jvp"),
        (lambda: fg.jvp(sine, (X,), (X,)), RuleError, "custom_jvp"),
        (lambda: sine(X, "other"), ArgumentError, "'other'"),
        (lambda: fg.pure_callback(lambda x: x[:2], fg.ShapedArray((3,), np.dtype("f8")), X),
         ShapeError, r"f64\[3\].*\[2\]"),
        (lambda: fg.pure_callback(lambda x: x, fg.ShapedArray((3,), np.dtype("f4")), X),
         DtypeError, "float64"),
        (lambda: fg.pure_callback(lambda x: (x,), fg.ShapedArray((3,), np.dtype("f8")), X),
         TreeError, "tree like"),
        (lambda: fg.vmap(lambda x: fg.io_callback(print, None, x, ordered=True))(X), RuleError,
         "ordered"),
    ],
)  # fmt: skip
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_callback_with_a_rule_of_its_own():
    @fg.custom_jvp
    def f(x):
        return sine(x)

    f.defjvp(lambda p, t: (f(p[0]), t[0] * fg.pure_callback(np.cos, p[0], p[0])))
    np.testing.assert_allclose(fg.jit(fg.grad(lambda x: f(x).sum()))(X), np.cos(X))


def test_callbacks_see_read_only_arrays():
    def write(x):
        x[0] = 1.0
        return x

    with pytest.raises(ValueError, match="read-only"):
        fg.pure_callback(write, fg.ShapedArray((3,), np.dtype("f8")), X)
    assert X[0] == 0


def test_io_callback_runs_as_often_as_written_and_in_order():
    seen = []

    def note(x):
        return fg.io_callback(lambda v: seen.append(float(v)), None, x)

    @fg.jit
    def f(x):
        note(x)
        note(x)  # equal, and all the same made twice
        note(x + 1)
        return x * 2

    f(1.0)
    assert seen == [1, 1, 2]
    seen.clear()
    fg.vmap(f)(np.array([1.0, 5.0]))
    assert seen == [1, 5, 1, 5, 2, 6]
    seen.clear()
    inner = fg.jit(lambda x: note(x))
    fg.jit(lambda x: (inner(x), inner(x), x)[2])(3.0)
    assert seen == [3, 3]
    seen.clear()
    fg.jit(lambda x: lax.scan(lambda c, _: (c + 1, note(c)), x, None, 3)[0])(0.0)
    assert seen == [0, 1, 2]


def _square(x):
    fg.debug.print("x={} twice={y:.1f}", x, y=2 * x)
    return x * x


@pytest.mark.parametrize(
    ("run", "lines"),
    [
        (lambda: fg.grad(_square)(3.0), ["x=3.0 twice=6.0"]),
        (lambda: fg.jit(fg.grad(fg.grad(_square)))(3.0), ["x=3.0 twice=6.0"]),
        (lambda: fg.jvp(fg.jit(_square), (3.0,), (1.0,)), ["x=3.0 twice=6.0"]),
        (lambda: fg.vmap(_square)(X[:2]), ["x=0.0 twice=0.0", "x=1.0 twice=2.0"]),
        (lambda: fg.grad(lambda x: lax.scan(lambda c, _: (_square(c), None), x, None, 2)[0])(2.0),
         ["x=2.0 twice=4.0", "x=4.0 twice=8.0"]),
        # Reverse mode runs the steps again, and prints nothing again.
        (lambda: fg.grad(lambda x: lax.while_loop(lambda c: c < 9, _square, x))(2.0),
         ["x=2.0 twice=4.0", "x=4.0 twice=8.0"]),
        (lambda: fg.hessian(lambda x: lax.while_loop(lambda c: c < 9, _square, x))(2.0),
         ["x=2.0 twice=4.0", "x=4.0 twice=8.0"]),
        (lambda: fg.grad(fg.checkpoint(_square))(2.0), ["x=2.0 twice=4.0"]),
        (lambda: fg.jit(lambda p: lax.cond(p, _square, lambda x: x, 2.0))(True),
         ["x=2.0 twice=4.0"]),
    ],
)  # fmt: skip
def test_debug_print(run, lines, capsys):
    run()
    assert capsys.readouterr().out.splitlines() == lines


def test_debug_print_checks_its_text_while_tracing():
    for text, args in (("{} {}", (1.0,)), ("{}", (1.0, 2.0)), ("{x}", (1.0,)), ("{", ())):
        with pytest.raises(ArgumentError, match=r"debug\.print"):
            fg.debug.print(text, *args)
    fg.debug.print("{0.shape} {x[a]}", X, x={"a": 1.0})


@pytest.mark.parametrize("wrap", [lambda f: f, fg.jit, fg.grad], ids=["eager", "jit", "grad"])
def test_debug_print_takes_what_is_no_array(wrap, capsys):
    def f(x):
        fg.debug.print("{} {y} {}", "layer", x, y={"name": "w", "at": (x, None)})
        return x

    wrap(f)(2.0)
    assert (
        capsys.readouterr().out
        == "layer {'name': 'w', 'at': (array(2., dtype=float32), None)} 2.0\n"
    )


def test_named_scope_labels_equations():
    with fg.named_scope("encoder"), fg.named_scope("block"):
        eqn = fg.make_jaxpr(lambda x: lax.sin(x))(1.0).eqns[0]
    assert "in encoder/block" in str(eqn.source)
    assert "test_host.py" in str(eqn.source)
    with fg.named_scope("layer"):
        kept = fg.saved_residuals(lambda x: lax.sin(x), 1.0)
    assert "in layer" in repr(kept)
    assert "in layer" not in str(fg.make_jaxpr(lambda x: lax.sin(x))(1.0).eqns[0].source)
    with pytest.raises(ArgumentError, match="string"):
        fg.named_scope(3)
