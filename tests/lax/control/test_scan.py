"""What is particular to scan, map, fori_loop and associative_scan."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.errors import (
    ArgumentError,
    AxisError,
    ConcretizationTypeError,
    DtypeError,
    ShapeError,
    TreeError,
)

XS = np.arange(3.0)


def test_body_is_traced_once():
    calls = []

    def body(c, x):
        calls.append(1)
        return c + x, None

    lax.scan(body, np.float64(0), np.ones(50))
    assert len(calls) == 1


def test_weak_carry_takes_the_type_that_comes_back():
    out, _ = lax.scan(lambda c, x: (c + x, None), 0.0, XS)
    assert out.dtype == np.float64
    assert not out.weak_type


def test_xs_none_and_no_steps():
    carry, ys = lax.scan(lambda c, _: (c * 2, None), 1.0, None, 5)
    assert float(carry) == 32
    assert ys is None
    carry, ys = lax.scan(lambda c, x: (c + x, x * 2), np.float64(1), np.zeros((0, 2)).sum(1))
    assert ys.shape == (0,)
    assert float(carry) == 1
    grad = fg.grad(lambda c: lax.scan(lambda c, x: (c * x, None), c, np.zeros(0))[0])
    assert float(grad(np.float64(1))) == 1


def test_unroll_does_not_change_the_result():
    for unroll in (1, 2, True):
        assert float(lax.scan(lambda c, x: (c * 2 + x, None), 0.0, XS, unroll=unroll)[0]) == 4


def test_carries_of_bool_and_complex_dtype():
    f = lambda x: lax.scan(lambda c, _: ((c[0] * x, ~c[1]), c[1]), (1.0, True), None, 3)  # noqa: E731
    assert float(fg.grad(lambda x: f(x)[0][0])(2.0)) == 12
    np.testing.assert_array_equal(f(2.0)[1], [True, False, True])
    g = fg.grad(lambda x: lax.scan(lambda c, _: (c * x * 1j, None), 1 + 0j, None, 2)[0].real)
    assert float(g(np.float64(3.0))) == -6


def test_values_that_every_step_shares_are_kept_once():
    def f(w, xs):
        def body(c, x):
            return fnp.tanh(fnp.sin(w) @ c + x), None

        return lax.scan(body, np.zeros(50), xs)[0].sum()

    kept = fg.saved_residuals(f, np.zeros((50, 50)), np.zeros((20, 50)))
    # sin(w) and what its derivative needs, one carry and one result a step.
    assert kept.nbytes <= (2 * 50 * 50 + 2 * 20 * 50) * 8


def test_transpose_of_a_linear_scan_with_known_carries():
    a = np.random.default_rng(0).standard_normal((3, 3))

    def f(x):
        def body(c, y):
            k, v = c
            return (k + 1.0, a @ v * k + y), (v.sum() + y.sum() * k, k)

        (_, v), (ys, _) = lax.scan(body, (np.float64(1), x[0]), x[1])
        return v, ys

    x = (np.ones(3), np.ones((4, 3)))
    ct = (np.arange(3.0), np.arange(4.0))
    got, want = fg.linear_transpose(f, x)(ct), fg.vjp(f, x)[1](ct)
    for g, w in zip(fg.tree.leaves(got), fg.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w)


def test_scan_in_a_custom_rule_answers_forward_mode():
    @fg.custom_vjp
    def f(x):
        return lax.scan(lambda c, _: (c * x, None), x, None, 3)[0]

    f.defvjp(
        lambda x: (f(x), x),
        lambda x, ct: (lax.scan(lambda c, _: (c * x, None), 4.0 * ct, None, 3)[0],),
    )
    x = np.float64(1.5)
    assert np.isclose(float(fg.jvp(f, (x,), (np.float64(1),))[1]), 4 * 1.5**3)
    assert np.isclose(float(fg.grad(fg.grad(f))(x)), 12 * 1.5**2)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lax.scan(lambda c, x: ({"a": fnp.stack([c["a"]] * 2)}, x), {"a": 1.0}, XS),
         ShapeError, r"\['a'\].*f32\[2\].*f32\[\]"),
        (lambda: lax.scan(lambda c, x: (c + x, x), np.float32(1), XS), DtypeError, r"f64.*f32"),
        (lambda: lax.scan(lambda c, x: ((c, c), x), 1.0, XS), TreeError, "tree like"),
        (lambda: lax.scan(lambda c, x: c, 1.0, XS), TreeError, "pair"),
        (lambda: lax.scan(lambda c, x: (c, x), 1.0, (XS, XS[:2])), ShapeError, r"3 .*2 \(xs\[1\]"),
        (lambda: lax.scan(lambda c, x: (c, x), 1.0, XS, length=4), ShapeError, "4 .length"),
        (lambda: lax.scan(lambda c, x: (c, x), 1.0), ArgumentError, "length is None"),
        (lambda: lax.scan(lambda c, x: (c, x), 1.0, None, -1), ArgumentError, "negative"),
        (lambda: lax.scan(lambda c, x: (c, x), 1.0, np.float32(1)), ShapeError, "leading axis"),
        (lambda: fg.jit(lambda n: lax.scan(lambda c, x: (c, x), 1.0, None, n))(3),
         ConcretizationTypeError, "length"),
        (lambda: lax.map(lambda x: x, XS, batch_size=0), ArgumentError, "batch_size"),
        (lambda: lax.fori_loop(0.0, 3, lambda i, x: x, 1.0), DtypeError, "lower"),
        (lambda: lax.fori_loop(0, XS.astype(int), lambda i, x: x, 1.0), ShapeError, "upper"),
        (lambda: lax.associative_scan(lax.add, XS, axis=1), AxisError, "axis 1"),
        (lambda: lax.associative_scan(lambda a, b: a.sum(), XS), ShapeError, "operands"),
        (lambda: lax.associative_scan(lambda a, b: a, (XS, XS[:2])), ShapeError, "one length"),
    ],
)  # fmt: skip
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "test_scan.py" in str(caught.value)
    assert isinstance(caught.value, (TypeError, ValueError))


@pytest.mark.parametrize("batch_size", [None, 1, 3, 7, 10])
def test_map(batch_size):
    xs = np.random.default_rng(0).standard_normal((7, 3))

    def f(xs):
        return lax.map(lambda x: {"s": fnp.sin(x).sum(), "x": x}, xs, batch_size=batch_size)

    out = f(xs)
    np.testing.assert_allclose(out["s"], np.sin(xs).sum(1))
    np.testing.assert_array_equal(out["x"], xs)
    np.testing.assert_allclose(fg.grad(lambda xs: f(xs)["s"].sum())(xs), np.cos(xs))
    np.testing.assert_allclose(fg.jit(fg.vmap(f))(xs[None])["s"][0], np.sin(xs).sum(1))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 13])
def test_associative_scan(n, reverse):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, 3, n))

    def affine(x, y):  # composition of x → a·x + b, not commutative
        return x[0] * y[0], x[1] * y[0] + y[1]

    def loop(a, b):
        order = range(n - 1, -1, -1) if reverse else range(n)
        rows, carry = {}, None
        for i in order:
            carry = (a[:, i], b[:, i]) if carry is None else affine(carry, (a[:, i], b[:, i]))
            rows[i] = carry
        if not rows:
            return a, b
        return tuple(fnp.stack([rows[i][k] for i in range(n)], 1) for k in range(2))

    def scanned(a, b):
        return lax.associative_scan(affine, (a, b), reverse=reverse, axis=-1)

    for got, want in zip(scanned(a, b), loop(a, b), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)
    got, want = (fg.grad(lambda a, b: fnp.sin(g(a, b)[1]).sum(), (0, 1))(a, b)  # noqa: B023
                 for g in (fg.jit(scanned), loop))  # fmt: skip
    np.testing.assert_allclose(got[0], want[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-8, atol=1e-12)


def test_associative_scan_has_logarithmic_depth():
    count = lambda n: fg.make_jaxpr(lambda x: lax.associative_scan(lax.add, x))(np.ones(n)).jaxpr  # noqa: E731
    assert count(1024).count() < 2.3 * count(32).count()


def test_fori_loop():
    assert int(lax.fori_loop(3, 1, lambda i, x: x + 1, 0)) == 0
    f = lambda n, x: lax.fori_loop(0, n, lambda i, c: fnp.sin(c) * (i + 1), x)  # noqa: E731
    x = np.float64(0.3)
    known, traced = fg.grad(f, 1)(5, x), fg.jit(fg.grad(f, 1))(5, x)
    np.testing.assert_allclose(known, traced, rtol=1e-12)
    names = [e.primitive.name for e in fg.make_jaxpr(lambda x: f(5, x))(x).eqns]
    assert names[-1] == "scan"


def test_disable_jit_runs_python():
    seen = []

    def body(c, x):
        seen.append(float(x))
        return c + x, c

    with fg.disable_jit():
        carry, ys = lax.scan(body, 0.0, XS, reverse=True)
        stop = lax.while_loop(lambda c: float(c) < 3, lambda c: c + 1, 0.0)
    assert seen == [2, 1, 0]
    np.testing.assert_array_equal(ys, [3, 2, 0])
    assert float(carry) == float(stop) == 3


def test_a_weak_carry_is_never_narrowed_to_an_integer():
    with pytest.raises(DtypeError, match="carry"):
        lax.scan(lambda c, x: (c.astype("int32"), x), 1.5, XS)
    c, _ = lax.scan(lambda c, x: (c + x, None), 1, XS)  # a weak integer gives way to a float
    assert (c.dtype, float(c)) == (XS.dtype, float(1 + XS.sum()))
