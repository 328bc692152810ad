"""Algebraic identities hold to the bit, zeros' signs, infinities and NaN included; others stay."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fgrad as fg
from fgrad import lax
from fgrad.compile.passes import optimize
from fgrad.core import basis
from fgrad.core.check import check_jaxpr
from fgrad.core.dtypes import dtype as dtype_of
from fgrad.core.primitive import all_primitives
from fgrad.core.transforms.stage import eval_jaxpr, hoist

BF16 = ml_dtypes.bfloat16
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-40, -1e-40, 3e38, np.inf, -np.inf, np.nan]


def operand(dtype):
    if dtype == "bool":
        return np.array([[True, False, True]])
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(dtype)
        return np.array([[info.min, 0, 1, 7, info.max]], dtype)
    with np.errstate(over="ignore"):
        return np.array([SPECIAL, SPECIAL[::-1]]).astype(dtype_of(dtype))


def scalar(x, value):
    return lax.full((), value, x.dtype)


def converted(*dtypes):
    def f(x):
        for d in dtypes:
            x = lax.convert_element_type(x, d)
        return x

    return f


def twice(f):
    return lambda x: f(f(x))


flip = partial(lax.transpose, permutation=(1, 0))
reverse = partial(lax.rev, dimensions=(1,))
NOTHING = {
    "x - 0": (lambda x: lax.sub(x, scalar(x, 0)), ("float32", "float64", "float16", "int32")),
    "x + -0": (lambda x: lax.add(x, scalar(x, -0.0)), ("float32", "int32", "uint8")),
    "-0 + x": (lambda x: lax.add(scalar(x, -0.0), x), ("float32", "float64")),
    "x * 1": (lambda x: lax.mul(x, scalar(x, 1)), ("float32", "bfloat16", "int32")),
    "x / 1": (lambda x: lax.div(x, scalar(x, 1)), ("float32", "int32")),
    "-(-x)": (twice(lax.neg), ("float32", "float16", "int32", "uint8")),
    "~~x": (twice(lax.bitwise_not), ("bool", "int32")),
    "x & x": (lambda x: lax.bitwise_and(x, x), ("bool", "int32")),
    "x & all": (lambda x: lax.bitwise_and(x, ~scalar(x, 0)), ("bool", "int32", "uint8")),
    "x | 0": (lambda x: lax.bitwise_or(x, scalar(x, 0)), ("bool", "int32")),
    "0 ^ x": (lambda x: lax.bitwise_xor(scalar(x, 0), x), ("int32", "uint8")),
    "x >> 0": (lambda x: lax.shift_right_arithmetic(x, scalar(x, 0)), ("int32",)),
    "x >>> 0": (lambda x: lax.shift_right_logical(x, scalar(x, 0)), ("int32", "uint8")),
    "x ** 1": (lambda x: lax.integer_pow(x, 1), ("float32", "int32")),
    "1 · x": (lambda x: basis.linear_mul(scalar(x, 1), x), ("float32",)),
    "padded by nothing": (lambda x: lax.pad(x, scalar(x, 0), ((0, 0, 0),) * 2), ("float32",)),
    "x << 0": (lambda x: lax.shift_left(x, scalar(x, 0)), ("int32",)),
    "max(x, x)": (lambda x: lax.max(x, x), ("float32", "int32")),
    "min(x, x)": (lambda x: lax.min(x, x), ("float32", "bool")),
    "one case": (lambda x: lax.select_n(lax.ne(x, x), x, x), ("float32",)),
    "turned twice": (twice(flip), ("float32",)),
    "reversed twice": (twice(reverse), ("float32", "bool")),
    "reshaped back": (lambda x: lax.reshape(lax.reshape(x, (x.size,)), x.shape), ("float32",)),
    "bf16 as f32": (converted(np.float32, BF16), ("bfloat16",)),
    "f32 as f64": (converted(np.float64, np.float32), ("float32",)),
    "i32 as f64": (converted(np.float64, np.int32), ("int32",)),
    "u8 as f16": (converted(np.float16, np.uint8), ("uint8",)),
    "bool as f32": (converted(np.float32, np.bool_), ("bool",)),
}
ONE = {
    "abs(-x)": (lambda x: lax.abs(lax.neg(x)), ("float32", "int32"), "abs"),
    "abs(abs(x))": (twice(lax.abs), ("float32", "float16"), "abs"),
    "floor": (twice(lax.floor), ("float32",), "floor"),
    "ceil": (twice(lax.ceil), ("float32",), "ceil"),
    "round": (twice(lax.round), ("float32", "bfloat16"), "round"),
    "sign": (twice(lax.sign), ("float32", "int32"), "sign"),
    "one term": (
        lambda x: lax.dot_general(x, x, (((), ()), ((0, 1), (0, 1)))), ("float32", "int32"), "mul"
    ),
    "x / 8": (lambda x: lax.div(x, scalar(x, 8)), ("float32", "float64", "bfloat16"), "mul"),
    "x / -0.5": (lambda x: lax.div(x, scalar(x, -0.5)), ("float32",), "mul"),
    "reshape": (lambda x: x.reshape(-1, 1).reshape(-1), ("float32",), "reshape"),
    "broadcast": (
        lambda x: lax.broadcast_in_dim(lax.broadcast_in_dim(x, (4, *x.shape), (1, 2)), (
            3, 4, *x.shape), (1, 2, 3)), ("float32",), "broadcast_in_dim",
    ),
    "f32 as f64 as f16": (
        converted(np.float64, np.float16), ("float32",), "convert_element_type"
    ),
    "u8 as i32 as f32": (converted(np.int32, np.float32), ("uint8",), "convert_element_type"),
}  # fmt: skip
MORE = {  # tests/lax/test_chosen.py
    "one update a row": (
        lambda x: lax.scatter_add(
            lax.neg(x),
            np.zeros((len(x), 1), int),
            x[:, 0],
            (lax.ScatterDimensionNumbers((), (1,), (1,), (0,), (0,))),
        ),
        ("float32",),
    ),
}
STAYS = {
    "x + 0": (lambda x: lax.add(x, scalar(x, 0)), "float32", 1),
    "x - -0": (lambda x: lax.sub(x, scalar(x, -0.0)), "float32", 1),
    "x * 0": (lambda x: lax.mul(x, scalar(x, 0)), "float32", 1),
    "f32 as bf16": (converted(BF16, np.float32), "float32", 2),
    "f64 as f32": (converted(np.float32, np.float64), "float64", 2),
    "f16 as bf16": (converted(BF16, np.float16), "float16", 2),
    "i32 as f32": (converted(np.float32, np.int32), "int32", 2),
    "i32 as f64 as i8": (converted(np.float64, np.int8), "int32", 2),
    "f32 as i32": (converted(np.int32, np.float32), "float32", 2),
    "turned and reversed": (lambda x: reverse(flip(x)), "float32", 2),
}
DIVISORS = {"float32": [3.0, 2.0**-130, 2.0**127, 0.0, np.inf, np.nan], "float16": [2.0**15]}


def optimized(f, x):
    """The program after all passes, checked on the operand against eager values, to the bit."""
    out = optimize(hoist(fg.make_jaxpr(f)(x).jaxpr))
    check_jaxpr(out)
    [got], expected = eval_jaxpr(out, (), fg.numpy.asarray(x)), f(fg.numpy.asarray(x))
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    bits = [y.astype(np.float64) if y.dtype.kind != "f" else y for y in (got, expected)]
    np.testing.assert_array_equal(*bits)
    np.testing.assert_array_equal(*(np.signbit(y) & (y == y) for y in bits))
    return [e.primitive.name for e in out.eqns]


def each(table):
    return [
        pytest.param(*rest, operand(d), id=f"{name}-{d}")
        for name, (f, dtypes, *more) in table.items()
        for d in dtypes
        for rest in [(f, *more)]
    ]


@pytest.mark.parametrize(("f", "x"), each(NOTHING))
def test_nothing_is_computed(f, x):
    assert optimized(f, x) == []


def test_a_factor_of_one_leaves_a_tangent_as_it_is():
    """A tangent of -0 too, of which the product itself makes 0."""
    x = operand("float32")
    program = optimize(hoist(fg.make_jaxpr(lambda x: basis.linear_mul(x, scalar(x, 1)))(x).jaxpr))
    assert not program.eqns
    np.testing.assert_array_equal(
        np.asarray(basis.linear_mul(fg.numpy.asarray(x), scalar(x, 1))), x
    )


@pytest.mark.parametrize(("f", "name", "x"), each(ONE))
def test_one_equation_is_left(f, name, x):
    assert optimized(f, x) == [name]


@pytest.mark.parametrize(("f", "dtype", "count"), STAYS.values(), ids=STAYS)
def test_what_would_change_a_bit_stays(f, dtype, count):
    assert len(optimized(f, operand(dtype))) == count


@pytest.mark.parametrize(("dtype", "by"), [(d, y) for d, all_ in DIVISORS.items() for y in all_])
def test_a_quotient_whose_inverse_is_rounded_or_subnormal_stays(dtype, by):
    assert optimized(lambda x: lax.div(x, scalar(x, by)), operand(dtype)) == ["div"]


def test_one_number_is_divided_whatever_by():
    for by in (96.0, 128.0):
        assert optimized(lambda x, by=by: lax.div(x, scalar(x, by)), np.float32(3.0)) == ["div"]


def test_what_a_user_wrote_is_what_a_traced_program_shows():
    traced = fg.make_jaxpr(lambda x: lax.neg(lax.neg(lax.div(x, 2.0))))(np.ones(2))
    assert [e.primitive.name for e in traced.eqns] == ["div", "neg", "neg"]


def test_identities_do_not_reach_from_one_phase_into_another():
    def f(x):
        return lax.neg(fg.checkpoint(lambda y: lax.sin(lax.neg(y)))(lax.neg(x)))

    jaxpr = hoist(fg.make_jaxpr(fg.grad(lambda x: f(x).sum()))(np.ones(3)).jaxpr)
    again = [e for e in optimize(jaxpr).eqns if e.phase is not None]
    assert "neg" in {e.primitive.name for e in again}


def test_each_rule_of_the_registry_has_an_identity_here():
    fired = set()

    def counted(prim, rule):
        def run(*args):
            found = rule(*args)
            if found is not None:
                fired.add(prim.name)
            return found

        return run

    stated = [p for p in all_primitives() if p.simplify is not None]
    before = [p.simplify for p in stated]
    try:
        for p in stated:
            object.__setattr__(p, "simplify", counted(p, p.simplify))
        for case in [*each(NOTHING), *each(ONE), *each(MORE)]:
            f, x = case.values[0], case.values[-1]
            optimize(hoist(fg.make_jaxpr(f)(x).jaxpr))
    finally:
        for p, rule in zip(stated, before, strict=True):
            object.__setattr__(p, "simplify", rule)
    assert fired == {p.name for p in stated}
