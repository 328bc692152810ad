import numpy as np
import pytest

from fgrad.core.dtypes import bfloat16
from fgrad.core.errors import DtypeError, ShapeError
from fgrad.core.evaluate import as_value
from fgrad.core.tracing import bind
from fgrad.core.transforms.linearize import record_flat
from fgrad.core.transforms.stage import stage
from fgrad.lax import arithmetic, extrema
from fgrad.lax.window import (
    reduce_window,
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_sum_p,
    select_and_gather_add_p,
    select_and_scatter_add_p,
)
from tests.lax.against_jax import check

CASES = reduce_window_sum_p.spec.cases
PRIMITIVES = [reduce_window_sum_p, reduce_window_max_p, reduce_window_min_p]
PAIRS = [select_and_gather_add_p, select_and_scatter_add_p]


def _arguments(case, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for part in case.shapes.split(","):
        shape = [int(n) if n.isdigit() else 2 for n in part.split()]
        x = rng.permutation(int(np.prod(shape))).reshape(shape) - 3.0
        out.append((x * (1 + 1j)).astype(dtype) if dtype == "complex128" else x.astype(dtype))
    return out


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "uint8", "complex128"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("prim", PRIMITIVES, ids=str)
def test_value_is_that_of_the_definition(prim, case, dtype):
    if dtype == "complex128" and prim is not reduce_window_sum_p:
        pytest.skip("complex numbers have no order")
    (x,) = _arguments(case, dtype)
    out = bind(prim, as_value(x), **case.params)._data
    expected = prim.spec.reference(x, **case.params)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@pytest.mark.parametrize("i", range(len(CASES)))
@pytest.mark.parametrize("prim", PAIRS, ids=str)
@pytest.mark.parametrize("select", ["ge", "le"])
@pytest.mark.parametrize("ties", [False, True])
def test_selection_is_that_of_the_definition(prim, i, select, ties):
    case = prim.spec.cases[i]
    t, x = _arguments(case)
    params = {**case.params, "select": select}
    x = np.floor(x / 4) if ties else x
    out = bind(prim, as_value(t), as_value(x), **params)._data
    np.testing.assert_allclose(out, prim.spec.reference(t, x, **params), rtol=1e-12)


def _functions(name):
    from jax import lax

    ours = {"add": arithmetic.add, "max": extrema.max, "min": extrema.min}[name]
    theirs = {"add": lax.add, "max": lax.max, "min": lax.min}[name]
    return ours, theirs, {"add": 0.0, "max": -np.inf, "min": np.inf}[name]


@pytest.mark.peers
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("name", ["add", "max", "min"])
def test_every_transform_agrees_with_jax(name, case):
    from jax import lax

    ours, theirs, init = _functions(name)
    p = case.params
    plain = all(d == 1 for d in (*p["base_dilation"], *p["window_dilation"])) and all(
        lo >= 0 and hi >= 0 for lo, hi in p["padding"]
    )
    check(
        lambda x: reduce_window(x, init, ours, **p),
        lambda x: lax.reduce_window(x, init, theirs, **p),
        _arguments(case),
        order=2 if name == "add" or plain else 0,  # JAX cannot differentiate the others
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradient_of_max_against_that_of_the_unrolled_window(case):
    (x,) = map(as_value, _arguments(case))

    def gradient(computation, init):
        outs, tape = record_flat(
            lambda v: [reduce_window(v, init, computation, **case.params)], [x], [True]
        )
        ct = np.random.default_rng(1).normal(size=outs[0].shape)
        return tape.backward([as_value(ct)], consume=False)[0]._data

    # Starting below every element, which is no identity, leaves the general path.
    np.testing.assert_allclose(
        gradient(extrema.max, -np.inf), gradient(extrema.max, -1e9), rtol=1e-12
    )


def test_first_of_equal_elements_takes_the_derivative():
    x = as_value(np.array([[1.0, 2.0, 2.0], [2.0, 0.0, 2.0]]))
    _, tape = record_flat(lambda v: [reduce_window(v, -np.inf, "max", (2, 3))], [x], [True])
    (g,) = tape.backward([as_value(np.ones((1, 1)))], consume=False)
    np.testing.assert_array_equal(g._data, [[0, 1, 0], [0, 0, 0]])


def test_nan_is_the_maximum_and_is_selected():
    x = as_value(np.array([1.0, np.nan, 3.0, -np.inf]))
    outs, tape = record_flat(
        lambda v: [reduce_window(v, -np.inf, "max", (2,), (2,), [(0, 2)])], [x], [True]
    )
    np.testing.assert_array_equal(outs[0]._data, [np.nan, 3.0, -np.inf])
    (g,) = tape.backward([as_value(np.array([1.0, 2.0, 4.0]))], consume=False)
    np.testing.assert_array_equal(g._data, [0, 1, 2, 0])


def test_padding_is_never_selected():
    x = as_value(np.full((3,), -np.inf))
    _, tape = record_flat(
        lambda v: [reduce_window(v, -np.inf, "max", (3,), (2,), "SAME")], [x], [1]
    )
    (g,) = tape.backward([as_value(np.ones(2))], consume=False)
    np.testing.assert_array_equal(g._data, [1, 1, 0])


@pytest.mark.peers
def test_other_computations_and_starts_agree_with_jax():
    from jax import lax

    x = np.random.default_rng(0).normal(size=(4, 5))
    args = ((2, 3), (1, 2), [(1, 0), (1, 1)], (1, 1), (2, 1))
    check(
        lambda x: reduce_window(x, 1.0, arithmetic.mul, *args),
        lambda x: lax.reduce_window(x, 1.0, lax.mul, *args),
        [x], order=0,
    )  # fmt: skip
    for name in ("add", "max", "min"):
        ours, theirs, _ = _functions(name)
        check(
            lambda x, f=ours: reduce_window(x, 0.25, f, *args[:2]),
            lambda x, f=theirs: lax.reduce_window(x, 0.25, lambda a, b: f(a, b), *args[:2]),
            [x], order=0, batch=False,
        )  # fmt: skip


def test_a_sum_is_one_operation_and_its_gradient_too():
    aval = as_value(np.ones((4, 4))).aval
    jaxpr, _ = stage(lambda x: [reduce_window(x, 0.0, arithmetic.add, (2, 2))], [aval])
    assert [e.primitive.name for e in jaxpr.eqns] == ["reduce_window_sum"]
    jaxpr, _ = stage(
        lambda x: [reduce_window(x, 0.0, lambda a, b: arithmetic.mul(a, b), (1, 2))], [aval]
    )
    assert "reduce_window_sum" not in [e.primitive.name for e in jaxpr.eqns]


def test_small_floats_are_summed_in_float32_and_rounded_once():
    x = np.random.default_rng(0).normal(size=(3, 40)).astype(bfloat16)
    out = reduce_window(x, 0.0, "add", (1, 20))._data
    wide = reduce_window(x.astype("f4"), 0.0, "add", (1, 20))._data
    assert out.dtype == np.dtype(bfloat16)
    np.testing.assert_array_equal(out, wide.astype(bfloat16))


def test_inputs_stay_as_they_are():
    for window in ((1, 1), (1, 2), (3, 3)):
        x = np.arange(9.0).reshape(3, 3)
        for name in ("add", "max"):
            reduce_window(x, 0.0 if name == "add" else -np.inf, name, window, padding="SAME")
        np.testing.assert_array_equal(x, np.arange(9.0).reshape(3, 3))


@pytest.mark.parametrize("prim", PRIMITIVES, ids=str)
@pytest.mark.parametrize("i", range(3))
def test_invalid_operands(prim, i):
    invalid = prim.spec.invalid[i]
    x = np.ones((3, 4), bool if invalid.types[0].startswith("b") else np.float32)
    with pytest.raises(invalid.error, match=invalid.match):
        bind(prim, as_value(x), **invalid.params)


def test_initial_value_and_names_are_checked():
    x = np.ones((3, 3), np.float32)
    with pytest.raises(DtypeError, match="init_value"):
        reduce_window(x, np.zeros(2, np.float32), "add", (2, 2))
    with pytest.raises(ShapeError, match="by name"):
        reduce_window(x, 0.0, "median", (2, 2))
    with pytest.raises(ShapeError, match="one entry"):
        reduce_window(x, 0.0, "add", (2,))
