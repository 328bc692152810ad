"""What a rule computes is within its bound, and one wrong element is not."""

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
import fgrad.numpy as fnp
from fgrad import lax
from fgrad.compile.rule_bounds import rule_fault, same_bits

RNG = np.random.default_rng(0)


def normal(*shape, dtype="float32"):
    x = RNG.normal(size=shape)
    return (x + 1j * RNG.normal(size=shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def cumulative(x):
    return lax.cumsum(x, 0)


def windows(x):
    return lax.reduce_window(x, -np.inf, "max", (2, 2), (1, 1), "VALID")


CASES = {
    "product": (lambda x, y: x @ y, lambda d: (normal(5, 30, dtype=d), normal(30, 4, dtype=d))),
    "cumsum": (cumulative, lambda d: (normal(200, 3, dtype=d),)),
    "sine": (lambda x: lax.sin(x), lambda d: (normal(40, dtype=d),)),
    "logarithm": (lambda x: lax.lgamma(x), lambda d: (np.abs(normal(40, dtype=d)) + 1,)),
}


def equation(f, *args):
    (eqn,) = fg.make_jaxpr(f)(*args).jaxpr.eqns
    return eqn


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in CASES
        for dtype in ("float32", "float64", "bfloat16", "complex64")
        if (name, dtype) != ("logarithm", "complex64")
    ],
)
def test_one_element_that_is_off_is_found(name, dtype):
    f, make = CASES[name]
    args = make(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    eqn = equation(f, *args)
    found = np.asarray(eqn.primitive.eager(np, *args, **eqn.params))
    assert rule_fault(eqn, args, [found]) is None
    wrong = found.copy()
    at = int(np.argmax(np.abs(found.astype(np.complex128))))
    wrong.reshape(-1)[at] *= wrong.dtype.type(1.1 if dtype == "bfloat16" else 1.001)
    assert f"result 0, element {at}:" in (rule_fault(eqn, args, [wrong]) or "")
    assert rule_fault(eqn, args, [found * found.dtype.type(2)])


def test_results_that_are_exact_have_no_bound():
    x = RNG.integers(0, 9, (6, 5)).astype(np.float32)
    for f in (lambda x: lax.argmax(x, 1, np.int32), windows, lambda x: lax.rev(x, (0,))):
        eqn = equation(f, x)
        found = np.asarray(eqn.primitive.eager(np, x, **eqn.params))
        assert rule_fault(eqn, [x], [found]) is None
        wrong = found.copy()
        wrong.reshape(-1)[3] += 1
        assert "element 3: got" in (rule_fault(eqn, [x], [wrong]) or "")


def test_a_sum_may_be_as_far_off_as_its_terms_are_large():
    x = np.array([1e8, 1.0, -1e8], np.float32)
    one = np.ones(3, np.float32)
    eqn = equation(lambda x, y: x @ y, x, one)
    assert rule_fault(eqn, [x, one], [np.zeros((), np.float32)]) is None
    assert rule_fault(eqn, [x, one], [np.full((), 200, np.float32)])


def test_what_a_product_is_added_to_counts_as_a_term():
    x, y, base = normal(4, 4), normal(4, 4), normal(4, 4) * 1e6
    eqn = equation(lambda x, y: x @ y, x, y)
    assert rule_fault(eqn, [x, y], [base + x @ y], base) is None
    assert rule_fault(eqn, [x, y], [base], base)
    assert rule_fault(eqn, [x, y], [x @ y], base)


def test_a_sum_that_leaves_its_dtype_on_the_way_may_be_anything():
    x = np.array([3e38, 3e38, -3e38], np.float32)
    one = np.ones(3, np.float32)
    eqn = equation(lambda x, y: x @ y, x, one)
    assert rule_fault(eqn, [x, one], [np.full((), np.inf, np.float32)]) is None


def test_an_infinity_is_exact_where_units_bound_the_error():
    x = np.array([0.0, 1.0], np.float32)
    eqn = equation(lambda x: lax.log(x), x)
    assert rule_fault(eqn, [x], [np.array([-np.inf, 0], np.float32)]) is None
    assert rule_fault(eqn, [x], [np.array([-88, 0], np.float32)])
    assert rule_fault(eqn, [x], [np.array([np.nan, 0], np.float32)])


def test_a_wrong_shape_is_told():
    x = normal(3)
    eqn = equation(lambda x: fnp.sort(x), x)
    assert "got the shape [2], expected [3]" in (rule_fault(eqn, [x], [x[:2]]) or "")


def test_same_bits_means_the_same_numbers():
    x = np.array([1.0, np.nan, np.inf], ml_dtypes.bfloat16)
    assert same_bits(x, x.copy()) is None
    assert "element 0: got 2.0, expected 1.0" in (same_bits(x * 2, x) or "")
