"""Contractions into given memory equal the eager rule, for every arrangement of axes."""

import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.backends.cpu.products import product_of
from fgrad.lax.contract import dot_general_p

CASES = [
    ((3, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ((4, 3), (4, 5), (((0,), (0,)), ((), ()))),
    ((3, 4), (5, 4), (((1,), (1,)), ((), ()))),
    ((4, 3), (5, 4), (((0,), (1,)), ((), ()))),
    ((4,), (4,), (((0,), (0,)), ((), ()))),
    ((3, 4), (4,), (((1,), (0,)), ((), ()))),
    ((2, 3, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ((3, 2, 4), (4, 5, 2), (((2,), (0,)), ((1,), (2,)))),
    ((2, 3, 4), (4, 3, 5), (((1, 2), (1, 0)), ((), ()))),
    ((2, 0, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ((3, 0), (0, 5), (((1,), (0,)), ((), ()))),
]


def equation(x, y, numbers, **params):
    def f(x, y):
        return lax.dot_general(x, y, numbers, **params)

    return fg.make_jaxpr(f)(x, y).jaxpr.eqns[0]


@pytest.mark.parametrize("char", "fdFD")
@pytest.mark.parametrize(("left", "right", "numbers"), CASES)
def test_a_product_equals_the_eager_rule(char, left, right, numbers):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=s).astype(char) for s in (left, right))
    eqn = equation(x, y, numbers)
    assert eqn.primitive is dot_general_p
    out = np.full(eqn.outputs[0].aval.shape, np.nan, char)
    product_of(eqn)(x, y, out)
    expected = dot_general_p.eager(np, x, y, **eqn.params)
    np.testing.assert_allclose(out, expected, rtol=1e-5 if char in "fF" else 1e-13, atol=1e-6)


def test_other_equations_and_dtypes_are_left_to_their_rules():
    x = np.ones((2, 2), np.float16)
    assert product_of(equation(x, x, (((1,), (0,)), ((), ())))) is None
    assert product_of(equation(x.astype("i"), x.astype("i"), (((1,), (0,)), ((), ())))) is None
    assert product_of(fg.make_jaxpr(lax.sin)(x).jaxpr.eqns[0]) is None
