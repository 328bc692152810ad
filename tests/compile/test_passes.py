"""Each pass changes the program that it is for, keeps its types and its values."""

import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compile.passes import (
    PASSES,
    cse,
    fold,
    inline,
    mincut,
    optimize,
    scancut,
    simplify,
    sink,
    trim,
)
from fgrad.core.check import check_jaxpr
from fgrad.core.ir import Eqn, Jaxpr, Var
from fgrad.core.transforms.jaxprs import dce
from fgrad.core.transforms.stage import eval_jaxpr, hoist


def program(f, *args):
    return hoist(fg.make_jaxpr(f)(*args).jaxpr)


def with_eqns(jaxpr, eqns):
    return Jaxpr(jaxpr.invars, jaxpr.constvars, eqns, jaxpr.outvars)


def doubled(jaxpr):
    """The program with each equation written twice, the copy unused or used by the last."""
    eqns = []
    for eqn in jaxpr.eqns:
        copy = tuple(Var(v.aval) for v in eqn.outputs)
        eqns += [eqn.replace(outputs=copy), eqn]
    return with_eqns(jaxpr, eqns)


def two_equal_products():
    jaxpr = program(lambda x: lax.add(lax.sin(x), lax.cos(x)), np.float32(1))
    sin, cos, add = jaxpr.eqns
    again = Eqn(sin.primitive, sin.inputs, cos.outputs, sin.params)
    return with_eqns(jaxpr, [sin, again, add])


def times_one():
    jaxpr = program(lambda x: lax.mul(lax.sin(x), 2.0), np.float32(1))
    one = program(lambda x: lax.mul(x, 3.0), np.float32(1)).eqns[0].inputs[1]
    one.value[...] = 1.0
    sin, mul = jaxpr.eqns
    return with_eqns(jaxpr, [sin, mul.replace(inputs=(mul.inputs[0], one))])


def scanned(c, w):
    return fnp.sin(fnp.exp(c @ w)) @ w, None


SAMPLES = {
    "inline": (inline, lambda: program(fg.jit(lambda x: lax.sin(x)), np.float32(1))),
    "simplify": (simplify, times_one),
    "fold": (
        fold,
        lambda: program(lambda x: lax.mul(x, lax.sin(np.float32(0.5))), np.float32(1)),
    ),
    "cse": (cse, two_equal_products),
    "sink": (
        sink,
        lambda: program(
            lambda x: lax.mul(lax.exp(lax.broadcast_in_dim(x, (2, 3), (1,))), 2.0)[:, :1],
            np.ones(3, np.float32),
        ),
    ),
    "mincut": (
        mincut,
        lambda: program(
            fg.grad(lambda x, w: fnp.sum((fnp.sin(x @ w) @ w) ** 2), (0, 1)),
            *(np.ones((128, 128)),) * 2,
        ),
    ),
    "scancut": (
        scancut,
        lambda: program(
            fg.grad(lambda x, w: fnp.sum(lax.scan(scanned, x, w)[0]), (0, 1)),
            np.ones((16, 16)),
            np.ones((16, 16, 16)),
        ),
    ),
    "trim": (
        trim,
        lambda: program(
            lambda x: lax.scan(lambda c, v: (c + v, lax.exp(c)), x[0], x)[0], np.ones(3, np.float32)
        ),
    ),
    "dce": (dce, lambda: doubled(program(lambda x: lax.sin(x), np.float32(1)))),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_pass_changes_its_golden_program_and_keeps_its_value(name, golden):
    run, make = SAMPLES[name]
    before = make()
    after = run(before)
    assert str(after) != str(before)
    check_jaxpr(after)
    rng = np.random.default_rng(0)
    xs = [np.asarray(rng.uniform(0.5, 0.9, a.shape), a.dtype) for a in before.in_avals]
    for x, y in zip(eval_jaxpr(before, (), *xs), eval_jaxpr(after, (), *xs), strict=True):
        np.testing.assert_array_equal(x, y)
    golden.check(f"passes/{name}.txt", f"{before}\n\nbecomes\n\n{after}")


PRODUCTS = {  # operands' shapes, dimension numbers, and the exchange of the free axes
    "matrices": ((4, 3), (3, 5), (((1,), (0,)), ((), ())), (1, 0)),
    "of transposed": ((3, 4), (5, 3), (((0,), (1,)), ((), ())), (1, 0)),
    "stacks": ((2, 4, 3), (2, 3, 5), (((2,), (1,)), ((0,), (0,))), (0, 2, 1)),
    "more axes": ((3, 2, 4, 6), (5, 6, 2), (((3,), (1,)), ((1,), (2,))), (0, 3, 1, 2)),
    "one axis": ((4, 2, 3), (5, 3), (((2,), (1,)), ((), ())), (2, 0, 1)),
}


def turned(name, dtype=np.float32, permutation=None, **params):
    left, right, numbers, exchange = PRODUCTS[name]
    xs = [(np.arange(np.prod(s)).reshape(s) % 7).astype(dtype) for s in (left, right)]

    def f(x, y):
        product = lax.dot_general(x, y, numbers, **params)
        return lax.transpose(product, permutation or exchange)

    return program(f, *xs), xs


def names(jaxpr):
    return [e.primitive.name for e in jaxpr.eqns]


@pytest.mark.parametrize("params", [
    {}, {"precision": "highest"}, {"precision": ("default", "highest")},
    {"preferred_element_type": np.float64},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_that_is_transposed_is_that_of_its_operands_exchanged(name, params):
    jaxpr, xs = turned(name, **params)
    after = sink(jaxpr)
    check_jaxpr(after)
    (product,) = after.eqns
    assert product.inputs == tuple(jaxpr.invars[::-1])
    before = jaxpr.eqns[0].params
    given = before["precision"]
    assert product.params["precision"] == (given[::-1] if type(given) is tuple else given)
    assert product.params["preferred_element_type"] == before["preferred_element_type"]
    (want,), (got,) = (eval_jaxpr(j, (), *xs) for j in (jaxpr, after))
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)  # of whole numbers, which have no rounding


def test_a_product_stays_that_is_read_as_it_is_or_permuted_otherwise():
    other = turned("more axes", permutation=(3, 0, 1, 2))[0]
    assert names(sink(other)) == ["dot_general", "transpose"]
    x = np.ones((3, 3), np.float32)
    twice = program(lambda x: (lambda y: lax.add(y, y.T))(x @ x), x)
    assert names(sink(twice)) == ["dot_general", "transpose", "add"]


@pytest.mark.parametrize("axes", [None, (0, None), (0, 0)], ids=str)
def test_the_gradient_of_transposed_weights_is_a_product_alone(axes):
    f = fg.grad(lambda x, w: fnp.sum(fnp.sin(x @ w.T)), 1)
    x, w = np.ones((2, 4, 3), np.float32), np.ones((5, 3), np.float32)
    if axes:
        f, w = fg.vmap(f, axes), np.ones((2, 5, 3), np.float32) if axes[1] == 0 else w
    text = fg.jit(f).lower(x, w).compile().as_text()
    assert "dot_general" in text
    assert "transpose" not in text


def test_every_pass_has_a_golden_program():
    assert {p.__name__ for p in PASSES} == set(SAMPLES)


def loss(w, x):
    h = fnp.tanh(x @ w)
    return fnp.sum(h * h) + fnp.mean(fg.jit(fnp.exp)(h))


def test_an_optimized_gradient_equals_the_eager_one():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
    jaxpr = program(fg.grad(loss), w, x)
    check_jaxpr(jaxpr)
    out = optimize(jaxpr)
    check_jaxpr(out)
    np.testing.assert_allclose(
        eval_jaxpr(out, (), w, x)[0], fg.grad(loss)(w, x), rtol=1e-14, atol=0
    )


def test_recomputation_is_not_merged_with_the_first_run():
    def f(x):
        return fnp.sum(fnp.sin(fnp.sin(x)))

    plain = optimize(program(fg.value_and_grad(f), np.ones(3)))
    again = optimize(program(fg.value_and_grad(fg.checkpoint(f)), np.ones(3)))
    sines = [sum(e.primitive.name == "sin" for e in p.eqns) for p in (plain, again)]
    assert sines == [2, 3]


def test_effects_survive_all_passes():
    def f(x):
        fg.debug.callback(lambda v: None, x)
        return lax.sin(x)

    kept = optimize(program(f, np.float32(1)))
    assert "debug" in kept.effects


@pytest.mark.parametrize(
    ("numbers", "shapes", "dtype"),
    [
        ((((), ()), ((), ())), ((3,), (4, 2)), np.float32),
        ((((1,), (0,)), ((), ())), ((3, 1), (1, 4)), np.float64),
        ((((), ()), ((1,), (0,))), ((3, 5), (5, 4)), np.complex64),
        ((((0, 3), (2, 0)), ((1,), (1,))), ((1, 5, 3, 1), (1, 5, 1, 4)), np.int32),
    ],
)
def test_a_sum_of_one_term_is_a_product_of_elements(numbers, shapes, dtype):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-9, 9, s).astype(dtype) for s in shapes)
    jaxpr = program(lambda x, y: lax.dot_general(x, y, numbers), x, y)
    out = optimize(jaxpr)
    assert "dot_general" not in str(out)
    assert "mul" in str(out)
    np.testing.assert_array_equal(
        eval_jaxpr(out, (), x, y)[0], np.asarray(lax.dot_general(x, y, numbers))
    )


def test_a_sum_of_two_terms_stays_a_contraction():
    x = np.ones((3, 2), np.float32)
    assert "dot_general" in str(optimize(program(lambda x: x @ x.T, x)))
